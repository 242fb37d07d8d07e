//! What it does, in safe code.

use core::net::{Ipv4Addr, SocketAddr};
use sanwsk_client::{
    Buffer, Client, Connection, Endpoint, Family, How, Listener, NtStatus, San, Undecided, block_on, spawn,
};

/// Bytes that are taken at a time from a stream, and the longest message.
const LENGTH: u32 = 1 << 20;

/// Connections that may wait.
const BACKLOG: u32 = 50;

/// Listens for both: then peers can connect. IRQL = PASSIVE_LEVEL.
pub(crate) fn serve(client: &Client, port: u16) -> Result<(), NtStatus> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let streams = client.create::<Listener>(Family::of(&any))?;
    let sessions = client.create::<San>(Family::of(&any))?;
    block_on(async {
        streams.bind(any).await?;
        streams.listen(BACKLOG).await?;
        sessions.bind(any).await?;
        sessions.listen(BACKLOG).await
    })??;
    spawn(async move {
        // An error is the end of the listener, and of this.
        let _ = take_streams(streams).await;
    })?;
    spawn(async move {
        let _ = take_sessions(sessions).await;
    })
}

async fn take_streams(listener: Endpoint<Listener>) -> Result<(), NtStatus> {
    loop {
        let stream = listener.accept().await?.connection;
        // Where there is no memory for a further one, it is closed.
        let _ = spawn(async move {
            let _ = echo_stream(stream).await;
        });
    }
}

async fn take_sessions(listener: Endpoint<San>) -> Result<(), NtStatus> {
    loop {
        let peer = listener.accept().await?.connection;
        let _ = spawn(async move {
            let _ = echo_session(peer).await;
        });
    }
}

/// Until the peer ends its side.
async fn echo_stream(stream: Endpoint<Connection>) -> Result<(), NtStatus> {
    let mut buffer = Buffer::new(LENGTH)?;
    loop {
        let (received, full) = stream.receive(buffer, 0..LENGTH).await;
        let length = received?;
        if length == 0 {
            return stream.disconnect(How::Graceful).await;
        }
        let (sent, empty) = stream.send(full, 0..length).await;
        sent?;
        buffer = empty;
    }
}

/// Until the peer disconnects, which is an error to what waits for a message.
async fn echo_session(peer: Undecided) -> Result<(), NtStatus> {
    let session = peer.accept()?;
    session.negotiate(b"echo", LENGTH).await?;
    let mut buffer = Buffer::new(LENGTH)?;
    loop {
        let (received, full) = session.receive(buffer, 0..LENGTH).await;
        let (sent, empty) = session.send(full, 0..received?).await;
        sent?;
        buffer = empty;
    }
}
