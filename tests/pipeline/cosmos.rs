//! A chain of the Cosmos SDK end to end: a server with the shapes of its REST gateway, and what a node makes of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::oracle::{self, Held};
use crate::sim::on_a_thread;
use crate::support::node::poll;
use crate::world::{World, pipeline};

/// Where the gateway keeps blocks.
const PATH: &str = "/cosmos/base/tendermint/v1beta1/blocks";
/// The newest block.
const HEAD: u64 = 90;
/// The lowest block that the node still keeps.
const LOWEST: u64 = 11;

/// A served chain; gone with this value.
struct Gateway {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    fn start() -> Self {
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = on_a_thread(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            let addr: SocketAddr = listener.local_addr().expect("its address");
            ready.send(format!("http://{addr}")).expect("the test waits");
            let app = Router::new()
                .route(&format!("{PATH}/{{height}}"), get(answer))
                .fallback(async || error(StatusCode::NOT_IMPLEMENTED, 12, "Not Implemented"));
            tokio::select! {
                ended = async { axum::serve(listener, app).await } => ended.expect("a server"),
                _ = stopped => {}
            }
        });
        let url = started.recv().expect("a served chain");
        Self { url, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn error(status: StatusCode, code: u32, message: &str) -> (StatusCode, String) {
    (status, json!({"code": code, "message": message, "details": []}).to_string())
}

async fn answer(Path(height): Path<String>) -> (StatusCode, String) {
    let height = if height == "latest" { HEAD } else { height.parse().expect("a height") };
    match height {
        LOWEST..=HEAD => (StatusCode::OK, block(height)),
        height if height > HEAD => {
            error(StatusCode::BAD_REQUEST, 3, "requested block height is bigger then the chain length")
        }
        height => {
            let message = format!("height {height} is not available, lowest height is {LOWEST}");
            error(StatusCode::INTERNAL_SERVER_ERROR, 2, &message)
        }
    }
}

/// The bytes of the hash of a block, all the same one: 44 characters of base64 with a sign that hexadecimal has not.
fn base64(height: u64) -> String {
    // Each 3 bytes become 4 characters; 32 bytes are 10 such groups and 2 bytes, "XXXX" ten times and "XXU=".
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = (0..33).map(|i| if i < 32 { byte(height, i) } else { 0 }).collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        text.extend([18, 12, 6, 0].map(|shift| char::from(SIGNS[bits >> shift & 63])));
    }
    text.pop();
    text.push('=');
    text
}

fn byte(height: u64, place: u32) -> u8 {
    (height * 37 + u64::from(place) * 11 + 200) as u8
}

/// The same hash as it is stored.
fn hex(height: u64) -> String {
    (0..32).map(|place| format!("{:02X}", byte(height, place))).collect()
}

fn block(height: u64) -> String {
    let id = |height| json!({"hash": base64(height), "part_set_header": {"total": 1, "hash": base64(0)}});
    let block = json!({
        "block_id": id(height),
        "block": {
            "header": {"version": {"block": "11", "app": "0"}, "chain_id": "migaloo-1", "height": height.to_string(),
                "time": "2023-02-03T04:05:06.789012345Z", "last_block_id": id(height - 1)},
            "data": {"txs": ["CpEB"]}, "evidence": {"evidence": []},
            "last_commit": {"height": (height - 1).to_string(), "round": 0, "block_id": id(height - 1), "signatures": []},
        },
    });
    serde_json::to_string_pretty(&block).expect("JSON")
}

#[test]
fn a_cosmos_chain_is_stored_byte_for_byte_and_what_is_pruned_is_parked() {
    let gateway = Gateway::start();
    let dialect = "chain = \"cosmos-rest\"";
    // As the address of the latest block is often written down, and as a base address.
    let latest = format!("{}{PATH}/latest", gateway.url);
    let world = World::new(
        &[
            pipeline("main", &[&latest], "1", dialect),
            pipeline("wrong", &[&gateway.url], "1", &format!("{dialect}\nchain_id = \"phoenix-1\"")),
        ]
        .join(""),
    );
    let mut node = world.space.started("one", &[]);
    world.wait_held("main", &[(LOWEST, HEAD)]);
    poll("the pruned heights to be parked", || {
        let parked = oracle::parked(&world.redis, "main");
        matches!(&parked[..], [(1, 10, _)] | [.., (_, 10, _)] if parked[0].0 == 1).then_some(parked)
    });
    let parked = oracle::parked(&world.redis, "main");
    assert!(parked.iter().all(|(_, _, why)| why.contains("lowest height is 11")), "{parked:?}");

    let piece = Held { lo: LOWEST, hi: HEAD, parent: hex(LOWEST - 1), hash: hex(HEAD) };
    assert_eq!(oracle::held(&world.redis, "main"), [piece]);
    assert_eq!(oracle::fact(&world.redis, "main", "chain_id"), "migaloo-1");
    let files = oracle::files(&world.store("main"));
    assert_eq!(files.keys().copied().collect::<Vec<_>>(), (LOWEST..=HEAD).collect::<Vec<_>>());
    for (height, stored) in &files {
        let [stored] = &stored[..] else { panic!("height {height} has {} files", stored.len()) };
        assert_eq!(
            (&stored.hash, stored.raw.as_slice()),
            (&hex(*height), block(*height).as_bytes()),
            "height {height}"
        );
    }
    let get = world.space.run(&["blocks", "get", "42", "--pipeline", "main"]);
    assert_eq!((get.code, get.out.trim_end()), (0, block(42).as_str()));
    let verify = world.space.run(&["blocks", "verify", &format!("{LOWEST}..{HEAD}"), "--pipeline", "main"]);
    assert_eq!(verify.code, 0, "{verify:?}");

    let reason = world.wait_failed("blocks.wrong/collector");
    assert!(reason.contains("serves chain migaloo-1, but this pipeline holds chain phoenix-1"), "{reason}");
    assert_eq!(oracle::files(&world.store("wrong")).len(), 0);
    node.kill();
}

#[test]
fn doctor_names_what_is_wrong_with_an_endpoint_and_what_to_do() {
    let gateway = Gateway::start();
    let dead = "http://127.0.0.1:1".to_owned();
    let world = World::new(
        &[
            pipeline("main", &[&gateway.url, &dead], "1", "chain = \"cosmos-rest\""),
            pipeline("foreign", &[&format!("{}/elsewhere", gateway.url)], "1", "chain = \"cosmos-rest\""),
            pipeline("wrong", &[&gateway.url], "1", "chain = \"cosmos-rest\"\nchain_id = \"phoenix-1\""),
            pipeline("evm", &[&gateway.url], "0", ""),
        ]
        .join(""),
    );
    let doctor = world.space.run(&["doctor", "--json"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    let checks: Value = doctor.json()["checks"].take();
    let check = |name: &str| {
        let check = checks.as_array().and_then(|all| all.iter().find(|check| check["name"] == name));
        let check = check.unwrap_or_else(|| panic!("no check {name} in {checks}"));
        ["verdict", "words", "remedy"].map(|part| check[part].as_str().expect("a text").to_owned())
    };
    let good = ["good".to_owned(), format!("chain migaloo-1, head {HEAD}, final at once"), String::new()];
    assert_eq!(check("blocks.main endpoint 1"), good);
    for (name, words, remedy) in [
        ("blocks.main endpoint 2", "is out of reach", "start the node"),
        ("blocks.foreign endpoint 1", "no Cosmos REST endpoint", "often port 1317"),
        ("blocks.wrong endpoint 1", "serves chain migaloo-1", "chain_id"),
        ("blocks.evm endpoint 1", "HTTP 501", "correct the address"),
    ] {
        let [verdict, found, advice] = check(name);
        assert_eq!(verdict, "bad", "{name}");
        assert!(found.contains(words) && advice.contains(remedy), "{name}: {found} -> {advice}");
    }
}
