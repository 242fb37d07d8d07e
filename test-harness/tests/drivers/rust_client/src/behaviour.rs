//! What is tried. The first thing that is not as it should be ends it.

use crate::meeting::{Line, OrLine, both, check, is_pending, unless};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::pin::pin;
use core::time::Duration;
use sanwsk_client::{
    Accepted, Buffer, Client, Connection, Endpoint, Family, How, Interface, Listener, NtStatus, Rights, San,
    SocketOption, spawn,
};

const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(15));
/// More than fits into a SAN message's own MDL.
const LENGTH: u32 = 70_000;

/// Leaves an accept pending until the client is closed. Another client is dropped with one.
pub(crate) async fn stay(client: &Client, interface: &Interface) -> Result<(), NtStatus> {
    let other = Client::open(interface)?;
    let mut result = wait_for_a_connection(client).await;
    if result.is_ok() {
        result = wait_for_a_connection(&other).await;
    }
    match result {
        Ok(()) => drop(other),
        // This driver does not stay then.
        Err(_) => other.close(),
    }
    result
}

async fn wait_for_a_connection(client: &Client) -> Result<(), NtStatus> {
    let listener = client.create::<Listener>(Family::Inet)?;
    listener.bind(V4).await?;
    listener.listen(1).await?;
    spawn(async move {
        let _ = listener.accept().await;
    })
}

pub(crate) async fn all(client: &Client, interface: &Interface) -> Result<(), Line> {
    for any in [V4, V6] {
        streams(client, any).await?;
        sessions(client, any).await?;
    }
    rejections(client).await?;
    ends(interface).await?;
    mistakes(client).await
}

/// What was moved, with the buffer.
fn whole((length, buffer): (Result<u32, NtStatus>, Buffer)) -> Result<(u32, Buffer), NtStatus> {
    length.map(|length| (length, buffer))
}

/// Sends a line to a peer; what comes back, and its bytes.
async fn ask(client: &Client, peer: SocketAddr) -> Result<(u32, Buffer), NtStatus> {
    let stream = client.create::<Connection>(Family::of(&peer))?;
    stream.connect(peer, None).await?;
    let (sent, buffer) = stream.send(Buffer::of(b"hello\n")?, 0..6).await;
    sent?;
    let (received, buffer) = stream.receive(buffer, 0..6).await;
    stream.disconnect(How::Graceful).await?;
    Ok((received?, buffer))
}

/// Sends back the first line that comes, to whomever it came from.
async fn answer(listener: &Endpoint<Listener>) -> Result<Endpoint<Connection>, NtStatus> {
    let stream = listener.accept().await?.connection;
    let (received, line) = stream.receive_all(Buffer::new(6)?, 0..6).await;
    let (sent, _) = stream.send(line, 0..received?).await;
    sent?;
    Ok(stream)
}

async fn listener(client: &Client, any: SocketAddr) -> Result<(Endpoint<Listener>, SocketAddr), Line> {
    let listener = client.create::<Listener>(Family::of(&any)).here()?;
    let address = listener.bind(any).await.here()?;
    listener.listen(4).await.here()?;
    Ok((listener, address))
}

/// Takes a connection out of the backlog while `near` is connected: one that the listener has no memory for is reset, and does not
/// come. The receive that waits for that is dropped in the end, and takes no bytes.
async fn arrival(
    listener: &Endpoint<Listener>,
    near: &Endpoint<Connection>,
) -> Result<Accepted<Endpoint<Connection>>, Line> {
    let byte = Buffer::new(1).here()?;
    unless(listener.accept(), async { near.receive(byte, 0..1).await.0 }).await.here()
}

async fn streams(client: &Client, any: SocketAddr) -> Result<(), Line> {
    let (listener, address) = listener(client, any).await?;
    // An accept that is dropped takes no connection.
    check(is_pending(listener.accept()))?;
    let near = client.create::<Connection>(Family::of(&address)).here()?;
    near.set_option(SocketOption::NoDelay, true).await.here()?;
    near.connect(address, PATIENCE).await.here()?;
    let accepted = arrival(&listener, &near).await?;
    let far = accepted.connection;
    let ends = near.addresses().here()?;
    check(accepted.addresses.local == Some(address) && ends.remote == Some(address))?;
    check(ends.local == accepted.addresses.remote && far.addresses() == Ok(accepted.addresses))?;
    let mut bytes = Buffer::new(LENGTH).here()?;
    for (at, byte) in (0_u32..).zip(bytes.iter_mut()) {
        *byte = at.to_le_bytes()[0] ^ at.to_le_bytes()[1];
    }
    let copy = Buffer::new(LENGTH).here()?;
    let sending = async { whole(near.send(bytes, 0..LENGTH).await) };
    let receiving = async { whole(far.receive_all(copy, 0..LENGTH).await) };
    let ((sent, bytes), (received, copy)) = both(sending, receiving).await.here()?;
    check(sent == LENGTH && received == LENGTH && bytes[..] == copy[..])?;
    near.disconnect(How::Graceful).await.here()?;
    let (end, copy) = far.receive(copy, 0..1).await;
    check(end.here()? == 0)?;
    far.close().await;
    near.close().await;
    let ((answered, line), _) = both(ask(client, address), answer(&listener)).await.here()?;
    check(answered == 6 && line[..] == *b"hello\n")?;
    // A reset is an error at the other end.
    let near = client.create::<Connection>(Family::of(&address)).here()?;
    near.connect(address, PATIENCE).await.here()?;
    let far = arrival(&listener, &near).await?.connection;
    near.disconnect(How::Abortive).await.here()?;
    let (reset, _) = far.receive(copy, 0..1).await;
    check(reset == Err(NtStatus::CONNECTION_RESET))?;
    listener.close().await;
    Ok(())
}

async fn san_listener(client: &Client, any: SocketAddr) -> Result<(Endpoint<San>, SocketAddr), Line> {
    let listener = client.create::<San>(Family::of(&any)).here()?;
    let address = listener.bind(any).await.here()?;
    listener.listen(4).await.here()?;
    Ok((listener, address))
}

async fn connector(client: &Client, any: SocketAddr) -> Result<Endpoint<San>, Line> {
    let connector = client.create::<San>(Family::of(&any)).here()?;
    connector.bind(any).await.here()?;
    Ok(connector)
}

/// Both ends of a connection.
async fn connected(client: &Client, any: SocketAddr) -> Result<[Endpoint<San>; 2], Line> {
    let (listener, address) = san_listener(client, any).await?;
    let near = connector(client, any).await?;
    let accept = async { listener.accept().await?.connection.accept() };
    let ((), far) = both(near.connect(address, PATIENCE), accept).await.here()?;
    Ok([near, far])
}

async fn sessions(client: &Client, any: SocketAddr) -> Result<(), Line> {
    let [near, far] = connected(client, any).await?;
    let (ours, theirs) = both(near.negotiate(b"near", LENGTH), far.negotiate(b"far", LENGTH)).await.here()?;
    check(ours.private_data() == b"far" && theirs.private_data() == b"near" && ours.receive_size() == LENGTH)?;
    // A message out of a buffer.
    let (into, message) = (Buffer::new(LENGTH).here()?, Buffer::of(b"message").here()?);
    let receiving = async { whole(far.receive(into, 0..LENGTH).await) };
    let sending = async { near.send(message, 0..7).await.0 };
    let ((received, message), sent) = both(receiving, sending).await.here()?;
    check(sent == 7 && received == 7 && message[..7] == *b"message")?;
    // One out of registered memory.
    let mut source = near.register(Buffer::new(LENGTH).here()?, Rights::Send).await.here()?;
    let target = far.register(message, Rights::Receive).await.here()?;
    check(source.write(100, b"registered") && !source.write(LENGTH, b"x"))?;
    let sending = near.send_registered(&source, 100..110);
    let (received, sent) = both(far.receive_registered(&target, 0..LENGTH), sending).await.here()?;
    let mut read = [0; 10];
    check(sent == 10 && received == 10 && target.read(0, &mut read) && read == *b"registered")?;
    check(!target.read(LENGTH - 9, &mut read))?;
    // Outside of the region, and of its rights.
    check(near.send_registered(&source, LENGTH..LENGTH + 1).await == Err(NtStatus::ACCESS_VIOLATION))?;
    check(far.send_registered(&target, 0..1).await == Err(NtStatus::ACCESS_VIOLATION))?;
    let statistics = far.statistics().here()?;
    check(statistics.messages_received == 2 && statistics.regions == 1)?;
    // What is dropped while it pends: a receive with its buffer, and one with the memory that it uses.
    check(is_pending(far.receive(Buffer::new(LENGTH).here()?, 0..LENGTH)))?;
    check(is_pending(far.receive_registered(&target, 0..LENGTH)))?;
    drop((source, target));
    near.disconnect(How::Graceful).await.here()?;
    let (end, _) = far.receive(Buffer::new(LENGTH).here()?, 0..LENGTH).await;
    check(end == Err(NtStatus::GRACEFUL_DISCONNECT))
}

/// A peer is told so, or its connection dropped before it was decided.
async fn rejections(client: &Client) -> Result<(), Line> {
    let (listener, address) = san_listener(client, V4).await?;
    for is_told in [true, false] {
        let near = connector(client, V4).await?;
        let reject = async {
            let peer = listener.accept().await?.connection;
            if is_told {
                peer.reject()?;
            }
            Ok(())
        };
        let mut connect = pin!(near.connect(address, PATIENCE));
        unless(reject, connect.as_mut()).await.here()?;
        let refused = connect.await;
        check(refused == Err(if is_told { NtStatus::CONNECTION_REFUSED } else { NtStatus::IO_TIMEOUT }))?;
    }
    Ok(())
}

/// A client that is closed before what it has.
async fn ends(interface: &Interface) -> Result<(), Line> {
    let client = Client::open(interface).here()?;
    let (orphan, listener) = (client.create::<San>(Family::Inet), listener(&client, V4).await);
    let Ok((listener, _)) = listener else {
        client.close();
        return listener.map(drop);
    };
    let accept = async { Ok(listener.accept().await.err()) };
    let close = async {
        client.close();
        Ok(())
    };
    let (ended, ()) = both(accept, close).await.here()?;
    check(ended == Some(NtStatus::CANCELLED))?;
    let orphan = orphan.here()?;
    check(orphan.addresses() == Err(NtStatus::INVALID_HANDLE))?;
    check(orphan.bind(V4).await == Err(NtStatus::INVALID_HANDLE))
}

/// What is refused comes back at once, with the buffer.
async fn mistakes(client: &Client) -> Result<(), Line> {
    check(Buffer::new(0).err() == Some(NtStatus::INVALID_PARAMETER))?;
    let stream = client.create::<Connection>(Family::Inet).here()?;
    let (refused, buffer) = stream.send(Buffer::of(b"bytes").here()?, 0..5).await;
    check(refused == Err(NtStatus::INVALID_CONNECTION) && buffer[..] == *b"bytes")?;
    let (refused, buffer) = stream.send(buffer, 1..6).await;
    check(refused == Err(NtStatus::ACCESS_VIOLATION) && buffer[..] == *b"bytes")?;
    let (refused, buffer) = stream.receive(buffer, 5..5).await;
    check(refused == Err(NtStatus::INVALID_PARAMETER) && buffer[..] == *b"bytes")?;
    let nowhere = SocketAddr::new(V4.ip(), 0);
    check(stream.connect(nowhere, None).await == Err(NtStatus::INVALID_ADDRESS_COMPONENT))?;
    let session = client.create::<San>(Family::Inet).here()?;
    check(session.negotiate(&[0; 257], LENGTH).await.err() == Some(NtStatus::INVALID_BUFFER_SIZE))?;
    check(session.register(buffer, Rights::SendAndReceive).await.err() == Some(NtStatus::INVALID_CONNECTION))
}
