//! Nodes of two releases at once: what may be written is what every live node reads.

use std::time::Instant;

use super::Supervisor;
use crate::store::format::OLDEST;

/// Leases without an older node before a newer format is written: time enough to restart one.
const SETTLE_LEASES: u32 = 10;

impl Supervisor {
    /// Takes note of the formats of the live nodes. Units whose lives write an older one than is agreed now are given
    /// back once, between two turns.
    pub(super) fn agree_on_a_format(&mut self) {
        let formats = self.store.formats.clone();
        let before = formats.writes();
        let known = self.nodes.iter().map(|node| node.format.max(OLDEST));
        let lowest = known.min().unwrap_or(before).min(formats.newest());
        self.agreement.see(&formats, lowest, Instant::now(), self.lease() * SETTLE_LEASES);
        let (now, newest) = (formats.writes(), formats.newest());
        if now != before {
            tracing::info!(format = now, newest, "another format is written from now on: all live nodes read it");
        }
    }
}
