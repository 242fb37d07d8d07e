//! The host's network, held in: an input that names any address and port reaches this process alone.

use std::collections::HashSet;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use test_harness::network::{Backend, Family, Host, NetworkError, Socket, SocketOption, Step};

/// Ports that belong to this process.
type Ports = Arc<Mutex<HashSet<u16>>>;

/// The host's TCP on loopback addresses, from and to ports of this process.
pub(crate) struct Loopback {
    host: Host,
    ports: Ports,
}

impl Loopback {
    /// With ports that may be bound and connected to from the start.
    pub(crate) fn new(ports: impl IntoIterator<Item = u16>) -> io::Result<Self> {
        Ok(Self { host: Host::new()?, ports: Arc::new(Mutex::new(ports.into_iter().collect())) })
    }
}

impl Backend for Loopback {
    fn socket(&self, family: Family, token: u64) -> Result<Box<dyn Socket>, NetworkError> {
        let socket = self.host.socket(family, token)?;
        Ok(Box::new(LoopbackSocket { socket, ports: self.ports.clone(), own: Mutex::new(None) }))
    }

    fn wait(&self, ready: &mut Vec<u64>) {
        self.host.wait(ready);
    }

    fn wake(&self) {
        self.host.wake();
    }
}

struct LoopbackSocket {
    socket: Box<dyn Socket>,
    ports: Ports,
    /// The port that binding this socket has made this process's.
    own: Mutex<Option<u16>>,
}

impl Socket for LoopbackSocket {
    fn bind(&self, address: SocketAddr) -> Result<(), NetworkError> {
        let ip = address.ip();
        if !ip.is_loopback() && !ip.is_unspecified() {
            return Err(NetworkError::AddressNotAvailable);
        }
        if address.port() != 0 && !self.ports.lock().contains(&address.port()) {
            return Err(NetworkError::AddressInUse);
        }
        self.socket.bind(address)?;
        let port = self.socket.local()?.port();
        if self.ports.lock().insert(port) {
            *self.own.lock() = Some(port);
        }
        Ok(())
    }

    fn connect(&self, address: SocketAddr) -> Step<()> {
        if !address.ip().is_loopback() {
            return Err(NetworkError::NetworkUnreachable);
        }
        if !self.ports.lock().contains(&address.port()) {
            return Err(NetworkError::Refused);
        }
        self.socket.connect(address)
    }

    fn connected(&self) -> Step<()> {
        self.socket.connected()
    }

    fn listen(&self) -> Result<(), NetworkError> {
        self.socket.listen()
    }

    fn accept(&self, token: u64) -> Step<Box<dyn Socket>> {
        self.socket.accept(token)
    }

    fn send(&self, buffers: &[IoSlice<'_>]) -> Step<usize> {
        self.socket.send(buffers)
    }

    fn receive(&self, buffers: &mut [IoSliceMut<'_>]) -> Step<usize> {
        self.socket.receive(buffers)
    }

    fn peek(&self) -> Step<bool> {
        self.socket.peek()
    }

    fn shut_down(&self) -> Result<(), NetworkError> {
        self.socket.shut_down()
    }

    fn abort(&self) {
        self.socket.abort();
    }

    fn local(&self) -> Result<SocketAddr, NetworkError> {
        self.socket.local()
    }

    fn remote(&self) -> Result<SocketAddr, NetworkError> {
        self.socket.remote()
    }

    fn set_option(&self, option: SocketOption, value: u32) -> Result<(), NetworkError> {
        self.socket.set_option(option, value)
    }

    fn option(&self, option: SocketOption) -> Result<u32, NetworkError> {
        self.socket.option(option)
    }
}

impl Drop for LoopbackSocket {
    fn drop(&mut self) {
        if let Some(port) = self.own.get_mut().take() {
            self.ports.lock().remove(&port);
        }
    }
}
