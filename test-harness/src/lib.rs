//! Runs the real `sanwsk.sys` on Linux, and catches its bugs.
//!
//! A [`Machine`] is one simulated Windows: it maps driver images with their own page protections, binds their imports to
//! `extern "win64"` functions, and is the kernel to them. The layers, from below:
//!
//! - [`image`]: the loader, backtraces by unwind tables, source lines from the PDB;
//! - [`guard`]: how a thread enters driver code, and leaves it on a fault or a violation;
//! - [`nt`]: what `ntoskrnl.exe` exports, and the I/O manager, processes and handles behind it;
//! - `kmdf`: the framework, on top of it;
//! - [`wsk`]: what `netio.sys` exports, over a network back end.
//!
//! It reports like Driver Verifier: the first [`Violation`] stops its machine, and names the rule, the call and the
//! driver's source lines.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
// Registers, pointers and lengths of a 64-bit machine change places with fields of fixed width all through a kernel.
#![allow(clippy::cast_possible_truncation)]
// Windows' own spelling.
#![allow(clippy::upper_case_acronyms)]
// `Process::process` is the process object of a process handle.
#![allow(clippy::struct_field_names)]
// A constant or type stands where it is used.
#![allow(clippy::items_after_statements)]

pub mod device;
pub mod guard;
pub mod image;
mod kernel;
mod kmdf;
pub mod machine;
mod memory;
pub mod network;
pub mod nt;
mod preemption;
mod process;
pub mod simulation;
mod thread;
pub mod tool;
pub mod violation;
mod wdfldr;
pub mod wsk;

pub use machine::{Builder, Driver, IoStatus, LoadError, Machine};
pub use violation::{Rule, Violation};
