//! Answers that are as long as there is something to say: a head, and entries behind it, as many as fit.

use crate::device::{Completed, DeviceRequest};
use crate::error::{Error, Operation};
use crate::pending::Pending;
use crate::provider::Provider;
use san_protocol::{ControlCode, EndpointsReply, NtStatus, RoutesReply};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What comes in front of the entries.
pub(crate) trait Head: FromBytes + Immutable + KnownLayout + Copy {
    /// How many entries follow.
    fn count(&self) -> u32;
}

impl Head for RoutesReply {
    fn count(&self) -> u32 {
        self.count
    }
}

impl Head for EndpointsReply {
    fn count(&self) -> u32 {
        self.count
    }
}

/// What such a request was answered with.
#[derive(Debug)]
pub(crate) struct List<H, E> {
    pub(crate) head: H,
    pub(crate) entries: Vec<E>,
    /// Whether everything fitted.
    pub(crate) complete: bool,
}

/// An answer of the right form that means nothing here.
pub(crate) const fn unknown(code: ControlCode) -> Error {
    Error::new(Operation::Request(code), NtStatus::REVISION_MISMATCH)
}

/// Asks once, with room for so many entries.
pub(crate) fn query<H: Head, E: FromBytes + Immutable + KnownLayout>(
    provider: &Provider,
    code: ControlCode,
    input: &(impl IntoBytes + Immutable),
    room: usize,
) -> Result<List<H, E>, Error> {
    let length = size_of::<H>() + room * size_of::<E>();
    let request = DeviceRequest::new(code, input.as_bytes(), vec![0; length]);
    Pending::start(provider.device(), request, move |completed| read(code, &completed)).wait()
}

/// The answer of a request that has succeeded, in whole or as far as there was room.
fn read<H: Head, E: FromBytes>(code: ControlCode, completed: &Completed) -> Result<List<H, E>, Error> {
    let complete = match completed.status {
        NtStatus::BUFFER_OVERFLOW => false,
        status if status.is_success() => true,
        status => return Err(Error::new(Operation::Request(code), status)),
    };
    let malformed = Error::new(Operation::Request(code), NtStatus::INFO_LENGTH_MISMATCH);
    let written = completed.buffer.get(..completed.information).ok_or(malformed)?;
    let (head, rest) = H::read_from_prefix(written).map_err(|_| malformed)?;
    if rest.len() != head.count() as usize * size_of::<E>() {
        return Err(malformed);
    }
    let entries = rest.chunks_exact(size_of::<E>()).filter_map(|entry| E::read_from_bytes(entry).ok()).collect();
    Ok(List { head, entries, complete })
}
