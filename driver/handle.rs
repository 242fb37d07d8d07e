//! What endpoints belong to: an open handle of the device, or a client in the kernel. Each has its own endpoints, named by its
//! own ids.

use crate::endpoint::{AnyEndpoint, CloseWaiter};
use crate::kernel::{Call, DeviceUse};
use crate::nt::{Shared, SpinLock, WaitingThread};
use crate::parameters;
use crate::san::PinnedMemory;
use crate::statistics::{Gauged, Limit, STATISTICS, Traffic};
use crate::trace;
use core::sync::atomic::{AtomicU64, Ordering};
use san_core::id_table::{CAPACITY, IdTable, InsertError, slot_of};
use san_protocol::{EndpointId, HandleEntry, NtStatus};

/// Pool tag of handles.
const TAG: [u8; 4] = *b"SanH";

/// The handles that are open, to be found by their clients, and to be listed.
static HANDLES: SpinLock<IdTable<Shared<Handle>>> = SpinLock::new(IdTable::new(CAPACITY));

/// Draws the generations of all ids, those of handles too, so that no id is ever valid for two.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// Who has opened a handle.
pub(crate) enum Owner {
    /// The process of this id, with a file object.
    Process(u32),
    /// A client in the kernel, through the interface.
    Client(#[expect(dead_code, reason = "a reference, held as long as the handle")] DeviceUse),
}

/// Endpoints of one owner.
pub(crate) struct Handle {
    /// Its own name in [`HANDLES`].
    id: u64,
    pinned: PinnedMemory,
    streams: Traffic,
    messages: Traffic,
    endpoints: SpinLock<IdTable<AnyEndpoint>>,
    _gauged: Gauged,
    /// Dropped when nothing of it is left, but before the owner.
    closing: Closing,
    owner: Owner,
}

/// Who waits for a client's end.
pub(crate) enum ClientCloser {
    /// A call, which is completed.
    Call(Call),
    /// A thread, which goes on.
    Thread(#[expect(dead_code, reason = "goes on when this is dropped")] WaitingThread),
}

/// Who waits for a client's end, if somebody does: told when this is dropped.
struct Closing(SpinLock<Option<ClientCloser>>);

impl Drop for Closing {
    fn drop(&mut self) {
        let closer = self.0.lock().take();
        match closer {
            Some(ClientCloser::Call(call)) => call.complete(NtStatus::SUCCESS, 0),
            Some(ClientCloser::Thread(_)) | None => {}
        }
    }
}

/// The client of this id. IRQL <= DISPATCH_LEVEL.
///
/// `STATUS_INVALID_HANDLE`: there is none, or none any more.
pub(crate) fn client(id: u64) -> Result<Shared<Handle>, NtStatus> {
    let handle = HANDLES.lock().get(id).cloned();
    match handle {
        Some(handle) if matches!(handle.owner, Owner::Client(_)) => Ok(handle),
        Some(_) | None => Err(NtStatus::INVALID_HANDLE),
    }
}

/// Frees the table of handles. At unload, when no handle is open. IRQL <= DISPATCH_LEVEL.
pub(crate) fn clear() {
    let handles = core::mem::replace(&mut *HANDLES.lock(), IdTable::new(CAPACITY));
    drop(handles);
}

impl Handle {
    /// A handle without endpoints. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn open(owner: Owner) -> Result<Shared<Self>, NtStatus> {
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        let id = HANDLES.lock().reserve(generation).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        let handle = Self {
            id,
            pinned: PinnedMemory::new(),
            streams: Traffic::new(),
            messages: Traffic::new(),
            endpoints: SpinLock::new(IdTable::new(parameters::get().endpoints_per_handle)),
            _gauged: Gauged::handle(),
            closing: Closing(SpinLock::new(None)),
            owner,
        };
        let handle = Shared::try_new(TAG, handle).inspect_err(|_| drop(HANDLES.lock().remove(id)))?;
        let refused = HANDLES.lock().fill(id, handle.clone());
        refused.map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        trace::handle_opened(handle.process());
        Ok(handle)
    }

    /// What a client names it by.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The process that has opened it; 0 for a client in the kernel.
    fn process(&self) -> u32 {
        match self.owner {
            Owner::Process(id) => id,
            Owner::Client(_) => 0,
        }
    }

    /// Closes it: its id is stale from now on, and its endpoints end, whose operations are completed as they do.
    /// IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn close(this: &Shared<Self>) {
        trace::handle_closing(this.process());
        let listed = HANDLES.lock().remove(this.id);
        drop(listed);
        let endpoints = this.endpoints.lock().end();
        for endpoint in endpoints {
            endpoint.close(match this.owner {
                Owner::Process(_) => None,
                Owner::Client(_) => Some(CloseWaiter::Handle(this.clone())),
            });
        }
    }

    /// Closes a client; `closer` is told when everything else of it has been. IRQL <= DISPATCH_LEVEL; no lock is held.
    ///
    /// `STATUS_INVALID_HANDLE`: somebody has closed it already.
    pub(crate) fn close_client(this: &Shared<Self>, closer: ClientCloser) -> Result<(), NtStatus> {
        let listed = HANDLES.lock().remove(this.id).ok_or(NtStatus::INVALID_HANDLE)?;
        drop(listed);
        *this.closing.0.lock() = Some(closer);
        Self::close(this);
        Ok(())
    }

    /// Memory that is registered through the handle.
    pub(crate) fn pinned(&self) -> &PinnedMemory {
        &self.pinned
    }

    /// What has been sent and received by its streams.
    pub(crate) fn streams(&self) -> &Traffic {
        &self.streams
    }

    /// What has been sent and received by its SAN endpoints.
    pub(crate) fn messages(&self) -> &Traffic {
        &self.messages
    }

    /// The handle as it is now. IRQL <= DISPATCH_LEVEL.
    fn entry(&self) -> HandleEntry {
        let [messages_sent, bytes_sent, messages_received, bytes_received] = self.messages.numbers();
        let [stream_sends, stream_bytes_sent, stream_receives, stream_bytes_received] = self.streams.numbers();
        HandleEntry {
            handle: self.id,
            process: self.process().into(),
            messages_sent,
            bytes_sent,
            messages_received,
            bytes_received,
            stream_sends,
            stream_bytes_sent,
            stream_receives,
            stream_bytes_received,
            pinned_bytes: self.pinned.bytes(),
            endpoints: u32::try_from(self.endpoints.lock().taken()).unwrap_or(u32::MAX),
            regions: self.pinned.regions(),
        }
    }

    /// What `id` names. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn find(&self, id: EndpointId) -> Result<AnyEndpoint, NtStatus> {
        self.endpoints.lock().get(id).cloned().ok_or(NtStatus::INVALID_HANDLE)
    }

    /// Takes an endpoint out: its id is stale from now on. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn take(&self, id: EndpointId) -> Result<AnyEndpoint, NtStatus> {
        self.endpoints.lock().remove(id).ok_or(NtStatus::INVALID_HANDLE)
    }

    /// An id for an endpoint to come. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn reserve_id(&self) -> Result<EndpointId, NtStatus> {
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        self.endpoints.lock().reserve(generation).map_err(|error| match error {
            InsertError::Full => {
                STATISTICS.limit_hit(Limit::EndpointsPerHandle);
                NtStatus::TOO_MANY_OPENED_FILES
            }
            InsertError::NoMemory => NtStatus::INSUFFICIENT_RESOURCES,
        })
    }

    /// Gives a reserved id its endpoint; fails when the handle is being closed. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn fill_id(&self, id: EndpointId, endpoint: AnyEndpoint) -> Result<(), NtStatus> {
        let number = endpoint.number();
        let refused = self.endpoints.lock().fill(id, endpoint);
        refused.map_err(|_| NtStatus::CANCELLED)?;
        trace::endpoint_named(number, id, self.process());
        Ok(())
    }

    /// Gives an endpoint an id. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn add(&self, endpoint: AnyEndpoint) -> Result<EndpointId, NtStatus> {
        let id = self.reserve_id()?;
        self.fill_id(id, endpoint)?;
        Ok(id)
    }

    /// Gives a reserved id back. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn release_id(&self, id: EndpointId) {
        let removed = self.endpoints.lock().remove(id);
        drop(removed);
    }
}

/// Endpoints that are looked at under one lock of their table.
const BATCH: usize = 16;

impl Handle {
    /// Calls `see` for the endpoints in the slots from `slot` on, without a lock held, until it returns false: gives the slot
    /// that it was called for then. IRQL <= DISPATCH_LEVEL.
    fn walk(&self, mut slot: usize, see: &mut impl FnMut(EndpointId, &AnyEndpoint, u32) -> bool) -> Option<usize> {
        loop {
            let mut batch = [const { None }; BATCH];
            let slots = {
                let endpoints = self.endpoints.lock();
                for (place, (id, endpoint)) in batch.iter_mut().zip(endpoints.in_slots(slot, BATCH)) {
                    *place = Some((id, endpoint.clone()));
                }
                endpoints.slots()
            };
            for (id, endpoint) in batch.iter().flatten() {
                if !see(*id, endpoint, self.process()) {
                    return Some(slot_of(*id));
                }
            }
            slot = slot.saturating_add(BATCH);
            if slot >= slots {
                return None;
            }
        }
    }
}

/// Bits of a position that hold the slot of an endpoint; those above hold that of a handle.
const ENDPOINT_BITS: u32 = 32;

/// The position of an endpoint, by its slot and that of its handle.
const fn position(handle: usize, endpoint: usize) -> u64 {
    ((handle as u64) << ENDPOINT_BITS) | endpoint as u64
}

/// What [`position`] was made of.
fn slots(position: u64) -> (usize, usize) {
    let slot = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    (slot(position >> ENDPOINT_BITS), slot(position & ((1 << ENDPOINT_BITS) - 1)))
}

/// The handles in the slots from `first` on, each with its slot; no lock is held between them. IRQL <= DISPATCH_LEVEL.
fn from_slot(first: usize) -> impl Iterator<Item = (usize, Shared<Handle>)> {
    let found = |slot| {
        let table = HANDLES.lock();
        let handle = table.in_slots(slot, 1).next().map(|(_, handle)| (slot, handle.clone()));
        (slot < table.slots()).then_some(handle)
    };
    (first..).map_while(found).flatten()
}

/// Calls `see` with the endpoints of a handle, or of all, from a position on, until it returns false: gives the
/// position to go on at then. An endpoint keeps its position as long as it exists. IRQL <= DISPATCH_LEVEL; no lock is held.
pub(crate) fn walk(
    handle: Option<&Handle>,
    from: u64,
    mut see: impl FnMut(EndpointId, &AnyEndpoint, u32) -> bool,
) -> Option<u64> {
    let (first, slot) = slots(from);
    if let Some(handle) = handle {
        return handle.walk(slot, &mut see).map(|slot| position(0, slot));
    }
    from_slot(first).find_map(|(at, handle)| {
        let slot = if at == first { slot } else { 0 };
        handle.walk(slot, &mut see).map(|slot| position(at, slot))
    })
}

/// Calls `see` with a handle as it is, or with all from a position on, until it returns false: gives the position to go on at
/// then. IRQL <= DISPATCH_LEVEL; no lock is held.
pub(crate) fn entries(handle: Option<&Handle>, from: u64, mut see: impl FnMut(&HandleEntry) -> bool) -> Option<u64> {
    let (first, _) = slots(from);
    match handle {
        Some(handle) if first == 0 => (!see(&handle.entry())).then_some(0),
        Some(_) => None,
        None => from_slot(first).find_map(|(at, handle)| (!see(&handle.entry())).then_some(position(at, 0))),
    }
}
