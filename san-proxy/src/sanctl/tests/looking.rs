//! `status`, `top` and `selftest`.

use super::*;
use crate::{AddressFamily, Backlog, StreamConnection, StreamListener};

#[test]
fn status_shows_a_table_and_as_much_as_json() {
    let (provider, _) = FakeDevice::provider();
    let output = sanctl_with(&["status"], Ok(provider.clone()), io::empty()).done();
    let begin = "\
Driver        1.2.3
Protocol      1
WSK provider  ready, WSK 1.0, STATUS_SUCCESS (0x00000000)
Endpoints     0 of ";
    assert!(output.starts_with(begin), "{output}");
    for line in [
        "\nSAN           the native ones (no routes); 0 of ",
        "\nRegistered    0 B of ",
        "\nSAN so far    0 connects (0 failed)",
        "\nStreams       0 connects",
    ] {
        assert!(output.contains(line), "{output}");
    }
    sanctl_with(&["route", "add", "10.77.0.0/16", "127.0.0.0/16"], Ok(provider.clone()), io::empty()).done();
    let value = sanctl_with(&["status", "--json"], Ok(provider.clone()), io::empty()).json();
    assert_eq!((&value["driver"], &value["addresses"][0]), (&"1.2.3".into(), &"10.77.0.1".into()));
    let limits = provider.limits().unwrap();
    assert_eq!(value["limits"]["MaxRoutes"], limits.routes);
    assert_eq!(value["counters"]["san"]["connects"], 0);
}

#[test]
fn top_shows_who_there_is() {
    let (provider, device) = FakeDevice::provider();
    let once = ["top", "--once", "--interval", "0.01"];
    let on = |arguments: &[&str]| sanctl_with(arguments, Ok(provider.clone()), io::empty());
    assert_eq!(on(&once).done(), "0 endpoints, 0 B/s sent, 0 B/s received\n");
    let listener = StreamListener::create(&provider, AddressFamily::INET).unwrap();
    listener.bind("127.0.0.1:80".parse().unwrap()).unwrap();
    listener.listen(Backlog(3)).unwrap();
    let connector = StreamConnection::create(&provider, AddressFamily::INET).unwrap();
    connector.connect("127.0.0.1:80".parse().unwrap(), None).unwrap();
    let output = on(&once).done();
    assert!(output.starts_with("3 endpoints, 0 B/s sent, 0 B/s received\nkind     state "), "{output}");
    assert!(output.contains("\nlistener ") && output.contains("  127.0.0.1:80 "), "{output}");
    assert!(output.contains("\n\nprocess endpoints ") && output.contains("\n   4711         3       0 "), "{output}");
    let lines = on(&["top", "--json", "--count", "2", "--interval", "0.01"]).done();
    let values: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 2);
    assert!(values.iter().all(|value| value["endpoints"].as_array().unwrap().len() == 3), "{lines}");
    assert!(values.iter().all(|value| value["handles"][0]["endpoints"] == 3), "{lines}");
    device.make_ordinary();
    let errors = on(&once).failed();
    assert!(errors.contains("STATUS_PRIVILEGE_NOT_HELD") && errors.contains("administrator"), "{errors}");
}

#[test]
fn top_redraws_on_a_terminal_alone() {
    let (provider, _) = FakeDevice::provider();
    for (output, json, clears) in [(true, None, 2), (false, None, 0), (true, Some("--json"), 0)] {
        let arguments: Vec<_> = ["top", "-n", "2", "--interval", "0.001"].into_iter().chain(json).collect();
        let terminals = Terminals { output, errors: false };
        let shown = Running::start(&arguments, Ok(provider.clone()), io::empty(), terminals).end().done();
        assert_eq!(shown.matches("\x1b[H\x1b[J").count(), clears, "{shown:?}");
    }
}

#[test]
fn selftest_needs_a_san_address_of_this_machine() {
    let (provider, _) = FakeDevice::provider();
    sanctl_with(&["route", "add", "10.77.0.0/16", "192.0.2.0/32"], Ok(provider.clone()), io::empty()).failed();
    sanctl_with(&["route", "add", "10.77.0.0/32", "192.0.2.0/32"], Ok(provider.clone()), io::empty()).done();
    let errors = sanctl_with(&["selftest"], Ok(provider), io::empty()).failed();
    let expected = "sanctl: no route of the driver holds an address of this machine\nhint: see sanctl route list; give the SAN address";
    assert!(errors.starts_with(expected), "{errors}");
}

/// The device for tests lets as many wait as come, and tells nobody when a listener goes: the checks find both.
#[test]
fn selftest_names_the_checks_that_fail() {
    let ran = sanctl(&["selftest", "--json", "--timeout", "0.5"]);
    let value: serde_json::Value = serde_json::from_str(&ran.output).unwrap();
    let failed = ["full SAN backlog refuses", "no endpoint is left"];
    for check in value["checks"].as_array().unwrap() {
        let name = check["check"].as_str().unwrap();
        assert_eq!(check["passed"].as_bool().unwrap(), !failed.contains(&name), "{check}");
    }
    assert_eq!((&value["passed"], &value["failed"]), (&9.into(), &2.into()));
    let errors = ran.failed();
    assert!(
        errors.starts_with("sanctl: 2 of 11 checks failed: full SAN backlog refuses; no endpoint is left\nhint: "),
        "{errors}"
    );
}
