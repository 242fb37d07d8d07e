//! The events: the page has each of the driver's, under its keyword, and everybody means the same provider.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use driver_build::workspace_root;

fn read(path: &str) -> String {
    fs::read_to_string(workspace_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names by keyword, out of the driver's source.
fn of_the_driver() -> BTreeMap<u64, BTreeSet<String>> {
    let source = read("driver/trace.rs");
    let constant = |line: &str| {
        let (name, value) = line.strip_prefix("const ")?.strip_suffix(';')?.split_once(": u64 = 0x")?;
        Some((name.to_owned(), u64::from_str_radix(value, 16).expect("a number")))
    };
    let keywords: BTreeMap<_, _> = source.lines().filter_map(constant).collect();
    let mut events = BTreeMap::<u64, BTreeSet<String>>::new();
    for call in source.split("tell!(\"").skip(1) {
        let (name, rest) = call.split_once('"').expect("a name");
        let keyword = rest.split(',').nth(2).expect("a keyword").trim();
        assert!(events.entry(keywords[keyword]).or_default().insert(name.to_owned()), "{name} is told in two places");
    }
    events
}

#[test]
fn the_page_lists_every_event_under_its_keyword() {
    let page = read("docs/windows.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| 0x")?.split_once(" | "));
    let listed: BTreeMap<_, _> = rows
        .map(|(keyword, names)| {
            let names = names.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
            (u64::from_str_radix(keyword, 16).expect("a keyword"), names)
        })
        .collect();
    let told = of_the_driver();
    assert!(told.values().map(BTreeSet::len).sum::<usize>() > 20, "the driver's source is understood: {told:?}");
    assert_eq!(listed, told);
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
    for path in ["docs/windows.md", "inf/collect-support.ps1", ".github/workflows/windows-nightly.yml"] {
        assert!(read(path).contains(&format!("{{{id}}}")), "{path}");
    }
}
