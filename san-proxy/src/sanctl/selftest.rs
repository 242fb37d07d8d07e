//! `sanctl selftest`: a few seconds of everything, over loopback. What one runs first on a new machine.

use super::failure::{Failure, cannot_write};
use super::path::local_behind;
use super::{Streams, seconds};
use crate::provider::Provider;
use crate::{
    AddressFamily, Backlog, Disconnect, Memory, MemoryRights, NetworkEvents, Pending, Receive, SanEndpoint,
    StreamConnection, StreamListener, Transfer, Undecided,
};
use san_protocol::{NtStatus, PROTOCOL_VERSION, ProviderState};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

pub(super) const EXAMPLES: &str = "\
Examples:
  sanctl selftest
  sanctl selftest --json > selftest.json
  sanctl selftest --address 10.77.0.5            the SAN's part at this one of the machine's SAN addresses

It talks to itself over loopback: no other machine, and no firewall rule, is needed. It leaves nothing behind.";

/// Long enough that what is to pend does pend.
const MOMENT: Duration = Duration::from_millis(50);
/// Bytes that a stream carries in each direction.
const STREAM_BYTES: usize = 1 << 20;
/// Messages of the session, and bytes of each.
const MESSAGES: usize = 64;
const MESSAGE_SIZE: usize = 4096;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// One of this machine's SAN addresses; without it, one that a route holds, or 127.0.0.1.
    #[arg(long, value_name = "ADDR")]
    address: Option<IpAddr>,
    /// How long each step of a check may take.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What the checks go over.
struct Bed<'a> {
    provider: &'a Provider,
    /// This machine's SAN address.
    san: IpAddr,
    /// Endpoints before the first check.
    endpoints: u32,
    /// Longer than any step takes.
    patience: Duration,
}

/// Why a check has failed.
struct Wrong {
    what: String,
    hint: Option<&'static str>,
}

type Outcome = Result<String, Wrong>;

type Check = fn(&Bed<'_>) -> Outcome;

/// What is checked, in this order.
const CHECKS: [(&str, Check); 11] = [
    ("driver speaks this sanctl's protocol", version),
    ("network stack is captured", captured),
    ("stream carries bytes both ways", stream_both_ways),
    ("stream to nobody is refused", stream_refused),
    ("receive is cancelled, connection goes on", receive_cancelled),
    ("SAN session carries messages both ways", session),
    ("memory is registered and released", memory),
    ("full SAN backlog refuses", backlog_full),
    ("SAN connection is rejected", rejected),
    ("SAN connect is cancelled", connect_cancelled),
    ("no endpoint is left", nothing_left),
];

impl From<crate::Error> for Wrong {
    fn from(error: crate::Error) -> Self {
        Self { what: error.to_string(), hint: error.hint() }
    }
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Self {
        Self { what: error.to_string(), hint: None }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)?;
        self.hint.map_or(Ok(()), |hint| write!(formatter, "\n        hint: {hint}"))
    }
}

/// Nothing but `holds` will do.
fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(Wrong { what: what(), hint: None }) }
}

/// That something failed, and with this status.
fn fails_with(what: &str, result: Result<(), crate::Error>, status: NtStatus) -> Result<(), Wrong> {
    match result {
        Err(error) if error.status() == status => Ok(()),
        Err(error) => Err(Wrong { what: format!("{what}: {status} was expected, but {error}"), hint: error.hint() }),
        Ok(()) => Err(Wrong { what: format!("{what}: it succeeded, and {status} was expected"), hint: None }),
    }
}

impl Bed<'_> {
    /// Waits for a request, but not for ever.
    fn wait<T>(&self, what: &str, pending: Pending<T>) -> Result<T, Wrong> {
        pending.wait_for(self.patience).map_err(|_| Wrong {
            what: format!("{what} has not ended in {} s", self.patience.as_secs_f64()),
            hint: Some("something holds loopback connections up: see the firewall, and other drivers of the network"),
        })
    }
}

impl Arguments {
    pub(super) fn run(&self, provider: &Provider, streams: &mut Streams<'_>) -> Result<(), Failure> {
        let endpoints = provider.status()?.endpoints;
        let san = self.address.map_or_else(|| san_address(provider), Ok)?;
        let bed = Bed { provider, san, endpoints, patience: self.timeout };
        let (mut failed, mut told) = (Vec::new(), Vec::new());
        for (name, check) in CHECKS {
            let started = Instant::now();
            let outcome = check(&bed);
            let time = started.elapsed();
            if outcome.is_err() {
                failed.push(name);
            }
            if self.json {
                told.push(as_json(name, &outcome, time));
                continue;
            }
            let milliseconds = time.as_secs_f64() * 1e3;
            match outcome {
                Ok(what) => writeln!(streams.output, "ok      {name:<42} {milliseconds:>7.1} ms  {what}"),
                Err(wrong) => writeln!(streams.output, "FAILED  {name:<42} {milliseconds:>7.1} ms\n        {wrong}"),
            }
            .map_err(cannot_write)?;
        }
        let (count, bad) = (CHECKS.len(), failed.len());
        if self.json {
            let value = json!({ "checks": told, "passed": count - bad, "failed": bad });
            writeln!(streams.output, "{value:#}").map_err(cannot_write)?;
        }
        if failed.is_empty() {
            if !self.json {
                writeln!(streams.output, "all {count} checks passed").map_err(cannot_write)?;
            }
            return Ok(());
        }
        let hint = "begin with the first that has failed; sanctl status shows how the driver stands";
        Err(Failure::Other { what: format!("{bad} of {count} checks failed: {}", failed.join("; ")), hint })
    }
}

fn as_json(name: &str, outcome: &Outcome, time: Duration) -> Value {
    let (passed, what, hint) = match outcome {
        Ok(what) => (true, what, None),
        Err(wrong) => (false, &wrong.what, wrong.hint),
    };
    json!({ "check": name, "passed": passed, "seconds": time.as_secs_f64(), "what": what, "hint": hint })
}

/// A SAN address of this machine.
fn san_address(provider: &Provider) -> Result<IpAddr, Failure> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let routes = provider.routes()?;
    if routes.is_empty() || routes.iter().any(|entry| entry.route.san.contains(loopback)) {
        return Ok(loopback);
    }
    routes.iter().find_map(|entry| local_behind(&entry.route)).ok_or_else(|| Failure::Other {
        what: "no route of the driver holds an address of this machine".into(),
        hint: "see sanctl route list; give the SAN address with --address, or add a route for it",
    })
}

fn version(bed: &Bed<'_>) -> Outcome {
    let version = bed.provider.version()?;
    let (oldest, newest) = (version.oldest_protocol, version.newest_protocol);
    let [major, minor, patch] = version.driver;
    check((oldest..=newest).contains(&PROTOCOL_VERSION), || {
        format!("the driver speaks {oldest} to {newest}, sanctl {PROTOCOL_VERSION}: update the older one")
    })?;
    Ok(format!("driver {major}.{minor}.{patch}, protocol {PROTOCOL_VERSION}"))
}

fn captured(bed: &Bed<'_>) -> Outcome {
    let deadline = Instant::now() + bed.patience;
    loop {
        let status = bed.provider.status()?;
        match status.provider {
            ProviderState::Ready => {
                return Ok(status.wsk_version.map_or(String::new(), |version| format!("WSK {version}")));
            }
            ProviderState::Capturing if Instant::now() < deadline => thread::sleep(MOMENT),
            ProviderState::Capturing | ProviderState::Failed => {
                let hint =
                    Some("restart the driver (sc.exe stop sanwsk, sc.exe start sanwsk); if it stays so, the machine");
                return Err(Wrong { what: format!("the capture stands at {}", status.capture_status), hint });
            }
        }
    }
}

/// Bytes that differ from place to place and from seed to seed.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Both ends of a connection of streams: the connector's first.
fn streams(bed: &Bed<'_>) -> Result<(StreamConnection, StreamConnection), Wrong> {
    let listener = StreamListener::create(bed.provider, AddressFamily::INET)?;
    let address = listener.bind(loopback(0))?;
    listener.listen(Backlog(1))?;
    let connector = StreamConnection::create(bed.provider, AddressFamily::INET)?;
    connector.connect(address, Some(bed.patience))?;
    let acceptor = bed.wait("the accept", listener.start_accept())??.connection;
    Ok((connector, acceptor))
}

/// Sends from one end to the other.
fn carry(bed: &Bed<'_>, from: &StreamConnection, to: &StreamConnection, bytes: &[u8]) -> Result<(), Wrong> {
    let receiving = to.start_receive(vec![0; bytes.len()], Receive::All);
    let sent = bed.wait("a send", from.start_send(bytes.to_vec()))?.result?;
    let Transfer { result, buffer } = bed.wait("a receive", receiving)?;
    check(sent == bytes.len() && result? == bytes.len(), || "bytes are missing".into())?;
    check(buffer == bytes, || "what has come is not what was sent".into())
}

fn stream_both_ways(bed: &Bed<'_>) -> Outcome {
    let (connector, acceptor) = streams(bed)?;
    carry(bed, &connector, &acceptor, &pattern(1, STREAM_BYTES))?;
    carry(bed, &acceptor, &connector, &pattern(2, STREAM_BYTES))?;
    bed.wait("a disconnect", connector.start_disconnect(Disconnect::Graceful))??;
    let end = bed.wait("the end", acceptor.start_receive(vec![0; 1], Receive::Some))?.result?;
    check(end == 0, || "something has come behind the end".into())?;
    Ok(format!("{} MiB each way", STREAM_BYTES >> 20))
}

fn stream_refused(bed: &Bed<'_>) -> Outcome {
    // The port of a listener that has gone.
    let nobody = TcpListener::bind(loopback(0))?.local_addr()?;
    let connector = StreamConnection::create(bed.provider, AddressFamily::INET)?;
    fails_with("the connect", connector.connect(nobody, Some(bed.patience)), NtStatus::CONNECTION_REFUSED)?;
    Ok("WSAECONNREFUSED (10061)".into())
}

fn receive_cancelled(bed: &Bed<'_>) -> Outcome {
    let (connector, acceptor) = streams(bed)?;
    let receive = acceptor.start_receive(vec![0; 64], Receive::Some);
    check(receive.status_within(MOMENT).is_none(), || "a receive has ended, and nothing was sent".into())?;
    receive.cancel();
    fails_with("the receive", bed.wait("a cancelled receive", receive)?.result.map(drop), NtStatus::CANCELLED)?;
    carry(bed, &connector, &acceptor, b"afterwards")?;
    Ok(String::new())
}

/// A SAN listener.
fn listening(bed: &Bed<'_>, backlog: u32) -> Result<(SanEndpoint, SocketAddr), Wrong> {
    let anywhere = SocketAddr::new(bed.san, 0);
    let listener = SanEndpoint::create(bed.provider, AddressFamily::of(anywhere))?;
    let address = listener.bind(anywhere)?;
    listener.listen(Backlog(backlog))?;
    Ok((listener, address))
}

/// A SAN endpoint that connects.
fn connecting(bed: &Bed<'_>, address: SocketAddr) -> Result<(SanEndpoint, Pending<Result<(), crate::Error>>), Wrong> {
    let connector = SanEndpoint::create(bed.provider, AddressFamily::of(address))?;
    connector.bind(SocketAddr::new(bed.san, 0))?;
    let connect = connector.start_connect(address, Some(bed.patience));
    Ok((connector, connect))
}

fn arrival(bed: &Bed<'_>, listener: &SanEndpoint) -> Result<Undecided, Wrong> {
    Ok(bed.wait("the accept", listener.start_accept())??)
}

/// Both ends of a SAN connection: the connector's first.
fn connected(bed: &Bed<'_>) -> Result<(SanEndpoint, SanEndpoint), Wrong> {
    let (listener, address) = listening(bed, 1)?;
    let (connector, connect) = connecting(bed, address)?;
    let acceptor = arrival(bed, &listener)?.accept()?;
    bed.wait("the connect", connect)??;
    Ok((connector, acceptor))
}

fn session(bed: &Bed<'_>) -> Outcome {
    let (connector, acceptor) = connected(bed)?;
    let length = MESSAGES * MESSAGE_SIZE;
    let ends = [&connector, &acceptor];
    let mut regions = Vec::new();
    let mut receives = Vec::new();
    for (end, seed) in ends.into_iter().zip([3, 4]) {
        let region = end.register(Memory::new(2 * length), MemoryRights::BOTH)?;
        region.write(0, &pattern(seed, length))?;
        let places = (0..MESSAGES).map(|at| length + at * MESSAGE_SIZE);
        receives.push(places.map(|at| end.start_receive(&region, at..at + MESSAGE_SIZE)).collect::<Vec<_>>());
        regions.push(region);
    }
    let size = u32::try_from(MESSAGE_SIZE).unwrap_or(u32::MAX);
    let negotiations = ends.map(|end| end.start_negotiate(b"selftest", size));
    for negotiation in negotiations {
        let peer = bed.wait("the negotiation", negotiation)??;
        check(peer.private == b"selftest", || "the private data is not what was said".into())?;
    }
    for (end, region) in ends.into_iter().zip(&regions) {
        for at in (0..length).step_by(MESSAGE_SIZE) {
            bed.wait("a send", end.start_send_registered(region, at..at + MESSAGE_SIZE))??;
        }
    }
    for receive in receives.into_iter().flatten() {
        let came = bed.wait("a receive", receive)??;
        check(came == MESSAGE_SIZE, || format!("a message of {MESSAGE_SIZE} bytes has come as {came}"))?;
    }
    for (region, seed) in regions.iter().zip([4, 3]) {
        let (came, sent) = (Sha256::digest(region.read(length..2 * length)?), Sha256::digest(pattern(seed, length)));
        check(came == sent, || "the SHA-256 sums differ".into())?;
    }
    for disconnect in ends.map(|end| end.start_disconnect(Disconnect::Graceful)) {
        match bed.wait("a disconnect", disconnect)? {
            // The other end was quicker.
            Err(error) if error.status() == NtStatus::GRACEFUL_DISCONNECT => {}
            ended => ended?,
        }
    }
    Ok(format!("{MESSAGES} messages of {MESSAGE_SIZE} bytes each way, SHA-256 compared"))
}

fn memory(bed: &Bed<'_>) -> Outcome {
    let (connector, _acceptor) = connected(bed)?;
    let length = 1 << 20;
    let region = connector.register(Memory::new(length), MemoryRights::BOTH)?;
    let state = region.query()?;
    check(state.length == length as u64, || format!("{} bytes are registered, not {length}", state.length))?;
    let pinned = connector.statistics()?.pinned_bytes;
    check(pinned == length as u64, || format!("the endpoint holds {pinned} bytes, not {length}"))?;
    bed.wait("the deregistration", region.start_deregister())??;
    let ended = region.wait_for_end(bed.patience);
    check(ended == Some(NtStatus::SUCCESS), || format!("the registration has ended with {ended:?}"))?;
    let pinned = connector.statistics()?.pinned_bytes;
    check(pinned == 0, || format!("the endpoint still holds {pinned} bytes"))?;
    Ok(format!("{} MiB", length >> 20))
}

fn backlog_full(bed: &Bed<'_>) -> Outcome {
    let (listener, address) = listening(bed, 1)?;
    let arrived = bed.provider.create_event()?;
    listener.event_select(Some(&*arrived), NetworkEvents::ACCEPT)?;
    let (_waiting, first) = connecting(bed, address)?;
    check(arrived.wait(bed.patience), || "the first connection has not come".into())?;
    let (_refused, second) = connecting(bed, address)?;
    let refused = bed.wait("the second connect", second)?;
    fails_with("the second connect", refused, NtStatus::CONNECTION_REFUSED)?;
    let accepted = arrival(bed, &listener)?.accept()?;
    bed.wait("the first connect", first)??;
    drop(accepted);
    Ok("WSAECONNREFUSED (10061)".into())
}

fn rejected(bed: &Bed<'_>) -> Outcome {
    let (listener, address) = listening(bed, 1)?;
    let (_connector, connect) = connecting(bed, address)?;
    arrival(bed, &listener)?.reject()?;
    fails_with("the connect", bed.wait("the connect", connect)?, NtStatus::CONNECTION_REFUSED)?;
    Ok("WSAECONNREFUSED (10061)".into())
}

fn connect_cancelled(bed: &Bed<'_>) -> Outcome {
    let (_listener, address) = listening(bed, 1)?;
    let (_connector, connect) = connecting(bed, address)?;
    check(connect.status_within(MOMENT).is_none(), || "a connect has ended, and nobody has accepted".into())?;
    connect.cancel();
    fails_with("the connect", bed.wait("a cancelled connect", connect)?, NtStatus::CANCELLED)?;
    Ok("WSA_OPERATION_ABORTED (995)".into())
}

fn nothing_left(bed: &Bed<'_>) -> Outcome {
    let deadline = Instant::now() + bed.patience;
    loop {
        let now = bed.provider.status()?.endpoints;
        if now <= bed.endpoints {
            return Ok(format!("{now} endpoints, as before"));
        }
        if Instant::now() >= deadline {
            let hint = Some("if other programs use the driver, these may be theirs: sanctl top shows whose they are");
            return Err(Wrong { what: format!("{now} endpoints, and {} before", bed.endpoints), hint });
        }
        thread::sleep(MOMENT);
    }
}
