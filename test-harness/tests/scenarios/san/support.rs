//! The bed of SAN scenarios: a machine whose native port is its own, and sessions on it.

use crate::support::{Bed, PATIENCE, eventually};
pub(crate) use crate::support::{builder, free_port};
use san_protocol::ControlCode;
use san_proxy::{
    AddressFamily, Backlog, DeviceRequest, Memory, MemoryRights, NtStatus, Pending, Provider, Region, SanEndpoint,
};
use std::net::{Ipv4Addr, SocketAddr};

/// A machine with the driver loaded, whose native port is its own.
pub(crate) fn bed() -> Bed {
    Bed::with(builder())
}

/// An address of 127.0.0.1 with a SAN port that the driver chooses.
pub(crate) fn any() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A new endpoint, bound to 127.0.0.1.
pub(crate) fn bound(provider: &Provider) -> (SanEndpoint, SocketAddr) {
    let endpoint = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
    let address = endpoint.bind(any()).expect("binds");
    (endpoint, address)
}

/// An endpoint that listens.
pub(crate) fn listening(provider: &Provider, backlog: u32) -> (SanEndpoint, SocketAddr) {
    let (endpoint, address) = bound(provider);
    endpoint.listen(Backlog(backlog)).expect("listens");
    (endpoint, address)
}

/// A connector and an acceptor, connected.
pub(crate) fn connected(provider: &Provider) -> (SanEndpoint, SanEndpoint) {
    let (listener, address) = listening(provider, 4);
    connected_to(provider, &listener, address)
}

/// A further connection to a listener.
pub(crate) fn connected_to(
    provider: &Provider,
    listener: &SanEndpoint,
    address: SocketAddr,
) -> (SanEndpoint, SanEndpoint) {
    let (connector, _) = bound(provider);
    let connect = connector.start_connect(address, Some(PATIENCE));
    let acceptor = listener.accept().expect("a connection arrives").accept().expect("accepts");
    connect.wait().expect("connects");
    (connector, acceptor)
}

/// An endpoint with a region in which it has posted receives, one behind the other.
pub(crate) struct Receiver {
    pub(crate) endpoint: SanEndpoint,
    pub(crate) region: Region,
    pub(crate) size: usize,
    pub(crate) receives: Vec<Pending<Result<usize, san_proxy::Error>>>,
}

impl Receiver {
    /// Registers room for `count` messages of `size` bytes, and posts a receive for each.
    pub(crate) fn new(endpoint: SanEndpoint, count: usize, size: usize) -> Self {
        let region = endpoint.register(Memory::new((count * size).max(1)), MemoryRights::BOTH).expect("registers");
        let receives = (0..count).map(|at| endpoint.start_receive(&region, at * size..(at + 1) * size)).collect();
        Self { endpoint, region, size, receives }
    }

    /// The next message, and its place is posted anew.
    pub(crate) fn next(&mut self, at: usize) -> Vec<u8> {
        let receive = self.receives.remove(0);
        let length = receive.wait().expect("a message");
        let start = at * self.size;
        let message = self.region.read(start..start + length).expect("nobody uses it");
        self.receives.push(self.endpoint.start_receive(&self.region, start..start + self.size));
        message
    }
}

/// A session: both sides have posted `count` receives of `size` bytes, and negotiated.
pub(crate) fn session(provider: &Provider, count: usize, size: usize) -> (Receiver, Receiver) {
    let (connector, acceptor) = connected(provider);
    negotiated(connector, acceptor, count, size)
}

/// The same, of a connection that stands.
pub(crate) fn negotiated(
    connector: SanEndpoint,
    acceptor: SanEndpoint,
    count: usize,
    size: usize,
) -> (Receiver, Receiver) {
    let connector = Receiver::new(connector, count, size);
    let acceptor = Receiver::new(acceptor, count, size);
    let size = u32::try_from(size).expect("a message size");
    let negotiate = connector.endpoint.start_negotiate(b"connector", size);
    let peer = acceptor.endpoint.negotiate(b"acceptor", size).expect("negotiates");
    assert_eq!(peer.private, b"connector");
    assert_eq!(negotiate.wait().expect("negotiates").private, b"acceptor");
    (connector, acceptor)
}

/// Waits until no message is on its way and no hand-shake under way.
pub(crate) fn quiet(provider: &Provider) {
    eventually("no hand-shake is under way", || provider.statistics().expect("statistics").handshakes == 0);
}

/// Issues a request as it is, without room for an answer.
pub(crate) fn request(provider: &Provider, code: ControlCode, input: &[u8]) -> NtStatus {
    let request = DeviceRequest::new(code, input, Vec::new());
    Pending::start(provider.device(), request, |completed| completed.status).wait()
}

/// Lets what is under way come to rest, then goes on.
pub(crate) fn pause<T>(then: impl FnOnce() -> T) -> T {
    std::thread::sleep(crate::support::MOMENT);
    then()
}

/// Waits for the end of what pends, but not for ever.
#[track_caller]
pub(crate) fn outcome<T: Send + 'static>(pending: Pending<T>) -> T {
    pending.wait_for(PATIENCE).expect("it ends in time")
}

/// A session that has nothing to do with the others.
pub(crate) struct Bystander {
    connector: Receiver,
    acceptor: Receiver,
}

impl Bystander {
    pub(crate) fn new(provider: &Provider) -> Self {
        let (connector, acceptor) = session(provider, 1, 8);
        Self { connector, acceptor }
    }

    /// Messages go both ways.
    pub(crate) fn goes_on(&mut self) {
        self.connector.endpoint.send(b"there").expect("sends");
        assert_eq!(self.acceptor.next(0), b"there");
        self.acceptor.endpoint.send(b"and back").expect("sends");
        assert_eq!(self.connector.next(0), b"and back");
    }
}
