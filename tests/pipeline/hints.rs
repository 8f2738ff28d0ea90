//! Hints: with a poll of a minute a push brings the block at once; with a socket that is silent the poll does.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gapless::actors::collector::FollowPlan;
use gapless::sources::hints::{HintOptions, Hints};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, accept};

use crate::oracle;
use crate::real_node::{Anvil, held_to};
use crate::reorgs::{Stage, follow_plan};
use crate::support::node::poll;
use crate::support::wait;
use crate::voices::{Tag, Voices};
use crate::world::{World, pipeline};

/// A server of WebSockets that accepts a subscription, answers pings, and never pushes; gone with this value.
struct SilentSocket {
    url: String,
    /// Subscriptions that were asked for.
    asked: Arc<AtomicUsize>,
    /// Sockets that are open.
    open: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Drop for SilentSocket {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.url.trim_start_matches("ws://"));
    }
}

impl SilentSocket {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("bound"));
        let silent = Self { url, asked: Arc::default(), open: Arc::default(), ended: Arc::default() };
        let (asked, open, ended) = (silent.asked.clone(), silent.open.clone(), silent.ended.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), asked, open) = (stream, asked.clone(), open.clone()) else { continue };
                std::thread::spawn(move || {
                    open.fetch_add(1, Ordering::SeqCst);
                    if let Ok(mut socket) = accept(stream)
                        && socket.read().is_ok()
                    {
                        asked.fetch_add(1, Ordering::SeqCst);
                        let _ = socket.send(Message::text(r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#));
                        while socket.read().is_ok() {}
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        silent
    }
}

/// A minute between two looks: whatever comes earlier came by a push.
const MINUTE: &str = "poll_ms = 60000";

#[test]
fn the_head_of_a_real_node_is_followed_by_push() {
    let Some(anvil) = Anvil::with(&[]) else { return };
    let (url, socket) = (format!("http://{}", anvil.addr), format!("ws://{}", anvil.addr));
    let more = pipeline("main", &[&url], "0", &format!("hints = [\"{socket}\"]"));
    let world = World::new(&more.replace("poll_ms = 100", MINUTE));
    let node = world.space.started("one", &[]);
    node.wait_for("new heads are pushed");
    poll("the genesis block", || (oracle::bounds(&world.redis, "main") == [(0, 0)]).then_some(()));
    let mut slowest = Duration::ZERO;
    for height in 1..=5 {
        let mined = Instant::now();
        anvil.ask("anvil_mine", json!(["0x1"]));
        poll("the new block", || (held_to(&world) >= height).then_some(()));
        slowest = slowest.max(mined.elapsed());
    }
    println!("five blocks, the slowest stored {slowest:?} after it was mined, at a poll of 60 s");
    // Several at once, of which the node pushes each.
    anvil.ask("anvil_mine", json!(["0x32"]));
    poll("all of them", || (oracle::bounds(&world.redis, "main") == [(0, 55)]).then_some(()));
    assert_eq!(oracle::held(&world.redis, "main")[0].hash, anvil.hashes(55)[&55]);
}

#[test]
fn a_real_node_behind_a_silent_socket_is_followed_by_poll() {
    let Some(anvil) = Anvil::with(&[]) else { return };
    let silent = SilentSocket::start();
    let url = format!("http://{}", anvil.addr);
    let more = pipeline("main", &[&url], "0", &format!("hints = [\"{}\"]\nhint_silence_seconds = 5", silent.url));
    let world = World::new(&more.replace("poll_ms = 100", "poll_ms = 300"));
    let node = world.space.started("one", &[]);
    node.wait_for("new heads are pushed");
    for height in 1..=3 {
        let mined = Instant::now();
        anvil.ask("anvil_mine", json!(["0x1"]));
        poll("the new block", || (held_to(&world) >= height).then_some(()));
        println!("height {height} stored {:?} after it was mined, at a poll of 0.3 s", mined.elapsed());
    }
    // The watchdog gives the socket up and tries again.
    node.wait_for("silent for 5s");
    poll("another subscription", || (silent.asked.load(Ordering::SeqCst) > 1).then_some(()));
}

/// A silent socket is given up, again and again; the poll alone brings every block; and a Collector that ends leaves
/// no socket behind.
#[actix_rt::test]
async fn push_falls_back_to_poll_with_a_silence_watchdog() {
    let (stage, silent) = (Stage::new().await, SilentSocket::start());
    let chain = Voices::new(&["a"], 109, Tag::Silent);
    let hints = Hints::new(HintOptions {
        urls: vec![silent.url.clone()],
        pipeline: "blocks.main".to_owned(),
        silence: Duration::from_millis(100),
        pause_min: Duration::from_millis(5),
        pause_max: Duration::from_millis(20),
        ..HintOptions::default()
    })
    .expect("hints");
    let plan = FollowPlan { poll: Duration::from_millis(200), ..follow_plan() };
    let collector = stage.follow(chain.clone(), plan, Some(hints));
    for head in 110..=113 {
        chain.set_all(|voice| voice.head = head);
        wait::until_true("the new block", || oracle::bounds(&stage.redis, "main").last().is_some_and(|b| b.1 == head))
            .await;
    }
    wait::until_true("the third subscription", || silent.asked.load(Ordering::SeqCst) >= 3).await;
    assert!(silent.open.load(Ordering::SeqCst) <= 2, "more than the old socket and the new one are open");
    let text = stage.metrics.render();
    let again =
        text.lines().find_map(|l| l.strip_prefix("gapless_blocks_hint_reconnects_total{pipeline=\"blocks.main\"} "));
    assert!(again.expect("a figure").parse::<u64>().expect("a number") >= 2, "{text}");
    collector.drain();
    wait::until_true("the drain", || collector.me.has_changed().is_err()).await;
    wait::until_true("the socket to be closed", || silent.open.load(Ordering::SeqCst) == 0).await;
    let asked = silent.asked.load(Ordering::SeqCst);
    assert!(!stage.metrics.render().contains("hints_connected{"), "the figure outlives the actor");
    // A second life has a socket of its own.
    drop(collector);
    let plan = FollowPlan { poll: Duration::from_millis(200), ..follow_plan() };
    let options = HintOptions { urls: vec![silent.url.clone()], ..HintOptions::default() };
    let _collector = stage.follow(chain.clone(), plan, Some(Hints::new(options).expect("hints")));
    wait::until_true("the next subscription", || silent.asked.load(Ordering::SeqCst) == asked + 1).await;
    assert_eq!(silent.open.load(Ordering::SeqCst), 1);
    actix_rt::System::current().stop();
}
