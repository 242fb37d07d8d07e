//! The decisions of `sanwsk.sys`: which operation an endpoint admits in which state, who waits for whom, which id names what.
//!
//! Nothing here does I/O, reads a clock or knows a kernel type, and every allocation can fail. The driver calls in under the
//! endpoint's lock, and carries out what comes back after it has released it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address_map;
pub mod backlog;
pub mod concurrent;
pub mod connect_failure;
pub mod connection;
pub mod id_table;
pub mod listener;
pub mod memory;
pub mod network_events;
pub mod ports;
pub mod san;

/// Why an endpoint does not admit an operation now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has to be bound first.
    NotBound,
    /// It has to be connected first.
    NotConnected,
    /// It is bound already.
    AlreadyBound,
    /// It is connected, or listening, already.
    AlreadyActive,
    /// A bind or connect is under way.
    SetupUnderWay,
    /// This side has ended its sending.
    SendingEnded,
    /// This side has reset the connection.
    Aborted,
    /// The WSK socket is no longer functional.
    Broken,
    /// The endpoint is being closed.
    Closing,
}

/// Pool ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;
