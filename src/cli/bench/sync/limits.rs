//! Limits: one thread that reads batches of raw bytes from one Redis and pipelines them to the other, nothing else.
//!
//! Nothing is atomic here, no last id is compared, and whatever dies loses its place.

use std::io;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::super::server::Server;
use super::super::wire::{Wire, header};
use super::{Way, key};

/// Entries of one read.
const BATCH: &str = "1000";

/// The seconds that a copy of everything takes. The source makes the next batch ready while this one is written.
pub(super) fn copy(source: &Server, target: &Server, streams: u32, way: Way) -> Result<f64> {
    let mut hands = Hands { source: source.wire()?, target: target.wire()?, acks: 0 };
    let mut streams: Vec<Stream> = (0..streams).map(Stream::new).collect();
    if way == Way::Group {
        for stream in &streams {
            hands.source.call(&["XGROUP", "CREATE", &stream.key, "limit", "0"])?;
        }
    }
    let started = Instant::now();
    let mut turn = 0;
    hands.ask(&streams[turn], way)?;
    loop {
        let bytes = hands.source.raw()?.to_vec();
        // The answers to what was acknowledged follow the batch that was asked for before it.
        for _ in 0..std::mem::take(&mut hands.acks) {
            hands.source.raw()?;
        }
        let asked = turn;
        let entries = entries(&bytes)?;
        match entries.last() {
            Some(last) => streams[asked].last = bytes[last.id_text.clone()].to_vec(),
            None => streams[asked].done = true,
        }
        streams[asked].write(&mut hands.target, &bytes, &entries)?;
        let next = (1..=streams.len()).map(|step| (asked + step) % streams.len()).find(|n| !streams[*n].done);
        if let Some(next) = next {
            turn = next;
            hands.ask(&streams[turn], way)?;
        }
        for _ in &entries {
            hands.target.raw()?;
        }
        if way == Way::Group && !entries.is_empty() {
            hands.acknowledge(&streams[asked], &bytes, &entries)?;
        }
        if next.is_none() {
            break;
        }
    }
    for _ in 0..hands.acks {
        hands.source.raw()?;
    }
    Ok(started.elapsed().as_secs_f64())
}

struct Hands {
    source: Wire,
    target: Wire,
    /// Acknowledgements whose answers were not read yet.
    acks: usize,
}

impl Hands {
    fn ask(&mut self, stream: &Stream, way: Way) -> io::Result<()> {
        let key = stream.key.as_bytes();
        match way {
            Way::Tail => self.source.push(&[b"XREAD", b"COUNT", BATCH.as_bytes(), b"STREAMS", key, &stream.last]),
            Way::Group => {
                let words: [&[u8]; 9] =
                    [b"XREADGROUP", b"GROUP", b"limit", b"c", b"COUNT", BATCH.as_bytes(), b"STREAMS", key, b">"];
                self.source.push(&words);
            }
        }
        self.source.flush()
    }

    fn acknowledge(&mut self, stream: &Stream, bytes: &[u8], entries: &[Entry]) -> io::Result<()> {
        let mut words: Vec<&[u8]> = vec![b"XACK", stream.key.as_bytes(), b"limit"];
        words.extend(entries.iter().map(|entry| &bytes[entry.id_text.clone()]));
        self.source.push(&words);
        self.acks += 1;
        self.source.flush()
    }
}

struct Stream {
    key: String,
    /// The key as an encoded argument, behind the command's name.
    head: Vec<u8>,
    last: Vec<u8>,
    done: bool,
}

impl Stream {
    fn new(number: u32) -> Self {
        let key = key(number);
        let head = format!("$4\r\nXADD\r\n${}\r\n{key}\r\n", key.len()).into_bytes();
        Self { key, head, last: b"0".to_vec(), done: false }
    }

    fn write(&self, target: &mut Wire, bytes: &[u8], entries: &[Entry]) -> io::Result<()> {
        for entry in entries {
            let count = format!("*{}\r\n", 3 + entry.words);
            target.push_raw(&[count.as_bytes(), &self.head, &bytes[entry.id.clone()], &bytes[entry.fields.clone()]]);
        }
        target.flush()
    }
}

/// An entry as places in an answer.
struct Entry {
    /// The id as an encoded argument.
    id: Range<usize>,
    id_text: Range<usize>,
    /// Names and values as encoded arguments.
    fields: Range<usize>,
    words: u64,
}

/// The entries in an answer about one stream.
fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    let mut at = 0;
    // A list of streams, the stream as a pair, its key, the list of its entries.
    if step(bytes, &mut at)? == 0 {
        return Ok(Vec::new());
    }
    ensure!(step(bytes, &mut at)? == 2, "a stream is no pair");
    step(bytes, &mut at)?;
    let count = step(bytes, &mut at)?;
    let mut entries = Vec::with_capacity(usize::try_from(count)?);
    for _ in 0..count {
        ensure!(step(bytes, &mut at)? == 2, "an entry is no pair");
        let from = at;
        step(bytes, &mut at)?;
        let id = from..at;
        let Some(line) = bytes[id.clone()].iter().position(|byte| *byte == b'\n') else {
            bail!("an id without a line")
        };
        let id_text = id.start + line + 1..id.end - 2;
        let words = step(bytes, &mut at)?;
        let from = at;
        for _ in 0..words {
            step(bytes, &mut at)?;
        }
        entries.push(Entry { id, id_text, fields: from..at, words });
    }
    Ok(entries)
}

/// Steps over a value, into a list; how many values it has.
fn step(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let Some((length, values)) = header(bytes.get(*at..).unwrap_or_default())? else { bail!("an answer that is cut") };
    *at += length;
    ensure!(*at <= bytes.len(), "an answer that is cut");
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_the_bytes_that_they_are() {
        let bytes = b"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n$2\r\n\r\n\r\n\
            *2\r\n$3\r\n2-0\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n";
        let found = entries(bytes).expect("entries");
        let shown = |range: &Range<usize>| String::from_utf8_lossy(&bytes[range.clone()]).into_owned();
        assert_eq!(found.iter().map(|entry| shown(&entry.id_text)).collect::<Vec<_>>(), ["1-0", "2-0"]);
        assert_eq!(shown(&found[0].id), "$3\r\n1-0\r\n");
        assert_eq!((shown(&found[0].fields), found[0].words), ("$1\r\na\r\n$2\r\n\r\n\r\n".to_owned(), 2));
        assert!(entries(b"*-1\r\n").expect("nothing").is_empty());
        assert!(entries(&bytes[..bytes.len() - 4]).is_err());
    }
}
