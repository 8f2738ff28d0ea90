//! An arbiter on which units live, with a connection of its own: a turn never crosses threads to reach Redis.

use std::sync::Arc;
use std::time::Duration;

use actix_rt::Arbiter;

use super::board::Pulse;
use crate::store::link::Link;

/// How often an arbiter proves that its thread is free.
const PULSE: Duration = Duration::from_millis(100);

/// One worker arbiter.
pub struct Worker {
    /// Its thread.
    pub arbiter: Arbiter,
    /// Its connection; opened by the first unit that needs it, on this thread's runtime.
    pub link: Link,
    /// Its pulse.
    pub pulse: Arc<Pulse>,
}

impl Worker {
    /// Starts the thread and its pulse.
    pub fn start(name: String, link: Link) -> Self {
        let arbiter = Arbiter::new();
        let pulse = Pulse::new(name);
        arbiter.spawn(keep_beating(pulse.clone()));
        Self { arbiter, link, pulse }
    }
}

/// Beats until its arbiter ends.
pub async fn keep_beating(pulse: Arc<Pulse>) {
    let mut interval = tokio::time::interval(PULSE);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        pulse.beat();
    }
}
