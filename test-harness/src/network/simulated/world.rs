//! The state of a simulated network, and what happens in it at its times.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Family, NetworkError, Progress, SocketOption, Step};
use super::stream::{End, RETRANSMISSION, Sending};
use super::{Limits, Link, Options, Traffic};
use crate::simulation::{self, Condvar, Random};

pub(super) type HostId = usize;
pub(super) type SocketId = u64;

/// The first wait for an answer to a SYN; it doubles. Windows sends two more, and gives up after 21 s.
const SYN_RETRANSMISSION: Duration = Duration::from_secs(3);
const SYN_RETRANSMISSIONS: u32 = 2;
/// The first of the ports that the system chooses.
const DYNAMIC_PORTS: u16 = 49_152;

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Listening,
    Connecting,
    /// A connection that its client does not know to be established.
    SynReceived {
        listener: SocketId,
    },
    Connected,
    Broken(NetworkError),
}

/// What a socket's owner has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Uses,
    /// Its close will be a reset.
    Aborts,
    /// It has closed it, and what is left to be sent is sent.
    Gone,
}

pub(super) struct Socket {
    host: HostId,
    token: u64,
    pub(super) family: Family,
    phase: Phase,
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: Option<SocketAddr>,
    /// It has its port by a bind.
    is_bound: bool,
    pub(super) options: Options,
    pub(super) send_limit: usize,
    pub(super) receive_limit: usize,
    /// The other end, which may be gone.
    peer: Option<SocketId>,
    sending: Sending,
    received: VecDeque<u8>,
    /// The peer's end of the stream has arrived.
    ended: bool,
    pub(super) owner: Owner,
    /// Established connections that nobody has accepted.
    queue: VecDeque<SocketId>,
}

impl Socket {
    fn is_closed(&self) -> bool {
        self.owner == Owner::Gone
    }
}

/// What happens at a host.
#[derive(Clone, Copy)]
enum Event {
    /// A SYN of this client arrives.
    Syn {
        client: SocketId,
    },
    /// The client's SYN has had no answer.
    SynTimeout {
        client: SocketId,
        attempt: u32,
    },
    /// The answer to a SYN arrives: the other end, or a reset.
    SynAnswer {
        client: SocketId,
        server: Option<SocketId>,
    },
    /// The client's acknowledgement arrives.
    Established {
        server: SocketId,
    },
    /// The first segment of what a socket sends arrives at its peer.
    Arrival {
        from: SocketId,
    },
    /// The peer's acknowledgement arrives, or it says that it has room again.
    Acknowledged {
        from: SocketId,
        bytes: usize,
        room: usize,
    },
    Reset {
        to: SocketId,
    },
}

pub(super) struct Host {
    addresses: Vec<IpAddr>,
    changed: Arc<Condvar>,
    present: bool,
    pub(super) ready: VecDeque<u64>,
    pub(super) wakes: usize,
    events: BTreeMap<(Instant, u64), Event>,
    next_port: u16,
}

impl Host {
    pub(super) fn next_event(&self) -> Option<Instant> {
        self.events.first_key_value().map(|(key, _)| key.0)
    }

    fn has(&self, address: IpAddr) -> bool {
        address.is_loopback() || address.is_unspecified() || self.addresses.contains(&address)
    }
}

struct Way {
    link: Link,
    passing: bool,
}

pub(super) struct World {
    random: Random,
    pub(super) hosts: Vec<Host>,
    ways: BTreeMap<(HostId, HostId), Way>,
    pub(super) sockets: BTreeMap<SocketId, Socket>,
    next_socket: SocketId,
    sequence: u64,
    pub(super) unreachable: BTreeMap<IpAddr, NetworkError>,
    pub(super) limits: Limits,
    pub(super) traffic: Traffic,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            hosts: Vec::new(),
            ways: BTreeMap::new(),
            sockets: BTreeMap::new(),
            next_socket: 1,
            sequence: 0,
            unreachable: BTreeMap::new(),
            limits: Limits::default(),
            traffic: Traffic::default(),
        }
    }

    pub(super) fn add_host(&mut self, addresses: &[IpAddr], changed: &Arc<Condvar>) -> HostId {
        let next_port = DYNAMIC_PORTS + self.random.below(16_384) as u16;
        self.hosts.push(Host {
            addresses: addresses.to_vec(),
            changed: changed.clone(),
            present: true,
            ready: VecDeque::new(),
            wakes: 0,
            events: BTreeMap::new(),
            next_port,
        });
        self.hosts.len() - 1
    }

    fn way(&mut self, one: HostId, other: HostId) -> &mut Way {
        let link = if one == other { Link::LOOPBACK } else { Link::LOCAL };
        self.ways.entry((one.min(other), one.max(other))).or_insert(Way { link, passing: true })
    }

    pub(super) fn set_link(&mut self, one: HostId, other: HostId, link: Link) {
        self.way(one, other).link = link;
    }

    pub(super) fn set_passing(&mut self, one: HostId, other: HostId, passing: bool) {
        self.way(one, other).passing = passing;
    }

    /// Whether a segment between two hosts passes, this time.
    fn passes(&mut self, one: HostId, other: HostId) -> bool {
        let present = self.hosts[one].present && self.hosts[other].present;
        let share = u64::from(self.way(one, other).link.loss);
        let is_lost = share != 0 && self.random.below(1000) < share;
        present && self.way(one, other).passing && !is_lost
    }

    fn delay(&mut self, one: HostId, other: HostId) -> Duration {
        self.way(one, other).link.delay
    }

    pub(super) fn socket(&mut self, id: SocketId) -> &mut Socket {
        self.sockets.get_mut(&id).expect("a socket lives as long as its owner")
    }

    pub(super) fn add_socket(&mut self, host: HostId, family: Family, token: u64) -> SocketId {
        let id = self.next_socket;
        self.next_socket += 1;
        let socket = Socket {
            host,
            token,
            family,
            phase: Phase::Idle,
            local: None,
            remote: None,
            is_bound: false,
            options: Options::new(),
            send_limit: self.limits.send,
            receive_limit: self.limits.receive,
            peer: None,
            sending: Sending::new(),
            received: VecDeque::new(),
            ended: false,
            owner: Owner::Uses,
            queue: VecDeque::new(),
        };
        self.sockets.insert(id, socket);
        id
    }

    fn at(&mut self, host: HostId, when: Instant, event: Event) {
        self.sequence += 1;
        let host = &mut self.hosts[host];
        let first = host.next_event().is_none_or(|first| when < first);
        host.events.insert((when, self.sequence), event);
        if first {
            host.changed.notify_all();
        }
    }

    /// An event at `to` that comes from `from`, one way of the link later.
    fn deliver(&mut self, from: HostId, to: HostId, event: Event) {
        let when = simulation::now() + self.delay(from, to);
        self.at(to, when, event);
    }

    /// The socket is worth another try.
    fn ready(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if socket.is_closed() {
            return;
        }
        let host = &mut self.hosts[socket.host];
        if !host.ready.contains(&socket.token) {
            host.ready.push_back(socket.token);
            host.changed.notify_one();
        }
    }

    /// Lets everything happen that is due.
    pub(super) fn advance(&mut self, now: Instant) {
        loop {
            let first = |(id, host): (usize, &Host)| host.events.first_key_value().map(|(key, _)| (*key, id));
            let Some((key, host)) = self.hosts.iter().enumerate().filter_map(first).min() else { return };
            if key.0 > now {
                return;
            }
            if let Some(event) = self.hosts[host].events.remove(&key) {
                self.happen(host, event, now);
            }
        }
    }

    fn happen(&mut self, host: HostId, event: Event, now: Instant) {
        match event {
            Event::Syn { client } => self.syn(host, client),
            Event::SynTimeout { client, attempt } => self.syn_timeout(client, attempt),
            Event::SynAnswer { client, server } => self.syn_answer(client, server),
            Event::Established { server } => self.established(server),
            Event::Arrival { from } => self.arrival(from, now),
            Event::Acknowledged { from, bytes, room } => self.acknowledged(host, from, (bytes, room), now),
            Event::Reset { to } => {
                if self.sockets.get(&to).is_some_and(|socket| self.hosts[socket.host].present) {
                    self.break_off(to, NetworkError::Reset);
                }
            }
        }
    }

    /// Ends a connection on this side alone.
    fn break_off(&mut self, id: SocketId, error: NetworkError) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match socket.phase {
            Phase::Connecting | Phase::Connected => {}
            // Nobody has it yet.
            Phase::SynReceived { .. } => drop(self.sockets.remove(&id)),
            Phase::Idle | Phase::Listening | Phase::Broken(_) => return,
        }
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.phase = Phase::Broken(error);
        socket.sending = Sending::new();
        socket.received.clear();
        if socket.is_closed() {
            self.sockets.remove(&id);
        } else {
            self.ready(id);
        }
    }

    /// Tells a socket's peer that there is no such connection.
    fn send_reset(&mut self, from: HostId, to: Option<SocketId>) {
        let Some((to, host)) = to.and_then(|to| self.sockets.get(&to).map(|socket| (to, socket.host))) else { return };
        if self.passes(from, host) {
            self.deliver(from, host, Event::Reset { to });
        }
    }

    pub(super) fn reset_between(&mut self, one: HostId, other: HostId) -> usize {
        let joins = |socket: &Socket| {
            let peer = socket.peer.and_then(|peer| self.sockets.get(&peer)).map(|peer| peer.host);
            socket.host == one && peer == Some(other) && socket.phase == Phase::Connected
        };
        let broken: Vec<(SocketId, Option<SocketId>)> =
            self.sockets.iter().filter(|(_, socket)| joins(socket)).map(|(id, socket)| (*id, socket.peer)).collect();
        for (id, peer) in &broken {
            self.break_off(*id, NetworkError::Reset);
            if let Some(peer) = peer {
                self.break_off(*peer, NetworkError::Reset);
            }
        }
        broken.len()
    }

    pub(super) fn set_present(&mut self, host: HostId, present: bool) {
        self.hosts[host].present = present;
        if present {
            let own = |socket: &Socket| socket.host == host && matches!(socket.phase, Phase::Connected);
            let forgotten: Vec<SocketId> =
                self.sockets.iter().filter(|(_, socket)| own(socket)).map(|(id, _)| *id).collect();
            for id in forgotten {
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.peer = None;
                }
                self.break_off(id, NetworkError::Reset);
            }
        }
    }

    fn port_is_used(&self, host: HostId, address: SocketAddr, bound_only: bool) -> bool {
        self.sockets.values().any(|socket| {
            socket.host == host
                && (socket.is_bound || !bound_only)
                && socket.local.is_some_and(|local| {
                    let overlaps =
                        local.ip() == address.ip() || local.ip().is_unspecified() || address.ip().is_unspecified();
                    local.port() == address.port() && local.is_ipv4() == address.is_ipv4() && overlaps
                })
        })
    }

    fn choose_port(&mut self, host: HostId, ip: IpAddr) -> Result<SocketAddr, NetworkError> {
        for _ in DYNAMIC_PORTS..=u16::MAX {
            let port = self.hosts[host].next_port;
            self.hosts[host].next_port = port.checked_add(1).unwrap_or(DYNAMIC_PORTS);
            let address = SocketAddr::new(ip, port);
            if !self.port_is_used(host, address, false) {
                return Ok(address);
            }
        }
        Err(NetworkError::NoBuffers)
    }

    pub(super) fn bind(&mut self, id: SocketId, address: SocketAddr) -> Result<(), NetworkError> {
        let socket = self.socket(id);
        let (host, reuses) = (socket.host, socket.options.get(&(SocketOption::ReuseAddress as u8)) == Some(&1));
        if socket.local.is_some() {
            return Err(NetworkError::Invalid);
        }
        if !self.hosts[host].has(address.ip()) {
            return Err(NetworkError::AddressNotAvailable);
        }
        let address = if address.port() == 0 { self.choose_port(host, address.ip())? } else { address };
        // One that may share the port with old connections still has it alone among those that have it by name.
        if self.port_is_used(host, address, reuses) {
            return Err(NetworkError::AddressInUse);
        }
        let socket = self.socket(id);
        socket.local = Some(address);
        socket.is_bound = true;
        Ok(())
    }

    pub(super) fn listen(&mut self, id: SocketId) -> Result<(), NetworkError> {
        let socket = self.socket(id);
        if socket.local.is_none() || socket.phase != Phase::Idle {
            return Err(NetworkError::Invalid);
        }
        socket.phase = Phase::Listening;
        Ok(())
    }

    /// The host that has an address, as one of `from`'s sockets sees it.
    fn host_of(&self, from: HostId, address: IpAddr) -> Option<HostId> {
        if address.is_loopback() || address.is_unspecified() {
            return Some(from);
        }
        self.hosts.iter().position(|host| host.addresses.contains(&address))
    }

    pub(super) fn connect(&mut self, id: SocketId, remote: SocketAddr) -> Step<()> {
        let socket = self.socket(id);
        let (host, family, local) = (socket.host, socket.family, socket.local);
        match socket.phase {
            Phase::Idle => {}
            Phase::Listening => return Err(NetworkError::Invalid),
            Phase::Connecting | Phase::Connected | Phase::SynReceived { .. } => {
                return Err(NetworkError::AlreadyConnected);
            }
            Phase::Broken(error) => return Err(error),
        }
        if Family::of(&remote) != family {
            return Err(NetworkError::NotSupported);
        }
        // Connecting to the unspecified address reaches the machine itself.
        let to = if remote.ip().is_unspecified() { loopback(family) } else { remote.ip() };
        let remote = SocketAddr::new(to, remote.port());
        if let Some(error) = self.unreachable.get(&to) {
            return Err(*error);
        }
        let own = |address: &IpAddr| Family::of(&SocketAddr::new(*address, 0)) == family;
        let from = if self.host_of(host, to) == Some(host) {
            Some(to)
        } else {
            self.hosts[host].addresses.iter().copied().find(own)
        };
        let Some(from) = from else { return Err(NetworkError::NetworkUnreachable) };
        let local = match local {
            None => self.choose_port(host, from)?,
            Some(local) if local.ip().is_unspecified() => SocketAddr::new(from, local.port()),
            Some(local) => local,
        };
        let socket = self.socket(id);
        (socket.local, socket.remote, socket.phase) = (Some(local), Some(remote), Phase::Connecting);
        self.send_syn(id, 0);
        Ok(Progress::Later)
    }

    fn send_syn(&mut self, client: SocketId, attempt: u32) {
        let socket = self.socket(client);
        let (host, remote) = (socket.host, socket.remote);
        self.at(host, simulation::now() + SYN_RETRANSMISSION * (1 << attempt), Event::SynTimeout { client, attempt });
        let to = remote.and_then(|remote| self.host_of(host, remote.ip()));
        if let Some(to) = to
            && self.passes(host, to)
        {
            self.deliver(host, to, Event::Syn { client });
        }
    }

    fn syn_timeout(&mut self, client: SocketId, attempt: u32) {
        if self.sockets.get(&client).is_none_or(|socket| socket.phase != Phase::Connecting) {
            return;
        }
        if attempt < SYN_RETRANSMISSIONS {
            self.send_syn(client, attempt + 1);
        } else {
            self.break_off(client, NetworkError::TimedOut);
        }
    }

    /// The listener for a connection to `address`.
    fn listener(&self, host: HostId, address: SocketAddr) -> Option<SocketId> {
        let listens = |socket: &Socket| {
            socket.host == host
                && socket.phase == Phase::Listening
                && socket.local.is_some_and(|local| {
                    let exact = local.ip() == address.ip();
                    let any = local.ip().is_unspecified() && local.is_ipv4() == address.is_ipv4();
                    local.port() == address.port() && (exact || any)
                })
        };
        let exact = |socket: &Socket| socket.local.is_some_and(|local| local.ip() == address.ip());
        let found = self.sockets.iter().filter(|(_, socket)| listens(socket));
        found.max_by_key(|(_, socket)| exact(socket)).map(|(id, _)| *id)
    }

    fn syn(&mut self, host: HostId, client: SocketId) {
        let Some(socket) = self.sockets.get(&client) else { return };
        let (client_host, peer) = (socket.host, socket.peer);
        let (Some(from), Some(to)) = (socket.local, socket.remote) else { return };
        let receives = socket.receive_limit;
        if socket.phase != Phase::Connecting || !self.passes(host, client_host) {
            return;
        }
        let known = peer.filter(|peer| self.sockets.contains_key(peer));
        let listener = self.listener(host, to).filter(|id| {
            let waiting = |socket: &&Socket| matches!(socket.phase, Phase::SynReceived { listener } if listener == *id);
            let waiting = self.sockets.values().filter(waiting).count();
            waiting + self.sockets[id].queue.len() < self.limits.backlog
        });
        let server = match (known, listener) {
            (Some(server), _) => Some(server),
            (None, Some(listener)) => {
                let (family, token) = (self.sockets[&listener].family, 0);
                let server = self.add_socket(host, family, token);
                let (send_limit, receive_limit) =
                    (self.sockets[&listener].send_limit, self.sockets[&listener].receive_limit);
                let socket = self.socket(server);
                (socket.send_limit, socket.receive_limit) = (send_limit, receive_limit);
                (socket.local, socket.remote, socket.peer) = (Some(to), Some(from), Some(client));
                socket.phase = Phase::SynReceived { listener };
                socket.sending.window = receives;
                let socket = self.socket(client);
                socket.peer = Some(server);
                socket.sending.window = receive_limit;
                Some(server)
            }
            (None, None) => None,
        };
        self.deliver(host, client_host, Event::SynAnswer { client, server });
    }

    fn syn_answer(&mut self, client: SocketId, server: Option<SocketId>) {
        let Some(socket) = self.sockets.get_mut(&client) else {
            // It has given up meanwhile.
            if let Some(server) = server {
                self.sockets.remove(&server);
            }
            return;
        };
        if socket.phase != Phase::Connecting {
            return;
        }
        let host = socket.host;
        let Some(server) = server else { return self.break_off(client, NetworkError::Refused) };
        socket.phase = Phase::Connected;
        self.traffic.connections += 1;
        self.ready(client);
        let Some(to) = self.sockets.get(&server).map(|server| server.host) else {
            return self.break_off(client, NetworkError::Reset);
        };
        if self.passes(host, to) {
            self.deliver(host, to, Event::Established { server });
        } else {
            // The acknowledgement is repeated when the server asks again.
            let when = simulation::now() + SYN_RETRANSMISSION;
            self.at(to, when, Event::Established { server });
        }
    }

    fn established(&mut self, server: SocketId) {
        let Some(socket) = self.sockets.get_mut(&server) else { return };
        let Phase::SynReceived { listener } = socket.phase else { return };
        let (host, peer) = (socket.host, socket.peer);
        socket.phase = Phase::Connected;
        match self.sockets.get_mut(&listener) {
            Some(listening) => {
                listening.queue.push_back(server);
                self.ready(listener);
            }
            None => {
                self.sockets.remove(&server);
                self.send_reset(host, peer);
            }
        }
    }

    pub(super) fn connected(&mut self, id: SocketId) -> Step<()> {
        match self.socket(id).phase {
            Phase::Connecting => Ok(Progress::Later),
            Phase::Connected => Ok(Progress::Done(())),
            Phase::Broken(error) => Err(error),
            Phase::Idle | Phase::Listening | Phase::SynReceived { .. } => Err(NetworkError::NotConnected),
        }
    }

    pub(super) fn accept(&mut self, listener: SocketId, token: u64) -> Result<Option<SocketId>, NetworkError> {
        loop {
            let Some(id) = self.socket(listener).queue.pop_front() else { return Ok(None) };
            // One that has been reset meanwhile is not there any more for whoever accepts.
            match self.sockets.get_mut(&id) {
                Some(socket) if socket.phase == Phase::Connected => {
                    socket.token = token;
                    self.ready(id);
                    return Ok(Some(id));
                }
                Some(_) => drop(self.sockets.remove(&id)),
                None => {}
            }
        }
    }

    /// Whether data can be moved: the error if not.
    fn usable(&mut self, id: SocketId) -> Result<&mut Socket, NetworkError> {
        let socket = self.socket(id);
        match socket.phase {
            Phase::Connected => Ok(socket),
            Phase::Broken(error) => Err(error),
            Phase::Idle | Phase::Listening | Phase::Connecting | Phase::SynReceived { .. } => {
                Err(NetworkError::NotConnected)
            }
        }
    }

    pub(super) fn send(&mut self, id: SocketId, buffers: &[IoSlice<'_>]) -> Step<usize> {
        let socket = self.usable(id)?;
        if socket.sending.end != End::Open {
            return Err(NetworkError::Reset);
        }
        let mut room = socket.send_limit.saturating_sub(socket.sending.buffered());
        if room == 0 {
            return Ok(Progress::Later);
        }
        let mut sent = 0;
        for buffer in buffers {
            let length = buffer.len().min(room);
            socket.sending.push(&buffer[..length]);
            room -= length;
            sent += length;
        }
        self.transmit(id);
        Ok(Progress::Done(sent))
    }

    fn transmit(&mut self, id: SocketId) {
        let Some((host, to)) = self.ends_of(id) else { return };
        let link = self.way(host, to).link;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if let Some(arrival) = socket.sending.transmit(&link, &mut self.random, simulation::now()) {
            self.at(to, arrival, Event::Arrival { from: id });
        }
    }

    /// The hosts of a connection's two ends. Of a peer that is gone, by its address.
    fn ends_of(&self, id: SocketId) -> Option<(HostId, HostId)> {
        let socket = self.sockets.get(&id)?;
        let to = self.host_of(socket.host, socket.remote?.ip())?;
        Some((socket.host, to))
    }

    /// The first segment of what `from` sends comes to its peer.
    fn arrival(&mut self, from: SocketId, now: Instant) {
        let Some((host, to)) = self.ends_of(from) else { return };
        let passes = self.passes(host, to);
        let Some(sender) = self.sockets.get_mut(&from) else { return };
        if sender.sending.next_arrival().is_none() {
            return; // it has been reset
        }
        if !passes {
            self.traffic.retransmissions += 1;
            match sender.sending.again() {
                Some(wait) => self.at(to, now + wait, Event::Arrival { from }),
                None => self.break_off(from, NetworkError::TimedOut),
            }
            return;
        }
        let peer = sender.peer;
        let Some(segment) = sender.sending.arrived() else { return };
        let next = sender.sending.next_arrival();
        if let Some(next) = next {
            self.at(to, next.max(now), Event::Arrival { from });
        }
        let Some(peer) = peer.filter(|peer| self.sockets.contains_key(peer)) else {
            return self.send_reset(to, Some(from));
        };
        self.established(peer);
        let Some(receiver) = self.sockets.get_mut(&peer) else { return };
        if matches!(receiver.phase, Phase::Broken(_)) || receiver.is_closed() && !segment.bytes.is_empty() {
            // Nobody is there to read it.
            self.break_off(peer, NetworkError::Reset);
            return self.send_reset(to, Some(from));
        }
        let length = segment.bytes.len();
        if length == 0 {
            receiver.ended = true;
        } else {
            receiver.received.extend(segment.bytes);
            self.traffic.segments += 1;
            self.traffic.bytes += length as u64;
        }
        self.ready(peer);
        self.deliver(to, host, Event::Acknowledged { from, bytes: length, room: 0 });
        self.forget_if_done(peer);
        self.forget_if_done(from);
    }

    /// A connection that is closed, and has sent and received all, goes.
    fn forget_if_done(&mut self, id: SocketId) {
        let done = |socket: &Socket| socket.is_closed() && socket.sending.is_done();
        if self.sockets.get(&id).is_some_and(done) {
            let peer = self.sockets.get(&id).and_then(|socket| socket.peer);
            let peers_end = peer.and_then(|peer| self.sockets.get(&peer));
            // As long as its peer may send, somebody must answer.
            if peers_end.is_none_or(|peer| peer.sending.end == End::Sent && peer.sending.is_done()) {
                self.sockets.remove(&id);
            }
        }
    }

    fn acknowledged(&mut self, host: HostId, from: SocketId, (bytes, room): (usize, usize), now: Instant) {
        let Some((_, to)) = self.ends_of(from) else { return };
        if !self.passes(host, to) {
            // The next one says the same.
            return self.at(host, now + RETRANSMISSION, Event::Acknowledged { from, bytes, room });
        }
        let Some(socket) = self.sockets.get_mut(&from) else { return };
        socket.sending.acknowledged(bytes);
        socket.sending.window += room;
        self.transmit(from);
        self.ready(from);
        self.forget_if_done(from);
    }

    pub(super) fn receive(&mut self, id: SocketId, buffers: &mut [IoSliceMut<'_>]) -> Step<usize> {
        let socket = self.usable(id)?;
        if socket.received.is_empty() {
            return Ok(if socket.ended { Progress::Done(0) } else { Progress::Later });
        }
        let mut count = 0;
        for buffer in buffers {
            let length = buffer.len().min(socket.received.len());
            for (to, from) in buffer.iter_mut().zip(socket.received.drain(..length)) {
                *to = from;
            }
            count += length;
        }
        let (host, peer) = (socket.host, socket.peer);
        if let Some(peer) = peer
            && let Some(to) = self.sockets.get(&peer).map(|peer| peer.host)
        {
            self.deliver(host, to, Event::Acknowledged { from: peer, bytes: 0, room: count });
        }
        Ok(Progress::Done(count))
    }

    pub(super) fn peek(&mut self, id: SocketId) -> Step<bool> {
        let socket = self.usable(id)?;
        Ok(match (socket.received.is_empty(), socket.ended) {
            (false, _) => Progress::Done(true),
            (true, true) => Progress::Done(false),
            (true, false) => Progress::Later,
        })
    }

    pub(super) fn shut_down(&mut self, id: SocketId) -> Result<(), NetworkError> {
        let socket = self.usable(id)?;
        if socket.sending.end == End::Open {
            socket.sending.end = End::Wanted;
            self.transmit(id);
        }
        Ok(())
    }

    /// Its owner lets go of it.
    pub(super) fn close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let (host, peer) = (socket.host, socket.peer);
        match socket.phase {
            Phase::Idle | Phase::Connecting | Phase::Broken(_) | Phase::SynReceived { .. } => {
                self.sockets.remove(&id);
            }
            Phase::Listening => {
                let queue = std::mem::take(&mut socket.queue);
                self.sockets.remove(&id);
                for waiting in queue {
                    let peer = self.sockets.remove(&waiting).and_then(|socket| socket.peer);
                    self.send_reset(host, peer);
                }
            }
            // What was not read is lost, and its sender is told.
            Phase::Connected if socket.owner == Owner::Aborts || !socket.received.is_empty() => {
                self.sockets.remove(&id);
                self.send_reset(host, peer);
            }
            Phase::Connected => {
                socket.owner = Owner::Gone;
                if socket.sending.end == End::Open {
                    socket.sending.end = End::Wanted;
                }
                self.transmit(id);
                self.forget_if_done(id);
            }
        }
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}
