//! What administrators and their tools ask: limits, routes, and the handles and endpoints that there are. Whether the caller may is checked
//! before, in its context ([`caller`](crate::caller)).

use crate::file;
use crate::handle;
use crate::parameters;
use crate::san;
use crate::wdf::Request;
use core::net::SocketAddr;
use san_core::address_map::{Origin, Prefix, Reach, Route};
use san_protocol::{
    ALL_HANDLES, AddRouteRequest, DeviceLimits, ENDPOINTS_OF_ALL_HANDLES, EndpointEntry, EndpointsReply,
    EndpointsRequest, HandleEntry, HandlesReply, HandlesRequest, NtStatus, ROUTE_SAN_ONLY, RemoveRouteRequest,
    Request as _, RoutesReply, SocketAddress,
};
use zerocopy::IntoBytes;

/// How much of a list was written: it fitted, or there is more.
pub(crate) enum Written {
    All(usize),
    Part(usize),
}

/// The limits in force. IRQL <= DISPATCH_LEVEL.
pub(crate) fn limits() -> DeviceLimits {
    parameters::get().reply(san::routes())
}

/// Writes the routes. IRQL <= DISPATCH_LEVEL.
pub(crate) fn query_routes(request: Request) -> Result<Written, NtStatus> {
    let mut list = request.output_list(size_of::<RoutesReply>())?;
    let total = san::write_routes(&mut list);
    let count = list.count(size_of::<san_protocol::Route>());
    let length = list.finish(RoutesReply { total, count }.as_bytes());
    Ok(if count == total { Written::All(length) } else { Written::Part(length) })
}

/// Adds a route. IRQL <= DISPATCH_LEVEL.
pub(crate) fn add_route(request: Request) -> Result<(), NtStatus> {
    let asked = AddRouteRequest::read(request.input())?.route;
    let reach = match asked.flags {
        0 => Reach::AlsoTcp,
        ROUTE_SAN_ONLY => Reach::SanOnly,
        _ => return Err(NtStatus::INVALID_PARAMETER),
    };
    let (native, port) = prefix(asked.native, asked.length)?;
    let route =
        Route::new(san_prefix(asked.san, asked.length)?, native, (port != 0).then_some(port), reach, Origin::Request);
    san::add_route(route.map_err(|_| NtStatus::INVALID_PARAMETER)?)
}

/// Removes a route. IRQL <= DISPATCH_LEVEL.
pub(crate) fn remove_route(request: Request) -> Result<(), NtStatus> {
    let asked = RemoveRouteRequest::read(request.input())?;
    san::remove_route(san_prefix(asked.san, asked.length)?)
}

/// A prefix of SAN addresses, which have no port.
fn san_prefix(address: SocketAddress, length: u32) -> Result<Prefix, NtStatus> {
    match prefix(address, length)? {
        (prefix, 0) => Ok(prefix),
        (_, _) => Err(NtStatus::INVALID_PARAMETER),
    }
}

/// A prefix, and the port beside it.
fn prefix(address: SocketAddress, length: u32) -> Result<(Prefix, u16), NtStatus> {
    let address = address.parse().map_err(|_| NtStatus::INVALID_PARAMETER)?;
    match address {
        SocketAddr::V6(v6) if v6.flowinfo() != 0 || v6.scope_id() != 0 => return Err(NtStatus::INVALID_PARAMETER),
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    let length = u8::try_from(length).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let prefix = Prefix::new(address.ip(), length).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    Ok((prefix, address.port()))
}

/// Writes the endpoints of the request's handle, or of all. IRQL <= DISPATCH_LEVEL.
pub(crate) fn query_endpoints(request: Request) -> Result<Written, NtStatus> {
    let asked = EndpointsRequest::read(request.input())?;
    let mut list = request.output_list(size_of::<EndpointsReply>())?;
    let all_handles = asked.header.flags & ENDPOINTS_OF_ALL_HANDLES != 0;
    let own = (!all_handles).then(|| file::handle(&request));
    let next = handle::walk(own, asked.position, |id, endpoint, process| {
        list.has_room(size_of::<EndpointEntry>()) && list.push(endpoint.entry(id, process).as_bytes())
    });
    let count = list.count(size_of::<EndpointEntry>());
    let length = list.finish(EndpointsReply { next: next.unwrap_or(0), count, reserved: 0 }.as_bytes());
    Ok(if next.is_none() { Written::All(length) } else { Written::Part(length) })
}

/// Writes the request's handle, or all. IRQL <= DISPATCH_LEVEL.
pub(crate) fn query_handles(request: Request) -> Result<Written, NtStatus> {
    let asked = HandlesRequest::read(request.input())?;
    let mut list = request.output_list(size_of::<HandlesReply>())?;
    let own = (asked.header.flags & ALL_HANDLES == 0).then(|| file::handle(&request));
    let next = handle::entries(own, asked.position, |entry| {
        list.has_room(size_of::<HandleEntry>()) && list.push(entry.as_bytes())
    });
    let count = list.count(size_of::<HandleEntry>());
    let length = list.finish(HandlesReply { next: next.unwrap_or(0), count, reserved: 0 }.as_bytes());
    Ok(if next.is_none() { Written::All(length) } else { Written::Part(length) })
}
