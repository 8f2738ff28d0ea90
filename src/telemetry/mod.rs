//! Telemetry: what people and programs that watch a node get to see.

pub mod logging;

pub use logging::init_logging;
