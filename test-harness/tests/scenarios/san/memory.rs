//! Registered memory: what may be used for what, for how long, and that nothing else is ever written.

use super::support::{
    Receiver, bed, bound, builder, connected, connected_to, listening, negotiated, outcome, pause, session,
};
use super::wire_peer::{Neighbours, Role, header};
use crate::input::raw;
use crate::support::{Bed, MOMENT, PATIENCE, eventually, status};
use san_protocol::wire::{ControlMessage, MessageType};
use san_protocol::{
    ControlCode, EndpointId, Header, MEMORY_RECEIVE, MEMORY_SEND, MemoryReply, MemoryRequest, NtStatus, ReceiveReply,
    RegisterMemoryRequest, TransferRequest, WsaError,
};
use san_proxy::{AddressFamily, DeviceRequest, Memory, MemoryRights, Pending, Provider, SanEndpoint};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use test_harness::IoStatus;
use test_harness::device::HarnessDevice;
use test_harness::nt::registry::Value;
use zerocopy::IntoBytes;

const BOTH: u32 = MEMORY_SEND | MEMORY_RECEIVE;

/// A key far from those that the library gives away.
const KEY: u64 = 1 << 40;

/// Both ways to use a slice.
const TRANSFERS: [ControlCode; 2] = [ControlCode::SendRegistered, ControlCode::ReceiveRegistered];

/// Starts to register `length` bytes; how it ended.
fn start_register(
    provider: &Provider,
    endpoint: EndpointId,
    key: u64,
    length: usize,
    rights: u32,
) -> Pending<(NtStatus, Vec<u8>)> {
    let request = RegisterMemoryRequest { header: Header::new(0), endpoint, key, rights, reserved: 0 };
    let request = DeviceRequest::new(ControlCode::RegisterMemory, request.as_bytes(), vec![0; length]);
    Pending::start(provider.device(), request, |completed| (completed.status, completed.buffer))
}

/// Registers `length` bytes, which stay registered as long as the result is kept.
#[track_caller]
fn register(provider: &Provider, endpoint: &SanEndpoint, key: u64, length: usize) -> Pending<(NtStatus, Vec<u8>)> {
    let registration = start_register(provider, endpoint.id(), key, length, BOTH);
    assert_eq!(query(provider, endpoint.id(), key), NtStatus::SUCCESS, "it stands");
    registration
}

/// Tries to register.
fn refused(provider: &Provider, endpoint: EndpointId, key: u64, length: usize, rights: u32) -> NtStatus {
    outcome(start_register(provider, endpoint, key, length, rights)).0
}

fn query(provider: &Provider, endpoint: EndpointId, key: u64) -> NtStatus {
    let request = MemoryRequest { header: Header::new(0), endpoint, key };
    raw(provider, ControlCode::QueryMemory.value(), request.as_bytes(), size_of::<MemoryReply>()).0
}

fn deregister(provider: &Provider, endpoint: EndpointId, key: u64) -> NtStatus {
    let request = MemoryRequest { header: Header::new(0), endpoint, key };
    raw(provider, ControlCode::DeregisterMemory.value(), request.as_bytes(), 0).0
}

/// Sends from or receives into a slice, as a request says it.
fn transfer(
    provider: &Provider,
    code: ControlCode,
    endpoint: EndpointId,
    (key, offset, length): (u64, u64, u32),
) -> NtStatus {
    let request = TransferRequest { header: Header::new(0), endpoint, key, offset, length, reserved: 0 };
    raw(provider, code.value(), request.as_bytes(), size_of::<ReceiveReply>()).0
}

#[test]
fn a_slice_that_is_not_inside_its_region_is_refused() {
    let bed = bed();
    let provider = bed.open();
    let (connector, mut acceptor) = session(&provider, 1, 16);
    let region = connector.endpoint.register(Memory::new(8192), MemoryRights::BOTH).expect("registers");
    let (id, key) = (connector.endpoint.id(), region.key());
    for (offset, length) in [
        (8192, 1),
        (8191, 2),
        (0, 8193),
        (1, 8192),
        (8193, 1),
        (0, u32::MAX),
        (8191, u32::MAX),
        (4095, u32::MAX - 4095),
        (0, 0x8000_0000),
        (u32::MAX.into(), 1),
        (1 << 32, 1),
        ((1 << 32) + 1, u32::MAX),
        (1 << 63, 16),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
        (u64::MAX - 15, 16),
        (u64::MAX - 0xFFFF_FFFE, u32::MAX),
    ] {
        for code in TRANSFERS {
            let refused = transfer(&provider, code, id, (key, offset, length));
            assert_eq!(refused, NtStatus::ACCESS_VIOLATION, "{code:?} {offset:#x} {length:#x}");
        }
    }
    for offset in [0, 8192, u64::MAX] {
        for code in TRANSFERS {
            let refused = transfer(&provider, code, id, (key, offset, 0));
            assert_eq!(refused, NtStatus::INVALID_PARAMETER, "{code:?} of no bytes at {offset:#x}");
        }
    }
    assert_eq!(region.query().expect("it stands").in_use, 0);
    connector.endpoint.send_registered(&region, 8176..8192).expect("its end is inside");
    assert_eq!(acceptor.next(0), [0; 16]);
    drop((connector, acceptor, region, provider));
    bed.finish();
}

#[test]
fn a_refused_slice_takes_no_memory_however_long_it_claims_to_be() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = session(&provider, 1, 16);
    let region = connector.endpoint.register(Memory::new(16), MemoryRights::BOTH).expect("registers");
    let (id, key) = (connector.endpoint.id(), region.key());
    for code in TRANSFERS {
        // What the session still has to do beside it allocates, too.
        let allocations = |length| {
            let counts = (0..8).map(|_| {
                let before = bed.machine.allocations();
                assert_eq!(transfer(&provider, code, id, (key, 16, length)), NtStatus::ACCESS_VIOLATION);
                bed.machine.allocations() - before
            });
            counts.min()
        };
        assert_eq!(allocations(u32::MAX), allocations(1), "{code:?}");
    }
    drop((connector, acceptor, region, provider));
    bed.finish();
}

#[test]
fn nothing_and_rights_that_there_are_not_cannot_be_registered() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = connected(&provider);
    for (length, rights) in [(0, BOTH), (16, 0), (0, 0), (16, 4), (16, BOTH | 4), (16, 1 << 31), (16, u32::MAX)] {
        let refused = refused(&provider, connector.id(), 1, length, rights);
        assert_eq!(refused, NtStatus::INVALID_PARAMETER, "{length} bytes for {rights:#x}");
    }
    let now = provider.statistics().expect("statistics");
    assert_eq!((now.regions, now.pinned_bytes), (0, 0));
    drop((connector, acceptor, provider));
    bed.finish();
}

#[test]
fn a_region_of_4_gib_cannot_be() {
    let bed = bed();
    let (connector, acceptor) = connected(&bed.open());
    // Never touched, so that it is never there.
    let vast = Memory::from(vec![0; (1 << 32) + 1]);
    assert_eq!(status(connector.register(vast, MemoryRights::SEND)), NtStatus::INVALID_PARAMETER);
    assert_eq!(connector.statistics().expect("statistics").regions, 0);
    drop((connector, acceptor));
    bed.finish();
}

#[test]
fn memory_is_registered_for_a_connection() {
    let bed = bed();
    let provider = bed.open();
    let idle = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    for endpoint in [&idle, &listener, &connector] {
        let error = endpoint.register(Memory::new(16), MemoryRights::BOTH).expect_err("not connected");
        assert_eq!(error.wsa_error(), WsaError::WSAENOTCONN);
        for code in TRANSFERS {
            let refused = transfer(&provider, code, endpoint.id(), (1, 0, 1));
            assert_eq!(refused, NtStatus::INVALID_CONNECTION, "{code:?}");
        }
        assert_eq!(query(&provider, endpoint.id(), 1), NtStatus::INVALID_PARAMETER);
        assert_eq!(deregister(&provider, endpoint.id(), 1), NtStatus::INVALID_PARAMETER);
    }
    let connect = connector.start_connect(address, Some(PATIENCE));
    let undecided = listener.accept().expect("arrives");
    for id in [connector.id(), undecided.id()] {
        assert_eq!(refused(&provider, id, 1, 16, BOTH), NtStatus::INVALID_CONNECTION);
    }
    let acceptor = undecided.accept().expect("accepts");
    outcome(connect).expect("connects");
    let registered = register(&provider, &acceptor, 1, 16);
    drop((idle, listener, connector, acceptor));
    assert_eq!(outcome(registered).0, NtStatus::CANCELLED, "it ends with its endpoint");
    drop(provider);
    bed.finish();
}

#[test]
fn each_use_needs_its_own_right() {
    let bed = bed();
    let (connector, mut acceptor) = session(&bed.open(), 1, 16);
    let endpoint = &connector.endpoint;
    let to_send = endpoint.register(Memory::new(16), MemoryRights::SEND).expect("registers");
    let to_receive = endpoint.register(Memory::new(16), MemoryRights::RECEIVE).expect("registers");
    let error = endpoint.receive(&to_send, 0..16).expect_err("read-only");
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::ACCESS_VIOLATION, WsaError::WSAEFAULT));
    let error = endpoint.send_registered(&to_receive, 0..16).expect_err("write-only");
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::ACCESS_VIOLATION, WsaError::WSAEFAULT));
    assert_eq!(to_send.query().expect("it stands").rights, MemoryRights::SEND);
    assert_eq!(to_receive.query().expect("it stands").rights, MemoryRights::RECEIVE);
    let receive = endpoint.start_receive(&to_receive, 0..16);
    endpoint.send_registered(&to_send, 0..16).expect("sends");
    assert_eq!(acceptor.next(0), [0; 16]);
    for _ in 0..2 {
        acceptor.endpoint.send(&[5; 16]).expect("sends");
    }
    assert_eq!(outcome(receive).expect("a message"), 16);
    assert_eq!(to_receive.read(0..16).expect("free"), [5; 16]);
    drop((to_send, to_receive, connector, acceptor));
    bed.finish();
}

#[test]
fn a_region_is_one_endpoints_and_one_handles() {
    let bed = bed();
    let (provider, other) = (bed.open(), bed.open());
    let (connector, mut acceptor) = session(&provider, 1, 16);
    let (foreign, foreign_peer) = session(&other, 1, 16);
    let region = connector.endpoint.register(Memory::new(16), MemoryRights::BOTH).expect("registers");
    // Another endpoint of the handle.
    let error = acceptor.endpoint.receive(&region, 0..16).expect_err("another's");
    assert_eq!(error.wsa_error(), WsaError::WSAEINVAL);
    let error = acceptor.endpoint.send_registered(&region, 0..16).expect_err("another's");
    assert_eq!(error.wsa_error(), WsaError::WSAEINVAL);
    // An endpoint of another handle.
    let error = foreign.endpoint.send_registered(&region, 0..16).expect_err("another's");
    assert_eq!(error.wsa_error(), WsaError::WSAEINVAL);
    let (id, key) = (connector.endpoint.id(), region.key());
    for endpoint in [acceptor.endpoint.id(), foreign.endpoint.id()] {
        let through = if endpoint == foreign.endpoint.id() { &other } else { &provider };
        assert_eq!(query(through, endpoint, key), NtStatus::INVALID_PARAMETER);
        assert_eq!(deregister(through, endpoint, key), NtStatus::INVALID_PARAMETER);
    }
    // The endpoint itself, through another handle.
    for code in TRANSFERS {
        assert_eq!(transfer(&other, code, id, (key, 0, 16)), NtStatus::INVALID_HANDLE);
    }
    assert_eq!(query(&other, id, key), NtStatus::INVALID_HANDLE);
    assert_eq!(deregister(&other, id, key), NtStatus::INVALID_HANDLE);
    assert_eq!(refused(&other, id, key + 1000, 16, BOTH), NtStatus::INVALID_HANDLE);
    connector.endpoint.send_registered(&region, 0..16).expect("its own may");
    assert_eq!(acceptor.next(0), [0; 16]);
    drop((region, connector, acceptor, foreign, foreign_peer, provider, other));
    bed.finish();
}

#[test]
fn a_key_names_one_region_of_an_endpoint() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = connected(&provider);
    for key in [0, 1, u64::MAX] {
        let first = register(&provider, &connector, key, 100);
        let twice = refused(&provider, connector.id(), key, 200, BOTH);
        assert_eq!(twice, NtStatus::INVALID_PARAMETER, "{key:#x}");
        let elsewhere = register(&provider, &acceptor, key, 300);
        let now = provider.statistics().expect("statistics");
        assert_eq!((now.regions, now.pinned_bytes), (2, 400), "what was refused does not count");
        assert_eq!(deregister(&provider, connector.id(), key), NtStatus::SUCCESS);
        assert_eq!(outcome(first).0, NtStatus::SUCCESS);
        let again = register(&provider, &connector, key, 100);
        drop((again, elsewhere));
        assert_eq!(query(&provider, connector.id(), key), NtStatus::INVALID_PARAMETER, "cancelled by the drop");
    }
    let now = provider.statistics().expect("statistics");
    assert_eq!((now.regions, now.pinned_bytes), (0, 0));
    drop((connector, acceptor, provider));
    bed.finish();
}

/// Memory that is registered more than once at a time, and by nobody else.
static SHARED: [AtomicU8; 8192] = [const { AtomicU8::new(0) }; 8192];

/// Registers the first bytes of [`SHARED`]. Its end comes through the channel, with the input buffer.
#[allow(unsafe_code)]
fn register_shared(device: &HarnessDevice, endpoint: EndpointId, key: u64, length: u32) -> mpsc::Receiver<IoStatus> {
    let request = RegisterMemoryRequest { header: Header::new(0), endpoint, key, rights: BOTH, reserved: 0 };
    let input: Arc<[u8]> = request.as_bytes().into();
    let (sender, ended) = mpsc::channel();
    let kept = input.clone();
    let done = Box::new(move |status| {
        drop(kept);
        // The test may have failed meanwhile.
        let _ = sender.send(status);
    });
    let (code, handle) = (ControlCode::RegisterMemory.value(), device.handle().expect("open"));
    let input_length = u32::try_from(input.len()).expect("a small structure");
    let output = SHARED.as_ptr().cast_mut().cast();
    // SAFETY: the input is kept by `done`; the output is static, of atomics, and at least as long.
    let issued =
        unsafe { device.process().device_io_control(handle, code, input.as_ptr(), input_length, output, length, done) };
    issued.expect("it is issued");
    ended
}

#[test]
fn the_same_memory_is_registered_more_than_once() {
    let bed = bed();
    let device = Arc::new(HarnessDevice::open(&bed.process).expect("the device opens"));
    let provider = Provider::new(device.clone());
    let (connector, acceptor) = connected(&provider);
    let (connector, mut acceptor) = negotiated(connector, acceptor, 1, 16);
    let id = connector.endpoint.id();
    let part = register_shared(&device, id, KEY, 4096);
    let whole = register_shared(&device, id, KEY + 1, 8192);
    let elsewhere = register_shared(&device, acceptor.endpoint.id(), KEY, 8192);
    assert_eq!(provider.statistics().expect("statistics").pinned_bytes, 16 + 16 + 4096 + 8192 + 8192);
    let start_receive = |key, offset| {
        let request = TransferRequest { header: Header::new(0), endpoint: id, key, offset, length: 16, reserved: 0 };
        let reply = vec![0; size_of::<ReceiveReply>()];
        let request = DeviceRequest::new(ControlCode::ReceiveRegistered, request.as_bytes(), reply);
        Pending::start(provider.device(), request, |completed| completed.status)
    };
    // The one receive of the session comes first, then these two.
    let receives = [start_receive(KEY, 100), start_receive(KEY + 1, 5000)];
    for n in 1..=3_u8 {
        acceptor.endpoint.send(&[n; 16]).expect("sends");
    }
    for receive in receives {
        assert_eq!(outcome(receive), NtStatus::SUCCESS);
    }
    let at = |offset: usize| SHARED[offset].load(Ordering::Relaxed);
    assert_eq!([99, 100, 115, 116, 4999, 5000, 5015, 5016].map(at), [0, 2, 2, 0, 0, 3, 3, 0]);
    assert_eq!(deregister(&provider, id, KEY), NtStatus::SUCCESS);
    assert_eq!(part.recv_timeout(PATIENCE).expect("it ends").status, NtStatus::SUCCESS.0);
    // The others stand: what was received through one is sent through the other.
    assert_eq!(transfer(&provider, ControlCode::SendRegistered, id, (KEY + 1, 100, 16)), NtStatus::SUCCESS);
    assert_eq!(acceptor.next(0), [2; 16]);
    assert_eq!(query(&provider, acceptor.endpoint.id(), KEY), NtStatus::SUCCESS);
    drop((connector, acceptor));
    for registration in [whole, elsewhere] {
        assert_eq!(registration.recv_timeout(PATIENCE).expect("it ends").status, NtStatus::CANCELLED.0);
    }
    drop((provider, device));
    bed.finish();
}

#[test]
fn deregistration_waits_for_those_who_use_the_memory_and_lets_nobody_else_in() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (receiver, mut peer) = neighbours.session(&provider, role, (1, 16), 0);
        let Receiver { endpoint, region, receives, .. } = receiver;
        let send = endpoint.start_send_registered(&region, 0..0);
        assert_eq!(status(send.wait()), NtStatus::INVALID_PARAMETER, "no bytes");
        let other = endpoint.register(Memory::new(16), MemoryRights::SEND).expect("registers");
        let send = endpoint.start_send_registered(&other, 0..16);
        for region in [&region, &other] {
            assert_eq!(region.query().expect("it stands").in_use, 1);
        }
        let of_receive = region.start_deregister().wait_for(MOMENT).expect_err("a receive uses it");
        let of_send = other.start_deregister().wait_for(MOMENT).expect_err("a send uses it");
        for region in [&region, &other] {
            assert_eq!(status(region.deregister()), NtStatus::INVALID_PARAMETER, "once is enough");
            assert_eq!(status(region.query()), NtStatus::INVALID_PARAMETER);
            for code in TRANSFERS {
                let refused = transfer(&provider, code, endpoint.id(), (region.key(), 0, 16));
                assert_eq!(refused, NtStatus::INVALID_PARAMETER, "{code:?}");
            }
            assert!(region.is_registered());
        }
        // Half the message leaves it in use.
        let message = [&header(MessageType::Data, 16, 0)[..], &[9; 16]].concat();
        peer.send(&message[..24]);
        let of_receive = of_receive.wait_for(MOMENT).expect_err("the message is not complete");
        peer.send(&message[24..]);
        outcome(of_receive).expect("nobody uses it any more");
        for receive in receives {
            assert_eq!(outcome(receive).expect("the message"), 16);
        }
        assert!(!of_send.has_ended());
        peer.send(ControlMessage::credit(1).as_bytes());
        outcome(of_send).expect("nobody uses it any more");
        assert_eq!(outcome(send).expect("sends"), 16);
        for region in [&region, &other] {
            assert_eq!(region.wait_for_end(PATIENCE), Some(NtStatus::SUCCESS));
            assert_eq!(status(region.deregister()), NtStatus::INVALID_PARAMETER, "it is over");
        }
        assert_eq!(region.read(0..16).expect("free"), [9; 16]);
        assert_eq!(peer.expect(MessageType::Data).payload, [0; 16]);
    }
    drop(provider);
    neighbours.bed.finish();
}

#[test]
fn a_cancelled_deregistration_has_never_been() {
    let bed = bed();
    let (connector, mut acceptor) = session(&bed.open(), 1, 16);
    let deregister = acceptor.region.start_deregister().wait_for(MOMENT).expect_err("a receive uses it");
    assert_eq!(status(acceptor.region.query()), NtStatus::INVALID_PARAMETER);
    deregister.cancel();
    assert_eq!(status(outcome(deregister)), NtStatus::CANCELLED);
    assert_eq!(acceptor.region.query().expect("it stands again").in_use, 1);
    for n in 0..3_u8 {
        connector.endpoint.send(&[n; 16]).expect("sends");
        assert_eq!(acceptor.next(0), [n; 16]);
    }
    // And it can be asked for again.
    let deregister = acceptor.region.start_deregister();
    connector.endpoint.send(b"last").expect("sends");
    outcome(deregister).expect("nobody uses it any more");
    drop((connector, acceptor));
    bed.finish();
}

#[test]
fn a_cancelled_registration_takes_its_receives_and_sends_along_and_leaves_the_connection() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (receiver, mut peer) = neighbours.session(&provider, role, (2, 16), 0);
        let Receiver { endpoint, region, receives, .. } = receiver;
        let other = endpoint.register(Memory::new(32), MemoryRights::BOTH).expect("registers");
        let gone = endpoint.register(Memory::new(16), MemoryRights::SEND).expect("registers");
        let lost = endpoint.start_send_registered(&gone, 0..16);
        let kept = endpoint.start_send_registered(&other, 16..32);
        region.cancel();
        gone.cancel();
        for receive in receives {
            let error = outcome(receive).expect_err("its memory is gone");
            assert_eq!(error.wsa_error(), WsaError::WSA_OPERATION_ABORTED);
        }
        assert_eq!(status(outcome(lost)), NtStatus::CANCELLED);
        for region in [&region, &gone] {
            assert_eq!(region.wait_for_end(PATIENCE), Some(NtStatus::CANCELLED));
            assert_eq!(status(region.query()), NtStatus::INVALID_PARAMETER);
        }
        // The connection stands, and the credits of the receives too.
        let receive = endpoint.start_receive(&other, 0..16);
        peer.send(ControlMessage::credit(1).as_bytes());
        peer.send_data(b"still here");
        assert_eq!(outcome(receive).expect("a message"), 10);
        assert_eq!(outcome(kept).expect("sends"), 16);
        assert_eq!(peer.expect(MessageType::Data).payload, [0; 16]);
        assert_eq!(other.read(0..10).expect("free"), b"still here");
        assert_eq!(region.read(0..32).expect("free"), [0; 32], "nothing was written");
    }
    drop(provider);
    neighbours.bed.finish();
}

#[test]
fn a_registration_that_is_cancelled_within_a_message_ends_the_connection() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (receiver, mut peer) = neighbours.session(&provider, role, (2, 16), 1);
        let Receiver { endpoint, region, receives, .. } = receiver;
        let other = endpoint.register(Memory::new(16), MemoryRights::RECEIVE).expect("registers");
        let behind = endpoint.start_receive(&other, 0..16);
        peer.send(&[&header(MessageType::Data, 16, 0)[..], &[7; 8]].concat());
        pause(|| region.cancel());
        assert_eq!(region.wait_for_end(PATIENCE), Some(NtStatus::CANCELLED));
        for receive in receives {
            assert_eq!(status(outcome(receive)), NtStatus::CANCELLED);
        }
        assert_eq!(status(outcome(behind)), NtStatus::CONNECTION_ABORTED);
        assert_eq!(status(endpoint.send(b"x")), NtStatus::CONNECTION_ABORTED);
        let memory = region.try_into_memory().expect("nobody has it any more");
        assert_eq!(memory[8..], [0; 24], "half a message was written at most");
        let mut memory = memory;
        memory.fill(0x55);
        // What the peer sends now does not arrive anywhere.
        peer.rest();
        assert!(pause(|| memory.iter().all(|&byte| byte == 0x55)));
        assert!(other.is_registered());
        other.deregister().expect("nobody uses it");
    }
    drop(provider);
    neighbours.bed.finish();
}

#[test]
fn a_registration_that_is_cancelled_while_tcp_sends_from_it_ends_the_connection() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (endpoint, mut peer) = neighbours.connected(&provider, Role::Connector);
    let negotiate = endpoint.start_negotiate(b"", 0);
    peer.expect(MessageType::Session);
    peer.send_session(1 << 20, 1000);
    outcome(negotiate).expect("negotiates");
    let region = endpoint.register(Memory::new(1 << 20), MemoryRights::SEND).expect("registers");
    // More than the sockets take between them, since the peer reads nothing.
    let sends: Vec<_> = (0..64).map(|_| endpoint.start_send_registered(&region, 0..1 << 20)).collect();
    pause(|| region.cancel());
    assert_eq!(region.wait_for_end(PATIENCE), Some(NtStatus::CANCELLED));
    let (mut sent, mut failed) = (0, 0);
    for send in sends {
        match outcome(send) {
            Ok(length) => sent += usize::from(length == 1 << 20),
            Err(error) => {
                let ends = [NtStatus::CANCELLED, NtStatus::CONNECTION_ABORTED];
                assert!(ends.contains(&error.status()), "{error}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0 && sent + failed == 64, "{sent} sent, {failed} failed");
    assert_eq!(status(endpoint.send(b"x")), NtStatus::CONNECTION_ABORTED);
    let mut memory = region.try_into_memory().expect("nobody has it any more");
    memory.fill(0x55);
    assert!(!peer.rest().contains(&0x55), "nothing is sent from it any more");
    drop((endpoint, provider));
    neighbours.bed.finish();
}

/// Two handles, each with a connection.
fn two_handles(bed: &Bed) -> [(Provider, SanEndpoint, SanEndpoint); 2] {
    [(); 2].map(|()| {
        let provider = bed.open();
        let (connector, acceptor) = connected(&provider);
        (provider, connector, acceptor)
    })
}

/// What is registered of all.
fn pinned(provider: &Provider) -> (u32, u64) {
    let now = provider.statistics().expect("statistics");
    (now.regions, now.pinned_bytes)
}

#[test]
fn a_handle_has_no_more_regions_than_it_may() {
    let bed = Bed::with(builder().parameter("sanwsk", "MaxRegionsPerHandle", Value::Number(3)));
    let [(provider, connector, acceptor), (other, others, peer)] = two_handles(&bed);
    let mut held = vec![register(&provider, &connector, KEY + 1, 16), register(&provider, &acceptor, KEY + 2, 16)];
    held.push(register(&provider, &connector, KEY + 3, 16));
    for endpoint in [&connector, &acceptor] {
        for key in [KEY + 4, KEY + 5] {
            let status = refused(&provider, endpoint.id(), key, 16, BOTH);
            assert_eq!(status, NtStatus::INSUFFICIENT_RESOURCES);
        }
    }
    let error = connector.register(Memory::new(16), MemoryRights::BOTH).expect_err("past the limit");
    assert_eq!(error.wsa_error(), WsaError::WSAENOBUFS);
    assert_eq!(pinned(&provider), (3, 48));
    let elsewhere = register(&other, &others, 1, 16);
    // One goes, another may come: by deregistering, and by cancelling.
    assert_eq!(deregister(&provider, acceptor.id(), KEY + 2), NtStatus::SUCCESS);
    held.push(register(&provider, &acceptor, KEY + 4, 16));
    assert_eq!(refused(&provider, acceptor.id(), KEY + 5, 16, BOTH), NtStatus::INSUFFICIENT_RESOURCES);
    drop(held.remove(0));
    held.push(register(&provider, &connector, KEY + 5, 16));
    assert_eq!(pinned(&provider), (4, 64));
    drop((connector, acceptor, others, peer));
    drop((held, elsewhere));
    assert_eq!(pinned(&provider), (0, 0), "closing gives everything back");
    drop((provider, other));
    bed.finish();
}

#[test]
fn all_handles_together_have_no_more_regions_than_they_may() {
    let bed = Bed::with(builder().parameter("sanwsk", "MaxRegions", Value::Number(3)));
    let [(provider, connector, acceptor), (other, others, peer)] = two_handles(&bed);
    let mut held: Vec<_> = (0..2).map(|key| register(&provider, &connector, key, 16)).collect();
    held.push(register(&other, &others, 1, 16));
    for _ in 0..3 {
        assert_eq!(refused(&provider, connector.id(), 9, 16, BOTH), NtStatus::INSUFFICIENT_RESOURCES);
        assert_eq!(refused(&other, others.id(), 9, 16, BOTH), NtStatus::INSUFFICIENT_RESOURCES);
    }
    assert_eq!(pinned(&provider), (3, 48));
    assert_eq!(deregister(&provider, connector.id(), 0), NtStatus::SUCCESS);
    held.push(register(&other, &others, 9, 16));
    drop((connector, acceptor, others, peer));
    drop(held);
    assert_eq!(pinned(&provider), (0, 0));
    drop((provider, other));
    bed.finish();
}

#[test]
fn pinned_memory_has_its_limits_and_what_stands_goes_on() {
    const MIB: usize = 1 << 20;
    for (parameter, other_handle_too) in [("MaxPinnedMiBPerHandle", false), ("MaxPinnedMiB", true)] {
        let bed = Bed::with(builder().parameter("sanwsk", parameter, Value::Number(1)));
        let [(provider, connector, acceptor), (other, others, peer)] = two_handles(&bed);
        let (mut connector, mut acceptor) = negotiated(connector, acceptor, 2, 8);
        let (one, two) = (register(&provider, &connector.endpoint, KEY, MIB / 2), 32);
        let rest = MIB / 2 - two;
        let fits = register(&provider, &acceptor.endpoint, KEY, rest);
        let full = pinned(&provider);
        assert_eq!(full, (4, MIB as u64));
        for length in [1, 4096, MIB, 4 * MIB] {
            let status = refused(&provider, connector.endpoint.id(), KEY + 1, length, BOTH);
            assert_eq!(status, NtStatus::INSUFFICIENT_RESOURCES, "{length} more bytes, {parameter}");
        }
        assert_eq!(pinned(&provider), full);
        if other_handle_too {
            let status = refused(&other, others.id(), 1, 1, BOTH);
            assert_eq!(status, NtStatus::INSUFFICIENT_RESOURCES);
        } else {
            drop(register(&other, &others, 1, MIB));
        }
        connector.endpoint.send(b"still").expect("sends");
        assert_eq!(acceptor.next(0), b"still");
        acceptor.endpoint.send(b"here").expect("sends");
        assert_eq!(connector.next(0), b"here");
        drop(fits);
        let again = register(&provider, &connector.endpoint, KEY + 1, rest);
        assert_eq!(refused(&provider, connector.endpoint.id(), KEY + 2, 1, BOTH), NtStatus::INSUFFICIENT_RESOURCES);
        drop((one, again, connector, acceptor, others, peer));
        assert_eq!(pinned(&provider), (0, 0));
        drop((provider, other));
        bed.finish();
    }
}

#[test]
fn memory_is_its_owners_again_once_it_is_not_registered() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    // By deregistering, by cancelling, and by closing.
    for end in 0..3 {
        let (connector, acceptor) = connected_to(&provider, &listener, address);
        let (connector, mut acceptor) = negotiated(connector, acceptor, 2, 64);
        let other = acceptor.endpoint.register(Memory::new(128), MemoryRights::BOTH).expect("registers");
        connector.endpoint.send(&[1; 64]).expect("sends");
        connector.endpoint.send(&[2; 64]).expect("sends");
        for receive in acceptor.receives.drain(..) {
            assert_eq!(outcome(receive).expect("a message"), 64);
        }
        let send = acceptor.endpoint.send_registered(&acceptor.region, 0..64);
        assert_eq!(send.expect("sends"), 64);
        let Receiver { endpoint, region, .. } = acceptor;
        let mut endpoint = Some(endpoint);
        match end {
            0 => region.deregister().expect("nobody uses it"),
            1 => region.cancel(),
            _ => endpoint.take().expect("open").close().expect("closes"),
        }
        assert!(region.wait_for_end(PATIENCE).is_some());
        let mut memory = region.try_into_memory().expect("nobody has it");
        assert_eq!((&memory[..64], &memory[64..]), (&[1; 64][..], &[2; 64][..]));
        memory.fill(0x55);
        if let Some(endpoint) = &endpoint {
            let receives = [0, 64].map(|at| endpoint.start_receive(&other, at..at + 64));
            connector.endpoint.send(&[3; 64]).expect("sends");
            connector.endpoint.send(&[4; 64]).expect("sends");
            for receive in receives {
                assert_eq!(outcome(receive).expect("a message"), 64);
            }
        } else {
            eventually("the connection has ended", || connector.endpoint.send(&[3; 64]).is_err());
        }
        assert!(pause(|| memory.iter().all(|&byte| byte == 0x55)), "nobody writes to it");
    }
    drop((listener, provider));
    bed.finish();
}
