//! What a block looks like: JSON with the members of a geth node after the Prague fork, in geth's order.
//!
//! A template is rendered once, with holes for what differs from block to block, so that a block costs little more
//! than a copy of its bytes.

use super::noise::Noise;

/// What stands in a template where a value differs from block to block.
#[derive(Debug, Clone, Copy)]
enum Hole {
    Hash,
    Parent,
    Number,
    Time,
    /// The hash of the transaction with this index.
    Transaction(usize),
}

/// The values for the holes.
pub(super) struct Values<'a> {
    /// The block's hash.
    pub hash: &'a str,
    /// The hash of the block below.
    pub parent: &'a str,
    /// Its height.
    pub number: u64,
    /// Its time, in seconds since 1970.
    pub time: u64,
}

/// Text up to a hole, and the hole.
#[derive(Debug)]
struct Piece {
    text: String,
    hole: Option<Hole>,
}

/// A block with holes.
#[derive(Debug)]
pub(super) struct Template {
    before: Vec<Piece>,
    transactions: Vec<Piece>,
    transaction_count: usize,
    after: Vec<Piece>,
}

/// The members before the transactions; `@` and a letter is a hole, `#BYTES` noise, white space goes.
const BEFORE: &str = r##"
    {"baseFeePerGas":"0x3b9aca07","blobGasUsed":"0x20000","difficulty":"0x0","excessBlobGas":"0x0",
    "extraData":"0x6761706c6573732073696d756c61746f72","gasLimit":"0x1c9c380","gasUsed":"0x@G","hash":"@H",
    "logsBloom":"#256","miner":"#20","mixHash":"#32","nonce":"0x0000000000000000","number":"@N",
    "parentBeaconBlockRoot":"#32","parentHash":"@P","receiptsRoot":"#32",
    "requestsHash":"0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha3Uncles":"0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347","size":"0x@S",
    "stateRoot":"#32","timestamp":"@T","transactions":[
"##;
/// The members after them.
const AFTER: &str = r##"
    ],"transactionsRoot":"#32","uncles":[],"withdrawals":[{"index":"0x2f3a1c1","validatorIndex":"0x8d3f1",
    "address":"#20","amount":"0x11f6e3a"}],"withdrawalsRoot":"#32"}
"##;
/// A transaction that moves a token (EIP-1559): what most blocks are full of.
const TRANSACTION: &str = r##"
    {"blockHash":"@H","blockNumber":"@N","from":"#20","gas":"0x15f90","gasPrice":"0x3b9aca08",
    "maxFeePerGas":"0x77359400","maxPriorityFeePerGas":"0x1","hash":"@X","input":"@I","nonce":"0x@C","to":"#20",
    "transactionIndex":"0x@J","value":"0x0","type":"0x2","accessList":[],"chainId":"0x@D","v":"0x1","r":"#32",
    "s":"#32","yParity":"0x1"}
"##;
/// Bytes of call data: `transfer(address,uint256)` takes 68.
const INPUT_BYTES: usize = 68;
/// What remains below this is filled with call data of the last transaction instead of another one.
const TRANSACTION_BYTES: usize = 1000;

impl Template {
    /// Renders a block of about `bytes` bytes; a genesis block (`bytes` = 0) has no transactions.
    pub fn new(noise: &mut Noise, chain_id: u64, bytes: usize) -> Self {
        let around = BEFORE.len() + AFTER.len() + 1_200;
        let mut left = bytes.saturating_sub(around);
        let (mut transactions, mut count) = (Vec::new(), 0);
        while left > 300 {
            let more = if left < 2 * TRANSACTION_BYTES { left.saturating_sub(TRANSACTION_BYTES) / 2 } else { 0 };
            let mut text = if count > 0 { ",".to_owned() } else { String::new() };
            text.push_str(&TRANSACTION.replace("@I", &format!("#{}", INPUT_BYTES + more)));
            text = text.replace("@C", &format!("{:x}", noise.below(5_000)));
            text = text.replace("@J", &format!("{count:x}")).replace("@D", &format!("{chain_id:x}"));
            let pieces = pieces(&fill(&text, noise), count);
            left = left.saturating_sub(if more > 0 { left } else { length(&pieces) });
            transactions.extend(pieces);
            count += 1;
        }
        let before = BEFORE.replace("@G", &format!("{:x}", 21_000 + 69_000 * count));
        let before = before.replace("@S", &format!("{:x}", 600 + bytes / 3));
        Self {
            before: pieces(&fill(&before, noise), 0),
            transactions,
            transaction_count: count,
            after: pieces(&fill(AFTER, noise), 0),
        }
    }

    /// Appends the block; `full` = whole transactions, else only their hashes.
    pub fn render(&self, values: &Values<'_>, full: bool, out: &mut Vec<u8>) {
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

/// Replaces every `#BYTES` by so many random bytes, and takes the white space out.
fn fill(text: &str, noise: &mut Noise) -> String {
    let text: String = text.split_whitespace().collect();
    let mut parts = text.split('#');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        filled.push_str(&noise.hex(part[..digits].parse().unwrap_or(0)));
        filled.push_str(&part[digits..]);
    }
    filled
}

/// Cuts a text at its holes; `index` is the transaction's.
fn pieces(text: &str, index: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.find('@') {
        let hole = match rest.as_bytes().get(place + 1) {
            Some(b'H') => Hole::Hash,
            Some(b'P') => Hole::Parent,
            Some(b'N') => Hole::Number,
            Some(b'T') => Hole::Time,
            _ => Hole::Transaction(index),
        };
        pieces.push(Piece { text: rest[..place].to_owned(), hole: Some(hole) });
        rest = &rest[place + 2..];
    }
    pieces.push(Piece { text: rest.to_owned(), hole: None });
    pieces
}

/// About how long the pieces become.
fn length(pieces: &[Piece]) -> usize {
    let hole = |piece: &Piece| match piece.hole {
        Some(Hole::Hash | Hole::Parent | Hole::Transaction(_)) => 66,
        Some(Hole::Number | Hole::Time) => 8,
        None => 0,
    };
    pieces.iter().map(|piece| piece.text.len() + hole(piece)).sum()
}

fn render(pieces: &[Piece], values: &Values<'_>, out: &mut Vec<u8>) {
    for piece in pieces {
        out.extend_from_slice(piece.text.as_bytes());
        if let Some(hole) = piece.hole {
            values.put(hole, out);
        }
    }
}

impl Values<'_> {
    fn put(&self, hole: Hole, out: &mut Vec<u8>) {
        match hole {
            Hole::Hash => out.extend_from_slice(self.hash.as_bytes()),
            Hole::Parent => out.extend_from_slice(self.parent.as_bytes()),
            Hole::Number => put_quantity(self.number, out),
            Hole::Time => put_quantity(self.time, out),
            Hole::Transaction(index) => put_transaction(self.hash, index, out),
        }
    }
}

/// `0x` and the digits of a number, without leading zeros.
pub(super) fn put_quantity(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0x");
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        put_digit(number >> (4 * place), out);
    }
}

fn put_digit(number: u64, out: &mut Vec<u8>) {
    out.push(b"0123456789abcdef"[(number & 15) as usize]);
}

/// A transaction's hash: no two are equal, since it is the block's with the index in front.
fn put_transaction(block: &str, index: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0x");
    for place in (0..6).rev() {
        put_digit(index as u64 >> (4 * place), out);
    }
    out.extend_from_slice(&block.as_bytes()[8..]);
}
