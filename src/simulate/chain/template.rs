//! A block with holes: rendered once, so that a block costs little more than a copy of its bytes.
//!
//! A pattern is JSON in which `#BYTES` stands for noise and `@` with a letter for what differs from block to block;
//! white space goes.

use crate::simulate::noise::Noise;

/// What stands in a template where a value differs from block to block.
#[derive(Debug, Clone, Copy)]
enum Hole {
    Hash,
    Parent,
    Number,
    Below,
    Time,
    Parts,
    ParentParts,
    /// The hash of the transaction with this index.
    Transaction(usize),
}

/// The values for the holes, as the dialect writes them; those that it has no holes for are empty.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// `@H`: the block's hash.
    pub hash: String,
    /// `@P`: the hash of the block below.
    pub parent: String,
    /// `@N`: its height.
    pub number: String,
    /// `@B`: the height of the block below.
    pub below: String,
    /// `@T`: its time.
    pub time: String,
    /// `@Q`: the hash of its parts (Cosmos).
    pub parts: String,
    /// `@R`: the hash of the parts of the block below (Cosmos).
    pub parent_parts: String,
}

/// Text up to a hole, and the hole.
#[derive(Debug)]
pub(super) struct Piece {
    text: String,
    hole: Option<Hole>,
}

/// A block with holes.
#[derive(Debug)]
pub(super) struct Template {
    /// Up to the transactions.
    pub before: Vec<Piece>,
    /// The transactions, whole.
    pub transactions: Vec<Piece>,
    /// How many they are.
    pub transaction_count: usize,
    /// What follows them.
    pub after: Vec<Piece>,
}

impl Template {
    /// Appends the block; `full` = whole transactions, else only their hashes.
    pub fn render(&self, values: &Values, full: bool, out: &mut Vec<u8>) {
        render(&self.before, values, out);
        if full {
            render(&self.transactions, values, out);
        } else {
            for index in 0..self.transaction_count {
                out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
                values.put(Hole::Transaction(index), out);
                out.push(b'"');
            }
        }
        render(&self.after, values, out);
    }
}

/// How noise is written: so many random bytes as text.
pub(super) type Write = fn(&mut Noise, usize) -> String;

/// Replaces every `#BYTES` by noise, and takes the white space out.
pub(super) fn fill(text: &str, noise: &mut Noise, write: Write) -> String {
    let text: String = text.split_whitespace().collect();
    let mut parts = text.split('#');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        filled.push_str(&write(noise, part[..digits].parse().unwrap_or(0)));
        filled.push_str(&part[digits..]);
    }
    filled
}

/// Cuts a text at its holes; `index` is the transaction's.
pub(super) fn pieces(text: &str, index: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.find('@') {
        let hole = match rest.as_bytes().get(place + 1) {
            Some(b'H') => Hole::Hash,
            Some(b'P') => Hole::Parent,
            Some(b'N') => Hole::Number,
            Some(b'B') => Hole::Below,
            Some(b'T') => Hole::Time,
            Some(b'Q') => Hole::Parts,
            Some(b'R') => Hole::ParentParts,
            _ => Hole::Transaction(index),
        };
        pieces.push(Piece { text: rest[..place].to_owned(), hole: Some(hole) });
        rest = &rest[place + 2..];
    }
    pieces.push(Piece { text: rest.to_owned(), hole: None });
    pieces
}

/// About how long the pieces become, where a hash takes `hash` bytes.
pub(super) fn length(pieces: &[Piece], hash: usize) -> usize {
    let hole = |piece: &Piece| match piece.hole {
        Some(Hole::Hash | Hole::Parent | Hole::Parts | Hole::ParentParts | Hole::Transaction(_)) => hash,
        Some(Hole::Number | Hole::Below) => 8,
        Some(Hole::Time) => 30,
        None => 0,
    };
    pieces.iter().map(|piece| piece.text.len() + hole(piece)).sum()
}

fn render(pieces: &[Piece], values: &Values, out: &mut Vec<u8>) {
    for piece in pieces {
        out.extend_from_slice(piece.text.as_bytes());
        if let Some(hole) = piece.hole {
            values.put(hole, out);
        }
    }
}

impl Values {
    fn put(&self, hole: Hole, out: &mut Vec<u8>) {
        let text = match hole {
            Hole::Hash => &self.hash,
            Hole::Parent => &self.parent,
            Hole::Number => &self.number,
            Hole::Below => &self.below,
            Hole::Time => &self.time,
            Hole::Parts => &self.parts,
            Hole::ParentParts => &self.parent_parts,
            Hole::Transaction(index) => return put_transaction(&self.hash, index, out),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// The hash of an EVM transaction: no two are equal, since it is the block's with the index in front.
fn put_transaction(block: &str, index: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("0x{:06x}", index & 0xff_ffff).as_bytes());
    out.extend_from_slice(block.as_bytes().get(8..).unwrap_or_default());
}
