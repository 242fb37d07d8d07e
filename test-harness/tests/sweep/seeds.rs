//! Every path on a simulated network, by seeds: which thread goes on, when a segment comes and where it is cut.

use crate::paths::{self, Path};
use crate::support::image;
use crate::world::World;
use test_harness::simulation::{self, Schedule};

/// Seeds of a path in an ordinary run.
const COUNT: u64 = 12;
/// Set, this one alone.
const SEED: &str = "SIMULATION_SEED";
/// Set, so many.
const SEEDS: &str = "SIMULATION_SEEDS";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[track_caller]
fn simulate(name: &str, path: Path) {
    // Built before time is the simulation's.
    image();
    let seeds = number(SEED).map_or(1..=number(SEEDS).unwrap_or(COUNT), |seed| seed..=seed);
    for seed in seeds {
        let schedule = Schedule::of(seed);
        println!("{name}, seed {seed}: {schedule:?}");
        let ((), record) = simulation::run(seed, schedule, || {
            let world = World::new();
            path(&world).unwrap_or_else(|error| panic!("{name}: {error}"));
            // The first time leaves what the driver keeps: its native listener.
            let at_rest = world.at_rest();
            path(&world).unwrap_or_else(|error| panic!("{name}, again: {error}"));
            world.settle(name, &at_rest);
            world.bed.finish();
        });
        println!("{name}, seed {seed}: {} kernel calls in {:?}", record.steps.len(), record.time);
    }
}

macro_rules! simulate {
    ($($path:ident)*) => {
        $(
            #[test]
            fn $path() {
                simulate(stringify!($path), paths::$path);
            }
        )*
    };
}

for_each_path!(simulate);
