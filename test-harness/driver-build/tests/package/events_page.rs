//! `docs/events.md`: what the page says of each event.

use std::collections::BTreeMap;
use std::fs;

use driver_build::workspace_root;

/// What the page says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) level: u8,
    pub(crate) keyword: u64,
    /// At most so many a second.
    pub(crate) most: Option<u32>,
    /// In their order, without what counts those that were left out.
    pub(crate) fields: Vec<String>,
}

/// A number as `0x1F`.
pub(crate) fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim().strip_prefix("0x").expect("0x"), 16).expect("a number")
}

/// The events by their names.
pub(crate) fn rows() -> BTreeMap<String, Row> {
    let page = fs::read_to_string(workspace_root().join("docs/events.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| {
        let cells: Vec<_> = rest.split(" |").map(str::trim).collect();
        let [level, keyword, most, fields, says, ..] = cells[..] else { panic!("{name}: {cells:?}") };
        assert!(!says.is_empty(), "{name} says nothing");
        let row = Row {
            level: level.parse().expect("a level"),
            keyword: hex(keyword),
            most: (most != "all").then(|| most.parse().expect("a number")),
            fields: fields.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        };
        (name.to_owned(), row)
    })
    .collect()
}
