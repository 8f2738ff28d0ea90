//! JSON-RPC servers of the tests' own: endpoints that serve any block of a simulated chain at any height.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use gapless::simulate::chain::SimChain;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::sim::on_a_thread;

/// Which branch's block stands at a height; none if the node knows nothing of it.
pub type Branches = fn(u64) -> Option<u32>;

/// A served chain whose heights come from branches as `branches` says; gone with this value.
pub struct Woven {
    pub url: String,
    asked: Arc<Mutex<BTreeMap<u64, u32>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct World {
    chain: SimChain,
    head: u64,
    branches: Branches,
    asked: Arc<Mutex<BTreeMap<u64, u32>>>,
}

impl Woven {
    pub fn start(chain: SimChain, head: u64, branches: Branches) -> Self {
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let asked = Arc::new(Mutex::default());
        let world = Arc::new(World { chain, head, branches, asked: asked.clone() });
        let thread = on_a_thread(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            let addr: SocketAddr = listener.local_addr().expect("its address");
            ready.send(format!("http://{addr}")).expect("the test waits");
            let app = Router::new().route("/", post(answer)).with_state(world);
            tokio::select! {
                ended = async { axum::serve(listener, app).await } => ended.expect("a server"),
                _ = stopped => {}
            }
        });
        let url = started.recv().expect("a served chain");
        Self { url, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// How often the block of each of these heights was asked for; those never asked for are left out.
    pub fn asked(&self, heights: std::ops::RangeInclusive<u64>) -> BTreeMap<u64, u32> {
        self.asked.lock().expect("the counts").range(heights).map(|(height, times)| (*height, *times)).collect()
    }
}

impl Drop for Woven {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(State(world): State<Arc<World>>, request: String) -> String {
    let request: Value = serde_json::from_str(&request).expect("JSON");
    match &request {
        Value::Array(calls) => {
            let answers: Vec<String> = calls.iter().map(|call| world.call(call)).collect();
            format!("[{}]", answers.join(","))
        }
        call => world.call(call),
    }
}

impl World {
    /// The block's bytes are the chain's own, as a node would send them.
    fn call(&self, call: &Value) -> String {
        let result = match call["method"].as_str().expect("a method") {
            "eth_chainId" => json!("0x539").to_string(),
            "eth_blockNumber" => json!(format!("{:#x}", self.head)).to_string(),
            "eth_getBlockByNumber" => self.block(call["params"][0].as_str().expect("a height")),
            other => panic!("{other} is not served"),
        };
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{result}}}", call["id"])
    }

    fn block(&self, place: &str) -> String {
        let height = u64::from_str_radix(place.trim_start_matches("0x"), 16).expect("a number");
        *self.asked.lock().expect("the counts").entry(height).or_default() += 1;
        let branch = (self.branches)(height).filter(|_| height <= self.head);
        let raw = |branch| String::from_utf8(self.chain.block(height, branch).raw.to_vec()).expect("text");
        branch.map_or_else(|| "null".to_owned(), raw)
    }
}
