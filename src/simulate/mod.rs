//! Worlds to practise on: real servers with made-up data, the same for the same seed.

pub mod chain;
