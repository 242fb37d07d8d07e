//! Streams: plain TCP, with any peer.
#![allow(unsafe_code, reason = "calls the functions of the interface")]

use crate::buffer::{Buffer, BufferRange};
use crate::endpoint::{Connects, Endpoint, Kind, Listens};
use crate::operation::{Arguments, Held};
use san_protocol::{EndpointKind, NtStatus, RECEIVE_ALL, SocketOption};

/// A stream that connects, or was accepted.
pub struct Connection;

/// Takes in streams.
pub struct Listener;

impl Kind for Connection {
    const KIND: EndpointKind = EndpointKind::StreamConnection;
}

impl Connects for Connection {}

impl Kind for Listener {
    const KIND: EndpointKind = EndpointKind::StreamListener;
}

impl Listens for Listener {
    type Arrival = Endpoint<Connection>;
    type Connection = Connection;
}

impl Endpoint<Connection> {
    /// As [`Endpoint::receive`], until the part is full or the peer has ended its side.
    ///
    /// # Errors
    ///
    /// As of [`Endpoint::receive`].
    pub async fn receive_all(&self, buffer: Buffer, part: BufferRange) -> (Result<u32, NtStatus>, Buffer) {
        self.receive_with(buffer, part, RECEIVE_ALL).await
    }

    /// Turns a TCP option on or off.
    ///
    /// # Errors
    ///
    /// As of the request [`SetOption`](san_protocol::ControlCode::SetOption).
    pub async fn set_option(&self, option: SocketOption, on: bool) -> Result<(), NtStatus> {
        let id = self.id();
        let set = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation.
            unsafe { (arguments.table.set_option)(arguments.client, arguments.operation, id, option as u32, on.into()) }
        };
        self.operate(Held::Nothing, set).await.result()
    }
}
