//! Signals that end a command in good order.

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that are listened to; from then on they end the process no more by themselves.
pub struct Signals(Vec<Signal>);

impl Signals {
    /// SIGTERM and SIGINT: the end that people and service managers ask for.
    pub fn listen() -> std::io::Result<Self> {
        Self::all(&[SignalKind::terminate(), SignalKind::interrupt()])
    }

    /// Those, SIGHUP and SIGQUIT: for what must put a terminal in order first.
    pub fn listen_widely() -> std::io::Result<Self> {
        Self::all(&[SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()])
    }

    /// SIGINT alone: Ctrl-C.
    pub fn interrupt() -> std::io::Result<Self> {
        Self::all(&[SignalKind::interrupt()])
    }

    /// SIGTERM alone.
    pub fn terminate() -> std::io::Result<Self> {
        Self::all(&[SignalKind::terminate()])
    }

    fn all(kinds: &[SignalKind]) -> std::io::Result<Self> {
        kinds.iter().map(|kind| signal(*kind)).collect::<std::io::Result<_>>().map(Self)
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        select_all(self.0.iter_mut().map(|signal| signal.recv().boxed_local())).await;
    }
}
