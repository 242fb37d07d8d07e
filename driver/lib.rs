//! `sanwsk.sys`: a KMDF driver that is a Winsock Kernel client and the kernel half of a SAN provider.
//!
//! Two faces ask for things: [`ioctl`] reads and checks the requests of user mode, which [`device`] gets from the framework;
//! [`kernel`] has functions for other drivers. Either finds the endpoint that is named among those of a [`handle`], one of two
//! kinds, and an [`operation`] is made, which tells its [`issuer`] the end.
//!
//! - [`stream`]: plain TCP. An operation is a WSK call, or several in a row; [`wsk`] makes it, and its completion finishes the
//!   operation, which completes the request.
//! - [`san`]: messages. An operation waits in the endpoint's state machine, which is san-core's; what the machine wants done
//!   over WSK comes out of it as actions.
//!
//! [`nt`] and [`wdf`] are what lies below: kernel and framework, as Rust types.
//!
//! All of the driver's memory is non-paged. A function that does not say otherwise may be called at IRQL <= DISPATCH_LEVEL. Locks: the id table's, then an endpoint's, never two endpoints'; no request is
//! completed and no WSK call made while one is held.
#![no_std]

extern crate alloc;
#[cfg(not(test))]
extern crate wdk_panic;

mod administration;
mod caller;
mod continuation;
mod device;
mod endpoint;
mod entry;
mod event_reference;
mod file;
mod handle;
mod ioctl;
mod issuer;
mod kernel;
mod nt;
mod operation;
mod parameters;
mod san;
mod statistics;
mod stream;
mod trace;
mod wdf;
mod wsk;

use wdk_alloc::WdkAllocator;

#[global_allocator]
static ALLOCATOR: WdkAllocator = WdkAllocator;
