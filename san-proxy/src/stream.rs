//! Connections.

use crate::device::{Completed, DeviceRequest};
use crate::endpoint::{AddressFamily, Endpoint};
use crate::error::{Error, Operation};
use crate::pending::Pending;
use crate::provider::Provider;
use san_protocol::{
    ControlCode, DISCONNECT_ABORTIVE, DisconnectRequest, EndpointId, EndpointKind, Header, NtStatus, RECEIVE_ALL,
    ReceiveRequest, SocketOption,
};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use zerocopy::IntoBytes;

/// Most that [`Read`] and [`Write`] move at once, in bytes: they copy, since a borrowed buffer cannot be given away.
const COPY_LIMIT: usize = 64 * 1024;

/// When a receive is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// As soon as there is something.
    Some,
    /// When the buffer is full, or the peer has ended its side.
    All,
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// Sends what is on its way, then ends this side; the peer may go on.
    Graceful,
    /// Resets the connection.
    Abortive,
}

/// What a send or receive came to, and its buffer.
#[derive(Debug)]
pub struct Transfer {
    /// Bytes sent or received. A receive of none: the peer has ended its side.
    pub result: Result<usize, Error>,
    /// The buffer that was given away.
    pub buffer: Vec<u8>,
}

/// A TCP connection of the driver, or one to be. Closed when dropped; what is on its way then is sent still.
///
/// Sends go out in the order in which they are started; so do receives come in.
#[derive(Debug)]
pub struct StreamConnection {
    endpoint: Endpoint,
}

impl StreamConnection {
    /// An endpoint that is to be connected.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::create`].
    pub fn create(provider: &Provider, family: AddressFamily) -> Result<Self, Error> {
        Endpoint::create(provider, EndpointKind::StreamConnection, family).map(Self::from_endpoint)
    }

    /// The connection that `endpoint` is.
    #[must_use]
    pub fn from_endpoint(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The endpoint behind it: options, addresses, its id.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The endpoint behind it, without the type.
    #[must_use]
    pub fn into_endpoint(self) -> Endpoint {
        self.endpoint
    }

    /// Its name in requests.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.endpoint.id()
    }

    /// Sets an option.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::set_option`].
    pub fn set_option(&self, option: SocketOption, on: bool) -> Result<(), Error> {
        self.endpoint.set_option(option, on)
    }

    /// Binds to a local address, which a connect would choose otherwise.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::start_bind`].
    pub fn bind(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        self.endpoint.bind(address)
    }

    /// Connects, within `timeout` or as long as TCP tries.
    ///
    /// # Errors
    ///
    /// As [`Self::start_connect`].
    pub fn connect(&self, address: SocketAddr, timeout: Option<Duration>) -> Result<(), Error> {
        self.start_connect(address, timeout).wait()
    }

    /// Starts to connect. The driver keeps the time, in milliseconds.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_CONNECTION_REFUSED`, `STATUS_HOST_UNREACHABLE` and the like, `STATUS_IO_TIMEOUT` from the driver or from TCP,
    /// `STATUS_CANCELLED`; after each of them it may be tried again. `STATUS_CONNECTION_ACTIVE` if it is connected already.
    pub fn start_connect(&self, address: SocketAddr, timeout: Option<Duration>) -> Pending<Result<(), Error>> {
        self.endpoint.start_connect(address, timeout)
    }

    /// Sends a copy of `data`, all of it.
    ///
    /// # Errors
    ///
    /// As [`Self::start_send`].
    pub fn send(&self, data: &[u8]) -> Result<usize, Error> {
        self.send_buffer(data.to_vec()).result
    }

    /// Sends a buffer, from where it lies; it comes back.
    #[must_use]
    pub fn send_buffer(&self, buffer: Vec<u8>) -> Transfer {
        self.start_send(buffer).wait()
    }

    /// Starts to send a buffer, from where it lies. It ends when TCP has taken all of it.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_CONNECTION` before it is connected, `STATUS_PIPE_DISCONNECTED` after a graceful disconnect,
    /// `STATUS_CONNECTION_RESET` or `STATUS_CONNECTION_ABORTED` when the connection has broken, `STATUS_CANCELLED`.
    pub fn start_send(&self, buffer: Vec<u8>) -> Pending<Transfer> {
        start_transfer(&self.endpoint, ControlCode::Send, self.endpoint.request().as_bytes(), buffer)
    }

    /// Receives what there is, at least a byte, and copies it to `buffer`. 0: the peer has ended its side.
    ///
    /// # Errors
    ///
    /// As [`Self::start_receive`].
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let transfer = self.receive_buffer(vec![0; buffer.len()]);
        let length = transfer.result?;
        buffer[..length].copy_from_slice(&transfer.buffer[..length]);
        Ok(length)
    }

    /// Receives what there is into `buffer`, to where it lies; it comes back.
    #[must_use]
    pub fn receive_buffer(&self, buffer: Vec<u8>) -> Transfer {
        self.start_receive(buffer, Receive::Some).wait()
    }

    /// Receives until `buffer` is full or the peer has ended its side.
    #[must_use]
    pub fn receive_all(&self, buffer: Vec<u8>) -> Transfer {
        self.start_receive(buffer, Receive::All).wait()
    }

    /// Starts to receive into all of `buffer`'s length, to where it lies.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_CONNECTION` before it is connected, `STATUS_CONNECTION_RESET` when the peer has reset the
    /// connection, `STATUS_CONNECTION_ABORTED` after [`Self::abort`], `STATUS_CANCELLED`.
    pub fn start_receive(&self, buffer: Vec<u8>, until: Receive) -> Pending<Transfer> {
        let flags = match until {
            Receive::Some => 0,
            Receive::All => RECEIVE_ALL,
        };
        let request = ReceiveRequest { header: Header::new(flags), endpoint: self.id() };
        start_transfer(&self.endpoint, ControlCode::Receive, request.as_bytes(), buffer)
    }

    /// Ends this side after all that was sent; the peer may go on.
    ///
    /// # Errors
    ///
    /// As [`Self::start_disconnect`].
    pub fn shutdown(&self) -> Result<(), Error> {
        self.start_disconnect(Disconnect::Graceful).wait()
    }

    /// Resets the connection; what is on its way is lost.
    ///
    /// # Errors
    ///
    /// As [`Self::start_disconnect`].
    pub fn abort(&self) -> Result<(), Error> {
        self.start_disconnect(Disconnect::Abortive).wait()
    }

    /// Starts to end the connection. A graceful end waits for the peer's acknowledgement.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_CONNECTION` before it is connected, `STATUS_PIPE_DISCONNECTED` if this side has ended already.
    pub fn start_disconnect(&self, how: Disconnect) -> Pending<Result<(), Error>> {
        let flags = match how {
            Disconnect::Graceful => 0,
            Disconnect::Abortive => DISCONNECT_ABORTIVE,
        };
        let request = DisconnectRequest { header: Header::new(flags), endpoint: self.id() };
        self.endpoint.provider().call(ControlCode::Disconnect, &request)
    }

    /// The local address.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_CONNECTION` if it is not bound.
    pub fn local_address(&self) -> Result<SocketAddr, Error> {
        self.endpoint.addresses()?.local.ok_or(no_address())
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_CONNECTION` if it is not connected.
    pub fn peer_address(&self) -> Result<SocketAddr, Error> {
        self.endpoint.addresses()?.peer.ok_or(no_address())
    }

    /// Closes the connection and waits until nothing of it is left.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::close`].
    pub fn close(self) -> Result<(), Error> {
        self.endpoint.close()
    }
}

/// Starts a request that gives `buffer` away for the time of the transfer.
pub(crate) fn start_transfer(
    endpoint: &Endpoint,
    code: ControlCode,
    input: &[u8],
    buffer: Vec<u8>,
) -> Pending<Transfer> {
    let request = DeviceRequest::new(code, input, buffer);
    Pending::start(endpoint.provider().device(), request, move |completed| transferred(code, completed))
}

fn transferred(code: ControlCode, Completed { status, information, input: _, buffer }: Completed) -> Transfer {
    let failed = |status| Err(Error::new(Operation::Request(code), status));
    let result = match status.is_success() {
        false => failed(status),
        true if information > buffer.len() => failed(NtStatus::INFO_LENGTH_MISMATCH),
        true => Ok(information),
    };
    Transfer { result, buffer }
}

const fn no_address() -> Error {
    Error::new(Operation::Request(ControlCode::QueryAddresses), NtStatus::INVALID_CONNECTION)
}

impl Read for &StreamConnection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(COPY_LIMIT);
        if length == 0 { Ok(0) } else { Ok(self.receive(&mut buffer[..length])?) }
    }
}

impl Write for &StreamConnection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(self.send(&buffer[..buffer.len().min(COPY_LIMIT)])?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for StreamConnection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for StreamConnection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
