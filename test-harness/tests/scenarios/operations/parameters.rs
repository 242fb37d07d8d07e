//! The registry parameters: what `docs/limits.md` says of each is what is in force, whatever the registry holds.

use crate::san::support::builder;
use crate::support::{Bed, any, image, status};
use driver_build::workspace_root;
use san_protocol::{DeviceLimits, NtStatus, SOMAXCONN};
use san_proxy::{AddressFamily, Backlog, EndpointScope, StreamListener};
use std::collections::BTreeMap;
use test_harness::device::HarnessDevice;
use test_harness::nt::registry::Value;
use test_harness::{LoadError, Machine};

/// Default, least and most of the numbers on the page.
fn of_the_page() -> BTreeMap<String, [u32; 3]> {
    let page = std::fs::read_to_string(workspace_root().join("docs/limits.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | REG_DWORD | "));
    let number = |text: &str| text.trim().parse().expect("a number");
    rows.map(|(name, rest)| {
        let cells: Vec<_> = rest.split('|').collect();
        let (least, most) = cells[1].split_once('\u{2013}').expect("a range");
        (name.to_owned(), [number(cells[0]), number(least), number(most)])
    })
    .collect()
}

/// What is in force, by the registry's names.
fn in_force(limits: DeviceLimits) -> BTreeMap<String, u32> {
    let mib = |bytes: u64| u32::try_from(bytes >> 20).expect("as the registry has it");
    [
        ("AllowUsers", limits.allow_users),
        ("MaxEndpoints", limits.endpoints),
        ("MaxEndpointsPerHandle", limits.endpoints_per_handle),
        ("MaxBacklog", limits.backlog),
        ("MaxRegions", limits.regions),
        ("MaxRegionsPerHandle", limits.regions_per_handle),
        ("MaxPinnedMiB", mib(limits.pinned_bytes)),
        ("MaxPinnedMiBPerHandle", mib(limits.pinned_bytes_per_handle)),
        ("MaxMessageSize", limits.message_size),
        ("MaxHandshakes", limits.handshakes),
        ("HandshakeTimeout", limits.handshake_timeout),
        ("ConnectTimeout", limits.connect_timeout),
        ("NativePort", limits.native_port),
        ("MaxRoutes", limits.routes),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// What is in force where the registry has, for every parameter of the page, what `value` makes of its default, least and most.
fn with(value: impl Fn([u32; 3]) -> Option<Value>) -> BTreeMap<String, u32> {
    let page = of_the_page();
    let values = page.iter().filter_map(|(name, row)| Some((name, value(*row)?)));
    let builder = values.fold(Machine::builder(), |builder, (name, value)| builder.parameter("sanwsk", name, value));
    let bed = Bed::with(builder);
    let provider = bed.open();
    let limits = in_force(provider.limits().expect("limits"));
    drop(provider);
    bed.finish();
    limits
}

#[test]
fn without_values_or_with_some_of_a_wrong_type_the_defaults_of_the_page_are_in_force() {
    let defaults: BTreeMap<_, _> = of_the_page().into_iter().map(|(name, [default, ..])| (name, default)).collect();
    assert_eq!(with(|_| None), defaults);
    assert_eq!(with(|_| Some(Value::Text("17".to_owned()))), defaults);
    assert_eq!(with(|_| Some(Value::List(vec!["17".to_owned()]))), defaults);
}

#[test]
fn a_value_out_of_the_page_s_range_is_cut_to_it_and_one_within_counts() {
    let bound =
        |at: usize| -> BTreeMap<_, _> { of_the_page().into_iter().map(|(name, row)| (name, row[at])).collect() };
    assert_eq!(with(|[_, least, _]| Some(Value::Number(least.saturating_sub(1)))), bound(1), "below");
    assert_eq!(with(|_| Some(Value::Number(0))), bound(1), "nothing");
    assert_eq!(with(|[_, _, most]| Some(Value::Number(most + 1))), bound(2), "above");
    assert_eq!(with(|_| Some(Value::Number(u32::MAX))), bound(2), "all ones");
    assert_eq!(with(|[_, least, _]| Some(Value::Number(least))), bound(1));
    assert_eq!(with(|[_, _, most]| Some(Value::Number(most))), bound(2));
}

#[test]
fn a_larger_backlog_is_cut_to_the_parameter() {
    let bed = Bed::with(builder().parameter("sanwsk", "MaxBacklog", Value::Number(3)));
    let provider = bed.open();
    for (asked, granted) in [(2, 2), (3, 3), (4, 3), (SOMAXCONN, 3), (u32::MAX, 3)] {
        let listener = StreamListener::create(&provider, AddressFamily::INET).expect("an endpoint");
        listener.bind(any(AddressFamily::INET)).expect("binds");
        listener.listen(Backlog(asked)).expect("listens");
        let listed = provider.endpoints(EndpointScope::OwnHandle).expect("a list");
        assert_eq!(listed.iter().map(|one| one.backlog_limit).collect::<Vec<_>>(), [granted], "{asked}");
    }
    drop(provider);
    bed.finish();
}

#[test]
fn users_come_in_only_where_the_parameter_lets_them() {
    for (value, let_in) in [(None, false), (Some(0), false), (Some(1), true)] {
        let builder = value
            .into_iter()
            .fold(Machine::builder(), |builder, value| builder.parameter("sanwsk", "AllowUsers", Value::Number(value)));
        let bed = Bed::with(builder);
        let process = bed.process_of(false, false);
        match HarnessDevice::open(&process) {
            Ok(device) => {
                assert!(let_in, "{value:?}");
                drop(device);
            }
            refused => {
                assert!(!let_in, "{value:?}");
                assert_eq!(status(refused.map(|_| ())), NtStatus::ACCESS_DENIED);
            }
        }
        drop(process);
        bed.finish();
    }
}

/// What a load ends with where the registry has these routes.
fn loaded_with(routes: Vec<String>) -> Result<(), i32> {
    let machine = Machine::builder().parameter("sanwsk", "Routes", Value::List(routes)).build();
    match machine.load(image(), "sanwsk") {
        Ok(driver) => {
            machine.unload(&driver).expect("unloads");
            assert!(machine.violation().is_none());
            Ok(())
        }
        Err(LoadError::Entry(status)) => Err(status),
        Err(error) => panic!("{error}"),
    }
}

/// A route in a string of that many characters.
fn route(number: usize, length: usize) -> String {
    let (san, native) = (format!("10.{}.{}.0/24", number / 256, number % 256), "127.0.0.0/24");
    format!("{san}{native:>width$}", width = length - san.len())
}

#[test]
fn routes_may_be_as_long_as_the_page_says() {
    const LONGEST_ROUTE: usize = 256;
    const LONGEST_ROUTES: usize = 32_768;
    assert_eq!(loaded_with(vec![route(0, LONGEST_ROUTE)]), Ok(()));
    assert_eq!(loaded_with(vec![route(0, LONGEST_ROUTE + 1)]), Err(NtStatus::INVALID_PARAMETER.0));
    // Each string has its zero, and the list one more.
    let full = |last: usize| {
        let mut routes: Vec<_> = (0..127).map(|number| route(number, LONGEST_ROUTE - 1)).collect();
        routes.push(route(127, last));
        routes
    };
    let units = |routes: &[String]| routes.iter().map(|route| route.len() + 1).sum::<usize>() + 1;
    let (fits, too_long) = (full(LONGEST_ROUTE - 2), full(LONGEST_ROUTE - 1));
    assert_eq!((units(&fits), units(&too_long)), (LONGEST_ROUTES, LONGEST_ROUTES + 1));
    assert_eq!(loaded_with(fits), Ok(()));
    assert_eq!(loaded_with(too_long), Err(NtStatus::BUFFER_OVERFLOW.0));
}
