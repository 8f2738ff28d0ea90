//! Streams of a foreign Redis: found, read by position, or through a consumer group.

mod discover;
mod group;
mod hints;
mod reader;

pub use discover::{Found, find, is_stream};
pub use group::{acknowledge, ensure_group, own_pending, publish_position, take_over};
pub use hints::Hints;
pub use reader::{Batch, ReadPlan, Reader, Wish};
