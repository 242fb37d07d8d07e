//! Machines on a simulated network, each with a loaded image of `sanwsk.sys` of its own, under one deterministic scheduler.
//!
//! Every test runs by seeds, which it prints: the same seed has the same threads, calls and segments in the same order, at the same
//! times. `SIMULATION_SEED=N` runs one, `SIMULATION_SEEDS=N` so many.
#![cfg(target_os = "linux")]

mod bed;
mod concurrency;
mod rates;
mod replay;
mod san_concurrency;
mod sessions;
mod streams;
