//! The machine's real sockets, by epoll.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags,
    SocketType, ipproto, sockopt,
};

use super::{Backend, Family, NetworkError, Progress, Received, Socket, SocketOption, Step};

/// The token of the wake-up descriptor.
const WAKE: u64 = u64::MAX;
/// Connections that the host keeps until WSK takes them.
const BACKLOG: i32 = 1024;
/// Sockets reported at once.
const EVENTS: usize = 64;

/// The host's TCP and UDP.
pub struct Host {
    poll: Arc<OwnedFd>,
    wake: OwnedFd,
}

impl Host {
    /// A back end of its own: tokens are unique within it.
    ///
    /// # Errors
    /// The host has no descriptors left.
    pub fn new() -> std::io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered, and never read: each write wakes one thread.
        epoll::add(&poll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        Ok(Self { poll: Arc::new(poll), wake })
    }
}

impl Host {
    fn make(
        &self,
        family: Family,
        kind: (SocketType, net::Protocol),
        token: u64,
    ) -> Result<Box<dyn Socket>, NetworkError> {
        let domain = match family {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(domain, kind.0, flags, Some(kind.1)).map_err(error)?;
        if family == Family::V6 {
            // The default on Windows.
            sockopt::set_ipv6_v6only(&socket, true).map_err(error)?;
        }
        HostSocket::attach(self.poll.clone(), socket, token)
    }
}

impl Backend for Host {
    fn socket(&self, family: Family, token: u64) -> Result<Box<dyn Socket>, NetworkError> {
        self.make(family, (SocketType::STREAM, ipproto::TCP), token)
    }

    fn datagram_socket(&self, family: Family, token: u64) -> Result<Box<dyn Socket>, NetworkError> {
        self.make(family, (SocketType::DGRAM, ipproto::UDP), token)
    }

    fn wait(&self, ready: &mut Vec<u64>) {
        let mut events = Vec::with_capacity(EVENTS);
        // An interrupted wait is a wait that found nothing.
        let _ = epoll::wait(&*self.poll, spare_capacity(&mut events), None);
        ready.extend(events.iter().map(|event| event.data.u64()).filter(|token| *token != WAKE));
    }

    fn wake(&self) {
        // Fails only if 2^64 wake-ups are outstanding.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

struct HostSocket {
    poll: Arc<OwnedFd>,
    socket: OwnedFd,
}

impl HostSocket {
    fn attach(poll: Arc<OwnedFd>, socket: OwnedFd, token: u64) -> Result<Box<dyn Socket>, NetworkError> {
        use epoll::EventFlags as Flags;
        epoll::add(
            &*poll,
            &socket,
            epoll::EventData::new_u64(token),
            Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET,
        )
        .map_err(error)?;
        Ok(Box::new(Self { poll, socket }))
    }
}

fn error(errno: Errno) -> NetworkError {
    match errno {
        Errno::CONNREFUSED => NetworkError::Refused,
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED => NetworkError::Reset,
        Errno::TIMEDOUT => NetworkError::TimedOut,
        Errno::HOSTUNREACH | Errno::HOSTDOWN => NetworkError::HostUnreachable,
        Errno::NETUNREACH | Errno::NETDOWN => NetworkError::NetworkUnreachable,
        Errno::ADDRINUSE => NetworkError::AddressInUse,
        Errno::ADDRNOTAVAIL => NetworkError::AddressNotAvailable,
        Errno::ACCESS | Errno::PERM => NetworkError::AccessDenied,
        Errno::NOTCONN => NetworkError::NotConnected,
        Errno::ISCONN | Errno::ALREADY => NetworkError::AlreadyConnected,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => NetworkError::NoBuffers,
        Errno::AFNOSUPPORT | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT => NetworkError::NotSupported,
        Errno::FAULT => NetworkError::BadBuffer,
        _ => NetworkError::Invalid,
    }
}

fn step<T>(result: Result<T, Errno>) -> Step<T> {
    match result {
        Ok(value) => Ok(Progress::Done(value)),
        Err(Errno::AGAIN | Errno::INTR | Errno::INPROGRESS) => Ok(Progress::Later),
        Err(errno) => Err(error(errno)),
    }
}

fn address(any: net::SocketAddrAny) -> Result<SocketAddr, NetworkError> {
    SocketAddr::try_from(any).map_err(error)
}

impl Socket for HostSocket {
    fn bind(&self, address: SocketAddr) -> Result<(), NetworkError> {
        net::bind(&self.socket, &address).map_err(error)
    }

    fn connect(&self, address: SocketAddr) -> Step<()> {
        step(net::connect(&self.socket, &address))
    }

    fn connected(&self) -> Step<()> {
        sockopt::socket_error(&self.socket).map_err(error)?.map_err(error)?;
        match net::getpeername(&self.socket) {
            Ok(_) => Ok(Progress::Done(())),
            Err(Errno::NOTCONN) => Ok(Progress::Later),
            Err(errno) => Err(error(errno)),
        }
    }

    fn listen(&self) -> Result<(), NetworkError> {
        net::listen(&self.socket, BACKLOG).map_err(error)
    }

    fn accept(&self, token: u64) -> Step<Box<dyn Socket>> {
        match net::accept_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => HostSocket::attach(self.poll.clone(), socket, token).map(Progress::Done),
            // The peer has gone again; what came behind it is found by the next try.
            Err(Errno::CONNABORTED) => self.accept(token),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Progress::Later),
            Err(errno) => Err(error(errno)),
        }
    }

    fn send(&self, buffers: &[IoSlice<'_>]) -> Step<usize> {
        step(net::sendmsg(&self.socket, buffers, &mut SendAncillaryBuffer::new(&mut []), SendFlags::NOSIGNAL))
    }

    fn receive(&self, buffers: &mut [IoSliceMut<'_>]) -> Step<usize> {
        let result = net::recvmsg(&self.socket, buffers, &mut RecvAncillaryBuffer::new(&mut []), RecvFlags::empty());
        step(result.map(|message| message.bytes))
    }

    fn send_to(&self, datagram: &[u8], to: Option<SocketAddr>) -> Step<usize> {
        step(match to {
            Some(to) => net::sendto(&self.socket, datagram, SendFlags::NOSIGNAL, &to),
            None => net::send(&self.socket, datagram, SendFlags::NOSIGNAL),
        })
    }

    fn forget_peer(&self) -> Result<(), NetworkError> {
        // With the peer, Linux takes away a port that it chose itself.
        let local = self.local()?;
        net::connect_unspec(&self.socket).map_err(error)?;
        if self.local()? == local { Ok(()) } else { self.bind(local) }
    }

    fn receive_from(&self, buffer: &mut [u8]) -> Step<Received> {
        // With TRUNC the host says how long the datagram was.
        let size = buffer.len();
        match net::recvfrom(&self.socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, length, Some(from))) => {
                let from = address(from)?;
                Ok(Progress::Done(Received { from, bytes: length.min(size), is_truncated: length > size }))
            }
            Ok((_, _, None)) => Err(NetworkError::Invalid),
            // What a connected peer answered to an earlier datagram is no matter of this one.
            Err(Errno::CONNREFUSED) => self.receive_from(buffer),
            Err(errno) => step(Err(errno)),
        }
    }

    fn peek(&self) -> Step<bool> {
        let mut byte = [MaybeUninit::uninit()];
        step(net::recv(&self.socket, &mut byte, RecvFlags::PEEK).map(|(received, _)| !received.0.is_empty()))
    }

    fn shut_down(&self) -> Result<(), NetworkError> {
        net::shutdown(&self.socket, Shutdown::Write).map_err(error)
    }

    fn abort(&self) {
        // Fails on no stream socket.
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    fn local(&self) -> Result<SocketAddr, NetworkError> {
        address(net::getsockname(&self.socket).map_err(error)?)
    }

    fn remote(&self) -> Result<SocketAddr, NetworkError> {
        address(net::getpeername(&self.socket).map_err(error)?.ok_or(NetworkError::NotConnected)?)
    }

    fn set_option(&self, option: SocketOption, value: u32) -> Result<(), NetworkError> {
        let (on, size) = (value != 0, value as usize);
        let result = match option {
            SocketOption::NoDelay => sockopt::set_tcp_nodelay(&self.socket, on),
            SocketOption::KeepAlive => sockopt::set_socket_keepalive(&self.socket, on),
            SocketOption::ReuseAddress => sockopt::set_socket_reuseaddr(&self.socket, on),
            SocketOption::SendBuffer => sockopt::set_socket_send_buffer_size(&self.socket, size),
            SocketOption::ReceiveBuffer => sockopt::set_socket_recv_buffer_size(&self.socket, size),
            SocketOption::V6Only => sockopt::set_ipv6_v6only(&self.socket, on),
            SocketOption::Broadcast => sockopt::set_socket_broadcast(&self.socket, on),
        };
        result.map_err(error)
    }

    fn option(&self, option: SocketOption) -> Result<u32, NetworkError> {
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let result = match option {
            SocketOption::NoDelay => sockopt::tcp_nodelay(&self.socket).map(u32::from),
            SocketOption::KeepAlive => sockopt::socket_keepalive(&self.socket).map(u32::from),
            SocketOption::ReuseAddress => sockopt::socket_reuseaddr(&self.socket).map(u32::from),
            SocketOption::SendBuffer => sockopt::socket_send_buffer_size(&self.socket).map(size),
            SocketOption::ReceiveBuffer => sockopt::socket_recv_buffer_size(&self.socket).map(size),
            SocketOption::V6Only => sockopt::ipv6_v6only(&self.socket).map(u32::from),
            SocketOption::Broadcast => sockopt::socket_broadcast(&self.socket).map(u32::from),
        };
        result.map_err(error)
    }
}
