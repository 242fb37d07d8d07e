//! Scenarios through the IOCTL surface against the real `sanwsk.sys`, over real TCP on loopback.
//!
//! Each test loads the driver into a machine of its own, does what its name says, and ends with an unload that leaves nothing
//! behind: a leak, a hang or any rule that the driver breaks fails the test.

mod accept;
mod broken_network;
mod cancel;
mod connect;
mod every_scenario;
mod input;
mod lifecycle;
mod operations;
mod san;
mod support;
mod trace;
mod transfer;
