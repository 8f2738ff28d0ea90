//! A simulated chain served from a thread of its own, for tests without a runtime.

use std::sync::mpsc;
use std::thread::JoinHandle;

use gapless::simulate::chain::{ChainPlan, Control, SimChain, serve};
use tokio::sync::oneshot;

/// A served chain and its truth; gone with this value.
pub struct Sim {
    pub url: String,
    pub control: Control,
    pub truth: SimChain,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A small chain without faults: blocks 0 to `head`.
pub fn plan(seed: u64, head: u64) -> ChainPlan {
    ChainPlan { seed, blocks: head, block_bytes: 2_000..=4_000, ..ChainPlan::default() }
}

impl Sim {
    pub fn start(plan: ChainPlan) -> Self {
        let truth = SimChain::new(&plan);
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = on_a_thread(async move {
            let running = serve(plan, ([127, 0, 0, 1], 0).into()).await.expect("a free port");
            ready.send((running.url(), running.control())).expect("the test waits");
            let _ = stopped.await;
            running.stop().await;
        });
        let (url, control) = started.recv().expect("a served chain");
        Self { url, control, truth, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs a server to its end on a thread of its own.
pub fn on_a_thread(server: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(server);
    })
}
