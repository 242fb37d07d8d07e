//! The cost of an operation, asked for by a request of user mode and by the kernel interface.
//!
//! Both do the same with a SAN session, one thing after the other: in user mode by san-proxy, in the kernel by a driver in C.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use driver_build::{Arch, CDriver, DriverModel};
use san_proxy::{Memory, MemoryRights, NtStatus, Region, SanEndpoint};
use test_harness::Driver;
use test_harness::machine::Process;

use super::bed::{Bed, PATIENCE};
use super::figures::{Better, Row, Section};
use super::san::{Listener, negotiate};
use super::{Progress, Schedule};

/// How often the kernel client does a thing; as kernel_operations.c has it.
const COUNT: u32 = 2000;
/// Bytes of its receives, and the longest message.
const LENGTH: usize = 100_000;
const READ_WRITE: u32 = 0xC000_0000;
/// CTL_CODE(FILE_DEVICE_UNKNOWN, 1, METHOD_BUFFERED, FILE_ANY_ACCESS).
const CONTROL_CODE: u32 = 0x22 << 16 | 1 << 2;

/// What is measured: its name, what the kernel client calls it, and the same in user mode.
type Operation = (&'static str, &'static str, fn(&User) -> Result<()>);

const OPERATIONS: [Operation; 4] = [
    ("query addresses", "queries_addresses", |user| {
        user.near.addresses()?;
        Ok(())
    }),
    ("post a receive, cancel", "posts_and_cancels", |user| {
        let receive = user.near.start_receive(&user.incoming, 0..LENGTH);
        receive.cancel();
        let status = receive.wait_or_cancel(PATIENCE).map_err(|error| error.status());
        ensure!(status == Err(NtStatus::CANCELLED), "{status:?}");
        Ok(())
    }),
    ("message, 64 B", "sends_small_messages", |user| user.message(64)),
    ("message, 64 KiB", "sends_long_messages", |user| user.message(1 << 16)),
];

pub(crate) fn measure(bed: &Bed, schedule: Schedule, progress: &Progress) -> Result<Section> {
    progress.part("operations by request and by function");
    let (user, kernel) = (User::new(bed)?, Kernel::new(bed)?);
    let row = |(name, behaviour, act): Operation| {
        let round = |_| {
            let by_request = time(|| (0..COUNT).try_for_each(|_| act(&user)))?;
            Ok(vec![by_request, time(|| kernel.act(behaviour))?])
        };
        Ok(Row { name: name.to_owned(), rounds: (0..schedule.rounds).map(round).collect::<Result<_>>()? })
    };
    let rows = OPERATIONS.into_iter().map(row).collect::<Result<_>>()?;
    drop(user);
    kernel.finish()?;
    Ok(Section {
        title: "an operation of a SAN session, one after the other",
        unit: "µs",
        better: Better::Lower,
        columns: vec!["IOCTL", "kernel"],
        ratios: vec![[1, 0]],
        rows,
    })
}

/// Microseconds of one of `COUNT` operations.
fn time(act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    act()?;
    Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(COUNT))
}

/// A session in user mode.
struct User {
    near: SanEndpoint,
    far: SanEndpoint,
    incoming: Region,
    outgoing: Region,
    target: Region,
}

impl User {
    fn new(bed: &Bed) -> Result<Self> {
        let [near, far] = Listener::new(bed)?.connection()?;
        negotiate(&near, &far, LENGTH)?;
        let incoming = near.register(Memory::new(LENGTH), MemoryRights::RECEIVE)?;
        let outgoing = near.register(Memory::new(LENGTH), MemoryRights::SEND)?;
        let target = far.register(Memory::new(LENGTH), MemoryRights::RECEIVE)?;
        Ok(Self { near, far, incoming, outgoing, target })
    }

    fn message(&self, length: usize) -> Result<()> {
        let receive = self.far.start_receive(&self.target, 0..LENGTH);
        self.near.start_send_registered(&self.outgoing, 0..length).wait_or_cancel(PATIENCE)?;
        let received = receive.wait_or_cancel(PATIENCE)?;
        ensure!(received == length, "a message of {received} bytes");
        Ok(())
    }
}

/// The client in the kernel.
struct Kernel<'bed> {
    bed: &'bed Bed,
    process: Arc<Process>,
    client: Driver,
}

impl<'bed> Kernel<'bed> {
    fn new(bed: &'bed Bed) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/transfer/kernel_operations.c");
        let driver = CDriver {
            name: "kernel_operations".to_owned(),
            sources: vec![source],
            model: DriverModel::Wdm,
            arch: Arch::X64,
        };
        let image = driver_build::build_c(&driver, &driver_build::output_root().join("test-drivers"))?.image;
        let client = bed.machine.load(image, "kernel_operations").map_err(|error| anyhow!("{error}"))?;
        let this = Self { bed, process: Arc::new(bed.machine.process()), client };
        this.act("connects")?;
        Ok(this)
    }

    /// Has the client do something, `COUNT` times.
    fn act(&self, behaviour: &str) -> Result<()> {
        let failed = |what, status| anyhow!("{what} of the kernel client: {status:#x}");
        let handle = self.process.open(r"\\.\Verifier", READ_WRITE).map_err(|status| failed("open", status))?;
        let mut input = vec![0];
        input.extend(behaviour.bytes());
        input.push(0);
        let (done, told) = channel();
        let issued = self.process.control_async(handle, CONTROL_CODE, input, vec![0; 16], move |(status, ..)| {
            let _ = done.send(status.status);
        });
        issued.map_err(|status| failed(behaviour, status))?;
        let status = told.recv_timeout(PATIENCE * 3).context("the kernel client does not answer")?;
        self.process.close(handle).map_err(|status| failed("close", status))?;
        if status == 0 { Ok(()) } else { Err(failed(behaviour, status)) }
    }

    fn finish(self) -> Result<()> {
        self.act("closes")?;
        let unloaded = self.bed.machine.unload(&self.client);
        ensure!(unloaded.is_ok(), "the kernel client is not unloaded: {unloaded:?}");
        Ok(())
    }
}
