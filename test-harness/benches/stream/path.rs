//! What is measured, over plain sockets and through the driver alike.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use san_proxy::{Disconnect, Receive, StreamConnection, Transfer};

use crate::bed::PATIENCE;

/// Bytes of one operation.
pub(crate) const OPERATION: usize = 64 * 1024;
/// Operations under way at once, through the driver. A plain socket's blocking calls fill its buffers by themselves.
pub(crate) const IN_FLIGHT: usize = 8;

/// One end of a connection.
pub(crate) trait Path {
    /// Sends for so long, then ends this side.
    fn send_for(&mut self, time: Duration) -> Result<()>;

    /// Receives until the peer ends its side: the bytes.
    fn drain(&mut self) -> Result<u64>;

    /// Ends this side, after all that was sent.
    fn end(&mut self) -> Result<()>;

    /// Sends `message`, and receives as much into it.
    fn exchange(&mut self, message: &mut Vec<u8>) -> Result<()>;
}

impl Path for TcpStream {
    fn send_for(&mut self, time: Duration) -> Result<()> {
        let (buffer, deadline) = (vec![0x5a; OPERATION], Instant::now() + time);
        while Instant::now() < deadline {
            self.write_all(&buffer)?;
        }
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        Ok(self.shutdown(Shutdown::Write)?)
    }

    fn drain(&mut self) -> Result<u64> {
        let (mut buffer, mut total) = (vec![0; OPERATION], 0);
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(total),
                length => total += length as u64,
            }
        }
    }

    fn exchange(&mut self, message: &mut Vec<u8>) -> Result<()> {
        self.write_all(message)?;
        Ok(self.read_exact(message)?)
    }
}

impl Path for StreamConnection {
    fn send_for(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        let mut sends: VecDeque<_> = (0..IN_FLIGHT).map(|_| self.start_send(vec![0x5a; OPERATION])).collect();
        while let Some(send) = sends.pop_front() {
            let sent = send.wait_or_cancel(PATIENCE);
            ensure!(sent.result? == OPERATION, "a send ended early");
            if Instant::now() < deadline {
                sends.push_back(self.start_send(sent.buffer));
            }
        }
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        Ok(self.start_disconnect(Disconnect::Graceful).wait_or_cancel(PATIENCE)?)
    }

    fn drain(&mut self) -> Result<u64> {
        let mut total = 0;
        let mut receives: VecDeque<_> =
            (0..IN_FLIGHT).map(|_| self.start_receive(vec![0; OPERATION], Receive::Some)).collect();
        while let Some(receive) = receives.pop_front() {
            let Transfer { result, buffer } = receive.wait_or_cancel(PATIENCE);
            match result? {
                0 => break,
                length => total += length as u64,
            }
            receives.push_back(self.start_receive(buffer, Receive::Some));
        }
        Ok(total)
    }

    fn exchange(&mut self, message: &mut Vec<u8>) -> Result<()> {
        let sent = self.start_send(std::mem::take(message)).wait_or_cancel(PATIENCE);
        sent.result?;
        let received = self.start_receive(sent.buffer, Receive::All).wait_or_cancel(PATIENCE);
        *message = received.buffer;
        ensure!(received.result? == message.len(), "a receive ended early");
        Ok(())
    }
}
