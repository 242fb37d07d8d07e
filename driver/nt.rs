//! The kernel's primitives, each wrapped so that the rest of the driver uses it without `unsafe`, or with one stated duty.

mod client_irp;
mod critical_region;
mod dpc;
mod event;
mod irp;
mod mdl;
mod privilege;
mod process;
mod rundown;
mod shared;
mod spin_lock;
mod timer;
mod wait;

pub(crate) use client_irp::ClientIrp;
pub(crate) use critical_region::CriticalRegion;
pub(crate) use dpc::Dpc;
pub(crate) use event::EventObject;
pub(crate) use irp::{Outcome, Round, WskIrp};
pub(crate) use mdl::{MdlBuffer, PartialMdl};
pub(crate) use privilege::may_load_drivers;
pub(crate) use process::Process;
pub(crate) use rundown::{Rundown, RundownGuard};
pub(crate) use shared::Shared;
pub(crate) use spin_lock::SpinLock;
pub(crate) use timer::{Timer, flush_queued_dpcs};
pub(crate) use wait::{WaitingThread, wait_for};
