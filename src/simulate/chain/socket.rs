//! `newHeads` over WebSocket, on the same port as the requests: every head in turn, and after a reorg the headers of
//! the new branch again, from the lowest that changed.
//!
//! What waits for a socket is not stored: a subscription is the last height that it was told, and headers are rendered
//! as the reader takes them. A reader that falls [`BEHIND_MAX`] heights behind is dropped, as geth does it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use tokio::sync::OwnedSemaphorePermit;

use super::evm_block;
use super::fate::Fate;
use super::rpc::{self, Order};
use super::server::{World, failed, plain};
use crate::messages::heights::Height;
use crate::simulate::noise::Noise;

/// Open WebSockets at a time; further ones are answered with 503.
pub(super) const SOCKETS_MAX: usize = 1_000;
/// How many heights a reader may be behind the head before it is dropped; geth keeps 10,000 notifications.
pub(super) const BEHIND_MAX: u64 = 10_000;
/// Subscriptions of one socket.
const SUBSCRIPTIONS_MAX: usize = 16;
/// The largest message that is read, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// A socket that the `silent` fault hits tells one header, and at most so many, before it goes silent.
const TOLD_BEFORE_SILENCE_MAX: u64 = 9;
/// How often a socket looks whether the node is still there.
const LOOK: Duration = Duration::from_millis(50);
/// The shortest wait for the next block.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// Opens a WebSocket. Its request has a fate like any other.
pub(super) async fn upgrade(State(world): State<Arc<World>>, request: WebSocketUpgrade) -> Response<Body> {
    let fate = world.fate().await;
    if !matches!(fate, Fate::Answered(_)) {
        return failed(fate);
    }
    let Ok(seat) = Arc::clone(&world.seats).try_acquire_owned() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "too many WebSockets");
    };
    let mut noise = world.socket_noise();
    let told_before_silence = noise.hit(world.faults.silent).then(|| 1 + noise.below(TOLD_BEFORE_SILENCE_MAX));
    let request = request.max_message_size(MESSAGE_BYTES_MAX);
    request
        .on_upgrade(move |socket| {
            let reader = Reader { world, socket, told_before_silence, subscriptions: Vec::new(), noise, _seat: seat };
            reader.serve()
        })
        .into_response()
}

/// One open WebSocket.
struct Reader {
    world: Arc<World>,
    socket: WebSocket,
    subscriptions: Vec<Subscription>,
    /// How many headers it still gets before it goes silent; none: it never does.
    told_before_silence: Option<u64>,
    noise: Noise,
    _seat: OwnedSemaphorePermit,
}

/// A wish for headers.
struct Subscription {
    id: String,
    /// The last head that was told.
    told: Height,
}

/// The socket has ended, or must.
struct Ended;

impl Reader {
    async fn serve(mut self) {
        // Dropping the socket closes the connection, whatever the reason.
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), Ended> {
        let is_behind = self.behind() > 0;
        let message = tokio::select! {
            message = self.socket.recv() => Some(message),
            () = news(&self.world, is_behind) => None,
        };
        if self.world.is_away() {
            return Err(Ended);
        }
        match message {
            None => self.tell().await,
            Some(Some(Ok(Message::Text(text)))) => self.answer(text.as_bytes()).await,
            Some(Some(Ok(Message::Binary(bytes)))) => self.answer(&bytes).await,
            // Pings are answered by the library, even of a silent socket.
            Some(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => Ok(()),
            Some(Some(Ok(Message::Close(_)) | Err(_)) | None) => Err(Ended),
        }
    }

    /// Answers one request; the faults are those of HTTP in the words of JSON-RPC.
    async fn answer(&mut self, request: &[u8]) -> Result<(), Ended> {
        let refused = |code, text: &str| rpc::refused(rpc::id(request).as_deref(), &rpc::fault(code, text));
        let body = match self.world.fate().await {
            Fate::Cut | Fate::Down => return Err(Ended),
            Fate::Limited => refused(-32005, "limit exceeded"),
            Fate::Broken { .. } => refused(-32603, "internal error"),
            Fate::Answered(mut twists) => {
                let mut body = match rpc::order(request) {
                    Some(order) => self.obey(order),
                    None => self.world.node.answer(request, &mut twists),
                };
                twists.cut(&mut body);
                body
            }
        };
        if body.is_empty() || self.told_before_silence == Some(0) {
            return Ok(());
        }
        self.send(body).await
    }

    fn obey(&mut self, order: Order) -> Vec<u8> {
        match order {
            Order::Subscribe(id, kind) if kind != "newHeads" => {
                let reason = format!("no \"{kind}\" subscription in eth namespace");
                rpc::refused(Some(&id), &rpc::fault(-32601, reason))
            }
            Order::Subscribe(id, _) if self.subscriptions.len() >= SUBSCRIPTIONS_MAX => {
                rpc::refused(Some(&id), &rpc::fault(-32000, "too many subscriptions"))
            }
            Order::Subscribe(id, _) => {
                let named = self.noise.hex(16);
                self.subscriptions.push(Subscription { id: named.clone(), told: self.world.node.head() });
                rpc::answered(&id, &format!("\"{named}\""))
            }
            Order::Unsubscribe(id, named) => {
                let before = self.subscriptions.len();
                self.subscriptions.retain(|subscription| subscription.id != named);
                match self.subscriptions.len() < before {
                    true => rpc::answered(&id, "true"),
                    false => rpc::refused(Some(&id), &rpc::fault(-32000, "subscription not found")),
                }
            }
        }
    }

    /// Tells each subscription that is behind one head further.
    async fn tell(&mut self) -> Result<(), Ended> {
        for place in 0..self.subscriptions.len() {
            if self.behind() > BEHIND_MAX {
                return Err(Ended);
            }
            let told = self.subscriptions[place].told;
            if told < self.world.node.head() {
                for height in steps(&self.world, told) {
                    self.notify(place, height, told + 1).await?;
                }
                self.subscriptions[place].told = told + 1;
            }
        }
        Ok(())
    }

    async fn notify(&mut self, place: usize, height: Height, head: Height) -> Result<(), Ended> {
        match &mut self.told_before_silence {
            Some(0) => return Ok(()),
            Some(left) => *left -= 1,
            None => {}
        }
        let text = notification(&self.world, &self.subscriptions[place].id, height, head);
        self.send(text).await
    }

    /// How far the farthest subscription is behind the head.
    fn behind(&self) -> u64 {
        let lowest = self.subscriptions.iter().map(|subscription| subscription.told).min();
        lowest.map_or(0, |told| self.world.node.head().saturating_sub(told))
    }

    /// Sends one message; a reader that does not take it is dropped once it is too far behind.
    async fn send(&mut self, body: Vec<u8>) -> Result<(), Ended> {
        let text = String::from_utf8_lossy(&body).into_owned();
        let (world, behind) = (Arc::clone(&self.world), self.behind());
        let told = world.node.head().saturating_sub(behind);
        let lost = async {
            while !world.is_away() && world.node.head().saturating_sub(told) <= BEHIND_MAX {
                news(&world, false).await;
            }
        };
        tokio::select! {
            biased;
            sent = self.socket.send(Message::Text(text.into())) => sent.map_err(|_| Ended),
            () = lost => Err(Ended),
        }
    }
}

/// Waits until there may be a new head, or it is time to look whether the node is still there; not at all if there
/// is something to tell already.
async fn news(world: &World, at_once: bool) {
    if at_once {
        return;
    }
    let wait = world.node.next_block_in().map_or(LOOK, |wait| wait.clamp(LOOK_MIN, LOOK));
    tokio::select! {
        () = world.moved.notified() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// The heights whose headers are told when the head goes from `told` one further.
fn steps(world: &World, told: Height) -> impl Iterator<Item = Height> + use<> {
    let replaced = world.node.chain().reorgs().and_then(|reorgs| reorgs.replaced_above(told));
    let lowest = replaced.map_or(told + 1, |range| range.lo());
    lowest..=told + 1
}

/// The header at `height` of the chain that shows this head.
fn notification(world: &World, subscription: &str, height: Height, head: Height) -> Vec<u8> {
    let mut block = Vec::new();
    world.node.put_true(height, world.node.chain().branch(height, head), false, &mut block);
    let header = evm_block::header(&block);
    let params = serde_json::json!({"subscription": subscription, "result": header});
    serde_json::json!({"jsonrpc": "2.0", "method": "eth_subscription", "params": params}).to_string().into_bytes()
}
