//! What a Collector remembers of one life, beside its checkpoint: hints, distrust, figures. Losing it costs nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::alarm::{Alarm, Doubts};
use crate::actors::turn::{Error, Turn, Unit};
use crate::sources::SourceError;
use crate::telemetry::chain::ChainFigures;

/// Looks that follow one hint while the head has not moved: another node of the provider may have pushed it.
const HINT_LOOKS: u32 = 4;
/// The pause between such looks.
const HINT_PAUSE: Duration = Duration::from_millis(400);

/// The memory of one life.
#[derive(Debug)]
pub(super) struct Watch {
    pub figures: ChainFigures,
    doubts: Mutex<Doubts>,
    /// Early looks that are left of the last hint.
    looks: AtomicU32,
}

impl Watch {
    pub fn new(unit: &Unit) -> Self {
        let figures = ChainFigures::new(&unit.metrics, &unit.pipeline().to_string());
        Self { figures, doubts: Mutex::default(), looks: AtomicU32::new(0) }
    }

    /// Somebody says that there is a new head: look now. What was said is not believed.
    pub fn hint(&self, unit: &Unit) {
        self.looks.store(HINT_LOOKS, Ordering::Relaxed);
        unit.bell.notify_one();
    }

    /// The head has moved: the hint was right, and the next one counts anew.
    pub fn moved(&self) {
        self.looks.store(0, Ordering::Relaxed);
    }

    /// How long to wait for news.
    pub fn idle(&self, poll: Duration) -> Turn {
        let looks = self.looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        Turn::IdleFor(if looks.is_ok() { poll.min(HINT_PAUSE) } else { poll })
    }

    /// Remembers what an endpoint showed against a final block; true where it is new.
    pub fn doubt(&self, alarm: &Alarm) -> bool {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).add(alarm)
    }

    /// What it means that the source has no answer. Where nobody is trusted any more and all showed the same other
    /// block, it is not the endpoints that are wrong.
    pub fn judge(&self, error: SourceError) -> Error {
        let doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        match (&error, doubts.agree()) {
            (SourceError::Distrusted { .. }, Some((height, shown, endpoints))) => Error::Refused(format!(
                "all {endpoints} endpoints show {shown} at the final height {height}, where another block is held: \
                 the chain changed below finality; nothing was rewritten, an operator must decide"
            )),
            _ => error.into(),
        }
    }
}
