//! Counters and limits: exact, of device, handle and endpoint, also under load.

use crate::input::raw;
use crate::san::support::{Receiver, bed, builder, connected_to, listening as san_listening, negotiated, session};
use crate::support::{Bed, PATIENCE, closed_port, connected, eventually, host_connect, listening, pattern, status};
use san_protocol::{ALL_HANDLES, ControlCode, DeviceStatistics, HandleEntry, HandlesReply, HandlesRequest, Header};
use san_proxy::{
    AddressFamily, DeviceRequest, EndpointInfo, EndpointScope, Memory, MemoryRights, NtStatus, Pending, Provider,
    Receive, SanEndpoint, StreamConnection,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use test_harness::device::HarnessDevice;
use test_harness::nt::registry::Value;
use zerocopy::{FromBytes, IntoBytes};

fn statistics(provider: &Provider) -> DeviceStatistics {
    provider.statistics().expect("statistics")
}

fn entry(provider: &Provider, id: u64) -> EndpointInfo {
    let listed = provider.endpoints(EndpointScope::OwnHandle).expect("a list");
    *listed.iter().find(|one| one.id == id).expect("it is there")
}

/// What one thread does: sends and their bytes.
fn load(thread: usize) -> (usize, usize) {
    (40 + 7 * thread, 100 + 913 * thread)
}

/// Sends of a handle's streams, their bytes, receives, their bytes.
fn streams_of(handle: &HandleEntry) -> [u64; 4] {
    [handle.stream_sends, handle.stream_bytes_sent, handle.stream_receives, handle.stream_bytes_received]
}

/// Messages that a handle's SAN endpoints have sent, their bytes, messages received, their bytes.
fn messages_of(handle: &HandleEntry) -> [u64; 4] {
    [handle.messages_sent, handle.bytes_sent, handle.messages_received, handle.bytes_received]
}

#[test]
fn totals_are_the_sums_of_what_many_threads_did() {
    const THREADS: usize = 4;
    let bed = bed();
    let provider = bed.open();
    let (stream_listener, stream_address) = listening(&provider, 16);
    let (san_listener, san_address) = san_listening(&provider, 16);
    let streams: Vec<_> = (0..THREADS)
        .map(|_| {
            let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
            let accept = stream_listener.start_accept();
            connection.connect(stream_address, Some(PATIENCE)).expect("connects");
            (connection, accept.wait().expect("accepts").connection)
        })
        .collect();
    let sessions: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (connector, acceptor) = connected_to(&provider, &san_listener, san_address);
            negotiated(connector, acceptor, 4, load(thread).1)
        })
        .collect();
    thread::scope(|scope| {
        for (thread, (sender, receiver)) in streams.iter().enumerate() {
            let (count, length) = load(thread);
            scope.spawn(move || {
                for number in 0..count {
                    sender.send(&pattern(number as u64, length)).expect("sends");
                }
            });
            scope.spawn(move || {
                for number in 0..count {
                    let transfer = receiver.start_receive(vec![0; length], Receive::All).wait();
                    assert_eq!(transfer.result.expect("receives"), length);
                    assert_eq!(transfer.buffer, pattern(number as u64, length));
                }
            });
        }
    });
    let sessions: Vec<(Receiver, Receiver)> = thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(thread, (sender, mut receiver))| {
                let (count, length) = load(thread);
                scope.spawn(move || {
                    let sends: Vec<_> =
                        (0..count).map(|number| sender.endpoint.start_send(pattern(number as u64, length))).collect();
                    for number in 0..count {
                        assert_eq!(receiver.next(number % 4), pattern(number as u64, length));
                    }
                    for send in sends {
                        send.wait().result.expect("it has gone");
                    }
                    (sender, receiver)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let messages: u64 = (0..THREADS).map(|thread| load(thread).0 as u64).sum();
    let bytes: u64 = (0..THREADS).map(|thread| (load(thread).0 * load(thread).1) as u64).sum();
    let now = statistics(&provider);
    let both_ways = [messages, bytes, messages, bytes];
    assert_eq!([now.stream_sends, now.stream_bytes_sent, now.stream_receives, now.stream_bytes_received], both_ways);
    assert_eq!([now.messages_sent, now.bytes_sent, now.messages_received, now.bytes_received], both_ways);
    let all = THREADS as u64;
    assert_eq!((now.stream_connects, now.stream_accepts, now.connects, now.accepts), (all, all, all, all));
    assert_eq!((now.stream_connect_failures, now.connect_failures, now.limits_hit), (0, 0, 0));
    assert_eq!((now.stream_connections, now.stream_listeners, now.san_endpoints, now.handles), (8, 1, 9, 1));
    let handle = provider.handle().expect("the handle");
    assert_eq!((streams_of(&handle), messages_of(&handle)), (both_ways, both_ways));
    assert_eq!((handle.endpoints, handle.regions, handle.pinned_bytes), (18, now.regions, now.pinned_bytes));
    // And each endpoint has its share.
    for (thread, ((stream, accepted), (session, acceptor))) in streams.iter().zip(&sessions).enumerate() {
        let (count, length) = load(thread);
        let (count, bytes) = (count as u64, (count * length) as u64);
        for id in [stream.id(), session.endpoint.id()] {
            let sender = entry(&provider, id);
            assert_eq!((sender.messages_sent, sender.bytes_sent), (count, bytes));
            assert_eq!((sender.messages_received, sender.bytes_received), (0, 0));
        }
        for id in [accepted.id(), acceptor.endpoint.id()] {
            let receiver = entry(&provider, id);
            assert_eq!((receiver.messages_received, receiver.bytes_received), (count, bytes));
            assert_eq!((receiver.messages_sent, receiver.bytes_sent), (0, 0));
        }
    }
    drop((streams, sessions, stream_listener, san_listener));
    eventually("nothing is left", || {
        let now = statistics(&provider);
        (now.stream_connections, now.stream_listeners, now.san_endpoints) == (0, 0, 0)
    });
    assert_eq!(statistics(&provider).stream_sends, messages, "what has happened stays counted");
    let handle = provider.handle().expect("the handle");
    assert_eq!(
        (handle.stream_sends, handle.messages_received),
        (messages, messages),
        "of endpoints that are closed, too"
    );
    assert_eq!((handle.endpoints, handle.regions, handle.pinned_bytes), (0, 0, 0));
    drop(provider);
    bed.finish();
}

/// What one handle has done: SAN messages and their bytes, sends of streams and their bytes.
type Done = [u64; 4];

/// A program of its own: a session and a stream with itself, made anew and used in each round, and kept after the last.
fn works(bed: &Bed, thread: usize, watched: &AtomicBool) -> (u64, Done) {
    let process = bed.process_of(true, false);
    let provider = Provider::new(Arc::new(HarnessDevice::open(&process).expect("opens")));
    let (count, length) = load(thread);
    let mut done: Done = [0; 4];
    for round in 1..=4 {
        let (connector, mut acceptor) = session(&provider, 4, length);
        let (listener, address) = listening(&provider, 1);
        let stream = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
        let accept = listener.start_accept();
        stream.connect(address, Some(PATIENCE)).expect("connects");
        let accepted = accept.wait().expect("accepts").connection;
        for number in 0..count {
            connector.endpoint.send(&pattern(number as u64, length)).expect("sends");
            acceptor.next(number % 4);
            stream.send(&[7; 3]).expect("sends");
            assert_eq!(accepted.start_receive(vec![0; 3], Receive::All).wait().result.expect("receives"), 3);
        }
        let (count, length) = (count as u64, length as u64);
        done = [round * count, round * count * length, round * count, round * count * 3];
        // A number of what is over is there to be seen, by whoever asks.
        let own = provider.handle().expect("the handle");
        let [messages, bytes, sends, stream_bytes] = done;
        assert_eq!(messages_of(&own), [messages, bytes, messages, bytes]);
        assert_eq!(streams_of(&own), [sends, stream_bytes, sends, stream_bytes]);
        assert_eq!((own.endpoints, own.regions), (5, 2));
    }
    let id = provider.handle().expect("the handle").handle;
    while !watched.load(Ordering::Acquire) {
        thread::yield_now();
    }
    drop(provider);
    drop(process);
    (id, done)
}

#[test]
fn each_handle_has_what_its_own_process_did_and_the_device_has_the_sum() {
    const THREADS: usize = 4;
    let bed = bed();
    let observer = bed.open();
    let watched = AtomicBool::new(false);
    let in_use = |entry: &&HandleEntry| entry.stream_sends > 0;
    let (listed, done): (Vec<HandleEntry>, Vec<(u64, Done)>) = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let (bed, watched) = (&bed, &watched);
                    move || works(bed, thread, watched)
                })
            })
            .collect();
        let all: u64 = (0..THREADS).map(|thread| 4 * load(thread).0 as u64).sum();
        // Meanwhile others come and go, and whoever asks sees every handle at most once.
        let mut listed = Vec::new();
        eventually("all have done their work", || {
            drop(bed.open());
            listed = observer.handles().expect("a list");
            let ids: BTreeSet<_> = listed.iter().map(|entry| entry.handle).collect();
            assert_eq!(ids.len(), listed.len());
            listed.iter().map(|entry| entry.stream_receives).sum::<u64>() == all
        });
        watched.store(true, Ordering::Release);
        (listed, threads.into_iter().map(|thread| thread.join().expect("no panic")).collect())
    });
    let numbers = |entry: &HandleEntry| {
        (entry.handle, [entry.messages_sent, entry.bytes_sent, entry.stream_sends, entry.stream_bytes_sent])
    };
    let seen: BTreeMap<_, _> = listed.iter().filter(in_use).map(numbers).collect();
    assert_eq!(seen, done.iter().copied().collect());
    let processes: BTreeSet<_> = listed.iter().filter(in_use).map(|entry| entry.process).collect();
    assert_eq!(processes.len(), THREADS, "each handle is its own process'");
    let sum = |number: usize| done.iter().map(|(_, done)| done[number]).sum::<u64>();
    let now = statistics(&observer);
    assert_eq!(
        [now.messages_sent, now.bytes_sent, now.stream_sends, now.stream_bytes_sent],
        [sum(0), sum(1), sum(2), sum(3)]
    );
    assert_eq!(observer.handles().expect("a list").len(), 1, "a closed handle is not listed");
    drop(observer);
    bed.finish();
}

#[test]
fn handles_come_page_by_page_and_those_of_others_to_administrators_alone() {
    let bed = Bed::with(builder().parameter("sanwsk", "AllowUsers", Value::Number(1)));
    let providers: Vec<_> = (0..40).map(|_| bed.open()).collect();
    let process = bed.process_of(false, false);
    let user = Provider::new(Arc::new(HarnessDevice::open(&process).expect("users may")));
    let own = user.handle().expect("a handle may ask for itself");
    assert_eq!((own.process, own.endpoints), (process.id() as u64, 0));
    assert_eq!(status(user.handles()), NtStatus::PRIVILEGE_NOT_HELD);
    let all: BTreeSet<_> = providers[0].handles().expect("a list").iter().map(|entry| entry.handle).collect();
    assert!(all.len() == providers.len() + 1 && all.contains(&own.handle));
    let entry = size_of::<HandleEntry>();
    let page = |flags: u32, position: u64, room: usize| {
        let input = HandlesRequest { header: Header::new(flags), position };
        let (status, buffer) = raw_output(&providers[0], ControlCode::QueryHandles, input.as_bytes(), 16 + room);
        let (head, rest) = HandlesReply::read_from_prefix(&buffer).expect("a head");
        let entries = rest.chunks_exact(entry).map(|bytes| HandleEntry::read_from_bytes(bytes).expect("an entry"));
        let ids: Vec<_> = entries.map(|entry| entry.handle).collect();
        assert_eq!((ids.len(), rest.len() % entry), (head.count as usize, 0));
        (status, head.next, ids)
    };
    for room in [1, 7, 40, 41] {
        let (mut seen, mut position) = (Vec::new(), 0);
        loop {
            let (status, next, ids) = page(ALL_HANDLES, position, room * entry);
            seen.extend(ids);
            if status == NtStatus::SUCCESS {
                assert_eq!(next, 0);
                break;
            }
            assert!(status == NtStatus::BUFFER_OVERFLOW && next > position, "it gets on");
            position = next;
        }
        assert!(seen.len() == all.len() && seen.into_iter().collect::<BTreeSet<_>>() == all, "{room} a page");
    }
    assert_eq!(page(ALL_HANDLES, 0, entry - 1), (NtStatus::BUFFER_OVERFLOW, 0, vec![]));
    assert_eq!(page(0, 0, entry - 1), (NtStatus::BUFFER_OVERFLOW, 0, vec![]));
    // A position that nobody has given is somewhere, or nowhere.
    for bit in 0..64 {
        for position in [1 << bit, u64::MAX << bit, !(u64::MAX << bit)] {
            for flags in [0, ALL_HANDLES] {
                let (status, _, ids) = page(flags, position, 100 * entry);
                assert!(status == NtStatus::SUCCESS && ids.iter().all(|id| all.contains(id)));
            }
        }
    }
    for bits in 1..32 {
        let input = HandlesRequest { header: Header::new(1 << bits), position: 0 };
        assert_eq!(raw(&user, ControlCode::QueryHandles.value(), input.as_bytes(), 16).0, NtStatus::INVALID_PARAMETER);
    }
    drop((providers, user, process));
    bed.finish();
}

/// Issues a request, and gives what was written.
fn raw_output(provider: &Provider, code: ControlCode, input: &[u8], room: usize) -> (NtStatus, Vec<u8>) {
    let request = DeviceRequest::new(code, input, vec![0; room]);
    Pending::start(provider.device(), request, |mut done| {
        done.buffer.truncate(done.information);
        (done.status, done.buffer)
    })
    .wait()
}

#[test]
fn streams_connects_failures_and_refusals_are_counted_and_their_ends_are_not() {
    let bed = Bed::new();
    let provider = bed.open();
    let refused = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(status(refused.connect(closed_port(), Some(PATIENCE))), NtStatus::CONNECTION_REFUSED);
    let now = statistics(&provider);
    assert_eq!((now.stream_connects, now.stream_connect_failures), (0, 1));
    let (connection, peer) = connected(&provider);
    assert_eq!(status(connection.connect(closed_port(), None)), NtStatus::CONNECTION_ACTIVE);
    let now = statistics(&provider);
    assert_eq!((now.stream_connects, now.stream_connect_failures), (1, 1), "what was not tried has not failed");
    drop(peer);
    let end = connection.start_receive(vec![0; 8], Receive::Some).wait();
    assert_eq!(end.result.expect("the end"), 0);
    let now = statistics(&provider);
    assert_eq!((now.stream_receives, now.stream_bytes_received, now.stream_sends), (0, 0, 0));
    let (listener, address) = listening(&provider, 1);
    let waiting = host_connect(address);
    let accepted = listener.accept().expect("waits");
    let waits = host_connect(address);
    eventually("it waits", || entry(&provider, listener.id()).backlog == 1);
    let turned_away = std::net::TcpStream::connect_timeout(&address, PATIENCE);
    eventually("it is turned away", || statistics(&provider).stream_refused_backlog >= 1);
    assert_eq!(statistics(&provider).stream_accepts, 1);
    drop((refused, connection, listener, waiting, accepted, waits, turned_away, provider));
    bed.finish();
}

#[test]
fn limits_are_told_as_they_are_in_force_and_counted_when_they_are_hit() {
    let parameters = [
        ("MaxEndpointsPerHandle", 3),
        ("MaxEndpoints", 4),
        ("MaxBacklog", 0),
        ("MaxRegionsPerHandle", 2),
        ("MaxPinnedMiB", 3),
        ("MaxPinnedMiBPerHandle", 2),
        ("MaxMessageSize", 5000),
        ("MaxHandshakes", 9),
        ("HandshakeTimeout", 1234),
        ("ConnectTimeout", u32::MAX),
        ("MaxRoutes", 7),
    ];
    let builder = parameters
        .iter()
        .fold(builder(), |builder, (name, value)| builder.parameter("sanwsk", name, Value::Number(*value)));
    let bed = Bed::with(builder);
    let provider = bed.open();
    let limits = provider.limits().expect("limits");
    assert_eq!((limits.endpoints, limits.endpoints_per_handle, limits.backlog), (4, 3, 1));
    assert_eq!((limits.regions, limits.regions_per_handle), (65536, 2));
    assert_eq!((limits.pinned_bytes, limits.pinned_bytes_per_handle), (3 << 20, 2 << 20));
    assert_eq!((limits.message_size, limits.handshakes, limits.routes, limits.routes_used), (5000, 9, 7, 0));
    assert_eq!((limits.handshake_timeout, limits.connect_timeout, limits.allow_users), (1234, 600_000, 0));
    assert_ne!(limits.native_port, 28057, "the bed has chosen another");

    let (listener, address) = san_listening(&provider, 1);
    let (connector, acceptor) = connected_to(&provider, &listener, address);
    let hits = |expected| assert_eq!(statistics(&provider).limits_hit, expected);
    hits(0);
    let create = |provider: &Provider| SanEndpoint::create(provider, AddressFamily::INET);
    assert_eq!(status(create(&provider)), NtStatus::TOO_MANY_OPENED_FILES);
    hits(1);
    let other = bed.open();
    let last = create(&other).expect("one of another handle");
    assert_eq!(status(create(&other)), NtStatus::TOO_MANY_OPENED_FILES, "of all handles");
    hits(2);
    let regions: Vec<_> =
        (0..2).map(|_| connector.register(Memory::new(16), MemoryRights::BOTH).expect("registers")).collect();
    let register = |length| status(connector.register(Memory::new(length), MemoryRights::BOTH).map(drop));
    assert_eq!(register(16), NtStatus::INSUFFICIENT_RESOURCES);
    hits(3);
    drop(regions);
    assert_eq!(register((2 << 20) + 1), NtStatus::INSUFFICIENT_RESOURCES);
    hits(4);
    assert_eq!(statistics(&provider).handles, 2);
    drop((listener, connector, acceptor, last, other));
    eventually("the other handle is closed", || statistics(&provider).handles == 1);
    drop(provider);
    bed.finish();
}
