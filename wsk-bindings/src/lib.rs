#![no_std]
//! wsk.h for Rust.
