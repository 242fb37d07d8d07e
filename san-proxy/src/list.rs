//! Answers that are as long as there is something to say: a head, and entries behind it, as many as fit.

use crate::device::{Completed, DeviceRequest};
use crate::error::{Error, Operation};
use crate::pending::Pending;
use crate::provider::Provider;
use san_protocol::{ControlCode, EndpointsReply, HandlesReply, NtStatus, RoutesReply};
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

impl Head for HandlesReply {
    fn count(&self) -> u32 {
        self.count
    }
}

/// What comes in front of the entries of a list that is asked for page by page.
pub(crate) trait Page: Head {
    /// Where the next page begins.
    fn next(&self) -> u64;
}

impl Page for EndpointsReply {
    fn next(&self) -> u64 {
        self.next
    }
}

impl Page for HandlesReply {
    fn next(&self) -> u64 {
        self.next
    }
}

/// Entries that are asked for at once.
const PAGE: usize = 256;

/// Asks for all entries; `input`: the request for the page that begins at a position.
pub(crate) fn pages<P: Page, E: FromBytes + Immutable + KnownLayout, I: IntoBytes + Immutable>(
    provider: &Provider,
    code: ControlCode,
    input: impl Fn(u64) -> I,
) -> Result<Vec<E>, Error> {
    let (mut entries, mut position) = (Vec::new(), 0);
    loop {
        let page = query::<P, E>(provider, code, &input(position), PAGE)?;
        entries.extend(page.entries);
        if page.complete {
            return Ok(entries);
        }
        // A driver that stays where it is would keep this from ending.
        if page.head.next() <= position {
            return Err(unknown(code));
        }
        position = page.head.next();
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
