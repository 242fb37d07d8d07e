//! Many threads, one handle, one endpoint: operations and their order by a seed, and the processor taken away anywhere.

use std::sync::Arc;
use std::time::Duration;

use san_proxy::{Disconnect, NtStatus, Receive, StreamConnection};
use test_harness::network::simulated::Simulated;
use test_harness::simulation;

use crate::bed::{Host, connected, seeds, simulate};

/// What a thread does next.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Send,
    Receive,
    CancelledReceive,
    Addresses,
    Shutdown,
    Abort,
    Exchange,
}

/// Ends that an operation on a connection may have which others end at the same time.
const ENDS: [NtStatus; 5] = [
    NtStatus::CANCELLED,
    NtStatus::IO_TIMEOUT,
    NtStatus::CONNECTION_RESET,
    NtStatus::CONNECTION_ABORTED,
    NtStatus::PIPE_DISCONNECTED,
];

pub(crate) fn random(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) % bound
}

fn perform(operation: Operation, connection: &StreamConnection, other: &StreamConnection) -> Option<NtStatus> {
    let status = |result: Result<usize, san_proxy::Error>| result.err().map(|error| error.status());
    match operation {
        Operation::Send => status(connection.start_send(vec![7; 500]).wait_or_cancel(Duration::from_millis(5)).result),
        Operation::Receive => {
            let receive = connection.start_receive(vec![0; 300], Receive::Some);
            status(receive.wait_or_cancel(Duration::from_millis(3)).result)
        }
        Operation::CancelledReceive => {
            let receive = connection.start_receive(vec![0; 300], Receive::All);
            receive.cancel();
            status(receive.wait().result)
        }
        Operation::Addresses => connection.local_address().err().map(|error| error.status()),
        Operation::Shutdown => {
            connection.start_disconnect(Disconnect::Graceful).wait().err().map(|error| error.status())
        }
        Operation::Abort => connection.abort().err().map(|error| error.status()),
        Operation::Exchange => {
            let receive = connection.start_receive(vec![0; 64], Receive::Some);
            let sent = other.start_send(vec![3; 64]).wait_or_cancel(Duration::from_millis(5)).result;
            let received = receive.wait_or_cancel(Duration::from_millis(5)).result;
            status(sent).or(status(received))
        }
    }
}

#[test]
fn many_threads_use_one_connection_and_end_it_under_each_others_hands() {
    for seed in seeds(40) {
        simulate(seed, |network| hammer(network, seed));
    }
}

const THREADS: u64 = 8;

fn hammer(network: &Arc<Simulated>, seed: u64) {
    let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
    let (near, far) = (first.open(), second.open());
    let (client, server) = connected(&near, &second, &far);
    let ends = Arc::new((client, server));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let ends = ends.clone();
            let mut state = (seed * THREADS + number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            simulation::start("user", move || {
                for _ in 0..15 {
                    let operation = match random(&mut state, 40) {
                        0..12 => Operation::Send,
                        12..20 => Operation::Receive,
                        20..28 => Operation::CancelledReceive,
                        28..32 => Operation::Addresses,
                        32..38 => Operation::Exchange,
                        38 => Operation::Shutdown,
                        _ => Operation::Abort,
                    };
                    let swapped = random(&mut state, 2) == 0;
                    let (own, other) = if swapped { (&ends.1, &ends.0) } else { (&ends.0, &ends.1) };
                    if let Some(status) = perform(operation, own, other) {
                        assert!(ENDS.contains(&status), "{operation:?} ends with {status}");
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join();
    }
    drop((ends, near, far));
    first.finish();
    second.finish();
}

#[test]
fn a_send_that_a_graceful_end_overtakes_is_refused_like_one_behind_it() {
    for seed in seeds(60) {
        simulate(seed, |network| {
            let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
            let (near, far) = (first.open(), second.open());
            let (client, server) = connected(&near, &second, &far);
            let client = Arc::new(client);
            let senders: Vec<_> = (0..3)
                .map(|_| {
                    let client = client.clone();
                    simulation::start("sender", move || client.send(b"x").map_err(|error| error.status()))
                })
                .collect();
            client.shutdown().expect("ends its side");
            for sender in senders {
                let sent = sender.join();
                assert!(matches!(sent, Ok(1) | Err(NtStatus::PIPE_DISCONNECTED)), "{sent:?}");
            }
            drop((client, server, near, far));
            first.finish();
            second.finish();
        });
    }
}
