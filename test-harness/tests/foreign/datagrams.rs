//! Datagram sockets, and the Network Module Registrar: `tests/drivers/wsk_datagrams.c`.

use driver_build::DriverModel;
use test_harness::{Machine, Rule};

use crate::bed;

#[test]
fn a_client_of_the_registrar_sends_and_receives_datagrams() {
    let image = bed::build("wsk_datagrams", DriverModel::Wdm);
    for behaviour in bed::behaviours("wsk_datagrams") {
        bed::succeeds(&image, &behaviour);
    }
    for (behaviour, rule, text) in [
        ("keep_datagrams_past_the_close", Rule::Wsk(25), "WskCloseSocket while the client keeps 1 indications"),
        ("leave_a_client_registered", Rule::Wsk(2), "1 WSK registrations"),
    ] {
        let violation = bed::run(&Machine::new(), &image, behaviour, true).expect_err(behaviour);
        assert_eq!(violation.rule, rule, "{violation}");
        assert!(violation.text.contains(text), "{violation}");
    }
}
