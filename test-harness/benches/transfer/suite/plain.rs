//! Plain sockets of the host, and blocking calls.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bed::PATIENCE;
use super::path::End;

/// A plain socket, and a message.
pub(crate) struct Plain {
    stream: TcpStream,
    message: Vec<u8>,
}

/// Two plain sockets, connected to each other.
pub(crate) fn pair(size: usize) -> Result<[Plain; 2]> {
    let (near, far) = accept_one(size, |address| Ok(TcpStream::connect_timeout(&address, PATIENCE)?))?;
    Ok([Plain::new(near, size)?, far])
}

/// Has `connect` connect to a listener: what it brings, and the other end.
pub(crate) fn accept_one<T>(size: usize, connect: impl FnOnce(SocketAddr) -> Result<T>) -> Result<(T, Plain)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = connect(listener.local_addr()?)?;
    // The connection is in the listener's backlog.
    let (far, _) = listener.accept()?;
    Ok((near, Plain::new(far, size)?))
}

impl Plain {
    fn new(stream: TcpStream, size: usize) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, message: vec![0x5a; size] })
    }

    pub(crate) fn send(&mut self) -> Result<()> {
        Ok(self.stream.write_all(&self.message)?)
    }

    /// Receives a message; false if the peer has ended its side.
    pub(crate) fn receive(&mut self) -> Result<bool> {
        match self.stream.read_exact(&mut self.message) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl End for Plain {
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
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }
}
