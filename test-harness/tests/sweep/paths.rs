//! The paths through the driver: everything that a program can ask for, with both ends on one machine. Each gives its first
//! failure, and leaves nothing behind whether it fails or not.

use crate::meeting::{accepted, arrival, both, end_of, now, settle, until};
use crate::world::World;
use san_protocol::NtStatus;
use san_proxy::{
    AddressFamily, Backlog, Disconnect, EndpointScope, Error, Memory, MemoryRights, NetworkEvents, Pending, Prefix,
    Provider, Receive, Route, SanEndpoint, SocketOption, StreamConnection, StreamListener, Transfer, WsaError,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A path.
pub(crate) type Path = fn(&World) -> Result<(), Error>;

/// More than a SAN message's MDL holds by itself: its pages are described by one that is allocated.
const LARGE: usize = 200_000;

const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

/// Opens the device, and asks what there is to ask without an endpoint.
pub(crate) fn asking(world: &World) -> Result<(), Error> {
    let provider = world.open()?;
    provider.version()?;
    provider.status()?;
    provider.statistics()?;
    provider.limits()?;
    let endpoint = SanEndpoint::create(&provider, AddressFamily::INET)?;
    let listed = provider.endpoints(EndpointScope::AllHandles)?;
    assert_eq!(listed.len(), 1);
    let (own, all) = (provider.handle()?, provider.handles()?);
    assert!(own.endpoints == 1 && all.contains(&own));
    endpoint.close()
}

/// Adds a route and removes it. It belongs to no handle, and so goes by a second try where the first fails.
pub(crate) fn routes(world: &World) -> Result<(), Error> {
    let provider = world.open()?;
    let san = Prefix::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 0)), 16).expect("a prefix");
    let native = Prefix::new(IpAddr::V4(Ipv4Addr::new(127, 77, 0, 0)), 16).expect("a prefix");
    let route = Route { san, native, native_port: None, san_only: true };
    // From a run whose handle was closed before it could.
    let _ = provider.remove_route(san);
    provider.add_route(&route)?;
    let listed = provider.routes();
    let removed = provider.remove_route(san);
    if removed.is_err() {
        // It fails with a handle that is closed.
        let _ = provider.remove_route(san);
    }
    assert_eq!(listed?.iter().map(|entry| entry.route).collect::<Vec<_>>(), [route]);
    removed
}

fn stream_listener(provider: &Provider, at: SocketAddr) -> Result<(StreamListener, SocketAddr), Error> {
    let listener = StreamListener::create(provider, AddressFamily::of(at))?;
    let address = listener.bind(at)?;
    listener.listen(Backlog(2))?;
    Ok((listener, address))
}

/// A connection, and its other end with the receive of a byte that pends on it.
fn streams(world: &World, at: SocketAddr) -> Result<(), Error> {
    let provider = world.open()?;
    let (listener, address) = stream_listener(&provider, at)?;
    assert_eq!(listener.local_address()?, Some(address));
    let near = StreamConnection::create(&provider, AddressFamily::of(at))?;
    near.set_option(SocketOption::NoDelay, true)?;
    near.connect(address, None)?;
    assert_eq!(near.peer_address()?, address);
    let (far, receive) = accepted(&listener, &near)?;
    far.send(b"!")?;
    let Transfer { result, buffer } = end_of(receive);
    assert_eq!((result?, &buffer[..]), (1, &b"!"[..]));
    let data = vec![7; LARGE];
    let receive = far.start_receive(vec![0; LARGE], Receive::All);
    end_of(near.start_send(data.clone())).result?;
    near.shutdown()?;
    let Transfer { result, buffer } = end_of(receive);
    assert!(result? == LARGE && buffer == data);
    assert_eq!(end_of(far.start_receive(vec![0], Receive::Some)).result?, 0, "the end");
    end_of(far.start_disconnect(Disconnect::Graceful))?;
    near.close()?;
    far.close()?;
    listener.close()
}

pub(crate) fn stream(world: &World) -> Result<(), Error> {
    streams(world, V4)
}

pub(crate) fn stream_of_ipv6(world: &World) -> Result<(), Error> {
    streams(world, V6)
}

/// A connect that is refused, one that times out, and an abort.
pub(crate) fn stream_failures(world: &World) -> Result<(), Error> {
    let provider = world.open()?;
    // The port of the discard service, which nobody offers.
    let nobody = SocketAddr::new(V4.ip(), 9);
    let refused = StreamConnection::create(&provider, AddressFamily::INET)?;
    expect(refused.connect(nobody, None), WsaError::WSAECONNREFUSED)?;
    let (listener, address) = stream_listener(&provider, V4)?;
    let near = StreamConnection::create(&provider, AddressFamily::INET)?;
    near.connect(address, None)?;
    let (far, receive) = accepted(&listener, &near)?;
    far.abort()?;
    expect(end_of(receive).result.map(drop), WsaError::WSAECONNRESET)
}

/// Success where it fails as it should.
fn expect(result: Result<(), Error>, expected: WsaError) -> Result<(), Error> {
    match result {
        Err(error) if error.wsa_error() == expected => Ok(()),
        Err(error) => Err(error),
        Ok(()) => panic!("it should fail with {expected:?}"),
    }
}

/// Requests that are cancelled where they pend.
pub(crate) fn stream_cancelled(world: &World) -> Result<(), Error> {
    let provider = world.open()?;
    let (listener, address) = stream_listener(&provider, V4)?;
    let near = StreamConnection::create(&provider, AddressFamily::INET)?;
    near.connect(address, None)?;
    let (_far, receive) = accepted(&listener, &near)?;
    receive.cancel();
    expect(end_of(receive).result.map(drop), WsaError::WSA_OPERATION_ABORTED)?;
    let accept = listener.start_accept();
    accept.cancel();
    expect(end_of(accept).map(drop), WsaError::WSA_OPERATION_ABORTED)
}

fn san_listener(provider: &Provider, at: SocketAddr) -> Result<(SanEndpoint, SocketAddr), Error> {
    let listener = SanEndpoint::create(provider, AddressFamily::of(at))?;
    let address = listener.bind(at)?;
    listener.listen(Backlog(1))?;
    Ok((listener, address))
}

fn connector(provider: &Provider, at: SocketAddr) -> Result<SanEndpoint, Error> {
    let connector = SanEndpoint::create(provider, AddressFamily::of(at))?;
    connector.bind(at)?;
    Ok(connector)
}

/// A connector and an acceptor, connected.
fn connected(provider: &Provider, at: SocketAddr) -> Result<(SanEndpoint, SanEndpoint), Error> {
    let (listener, address) = san_listener(provider, at)?;
    let connector = connector(provider, at)?;
    let (undecided, connect) = arrival(&listener, connector.start_connect(address, None))?;
    let acceptor = undecided.accept()?;
    end_of(connect)?;
    Ok((connector, acceptor))
}

/// A session: messages from a buffer and from registered memory, both ways, small and large, until both say goodbye.
fn sessions(world: &World, at: SocketAddr) -> Result<(), Error> {
    let provider = world.open()?;
    let (near, far) = connected(&provider, at)?;
    near.addresses()?;
    let here = near.register(Memory::new(2 * LARGE), MemoryRights::BOTH)?;
    let there = far.register(Memory::new(2 * LARGE), MemoryRights::BOTH)?;
    here.query()?;
    let (first, second) = (far.start_receive(&there, 0..LARGE), far.start_receive(&there, LARGE..2 * LARGE));
    let size = u32::try_from(LARGE).expect("it fits");
    let negotiate = near.start_negotiate(b"near", size);
    let (peer, _) = both(far.start_negotiate(b"far", size), negotiate)?;
    assert_eq!(peer.private, b"near");
    let data: Vec<u8> = (0..LARGE).map(|at| at.to_le_bytes()[0]).collect();
    here.write(0, &data)?;
    let small = near.start_send(b"small".to_vec());
    let large = near.start_send_registered(&here, 0..LARGE);
    // Without a receive, a send waits; without a send, a receive.
    settle(&[&small, &large, &first, &second]);
    if small.has_ended() {
        small.wait().result?;
    }
    now(large)?;
    let lengths = (now(first)?, now(second)?);
    assert_eq!(lengths, (Some(5), Some(LARGE)));
    assert_eq!(there.read(0..5)?, b"small");
    assert!(there.read(LARGE..2 * LARGE)? == data);
    // Posted after the negotiation: the peer is told.
    let receive = near.start_receive(&here, 0..LARGE);
    let (length, _) = both(receive, far.start_send_registered(&there, LARGE..2 * LARGE))?;
    assert_eq!(length, LARGE);
    near.statistics()?;
    here.deregister()?;
    end_of(near.start_disconnect(Disconnect::Graceful))?;
    expect(end_of(far.start_send(b"late".to_vec())).result.map(drop), WsaError::WSAEDISCON)?;
    near.close()?;
    far.close()
}

pub(crate) fn session(world: &World) -> Result<(), Error> {
    sessions(world, V4)
}

pub(crate) fn session_of_ipv6(world: &World) -> Result<(), Error> {
    sessions(world, V6)
}

/// Connects that fail: nobody listens, the application says no, the backlog is full.
pub(crate) fn san_refusals(world: &World) -> Result<(), Error> {
    let provider = world.open()?;
    let (listener, address) = san_listener(&provider, V4)?;
    let nobody = SocketAddr::new(address.ip(), address.port() ^ 1);
    // By a route that TCP/IP may serve too it is no proof that nobody listens.
    expect(end_of(connector(&provider, V4)?.start_connect(nobody, None)), WsaError::WSAETIMEDOUT)?;
    let rejected = connector(&provider, V4)?;
    let (undecided, connect) = arrival(&listener, rejected.start_connect(address, None))?;
    undecided.reject()?;
    expect(end_of(connect), WsaError::WSAECONNREFUSED)?;
    // The backlog of one is full with the first; whichever of the two that is.
    let (first, second) = (connector(&provider, V4)?, connector(&provider, V4)?);
    let connects = [first.start_connect(address, None), second.start_connect(address, None)];
    until("neither connect", || connects.iter().any(Pending::has_ended).then_some(()));
    for connect in connects {
        if connect.has_ended() {
            expect(connect.wait(), WsaError::WSAECONNREFUSED)?;
        }
    }
    Ok(())
}

/// What network events tell of a connection.
pub(crate) fn san_events(world: &World) -> Result<(), Error> {
    let provider = world.open()?;
    let (listener, address) = san_listener(&provider, V4)?;
    let (arrived, decided) = (provider.create_event()?, provider.create_event()?);
    listener.event_select(Some(&*arrived), NetworkEvents::ACCEPT)?;
    let near = connector(&provider, V4)?;
    near.event_select(Some(&*decided), NetworkEvents::CONNECT)?;
    expect(near.connect(address, None), WsaError::WSAEWOULDBLOCK)?;
    until("neither side", || (arrived.is_set() || decided.is_set() || world.has_ended()).then_some(()));
    let mut acceptor = None;
    if arrived.is_set() {
        listener.enum_network_events()?.accept.transpose()?;
        acceptor = Some(listener.accept()?.accept()?);
    }
    until("the connect", || (decided.is_set() || world.has_ended()).then_some(()));
    near.enum_network_events()?.connect.transpose()?;
    drop(acceptor);
    listener.event_select(None, NetworkEvents::NONE)?;
    near.event_select(None, NetworkEvents::NONE)
}

/// Requests that are cancelled where they pend, and a connection that is aborted under them.
pub(crate) fn san_cancelled(world: &World) -> Result<(), Error> {
    let provider = world.open()?;
    let (listener, address) = san_listener(&provider, V4)?;
    let accept = listener.start_accept();
    accept.cancel();
    expect(end_of(accept).map(drop), WsaError::WSA_OPERATION_ABORTED)?;
    let waiting = connector(&provider, V4)?;
    let connect = waiting.start_connect(address, None);
    connect.cancel();
    expect(end_of(connect), WsaError::WSA_OPERATION_ABORTED)?;
    let (near, far) = connected(&provider, V4)?;
    let negotiate = near.start_negotiate(b"", 0);
    negotiate.cancel();
    expect(end_of(negotiate).map(drop), WsaError::WSA_OPERATION_ABORTED)?;
    let region = far.register(Memory::new(64), MemoryRights::BOTH)?;
    let receive = far.start_receive(&region, 0..64);
    receive.cancel();
    expect(end_of(receive).map(drop), WsaError::WSA_OPERATION_ABORTED)?;
    let receive = far.start_receive(&region, 0..64);
    near.abort()?;
    expect(end_of(receive).map(drop), WsaError::WSAECONNRESET)?;
    region.cancel();
    until("the registration", || (!region.is_registered()).then_some(()));
    Ok(())
}

/// A peer that does not answer a connect in time, and one that says nothing itself.
pub(crate) fn san_silence(world: &World) -> Result<(), Error> {
    let provider = world.open()?;
    let (_listener, address) = san_listener(&provider, V4)?;
    let connector = connector(&provider, V4)?;
    let connect = connector.start_connect(address, Some(Duration::from_millis(30)));
    match end_of(connect) {
        Err(error) if error.status() == NtStatus::IO_TIMEOUT => Ok(()),
        other => other,
    }
}
