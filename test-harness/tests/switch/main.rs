//! The switch against the real `sanwsk.sys`, through the harness.

#[path = "../scenarios/support.rs"]
#[allow(dead_code)] // shared with the scenarios, which use all of it
mod support;

mod bed;
mod both_sides;
mod echo;
mod ends;
mod fallback;
mod plain_tcp;
mod streams;
