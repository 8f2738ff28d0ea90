//! The parser against generated blocks, hostile bytes and each kind of answer.

use proptest::prelude::*;

use super::*;
use crate::sources::pool::text::REASON_CHARS;

fn hash_text(digit: char) -> String {
    format!("0x{}", digit.to_string().repeat(64))
}

/// A block as text, with one member replaced (or left out, with an empty value).
fn block_text(height: u64, member: &str, value: &str) -> String {
    let members = [
        ("hash", format!(r#""{}""#, hash_text('A'))),
        ("parentHash", format!(r#""{}""#, hash_text('b'))),
        ("number", format!(r#""{height:#x}""#)),
        ("timestamp", r#""0x65""#.to_owned()),
        ("transactions", r#"[ {"hash":"0x1"} ]"#.to_owned()),
    ];
    let replaced = members.into_iter().map(|(name, was)| (name, if name == member { value.to_owned() } else { was }));
    let kept: Vec<_> = replaced.filter(|(_, value)| !value.is_empty()).collect();
    format!("{{{}}}", kept.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect::<Vec<_>>().join(","))
}

fn parse(text: &str, asked: Height) -> Result<Block, String> {
    block(Bytes::from(text.to_owned()), asked)
}

#[test]
fn a_block_keeps_its_bytes_and_its_hashes_become_lower_case() {
    let text = block_text(7, "", "");
    let block = parse(&text, 7).expect("a block");
    assert_eq!(block.raw, text.as_bytes());
    assert_eq!(block.id.hash.as_str(), hash_text('a'));
    assert_eq!(block.id.parent.as_str(), hash_text('b'));
    assert_eq!((block.id.height, block.id.time), (7, 0x65));
}

#[test]
fn what_is_not_the_block_asked_for_is_refused_with_the_member() {
    let cases = [
        ("number", r#""0x8""#, "asked for 7, got number 8"),
        ("number", r#""0x20000000000000""#, "largest"),
        ("number", "null", "no block"),
        ("number", "7", "no block"),
        ("number", r#""7""#, "number: `7` is no quantity"),
        ("number", r#""0x""#, "number:"),
        ("number", r#""0x+7""#, "number:"),
        ("number", "", "missing field `number`"),
        ("hash", r#""0x12""#, "hash: `0x12` is no block hash"),
        ("hash", "null", "no block"),
        ("parentHash", "", "missing field `parentHash`"),
        ("parentHash", r#""../../etc/passwd""#, "parentHash:"),
        ("timestamp", r#""0x8000000000000000""#, "is no time"),
        ("transactions", "", "missing field `transactions`"),
        ("transactions", "null", "not a list"),
        ("transactions", r#"["0x1"]"#, "only their hashes"),
        ("transactions", "[\n  \"0x1\"]", "only their hashes"),
    ];
    for (member, value, reason) in cases {
        let fault = parse(&block_text(7, member, value), 7).expect_err(value);
        assert!(fault.contains(reason), "{member}={value}: {fault}");
    }
    assert!(parse(&block_text(7, "transactions", "[]"), 7).is_ok());
    assert!(parse(&block_text(7, "number", r#""0x007""#), 7).is_ok(), "leading zeros are let through");
}

fn read_text(text: &str, asked: &[Height]) -> Result<Reading, String> {
    read(&Bytes::from(text.to_owned()), asked)
}

fn verdicts(reading: Result<Reading, String>) -> Vec<(Height, &'static str)> {
    let Ok(Reading::Heights(heights)) = reading else { panic!("no heights in {reading:?}") };
    let word = |said| match said {
        Said::Block(_) => "block",
        Said::Absent(Absence::Unknown) => "unknown",
        Said::Absent(Absence::Pruned(_)) => "pruned",
        Said::Absent(Absence::Malformed(_)) => "malformed",
        Said::Absent(Absence::Unheard(_)) => "unheard",
        Said::Limited => "limited",
        Said::Trouble(_) => "trouble",
    };
    heights.into_iter().map(|(height, said)| (height, word(said))).collect()
}

#[test]
fn a_batch_is_matched_by_id_in_any_order() {
    let (five, six) = (block_text(5, "", ""), block_text(6, "", ""));
    let text = format!(
        r#" [{{"id":6,"result":{six}}},{{"id":"5","result":{five}}},{{"id":6,"result":null}},{{"id":99,"result":{six}}}]"#
    );
    assert_eq!(verdicts(read_text(&text, &[4, 5, 6, 7])), [(6, "block"), (5, "block")]);
}

#[test]
fn each_kind_of_answer_has_its_verdict() {
    let wrong = block_text(1, "", "");
    let text = format!(
        r#"[{{"id":1,"result":null}},{{"id":2,"error":{{"code":4444,"message":"pruned history unavailable"}}}},
            {{"id":3,"result":{wrong}}},{{"id":4,"error":{{"code":-32005,"message":"x"}}}},
            {{"id":5,"error":{{"code":-32603,"message":"x"}}}},{{"id":6}},{{"id":7,"error":null,"result":[]}}]"#
    );
    let all = [
        (1, "unknown"),
        (2, "pruned"),
        (3, "malformed"),
        (4, "limited"),
        (5, "trouble"),
        (6, "trouble"),
        (7, "malformed"),
    ];
    assert_eq!(verdicts(read_text(&text, &[1, 2, 3, 4, 5, 6, 7])), all);
}

#[test]
fn one_error_for_a_batch_refuses_it_whole() {
    for text in [
        r#"{"id":null,"error":{"code":-32600,"message":"batch too large"}}"#,
        r#"[{"id":null,"error":{"code":-32600,"message":"batch too large"}}]"#,
    ] {
        let reading = read_text(text, &[1, 2]);
        assert!(matches!(&reading, Ok(Reading::Refused(e)) if e.code == -32600), "{reading:?}");
    }
    assert_eq!(verdicts(read_text(r#"{"error":{"code":4444}}"#, &[1])), [(1, "pruned")]);
}

#[test]
fn what_is_no_answer_is_an_error_of_bounded_length() {
    let many = format!("[{}{{}}]", "{},".repeat(100_000));
    let deep = "[".repeat(100_000);
    let long = format!("<html>{}", "x".repeat(100_000));
    for text in
        ["", "null", "[", "{", r#"{"id":1,"result":"#, "[1]", "[] []", r#"{"id":2,"result":null}"#, &many, &deep, &long]
    {
        let fault = read_text(text, &[1, 3]).expect_err("no answer");
        assert!(fault.chars().count() <= REASON_CHARS + 1, "{fault}");
    }
}

#[test]
fn a_quantity_is_read_or_refused() {
    let read = |text: &str| read_quantity(&Bytes::from(text.to_owned()));
    assert_eq!(read(r#"{"id":1,"result":"0x1092"}"#), Ok(Ok(4242)));
    assert_eq!(read(r#"{"id":1,"result":"0xffffffffffffffffffffffffffffffff"}"#), Ok(Ok(u128::MAX)));
    assert!(matches!(read(r#"{"id":1,"error":{"code":-32601,"message":"no"}}"#), Ok(Err(_))));
    for text in [r#"{"id":1}"#, r#"{"result":4242}"#, r#"{"result":"4242"}"#, r#"{"result":"0xé"}"#, "<html>", ""] {
        assert!(read(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), asked in 0u64..9) {
        let body = Bytes::from(bytes);
        let _ = read(&body, &[asked]);
        let _ = read(&body, &[asked, asked + 1]);
        let _ = read_quantity(&body);
        let _ = block(body.clone(), asked);
        let _ = is_rpc(&body);
        let _ = RpcError::parse(&String::from_utf8_lossy(&body));
    }

    /// Near misses go deeper than noise: valid answers with a few bytes changed or cut off.
    #[test]
    fn damaged_answers_never_panic_nor_change_the_height(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = format!(r#"[{{"id":5,"result":{}}},{{"id":6,"result":null}}]"#, block_text(5, "", "")).into_bytes();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(Reading::Heights(heights)) = read(&Bytes::from(bytes), &[5, 6]) {
            for (height, said) in heights {
                if let Said::Block(block) = said {
                    prop_assert_eq!(block.id.height, height);
                }
            }
        }
    }

    /// Whatever a node writes around the members that count, the block is read and its bytes come back whole.
    #[test]
    fn generated_blocks_come_back_whole(
        height in 0..=HEIGHT_MAX,
        hash in "0x[0-9a-fA-F]{64}",
        parent in "0x[0-9a-fA-F]{64}",
        time in 0..=i64::MAX,
        extra in prop::collection::hash_map("x[a-zA-Z]{1,8}", "\\PC{0,40}", 0..4),
        transactions in 0usize..4,
        pad in "[ \n\t]{0,3}",
    ) {
        let mut members = serde_json::json!({
            "number": format!("{height:#x}"), "hash": hash, "parentHash": parent, "timestamp": format!("{time:#x}"),
            "transactions": vec![serde_json::json!({"hash": "0x1", "input": "0x"}); transactions],
        });
        for (name, value) in extra {
            members[name] = value.into();
        }
        let raw = serde_json::to_string_pretty(&members).expect("JSON");
        let body = Bytes::from(format!(r#"[{pad}{{"jsonrpc":"2.0","id":{height},{pad}"result":{pad}{raw}{pad}}}]"#));
        let Ok(Reading::Heights(heights)) = read(&body, &[height]) else { panic!("no heights") };
        let [(at, Said::Block(block))] = &heights[..] else { panic!("no block in {heights:?}") };
        prop_assert_eq!(*at, height);
        prop_assert_eq!(&block.raw[..], raw.as_bytes());
        prop_assert_eq!(block.id.hash.as_str(), hash.to_lowercase());
        prop_assert_eq!(block.id.parent.as_str(), parent.to_lowercase());
        prop_assert_eq!((block.id.height, block.id.time), (height, time));
        prop_assert!(body.as_ptr_range().contains(&block.raw.as_ptr()), "a slice of the body, no copy");
    }
}
