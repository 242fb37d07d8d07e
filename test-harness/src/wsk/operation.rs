//! An IRP that a client handed to WSK, the bytes it is about, and how it ends.
#![allow(unsafe_code)] // makes slices over a client's MDLs

use std::ffi::c_void;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wsk_bindings::WSK_BUF;

use super::{Job, Wsk, wsk};
use crate::guard::violate;
use crate::nt::irp::{self, IoReleaseCancelSpinLock, IofCompleteRequest};
use crate::nt::lock_order::none_across;
use crate::nt::mdl;
use crate::nt::status::{STATUS_CANCELLED, STATUS_PENDING};
use crate::nt::types::{
    DEVICE_OBJECT, IRP, MDL, MDL_PAGES_LOCKED, MDL_PARTIAL, MDL_SOURCE_IS_NONPAGED_POOL, NTSTATUS, PVOID,
    SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS,
};
use crate::thread::{current, kernel};
use crate::violation::Rule;

/// Completion routines that may be on a thread's stack, each called inside a WSK call that the one before it made.
const NESTED: u32 = 4;

/// Takes an IRP for a WSK function: it must be idle, and have a completion routine for every outcome.
pub(super) fn begin<'a>(irp: *mut IRP, call: &'static str) -> &'a IRP {
    let depth = current().wsk_depth.get();
    none_across(current(), call);
    if depth > NESTED {
        violate(Rule::Wsk(10), format!("{call} from a completion routine, {depth} deep inside each other"));
    }
    if irp.is_null() {
        violate(Rule::Wsk(6), format!("{call} without an IRP"));
    }
    let irp = irp::at(irp);
    if irp.CurrentLocation.get() == irp.StackCount.get() + 1 && !kernel().irps.enter_wsk(irp) {
        violate(Rule::Wsk(6), format!("{call}: the IRP was used before, and not made ready again by IoReuseIrp"));
    }
    if irp.CurrentLocation.get() <= 1 {
        violate(Rule::Wsk(6), format!("{call}: the IRP has no stack location left"));
    }
    irp::send(irp, call);
    let location = irp.current();
    let always = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
    if location.CompletionRoutine.get().is_none() || location.Control.get() & always != always {
        violate(Rule::Wsk(6), format!("{call}: the IRP has no completion routine for success, error and cancel"));
    }
    irp
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    pub(super) irp: usize,
    pub(super) status: NTSTATUS,
    pub(super) information: usize,
}

impl Completion {
    pub(super) fn new(irp: &IRP, status: NTSTATUS, information: usize) -> Self {
        Self { irp: irp.as_ptr() as usize, status, information }
    }

    /// Completes the IRP: its owner's routine runs.
    pub(super) fn complete(self) {
        let irp = irp::at(self.irp as *mut IRP);
        irp.IoStatus.Status.set(self.status);
        irp.IoStatus.Information.set(self.information);
        IofCompleteRequest(irp, 0);
    }

    /// Completes the IRP inside the WSK call that it came by.
    pub(super) fn complete_inside(self) {
        let depth = &current().wsk_depth;
        depth.set(depth.get() + 1);
        self.complete();
        depth.set(depth.get() - 1);
    }

    /// Ends a call whose outcome is known: now, or on a network thread.
    pub(super) fn conclude(self, wsk: &Wsk) -> NTSTATUS {
        if wsk.inline() {
            self.complete_inside();
            return self.status;
        }
        self.defer(wsk)
    }

    pub(super) fn defer(self, wsk: &Wsk) -> NTSTATUS {
        irp::at(self.irp as *mut IRP).mark_pending();
        wsk.queue(Job::Complete(self));
        STATUS_PENDING
    }
}

/// What is left of the bytes that an operation is about: a place in a chain of MDLs.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    list: *mut MDL,
    offset: usize,
    pub(super) remaining: usize,
}

// SAFETY: the chain is the client's to keep valid until the IRP completes, in whatever thread that happens.
unsafe impl Send for Cursor {}

/// Pieces of memory in one system call.
pub(super) const PIECES: usize = 16;

impl Cursor {
    pub(super) const NOTHING: Self = Self { list: std::ptr::null_mut(), offset: 0, remaining: 0 };

    /// The bytes of a WSK_BUF, whose MDLs must be locked or over non-paged memory, and long enough.
    pub(super) fn new(buffer: Option<&WSK_BUF>, call: &str) -> Self {
        let Some(buffer) = buffer else { return Self::NOTHING };
        let (first, offset, length) = (buffer.Mdl.cast::<MDL>(), buffer.Offset as usize, buffer.Length);
        if length == 0 {
            return Self::NOTHING;
        }
        let Some(head) = mdl::at(first) else { violate(Rule::Wsk(29), format!("{call}: {length} bytes and no MDL")) };
        if offset > head.ByteCount.get() as usize {
            let size = head.ByteCount.get();
            violate(Rule::Wsk(29), format!("{call}: offset {offset} lies beyond the first MDL of {size} bytes"));
        }
        let (mut next, mut room) = (first, 0_usize);
        while room < offset + length {
            let Some(list) = mdl::at(next) else {
                violate(Rule::Wsk(29), format!("{call}: {length} bytes from offset {offset} in a chain of {room}"));
            };
            if list.MdlFlags.get() & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL) == 0 {
                violate(Rule::Wsk(29), format!("{call}: an MDL is neither locked nor over non-paged memory"));
            }
            if !mdl::is_described(list) {
                violate(Rule::Wsk(29), format!("{call}: the pages of an MDL were unlocked"));
            }
            // The transport copies from and to it.
            mdl::map(list);
            room += list.ByteCount.get() as usize;
            next = list.Next.get();
        }
        Self { list: first, offset, remaining: length }
    }

    /// The lists, to the last byte.
    fn lists(&self) -> impl Iterator<Item = usize> {
        let (mut next, mut room) = (self.list, self.offset + self.remaining);
        std::iter::from_fn(move || {
            let list = mdl::at(next).filter(|_| room > 0)?;
            room = room.saturating_sub(list.ByteCount.get() as usize);
            Some(std::mem::replace(&mut next, list.Next.get()) as usize)
        })
    }

    /// Calls `each` for the next pieces, at most [`PIECES`].
    fn pieces(&self, mut each: impl FnMut(*mut u8, usize)) {
        let (mut next, mut offset, mut remaining) = (self.list, self.offset, self.remaining);
        let mut count = 0;
        while remaining > 0 && count < PIECES {
            let Some(list) = mdl::at(next) else { return };
            let size = (list.ByteCount.get() as usize).saturating_sub(offset).min(remaining);
            if size > 0 {
                each(mdl::described_address(list).wrapping_byte_add(offset).cast(), size);
                count += 1;
            }
            remaining -= size;
            offset = 0;
            next = list.Next.get();
        }
    }

    /// Runs `body` on the next bytes, for sending.
    pub(super) fn with_slices<R>(&self, body: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices: [IoSlice<'_>; PIECES] = std::array::from_fn(|_| IoSlice::new(&[]));
        let mut count = 0;
        self.pieces(|address, size| {
            // SAFETY: locked memory of the client's, which it leaves alone until the IRP completes.
            slices[count] = IoSlice::new(unsafe { std::slice::from_raw_parts(address, size) });
            count += 1;
        });
        body(&slices[..count])
    }

    /// Runs `body` on the next bytes, for receiving.
    pub(super) fn with_slices_mut<R>(&self, body: impl FnOnce(&mut [IoSliceMut<'_>]) -> R) -> R {
        let mut slices: [IoSliceMut<'_>; PIECES] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut count = 0;
        self.pieces(|address, size| {
            // SAFETY: as for `with_slices`.
            slices[count] = IoSliceMut::new(unsafe { std::slice::from_raw_parts_mut(address, size) });
            count += 1;
        });
        body(&mut slices[..count])
    }

    /// Copies all bytes that are left.
    pub(super) fn bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.remaining);
        while self.remaining > 0 {
            let before = bytes.len();
            self.with_slices(|slices| slices.iter().for_each(|slice| bytes.extend_from_slice(slice)));
            self.advance(bytes.len() - before);
        }
        bytes
    }

    /// Copies bytes to the next place; how many fitted.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let mut copied = 0;
        while copied < bytes.len() && self.remaining > 0 {
            let now = self.with_slices_mut(|slices| {
                let mut now = 0;
                for slice in slices {
                    let size = slice.len().min(bytes.len() - copied - now);
                    slice[..size].copy_from_slice(&bytes[copied + now..copied + now + size]);
                    now += size;
                }
                now
            });
            self.advance(now);
            copied += now;
        }
        copied
    }

    /// Goes on by so many bytes.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.remaining -= count;
        while let Some(list) = mdl::at(self.list) {
            let here = (list.ByteCount.get() as usize).saturating_sub(self.offset);
            if count < here || self.remaining == 0 {
                self.offset += count;
                return;
            }
            count -= here;
            self.offset = 0;
            self.list = list.Next.get();
        }
    }
}

/// What a pending operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// WskConnect; or WskSocketConnect, which returns the new socket.
    Connect {
        creates: bool,
    },
    Send,
    Receive {
        all: bool,
        drain: bool,
    },
    Disconnect,
    /// WskSendTo and WskSendMessages; where to, if it does not go to the socket's fixed address.
    SendTo {
        to: Option<SocketAddr>,
    },
    /// WskReceiveFrom, with where the sender's address, the length of control data and the flags go.
    ReceiveFrom {
        remote: usize,
        control_length: usize,
        flags: usize,
    },
    /// WskAccept, with where the addresses go and what the new socket gets.
    Accept {
        context: usize,
        dispatch: usize,
        local: usize,
        remote: usize,
    },
}

/// An operation that waits.
pub(super) struct Operation {
    pub(super) irp: usize,
    pub(super) kind: Kind,
    pub(super) cursor: Cursor,
    pub(super) transferred: usize,
    /// The MDLs that have to stay while it waits.
    held: Vec<usize>,
    /// Whether its address buffers are lent.
    lent: bool,
}

impl Operation {
    pub(super) fn new(irp: &IRP, kind: Kind, cursor: Cursor) -> Self {
        Self { irp: irp.as_ptr() as usize, kind, cursor, transferred: 0, held: Vec::new(), lent: false }
    }

    /// Where the client wants addresses to be written.
    fn addresses(&self) -> impl Iterator<Item = usize> + use<> {
        let addresses = match self.kind {
            Kind::Accept { local, remote, .. } => [local, remote, 0],
            Kind::ReceiveFrom { remote, control_length, flags } => [remote, control_length, flags],
            Kind::Connect { .. } | Kind::Send | Kind::SendTo { .. } | Kind::Receive { .. } | Kind::Disconnect => [0; 3],
        };
        addresses.into_iter().filter(|address| *address != 0)
    }

    pub(super) fn packet(&self) -> &'static IRP {
        irp::at(self.irp as *mut IRP)
    }

    /// It is over: its memory is its client's again.
    pub(super) fn ends(&self, status: NTSTATUS) -> Completion {
        if !self.held.is_empty() {
            kernel().locked_pages.release(&self.held);
        }
        if self.lent {
            for address in self.addresses() {
                kernel().lent.give_back(address);
            }
        }
        Completion::new(self.packet(), status, self.transferred)
    }

    /// Makes the IRP pending and cancellable. False if it has been cancelled already.
    pub(super) fn pend(&mut self, token: u64) -> bool {
        self.held = kernel().locked_pages.hold(self.cursor.lists());
        for address in self.addresses() {
            kernel().lent.lend(address, Rule::Wsk(14), "a buffer of a pending WskAccept or WskReceiveFrom");
        }
        self.lent = true;
        let irp = self.packet();
        irp.mark_pending();
        irp.DriverContext[0].set(token as usize as PVOID);
        irp.CancelRoutine.store(cancelled as *const () as *mut c_void, Ordering::Release);
        irp.Cancel.load(Ordering::Acquire) == 0
            || irp.CancelRoutine.swap(std::ptr::null_mut(), Ordering::AcqRel).is_null()
    }
}

/// Takes a pending IRP for completion. False if its cancel routine is on its way, which has to complete it.
pub(super) fn claim(completion: Completion) -> bool {
    let irp = irp::at(completion.irp as *mut IRP);
    !irp.CancelRoutine.swap(std::ptr::null_mut(), Ordering::AcqRel).is_null()
}

/// The cancel routine of every pending IRP.
extern "win64" fn cancelled(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let packet = irp::at(irp);
    let token = packet.DriverContext[0].get() as usize as u64;
    IoReleaseCancelSpinLock(packet.CancelIrql.get());
    let wsk: Arc<Wsk> = wsk();
    let socket = match wsk.targets.lock().get(&token) {
        Some(super::Target::Socket(socket)) => Some(socket.clone()),
        Some(super::Target::Held(_)) | None => None,
    };
    let removed = socket.and_then(|socket| {
        let operation = socket.cancel(irp as usize)?;
        if operation.kind == (Kind::Connect { creates: true }) {
            // WskSocketConnect leaves no socket behind.
            socket.unlist(&wsk);
            socket.release(&wsk);
        }
        Some((operation.ends(STATUS_CANCELLED), socket))
    });
    let Some((completion, socket)) = removed.or_else(|| wsk.claimed.lock().remove(&(irp as usize))) else {
        violate(Rule::Irp, "a WSK operation was cancelled after it had completed")
    };
    completion.complete();
    socket.has_cancelled(&wsk);
}
