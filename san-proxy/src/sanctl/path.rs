//! Which way a connection takes: by the switch, or as the arguments force it.

use super::failure::Failure;
use crate::endpoint::AddressFamily;
use crate::error::Error;
use crate::listener::{Accepted, Backlog, StreamListener};
use crate::provider::Provider;
use crate::routes::{Route, RouteEntry};
use crate::san::SanEndpoint;
use crate::stream::{Receive, StreamConnection, Transfer};
use crate::switch::{CONFIG_VARIABLE, SanListener, SanStream, Subnet, Switch, SwitchConfig, routed_from};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Most that a read of the driver's streams takes at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// A port for those that nothing is sent to.
const DISCARD_PORT: u16 = 9;

/// How long the end of a connection waits for the peer's.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The way, as the arguments give it. None of them: SAN first where a subnet says so, else TCP/IP.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Path {
    /// By the SAN alone, whether a subnet holds the address or not.
    #[arg(long, conflicts_with_all = ["tcp", "stream"], help_heading = "Path")]
    san: bool,
    /// By TCP/IP alone, without the driver.
    #[arg(long, conflicts_with = "stream", help_heading = "Path")]
    tcp: bool,
    /// By TCP/IP through the driver: its stream endpoints.
    #[arg(long, help_heading = "Path")]
    stream: bool,
    /// The switch's file: subnets, sizes, times. Without it, the file that SANWSK_SWITCH names, if any.
    #[arg(long, value_name = "FILE", help_heading = "Path")]
    config: Option<PathBuf>,
}

/// What of the path is forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Switch,
    San,
    Tcp,
    Stream,
}

/// What connects and listens.
pub(super) struct Network {
    choice: Choice,
    switch: Switch,
    /// Why there is no provider, where it was looked for.
    absent: Option<Error>,
}

/// The switch's file, as the arguments or the environment name it; without one, the defaults.
pub(super) fn load_config(file: Option<&PathBuf>) -> Result<(Option<PathBuf>, SwitchConfig), Failure> {
    let named = file.cloned().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(|name: OsString| name.into()));
    let config = named.as_ref().map_or_else(|| Ok(SwitchConfig::default()), SwitchConfig::load);
    config.map(|config| (named, config)).map_err(Failure::Config)
}

impl Path {
    /// Opens the driver if this way needs it.
    pub(super) fn open(&self, open: impl FnOnce() -> Result<Provider, Error>) -> Result<Network, Failure> {
        let choice = match self {
            Self { san: true, .. } => Choice::San,
            Self { tcp: true, .. } => Choice::Tcp,
            Self { stream: true, .. } => Choice::Stream,
            Self { .. } => Choice::Switch,
        };
        let (_, mut config) = load_config(self.config.as_ref())?;
        let (provider, absent) = match choice {
            Choice::Tcp => (None, None),
            Choice::Stream => (Some(open()?), None),
            Choice::San => (Some(with_subnets(open()?, &mut config)?), None),
            // Without the SAN there is TCP/IP.
            Choice::Switch => match open().and_then(|provider| with_subnets(provider, &mut config)) {
                Ok(provider) => (Some(provider), None),
                Err(error) => (None, Some(error)),
            },
        };
        Ok(Network { choice, switch: Switch::new(provider, config), absent })
    }
}

/// The prefixes of the driver's routes are subnets, where the file says nothing else about them.
fn with_subnets(provider: Provider, config: &mut SwitchConfig) -> Result<Provider, Error> {
    for RouteEntry { route, .. } in provider.routes()? {
        if config.subnets.iter().all(|subnet| subnet.prefix != route.san) {
            config.subnets.insert(Subnet { prefix: route.san, local: local_behind(&route) });
        }
    }
    Ok(provider)
}

/// This machine's own SAN address behind a route: the one that stands for the native address from which routing reaches the others.
pub(super) fn local_behind(route: &Route) -> Option<IpAddr> {
    let native = routed_from(SocketAddr::new(route.native.some_host(), DISCARD_PORT)).ok()?;
    route.native.translate(native, route.san)
}

impl Network {
    pub(super) fn connect(&self, address: SocketAddr, timeout: Option<Duration>) -> Result<Connection, Failure> {
        let link = match (self.choice, self.switch.provider()) {
            (Choice::Stream, Some(provider)) => {
                let stream = StreamConnection::create(provider, AddressFamily::of(address))?;
                stream.connect(address, timeout)?;
                Link::Driver { stream, timeout: None }
            }
            (Choice::San, _) => {
                self.switch.connect_san(address, timeout).map(Link::Switched).map_err(cannot_connect(address))?
            }
            (Choice::Switch | Choice::Tcp | Choice::Stream, _) => {
                let connected = match timeout {
                    None => self.switch.connect(address),
                    Some(timeout) => self.switch.connect_timeout(&address, timeout),
                };
                connected.map(Link::Switched).map_err(cannot_connect(address))?
            }
        };
        let why = match &link {
            Link::Switched(stream) => self.why_tcp(address.ip(), stream.san_failure()),
            Link::Driver { .. } => String::new(),
        };
        Connection::new(link, Some(&why))
    }

    /// Why a connection went by TCP/IP.
    fn why_tcp(&self, target: IpAddr, failure: Option<Error>) -> String {
        match (self.choice, failure, self.absent) {
            (Choice::Tcp, ..) => "--tcp".to_owned(),
            (_, Some(failure), _) => format!("the SAN failed: {failure}"),
            (_, None, Some(absent)) => format!("there is no SAN: {absent}"),
            (_, None, None) => format!("{target} is in no SAN subnet"),
        }
    }

    pub(super) fn listen(&self, address: SocketAddr, backlog: Option<u32>) -> Result<Listener<'_>, Failure> {
        let backlog = backlog.map_or(Backlog::MAXIMUM, Backlog);
        let listening = match (self.choice, self.switch.provider()) {
            (Choice::San, Some(provider)) => {
                let listener = SanEndpoint::create(provider, AddressFamily::of(address))?;
                let local = listener.bind(address)?;
                listener.listen(backlog)?;
                Listening::San { listener, local }
            }
            (Choice::Stream, Some(provider)) => {
                let listener = StreamListener::create(provider, AddressFamily::of(address))?;
                let local = listener.bind(address)?;
                listener.listen(backlog)?;
                Listening::Driver { listener, local }
            }
            (Choice::Switch | Choice::Tcp | Choice::San | Choice::Stream, _) => {
                let cannot_listen = |error| Failure::network("listen at", Some(address), error);
                let listener = self.switch.bind(address).map_err(cannot_listen)?;
                let local = listener.local_addr().map_err(cannot_listen)?;
                Listening::Switched { listener, local }
            }
        };
        Ok(Listener { network: self, listening })
    }
}

fn cannot_connect(address: SocketAddr) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::network("connect to", Some(address), error)
}

/// Where peers arrive.
pub(super) struct Listener<'network> {
    network: &'network Network,
    listening: Listening,
}

enum Listening {
    Switched { listener: SanListener, local: SocketAddr },
    San { listener: SanEndpoint, local: SocketAddr },
    Driver { listener: StreamListener, local: SocketAddr },
}

impl Listener<'_> {
    pub(super) fn accept(&self) -> Result<Connection, Failure> {
        let cannot_accept = |error| Failure::network("accept a connection", None, error);
        loop {
            let link = match &self.listening {
                Listening::Switched { listener, .. } => Link::Switched(listener.accept().map_err(cannot_accept)?.0),
                Listening::Driver { listener, .. } => {
                    let Accepted { connection: stream, .. } = listener.accept()?;
                    Link::Driver { stream, timeout: None }
                }
                Listening::San { listener, .. } => {
                    let undecided = listener.accept()?;
                    let accepted = undecided.accept().map_err(io::Error::from);
                    match accepted.and_then(|endpoint| SanStream::negotiate(endpoint, self.network.switch.config())) {
                        Ok(stream) => Link::Switched(stream),
                        // With the peer's connect fails ours, and nobody else cares.
                        Err(_) => continue,
                    }
                }
            };
            return Connection::new(link, None);
        }
    }
}

/// As in "listening on ...".
impl fmt::Display for Listener<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listening {
            Listening::San { local, .. } => write!(formatter, "{local} by SAN"),
            Listening::Driver { local, .. } => write!(formatter, "{local} by TCP/IP through the driver"),
            Listening::Switched { listener, local } if listener.is_san() => {
                write!(formatter, "{local} by SAN and by TCP/IP")
            }
            Listening::Switched { listener, local } => {
                let why = self.network.why_tcp(local.ip(), listener.san_failure());
                write!(formatter, "{local} by TCP/IP ({why})")
            }
        }
    }
}

/// A connection, whichever way it took. It is read and written through `&Connection` by two threads at once.
pub(super) struct Connection {
    link: Link,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// As in "connected by ...": `SAN`, or `TCP/IP` and why.
    pub(super) path: String,
    accepted: bool,
}

enum Link {
    Switched(SanStream),
    Driver { stream: StreamConnection, timeout: Option<Duration> },
}

impl Connection {
    /// `why_tcp`: why it goes by TCP/IP, if it does, of a connection that was made here.
    fn new(link: Link, why_tcp: Option<&str>) -> Result<Self, Failure> {
        let (local, peer, path) = match &link {
            Link::Switched(stream) => {
                let cannot_ask = |error| Failure::network("ask for a connection's addresses", None, error);
                // With no delay messages of `ping` and `perf` go at once, as they do by the SAN.
                stream.set_nodelay(true).map_err(cannot_ask)?;
                let path = match (stream.is_san(), why_tcp) {
                    (true, _) => "SAN".to_owned(),
                    (false, None) => "TCP/IP".to_owned(),
                    (false, Some(why)) => format!("TCP/IP ({why})"),
                };
                (stream.local_addr().map_err(cannot_ask)?, stream.peer_addr().map_err(cannot_ask)?, path)
            }
            Link::Driver { stream, .. } => {
                (stream.local_address()?, stream.peer_address()?, "TCP/IP through the driver".to_owned())
            }
        };
        Ok(Self { link, local, peer, path, accepted: why_tcp.is_none() })
    }

    /// `SAN` or `TCP/IP`, for JSON.
    pub(super) fn path_name(&self) -> &'static str {
        match &self.link {
            Link::Switched(stream) if stream.is_san() => "san",
            Link::Switched(_) => "tcp",
            Link::Driver { .. } => "stream",
        }
    }

    /// How long a read or write waits.
    pub(super) fn set_timeout(&mut self, time: Duration) -> Result<(), Failure> {
        match &mut self.link {
            Link::Switched(stream) => stream
                .set_read_timeout(Some(time))
                .and_then(|()| stream.set_write_timeout(Some(time)))
                .map_err(|error| Failure::network("set a time-out", None, error)),
            Link::Driver { timeout, .. } => {
                *timeout = Some(time);
                Ok(())
            }
        }
    }

    /// Ends this side, behind all that was written.
    pub(super) fn end_writing(&self) -> io::Result<()> {
        match &self.link {
            Link::Switched(stream) => stream.shutdown(Shutdown::Write),
            Link::Driver { stream, .. } => Ok(stream.shutdown()?),
        }
    }

    /// Ends it behind all that was written, and gives the peer time to do the same. What the peer still sends is not wanted.
    pub(super) fn finish(mut self) {
        let deadline = Instant::now() + END_TIMEOUT;
        // Where it has ended already there is nothing to wait for.
        let _ = self.set_timeout(END_TIMEOUT);
        if self.end_writing().is_err() {
            return;
        }
        let mut unwanted = vec![0; CHUNK];
        while (&self).read(&mut unwanted).is_ok_and(|length| length > 0) {
            if Instant::now() > deadline {
                return self.abort();
            }
        }
    }

    /// Resets it: what pends on it ends.
    pub(super) fn abort(&self) {
        // Where it has broken already there is nothing to reset.
        let _ = match &self.link {
            Link::Switched(stream) => match stream.san_endpoint() {
                Some(endpoint) => endpoint.abort().map_err(io::Error::from),
                None => stream.shutdown(Shutdown::Both),
            },
            Link::Driver { stream, .. } => stream.abort().map_err(io::Error::from),
        };
    }
}

/// As standard error tells of it.
impl fmt::Display for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, peer, path, accepted, .. } = self;
        if *accepted {
            write!(formatter, "connected from {peer} by {path}")
        } else {
            write!(formatter, "connected to {peer} from {local} by {path}")
        }
    }
}

impl Read for &Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.link {
            Link::Switched(stream) => (&*stream).read(buffer),
            Link::Driver { .. } if buffer.is_empty() => Ok(0),
            Link::Driver { stream, timeout: None } => (&*stream).read(buffer),
            Link::Driver { stream, timeout: Some(time) } => {
                let receive = stream.start_receive(vec![0; buffer.len().min(CHUNK)], Receive::Some);
                let Transfer { result, buffer: received } = receive.wait_or_cancel(*time);
                let length = result?;
                buffer[..length].copy_from_slice(&received[..length]);
                Ok(length)
            }
        }
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.link {
            Link::Switched(stream) => (&*stream).write(bytes),
            Link::Driver { stream, timeout: None } => (&*stream).write(bytes),
            Link::Driver { stream, timeout: Some(time) } => {
                let send = stream.start_send(bytes[..bytes.len().min(CHUNK)].to_vec());
                Ok(send.wait_or_cancel(*time).result?)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
