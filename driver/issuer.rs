//! Who asks for something that may take its time, and how it is told the end: the two faces of the driver, as the endpoints
//! see them.

use crate::file;
use crate::handle::Handle;
use crate::kernel::Call;
use crate::operation::Operation;
use crate::san::Answer;
use crate::wdf::Request;
use core::ptr::NonNull;
use san_protocol::{NtStatus, ReceiveReply};
use zerocopy::IntoBytes;

/// The issuer of an operation. Every copy is forgotten once one of them is completed.
#[derive(Clone, Copy)]
pub(crate) enum Issuer {
    /// User mode, by a request.
    Request(Request),
    /// A client in the kernel, by a call.
    Client(Call),
}

impl Issuer {
    /// Whose endpoints it means.
    pub(crate) fn handle(&self) -> &Handle {
        match self {
            Self::Request(request) => file::handle(request),
            Self::Client(call) => call.handle(),
        }
    }

    /// Where its operation lies: non-paged memory of that size, aligned as pool is, which goes when it is completed.
    pub(crate) fn space(self) -> NonNull<Operation> {
        match self {
            Self::Request(request) => Operation::of_request(request),
            Self::Client(call) => call.space(),
        }
    }

    /// Stores the reply that goes with its completion; returns its length. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn reply(self, reply: &[u8]) -> Result<usize, NtStatus> {
        match self {
            Self::Request(request) => request.write_output(reply),
            Self::Client(call) => call.write_reply(reply),
        }
    }

    /// What its completion says of a SAN message that has been moved. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn transferred(self, answer: Answer, length: u32) -> Result<usize, NtStatus> {
        match (self, answer) {
            (Self::Request(request), Answer::Receive) => {
                request.write_output(ReceiveReply { length, reserved: 0 }.as_bytes())
            }
            // The request's own buffer was the message.
            (Self::Request(_), Answer::Send) | (Self::Client(_), _) => Ok(length as usize),
            (Self::Request(_), _) => Ok(0),
        }
    }

    /// Lets its operation be cancelled, which may happen at once. IRQL <= DISPATCH_LEVEL.
    ///
    /// `STATUS_CANCELLED`: it is cancelled already; [`Operation::cancel`] will not be called.
    pub(crate) fn mark_cancelable(self) -> Result<(), NtStatus> {
        match self {
            Self::Request(request) => request.mark_cancelable(Some(Operation::cancel_request)),
            Self::Client(call) => call.mark_cancelable(),
        }
    }

    /// Whether its operation can no longer be cancelled; if not, [`Operation::cancel`] has run, runs, or will.
    /// IRQL <= DISPATCH_LEVEL.
    pub(crate) fn unmark_cancelable(self) -> bool {
        match self {
            Self::Request(request) => request.unmark_cancelable(),
            Self::Client(call) => call.unmark_cancelable(),
        }
    }

    /// Tells it the end. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn complete(self, status: NtStatus, information: usize) {
        match self {
            Self::Request(request) => request.complete(status, information),
            Self::Client(call) => call.complete(status, information),
        }
    }
}
