//! `tests/drivers/kernel_endings.c`: operations that are cancelled, that begin again in their completions, and that are counted.

use crate::Clients;
use crate::support::{Bed, builder};

fn clients() -> Clients {
    Clients::of("kernel_endings", Bed::with(builder()))
}

#[test]
fn every_operation_of_a_stream_may_be_cancelled() {
    let clients = clients();
    clients.act("cancels_what_streams_do");
    clients.finish();
}

#[test]
fn every_operation_of_a_session_may_be_cancelled() {
    let clients = clients();
    clients.act("cancels_what_sessions_do");
    clients.finish();
}

/// Thousands of times: not one inside the other, for the stack has an end.
#[test]
fn an_operation_begins_again_in_its_own_completion() {
    let clients = clients();
    clients.act("begins_again_in_a_completion");
    clients.finish();
}

#[test]
fn operations_allocate_nothing() {
    let clients = clients();
    clients.act("stands");
    let allocations = |behaviour| {
        let before = clients.bed.machine.stats().pool_allocations;
        clients.act(behaviour);
        clients.bed.machine.stats().pool_allocations - before
    };
    // Of the first times some is kept for later.
    allocations("operates_two_hundred_times");
    let (few, many) = (allocations("operates_ten_times"), allocations("operates_two_hundred_times"));
    // Asking for them allocates, the same each time; what else the machine does meanwhile may, too.
    assert!(many < few + 50, "{many} allocations in two hundred rounds, {few} in ten");
    clients.act("falls");
    clients.finish();
}

#[test]
fn the_interface_is_had_as_an_io_target_asks_for_it() {
    let clients = clients();
    clients.act("asks_as_an_io_target_does");
    clients.finish();
}
