//! Log lines end to end: each complete line once, whatever happens to the file, the node or Redis. The truth is what the
//! tests themselves wrote.

#![allow(clippy::disallowed_methods, reason = "renaming is what rotation does")]
#![allow(dead_code, reason = "the cases of real processes, which need it, are still to come")]

#[path = "../support/mod.rs"]
mod support;

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod cases;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod matrix;
mod oracle;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod watch;
mod writer;
