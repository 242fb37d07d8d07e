//! Memory that runs out: on every path, each allocation and each call that may be refused is refused in turn.

use crate::paths::{self, Path};
use crate::world::World;
use san_protocol::ControlCode;
use san_proxy::{Error, Operation, WsaError};

/// A refusal here is no proof that TCP/IP would fail too.
const CERTAIN: [WsaError; 3] = [WsaError::WSAECONNRESET, WsaError::WSAECONNREFUSED, WsaError::WSAEHOSTUNREACH];

/// Lets everything on the path fail in turn, until the path needs no more. After each failure all is released, and the same path
/// works.
#[track_caller]
fn exhaust(name: &str, path: Path) {
    let world = World::new();
    let machine = &world.bed.machine;
    path(&world).unwrap_or_else(|error| panic!("{name}: {error}"));
    // The first time leaves what the driver keeps: its native listener.
    path(&world).unwrap_or_else(|error| panic!("{name}: {error}"));
    let at_rest = world.at_rest();
    let mut points = Vec::new();
    loop {
        let what = |call: &str| format!("{name}, failure {} ({call})", points.len());
        println!("{}", what("..."));
        machine.fail_allocation(u32::try_from(points.len()).expect("a few"));
        let result = path(&world);
        world.settle(&what("nothing has failed"), &at_rest);
        let Some(call) = machine.refused_call() else {
            machine.fail_no_allocation();
            result.unwrap_or_else(|error| panic!("{}: {error}", what("none")));
            break;
        };
        machine.fail_no_allocation();
        let what = what(call);
        if let Err(error) = result {
            check(&what, &error);
        }
        path(&world).unwrap_or_else(|error| panic!("{what}: afterwards {error}"));
        world.settle(&what, &at_rest);
        points.push(call);
    }
    println!("{name}: {} failures", points.len());
    assert!(!points.is_empty(), "{name} needs nothing");
    world.bed.finish();
}

/// Whether an error may come of a refusal inside the driver. A stream's connect is reset when the listener, at the other end of a TCP
/// connection that stands, has no memory for it.
fn check(what: &str, error: &Error) {
    if !what.starts_with("stream") && error.operation() == Operation::Request(ControlCode::Connect) {
        assert!(!CERTAIN.contains(&error.wsa_error()), "{what}: {error} claims that TCP/IP would fail too");
    }
}

macro_rules! exhaust {
    ($($path:ident)*) => {
        $(
            #[test]
            fn $path() {
                exhaust(stringify!($path), paths::$path);
            }
        )*

        /// Nothing that can be asked of the driver is left out.
        #[test]
        fn the_paths_ask_for_everything() {
            let world = World::new();
            $(paths::$path(&world).expect(stringify!($path));)*
            let seen = world.bed.watch.codes();
            let missing: Vec<_> = ControlCode::ALL.iter().filter(|code| !seen.contains(&code.value())).collect();
            assert!(missing.is_empty(), "no path asks for {missing:?}");
            world.bed.finish();
        }
    };
}

for_each_path!(exhaust);
