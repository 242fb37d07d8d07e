//! Input that no honest caller sends: a clear status for each, and the driver goes on.

use crate::support::{Bed, connected, listening};
use san_protocol::{
    AddRouteRequest, BindRequest, ConnectRequest, ControlCode, CreateRequest, DecideRequest, DisconnectRequest,
    EndpointRequest, EndpointsRequest, EventSelectRequest, HandlesRequest, Header, LAYOUTS, ListenRequest,
    MemoryRequest, NegotiateRequest, NtStatus, PROTOCOL_VERSION, ReceiveRequest, RegisterMemoryRequest,
    RemoveRouteRequest, Route, SetOptionRequest, SocketAddress, TransferRequest,
};
use san_proxy::{AddressFamily, DeviceRequest, Pending, Provider, StreamConnection};
use zerocopy::IntoBytes;

/// Issues a request as it is.
pub(crate) fn raw(provider: &Provider, code: u32, input: &[u8], output: usize) -> (NtStatus, usize) {
    let request = DeviceRequest { code, input: input.to_vec(), buffer: vec![0; output] };
    Pending::start(provider.device(), request, |completed| (completed.status, completed.information)).wait()
}

/// Whether the requests of this code name an endpoint.
pub(crate) fn names_an_endpoint(code: ControlCode) -> bool {
    let layout = LAYOUTS.iter().find(|layout| layout.name == code.input().name);
    layout.is_some_and(|layout| layout.fields.iter().any(|field| field.name == "endpoint"))
}

/// A request of every code that has an input, for this endpoint; valid but for what the endpoint's state forbids.
pub(crate) fn requests(endpoint: u64) -> Vec<(ControlCode, Vec<u8>, usize)> {
    let header = Header::new(0);
    let address = SocketAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
    let only = EndpointRequest { header, endpoint };
    let event_select = EventSelectRequest { header, endpoint, event: 0, mask: 0, reserved: 0 };
    let decide = DecideRequest { header, endpoint, decision: 1, reserved: 0 };
    let negotiate = NegotiateRequest { header, endpoint, receive_size: 0, private_length: 0, private: [0; 256] };
    let register = RegisterMemoryRequest { header, endpoint, key: 1, rights: 1, reserved: 0 };
    let memory = MemoryRequest { header, endpoint, key: 1 };
    let transfer = TransferRequest { header, endpoint, key: 1, offset: 0, length: 1, reserved: 0 };
    let san = SocketAddress::from(std::net::SocketAddr::from(([10, 0, 0, 0], 0)));
    let route = Route { san, native: san, length: 8, flags: 0 };
    vec![
        (ControlCode::AddRoute, AddRouteRequest { header, route }.as_bytes().to_vec(), 0),
        (ControlCode::RemoveRoute, RemoveRouteRequest { header, san, length: 9 }.as_bytes().to_vec(), 0),
        (ControlCode::QueryEndpoints, EndpointsRequest { header, position: 0 }.as_bytes().to_vec(), 16),
        (ControlCode::QueryHandles, HandlesRequest { header, position: 0 }.as_bytes().to_vec(), 16),
        (ControlCode::Create, CreateRequest { header, kind: 1, family: 2, reserved: 0 }.as_bytes().to_vec(), 8),
        (ControlCode::SetOption, SetOptionRequest { header, endpoint, option: 1, value: 1 }.as_bytes().to_vec(), 0),
        (ControlCode::Bind, BindRequest { header, endpoint, address, reserved: 0 }.as_bytes().to_vec(), 28),
        (ControlCode::Connect, ConnectRequest { header, endpoint, address, timeout: 1 }.as_bytes().to_vec(), 0),
        (ControlCode::Listen, ListenRequest { header, endpoint, backlog: 1, reserved: 0 }.as_bytes().to_vec(), 0),
        (ControlCode::Accept, only.as_bytes().to_vec(), 64),
        (ControlCode::Send, only.as_bytes().to_vec(), 16),
        (ControlCode::Receive, ReceiveRequest { header, endpoint }.as_bytes().to_vec(), 16),
        (ControlCode::Disconnect, DisconnectRequest { header, endpoint }.as_bytes().to_vec(), 0),
        (ControlCode::QueryAddresses, only.as_bytes().to_vec(), 56),
        (ControlCode::Close, only.as_bytes().to_vec(), 0),
        (ControlCode::EventSelect, event_select.as_bytes().to_vec(), 0),
        (ControlCode::EnumNetworkEvents, only.as_bytes().to_vec(), 16),
        (ControlCode::Decide, decide.as_bytes().to_vec(), 0),
        (ControlCode::Negotiate, negotiate.as_bytes().to_vec(), 272),
        (ControlCode::RegisterMemory, register.as_bytes().to_vec(), 16),
        (ControlCode::QueryMemory, memory.as_bytes().to_vec(), 16),
        (ControlCode::DeregisterMemory, memory.as_bytes().to_vec(), 0),
        (ControlCode::SendRegistered, transfer.as_bytes().to_vec(), 0),
        (ControlCode::ReceiveRegistered, transfer.as_bytes().to_vec(), 8),
        (ControlCode::QueryStatistics, only.as_bytes().to_vec(), 56),
    ]
}

#[test]
fn every_code_with_an_input_is_among_the_requests() {
    let known: Vec<_> = requests(1).into_iter().map(|(code, ..)| code).collect();
    let with_input: Vec<_> = ControlCode::ALL.iter().copied().filter(|code| code.input().size != 0).collect();
    assert_eq!(known, with_input);
    for (code, input, output) in requests(1) {
        assert_eq!(input.len(), code.input().size);
        assert!(output >= code.output().size);
    }
}

#[test]
fn every_request_of_a_wrong_length_is_refused() {
    let bed = Bed::new();
    let provider = bed.open();
    for (code, input, output) in requests(1) {
        for length in 0..=input.len() + 9 {
            if length == input.len() {
                continue;
            }
            let mut wrong = input.clone();
            wrong.resize(length, 0);
            assert_eq!(raw(&provider, code.value(), &wrong, output).0, NtStatus::INFO_LENGTH_MISMATCH, "{code:?}");
        }
        assert_eq!(raw(&provider, code.value(), &vec![0xFF; 70_000], output).0, NtStatus::INFO_LENGTH_MISMATCH);
    }
    drop(provider);
    bed.finish();
}

#[test]
fn every_version_but_this_one_and_every_unknown_flag_is_refused() {
    let bed = Bed::new();
    let provider = bed.open();
    for (code, input, output) in requests(1) {
        for version in [0, PROTOCOL_VERSION + 1, u32::MAX] {
            let mut wrong = input.clone();
            wrong[..4].copy_from_slice(&version.to_ne_bytes());
            assert_eq!(raw(&provider, code.value(), &wrong, output).0, NtStatus::REVISION_MISMATCH, "{code:?}");
        }
        for bit in 1..32 {
            let mut wrong = input.clone();
            wrong[4..8].copy_from_slice(&(1_u32 << bit).to_ne_bytes());
            assert_eq!(raw(&provider, code.value(), &wrong, output).0, NtStatus::INVALID_PARAMETER, "{code:?}");
        }
    }
    drop(provider);
    bed.finish();
}

#[test]
fn every_reserved_field_has_to_be_zero() {
    let bed = Bed::new();
    let provider = bed.open();
    let mut checked = 0;
    for (code, input, output) in requests(1) {
        let layout = LAYOUTS.iter().find(|layout| layout.name == code.input().name).expect("it has a layout");
        for field in layout.fields.iter().filter(|field| field.name == "reserved") {
            for bit in 0..field.size * 8 {
                let mut wrong = input.clone();
                wrong[field.offset + bit / 8] = 1 << (bit % 8);
                let refused = raw(&provider, code.value(), &wrong, output);
                assert_eq!(refused, (NtStatus::INVALID_PARAMETER, 0), "{code:?}, bit {bit}");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 8, "requests with reserved fields");
    drop(provider);
    bed.finish();
}

#[test]
fn ids_that_are_stale_forged_or_anothers_name_nothing() {
    let bed = Bed::new();
    let (provider, other) = (bed.open(), bed.open());
    let (foreign, _peer) = connected(&other);
    let (closed, _peer) = connected(&provider);
    let stale = closed.id();
    closed.close().expect("closes");
    let (own, _peer) = connected(&provider);
    let forged = [0, 1, stale, foreign.id(), own.id() + 1, own.id() ^ (1 << 24), own.id() ^ (1 << 63), u64::MAX];
    for id in forged {
        for (code, input, output) in requests(id).into_iter().filter(|(code, ..)| names_an_endpoint(*code)) {
            assert_eq!(raw(&provider, code.value(), &input, output).0, NtStatus::INVALID_HANDLE, "{code:?} {id:#x}");
        }
    }
    own.send(b"x").expect("its own id names it still");
    foreign.send(b"x").expect("and so does the other's");
    drop((own, foreign, provider, other));
    bed.finish();
}

#[test]
fn fields_at_their_edges_get_a_status() {
    let bed = Bed::new();
    let provider = bed.open();
    let header = Header::new(0);
    for (kind, family, reserved, expected) in [
        (0, 2, 0, NtStatus::INVALID_PARAMETER),
        (4, 2, 0, NtStatus::INVALID_PARAMETER),
        (u32::MAX, 2, 0, NtStatus::INVALID_PARAMETER),
        (1, 0, 0, NtStatus::NOT_SUPPORTED),
        (1, u16::MAX, 0, NtStatus::NOT_SUPPORTED),
        (1, 2, 1, NtStatus::INVALID_PARAMETER),
    ] {
        let create = CreateRequest { header, kind, family, reserved };
        assert_eq!(raw(&provider, ControlCode::Create.value(), create.as_bytes(), 8).0, expected);
    }
    let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    let endpoint = connection.id();
    for (option, value) in [(0, 1), (5, 1), (u32::MAX, 1), (1, 2), (1, u32::MAX)] {
        let set = SetOptionRequest { header, endpoint, option, value };
        let result = raw(&provider, ControlCode::SetOption.value(), set.as_bytes(), 0);
        assert_eq!(result.0, NtStatus::INVALID_PARAMETER);
    }
    let mut address = SocketAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    let bind = |address, reserved| BindRequest { header, endpoint, address, reserved };
    let try_bind = |request: BindRequest| raw(&provider, ControlCode::Bind.value(), request.as_bytes(), 28).0;
    assert_eq!(try_bind(bind(address, 1)), NtStatus::INVALID_PARAMETER);
    address.rest[23] = 1;
    assert_eq!(try_bind(bind(address, 0)), NtStatus::INVALID_PARAMETER);
    for family in [0, 1, 22, 24, u16::MAX] {
        address.family = family;
        assert_eq!(try_bind(bind(address, 0)), NtStatus::INVALID_PARAMETER);
    }
    let (listener, _) = listening(&provider, u32::MAX);
    let listen = ListenRequest { header, endpoint: listener.id(), backlog: 0, reserved: 7 };
    let result = raw(&provider, ControlCode::Listen.value(), listen.as_bytes(), 0);
    assert_eq!(result.0, NtStatus::INVALID_PARAMETER);
    drop((connection, listener, provider));
    bed.finish();
}

#[test]
fn an_output_buffer_too_small_for_the_reply_is_refused_before_anything_is_done() {
    let bed = Bed::new();
    let provider = bed.open();
    let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    let (listener, _) = listening(&provider, 1);
    for (code, input, output) in requests(connection.id()) {
        let input = if code == ControlCode::Accept {
            EndpointRequest { header: Header::new(0), endpoint: listener.id() }.as_bytes().to_vec()
        } else {
            input
        };
        let reply = match code {
            ControlCode::Create | ControlCode::Bind | ControlCode::Accept | ControlCode::QueryAddresses => output,
            _ => continue,
        };
        for length in 0..reply {
            assert_eq!(raw(&provider, code.value(), &input, length), (NtStatus::BUFFER_TOO_SMALL, 0), "{code:?}");
        }
    }
    for code in [ControlCode::QueryVersion, ControlCode::QueryStatus] {
        assert_eq!(raw(&provider, code.value(), &[], 3), (NtStatus::BUFFER_TOO_SMALL, 0));
    }
    assert_eq!(provider.status().expect("status").endpoints, 2, "nothing was made by the way");
    drop((connection, listener, provider));
    bed.finish();
}

#[test]
fn unknown_codes_and_wrong_methods_are_refused() {
    let bed = Bed::new();
    let provider = bed.open();
    let known: Vec<u32> = ControlCode::ALL.iter().map(|code| code.value()).collect();
    for function in 0..0x1000_u32 {
        let code = (0x8057 << 16) | (3 << 14) | (function << 2);
        if !known.contains(&code) && !known.contains(&(code & !(3 << 14))) {
            assert_eq!(raw(&provider, code, &[0; 16], 16).0, NtStatus::INVALID_DEVICE_REQUEST, "{code:#x}");
        }
    }
    for code in &known {
        for method in 0..4 {
            let other = (code & !3) | method;
            if other != *code {
                let status = raw(&provider, other, &[0; 16], 16).0;
                assert_eq!(status, NtStatus::INVALID_DEVICE_REQUEST, "{other:#x}");
            }
        }
    }
    // Another device type is none of this driver's codes.
    assert_eq!(raw(&provider, known[0] ^ (1 << 16), &[], 64).0, NtStatus::INVALID_DEVICE_REQUEST);
    drop(provider);
    bed.finish();
}

#[test]
fn a_32_bit_process_is_served_alike() {
    let bed = Bed::new();
    let process = bed.process_of(true, true);
    let device = test_harness::device::HarnessDevice::open(&process).expect("opens");
    let provider = Provider::new(std::sync::Arc::new(device));
    let (connection, mut peer) = connected(&provider);
    connection.send(b"32").expect("sends");
    let mut buffer = [0; 2];
    std::io::Read::read_exact(&mut peer, &mut buffer).expect("receives");
    assert_eq!(&buffer, b"32");
    drop((connection, provider, process));
    bed.finish();
}

#[test]
fn who_is_no_administrator_does_not_get_in() {
    let bed = Bed::new();
    let process = bed.process_of(false, false);
    let error = test_harness::device::HarnessDevice::open(&process).err().expect("no rights");
    assert_eq!(error.status(), NtStatus::ACCESS_DENIED);
    drop(process);
    bed.finish();
}
