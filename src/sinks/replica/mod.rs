//! Replica: streams on a foreign Redis, written entry for entry with the ids that they have.
//!
//! | file | what it does |
//! |---|---|
//! | `writer` | one atomic step a batch: the expected last id, or nothing |
//! | `writers` | the connections that write, one for each node of the target |
//! | `groups` | consumer groups, their positions and what they hold |
//! | `trim` | deletions carried over, and the cap |
//! | `chain` | evidence: a link for each batch, in its transaction |
//! | `marks` | who copies to which stream, for loops and collisions |

/// What the keys begin with under which a repair builds a stream anew.
pub const REPAIRS: &str = "gapless:repair:";

mod chain;
mod groups;
mod marks;
mod trim;
mod writer;
mod writers;

pub use chain::{CHAINS, Digest, chain_key, digest_of, links};
pub use groups::{Clocks, GroupCopy, copy_group};
pub use marks::{MARKS, Mark, mark, marks_of, set_mark, unmark};
pub use trim::{Fence, cap, delete, fence, trim_below};
pub use writer::{Carry, Writer, Written};
pub use writers::Writers;
