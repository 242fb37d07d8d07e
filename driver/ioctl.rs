//! The border: every request is read and checked here, once, and then only carried out.

use crate::endpoint::{Endpoint, LockedBuffer};
use crate::file;
use crate::nt::Shared;
use crate::parameters;
use crate::wdf::Request;
use crate::wsk::PROVIDER;
use core::net::SocketAddr;
use san_protocol::{
    AddressError, AddressReply, AddressesReply, BindRequest, ConnectRequest, ControlCode, CreateReply, CreateRequest,
    DISCONNECT_ABORTIVE, DisconnectRequest, EndpointKind, EndpointRequest, ListenRequest, NtStatus, PROTOCOL_VERSION,
    RECEIVE_ALL, ReceiveRequest, Request as _, SetOptionRequest, SocketAddress, SocketOption, VersionReply,
};
use wsk_bindings::{AF_INET, AF_INET6};
use zerocopy::IntoBytes;

/// What became of a request.
enum Handled {
    /// It is done: complete it with so many bytes of output.
    Done(usize),
    /// It is an operation's now.
    Pends,
}

/// Carries out a device control request. IRQL = PASSIVE_LEVEL; any thread.
pub(crate) fn handle(request: Request, code: u32, output_length: usize) {
    let result = match ControlCode::from_value(code) {
        Some(code) => dispatch(request, code, output_length),
        None => Err(NtStatus::INVALID_DEVICE_REQUEST),
    };
    match result {
        Ok(Handled::Pends) => {}
        Ok(Handled::Done(length)) => request.complete(NtStatus::SUCCESS, length),
        Err(status) => request.complete(status, 0),
    }
}

fn dispatch(request: Request, code: ControlCode, output_length: usize) -> Result<Handled, NtStatus> {
    match code {
        ControlCode::QueryVersion => reply(request, version().as_bytes()),
        ControlCode::QueryStatus => reply(request, PROVIDER.status().as_bytes()),
        ControlCode::Create => create(request),
        ControlCode::SetOption => set_option(request),
        ControlCode::Bind => bind(request),
        ControlCode::Connect => connect(request),
        ControlCode::Listen => listen(request),
        ControlCode::Accept => Endpoint::accept(&endpoint(request)?, request).map(|()| Handled::Pends),
        ControlCode::Send => send(request, output_length),
        ControlCode::Receive => receive(request, output_length),
        ControlCode::Disconnect => disconnect(request),
        ControlCode::QueryAddresses => query_addresses(request),
        ControlCode::Close => close(request),
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
fn endpoint(request: Request) -> Result<Shared<Endpoint>, NtStatus> {
    let asked = EndpointRequest::read(request.input())?;
    file::find(request, asked.endpoint)
}

/// An address that suits the endpoint.
fn address_for(endpoint: &Endpoint, address: SocketAddress) -> Result<SocketAddr, NtStatus> {
    let address = address.parse().map_err(|error| match error {
        AddressError::Family(_) | AddressError::Padding => NtStatus::INVALID_PARAMETER,
    })?;
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    if family == endpoint.family() { Ok(address) } else { Err(NtStatus::INVALID_PARAMETER) }
}

fn create(request: Request) -> Result<Handled, NtStatus> {
    let asked = CreateRequest::read(request.input())?;
    let kind = EndpointKind::from_number(asked.kind).ok_or(NtStatus::INVALID_PARAMETER)?;
    if asked.family != AF_INET && asked.family != AF_INET6 {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    request.check_output(size_of::<CreateReply>())?;
    let provider = PROVIDER.acquire()?;
    let made = Endpoint::new(provider, kind, asked.family, request.requestor())?;
    let id = file::reserve_id(request)?;
    file::fill_id(request, id, made)?;
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
    let endpoint = file::find(request, asked.endpoint)?;
    let pends = Endpoint::set_option(&endpoint, request, option, on)?;
    Ok(if pends { Handled::Pends } else { Handled::Done(0) })
}

fn bind(request: Request) -> Result<Handled, NtStatus> {
    let asked = BindRequest::read(request.input())?;
    let endpoint = file::find(request, asked.endpoint)?;
    let address = address_for(&endpoint, asked.address)?;
    request.check_output(size_of::<AddressReply>())?;
    Endpoint::bind(endpoint, request, address).map(|()| Handled::Pends)
}

fn connect(request: Request) -> Result<Handled, NtStatus> {
    let asked = ConnectRequest::read(request.input())?;
    let endpoint = file::find(request, asked.endpoint)?;
    let address = address_for(&endpoint, asked.address)?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(NtStatus::INVALID_ADDRESS_COMPONENT);
    }
    Endpoint::connect(endpoint, request, address, asked.timeout).map(|()| Handled::Pends)
}

fn listen(request: Request) -> Result<Handled, NtStatus> {
    let asked = ListenRequest::read(request.input())?;
    let endpoint = file::find(request, asked.endpoint)?;
    // As winsock does: SOMAXCONN and other large numbers become what is reasonable, and none is one.
    let backlog = (asked.backlog as usize).clamp(1, parameters::get().backlog);
    Endpoint::listen(&endpoint, backlog).map(|()| Handled::Done(0))
}

fn send(request: Request, length: usize) -> Result<Handled, NtStatus> {
    let endpoint = endpoint(request)?;
    if length == 0 {
        return Endpoint::check_send(&endpoint).map(|()| Handled::Done(0));
    }
    let buffer = LockedBuffer { mdl: request.output_mdl()?, length };
    Endpoint::send(&endpoint, request, buffer).map(|()| Handled::Pends)
}

fn receive(request: Request, length: usize) -> Result<Handled, NtStatus> {
    let asked = ReceiveRequest::read(request.input())?;
    let endpoint = file::find(request, asked.endpoint)?;
    let buffer = LockedBuffer { mdl: request.output_mdl()?, length };
    let all = asked.header.flags & RECEIVE_ALL != 0;
    Endpoint::receive(&endpoint, request, buffer, all).map(|()| Handled::Pends)
}

fn disconnect(request: Request) -> Result<Handled, NtStatus> {
    let asked = DisconnectRequest::read(request.input())?;
    let endpoint = file::find(request, asked.endpoint)?;
    let abortive = asked.header.flags & DISCONNECT_ABORTIVE != 0;
    Endpoint::disconnect(&endpoint, request, abortive).map(|()| Handled::Pends)
}

fn query_addresses(request: Request) -> Result<Handled, NtStatus> {
    let (local, remote) = endpoint(request)?.addresses();
    reply(request, AddressesReply { local: local.protocol(), remote: remote.protocol() }.as_bytes())
}

fn close(request: Request) -> Result<Handled, NtStatus> {
    let asked = EndpointRequest::read(request.input())?;
    let endpoint = file::take(request, asked.endpoint)?;
    Endpoint::close(&endpoint, Some(request));
    Ok(Handled::Pends)
}
