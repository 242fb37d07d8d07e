//! Two simulated Windows machines, which reach each other's SAN addresses over TCP.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;

use san_proxy::Provider;
use test_harness::nt::registry::Value;
use test_harness::{Driver, Machine};

use crate::bed::Bed;
use crate::console::Console;
use crate::failure::Failure;

/// Their SAN addresses.
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
pub(crate) const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));

/// Both machines, and the native port of each.
pub(crate) struct Neighbours {
    beds: [Bed; 2],
    ports: [u16; 2],
}

impl Neighbours {
    /// Two machines with each other's addresses in their `Routes`.
    pub(crate) fn new() -> Result<Self, Failure> {
        let [here, there] = [free_port(), free_port()];
        let ports = [here?, there?];
        let route =
            |(address, port): (IpAddr, u16)| format!("{address}/32 {}/32 port={port} san-only", Ipv4Addr::LOCALHOST);
        let routes: Vec<_> = [HERE, THERE].into_iter().zip(ports).map(route).collect();
        let bed = |(name, port): (&str, u16)| {
            let builder = Machine::builder()
                .name(name)
                .parameter("sanwsk", "NativePort", Value::Number(port.into()))
                .parameter("sanwsk", "Routes", Value::List(routes.clone()));
            Bed::with(builder)
        };
        let [here, there] = ports;
        Ok(Self { beds: [bed(("here", here)), bed(("there", there))], ports })
    }

    /// Loads the driver on both.
    pub(crate) fn load(&self, image: &Path, console: &Console) -> Result<[Driver; 2], Failure> {
        let [here, there] = &self.beds;
        let drivers = [here.load(image)?, there.load(image)?];
        for (address, port) in [HERE, THERE].into_iter().zip(self.ports) {
            console.done(format_args!("a machine of its own, with its own sanwsk.sys, at SAN address {address}"));
            console.note(format_args!("its native port: 127.0.0.1:{port} (NativePort and Routes in its registry)"));
        }
        Ok(drivers)
    }

    /// Opens the device of both.
    pub(crate) fn open(&self) -> Result<[Provider; 2], Failure> {
        let [here, there] = &self.beds;
        Ok([here.open()?.0, there.open()?.0])
    }

    /// Closes the devices and unloads both drivers.
    pub(crate) fn unload(
        &self,
        drivers: &[Driver; 2],
        providers: [Provider; 2],
        console: &Console,
    ) -> Result<(), Failure> {
        for ((bed, driver), (provider, address)) in
            self.beds.iter().zip(drivers).zip(providers.into_iter().zip([HERE, THERE]))
        {
            bed.unload(driver, provider)?;
            console.done(format_args!("{address}: unloaded; left behind: 0 pool blocks, 0 IRPs, 0 kernel handles"));
        }
        Ok(())
    }

    /// What happened, or the rule that a driver broke if that is the reason for it.
    pub(crate) fn claim(&self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        let [here, there] = &self.beds;
        let outcome = here.claim(outcome);
        there.claim(outcome)
    }
}

/// A TCP port that nobody has at the moment.
fn free_port() -> Result<u16, Failure> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new(error, "127.0.0.1 has to be up (ip link set lo up)"))
}
