//! The door for an actor: file work runs off its thread, and waiting ends with an event, a timer or a deadline.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::back::Back;
use super::batch::{Batch, Budget};
use super::notice::Notice;
use super::options::FilesOptions;
use super::report::FilesReport;
use super::tails::Tails;
use crate::messages::log_file::LogFile;

/// The files of one unit. Clones share them, so that handles outlive a restart of the actor.
///
/// Dropping a future does not stop file work that has begun: the next call waits for it. A batch that was read for a
/// dropped [`next_batch`](LogFiles::next_batch) is void after [`restore`](LogFiles::restore), as every turn begins.
#[derive(Clone, Debug)]
pub struct LogFiles {
    tails: Arc<Mutex<Tails>>,
    /// Rung by events; none where everything is polled.
    rung: Option<Arc<Notify>>,
}

impl LogFiles {
    /// Gets ready; the faults of the options, each with its key, if it cannot.
    pub fn new(options: FilesOptions) -> Result<Self, Vec<String>> {
        let tails = Tails::new(options)?;
        let rung = tails.rung();
        Ok(Self { tails: Arc::new(Mutex::new(tails)), rung })
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Tails, Instant) -> T + Send + 'static) -> T {
        let tails = self.tails.clone();
        let work = move || work(&mut tails.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            // The supervisor restarts the unit on a panic, and must see this one too.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going down, and this future with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// [`Tails::restore`].
    pub async fn restore(&self, records: Vec<LogFile>, begun: bool) {
        self.run(move |tails, now| tails.restore(records, begun, now)).await;
    }

    /// [`Tails::look`], then [`Tails::next_batch`]; and what `also` makes of it, off the caller's thread too.
    pub async fn next_batch<T: Send + 'static>(
        &self,
        budget: Budget,
        also: impl FnOnce(&Batch) -> T + Send + 'static,
    ) -> Option<(Batch, T)> {
        let read = move |tails: &mut Tails, now| {
            tails.look(now);
            let batch = tails.next_batch(budget, now)?;
            let made = also(&batch);
            Some((batch, made))
        };
        self.run(read).await
    }

    /// [`Tails::look`] where no batch is asked for although a look is due; nothing is read.
    pub async fn look(&self) {
        if self.lock().is_neglected(Instant::now()) {
            self.run(Tails::look).await;
        }
    }

    /// [`Tails::back`].
    pub async fn back(&self, records: u64) -> Back {
        self.run(move |tails, _| tails.back(records)).await
    }

    /// [`Tails::committed`]. No file is touched.
    pub fn committed(&self, batch: &Batch) {
        self.lock().committed(batch, Instant::now());
    }

    /// Returns once something may have changed, something is due, or after this time.
    pub async fn wait(&self, longest: Duration) {
        let Some(due) = self.lock().next_due(Instant::now()) else { return };
        let pause = tokio::time::sleep(due.min(longest));
        match &self.rung {
            Some(rung) => tokio::select! {
                () = pause => {}
                // One that came since the last look is remembered.
                () = rung.notified() => {}
            },
            None => pause.await,
        }
    }

    /// [`Tails::report`]. No file is touched.
    pub fn report(&self) -> FilesReport {
        self.lock().report(Instant::now())
    }

    /// [`Tails::notices`].
    pub fn notices(&self) -> Vec<Notice> {
        self.lock().notices()
    }

    /// Held for file work that was begun by a future that was dropped, and for looks while no batch is asked for; else free.
    fn lock(&self) -> std::sync::MutexGuard<'_, Tails> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
