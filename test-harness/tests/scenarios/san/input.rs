//! Input about SAN endpoints that no honest caller sends: a clear status for each, and nothing else changes.

use super::support::{any, bed, bound, connected, listening, outcome, session};
use crate::input::{names_an_endpoint, raw, requests};
use crate::support::{PATIENCE, pattern, status};
use san_protocol::{
    ControlCode, CreateRequest, DecideRequest, EndpointRequest, EventSelectRequest, Header, NegotiateReply, NtStatus,
    SocketAddress, WsaError,
};
use san_proxy::{
    AddressFamily, DeviceRequest, Memory, MemoryRights, NetworkEvents, Pending, Provider, SanEndpoint,
    StreamConnection, StreamListener,
};
use std::net::SocketAddr;
use std::sync::Arc;
use test_harness::device::HarnessDevice;
use zerocopy::IntoBytes;

/// GENERIC_READ.
const READ: u32 = 0x8000_0000;

/// The codes that are for SAN endpoints alone.
fn is_for_san_alone(code: ControlCode) -> bool {
    match code {
        ControlCode::EventSelect
        | ControlCode::EnumNetworkEvents
        | ControlCode::Decide
        | ControlCode::Negotiate
        | ControlCode::RegisterMemory
        | ControlCode::QueryMemory
        | ControlCode::DeregisterMemory
        | ControlCode::SendRegistered
        | ControlCode::ReceiveRegistered
        | ControlCode::QueryStatistics => true,
        ControlCode::QueryVersion
        | ControlCode::QueryStatus
        | ControlCode::QueryLimits
        | ControlCode::QueryRoutes
        | ControlCode::AddRoute
        | ControlCode::RemoveRoute
        | ControlCode::QueryEndpoints
        | ControlCode::QueryHandles
        | ControlCode::Create
        | ControlCode::SetOption
        | ControlCode::Bind
        | ControlCode::Connect
        | ControlCode::Listen
        | ControlCode::Accept
        | ControlCode::Send
        | ControlCode::Receive
        | ControlCode::Disconnect
        | ControlCode::QueryAddresses
        | ControlCode::Close
        | ControlCode::QueryDeviceStatistics => false,
    }
}

#[test]
fn ids_that_are_stale_forged_or_anothers_name_no_san_endpoint() {
    let bed = bed();
    let (provider, other) = (bed.open(), bed.open());
    let (mut own, mut acceptor) = session(&provider, 1, 16);
    let (mut foreign, mut foreign_peer) = session(&other, 1, 16);
    let (closed, _) = bound(&provider);
    let stale = closed.id();
    closed.close().expect("closes");
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    let connect = connector.start_connect(address, Some(PATIENCE));
    let undecided = listener.accept().expect("arrives");
    let rejected = undecided.id();
    undecided.reject().expect("rejects");
    assert_eq!(status(outcome(connect)), NtStatus::CONNECTION_REFUSED);
    let id = own.endpoint.id();
    let forged =
        [0, 1, stale, rejected, foreign.endpoint.id(), id + (1 << 20), id ^ (1 << 24), id ^ (1 << 63), u64::MAX];
    for id in forged {
        for (code, input, output) in requests(id).into_iter().filter(|(code, ..)| names_an_endpoint(*code)) {
            assert_eq!(raw(&provider, code.value(), &input, output).0, NtStatus::INVALID_HANDLE, "{code:?} {id:#x}");
        }
    }
    for (one, another) in [(&mut own, &mut acceptor), (&mut foreign, &mut foreign_peer)] {
        one.endpoint.send(b"here").expect("its own id names it still");
        assert_eq!(another.next(0), b"here");
    }
    drop((own, acceptor, foreign, foreign_peer, listener, connector, provider, other));
    bed.finish();
}

#[test]
fn streams_do_not_know_what_san_endpoints_do() {
    let bed = bed();
    let provider = bed.open();
    let (connection, _peer) = crate::support::connected(&provider);
    let idle = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    let listener = StreamListener::create(&provider, AddressFamily::INET).expect("an endpoint");
    for id in [connection.id(), idle.id(), listener.id()] {
        for (code, input, output) in requests(id).into_iter().filter(|(code, ..)| is_for_san_alone(*code)) {
            assert_eq!(raw(&provider, code.value(), &input, output), (NtStatus::NOT_SUPPORTED, 0), "{code:?}");
        }
    }
    connection.send(b"a stream").expect("goes on");
    drop((connection, idle, listener, provider));
    bed.finish();
}

#[test]
fn san_endpoints_do_not_know_what_streams_do() {
    let bed = bed();
    let provider = bed.open();
    let (connector, mut acceptor) = session(&provider, 1, 16);
    let (listener, _) = listening(&provider, 1);
    let idle = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    for id in [connector.endpoint.id(), listener.id(), idle.id()] {
        for (code, input, output) in requests(id) {
            if matches!(code, ControlCode::SetOption | ControlCode::Receive) {
                assert_eq!(raw(&provider, code.value(), &input, output), (NtStatus::NOT_SUPPORTED, 0), "{code:?}");
            }
        }
    }
    connector.endpoint.send(b"a session").expect("goes on");
    assert_eq!(acceptor.next(0), b"a session");
    drop((connector, acceptor, listener, idle, provider));
    bed.finish();
}

#[test]
fn fields_of_san_requests_at_their_edges_get_a_status() {
    let bed = bed();
    let provider = bed.open();
    let header = Header::new(0);
    for (family, expected) in
        [(0, NtStatus::NOT_SUPPORTED), (1, NtStatus::NOT_SUPPORTED), (24, NtStatus::NOT_SUPPORTED)]
    {
        let create = CreateRequest { header, kind: 3, family, reserved: 0 };
        assert_eq!(raw(&provider, ControlCode::Create.value(), create.as_bytes(), 8).0, expected);
    }
    let error = SanEndpoint::create(&provider, AddressFamily(1)).expect_err("no such family");
    assert_eq!(error.wsa_error(), WsaError::WSAEAFNOSUPPORT);
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    let connect = connector.start_connect(address, Some(PATIENCE));
    let undecided = listener.accept().expect("arrives");
    let decide = |endpoint, decision| {
        let request = DecideRequest { header, endpoint, decision, reserved: 0 };
        raw(&provider, ControlCode::Decide.value(), request.as_bytes(), 0).0
    };
    for decision in [0, 3, 0x101, u32::MAX] {
        assert_eq!(decide(undecided.id(), decision), NtStatus::INVALID_PARAMETER, "{decision}");
    }
    for decision in [1, 2] {
        for endpoint in [listener.id(), connector.id()] {
            assert_eq!(decide(endpoint, decision), NtStatus::INVALID_PARAMETER, "nothing is to be decided");
        }
    }
    let acceptor = undecided.accept().expect("it is undecided still");
    outcome(connect).expect("connects");
    assert_eq!(decide(acceptor.id(), 2), NtStatus::INVALID_PARAMETER, "it has been decided");

    let event = provider.create_event().expect("an event");
    let select = |event, mask| {
        let request = EventSelectRequest { header, endpoint: listener.id(), event, mask, reserved: 0 };
        raw(&provider, ControlCode::EventSelect.value(), request.as_bytes(), 0).0
    };
    for mask in [1, 2, 4, 0x20, 0x3F, 0x18 | 1 << 31, u32::MAX] {
        assert_eq!(select(event.handle(), mask), NtStatus::INVALID_PARAMETER, "{mask:#x}");
    }
    assert_eq!(select(event.handle(), 0), NtStatus::INVALID_PARAMETER);
    assert_eq!(select(0, 0x18), NtStatus::INVALID_PARAMETER);
    for forged in [3, event.handle() + 0x1000, u64::MAX, 1 << 40, i64::MIN.cast_unsigned()] {
        assert!(!select(forged, 0x18).is_success(), "{forged:#x} is no event");
    }
    assert_eq!(select(event.handle(), 0x18), NtStatus::SUCCESS);

    let endpoint = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    let mut address = SocketAddress::from(any());
    let try_bind = |address| {
        let request = san_protocol::BindRequest { header, endpoint: endpoint.id(), address, reserved: 0 };
        raw(&provider, ControlCode::Bind.value(), request.as_bytes(), 28).0
    };
    for byte in 4..24 {
        address.rest[byte] = 1;
        assert_eq!(try_bind(address), NtStatus::INVALID_PARAMETER, "byte {byte} behind an IPv4 address");
        address.rest[byte] = 0;
    }
    for family in [0, 1, 22, 23, 24, u16::MAX] {
        address.family = family;
        assert_eq!(try_bind(address), NtStatus::INVALID_PARAMETER, "family {family}");
    }
    for nobodys in ["224.0.0.1:0", "255.255.255.255:0", "240.0.0.1:0", "192.0.2.1:9"] {
        let nobodys: SocketAddr = nobodys.parse().expect("an address");
        assert_eq!(status(endpoint.bind(nobodys)), NtStatus::INVALID_ADDRESS_COMPONENT, "{nobodys}");
    }
    endpoint.bind(any()).expect("nothing of that was a bind");
    for nobodys in ["224.0.0.1:9", "255.255.255.255:9", "0.0.0.0:9"] {
        let nobodys: SocketAddr = nobodys.parse().expect("an address");
        assert_eq!(status(endpoint.connect(nobodys, None)), NtStatus::INVALID_ADDRESS_COMPONENT, "{nobodys}");
    }
    drop((listener, connector, acceptor, event, endpoint, provider));
    bed.finish();
}

#[test]
fn a_reply_that_does_not_fit_is_refused_before_anything_is_done() {
    let bed = bed();
    let provider = bed.open();
    let header = Header::new(0);
    let too_small = |code: ControlCode, input: &[u8]| {
        for length in 0..code.output().size {
            let refused = raw(&provider, code.value(), input, length);
            assert_eq!(refused, (NtStatus::BUFFER_TOO_SMALL, 0), "{code:?} with room for {length}");
        }
    };
    let of = |code: ControlCode, endpoint| {
        let (.., input, _) = requests(endpoint).into_iter().find(|(other, ..)| *other == code).expect("a request");
        input
    };
    let (listener, address) = listening(&provider, 1);
    let event = provider.create_event().expect("an event");
    listener.event_select(Some(&*event), NetworkEvents::ACCEPT).expect("selects");
    let (connector, _) = bound(&provider);
    let connect = connector.start_connect(address, Some(PATIENCE));
    assert!(event.wait(PATIENCE));
    too_small(ControlCode::EnumNetworkEvents, EndpointRequest { header, endpoint: listener.id() }.as_bytes());
    assert!(event.is_set(), "what has happened was not taken");
    too_small(ControlCode::Accept, EndpointRequest { header, endpoint: listener.id() }.as_bytes());
    assert!(listener.enum_network_events().expect("events").accept.is_some());
    let acceptor = listener.accept().expect("it waits still").accept().expect("accepts");
    outcome(connect).expect("connects");
    too_small(ControlCode::Negotiate, &of(ControlCode::Negotiate, connector.id()));
    too_small(ControlCode::QueryStatistics, &of(ControlCode::QueryStatistics, connector.id()));
    let region = connector.register(Memory::new(16), MemoryRights::BOTH).expect("registers");
    let mut input = of(ControlCode::QueryMemory, connector.id());
    input[16..24].copy_from_slice(&region.key().to_ne_bytes());
    too_small(ControlCode::QueryMemory, &input);
    let mut input = of(ControlCode::ReceiveRegistered, connector.id());
    input[16..24].copy_from_slice(&region.key().to_ne_bytes());
    too_small(ControlCode::ReceiveRegistered, &input);
    let now = connector.statistics().expect("statistics");
    assert_eq!((now.receives_posted, now.regions), (0, 1));
    for length in 0..ControlCode::QueryDeviceStatistics.output().size {
        let refused = raw(&provider, ControlCode::QueryDeviceStatistics.value(), &[], length);
        assert_eq!(refused, (NtStatus::BUFFER_TOO_SMALL, 0));
    }
    // Nothing was negotiated by the way.
    let negotiate = connector.start_negotiate(b"first", 0);
    assert_eq!(acceptor.negotiate(b"", 0).expect("negotiates").private, b"first");
    outcome(negotiate).expect("negotiates");
    drop((listener, event, connector, acceptor, region, provider));
    bed.finish();
}

#[test]
fn a_longer_output_buffer_than_the_reply_is_filled_as_far_as_it_goes() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = connected(&provider);
    let negotiate = acceptor.start_negotiate(&[7; 256], 5);
    let (code, input, output) =
        requests(connector.id()).into_iter().find(|(code, ..)| *code == ControlCode::Negotiate).expect("a request");
    let request = DeviceRequest { code: code.value(), input, buffer: vec![0xEE; output + 100] };
    let (information, buffer) = outcome(Pending::start(provider.device(), request, |completed| {
        assert_eq!(completed.status, NtStatus::SUCCESS);
        (completed.information, completed.buffer)
    }));
    assert_eq!(information, size_of::<NegotiateReply>());
    assert_eq!(buffer[..16], [[0; 4], 5_u32.to_ne_bytes(), 256_u32.to_ne_bytes(), [0; 4]].concat());
    assert_eq!((&buffer[16..272], &buffer[272..]), (&[7; 256][..], &[0xEE; 100][..]));
    outcome(negotiate).expect("negotiates");
    drop((connector, acceptor, provider));
    bed.finish();
}

#[test]
fn a_handle_for_reading_alone_asks_for_device_statistics_alone() {
    let bed = bed();
    let device = HarnessDevice::open_for(&bed.process, READ).expect("opens");
    let reader = Provider::new(Arc::new(device));
    for (code, input, output) in requests(1) {
        assert_eq!(raw(&reader, code.value(), &input, output), (NtStatus::ACCESS_DENIED, 0), "{code:?}");
    }
    let provider = bed.open();
    let (connector, mut acceptor) = session(&provider, 1, 16);
    connector.endpoint.send(b"counted").expect("sends");
    assert_eq!(acceptor.next(0), b"counted");
    let counted = reader.statistics().expect("statistics");
    assert_eq!((counted.messages_received, counted.bytes_received, counted.connects, counted.accepts), (1, 7, 1, 1));
    drop((connector, acceptor, provider, reader));
    bed.finish();
}

#[test]
fn a_32_bit_process_has_a_session_alike() {
    let bed = bed();
    let process = bed.process_of(true, true);
    let provider = Provider::new(Arc::new(HarnessDevice::open(&process).expect("opens")));
    let (connector, mut acceptor) = session(&provider, 2, 100);
    let region = connector.endpoint.register(Memory::new(100), MemoryRights::SEND).expect("registers");
    region.write(0, &pattern(32, 100)).expect("free");
    connector.endpoint.send_registered(&region, 0..100).expect("sends");
    assert_eq!(acceptor.next(0), pattern(32, 100));
    let (endpoint, _) = bound(&provider);
    let event = provider.create_event().expect("an event");
    endpoint.event_select(Some(&*event), NetworkEvents::CONNECT).expect("selects");
    drop((connector, acceptor, region, endpoint, event, provider, process));
    bed.finish();
}

#[test]
fn whatever_the_fields_say_the_driver_goes_on() {
    let bed = bed();
    let provider = bed.open();
    let (bystander, mut peer) = session(&provider, 1, 16);
    let (listener, _) = listening(&provider, 1);
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| u64::from(time.subsec_nanos()));
    println!("fields are drawn by seed {seed}");
    for round in 0..40 {
        let (connector, acceptor) = connected(&provider);
        let region = acceptor.register(Memory::new(4096), MemoryRights::BOTH).expect("registers");
        let mut pending = Vec::new();
        for (at, (code, mut input, output)) in requests(0).into_iter().enumerate() {
            if matches!(code, ControlCode::Create | ControlCode::Close) {
                continue;
            }
            let id = [connector.id(), acceptor.id(), listener.id()][(round + at) % 3];
            input[8..16].copy_from_slice(&id.to_ne_bytes());
            let drawn = pattern(seed.wrapping_add((round * 100 + at) as u64), input.len() + 8);
            for field in (16..input.len()).step_by(4) {
                let end = input.len().min(field + 4);
                // Small numbers and whole ones, and some left as they were.
                match drawn[field] % 4 {
                    0 => {}
                    1 => input[field] = drawn[field + 1],
                    2 => input[field..end].copy_from_slice(&drawn[field..end]),
                    _ => input[field..end].fill(0xFF),
                }
            }
            if drawn[7].is_multiple_of(2) && input.len() >= 24 {
                input[16..24].copy_from_slice(&region.key().to_ne_bytes());
            }
            let request = DeviceRequest { code: code.value(), input, buffer: vec![0; output + usize::from(drawn[6])] };
            pending.push(Pending::start(provider.device(), request, |completed| completed.status));
        }
        // What pends is cancelled.
        drop(pending);
        bystander.endpoint.send(b"there").expect("sends");
        assert_eq!(peer.next(0), b"there");
    }
    drop((bystander, peer, listener, provider));
    bed.finish();
}
