//! `cargo harness` and `sanctl` against the real driver, as a user meets them.
#![cfg(target_os = "linux")]

mod bed;
mod guide;
mod harness;
mod sanctl;
