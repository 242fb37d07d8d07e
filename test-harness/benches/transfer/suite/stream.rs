//! Stream endpoints of the driver: a message is a send, and a receive that waits for all of it.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use san_proxy::{
    AddressFamily, Backlog, Disconnect, Pending, Receive, SocketOption, StreamConnection, StreamListener, Transfer,
};

use super::bed::{Bed, PATIENCE};
use super::blocking::{Plain, accept_plain};
use super::path::{End, WINDOW};

/// A stream endpoint, and a message.
pub(crate) struct Stream {
    pub(crate) connection: StreamConnection,
    message: Vec<u8>,
}

/// Two endpoints of the driver, connected to each other.
pub(crate) fn pair(bed: &Bed, size: usize) -> Result<[Stream; 2]> {
    let listener = StreamListener::create(&bed.far, AddressFamily::INET)?;
    let address = listener.bind(([127, 0, 0, 1], 0).into())?;
    listener.listen(Backlog(1))?;
    let near = StreamConnection::create(&bed.near, AddressFamily::INET)?;
    let accept = listener.start_accept();
    near.connect(address, Some(PATIENCE))?;
    let far = accept.wait_or_cancel(PATIENCE)?.connection;
    Ok([Stream::new(near, size)?, Stream::new(far, size)?])
}

/// An endpoint of the driver, connected to a plain socket.
pub(crate) fn to_plain(bed: &Bed, size: usize) -> Result<(Stream, Plain)> {
    let near = StreamConnection::create(&bed.near, AddressFamily::INET)?;
    let far = accept_plain(size, |address| Ok(near.connect(address, Some(PATIENCE))?))?.1;
    Ok((Stream::new(near, size)?, far))
}

impl Stream {
    fn new(connection: StreamConnection, size: usize) -> Result<Self> {
        connection.endpoint().set_option(SocketOption::NoDelay, true)?;
        Ok(Self { connection, message: vec![0x5a; size] })
    }

    fn spare(&self) -> Vec<u8> {
        vec![0x5a; self.message.len()]
    }

    fn send(&mut self) -> Result<()> {
        let send = self.connection.start_send(mem::take(&mut self.message));
        self.message = sent(send)?;
        Ok(())
    }

    /// Receives a message; false if the peer has ended its side.
    fn receive(&mut self) -> Result<bool> {
        let receive = self.connection.start_receive(mem::take(&mut self.message), Receive::All);
        let Transfer { result, buffer } = receive.wait_or_cancel(PATIENCE);
        self.message = buffer;
        Ok(result? == self.message.len())
    }
}

/// Waits for a send: its buffer.
fn sent(send: Pending<Transfer>) -> Result<Vec<u8>> {
    let Transfer { result, buffer } = send.wait_or_cancel(PATIENCE);
    ensure!(result? == buffer.len(), "a send ended early");
    Ok(buffer)
}

impl End for Stream {
    fn send_for(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        let mut sends: VecDeque<_> = (0..WINDOW).map(|_| self.connection.start_send(self.spare())).collect();
        while let Some(send) = sends.pop_front() {
            let buffer = sent(send)?;
            if Instant::now() < deadline {
                sends.push_back(self.connection.start_send(buffer));
            }
        }
        self.end()
    }

    fn drain(&mut self) -> Result<u64> {
        let mut messages = 0;
        let receive = |buffer| self.connection.start_receive(buffer, Receive::All);
        let mut receives: VecDeque<_> = (0..WINDOW).map(|_| receive(self.spare())).collect();
        while let Some(first) = receives.pop_front() {
            let Transfer { result, buffer } = first.wait_or_cancel(PATIENCE);
            if result? < buffer.len() {
                break;
            }
            messages += 1;
            receives.push_back(receive(buffer));
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
        Ok(self.connection.start_disconnect(Disconnect::Graceful).wait_or_cancel(PATIENCE)?)
    }
}
