#![doc = include_str!("../README.md")]
#![no_std]

mod bits;
pub mod netioddk;
pub mod netiodef;
pub mod nt;
pub mod ws2def;
pub mod ws2ipdef;
pub mod wsk;

pub use netioddk::*;
pub use netiodef::*;
pub use nt::*;
pub use ws2def::*;
pub use ws2ipdef::*;
pub use wsk::*;
