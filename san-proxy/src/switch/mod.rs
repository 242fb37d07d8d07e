//! The switch: connections take the SAN where a SAN provider serves the target, and TCP/IP otherwise.
//!
//! [`SanStream`] and [`SanListener`] stand in the place of `std::net::TcpStream` and `TcpListener`. They go through a [`Switch`]: the
//! program's own ([`Switch::install`]), or one whose methods are called.
//!
//! - *Connecting*: a target in one of the switch's subnets is tried on the SAN first. If that fails the SAN socket is closed, and
//!   TCP/IP is tried, unless the error is certain to come by TCP/IP too (WSAECONNRESET, WSAECONNREFUSED, WSAEHOSTUNREACH). A SAN
//!   connection that stands is never exchanged for one of TCP/IP.
//! - *Listening*: TCP/IP listens first. At a SAN address and at the wildcard, the SAN provider listens at the same port as well.
//! - *Sessions* are negotiated before a connect returns, and before an accepted stream is handed out.
//! - Without a provider, since the driver is not installed, everything goes by TCP/IP.

mod attempt;
mod channel;
mod config;
mod file;
mod listener;
mod message;
mod session;
mod socket;
mod stream;
mod subnet;
#[cfg(test)]
mod tests;

pub use config::{ReceiveWindow, SwitchConfig};
pub use file::ConfigError;
pub use listener::{Incoming, SanListener};
pub use session::SanSession;
pub use socket::SanSocket;
pub use stream::SanStream;
pub use subnet::{Prefix, PrefixError, Subnet, SubnetTable};

use crate::endpoint::AddressFamily;
use crate::error::{Error, Operation};
use crate::provider::Provider;
use crate::san::SanEndpoint;
use attempt::{Attempt, Failure};
use channel::{Channel, SharedChannel};
use san_protocol::{ControlCode, NtStatus, WsaError};
use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The environment variable that names the configuration file of a program that installs no switch itself.
pub const CONFIG_VARIABLE: &str = "SANWSK_SWITCH";

/// The program's own switch.
static INSTALLED: RwLock<Option<Switch>> = RwLock::new(None);

/// After these a connect by TCP/IP is certain to fail too.
const CERTAIN: [WsaError; 3] = [WsaError::WSAECONNRESET, WsaError::WSAECONNREFUSED, WsaError::WSAEHOSTUNREACH];

/// Decides between SAN and TCP/IP. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct Switch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    provider: Option<Provider>,
    config: SwitchConfig,
}

impl Switch {
    /// A switch between `provider` and TCP/IP. `None`: there is no provider, and everything goes by TCP/IP.
    #[must_use]
    pub fn new(provider: Option<Provider>, config: SwitchConfig) -> Self {
        Self { shared: Arc::new(Shared { provider, config }) }
    }

    /// A switch with this machine's provider, if it has one that this program may use.
    #[must_use]
    pub fn open(config: SwitchConfig) -> Self {
        // Whatever is wrong with the SAN, TCP/IP is there.
        Self::new(Provider::open().ok(), config)
    }

    /// Makes this the program's own switch, through which [`SanStream::connect`] and [`SanListener::bind`] go. The one before.
    pub fn install(self) -> Option<Self> {
        INSTALLED.write().unwrap_or_else(PoisonError::into_inner).replace(self)
    }

    /// Takes the program's own switch back. What was connected through it goes on.
    pub fn uninstall() -> Option<Self> {
        INSTALLED.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The program's own switch. If none is installed, one is made of the file that [`CONFIG_VARIABLE`] names, or without subnets.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: there is something wrong with the file.
    pub fn installed() -> Result<Self, ConfigError> {
        if let Some(switch) = &*INSTALLED.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(switch.clone());
        }
        let config = env::var_os(CONFIG_VARIABLE).map_or_else(|| Ok(SwitchConfig::default()), SwitchConfig::load)?;
        let mut installed = INSTALLED.write().unwrap_or_else(PoisonError::into_inner);
        Ok(installed.get_or_insert_with(|| Self::open(config)).clone())
    }

    /// What it goes by.
    #[must_use]
    pub fn config(&self) -> &SwitchConfig {
        &self.shared.config
    }

    /// The SAN provider, if there is one.
    #[must_use]
    pub fn provider(&self) -> Option<&Provider> {
        self.shared.provider.as_ref()
    }

    /// Connects to the first of these addresses that can be connected to.
    ///
    /// # Errors
    ///
    /// That of the last address: a SAN error that is certain, else TCP/IP's. After a SAN connection stands, how its session
    /// could not be negotiated.
    pub fn connect(&self, addresses: impl ToSocketAddrs) -> io::Result<SanStream> {
        first(addresses, |address| self.connect_one(address, None, &Attempt::default()))
    }

    /// Connects within `timeout`, of which the SAN may use [`SwitchConfig::connect_timeout`] before TCP/IP is tried.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`], and if the time has passed.
    pub fn connect_timeout(&self, address: &SocketAddr, timeout: Duration) -> io::Result<SanStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a connect needs some time"));
        }
        self.connect_one(*address, Instant::now().checked_add(timeout), &Attempt::default())
    }

    /// Connects by the SAN alone, for messages: sends `private` with the session, at most 256 bytes.
    ///
    /// # Errors
    ///
    /// `STATUS_NETWORK_UNREACHABLE`: no provider serves the target. Otherwise what the SAN fails with.
    pub fn connect_session(&self, address: SocketAddr, private: &[u8]) -> Result<SanSession, Error> {
        let unreachable = Error::new(Operation::Request(ControlCode::Connect), NtStatus::NETWORK_UNREACHABLE);
        let (provider, subnet) = self.san_for(address.ip()).ok_or(unreachable.at(address))?;
        let config = self.config();
        let endpoint = san_connect(provider, subnet.local, address, config.connect_timeout, &Attempt::default());
        let endpoint = endpoint.map_err(|(Failure::NoSocket(error) | Failure::Connect(error))| error)?;
        SanSession::negotiate(endpoint, config.receives, private, config.negotiate_timeout)
    }

    /// Connects a stream by the SAN alone, whether a subnet holds the target or not, within `timeout` or
    /// [`SwitchConfig::connect_timeout`].
    ///
    /// # Errors
    ///
    /// There is no provider: `STATUS_NETWORK_UNREACHABLE`. Otherwise what the SAN fails with, and how the session could not be
    /// negotiated.
    pub fn connect_san(&self, address: SocketAddr, timeout: Option<Duration>) -> io::Result<SanStream> {
        let unreachable = Error::new(Operation::Request(ControlCode::Connect), NtStatus::NETWORK_UNREACHABLE);
        let provider = self.provider().ok_or(unreachable.at(address))?;
        let local = self.config().subnets.find(address.ip()).and_then(|subnet| subnet.local);
        let time = timeout.unwrap_or(self.config().connect_timeout);
        let endpoint = san_connect(provider, local, address, time, &Attempt::default());
        let endpoint = endpoint.map_err(|(Failure::NoSocket(error) | Failure::Connect(error))| error)?;
        SanStream::negotiate(endpoint, self.config())
    }

    /// A socket that is to be connected, without waiting if it is non-blocking.
    #[must_use]
    pub fn socket(&self) -> SanSocket {
        SanSocket::new(self.clone())
    }

    /// Listens at the first of these addresses that can be listened at: on TCP/IP, and on the SAN as well where it is one of
    /// the SAN's or the wildcard.
    ///
    /// # Errors
    ///
    /// TCP/IP's. What the SAN fails with is no error: see [`SanListener::san_failure`].
    pub fn bind(&self, addresses: impl ToSocketAddrs) -> io::Result<SanListener> {
        first(addresses, |address| SanListener::bind_one(self, address))
    }

    /// The provider and the subnet of a target that the SAN serves.
    fn san_for(&self, target: IpAddr) -> Option<(&Provider, Subnet)> {
        Some((self.provider()?, *self.config().subnets.find(target)?))
    }

    /// SAN first where it serves the target, TCP/IP where that leaves a chance.
    fn connect_one(&self, address: SocketAddr, deadline: Option<Instant>, attempt: &Attempt) -> io::Result<SanStream> {
        let mut san_failure = None;
        if let Some((provider, subnet)) = self.san_for(address.ip()) {
            let limit = self.config().connect_timeout;
            let time = left(deadline)?.map_or(limit, |left| left.min(limit));
            match san_connect(provider, subnet.local, address, time, attempt) {
                Ok(endpoint) => {
                    let negotiated = self.negotiated(endpoint, deadline);
                    attempt.end();
                    return negotiated.map(SanStream::of_san);
                }
                Err(Failure::Connect(error)) if CERTAIN.contains(&error.wsa_error()) => return Err(error.into()),
                Err(Failure::NoSocket(error) | Failure::Connect(error)) => san_failure = Some(error),
            }
        }
        attempt.goes_on().map_err(io::Error::from)?;
        let stream = match left(deadline)? {
            None => TcpStream::connect(address)?,
            Some(left) => TcpStream::connect_timeout(&address, left)?,
        };
        Ok(SanStream::of_tcp(stream, san_failure))
    }

    /// Negotiates the session of a stream on a connected endpoint. From here on there is no way back to TCP/IP.
    fn negotiated(&self, endpoint: SanEndpoint, deadline: Option<Instant>) -> io::Result<SharedChannel> {
        let config = self.config();
        let limit = config.negotiate_timeout;
        let time = left(deadline)?.map_or(limit, |left| left.min(limit));
        Ok(SharedChannel::new(Channel::negotiate(endpoint, config, time)?))
    }
}

/// Makes a SAN socket, binds it and connects it. Where it fails the socket is closed.
fn san_connect(
    provider: &Provider,
    local: Option<IpAddr>,
    address: SocketAddr,
    timeout: Duration,
    attempt: &Attempt,
) -> Result<SanEndpoint, Failure> {
    let endpoint = SanEndpoint::create(provider, AddressFamily::of(address)).map_err(Failure::NoSocket)?;
    let local = match local {
        Some(local) => local,
        None => routed_from(address).map_err(Failure::NoSocket)?,
    };
    endpoint.bind(SocketAddr::new(local, 0)).map_err(Failure::NoSocket)?;
    attempt.connect(&endpoint, address, timeout).map_err(Failure::Connect)?;
    Ok(endpoint)
}

/// What is left of the time; an error if nothing is.
fn left(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    let Some(deadline) = deadline else { return Ok(None) };
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    left.map(Some).ok_or_else(|| io::ErrorKind::TimedOut.into())
}

/// The local address from which this machine's routing reaches `target`. Nothing is sent.
pub(crate) fn routed_from(target: SocketAddr) -> Result<IpAddr, Error> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let route = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(target)?;
        socket.local_addr()
    });
    let unreachable = Error::new(Operation::Request(ControlCode::Bind), NtStatus::NETWORK_UNREACHABLE);
    route.map(|local| local.ip()).map_err(|_| unreachable.at(target))
}

/// The first success, or the last failure.
fn first<T>(addresses: impl ToSocketAddrs, mut attempt: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "there is no address to try");
    for address in addresses.to_socket_addrs()? {
        match attempt(address) {
            Ok(done) => return Ok(done),
            Err(error) => last = error,
        }
    }
    Err(last)
}
