//! Cancelling, closing and dying at every point where something pends.

use crate::support::{Bed, MOMENT, PATIENCE, connected, eventually, full_listener, host_connect, listening, status};
use san_protocol::NtStatus;
use san_proxy::{AddressFamily, Disconnect, Pending, Provider, Receive, StreamConnection, Transfer};
use std::io::Read;
use std::net::TcpStream;

/// A send that the peer does not take: it fills both sockets' buffers and pends.
fn stuck_send(connection: &StreamConnection) -> Pending<Transfer> {
    let send = connection.start_send(vec![7; 64 << 20]);
    send.wait_for(MOMENT).expect_err("64 MiB fit in no socket buffer")
}

#[test]
fn a_pending_receive_is_cancelled_and_the_connection_goes_on() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    let receive = connection.start_receive(vec![0; 10], Receive::Some).wait_for(MOMENT).expect_err("it pends");
    receive.cancel();
    assert_eq!(status(receive.wait().result), NtStatus::CANCELLED);
    std::io::Write::write_all(&mut peer, b"still here").expect("sends");
    assert_eq!(connection.receive_all(vec![0; 10]).buffer, b"still here");
    drop(connection);
    bed.finish();
}

#[test]
fn a_pending_send_is_cancelled() {
    let bed = Bed::new();
    let (connection, _peer) = connected(&bed.open());
    let send = stuck_send(&connection);
    send.cancel();
    assert_eq!(status(send.wait().result), NtStatus::CANCELLED);
    drop(connection);
    bed.finish();
}

#[test]
fn a_pending_disconnect_is_cancelled_or_forced() {
    let bed = Bed::new();
    let (connection, _peer) = connected(&bed.open());
    let send = stuck_send(&connection);
    let disconnect = connection.start_disconnect(Disconnect::Graceful);
    let disconnect = disconnect.wait_for(MOMENT).expect_err("the send is still on its way");
    disconnect.cancel();
    assert_eq!(status(disconnect.wait()), NtStatus::CANCELLED);
    connection.abort().expect("an abortive disconnect always works");
    assert!(send.wait().result.is_err());
    drop(connection);
    bed.finish();
}

#[test]
fn a_pending_accept_is_cancelled_and_the_listener_goes_on() {
    let bed = Bed::new();
    let (listener, address) = listening(&bed.open(), 2);
    let accept = listener.start_accept().wait_for(MOMENT).expect_err("it pends");
    accept.cancel();
    assert_eq!(status(accept.wait()), NtStatus::CANCELLED);
    let client = host_connect(address);
    assert_eq!(listener.accept().expect("accepts").peer, client.local_addr().expect("its address"));
    drop(listener);
    bed.finish();
}

#[test]
fn accepts_cancelled_while_connections_arrive_lose_none() {
    let bed = Bed::new();
    let (listener, address) = listening(&bed.open(), 200);
    let mut accepted = 0;
    let clients: Vec<TcpStream> = (0..100)
        .map(|_| {
            let accept = listener.start_accept();
            let client = host_connect(address);
            accept.cancel();
            match accept.wait() {
                Ok(_) => accepted += 1,
                Err(error) => assert_eq!(error.status(), NtStatus::CANCELLED),
            }
            client
        })
        .collect();
    for _ in accepted..clients.len() {
        listener.accept().expect("every client is there");
    }
    listener.start_accept().wait_for(MOMENT).expect_err("and no more").cancel();
    drop(listener);
    bed.finish();
}

/// Everything that can pend on an endpoint, at once.
struct AllPending {
    receive: Pending<Transfer>,
    send: Pending<Transfer>,
    disconnect: Pending<Result<(), san_proxy::Error>>,
    _peer: TcpStream,
}

fn all_pending(connection: &StreamConnection, peer: TcpStream) -> AllPending {
    let receive = connection.start_receive(vec![0; 10], Receive::Some).wait_for(MOMENT).expect_err("it pends");
    let send = stuck_send(connection);
    let disconnect = connection.start_disconnect(Disconnect::Graceful).wait_for(MOMENT).expect_err("it pends");
    AllPending { receive, send, disconnect, _peer: peer }
}

impl AllPending {
    fn all_fail(self) {
        assert!(self.receive.wait().result.is_err());
        assert!(self.send.wait().result.is_err());
        assert!(self.disconnect.wait().is_err());
    }
}

#[test]
fn closing_an_endpoint_ends_all_that_pends_on_it() {
    let bed = Bed::new();
    let (connection, peer) = connected(&bed.open());
    let pending = all_pending(&connection, peer);
    let id = connection.id();
    let provider = connection.endpoint().provider().clone();
    connection.close().expect("closes");
    pending.all_fail();
    let stale = StreamConnection::from_endpoint(san_proxy::Endpoint::from_id(&provider, id));
    assert_eq!(status(stale.receive(&mut [0])), NtStatus::INVALID_HANDLE);
    assert_eq!(status(stale.close()), NtStatus::INVALID_HANDLE);
    drop(provider);
    bed.finish();
}

#[test]
fn closing_a_listener_ends_its_accepts_and_resets_those_who_wait() {
    let bed = Bed::new();
    let provider = bed.open();
    let (listener, _) = listening(&provider, 2);
    let accepts: Vec<_> = (0..5).map(|_| listener.start_accept()).collect();
    listener.close().expect("closes");
    for accept in accepts {
        assert_eq!(status(accept.wait()), NtStatus::CANCELLED);
    }
    let (listener, address) = listening(&provider, 2);
    let mut client = host_connect(address);
    std::thread::sleep(MOMENT);
    listener.close().expect("closes");
    assert!(client.read(&mut [0]).is_err(), "nobody has taken it");
    assert!(TcpStream::connect_timeout(&address, PATIENCE).is_err(), "the port is free");
    drop(provider);
    bed.finish();
}

#[test]
fn closing_an_endpoint_ends_its_connect() {
    let bed = Bed::new();
    let provider = bed.open();
    for options in [false, true] {
        let listener = full_listener();
        let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
        if options {
            // The way over WskSocket, WskBind and WskConnect.
            connection.set_option(san_protocol::SocketOption::NoDelay, true).expect("is kept");
        }
        let connect = connection.start_connect(listener.1, None).wait_for(MOMENT).expect_err("no answer");
        connection.close().expect("closes");
        assert_eq!(status(connect.wait()), NtStatus::CANCELLED);
    }
    drop(provider);
    bed.finish();
}

/// Requests of every kind that pends, all through one handle.
fn everything_pending(provider: &Provider) -> Vec<Box<dyn FnOnce()>> {
    let mut waits: Vec<Box<dyn FnOnce()>> = Vec::new();
    let (connection, peer) = connected(provider);
    let pending = all_pending(&connection, peer);
    let _ = connection.into_endpoint().into_id();
    waits.push(Box::new(move || pending.all_fail()));
    let (listener, address) = listening(provider, 4);
    let waiting = host_connect(address);
    let accepted = listener.accept().expect("accepts");
    let _ = accepted.connection.into_endpoint().into_id();
    let accept = listener.start_accept();
    let _ = listener.into_endpoint().into_id();
    waits.push(Box::new(move || {
        assert_eq!(status(accept.wait()), NtStatus::CANCELLED);
        drop(waiting);
    }));
    let full = full_listener();
    let connection = StreamConnection::create(provider, AddressFamily::INET).expect("an endpoint");
    let connect = connection.start_connect(full.1, None).wait_for(MOMENT).expect_err("no answer");
    let _ = connection.into_endpoint().into_id();
    waits.push(Box::new(move || {
        assert_eq!(status(connect.wait()), NtStatus::CANCELLED);
        drop(full);
    }));
    waits
}

#[test]
fn closing_the_handle_ends_everything_that_came_through_it() {
    let bed = Bed::new();
    let other = bed.open();
    let device = std::sync::Arc::new(test_harness::device::HarnessDevice::open(&bed.process).expect("opens"));
    let provider = Provider::new(device.clone());
    let waits = everything_pending(&provider);
    // While requests pend.
    device.close();
    for wait in waits {
        wait();
    }
    drop(provider);
    eventually("no endpoint is left", || other.status().expect("status").endpoints == 0);
    drop((device, other));
    bed.finish();
}

#[test]
fn a_dying_process_leaves_nothing_behind() {
    let bed = Bed::new();
    let process = bed.process_of(true, false);
    let device = test_harness::device::HarnessDevice::open(&process).expect("opens");
    let provider = Provider::new(std::sync::Arc::new(device));
    let waits = everything_pending(&provider);
    process.exit();
    for wait in waits {
        wait();
    }
    drop(provider);
    let other = bed.open();
    eventually("no endpoint is left", || other.status().expect("status").endpoints == 0);
    drop(other);
    bed.finish();
}

#[test]
fn many_rounds_of_cancel_against_completion() {
    let bed = Bed::new();
    let (connection, mut peer) = connected(&bed.open());
    let (mut received, mut sent) = (0_u64, 0_u64);
    for round in 0_u32..2000 {
        let receive = connection.start_receive(vec![0; 1], Receive::Some);
        if round % 3 != 0 {
            std::io::Write::write_all(&mut peer, b"x").expect("sends");
            sent += 1;
        }
        receive.cancel();
        match receive.wait().result {
            Ok(length) => received += length as u64,
            Err(error) => assert_eq!(error.status(), NtStatus::CANCELLED),
        }
    }
    // What was not received by a cancelled receive is there still: nothing is lost, nothing comes twice.
    std::net::TcpStream::shutdown(&peer, std::net::Shutdown::Write).expect("ends");
    loop {
        match connection.receive(&mut [0; 64]).expect("receives") {
            0 => break,
            length => received += length as u64,
        }
    }
    assert_eq!(received, sent);
    drop(connection);
    bed.finish();
}
