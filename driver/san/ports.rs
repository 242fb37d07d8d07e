//! The SAN port space, and the map from SAN addresses to native ones: of the whole driver.

use super::Endpoint;
use crate::nt::{Shared, SpinLock};
use crate::parameters::{self, DEFAULT_NATIVE_PORT};
use crate::statistics::{Limit, STATISTICS};
use crate::wdf::OutputList;
use core::net::{IpAddr, SocketAddr};
use san_core::address_map::{AddError, AddressMap, Mapped, Origin, Prefix, Reach, Route};
use san_core::ports::PortTable;
use san_protocol::{NtStatus, ROUTE_FROM_REGISTRY, ROUTE_SAN_ONLY, SocketAddress};
use zerocopy::IntoBytes;

static PORTS: SpinLock<PortTable<Shared<Endpoint>>> = SpinLock::new(PortTable::new());

static ROUTES: SpinLock<AddressMap> = SpinLock::new(AddressMap::new(DEFAULT_NATIVE_PORT));

/// Stores the configured map. From DriverEntry.
pub(crate) fn set_routes(map: AddressMap) {
    let before = core::mem::replace(&mut *ROUTES.lock(), map);
    drop(before);
}

/// Adds a route, for what begins from now on. IRQL <= DISPATCH_LEVEL.
pub(crate) fn add_route(route: Route) -> Result<(), NtStatus> {
    let mut map = ROUTES.lock();
    if map.routes().len() >= parameters::get().routes && map.routes().iter().all(|other| other.san() != route.san()) {
        STATISTICS.limit_hit(Limit::Routes);
        return Err(NtStatus::INSUFFICIENT_RESOURCES);
    }
    map.add(route).map_err(|error| match error {
        AddError::Exists => NtStatus::OBJECT_NAME_COLLISION,
        AddError::NoMemory => NtStatus::INSUFFICIENT_RESOURCES,
    })
}

/// Removes a route, for what begins from now on. IRQL <= DISPATCH_LEVEL.
pub(crate) fn remove_route(san: Prefix) -> Result<(), NtStatus> {
    ROUTES.lock().remove(san).map(drop).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)
}

/// How many routes there are. IRQL <= DISPATCH_LEVEL.
pub(crate) fn routes() -> u32 {
    u32::try_from(ROUTES.lock().routes().len()).unwrap_or(u32::MAX)
}

/// Writes the routes, as many as fit; returns how many there are. IRQL <= DISPATCH_LEVEL.
pub(crate) fn write_routes(list: &mut OutputList) -> u32 {
    let map = ROUTES.lock();
    for route in map.routes() {
        if !list.push(structure(route).as_bytes()) {
            break;
        }
    }
    u32::try_from(map.routes().len()).unwrap_or(u32::MAX)
}

/// A route as callers see it.
fn structure(route: &Route) -> san_protocol::Route {
    let address = |prefix: Prefix, port| SocketAddress::from(SocketAddr::new(prefix.address(), port));
    let san_only = match route.reach() {
        Reach::SanOnly => ROUTE_SAN_ONLY,
        Reach::AlsoTcp => 0,
    };
    let from_registry = match route.origin() {
        Origin::Registry => ROUTE_FROM_REGISTRY,
        Origin::Request => 0,
    };
    san_protocol::Route {
        san: address(route.san(), 0),
        native: address(route.native(), route.port().unwrap_or(0)),
        length: route.san().length().into(),
        flags: san_only | from_registry,
    }
}

/// Frees what both tables hold. At unload, when no endpoint is left.
pub(super) fn clear() {
    let ports = core::mem::replace(&mut *PORTS.lock(), PortTable::new());
    drop(ports);
    set_routes(AddressMap::new(DEFAULT_NATIVE_PORT));
}

/// Reserves a SAN address, with a free port for port 0. IRQL <= DISPATCH_LEVEL.
pub(super) fn reserve(address: SocketAddr, endpoint: &Shared<Endpoint>) -> Result<SocketAddr, NtStatus> {
    let reserved = PORTS.lock().reserve(address, endpoint.clone());
    reserved.map_err(|(_, status)| status)
}

/// Gives it back. IRQL <= DISPATCH_LEVEL; no lock is held.
pub(super) fn release(address: SocketAddr) {
    let released = PORTS.lock().release(address);
    drop(released);
}

/// Who is bound to a SAN address, or to the wildcard with its port. IRQL <= DISPATCH_LEVEL.
pub(super) fn find(target: SocketAddr) -> Option<Shared<Endpoint>> {
    PORTS.lock().listener(target).cloned()
}

/// The native address of a SAN address. IRQL <= DISPATCH_LEVEL.
pub(super) fn map(san: SocketAddr) -> Option<Mapped> {
    ROUTES.lock().map(san)
}

/// The native address of a SAN address, if that is one of this machine's as far as the map says. IRQL <= DISPATCH_LEVEL.
pub(super) fn map_here(san: IpAddr) -> Option<IpAddr> {
    ROUTES.lock().is_here(san)
}

/// Whether a peer at the native address may say that it is that SAN address. IRQL <= DISPATCH_LEVEL.
pub(super) fn corresponds(san: IpAddr, native: IpAddr) -> bool {
    ROUTES.lock().corresponds(san, native)
}
