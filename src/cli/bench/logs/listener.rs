//! Listener: a subscriber of the channel of all lines that compares each message with the file, and does no more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::corpus::{Corpus, Lines};

/// Until a message counts as lost.
const MESSAGE_MAX: Duration = Duration::from_secs(60);
/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// A thread that listens.
pub struct Listener(JoinHandle<Result<()>>);

impl Listener {
    /// Subscribes to a channel that carries all lines of the corpus; it is subscribed when this returns.
    pub fn start(port: u16, channel: &str, corpus: &Corpus) -> Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(MESSAGE_MAX))?;
        stream.write_all(format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{channel}\r\n", channel.len()).as_bytes())?;
        let mut heard = Heard { reader: BufReader::with_capacity(CHUNK, stream), head: Vec::new(), body: Vec::new() };
        heard.skip(5)?;
        ensure!(heard.number(b':')? == 1, "the subscription was not taken");
        let (lines, count) = (corpus.read()?, corpus.lines);
        Ok(Self(std::thread::spawn(move || heard.compare(lines, count))))
    }

    /// Waits until all lines were heard.
    pub fn finish(self) -> Result<()> {
        self.0.join().map_err(|_| anyhow!("the subscriber panicked"))?.context("what a subscriber heard")
    }
}

struct Heard {
    reader: BufReader<TcpStream>,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Heard {
    fn compare(mut self, mut lines: Lines, count: u64) -> Result<()> {
        for n in 1..=count {
            // `*3`, and the word `message` and the channel, each behind its length.
            self.skip(5)?;
            let length = usize::try_from(self.number(b'$')?)?;
            self.body.resize(length + 2, 0);
            self.reader.read_exact(&mut self.body)?;
            lines.expect(n, &self.body[..length])?;
        }
        Ok(())
    }

    fn skip(&mut self, heads: usize) -> Result<()> {
        (0..heads).try_for_each(|_| self.line())
    }

    fn line(&mut self) -> Result<()> {
        self.head.clear();
        self.reader.read_until(b'\n', &mut self.head)?;
        ensure!(self.head.ends_with(b"\r\n"), "redis closed the connection");
        Ok(())
    }

    fn number(&mut self, kind: u8) -> Result<u64> {
        self.line()?;
        let text = String::from_utf8_lossy(&self.head);
        let number = self.head.first().filter(|first| **first == kind).and_then(|_| text.trim_end()[1..].parse().ok());
        number.with_context(|| format!("redis answered nonsense: `{}`", text.trim_end()))
    }
}
