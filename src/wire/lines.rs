//! Lines: the connections to one end, one for each node in use; a single server is one node.

use std::collections::BTreeMap;

use super::slots::{Node, Seat, Slots, slot_of};
use super::{Door, Line, Server, WireError};
use crate::config::{HostPort, Route};

/// What an end consists of.
#[derive(Debug, Clone)]
pub struct Nodes {
    door: Door,
    slots: Option<Slots>,
    /// Keys whose slot is on its way to another node, and that are there already.
    asked: BTreeMap<Vec<u8>, HostPort>,
    /// What the server that was asked says of itself.
    pub server: Server,
}

impl Nodes {
    /// Asks the end what it consists of; also answers the line that was asked, in this database.
    pub async fn find(door: &Door, db: u16) -> Result<(Self, Line), WireError> {
        let (mut line, server) = door.open(db).await?;
        let slots = match server.is_cluster {
            false => None,
            true => {
                let reply = line.call(&[b"CLUSTER", b"SLOTS"]).await.map_err(|error| match error {
                    WireError::Refused { address, reason, .. } => WireError::Shut { address, reason },
                    error => error,
                })?;
                let address = line.address().to_owned();
                let asked = match &door.end.url.route {
                    Route::Tcp(node) => node.host.clone(),
                    _ => address.rsplit_once(':').map_or(address.clone(), |(host, _)| host.to_owned()),
                };
                Some(Slots::read(&reply, &asked).map_err(|reason| line.nonsense(&reason))?)
            }
        };
        Ok((Self { door: door.clone(), slots, asked: BTreeMap::new(), server }, line))
    }

    /// The node that a key lies on.
    pub fn of(&self, key: &[u8]) -> Result<Node, WireError> {
        let Some(slots) = &self.slots else { return Ok(None) };
        if let Some(at) = self.asked.get(key) {
            return Ok(Some(Seat { at: at.clone(), asking: true }));
        }
        let slot = slot_of(key);
        slots.node_of(slot).cloned().map(|at| Some(Seat { at, asking: false })).ok_or_else(|| WireError::Away {
            address: self.door.address(),
            reason: format!("no node of the cluster has slot {slot}"),
        })
    }

    /// Every node that holds keys.
    pub fn all(&self) -> Vec<Node> {
        match &self.slots {
            None => vec![None],
            Some(slots) => slots.nodes().into_iter().map(|at| Some(Seat { at, asking: false })).collect(),
        }
    }

    /// Whether the end is a cluster.
    pub fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }

    /// The way to a node.
    pub fn door(&self, node: &Node) -> Door {
        node.as_ref().map_or_else(|| self.door.clone(), |seat| self.door.at(&seat.at).asking(seat.asking))
    }

    /// Follows a key to the node that its slot is on its way to, if this error says that it is there; whether it does.
    ///
    /// Only until the key is not found there: then whoever has the slot is to be asked first again ([`Nodes::forget`]),
    /// since a move may be called off.
    pub fn follow(&mut self, key: &[u8], error: &WireError) -> bool {
        let Some(at) = error.asks_at().filter(|_| self.is_cluster()) else { return false };
        self.asked.insert(key.to_vec(), at);
        true
    }

    /// The key is asked for where its slot is.
    pub fn forget(&mut self, key: &[u8]) {
        self.asked.remove(key);
    }

    /// Whether both ends share a server.
    pub fn overlaps(&self, other: &Nodes) -> bool {
        let same_run = !self.server.run_id.is_empty() && self.server.run_id == other.server.run_id;
        let mine = self.slots.as_ref().map(Slots::nodes).unwrap_or_default();
        let theirs = other.slots.as_ref().map(Slots::nodes).unwrap_or_default();
        same_run || mine.iter().any(|node| theirs.contains(node))
    }
}

/// One connection, what it leads to, and the database that it stands in.
type Open = (Line, u16);

/// Connections to an end for whatever is not bulk. They are opened when they are needed.
pub struct Lines {
    door: Door,
    nodes: Option<Nodes>,
    open: BTreeMap<Node, Open>,
}

impl Lines {
    /// None yet.
    pub fn new(door: Door) -> Self {
        Self { door, nodes: None, open: BTreeMap::new() }
    }

    /// What the end consists of; asked once, until [`Lines::let_go`].
    pub async fn nodes(&mut self) -> Result<&Nodes, WireError> {
        if self.nodes.is_none() {
            let (nodes, line) = Nodes::find(&self.door, 0).await?;
            if !nodes.is_cluster() {
                self.open.insert(None, (line, 0));
            }
            self.nodes = Some(nodes);
        }
        // Just set, if it was not.
        self.nodes.as_ref().ok_or_else(|| WireError::Away { address: self.door.address(), reason: String::new() })
    }

    /// What the end consists of, if it was asked.
    pub fn known(&self) -> Option<&Nodes> {
        self.nodes.as_ref()
    }

    /// The line to the node that has this key, in this database.
    pub async fn of(&mut self, db: u16, key: &[u8]) -> Result<&mut Line, WireError> {
        let node = self.nodes().await?.of(key)?;
        self.at(db, &node).await
    }

    /// The line to a node, in this database.
    pub async fn at(&mut self, db: u16, node: &Node) -> Result<&mut Line, WireError> {
        let door = self.nodes().await?.door(node);
        let whole = self.open.get(node).is_some_and(|(line, _)| line.is_whole());
        if !whole {
            let (line, _) = door.open(db).await?;
            self.open.insert(node.clone(), (line, db));
        }
        let away = || WireError::Away { address: door.address(), reason: "not connected".to_owned() };
        let (line, stands) = self.open.get_mut(node).ok_or_else(away)?;
        if *stands != db {
            line.call(&[b"SELECT", db.to_string().as_bytes()]).await?;
            *stands = db;
        }
        Ok(line)
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

    /// Closes every connection, and forgets what the end consists of.
    pub fn let_go(&mut self) {
        self.nodes = None;
        self.open.clear();
    }
}
