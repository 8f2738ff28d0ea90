//! What the stream must hold, computed from the bytes that a test wrote, and what is wrong with what it holds.

use std::collections::BTreeMap;
use std::fmt;

use redis::{FromRedisValue, Value};

use crate::support::redis::RedisServer;

/// One entry of the stream, or what it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    pub offset: u64,
    pub bytes: Vec<u8>,
    pub part: &'static str,
}

/// One entry with the file that it names.
#[derive(Debug, Clone)]
pub struct Entry {
    pub file: String,
    pub piece: Piece,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        let short: String = text.chars().take(60).collect();
        write!(f, "{}:{short:?}{}", self.offset, self.part)
    }
}

/// The pieces of one life: whole lines without their ends; a line over `limit` in pieces. Of a life that is over, what
/// has no end is torn.
pub fn pieces(life: &[u8], is_over: bool, limit: usize) -> Vec<Piece> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < life.len() {
        let rest = &life[at..];
        let (mut content, len, has_end) = match rest.iter().position(|b| *b == b'\n') {
            Some(end) => (&rest[..end - usize::from(end > 0 && rest[end - 1] == b'\r')], end + 1, true),
            None if is_over => (rest, rest.len(), false),
            None => break,
        };
        let (mut offset, mut cut) = (at as u64, false);
        while content.len() > limit {
            pieces.push(Piece { offset, bytes: content[..limit].to_vec(), part: "cut" });
            (content, cut) = (&content[limit..], true);
            offset += limit as u64;
        }
        let part = match (has_end, cut) {
            (true, false) => "",
            (true, true) => "rest",
            (false, _) => "torn",
        };
        pieces.push(Piece { offset, bytes: content.to_vec(), part });
        at += len;
    }
    pieces
}

/// The pieces of all lives of a file; the last one goes on.
pub fn truth(lives: &[Vec<u8>], limit: usize) -> Vec<Vec<Piece>> {
    let last = lives.len().saturating_sub(1);
    lives.iter().enumerate().map(|(n, life)| pieces(life, n < last, limit)).collect()
}

/// How many entries there must be.
pub fn count(lives: &[Vec<u8>], limit: usize) -> usize {
    truth(lives, limit).iter().map(Vec::len).sum()
}

/// The whole stream, in its order.
pub fn entries(redis: &RedisServer, key: &str) -> Vec<Entry> {
    type Raw = Vec<(String, Vec<Vec<u8>>)>;
    let mut entries = Vec::new();
    let mut from = "-".to_owned();
    loop {
        let page = redis.command(&["XRANGE", key, &from, "+", "COUNT", "5000"]);
        let page: Raw = if page == Value::Nil { Vec::new() } else { Raw::from_redis_value(page).expect("entries") };
        let Some((last, _)) = page.last() else { return entries };
        from = format!("({last}");
        entries.extend(page.iter().map(|(_, fields)| entry(fields)));
    }
}

fn entry(fields: &[Vec<u8>]) -> Entry {
    let [label, bytes, ..] = fields else { panic!("{} names and values", fields.len()) };
    let label = String::from_utf8(label.clone()).expect("text");
    let words: Vec<&str> = label.split(' ').collect();
    let (file, offset) = words[0].rsplit_once(':').expect("FILE:OFFSET");
    let part = match words[1..] {
        [_level] => "",
        [_level, "cut"] => "cut",
        [_level, "rest"] => "rest",
        [_level, "torn"] => "torn",
        _ => panic!("`{label}` is not FILE:OFFSET LEVEL, with or without a part"),
    };
    let piece = Piece { offset: offset.parse().expect("an offset"), bytes: bytes.clone(), part };
    Entry { file: file.to_owned(), piece }
}

/// Everything that G6 forbids: a piece that is lost, doubled, altered or out of order, a life under two names or two
/// lives under one. `lives` are the lives of all followed files.
pub fn faults(truth: &[Vec<Piece>], entries: &[Entry]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&Piece>> = BTreeMap::new();
    for entry in entries {
        groups.entry(&entry.file).or_default().push(&entry.piece);
    }
    // Long lives are found first: one that holds a header alone is like the beginning of every other.
    let mut open: Vec<(usize, &Vec<Piece>)> = truth.iter().enumerate().filter(|(_, life)| !life.is_empty()).collect();
    let mut named: Vec<(&str, Vec<&Piece>)> = groups.into_iter().collect();
    named.sort_by_key(|(_, pieces)| std::cmp::Reverse(pieces.len()));
    let mut left = Vec::new();
    for (file, pieces) in named {
        match open.iter().position(|(_, life)| life.iter().eq(pieces.iter().copied())) {
            Some(place) => drop(open.remove(place)),
            None => left.push((file, pieces)),
        }
    }
    for (file, pieces) in &left {
        faults.push(format!("file {file} is no life: {}", list(pieces)));
    }
    for (n, life) in &open {
        faults.push(format!("life {n} is no file: {}", list(&life.iter().collect::<Vec<_>>())));
    }
    if !faults.is_empty() {
        faults.push(balance(truth, entries));
    }
    faults
}

fn list(pieces: &[&Piece]) -> String {
    let texts: Vec<String> = pieces.iter().map(ToString::to_string).collect();
    format!("{} pieces [{}]", pieces.len(), texts.join(", "))
}

/// Lost and doubled pieces, whatever file they name.
fn balance(truth: &[Vec<Piece>], entries: &[Entry]) -> String {
    let mut counts: BTreeMap<&Piece, i64> = BTreeMap::new();
    truth.iter().flatten().for_each(|piece| *counts.entry(piece).or_default() += 1);
    entries.iter().for_each(|entry| *counts.entry(&entry.piece).or_default() -= 1);
    let of = |sign: i64| {
        let texts: Vec<String> =
            counts.iter().filter(|(_, n)| n.signum() == sign).map(|(p, n)| format!("{p} x{n}")).collect();
        format!("{} [{}]", texts.len(), texts.join(", "))
    };
    format!("lost: {}; too many: {}", of(1), of(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(life: &[u8], is_over: bool, limit: usize) -> Vec<String> {
        pieces(life, is_over, limit).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_truth_is_told_from_bytes() {
        assert_eq!(text(b"a\nbc\r\n\nde", false, 9), ["0:\"a\"", "2:\"bc\"", "6:\"\""]);
        assert_eq!(text(b"a\nde", true, 9), ["0:\"a\"", "2:\"de\"torn"]);
        assert_eq!(text(b"12345\n67", true, 2), ["0:\"12\"cut", "2:\"34\"cut", "4:\"5\"rest", "6:\"67\"torn"]);
    }

    #[test]
    fn every_kind_of_damage_is_seen() {
        let lives = truth(&[b"a\nb\nc\n".to_vec(), b"d\n".to_vec()], 9);
        let whole: Vec<Entry> = [(0, "x"), (1, "y")]
            .iter()
            .flat_map(|(n, file)| {
                lives[*n].iter().map(|piece| Entry { file: (*file).to_owned(), piece: piece.clone() })
            })
            .collect();
        assert_eq!(faults(&lives, &whole), Vec::<String>::new());
        let damaged = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = whole.clone();
            change(&mut entries);
            !faults(&lives, &entries).is_empty()
        };
        assert!(damaged(&|e| drop(e.remove(1))), "lost");
        assert!(damaged(&|e| e.push(e[0].clone())), "doubled");
        assert!(damaged(&|e| e.swap(0, 1)), "out of order");
        assert!(damaged(&|e| e[2].piece.bytes[0] = b'!'), "altered");
        assert!(damaged(&|e| e[2].piece.offset = 5), "another place");
        assert!(damaged(&|e| e[3].file = "x".to_owned()), "two lives under one name");
        assert!(damaged(&|e| e[2].file = "z".to_owned()), "a life under two names");
    }
}
