//! Throughput: a real node with a whole file before it, timed until the stream holds all lines, which are then compared.

use anyhow::{Context, Result, bail, ensure};

use super::super::follow::follow;
use super::super::server::Server;
use super::super::usage::Figure;
use super::super::wire::{Reply, Wire};
use super::corpus::Corpus;
use super::listener::Listener;
use super::node::{Followed, stream};

/// Entries of one page when the stream is compared.
const PAGE: &str = "1000";
/// Where all lines are published.
const CHANNEL: &str = "logs:all";

/// One node, one file, one Redis.
pub struct Throughput<'a> {
    /// Where the lines go.
    pub server: &'a Server,
    /// The file.
    pub corpus: &'a Corpus,
    /// Subscribers of all lines.
    pub listeners: u32,
}

impl Throughput<'_> {
    /// Runs the node until the stream holds all lines, and compares them with the file.
    pub fn measure(&self) -> Result<Figure> {
        let (server, corpus) = (self.server, self.corpus);
        let path = corpus.path.to_str().with_context(|| format!("{} is no plain text", corpus.path.display()))?;
        let listen = |_| Listener::start(server.port, CHANNEL, corpus);
        let listeners: Vec<Listener> = (0..self.listeners).map(listen).collect::<Result<_>>()?;
        let mut wire = server.wire()?;
        // All lines must still be there to be compared.
        let followed = Followed { pattern: path, files: 1, entries: 2 * corpus.lines, is_polled: false };
        let redis = server.cpu_seconds()?;
        let mut node = followed.node(server, "follow")?;
        let stream = stream();
        let figure = follow(&mut node, corpus.lines, || number(&wire.call(&["XLEN", &stream])?))?;
        let figure = Figure { redis_cpu: server.cpu_seconds()? - redis, ..figure };
        for listener in listeners {
            listener.finish()?;
        }
        node.kill()?;
        self.check(&mut wire)?;
        Ok(figure)
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

/// The id of an entry and the line in it: the value of its one field.
pub fn id_and_line(entry: Reply) -> Option<(Vec<u8>, Vec<u8>)> {
    let Reply::List(parts) = entry else { return None };
    let mut parts = parts.into_iter();
    let (Some(Reply::Bytes(id)), Some(Reply::List(fields))) = (parts.next(), parts.next()) else { return None };
    match fields.into_iter().nth(1)? {
        Reply::Bytes(line) => Some((id, line)),
        _ => None,
    }
}
