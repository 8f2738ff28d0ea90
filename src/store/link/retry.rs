//! Waits between tries: exponential with jitter, bounded by the configuration and by the caller's patience.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Failure, Inner, Patience};
use crate::store::error::StoreError;

/// One request on its way through an outage.
pub(super) struct Retry<'a> {
    inner: &'a Inner,
    started: Instant,
    /// Sent so often in vain.
    pub(super) tries: u32,
}

impl<'a> Retry<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self { inner, started: Instant::now(), tries: 0 }
    }

    /// Pauses, or answers why there is no other try.
    pub(super) async fn after(&mut self, failure: Failure) -> Result<(), StoreError> {
        let (reason, stale) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::NoScript => ("the script was lost twice".to_owned(), false),
            Failure::Passing { reason, dropped } => (reason, dropped && self.tries == 0),
        };
        let options = &self.inner.options;
        let address = options.address();
        // A connection that broke while it was idle says nothing of Redis: the next one tells.
        if !stale {
            self.inner.health.set_down(true, &address, &reason);
        }
        self.inner.health.repeats_total.fetch_add(1, Ordering::Relaxed);
        if let Patience::For(limit) = self.inner.patience
            && self.started.elapsed() >= limit
        {
            return Err(StoreError::Unreachable { address, reason });
        }
        if self.tries == 0 {
            self.inner.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let ceiling = options.reconnect_min.saturating_mul(1 << self.tries.min(16)).min(options.reconnect_max);
        self.tries += 1;
        let wait = ceiling.mul_f64(rand::random_range(0.5..=1.0));
        // News of Redis ends a long pause, never the shortest: a connection that alone fails must not spin.
        let shortest = wait.min(options.reconnect_min);
        let mut news = std::pin::pin!(self.inner.health.up.notified());
        news.as_mut().enable();
        tokio::time::sleep(shortest).await;
        tokio::select! {
            () = news => {}
            () = tokio::time::sleep(wait - shortest) => {}
        }
        Ok(())
    }
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        if self.tries > 0 {
            self.inner.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
