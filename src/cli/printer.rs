//! Standard output for commands that print for long: on a thread of its own, and an eye on whether anybody reads.

use std::future::pending;
use std::io::{self, Write};
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// Writes to standard output on a thread of its own: a reader that rests must not keep signals from being obeyed.
pub(super) struct Printer(mpsc::Sender<(Vec<u8>, oneshot::Sender<io::Result<()>>)>);

impl Printer {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (sender, mut receiver) = mpsc::channel::<(Vec<u8>, oneshot::Sender<io::Result<()>>)>(1);
        std::thread::Builder::new().name("printer".to_owned()).spawn(move || {
            while let Some((text, done)) = receiver.blocking_recv() {
                let mut out = io::stdout().lock();
                // Whoever asked may have ended meanwhile.
                let _ = done.send(out.write_all(&text).and_then(|()| out.flush()));
            }
        })?;
        Ok(Self(sender))
    }

    /// Writes all of it and flushes.
    pub async fn print(&self, text: Vec<u8>) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let gone = |_| io::Error::other("its writer has ended");
        self.0.send((text, done)).await.map_err(|_| gone(()))?;
        written.await.map_err(|_| gone(()))?
    }
}

/// Waits until nobody can read standard output any more, so that a long interval does not outlive its reader. Files
/// and others that cannot be watched never close.
pub(super) async fn closed() {
    // Unchecked also means that it stays as it is, where writing waits for the reader.
    let out = io::stdout().as_fd().try_clone_to_owned().and_then(pipe::Sender::from_owned_fd_unchecked);
    let Ok(out) = out else { return pending().await };
    if out.ready(Interest::ERROR).await.is_err() {
        pending().await
    }
}
