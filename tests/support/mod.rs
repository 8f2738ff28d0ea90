//! What several test binaries share. Each uses a part of it.
#![allow(dead_code)]

pub mod node;
pub mod redis;
pub mod wait;
