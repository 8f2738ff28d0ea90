//! The supervisor: panics, hangs, blocked threads, storms, moves and takeovers; against a real Redis.
//!
//! What needs a process of its own to die in runs as one; the rest runs in the process of the test.

mod support;

#[path = "cluster/frail.rs"]
mod frail;
#[path = "cluster/idle.rs"]
mod idle;
#[path = "cluster/letters.rs"]
mod letters;
#[path = "cluster/moves.rs"]
mod moves;
#[path = "cluster/outages.rs"]
mod outages;
#[path = "cluster/panics.rs"]
mod panics;
#[path = "cluster/pools.rs"]
mod pools;
#[path = "cluster/storms.rs"]
mod storms;
#[path = "cluster/upgrade.rs"]
mod upgrade;
