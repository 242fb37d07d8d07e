//! What an id names: an endpoint of one of the two kinds.

use crate::nt::Shared;
use crate::wdf::Request;
use crate::{san, stream};
use core::cell::Cell;
use san_protocol::{EndpointEntry, EndpointId, NtStatus};

/// An endpoint of either kind.
#[derive(Clone)]
pub(crate) enum AnyEndpoint {
    /// Plain TCP, with any peer.
    Stream(Shared<stream::Endpoint>),
    /// Messages through registered memory, with a peer that runs this driver too.
    San(Shared<san::Endpoint>),
}

impl AnyEndpoint {
    /// The endpoint as it is now, under its id, of a handle that a process has opened. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn entry(&self, id: EndpointId, process: u32) -> EndpointEntry {
        let entry = match self {
            Self::Stream(endpoint) => endpoint.entry(),
            Self::San(endpoint) => endpoint.entry(),
        };
        EndpointEntry { endpoint: id, process: process.into(), ..entry }
    }

    /// Closes the endpoint; `request` is completed when nothing of it is left. The caller has taken it out of the id table.
    ///
    /// IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn close(&self, request: Option<Request>) {
        match self {
            Self::Stream(endpoint) => stream::Endpoint::close(endpoint, request),
            Self::San(endpoint) => san::Endpoint::close(endpoint, request),
        }
    }
}

/// The request that waits for an endpoint's end, if one does: completed when this is dropped. An endpoint's last field.
pub(crate) struct CloseRequest(Cell<Option<Request>>);

impl CloseRequest {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Stores the request; by the one caller that has taken the endpoint out of the id table.
    pub(crate) fn set(&self, request: Option<Request>) {
        self.0.set(request);
    }
}

impl Drop for CloseRequest {
    fn drop(&mut self) {
        if let Some(request) = self.0.take() {
            request.complete(NtStatus::SUCCESS, 0);
        }
    }
}
