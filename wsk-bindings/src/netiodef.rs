//! netiodef.h: identifiers of network modules and their interfaces, and the protocol headers.
#![allow(non_camel_case_types)] // C spelling.

use crate::nt::GUID;

/// Identifies a network programming interface.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/network-programming-interface>
pub type NPIID = GUID;
/// Points to an [`NPIID`].
pub type PNPIID = *const NPIID;
