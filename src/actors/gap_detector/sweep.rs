//! The trash: what has waited there for longer than a failover may forget is destroyed.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::GapDetector;
use crate::actors::turn::Error;

/// How often the trash is looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

impl GapDetector {
    /// Destroys what has been in the trash for longer than the rollback horizon. A failure costs only space, so it
    /// must not stop the detection; the next sweep goes on.
    pub(super) async fn sweep(&self) {
        let now = Instant::now();
        let is_due = {
            // A panic elsewhere leaves at worst a time of long ago.
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = swept.is_none_or(|at| now.duration_since(at) >= SWEEP_EVERY);
            if is_due {
                *swept = Some(now);
            }
            is_due
        };
        if is_due {
            if let Err(error) = self.trim_trash_list().await {
                tracing::warn!(unit = %self.unit.lease.unit(), %error, "the list of the trash cannot be trimmed");
            }
            match self.unit.outside(self.files.sweep_trash(self.plan.rollback_horizon)).await {
                Ok(0) => {}
                Ok(files) => tracing::info!(unit = %self.unit.lease.unit(), files, "trash past the horizon destroyed"),
                Err(error) => tracing::warn!(unit = %self.unit.lease.unit(), %error, "the trash cannot be emptied"),
            }
            self.unit.progress();
        }
    }

    /// The notes of what was destroyed go with it.
    async fn trim_trash_list(&self) -> Result<(), Error> {
        let (store, link) = (self.unit.lease.store(), self.unit.lease.link());
        let horizon = u64::try_from(self.plan.rollback_horizon.as_millis()).unwrap_or(u64::MAX);
        let before = store.now_ms(link).await?.saturating_sub(horizon);
        Ok(store.trim_trash(link, self.unit.pipeline(), before).await?)
    }
}
