//! The end in the middle: on every path, at every call that the driver makes, everything is cancelled, the handle is closed, the
//! process ends, or the driver is to be unloaded, while the thread that made the call is off the processor.

use crate::paths::{self, Path};
use crate::support::PATIENCE;
use crate::world::World;
use std::sync::Arc;
use std::thread;

/// Calls of a path at which each end is tried in an ordinary run; which ones, the seed decides.
const SAMPLES: u64 = 12;

/// Names the calls that are tried. Set, it takes them in turn from this one on.
const SEED: &str = "SANWSK_SWEEP_SEED";
/// Set, every call is tried.
const ALL: &str = "SANWSK_SWEEP_ALL";

#[derive(Clone, Copy, Debug)]
enum End {
    /// CancelIoEx for all requests of the handle.
    Cancel,
    /// The handle is closed.
    Close,
    /// The process is killed.
    Exit,
    /// The driver is stopped: it goes with its last handle.
    Unload,
}

const ENDS: [End; 4] = [End::Cancel, End::Close, End::Exit, End::Unload];

/// How far apart the calls are that are tried, and the first of them.
fn samples(calls: u64) -> (u64, usize) {
    if std::env::var_os(ALL).is_some() {
        return (0, 1);
    }
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed =
        given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |time| u64::from(time.subsec_micros())));
    let stride = calls.div_ceil(SAMPLES).max(1);
    println!("{SEED}={seed} chooses the same calls again");
    (seed % stride, usize::try_from(stride).expect("a few"))
}

/// Ends the path at many of its calls, in every way. Afterwards nothing is left, and the path works.
#[track_caller]
fn tear_down(name: &str, path: Path) {
    let mut world = World::new();
    let mut tried = 0;
    for _ in 0..2 {
        path(&world).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let before = world.bed.machine.calls();
    path(&world).unwrap_or_else(|error| panic!("{name}: {error}"));
    let calls = world.bed.machine.calls() - before;
    let at_rest = world.at_rest();
    let (first, stride) = samples(calls);
    for end in ENDS {
        for call in (first..calls).step_by(stride) {
            let what = format!("{name}, {end:?} at call {call} of {calls}");
            println!("{what}");
            world = end_at(world, path, end, call, &what);
            match end {
                End::Cancel | End::Close => {}
                End::Exit => world.new_process(),
                End::Unload => world.reload(),
            }
            path(&world).unwrap_or_else(|error| panic!("{what}: afterwards {error}"));
            world.settle(&what, &at_rest);
            tried += 1;
        }
    }
    println!("{name}: {tried} ends, at {calls} calls");
    world.bed.finish();
}

/// Runs the path, and ends it at a call. Which one that is depends on the schedule: it may be over before.
fn end_at(world: World, path: Path, end: End, call: u64, what: &str) -> World {
    let world = Arc::new(world);
    world.bed.machine.preempt(call);
    let other = thread::spawn({
        let world = world.clone();
        move || {
            if world.bed.machine.wait_preempted(PATIENCE).is_some() {
                bring_about(end, &world);
            }
            world.bed.machine.go_on();
        }
    });
    // It fails or not: it may be over already, or be done with what the end concerns.
    let _ = path(&world);
    world.bed.machine.go_on();
    other.join().unwrap_or_else(|_| panic!("{what}: the end fails"));
    world.end(false);
    world.check(what);
    Arc::into_inner(world).expect("the other thread has ended")
}

fn bring_about(end: End, world: &World) {
    match end {
        End::Cancel => world.bed.watch.devices().iter().for_each(|device| device.cancel_all()),
        End::Close => {
            world.bed.watch.devices().iter().for_each(|device| device.close());
            world.end(true);
        }
        End::Exit => {
            world.bed.process.exit();
            world.end(true);
        }
        // At once where the path has not opened the device yet, or has closed it.
        End::Unload => {
            let unloaded = world.bed.machine.unload(&world.bed.driver);
            assert!(unloaded.is_ok(), "{unloaded:?}: {:?}", world.bed.machine.violation());
        }
    }
}

macro_rules! tear_down {
    ($($path:ident)*) => {
        $(
            #[test]
            fn $path() {
                tear_down(stringify!($path), paths::$path);
            }
        )*
    };
}

for_each_path!(tear_down);
