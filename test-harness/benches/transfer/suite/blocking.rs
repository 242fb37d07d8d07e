//! Sockets that are read and written by blocking calls: the host's own, and the switch's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use san_proxy::{Prefix, Provider, SanStream, Switch, SwitchConfig};

use super::bed::{Bed, PATIENCE};
use super::path::End;

/// A socket whose sending side can be ended.
pub(crate) trait Socket: Read + Write + Send {
    fn shutdown_write(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Socket for SanStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A socket, and a message.
pub(crate) struct Blocking<S> {
    socket: S,
    message: Vec<u8>,
}

/// A plain socket of the host.
pub(crate) type Plain = Blocking<TcpStream>;

/// Two plain sockets, connected to each other.
pub(crate) fn plain(size: usize) -> Result<[Plain; 2]> {
    let (near, far) = accept_plain(size, |address| Ok(TcpStream::connect_timeout(&address, PATIENCE)?))?;
    Ok([Plain::of_host(near, size)?, far])
}

/// Has `connect` connect to a listener: what it brings, and the other end.
pub(crate) fn accept_plain<T>(size: usize, connect: impl FnOnce(SocketAddr) -> Result<T>) -> Result<(T, Plain)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = connect(listener.local_addr()?)?;
    // The connection is in the listener's backlog.
    let (far, _) = listener.accept()?;
    Ok((near, Plain::of_host(far, size)?))
}

/// Two streams that a switch has taken by the SAN, connected to each other.
pub(crate) fn switched(bed: &Bed, size: usize) -> Result<[Blocking<SanStream>; 2]> {
    let loopback: Prefix = "127.0.0.0/8".parse()?;
    let switch =
        |provider: &Provider| Switch::new(Some(provider.clone()), SwitchConfig::default().with_subnet(loopback));
    let (near, far) = (switch(&bed.near), switch(&bed.far));
    let listener = far.bind("127.0.0.1:0")?;
    let near = near.connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    ensure!(near.is_san() && far.is_san(), "the switch went by TCP/IP");
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    Ok([near, far].map(|socket| Blocking { socket, message: vec![0x5a; size] }))
}

impl Plain {
    fn of_host(socket: TcpStream, size: usize) -> Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, message: vec![0x5a; size] })
    }
}

impl<S: Socket> Blocking<S> {
    pub(crate) fn send(&mut self) -> Result<()> {
        Ok(self.socket.write_all(&self.message)?)
    }

    /// Receives a message; false if the peer has ended its side.
    pub(crate) fn receive(&mut self) -> Result<bool> {
        match self.socket.read_exact(&mut self.message) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl<S: Socket> End for Blocking<S> {
    fn send_for(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.send()?;
        }
        self.end()
    }

    fn drain(&mut self) -> Result<u64> {
        let mut messages = 0;
        while self.receive()? {
            messages += 1;
        }
        Ok(messages)
    }

    fn exchange(&mut self) -> Result<()> {
        self.send()?;
        self.receive().map(|_| ())
    }

    fn echo(&mut self) -> Result<()> {
        while self.receive()? {
            self.send()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(self.socket.shutdown_write()?)
    }
}
