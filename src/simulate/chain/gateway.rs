//! The dialect of Cosmos chains: the REST gateway of a Cosmos SDK node, with the paths that a collector asks for.

use axum::http::{Method, StatusCode};

use super::Network;
use super::fate::Twists;
use super::node::{Node, Shown};
use crate::messages::heights::Height;

/// Where the paths begin.
const ROOT: &str = "/cosmos/base/tendermint/v1beta1/";

/// What a node answers that lost a block within its chain: a success without one.
const LOST: &[u8] =
    br#"{"block_id":{"hash":"","part_set_header":{"total":0,"hash":""}},"block":null,"sdk_block":null}"#;

/// An answer: its status and its JSON.
pub(super) type Reply = (StatusCode, Vec<u8>);

/// An error as the gateway writes it: the gRPC code and its text.
pub(super) fn refused(status: StatusCode, code: u8, message: &str) -> Reply {
    let message = serde_json::Value::from(message);
    (status, format!(r#"{{"code":{code},"message":{message},"details":[]}}"#).into_bytes())
}

impl Node {
    /// Answers one request.
    pub fn gateway(&self, method: &Method, path: &str, twists: &mut Twists) -> Reply {
        let not_implemented = || refused(StatusCode::NOT_IMPLEMENTED, 12, "Not Implemented");
        let Some(path) = path.strip_prefix(ROOT).filter(|_| *method == Method::GET) else { return not_implemented() };
        let head = self.head();
        match path {
            "syncing" => (StatusCode::OK, br#"{"syncing":false}"#.to_vec()),
            "node_info" => (StatusCode::OK, self.node_info()),
            // The gateway knows its own head: here nothing is hidden.
            "blocks/latest" => self.reply(head, self.kept(head, head), twists),
            _ => match path.strip_prefix("blocks/").filter(|rest| !rest.contains('/')) {
                Some(height) => self.by_height(height, head, twists),
                None => not_implemented(),
            },
        }
    }

    fn by_height(&self, text: &str, head: Height, twists: &mut Twists) -> Reply {
        let invalid = |message: &str| refused(StatusCode::BAD_REQUEST, 3, message);
        match text.parse::<i64>().map(|height| (height, Height::try_from(height))) {
            Err(_) => {
                let reason = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
                invalid(&format!("type mismatch, parameter: height, error: {reason}"))
            }
            Ok((_, Ok(height))) if height > 0 => self.reply(height, self.show(height, head, twists), twists),
            Ok((height, _)) => invalid(&format!("height must be greater than 0, but got {height}")),
        }
    }

    fn reply(&self, height: Height, shown: Shown, twists: &mut Twists) -> Reply {
        match shown {
            Shown::Block(branch) => {
                let mut body = Vec::new();
                self.put_block(height, branch, true, twists, &mut body);
                (StatusCode::OK, body)
            }
            Shown::NotYet => {
                // The spelling is the SDK's.
                refused(StatusCode::BAD_REQUEST, 3, "requested block height is bigger then the chain length")
            }
            Shown::Lost => (StatusCode::OK, LOST.to_vec()),
            Shown::Pruned(lowest) => {
                let message = format!("height {height} is not available, lowest height is {lowest}");
                refused(StatusCode::INTERNAL_SERVER_ERROR, 2, &message)
            }
        }
    }

    fn node_info(&self) -> Vec<u8> {
        let network = match self.chain().network() {
            Network::CosmosRest(id) => id.as_str(),
            Network::Evm(_) => "",
        };
        let version = env!("CARGO_PKG_VERSION");
        let info = serde_json::json!({
            "default_node_info": {
                "protocol_version": {"p2p": "8", "block": "11", "app": "0"},
                "default_node_id": "6761706c6573732073696d756c61746f72000000",
                "listen_addr": "tcp://127.0.0.1:26656",
                "network": network,
                "version": "0.37.4",
                "channels": "QCAhIiMwOGBhAA==",
                "moniker": "gapless-simulate",
                "other": {"tx_index": "on", "rpc_address": "tcp://127.0.0.1:26657"},
            },
            "application_version": {
                "name": "gapless-simulate", "app_name": "gapless-simulate", "version": version, "git_commit": "",
                "build_tags": "", "go_version": "", "build_deps": [], "cosmos_sdk_version": "v0.47.10",
            },
        });
        info.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::simulate::chain::ChainPlan;
    use crate::simulate::noise::Noise;

    fn calm() -> Twists {
        let noise = Noise::new(&[0; 32], 0);
        Twists { null: 0.0, wrong_block: false, cut_off: false, short_batch: false, reorder: false, noise }
    }

    fn plan(faults: &str) -> ChainPlan {
        let faults = faults.parse().expect("faults");
        ChainPlan { blocks: 200, network: Network::CosmosRest("sim-1".to_owned()), faults, ..ChainPlan::default() }
    }

    fn ask(node: &Node, path: &str, twists: &mut Twists) -> (u16, Value) {
        let (status, body) = node.gateway(&Method::GET, &format!("{ROOT}{path}"), twists);
        (status.as_u16(), serde_json::from_slice(&body).expect("JSON"))
    }

    #[test]
    fn the_paths_answer_like_a_gateway() {
        let node = Node::new(&plan("none"));
        let ask = |path: &str| ask(&node, path, &mut calm());
        assert_eq!(ask("syncing").1["syncing"], false);
        assert_eq!(ask("node_info").1["default_node_info"]["network"], "sim-1");
        assert_eq!(ask("blocks/latest"), ask("blocks/200"));
        for (path, status, code, message) in [
            ("blocks/201", 400, 3, "requested block height is bigger then the chain length"),
            ("blocks/0", 400, 3, "height must be greater than 0, but got 0"),
            ("blocks/-5", 400, 3, "height must be greater than 0, but got -5"),
            ("blocks/five", 400, 3, "type mismatch, parameter: height"),
            ("blocks/99999999999999999999", 400, 3, "type mismatch, parameter: height"),
            ("blocks/5/txs", 501, 12, "Not Implemented"),
            ("block", 501, 12, "Not Implemented"),
        ] {
            let (found, body) = ask(path);
            assert_eq!((found, &body["code"]), (status, &code.into()), "{path}");
            assert!(body["message"].as_str().is_some_and(|text| text.starts_with(message)), "{path}: {body}");
            assert_eq!(body["details"], Value::Array(Vec::new()));
        }
        assert_eq!(node.gateway(&Method::POST, &format!("{ROOT}blocks/5"), &mut calm()).0, StatusCode::NOT_IMPLEMENTED);
    }

    #[test]
    fn faults_have_the_gateways_words() {
        let node = Node::new(&plan("hole=50..60,pruned=100..110,keep=150"));
        let message = |path: &str| {
            let (status, body) = ask(&node, path, &mut calm());
            (status, body["message"].as_str().map(str::to_owned))
        };
        let pruned = |height: u64, lowest: u64| {
            (500, Some(format!("height {height} is not available, lowest height is {lowest}")))
        };
        assert_eq!(message("blocks/50"), pruned(50, 51));
        let (status, lost) = ask(&node, "blocks/51", &mut calm());
        assert_eq!((status, &lost["block"], &lost["block_id"]["hash"]), (200, &Value::Null, &"".into()));
        assert_eq!(message("blocks/105"), pruned(105, 111));
        assert_eq!(message("blocks/61"), (200, None));
        node.advance(1);
        // The horizon moves with the head.
        assert_eq!(message("blocks/51"), pruned(51, 52));
        let mut hidden = Twists { null: 1.0, ..calm() };
        assert_eq!(ask(&node, "blocks/201", &mut hidden).0, 400);
        assert_eq!(ask(&node, "blocks/198", &mut hidden).0, 200);
        assert_eq!(ask(&node, "blocks/latest", &mut hidden).0, 200);
        let mut wrong = Twists { wrong_block: true, ..calm() };
        assert_eq!(ask(&node, "blocks/90", &mut wrong).1["block"]["header"]["height"], "91");
    }

    proptest! {
        #[test]
        fn hostile_paths_never_panic_and_answers_are_json(path in "\\PC{0,30}", height in any::<i128>()) {
            static NODE: LazyLock<Node> = LazyLock::new(|| Node::new(&plan("keep=100")));
            for path in [path.clone(), format!("{ROOT}{path}"), format!("{ROOT}blocks/{path}"), format!("{ROOT}blocks/{height}")] {
                let (_, body) = NODE.gateway(&Method::GET, &path, &mut calm());
                prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
            }
        }
    }
}
