//! A network that fails as told, below the host's own: for what a loopback cannot show.

use crate::support::Bed;
use san_protocol::{NtStatus, SocketOption, WsaError};
use san_proxy::{AddressFamily, StreamConnection};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use test_harness::Machine;
use test_harness::network::{self, Backend, Family, Host, NetworkError, Socket, Step};

/// The host's network, but every connect fails with this.
pub(crate) struct Broken {
    host: Host,
    failure: NetworkError,
}

impl Broken {
    pub(crate) fn new(failure: NetworkError) -> Arc<Self> {
        Arc::new(Self { host: Host::new().expect("descriptors"), failure })
    }
}

/// A socket of it.
struct BrokenSocket {
    socket: Box<dyn Socket>,
    failure: NetworkError,
}

impl Backend for Broken {
    fn socket(&self, family: Family, token: u64) -> Result<Box<dyn Socket>, NetworkError> {
        let socket = self.host.socket(family, token)?;
        Ok(Box::new(BrokenSocket { socket, failure: self.failure }))
    }

    fn wait(&self, ready: &mut Vec<u64>) {
        self.host.wait(ready);
    }

    fn wake(&self) {
        self.host.wake();
    }
}

impl Socket for BrokenSocket {
    fn connect(&self, _address: SocketAddr) -> Step<()> {
        Err(self.failure)
    }

    fn connected(&self) -> Step<()> {
        Err(self.failure)
    }

    fn bind(&self, address: SocketAddr) -> Result<(), NetworkError> {
        self.socket.bind(address)
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

    fn set_option(&self, option: network::SocketOption, value: u32) -> Result<(), NetworkError> {
        self.socket.set_option(option, value)
    }

    fn option(&self, option: network::SocketOption) -> Result<u32, NetworkError> {
        self.socket.option(option)
    }
}

#[test]
fn each_way_a_network_fails_has_its_own_error() {
    for (failure, status, error) in [
        (NetworkError::Refused, NtStatus::CONNECTION_REFUSED, WsaError::WSAECONNREFUSED),
        (NetworkError::Reset, NtStatus::CONNECTION_RESET, WsaError::WSAECONNRESET),
        (NetworkError::TimedOut, NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT),
        (NetworkError::HostUnreachable, NtStatus::HOST_UNREACHABLE, WsaError::WSAEHOSTUNREACH),
        (NetworkError::NetworkUnreachable, NtStatus::NETWORK_UNREACHABLE, WsaError::WSAENETUNREACH),
        (NetworkError::NoBuffers, NtStatus::INSUFFICIENT_RESOURCES, WsaError::WSAENOBUFS),
    ] {
        let machine = Machine::new();
        assert!(machine.network().attach(Broken::new(failure)));
        let bed = Bed::on(machine);
        bed.wait_for_provider();
        // Both ways: WskSocketConnect, and WskSocket, WskBind, WskConnect.
        for option in [None, Some(SocketOption::NoDelay)] {
            let connection = StreamConnection::create(&bed.open(), AddressFamily::INET).expect("an endpoint");
            if let Some(option) = option {
                connection.set_option(option, true).expect("is kept");
            }
            let failed = connection.connect("127.0.0.1:9".parse().expect("an address"), None).expect_err("broken");
            assert_eq!((failed.status(), failed.wsa_error()), (status, error), "{failure:?}");
        }
        bed.finish();
    }
}
