//! What `sanwsk.sys` and its callers say to each other: the control codes, the layout of every request and reply, and the
//! errors both sides mean.
//!
//! Everything here is plain data without pointers, the same for 32-bit and 64-bit callers, in the machine's byte order
//! (every machine Windows runs on is little-endian). Reading a structure from bytes checks its length, its version and that
//! its reserved fields are zero; a value of the type is the proof that this was done.
#![no_std]
#![forbid(unsafe_code)]

mod address;
pub mod control;
mod error;
pub mod kernel;
mod numbers;
mod request;
pub mod wire;

pub use address::{AddressError, SocketAddress};
pub use control::ControlCode;
pub use error::{NtStatus, WsaError, wsa_error};
pub use numbers::*;
pub use request::*;

/// Version of the structures in this crate, carried by every request.
pub const PROTOCOL_VERSION: u32 = 1;

/// Name of the device object in the kernel's name space.
pub const DEVICE_NAME: &str = r"\Device\SanWsk";

/// Name that user mode opens (`CreateFileW`).
pub const DEVICE_PATH: &str = r"\\.\SanWsk";

/// The symbolic link behind [`DEVICE_PATH`].
pub const SYMBOLIC_LINK: &str = r"\DosDevices\SanWsk";
