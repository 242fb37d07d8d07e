//! What a session allocates once it stands, and what happens when there is no memory.
#![allow(unsafe_code, reason = "a global allocator that counts")]

use san_core::address_map::{Mapped, Reach};
use san_core::backlog::Backlog;
use san_core::ports::PortTable;
use san_core::san::{Action, Endpoint, Limits, Slice};
use san_protocol::NtStatus;
use san_protocol::wire::{ControlMessage, HEADER_SIZE, Header, MessageType, SessionOffer};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static IS_EXHAUSTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged, or returns null, which an allocator may.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if IS_EXHAUSTED.get() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's layout, as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: it came from `alloc` above, so from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMITS: Limits = Limits { message_size: 100, connect_timeout: 1, handshake_timeout: 1, regions: 10 };

type Tested = Endpoint<u32, u32, u32>;

type Operation = fn(&mut Tested) -> Result<(), (u32, NtStatus)>;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What `run` gives when no memory is left.
fn exhausted<T>(run: impl FnOnce() -> T) -> T {
    IS_EXHAUSTED.set(true);
    let result = run();
    IS_EXHAUSTED.set(false);
    result
}

fn pull(endpoint: &mut Tested) {
    while endpoint.next_action().is_some() {}
}

fn bound() -> Tested {
    let mut endpoint = Tested::new(LIMITS);
    endpoint.bind(1, address("10.0.0.1:1"), Some(address("10.0.0.1:0"))).unwrap();
    pull(&mut endpoint);
    endpoint
}

fn connect(endpoint: &mut Tested) -> Result<(), (u32, NtStatus)> {
    let mapped = Mapped { native: address("10.0.0.2:28057"), reach: Reach::AlsoTcp };
    endpoint.connect(2, address("10.0.0.2:2"), Some(mapped), 0)
}

/// With a session, memory 0 registered by key 0, and many credits from the peer.
fn in_session() -> Tested {
    let mut endpoint = bound();
    connect(&mut endpoint).unwrap();
    pull(&mut endpoint);
    endpoint.opened(Ok(()));
    pull(&mut endpoint);
    endpoint.connected(Ok(()));
    pull(&mut endpoint);
    endpoint.control_sent(Ok(()));
    endpoint.header_received(Ok(Header { message: MessageType::Accept, length: 0, credits: 0 }.encode()));
    endpoint.register(3, 0, 0, 100, 3).unwrap();
    endpoint.negotiate(4, &[], 10).unwrap();
    pull(&mut endpoint);
    endpoint.control_sent(Ok(()));
    let session = ControlMessage::session(&SessionOffer { receive_size: 10, private: &[] }, 1_000_000).unwrap();
    let (header, payload) = session.as_bytes().split_first_chunk().unwrap();
    endpoint.header_received(Ok(*header));
    pull(&mut endpoint);
    endpoint.control_received(Ok(payload));
    pull(&mut endpoint);
    endpoint
}

/// A message each way, as a driver carries it: four receives are posted, four sends are on their way.
fn exchange(endpoint: &mut Tested) {
    let data = Header { message: MessageType::Data, length: 10, credits: 0 }.encode();
    let mut sending = [const { None }; 4];
    for waiter in 0..4 {
        endpoint.receive_registered(waiter, 0, 0, 10).unwrap();
        endpoint.send_registered(10 + waiter, 0, 0, 10).unwrap();
    }
    let mut is_sending_control = false;
    let mut sent = 0;
    for _ in 0..5 {
        while let Some(action) = endpoint.next_action() {
            match action {
                Action::SendData { send, .. } => {
                    sending[sent] = Some(send);
                    sent += 1;
                }
                Action::SendControl(_) => is_sending_control = true,
                _ => {}
            }
        }
        if core::mem::take(&mut is_sending_control) {
            endpoint.control_sent(Ok(()));
        }
        if endpoint.statistics().receives_posted != 0 {
            endpoint.header_received(Ok(data));
            while endpoint.next_action().is_some() {}
            endpoint.payload_received(Ok(()));
        }
    }
    for send in sending.into_iter().flatten() {
        endpoint.sent(send, Ok(()));
    }
    pull(endpoint);
}

#[test]
fn a_session_that_stands_sends_and_receives_without_allocating() {
    let mut endpoint = in_session();
    exchange(&mut endpoint);
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        exchange(&mut endpoint);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    let statistics = endpoint.statistics();
    assert_eq!((statistics.messages_sent, statistics.messages_received), (4004, 4004));
}

#[test]
fn without_memory_every_request_is_refused_and_comes_back() {
    let none = Err((9, NtStatus::INSUFFICIENT_RESOURCES));
    let mut endpoint = Tested::new(LIMITS);
    let local = address("10.0.0.1:1");
    assert_eq!(exhausted(|| endpoint.bind(9, local, Some(local))), none);
    let mut table = PortTable::new();
    assert_eq!(exhausted(|| table.reserve(local, 9)), Err((9, NtStatus::INSUFFICIENT_RESOURCES)));
    assert!(exhausted(|| Backlog::<u32, u32>::new(5)).is_err());

    let mut listener = bound();
    listener.listen(Backlog::new(1).unwrap()).unwrap();
    // The room for the bind is there for the first one.
    let refused = (0..100).find_map(|_| exhausted(|| listener.accept(9)).err());
    assert_eq!(refused, Some((9, NtStatus::INSUFFICIENT_RESOURCES)));

    let mut endpoint = in_session();
    let operations: [Operation; 4] = [
        |endpoint| endpoint.send(9, Slice { memory: 0, offset: 0, length: 1 }),
        |endpoint| endpoint.send_registered(9, 0, 0, 1),
        |endpoint| endpoint.receive_registered(9, 0, 0, 10),
        |endpoint| endpoint.disconnect(9, false),
    ];
    for operation in &operations[..3] {
        let refused = (0..100).find_map(|_| exhausted(|| operation(&mut endpoint)).err());
        assert_eq!(refused, none.err());
    }
    let mut key = 0;
    let refused = (0..9).find_map(|_| {
        key += 1;
        exhausted(|| endpoint.register(9, key, 0, 1, 1)).err()
    });
    assert_eq!(refused, none.err());
    assert_eq!(exhausted(|| operations[3](&mut endpoint)), none);
    // It goes on with what it has.
    exhausted(|| endpoint.header_received(Ok([0; HEADER_SIZE])));
    exhausted(|| endpoint.close());
    exhausted(|| pull(&mut endpoint));
    exhausted(|| endpoint.closed());
}
