//! Clients.
#![allow(unsafe_code, reason = "calls the functions of the interface")]

use crate::endpoint::{Endpoint, Family, Kind};
use crate::interface::Interface;
use crate::operation::{Core, Held, Slot};
use crate::shared::Shared;
use core::ptr;
use san_protocol::NtStatus;

/// A client of the interface, to which endpoints belong. When it is dropped they are closed, and what is under way for them is
/// cancelled, but nothing can wait for that: before a driver is unloaded it ends each client by [`Client::close`].
pub struct Client {
    core: Shared<Core>,
    /// For its end; taken then.
    closer: Option<Slot>,
}

impl Client {
    /// A new client. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES`: no memory.
    pub fn open(interface: &Interface) -> Result<Self, NtStatus> {
        let closer = Slot::new(interface)?;
        let mut id = 0;
        let table = interface.table();
        // SAFETY: the interface's own context; the id is a local.
        let status = unsafe { (table.open_client)(table.context, &raw mut id) };
        if !status.is_success() {
            return Err(status);
        }
        match Shared::try_new(Core::new(interface.clone(), id)) {
            Ok(core) => Ok(Self { core, closer: Some(closer) }),
            Err(status) => {
                // SAFETY: a client with nothing in it, which is closed at once.
                let _ = unsafe { (table.close_client)(id, ptr::null_mut()) };
                Err(status)
            }
        }
    }

    /// A new endpoint of a kind: [`Connection`](crate::Connection), [`Listener`](crate::Listener), [`San`](crate::San).
    /// IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_DEVICE_NOT_READY`: TCP/IP is not there yet. `STATUS_TOO_MANY_OPENED_FILES`: the client has too many.
    /// `STATUS_INSUFFICIENT_RESOURCES`: no memory.
    pub fn create<K: Kind>(&self, family: Family) -> Result<Endpoint<K>, NtStatus> {
        let closer = self.core.slot()?;
        let mut id = 0;
        // SAFETY: the id is a local.
        let status =
            unsafe { (self.core.interface.table().create)(self.core.id, K::KIND as u32, family as u16, &raw mut id) };
        if status.is_success() { Ok(Endpoint::new(&self.core, closer, id)) } else { Err(status) }
    }

    /// Closes the client, and waits until everything of it is over and no completion runs any more: whatever of it is left answers
    /// `STATUS_INVALID_HANDLE`. IRQL = PASSIVE_LEVEL; not from a future that [`spawn`](crate::spawn) polls.
    pub fn close(mut self) {
        // Before that: the slot is no longer wanted for the end.
        drop(self.closer.take());
        // SAFETY: the client's own id; this thread waits.
        let _ = unsafe { (self.core.interface.table().close_client)(self.core.id, ptr::null_mut()) };
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Not there after `close`.
        let Some(closer) = self.closer.take() else { return };
        // It ends by itself, and refuses only if it is closed already.
        let _ = closer.begin(&self.core, Held::Nothing, |arguments| {
            // SAFETY: the client's own id, and the slot's operation.
            unsafe { (arguments.table.close_client)(arguments.client, arguments.operation) }
        });
    }
}
