//! Copied: a real node in a process of its own, timed from its first entry on the target to the last.

use anyhow::{Result, bail, ensure};

use super::super::child::Child;
use super::super::follow::follow;
use super::super::server::Server;
use super::super::usage::Figure;
use super::super::wire::{Reply, Wire};
use super::{Way, key};

/// Entries of one page of the comparison.
const PAGE: &str = "1000";

/// One node, two ends, and the Redis that the node keeps its state in.
pub(super) struct Copied<'a> {
    pub source: &'a Server,
    pub target: &'a Server,
    pub own: &'a Server,
    pub streams: u32,
    pub entries: u64,
    pub way: Way,
    pub evidence: bool,
}

impl Copied<'_> {
    /// Runs the node until the target has everything.
    pub fn measure(&self) -> Result<Figure> {
        let mut node = Child::node(self.own.folder(), "node", &self.configuration(), &[])?;
        let mut wire = self.target.wire()?;
        follow(&mut node, self.entries, || self.copied(&mut wire))
    }

    fn configuration(&self) -> String {
        let (own, source, target) = (self.own.url(), self.source.url(), self.target.url());
        let mode = match self.way {
            Way::Tail => "tail",
            Way::Group => "group",
        };
        let evidence = self.evidence;
        format!(
            "[redis]\nurl = \"{own}\"\n[sync.bench]\nsource = \"{source}\"\ntarget = \"{target}\"\ndatabases = \"0\"\n\
             patterns = [\"bench:*\"]\nmode = \"{mode}\"\nevidence = {evidence}\n"
        )
    }

    fn copied(&self, wire: &mut Wire) -> Result<u64> {
        (0..self.streams).for_each(|stream| wire.push(&[b"XLEN", key(stream).as_bytes()]));
        wire.flush()?;
        let mut sum = 0;
        for _ in 0..self.streams {
            let Reply::Bytes(text) = wire.reply()? else { bail!("XLEN gave no number") };
            sum += String::from_utf8_lossy(&text).parse::<u64>()?;
        }
        Ok(sum)
    }
}

/// Every entry of both ends, byte for byte.
pub(super) fn compare(source: &Server, target: &Server, streams: u32, entries: u64) -> Result<()> {
    let (mut here, mut there) = (source.wire()?, target.wire()?);
    let mut compared = 0;
    for stream in 0..streams {
        let key = key(stream);
        let mut from = "-".to_owned();
        loop {
            let ask = ["XRANGE", &key, &from, "+", "COUNT", PAGE];
            let (ours, theirs) = (here.call(&ask)?, there.call(&ask)?);
            ensure!(ours == theirs, "{key}: the target is not the source from {from} on");
            let Reply::List(list) = ours else { bail!("XRANGE gave no list") };
            compared += list.len() as u64;
            let Some(Reply::List(last)) = list.last() else { break };
            let Some(Reply::Bytes(id)) = last.first() else { bail!("XRANGE gave an entry without an id") };
            from = format!("({}", String::from_utf8_lossy(id));
        }
    }
    ensure!(compared == entries, "{compared} of {entries} entries were compared");
    Ok(())
}
