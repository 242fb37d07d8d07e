//! `docs/kernel-interface.md`.

use crate::page::{Section, section, sections};
use san_protocol::NtStatus;
use san_protocol::kernel::Interface;

const PAGE: &str = include_str!("../../../docs/kernel-interface.md");
const REQUESTS: &str = include_str!("../../../docs/ioctl.md");
/// A driver that has every status of the page brought about.
const PROOF: &str = include_str!("../../../test-harness/tests/drivers/kernel_client.c");
/// Drivers that tests build and load.
const SAMPLES: [&str; 3] = [
    include_str!("../../../samples/block/block.c"),
    include_str!("../../../samples/echo/src/echo.rs"),
    include_str!("../../../samples/echo/src/driver.rs"),
];

/// The functions of the table, in their order: name and Rust type.
fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let fields = Interface::LAYOUT.fields.iter().zip(Interface::KINDS);
    fields.filter(|(_, kind)| kind.contains("fn(")).map(|(field, kind)| (field.name, *kind))
}

/// The parameters of a function type, as C calls them.
fn parameters(kind: &str) -> Vec<String> {
    let (_, list) = kind.split_once("fn(").expect("a function");
    let (list, _) = list.rsplit_once(')').expect("its end");
    let names = list.split(',').filter_map(|parameter| parameter.split_once(':')).map(|(name, _)| name.trim());
    names.map(camel).collect()
}

/// `private_length` as `PrivateLength`.
fn camel(name: &str) -> String {
    let words = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

/// The rows of a section's table that begins with this column; none if it has no such table.
fn rows<'a>(section: &Section<'a>, first: &str) -> Vec<Vec<&'a str>> {
    section.tables().into_iter().filter(|table| table.columns[0] == first).flat_map(|table| table.rows).collect()
}

fn name(cell: &str) -> &str {
    cell.trim_matches('`')
}

#[test]
fn every_function_is_described_in_the_order_of_the_table() {
    let described: Vec<_> =
        sections(PAGE).iter().map(|section| section.title).skip_while(|&title| title != "Functions").skip(1).collect();
    assert_eq!(described, functions().map(|(name, _)| name).collect::<Vec<_>>());
}

#[test]
fn every_function_has_its_parameters_irql_and_who_is_told() {
    for (function, kind) in functions() {
        let section = section(PAGE, function);
        let described: Vec<_> = rows(&section, "parameter").iter().map(|row| name(row[0])).collect();
        assert_eq!(described, parameters(kind), "{function}");
        let irql = section.lines.iter().find(|line| line.contains("IRQL") && line.contains("Told: "));
        let irql = irql.unwrap_or_else(|| panic!("{function}: at which IRQL, and who is told"));
        let begins =
            matches!(&parameters(kind)[..], [client, operation, ..] if client == "Client" && operation == "Operation");
        assert_eq!(irql.contains("the completion"), begins, "{function}: {irql}");
    }
}

#[test]
fn every_status_is_brought_about_by_a_test() {
    let mut count = 0;
    for (function, _) in functions() {
        for row in rows(&section(PAGE, function), "status") {
            let status = name(row[0]);
            let known =
                NtStatus::NAMED.iter().any(|known| known.name() == Some(status)) || status == "STATUS_NOT_FOUND";
            assert!(known, "{function}: {status}");
            let expected = PROOF.contains(&format!("EXPECT({function}, {status},"));
            let of_every =
                ["EVERY_OPERATION", "EVERY_QUERY"].iter().any(|every| PROOF.contains(&format!("{every}({status},")));
            let among_every = PROOF.contains(&format!("EXPECT({function}, Expected,"));
            assert!(expected || of_every && among_every, "{function}: no test has {status}");
            count += 1;
        }
    }
    assert!(count > 50, "{count} statuses");
}

#[test]
fn what_requests_may_end_with_is_linked_to_their_sections() {
    let links: Vec<_> = PAGE.split("](ioctl.md#").skip(1).filter_map(|rest| rest.split_once(')')).collect();
    assert!(links.len() > 10);
    for (anchor, _) in links {
        let found = sections(REQUESTS).iter().any(|section| section.title.to_lowercase() == anchor);
        assert!(found, "docs/ioctl.md has no section {anchor}");
    }
}

#[test]
fn the_code_is_that_of_the_samples() {
    let mut blocks = 0;
    for block in PAGE.split("```").skip(1).step_by(2) {
        let (language, code) = block.split_once('\n').expect("a language");
        assert!(["c", "rust"].contains(&language), "{language}");
        // Several pieces of one file may stand in a block.
        for piece in code.split("\n\n\n").flat_map(|pieces| pieces.split("}\n\n")) {
            assert!(SAMPLES.iter().any(|sample| sample.contains(piece)), "no sample has this:\n{piece}");
        }
        blocks += 1;
    }
    assert!(blocks >= 4, "{blocks} blocks of code");
}

#[test]
fn the_example_of_the_client_crate_is_code_of_a_driver() {
    let page = include_str!("../../../sanwsk-client/src/lib.rs");
    let driver = include_str!("../../../test-harness/tests/drivers/rust_client/src/behaviour.rs");
    let lines =
        page.lines().map_while(|line| line.strip_prefix("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    let example: Vec<_> =
        lines.skip_while(|line| !line.starts_with("```")).skip(1).take_while(|&line| line != "```").collect();
    assert!(example.len() > 5, "{example:?}");
    assert!(driver.contains(&example.join("\n")), "no driver has this:\n{}", example.join("\n"));
}
