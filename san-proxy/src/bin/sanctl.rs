//! `sanctl`.
fn main() {}
