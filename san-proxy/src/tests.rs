//! Endpoints over a device in memory.

use crate::fake::{FakeDevice, SILENT_PORT};
use crate::{
    AddressFamily, Backlog, Completed, DeviceRequest, Disconnect, Error, NtStatus, Pending, Provider, Receive,
    StreamConnection, StreamListener, WsaError,
};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn listener(provider: &Provider, port: u16) -> StreamListener {
    let listener = StreamListener::create(provider, AddressFamily::INET).unwrap();
    assert_eq!(listener.bind(address(port)), Ok(address(port)));
    listener.listen(Backlog::MAXIMUM).unwrap();
    listener
}

fn connection(provider: &Provider) -> StreamConnection {
    StreamConnection::create(provider, AddressFamily::INET).unwrap()
}

/// Both ends of a connection.
fn pair(provider: &Provider) -> (StreamConnection, StreamConnection) {
    let listener = listener(provider, 80);
    let client = connection(provider);
    client.connect(address(80), None).unwrap();
    (client, listener.accept().unwrap().connection)
}

fn status<T>(result: Result<T, Error>) -> NtStatus {
    result.err().map_or(NtStatus::SUCCESS, |error| error.status())
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    let (provider, _) = FakeDevice::provider();
    let (mut client, mut server) = pair(&provider);
    client.write_all(b"question").unwrap();
    client.shutdown().unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    assert_eq!(text, "question");
    server.write_all(b"answer").unwrap();
    drop(server);
    text.clear();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");
    assert_eq!(status(client.send(b"more")), NtStatus::PIPE_DISCONNECTED);
}

/// Polls a future where it stands, and sleeps until it is woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park_timeout(Duration::from_secs(20)),
        }
    }
}

#[test]
fn a_request_can_be_awaited() {
    let (provider, _) = FakeDevice::provider();
    let (client, server) = pair(&provider);
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        server.send(b"late").unwrap();
        server
    });
    let received = block_on(client.start_receive(vec![0; 4], Receive::All));
    assert_eq!((received.result, &received.buffer[..]), (Ok(4), &b"late"[..]));
    let server = late.join().unwrap();
    // One that has ended already, and one that is cancelled by its drop.
    let sent = block_on(client.start_send(b"now".to_vec()));
    assert_eq!(sent.result, Ok(3));
    assert_eq!(block_on(server.start_receive(vec![0; 3], Receive::All)).buffer, b"now");
    let mut pending = pin!(server.start_receive(vec![0; 1], Receive::All));
    assert!(pending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn an_accept_says_who_comes() {
    let (provider, _) = FakeDevice::provider();
    let listener = listener(&provider, 80);
    let pending = listener.start_accept();
    assert!(!pending.has_ended());
    let client = connection(&provider);
    client.connect(address(80), None).unwrap();
    let accepted = pending.wait().unwrap();
    assert_eq!(accepted.peer, client.local_address().unwrap());
    assert_eq!(accepted.local, address(80));
    assert_eq!(accepted.connection.peer_address(), client.local_address());
    assert_eq!(client.peer_address(), Ok(address(80)));
    assert_eq!(listener.endpoint().addresses().unwrap().peer, None);
}

#[test]
fn a_buffer_comes_back_with_success_and_with_failure() {
    let (provider, _) = FakeDevice::provider();
    let (client, server) = pair(&provider);
    let buffer = b"data".to_vec();
    let at = buffer.as_ptr();
    let sent = client.send_buffer(buffer);
    assert_eq!((sent.result, sent.buffer.as_ptr()), (Ok(4), at));
    let received = server.receive_all(vec![0; 4]);
    assert_eq!((received.result, &received.buffer[..]), (Ok(4), &b"data"[..]));

    let idle = connection(&provider);
    let refused = idle.send_buffer(sent.buffer);
    assert_eq!((status(refused.result), refused.buffer.as_ptr()), (NtStatus::INVALID_CONNECTION, at));
}

#[test]
fn a_receive_of_all_waits_for_all() {
    let (provider, _) = FakeDevice::provider();
    let (client, server) = pair(&provider);
    let pending = server.start_receive(vec![0; 8], Receive::All);
    client.send(b"half").unwrap();
    let pending = pending.wait_for(Duration::from_millis(10)).expect_err("half of it is there");
    client.send(b"half").unwrap();
    assert_eq!(pending.wait().result, Ok(8));
}

#[test]
fn what_pends_can_be_cancelled_and_has_to_be_waited_for() {
    let (provider, device) = FakeDevice::provider();
    let (client, _server) = pair(&provider);
    let pending = client.start_receive(vec![7; 16], Receive::Some);
    assert_eq!(device.pending(), 1);
    pending.cancel();
    let transfer = pending.wait();
    assert_eq!(status(transfer.result), NtStatus::CANCELLED);
    assert_eq!(transfer.buffer, [7; 16]);
}

#[test]
fn a_time_limit_cancels_and_says_so() {
    let (provider, device) = FakeDevice::provider();
    let connection = connection(&provider);
    let pending = connection.start_connect(address(SILENT_PORT), None);
    let error = pending.wait_or_cancel(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.status(), NtStatus::IO_TIMEOUT);
    assert_eq!(error.wsa_error(), WsaError::WSAETIMEDOUT);
    assert_eq!(device.pending(), 0);
}

#[test]
fn dropping_what_pends_ends_it_and_what_it_brought() {
    let (provider, device) = FakeDevice::provider();
    let listener = listener(&provider, 80);
    drop(listener.start_accept());
    assert_eq!(device.pending(), 0);
    let pending = listener.start_accept();
    let client = connection(&provider);
    client.connect(address(80), None).unwrap();
    assert_eq!(device.endpoints(), 3);
    drop(pending);
    assert_eq!(device.endpoints(), 2, "the accepted connection is closed");
}

#[test]
fn closing_cancels_what_pends() {
    let (provider, device) = FakeDevice::provider();
    let listener = listener(&provider, 80);
    let accept = listener.start_accept();
    listener.close().unwrap();
    assert_eq!(status(accept.wait()), NtStatus::CANCELLED);
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn an_endpoint_is_closed_once_or_given_up() {
    let (provider, device) = FakeDevice::provider();
    let first = connection(&provider);
    assert_eq!(first.into_endpoint().start_close().wait(), Ok(()));
    assert_eq!(device.endpoints(), 0);
    let id = connection(&provider).into_endpoint().into_id();
    assert_eq!(device.endpoints(), 1);
    drop(crate::Endpoint::from_id(&provider, id));
    assert_eq!(device.endpoints(), 0);
    let stale = crate::Endpoint::from_id(&provider, id);
    assert_eq!(status(stale.close()), NtStatus::INVALID_HANDLE);
}

#[test]
fn an_abort_reaches_the_peer() {
    let (provider, _) = FakeDevice::provider();
    let (client, server) = pair(&provider);
    let pending = server.start_receive(vec![0; 1], Receive::Some);
    client.start_disconnect(Disconnect::Abortive).wait().unwrap();
    assert_eq!(status(pending.wait().result), NtStatus::CONNECTION_RESET);
}

#[test]
fn errors_name_the_address() {
    let (provider, _) = FakeDevice::provider();
    let error = connection(&provider).connect(address(9), None).unwrap_err();
    assert!(error.to_string().starts_with("cannot connect to 127.0.0.1:9: WSAECONNREFUSED (10061)"), "{error}");
    let _first = listener(&provider, 80);
    let second = StreamListener::create(&provider, AddressFamily::INET).unwrap();
    let error = second.bind(address(80)).unwrap_err();
    assert!(error.to_string().starts_with("cannot bind to 127.0.0.1:80: WSAEADDRINUSE (10048)"), "{error}");
}

#[test]
fn an_unknown_family_is_refused() {
    let (provider, _) = FakeDevice::provider();
    let error = StreamConnection::create(&provider, AddressFamily(1)).unwrap_err();
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::NOT_SUPPORTED, WsaError::WSAEAFNOSUPPORT));
}

#[test]
fn a_device_takes_requests_that_no_type_makes() {
    let (provider, _) = FakeDevice::provider();
    let request = DeviceRequest { code: 0x1234, input: vec![1], buffer: vec![2] };
    let Completed { status, input, buffer, .. } =
        Pending::start(provider.device(), request, |completed| completed).wait();
    assert_eq!((status, input, buffer), (NtStatus::INVALID_DEVICE_REQUEST, vec![1], vec![2]));
}

#[test]
fn the_driver_says_how_it_stands() {
    let (provider, _) = FakeDevice::provider();
    let _endpoint = connection(&provider);
    assert_eq!(provider.version().unwrap().driver, [1, 2, 3]);
    let status = provider.status().unwrap();
    assert_eq!(status.endpoints, 1);
    assert_eq!(status.wsk_version.unwrap().to_string(), "1.0");
}
