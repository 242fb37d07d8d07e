//! Every error code that a SAN provider returns, by each of its causes: from the driver, and those few of user mode's own from the
//! library above it.

use super::support::{Receiver, any, bed, bound, builder, connected, free_port, listening, outcome, session};
use super::wire_peer::{FOREIGN, Neighbours, Role};
use crate::broken_network::Broken;
use crate::support::{Bed, PATIENCE, eventually};
use san_protocol::wire::{ControlMessage, MessageType, RejectReason};
use san_protocol::{
    ControlCode, Header, MEMORY_RECEIVE, NtStatus, ProviderState, RegisterMemoryRequest, WsaError, wsa_error,
};
use san_proxy::{
    AddressFamily, Backlog, Endpoint, Error, Memory, MemoryRights, NetworkEvents, Pending, Protocol, Provider,
    SanEndpoint, SocketType, StreamConnection,
};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use test_harness::Machine;
use test_harness::device::HarnessDevice;
use test_harness::network::NetworkError;
use test_harness::nt::registry::Value;
use zerocopy::IntoBytes;

/// The codes that have to come out right.
const REQUIRED: [i32; 24] = [
    995, 996, 997, 10014, 10022, 10024, 10035, 10038, 10041, 10043, 10045, 10047, 10048, 10049, 10050, 10051, 10053,
    10054, 10055, 10056, 10057, 10060, 10061, 10065,
];

/// A code, a cause as `docs/san.md` says it, and what brings it about and gives back the code that came of it.
type Cause = (WsaError, &'static str, fn() -> WsaError);

const CAUSES: [Cause; 38] = [
    (WsaError::WSA_OPERATION_ABORTED, "a request that pends is cancelled", a_cancelled_request),
    (WsaError::WSA_OPERATION_ABORTED, "the endpoint of a request that pends is closed", a_closed_endpoint),
    (WsaError::WSA_IO_INCOMPLETE, "a result is asked for before there is one", an_early_question),
    (WsaError::WSA_IO_PENDING, "a request has been started and goes on", a_started_request),
    (WsaError::WSAEFAULT, "a slice reaches out of its region", a_slice_outside),
    (WsaError::WSAEFAULT, "a region is used in a way that it was not registered for", a_use_without_a_right),
    (WsaError::WSAEFAULT, "memory to be registered is not the caller's, or cannot be written", inaccessible_memory),
    (WsaError::WSAEINVAL, "an endpoint that is not bound is to listen", listening_unbound),
    (WsaError::WSAEINVAL, "an event other than FD_CONNECT and FD_ACCEPT is selected", an_unknown_event),
    (WsaError::WSAEINVAL, "a region is deregistered that is not registered", deregistering_twice),
    (WsaError::WSAEMFILE, "the handle has as many endpoints as it may have", too_many_endpoints),
    (WsaError::WSAEWOULDBLOCK, "a connect goes on, and FD_CONNECT is selected", a_connect_with_an_event),
    (WsaError::WSAEWOULDBLOCK, "no connection waits, and FD_ACCEPT is selected", an_accept_with_an_event),
    (WsaError::WSAENOTSOCK, "the endpoint is closed", a_stale_endpoint),
    (WsaError::WSAENOTSOCK, "the endpoint is another handle's", anothers_endpoint),
    (WsaError::WSAEPROTOTYPE, "the protocol does not fit the type of socket", || {
        socket(SocketType::STREAM, Protocol::UDP)
    }),
    (WsaError::WSAEPROTONOSUPPORT, "the protocol is none of streams", || socket(SocketType::STREAM, Protocol(132))),
    (WsaError::WSAEOPNOTSUPP, "a SAN endpoint is asked for something that streams do", a_request_of_streams),
    (WsaError::WSAEAFNOSUPPORT, "the address family is neither IPv4 nor IPv6", an_unknown_family),
    (WsaError::WSAEADDRINUSE, "another endpoint has the port at that address", a_port_in_use),
    (WsaError::WSAEADDRNOTAVAIL, "the address is none of this machine's", a_foreign_address),
    (
        WsaError::WSAEADDRNOTAVAIL,
        "an endpoint that is bound to the wildcard is to connect",
        connecting_from_the_wildcard,
    ),
    (WsaError::WSAENETDOWN, "the WSK provider is not captured yet", before_the_capture),
    (WsaError::WSAENETDOWN, "the capture of the WSK provider has failed", after_a_failed_capture),
    (WsaError::WSAENETUNREACH, "no route holds the address", no_route),
    (WsaError::WSAECONNABORTED, "the connection was aborted here", an_abort),
    (WsaError::WSAECONNABORTED, "the peer broke the protocol", a_broken_protocol),
    (WsaError::WSAECONNRESET, "nobody listens at that port, and TCP/IP does not reach it", || {
        nobody_listens("san-only")
    }),
    (WsaError::WSAECONNRESET, "the peer has gone without a goodbye", a_vanished_peer),
    (WsaError::WSAENOBUFS, "a limit on registered memory is reached", too_many_regions),
    (WsaError::WSAENOBUFS, "the kernel has no memory", no_memory),
    (WsaError::WSAEISCONN, "the endpoint is connected already", a_second_connect),
    (WsaError::WSAENOTCONN, "the endpoint is not connected", sending_unconnected),
    (WsaError::WSAETIMEDOUT, "the peer does not answer in time", a_silent_peer),
    (WsaError::WSAETIMEDOUT, "a connect fails, and TCP/IP might succeed", || nobody_listens("tcp")),
    (WsaError::WSAECONNREFUSED, "the backlog is full", a_full_backlog),
    (WsaError::WSAECONNREFUSED, "the listener rejects the connection", a_rejection),
    (WsaError::WSAEHOSTUNREACH, "there is no such address, and TCP/IP does not reach it", no_such_address),
];

#[test]
fn each_error_code_comes_of_its_causes() {
    for (code, cause, provoke) in CAUSES {
        assert_eq!(provoke(), code, "{cause}");
    }
}

#[test]
fn every_code_that_is_required_has_a_cause_and_no_other_has() {
    let caused: BTreeSet<i32> = CAUSES.iter().map(|(code, ..)| code.0).collect();
    assert_eq!(caused, BTreeSet::from(REQUIRED));
}

#[test]
fn the_documentation_names_these_causes() {
    let page = include_str!("../../../../docs/san.md");
    let (_, section) = page.split_once("\n## Error codes\n").expect("a section on them");
    let documented: Vec<&str> = section.lines().filter(|line| line.starts_with("| `WSA")).collect();
    let rows = CAUSES.map(|(code, cause, _)| {
        let name = code.name().expect("a name");
        format!("| `{name}` | {} | {cause} |", code.0)
    });
    assert_eq!(documented, rows);
}

/// What a failed operation says.
#[track_caller]
fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> WsaError {
    result.expect_err("it fails").wsa_error()
}

/// Brings it about on a machine, which is clean afterwards.
fn on(bed: Bed, cause: impl FnOnce(&Provider) -> WsaError) -> WsaError {
    let provider = bed.open();
    let code = cause(&provider);
    drop(provider);
    bed.finish();
    code
}

fn with_limit(name: &str, limit: u32) -> Bed {
    Bed::with(builder().parameter("sanwsk", name, Value::Number(limit)))
}

fn a_cancelled_request() -> WsaError {
    on(bed(), |provider| {
        let (listener, _) = listening(provider, 1);
        let accept = listener.start_accept();
        accept.cancel();
        code(outcome(accept))
    })
}

fn a_closed_endpoint() -> WsaError {
    on(bed(), |provider| {
        let (connector, acceptor) = session(provider, 1, 16);
        let Receiver { endpoint, mut receives, .. } = connector;
        endpoint.close().expect("closes");
        drop(acceptor);
        code(outcome(receives.remove(0)))
    })
}

fn an_early_question() -> WsaError {
    on(bed(), |provider| {
        let (mut connector, acceptor) = session(provider, 1, 16);
        let early = connector.receives.remove(0).result().expect_err("nothing was sent");
        let code = early.wsa_error();
        acceptor.endpoint.send(b"x").expect("sends");
        eventually("the message is here", || early.0.has_ended());
        assert_eq!(early.0.result().expect("now it is there").expect("a message"), 1);
        code
    })
}

fn a_started_request() -> WsaError {
    on(bed(), |provider| {
        let (connector, acceptor) = session(provider, 1, 16);
        let code = wsa_error(connector.receives[0].status());
        acceptor.endpoint.send(b"x").expect("sends");
        assert_eq!(connector.receives[0].status_within(PATIENCE), Some(NtStatus::SUCCESS));
        code
    })
}

fn a_slice_outside() -> WsaError {
    on(bed(), |provider| {
        let (connector, _acceptor) = connected(provider);
        let region = connector.register(Memory::new(16), MemoryRights::BOTH).expect("registers");
        code(connector.receive(&region, 8..17))
    })
}

fn a_use_without_a_right() -> WsaError {
    on(bed(), |provider| {
        let (connector, _acceptor) = connected(provider);
        let region = connector.register(Memory::new(16), MemoryRights::SEND).expect("registers");
        code(connector.receive(&region, 0..16))
    })
}

/// Registers memory that the kernel has to refuse before there is a request.
#[allow(unsafe_code)]
fn register_inaccessible(device: &HarnessDevice, endpoint: u64, memory: *mut u8) -> NtStatus {
    let request =
        RegisterMemoryRequest { header: Header::new(0), endpoint, key: 1, rights: MEMORY_RECEIVE, reserved: 0 };
    let input = request.as_bytes();
    let (code, handle) = (ControlCode::RegisterMemory.value(), device.handle().expect("open"));
    let length = u32::try_from(input.len()).expect("a small structure");
    let never = Box::new(|_| panic!("there is no request"));
    // SAFETY: there is no request, so that nothing refers to the input afterwards; that the memory is not accessible is for the
    // kernel to find.
    let issued = unsafe { device.process().device_io_control(handle, code, input.as_ptr(), length, memory, 16, never) };
    NtStatus(issued.expect_err("it is refused"))
}

fn inaccessible_memory() -> WsaError {
    static CONSTANT: [u8; 16] = *b"not to be writte";
    let bed = bed();
    let device = Arc::new(HarnessDevice::open(&bed.process).expect("the device opens"));
    let provider = Provider::new(device.clone());
    let (connector, acceptor) = connected(&provider);
    let nowhere = register_inaccessible(&device, connector.id(), std::ptr::without_provenance_mut(16));
    let read_only = register_inaccessible(&device, connector.id(), CONSTANT.as_ptr().cast_mut());
    assert_eq!(nowhere, read_only);
    drop((connector, acceptor, provider, device));
    bed.finish();
    wsa_error(nowhere)
}

fn listening_unbound() -> WsaError {
    on(bed(), |provider| {
        let endpoint = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
        code(endpoint.listen(Backlog(1)))
    })
}

fn an_unknown_event() -> WsaError {
    on(bed(), |provider| {
        const FD_READ: NetworkEvents = NetworkEvents(1);
        let (endpoint, _) = bound(provider);
        let event = provider.create_event().expect("an event");
        code(endpoint.event_select(Some(&*event), FD_READ))
    })
}

fn deregistering_twice() -> WsaError {
    on(bed(), |provider| {
        let (connector, _acceptor) = connected(provider);
        let region = connector.register(Memory::new(16), MemoryRights::BOTH).expect("registers");
        region.deregister().expect("deregisters");
        code(region.deregister())
    })
}

fn too_many_endpoints() -> WsaError {
    on(with_limit("MaxEndpointsPerHandle", 1), |provider| {
        let _one = bound(provider);
        code(SanEndpoint::create(provider, AddressFamily::INET))
    })
}

fn a_connect_with_an_event() -> WsaError {
    on(bed(), |provider| {
        let (_listener, address) = listening(provider, 1);
        let (connector, _) = bound(provider);
        let event = provider.create_event().expect("an event");
        connector.event_select(Some(&*event), NetworkEvents::CONNECT).expect("selects");
        code(connector.connect(address, None))
    })
}

fn an_accept_with_an_event() -> WsaError {
    on(bed(), |provider| {
        let (listener, _) = listening(provider, 1);
        let event = provider.create_event().expect("an event");
        listener.event_select(Some(&*event), NetworkEvents::ACCEPT).expect("selects");
        code(listener.accept())
    })
}

fn a_stale_endpoint() -> WsaError {
    on(bed(), |provider| {
        let (endpoint, _) = bound(provider);
        let id = endpoint.id();
        endpoint.close().expect("closes");
        code(SanEndpoint::from_endpoint(Endpoint::from_id(provider, id)).addresses())
    })
}

fn anothers_endpoint() -> WsaError {
    let bed = bed();
    let other = bed.open();
    let (endpoint, _) = bound(&other);
    let id = endpoint.id();
    let provider = bed.open();
    let code = code(SanEndpoint::from_endpoint(Endpoint::from_id(&provider, id)).listen(Backlog(1)));
    endpoint.listen(Backlog(1)).expect("its own handle may");
    drop((endpoint, provider, other));
    bed.finish();
    code
}

fn socket(socket_type: SocketType, protocol: Protocol) -> WsaError {
    on(bed(), |provider| code(SanEndpoint::socket(provider, AddressFamily::INET, socket_type, protocol)))
}

fn a_request_of_streams() -> WsaError {
    on(bed(), |provider| {
        let (connector, acceptor) = connected(provider);
        drop(acceptor);
        let stream = StreamConnection::from_endpoint(connector.into_endpoint());
        code(stream.receive(&mut [0; 16]))
    })
}

fn an_unknown_family() -> WsaError {
    const AF_IPX: AddressFamily = AddressFamily(6);
    on(bed(), |provider| code(SanEndpoint::socket(provider, AF_IPX, SocketType::STREAM, Protocol::TCP)))
}

fn a_port_in_use() -> WsaError {
    on(bed(), |provider| {
        let (_first, address) = bound(provider);
        let second = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
        code(second.bind(address))
    })
}

fn a_foreign_address() -> WsaError {
    on(bed(), |provider| {
        let endpoint = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
        code(endpoint.bind("192.0.2.1:0".parse().expect("an address")))
    })
}

fn connecting_from_the_wildcard() -> WsaError {
    on(bed(), |provider| {
        let (_listener, address) = listening(provider, 1);
        let endpoint = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
        endpoint.bind("0.0.0.0:0".parse().expect("an address")).expect("binds");
        code(endpoint.connect(address, None))
    })
}

fn before_the_capture() -> WsaError {
    let machine = Machine::new();
    machine.network().set_ready(false);
    on(Bed::on(machine), |provider| code(SanEndpoint::create(provider, AddressFamily::INET)))
}

fn after_a_failed_capture() -> WsaError {
    let machine = Machine::new();
    machine.network().fail_capture(Some(NtStatus::NOINTERFACE.0));
    on(Bed::on(machine), |provider| {
        eventually("the capture has failed", || provider.status().expect("status").provider == ProviderState::Failed);
        code(SanEndpoint::create(provider, AddressFamily::INET))
    })
}

/// A machine with one route: to itself, which TCP/IP takes too, or does not.
fn only_to_itself(reach: &str) -> Bed {
    let port = free_port();
    let route = format!("127.0.0.0/8 127.0.0.0/8 port={port} {reach}");
    let port = Value::Number(port.into());
    let builder = Machine::builder().parameter("sanwsk", "NativePort", port);
    Bed::with(builder.parameter("sanwsk", "Routes", Value::List(vec![route])))
}

fn no_route() -> WsaError {
    on(only_to_itself("tcp"), |provider| {
        let (connector, _) = bound(provider);
        code(connector.connect(FOREIGN, None))
    })
}

fn nobody_listens(reach: &str) -> WsaError {
    on(only_to_itself(reach), |provider| {
        let (_listener, address) = listening(provider, 1);
        let (connector, _) = bound(provider);
        code(connector.connect(SocketAddr::new(address.ip(), address.port() ^ 1), Some(PATIENCE)))
    })
}

fn an_abort() -> WsaError {
    on(bed(), |provider| {
        let (mut connector, _acceptor) = session(provider, 1, 16);
        connector.endpoint.abort().expect("aborts");
        code(outcome(connector.receives.remove(0)))
    })
}

fn a_broken_protocol() -> WsaError {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (mut receiver, mut peer) = neighbours.session(&provider, Role::Connector, (1, 16), 1);
    peer.send(&[0xA5; 16]);
    let code = code(outcome(receiver.receives.remove(0)));
    drop((receiver, provider));
    neighbours.bed.finish();
    code
}

fn a_vanished_peer() -> WsaError {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (mut receiver, peer) = neighbours.session(&provider, Role::Acceptor, (1, 16), 1);
    drop(peer);
    let code = code(outcome(receiver.receives.remove(0)));
    drop((receiver, provider));
    neighbours.bed.finish();
    code
}

fn too_many_regions() -> WsaError {
    on(with_limit("MaxRegionsPerHandle", 1), |provider| {
        let (connector, _acceptor) = connected(provider);
        let _one = connector.register(Memory::new(16), MemoryRights::BOTH).expect("registers");
        code(connector.register(Memory::new(16), MemoryRights::BOTH))
    })
}

/// Each allocation of a create, a bind and a listen fails once: that is all that happens.
fn no_memory() -> WsaError {
    let bed = bed();
    let provider = bed.open();
    let mut codes = Vec::new();
    for nth in 0.. {
        bed.machine.fail_allocation(nth);
        let listens = SanEndpoint::create(&provider, AddressFamily::INET).and_then(|endpoint| {
            endpoint.bind(any())?;
            endpoint.listen(Backlog(4))?;
            Ok(endpoint)
        });
        let failed = bed.machine.allocation_has_failed();
        bed.machine.fail_no_allocation();
        match listens {
            Ok(endpoint) => {
                drop(endpoint);
                if !failed {
                    break;
                }
            }
            Err(error) => {
                assert!(failed, "{error}");
                codes.push(error.wsa_error());
            }
        }
    }
    assert!(codes.len() > 3, "these allocate");
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
    drop(provider);
    bed.finish();
    codes[0]
}

fn a_second_connect() -> WsaError {
    on(bed(), |provider| {
        let (listener, address) = listening(provider, 1);
        let (connector, _acceptor) = super::support::connected_to(provider, &listener, address);
        code(connector.connect(address, None))
    })
}

fn sending_unconnected() -> WsaError {
    on(bed(), |provider| code(bound(provider).0.send(b"to nobody")))
}

fn a_silent_peer() -> WsaError {
    let port = free_port();
    let _silent = TcpListener::bind(("127.0.0.1", port)).expect("the native port");
    on(with_limit("NativePort", port.into()), |provider| {
        let (connector, address) = bound(provider);
        code(connector.connect(SocketAddr::new(address.ip(), 7), Some(Duration::from_millis(100))))
    })
}

fn a_full_backlog() -> WsaError {
    on(bed(), |provider| {
        let (listener, address) = listening(provider, 1);
        let (first, second) = (bound(provider).0, bound(provider).0);
        let connects = [&first, &second].map(|connector| connector.start_connect(address, Some(PATIENCE)));
        eventually("one is refused", || connects.iter().any(Pending::has_ended));
        let (refused, waits): (Vec<_>, Vec<_>) = connects.into_iter().partition(Pending::has_ended);
        assert_eq!((refused.len(), waits.len()), (1, 1));
        let accepted = listener.accept().expect("waits").accept().expect("accepts");
        for connect in waits {
            outcome(connect).expect("connects");
        }
        drop(accepted);
        code(refused.into_iter().try_for_each(Pending::wait))
    })
}

fn a_rejection() -> WsaError {
    on(bed(), |provider| {
        let (listener, address) = listening(provider, 1);
        let (connector, _) = bound(provider);
        let connect = connector.start_connect(address, Some(PATIENCE));
        listener.accept().expect("arrives").reject().expect("rejects");
        code(outcome(connect))
    })
}

/// Said by the native network, and by the machine that has the native address.
fn no_such_address() -> WsaError {
    let neighbours = Neighbours::with("san-only", |builder| builder);
    let provider = neighbours.bed.open();
    let (connector, _) = bound(&provider);
    let connect = connector.start_connect(FOREIGN, Some(PATIENCE));
    let mut peer = neighbours.arriving();
    peer.expect(MessageType::ConnectRequest);
    peer.send(ControlMessage::reject(RejectReason::NoSuchAddress).as_bytes());
    let said = code(outcome(connect));
    drop((connector, provider, peer));
    neighbours.bed.finish();

    let port = free_port();
    let routes = vec!["127.0.0.1 127.0.0.1".to_owned(), format!("{} 127.0.0.2 port={port} san-only", FOREIGN.ip())];
    let machine = builder().parameter("sanwsk", "Routes", Value::List(routes)).build();
    assert!(machine.network().attach(Broken::new(NetworkError::HostUnreachable)));
    let bed = Bed::on(machine);
    bed.wait_for_provider();
    let found = on(bed, |provider| code(bound(provider).0.connect(FOREIGN, Some(PATIENCE))));
    assert_eq!(said, found);
    found
}
