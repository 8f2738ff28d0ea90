//! Worlds to practise on: real servers and files with made-up data, the same for the same seed.

pub mod chain;
pub mod logs;
mod noise;
