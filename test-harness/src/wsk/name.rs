//! Names of addresses (WskGetNameInfo). No name service is here: hosts and services have their numbers.

use std::ffi::c_void;

use super::address::read;
use super::client::check_owner;
use super::operation::{Completion, begin};
use super::registration::of_client;
use super::wsk;
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_SUCCESS, nt_success,
};
use crate::nt::strings::put;
use crate::nt::types::{IRP, NTSTATUS, PASSIVE_LEVEL, PVOID, UNICODE_STRING};

/// A host without a name is an error.
const NI_NAMEREQD: u32 = 4;

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
    if node.is_some() && flags & NI_NAMEREQD != 0 {
        return STATUS_NOT_FOUND;
    }
    let stored = node.map_or(STATUS_SUCCESS, |node| store(&address.ip().to_string(), node));
    match service {
        Some(service) if nt_success(stored) => store(&address.port().to_string(), service),
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
