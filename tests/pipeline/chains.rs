//! JSON-RPC servers of the tests' own: endpoints that serve any block of a simulated chain at any height.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
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
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct World {
    chain: SimChain,
    head: u64,
    branches: Branches,
}

impl Woven {
    pub fn start(chain: SimChain, head: u64, branches: Branches) -> Self {
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let world = Arc::new(World { chain, head, branches });
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
        Self { url, stop: Some(stop), thread: Some(thread) }
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
        Value::Array(calls) => Value::Array(calls.iter().map(|call| world.call(call)).collect()).to_string(),
        call => world.call(call).to_string(),
    }
}

impl World {
    fn call(&self, call: &Value) -> Value {
        let result = match call["method"].as_str().expect("a method") {
            "eth_chainId" => json!("0x539"),
            "eth_blockNumber" => json!(format!("{:#x}", self.head)),
            "eth_getBlockByNumber" => self.block(call["params"][0].as_str().expect("a height")),
            other => panic!("{other} is not served"),
        };
        json!({ "jsonrpc": "2.0", "id": call["id"], "result": result })
    }

    fn block(&self, place: &str) -> Value {
        let height = u64::from_str_radix(place.trim_start_matches("0x"), 16).expect("a number");
        let branch = (self.branches)(height).filter(|_| height <= self.head);
        branch.map_or(Value::Null, |branch| {
            serde_json::from_slice(&self.chain.block(height, branch).raw).expect("a block")
        })
    }
}
