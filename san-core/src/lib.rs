#![no_std]
#![forbid(unsafe_code)]
//! State machines.
