//! A machine with the driver on it, and streams through it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use san_protocol::ProviderState;
use san_proxy::{AddressFamily, Provider, StreamConnection};
use test_harness::device::HarnessDevice;
use test_harness::machine::Unload;
use test_harness::{Driver, Machine};

/// Longer than anything here takes, if it works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Bed {
    pub(crate) machine: Machine,
    driver: Driver,
    pub(crate) provider: Provider,
}

impl Bed {
    /// Builds the driver and loads it. Pool is without guard pages: they cost system calls that no kernel makes.
    pub(crate) fn new() -> Result<Self> {
        let image = driver_build::build(&driver_build::Options::default())?.image;
        let machine = Machine::builder().guarded_pool(false).build();
        let driver = machine.load(image, "sanwsk")?;
        let provider = Provider::new(Arc::new(HarnessDevice::open(&Arc::new(machine.process()))?));
        let deadline = Instant::now() + PATIENCE;
        while provider.status()?.provider != ProviderState::Ready {
            ensure!(Instant::now() < deadline, "the driver does not capture the WSK provider NPI");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { machine, driver, provider })
    }

    /// An endpoint of the driver, connected to a plain socket.
    pub(crate) fn through_driver(&self) -> Result<(StreamConnection, TcpStream)> {
        let connection = StreamConnection::create(&self.provider, AddressFamily::INET)?;
        let peer = accept_one(|address| Ok(connection.connect(address, Some(PATIENCE))?))?.1;
        Ok((connection, peer))
    }

    /// Closes the device and unloads the driver.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { machine, driver, provider } = self;
        drop(provider);
        let unloaded = machine.unload(&driver);
        if let Some(violation) = machine.violation() {
            return Err(anyhow!("{violation}"));
        }
        ensure!(unloaded == Ok(Unload::Done), "the driver is not unloaded: {unloaded:?}");
        Ok(())
    }
}

/// Two plain sockets, connected to each other.
pub(crate) fn plain() -> Result<(TcpStream, TcpStream)> {
    let (near, far) = accept_one(|address| Ok(TcpStream::connect_timeout(&address, PATIENCE)?))?;
    prepare(&near)?;
    Ok((near, far))
}

/// Has `connect` connect to a listener: what it brings, and the other end.
fn accept_one<T>(connect: impl FnOnce(SocketAddr) -> Result<T>) -> Result<(T, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = connect(listener.local_addr()?)?;
    // The connection is in the listener's backlog.
    let (far, _) = listener.accept()?;
    prepare(&far)?;
    Ok((near, far))
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(())
}
