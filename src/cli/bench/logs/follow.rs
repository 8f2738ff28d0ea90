//! Follow: a real node in a process of its own, timed from when the stream is empty until it holds all lines, and checked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::super::child::Child;
use super::super::server::Server;
use super::super::wire::{Reply, Wire};
use super::corpus::Corpus;
use super::listener::Listener;
use super::report::Figure;
use crate::ids::{Kind, PipelineId};
use crate::store::keys::Keys;

/// The longest that a node may take; far more than any machine needs.
const FOLLOW_MAX: Duration = Duration::from_secs(1800);
/// Between two looks at how far it is; the error of a time.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Entries of one page when the stream is compared.
const PAGE: &str = "1000";
/// Where all lines are published.
const CHANNEL: &str = "logs:all";

/// The stream of the pipeline `logs.bench`.
pub fn stream() -> String {
    Keys::new("gapless").output(&PipelineId::new(Kind::Logs, "bench"), "lines")
}

/// A node that follows one file; what is not named is as a user finds it.
pub fn node(server: &Server, name: &str, path: &str, entries: u64) -> Result<Child> {
    let (url, path) = (server.url(), serde_json::to_string(path)?);
    let text = format!("[redis]\nurl = \"{url}\"\n[logs.bench]\npaths = [{path}]\nstream_entries_max = {entries}\n");
    Child::node(server.folder(), name, &text, &[])
}

/// One node, one file, one Redis.
pub struct Follow<'a> {
    /// Where the lines go.
    pub server: &'a Server,
    /// The file.
    pub corpus: &'a Corpus,
    /// Subscribers of all lines.
    pub listeners: u32,
}

impl Follow<'_> {
    /// Runs the node until the stream holds all lines, and compares them with the file.
    pub fn measure(&self) -> Result<Figure> {
        let (server, corpus) = (self.server, self.corpus);
        let path = corpus.path.to_str().with_context(|| format!("{} is no plain text", corpus.path.display()))?;
        let listen = |_| Listener::start(server.port, CHANNEL, corpus);
        let listeners: Vec<Listener> = (0..self.listeners).map(listen).collect::<Result<_>>()?;
        let mut wire = server.wire()?;
        // The bound is not what is measured: all lines must still be there to be compared.
        let mut node = node(server, "follow", path, (2 * corpus.lines).max(1000))?;
        let figure = self.watch(&mut node, &mut wire)?;
        for listener in listeners {
            listener.finish()?;
        }
        node.kill()?;
        self.check(&mut wire)?;
        Ok(figure)
    }

    /// The last look at an empty stream starts the clock.
    fn watch(&self, node: &mut Child, wire: &mut Wire) -> Result<Figure> {
        let (stream, begun) = (stream(), Instant::now());
        let mut from = (begun, node.used(), self.server.cpu_seconds()?);
        loop {
            let length = number(&wire.call(&["XLEN", &stream])?)?;
            let now = Instant::now();
            if length == 0 {
                from = (now, node.used(), from.2);
            }
            ensure!(length <= self.corpus.lines, "{length} entries of {} lines", self.corpus.lines);
            if length == self.corpus.lines {
                let (used, redis) = (node.used(), self.server.cpu_seconds()?);
                return Ok(Figure {
                    lines: length,
                    seconds: now.duration_since(from.0).as_secs_f64(),
                    cpu: used.cpu - from.1.cpu,
                    redis_cpu: redis - from.2,
                    peak_kib: used.peak_kib,
                });
            }
            node.check()?;
            ensure!(begun.elapsed() < FOLLOW_MAX, "only {length} of {} lines within {FOLLOW_MAX:?}", self.corpus.lines);
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Every line is there once, in its order, with its bytes.
    fn check(&self, wire: &mut Wire) -> Result<()> {
        let (stream, mut lines) = (stream(), self.corpus.read()?);
        let (mut after, mut n) = ("-".to_owned(), 0);
        loop {
            let Reply::List(page) = wire.call(&["XRANGE", &stream, &after, "+", "COUNT", PAGE])? else {
                bail!("the stream cannot be read");
            };
            if page.is_empty() {
                break;
            }
            for entry in page {
                let (id, line) = id_and_line(entry).context("an entry without a line")?;
                n += 1;
                lines.expect(n, &line)?;
                after = format!("({}", String::from_utf8_lossy(&id));
            }
        }
        ensure!(n == self.corpus.lines, "the stream has {n} entries of {} lines", self.corpus.lines);
        Ok(())
    }
}

/// A number as an answer.
pub fn number(reply: &Reply) -> Result<u64> {
    match reply {
        Reply::Bytes(digits) => Ok(std::str::from_utf8(digits)?.parse()?),
        _ => bail!("redis answered no number"),
    }
}

/// The id of an entry and the value of its field `d`.
pub fn id_and_line(entry: Reply) -> Option<(Vec<u8>, Vec<u8>)> {
    let Reply::List(parts) = entry else { return None };
    let mut parts = parts.into_iter();
    let (Some(Reply::Bytes(id)), Some(Reply::List(fields))) = (parts.next(), parts.next()) else { return None };
    let mut fields = fields.into_iter();
    while let (Some(Reply::Bytes(name)), Some(Reply::Bytes(value))) = (fields.next(), fields.next()) {
        if name == b"d" {
            return Some((id, value));
        }
    }
    None
}
