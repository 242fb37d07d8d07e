//! A seed replays exactly.

use std::sync::Arc;

use test_harness::network::simulated::{Link, Simulated};
use test_harness::simulation;

use crate::bed::{Host, connected, pattern, simulate};

/// Two machines, both directions of a connection in use, on a link that loses and cuts.
fn exchange(network: &Arc<Simulated>) {
    let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
    network.set_link(&first.attachment, &second.attachment, Link::SLOW);
    let (near, far) = (first.open(), second.open());
    let (client, server) = connected(&near, &second, &far);
    let there = simulation::start("server", move || {
        let received = server.receive_all(vec![0; 20_000]);
        assert_eq!(received.result.expect("receives"), 20_000);
        assert!(received.buffer == pattern(1, 20_000));
        server.send(&pattern(2, 5_000)).expect("sends");
        server
    });
    client.send(&pattern(1, 20_000)).expect("sends");
    let received = client.receive_all(vec![0; 5_000]);
    assert_eq!(received.result.expect("receives"), 5_000);
    assert!(received.buffer == pattern(2, 5_000));
    drop((there.join(), client, near, far));
    first.finish();
    second.finish();
}

#[test]
fn the_same_seed_makes_the_same_calls_in_the_same_order_and_other_seeds_do_not() {
    for seed in [7, 8] {
        replays([seed, seed, seed + 1, seed + 2]);
    }
}

fn replays(seeds: [u64; 4]) {
    let records: Vec<_> = seeds.into_iter().map(|seed| simulate(seed, exchange)).collect();
    let [first, again, other, third] = records.as_slice() else { panic!("four records") };
    let differs = first.steps.iter().zip(&again.steps).position(|(one, two)| one != two);
    if let Some(place) = differs {
        let around =
            |steps: &[simulation::Step]| format!("{:?}", &steps[place.saturating_sub(5)..(place + 3).min(steps.len())]);
        panic!("step {place} differs: {} and {}", around(&first.steps), around(&again.steps));
    }
    assert!(first == again);
    assert!(first.steps.len() > 500, "{} steps", first.steps.len());
    assert!(first.steps != other.steps && first.steps != third.steps && other.steps != third.steps);
    assert!(first.time != other.time);
}
