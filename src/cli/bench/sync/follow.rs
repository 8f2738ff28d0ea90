//! Follow: a real node in a process of its own, timed from its first entry on the target to the last.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::super::child::Child;
use super::super::server::Server;
use super::super::wire::{Reply, Wire};
use super::report::Figure;
use super::{Way, key};

/// The longest that a node may take; far more than any machine needs.
const FOLLOW_MAX: Duration = Duration::from_secs(600);
/// Between two looks at how far it is; the error of a time.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Entries of one page of the comparison.
const PAGE: &str = "1000";

/// One node, two ends, and the Redis that the node keeps its state in.
pub(super) struct Follow<'a> {
    pub source: &'a Server,
    pub target: &'a Server,
    pub own: &'a Server,
    pub streams: u32,
    pub entries: u64,
    pub way: Way,
    pub evidence: bool,
}

impl Follow<'_> {
    /// Runs the node until the target has everything. The first look that shows entries starts the clock, and those are
    /// not counted.
    pub fn measure(&self) -> Result<Figure> {
        let mut node = Child::node(self.own.folder(), "node", &self.configuration(), &[])?;
        let mut wire = self.target.wire()?;
        let begun = Instant::now();
        let mut from = (begun, 0, node.used());
        loop {
            let copied = self.copied(&mut wire)?;
            let now = Instant::now();
            if copied == 0 || (from.1 == 0 && copied < self.entries) {
                from = (now, copied, node.used());
            }
            ensure!(copied <= self.entries, "{copied} of {} entries are on the target", self.entries);
            if copied == self.entries {
                let (end, (at, before, used)) = (node.used(), from);
                return Ok(Figure {
                    entries: copied - before,
                    seconds: now.duration_since(at).as_secs_f64(),
                    cpu: end.cpu - used.cpu,
                    peak_kib: end.peak_kib,
                });
            }
            node.check()?;
            ensure!(begun.elapsed() < FOLLOW_MAX, "only {copied} of {} entries in {FOLLOW_MAX:?}", self.entries);
            std::thread::park_timeout(LOOK_EVERY);
        }
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
