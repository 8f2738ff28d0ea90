//! The simulated node: its head, its methods, its errors. No HTTP.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::noise::Noise;
use super::template::put_quantity;
use super::{ChainPlan, SimChain};
use crate::messages::heights::{HEIGHT_MAX, Height, HeightRange};

/// Most calls of one batch, as in geth.
pub(super) const BATCH_MAX: usize = 1000;
/// Bytes of an answer after which the remaining calls of a batch are refused, as in geth.
const RESPONSE_BYTES_MAX: usize = 25_000_000;
/// How far `safe` and `finalized` are behind the head: one and two epochs of Ethereum.
const SAFE_BEHIND: Height = 32;
const FINALIZED_BEHIND: Height = 64;
/// The heights below the head for which the `null` fault answers `null`, the head included.
const NULL_HEIGHTS: Height = 3;

/// A node that serves one chain.
pub(super) struct Node {
    chain: SimChain,
    chain_id: u64,
    blocks: Height,
    block_time: Option<Duration>,
    started: Instant,
    advanced: AtomicU64,
    hole: Option<HeightRange>,
    pruned: Option<HeightRange>,
}

/// What goes wrong while one request is answered.
pub(super) struct Twists {
    /// The share of questions for the newest heights that get `null`.
    pub null: f64,
    /// One block is another one than was asked for.
    pub wrong_block: bool,
    /// Some answers of a batch are left out.
    pub short_batch: bool,
    /// The answers of a batch come in another order.
    pub reorder: bool,
    /// Decides where.
    pub noise: Noise,
}

/// A request, as far as it can be read.
#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

struct Fault {
    code: i64,
    message: String,
}

fn fault(code: i64, message: impl Into<String>) -> Fault {
    Fault { code, message: message.into() }
}

impl Node {
    /// The node at its start.
    pub fn new(plan: &ChainPlan) -> Self {
        Self {
            chain: SimChain::new(plan),
            chain_id: plan.chain_id,
            blocks: plan.blocks,
            block_time: plan.block_time,
            started: Instant::now(),
            advanced: AtomicU64::new(0),
            hole: plan.faults.hole,
            pruned: plan.faults.pruned,
        }
    }

    /// How long it has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The head now.
    pub fn head(&self) -> Height {
        self.head_after(self.uptime())
    }

    fn head_after(&self, uptime: Duration) -> Height {
        let grown = self.block_time.map_or(0, |each| uptime.as_nanos() / each.as_nanos().max(1));
        let grown = u64::try_from(grown).unwrap_or(HEIGHT_MAX);
        let advanced = self.advanced.load(Ordering::Relaxed);
        self.blocks.saturating_add(grown).saturating_add(advanced).min(HEIGHT_MAX)
    }

    /// Adds blocks at once.
    pub fn advance(&self, blocks: u64) {
        // At most HEIGHT_MAX each, so that a careless caller cannot wrap it around.
        self.advanced.fetch_add(blocks.min(HEIGHT_MAX), Ordering::Relaxed);
    }

    /// Answers one request, single or batch; an empty answer means there was nothing to say (notifications).
    pub fn answer(&self, request: &[u8], twists: &mut Twists) -> Vec<u8> {
        let mut out = Vec::new();
        match request.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'[') => match serde_json::from_slice::<Vec<&RawValue>>(request) {
                Ok(calls) => self.answer_batch(&calls, twists, &mut out),
                Err(error) => put_fault(None, &fault(-32700, error.to_string()), &mut out),
            },
            _ => match serde_json::from_slice::<&RawValue>(request) {
                Ok(call) => self.answer_call(call.get(), twists, &mut out),
                Err(error) => put_fault(None, &fault(-32700, error.to_string()), &mut out),
            },
        }
        out
    }

    fn answer_batch(&self, calls: &[&RawValue], twists: &mut Twists, out: &mut Vec<u8>) {
        if calls.is_empty() || calls.len() > BATCH_MAX {
            let message = if calls.is_empty() { "empty batch" } else { "batch too large" };
            return put_fault(None, &fault(-32600, message), out);
        }
        let count = calls.len() as u64;
        let dropped = if twists.short_batch && count > 1 { 1 + twists.noise.below(count / 2) } else { 0 };
        let gap = twists.noise.below(count - dropped + 1);
        let kept = (0..count).filter(|place| !(gap..gap + dropped).contains(place));
        let shift = if twists.reorder { 1 + twists.noise.below(count) } else { 0 };
        let mut places: Vec<_> = kept.map(|place| ((place + shift) % count, place)).collect();
        places.sort_unstable();
        out.push(b'[');
        for (_, place) in places {
            let call = calls[usize::try_from(place).unwrap_or(0)].get();
            let before = out.len();
            if out.len() > 1 {
                out.push(b',');
            }
            let start = out.len();
            self.answer_call(call, twists, out);
            if out.len() == start {
                out.truncate(before);
            }
        }
        out.push(b']');
        if out.len() == 2 {
            out.clear();
        }
    }

    fn answer_call(&self, call: &str, twists: &mut Twists, out: &mut Vec<u8>) {
        let Ok(call) = serde_json::from_str::<Call<'_>>(call) else {
            return put_fault(None, &fault(-32600, "invalid request"), out);
        };
        let Some(id) = call.id.map(RawValue::get) else { return };
        if id.starts_with(['{', '[', 't', 'f']) {
            return put_fault(None, &fault(-32600, "invalid request: the id is no string, number or null"), out);
        }
        let start = out.len();
        put_start(Some(id), out);
        out.extend_from_slice(b"\"result\":");
        let result = if start > RESPONSE_BYTES_MAX {
            Err(fault(-32003, "response too large"))
        } else {
            self.result(&call.method, call.params.map_or("[]", RawValue::get), twists, out)
        };
        match result {
            Ok(()) => out.push(b'}'),
            Err(fault) => {
                out.truncate(start);
                put_fault(Some(id), &fault, out);
            }
        }
    }

    /// Appends the result of a method.
    fn result(&self, method: &str, params: &str, twists: &mut Twists, out: &mut Vec<u8>) -> Result<(), Fault> {
        match method {
            "eth_chainId" => put_text(|out| put_quantity(self.chain_id, out), out),
            "eth_blockNumber" => put_text(|out| put_quantity(self.head(), out), out),
            "net_version" => put_text(|out| out.extend_from_slice(self.chain_id.to_string().as_bytes()), out),
            "web3_clientVersion" => {
                put_text(
                    |out| out.extend_from_slice(concat!("gapless-simulate/", env!("CARGO_PKG_VERSION")).as_bytes()),
                    out,
                );
            }
            "eth_getBlockByNumber" => {
                let (place, full) = block_params(params)?;
                let head = self.head();
                let height = self.height(&place, head)?;
                let within = |range: Option<HeightRange>| range.is_some_and(|range| range.contains(height));
                if within(self.pruned) {
                    return Err(fault(4444, "pruned history unavailable"));
                }
                let lost = within(self.hole) || (height + NULL_HEIGHTS > head && twists.noise.hit(twists.null));
                self.put_block((!lost && height <= head).then_some((height, 0)), full, twists, out);
            }
            "eth_getBlockByHash" => {
                let (hash, full) = block_params(params)?;
                if hash.len() != 66 {
                    return Err(fault(-32602, "invalid argument 0: a hash is 0x and 64 hexadecimal digits"));
                }
                let found = self.chain.find(&hash).filter(|(height, branch)| *height <= self.head() && *branch == 0);
                self.put_block(found, full, twists, out);
            }
            _ => return Err(fault(-32601, format!("the method {method} does not exist/is not available"))),
        }
        Ok(())
    }

    /// The height that a number or a tag means.
    fn height(&self, place: &str, head: Height) -> Result<Height, Fault> {
        match place {
            "latest" => Ok(head),
            "safe" => Ok(head.saturating_sub(SAFE_BEHIND)),
            "finalized" => Ok(head.saturating_sub(FINALIZED_BEHIND)),
            "earliest" => Ok(0),
            "pending" => Err(fault(-32602, "invalid argument 0: pending blocks are not simulated")),
            number => quantity(number).ok_or_else(|| fault(-32602, "invalid argument 0: no block number and no tag")),
        }
    }

    fn put_block(&self, found: Option<(Height, u32)>, full: bool, twists: &mut Twists, out: &mut Vec<u8>) {
        match found {
            None => out.extend_from_slice(b"null"),
            // A neighbour in its place: sound in itself, so that only a look at its number tells.
            Some((height, branch)) if std::mem::take(&mut twists.wrong_block) => {
                self.chain.render(height ^ 1, branch, full, out);
            }
            Some((height, branch)) => self.chain.render(height, branch, full, out),
        }
    }
}

/// A block number: `0x` and up to 16 digits without leading zeros.
fn quantity(text: &str) -> Option<Height> {
    let digits = text.strip_prefix("0x")?;
    let strict = digits == "0" || !digits.starts_with(['0', '+']);
    u64::from_str_radix(digits, 16).ok().filter(|height| strict && *height <= HEIGHT_MAX)
}

fn block_params(params: &str) -> Result<(Cow<'_, str>, bool), Fault> {
    serde_json::from_str(params).map_err(|_| fault(-32602, "invalid arguments: a block and true or false are expected"))
}

fn put_text(text: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.push(b'"');
    text(out);
    out.push(b'"');
}

fn put_start(id: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.unwrap_or("null").as_bytes());
    out.push(b',');
}

fn put_fault(id: Option<&str>, fault: &Fault, out: &mut Vec<u8>) {
    put_start(id, out);
    let error = serde_json::json!({"code": fault.code, "message": fault.message});
    out.extend_from_slice(format!("\"error\":{error}}}").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn calm() -> Twists {
        let noise = Noise::new(&[0; 32], 0);
        Twists { null: 0.0, wrong_block: false, short_batch: false, reorder: false, noise }
    }

    fn node() -> &'static Node {
        static NODE: LazyLock<Node> =
            LazyLock::new(|| Node::new(&ChainPlan { blocks: 200, chain_id: 4242, ..ChainPlan::default() }));
        &NODE
    }

    fn ask(method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": params}).to_string();
        let answer: Value = serde_json::from_slice(&node().answer(request.as_bytes(), &mut calm())).expect("JSON");
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!("a")));
        answer
    }

    #[test]
    fn the_methods_answer_like_a_node() {
        assert_eq!(ask("eth_chainId", json!([]))["result"], "0x1092");
        assert_eq!(ask("net_version", json!([]))["result"], "4242");
        assert_eq!(ask("eth_blockNumber", json!([]))["result"], "0xc8");
        assert!(ask("web3_clientVersion", json!([]))["result"].is_string());
        for (place, number) in [
            ("0x5", "0x5"),
            ("latest", "0xc8"),
            ("safe", "0xa8"),
            ("finalized", "0x88"),
            ("earliest", "0x0"),
            ("0x0", "0x0"),
        ] {
            assert_eq!(ask("eth_getBlockByNumber", json!([place, true]))["result"]["number"], number, "{place}");
        }
        assert_eq!(ask("eth_getBlockByNumber", json!(["0xc9", true]))["result"], Value::Null);
        let full = &ask("eth_getBlockByNumber", json!(["0x5", true]))["result"];
        let brief = &ask("eth_getBlockByNumber", json!(["0x5", false]))["result"];
        let hashes: Vec<_> =
            full["transactions"].as_array().expect("a list").iter().map(|t| t["hash"].clone()).collect();
        assert_eq!(brief["transactions"], Value::from(hashes));
        assert_eq!(&ask("eth_getBlockByHash", json!([full["hash"], true]))["result"], full);
        assert_eq!(ask("eth_getBlockByHash", json!([format!("0x{}", "0".repeat(64)), true]))["result"], Value::Null);
    }

    #[test]
    fn errors_have_the_codes_of_the_protocol() {
        let code = |answer: &[u8]| {
            let answer: Value = serde_json::from_slice(answer).expect("JSON");
            answer["error"]["code"].as_i64().expect("an error")
        };
        assert_eq!(ask("eth_nothing", json!([]))["error"]["code"], -32601);
        for params in
            [json!([]), json!([5, true]), json!(["0x05", true]), json!(["five", true]), json!(["pending", true])]
        {
            assert_eq!(ask("eth_getBlockByNumber", params)["error"]["code"], -32602);
        }
        assert_eq!(ask("eth_getBlockByHash", json!(["0x1", true]))["error"]["code"], -32602);
        let large = format!("[{}]", vec!["1"; 1001].join(","));
        for (request, expected) in [
            ("{", -32700),
            ("", -32700),
            ("[1", -32700),
            ("1", -32600),
            ("{}", -32600),
            ("[]", -32600),
            (&large, -32600),
        ] {
            assert_eq!(code(&node().answer(request.as_bytes(), &mut calm())), expected, "{request}");
        }
        assert!(node().answer(br#"{"method":"eth_chainId"}"#, &mut calm()).is_empty(), "a notification");
    }

    fn batch_ids(twists: &mut Twists) -> Vec<u64> {
        let calls = (0..10).map(|id| json!({"id": id, "method": "eth_chainId"})).collect::<Vec<_>>();
        let answer: Vec<Value> =
            serde_json::from_slice(&node().answer(json!(calls).to_string().as_bytes(), twists)).expect("JSON");
        answer.iter().map(|item| item["id"].as_u64().expect("an id")).collect()
    }

    #[test]
    fn batches_come_whole_unless_twisted() {
        let whole: Vec<u64> = (0..10).collect();
        assert_eq!(batch_ids(&mut calm()), whole);
        for number in 0..50 {
            let noise = || Noise::new(&[1; 32], number);
            let short = batch_ids(&mut Twists { short_batch: true, noise: noise(), ..calm() });
            assert!((5..10).contains(&short.len()), "{short:?}");
            let mut turned = batch_ids(&mut Twists { reorder: true, noise: noise(), ..calm() });
            turned.sort_unstable();
            assert_eq!(turned, whole);
        }
        assert_ne!(batch_ids(&mut Twists { reorder: true, ..calm() }), whole);
    }

    #[test]
    fn the_null_fault_hits_only_the_newest_heights() {
        let node = node();
        let mut twists = Twists { null: 1.0, ..calm() };
        for (height, null) in [(0, false), (197, false), (198, true), (200, true), (201, true)] {
            let request = format!(r#"{{"id":1,"method":"eth_getBlockByNumber","params":["{height:#x}",true]}}"#);
            let answer: Value = serde_json::from_slice(&node.answer(request.as_bytes(), &mut twists)).expect("JSON");
            assert_eq!(answer["result"].is_null(), null, "{height}");
        }
    }

    #[test]
    fn the_head_follows_the_clock_and_the_command() {
        let block_time = Some(Duration::from_millis(500));
        let node = Node::new(&ChainPlan { blocks: 10, block_time, ..ChainPlan::default() });
        let heads = [0, 499, 500, 10_000].map(|ms| node.head_after(Duration::from_millis(ms)));
        assert_eq!(heads, [10, 10, 11, 30]);
        node.advance(5);
        assert_eq!(node.head_after(Duration::ZERO), 15);
        node.advance(u64::MAX);
        assert_eq!(node.head_after(Duration::MAX), HEIGHT_MAX);
    }

    proptest! {
        #[test]
        fn hostile_requests_never_panic_and_answers_are_json(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            place in "\\PC{0,20}",
        ) {
            let near = json!([{"id": place, "method": "eth_getBlockByNumber", "params": [place, true]}, place]).to_string();
            for request in [&noise[..], near.as_bytes()] {
                let answer = node().answer(request, &mut calm());
                prop_assert!(answer.is_empty() || serde_json::from_slice::<Value>(&answer).is_ok());
            }
        }
    }
}
