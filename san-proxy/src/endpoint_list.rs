//! The driver's endpoints and handles, seen from outside.

use crate::error::Error;
use crate::list;
use crate::provider::Provider;
use san_protocol::{
    ALL_HANDLES, ControlCode, ENDPOINTS_OF_ALL_HANDLES, EndpointEntry, EndpointId, EndpointKind, EndpointState,
    EndpointsReply, EndpointsRequest, HandleEntry, HandlesReply, HandlesRequest, Header,
};
use std::net::SocketAddr;

/// Whose endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointScope {
    /// Those of the provider's own handle.
    OwnHandle,
    /// Those of all handles of all processes. Administrators only.
    AllHandles,
}

/// An endpoint as it was when the driver came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointInfo {
    /// Its id, which no other endpoint ever has.
    pub id: EndpointId,
    /// What it was made for.
    pub kind: EndpointKind,
    /// Where it is in its life.
    pub state: EndpointState,
    /// Id of the process that opened its handle; 0 for the kernel's own.
    pub process: u64,
    /// The local address, if it is bound.
    pub local: Option<SocketAddr>,
    /// The peer's address, if there is one.
    pub peer: Option<SocketAddr>,
    /// SAN: messages that TCP has taken. Stream: sends that TCP has taken.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// SAN: messages that were received into posted buffers. Stream: receives that have brought bytes.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Listeners: connections that wait to be accepted.
    pub backlog: u32,
    /// Listeners: connections that may wait.
    pub backlog_limit: u32,
    /// SAN: sends that wait for credits or are on their way.
    pub sends_queued: u32,
    /// SAN: receives that wait for a message.
    pub receives_posted: u32,
    /// SAN: messages that the peer has granted and this side has not sent yet.
    pub send_credits: u32,
    /// SAN: registered regions.
    pub regions: u32,
    /// SAN: bytes of those regions.
    pub pinned_bytes: u64,
}

impl Provider {
    /// The endpoints that there are. One that exists all the while is listed once; one that is made or closed meanwhile may be
    /// listed or not. Each entry is consistent in itself; one may be older than the next.
    ///
    /// # Errors
    ///
    /// `STATUS_PRIVILEGE_NOT_HELD` for [`EndpointScope::AllHandles`]: the caller is no administrator. `STATUS_REVISION_MISMATCH`:
    /// the driver answers with what means nothing here.
    pub fn endpoints(&self, scope: EndpointScope) -> Result<Vec<EndpointInfo>, Error> {
        let code = ControlCode::QueryEndpoints;
        let flags = match scope {
            EndpointScope::OwnHandle => 0,
            EndpointScope::AllHandles => {
                self.device().claim_administration();
                ENDPOINTS_OF_ALL_HANDLES
            }
        };
        let request = |position| EndpointsRequest { header: Header::new(flags), position };
        let entries: Vec<EndpointEntry> = list::pages::<EndpointsReply, _, _>(self, code, request)?;
        entries.iter().map(|entry| EndpointInfo::parse(entry).ok_or(list::unknown(code))).collect()
    }

    /// What has been done through this provider's handle since it was opened, and what it holds: every number of what was
    /// completed before is in it.
    ///
    /// # Errors
    ///
    /// The driver refuses, or answers with what means nothing here (`STATUS_REVISION_MISMATCH`).
    pub fn handle(&self) -> Result<HandleEntry, Error> {
        match self.handle_entries(0)?[..] {
            [own] => Ok(own),
            _ => Err(list::unknown(ControlCode::QueryHandles)),
        }
    }

    /// The same of all handles of all processes, and of clients in the kernel. One that is open all the while is listed once; one
    /// that is opened or closed meanwhile may be listed or not.
    ///
    /// # Errors
    ///
    /// `STATUS_PRIVILEGE_NOT_HELD`: the caller is no administrator.
    pub fn handles(&self) -> Result<Vec<HandleEntry>, Error> {
        self.device().claim_administration();
        self.handle_entries(ALL_HANDLES)
    }

    fn handle_entries(&self, flags: u32) -> Result<Vec<HandleEntry>, Error> {
        let request = |position| HandlesRequest { header: Header::new(flags), position };
        list::pages::<HandlesReply, _, _>(self, ControlCode::QueryHandles, request)
    }
}

impl EndpointInfo {
    /// What the driver has said; `None` if it means nothing here.
    fn parse(entry: &EndpointEntry) -> Option<Self> {
        Some(Self {
            id: entry.endpoint,
            kind: EndpointKind::from_number(entry.kind)?,
            state: EndpointState::from_number(entry.state)?,
            process: entry.process,
            local: entry.local.parse().ok(),
            peer: entry.remote.parse().ok(),
            messages_sent: entry.messages_sent,
            bytes_sent: entry.bytes_sent,
            messages_received: entry.messages_received,
            bytes_received: entry.bytes_received,
            backlog: entry.backlog,
            backlog_limit: entry.backlog_limit,
            sends_queued: entry.sends_queued,
            receives_posted: entry.receives_posted,
            send_credits: entry.send_credits,
            regions: entry.regions,
            pinned_bytes: entry.pinned_bytes,
        })
    }
}
