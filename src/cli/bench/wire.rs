//! Wire: the measuring stick of the benches. One plain connection that speaks RESP2 with as little work as possible;
//! what it reaches is what "one thread and one Redis" can do on this machine.
//!
//! Nothing else uses it: gapless itself speaks to Redis through the store.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// Until an answer counts as lost.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Most bytes of one answer: a batch of the largest entries.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How deep arrays may nest; `XREADGROUP` needs five levels.
const DEPTH_MAX: usize = 8;
/// Entries that the limit appends in one round trip.
pub const FILL_BATCH: u64 = 500;

/// One value of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+`, `$` or `:`: as it was sent.
    Bytes(Vec<u8>),
    /// `*`.
    List(Vec<Reply>),
    /// `$-1` or `*-1`.
    Nil,
    /// `-`.
    Error(String),
}

/// A connection with its buffers.
pub struct Wire {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    at: usize,
}

impl Wire {
    /// Connects to a server of this machine.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream, out: Vec::new(), input: Vec::new(), at: 0 })
    }

    /// Writes a command behind the others that wait to be sent.
    pub fn push(&mut self, args: &[&[u8]]) {
        // Writing into a `Vec` cannot fail.
        let _ = write!(self.out, "*{}\r\n", args.len());
        for arg in args {
            let _ = write!(self.out, "${}\r\n", arg.len());
            self.out.extend_from_slice(arg);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Sends everything that waits.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// The next answer; what Redis refuses is an error.
    pub fn reply(&mut self) -> io::Result<Reply> {
        loop {
            match parse(&self.input[self.at..], DEPTH_MAX)? {
                Some((Reply::Error(text), _)) => return Err(io::Error::other(text)),
                Some((reply, used)) => {
                    self.at += used;
                    return Ok(reply);
                }
                None => self.read_more()?,
            }
        }
    }

    /// One command and its answer.
    pub fn call(&mut self, args: &[&str]) -> io::Result<Reply> {
        self.push(&args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
        self.flush()?;
        self.reply()
    }

    /// The next answer as the bytes that it is, valid until the next call; what Redis refuses is an error.
    pub fn raw(&mut self) -> io::Result<&[u8]> {
        // Places are counted from the first unread byte: reading more moves what is behind it to the front.
        let (mut open, mut at) = (1_u64, 0);
        while open > 0 {
            match header(&self.input[self.at + at..])? {
                Some((length, more)) if self.input.len() >= self.at + at + length => {
                    at += length;
                    open = open - 1 + more;
                }
                _ => self.read_more()?,
            }
        }
        let from = self.at;
        self.at += at;
        let bytes = &self.input[from..self.at];
        if bytes[0] == b'-' {
            return Err(io::Error::other(String::from_utf8_lossy(bytes).trim_end().to_owned()));
        }
        Ok(bytes)
    }

    /// Writes bytes that are commands already behind those that wait to be sent.
    pub fn push_raw(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.out.extend_from_slice(part));
    }

    fn read_more(&mut self) -> io::Result<()> {
        self.input.drain(..self.at);
        self.at = 0;
        let before = self.input.len();
        if before > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is too large"));
        }
        self.input.resize(before + 64 * 1024, 0);
        let read = self.stream.read(&mut self.input[before..]);
        self.input.truncate(before + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(io::Error::other("redis closed the connection")),
            _ => Ok(()),
        }
    }
}

/// How long the value at the front of `bytes` is, its own values left out, and how many those are; nothing while its first
/// line is not whole.
pub fn header(bytes: &[u8]) -> io::Result<Option<(usize, u64)>> {
    let fault = || io::Error::other("redis answered nonsense: an unknown type");
    let Some(end) = bytes.iter().position(|byte| *byte == b'\r') else { return Ok(None) };
    let number = || std::str::from_utf8(&bytes[1..end]).ok().and_then(|text| text.parse::<i64>().ok());
    match bytes[0] {
        b'+' | b'-' | b':' => Ok(Some((end + 2, 0))),
        b'$' => {
            let length = number().filter(|n| *n <= ANSWER_BYTES_MAX as i64).ok_or_else(fault)?;
            Ok(Some((usize::try_from(length).map_or(end + 2, |length| end + 2 + length + 2), 0)))
        }
        b'*' => Ok(Some((end + 2, u64::try_from(number().ok_or_else(fault)?).unwrap_or(0)))),
        _ => Err(fault()),
    }
}

/// One value at the front of `bytes` and its length; nothing while it is not whole.
fn parse(bytes: &[u8], depth: usize) -> io::Result<Option<(Reply, usize)>> {
    let fault = |what: &str| Err(io::Error::other(format!("redis answered nonsense: {what}")));
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (line, mut used) = (&bytes[1.min(end)..end], end + 2);
    let number = || std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok());
    match bytes[0] {
        b'+' | b':' => Ok(Some((Reply::Bytes(line.to_vec()), used))),
        b'-' => Ok(Some((Reply::Error(String::from_utf8_lossy(line).into_owned()), used))),
        b'$' | b'*' if number() == Some(-1) => Ok(Some((Reply::Nil, used))),
        b'$' => {
            let length = number().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= ANSWER_BYTES_MAX);
            let Some(length) = length else { return fault("a length") };
            let whole = bytes.get(used..used + length + 2);
            Ok(whole.map(|body| (Reply::Bytes(body[..length].to_vec()), used + length + 2)))
        }
        b'*' if depth > 0 => {
            let count = number().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= ANSWER_BYTES_MAX);
            let Some(count) = count else { return fault("a count") };
            let mut list = Vec::with_capacity(count.min(1024));
            for _ in 0..count {
                let Some((value, more)) = parse(&bytes[used..], depth - 1)? else { return Ok(None) };
                used += more;
                list.push(value);
            }
            Ok(Some((Reply::List(list), used)))
        }
        _ => fault("an unknown type"),
    }
}

/// Appends numbered entries of `bytes` bytes to a stream, [`FILL_BATCH`] a round trip: the limit of enqueueing.
pub fn fill(wire: &mut Wire, stream: &str, entries: u64, bytes: usize) -> io::Result<Duration> {
    let mut body = vec![b'x'; bytes.max(20)];
    let started = Instant::now();
    let mut sent = 0;
    while sent < entries {
        let batch = FILL_BATCH.min(entries - sent);
        for n in sent..sent + batch {
            write!(&mut body[..20], "{n:020}")?;
            wire.push(&[b"XADD", stream.as_bytes(), b"*", b"d", &body]);
        }
        wire.flush()?;
        for _ in 0..batch {
            wire.reply()?;
        }
        sent += batch;
    }
    Ok(started.elapsed())
}

/// Reads a stream through a consumer group and acknowledges it, `batch` entries at a time; the next read is under
/// way while a batch is acknowledged. The limit of a queue that uses groups, as most do.
pub fn consume(wire: &mut Wire, stream: &str, batch: u32) -> io::Result<(u64, Duration)> {
    wire.call(&["XGROUP", "CREATE", stream, "g", "0"])?;
    let count = batch.to_string();
    let read: [&[u8]; 9] =
        [b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", count.as_bytes(), b"STREAMS", stream.as_bytes(), b">"];
    let (mut total, mut acks, started) = (0, 0, Instant::now());
    wire.push(&read);
    wire.flush()?;
    loop {
        let ids = ids(wire.reply()?);
        for _ in 0..acks {
            wire.reply()?;
        }
        if ids.is_empty() {
            return Ok((total, started.elapsed()));
        }
        total += ids.len() as u64;
        wire.push(&read);
        wire.flush()?;
        let mut ack: Vec<&[u8]> = vec![b"XACK", stream.as_bytes(), b"g"];
        ack.extend(ids.iter().map(Vec::as_slice));
        wire.push(&ack);
        wire.flush()?;
        acks = 1;
    }
}

/// The ids of the entries in an answer of `XREADGROUP` about one stream.
fn ids(reply: Reply) -> Vec<Vec<u8>> {
    let list = |reply: Reply| if let Reply::List(list) = reply { list } else { Vec::new() };
    let entries = list(reply).into_iter().next().map(list).and_then(|mut pair| pair.pop());
    let first = |entry: Reply| match list(entry).into_iter().next() {
        Some(Reply::Bytes(id)) => Some(id),
        _ => None,
    };
    entries.map(list).unwrap_or_default().into_iter().filter_map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &[u8] =
        b"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nd\r\n$2\r\nab\r\n*2\r\n$3\r\n2-0\r\n*-1\r\n";

    #[test]
    fn ids_are_found_in_an_answer() {
        let (reply, used) = parse(ANSWER, DEPTH_MAX).expect("sound").expect("whole");
        assert_eq!(used, ANSWER.len());
        assert_eq!(ids(reply), [b"1-0".to_vec(), b"2-0".to_vec()]);
        assert_eq!(ids(Reply::Nil), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn half_an_answer_is_waited_for() {
        for end in 0..ANSWER.len() {
            assert_eq!(parse(&ANSWER[..end], DEPTH_MAX).expect("sound"), None, "{end} bytes");
        }
    }

    #[test]
    fn numbers_and_refusals_are_read() {
        assert_eq!(parse(b":17\r\n", 1).expect("sound"), Some((Reply::Bytes(b"17".to_vec()), 5)));
        let refused = Reply::Error("ERR no".to_owned());
        assert_eq!(parse(b"-ERR no\r\n", 1).expect("sound"), Some((refused, 9)));
        assert!(parse(b"$-2\r\n", 1).is_err());
    }

    proptest! {
        #[test]
        fn hostile_answers_are_errors_or_waited_for(bytes in prop::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'-'), b'0'..=b'9', any::<u8>()], 0..60)) {
            let _ = parse(&bytes, DEPTH_MAX);
        }
    }
}
