#![no_std]
//! The IOCTL surface.
