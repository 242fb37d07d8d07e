//! Every point of the paths through the driver: what may fail there does fail, and what may end there does end.

#[path = "../scenarios/support.rs"]
#[allow(dead_code)] // shared with the scenarios, which use all of it
mod support;

/// Hands the names of all paths to a macro.
macro_rules! for_each_path {
    ($macro:ident) => {
        $macro! {
            asking routes stream stream_of_ipv6 stream_failures stream_cancelled session session_of_ipv6 san_refusals
            san_events san_cancelled san_silence
        }
    };
}

mod exhaustion;
mod meeting;
mod paths;
mod seeds;
mod teardown;
mod world;
