//! The Winsock Kernel client: registration, and the WSK calls that endpoints make.

mod address;
mod provider;
mod socket;

pub(crate) use address::SockAddr;
pub(crate) use provider::{PROVIDER, ProviderUse};
pub(crate) use socket::{Category, OptionName, Socket, socket_connect, wsk_socket};
