//! The IRQLs at which each function may be called: `facts/irql.tsv`, from the functions' pages in the Windows driver
//! documentation. Where a page makes it depend on an argument, the row is the widest; drivers in `tests/verifier` show the rest.

use std::collections::BTreeMap;

use crate::guard::callout;
use crate::machine::Machine;
use crate::nt::types::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, KIRQL, PASSIVE_LEVEL};
use crate::thread::current;
use crate::violation::{Rule, Violation};

fn level(name: &str) -> KIRQL {
    match name {
        "PASSIVE_LEVEL" => PASSIVE_LEVEL,
        "APC_LEVEL" => APC_LEVEL,
        "DISPATCH_LEVEL" => DISPATCH_LEVEL,
        "HIGH_LEVEL" => HIGH_LEVEL,
        other => panic!("{other} is no IRQL"),
    }
}

/// Lowest and highest IRQL by function.
fn rows() -> BTreeMap<&'static str, (KIRQL, KIRQL)> {
    let lines = include_str!("../../../facts/irql.tsv").lines().skip(1);
    let row = |line: &'static str| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().expect("three fields");
        (next(), (level(next()), level(next())))
    };
    lines.map(row).collect()
}

/// Every function that a driver can call.
fn functions() -> BTreeMap<&'static str, usize> {
    let framework = crate::kmdf::functions().iter().copied();
    let binding = crate::wdfldr::exports().iter().filter_map(|(name, export)| Some((*name, export.code()?)));
    let cryptography = crate::nt::cng::EXPORTS.iter().filter_map(|(name, export)| Some((*name, export.code()?)));
    let kernel = crate::nt::functions().into_iter().chain(crate::wsk::functions()).chain(cryptography);
    kernel.chain(framework).chain(binding).collect()
}

type Any =
    extern "win64" fn(usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize) -> usize;

/// Calls a function at an IRQL, with addresses of zeros for arguments; the rule that this breaks.
fn call_at(address: usize, irql: KIRQL) -> Option<Violation> {
    let machine = Machine::new();
    let _ = machine.on_system_thread(move |_| {
        callout("a test", || {
            let zeros = [0_u64; 1024];
            let at = zeros.as_ptr() as usize;
            // SAFETY: the functions of the kernel are extern "win64", whose callers clean up, and look at the IRQL first.
            let function = unsafe { std::mem::transmute::<usize, Any>(address) };
            current().irql.set(irql);
            function(at, at, at, at, at, at, at, at, at, at, at, at);
            // What a legal call does to zeros is no matter here.
            current().irql.set(PASSIVE_LEVEL);
        });
    });
    machine.violation()
}

#[test]
fn every_function_has_its_irql() {
    let (rows, functions) = (rows(), functions());
    let names = |map: Vec<&&'static str>| map.into_iter().copied().collect::<Vec<_>>();
    assert_eq!(names(rows.keys().collect()), names(functions.keys().collect()));
}

#[test]
fn no_function_is_called_above_its_highest_irql_or_below_its_lowest() {
    let functions = functions();
    let mut checked = 0;
    for (name, (lowest, highest)) in rows() {
        let above = (highest < HIGH_LEVEL).then(|| highest + 1);
        let below = lowest.checked_sub(1);
        for irql in above.into_iter().chain(below) {
            let violation = call_at(functions[name], irql).unwrap_or_else(|| panic!("{name} at IRQL {irql}"));
            assert_eq!(violation.rule, Rule::Irql, "{name}: {violation}");
            checked += 1;
        }
    }
    println!("{checked} calls at an IRQL that the documentation excludes, all reported");
}
