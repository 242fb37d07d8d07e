//! Events that others can bring about as often as they like: so many a second are told, by a clock that no slow machine holds up, and
//! the others counted.

#[path = "../../driver-build/tests/package/events_page.rs"]
mod events_page;

use std::time::Duration;

use san_proxy::{AddressFamily, EndpointScope, Provider, StreamConnection};
use test_harness::Machine;
use test_harness::nt::etw::trace_logging::decode;
use test_harness::nt::etw::{Enabling, TraceSession};
use test_harness::nt::registry::Value;
use test_harness::simulation;

use crate::bed::{Host, eventually, listening, simulate_all};

/// By so many more than are told in a second it is overdone.
const MORE: u64 = 40;

/// Sleeps until the next second of the machine's clock begins, which began with the simulation.
fn await_next_second() {
    let elapsed = simulation::elapsed().expect("a simulation");
    simulation::sleep(Duration::from_nanos((1_000_000_000 - elapsed.subsec_nanos()).into()));
}

/// Has something happen more often in a second than it is told, and once in the next: all of it is told or counted.
#[track_caller]
fn limited(trace: &TraceSession, name: &str, mut happens: impl FnMut()) {
    let told = || -> Vec<u64> {
        let events = trace.take_events();
        let decoded = events.iter().map(|event| decode(event).expect("an event"));
        let of_name = decoded.filter(|event| event.name == name);
        of_name.map(|event| event.number("Suppressed").expect("how many were left out")).collect()
    };
    let most = u64::from(events_page::rows()[name].most.expect("it is limited"));
    for _ in 0..3 {
        await_next_second();
        told();
        (0..most - 1).for_each(|_| happens());
        assert_eq!(told(), vec![0; usize::try_from(most).expect("a few") - 1], "as many as may be");
        (0..=MORE).for_each(|_| happens());
        assert_eq!(told(), [0], "the last one of this second");
        await_next_second();
        happens();
        assert_eq!(told(), [MORE], "what was left out is counted");
    }
}

fn tracing(host: &Host) -> TraceSession {
    let trace = host.machine.trace();
    trace.enable_all(Enabling::level(4));
    trace
}

fn create(provider: &Provider) -> Result<StreamConnection, san_proxy::Error> {
    StreamConnection::create(provider, AddressFamily::INET)
}

#[test]
fn what_a_caller_can_repeat_is_told_so_often_a_second_and_then_counted() {
    simulate_all(2, |network| {
        let builder = Machine::builder().parameter("sanwsk", "MaxEndpointsPerHandle", Value::Number(1));
        let host = Host::boot_with(network, 1, builder);
        let provider = host.open();
        let trace = tracing(&host);
        limited(&trace, "EndpointCreated", || drop(create(&provider).expect("an endpoint")));
        let kept = create(&provider).expect("an endpoint");
        limited(&trace, "LimitHit", || assert!(create(&provider).is_err()));
        drop((kept, provider, trace));
        host.finish();
    });
}

#[test]
fn what_a_peer_can_repeat_is_told_so_often_a_second_and_then_counted() {
    simulate_all(2, |network| {
        let (host, neighbour) = (Host::boot(network, 1), Host::boot(network, 2));
        let (provider, knocking) = (host.open(), neighbour.open());
        let (listener, address) = listening(&host, &provider, 1);
        let knock = || {
            let peer = create(&knocking).expect("an endpoint");
            peer.connect(address, None).expect("connects, before it is turned away");
            peer
        };
        let waits = knock();
        eventually("the backlog is full", || {
            let listed = provider.endpoints(EndpointScope::OwnHandle).expect("a list");
            listed.iter().any(|endpoint| endpoint.backlog == 1)
        });
        let trace = tracing(&host);
        let turned_away = || provider.statistics().expect("statistics").stream_refused_backlog;
        limited(&trace, "PeerRefused", || {
            let before = turned_away();
            let _peer = knock();
            eventually("it is turned away", || turned_away() == before + 1);
        });
        drop((waits, listener, provider, knocking, trace));
        host.finish();
        neighbour.finish();
    });
}
