//! One error for a turn, and what the runtime does about it.
