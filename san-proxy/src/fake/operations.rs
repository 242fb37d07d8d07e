//! What administrators ask of the device for tests: routes, limits, and the endpoints of its one handle.

use super::san::San;
use super::{Endpoint, Handled, State, reply};
use san_protocol::{
    ALL_HANDLES, AddRouteRequest, ControlCode, DeviceLimits, DeviceStatistics, ENDPOINTS_OF_ALL_HANDLES, EndpointEntry,
    EndpointId, EndpointKind, EndpointState, EndpointStatistics, EndpointsReply, EndpointsRequest, HandleEntry,
    HandlesReply, HandlesRequest, NtStatus, ROUTE_SAN_ONLY, RemoveRouteRequest, Request, Route, RoutesReply,
    SocketAddress,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// `MaxRoutes`.
pub(crate) const MAX_ROUTES: u32 = 4;

/// Process of the one handle.
pub(crate) const PROCESS: u64 = 4711;

impl State {
    pub(super) fn handle_operations(
        &mut self,
        code: ControlCode,
        input: &[u8],
        room: usize,
    ) -> Result<Handled, NtStatus> {
        match code {
            ControlCode::QueryLimits => Ok(reply(&self.limits())),
            ControlCode::QueryRoutes => self.query_routes(room),
            ControlCode::AddRoute => {
                let asked = AddRouteRequest::read(input)?;
                self.administrator()?;
                self.add_route(asked.route)
            }
            ControlCode::RemoveRoute => {
                let asked = RemoveRouteRequest::read(input)?;
                self.administrator()?;
                let is_it = |route: &Route| (route.san, route.length) == (asked.san, asked.length);
                let at = self.routes.iter().position(is_it).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                self.routes.remove(at);
                Ok(Handled::Reply(Vec::new()))
            }
            ControlCode::QueryEndpoints => {
                let asked = EndpointsRequest::read(input)?;
                if asked.header.flags & ENDPOINTS_OF_ALL_HANDLES != 0 {
                    self.administrator()?;
                }
                self.query_endpoints(asked.position, room)
            }
            ControlCode::QueryHandles => {
                let asked = HandlesRequest::read(input)?;
                if asked.header.flags & ALL_HANDLES != 0 {
                    self.administrator()?;
                }
                list(|count| HandlesReply { next: 0, count, reserved: 0 }, &[self.handle_entry()], room)
            }
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }

    fn administrator(&self) -> Result<(), NtStatus> {
        if self.ordinary { Err(NtStatus::PRIVILEGE_NOT_HELD) } else { Ok(()) }
    }

    /// What the device is counted to hold, but for what SAN endpoints do.
    pub(super) fn device_statistics(&self) -> DeviceStatistics {
        let of_kind = |kind| {
            let kinds = self.endpoints.values().map(Endpoint::kind);
            kinds.filter(|other| *other == kind).count().try_into().unwrap()
        };
        DeviceStatistics {
            handles: 1,
            stream_connections: of_kind(EndpointKind::StreamConnection),
            stream_listeners: of_kind(EndpointKind::StreamListener),
            san_endpoints: of_kind(EndpointKind::San),
            routes: self.routes.len().try_into().unwrap(),
            ..DeviceStatistics::new_zeroed()
        }
    }

    /// The one handle.
    fn handle_entry(&self) -> HandleEntry {
        let entries = || self.endpoints.iter().map(|(&id, endpoint)| endpoint.entry(id));
        let sum = |of: fn(&EndpointEntry) -> u64| entries().map(|entry| of(&entry)).sum();
        HandleEntry {
            handle: 1,
            process: PROCESS,
            messages_sent: sum(|entry| entry.messages_sent),
            bytes_sent: sum(|entry| entry.bytes_sent),
            messages_received: sum(|entry| entry.messages_received),
            bytes_received: sum(|entry| entry.bytes_received),
            pinned_bytes: sum(|entry| entry.pinned_bytes),
            endpoints: self.endpoints.len().try_into().unwrap(),
            regions: entries().map(|entry| entry.regions).sum(),
            ..HandleEntry::new_zeroed()
        }
    }

    fn limits(&self) -> DeviceLimits {
        DeviceLimits {
            pinned_bytes: 1 << 30,
            pinned_bytes_per_handle: 1 << 28,
            endpoints: 65536,
            endpoints_per_handle: 16384,
            backlog: 200,
            regions: 65536,
            regions_per_handle: 16384,
            message_size: 1 << 20,
            handshakes: 256,
            routes: MAX_ROUTES,
            handshake_timeout: 5000,
            connect_timeout: 21000,
            native_port: 28057,
            allow_users: self.ordinary.into(),
            routes_used: self.routes.len().try_into().unwrap(),
            reserved: 0,
        }
    }

    fn add_route(&mut self, route: Route) -> Result<Handled, NtStatus> {
        let family = |address: SocketAddress| address.parse().map(|address| address.is_ipv4());
        let (san, native) = family(route.san)
            .and_then(|san| Ok((san, family(route.native)?)))
            .map_err(|_| NtStatus::INVALID_PARAMETER)?;
        if san != native || route.length > if san { 32 } else { 128 } || route.flags & !ROUTE_SAN_ONLY != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if self.routes.iter().any(|other| (other.san, other.length) == (route.san, route.length)) {
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        if self.routes.len() >= MAX_ROUTES as usize {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let at = self.routes.partition_point(|other| other.length >= route.length);
        self.routes.insert(at, route);
        Ok(Handled::Reply(Vec::new()))
    }

    fn query_routes(&self, room: usize) -> Result<Handled, NtStatus> {
        let total = self.routes.len().try_into().unwrap();
        let head = |count| RoutesReply { total, count };
        list(head, &self.routes, room)
    }

    fn query_endpoints(&self, position: u64, room: usize) -> Result<Handled, NtStatus> {
        let entries: Vec<_> = self.endpoints.range(position..).map(|(&id, endpoint)| endpoint.entry(id)).collect();
        let head = |count: u32| {
            let next = entries.get(count as usize).map_or(0, |entry| entry.endpoint);
            EndpointsReply { next, count, reserved: 0 }
        };
        list(head, &entries, room)
    }
}

/// A head, and as many entries as there is room for.
fn list<H: IntoBytes + Immutable, E: IntoBytes + Immutable>(
    head: impl FnOnce(u32) -> H,
    entries: &[E],
    room: usize,
) -> Result<Handled, NtStatus> {
    let room = room.checked_sub(size_of::<H>()).ok_or(NtStatus::BUFFER_TOO_SMALL)?;
    let fitting = &entries[..entries.len().min(room / size_of::<E>())];
    let mut bytes = head(fitting.len().try_into().unwrap()).as_bytes().to_vec();
    bytes.extend(fitting.iter().flat_map(IntoBytes::as_bytes));
    Ok(if fitting.len() == entries.len() { Handled::Reply(bytes) } else { Handled::Part(bytes) })
}

impl Endpoint {
    fn kind(&self) -> EndpointKind {
        match (&self.san, &self.backlog) {
            (Some(_), _) => EndpointKind::San,
            (None, Some(_)) => EndpointKind::StreamListener,
            (None, None) => EndpointKind::StreamConnection,
        }
    }

    fn entry(&self, endpoint: EndpointId) -> EndpointEntry {
        let statistics = self.san.as_ref().map_or_else(EndpointStatistics::new_zeroed, San::statistics);
        let state = match (&self.backlog, self.remote, self.local) {
            (Some(_), _, _) => EndpointState::Listening,
            (None, Some(_), _) => EndpointState::Connected,
            (None, None, Some(_)) => EndpointState::Bound,
            (None, None, None) => EndpointState::Idle,
        };
        EndpointEntry {
            endpoint,
            process: PROCESS,
            messages_sent: statistics.messages_sent,
            bytes_sent: statistics.bytes_sent,
            messages_received: statistics.messages_received,
            bytes_received: statistics.bytes_received,
            local: self.local.unwrap_or(SocketAddress::NONE),
            remote: self.remote.unwrap_or(SocketAddress::NONE),
            kind: self.kind() as u32,
            state: state as u32,
            backlog: self.backlog.as_ref().map_or(0, |waiting| waiting.len().try_into().unwrap()),
            backlog_limit: if self.backlog.is_some() { 200 } else { 0 },
            sends_queued: statistics.sends_queued,
            receives_posted: statistics.receives_posted,
            send_credits: statistics.send_credits,
            regions: statistics.regions,
            pinned_bytes: statistics.pinned_bytes,
        }
    }
}
