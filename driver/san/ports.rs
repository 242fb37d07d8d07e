//! The SAN port space, and the map from SAN addresses to native ones: of the whole driver.

use super::Endpoint;
use crate::nt::{Shared, SpinLock};
use crate::parameters::DEFAULT_NATIVE_PORT;
use core::net::{IpAddr, SocketAddr};
use san_core::address_map::{AddressMap, Mapped};
use san_core::ports::PortTable;
use san_protocol::NtStatus;

static PORTS: SpinLock<PortTable<Shared<Endpoint>>> = SpinLock::new(PortTable::new());

static ROUTES: SpinLock<AddressMap> = SpinLock::new(AddressMap::new(DEFAULT_NATIVE_PORT));

/// Stores the configured map. From DriverEntry.
pub(crate) fn set_routes(map: AddressMap) {
    let before = core::mem::replace(&mut *ROUTES.lock(), map);
    drop(before);
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
