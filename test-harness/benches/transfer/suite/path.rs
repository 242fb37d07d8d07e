//! The paths that are measured, as pairs of ends that carry messages of one size.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::bed::Bed;
use super::san::{San, SendFrom};
use super::{blocking, stream};

/// Operations that a path keeps under way at once: as many sends as receives. A plain socket's blocking calls fill its buffers
/// by themselves.
pub(crate) const WINDOW: usize = 16;

/// One end of a connection. What it carries are messages of a size that was given when it was made.
pub(crate) trait End: Send {
    /// Sends messages for so long, then ends this side.
    fn send_for(&mut self, time: Duration) -> Result<()>;

    /// Receives until the peer ends its side: the messages.
    fn drain(&mut self) -> Result<u64>;

    /// Sends a message and receives one.
    fn exchange(&mut self) -> Result<()>;

    /// Answers each message with one, until the peer ends its side.
    fn echo(&mut self) -> Result<()>;

    /// Ends this side, after all that was sent.
    fn end(&mut self) -> Result<()>;
}

/// Both ends of a connection.
pub(crate) type Ends = [Box<dyn End>; 2];

/// Which way messages take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// From a plain socket to a plain socket.
    Plain,
    /// From a stream endpoint of the driver to another one.
    Stream,
    /// From a stream endpoint of the driver to a plain socket, or back.
    StreamToPlain,
    /// By a SAN session, from registered memory into registered memory.
    San,
    /// By a SAN session, from a buffer that comes with the send into registered memory.
    SanInline,
    /// By a stream that a switch has taken by the SAN: what a program meets that reads and writes as if it were TCP.
    Switch,
}

impl Path {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stream | Self::StreamToPlain => "stream",
            Self::San => "SAN",
            Self::SanInline => "SAN inline",
            Self::Switch => "switch",
        }
    }

    /// A new connection for messages of `size` bytes.
    pub(crate) fn connect(self, bed: &Bed, size: usize) -> Result<Ends> {
        Ok(match self {
            Self::Plain => blocking::plain(size)?.map(|end| Box::new(end) as Box<dyn End>),
            Self::Stream => stream::pair(bed, size)?.map(|end| Box::new(end) as Box<dyn End>),
            Self::StreamToPlain => {
                let (near, far) = stream::to_plain(bed, size)?;
                [Box::new(near), Box::new(far)]
            }
            Self::Switch => blocking::switched(bed, size)?.map(|end| Box::new(end) as Box<dyn End>),
            Self::San => San::pair(bed, size, SendFrom::Region)?.map(|end| Box::new(end) as Box<dyn End>),
            Self::SanInline => San::pair(bed, size, SendFrom::Buffer)?.map(|end| Box::new(end) as Box<dyn End>),
        })
    }
}

/// Messages a second, from the first until the receiver has the last.
pub(crate) fn throughput(sender: &mut dyn End, receiver: &mut dyn End, time: Duration) -> Result<f64> {
    let started = Instant::now();
    let messages = both(|| receiver.drain(), || sender.send_for(time))?;
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    Ok(messages as f64 / started.elapsed().as_secs_f64())
}

/// Microseconds of each round trip.
pub(crate) fn round_trips([near, far]: &mut Ends, time: Duration) -> Result<Vec<f64>> {
    let (mut samples, deadline) = (Vec::new(), Instant::now() + time);
    both(
        || far.echo(),
        || {
            while Instant::now() < deadline {
                let started = Instant::now();
                near.exchange()?;
                samples.push(started.elapsed().as_secs_f64() * 1e6);
            }
            near.end()
        },
    )?;
    Ok(samples)
}

/// Does both at once, the first on a thread of its own: what that brought.
pub(crate) fn both<T: Send>(aside: impl FnOnce() -> Result<T> + Send, here: impl FnOnce() -> Result<()>) -> Result<T> {
    thread::scope(|scope| {
        let aside = scope.spawn(aside);
        here()?;
        aside.join().map_err(|_| anyhow!("the other side's thread panicked"))?
    })
}
