//! What a message allocates while its connection stands.
//!
//! Counted in pool blocks of the whole machine. A request of the same shape for an endpoint that does not exist, which the driver
//! refuses, shows what the I/O manager and the framework need for any request (the IRP, the MDL, the system buffer, the
//! request's context); what an operation needs beyond that is the driver's. The live blocks of requests that pend say the same
//! by tag: the framework's contexts carry the tag that the driver gives in WDF_DRIVER_CONFIG, its own blocks others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Result, ensure};
use san_proxy::{
    Endpoint, EndpointId, Error, Memory, MemoryRights, NtStatus, Pending, Receive, SanEndpoint, StreamConnection,
};

use super::bed::{Bed, PATIENCE};
use super::figures::size_name;
use super::path::{Path, WINDOW, both};
use super::san::{San, SendFrom};
use super::{Progress, Schedule, stream};

/// The driver's tag for the framework's contexts (`DriverPoolTag` of its WDF_DRIVER_CONFIG).
const FRAMEWORK_TAG: &str = "SanF";
/// Operations before counting: what is made once is made then.
const WARM_UP: u32 = 64;
/// Bytes of a stream operation.
const STREAM: usize = 64 << 10;
/// SAN messages, and where they are sent from.
const MESSAGES: [(SendFrom, usize); 6] = [
    (SendFrom::Buffer, 64),
    (SendFrom::Buffer, 64 << 10),
    (SendFrom::Region, 64),
    (SendFrom::Region, 64 << 10),
    (SendFrom::Region, 256 << 10),
    (SendFrom::Region, 1 << 20),
];
/// Requests that pend at once.
const PENDING: usize = 32;

/// Pool allocations an operation.
pub(crate) struct PerOperation {
    pub(crate) name: String,
    /// In all.
    pub(crate) all: f64,
    /// Of these, as many as any requests of this shape cost: the I/O manager's and the framework's.
    pub(crate) any_request: f64,
}

impl PerOperation {
    /// What the operation itself costs.
    pub(crate) fn own(&self) -> f64 {
        self.all - self.any_request
    }
}

/// Live pool blocks of a request that pends.
pub(crate) struct PerPending {
    pub(crate) name: &'static str,
    /// Under the framework's tag.
    pub(crate) framework: f64,
    /// Under all other tags of the driver.
    pub(crate) own: f64,
}

/// Pool use of operations.
pub(crate) struct Allocations {
    pub(crate) operations: Vec<PerOperation>,
    pub(crate) pending: Vec<PerPending>,
}

pub(crate) fn measure(bed: &Bed, schedule: Schedule, progress: &Progress) -> Result<Allocations> {
    progress.part("pool allocations");
    let count = schedule.counted;
    let mut operations = stream_operations(bed, count)?;
    for (from, size) in MESSAGES {
        operations.push(san_message(bed, count, from, size)?);
    }
    let pending = vec![pending_stream_receive(bed)?, pending_san_receive(bed)?];
    Ok(Allocations { operations, pending })
}

/// Pool allocations of the machine, a call of `operation`.
fn allocations(bed: &Bed, count: u32, mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..WARM_UP {
        operation()?;
    }
    let before = bed.machine.stats().pool_allocations;
    for _ in 0..count {
        operation()?;
    }
    let allocations = u32::try_from(bed.machine.stats().pool_allocations - before)?;
    Ok(f64::from(allocations) / f64::from(count))
}

fn refused(result: &Result<usize, Error>) -> Result<()> {
    let refused = result.as_ref().is_err_and(|error| error.status() == NtStatus::INVALID_HANDLE);
    ensure!(refused, "an endpoint that does not exist is not refused: {result:?}");
    Ok(())
}

fn nowhere(bed: &Bed) -> Endpoint {
    Endpoint::from_id(&bed.near, EndpointId::MAX)
}

/// A send and a receive of a stream, each with a plain socket at the other end.
fn stream_operations(bed: &Bed, count: u32) -> Result<Vec<PerOperation>> {
    let (near, mut far) = stream::to_plain(bed, STREAM)?;
    let near = near.connection;
    let nowhere = StreamConnection::from_endpoint(nowhere(bed));
    let whole = |transferred| {
        ensure!(transferred == STREAM, "an operation ended early");
        Ok(())
    };
    let send_one = || near.start_send(vec![0x5a; STREAM]).wait_or_cancel(PATIENCE).result;
    let receive_one = || near.start_receive(vec![0; STREAM], Receive::All).wait_or_cancel(PATIENCE).result;
    let operations = WARM_UP + count;
    let mut sent = 0.0;
    both(
        || (0..operations).try_for_each(|_| far.receive().map(|_| ())),
        || {
            sent = allocations(bed, count, || whole(send_one()?))?;
            Ok(())
        },
    )?;
    let mut received = 0.0;
    both(
        || (0..operations).try_for_each(|_| far.send()),
        || {
            received = allocations(bed, count, || whole(receive_one()?))?;
            Ok(())
        },
    )?;
    let refused_send =
        allocations(bed, count, || refused(&nowhere.start_send(vec![0x5a; STREAM]).wait_or_cancel(PATIENCE).result))?;
    let refused_receive = allocations(bed, count, || {
        refused(&nowhere.start_receive(vec![0; STREAM], Receive::All).wait_or_cancel(PATIENCE).result)
    })?;
    Ok(vec![
        PerOperation { name: "stream, send 64 KiB".to_owned(), all: sent, any_request: refused_send },
        PerOperation { name: "stream, receive 64 KiB".to_owned(), all: received, any_request: refused_receive },
    ])
}

/// A message of a session: a send and a receive. Twice as many sends as receives are under way, so that flow control is at work.
fn san_message(bed: &Bed, count: u32, from: SendFrom, size: usize) -> Result<PerOperation> {
    let [mut near, mut far] = San::pair(bed, size, from)?;
    let mut sends: VecDeque<_> = (0..2 * WINDOW).map(|_| near.start_send()).collect();
    let all = allocations(bed, count, || {
        ensure!(far.receive()?, "the session has ended");
        if let Some(send) = sends.pop_front() {
            near.finish_send(send)?;
        }
        sends.push_back(near.start_send());
        Ok(())
    })?;
    let nowhere = SanEndpoint::from_endpoint(nowhere(bed));
    let region = near.endpoint.register(Memory::new(size), MemoryRights::BOTH)?;
    let any_request = allocations(bed, count, || {
        refused(&match from {
            SendFrom::Region => nowhere.start_send_registered(&region, 0..size).wait_or_cancel(PATIENCE),
            SendFrom::Buffer => nowhere.start_send(vec![0x5a; size]).wait_or_cancel(PATIENCE).result,
        })?;
        refused(&nowhere.start_receive(&region, 0..size).wait_or_cancel(PATIENCE))
    })?;
    let path = match from {
        SendFrom::Region => Path::San,
        SendFrom::Buffer => Path::SanInline,
    };
    Ok(PerOperation { name: format!("{}, message {}", path.name(), size_name(size)), all, any_request })
}

fn pending_stream_receive(bed: &Bed) -> Result<PerPending> {
    let (near, _far) = stream::to_plain(bed, STREAM)?;
    let start = |_| near.connection.start_receive(vec![0; STREAM], Receive::Some);
    pending(bed, "stream, pending receive", start, |receive| receive.result.is_err())
}

fn pending_san_receive(bed: &Bed) -> Result<PerPending> {
    const SIZE: usize = 64;
    let [near, _far] = San::pair(bed, SIZE, SendFrom::Region)?;
    let region = near.endpoint.register(Memory::new(PENDING * SIZE), MemoryRights::RECEIVE)?;
    let start = |place| near.endpoint.start_receive(&region, place * SIZE..(place + 1) * SIZE);
    pending(bed, "SAN, posted receive", start, Result::is_err)
}

/// Starts requests that pend, counts, and cancels them.
fn pending<T>(
    bed: &Bed,
    name: &'static str,
    start: impl Fn(usize) -> Pending<T>,
    was_cancelled: impl Fn(&T) -> bool,
) -> Result<PerPending> {
    let before = blocks(bed);
    let requests: Vec<_> = (0..PENDING).map(start).collect();
    let during = blocks(bed);
    ensure!(!requests.iter().any(Pending::has_ended), "a receive ended without data");
    requests.iter().for_each(Pending::cancel);
    for request in requests {
        ensure!(was_cancelled(&request.wait_or_cancel(PATIENCE)), "a cancelled receive succeeded");
    }
    let more = |own: bool| {
        let count = |tags: &BTreeMap<String, usize>| -> usize {
            tags.iter().filter(|(tag, _)| (*tag != FRAMEWORK_TAG) == own).map(|(_, blocks)| blocks).sum()
        };
        anyhow::Ok(f64::from(i32::try_from(count(&during).cast_signed() - count(&before).cast_signed())?))
    };
    let each = f64::from(u32::try_from(PENDING)?);
    Ok(PerPending { name, framework: more(false)? / each, own: more(true)? / each })
}

fn blocks(bed: &Bed) -> BTreeMap<String, usize> {
    // What was completed a moment ago may still be on its way out.
    std::thread::sleep(Duration::from_millis(20));
    bed.machine.stats().driver_pool.into_iter().map(|(tag, used)| (tag, used.blocks)).collect()
}
