//! Loading, waiting for WSK, limits, unloading.

use crate::support::{Bed, MOMENT, PATIENCE, any, connected, eventually, host_connect, image, listening, status};
use san_protocol::{NtStatus, ProviderState, WsaError};
use san_proxy::{AddressFamily, Backlog, StreamConnection, StreamListener};
use std::thread;
use std::time::Duration;
use test_harness::machine::{Stats, Unload};
use test_harness::nt::registry::Value;
use test_harness::{LoadError, Machine};

#[test]
fn an_unload_waits_for_the_last_handle() {
    let bed = Bed::new();
    let (connection, _peer) = connected(&bed.open());
    assert_eq!(bed.machine.unload(&bed.driver), Ok(Unload::Deferred));
    connection.send(b"x").expect("who is in goes on");
    assert!(test_harness::device::HarnessDevice::open(&bed.process).is_err(), "nobody comes in any more");
    drop(connection);
    assert!(bed.machine.wait_unloaded(&bed.driver, PATIENCE), "the last handle is closed");
    bed.finish_unload();
}

#[test]
fn a_driver_is_loaded_and_unloaded_many_times() {
    let machine = Machine::new();
    for _ in 0..20 {
        let driver = machine.load(image(), "sanwsk").expect("loads");
        let unloaded = machine.unload(&driver);
        assert_eq!(unloaded, Ok(Unload::Done), "{}", machine.violation().map_or_else(String::new, |it| it.to_string()));
    }
    assert!(machine.stats().driver_pool.is_empty());
}

#[test]
fn two_machines_have_a_driver_each() {
    let (first, second) = (Bed::new(), Bed::new());
    let (here, there) = (first.open(), second.open());
    let listener = StreamListener::create(&there, AddressFamily::INET).expect("an endpoint");
    let address = listener.bind(any(AddressFamily::INET)).expect("binds");
    listener.listen(Backlog(1)).expect("listens");
    let connection = StreamConnection::create(&here, AddressFamily::INET).expect("an endpoint");
    connection.connect(address, Some(PATIENCE)).expect("connects");
    let accepted = listener.accept().expect("accepts");
    connection.send(b"from one to the other").expect("sends");
    let received = accepted.connection.receive_all(vec![0; 21]);
    assert_eq!(received.buffer, b"from one to the other");
    drop((connection, accepted, listener, here, there));
    first.finish();
    second.finish();
}

#[test]
fn every_allocation_of_the_load_path_may_fail() {
    load_with_refusals(&[]);
}

/// Their memory was left behind by a load that failed after they had been read.
#[test]
fn routes_of_the_registry_go_with_a_load_that_fails() {
    load_with_refusals(&["10.77.0.0/16 127.0.0.0/16", "10.88.0.0/16 127.1.0.0/16"]);
}

fn load_with_refusals(routes: &[&str]) {
    let mut failures = 0;
    for nth in 0.. {
        let machine = Machine::new();
        machine.set_parameter("sanwsk", "Routes", Value::List(routes.iter().map(|&route| route.to_owned()).collect()));
        machine.fail_allocation(nth);
        let loaded = machine.load(image(), "sanwsk");
        let failed = machine.allocation_has_failed();
        machine.fail_no_allocation();
        match loaded {
            Ok(driver) => {
                assert_eq!(machine.unload(&driver), Ok(Unload::Done));
                if !failed {
                    break;
                }
            }
            Err(LoadError::Entry(_) | LoadError::Refused(_)) => assert!(failed),
            Err(error) => panic!("allocation {nth}: {error}: {:?}", machine.violation()),
        }
        failures += 1;
        assert!(machine.stats().driver_pool.is_empty(), "allocation {nth}");
        // The same machine can load it then.
        let driver = machine.load(image(), "sanwsk").expect("there is memory now");
        assert_eq!(machine.unload(&driver), Ok(Unload::Done));
        assert!(machine.violation().is_none(), "allocation {nth}");
    }
    assert!(failures > 5, "the load path allocates");
}

#[test]
fn before_wsk_is_ready_requests_say_so_and_afterwards_they_work() {
    let machine = Machine::new();
    machine.network().set_ready(false);
    let bed = Bed::on(machine);
    let provider = bed.open();
    let before = provider.status().expect("status");
    assert_eq!((before.provider, before.capture_status), (ProviderState::Capturing, NtStatus::PENDING));
    let create = || StreamConnection::create(&provider, AddressFamily::INET);
    let error = create().expect_err("not ready");
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::DEVICE_NOT_READY, WsaError::WSAENETDOWN));
    bed.machine.network().set_ready(true);
    bed.wait_for_provider();
    assert!(provider.status().expect("status").wsk_version.is_some());
    drop((create().expect("ready"), provider));
    bed.finish();
}

/// A use of the provider that was refused, as the driver was on its way out, was given back all the same: the unload did not wait for
/// the last one that there was.
#[test]
fn a_peer_that_comes_while_the_driver_goes_does_not_hurry_it() {
    let mut met = 0;
    for call in 0..200 {
        let bed = Bed::new();
        let (listener, address) = listening(&bed.open(), 1);
        bed.machine.preempt(call % 20);
        let peer = host_connect(address);
        let meets = bed.machine.wait_preempted(MOMENT) == Some("ExAcquireRundownProtection");
        thread::scope(|scope| {
            if meets {
                // As soon as the process has gone, the driver waits for the listener, which has to do with the peer.
                scope.spawn(|| {
                    bed.process.exit();
                    bed.machine.unload(&bed.driver)
                });
                thread::sleep(Duration::from_millis(2));
            }
            bed.machine.go_on();
        });
        drop((listener, peer));
        if meets {
            bed.finish_unload();
        } else {
            bed.finish();
        }
        met += u32::from(meets);
        if met == 4 {
            return;
        }
    }
    panic!("the listener uses the provider for a peer");
}

#[test]
fn an_unload_ends_a_capture_that_waits() {
    let machine = Machine::new();
    machine.network().set_ready(false);
    let bed = Bed::on(machine);
    bed.finish();
}

#[test]
fn a_capture_that_fails_is_told_to_every_caller() {
    const STATUS_NOINTERFACE: i32 = NtStatus::NOINTERFACE.0;
    let machine = Machine::new();
    machine.network().fail_capture(Some(STATUS_NOINTERFACE));
    let bed = Bed::on(machine);
    let provider = bed.open();
    eventually("the capture has failed", || provider.status().expect("status").provider == ProviderState::Failed);
    assert_eq!(provider.status().expect("status").capture_status, NtStatus::NOINTERFACE);
    assert_eq!(status(StreamConnection::create(&provider, AddressFamily::INET)), NtStatus::NOINTERFACE);
    drop(provider);
    bed.finish();
}

#[test]
fn a_handle_has_no_more_endpoints_than_the_registry_allows() {
    let bed = Bed::with(Machine::builder().parameter("sanwsk", "MaxEndpointsPerHandle", Value::Number(3)));
    let provider = bed.open();
    let create = || StreamConnection::create(&provider, AddressFamily::INET);
    let mut endpoints: Vec<_> = (0..3).map(|_| create().expect("within the limit")).collect();
    assert_eq!(status(create()), NtStatus::TOO_MANY_OPENED_FILES);
    endpoints.pop();
    endpoints.push(create().expect("there is room again"));
    let other = bed.open();
    StreamConnection::create(&other, AddressFamily::INET).expect("the limit is a handle's");
    drop((endpoints, provider, other));
    bed.finish();
}

/// Cycles of connect, accept and close.
const CYCLES: usize = 100_000;

#[test]
fn a_hundred_thousand_connects_leave_pool_and_objects_flat() {
    let bed = Bed::new();
    let provider = bed.open();
    let listener = StreamListener::create(&provider, AddressFamily::INET).expect("an endpoint");
    let address = listener.bind(any(AddressFamily::INET)).expect("binds");
    listener.listen(Backlog(8)).expect("listens");
    let cycle = || {
        let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
        connection.connect(address, Some(PATIENCE)).expect("connects");
        let accepted = listener.accept().expect("accepts");
        // The end that closes first waits in TIME_WAIT; a reset does not, and leaves the port free.
        connection.abort().expect("resets");
        connection.close().expect("closes");
        accepted.connection.close().expect("closes");
    };
    for _ in 0..100 {
        cycle();
    }
    // The system's own worker threads come and go.
    let stats = || {
        let mut stats = bed.machine.stats();
        stats.objects.remove("Thread");
        stats
    };
    let before = stats();
    for _ in 0..CYCLES {
        cycle();
    }
    // The framework frees the last request after its caller has got the answer.
    let in_use = |stats: &Stats| (stats.driver_pool.clone(), stats.objects.clone(), stats.irps, stats.kernel_handles);
    eventually("nothing is left over", || in_use(&stats()) == in_use(&before));
    drop((listener, provider));
    bed.finish();
}
