//! gapless: collects anything, misses nothing.
//!
//! The rooms, in reading order; each looks only downwards:
//!
//! 1. words: [`ids`], [`config`], [`telemetry`], [`messages`]: plain data, no I/O;
//! 2. the world: [`sources`] (in), [`sinks`] (out), [`store`] (Redis: the only room that knows keys and scripts);
//! 3. work: [`actors`]: one actor a file, one shape;
//! 4. life: [`supervisor`]: start, restart, placement, drain;
//! 5. doors: [`cli`], [`http`], [`simulate`].

pub mod actors;
pub mod cli;
pub mod config;
pub mod http;
pub mod ids;
pub mod messages;
pub mod simulate;
pub mod sinks;
pub mod sources;
pub mod store;
pub mod supervisor;
pub mod telemetry;
