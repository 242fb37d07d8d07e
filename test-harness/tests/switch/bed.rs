//! Machines whose SAN is the loopback network, and switches on them.

use crate::support::{Bed, PATIENCE};
pub(crate) use crate::support::{builder, free_port};
use san_proxy::{Prefix, ReceiveWindow, SanStream, Switch, SwitchConfig};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A machine whose SAN addresses are the native ones.
pub(crate) fn bed() -> Bed {
    Bed::with(builder())
}

/// The SAN is 127.0.0.0/8 and ::1.
pub(crate) fn config() -> SwitchConfig {
    let prefix = |text: &str| text.parse::<Prefix>().expect("a prefix");
    SwitchConfig::default().with_subnet(prefix("127.0.0.0/8")).with_subnet(prefix("::1/128"))
}

/// The same, with room for little: so many receives, and sends on their way, of so many bytes.
pub(crate) fn narrow(count: usize, size: u32) -> SwitchConfig {
    SwitchConfig { receives: ReceiveWindow { count, size }, send_count: count, ..config() }
}

/// A switch with a handle of its own.
pub(crate) fn switch(bed: &Bed, config: SwitchConfig) -> Switch {
    Switch::new(Some(bed.open()), config)
}

/// Both ends of a SAN stream: the connector's first.
pub(crate) fn san_streams(switch: &Switch) -> (SanStream, SanStream) {
    let listener = switch.bind("127.0.0.1:0").expect("listens");
    let client = switch.connect(listener.local_addr().expect("its address")).expect("connects");
    let (server, peer) = listener.accept().expect("accepts");
    assert!(client.is_san() && server.is_san());
    assert_eq!(peer, client.local_addr().expect("its address"));
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    }
    (client, server)
}

/// Everything until the end.
pub(crate) fn read_all(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("reads to the end");
    bytes
}

/// A TCP listener that knows whether it was asked.
pub(crate) struct Witness {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Witness {
    /// At a free port of this address.
    pub(crate) fn at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, free_port())).expect("a free port");
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("non-blocking");
        Self { listener, address }
    }

    /// Whether a TCP connection has come. Of loopback it has come when the connect is over.
    pub(crate) fn was_asked(&self) -> bool {
        match self.listener.accept() {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                false
            }
        }
    }
}
