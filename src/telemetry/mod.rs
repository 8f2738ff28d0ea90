//! What people and programs see of a running node: log lines and metrics, each name written once.

pub mod blocks;
pub mod chain;
pub mod endpoints;
pub mod logging;
pub mod logs;
pub mod metrics;
pub mod parse;
pub mod sync;

pub use logging::init_logging;
