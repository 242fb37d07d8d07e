//! Loads if everything that `sanwsk-client` offers works, and what is dropped leaves nothing behind; else with the line that failed as
//! its status.
#![no_std]

mod behaviour;
mod driver;
mod meeting;

#[cfg(not(test))]
extern crate wdk_panic;

use wdk_alloc::WdkAllocator;

#[global_allocator]
static ALLOCATOR: WdkAllocator = WdkAllocator;
