//! Registered memory.

use crate::device::{Completed, DeviceRequest};
use crate::endpoint::Endpoint;
use crate::error::{Error, Operation};
use crate::memory::{CannotUse, Lease, Memory, SharedMemory, Usage};
use crate::pending::Pending;
use crate::provider::Provider;
use san_protocol::{
    ControlCode, EndpointId, Header, MEMORY_RECEIVE, MEMORY_SEND, MemoryReply, MemoryRequest, NtStatus,
    RegisterMemoryRequest, TransferRequest,
};
use std::fmt;
use std::ops::{BitOr, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zerocopy::IntoBytes;

/// The last key that was given away. No two regions of this program have the same, whatever endpoints they belong to: a
/// region never stands for another endpoint's.
static LAST_KEY: AtomicU64 = AtomicU64::new(0);

/// How long a registration is waited for before it is asked for again.
const REGISTRATION_PAUSE: Duration = Duration::from_millis(1);

/// What registered memory may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRights(pub u32);

impl MemoryRights {
    /// Messages may be sent from it.
    pub const SEND: Self = Self(MEMORY_SEND);
    /// Messages may be received into it.
    pub const RECEIVE: Self = Self(MEMORY_RECEIVE);
    /// Both.
    pub const BOTH: Self = Self(MEMORY_SEND | MEMORY_RECEIVE);
}

impl BitOr for MemoryRights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A registration, as the driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryState {
    /// Bytes registered.
    pub length: u64,
    /// What they may be used for.
    pub rights: MemoryRights,
    /// Sends and receives that use them now.
    pub in_use: u32,
}

/// Memory that is registered for one endpoint. Clones are the same memory.
///
/// It stays readable and writable: a part that is posted to the driver is not lent to anyone else until its operation has
/// ended, and a part that is lent is not posted. With the last clone, and the last operation on it, the registration is cancelled.
#[derive(Clone)]
pub struct Region {
    registered: Arc<Registered>,
}

struct Registered {
    provider: Provider,
    endpoint: EndpointId,
    key: u64,
    rights: MemoryRights,
    /// The request that pends as long as the memory is registered. Dropping it cancels it, and waits for its end.
    registration: Pending<Result<(), Error>>,
    memory: Arc<SharedMemory>,
}

/// A part of a region that an operation has, and what keeps the region registered meanwhile.
pub(super) struct Posted {
    /// Before `region`: a lease ends first.
    _lease: Option<Lease>,
    _region: Arc<Registered>,
}

impl Region {
    /// Registers, and waits until the registration stands. It does, or its request has ended.
    pub(super) fn register(endpoint: &Endpoint, memory: Memory, rights: MemoryRights) -> Result<Self, Error> {
        let code = ControlCode::RegisterMemory;
        let (provider, endpoint) = (endpoint.provider().clone(), endpoint.id());
        let key = LAST_KEY.fetch_add(1, Ordering::Relaxed) + 1;
        let memory = SharedMemory::new(memory);
        let request = RegisterMemoryRequest { header: Header::new(0), endpoint, key, rights: rights.0, reserved: 0 };
        let request = DeviceRequest::new(code, request.as_bytes(), Vec::new());
        let ended = move |completed: Completed| outcome(code, completed.status);
        let mut registration = Pending::start_with_memory(provider.device(), request, memory.clone(), ended);
        loop {
            let Err(error) = query(&provider, endpoint, key) else {
                let registered = Registered { provider, endpoint, key, rights, registration, memory };
                return Ok(Self { registered: Arc::new(registered) });
            };
            match registration.wait_for(REGISTRATION_PAUSE) {
                Ok(Err(refused)) => return Err(refused),
                // Not known yet.
                Err(still) if error.status() == NtStatus::INVALID_PARAMETER => registration = still,
                Ok(Ok(())) | Err(_) => return Err(error),
            }
        }
    }

    /// Its name in requests. A request of one's own that names it uses the memory past what is lent here.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.registered.key
    }

    /// The endpoint it is registered for.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.registered.endpoint
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registered.memory.len()
    }

    /// Whether it is of no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it may be used for.
    #[must_use]
    pub fn rights(&self) -> MemoryRights {
        self.registered.rights
    }

    /// Shows a part of the memory.
    ///
    /// # Errors
    ///
    /// `STATUS_ACCESS_VIOLATION`: the part is not inside. `STATUS_LOCK_NOT_GRANTED`: a receive, or `with_bytes_mut`, has some of it.
    pub fn with_bytes<T>(&self, range: Range<usize>, body: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
        self.registered.memory.with_bytes(range, body).map_err(cannot_use)
    }

    /// Gives a part of the memory out for writing.
    ///
    /// # Errors
    ///
    /// `STATUS_ACCESS_VIOLATION`: the part is not inside. `STATUS_LOCK_NOT_GRANTED`: an operation, or somebody else, has some of it.
    pub fn with_bytes_mut<T>(&self, range: Range<usize>, body: impl FnOnce(&mut [u8]) -> T) -> Result<T, Error> {
        self.registered.memory.with_bytes_mut(range, body).map_err(cannot_use)
    }

    /// A copy of a part.
    ///
    /// # Errors
    ///
    /// As [`Self::with_bytes`].
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u8>, Error> {
        self.with_bytes(range, <[u8]>::to_vec)
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    ///
    /// As [`Self::with_bytes_mut`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let end = offset.checked_add(bytes.len()).ok_or(cannot_use(CannotUse::Outside))?;
        self.with_bytes_mut(offset..end, |part| part.copy_from_slice(bytes))
    }

    /// The registration, as the driver sees it.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER` when it has ended; `STATUS_INVALID_HANDLE` when the endpoint is closed.
    pub fn query(&self) -> Result<MemoryState, Error> {
        let Registered { provider, endpoint, key, .. } = &*self.registered;
        query(provider, *endpoint, *key)
    }

    /// Ends the registration and waits until no operation uses it.
    ///
    /// # Errors
    ///
    /// As [`Self::start_deregister`].
    pub fn deregister(&self) -> Result<(), Error> {
        self.start_deregister().wait()
    }

    /// Starts to end the registration: new operations are refused, and it ends when no operation uses it any more.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_PARAMETER` if it ends or has ended already, `STATUS_CANCELLED` (then the registration stands again
    /// or is cancelled with the endpoint), `STATUS_INVALID_HANDLE` when the endpoint is closed.
    pub fn start_deregister(&self) -> Pending<Result<(), Error>> {
        let Registered { provider, endpoint, key, .. } = &*self.registered;
        let request = MemoryRequest { header: Header::new(0), endpoint: *endpoint, key: *key };
        provider.call(ControlCode::DeregisterMemory, &request)
    }

    /// Cancels the registration: what waits to use it is cancelled, and a connection that is using it is aborted.
    pub fn cancel(&self) {
        self.registered.registration.cancel();
    }

    /// Whether the registration's request has not ended.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        !self.registered.registration.has_ended()
    }

    /// Waits for the end of the registration, at most so long, and says how it ended: with `STATUS_SUCCESS` when it was deregistered,
    /// with `STATUS_CANCELLED` when it was cancelled, or its endpoint or handle closed. `None`: it stands.
    #[must_use]
    pub fn wait_for_end(&self, timeout: Duration) -> Option<NtStatus> {
        self.registered.registration.status_within(timeout)
    }

    /// The memory, once the registration has ended and nothing else holds it.
    ///
    /// # Errors
    ///
    /// The region: it is registered, an operation on it has not been waited for, or there is a clone of it.
    pub fn try_into_memory(self) -> Result<Memory, Self> {
        if self.is_registered() {
            return Err(self);
        }
        let Registered { provider, endpoint, key, rights, registration, memory } =
            Arc::try_unwrap(self.registered).map_err(|registered| Self { registered })?;
        Arc::try_unwrap(memory).map(SharedMemory::into_memory).map_err(|memory| {
            let registered = Registered { provider, endpoint, key, rights, registration, memory };
            Self { registered: Arc::new(registered) }
        })
    }

    /// The request for an operation on a part of this, and what has to be held until it has ended. A part that is not inside is
    /// for the driver to refuse.
    pub(super) fn post(
        &self,
        endpoint: EndpointId,
        range: Range<usize>,
        usage: Usage,
    ) -> Result<(TransferRequest, Posted), NtStatus> {
        let length = range.end.checked_sub(range.start).ok_or(NtStatus::ACCESS_VIOLATION)?;
        let request = TransferRequest {
            header: Header::new(0),
            endpoint,
            key: self.key(),
            offset: range.start as u64,
            length: u32::try_from(length).map_err(|_| NtStatus::INVALID_BUFFER_SIZE)?,
            reserved: 0,
        };
        let lease = match self.registered.memory.lend(range, usage) {
            Ok(lease) => Some(lease),
            Err(CannotUse::Outside) => None,
            Err(CannotUse::InUse) => return Err(NtStatus::LOCK_NOT_GRANTED),
        };
        Ok((request, Posted { _lease: lease, _region: self.registered.clone() }))
    }
}

fn query(provider: &Provider, endpoint: EndpointId, key: u64) -> Result<MemoryState, Error> {
    let request = MemoryRequest { header: Header::new(0), endpoint, key };
    let MemoryReply { length, rights, in_use } = provider.call(ControlCode::QueryMemory, &request).wait()?;
    Ok(MemoryState { length, rights: MemoryRights(rights), in_use })
}

fn outcome(code: ControlCode, status: NtStatus) -> Result<(), Error> {
    if status.is_success() { Ok(()) } else { Err(Error::new(Operation::Request(code), status)) }
}

const fn cannot_use(why: CannotUse) -> Error {
    let status = match why {
        CannotUse::Outside => NtStatus::ACCESS_VIOLATION,
        CannotUse::InUse => NtStatus::LOCK_NOT_GRANTED,
    };
    Error::new(Operation::UseMemory, status)
}

impl fmt::Debug for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Region")
            .field("endpoint", &self.registered.endpoint)
            .field("key", &self.registered.key)
            .field("length", &self.len())
            .field("rights", &self.registered.rights)
            .finish_non_exhaustive()
    }
}
