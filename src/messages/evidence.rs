//! Evidence: a chain over what was copied, a link for each batch, so that an auditor can prove that nothing was left out
//! or altered.
//!
//! A link covers the entries of one stream behind one id and through another one: their number and the digest of their
//! bytes. It names the link before it, so none can be taken out, and each begins where the last one ended.

use serde::{Deserialize, Serialize};

use crate::ids::EntryId;

/// The end of a stream's chain, as it was seen when a position was written down: kept where whoever can write on the
/// target cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEnd {
    /// Up to where it reaches.
    pub through: String,
    /// The digest of its last link; empty before the first.
    pub chain: String,
}

/// What a link is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// A batch, as the source sent it.
    #[default]
    Written,
    /// The last id moved without an entry: it was deleted on the source, or is larger than an entry may be.
    Skipped,
    /// Entries that were there when the stream was taken up, and that no link covered.
    Found,
    /// The target has lost entries: the chain goes on from a lower id.
    Rewound,
    /// A repair built the stream anew: this covers all of it, in place of what stands before.
    Rebuilt,
}

/// All kinds, with their words.
const KINDS: [(LinkKind, &str); 5] = [
    (LinkKind::Written, "written"),
    (LinkKind::Skipped, "skipped"),
    (LinkKind::Found, "found"),
    (LinkKind::Rewound, "rewound"),
    (LinkKind::Rebuilt, "rebuilt"),
];

impl LinkKind {
    /// The word in the link.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("written", |(_, word)| word)
    }

    fn read(word: &str) -> Option<Self> {
        KINDS.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// One link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// What it is about.
    pub kind: LinkKind,
    /// The entries lie behind this id,
    pub after: EntryId,
    /// the first of them is this one,
    pub first: EntryId,
    /// and none lies behind this one.
    pub last: EntryId,
    /// How many.
    pub count: u64,
    /// blake3 over each entry's id and fields as Redis sends them (RESP2 texts), in order; hex.
    pub digest: String,
    /// `chain` of the link before; empty for the first.
    pub prev: String,
    /// blake3 over the stream's key and the other fields; hex.
    pub chain: String,
}

impl Link {
    /// The link behind this end of a chain, with its digest.
    pub fn sealed(mut self, key: &[u8], prev: Option<&Link>) -> Self {
        self.prev = prev.map(|link| link.chain.clone()).unwrap_or_default();
        self.chain = self.seal(key);
        self
    }

    /// The digest that `chain` must be.
    pub fn seal(&self, key: &[u8]) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        };
        add(key);
        let fields = self.fields();
        // The last of them is the digest itself.
        fields[..fields.len() - 1].iter().for_each(|(_, value)| add(value.as_bytes()));
        hasher.finalize().to_hex().to_string()
    }

    /// Names and values of the entry that holds it, in order.
    pub fn fields(&self) -> [(&'static str, String); 8] {
        [
            ("kind", self.kind.as_str().to_owned()),
            ("after", self.after.to_string()),
            ("first", self.first.to_string()),
            ("last", self.last.to_string()),
            ("count", self.count.to_string()),
            ("digest", self.digest.clone()),
            ("prev", self.prev.clone()),
            ("chain", self.chain.clone()),
        ]
    }

    /// Reads the entry that holds it; what is wrong with it otherwise.
    pub fn read(field: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |name: &str| field(name).ok_or_else(|| format!("a link without `{name}`"));
        let id = |name: &str| text(name)?.parse::<EntryId>().map_err(|error| format!("`{name}` of a link: {error}"));
        let kind = text("kind")?;
        Ok(Self {
            kind: LinkKind::read(&kind).ok_or_else(|| format!("a link of the kind `{kind}`"))?,
            after: id("after")?,
            first: id("first")?,
            last: id("last")?,
            count: text("count")?.parse().map_err(|_| "`count` of a link is no number".to_owned())?,
            digest: text("digest")?,
            prev: text("prev")?,
            chain: text("chain")?,
        })
    }

    /// The end of the chain behind this link.
    pub fn end(&self) -> ChainEnd {
        ChainEnd { through: self.last.to_string(), chain: self.chain.clone() }
    }

    /// For people: which stretch it covers.
    pub fn shown(&self) -> String {
        format!("the link {}..{}", self.after, self.last)
    }

    /// Whether its stretch may follow one that ended at `end`.
    fn follows(&self, end: EntryId) -> bool {
        match self.kind {
            LinkKind::Written | LinkKind::Skipped | LinkKind::Found => self.after == end && self.after < self.last,
            LinkKind::Rewound => self.after == end && self.last < end,
            LinkKind::Rebuilt => self.after == EntryId::ZERO,
        }
    }
}

/// The first thing that is wrong with the chain of a stream, oldest link first; nothing if it holds. Older links may have
/// left: the first one that is there is taken as it is. `end` is what was written down of the chain elsewhere, earlier.
pub fn broken(key: &[u8], links: &[Link], end: &ChainEnd) -> Option<String> {
    let mut before: Option<&Link> = None;
    for link in links {
        if link.chain != link.seal(key) {
            return Some(format!("{} was altered", link.shown()));
        }
        if before.is_some_and(|before| before.chain != link.prev) {
            return Some(format!("a link is missing before {}", link.shown()));
        }
        let begins = link.prev.is_empty().then_some(EntryId::ZERO);
        if before.map(|before| before.last).or(begins).is_some_and(|end| !link.follows(end)) {
            return Some(format!("{} does not begin where the one before it ends", link.shown()));
        }
        before = Some(link);
    }
    // A unit at work may have added links since its end was written down, and the oldest ones leave.
    if end.chain.is_empty() || links.iter().any(|link| link.end() == *end) {
        return None;
    }
    let through: EntryId = end.through.parse().unwrap_or_default();
    match (links.first(), links.last()) {
        (Some(first), _) if !first.prev.is_empty() && first.after >= through => None,
        (_, Some(last)) => Some(format!(
            "the chain ends at {} without the link that a node has seen, which ends at {through}",
            last.last
        )),
        (_, None) => Some("no link of it is kept".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"s";

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn link(after: u64, last: u64, prev: Option<&Link>) -> Link {
        let (first, digest) = (id(after + 1), "d".to_owned());
        let link = Link { after: id(after), first, last: id(last), count: last - after, digest, ..Link::default() };
        link.sealed(KEY, prev)
    }

    #[test]
    fn a_link_that_is_altered_taken_out_or_added_breaks_the_chain() {
        let first = link(0, 10, None);
        let second = link(10, 20, Some(&first));
        let third = link(20, 30, Some(&second));
        let (all, end) = ([first.clone(), second.clone(), third.clone()], third.end());
        assert_eq!(broken(KEY, &all, &end), None);
        assert_eq!(broken(KEY, &all[1..], &end), None, "older ones may have left");
        assert_eq!(broken(KEY, &all[1..], &first.end()), None, "and with them the one that was seen");
        assert_eq!(broken(KEY, &all, &second.end()), None, "more may have come since");
        let says = |links: &[Link]| broken(KEY, links, &end).expect("a fault");
        for altered in [
            Link { count: 9, ..second.clone() },
            Link { first: id(12), ..second.clone() },
            Link { digest: "e".to_owned(), ..second.clone() },
            Link { kind: LinkKind::Found, ..second.clone() },
        ] {
            assert_eq!(says(&[first.clone(), altered, third.clone()]), "the link 10-0..20-0 was altered");
        }
        assert!(says(&[first.clone(), third.clone()]).contains("missing before the link 20-0..30-0"));
        assert!(says(&all[..2]).contains("ends at 20-0 without"));
        assert!(says(&[]).contains("no link"));
        assert!(broken(b"other", &all, &end).expect("another stream's chain").contains("was altered"));
        let apart = link(25, 35, Some(&third));
        assert!(says(&[third.clone(), apart]).contains("does not begin"));
        let headless = link(5, 10, None);
        assert!(says(&[headless]).contains("does not begin"));
        assert_eq!(broken(KEY, &[], &ChainEnd::default()), None);
    }

    #[test]
    fn a_chain_goes_down_only_where_it_says_so() {
        let first = link(0, 10, None);
        let back = Link { kind: LinkKind::Rewound, after: id(10), last: id(4), ..Link::default() };
        let back = back.sealed(KEY, Some(&first));
        let on = link(4, 12, Some(&back));
        let anew = Link { kind: LinkKind::Rebuilt, ..link(0, 12, None) }.sealed(KEY, Some(&on));
        let end = anew.end();
        assert_eq!(broken(KEY, &[first.clone(), back, on, anew], &end), None);
        let lower = link(4, 12, Some(&first));
        assert!(broken(KEY, &[first, lower], &ChainEnd::default()).is_some());
    }

    #[test]
    fn a_link_survives_its_fields() {
        let known = link(3, 9, Some(&link(0, 3, None)));
        let fields = known.fields();
        let read = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        assert_eq!(Link::read(read), Ok(known.clone()));
        assert!(Link::read(|name| if name == "prev" { None } else { read(name) }).is_err());
        assert!(KINDS.iter().all(|(kind, word)| LinkKind::read(word) == Some(*kind) && kind.as_str() == *word));
    }
}
