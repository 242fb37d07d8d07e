//! What an operation on an established stream allocates.
//!
//! Two figures, since neither says it all. *Live blocks by tag* while requests pend: the framework allocates a request's context
//! under the tag that the driver gives in WDF_DRIVER_CONFIG, the driver's own code uses others; but a block that is freed before
//! the request pends is not among them. *Allocations asked for* counts whatever may fail for want of memory: pool, IRPs, MDLs,
//! work items, framework objects and their contexts, IoSetCompletionRoutineEx. As many as a request costs that the driver
//! answers at once, without an endpoint, are the framework's; the rest come from calls of the driver's own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use anyhow::{Result, ensure};
use san_proxy::{Receive, StreamConnection, Transfer};

use crate::bed::{Bed, PATIENCE};
use crate::path::OPERATION;

/// The driver's tag for the framework's contexts (`DriverPoolTag` of its WDF_DRIVER_CONFIG).
const FRAMEWORK_TAG: &str = "SanF";
/// Operations before counting: what is made once is made then.
const WARM_UP: u32 = 64;
const OPERATIONS: u32 = 1000;
const PENDING: u32 = 32;

/// Allocations an operation.
pub(crate) struct PerOperation {
    pub(crate) name: &'static str,
    /// Asked for in all, by the framework and the driver.
    pub(crate) asked: f64,
    /// Of these, as many as any request costs: the framework's.
    pub(crate) framework: f64,
}

impl PerOperation {
    /// What calls of the driver's own asked for.
    pub(crate) fn own(&self) -> f64 {
        self.asked - self.framework
    }
}

pub(crate) struct Memory {
    pub(crate) operations: Vec<PerOperation>,
    /// Pool blocks a pending receive, under the framework's tag.
    pub(crate) pending_framework: f64,
    /// Pool blocks a pending receive, under all other tags.
    pub(crate) pending_own: f64,
}

pub(crate) fn measure(bed: &Bed) -> Result<Memory> {
    let (connection, peer) = bed.through_driver()?;
    let framework = asked(bed, || Ok(bed.provider.status().map(drop)?))?;
    let send = {
        let drain = in_background(peer.try_clone()?, |mut peer, buffer| peer.read_exact(buffer));
        let sent = asked(bed, || send(&connection))?;
        drain.join().expect("the peer reads")?;
        sent
    };
    let receive = {
        let feed = in_background(peer.try_clone()?, |mut peer, buffer| peer.write_all(buffer));
        let received = asked(bed, || receive(&connection))?;
        feed.join().expect("the peer writes")?;
        received
    };
    let (pending_framework, pending_own) = pending(bed, &connection)?;
    let operations = vec![
        PerOperation { name: "send, 64 KiB", asked: send, framework },
        PerOperation { name: "receive, 64 KiB", asked: receive, framework },
    ];
    Ok(Memory { operations, pending_framework, pending_own })
}

/// Allocations that drivers asked for, a call of `operation`.
fn asked(bed: &Bed, mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..WARM_UP {
        operation()?;
    }
    let before = bed.machine.allocations();
    for _ in 0..OPERATIONS {
        operation()?;
    }
    let asked = u32::try_from(bed.machine.allocations() - before)?;
    Ok(f64::from(asked) / f64::from(OPERATIONS))
}

fn send(connection: &StreamConnection) -> Result<()> {
    let sent = connection.start_send(vec![0x5a; OPERATION]).wait_or_cancel(PATIENCE);
    ensure!(sent.result? == OPERATION, "a send ended early");
    Ok(())
}

fn receive(connection: &StreamConnection) -> Result<()> {
    let received = connection.start_receive(vec![0; OPERATION], Receive::All).wait_or_cancel(PATIENCE);
    ensure!(received.result? == OPERATION, "a receive ended early");
    Ok(())
}

/// The peer's side of as many operations as [`asked`] makes.
fn in_background(
    peer: TcpStream,
    operation: impl Fn(&TcpStream, &mut [u8]) -> std::io::Result<()> + Send + 'static,
) -> thread::JoinHandle<std::io::Result<()>> {
    thread::spawn(move || {
        let mut buffer = vec![0x5a; OPERATION];
        (0..WARM_UP + OPERATIONS).try_for_each(|_| operation(&peer, &mut buffer))
    })
}

/// Live pool blocks a pending receive, under the framework's tag and under all others.
fn pending(bed: &Bed, connection: &StreamConnection) -> Result<(f64, f64)> {
    let before = blocks(bed);
    let receives: Vec<_> = (0..PENDING).map(|_| connection.start_receive(vec![0; OPERATION], Receive::Some)).collect();
    let during = blocks(bed);
    ensure!(!receives.iter().any(san_proxy::Pending::has_ended), "a receive ended without data");
    receives.iter().for_each(san_proxy::Pending::cancel);
    for receive in receives {
        let Transfer { result, .. } = receive.wait_or_cancel(PATIENCE);
        ensure!(result.is_err(), "a cancelled receive succeeded");
    }
    let more = |own: bool| {
        let count = |tags: &BTreeMap<String, usize>| -> usize {
            tags.iter().filter(|(tag, _)| (*tag != FRAMEWORK_TAG) == own).map(|(_, blocks)| blocks).sum()
        };
        anyhow::Ok(f64::from(i32::try_from(count(&during).cast_signed() - count(&before).cast_signed())?))
    };
    Ok((more(false)? / f64::from(PENDING), more(true)? / f64::from(PENDING)))
}

fn blocks(bed: &Bed) -> BTreeMap<String, usize> {
    bed.machine.stats().driver_pool.into_iter().map(|(tag, used)| (tag, used.blocks)).collect()
}
