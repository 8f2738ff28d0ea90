//! gapless: collects anything, misses nothing.
//!
//! The rooms, in reading order; each looks only downwards:
//!
//! 1. words: [`ids`], [`config`], [`telemetry`], [`messages`]: plain data, no I/O;
//! 2. [`wire`]: Redis as spoken to servers that are not ours;
//! 3. the world: [`sources`] (in), [`sinks`] (out), [`store`] (Redis: the only room that knows keys and scripts);
//! 4. work: [`actors`]: one actor a file, one shape;
//! 5. life: [`supervisor`]: start, restart, placement, drain;
//! 6. doors: [`cli`], [`http`], [`simulate`].

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
pub mod wire;
