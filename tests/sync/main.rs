//! Streams copied from one real Redis to another by real nodes, and compared entry for entry by an oracle of their own.

#[path = "../support/mod.rs"]
mod support;

mod clusters;
mod commands;
mod copies;
mod doors;
mod ends;
mod evidence;
mod foreign;
mod gaps;
mod groups;
mod loops;
mod states;
mod storms;
mod trust;
mod units;
mod versions;
mod world;
