//! Streams over the SAN behave as std's do.

use crate::bed::{bed, config, narrow, read_all, san_streams, switch};
use crate::support::{MOMENT, PATIENCE, pattern};
use san_proxy::{ReceiveWindow, SwitchConfig};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Instant;

/// What std's sockets say on this platform when a time-out passes.
const TIMED_OUT: ErrorKind = ErrorKind::WouldBlock;

#[test]
fn time_outs_pass_and_what_comes_in_time_is_read() {
    let bed = bed();
    let switch = switch(&bed, narrow(2, 1024));
    let (mut client, mut server) = san_streams(&switch);
    server.set_read_timeout(Some(MOMENT)).expect("a time-out");
    let begun = Instant::now();
    assert_eq!(server.read(&mut [0]).expect_err("nothing comes").kind(), TIMED_OUT);
    assert!(begun.elapsed() >= MOMENT);
    client.write_all(b"in time").expect("writes");
    server.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut heard = [0; 7];
    server.read_exact(&mut heard).expect("reads");
    assert_eq!(&heard, b"in time");

    client.set_write_timeout(Some(MOMENT)).expect("a time-out");
    let mut written = 0;
    let full = loop {
        match client.write(&[1; 4096]) {
            Ok(length) => written += length,
            Err(error) => break error.kind(),
        }
    };
    // Two messages that the peer has room for, and two that wait here; each has 4 bytes of its own.
    assert_eq!((full, written), (TIMED_OUT, 4 * 1020));
    let mut read = vec![0; written];
    server.read_exact(&mut read).expect("reads");
    client.write_all(&[1; 1020]).expect("there is room again");
    drop((client, server, switch));
    bed.finish();
}

#[test]
fn nonblocking_streams_do_not_wait() {
    let bed = bed();
    let switch = switch(&bed, narrow(2, 1024));
    let (mut client, mut server) = san_streams(&switch);
    server.set_nonblocking(true).expect("non-blocking");
    assert_eq!(server.read(&mut [0]).expect_err("nothing yet").kind(), ErrorKind::WouldBlock);
    client.set_nonblocking(true).expect("non-blocking");
    let data = pattern(3, 100_000);
    let (mut sent, mut read) = (0, Vec::<u8>::new());
    crate::support::eventually("all of it arrives", || {
        match client.write(&data[sent..]) {
            Ok(length) => sent += length,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let mut buffer = [0; 333];
        match server.read(&mut buffer) {
            Ok(length) => read.extend(&buffer[..length]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        read.len() == data.len()
    });
    assert!(read == data);
    drop((client, server, switch));
    bed.finish();
}

#[test]
fn each_side_is_shut_down_by_itself() {
    let bed = bed();
    let switch = switch(&bed, config());
    let (mut client, mut server) = san_streams(&switch);
    client.write_all(b"question").expect("writes");
    client.shutdown(Shutdown::Write).expect("shuts down");
    assert_eq!(client.write(b"more").expect_err("it is shut").kind(), ErrorKind::BrokenPipe);
    let mut heard = String::new();
    server.read_to_string(&mut heard).expect("reads");
    assert_eq!(heard, "question");
    assert_eq!(server.read(&mut [0]).expect("at the end"), 0);
    // The other way is open still.
    server.write_all(b"answer").expect("writes");
    let mut answer = [0; 6];
    client.read_exact(&mut answer).expect("reads");
    assert_eq!(&answer, b"answer");
    server.shutdown(Shutdown::Both).expect("shuts down");
    assert_eq!(client.read(&mut [0]).expect("at the end"), 0);

    drop((client, server));
    let (client, server) = san_streams(&switch);
    thread::scope(|scope| {
        let reader = scope.spawn(|| (&client).read(&mut [0]).expect("wakes"));
        thread::sleep(MOMENT);
        client.shutdown(Shutdown::Read).expect("shuts down");
        assert_eq!(reader.join().expect("does not panic"), 0);
    });
    drop((client, server, switch));
    bed.finish();
}

#[test]
fn what_was_written_before_a_drop_arrives() {
    let bed = bed();
    let switch = switch(&bed, narrow(4, 4096));
    for length in [0, 1, 4092, 4093, 30_000] {
        let (mut client, server) = san_streams(&switch);
        let data = pattern(5, length);
        client.write_all(&data).expect("writes");
        drop(client);
        // A slow reader, who begins when the writer has gone.
        thread::sleep(MOMENT);
        assert!(read_all(server) == data, "{length}");
    }
    drop(switch);
    bed.finish();
}

#[test]
fn a_write_past_all_credits_waits_for_a_slow_reader() {
    let bed = bed();
    let switch = switch(&bed, narrow(2, 512));
    let (mut client, mut server) = san_streams(&switch);
    let data = pattern(9, 64 * 1024);
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&data).expect("writes");
            drop(client);
        });
        let mut read = Vec::<u8>::new();
        let mut buffer = [0; 1000];
        loop {
            match server.read(&mut buffer).expect("reads") {
                0 => break,
                length => read.extend(&buffer[..length]),
            }
            if read.len().is_multiple_of(7) {
                thread::sleep(MOMENT / 10);
            }
        }
        assert!(read == data);
    });
    drop((server, switch));
    bed.finish();
}

#[test]
fn ends_with_other_sizes_understand_each_other() {
    let bed = bed();
    let listening = switch(&bed, narrow(3, 200));
    let receives = ReceiveWindow { count: 5, size: 9000 };
    let connecting = switch(&bed, SwitchConfig { receives, send_count: 7, ..config() });
    let listener = listening.bind("127.0.0.1:0").expect("listens");
    let mut client = connecting.connect(listener.local_addr().expect("its address")).expect("connects");
    let (mut server, _) = listener.accept().expect("accepts");
    let data = pattern(11, 50_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&data).expect("writes");
            client.shutdown(Shutdown::Write).expect("shuts down");
            assert!(read_all(client) == data);
        });
        let mut read = Vec::<u8>::new();
        server.read_to_end(&mut read).expect("reads");
        server.write_all(&read).expect("writes");
        drop(server);
    });
    drop((listener, listening, connecting));
    bed.finish();
}

#[test]
fn clones_read_and_write_the_same_stream() {
    let bed = bed();
    let switch = switch(&bed, config());
    let (client, mut server) = san_streams(&switch);
    let mut writer = client.try_clone().expect("a clone");
    drop(client);
    let mut peeked = [0; 3];
    writer.write_all(b"clone").expect("writes");
    assert_eq!((server.peek(&mut peeked).expect("peeks"), &peeked), (3, b"clo"));
    drop(writer);
    let mut read = String::new();
    server.read_to_string(&mut read).expect("reads");
    assert_eq!(read, "clone");
    drop((server, switch));
    bed.finish();
}
