//! What an operation on an established stream allocates.
//!
//! Counted in pool blocks of the whole machine. A request of the same shape for an endpoint that does not exist, which the driver
//! refuses, shows what the I/O manager and the framework need for any request (the IRP, the MDL, the system buffer, the
//! request's context); what an operation needs beyond that is the driver's. The live blocks of requests that pend say the same
//! by tag: the framework's contexts carry the tag that the driver gives in WDF_DRIVER_CONFIG, its own blocks others.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use anyhow::{Result, ensure};
use san_proxy::{Endpoint, EndpointId, NtStatus, Pending, Receive, StreamConnection, Transfer};

use crate::bed::{Bed, PATIENCE};
use crate::path::OPERATION;

/// The driver's tag for the framework's contexts (`DriverPoolTag` of its WDF_DRIVER_CONFIG).
const FRAMEWORK_TAG: &str = "SanF";
/// Operations before counting: what is made once is made then.
const WARM_UP: u32 = 64;
const OPERATIONS: u32 = 1000;
/// Requests that pend at once.
const PENDING: u32 = 32;

/// Pool allocations an operation.
pub(crate) struct PerOperation {
    pub(crate) name: &'static str,
    /// In all.
    pub(crate) all: f64,
    /// Of these, as many as any request of this shape costs: the I/O manager's and the framework's.
    pub(crate) any_request: f64,
}

impl PerOperation {
    /// What the operation itself costs.
    pub(crate) fn own(&self) -> f64 {
        self.all - self.any_request
    }
}

/// Pool use of operations.
pub(crate) struct Memory {
    pub(crate) operations: Vec<PerOperation>,
    /// Pool blocks a pending receive, under the framework's tag.
    pub(crate) pending_framework: f64,
    /// Pool blocks a pending receive, under all other tags of the driver.
    pub(crate) pending_own: f64,
}

pub(crate) fn measure(bed: &Bed) -> Result<Memory> {
    let (connection, peer) = bed.through_driver()?;
    let nowhere = StreamConnection::from_endpoint(Endpoint::from_id(&bed.provider, EndpointId::MAX));
    let refused_send = allocations(bed, || refused(nowhere.start_send(vec![0x5a; OPERATION])))?;
    let refused_receive = allocations(bed, || refused(nowhere.start_receive(vec![0; OPERATION], Receive::All)))?;
    let sent = {
        let drain = in_background(peer.try_clone()?, |mut peer, buffer| peer.read_exact(buffer));
        let sent = allocations(bed, || whole(connection.start_send(vec![0x5a; OPERATION])))?;
        drain.join().expect("the peer reads")?;
        sent
    };
    let received = {
        let feed = in_background(peer.try_clone()?, |mut peer, buffer| peer.write_all(buffer));
        let received = allocations(bed, || whole(connection.start_receive(vec![0; OPERATION], Receive::All)))?;
        feed.join().expect("the peer writes")?;
        received
    };
    let (pending_framework, pending_own) = pending(bed, &connection)?;
    let operations = vec![
        PerOperation { name: "send, 64 KiB", all: sent, any_request: refused_send },
        PerOperation { name: "receive, 64 KiB", all: received, any_request: refused_receive },
    ];
    Ok(Memory { operations, pending_framework, pending_own })
}

/// Pool allocations of the machine, a call of `operation`.
fn allocations(bed: &Bed, mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..WARM_UP {
        operation()?;
    }
    let before = bed.machine.stats().pool_allocations;
    for _ in 0..OPERATIONS {
        operation()?;
    }
    let allocations = u32::try_from(bed.machine.stats().pool_allocations - before)?;
    Ok(f64::from(allocations) / f64::from(OPERATIONS))
}

fn whole(transfer: Pending<Transfer>) -> Result<()> {
    ensure!(transfer.wait_or_cancel(PATIENCE).result? == OPERATION, "an operation ended early");
    Ok(())
}

fn refused(transfer: Pending<Transfer>) -> Result<()> {
    let result = transfer.wait_or_cancel(PATIENCE).result;
    let refused = result.as_ref().is_err_and(|error| error.status() == NtStatus::INVALID_HANDLE);
    ensure!(refused, "an endpoint that does not exist is not refused: {result:?}");
    Ok(())
}

/// The peer's side of as many operations as [`allocations`] makes.
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
    ensure!(!receives.iter().any(Pending::has_ended), "a receive ended without data");
    receives.iter().for_each(Pending::cancel);
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
