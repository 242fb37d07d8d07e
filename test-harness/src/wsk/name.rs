//! Names of addresses (WskGetNameInfo): those that the machine knows, and numbers else.

use std::ffi::c_void;

use super::address::read;
use super::client::check_owner;
use super::hosts;
use super::operation::{Completion, begin};
use super::registration::of_client;
use super::wsk;
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_SUCCESS, nt_success,
};
use crate::nt::strings::put;
use crate::nt::types::{IRP, NTSTATUS, PASSIVE_LEVEL, PVOID, UNICODE_STRING};
use crate::thread::kernel;

/// Numbers are wanted; a host without a name is an error (ws2tcpip.h).
const NI_NUMERICHOST: u32 = 2;
const NI_NAMEREQD: u32 = 4;
const NI_NUMERICSERV: u32 = 8;

/// Stores a name with its terminator.
fn store(name: &str, to: &UNICODE_STRING) -> NTSTATUS {
    let units: Vec<u16> = name.encode_utf16().chain([0]).collect();
    if units.len() * 2 > usize::from(to.MaximumLength.get()) {
        return STATUS_BUFFER_OVERFLOW;
    }
    for (index, unit) in units.iter().enumerate() {
        put(to.Buffer.get().wrapping_add(index), *unit);
    }
    to.Length.set(units.len() as u16 * 2 - 2);
    STATUS_SUCCESS
}

fn names(
    address: *const c_void,
    node: Option<&UNICODE_STRING>,
    service: Option<&UNICODE_STRING>,
    flags: u32,
) -> NTSTATUS {
    let address = match read(address) {
        Ok(address) => address,
        Err(status) => return status,
    };
    if node.is_none() && service.is_none() {
        return STATUS_INVALID_PARAMETER;
    }
    let host = hosts::host(kernel(), address.ip()).filter(|_| flags & NI_NUMERICHOST == 0);
    if node.is_some() && host.is_none() && flags & NI_NAMEREQD != 0 {
        return STATUS_NOT_FOUND;
    }
    let host = host.map_or_else(|| address.ip().to_string(), str::to_owned);
    let named = hosts::service(address.port()).filter(|_| flags & NI_NUMERICSERV == 0);
    let port = named.map_or_else(|| address.port().to_string(), str::to_owned);
    let stored = node.map_or(STATUS_SUCCESS, |node| store(&host, node));
    match service {
        Some(service) if nt_success(stored) => store(&port, service),
        Some(_) | None => stored,
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) extern "win64" fn WskGetNameInfo(
    client: PVOID,
    address: *const c_void,
    _length: u32,
    node: Option<&UNICODE_STRING>,
    service: Option<&UNICODE_STRING>,
    flags: u32,
    process: PVOID,
    _thread: PVOID,
    irp: *mut IRP,
) -> NTSTATUS {
    called("WskGetNameInfo", PASSIVE_LEVEL);
    let wsk = wsk();
    of_client(&wsk, client, "WskGetNameInfo");
    check_owner(process, "WskGetNameInfo");
    let irp = begin(irp, "WskGetNameInfo");
    let status = names(address, node, service, flags);
    Completion::new(irp, status, status.cast_unsigned() as usize).conclude(&wsk)
}
