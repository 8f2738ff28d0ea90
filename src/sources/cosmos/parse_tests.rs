//! The parser against real blocks, generated ones, and hostile bytes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn base64(byte: u8) -> String {
    BASE64.encode([byte; HASH_BYTES])
}

fn block(height: u64) -> Value {
    json!({
        "block_id": {"hash": base64(0xAB), "part_set_header": {"total": 1, "hash": base64(1)}},
        "block": {
            "header": {
                "version": {"block": "11", "app": "0"}, "chain_id": "migaloo-1", "height": height.to_string(),
                "time": "2023-02-03T04:05:06.789012345Z",
                "last_block_id": {"hash": base64(0xCD), "part_set_header": {"total": 1, "hash": base64(2)}},
            },
            "data": {"txs": ["CpEB"]}, "evidence": {"evidence": []}, "last_commit": {"height": "6", "signatures": []},
        },
        "sdk_block": {"header": {"proposer_address": "migaloovalcons1"}},
    })
}

fn with(path: &str, value: Value) -> String {
    let mut block = block(7);
    *block.pointer_mut(path).expect("a member") = value;
    block.to_string()
}

#[test]
fn hashes_become_upper_case_hexadecimal_as_cometbft_writes_them() {
    let id = identity(block(7).to_string().as_bytes()).expect("a block");
    assert_eq!((id.height, id.time), (7, 1_675_397_106));
    assert_eq!((id.hash.as_str(), id.parent.as_str()), ("AB".repeat(32).as_str(), "CD".repeat(32).as_str()));
    let old = with("/block_id/hash", "ab".repeat(32).into());
    assert_eq!(identity(old.as_bytes()).expect("a block").hash.as_str(), "AB".repeat(32), "the older server's form");
}

#[test]
fn the_first_block_stands_on_zeros_and_no_other_does() {
    for parts in [json!({"total": 0, "hash": ""}), Value::Null] {
        let first = with("/block/header/last_block_id", json!({"hash": "", "part_set_header": parts}));
        assert_eq!(identity(first.as_bytes()).expect("a block").parent.as_str(), FIRST_PARENT);
    }
    let cut = with("/block/header/last_block_id/hash", "".into());
    assert!(identity(cut.as_bytes()).expect_err("no parent").contains("parts but no hash"));
}

#[test]
fn what_is_not_a_block_is_refused_with_the_member() {
    let short = BASE64.encode([1; 31]);
    let cases = [
        ("/block/header/height", json!("0"), "height: `0` is no height"),
        ("/block/header/height", json!("+7"), "height:"),
        ("/block/header/height", json!("9007199254740992"), "height:"),
        ("/block/header/height", json!(7), "expected a"),
        ("/block/header/time", json!("yesterday"), "time:"),
        ("/block/header/chain_id", json!(""), "chain_id: empty"),
        ("/block_id/hash", json!(short), "hash:"),
        ("/block_id/hash", json!("../../etc/passwd"), "hash:"),
        ("/block/header/last_block_id/hash", json!("x"), "last_block_id:"),
        ("/block/data", json!({}), "missing field `txs`"),
        ("/block/data/txs", json!("x"), "data.txs: not a list"),
        ("/block", Value::Null, "no block"),
        ("/block_id/hash", json!(""), "no block"),
    ];
    for (path, value, reason) in cases {
        let fault = identity(with(path, value.clone()).as_bytes()).expect_err(path);
        assert!(fault.contains(reason), "{path} = {value}: {fault}");
    }
    assert!(identity(with("/block/data/txs", Value::Null).as_bytes()).is_ok(), "an empty list of older versions");
    for body in ["", "[]", "{}", "null", "<html>", r#"{"code":3,"message":"x"}"#] {
        assert!(read(body.as_bytes()).is_err(), "{body}");
    }
}

/// Real blocks of a CometBFT node, in the words of the gateway: the same bytes in base64, `part_set_header` for `parts`.
#[test]
fn real_blocks_are_read_and_link() {
    let Ok(folder) = std::env::var("GAPLESS_REAL_DATA") else {
        println!("skipped: GAPLESS_REAL_DATA names no folder");
        return;
    };
    let read = |height: u64| {
        let path = format!("{folder}/chain/cometbft/block_at_height_{height}.json");
        let text = std::fs::read_to_string(path).expect("a capture");
        serde_json::from_str::<Value>(&text).expect("JSON")["result"].take()
    };
    for height in [1, 10] {
        let real = read(height);
        let mut gateway = real.clone();
        for path in ["/block_id/hash", "/block/header/last_block_id/hash"] {
            let member = gateway.pointer_mut(path).expect("a hash");
            let text = member.as_str().expect("a text").to_owned();
            let bytes =
                (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal"));
            *member = BASE64.encode(bytes.collect::<Vec<_>>()).into();
        }
        let id = identity(gateway.to_string().as_bytes()).expect("a block");
        let parent = match height {
            1 => FIRST_PARENT,
            _ => real["block"]["last_commit"]["block_id"]["hash"].as_str().expect("a text"),
        };
        assert_eq!(id.hash.as_str(), real["block_id"]["hash"].as_str().expect("a text"));
        assert_eq!((id.height, id.parent.as_str()), (height, parent));
        let time = real["block"]["header"]["time"].as_str().expect("a text");
        assert!(time.starts_with("2021-12-17T20:27:") && (1_639_772_820..1_639_772_880).contains(&id.time), "{time}");
        assert_eq!(identity(real.to_string().as_bytes()).expect("the same block in hexadecimal"), id);
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (read(&bytes), identity(&bytes), syncing(&bytes));
        let _ = super::super::refusal::GatewayError::parse(&bytes);
    }

    /// Near misses go deeper than noise: a valid answer with a few bytes changed or cut off.
    #[test]
    fn damaged_blocks_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = block(7).to_string().into_bytes();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = (identity(&bytes), super::super::refusal::is_error(&bytes));
    }

    #[test]
    fn generated_blocks_come_back(height in 1..=HEIGHT_MAX, hash in any::<[u8; 32]>(), parent in any::<[u8; 32]>()) {
        let mut block = block(height);
        block["block_id"]["hash"] = BASE64.encode(hash).into();
        block["block"]["header"]["last_block_id"]["hash"] = BASE64.encode(parent).into();
        let id = identity(serde_json::to_string_pretty(&block).expect("JSON").as_bytes()).expect("a block");
        let hex = |bytes: [u8; 32]| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>();
        prop_assert_eq!((id.height, id.hash.as_str(), id.parent.as_str()), (height, &*hex(hash), &*hex(parent)));
    }
}
