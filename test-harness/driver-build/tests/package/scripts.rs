//! The scripts, read by the PowerShell grammar of tree-sitter: their syntax, their help, and that whoever names their parameters means
//! those that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use driver_build::workspace_root;
use tree_sitter::{Node, Parser, Tree};

/// The scripts by their names.
fn scripts() -> BTreeMap<String, String> {
    let files =
        fs::read_dir(workspace_root().join("inf")).expect("the folder").map(|entry| entry.expect("an entry").path());
    let scripts = files.filter(|path| path.extension().is_some_and(|extension| extension == "ps1"));
    let named = |path: PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        (name, fs::read_to_string(&path).expect("a script"))
    };
    scripts.map(named).collect()
}

fn parse(script: &str) -> Tree {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).expect("a language of this version");
    parser.parse(script, None).expect("a tree")
}

/// All of a kind, from the first to the last.
fn of_kind<'tree>(node: Node<'tree>, kind: &str, found: &mut Vec<Node<'tree>>) {
    if node.kind() == kind {
        found.push(node);
    }
    node.children(&mut node.walk()).for_each(|child| of_kind(child, kind, found));
}

/// The parameters that a script declares.
fn parameters(script: &str) -> BTreeSet<String> {
    let tree = parse(script);
    let mut declared = Vec::new();
    of_kind(tree.root_node(), "script_parameter", &mut declared);
    let own = |node: &Node<'_>| {
        node.parent().and_then(|list| list.parent()).and_then(|block| block.parent()) == Some(tree.root_node())
    };
    let name = |node: Node<'_>| {
        let variable = node.children(&mut node.walk()).find(|child| child.kind() == "variable").expect("its name");
        script[variable.byte_range()].trim_start_matches('$').to_owned()
    };
    declared.into_iter().filter(own).map(name).collect()
}

#[test]
fn every_script_is_one_and_says_what_it_does_and_what_its_parameters_are() {
    let scripts = scripts();
    assert!(scripts.len() >= 5, "{:?}", scripts.keys());
    for (name, script) in scripts {
        assert!(
            script.is_ascii(),
            "{name}: Windows PowerShell takes what is not ASCII for the machine's own code page"
        );
        assert!(!parse(&script).root_node().has_error(), "{name} is no PowerShell");
        let (help, _) =
            script.strip_prefix("<#\n").and_then(|rest| rest.split_once("\n#>\n")).expect("help at the top");
        for keyword in [".SYNOPSIS", ".DESCRIPTION", ".EXAMPLE"] {
            assert!(help.lines().any(|line| line == keyword), "{name}: {keyword}");
        }
        let described: BTreeSet<_> = help.lines().filter_map(|line| line.strip_prefix(".PARAMETER ")).collect();
        let declared = parameters(&script);
        assert!(
            described.iter().copied().eq(declared.iter().map(String::as_str)),
            "{name}: {described:?}, {declared:?}"
        );
        assert!(script.contains("\n#Requires -RunAsAdministrator\n"), "{name}");
    }
}

#[test]
fn a_script_with_a_mistake_is_found() {
    let script = &scripts()["upgrade.ps1"];
    for (right, wrong) in [
        ("foreach ($driver in $old) {", "foreach ($driver of $old) {"),
        ("throw \"$Package has no sanwsk.inf\"", "throw \"$Package has no sanwsk.inf"),
        ("param(", "param"),
        ("if (-not $service) {", "if -not $service {"),
        ("Start-Sleep -Milliseconds 500\n    }", "Start-Sleep -Milliseconds 500\n"),
    ] {
        let planted = script.replacen(right, wrong, 1);
        assert_ne!(&planted, script, "{right:?} is not there any more");
        assert!(parse(&planted).root_node().has_error(), "{wrong:?}");
    }
}

#[test]
fn who_tells_how_to_call_a_script_names_parameters_that_it_has() {
    let scripts = scripts();
    let mut pages: Vec<_> = ["README.md", "docs/windows.md", "docs/guide.md", "docs/events.md", "inf/README.txt"]
        .into_iter()
        .chain([".github/workflows/windows.yml", ".github/workflows/windows-nightly.yml", "SECURITY.md"])
        .map(|path| (path.to_owned(), fs::read_to_string(workspace_root().join(path)).expect(path)))
        .collect();
    pages.extend(scripts.clone());
    let mut calls = 0;
    for (page, text) in &pages {
        for (script, source) in &scripts {
            let declared = parameters(source);
            for line in text.lines().filter(|line| !line.contains("Get-Help")) {
                let Some((before, arguments)) = line.split_once(&format!("{script} ")) else { continue };
                if before.ends_with(char::is_alphabetic) {
                    continue;
                }
                let named = arguments.split(['`', '"', '(']).next().unwrap_or_default().split_whitespace();
                for parameter in named.filter_map(|word| word.strip_prefix('-')) {
                    assert!(declared.contains(parameter), "{page}: {script} has no -{parameter}");
                    calls += 1;
                }
            }
        }
    }
    assert!(calls > 10, "the pages are understood: {calls}");
}
