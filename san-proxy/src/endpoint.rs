//! Endpoints: what connections and listeners have in common.

use crate::error::{Error, Operation};
use crate::pending::Pending;
use crate::provider::Provider;
use san_protocol::{
    AddressReply, AddressesReply, BindRequest, ConnectRequest, ControlCode, CreateReply, CreateRequest, EndpointId,
    EndpointKind, EndpointRequest, Header, NtStatus, SetOptionRequest, SocketAddress, SocketOption,
};
use std::net::SocketAddr;
use std::time::Duration;

/// A Winsock address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressFamily(pub u16);

impl AddressFamily {
    /// `AF_INET`.
    pub const INET: Self = Self(2);
    /// `AF_INET6`, as Windows numbers it.
    pub const INET6: Self = Self(23);

    /// The family of an address.
    #[must_use]
    pub const fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::INET,
            SocketAddr::V6(_) => Self::INET6,
        }
    }
}

/// Both ends of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The local address, if it is bound.
    pub local: Option<SocketAddr>,
    /// The peer's address, if it is connected.
    pub peer: Option<SocketAddr>,
}

/// An endpoint of the driver: closed when this is dropped, which cancels what is pending on it.
#[derive(Debug)]
pub struct Endpoint {
    provider: Provider,
    id: EndpointId,
    /// Whether dropping this closes the endpoint.
    owned: bool,
}

impl Endpoint {
    /// Makes an endpoint.
    ///
    /// # Errors
    ///
    /// `STATUS_DEVICE_NOT_READY` until the driver has captured the WSK provider; `STATUS_NOT_SUPPORTED`, which is
    /// `WSAEAFNOSUPPORT` here, for a family that is neither IPv4 nor IPv6; `STATUS_TOO_MANY_OPENED_FILES` at the limit of a handle.
    pub fn create(provider: &Provider, kind: EndpointKind, family: AddressFamily) -> Result<Self, Error> {
        let request = CreateRequest { header: Header::new(0), kind: kind as u32, family: family.0, reserved: 0 };
        let CreateReply { endpoint } = provider.call(ControlCode::Create, &request).wait()?;
        Ok(Self { provider: provider.clone(), id: endpoint, owned: true })
    }

    /// Takes over the endpoint `id` of the provider's handle.
    #[must_use]
    pub fn from_id(provider: &Provider, id: EndpointId) -> Self {
        Self { provider: provider.clone(), id, owned: true }
    }

    /// Its name in requests.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// The driver it belongs to.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Gives the endpoint up without closing it: it lasts until its handle is closed.
    #[must_use]
    pub fn into_id(mut self) -> EndpointId {
        self.owned = false;
        self.id
    }

    /// Sets an option. Before the endpoint is bound or connected it is kept until then.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER` for an option that comes too late.
    pub fn set_option(&self, option: SocketOption, on: bool) -> Result<(), Error> {
        let request =
            SetOptionRequest { header: Header::new(0), endpoint: self.id, option: option as u32, value: on.into() };
        self.provider.call(ControlCode::SetOption, &request).wait()
    }

    /// Binds to a local address; port 0 lets the system choose. The address that came of it.
    ///
    /// # Errors
    ///
    /// As [`Self::start_bind`].
    pub fn bind(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        self.start_bind(address).wait()
    }

    /// Starts to bind.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_ADDRESS_ALREADY_EXISTS` for a port in use, `STATUS_INVALID_ADDRESS_COMPONENT` for an address that is
    /// not this machine's, `STATUS_INVALID_PARAMETER` for an address of another family and an endpoint that is bound already.
    pub fn start_bind(&self, address: SocketAddr) -> Pending<Result<SocketAddr, Error>> {
        let code = ControlCode::Bind;
        let request = BindRequest { header: Header::new(0), endpoint: self.id, address: address.into(), reserved: 0 };
        self.provider.call_then(code, &request, move |reply: Result<AddressReply, Error>| {
            reply.map_err(|error| error.at(address)).and_then(|reply| parse(code, &reply.address))
        })
    }

    /// Starts to connect, within `timeout` or as long as the driver gives it.
    pub(crate) fn start_connect(&self, address: SocketAddr, timeout: Option<Duration>) -> Pending<Result<(), Error>> {
        let request = ConnectRequest {
            header: Header::new(0),
            endpoint: self.id,
            address: address.into(),
            timeout: timeout.map_or(0, milliseconds),
        };
        let about = move |reply: Result<(), Error>| reply.map_err(|error| error.at(address));
        self.provider.call_then(ControlCode::Connect, &request, about)
    }

    /// Both ends.
    ///
    /// # Errors
    ///
    /// The endpoint is gone.
    pub fn addresses(&self) -> Result<Addresses, Error> {
        let reply: AddressesReply = self.provider.call(ControlCode::QueryAddresses, &self.request()).wait()?;
        let end = |address: &SocketAddress| {
            if *address == SocketAddress::NONE {
                Ok(None)
            } else {
                parse(ControlCode::QueryAddresses, address).map(Some)
            }
        };
        Ok(Addresses { local: end(&reply.local)?, peer: end(&reply.remote)? })
    }

    /// Closes the endpoint and waits until nothing of it is left. What is pending on it is cancelled.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_HANDLE` if the handle knows the endpoint no more.
    pub fn close(self) -> Result<(), Error> {
        self.start_close().wait()
    }

    /// Starts to close the endpoint.
    pub fn start_close(self) -> Pending<Result<(), Error>> {
        let pending = self.provider.call(ControlCode::Close, &self.request());
        let _ = self.into_id();
        pending
    }

    /// A request that names the endpoint and says nothing else.
    pub(crate) fn request(&self) -> EndpointRequest {
        EndpointRequest { header: Header::new(0), endpoint: self.id }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if self.owned {
            // It fails only where there is nothing to close: the handle is closed, or the driver gone.
            let _: Result<(), Error> = self.provider.call(ControlCode::Close, &self.request()).wait();
        }
    }
}

/// An address out of a reply, which is one if the driver keeps to the protocol.
pub(crate) fn parse(code: ControlCode, address: &SocketAddress) -> Result<SocketAddr, Error> {
    address.parse().map_err(|_| Error::new(Operation::Request(code), NtStatus::REVISION_MISMATCH))
}

/// The driver's milliseconds: 0 means none, so a short time is 1.
pub(crate) fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_never_none_by_rounding() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_micros(1001)), 2);
        assert_eq!(milliseconds(Duration::from_secs(1)), 1000);
        assert_eq!(milliseconds(Duration::MAX), u32::MAX);
    }
}
