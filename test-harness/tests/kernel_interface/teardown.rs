//! The end in the middle: at many of the calls that a kernel client's path leads to, everything is cancelled, its endpoints or the
//! client are closed, or the driver is to be unloaded, while the thread that made the call is off the processor.

use std::collections::BTreeMap;
use std::thread;

use test_harness::machine::Unload;

use crate::support::{Bed, MOMENT, PATIENCE, builder, eventually, image};
use crate::{Clients, client_image};

/// `tests/drivers/kernel_endings.c`.
const NAME: &str = "kernel_endings";

/// Calls of a path at which each end is tried in an ordinary run; which ones, the time decides.
const SAMPLES: u64 = 6;
/// Set, every call is tried.
const ALL: &str = "SANWSK_SWEEP_ALL";

#[derive(Clone, Copy, Debug)]
enum End {
    /// The client does this.
    Behaviour(&'static str),
    /// The driver is to go, which it does with the client.
    Unload,
}

const ENDS: [End; 4] = [
    End::Behaviour("cancels_the_path"),
    End::Behaviour("closes_its_endpoints"),
    End::Behaviour("closes_its_client"),
    End::Unload,
];

/// Blocks of pool by their tags.
type Blocks = BTreeMap<String, usize>;

fn blocks(clients: &Clients) -> Blocks {
    clients.bed.machine.stats().driver_pool.into_iter().map(|(tag, used)| (tag, used.blocks)).collect()
}

/// Waits until no more is in use than at rest.
#[track_caller]
fn settle(clients: &Clients, at_rest: &Blocks, what: &str) {
    eventually(what, || {
        let now = blocks(clients);
        now.iter().all(|(tag, count)| at_rest.get(tag).is_some_and(|most| count <= most))
    });
    if let Some(violation) = clients.bed.machine.violation() {
        panic!("{what}: {violation}");
    }
}

#[track_caller]
fn bring_about(end: End, clients: &Clients, what: &str) {
    match end {
        End::Behaviour(behaviour) => {
            let status = clients.ask(behaviour, false);
            if let Some(violation) = clients.bed.machine.violation() {
                panic!("{what}: {violation}");
            }
            assert_eq!(status, Some(0), "{what}: {:?}", clients.bed.machine.debug_output());
        }
        End::Unload => assert_eq!(clients.bed.machine.unload(&clients.bed.driver), Ok(Unload::Deferred), "{what}"),
    }
}

/// Runs the path, and ends it at a call. Which one that is depends on the schedule: it may be over before.
fn end_at(clients: &Clients, path: &str, end: End, call: u64, what: &str) {
    let machine = &clients.bed.machine;
    machine.preempt(call);
    let status = thread::scope(|scope| {
        let other = scope.spawn(|| {
            // By the client's own calls too: then its thread goes on by itself.
            let _ = machine.wait_preempted(PATIENCE);
            bring_about(end, clients, what);
            machine.go_on();
        });
        let status = clients.ask(path, false);
        machine.go_on();
        other.join().unwrap_or_else(|_| panic!("{what}: the end fails"));
        status
    });
    if let Some(violation) = machine.violation() {
        panic!("{what}: {violation}");
    }
    // A line of the client's: what must not be.
    let is_line = |status: i32| status.cast_unsigned() >> 28 == 0xE;
    assert!(status.is_some_and(|status| !is_line(status)), "{what}: {status:x?}, {:?}", machine.debug_output());
}

/// Both drivers anew: sanwsk.sys goes once its client has.
fn reload(clients: Clients, prepare: &str, what: &str) -> Clients {
    let Clients { mut bed, client } = clients;
    assert_eq!(bed.machine.unload(&client), Ok(Unload::Done), "{what}");
    assert!(bed.machine.wait_unloaded(&bed.driver, PATIENCE), "{what}: nobody has it open any more");
    bed.driver = bed.machine.load(image(), "sanwsk").expect("the driver loads again");
    bed.wait_for_provider();
    let client = bed.machine.load(client_image(NAME), NAME).expect("the client loads again");
    let clients = Clients { bed, client };
    clients.act(prepare);
    clients
}

/// Ends the path at many of its calls, in every way. Afterwards nothing is left, and the path works.
fn tear_down(path: &str, prepare: &str) {
    let mut clients = Clients::of(NAME, Bed::with(builder()));
    clients.act(prepare);
    // The first time leaves what the driver keeps: its native listener.
    clients.act(path);
    thread::sleep(MOMENT);
    let before = clients.bed.machine.calls();
    clients.act(path);
    let calls = clients.bed.machine.calls() - before;
    thread::sleep(MOMENT);
    let at_rest = blocks(&clients);
    let stride = if std::env::var_os(ALL).is_some() { 1 } else { calls.div_ceil(SAMPLES) };
    let first = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| u64::from(time.subsec_micros())) % stride;
    for end in ENDS {
        for call in (first..calls).step_by(usize::try_from(stride).expect("a few")) {
            let what = format!("{path}, {end:?} at call {call} of {calls}");
            println!("{what}");
            end_at(&clients, path, end, call, &what);
            if let End::Unload = end {
                clients.act("frees_the_path");
                clients = reload(clients, prepare, &what);
            }
            clients.act(path);
            settle(&clients, &at_rest, &what);
        }
    }
    clients.act("frees_the_path");
    clients.finish();
}

#[test]
fn a_stream_ends_in_the_middle() {
    tear_down("runs_over_a_stream", "prepares_the_path");
}

#[test]
fn a_session_ends_in_the_middle() {
    tear_down("runs_over_a_session", "prepares_the_path");
}

#[test]
fn a_stream_of_a_client_with_irps_ends_in_the_middle() {
    tear_down("runs_over_a_stream", "prepares_the_path_with_irps");
}

#[test]
fn a_session_of_a_client_with_irps_ends_in_the_middle() {
    tear_down("runs_over_a_session", "prepares_the_path_with_irps");
}
