//! Every point of the paths through the driver: what may fail there does fail, and what may end there does end.

#[path = "../scenarios/support.rs"]
#[allow(dead_code)] // shared with the scenarios, which use all of it
mod support;

mod documented;
mod exhaustion;
mod meeting;
mod paths;
mod world;
