//! The simulated node on the network: HTTP, the faults of whole requests, and control at run time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::node::{Node, Twists};
use super::noise::Noise;
use super::{ChainPlan, FaultPlan};
use crate::messages::heights::Height;

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

struct World {
    node: Node,
    faults: FaultPlan,
    fault_key: [u8; 32],
    requests: AtomicU64,
    outage: AtomicBool,
    stopped: AtomicBool,
}

/// Serves the chain of `plan` on `listen` (port 0 = any free one) from tasks of the present tokio runtime.
pub async fn serve(plan: ChainPlan, listen: SocketAddr) -> io::Result<Running> {
    let listener = TcpListener::bind(listen).await?;
    let addr = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        // Without it a short answer waits for an acknowledgement; if it fails the answers are only slower.
        let _ = stream.set_nodelay(true);
    });
    let world = Arc::new(World {
        node: Node::new(&plan),
        faults: plan.faults,
        fault_key: *blake3::hash(format!("gapless simulated faults {}", plan.seed).as_bytes()).as_bytes(),
        requests: AtomicU64::new(0),
        outage: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
    });
    let app = Router::new().route("/", post(answer)).with_state(world.clone());
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
    }

    /// Takes the node down or up again, beside the outages of the plan.
    pub fn set_outage(&self, down: bool) {
        self.world.outage.store(down, Ordering::Relaxed);
    }

    /// How many HTTP requests have come in.
    pub fn requests(&self) -> u64 {
        self.world.requests.load(Ordering::Relaxed)
    }
}

impl World {
    fn is_down(&self) -> bool {
        let planned = self.faults.outage.is_some_and(|outage| outage.is_down(self.node.uptime()));
        planned || self.outage.load(Ordering::Relaxed)
    }
}

/// Answers one request. Its faults follow from the seed and its number alone.
async fn answer(State(world): State<Arc<World>>, request: Bytes) -> Response<Body> {
    let number = world.requests.fetch_add(1, Ordering::Relaxed);
    let (faults, mut noise) = (&world.faults, Noise::new(&world.fault_key, number));
    if world.stopped.load(Ordering::Relaxed) {
        return cut();
    }
    if world.is_down() {
        return if noise.hit(0.5) { cut() } else { plain(StatusCode::SERVICE_UNAVAILABLE, "the node is down") };
    }
    if noise.hit(faults.limited) {
        let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "too many requests");
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        return response;
    }
    if let Some(slow) = faults.slow
        && noise.hit(slow.share)
    {
        tokio::time::sleep(slow.delay).await;
    }
    if noise.hit(faults.error) {
        return server_error(&mut noise);
    }
    let malformed = noise.hit(faults.malformed);
    let wrong_block = malformed && noise.hit(0.5);
    let mut twists = Twists {
        null: faults.null,
        wrong_block,
        short_batch: noise.hit(faults.short_batch),
        reorder: noise.hit(faults.reorder),
        noise,
    };
    let mut body = world.node.answer(&request, &mut twists);
    if malformed && !wrong_block {
        body.truncate(usize::try_from(twists.noise.below(body.len() as u64)).unwrap_or(0));
    }
    json(body)
}

fn server_error(noise: &mut Noise) -> Response<Body> {
    if noise.hit(0.5) {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error");
    }
    json(br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}"#.to_vec())
}

fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// An answer that breaks off: the server closes the connection.
fn cut() -> Response<Body> {
    let broken = futures_util::stream::once(async { Err::<Bytes, _>(io::Error::other("cut by the plan")) });
    Response::new(Body::from_stream(broken))
}
