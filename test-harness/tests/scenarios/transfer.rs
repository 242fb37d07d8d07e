//! Moving bytes, and ending connections.

use crate::support::{Bed, MOMENT, connected, echo, listening, pattern, reset_on_close, status};
use san_protocol::{NtStatus, WsaError};
use san_proxy::Receive;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::thread;

/// Operations of a stream that are under way at once.
const IN_FLIGHT: usize = 8;
/// Bytes of each.
const BLOCK: usize = 256 * 1024;
const GIBIBYTE: usize = 1 << 30;

/// A running check of a stream, 64 bits at a time: it depends on every byte and its place.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Digest {
    sum: u64,
    bytes: u64,
}

impl Digest {
    fn update(&mut self, data: &[u8]) {
        for &byte in data {
            self.sum = (self.sum.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517C_C1B7_2722_0A95);
        }
        self.bytes += data.len() as u64;
    }
}

#[test]
fn a_gibibyte_goes_out_whole() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    let receiver = thread::spawn(move || {
        let (mut digest, mut buffer) = (Digest::default(), vec![0; BLOCK]);
        loop {
            match peer.read(&mut buffer).expect("receives") {
                0 => return digest,
                length => digest.update(&buffer[..length]),
            }
        }
    });
    let (mut digest, mut pending) = (Digest::default(), VecDeque::new());
    let mut buffers: Vec<_> = (0..IN_FLIGHT as u64).map(|seed| pattern(seed, BLOCK)).collect();
    for block in 0..GIBIBYTE / BLOCK {
        let mut buffer = buffers.pop().unwrap_or_else(|| {
            let sent: san_proxy::Transfer = pending.pop_front().map(san_proxy::Pending::wait).expect("one is out");
            assert_eq!(sent.result.expect("sends"), BLOCK);
            sent.buffer
        });
        buffer[..8].copy_from_slice(&block.to_le_bytes());
        digest.update(&buffer);
        pending.push_back(connection.start_send(buffer));
    }
    for sent in pending {
        assert_eq!(sent.wait().result.expect("sends"), BLOCK);
    }
    connection.shutdown().expect("ends its side");
    assert_eq!(receiver.join().expect("the peer is content"), digest);
    assert_eq!(digest.bytes, GIBIBYTE as u64);
    drop(connection);
    bed.finish();
}

#[test]
fn a_gibibyte_comes_in_whole() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    let sender = thread::spawn(move || {
        let (mut digest, mut buffer) = (Digest::default(), pattern(7, BLOCK));
        for block in 0..GIBIBYTE / BLOCK {
            buffer[..8].copy_from_slice(&block.to_le_bytes());
            digest.update(&buffer);
            peer.write_all(&buffer).expect("sends");
        }
        digest
    });
    let mut digest = Digest::default();
    let mut pending: VecDeque<_> =
        (0..IN_FLIGHT).map(|_| connection.start_receive(vec![0; BLOCK], Receive::Some)).collect();
    while let Some(received) = pending.pop_front() {
        let transfer = received.wait();
        match transfer.result.expect("receives") {
            0 => break,
            length => digest.update(&transfer.buffer[..length]),
        }
        pending.push_back(connection.start_receive(transfer.buffer, Receive::Some));
    }
    for late in pending {
        assert_eq!(late.wait().result.expect("the end stays the end"), 0);
    }
    assert_eq!(sender.join().expect("the peer is content"), digest);
    drop(connection);
    bed.finish();
}

#[test]
fn a_half_closed_connection_still_receives() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    connection.send(b"question").expect("sends");
    connection.shutdown().expect("ends its side");
    let error = connection.send(b"more").expect_err("this side has ended");
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::PIPE_DISCONNECTED, WsaError::WSAESHUTDOWN));
    assert_eq!(status(connection.shutdown()), NtStatus::PIPE_DISCONNECTED);
    let mut question = Vec::new();
    peer.read_to_end(&mut question).expect("ends");
    assert_eq!(question, b"question");
    peer.write_all(b"answer").expect("sends");
    let received = connection.receive_all(vec![0; 6]);
    assert_eq!(received.result.expect("receives"), 6);
    assert_eq!(received.buffer, b"answer");
    peer.shutdown(Shutdown::Write).expect("ends its side");
    assert_eq!(connection.receive(&mut [0]).expect("the end"), 0);
    drop(connection);
    bed.finish();
}

#[test]
fn an_abortive_disconnect_resets_the_peer() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    let receive = connection.start_receive(vec![0; 16], Receive::Some).wait_for(MOMENT).expect_err("it pends");
    connection.abort().expect("resets");
    let ended = status(receive.wait().result);
    assert!(
        [NtStatus::CANCELLED, NtStatus::CONNECTION_ABORTED, NtStatus::LOCAL_DISCONNECT].contains(&ended),
        "{ended}"
    );
    assert_eq!(peer.read(&mut [0]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
    assert_eq!(status(connection.send(b"x")), NtStatus::CONNECTION_ABORTED);
    assert_eq!(status(connection.receive(&mut [0])), NtStatus::CONNECTION_ABORTED);
    drop(connection);
    bed.finish();
}

#[test]
fn a_reset_by_the_peer_is_told_as_such() {
    let bed = Bed::new();
    let (connection, peer) = connected(&bed.open());
    let receive = connection.start_receive(vec![0; 16], Receive::Some).wait_for(MOMENT).expect_err("it pends");
    reset_on_close(&peer);
    drop(peer);
    let error = receive.wait().result.expect_err("reset");
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::CONNECTION_RESET, WsaError::WSAECONNRESET));
    assert!(connection.send(b"x").is_err(), "nobody is there");
    drop(connection);
    bed.finish();
}

#[test]
fn a_connection_closed_without_disconnect_is_reset() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    connection.close().expect("closes");
    assert_eq!(peer.read(&mut [0]).expect_err("WskCloseSocket aborts").kind(), ErrorKind::ConnectionReset);
    bed.finish();
}

#[test]
fn receives_complete_in_the_order_they_were_posted() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    let posted: Vec<_> = (0..64).map(|_| connection.start_receive(vec![0; 32], Receive::All)).collect();
    let data = pattern(3, 64 * 32);
    for piece in data.chunks(7) {
        peer.write_all(piece).expect("sends");
    }
    for (receive, expected) in posted.into_iter().zip(data.chunks(32)) {
        assert_eq!(receive.wait().buffer, expected);
    }
    drop(connection);
    bed.finish();
}

#[test]
fn a_receive_of_all_ends_with_what_came_before_the_end() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    let receive = connection.start_receive(vec![0; 100], Receive::All);
    peer.write_all(b"short").expect("sends");
    let receive = receive.wait_for(MOMENT).expect_err("it is not full");
    peer.shutdown(Shutdown::Write).expect("ends its side");
    let transfer = receive.wait();
    assert_eq!(transfer.result.expect("ends"), 5);
    assert_eq!(&transfer.buffer[..5], b"short");
    drop(connection);
    bed.finish();
}

#[test]
fn sends_of_many_threads_are_whole() {
    let bed = Bed::new();
    let (connection, peer) = connected(&bed.open());
    let echo = thread::spawn(move || echo(peer));
    thread::scope(|scope| {
        for letter in b'a'..=b'h' {
            let connection = &connection;
            scope.spawn(move || {
                for _ in 0..50 {
                    connection.send(&[letter; 100]).expect("sends");
                }
            });
        }
        let mut received = vec![0; 8 * 50 * 100];
        let transfer = connection.receive_all(std::mem::take(&mut received));
        assert_eq!(transfer.result.expect("receives"), 8 * 50 * 100);
        for piece in transfer.buffer.chunks(100) {
            assert!(piece.iter().all(|byte| *byte == piece[0]), "a send is not mixed with another");
        }
    });
    connection.shutdown().expect("ends its side");
    echo.join().expect("the peer is content");
    drop(connection);
    bed.finish();
}

#[test]
fn an_empty_send_is_done_and_an_empty_receive_is_refused() {
    let bed = Bed::new();
    let (connection, _peer) = connected(&bed.open());
    assert_eq!(connection.send(b"").expect("nothing to do"), 0);
    assert_eq!(status(connection.receive_buffer(Vec::new()).result), NtStatus::BUFFER_TOO_SMALL);
    drop(connection);
    bed.finish();
}

#[test]
fn curl_fetches_a_file_from_a_driver_listener() {
    let bed = Bed::new();
    let (listener, address) = listening(&bed.open(), 4);
    let file = pattern(11, 3_000_000);
    let url = format!("http://{address}/file");
    let curl = thread::spawn(move || {
        Command::new("curl").args(["--silent", "--fail", "--max-time", "20", "--noproxy", "*", &url]).output()
    });
    let accepted = listener.accept().expect("curl comes");
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        let length = accepted.connection.receive(&mut buffer).expect("the request");
        assert_ne!(length, 0, "the request is whole");
        request.extend(&buffer[..length]);
    }
    assert!(request.starts_with(b"GET /file HTTP/1.1\r\n"));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.len());
    accepted.connection.send(head.as_bytes()).expect("sends");
    for piece in file.chunks(65536) {
        accepted.connection.send(piece).expect("sends");
    }
    accepted.connection.shutdown().expect("ends its side");
    let output = curl.join().expect("it ran").expect("curl is installed (apt-get install curl)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == file, "the file is whole");
    drop((accepted, listener));
    bed.finish();
}

/// A program that goes with its scenario, also with one that fails.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_driver_connection_fetches_a_file_from_pythons_http_server() {
    let bed = Bed::new();
    let folder = std::env::temp_dir().join(format!("sanwsk-scenario-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = pattern(12, 3_000_000);
    std::fs::write(folder.join("file.bin"), &file).expect("writes");
    let address = crate::support::closed_port();
    let server = Command::new("python3")
        .args(["-m", "http.server", "--bind", "127.0.0.1", &address.port().to_string()])
        .current_dir(&folder)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("python3 is installed (apt-get install python3)");
    let server = Server(server);
    let provider = bed.open();
    let mut connection = None;
    crate::support::eventually("the server answers", || {
        let attempt =
            san_proxy::StreamConnection::create(&provider, san_proxy::AddressFamily::INET).expect("an endpoint");
        let connected = attempt.connect(address, Some(crate::support::PATIENCE)).is_ok();
        if connected {
            connection = Some(attempt);
        }
        connected
    });
    let connection = connection.expect("connected above");
    connection.send(b"GET /file.bin HTTP/1.0\r\n\r\n").expect("sends");
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 65536]);
    loop {
        match connection.receive(&mut buffer).expect("receives") {
            0 => break,
            length => answer.extend(&buffer[..length]),
        }
    }
    drop(server);
    std::fs::remove_dir_all(&folder).expect("removes");
    assert!(answer.starts_with(b"HTTP/1.0 200"));
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    assert!(answer[body..] == file, "the file is whole");
    drop((connection, provider));
    bed.finish();
}
