//! `docs/pooltag.txt`: every pool tag of the driver, in the debugger's form.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use driver_build::workspace_root;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The tags in constants that are named for it, and that of wdk-alloc, the driver's global allocator.
fn of_the_driver() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&workspace_root().join("driver"), &mut files);
    let mut tags = BTreeSet::from(["rust".to_owned()]);
    for file in files {
        let source = fs::read_to_string(file).expect("a source file");
        let constants = source.lines().filter(|line| line.contains("const ") && line.contains("TAG"));
        tags.extend(constants.filter_map(|line| Some(line.split_once("*b\"")?.1.get(..4)?.to_owned())));
    }
    tags
}

#[test]
fn every_pool_tag_of_the_driver_is_listed_as_debuggers_read_it() {
    let page = fs::read_to_string(workspace_root().join("docs/pooltag.txt")).expect("the list");
    let mut listed = BTreeSet::new();
    for line in page.lines().filter(|line| *line != "rem" && !line.starts_with("rem ")) {
        let [tag, file, what] = line.splitn(3, " - ").map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}: TAG - FILE - WHAT");
        };
        assert!(tag.len() == 4 && file == "sanwsk.sys" && !what.is_empty(), "{line}");
        assert!(listed.insert(tag.to_owned()), "{tag} twice");
    }
    let used = of_the_driver();
    assert!(used.len() > 4, "the driver's source is understood: {used:?}");
    assert_eq!(listed, used);
}
