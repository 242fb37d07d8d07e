//! The events: the page has each of the driver's as it is, and everybody means the same provider.

use std::collections::BTreeMap;
use std::fs;

use driver_build::workspace_root;

use crate::events_page::{self, Row, hex};

fn read(path: &str) -> String {
    fs::read_to_string(workspace_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// By their names, out of the driver's source.
fn of_the_driver() -> BTreeMap<String, Row> {
    let (source, provider) = (read("driver/trace.rs"), read("driver/trace/provider.rs"));
    let constants: BTreeMap<_, _> = source
        .lines()
        .filter_map(|line| line.strip_prefix("const ")?.strip_suffix(';')?.split_once(": "))
        .filter_map(|(name, value)| Some((name, value.split_once(" = ")?.1)))
        .collect();
    let (_, levels) = provider.split_once("enum Level {").expect("the levels");
    let (levels, _) = levels.split_once('}').expect("their end");
    let level_of = |name: &str| -> u8 {
        let number = levels.split(',').find_map(|level| level.trim().strip_prefix(name)?.strip_prefix(" = "));
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no level {name}"))
    };
    let mut events = BTreeMap::new();
    for call in source.split("tell!(\"").skip(1) {
        let (name, rest) = call.split_once('"').expect("a name");
        let (arguments, _) = rest.split_once(");").expect("the end of the call");
        let [_, level, keyword, how] = arguments.splitn(5, ',').take(4).map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{name}: level, keyword and how often");
        };
        let most = how.strip_prefix("at most ").map(|most| constants[most].parse().expect("a number"));
        let names = arguments.split('"').skip(1).step_by(2).map(str::to_owned);
        let row = Row { level: level_of(level), keyword: hex(constants[keyword]), most, fields: names.collect() };
        assert!(events.insert(name.to_owned(), row).is_none(), "{name} is told in two places");
    }
    events
}

#[test]
fn the_page_has_every_event_as_the_driver_tells_it() {
    let told = of_the_driver();
    assert!(told.len() > 20, "the driver's source is understood: {told:?}");
    assert_eq!(events_page::rows(), told);
}

#[test]
fn everybody_means_the_same_provider() {
    let source = read("driver/trace.rs");
    let (_, id) = source.split_once("/// {").expect("the identifier");
    let (id, _) = id.split_once('}').expect("its end");
    let compact: String = id.chars().filter(|&character| character != '-').collect();
    let number = |name: &str| {
        let (_, value) = source.split_once(&format!("{name}: 0x")).expect("a part of the identifier");
        value.split(',').next().expect("a number").replace('_', "").to_lowercase()
    };
    assert_eq!(compact[..16], ["Data1", "Data2", "Data3"].map(number).concat());
    let (_, rest) = source.split_once("Data4: [").expect("the rest of the identifier");
    let bytes: String = rest.split(']').next().expect("its end").replace("0x", "").replace([',', ' '], "");
    assert_eq!(compact[16..], bytes.to_lowercase());
    for path in ["docs/events.md", "inf/collect-support.ps1", ".github/workflows/windows-nightly.yml"] {
        assert!(read(path).contains(&format!("{{{id}}}")), "{path}");
    }
}
