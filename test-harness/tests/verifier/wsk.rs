//! WSK, by the numbers of `docs/wsk-rules.md`.

use test_harness::Machine;
use test_harness::Rule::Wsk;
use test_harness::wsk::Completions;

use crate::bed::{self, Row};

faults! { "verifier_wsk",
    rule_1_free_the_client_dispatch_while_registered: Wsk(1), "ExFreePoolWithTag";
    rule_2_deregister_twice: Wsk(2), "WskDeregister";
    rule_3_wait_for_the_provider_at_dispatch_level: Wsk(3), "WskCaptureProviderNPI";
    rule_5_call_the_provider_after_its_release: Wsk(5), "WskSocket";
    rule_6_call_without_a_completion_routine: Wsk(6), "WskSocket";
    rule_6_use_an_irp_again_without_ioreuseirp: Wsk(6), "WskBind";
    rule_7_let_the_irp_go: Wsk(7), "IofCompleteRequest";
    rule_9_free_a_cancelled_irp_before_it_completes: Wsk(9), "IoFreeIrp";
    rule_10_call_from_completion_routines_without_a_bound: Wsk(10), "WskGetLocalAddress";
    rule_11_context_in_paged_pool: Wsk(11), "WskSocket";
    rule_11_reserved_flags: Wsk(11), "WskBind";
    rule_14_free_the_address_buffer_of_a_pending_accept: Wsk(14), "ExFreePoolWithTag";
    rule_16_a_descriptor_that_is_not_cached: Wsk(16), "WskSocket";
    rule_17_an_owner_that_is_no_process: Wsk(17), "WskSocket";
    rule_18_an_irp_for_a_client_control: Wsk(18), "WskControlClient";
    rule_20_enable_events_with_an_irp: Wsk(20), "WskControlSocket";
    rule_20_disable_two_events_at_once: Wsk(20), "WskControlSocket";
    rule_22_wait_in_a_callback: Wsk(22), "KeWaitForSingleObject";
    rule_25_receive_event_of_another_status: Wsk(25), "WskReceiveEvent";
    rule_25_close_with_a_kept_indication: Wsk(25), "WskCloseSocket";
    rule_26_read_an_address_after_its_callback: Wsk(26), "";
    rule_27_conditional_accept_without_an_inspect_event: Wsk(27), "WskControlSocket";
    rule_28_an_inspection_without_an_answer: Wsk(28), "WskInspectEvent";
    rule_29_send_memory_that_is_not_locked: Wsk(29), "WskSend";
    rule_29_unlock_memory_while_a_receive_is_pending: Wsk(29), "MmUnlockPages";
    rule_30_drain_into_a_buffer: Wsk(30), "WskReceive";
    rule_33_call_on_a_closed_socket: Wsk(33), "WskBind";
    rule_34_close_while_a_connect_is_pending: Wsk(34), "WskCloseSocket";
}

/// Which of 32 calls returned STATUS_PENDING.
fn pending(completions: Completions, seed: u64) -> u32 {
    let row = Row { driver: "verifier_wsk", behaviour: "print_what_pends", rule: Wsk(0), call: "" };
    let machine = Machine::new();
    machine.network().set_completions(completions, seed);
    if let Some(violation) = bed::run_on(&row, &machine, false) {
        panic!("seed {seed}: {violation}");
    }
    let printed = machine.debug_output();
    u32::from_str_radix(printed[0].trim(), 16).expect("a number")
}

#[test]
fn completions_are_inline_or_pending_as_a_seed_says() {
    assert_eq!(pending(Completions::Inline, 0), 0);
    assert_eq!(pending(Completions::Deferred, 0), u32::MAX);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..=8 {
        let calls = pending(Completions::Mixed, seed);
        println!("seed {seed}: {calls:032b}");
        assert_eq!(pending(Completions::Mixed, seed), calls, "a seed replays");
        assert!(calls != 0 && calls != u32::MAX, "seed {seed} has both");
        seen.insert(calls);
    }
    assert!(seen.len() > 1, "seeds differ");
}
