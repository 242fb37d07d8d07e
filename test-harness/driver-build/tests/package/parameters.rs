//! The registry parameters: what the driver reads, what the package installs, and what the page says.

use std::collections::BTreeMap;
use std::fs;

use driver_build::{Arch, workspace_root};

use crate::inf::Inf;
use crate::{inx, rules, stamp};

/// Default, least and most of each number that the driver reads, out of its source.
fn of_the_driver() -> BTreeMap<String, [u32; 3]> {
    let source = fs::read_to_string(workspace_root().join("driver/parameters.rs")).expect("the source");
    let constants: BTreeMap<_, _> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(crate) const ")?.strip_suffix(';')?.split_once(": u16 = "))
        .collect();
    let value = |text: &str| {
        let text = text.trim().trim_end_matches(" as u32");
        let number = |text: &str| text.trim().replace('_', "").parse::<u32>().expect("a number");
        match (constants.get(text), text.split_once("<<")) {
            (Some(constant), _) => number(constant),
            (None, Some((base, shift))) => number(base) << number(shift),
            (None, None) => number(text),
        }
    };
    // `Parameter::new(wide!("Name"), default, least, most);`, wherever rustfmt has broken the line.
    let mut found = BTreeMap::new();
    for call in source.split("Parameter::new(wide!(\"").skip(1) {
        let (name, rest) = call.split_once("\"),").expect("a name");
        let (arguments, _) = rest.split_once(");").expect("the end of the call");
        let numbers: Vec<_> = arguments.split(',').filter(|part| !part.trim().is_empty()).map(value).collect();
        found.insert(name.to_owned(), numbers.try_into().expect("default, least, most"));
    }
    found
}

/// Those that are lists.
fn lists_of_the_driver() -> Vec<String> {
    let source = fs::read_to_string(workspace_root().join("driver/parameters.rs")).expect("the source");
    let lists = source.lines().filter_map(|line| line.strip_prefix("const ")?.split_once(": &[u16] = wide!(\""));
    lists.map(|(_, rest)| rest.trim_end_matches("\");").to_owned()).collect()
}

#[test]
fn the_package_installs_every_parameter_with_the_drivers_default() {
    let stamp = stamp(Arch::X64);
    let installed = rules::check(&stamp.inf(&inx()), &stamp).expect("the rules are kept");
    let (numbers, lists) = (of_the_driver(), lists_of_the_driver());
    assert!(numbers.len() >= 14 && lists == ["Routes"], "the driver's source is understood: {numbers:?}, {lists:?}");
    let expected: BTreeMap<_, _> = numbers
        .iter()
        .map(|(name, [default, ..])| (name.clone(), Some(*default)))
        .chain(lists.into_iter().map(|name| (name, None)))
        .collect();
    assert_eq!(installed.len(), expected.len(), "none is installed twice");
    assert_eq!(installed.into_iter().collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn the_page_has_every_parameter_with_the_drivers_default_and_range() {
    let page = fs::read_to_string(workspace_root().join("docs/limits.md")).expect("the page");
    let rows: BTreeMap<_, _> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (cells[0].trim_end_matches('`').to_owned(), (cells[1].to_owned(), cells[2].to_owned(), cells[3].to_owned()))
        })
        .filter(|(_, (kind, ..))| kind.starts_with("REG_"))
        .collect();
    let mut expected: BTreeMap<_, _> = of_the_driver()
        .into_iter()
        .map(|(name, [default, least, most])| {
            (name, ("REG_DWORD".to_owned(), default.to_string(), format!("{least}\u{2013}{most}")))
        })
        .collect();
    for list in lists_of_the_driver() {
        expected.insert(list, ("REG_MULTI_SZ".to_owned(), "none".to_owned(), "\u{2013}".to_owned()));
    }
    assert_eq!(rows, expected);
}

/// The number of a constant, out of a source file.
fn constant(path: &str, name: &str) -> u32 {
    let source = fs::read_to_string(workspace_root().join(path)).expect("the source");
    let value = source.lines().find_map(|line| line.split_once(&format!("const {name}: "))?.1.split_once(" = "));
    let (_, value) = value.unwrap_or_else(|| panic!("{path} has no {name}"));
    let number = |text: &str| text.trim().parse::<u32>().expect("a number");
    match value.trim_end_matches(';') {
        shift if shift.contains("<<") => {
            shift.split_once("<<").map(|(one, by)| number(one) << number(by)).expect("a shift")
        }
        difference if difference.contains(" - ") => {
            difference.split_once(" - ").map(|(more, less)| number(more) - number(less)).expect("a difference")
        }
        plain => number(plain),
    }
}

#[test]
fn the_page_has_the_fixed_limits_as_they_are() {
    let page = fs::read_to_string(workspace_root().join("docs/limits.md")).expect("the page");
    let (_, fixed) = page.split_once("\n## Fixed\n").expect("the section");
    let (fixed, _) = fixed.split_once("\n## ").expect("its end");
    let rows: Vec<_> = fixed
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")?.1.split_once(" | ")?.0.parse::<u32>().ok())
        .collect();
    let real = [
        1 << constant("san-core/src/id_table.rs", "SLOT_BITS"),
        constant("san-core/src/ports.rs", "EPHEMERAL_COUNT"),
        constant("san-protocol/src/wire/session.rs", "MAX_PRIVATE_DATA"),
        constant("san-protocol/src/wire/header.rs", "MAX_CREDITS"),
        constant("driver/parameters.rs", "LONGEST_ROUTE"),
        constant("driver/parameters.rs", "LONGEST_ROUTES"),
    ];
    assert_eq!(rows, real);
}

#[test]
fn the_page_s_way_without_the_package_gives_the_service_what_the_package_gives_it() {
    let page = fs::read_to_string(workspace_root().join("docs/windows.md")).expect("the page");
    let stamp = stamp(Arch::X64);
    let inf = Inf::parse(&stamp.inf(&inx())).expect("an INF");
    let value = |key| inf.value("Sanwsk_Service", key).expect("one value");
    let create = page.lines().find(|line| line.trim().starts_with("sc.exe create ")).expect("sc.exe create");
    for (option, key) in [("depend= ", "Dependencies"), ("DisplayName= ", "DisplayName")] {
        assert!(create.replace('"', "").contains(&format!("{option}{}", value(key))), "{option}");
    }
    // SERVICE_KERNEL_DRIVER, SERVICE_DEMAND_START, SERVICE_ERROR_NORMAL, in the words of sc.
    let words = ["type= kernel", "start= demand", "error= normal"].iter().all(|option| create.contains(option));
    assert!(words && (value("ServiceType"), value("StartType"), value("ErrorControl")) == ("1", "3", "1"));
    assert!(page.contains(&format!("sc.exe sdset sanwsk \"{}\"\n", value("Security"))), "the same security");
}
