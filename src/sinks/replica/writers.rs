//! Writers: the connections that write to the target, one for each node in use.

use std::collections::BTreeMap;

use super::Writer;
use super::marks::MARKS;
use crate::wire::{Door, Node, Nodes, WireError};

/// Connections to the target. They belong to one unit alone.
#[derive(Default)]
pub struct Writers {
    nodes: Option<Nodes>,
    db: u16,
    links: u64,
    open: BTreeMap<Node, Writer>,
}

impl Writers {
    /// Makes sure that the target is known and, if it is a single server, connected. Chains of evidence are kept where
    /// `links` of each stay.
    pub async fn open(&mut self, door: &Door, db: u16, links: u64) -> Result<(), WireError> {
        match &self.nodes {
            None => {
                let (nodes, line) = Nodes::find(door, db).await?;
                if !nodes.is_cluster() {
                    self.open.insert(None, Writer::new(line, nodes.server.clone(), links));
                }
                (self.nodes, self.db, self.links) = (Some(nodes), db, links);
                Ok(())
            }
            Some(nodes) if nodes.is_cluster() => Ok(()),
            Some(_) => self.of(b"").await.map(drop),
        }
    }

    /// The writer of the node that has this key.
    pub async fn of(&mut self, key: &[u8]) -> Result<&mut Writer, WireError> {
        let away = || WireError::Away { address: "the target".to_owned(), reason: "not connected".to_owned() };
        let nodes = self.nodes.as_ref().ok_or_else(away)?;
        let node = nodes.of(key)?;
        if !self.open.get(&node).is_some_and(Writer::is_whole) {
            let writer = Writer::open(&nodes.door(&node), self.db, self.links).await?;
            self.open.insert(node.clone(), writer);
        }
        self.open.get_mut(&node).ok_or_else(away)
    }

    /// Whether streams of the target count what was ever added to them.
    pub fn counts(&self) -> bool {
        self.nodes.as_ref().is_some_and(|nodes| nodes.server.counts())
    }

    /// The writer of the node that has the marks.
    pub async fn of_marks(&mut self) -> Result<&mut Writer, WireError> {
        self.of(MARKS).await
    }

    /// As [`Nodes::follow`].
    pub fn follow(&mut self, key: &[u8], error: &WireError) -> bool {
        self.nodes.as_mut().is_some_and(|nodes| nodes.follow(key, error))
    }

    /// As [`Nodes::forget`].
    pub fn forget(&mut self, key: &[u8]) {
        if let Some(nodes) = &mut self.nodes {
            nodes.forget(key);
        }
    }

    /// Closes every connection, and forgets what the target consists of.
    pub fn let_go(&mut self) {
        *self = Self::default();
    }
}
