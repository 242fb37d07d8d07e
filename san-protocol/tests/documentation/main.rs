//! `docs/ioctl.md` and `docs/wire.md` against the code: what they say is so, and nothing is missing in them.

mod ioctl;
mod page;
mod wire;
