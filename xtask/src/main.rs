//! Chores that generate checked-in data from named sources.
fn main() {}
