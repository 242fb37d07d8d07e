//! The kernel's primitives, each wrapped so that the rest of the driver uses it without `unsafe`, or with one stated duty.

mod irp;
mod process;
mod rundown;
mod shared;
mod spin_lock;
mod timer;

pub(crate) use irp::{Outcome, Round, WskIrp};
pub(crate) use process::Process;
pub(crate) use rundown::{Rundown, RundownGuard};
pub(crate) use shared::Shared;
pub(crate) use spin_lock::SpinLock;
pub(crate) use timer::{Timer, flush_queued_dpcs};
