//! A simulated network: the TCP of several machines, over links with delay, bandwidth, loss and partitions, by a seed.
//!
//! Machines attach to it, each with its addresses; each has 127.0.0.1 and ::1 for itself. Its clock is [`simulation::now`]: in a
//! simulation a time-out of 21 s takes no longer than anything else, on threads outside of one it is the host's.

mod stream;
mod world;

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Backend, Family, NetworkError, Progress, Socket, SocketOption, Step};
use crate::guard;
use crate::simulation::{self, Condvar};
use world::{HostId, Owner, SocketId, World};

/// What lies between two machines, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// From one end to the other.
    pub delay: Duration,
    /// At most so much more, chosen for each segment.
    pub jitter: Duration,
    /// Bytes a second.
    pub bandwidth: u64,
    /// Of a thousand segments so many are lost, and sent again after a time.
    pub loss: u32,
    /// The longest segment. Half of them are cut shorter, at any byte.
    pub segment: usize,
}

impl Link {
    /// A network in one building.
    pub const LOCAL: Self = Self {
        delay: Duration::from_micros(50),
        jitter: Duration::from_micros(20),
        bandwidth: 1_250_000_000,
        loss: 0,
        segment: 1460,
    };
    /// Far away and slow, and every segment cut short.
    pub const SLOW: Self = Self {
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(15),
        bandwidth: 250_000,
        loss: 10,
        segment: 536,
    };
    /// A machine's own: nothing is cut, nothing is lost.
    const LOOPBACK: Self = Self {
        delay: Duration::from_micros(5),
        jitter: Duration::ZERO,
        bandwidth: 5_000_000_000,
        loss: 0,
        segment: 65_536,
    };
}

impl Default for Link {
    fn default() -> Self {
        Self::LOCAL
    }
}

/// What a network has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Segments that have arrived.
    pub segments: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Segments that were sent again.
    pub retransmissions: u64,
    /// Connections that were established.
    pub connections: u64,
}

/// A simulated network.
pub struct Simulated {
    world: Mutex<World>,
}

/// A machine's end of a simulated network: the back end of its WSK.
pub struct Attachment {
    network: Arc<Simulated>,
    host: HostId,
    changed: Arc<Condvar>,
}

impl Simulated {
    /// A network without machines, whose decisions come from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { world: Mutex::new(World::new(seed)) })
    }

    /// A machine with these addresses.
    #[must_use]
    pub fn attach(self: &Arc<Self>, addresses: &[IpAddr]) -> Arc<Attachment> {
        let changed = Arc::new(Condvar::new());
        let host = self.world.lock().add_host(addresses, &changed);
        Arc::new(Attachment { network: self.clone(), host, changed })
    }

    /// The link between two machines, from now on.
    pub fn set_link(&self, one: &Attachment, other: &Attachment, link: Link) {
        self.world.lock().set_link(one.host, other.host, link);
    }

    /// Cuts a link: nothing passes until it is healed.
    pub fn partition(&self, one: &Attachment, other: &Attachment) {
        self.world.lock().set_passing(one.host, other.host, false);
    }

    /// Ends a partition.
    pub fn heal(&self, one: &Attachment, other: &Attachment) {
        self.world.lock().set_passing(one.host, other.host, true);
    }

    /// Resets every connection between two machines, as a firewall does; how many.
    pub fn reset(&self, one: &Attachment, other: &Attachment) -> usize {
        self.world.lock().reset_between(one.host, other.host)
    }

    /// Takes a machine off the network without a word: its peers hear nothing of it any more.
    pub fn vanish(&self, machine: &Attachment) {
        self.world.lock().set_present(machine.host, false);
    }

    /// A machine of these addresses is back after a restart: it knows no connection of before, and says so when asked.
    pub fn restart(&self, machine: &Attachment) {
        self.world.lock().set_present(machine.host, true);
    }

    /// There is no way to an address: connects to it fail at once with this.
    pub fn set_unreachable(&self, address: IpAddr, error: NetworkError) {
        self.world.lock().unreachable.insert(address, error);
    }

    /// The capacity of new sockets' buffers in bytes, where no option says otherwise, and the connections that a listener holds.
    pub fn set_limits(&self, send: usize, receive: usize, backlog: usize) {
        self.world.lock().limits = Limits { send, receive, backlog };
    }

    /// What the network has done.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.world.lock().traffic
    }

    /// Sockets that the network knows, also those that are closed and have still to say so to their peers.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.world.lock().sockets.len()
    }
}

/// Capacities of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    send: usize,
    receive: usize,
    backlog: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { send: 65_536, receive: 65_536, backlog: 1024 }
    }
}

impl Backend for Attachment {
    fn socket(&self, family: Family, token: u64) -> Result<Box<dyn Socket>, NetworkError> {
        let id = self.network.world.lock().add_socket(self.host, family, token);
        Ok(Box::new(SimulatedSocket { network: self.network.clone(), id }))
    }

    fn wait(&self, ready: &mut Vec<u64>) {
        let mut world = self.network.world.lock();
        loop {
            world.advance(simulation::now());
            let host = &mut world.hosts[self.host];
            if !host.ready.is_empty() || host.wakes > 0 {
                ready.extend(host.ready.drain(..));
                host.wakes = host.wakes.saturating_sub(1);
                return;
            }
            match host.next_event() {
                Some(due) => drop(self.changed.wait_until(&mut world, due)),
                None => self.changed.wait(&mut world),
            }
        }
    }

    fn wake(&self) {
        self.network.world.lock().hosts[self.host].wakes += 1;
        self.changed.notify_one();
    }
}

struct SimulatedSocket {
    network: Arc<Simulated>,
    id: SocketId,
}

impl SimulatedSocket {
    /// Does something with the network as it is now.
    fn with<T>(&self, body: impl FnOnce(&mut World, SocketId) -> T) -> T {
        let mut world = self.network.world.lock();
        world.advance(simulation::now());
        body(&mut world, self.id)
    }
}

/// The size of the pages that may be inaccessible one by one.
const PAGE: usize = 4096;

/// Whether every page of some memory is accessible by `probe`: a system call says so, where a copy would end the driver.
fn is_accessible(address: usize, length: usize, probe: fn(usize) -> bool) -> bool {
    let pages = (address / PAGE + 1..(address + length).div_ceil(PAGE)).map(|page| page * PAGE);
    length == 0 || probe(address) && pages.into_iter().all(probe)
}

impl Socket for SimulatedSocket {
    fn bind(&self, address: SocketAddr) -> Result<(), NetworkError> {
        self.with(|world, id| world.bind(id, address))
    }

    fn connect(&self, address: SocketAddr) -> Step<()> {
        self.with(|world, id| world.connect(id, address))
    }

    fn connected(&self) -> Step<()> {
        self.with(World::connected)
    }

    fn listen(&self) -> Result<(), NetworkError> {
        self.with(World::listen)
    }

    fn accept(&self, token: u64) -> Step<Box<dyn Socket>> {
        let accepted = self.with(|world, id| world.accept(id, token))?;
        Ok(match accepted {
            Some(id) => Progress::Done(Box::new(SimulatedSocket { network: self.network.clone(), id })),
            None => Progress::Later,
        })
    }

    fn send(&self, buffers: &[IoSlice<'_>]) -> Step<usize> {
        if !buffers.iter().all(|buffer| is_accessible(buffer.as_ptr() as usize, buffer.len(), guard::can_read)) {
            return Err(NetworkError::BadBuffer);
        }
        self.with(|world, id| world.send(id, buffers))
    }

    fn receive(&self, buffers: &mut [IoSliceMut<'_>]) -> Step<usize> {
        if !buffers.iter().all(|buffer| is_accessible(buffer.as_ptr() as usize, buffer.len(), guard::can_write)) {
            return Err(NetworkError::BadBuffer);
        }
        self.with(|world, id| world.receive(id, buffers))
    }

    fn peek(&self) -> Step<bool> {
        self.with(World::peek)
    }

    fn shut_down(&self) -> Result<(), NetworkError> {
        self.with(World::shut_down)
    }

    fn abort(&self) {
        self.with(|world, id| world.socket(id).owner = Owner::Aborts);
    }

    fn local(&self) -> Result<SocketAddr, NetworkError> {
        self.with(|world, id| world.socket(id).local.ok_or(NetworkError::Invalid))
    }

    fn remote(&self) -> Result<SocketAddr, NetworkError> {
        self.with(|world, id| world.socket(id).remote.ok_or(NetworkError::NotConnected))
    }

    fn set_option(&self, option: SocketOption, value: u32) -> Result<(), NetworkError> {
        self.with(|world, id| {
            let socket = world.socket(id);
            match option {
                SocketOption::SendBuffer => socket.send_limit = value as usize,
                SocketOption::ReceiveBuffer => socket.receive_limit = value as usize,
                SocketOption::NoDelay
                | SocketOption::KeepAlive
                | SocketOption::ReuseAddress
                | SocketOption::V6Only
                | SocketOption::Broadcast => {
                    socket.options.insert(option as u8, value);
                }
            }
        });
        Ok(())
    }

    fn option(&self, option: SocketOption) -> Result<u32, NetworkError> {
        self.with(|world, id| {
            let socket = world.socket(id);
            let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
            Ok(match option {
                SocketOption::SendBuffer => size(socket.send_limit),
                SocketOption::ReceiveBuffer => size(socket.receive_limit),
                SocketOption::NoDelay
                | SocketOption::KeepAlive
                | SocketOption::ReuseAddress
                | SocketOption::V6Only
                | SocketOption::Broadcast => {
                    let default = u32::from(option == SocketOption::V6Only && socket.family == Family::V6);
                    socket.options.get(&(option as u8)).copied().unwrap_or(default)
                }
            })
        })
    }
}

impl Drop for SimulatedSocket {
    fn drop(&mut self) {
        self.with(World::close);
    }
}

/// Option values by `SocketOption`.
type Options = BTreeMap<u8, u32>;
