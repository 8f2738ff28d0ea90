//! What several test binaries share. Each uses a part of it.
#![allow(dead_code)]

pub mod chaos;
pub mod fleet;
pub mod invariants;
pub mod node;
pub mod proxy;
pub mod redis;
pub mod redis_cluster;
pub mod replica;
pub mod sentinel;
pub mod signals;
pub mod tls;
pub mod wait;
