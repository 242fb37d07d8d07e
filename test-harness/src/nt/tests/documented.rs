//! What a driver may import, as `docs/testing.md` lists it.

use std::collections::BTreeSet;
use std::path::Path;

/// The lines of the lists are written anew with this set.
const WRITE: &str = "SANWSK_WRITE_IMPORTS";
const WIDTH: usize = 130;

/// Names in lines, in a block of their own.
fn block(names: &BTreeSet<&str>) -> String {
    let mut lines = vec![String::new()];
    for name in names {
        let line = lines.last_mut().expect("there is a line");
        if line.len() + 1 + name.len() > WIDTH {
            lines.push((*name).to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(name);
        }
    }
    format!("```\n{}\n```\n", lines.join("\n"))
}

/// The heading of each list, and what it has to hold.
fn lists() -> [(&'static str, BTreeSet<&'static str>); 4] {
    let kernel = crate::nt::table().keys().copied().collect();
    let network = crate::wsk::functions().into_iter().map(|(name, _)| name).collect();
    let cryptography = crate::nt::cng::EXPORTS.iter().map(|(name, _)| *name).collect();
    let framework = crate::kmdf::functions().iter().map(|(name, _)| *name).collect();
    [
        ("#### ntoskrnl.exe and hal.dll", kernel),
        ("#### netio.sys, and the functions in WSK's dispatch tables", network),
        ("#### cng.sys and ksecdd.sys", cryptography),
        ("#### KMDF, and WdfVersionBind and WdfVersionUnbind of WDFLDR.SYS", framework),
    ]
}

#[test]
fn the_docs_list_what_a_driver_may_import() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/testing.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let mut right = page.clone();
    for (heading, names) in lists() {
        let start = right.find(heading).unwrap_or_else(|| panic!("docs/testing.md has no heading {heading}"));
        let begin = start + right[start..].find("```\n").expect("a list follows");
        let end = begin + 4 + right[begin + 4..].find("```\n").expect("the list ends") + 4;
        right.replace_range(begin..end, &block(&names));
    }
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, right).expect("the page can be written");
    } else {
        assert!(page == right, "the lists have changed: {WRITE}=1 cargo test -p test-harness --lib docs_list");
    }
}
