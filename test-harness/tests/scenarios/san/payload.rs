//! Messages in registered memory: each lands in its slice, whole, and nowhere else.

use super::support::{bed, connected, outcome};
use crate::support::pattern;
use san_proxy::{Memory, MemoryRights, Region};

/// Fills all of a region.
fn fill(region: &Region, byte: u8) {
    region.with_bytes_mut(0..region.len(), |bytes| bytes.fill(byte)).expect("nobody uses it");
}

/// That a region holds `payload` at `offset`, and `byte` everywhere else.
#[track_caller]
fn holds_nothing_but(region: &Region, offset: usize, payload: &[u8], byte: u8) {
    let end = offset + payload.len();
    region
        .with_bytes(0..region.len(), |bytes| {
            assert!(bytes[offset..end] == *payload, "{} bytes at {offset} are as they were sent", payload.len());
            assert!(bytes[..offset].iter().all(|&other| other == byte), "nothing before {offset}");
            assert!(bytes[end..].iter().all(|&other| other == byte), "nothing behind {end}");
        })
        .expect("nobody uses it");
}

#[test]
fn a_message_is_written_where_it_belongs_and_nowhere_else() {
    const SIZE: usize = 300;
    let bed = bed();
    let (connector, acceptor) = connected(&bed.open());
    let size = u32::try_from(SIZE).expect("a size");
    let negotiate = connector.start_negotiate(b"", size);
    acceptor.negotiate(b"", size).expect("negotiates");
    outcome(negotiate).expect("negotiates");
    let region = acceptor.register(Memory::new(3 * 4096), MemoryRights::RECEIVE).expect("registers");
    let offsets = [0, 1, 15, 4095, 4096, 4097, 4096 - SIZE, 4096 - SIZE + 1, 8191, 3 * 4096 - SIZE];
    for (round, offset) in offsets.into_iter().enumerate() {
        for length in [1, 2, SIZE - 1, SIZE] {
            fill(&region, 0xEE);
            let message = pattern((round * 1000 + length) as u64, length);
            let receive = acceptor.start_receive(&region, offset..offset + SIZE);
            connector.send(&message).expect("sends");
            assert_eq!(outcome(receive).expect("a message"), length);
            holds_nothing_but(&region, offset, &message, 0xEE);
        }
    }
    drop((connector, acceptor, region));
    bed.finish();
}

#[test]
fn messages_of_every_length_arrive_whole_from_and_into_any_place() {
    const LONGEST: usize = 1 << 20;
    let bed = bed();
    let (connector, acceptor) = connected(&bed.open());
    let size = u32::try_from(LONGEST).expect("a size");
    let negotiate = connector.start_negotiate(b"", size);
    acceptor.negotiate(b"", size).expect("negotiates");
    outcome(negotiate).expect("negotiates");
    let rights = MemoryRights::BOTH;
    let source = connector.register(Memory::new(LONGEST + 8192), rights).expect("registers");
    let target = acceptor.register(Memory::new(LONGEST + 8192), rights).expect("registers");
    source.write(0, &pattern(1, LONGEST + 8192)).expect("nobody uses it");
    let around = [16, 4096, 8192, 65536, 131_072].into_iter().flat_map(|n| n - 1..=n + 1);
    let lengths = [1, 2, 3].into_iter().chain(around).chain([65536 - 4096, 65536 + 4096, LONGEST - 1, LONGEST]);
    let mut last = 0;
    for (round, length) in lengths.enumerate() {
        let from = [0, 1, 4095, 4096, 4097, 8191][round % 6];
        let into = [4095, 0, 8192, 1, 4097, 15, 4096][round % 7];
        let message = source.read(from..from + length).expect("nobody writes it");
        for registered in [true, false] {
            // What is left of the message before goes first.
            target.with_bytes_mut(into..into + last, |bytes| bytes.fill(0)).expect("free");
            fill_around(&target, into, length);
            let receive = acceptor.start_receive(&target, into..into + LONGEST);
            let sent = if registered {
                connector.send_registered(&source, from..from + length)
            } else {
                connector.send(&message)
            };
            assert_eq!(sent.expect("sends"), length);
            assert_eq!(outcome(receive).expect("a message"), length, "of {length} bytes");
            let arrived = target.with_bytes(into..into + length, |bytes| *bytes == *message);
            assert!(arrived.expect("free"), "{length} bytes from {from} into {into}, registered: {registered}");
            is_untouched_around(&target, into, length);
            last = length;
        }
    }
    drop((connector, acceptor, source, target));
    bed.finish();
}

/// Bytes around a place that are watched.
const AROUND: usize = 64;

/// Marks what lies around a place.
fn fill_around(region: &Region, offset: usize, length: usize) {
    let (before, behind) = around(region, offset, length);
    for place in [before, behind] {
        region.with_bytes_mut(place, |bytes| bytes.fill(0xEE)).expect("nobody uses it");
    }
}

#[track_caller]
fn is_untouched_around(region: &Region, offset: usize, length: usize) {
    let (before, behind) = around(region, offset, length);
    for place in [before, behind] {
        let untouched = region.with_bytes(place, |bytes| bytes.iter().all(|&byte| byte == 0xEE));
        assert!(untouched.expect("nobody uses it"), "{length} bytes at {offset}, and none around");
    }
}

fn around(region: &Region, offset: usize, length: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let end = offset + length;
    (offset.saturating_sub(AROUND)..offset, end..(end + AROUND).min(region.len()))
}

#[test]
fn slices_of_one_byte_are_filled_in_the_order_in_which_they_were_posted() {
    let bed = bed();
    let (connector, acceptor) = connected(&bed.open());
    let region = acceptor.register(Memory::new(4096 + 64), MemoryRights::RECEIVE).expect("registers");
    fill(&region, 0xEE);
    // Around a page's end, in no order of places.
    let places: Vec<usize> = (0..64).map(|n| 4064 + (n * 37) % 64).collect();
    let receives: Vec<_> = places.iter().map(|&at| acceptor.start_receive(&region, at..at + 1)).collect();
    let negotiate = connector.start_negotiate(b"", 1);
    acceptor.negotiate(b"", 1).expect("negotiates");
    assert_eq!(outcome(negotiate).expect("negotiates").receive_count, 64);
    for n in 0..64 {
        connector.send(&[n]).expect("sends");
    }
    for receive in receives {
        assert_eq!(outcome(receive).expect("a message"), 1);
    }
    for (n, &at) in places.iter().enumerate() {
        assert_eq!(region.read(at..at + 1).expect("free"), [u8::try_from(n).expect("64 at most")]);
    }
    for outside in [0..4064, 4128..4160] {
        assert!(region.with_bytes(outside, |bytes| bytes.iter().all(|&byte| byte == 0xEE)).expect("free"));
    }
    drop((connector, acceptor, region));
    bed.finish();
}
