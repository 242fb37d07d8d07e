//! The face for other drivers: a table of functions over the same endpoints that user mode has. `include/sanwsk_kernel.h` says
//! what each does.

mod call;
mod functions;
mod interface;

pub(crate) use call::Call;
pub(crate) use interface::{DeviceUse, get_interface};
