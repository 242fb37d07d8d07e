//! `sanwsk-echo.sys`: sends back what it gets, over streams and over SAN sessions, at one port number of either.
//!
//! The port is the REG_DWORD `Port` of its service's `Parameters`; 7 if it has none. `sanwsk.sys` has to be loaded, and have TCP/IP:
//! a service that depends on it (`sc config sanwsk-echo depend= sanwsk`) is started after it. Where it cannot listen it does not
//! load, and says why.
//!
//! There is no thread in it: [`echo`] is polled wherever what it waits for completes.
#![no_std]

mod driver;
mod echo;

#[cfg(not(test))]
extern crate wdk_panic;

use wdk_alloc::WdkAllocator;

#[global_allocator]
static ALLOCATOR: WdkAllocator = WdkAllocator;
