//! The protocol's requests, as a client issues them.

use std::net::{Ipv4Addr, SocketAddr};

use san_protocol::wire::MAX_PRIVATE_DATA;
use san_protocol::{
    AcceptReply, AddressReply, BindRequest, ConnectRequest, ControlCode, CreateReply, CreateRequest, DecideRequest,
    Decision, DisconnectRequest, EndpointId, EndpointKind, EndpointRequest, Header, ListenRequest, MemoryRequest,
    NegotiateRequest, ReceiveRequest, RegisterMemoryRequest, SocketAddress, TransferRequest,
};
use zerocopy::FromBytes;

use crate::client::{Answer, Client, Request};

/// 127.0.0.1, with a port that the driver chooses.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A slice of registered memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) key: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl Client {
    pub(crate) fn create(&self, kind: EndpointKind) -> Request {
        let request = CreateRequest { header: Header::new(0), kind: kind as u32, family: 2, reserved: 0 };
        self.request(ControlCode::Create, &request, vec![0; size_of::<CreateReply>()])
    }

    /// Binds to 127.0.0.1.
    pub(crate) fn bind(&self, endpoint: EndpointId) -> Request {
        let request = BindRequest { header: Header::new(0), endpoint, address: ANY.into(), reserved: 0 };
        self.request(ControlCode::Bind, &request, vec![0; size_of::<AddressReply>()])
    }

    pub(crate) fn listen(&self, endpoint: EndpointId, backlog: u32) -> Request {
        let request = ListenRequest { header: Header::new(0), endpoint, backlog, reserved: 0 };
        self.request(ControlCode::Listen, &request, Vec::new())
    }

    /// Connects, with the driver's own time-out.
    pub(crate) fn connect(&self, endpoint: EndpointId, address: SocketAddr) -> Request {
        let request = ConnectRequest { header: Header::new(0), endpoint, address: address.into(), timeout: 0 };
        self.request(ControlCode::Connect, &request, Vec::new())
    }

    pub(crate) fn accept(&self, endpoint: EndpointId) -> Request {
        self.about(ControlCode::Accept, endpoint, size_of::<AcceptReply>())
    }

    pub(crate) fn decide(&self, endpoint: EndpointId, decision: Decision) -> Request {
        let request = DecideRequest { header: Header::new(0), endpoint, decision: decision as u32, reserved: 0 };
        self.request(ControlCode::Decide, &request, Vec::new())
    }

    /// `private` is cut to what a session message takes.
    pub(crate) fn negotiate(&self, endpoint: EndpointId, receive_size: u32, private: &[u8]) -> Request {
        let mut data = [0; MAX_PRIVATE_DATA];
        let length = private.len().min(MAX_PRIVATE_DATA);
        data[..length].copy_from_slice(&private[..length]);
        let private_length = u32::try_from(length).unwrap_or(u32::MAX);
        let request =
            NegotiateRequest { header: Header::new(0), endpoint, receive_size, private_length, private: data };
        self.request(ControlCode::Negotiate, &request, vec![0; 272])
    }

    /// Sends a stream's bytes, or a SAN message.
    pub(crate) fn send(&self, endpoint: EndpointId, data: &[u8]) -> Request {
        self.request(ControlCode::Send, &EndpointRequest { header: Header::new(0), endpoint }, data.to_vec())
    }

    /// Receives from a stream.
    pub(crate) fn receive(&self, endpoint: EndpointId, length: usize, flags: u32) -> Request {
        let request = ReceiveRequest { header: Header::new(flags), endpoint };
        self.request(ControlCode::Receive, &request, vec![0; length])
    }

    pub(crate) fn disconnect(&self, endpoint: EndpointId, flags: u32) -> Request {
        let request = DisconnectRequest { header: Header::new(flags), endpoint };
        self.request(ControlCode::Disconnect, &request, Vec::new())
    }

    pub(crate) fn close(&self, endpoint: EndpointId) -> Request {
        self.about(ControlCode::Close, endpoint, 0)
    }

    /// Registers zeros, for sends and receives.
    pub(crate) fn register(&self, endpoint: EndpointId, key: u64, length: usize) -> Request {
        let request = RegisterMemoryRequest { header: Header::new(0), endpoint, key, rights: 3, reserved: 0 };
        self.request(ControlCode::RegisterMemory, &request, vec![0; length])
    }

    pub(crate) fn deregister(&self, endpoint: EndpointId, key: u64) -> Request {
        self.request(
            ControlCode::DeregisterMemory,
            &MemoryRequest { header: Header::new(0), endpoint, key },
            Vec::new(),
        )
    }

    /// Posts a slice for a message, or with [`ControlCode::SendRegistered`] sends it.
    pub(crate) fn transfer(&self, code: ControlCode, endpoint: EndpointId, slice: Slice) -> Request {
        let Slice { key, offset, length } = slice;
        let request = TransferRequest { header: Header::new(0), endpoint, key, offset, length, reserved: 0 };
        self.request(code, &request, vec![0; 8])
    }

    /// A request that says nothing but which endpoint it is for.
    pub(crate) fn about(&self, code: ControlCode, endpoint: EndpointId, output: usize) -> Request {
        self.request(code, &EndpointRequest { header: Header::new(0), endpoint }, vec![0; output])
    }
}

impl Answer {
    /// The endpoint that was made or taken out of a backlog, of a success.
    pub(crate) fn endpoint(&self) -> Option<EndpointId> {
        self.reply()?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }

    /// The address that was bound, of a success.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        SocketAddress::read_from_bytes(self.reply()?).ok()?.parse().ok()
    }
}
