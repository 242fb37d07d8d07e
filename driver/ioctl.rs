//! The face for user mode: every request is read and checked here, once, and then only carried out.

use crate::administration::{self, Written};
use crate::endpoint::{AnyEndpoint, Begun, CloseWaiter};
use crate::event_reference;
use crate::issuer::Issuer;
use crate::nt::{CriticalRegion, Shared};
use crate::san::{LockedMemory, Region, Transfer};
use crate::statistics::STATISTICS;
use crate::stream::LockedBuffer;
use crate::wdf::Request;
use crate::wsk::PROVIDER;
use crate::{file, san, stream};
use san_core::san::Slice;
use san_protocol::{
    AcceptReply, AddressReply, BindRequest, ConnectRequest, ControlCode, CreateReply, CreateRequest,
    DISCONNECT_ABORTIVE, DecideRequest, Decision, DisconnectRequest, EndpointId, EndpointRequest, EventSelectRequest,
    ListenRequest, MemoryRequest, NegotiateReply, NegotiateRequest, NtStatus, PROTOCOL_VERSION, RECEIVE_ALL,
    ReceiveReply, ReceiveRequest, RegisterMemoryRequest, Request as _, SetOptionRequest, SocketOption, TransferRequest,
    VersionReply,
};
use zerocopy::IntoBytes;

/// What became of a request.
enum Handled {
    /// It is done: complete it with so many bytes of output.
    Done(usize),
    /// It is done as far as its output has room: complete it with so many bytes.
    Part(usize),
    /// It is an operation's now.
    Pends,
}

impl From<Begun> for Handled {
    fn from(begun: Begun) -> Self {
        match begun {
            Begun::Done(length) => Self::Done(length),
            Begun::Pends => Self::Pends,
        }
    }
}

impl From<Written> for Handled {
    fn from(written: Written) -> Self {
        match written {
            Written::All(length) => Self::Done(length),
            Written::Part(length) => Self::Part(length),
        }
    }
}

/// Carries out a device control request. IRQL = PASSIVE_LEVEL; any thread.
pub(crate) fn handle(request: Request, code: u32, output_length: usize) {
    // Others may wait for what this thread is doing for an endpoint: it is not suspended in the middle.
    let _region = CriticalRegion::enter();
    let result = match ControlCode::from_value(code) {
        Some(code) => dispatch(request, code, output_length),
        None => Err(NtStatus::INVALID_DEVICE_REQUEST),
    };
    match result {
        Ok(Handled::Pends) => {}
        Ok(Handled::Done(length)) => request.complete(NtStatus::SUCCESS, length),
        Ok(Handled::Part(length)) => request.complete(NtStatus::BUFFER_OVERFLOW, length),
        Err(status) => request.complete(status, 0),
    }
}

fn dispatch(request: Request, code: ControlCode, output_length: usize) -> Result<Handled, NtStatus> {
    match code {
        ControlCode::QueryVersion => reply(request, version().as_bytes()),
        ControlCode::QueryStatus => reply(request, PROVIDER.status().as_bytes()),
        ControlCode::QueryDeviceStatistics => {
            reply(request, STATISTICS.reply(san::handshakes(), san::routes()).as_bytes())
        }
        ControlCode::QueryLimits => reply(request, administration::limits().as_bytes()),
        ControlCode::QueryRoutes => administration::query_routes(request).map(Handled::from),
        ControlCode::AddRoute => administration::add_route(request).map(|()| Handled::Done(0)),
        ControlCode::RemoveRoute => administration::remove_route(request).map(|()| Handled::Done(0)),
        ControlCode::QueryEndpoints => administration::query_endpoints(request).map(Handled::from),
        ControlCode::QueryHandles => administration::query_handles(request).map(Handled::from),
        ControlCode::Create => create(request),
        ControlCode::SetOption => set_option(request),
        ControlCode::Bind => bind(request),
        ControlCode::Connect => connect(request),
        ControlCode::Listen => listen(request),
        ControlCode::Accept => accept(request),
        ControlCode::Send => send(request, output_length),
        ControlCode::Receive => receive(request, output_length),
        ControlCode::Disconnect => disconnect(request),
        ControlCode::QueryAddresses => query_addresses(request),
        ControlCode::Close => close(request),
        ControlCode::EventSelect => event_select(request),
        ControlCode::EnumNetworkEvents => enum_network_events(request),
        ControlCode::Decide => decide(request),
        ControlCode::Negotiate => negotiate(request),
        ControlCode::RegisterMemory => register_memory(request, output_length),
        ControlCode::QueryMemory => query_memory(request),
        ControlCode::DeregisterMemory => deregister_memory(request),
        ControlCode::SendRegistered => send_registered(request),
        ControlCode::ReceiveRegistered => receive_registered(request),
        ControlCode::QueryStatistics => query_statistics(request),
    }
}

fn reply(request: Request, reply: &[u8]) -> Result<Handled, NtStatus> {
    request.write_output(reply).map(Handled::Done)
}

fn version() -> VersionReply {
    VersionReply {
        oldest_protocol: PROTOCOL_VERSION,
        newest_protocol: PROTOCOL_VERSION,
        driver: const {
            [
                number(env!("CARGO_PKG_VERSION_MAJOR")),
                number(env!("CARGO_PKG_VERSION_MINOR")),
                number(env!("CARGO_PKG_VERSION_PATCH")),
            ]
        },
    }
}

const fn number(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("a version is a number"),
    }
}

/// The endpoint of a request that says nothing else.
fn endpoint(request: Request) -> Result<AnyEndpoint, NtStatus> {
    let asked = EndpointRequest::read(request.input())?;
    file::handle(&request).find(asked.endpoint)
}

/// The stream endpoint that `id` names.
fn stream(request: Request, id: EndpointId) -> Result<Shared<stream::Endpoint>, NtStatus> {
    file::handle(&request).find(id)?.stream()
}

/// The SAN endpoint that `id` names.
fn san(request: Request, id: EndpointId) -> Result<Shared<san::Endpoint>, NtStatus> {
    file::handle(&request).find(id)?.san()
}

fn create(request: Request) -> Result<Handled, NtStatus> {
    let asked = CreateRequest::read(request.input())?;
    AnyEndpoint::check_create(asked.kind, asked.family)?;
    request.check_output(size_of::<CreateReply>())?;
    let made = AnyEndpoint::create(asked.kind, asked.family, request.requestor())?;
    let id = file::handle(&request).add(made)?;
    reply(request, CreateReply { endpoint: id }.as_bytes())
}

fn set_option(request: Request) -> Result<Handled, NtStatus> {
    let asked = SetOptionRequest::read(request.input())?;
    let option = SocketOption::from_number(asked.option).ok_or(NtStatus::INVALID_PARAMETER)?;
    let on = match asked.value {
        0 => false,
        1 => true,
        _ => return Err(NtStatus::INVALID_PARAMETER),
    };
    let endpoint = stream(request, asked.endpoint)?;
    let pends = stream::Endpoint::set_option(&endpoint, Issuer::Request(request), option, on)?;
    Ok(if pends { Handled::Pends } else { Handled::Done(0) })
}

fn bind(request: Request) -> Result<Handled, NtStatus> {
    let asked = BindRequest::read(request.input())?;
    let endpoint = file::handle(&request).find(asked.endpoint)?;
    let address = endpoint.address(asked.address)?;
    request.check_output(size_of::<AddressReply>())?;
    endpoint.bind(Issuer::Request(request), address).map(|()| Handled::Pends)
}

fn connect(request: Request) -> Result<Handled, NtStatus> {
    let asked = ConnectRequest::read(request.input())?;
    let endpoint = file::handle(&request).find(asked.endpoint)?;
    endpoint.connect(Issuer::Request(request), asked.address, asked.timeout).map(|()| Handled::Pends)
}

fn listen(request: Request) -> Result<Handled, NtStatus> {
    let asked = ListenRequest::read(request.input())?;
    let endpoint = file::handle(&request).find(asked.endpoint)?;
    endpoint.listen(Issuer::Request(request), asked.backlog).map(Handled::from)
}

fn accept(request: Request) -> Result<Handled, NtStatus> {
    let endpoint = endpoint(request)?;
    request.check_output(size_of::<AcceptReply>())?;
    endpoint.accept(Issuer::Request(request)).map(|()| Handled::Pends)
}

fn send(request: Request, length: usize) -> Result<Handled, NtStatus> {
    match endpoint(request)? {
        AnyEndpoint::Stream(endpoint) if length == 0 => {
            stream::Endpoint::check_send(&endpoint).map(|()| Handled::Done(0))
        }
        AnyEndpoint::Stream(endpoint) => {
            let buffer = LockedBuffer { mdl: request.output_mdl()?, offset: 0, length };
            stream::Endpoint::send(&endpoint, Issuer::Request(request), buffer).map(|()| Handled::Pends)
        }
        AnyEndpoint::San(endpoint) => {
            let memory = if length == 0 { LockedMemory::NOTHING } else { LockedMemory::of(request.output_mdl()?) };
            let length = u32::try_from(length).map_err(|_| NtStatus::INVALID_BUFFER_SIZE)?;
            let slice = Slice { memory, offset: 0, length };
            san::Endpoint::send(&endpoint, Issuer::Request(request), slice).map(|()| Handled::Pends)
        }
    }
}

fn receive(request: Request, length: usize) -> Result<Handled, NtStatus> {
    let asked = ReceiveRequest::read(request.input())?;
    let endpoint = stream(request, asked.endpoint)?;
    let buffer = LockedBuffer { mdl: request.output_mdl()?, offset: 0, length };
    let all = asked.header.flags & RECEIVE_ALL != 0;
    stream::Endpoint::receive(&endpoint, Issuer::Request(request), buffer, all).map(|()| Handled::Pends)
}

fn disconnect(request: Request) -> Result<Handled, NtStatus> {
    let asked = DisconnectRequest::read(request.input())?;
    let abortive = asked.header.flags & DISCONNECT_ABORTIVE != 0;
    let endpoint = file::handle(&request).find(asked.endpoint)?;
    endpoint.disconnect(Issuer::Request(request), abortive).map(|()| Handled::Pends)
}

fn query_addresses(request: Request) -> Result<Handled, NtStatus> {
    reply(request, endpoint(request)?.addresses().as_bytes())
}

fn close(request: Request) -> Result<Handled, NtStatus> {
    let asked = EndpointRequest::read(request.input())?;
    let endpoint = file::handle(&request).take(asked.endpoint)?;
    endpoint.close(Some(CloseWaiter::Issuer(Issuer::Request(request))));
    Ok(Handled::Pends)
}

fn event_select(request: Request) -> Result<Handled, NtStatus> {
    let asked = EventSelectRequest::read(request.input())?;
    let endpoint = san(request, asked.endpoint)?;
    let event = event_reference::take(request);
    if event.is_none() != (asked.mask == 0) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    san::Endpoint::event_select(&endpoint, event, asked.mask).map(|()| Handled::Done(0))
}

fn enum_network_events(request: Request) -> Result<Handled, NtStatus> {
    let asked = EndpointRequest::read(request.input())?;
    let endpoint = san(request, asked.endpoint)?;
    request.check_output(size_of::<san_protocol::NetworkEventsReply>())?;
    reply(request, endpoint.enum_network_events().as_bytes())
}

fn decide(request: Request) -> Result<Handled, NtStatus> {
    let asked = DecideRequest::read(request.input())?;
    let decision = Decision::from_number(asked.decision).ok_or(NtStatus::INVALID_PARAMETER)?;
    san::Endpoint::decide(file::handle(&request), asked.endpoint, decision).map(|()| Handled::Done(0))
}

fn negotiate(request: Request) -> Result<Handled, NtStatus> {
    let asked = NegotiateRequest::read(request.input())?;
    let endpoint = san(request, asked.endpoint)?;
    let length = usize::try_from(asked.private_length).unwrap_or(usize::MAX);
    let private = asked.private.get(..length).ok_or(NtStatus::INVALID_BUFFER_SIZE)?;
    request.check_output(size_of::<NegotiateReply>())?;
    san::Endpoint::negotiate(&endpoint, Issuer::Request(request), private, asked.receive_size).map(|()| Handled::Pends)
}

fn register_memory(request: Request, length: usize) -> Result<Handled, NtStatus> {
    let asked = RegisterMemoryRequest::read(request.input())?;
    let endpoint = san(request, asked.endpoint)?;
    if length == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let memory = LockedMemory::of(request.output_mdl()?);
    let region = Region { key: asked.key, memory, length: length as u64, rights: asked.rights };
    san::Endpoint::register(&endpoint, Issuer::Request(request), region).map(|()| Handled::Pends)
}

fn query_memory(request: Request) -> Result<Handled, NtStatus> {
    let asked = MemoryRequest::read(request.input())?;
    let endpoint = san(request, asked.endpoint)?;
    reply(request, endpoint.query_memory(asked.key)?.as_bytes())
}

fn deregister_memory(request: Request) -> Result<Handled, NtStatus> {
    let asked = MemoryRequest::read(request.input())?;
    let endpoint = san(request, asked.endpoint)?;
    san::Endpoint::deregister(&endpoint, Issuer::Request(request), asked.key).map(|()| Handled::Pends)
}

fn send_registered(request: Request) -> Result<Handled, NtStatus> {
    let TransferRequest { endpoint, key, offset, length, .. } = TransferRequest::read(request.input())?;
    let endpoint = san(request, endpoint)?;
    san::Endpoint::send_registered(&endpoint, Issuer::Request(request), Transfer { key, offset, length })
        .map(|()| Handled::Pends)
}

fn receive_registered(request: Request) -> Result<Handled, NtStatus> {
    let TransferRequest { endpoint, key, offset, length, .. } = TransferRequest::read(request.input())?;
    let endpoint = san(request, endpoint)?;
    request.check_output(size_of::<ReceiveReply>())?;
    san::Endpoint::receive_registered(&endpoint, Issuer::Request(request), Transfer { key, offset, length })
        .map(|()| Handled::Pends)
}

fn query_statistics(request: Request) -> Result<Handled, NtStatus> {
    let asked = EndpointRequest::read(request.input())?;
    let endpoint = san(request, asked.endpoint)?;
    reply(request, endpoint.statistics().as_bytes())
}
