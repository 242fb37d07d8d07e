//! The driver's map from SAN addresses to native ones.

use crate::error::Error;
use crate::list;
use crate::provider::Provider;
use crate::switch::Prefix;
use san_protocol::{
    AddRouteRequest, ControlCode, Header, NtStatus, ROUTE_FROM_REGISTRY, ROUTE_SAN_ONLY, RemoveRouteRequest,
    Route as RouteStructure, RoutesReply, SocketAddress,
};
use std::fmt;
use std::net::SocketAddr;

/// Maps the SAN addresses of a prefix to native addresses of a prefix as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The SAN addresses.
    pub san: Prefix,
    /// What they stand for, of the same family and length.
    pub native: Prefix,
    /// The TCP port at which SAN connections arrive at the machines behind the route; `None`: this machine's own native port.
    pub native_port: Option<u16>,
    /// Whether TCP/IP does not reach the SAN addresses.
    pub san_only: bool,
}

/// Where the driver has a route from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteOrigin {
    /// The registry: it comes back with the next load of the driver.
    Registry,
    /// [`Provider::add_route`]: it lasts until the driver is unloaded.
    Request,
}

/// A route of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteEntry {
    /// The route.
    pub route: Route,
    /// Where it is from.
    pub origin: RouteOrigin,
}

impl Provider {
    /// The driver's routes, the longer prefixes first. Without any every SAN address is its own native address.
    ///
    /// # Errors
    ///
    /// The driver refuses, or answers with what is no route (`STATUS_REVISION_MISMATCH`).
    pub fn routes(&self) -> Result<Vec<RouteEntry>, Error> {
        let code = ControlCode::QueryRoutes;
        let mut room = 16;
        loop {
            let list = list::query::<RoutesReply, RouteStructure>(self, code, &(), room)?;
            if list.complete {
                let entries = list.entries.iter().map(RouteEntry::parse);
                return entries.collect::<Option<_>>().ok_or(list::unknown(code));
            }
            // Others may add routes meanwhile.
            room = list.head.total as usize + 16;
        }
    }

    /// Adds a route, for connects and accepts that begin from now on. Administrators only.
    ///
    /// # Errors
    ///
    /// `STATUS_PRIVILEGE_NOT_HELD`: the caller is no administrator. `STATUS_OBJECT_NAME_COLLISION`: there is a route for that SAN
    /// prefix. `STATUS_INVALID_PARAMETER`: the prefixes are not of one family and length, or the port is 0.
    /// `STATUS_INSUFFICIENT_RESOURCES`: there are as many as there may be.
    pub fn add_route(&self, route: &Route) -> Result<(), Error> {
        let code = ControlCode::AddRoute;
        if route.native_port == Some(0) || route.san.length() != route.native.length() {
            return Err(Error::new(crate::Operation::Request(code), NtStatus::INVALID_PARAMETER));
        }
        self.device().claim_administration();
        self.call(code, &AddRouteRequest { header: Header::new(0), route: route.structure() }).wait()
    }

    /// Removes the route for a SAN prefix, for connects and accepts that begin from now on. Administrators only.
    ///
    /// # Errors
    ///
    /// `STATUS_PRIVILEGE_NOT_HELD`: the caller is no administrator. `STATUS_OBJECT_NAME_NOT_FOUND`: there is none.
    pub fn remove_route(&self, san: Prefix) -> Result<(), Error> {
        let request = RemoveRouteRequest {
            header: Header::new(0),
            san: SocketAddr::new(san.address(), 0).into(),
            length: san.length().into(),
        };
        self.device().claim_administration();
        self.call(ControlCode::RemoveRoute, &request).wait()
    }
}

impl Route {
    /// As requests carry it.
    fn structure(&self) -> RouteStructure {
        RouteStructure {
            san: SocketAddr::new(self.san.address(), 0).into(),
            native: SocketAddr::new(self.native.address(), self.native_port.unwrap_or(0)).into(),
            length: self.san.length().into(),
            flags: if self.san_only { ROUTE_SAN_ONLY } else { 0 },
        }
    }
}

impl RouteEntry {
    /// What the driver has said; `None` if it means nothing here.
    fn parse(structure: &RouteStructure) -> Option<Self> {
        let prefix = |address: SocketAddress| -> Option<(Prefix, u16)> {
            let address = address.parse().ok()?;
            let length = structure.length.try_into().ok()?;
            Some((Prefix::new(address.ip(), length).ok()?, address.port()))
        };
        let ((san, _), (native, port)) = (prefix(structure.san)?, prefix(structure.native)?);
        let san_only = structure.flags & ROUTE_SAN_ONLY != 0;
        let route = Route { san, native, native_port: (port != 0).then_some(port), san_only };
        let from_registry = structure.flags & ROUTE_FROM_REGISTRY != 0;
        Some(Self { route, origin: if from_registry { RouteOrigin::Registry } else { RouteOrigin::Request } })
    }
}

/// As the driver's registry value `Routes` has it: `10.77.0.0/16 192.168.0.0/16 port=28058 san-only`.
impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.san, self.native)?;
        if let Some(port) = self.native_port {
            write!(formatter, " port={port}")?;
        }
        formatter.write_str(if self.san_only { " san-only" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeDevice, MAX_ROUTES};
    use crate::{EndpointScope, SanEndpoint, SocketType};
    use std::io;

    fn route(san: &str, native: &str) -> Route {
        Route { san: san.parse().unwrap(), native: native.parse().unwrap(), native_port: None, san_only: false }
    }

    #[test]
    fn routes_are_listed_as_they_were_added_the_longer_prefixes_first() {
        let (provider, _) = FakeDevice::provider();
        assert_eq!(provider.routes().unwrap(), []);
        let wide = Route { san_only: true, ..route("10.0.0.0/8", "127.0.0.0/8") };
        let narrow = Route { native_port: Some(9), ..route("fd00::/64", "fe80::/64") };
        provider.add_route(&wide).unwrap();
        provider.add_route(&narrow).unwrap();
        let listed = provider.routes().unwrap();
        assert_eq!(listed.iter().map(|entry| entry.route).collect::<Vec<_>>(), [narrow, wide]);
        assert!(listed.iter().all(|entry| entry.origin == RouteOrigin::Request));
        assert_eq!(wide.to_string(), "10.0.0.0/8 127.0.0.0/8 san-only");
        assert_eq!(narrow.to_string(), "fd00::/64 fe80::/64 port=9");
        provider.remove_route(narrow.san).unwrap();
        assert_eq!(provider.routes().unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_added_or_removed_says_why_and_what_to_do() {
        let (provider, device) = FakeDevice::provider();
        let first = route("10.0.0.0/8", "127.0.0.0/8");
        provider.add_route(&first).unwrap();
        let again = provider.add_route(&first).unwrap_err();
        assert_eq!((again.status(), again.kind()), (NtStatus::OBJECT_NAME_COLLISION, io::ErrorKind::AlreadyExists));
        let absent = provider.remove_route("11.0.0.0/8".parse().unwrap()).unwrap_err();
        assert_eq!((absent.status(), absent.kind()), (NtStatus::OBJECT_NAME_NOT_FOUND, io::ErrorKind::NotFound));
        for wrong in [
            route("12.0.0.0/8", "127.0.0.0/9"),
            route("12.0.0.0/8", "fd00::/8"),
            Route { native_port: Some(0), ..route("12.0.0.0/8", "127.0.0.0/8") },
        ] {
            assert_eq!(provider.add_route(&wrong).unwrap_err().status(), NtStatus::INVALID_PARAMETER, "{wrong}");
        }
        for at in 1..MAX_ROUTES {
            provider.add_route(&route(&format!("{}.0.0.0/8", 20 + at), "127.0.0.0/8")).unwrap();
        }
        let full = provider.add_route(&route("30.0.0.0/8", "127.0.0.0/8")).unwrap_err();
        assert_eq!(full.status(), NtStatus::INSUFFICIENT_RESOURCES);
        device.make_ordinary();
        let denied = [
            provider.add_route(&route("30.0.0.0/8", "127.0.0.0/8")).unwrap_err(),
            provider.remove_route(first.san).unwrap_err(),
            provider.endpoints(EndpointScope::AllHandles).unwrap_err(),
        ];
        for error in denied {
            assert_eq!(error.status(), NtStatus::PRIVILEGE_NOT_HELD);
            assert!(error.hint().unwrap().contains("administrator"));
        }
        assert!([again, absent, full].iter().all(|error| error.hint().unwrap().contains("route")));
        let limits = provider.limits().unwrap();
        assert_eq!((limits.routes, limits.routes_used), (MAX_ROUTES, MAX_ROUTES));
    }

    #[test]
    fn every_endpoint_is_listed_once_however_many_there_are() {
        let (provider, _) = FakeDevice::provider();
        let count = 600;
        let made: Vec<_> = (0..count)
            .map(|_| {
                SanEndpoint::socket(&provider, crate::AddressFamily::INET, SocketType::STREAM, crate::Protocol::TCP)
            })
            .collect::<Result<_, _>>()
            .unwrap();
        let listed = provider.endpoints(EndpointScope::OwnHandle).unwrap();
        assert_eq!(
            listed.iter().map(|one| one.id).collect::<Vec<_>>(),
            made.iter().map(SanEndpoint::id).collect::<Vec<_>>()
        );
        assert_eq!(provider.endpoints(EndpointScope::AllHandles).unwrap(), listed);
        assert_eq!(provider.statistics().unwrap().san_endpoints, count);
    }
}
