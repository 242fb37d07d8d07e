//! Drivers that each break one rule, and are caught; and that do the same rightly, and are not.
//!
//! A row of a table names a behaviour of a driver in `tests/drivers`, which is a function there, the rule, and the call that the
//! report names (empty where a memory access is to blame).
#![cfg(target_os = "linux")]

/// A table, and a test for each of its rows.
macro_rules! faults {
    ($driver:literal, $($behaviour:ident: $rule:expr, $call:literal;)*) => {
        pub const ROWS: &[crate::Row] = &[
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

use bed::Row;

/// All tables.
const TABLES: &[&[Row]] = &[pool::ROWS, locks::ROWS, io::ROWS, kmdf::ROWS];
