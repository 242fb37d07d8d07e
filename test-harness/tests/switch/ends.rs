//! Hostile ends: clear errors, no hang, and nothing left behind.

use crate::bed::{bed, config, narrow, read_all, san_streams, switch};
use crate::support::{MOMENT, PATIENCE, eventually};
use san_proxy::{NtStatus, SanStream, Switch, WsaError};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;
use test_harness::device::HarnessDevice;
use test_harness::machine::Unload;

/// A read that waits, and is ended by what `end` does: how.
fn ended_by(stream: &SanStream, end: impl FnOnce()) -> ErrorKind {
    thread::scope(|scope| {
        let reader = scope.spawn(|| (&*stream).read(&mut [0]));
        thread::sleep(MOMENT);
        end();
        reader.join().expect("does not panic").expect_err("it has ended").kind()
    })
}

#[test]
fn a_reset_is_one() {
    let bed = bed();
    let switch = switch(&bed, config());
    let (client, mut server) = san_streams(&switch);
    let abort = || client.san_endpoint().expect("of the SAN").abort().expect("aborts");
    assert_eq!(ended_by(&server, abort), ErrorKind::ConnectionReset);
    assert_eq!(server.read(&mut [0]).expect_err("for good").kind(), ErrorKind::ConnectionReset);
    assert_eq!((&client).read(&mut [0]).expect_err("aborted").kind(), ErrorKind::ConnectionAborted);
    eventually("writing fails", || server.write(&[0; 100]).is_err());
    drop((client, server, switch));
    bed.finish();
}

#[test]
fn a_handle_that_is_closed_ends_its_streams() {
    let bed = bed();
    let device = Arc::new(HarnessDevice::open(&bed.process).expect("opens"));
    let doomed = Switch::new(Some(san_proxy::Provider::new(device.clone())), config());
    let other = switch(&bed, config());
    let listener = doomed.bind("127.0.0.1:0").expect("listens");
    let mut client = other.connect(listener.local_addr().expect("its address")).expect("connects");
    let (mut server, _) = listener.accept().expect("accepts");
    assert_eq!(ended_by(&server, || device.close()), ErrorKind::ConnectionAborted);
    assert!(server.write(b"x").is_err());
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    assert_eq!(client.read(&mut [0]).expect_err("the peer has gone").kind(), ErrorKind::ConnectionReset);
    // Nobody listens on the SAN any more; TCP is there still.
    let after = other.connect(listener.local_addr().expect("its address")).expect("connects");
    assert!(!after.is_san() && after.san_failure().is_some());
    drop((client, server, after, listener, doomed, other, device));
    bed.finish();
}

#[test]
fn the_end_of_a_process_ends_its_streams() {
    let bed = bed();
    let process = Arc::new(bed.machine.process());
    let device = Arc::new(HarnessDevice::open(&process).expect("opens"));
    let doomed = Switch::new(Some(san_proxy::Provider::new(device)), config());
    let other = switch(&bed, config());
    let listener = other.bind("127.0.0.1:0").expect("listens");
    let client = doomed.connect(listener.local_addr().expect("its address")).expect("connects");
    let (mut server, _) = listener.accept().expect("accepts");
    server.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    assert_eq!(ended_by(&client, || process.exit()), ErrorKind::ConnectionAborted);
    assert_eq!(server.read(&mut [0]).expect_err("the peer has gone").kind(), ErrorKind::ConnectionReset);
    drop((client, server, listener, doomed, other, process));
    bed.finish();
}

#[test]
fn a_drop_with_everything_outstanding_leaves_nothing() {
    let bed = bed();
    let linger = MOMENT;
    let switch = switch(&bed, san_proxy::SwitchConfig { linger, ..narrow(2, 256) });
    for _ in 0..10 {
        let (client, server) = san_streams(&switch);
        client.set_nonblocking(true).expect("non-blocking");
        // More than the peer has room for, which nobody reads.
        while (&client).write(&[1; 252]).is_ok() {}
        drop(client);
        drop(server);
    }
    let provider = switch.provider().expect("there is one").clone();
    eventually("all is closed", || provider.status().expect("status").endpoints == 0);
    assert_eq!(provider.statistics().expect("statistics").pinned_bytes, 0);
    drop((provider, switch));
    bed.finish();
}

#[test]
fn a_driver_that_is_unloaded_under_a_live_stream_goes_after_its_last_stream() {
    let bed = bed();
    let switch = switch(&bed, config());
    let (mut client, mut server) = san_streams(&switch);
    // As `sc stop`: the driver stays as long as somebody has its device open, and lets nobody else in.
    assert_eq!(bed.machine.unload(&bed.driver), Ok(Unload::Deferred));
    let late = HarnessDevice::open(&bed.process).map(|_| ()).expect_err("it is on its way out");
    let without = Switch::new(None, config());
    assert_eq!((late.status(), late.wsa_error()), (NtStatus::NO_SUCH_DEVICE, WsaError::WSAENETDOWN));
    let listener = without.bind("127.0.0.1:0").expect("TCP listens");
    let by_tcp = without.connect(listener.local_addr().expect("its address")).expect("TCP connects");
    assert!(!by_tcp.is_san());
    for number in 0..100_u8 {
        client.write_all(&[number]).expect("the stream lives");
        let mut byte = [0];
        server.read_exact(&mut byte).expect("at both ends");
        assert_eq!(byte, [number]);
    }
    drop((client, server, by_tcp, listener, switch));
    bed.finish_unload();
}

#[test]
fn ten_thousand_connects_and_closes_leave_everything_where_it_was() {
    const ROUNDS: usize = 10_000;
    let bed = bed();
    let switch = switch(&bed, narrow(2, 4096));
    let provider = switch.provider().expect("there is one").clone();
    let listener = switch.bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("its address");
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("its descriptors").count();
    let round = || {
        let mut client = switch.connect(address).expect("connects");
        let (server, _) = listener.accept().expect("accepts");
        assert!(client.is_san());
        client.write_all(b"round").expect("writes");
        drop(client);
        assert_eq!(read_all(server), b"round");
    };
    round();
    let settled = || {
        let statistics = provider.statistics().expect("statistics");
        let status = provider.status().expect("status");
        (status.endpoints, statistics.regions, statistics.pinned_bytes) == (1, 0, 0)
    };
    eventually("the listener alone is left", settled);
    let (before, kernel) = (descriptors(), bed.machine.stats());
    for _ in 0..ROUNDS {
        round();
    }
    eventually("the listener alone is left", settled);
    let after = bed.machine.stats();
    assert_eq!(after.driver_pool, kernel.driver_pool, "the driver's pool");
    // Other tests of this process open and close some of their own meanwhile: but not one for each round.
    assert!(descriptors() < before + ROUNDS, "descriptors are left behind");
    assert_eq!(provider.statistics().expect("statistics").connects, ROUNDS as u64 + 1);
    drop((listener, provider, switch));
    bed.finish();
}
