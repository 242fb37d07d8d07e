//! Many threads, one handle, one session: operations and their order by a seed, and the processor taken away anywhere.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use san_proxy::{Disconnect, Error, Memory, MemoryRights, NtStatus};
use test_harness::network::simulated::{Link, Simulated};
use test_harness::simulation;

use crate::bed::{pattern, seeds, simulate};
use crate::concurrency::random;
use crate::sessions::{Side, with_session};

const THREADS: u64 = 8;

/// What each thread does one after the other.
const OPERATIONS: u64 = 20;

/// Room of a message.
const SIZE: usize = 200;

/// Ends that an operation may have on a session that others use, cancel and end at the same time.
const ENDS: [NtStatus; 6] = [
    NtStatus::CANCELLED,
    NtStatus::IO_TIMEOUT,
    NtStatus::CONNECTION_RESET,
    NtStatus::CONNECTION_ABORTED,
    NtStatus::PIPE_DISCONNECTED,
    NtStatus::GRACEFUL_DISCONNECT,
];

/// What a thread does next.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Send,
    SendRegistered,
    CancelledSend,
    Receive,
    CancelledReceive,
    DeregisterUnderAReceive,
    Ask,
    Disconnect,
    Abort,
}

impl Operation {
    fn choose(state: &mut u64) -> Self {
        match random(state, 320) {
            0..100 => Self::Send,
            100..140 => Self::SendRegistered,
            140..144 => Self::CancelledSend,
            144..252 => Self::Receive,
            252..276 => Self::CancelledReceive,
            276..292 => Self::DeregisterUnderAReceive,
            292..318 => Self::Ask,
            318 => Self::Disconnect,
            _ => Self::Abort,
        }
    }
}

/// The messages that have been sent and have come, by their contents.
#[derive(Default)]
struct Messages {
    sent: HashSet<Vec<u8>>,
    received: HashSet<Vec<u8>>,
}

/// A thread, and which side of the session it takes.
struct User {
    side: Arc<Side>,
    messages: Arc<Mutex<Messages>>,
    number: u64,
    state: u64,
    count: u64,
}

impl User {
    /// A message that there is once.
    fn message(&mut self) -> Vec<u8> {
        self.count += 1;
        let length = 9 + random(&mut self.state, SIZE as u64 - 9);
        let content = pattern(self.number << 32 | self.count, usize::try_from(length).expect("a length"));
        self.messages.lock().unwrap().sent.insert(content.clone());
        content
    }

    fn patience(&mut self) -> Duration {
        Duration::from_micros(random(&mut self.state, 20_000))
    }

    fn perform(&mut self, operation: Operation) -> Result<(), Error> {
        let side = self.side.clone();
        let endpoint = &side.endpoint;
        match operation {
            Operation::Send => {
                let (message, patience) = (self.message(), self.patience());
                endpoint.start_send(message).wait_or_cancel(patience).result.map(drop)
            }
            Operation::SendRegistered => {
                let (message, patience) = (self.message(), self.patience());
                let region = endpoint.register(Memory::new(SIZE), MemoryRights::SEND)?;
                region.write(0, &message).expect("nobody uses it");
                endpoint.start_send_registered(&region, 0..message.len()).wait_or_cancel(patience).map(drop)
            }
            Operation::CancelledSend => {
                let send = endpoint.start_send(self.message());
                send.cancel();
                send.wait().result.map(drop)
            }
            Operation::Receive => {
                let patience = self.patience();
                let region = endpoint.register(Memory::new(SIZE), MemoryRights::RECEIVE)?;
                let length = endpoint.start_receive(&region, 0..SIZE).wait_or_cancel(patience)?;
                let message = region.read(0..length).expect("nobody uses it");
                let mut messages = self.messages.lock().unwrap();
                assert!(messages.sent.contains(&message), "a message that nobody has sent");
                assert!(messages.received.insert(message), "a message that comes twice");
                Ok(())
            }
            Operation::CancelledReceive => {
                let region = endpoint.register(Memory::new(SIZE), MemoryRights::RECEIVE)?;
                let receive = endpoint.start_receive(&region, 0..SIZE);
                receive.cancel();
                receive.wait().map(drop)
            }
            Operation::DeregisterUnderAReceive => {
                let region = endpoint.register(Memory::new(SIZE), MemoryRights::RECEIVE)?;
                let receive = endpoint.start_receive(&region, 0..SIZE);
                let deregister = region.start_deregister();
                let received = receive.wait_or_cancel(self.patience());
                deregister.wait()?;
                received.map(drop)
            }
            Operation::Ask => {
                endpoint.addresses()?;
                endpoint.statistics()?;
                endpoint.enum_network_events().map(drop)
            }
            Operation::Disconnect => endpoint.start_disconnect(Disconnect::Graceful).wait_or_cancel(self.patience()),
            Operation::Abort => endpoint.abort(),
        }
    }

    fn run(mut self) {
        for _ in 0..OPERATIONS {
            let operation = Operation::choose(&mut self.state);
            if let Err(error) = self.perform(operation) {
                let expected = match operation {
                    // One at a time.
                    Operation::Disconnect if error.status() == NtStatus::DEVICE_BUSY => true,
                    _ => ENDS.contains(&error.status()),
                };
                assert!(expected, "{operation:?} ends with {error}");
            }
        }
    }
}

/// Messages that have come.
fn hammer(network: &Arc<Simulated>, seed: u64) -> usize {
    let mut received = 0;
    let link = if seed.is_multiple_of(3) { Link::SLOW } else { Link::LOCAL };
    with_session(network, link, SIZE, |first, second, one, other| {
        let sides = [Arc::new(one), Arc::new(other)];
        let messages = Arc::new(Mutex::new(Messages::default()));
        let users: Vec<_> = (0..THREADS)
            .map(|number| {
                let state = (seed * THREADS + number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let side = sides[(number % 2) as usize].clone();
                let user = User { side, messages: messages.clone(), number, state, count: 0 };
                simulation::start("user", move || user.run())
            })
            .collect();
        if seed.is_multiple_of(5) {
            simulation::sleep(Duration::from_millis(2));
            network.reset(&first.attachment, &second.attachment);
        }
        for user in users {
            user.join();
        }
        received = messages.lock().unwrap().received.len();
    });
    received
}

#[test]
fn many_threads_use_one_session_and_end_it_under_each_others_hands() {
    let mut received = 0;
    for seed in seeds(60) {
        simulate(seed, |network| received += hammer(network, seed));
    }
    assert!(received > 0, "no session has lived to bring a message");
    println!("{received} messages have come");
}
