//! The dialect of EVM nodes: JSON-RPC 2.0, single and batch, with the methods that a collector asks for.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Network;
use super::fate::Twists;
use super::node::{Node, Shown};
use crate::messages::heights::{HEIGHT_MAX, Height};

/// Most calls of one batch, as in geth.
const BATCH_MAX: usize = 1000;
/// Bytes of an answer after which the remaining calls of a batch are refused, as in geth.
const RESPONSE_BYTES_MAX: usize = 25_000_000;

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

/// An error of the protocol.
pub(super) struct Fault {
    code: i64,
    message: String,
}

pub(super) fn fault(code: i64, message: impl Into<String>) -> Fault {
    Fault { code, message: message.into() }
}

/// What a request over a WebSocket asks of the socket itself; with the id of the request.
pub(super) enum Order {
    /// `eth_subscribe`; the kind of news.
    Subscribe(String, String),
    /// `eth_unsubscribe`; the subscription.
    Unsubscribe(String, String),
}

/// Reads a request to subscribe or to unsubscribe; none if it is anything else, or has no form.
pub(super) fn order(request: &[u8]) -> Option<Order> {
    let call: Call<'_> = serde_json::from_slice(request).ok()?;
    let id = call.id.map(RawValue::get).filter(|id| !id.starts_with(NO_ID))?.to_owned();
    let first = || {
        let params: Vec<serde_json::Value> = serde_json::from_str(call.params?.get()).ok()?;
        Some(params.first()?.as_str()?.to_owned())
    };
    match &*call.method {
        "eth_subscribe" => Some(Order::Subscribe(id, first().unwrap_or_default())),
        "eth_unsubscribe" => Some(Order::Unsubscribe(id, first().unwrap_or_default())),
        _ => None,
    }
}

/// An answer with a result that is JSON already.
pub(super) fn answered(id: &str, result: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_start(Some(id), &mut out);
    out.extend_from_slice(format!("\"result\":{result}}}").as_bytes());
    out
}

/// An answer that is an error; without an id for a request that has none, or is a batch.
pub(super) fn refused(id: Option<&str>, fault: &Fault) -> Vec<u8> {
    let mut out = Vec::new();
    put_fault(id, fault, &mut out);
    out
}

/// The id of a single request, as it stands there.
pub(super) fn id(request: &[u8]) -> Option<String> {
    let call: Call<'_> = serde_json::from_slice(request).ok()?;
    call.id.map(RawValue::get).filter(|id| !id.starts_with(NO_ID)).map(str::to_owned)
}

/// What no id begins with.
const NO_ID: [char; 4] = ['{', '[', 't', 'f'];

impl Node {
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
        if id.starts_with(NO_ID) {
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
        let head = self.head();
        match method {
            "eth_chainId" => put_text(&format!("{:#x}", self.evm_id()), out),
            "eth_blockNumber" => put_text(&format!("{head:#x}"), out),
            "net_version" => put_text(&self.evm_id().to_string(), out),
            "web3_clientVersion" => put_text(concat!("gapless-simulate/", env!("CARGO_PKG_VERSION")), out),
            "eth_getBlockByNumber" => {
                let (place, full) = block_params(params)?;
                let height = self.height(&place, head)?;
                let shown = self.show(height, head, twists);
                self.put_shown(height, shown, full, twists, out)?;
            }
            "eth_getBlockByHash" => {
                let (hash, full) = block_params(params)?;
                if hash.len() != 66 {
                    return Err(fault(-32602, "invalid argument 0: a hash is 0x and 64 hexadecimal digits"));
                }
                match self.seen(&hash, head) {
                    None => out.extend_from_slice(b"null"),
                    Some((height, branch)) => {
                        let shown = match self.kept(height, head) {
                            Shown::Block(_) => Shown::Block(branch),
                            gone => gone,
                        };
                        self.put_shown(height, shown, full, twists, out)?;
                    }
                }
            }
            "eth_subscribe" | "eth_unsubscribe" => return Err(fault(-32601, "notifications not supported")),
            _ => return Err(fault(-32601, format!("the method {method} does not exist/is not available"))),
        }
        Ok(())
    }

    fn evm_id(&self) -> u64 {
        match self.chain().network() {
            Network::Evm(id) => *id,
            Network::CosmosRest(_) => 0,
        }
    }

    /// The height that a number or a tag means.
    fn height(&self, place: &str, head: Height) -> Result<Height, Fault> {
        let unknown = || fault(-39001, "Unknown block");
        match place {
            "latest" => Ok(head),
            "finalized" => self.finalized(head).map(|(finalized, _)| finalized).ok_or_else(unknown),
            "safe" => self.finalized(head).map(|(_, safe)| safe).ok_or_else(unknown),
            "earliest" => Ok(self.lowest(head)),
            "pending" => Err(fault(-32602, "invalid argument 0: pending blocks are not simulated")),
            number => quantity(number).ok_or_else(|| fault(-32602, "invalid argument 0: no block number and no tag")),
        }
    }

    fn put_shown(
        &self,
        height: Height,
        shown: Shown,
        full: bool,
        twists: &mut Twists,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match shown {
            Shown::Block(branch) => self.put_block(height, branch, full, twists, out),
            Shown::NotYet | Shown::Lost => out.extend_from_slice(b"null"),
            Shown::Pruned(_) => return Err(fault(4444, "pruned history unavailable")),
        }
        Ok(())
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

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
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
    use crate::simulate::chain::ChainPlan;
    use crate::simulate::noise::Noise;

    fn calm() -> Twists {
        let noise = Noise::new(&[0; 32], 0);
        Twists { null: 0.0, wrong_block: false, cut_off: false, short_batch: false, reorder: false, noise }
    }

    fn node() -> &'static Node {
        static NODE: LazyLock<Node> = LazyLock::new(|| {
            Node::new(&ChainPlan { blocks: 200, network: Network::Evm(4242), ..ChainPlan::default() })
        });
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

    fn of(node: &Node, place: &str) -> Value {
        let request = json!({"id": 1, "method": "eth_getBlockByNumber", "params": [place, false]}).to_string();
        let answer: Value = serde_json::from_slice(&node.answer(request.as_bytes(), &mut calm())).expect("JSON");
        answer
    }

    #[test]
    fn finality_is_the_plans() {
        let node = |finalized_depth| Node::new(&ChainPlan { blocks: 200, finalized_depth, ..ChainPlan::default() });
        let near = node(10);
        assert_eq!(of(&near, "finalized")["result"]["number"], "0xbe");
        assert_eq!(of(&near, "safe")["result"]["number"], "0xc3");
        let before_the_merge = node(0);
        for tag in ["finalized", "safe"] {
            assert_eq!(of(&before_the_merge, tag)["error"], json!({"code": -39001, "message": "Unknown block"}));
        }
        assert_eq!(of(&before_the_merge, "latest")["result"]["number"], "0xc8");
    }

    #[test]
    fn the_horizon_moves_with_the_head() {
        let faults = "keep=50,pruned=151..152".parse().expect("faults");
        let node = Node::new(&ChainPlan { blocks: 200, faults, ..ChainPlan::default() });
        let number = |place: &str| of(&node, place)["result"]["number"].clone();
        for pruned in ["0x0", "0x96", "0x97", "0x98"] {
            assert_eq!(of(&node, pruned)["error"]["code"], 4444, "{pruned}");
        }
        assert_eq!((number("0x99"), number("earliest")), (json!("0x99"), json!("0x99")));
        node.advance(3);
        assert_eq!(of(&node, "0x99")["error"]["code"], 4444);
        assert_eq!((number("0x9a"), number("earliest")), (json!("0x9a"), json!("0x9a")));
        let hash = node.chain().truth(100).hash.to_string();
        let request = json!({"id": 1, "method": "eth_getBlockByHash", "params": [hash, true]}).to_string();
        let answer: Value = serde_json::from_slice(&node.answer(request.as_bytes(), &mut calm())).expect("JSON");
        assert_eq!(answer["error"]["code"], 4444);
    }

    #[test]
    fn orphans_are_shown_until_the_chain_grows_and_found_by_hash_after() {
        let faults = "reorg=10:3".parse().expect("faults");
        let node = Node::new(&ChainPlan { blocks: 199, faults, ..ChainPlan::default() });
        let chain = node.chain();
        let hash = |height: u64| of(&node, &format!("{height:#x}"))["result"]["hash"].clone();
        let by_hash = |hash: &str| {
            let request = json!({"id": 1, "method": "eth_getBlockByHash", "params": [hash, false]}).to_string();
            let answer: Value = serde_json::from_slice(&node.answer(request.as_bytes(), &mut calm())).expect("JSON");
            answer["result"]["hash"].clone()
        };
        let orphan = |height| chain.orphan(height).expect("an orphan").hash.to_string();
        assert_eq!(hash(198), orphan(198));
        node.advance(1);
        assert_eq!((hash(200), hash(197)), (json!(orphan(200)), json!(chain.truth(197).hash)));
        // Not yet part of the chain: nobody can know it.
        assert_eq!(by_hash(chain.truth(200).hash.as_str()), Value::Null);
        node.advance(1);
        for height in 195..=201 {
            assert_eq!(hash(height), chain.truth(height).hash.as_str(), "{height}");
        }
        assert_eq!(by_hash(&orphan(199)), orphan(199));
        // Replaced before the node was there.
        assert_eq!(by_hash(&orphan(189)), Value::Null);
        assert_eq!(node.orphans(), [198, 199, 200]);
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
                // What a WebSocket looks at before.
                let _ = (order(request), id(request));
                prop_assert!(answer.is_empty() || serde_json::from_slice::<Value>(&answer).is_ok());
            }
        }
    }
}
