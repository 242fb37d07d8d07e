//! SAN endpoints of the driver, each with a session and registered memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use san_proxy::{
    AddressFamily, Backlog, Disconnect, Error, Memory, MemoryRights, NtStatus, Pending, Region, SanEndpoint, Transfer,
};

use super::bed::{Bed, PATIENCE};
use super::path::{End, WINDOW};

/// Where messages are sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendFrom {
    /// Registered memory.
    Region,
    /// A buffer that comes with the request.
    Buffer,
}

/// A message on its way.
pub(crate) enum Sending {
    Region(Pending<Result<usize, Error>>),
    Buffer(Pending<Transfer>),
}

/// A posted receive, and its place.
type Posted = (Pending<Result<usize, Error>>, usize);

/// An endpoint whose session stands.
pub(crate) struct San {
    /// Dropped first: its close cancels all receives and registrations at once.
    pub(crate) endpoint: SanEndpoint,
    from: SendFrom,
    size: usize,
    outgoing: Region,
    pub(crate) incoming: Region,
    /// Messages sent, which take turns in the places of `outgoing`.
    sent: usize,
    /// Buffers to send from.
    spare: Vec<Vec<u8>>,
    /// In the order in which they are filled.
    receives: VecDeque<Posted>,
}

/// Listens for the other ends of sessions.
pub(crate) struct Listener<'bed> {
    bed: &'bed Bed,
    endpoint: SanEndpoint,
}

impl<'bed> Listener<'bed> {
    pub(crate) fn new(bed: &'bed Bed) -> Result<Self> {
        let endpoint = SanEndpoint::create(&bed.far, AddressFamily::INET)?;
        endpoint.bind(([127, 0, 0, 1], 0).into())?;
        endpoint.listen(Backlog(4))?;
        Ok(Self { bed, endpoint })
    }

    /// Connector and acceptor of a connection.
    pub(crate) fn connection(&self) -> Result<[SanEndpoint; 2]> {
        let target = self.endpoint.addresses()?.local;
        let target = target.ok_or_else(|| anyhow::anyhow!("the listener has no address"))?;
        let connector = SanEndpoint::create(&self.bed.near, AddressFamily::INET)?;
        connector.bind(([127, 0, 0, 1], 0).into())?;
        let connect = connector.start_connect(target, Some(PATIENCE));
        let acceptor = self.endpoint.start_accept().wait_or_cancel(PATIENCE)?.accept()?;
        connect.wait_or_cancel(PATIENCE)?;
        Ok([connector, acceptor])
    }

    /// A session for messages of `size` bytes, with so many receives posted at each end: connector and acceptor.
    pub(crate) fn session(&self, size: usize, receives: usize, from: SendFrom) -> Result<[San; 2]> {
        let [connector, acceptor] = self.connection()?;
        let ends = [San::new(connector, size, receives, from)?, San::new(acceptor, size, receives, from)?];
        negotiate(&ends[0].endpoint, &ends[1].endpoint, size)?;
        Ok(ends)
    }
}

/// Has both ends of a connection take messages of up to `size` bytes.
pub(crate) fn negotiate(connector: &SanEndpoint, acceptor: &SanEndpoint, size: usize) -> Result<()> {
    let size = u32::try_from(size)?;
    let negotiate = connector.start_negotiate(b"", size);
    acceptor.start_negotiate(b"", size).wait_or_cancel(PATIENCE)?;
    negotiate.wait_or_cancel(PATIENCE)?;
    Ok(())
}

impl San {
    /// Two endpoints of the driver, with a session between them.
    pub(crate) fn pair(bed: &Bed, size: usize, from: SendFrom) -> Result<[Self; 2]> {
        Listener::new(bed)?.session(size, WINDOW, from)
    }

    fn new(endpoint: SanEndpoint, size: usize, receives: usize, from: SendFrom) -> Result<Self> {
        let outgoing = endpoint.register(Memory::new(size * receives), MemoryRights::SEND)?;
        let incoming = endpoint.register(Memory::new(size * receives), MemoryRights::RECEIVE)?;
        let post = |place| (endpoint.start_receive(&incoming, part(size, place)), place);
        let receives = (0..receives).map(post).collect();
        Ok(Self { endpoint, from, size, outgoing, incoming, sent: 0, spare: Vec::new(), receives })
    }

    /// Starts to send a message.
    pub(crate) fn start_send(&mut self) -> Sending {
        match self.from {
            SendFrom::Region => {
                let places = self.outgoing.len() / self.size;
                let part = part(self.size, self.sent % places);
                self.sent += 1;
                Sending::Region(self.endpoint.start_send_registered(&self.outgoing, part))
            }
            SendFrom::Buffer => {
                let buffer = self.spare.pop().unwrap_or_else(|| vec![0x5a; self.size]);
                Sending::Buffer(self.endpoint.start_send(buffer))
            }
        }
    }

    /// Waits until a message has gone.
    pub(crate) fn finish_send(&mut self, send: Sending) -> Result<()> {
        let length = match send {
            Sending::Region(send) => send.wait_or_cancel(PATIENCE)?,
            Sending::Buffer(send) => {
                let Transfer { result, buffer } = send.wait_or_cancel(PATIENCE);
                self.spare.push(buffer);
                result?
            }
        };
        ensure!(length == self.size, "a message was sent in part");
        Ok(())
    }

    /// Waits for the next message, and posts its place anew; false if the peer has ended the session.
    pub(crate) fn receive(&mut self) -> Result<bool> {
        let Some((first, place)) = self.receives.pop_front() else { return Ok(false) };
        match first.wait_or_cancel(PATIENCE) {
            Ok(length) => ensure!(length == self.size, "a message of {length} bytes"),
            Err(error) if error.status() == NtStatus::GRACEFUL_DISCONNECT => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.receives.push_back((self.endpoint.start_receive(&self.incoming, part(self.size, place)), place));
        Ok(true)
    }
}

/// A place in a region of messages.
fn part(size: usize, place: usize) -> Range<usize> {
    place * size..(place + 1) * size
}

impl End for San {
    fn send_for(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        let mut sends: VecDeque<_> = (0..WINDOW).map(|_| self.start_send()).collect();
        while let Some(send) = sends.pop_front() {
            self.finish_send(send)?;
            if Instant::now() < deadline {
                sends.push_back(self.start_send());
            }
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
        let send = self.start_send();
        ensure!(self.receive()?, "the peer has ended the session");
        self.finish_send(send)
    }

    fn echo(&mut self) -> Result<()> {
        while self.receive()? {
            let send = self.start_send();
            self.finish_send(send)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(self.endpoint.start_disconnect(Disconnect::Graceful).wait_or_cancel(PATIENCE)?)
    }
}
