//! `docs/ioctl.md`, `docs/wire.md` and `docs/kernel-interface.md` against the code: what they say is so, and nothing is missing in them.

mod ioctl;
mod kernel_interface;
mod page;
mod wire;
