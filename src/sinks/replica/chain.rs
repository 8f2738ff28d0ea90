//! Chain: the evidence of one stream, beside it on the target: a stream of links, one for each batch.
//!
//! A link is written in the transaction that writes its batch, behind a watch on both keys. So whoever dies or fails over
//! wherever, the chain reaches exactly as far as the stream does, and a break in it is a fault of somebody else.

use crate::ids::EntryId;
use crate::messages::evidence::{Link, LinkKind};
use crate::wire::look::{behind, range};
use crate::wire::{Answer, Item, Line, Reply, Request, WireError, beside};

/// What the keys of chains begin with.
pub const CHAINS: &str = "gapless:chain:";
/// Entries of one page that is read again.
const PAGE: usize = 500;
/// Links of one page.
const LINKS: &[u8] = b"1000";

/// The key of the chain of a stream.
pub fn chain_key(key: &[u8]) -> Vec<u8> {
    beside(CHAINS, key)
}

/// What a link says of entries.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    hasher: blake3::Hasher,
    /// The first of them.
    pub first: EntryId,
    /// How many.
    pub count: u64,
}

impl Digest {
    /// Adds entries, in order.
    pub fn add<'a>(&mut self, bytes: &[u8], items: impl IntoIterator<Item = &'a Item>) {
        for item in items {
            self.hasher.update(item.id_bytes(bytes));
            self.hasher.update(item.fields(bytes));
            if self.count == 0 {
                self.first = item.id;
            }
            self.count += 1;
        }
    }

    /// As text.
    pub fn hex(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// The link over these entries, and over a stretch.
    pub fn link(&self, kind: LinkKind, (after, last): (EntryId, EntryId)) -> Link {
        let (first, count, digest) = (self.first, self.count, self.hex());
        Link { kind, after, first, last, count, digest, ..Link::default() }
    }
}

/// The entries of a stretch of a stream, or of its rest that is there; `step` is called page by page.
pub async fn digest_of(
    line: &mut Line,
    key: &[u8],
    (after, through): (EntryId, EntryId),
    mut step: impl FnMut(),
) -> Result<Digest, WireError> {
    let (mut digest, mut from) = (Digest::default(), after);
    loop {
        let page: Answer = range(line, key, &behind(from), &through.to_string(), PAGE).await?;
        digest.add(&page.bytes, page.items());
        step();
        match page.items().last() {
            Some(last) if page.items().len() == PAGE => from = last.id,
            _ => return Ok(digest),
        }
        line.reuse(page.bytes);
    }
}

/// All links that are kept, oldest first.
pub async fn links(line: &mut Line, chain: &[u8]) -> Result<Vec<Link>, WireError> {
    let (mut links, mut from) = (Vec::new(), b"-".to_vec());
    loop {
        let reply = line.call(&[b"XRANGE", chain, &from, b"+", b"COUNT", LINKS]).await?;
        let Some([id, _]) = reply.list().last().map(Reply::list) else { return Ok(links) };
        from = [b"(", id.bytes()].concat();
        for entry in reply.list() {
            links.push(link(entry).map_err(|reason| line.refused("XRANGE", &reason))?);
        }
    }
}

/// Adds the question that [`read_head`] understands the answer to.
pub(super) fn ask_head(request: &mut Request, chain: &[u8]) {
    request.command(&[b"XREVRANGE", chain, b"+", b"-", b"COUNT", b"1"]);
}

/// The newest link; none where there is no chain.
pub(super) fn read_head(line: &mut Line, reply: &Reply) -> Result<Option<Link>, WireError> {
    if let Reply::Error(words) = reply {
        return Err(line.refused("XREVRANGE", words));
    }
    reply.list().first().map(link).transpose().map_err(|reason| line.refused("XREVRANGE", &reason))
}

/// Adds a link to a chain that keeps about so many.
pub(super) fn push(request: &mut Request, chain: &[u8], links: u64, link: &Link) {
    let (links, fields) = (links.to_string(), link.fields());
    let mut args: Vec<&[u8]> = vec![b"XADD", chain, b"MAXLEN", b"~", links.as_bytes(), b"*"];
    fields.iter().for_each(|(name, value)| args.extend([name.as_bytes(), value.as_bytes()]));
    request.command(&args);
}

fn link(entry: &Reply) -> Result<Link, String> {
    let [_, fields] = entry.list() else { return Err("an entry of another form".to_owned()) };
    Link::read(|name| fields.field(name).map(Reply::text))
}
