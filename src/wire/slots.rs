//! Slots: which node of a cluster a key lies on. Of a single server there is one node, and it has every key.

use super::scan::Reply;
use crate::config::HostPort;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// A node of an end; none where the end is a single server.
pub type Node = Option<Seat>;

/// A node of a cluster, as one key is asked for there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// The node.
    pub at: HostPort,
    /// The key's slot is on its way to this node: each command needs `ASKING` before it.
    pub asking: bool,
}

/// The slot of a key: of what stands between the first `{` and the next `}`, if that is not empty, else of the whole.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(tag_of(key).unwrap_or(key)) % SLOTS
}

fn tag_of(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0)?;
    Some(&rest[..close])
}

/// A key that belongs to another one and lies on its slot, so that one transaction may touch both; another one for each
/// key.
pub fn beside(prefix: &str, key: &[u8]) -> Vec<u8> {
    let tag = tag_of(key).map(<[u8]>::to_vec).unwrap_or_else(|| match key.is_empty() || key.contains(&b'}') {
        false => key.to_vec(),
        // A key whose braces are no such part cannot become one: any number that lies there does.
        true => (0u32..).map(|n| n.to_string().into_bytes()).find(|n| slot_of(n) == slot_of(key)).unwrap_or_default(),
    });
    [prefix.as_bytes(), b"{", &tag, b"}:", key].concat()
}

/// CRC16 of XMODEM, as the specification of Redis Cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

/// Which node has which slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// From, to (inclusive), the master.
    ranges: Vec<(u16, u16, HostPort)>,
}

impl Slots {
    /// Reads the answer to `CLUSTER SLOTS`; a node that does not say its host is the one that was `asked`.
    pub(super) fn read(reply: &Reply, asked: &str) -> Result<Self, String> {
        let range = |row: &Reply| -> Option<(u16, u16, HostPort)> {
            let [from, to, master, ..] = row.list() else { return None };
            let number = |reply: &Reply| reply.int().and_then(|n| u16::try_from(n).ok());
            let [host, port, ..] = master.list() else { return None };
            let host = Some(host.text()).filter(|host| !host.is_empty() && host != "?");
            let host = host.unwrap_or_else(|| asked.to_owned());
            Some((number(from)?, number(to)?, HostPort { host, port: number(port)? }))
        };
        let ranges: Option<Vec<_>> = reply.list().iter().map(range).collect();
        ranges.map(|ranges| Self { ranges }).ok_or_else(|| "CLUSTER SLOTS of another form".to_owned())
    }

    /// The node that has a slot; none where no node has it now.
    pub(super) fn node_of(&self, slot: u16) -> Option<&HostPort> {
        self.ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&slot)).map(|(_, _, node)| node)
    }

    /// Every master, once.
    pub(super) fn nodes(&self) -> Vec<HostPort> {
        let nodes: std::collections::BTreeSet<_> = self.ranges.iter().map(|(_, _, node)| node.clone()).collect();
        nodes.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_where_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of(b"foo{{bar}}zap"), crc16(b"{bar") % SLOTS);
        assert_eq!(slot_of(b"foo{bar}{zap}"), crc16(b"bar") % SLOTS);
    }

    #[test]
    fn what_lies_beside_a_key_lies_on_its_slot_and_belongs_to_no_other() {
        let mut seen = std::collections::BTreeSet::new();
        for key in
            ["orders", "{orders}", "{orders}:orders", "{eu}:orders", "a}b", "a{}b", "{}", "", "a{b", "{{x}}", "}"]
        {
            let other = beside("gapless:chain:", key.as_bytes());
            assert_eq!(slot_of(&other), slot_of(key.as_bytes()), "{key}");
            assert!(other.ends_with(key.as_bytes()) && seen.insert(other), "{key}");
        }
        assert_eq!(beside("p:", b"orders"), b"p:{orders}:orders");
    }

    #[test]
    fn the_answer_of_a_node_is_read() {
        let node = |host: &str, port: i64| {
            Reply::List(vec![Reply::Bytes(host.as_bytes().to_vec()), Reply::Int(port), Reply::Bytes(b"id".to_vec())])
        };
        let row = |from, to, node| Reply::List(vec![Reply::Int(from), Reply::Int(to), node]);
        let reply = Reply::List(vec![row(0, 99, node("a", 1)), row(100, 16_383, node("", 2))]);
        let slots = Slots::read(&reply, "asked").expect("slots");
        assert_eq!(slots.node_of(100), Some(&HostPort { host: "asked".to_owned(), port: 2 }));
        assert_eq!(slots.nodes().len(), 2);
        assert!(Slots::read(&Reply::List(vec![Reply::Int(1)]), "a").is_err());
        assert_eq!(Slots::default().node_of(5), None);
    }
}
