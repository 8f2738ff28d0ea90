//! The simulated node on the network: HTTP in both dialects, the faults of whole requests, and control at run time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Response, StatusCode, Uri, header};
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::fate::{Fate, draw};
use super::node::Node;
use super::{ChainPlan, FaultPlan, Network, gateway, socket};
use crate::messages::block::BlockHash;
use crate::messages::heights::Height;
use crate::simulate::noise::Noise;

/// A served chain. Dropping it stops it.
pub struct Running {
    addr: SocketAddr,
    control: Control,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

/// Changes a served chain while it runs; clones change the same one.
#[derive(Clone)]
pub struct Control {
    world: Arc<World>,
}

/// What the requests and the sockets share.
pub(super) struct World {
    pub node: Node,
    pub faults: FaultPlan,
    /// Rung when blocks were added by hand.
    pub moved: Notify,
    /// A seat for each open WebSocket.
    pub seats: Arc<Semaphore>,
    fault_key: [u8; 32],
    requests: AtomicU64,
    sockets: AtomicU64,
    outage: AtomicBool,
    stopped: AtomicBool,
}

/// Serves the chain of `plan` on `listen` (port 0 = any free one) from tasks of the present tokio runtime.
///
/// The error is the listener's, or of the kind [`io::ErrorKind::InvalidInput`] with what [`ChainPlan::check`] says.
pub async fn serve(plan: ChainPlan, listen: SocketAddr) -> io::Result<Running> {
    plan.check().map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
    let listener = TcpListener::bind(listen).await?;
    let addr = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        // Without it a short answer waits for an acknowledgement; if it fails the answers are only slower.
        let _ = stream.set_nodelay(true);
    });
    let world = Arc::new(World {
        node: Node::new(&plan),
        faults: plan.faults,
        moved: Notify::new(),
        seats: Arc::new(Semaphore::new(socket::SOCKETS_MAX)),
        fault_key: *blake3::hash(format!("gapless simulated faults {}", plan.seed).as_bytes()).as_bytes(),
        requests: AtomicU64::new(0),
        sockets: AtomicU64::new(0),
        outage: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
    });
    let app = match plan.network {
        Network::Evm(_) => Router::new().route("/", post(rpc).get(socket::upgrade)),
        Network::CosmosRest(_) => Router::new().fallback(rest),
    };
    let app = app.with_state(world.clone());
    let (stop, stopped) = oneshot::channel();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        // Both the word and the loss of its sender mean the end.
        let _ = stopped.await;
    });
    let task = tokio::spawn(async move { server.await });
    Ok(Running { addr, control: Control { world }, stop: Some(stop), task })
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address of its WebSocket (EVM).
    pub fn socket_url(&self) -> String {
        format!("ws://{}", self.addr)
    }

    /// What changes it while it runs.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Stops it and waits until its port is free.
    pub async fn stop(mut self) {
        self.signal();
        self.task.abort();
        // The end of an aborted task is an error; that it has ended is what counts.
        let _ = (&mut self.task).await;
    }

    fn signal(&mut self) {
        self.control.world.stopped.store(true, Ordering::Relaxed);
        if let Some(stop) = self.stop.take() {
            // The server has gone already if nobody hears it.
            let _ = stop.send(());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal();
    }
}

impl Control {
    /// The head now.
    pub fn head(&self) -> Height {
        self.world.node.head()
    }

    /// Adds blocks at once.
    pub fn advance(&self, blocks: u64) {
        self.world.node.advance(blocks);
        self.world.moved.notify_waiters();
    }

    /// The blocks that were served and then replaced, or will be, ascending by height; the newest 10,000.
    pub fn orphans(&self) -> Vec<(Height, BlockHash)> {
        let node = &self.world.node;
        let orphan = |height| node.chain().orphan(height).map(|block| (height, block.hash));
        node.orphans().into_iter().filter_map(orphan).collect()
    }

    /// Takes the node down or up again, beside the outages of the plan.
    pub fn set_outage(&self, down: bool) {
        self.world.outage.store(down, Ordering::Relaxed);
    }

    /// How many requests have come in, over HTTP and WebSockets.
    pub fn requests(&self) -> u64 {
        self.world.requests.load(Ordering::Relaxed)
    }
}

impl World {
    fn is_down(&self) -> bool {
        let planned = self.faults.outage.is_some_and(|outage| outage.is_down(self.node.uptime()));
        planned || self.outage.load(Ordering::Relaxed)
    }

    /// Whether sockets must end: the node is down, or is no more.
    pub fn is_away(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.is_down()
    }

    /// Counts a request, lets it wait if that is its fate, and says what else is.
    pub async fn fate(&self) -> Fate {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if self.stopped.load(Ordering::Relaxed) {
            return Fate::Cut;
        }
        let (delay, fate) = draw(&self.faults, self.is_down(), Noise::new(&self.fault_key, number));
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        fate
    }

    /// The noise of the next WebSocket.
    pub fn socket_noise(&self) -> Noise {
        // Counted from the other end, so that no request has the same.
        Noise::new(&self.fault_key, u64::MAX - self.sockets.fetch_add(1, Ordering::Relaxed))
    }
}

/// Answers one request of JSON-RPC.
async fn rpc(State(world): State<Arc<World>>, request: Bytes) -> Response<Body> {
    match world.fate().await {
        Fate::Answered(mut twists) => {
            let mut body = world.node.answer(&request, &mut twists);
            twists.cut(&mut body);
            json(StatusCode::OK, body)
        }
        Fate::Broken { plain: false } => {
            let body = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}"#;
            json(StatusCode::OK, body.to_vec())
        }
        fate => failed(fate),
    }
}

/// Answers one request of Cosmos REST.
async fn rest(State(world): State<Arc<World>>, method: Method, uri: Uri) -> Response<Body> {
    match world.fate().await {
        Fate::Answered(mut twists) => {
            let (status, mut body) = world.node.gateway(&method, uri.path(), &mut twists);
            twists.cut(&mut body);
            json(status, body)
        }
        Fate::Broken { .. } => {
            let (status, body) = gateway::refused(StatusCode::INTERNAL_SERVER_ERROR, 13, "internal error");
            json(status, body)
        }
        fate => failed(fate),
    }
}

/// What a request without an answer gets.
pub(super) fn failed(fate: Fate) -> Response<Body> {
    match fate {
        Fate::Cut => cut(),
        Fate::Down => plain(StatusCode::SERVICE_UNAVAILABLE, "the node is down"),
        Fate::Limited => {
            let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "too many requests");
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            response
        }
        Fate::Broken { .. } | Fate::Answered(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A short answer of a server that never reached the node.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// An answer that breaks off: the server closes the connection.
fn cut() -> Response<Body> {
    let broken = futures_util::stream::once(async { Err::<Bytes, _>(io::Error::other("cut by the plan")) });
    Response::new(Body::from_stream(broken))
}
