//! What programs do. Any request may fail at any time, since memory runs out and peers fail; what arrives is right nevertheless.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use san_proxy::{
    AddressFamily, Backlog, Disconnect, Error, Memory, MemoryRights, Pending, Receive, Region, SanEndpoint,
    StreamConnection, StreamListener,
};

use crate::foreign;
use crate::program::{Program, end};

/// 127.0.0.1, with a port that the driver chooses.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Why an activity has come to an end before its time.
pub(crate) enum Stop {
    /// A request has failed, as it may.
    Failed,
    /// Something is wrong with the driver.
    Wrong(String),
}

impl From<Error> for Stop {
    fn from(_: Error) -> Self {
        Self::Failed
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self::Failed
    }
}

type Outcome = Result<(), Stop>;

/// Does something. The address is the native port's.
type Activity = fn(&Program, &mut Rng, SocketAddr) -> Outcome;

/// What can be done; each is as likely as the next.
pub(crate) const ACTIVITIES: [(&str, Activity); 8] = [
    ("streams", streams),
    ("echo of a foreign peer", echo),
    ("resets of a foreign peer", resets),
    ("sessions", sessions),
    ("refused sessions", refused),
    ("connects", connects),
    ("cancels", cancels),
    ("strangers at the native port", strangers),
];

fn random_bytes(random: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Lengths from a byte to a megabyte, short ones more often.
fn length(random: &mut Rng) -> usize {
    let bits = random.u32(0..20);
    random.usize(1..=1 << bits)
}

fn same(program: &Program, what: &str, sent: &[u8], received: &[u8]) -> Outcome {
    if sent != received {
        let at = sent.iter().zip(received).take_while(|(sent, received)| sent == received).count();
        let (sent, received) = (sent.len(), received.len());
        return Err(Stop::Wrong(format!(
            "{what}: {received} bytes for {sent} that were sent, and others from {at} on"
        )));
    }
    program.counts.received(received.len());
    Ok(())
}

/// Moves bytes one way, with a receive for all of them.
fn move_bytes(program: &Program, from: &StreamConnection, to: &StreamConnection, random: &mut Rng) -> Outcome {
    let bytes = length(random);
    let data = random_bytes(random, bytes);
    let receive = to.start_receive(vec![0; data.len()], Receive::All);
    let send = end(from.start_send(data));
    let received = end(receive);
    send.result?;
    let length = received.result?;
    same(program, "a stream", &send.buffer, &received.buffer[..length])
}

fn streams(program: &Program, random: &mut Rng, _native: SocketAddr) -> Outcome {
    let listener = StreamListener::create(&program.provider, AddressFamily::INET)?;
    let address = listener.bind(ANY)?;
    listener.listen(Backlog(4))?;
    for _ in 0..random.usize(1..4) {
        let near = StreamConnection::create(&program.provider, AddressFamily::INET)?;
        let accept = listener.start_accept();
        end(near.start_connect(address, Some(Duration::from_secs(1))))?;
        let far = end(accept)?.connection;
        for _ in 0..random.usize(0..6) {
            let (from, to) = if random.bool() { (&near, &far) } else { (&far, &near) };
            move_bytes(program, from, to, random)?;
        }
        match random.u8(0..4) {
            0 => near.abort()?,
            1 => near.close()?,
            2 => {
                end(near.start_disconnect(Disconnect::Graceful))?;
                let rest = end(far.start_receive(vec![0; 16], Receive::Some));
                if rest.result? != 0 {
                    return Err(Stop::Wrong("bytes come after the end of a stream".to_owned()));
                }
                far.close()?;
            }
            // Both go with the program's handle, or when they are dropped.
            _ => {}
        }
    }
    Ok(())
}

/// A foreign peer sends back what it gets.
fn echo(program: &Program, random: &mut Rng, _native: SocketAddr) -> Outcome {
    let (listener, address) = foreign::listen()?;
    let connection = StreamConnection::create(&program.provider, AddressFamily::INET)?;
    let bytes = length(random).min(1 << 16);
    let data = random_bytes(random, bytes);
    end(connection.start_connect(address, Some(Duration::from_secs(1))))?;
    let peer = foreign::accept(&listener)?;
    let echo = thread::spawn(move || foreign::echo(&peer, bytes));
    let receive = connection.start_receive(vec![0; bytes], Receive::All);
    let send = end(connection.start_send(data));
    let received = end(receive);
    // Its thread ends with the connection.
    drop(connection);
    let _ = echo.join();
    send.result?;
    let length = received.result?;
    same(program, "an echo", &send.buffer, &received.buffer[..length])
}

/// A foreign peer resets the connection while requests pend on it.
fn resets(program: &Program, random: &mut Rng, _native: SocketAddr) -> Outcome {
    let (listener, address) = foreign::listen()?;
    let connection = StreamConnection::create(&program.provider, AddressFamily::INET)?;
    end(connection.start_connect(address, Some(Duration::from_secs(1))))?;
    let peer = foreign::accept(&listener)?;
    let receives: Vec<_> =
        (0..random.usize(0..4)).map(|_| connection.start_receive(vec![0; 100], Receive::Some)).collect();
    let bytes = length(random);
    let send = connection.start_send(random_bytes(random, bytes));
    if random.bool() {
        thread::sleep(Duration::from_micros(random.u64(0..500)));
    }
    foreign::reset(peer);
    for receive in receives {
        if end(receive).result.is_ok_and(|length| length != 0) {
            return Err(Stop::Wrong("bytes come that nobody has sent".to_owned()));
        }
    }
    end(send).result?;
    Ok(())
}

/// One side of a session: its endpoint, and memory for messages to come.
struct Side {
    endpoint: SanEndpoint,
    region: Region,
    size: usize,
    receives: Vec<Pending<Result<usize, Error>>>,
}

impl Side {
    fn new(endpoint: SanEndpoint, count: usize, size: usize) -> Result<Self, Error> {
        let region = endpoint.register(Memory::new(count * size), MemoryRights::BOTH)?;
        let receives = (0..count).map(|at| endpoint.start_receive(&region, at * size..(at + 1) * size)).collect();
        Ok(Self { endpoint, region, size, receives })
    }

    /// Sends a message to the other side, which takes it out of the `at`th place and posts that anew.
    fn say(&self, to: &mut Self, at: usize, program: &Program, random: &mut Rng) -> Outcome {
        let bytes = random.usize(0..=to.size);
        let data = random_bytes(random, bytes);
        let receive = to.receives.remove(0);
        let send = end(self.endpoint.start_send(data));
        let length = end(receive)?;
        send.result?;
        let start = at * to.size;
        let message = to.region.read(start..start + length)?;
        to.receives.push(to.endpoint.start_receive(&to.region, start..start + to.size));
        same(program, "a message", &send.buffer, &message)
    }
}

fn san_listener(program: &Program) -> Result<(SanEndpoint, SocketAddr), Error> {
    let listener = SanEndpoint::create(&program.provider, AddressFamily::INET)?;
    let address = listener.bind(ANY)?;
    listener.listen(Backlog(4))?;
    Ok((listener, address))
}

fn sessions(program: &Program, random: &mut Rng, _native: SocketAddr) -> Outcome {
    let (listener, address) = san_listener(program)?;
    let connector = SanEndpoint::create(&program.provider, AddressFamily::INET)?;
    connector.bind(ANY)?;
    let connect = connector.start_connect(address, Some(Duration::from_secs(1)));
    let accepted = end(listener.start_accept())?;
    let acceptor = accepted.accept()?;
    end(connect)?;
    let (count, size) = (random.usize(1..8), random.usize(1..20_000));
    let mut near = Side::new(connector, count, size)?;
    let mut far = Side::new(acceptor, count, size)?;
    let receive_size = u32::try_from(size).unwrap_or(u32::MAX);
    let negotiate = near.endpoint.start_negotiate(b"near", receive_size);
    let other = end(far.endpoint.start_negotiate(b"far", receive_size));
    let peer = end(negotiate)?;
    other?;
    if peer.private != b"far" {
        return Err(Stop::Wrong(format!("the peer's private data is {:02x?}", peer.private)));
    }
    for round in 0..random.usize(0..40) {
        let at = round % count;
        near.say(&mut far, at, program, random)?;
        far.say(&mut near, at, program, random)?;
    }
    match random.u8(0..4) {
        0 => near.endpoint.abort()?,
        1 => {
            let disconnect = near.endpoint.start_disconnect(Disconnect::Graceful);
            end(far.endpoint.start_disconnect(Disconnect::Graceful))?;
            end(disconnect)?;
        }
        2 => far.endpoint.close()?,
        _ => {}
    }
    Ok(())
}

fn refused(program: &Program, random: &mut Rng, _native: SocketAddr) -> Outcome {
    let (listener, address) = san_listener(program)?;
    let connectors: Vec<SanEndpoint> = (0..random.usize(1..6))
        .map(|_| {
            let connector = SanEndpoint::create(&program.provider, AddressFamily::INET)?;
            connector.bind(ANY).map(|_| connector)
        })
        .collect::<Result<_, Error>>()?;
    let start = |connector: &SanEndpoint| connector.start_connect(address, Some(Duration::from_millis(500)));
    let connects: Vec<_> = connectors.iter().map(start).collect();
    if random.bool() {
        end(listener.start_accept())?.reject()?;
    }
    listener.close()?;
    for connect in connects {
        if end(connect).is_ok() {
            return Err(Stop::Wrong("a connect succeeds that nobody has accepted".to_owned()));
        }
    }
    Ok(())
}

/// Connections that are made and closed at once, some to nobody.
fn connects(program: &Program, random: &mut Rng, _native: SocketAddr) -> Outcome {
    let listener = StreamListener::create(&program.provider, AddressFamily::INET)?;
    let address = listener.bind(ANY)?;
    listener.listen(Backlog(8))?;
    for _ in 0..random.usize(1..30) {
        let connection = StreamConnection::create(&program.provider, AddressFamily::INET)?;
        let connect = connection.start_connect(address, Some(Duration::from_secs(1)));
        if random.bool() {
            end(connect)?;
        } else {
            connect.cancel();
        }
        if random.bool() {
            connection.close()?;
        }
    }
    Ok(())
}

/// Requests that are cancelled where they pend, or while they end.
fn cancels(program: &Program, random: &mut Rng, _native: SocketAddr) -> Outcome {
    let listener = StreamListener::create(&program.provider, AddressFamily::INET)?;
    let address = listener.bind(ANY)?;
    listener.listen(Backlog(4))?;
    let accept = listener.start_accept();
    accept.cancel();
    let _ = end(accept);
    let near = StreamConnection::create(&program.provider, AddressFamily::INET)?;
    end(near.start_connect(address, Some(Duration::from_secs(1))))?;
    let far = end(listener.start_accept())?.connection;
    for _ in 0..random.usize(1..20) {
        let receive = far.start_receive(vec![0; 64], Receive::Some);
        let send = random.bool().then(|| near.start_send(vec![1; random.usize(1..64)]));
        receive.cancel();
        let _ = end(receive).result;
        if let Some(send) = send {
            end(send).result?;
        }
    }
    Ok(())
}

/// Peers that come to the native port and say what no driver says, or nothing, and reset.
#[allow(clippy::unnecessary_wraps)] // as all activities
fn strangers(_program: &Program, random: &mut Rng, native: SocketAddr) -> Outcome {
    for _ in 0..random.usize(1..6) {
        let length = random.usize(0..64);
        let mut bytes = random_bytes(random, length);
        if random.bool() && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(b"SanW\x01\x01\0\0");
        }
        foreign::speak(native, &bytes, random.bool());
    }
    Ok(())
}

/// Has requests of all kinds pend, and ends the process in their midst.
pub(crate) fn die(program: &Program, random: &mut Rng) -> Outcome {
    let (listener, address) = san_listener(program)?;
    let connector = SanEndpoint::create(&program.provider, AddressFamily::INET)?;
    connector.bind(ANY)?;
    let _accept = listener.start_accept();
    let _connect = connector.start_connect(address, None);
    let streams = StreamListener::create(&program.provider, AddressFamily::INET)?;
    let at = streams.bind(ANY)?;
    streams.listen(Backlog(4))?;
    let stream = StreamConnection::create(&program.provider, AddressFamily::INET)?;
    end(stream.start_connect(at, Some(Duration::from_secs(1))))?;
    let _receive = stream.start_receive(vec![0; 1000], Receive::All);
    let _send = stream.start_send(random_bytes(random, 1 << 18));
    thread::sleep(Duration::from_micros(random.u64(0..2000)));
    program.process.exit();
    Ok(())
}

/// Waits, but not longer than it is wanted.
pub(crate) fn pause(duration: Duration, stop: &AtomicBool) {
    let deadline = Instant::now() + duration;
    while !stop.load(Ordering::Relaxed) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10).min(duration));
    }
}
