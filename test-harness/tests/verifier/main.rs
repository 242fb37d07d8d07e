//! Drivers that each break one rule, and are caught; and that do the same rightly, and are not.
//!
//! A row of a table names a behaviour of a driver in `tests/drivers`, which is a function there, the rule, and the call that the
//! report names (empty where a memory access is to blame).
#![cfg(target_os = "linux")]

/// A table, and a test for each of its rows.
macro_rules! faults {
    ($driver:literal, $($behaviour:ident: $rule:expr, $call:literal;)*) => {
        pub(crate) const ROWS: &[crate::Row] = &[
            $(crate::Row { driver: $driver, behaviour: stringify!($behaviour), rule: $rule, call: $call },)*
        ];
        $(
            #[test]
            fn $behaviour() {
                let row = ROWS.iter().find(|row| row.behaviour == stringify!($behaviour)).expect("a row");
                crate::bed::prove(row, test_harness::Machine::builder);
            }
        )*
    };
}
mod bed;
mod io;
mod kmdf;
mod locks;
mod pool;
mod wsk;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bed::Row;
use test_harness::Rule;

/// All tables, and the rows that need a machine of their own kind.
fn rows() -> impl Iterator<Item = &'static Row> {
    let tables = [pool::ROWS, locks::ROWS, io::ROWS, kmdf::ROWS, wsk::ROWS];
    tables.into_iter().flatten().chain([&locks::SLOW, &pool::BEFORE])
}

#[test]
fn every_rule_has_its_faulty_driver() {
    let proven: HashSet<Rule> = rows().map(|row| row.rule).collect();
    let missing: Vec<_> = Rule::PLAIN.iter().filter(|rule| !proven.contains(rule)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A rule that no program checks has its reason in the second part of docs/wsk-rules.md.
#[test]
fn every_wsk_rule_has_its_faulty_driver_or_a_reason() {
    let rules = include_str!("../../../docs/wsk-rules.md");
    let (rules, reasons) = rules.split_once("## What no program checks").expect("the second part");
    let numbers = |text: &str| -> BTreeSet<u8> {
        text.lines().filter_map(|line| line.split_once(". ")?.0.trim().parse().ok()).collect()
    };
    let (all, excused) = (numbers(rules), numbers(reasons));
    let proven: BTreeSet<u8> =
        rows().filter_map(|row| if let Rule::Wsk(n) = row.rule { Some(n) } else { None }).collect();
    assert_eq!(all, (1..=34).collect());
    assert_eq!(proven.union(&excused).copied().collect::<BTreeSet<_>>(), all);
    assert!(proven.is_disjoint(&excused), "{excused:?}");
}

/// `docs/testing.md` has a row for each rule, which names its tests.
#[test]
fn the_documentation_names_every_negative_test() {
    let mut tests = BTreeMap::<String, BTreeSet<&str>>::new();
    for row in rows() {
        tests.entry(row.rule.to_string()).or_default().insert(row.behaviour);
    }
    let mut sections = include_str!("../../../docs/testing.md").split("\n## ");
    let rules = sections.find(|section| section.starts_with("Rules")).expect("the section about rules");
    let mut documented = BTreeMap::new();
    for line in rules.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let names: BTreeSet<_> = cells[3].split('`').skip(1).step_by(2).collect();
        documented.insert(cells[1].trim_matches('`').to_owned(), names);
    }
    for (rule, names) in &tests {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        println!("| `{rule}` | | {} |", names.join(", "));
    }
    assert_eq!(documented, tests);
}
