//! SAN endpoints of two machines: a session that carries a file, and connects that are refused.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use san_proxy::{
    AddressFamily, Backlog, Disconnect, Error, EventRecord, Memory, MemoryRights, NetworkEvents, NtStatus, Pending,
    Provider, Region, SanEndpoint, Undecided, WsaError,
};

use crate::console::{Console, Progress, duration, size};
use crate::failure::Failure;
use crate::neighbours::{HERE, THERE};

/// Bytes of a message.
const MESSAGE_SIZE: u32 = 256 * 1024;
const MESSAGE: usize = MESSAGE_SIZE as usize;
/// Receives that are posted at once.
const RECEIVES: usize = 8;
/// Sends that are under way at once: more than there are receives, so that some wait for credits.
const SENDS: usize = 16;
/// An operation that takes longer has failed.
const STALL: Duration = Duration::from_secs(15);

/// A new endpoint of the machine here, bound.
fn connector(here: &Provider) -> Result<SanEndpoint, Failure> {
    let endpoint = SanEndpoint::create(here, AddressFamily::INET)?;
    endpoint.bind(SocketAddr::new(HERE, 0))?;
    Ok(endpoint)
}

/// An endpoint of the machine there that listens.
fn listener(there: &Provider, backlog: u32) -> Result<(SanEndpoint, SocketAddr), Failure> {
    let endpoint = SanEndpoint::create(there, AddressFamily::INET)?;
    let address = endpoint.bind(SocketAddr::new(THERE, 0))?;
    endpoint.listen(Backlog(backlog))?;
    Ok((endpoint, address))
}

/// Sends the file `from`, of `length` bytes, to the other machine, which writes it to `to`.
pub(crate) fn send_file(
    here: &Provider,
    there: &Provider,
    from: &Path,
    to: &Path,
    length: u64,
    console: &Console,
) -> Result<(), Failure> {
    let (listener, address) = listener(there, 1)?;
    let connector = connector(here)?;
    let connect = connector.start_connect(address, Some(STALL));
    let undecided = listener.start_accept().wait_or_cancel(STALL)?;
    let peer = undecided.peer();
    let acceptor = undecided.accept()?;
    connect.wait_or_cancel(STALL)?;
    console.done(format_args!("{peer} connects to {address}, and is accepted"));

    let outgoing = connector.register(Memory::new(SENDS * MESSAGE), MemoryRights::SEND)?;
    let incoming = acceptor.register(Memory::new(RECEIVES * MESSAGE), MemoryRights::RECEIVE)?;
    let posted: VecDeque<_> =
        (0..RECEIVES).map(|place| (place, acceptor.start_receive(&incoming, part(place)))).collect();
    let negotiate = connector.start_negotiate(b"file/1", 0);
    let asked = acceptor.start_negotiate(b"file/1 ready", MESSAGE_SIZE).wait_or_cancel(STALL)?;
    let offer = negotiate.wait_or_cancel(STALL)?;
    let private = [asked.private, offer.private].map(|private| String::from_utf8_lossy(&private).into_owned());
    console.done(format_args!("negotiated, with private data \"{}\" and \"{}\"", private[0], private[1]));
    console.note(format_args!(
        "{} receives of {} are posted, {SENDS} sends under way: flow control holds the others back",
        offer.receive_count,
        size(offer.receive_size.into())
    ));

    let progress = Progress::new("sending", length);
    let sent = thread::scope(|scope| {
        let writing = scope.spawn(|| receive_to(&acceptor, &incoming, posted, to, &progress));
        let sent = send_from(&connector, &outgoing, from);
        let written = writing.join().map_err(|_| Failure::defect("the receiving thread panicked"))?;
        // Without a sender the receiver fails too: the cause comes first.
        sent.and_then(|sent| written.map(|()| sent))
    })?;
    let pace = progress.finish();
    let statistics = acceptor.statistics()?;
    console.done(format_args!("{pace}, {} messages, at most {} sends queued", sent.messages, sent.most_queued));
    if (statistics.messages_received, statistics.bytes_received) != (sent.messages, length) {
        return Err(Failure::defect(format_args!("the other driver has counted something else: {statistics:?}")));
    }
    for (endpoint, region) in [(connector, outgoing), (acceptor, incoming)] {
        region.deregister()?;
        endpoint.start_close().wait_or_cancel(STALL)?;
    }
    Ok(())
}

/// The place of a message in a region.
fn part(place: usize) -> Range<usize> {
    place * MESSAGE..(place + 1) * MESSAGE
}

/// What a sender has done.
struct Sent {
    messages: u64,
    most_queued: u32,
}

/// Sends a file, read straight into registered memory, and disconnects.
fn send_from(endpoint: &SanEndpoint, region: &Region, path: &Path) -> Result<Sent, Failure> {
    let unreadable = |error| Failure::file("read", path, &error);
    let mut file = File::open(path).map_err(unreadable)?;
    let mut sends: VecDeque<(usize, Pending<Result<usize, Error>>)> = VecDeque::new();
    let mut free: Vec<usize> = (0..SENDS).rev().collect();
    let mut sent = Sent { messages: 0, most_queued: 0 };
    loop {
        while let Some(place) = free.pop() {
            let message = part(place);
            let length = region.with_bytes_mut(message.clone(), |bytes| fill(&mut file, bytes))?.map_err(unreadable)?;
            if length == 0 {
                break;
            }
            let message = message.start..message.start + length;
            sends.push_back((place, endpoint.start_send_registered(region, message)));
            sent.messages += 1;
        }
        let Some((place, first)) = sends.pop_front() else { break };
        if sent.messages.is_multiple_of(SENDS as u64) {
            sent.most_queued = sent.most_queued.max(endpoint.statistics()?.sends_queued);
        }
        first.wait_or_cancel(STALL)?;
        free.push(place);
    }
    endpoint.start_disconnect(Disconnect::Graceful).wait_or_cancel(STALL)?;
    Ok(sent)
}

/// Reads as much as there is room for, or is left.
fn fill(file: &mut File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

/// Writes each message to a file, straight from registered memory, until the peer disconnects.
fn receive_to(
    endpoint: &SanEndpoint,
    region: &Region,
    mut receives: VecDeque<(usize, Pending<Result<usize, Error>>)>,
    path: &Path,
    progress: &Progress,
) -> Result<(), Failure> {
    let unwritable = |error| Failure::file("write", path, &error);
    let mut file = File::create(path).map_err(unwritable)?;
    while let Some((place, receive)) = receives.pop_front() {
        let length = match receive.wait_or_cancel(STALL) {
            Ok(length) => length,
            Err(error) if error.status() == NtStatus::GRACEFUL_DISCONNECT => break,
            Err(error) => return Err(error.into()),
        };
        let message = part(place);
        region.with_bytes(message.start..message.start + length, |bytes| file.write_all(bytes))?.map_err(unwritable)?;
        progress.advance(length);
        receives.push_back((place, endpoint.start_receive(region, message)));
    }
    Ok(())
}

/// A backlog of one holds one connect and refuses the next; the one in it is then rejected.
pub(crate) fn refused(here: &Provider, there: &Provider, console: &Console) -> Result<(), Failure> {
    let (listener, address) = listener(there, 1)?;
    let event = there.create_event()?;
    listener.event_select(Some(&*event), NetworkEvents::ACCEPT)?;

    let first = connector(here)?;
    let waiting = first.start_connect(address, Some(STALL));
    if !event.wait(STALL) {
        return Err(Failure::defect("a connection has arrived, and the listener's event is not set"));
    }
    let record = listener.enum_network_events()?;
    if record.accept != Some(Ok(())) || event.is_set() {
        return Err(Failure::defect(format_args!("the listener's events are {record:?}")));
    }
    console.done("backlog 1: the first connect waits in it, and has set the listener's event (FD_ACCEPT)");

    let second = connector(here)?;
    let started = Instant::now();
    let took = |outcome| expect_refused(outcome).map(|error| (error, duration(started.elapsed())));
    let (error, time) = took(second.start_connect(address, Some(STALL)).wait_or_cancel(STALL))?;
    console.done(format_args!("the second one is refused after {time}: {error}"));
    let record = listener.enum_network_events()?;
    if event.is_set() || record != EventRecord::NOTHING {
        return Err(Failure::defect(format_args!("a refused connect has set the listener's event: {record:?}")));
    }
    console.note("the listener's event was not set, and there is nothing to enumerate");

    let undecided: Undecided = listener.start_accept().wait_or_cancel(STALL)?;
    if waiting.has_ended() {
        return Err(Failure::defect("a peer was told something before the decision"));
    }
    let peer = undecided.peer();
    console.done(format_args!("the first one, {peer}, is taken out of the backlog: it has heard nothing yet"));
    undecided.reject()?;
    let error = expect_refused(waiting.wait_or_cancel(STALL))?;
    console.done(format_args!("it is rejected: its connect ends with {error}"));
    Ok(())
}

/// What a Winsock program sees of a connect that is to be refused.
fn expect_refused(outcome: Result<(), Error>) -> Result<WsaError, Failure> {
    match outcome {
        Err(error) if error.status() == NtStatus::CONNECTION_REFUSED => Ok(error.wsa_error()),
        Err(error) => Err(error.into()),
        Ok(()) => Err(Failure::defect("a connect succeeded that was to be refused")),
    }
}
