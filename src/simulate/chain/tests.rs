//! The served chain against the real source: what arrives is the truth of the plan, whatever goes wrong on the way.

use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::config::ChainDialect;
use crate::messages::block::{Block, Origin};
use crate::messages::heights::{HeightRange, HeightSet};
use crate::sources::{Absence, Chain, Fetched, SourceError, SourceOptions, open_with};

/// The served chain, and the real source of its dialect.
async fn start(plan: &ChainPlan) -> (Running, Chain) {
    let running = serve(plan.clone(), "127.0.0.1:0".parse().expect("an address")).await.expect("serves");
    let rest = Duration::from_millis(5);
    let endpoints = vec![running.url()];
    let options = SourceOptions { endpoints, batch_heights: 20, rest_min: rest, rest_max: rest, ..Default::default() };
    let dialect = match plan.network {
        Network::Evm(_) => ChainDialect::Evm,
        Network::CosmosRest(_) => ChainDialect::CosmosRest,
    };
    (running, open_with(dialect, options).expect("a source"))
}

fn range(lo: u64, hi: u64) -> HeightRange {
    HeightRange::new(lo, hi).expect("a range")
}

/// What was fetched, without how it came: the plan knows only the blocks.
fn plain(fetched: Vec<Fetched>) -> Vec<Fetched> {
    let plain = |fetched| match fetched {
        Fetched::Block(block) => Fetched::Block(Block { origin: Origin::default(), ..block }),
        absent @ Fetched::Absent(..) => absent,
    };
    fetched.into_iter().map(plain).collect()
}

fn truth(plan: &ChainPlan, range: HeightRange) -> Vec<Fetched> {
    let chain = SimChain::new(plan);
    (range.lo()..=range.hi()).map(|height| Fetched::Block(chain.truth(height).into())).collect()
}

#[tokio::test]
async fn the_source_sees_the_plan() {
    let plan = ChainPlan { blocks: 300, network: Network::Evm(99), seed: 5, ..ChainPlan::default() };
    let (running, source) = start(&plan).await;
    assert_eq!(source.identity().await.expect("an identity").chain_id, "99");
    assert_eq!(source.head().await, Ok(300));
    assert_eq!(plain(source.blocks(range(0, 250)).await.expect("blocks")), truth(&plan, range(0, 250)));
    assert_eq!(source.blocks(range(301, 301)).await, Ok(vec![Fetched::Absent(301, Absence::Unknown)]));
    running.control().advance(1);
    assert_eq!((source.head().await, running.control().head()), (Ok(301), 301));
    assert_eq!(plain(source.blocks(range(301, 301)).await.expect("a block")), truth(&plan, range(301, 301)));
}

#[tokio::test]
async fn an_outage_is_an_outage_and_ends() {
    let (running, source) = start(&ChainPlan::default()).await;
    running.control().set_outage(true);
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut refused, mut broken) = (false, false);
    while !(refused && broken) {
        assert!(Instant::now() < deadline, "503 {refused}, cut {broken}");
        match source.head().await {
            Err(SourceError::Unreachable { reason, .. }) if reason.contains("HTTP 503") => refused = true,
            Err(SourceError::Unreachable { .. }) => broken = true,
            other => panic!("{other:?} in an outage"),
        }
        tokio::task::yield_now().await;
    }
    running.control().set_outage(false);
    while source.head().await != Ok(1000) {
        assert!(Instant::now() < deadline, "the outage does not end");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stopped_chain_frees_its_port_and_a_dropped_one_goes_silent() {
    let (running, source) = start(&ChainPlan::default()).await;
    source.head().await.expect("a head");
    let addr = running.addr();
    running.stop().await;
    let again = serve(ChainPlan::default(), addr).await.expect("the port is free");
    drop(again);
    let deadline = Instant::now() + Duration::from_secs(10);
    while source.head().await.is_ok() {
        assert!(Instant::now() < deadline, "it still answers");
        tokio::task::yield_now().await;
    }
}

/// All faults at once: every block that arrives is the true one, and asking again for the gaps brings them all.
#[tokio::test]
async fn through_all_faults_only_the_truth_arrives() {
    let faults = "slow=0.05:5ms,null=0.3,error=0.05,malformed=0.1,short_batch=0.3,reorder=0.5".parse().expect("faults");
    all_arrives(ChainPlan { blocks: 1000, faults, ..ChainPlan::default() }, "1337", 0).await;
}

/// The same over the other dialect, which answers one height at a time and begins at height 1.
#[tokio::test]
async fn through_all_faults_of_cosmos_rest_only_the_truth_arrives() {
    let faults = "slow=0.02:5ms,null=0.3,error=0.05,malformed=0.1".parse().expect("faults");
    let network = Network::CosmosRest("sim-9".to_owned());
    all_arrives(ChainPlan { blocks: 300, network, faults, ..ChainPlan::default() }, "sim-9", 1).await;
}

async fn all_arrives(plan: ChainPlan, chain_id: &str, lowest: Height) {
    let (running, source) = start(&plan).await;
    source.expect_chain(chain_id);
    let (chain, deadline) = (SimChain::new(&plan), Instant::now() + Duration::from_secs(60));
    let (mut held, mut absent, mut failed) = (HeightSet::new(), 0, 0);
    while let Some(asked) =
        held.gaps(range(lowest, plan.blocks)).ranges().first().and_then(|gap| gap.chunks(100).next())
    {
        assert!(Instant::now() < deadline, "{} blocks so far", held.count());
        let fetched = source.blocks(asked).await.unwrap_or_else(|_| {
            failed += 1;
            Vec::new()
        });
        assert!(fetched.is_empty() || fetched.len() as u64 == asked.count());
        for (fetched, height) in fetched.into_iter().zip(asked.lo()..) {
            match fetched {
                Fetched::Block(block) => {
                    assert_eq!((&block.origin.endpoint, block.origin.attempt > 0), (&running.url(), true));
                    assert_eq!(Block { origin: Origin::default(), ..block }, chain.truth(height).into());
                    held.insert(HeightRange::one(height));
                }
                Fetched::Absent(at, _) => {
                    assert_eq!(at, height);
                    absent += 1;
                }
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(absent + failed > 0, "the plan does nothing: {absent} absent, {failed} failed");
    assert!(running.control().requests() > 50);
}

#[tokio::test]
async fn a_limited_request_names_its_pause() {
    let faults = FaultPlan { limited: 1.0, ..FaultPlan::default() };
    let (running, source) = start(&ChainPlan { faults, ..ChainPlan::default() }).await;
    let retry_after = Some(Duration::from_secs(1));
    assert_eq!(source.head().await, Err(SourceError::RateLimited { endpoint: running.url(), retry_after }));
}

/// The head passes two reorgs: at each height the source sees the chain as it is, orphans first, then the truth.
#[tokio::test]
async fn the_source_sees_reorgs() {
    let plan = ChainPlan { blocks: 95, faults: "reorg=100:5".parse().expect("faults"), ..ChainPlan::default() };
    let (running, source) = start(&plan).await;
    let chain = SimChain::new(&plan);
    for head in 95..=205 {
        assert_eq!(source.head().await, Ok(head));
        let seen = range(head - 20, head);
        let expected: Vec<_> =
            (seen.lo()..=seen.hi()).map(|height| Fetched::Block(chain.canonical(height, head).into())).collect();
        assert_eq!(plain(source.blocks(seen).await.expect("blocks")), expected, "head {head}");
        running.control().advance(1);
    }
    assert_eq!(plain(source.blocks(range(80, 205)).await.expect("blocks")), truth(&plan, range(80, 205)));
    let orphans: Vec<_> = (96..=100).chain(196..=200).map(|h| (h, chain.orphan(h).expect("an orphan").hash)).collect();
    assert_eq!(running.control().orphans(), orphans);
}

#[tokio::test]
async fn the_source_is_told_what_is_pruned() {
    let faults = "keep=10".parse().expect("faults");
    let (running, source) = start(&ChainPlan { blocks: 100, faults, ..ChainPlan::default() }).await;
    let pruned = |fetched: Vec<Fetched>| matches!(fetched[..], [Fetched::Absent(_, Absence::Pruned(_))]);
    assert!(pruned(source.blocks(range(90, 90)).await.expect("an answer")));
    assert!(!pruned(source.blocks(range(91, 91)).await.expect("an answer")));
    running.control().advance(1);
    assert!(pruned(source.blocks(range(91, 91)).await.expect("an answer")));
}

#[tokio::test]
async fn a_plan_that_does_not_fit_together_is_refused() {
    let network = Network::CosmosRest("sim-1".to_owned());
    let plan = ChainPlan { network, faults: "reorg=50:3".parse().expect("faults"), ..ChainPlan::default() };
    let fault = serve(plan, "127.0.0.1:0".parse().expect("an address")).await.map(|_| ()).expect_err("refused");
    assert_eq!(fault.kind(), std::io::ErrorKind::InvalidInput);
    assert!(fault.to_string().contains("final at once"), "{fault}");
}

/// A client of the WebSocket; every wait ends.
struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Listener {
    async fn to(running: &Running) -> Self {
        Self(connect_async(running.socket_url()).await.expect("a WebSocket").0)
    }

    async fn send(&mut self, request: Value) {
        self.0.send(Message::text(request.to_string())).await.expect("sent");
    }

    /// The next text; none if the server ended the connection.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await.expect("in time");
            match next {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})).await;
        let answer = self.next().await.expect("an answer");
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)), "{answer}");
        answer
    }

    async fn subscribe(&mut self) -> Value {
        self.ask("eth_subscribe", json!(["newHeads"])).await["result"].clone()
    }

    /// The next header of a subscription.
    async fn header(&mut self, subscription: &Value) -> Value {
        let news = self.next().await.expect("news");
        assert_eq!((&news["method"], &news["params"]["subscription"]), (&json!("eth_subscription"), subscription));
        news["params"]["result"].clone()
    }
}

#[tokio::test]
async fn new_heads_are_told_and_after_a_reorg_the_new_branch_again() {
    let plan = ChainPlan { blocks: 97, faults: "reorg=100:3".parse().expect("faults"), ..ChainPlan::default() };
    let (running, _) = start(&plan).await;
    let chain = SimChain::new(&plan);
    let mut listener = Listener::to(&running).await;
    let subscription = listener.subscribe().await;
    running.control().advance(5);
    let orphan = |height| chain.orphan(height).expect("an orphan");
    let told = [98, 99, 100].map(orphan).into_iter().chain((98..=102).map(|height| chain.truth(height)));
    for block in told {
        let header = listener.header(&subscription).await;
        assert_eq!(header["hash"], block.hash.as_str());
        assert_eq!(header["parentHash"], block.parent.as_str());
        assert_eq!(header["number"], format!("{:#x}", block.height));
        assert_eq!((&header["transactions"], &header["size"]), (&Value::Null, &Value::Null));
        let whole: Value = serde_json::from_slice(&block.raw).expect("JSON");
        assert_eq!(header["logsBloom"], whole["logsBloom"]);
    }
    // The other methods answer over the socket too.
    assert_eq!(listener.ask("eth_blockNumber", json!([])).await["result"], "0x66");
    assert_eq!(listener.ask("eth_subscribe", json!(["logs"])).await["error"]["code"], -32601);
    assert_eq!(listener.ask("eth_unsubscribe", json!(["0x1"])).await["error"]["code"], -32000);
    assert_eq!(listener.ask("eth_unsubscribe", json!([subscription])).await["result"], true);
    running.control().advance(3);
    assert_eq!(listener.ask("eth_blockNumber", json!([])).await["result"], "0x69", "no header came before it");
}

#[tokio::test]
async fn new_heads_follow_the_clock_and_end_with_the_node() {
    let block_time = Some(Duration::from_millis(20));
    let (running, _) = start(&ChainPlan { blocks: 10, block_time, ..ChainPlan::default() }).await;
    let mut listener = Listener::to(&running).await;
    let subscription = listener.subscribe().await;
    let number = |header: Value| u64::from_str_radix(&header["number"].as_str().expect("a number")[2..], 16);
    let first = number(listener.header(&subscription).await).expect("a number");
    for height in first + 1..first + 10 {
        assert_eq!(number(listener.header(&subscription).await), Ok(height));
    }
    running.control().set_outage(true);
    while listener.next().await.is_some() {}
}

/// It does not read: more than 10,000 heights later its connection is at an end.
#[tokio::test]
async fn a_reader_that_falls_behind_is_dropped() {
    let (running, source) = start(&ChainPlan { block_bytes: 2_000..=2_000, ..ChainPlan::default() }).await;
    let mut listener = Listener::to(&running).await;
    listener.subscribe().await;
    for _ in 0..3 {
        running.control().advance(socket::BEHIND_MAX - 100);
        source.head().await.expect("a head");
    }
    let mut told = 0;
    while listener.next().await.is_some() {
        told += 1;
    }
    assert!(told < 2 * socket::BEHIND_MAX, "{told} headers");
}

/// Whether the socket goes silent before it has told 12 headers. A pong comes behind everything that the socket said to
/// the request before it.
async fn goes_silent(listener: &mut Listener, control: &Control) -> bool {
    listener.subscribe().await;
    let (mut headers, deadline) = (0, Instant::now() + Duration::from_secs(20));
    while headers < 12 {
        assert!(Instant::now() < deadline, "{headers} headers, and the socket still answers");
        control.advance(1);
        listener.send(json!({"id": 1, "method": "eth_blockNumber"})).await;
        listener.0.send(Message::Ping(Vec::new().into())).await.expect("an open socket");
        let mut answers = 0;
        loop {
            match listener.0.next().await {
                Some(Ok(Message::Text(text))) if text.contains("eth_subscription") => headers += 1,
                Some(Ok(Message::Text(_))) => answers += 1,
                Some(Ok(Message::Pong(_))) => break,
                other => panic!("{other:?}"),
            }
        }
        if answers == 0 {
            assert!((1..=9).contains(&headers), "{headers} headers before the silence");
            return true;
        }
    }
    false
}

#[tokio::test]
async fn the_planned_share_of_sockets_goes_silent_and_stays_open() {
    for (share, expected) in [("0", 0..=0), ("1", 20..=20), ("0.5", 4..=16)] {
        let plan = ChainPlan { faults: format!("silent={share}").parse().expect("faults"), ..ChainPlan::default() };
        let (running, _) = start(&plan).await;
        let mut silent = 0;
        for _ in 0..20 {
            let mut listener = Listener::to(&running).await;
            silent += u32::from(goes_silent(&mut listener, &running.control()).await);
        }
        assert!(expected.contains(&silent), "{silent} of 20 sockets, silent={share}");
    }
}

/// What a plain HTTP client gets from the gateway; none if the connection broke.
async fn get(running: &Running, path: &str) -> Option<(u16, bytes::Bytes)> {
    crate::sources::tls::install();
    let url = format!("{}/cosmos/base/tendermint/v1beta1/{path}", running.url());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(url).send().await.ok()?;
    Some((answer.status().as_u16(), answer.bytes().await.ok()?))
}

#[tokio::test]
async fn a_plain_client_collects_a_cosmos_chain() {
    let network = Network::CosmosRest("migaloo-sim".to_owned());
    let plan = ChainPlan { blocks: 50, network, seed: 3, ..ChainPlan::default() };
    let running = serve(plan.clone(), "127.0.0.1:0".parse().expect("an address")).await.expect("serves");
    let chain = SimChain::new(&plan);
    for height in 1..=50 {
        assert_eq!(get(&running, &format!("blocks/{height}")).await, Some((200, chain.truth(height).raw)), "{height}");
    }
    assert_eq!(get(&running, "blocks/latest").await, Some((200, chain.truth(50).raw)));
    assert_eq!(get(&running, "blocks/51").await.expect("an answer").0, 400);
    running.control().advance(1);
    assert_eq!(get(&running, "blocks/latest").await, Some((200, chain.truth(51).raw)));
    running.control().set_outage(true);
    let (mut refused, mut broken) = (0, 0);
    while refused == 0 || broken == 0 {
        assert!(refused + broken < 200, "{refused} refused, {broken} broken");
        match get(&running, "blocks/5").await {
            Some((status, _)) => refused += u32::from(status == 503),
            None => broken += 1,
        }
    }
}

/// Each fault by itself, as a client of the gateway sees it.
#[tokio::test]
async fn each_fault_of_a_cosmos_chain_is_seen() {
    for (faults, path, status, text) in [
        ("429=1", "blocks/5", 429, "too many requests"),
        ("error=1", "blocks/5", 500, r#"{"code":13,"message":"internal error","details":[]}"#),
        ("null=1", "blocks/1000", 400, "bigger then the chain length"),
        ("hole=5", "blocks/5", 200, r#""block":null"#),
        ("pruned=1..9", "blocks/5", 500, "height 5 is not available, lowest height is 10"),
        ("keep=100", "blocks/5", 500, "height 5 is not available, lowest height is 901"),
        ("slow=1:5ms", "blocks/5", 200, "migaloo-sim"),
    ] {
        let network = Network::CosmosRest("migaloo-sim".to_owned());
        let plan = ChainPlan { network, faults: faults.parse().expect("faults"), ..ChainPlan::default() };
        let running = serve(plan, "127.0.0.1:0".parse().expect("an address")).await.expect("serves");
        let (found, body) = get(&running, path).await.expect("an answer");
        let body = String::from_utf8_lossy(&body);
        assert!(found == status && body.contains(text), "{faults}: {found} {body}");
    }
    let network = Network::CosmosRest("migaloo-sim".to_owned());
    let plan = ChainPlan { network, faults: "malformed=1".parse().expect("faults"), ..ChainPlan::default() };
    let running = serve(plan.clone(), "127.0.0.1:0".parse().expect("an address")).await.expect("serves");
    let truth = SimChain::new(&plan).truth(500).raw;
    let (mut cut, mut other) = (0, 0);
    for _ in 0..20 {
        let (_, body) = get(&running, "blocks/500").await.expect("an answer");
        match serde_json::from_slice::<Value>(&body) {
            Err(_) => cut += 1,
            Ok(_) => other += u32::from(body != truth),
        }
    }
    assert!(cut > 0 && other > 0 && cut + other == 20, "{cut} cut, {other} other blocks");
}
