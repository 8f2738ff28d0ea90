//! Log lines end to end: each complete line once, whatever happens to the file, the node or Redis. The truth is what the
//! tests themselves wrote.

#![allow(clippy::disallowed_methods, reason = "renaming is what rotation does")]

#[path = "../support/mod.rs"]
mod support;

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod cases;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod deaths;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod dry;
mod fields;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod matrix;
mod oracle;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod parse;
mod parse_storms;
mod refusals;
mod storms;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod watch;
mod whole;
mod writer;
