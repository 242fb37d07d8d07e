//! Checks the whole crate against tables of facts about the Windows headers: `wsk_layout.tsv`, `wsk_constants.tsv` and
//! `wsk_functions.tsv`, laid out by a C compiler for x64. They hold for ARM64 as well, whose Windows has the same sizes of
//! integers and pointers; and for a host whose pointers have 64 bits, where these tests run, since the crate spells
//! every integer with its size.
//!
//! Each test fails for an item that the crate has wrong, for one that it lacks, and for one that is listed here without
//! standing in its table.
#![cfg(all(target_pointer_width = "64", target_endian = "little", not(feature = "wdk-sys")))]

mod c_types;
mod constants;
mod functions;
mod layout;

/// The rows of a table, each split into its columns.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| line.split('\t').collect())
}
