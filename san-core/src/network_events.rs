//! Network events: what an application's event object stands for (`WSPEventSelect`, `WSPEnumNetworkEvents`).

use san_protocol::{FD_ACCEPT, FD_CONNECT, NETWORK_EVENTS, NtStatus};

/// What is to be done to the event object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventChange {
    /// `KeSetEvent`.
    Set,
    /// `KeResetEvent`.
    Reset,
}

/// The network events since the last enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkEvents {
    /// [`FD_CONNECT`], [`FD_ACCEPT`] or both, as winsock2.h numbers them.
    pub events: u32,
    /// With `FD_CONNECT`: what the connect ended with. Otherwise success.
    pub connect: NtStatus,
    /// With `FD_ACCEPT`: success.
    pub accept: NtStatus,
}

impl NetworkEvents {
    const NONE: Self = Self { events: 0, connect: NtStatus::SUCCESS, accept: NtStatus::SUCCESS };
}

/// The events that an endpoint's owner has selected, and those that have happened.
#[derive(Debug)]
pub struct EventSelection {
    mask: u32,
    happened: NetworkEvents,
    change: Option<EventChange>,
}

impl EventSelection {
    /// Nothing is selected.
    #[must_use]
    pub const fn new() -> Self {
        Self { mask: 0, happened: NetworkEvents::NONE, change: None }
    }

    /// Selects the events of `mask`, in place of those selected before; what happened before is forgotten (WSAEventSelect).
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: other bits than `FD_CONNECT` and `FD_ACCEPT`.
    pub fn select(&mut self, mask: u32) -> Result<(), NtStatus> {
        if mask & !NETWORK_EVENTS != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        *self = Self { mask, ..Self::new() };
        Ok(())
    }

    /// Whether all of `events` are selected, so that the operation they report on does not wait.
    #[must_use]
    pub const fn is_selected(&self, events: u32) -> bool {
        self.mask & events == events
    }

    /// A connect has ended. Counts only if it is selected.
    pub fn connect_ended(&mut self, status: NtStatus) {
        self.happen(FD_CONNECT, |happened| happened.connect = status);
    }

    /// A connection waits. Counts only if it is selected.
    pub fn connection_waits(&mut self) {
        self.happen(FD_ACCEPT, |happened| happened.accept = NtStatus::SUCCESS);
    }

    /// No connection waits any more, or it is not known yet that another one does.
    pub fn none_waits(&mut self) {
        if self.happened.events & FD_ACCEPT != 0 {
            self.happened.events &= !FD_ACCEPT;
            self.change = Some(if self.happened.events == 0 { EventChange::Reset } else { EventChange::Set });
        }
    }

    /// What has happened since the last time; the event is reset.
    pub fn enumerate(&mut self) -> NetworkEvents {
        self.change = (self.mask != 0).then_some(EventChange::Reset);
        core::mem::replace(&mut self.happened, NetworkEvents::NONE)
    }

    /// What to do to the event object; once.
    pub fn take_change(&mut self) -> Option<EventChange> {
        self.change.take()
    }

    fn happen(&mut self, event: u32, record: impl FnOnce(&mut NetworkEvents)) {
        if self.mask & event != 0 {
            self.happened.events |= event;
            record(&mut self.happened);
            self.change = Some(EventChange::Set);
        }
    }
}

impl Default for EventSelection {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selected(mask: u32) -> EventSelection {
        let mut selection = EventSelection::new();
        selection.select(mask).unwrap();
        selection
    }

    #[test]
    fn only_connect_and_accept_can_be_selected() {
        for bit in 0..32 {
            let expected = if NETWORK_EVENTS & (1 << bit) == 0 { Err(NtStatus::INVALID_PARAMETER) } else { Ok(()) };
            assert_eq!(EventSelection::new().select(1 << bit), expected, "bit {bit}");
        }
    }

    #[test]
    fn an_event_that_is_not_selected_leaves_no_trace() {
        let mut selection = selected(FD_ACCEPT);
        selection.connect_ended(NtStatus::CONNECTION_REFUSED);
        assert_eq!(selection.take_change(), None);
        assert_eq!(selection.enumerate(), NetworkEvents::NONE);
    }

    #[test]
    fn enumerating_clears_what_happened_and_resets_the_event() {
        let mut selection = selected(FD_CONNECT);
        selection.connect_ended(NtStatus::CONNECTION_REFUSED);
        assert_eq!(selection.take_change(), Some(EventChange::Set));
        let expected =
            NetworkEvents { events: FD_CONNECT, connect: NtStatus::CONNECTION_REFUSED, ..NetworkEvents::NONE };
        assert_eq!(selection.enumerate(), expected);
        assert_eq!(selection.take_change(), Some(EventChange::Reset));
        assert_eq!(selection.enumerate(), NetworkEvents::NONE);
    }

    #[test]
    fn selecting_anew_forgets_what_happened() {
        let mut selection = selected(NETWORK_EVENTS);
        selection.connection_waits();
        selection.select(FD_ACCEPT).unwrap();
        assert_eq!(selection.take_change(), None);
        assert_eq!(selection.enumerate().events, 0);
    }

    proptest! {
        /// An event object that all changes are applied to is set exactly while something has happened that nobody has
        /// enumerated.
        #[test]
        fn the_event_is_set_exactly_while_something_is_to_be_enumerated(
            mask in prop::sample::select(&[0, FD_CONNECT, FD_ACCEPT, NETWORK_EVENTS]),
            steps in prop::collection::vec(0_u8..4, 0..40),
        ) {
            let mut selection = selected(mask);
            let (mut is_set, mut expected) = (false, 0);
            for step in steps {
                match step {
                    0 => { selection.connect_ended(NtStatus::SUCCESS); expected |= FD_CONNECT & mask; }
                    1 => { selection.connection_waits(); expected |= FD_ACCEPT & mask; }
                    2 => { selection.none_waits(); expected &= !FD_ACCEPT; }
                    _ => { prop_assert_eq!(selection.enumerate().events, expected); expected = 0; }
                }
                match selection.take_change() {
                    Some(EventChange::Set) => is_set = true,
                    Some(EventChange::Reset) => is_set = false,
                    None => {}
                }
                prop_assert_eq!(is_set, expected != 0);
            }
        }
    }
}
