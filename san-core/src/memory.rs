//! Registered memory: regions, the slices of them that are in use, and deregistration that waits for those.

use alloc::vec::Vec;
use san_protocol::{MEMORY_RECEIVE, MEMORY_RIGHTS, MEMORY_SEND, MemoryReply, NtStatus};

/// What a slice of memory is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To send from it: [`MEMORY_SEND`].
    Send,
    /// To receive into it: [`MEMORY_RECEIVE`].
    Receive,
}

impl Right {
    const fn bit(self) -> u32 {
        match self {
            Self::Send => MEMORY_SEND,
            Self::Receive => MEMORY_RECEIVE,
        }
    }
}

/// A piece of locked memory; `M` refers to the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice<M> {
    /// The whole.
    pub memory: M,
    /// Where the piece starts in it, in bytes.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

/// A region that is gone; those who waited for that complete, the registration first.
#[derive(Debug, PartialEq, Eq)]
pub struct Released<W> {
    /// The request that held the memory.
    pub registration: W,
    /// What it completes with: success after a deregistration, `STATUS_CANCELLED` when the memory was withdrawn.
    pub result: Result<(), NtStatus>,
    /// The request to deregister, if there is one. It succeeds.
    pub deregistration: Option<W>,
}

#[derive(Debug)]
enum Standing<W> {
    /// Open for new uses.
    Registered,
    /// Waits until its uses have ended.
    Deregistering(W),
    /// The registration was cancelled; it waits likewise, and perhaps a deregistration with it.
    Revoked(Option<W>),
}

#[derive(Debug)]
struct Region<W, M> {
    key: u64,
    memory: M,
    length: u64,
    rights: u32,
    uses: u32,
    registration: W,
    standing: Standing<W>,
}

impl<W, M> Region<W, M> {
    fn released(self) -> Released<W> {
        let (result, deregistration) = match self.standing {
            Standing::Registered => (Ok(()), None),
            Standing::Deregistering(waiter) => (Ok(()), Some(waiter)),
            Standing::Revoked(waiter) => (Err(NtStatus::CANCELLED), waiter),
        };
        Released { registration: self.registration, result, deregistration }
    }
}

/// The regions of one endpoint, by the keys their owner gave them. `W`: a waiting request, `M`: refers to locked memory.
#[derive(Debug)]
pub struct Regions<W, M> {
    /// In the order of their keys.
    by_key: Vec<Region<W, M>>,
    limit: usize,
    pinned: u64,
}

impl<W, M: Copy> Regions<W, M> {
    /// No regions yet, and never more than `limit`.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { by_key: Vec::new(), limit, pinned: 0 }
    }

    /// Adds a region, which `registration` holds until it is deregistered.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: the key is taken, no length, no rights or unknown ones. `STATUS_INSUFFICIENT_RESOURCES`: the
    /// limit, or no pool. The registration comes back.
    pub fn register(
        &mut self,
        registration: W,
        key: u64,
        memory: M,
        length: u64,
        rights: u32,
    ) -> Result<(), (W, NtStatus)> {
        let at = match self.find(key) {
            Err(at) if length != 0 && rights != 0 && rights & !MEMORY_RIGHTS == 0 => at,
            Ok(_) | Err(_) => return Err((registration, NtStatus::INVALID_PARAMETER)),
        };
        if self.by_key.len() >= self.limit || self.by_key.try_reserve(1).is_err() {
            return Err((registration, NtStatus::INSUFFICIENT_RESOURCES));
        }
        let standing = Standing::Registered;
        self.by_key.insert(at, Region { key, memory, length, rights, uses: 0, registration, standing });
        self.pinned = self.pinned.saturating_add(length);
        Ok(())
    }

    /// A slice of a region, to look at.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: no such region, one that is being deregistered, or no length. `STATUS_ACCESS_VIOLATION`: the
    /// slice is not inside the region, or the region was not registered for this.
    pub fn slice(&self, key: u64, offset: u64, length: u32, right: Right) -> Result<Slice<M>, NtStatus> {
        let region = &self.by_key[self.registered(key)?];
        if length == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let is_inside = offset.checked_add(length.into()).is_some_and(|end| end <= region.length);
        if !is_inside || region.rights & right.bit() == 0 {
            return Err(NtStatus::ACCESS_VIOLATION);
        }
        Ok(Slice { memory: region.memory, offset, length })
    }

    /// A region is used from now on, until [`Regions::end_use`].
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER` as from [`Regions::slice`]. `STATUS_INSUFFICIENT_RESOURCES`: four thousand million uses.
    pub fn begin_use(&mut self, key: u64) -> Result<(), NtStatus> {
        let at = self.registered(key)?;
        let uses = &mut self.by_key[at].uses;
        *uses = uses.checked_add(1).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        Ok(())
    }

    /// A use has ended, and perhaps the region with it.
    pub fn end_use(&mut self, key: u64) -> Option<Released<W>> {
        let at = self.find(key).ok()?;
        let region = &mut self.by_key[at];
        region.uses = region.uses.saturating_sub(1);
        match region.standing {
            Standing::Deregistering(_) | Standing::Revoked(_) if region.uses == 0 => Some(self.remove(at)),
            Standing::Registered | Standing::Deregistering(_) | Standing::Revoked(_) => None,
        }
    }

    /// Ends a region as soon as nothing uses it. It takes no new use from now on.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: no such region, or it is being deregistered already. The request comes back.
    pub fn deregister(&mut self, deregistration: W, key: u64) -> Result<Option<Released<W>>, (W, NtStatus)> {
        let at = match self.registered(key) {
            Ok(at) => at,
            Err(status) => return Err((deregistration, status)),
        };
        self.by_key[at].standing = Standing::Deregistering(deregistration);
        Ok((self.by_key[at].uses == 0).then(|| self.remove(at)))
    }

    /// Takes out a deregistration that waits. Its region stands as before, unless the registration was cancelled.
    pub fn cancel_deregistration(&mut self, is_it: impl Fn(&W) -> bool) -> Option<W> {
        self.by_key.iter_mut().find_map(|region| match core::mem::replace(&mut region.standing, Standing::Registered) {
            Standing::Deregistering(waiter) if is_it(&waiter) => Some(waiter),
            Standing::Revoked(Some(waiter)) if is_it(&waiter) => {
                region.standing = Standing::Revoked(None);
                Some(waiter)
            }
            other @ (Standing::Registered | Standing::Deregistering(_) | Standing::Revoked(_)) => {
                region.standing = other;
                None
            }
        })
    }

    /// The key of the region that a registration holds.
    #[must_use]
    pub fn key_of(&self, is_it: impl Fn(&W) -> bool) -> Option<u64> {
        self.by_key.iter().find(|region| is_it(&region.registration)).map(|region| region.key)
    }

    /// The registration is cancelled: the region takes no new use, and comes out at once if nothing uses it.
    pub fn revoke(&mut self, key: u64) -> Option<Released<W>> {
        let at = self.find(key).ok()?;
        let region = &mut self.by_key[at];
        region.standing = match core::mem::replace(&mut region.standing, Standing::Revoked(None)) {
            Standing::Registered => Standing::Revoked(None),
            Standing::Deregistering(waiter) => Standing::Revoked(Some(waiter)),
            Standing::Revoked(waiter) => Standing::Revoked(waiter),
        };
        (region.uses == 0).then(|| self.remove(at))
    }

    /// Takes out a region that nothing uses, whoever holds it: the endpoint ends.
    pub fn end_unused(&mut self) -> Option<Released<W>> {
        let at = self.by_key.iter().rposition(|region| region.uses == 0)?;
        let key = self.by_key[at].key;
        self.revoke(key)
    }

    /// What is known of a region.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: no such region, or one that is being deregistered.
    pub fn query(&self, key: u64) -> Result<MemoryReply, NtStatus> {
        let region = &self.by_key[self.registered(key)?];
        Ok(MemoryReply { length: region.length, rights: region.rights, in_use: region.uses })
    }

    /// Regions that are there, those being deregistered among them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Bytes of all regions.
    #[must_use]
    pub const fn pinned(&self) -> u64 {
        self.pinned
    }

    fn find(&self, key: u64) -> Result<usize, usize> {
        self.by_key.binary_search_by_key(&key, |region| region.key)
    }

    /// Where the region is, if it takes new uses.
    fn registered(&self, key: u64) -> Result<usize, NtStatus> {
        let at = self.find(key).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        match self.by_key[at].standing {
            Standing::Registered => Ok(at),
            Standing::Deregistering(_) | Standing::Revoked(_) => Err(NtStatus::INVALID_PARAMETER),
        }
    }

    fn remove(&mut self, at: usize) -> Released<W> {
        let region = self.by_key.remove(at);
        self.pinned = self.pinned.saturating_sub(region.length);
        region.released()
    }
}
