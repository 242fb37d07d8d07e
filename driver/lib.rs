//! `sanwsk.sys`: a KMDF driver that is a Winsock Kernel client and the kernel half of a SAN provider.
//!
//! The way of a request: [`device`] gets it from the framework, [`ioctl`] reads and checks it, [`file`] finds the endpoint
//! that it names, [`endpoint`] asks san-core whether it may, and makes an [`operation`] of it, whose WSK call [`wsk`] makes.
//! The call's completion finishes the operation, and that completes the request. [`nt`] and [`wdf`] are what lies below:
//! kernel and framework, as Rust types.
//!
//! All of the driver's memory is non-paged. Locks: the id table's, then an endpoint's, never two endpoints'; no request is
//! completed and no WSK call made while one is held.
#![no_std]

extern crate alloc;
#[cfg(not(test))]
extern crate wdk_panic;

mod continuation;
mod device;
mod endpoint;
mod entry;
mod event_reference;
mod file;
mod ioctl;
mod nt;
mod operation;
mod parameters;
mod san;
mod statistics;
mod stream;
mod wdf;
mod wsk;

use wdk_alloc::WdkAllocator;

#[global_allocator]
static ALLOCATOR: WdkAllocator = WdkAllocator;
