//! Line: one connection to a foreign Redis: requests out, replies in, each within its time.
//!
//! Whoever drops a call half-way leaves answers behind that nobody asks for; such a line is not whole any more, and its
//! holder must open another one ([`Line::is_whole`]).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::entries::Answer;
use super::scan::{Reply, Scanner};
use super::{Request, WireError};

/// Bytes that one read may bring.
const READ_BYTES: usize = 256 * 1024;
/// A buffer larger than this is not kept.
const KEEP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What bytes travel over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection.
pub struct Line {
    stream: Box<dyn Stream>,
    address: String,
    timeout: Duration,
    inbox: Vec<u8>,
    /// Where the next reply begins.
    at: usize,
    /// Answers that were asked for and not read yet.
    owed: usize,
    broken: bool,
    spare: Vec<u8>,
    asking: Option<Asking>,
}

/// What a line keeps that sends `ASKING` before each command.
#[derive(Debug, Default)]
struct Asking {
    /// A transaction has begun: what it queues needs none.
    queues: bool,
    /// Of each answer that is to come: it is that to `ASKING`, which nobody waits for.
    answers: VecDeque<bool>,
}

impl Asking {
    /// The same commands, those of no transaction with `ASKING` before them.
    fn before_each(&mut self, request: &Request) -> Result<Vec<u8>, String> {
        let (bytes, mut out, mut at) = (&request.bytes, Vec::with_capacity(2 * request.bytes.len()), 0);
        while at < bytes.len() {
            let cut = || "a request that is cut".to_owned();
            let end = Scanner::at(at).end(bytes)?.ok_or_else(cut)?;
            if !self.queues {
                out.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
                self.answers.push_back(true);
            }
            self.answers.push_back(false);
            out.extend_from_slice(&bytes[at..end]);
            match Reply::read(&bytes[at..end])?.list().first().map(Reply::bytes) {
                Some(b"MULTI") => self.queues = true,
                Some(b"EXEC" | b"DISCARD") => self.queues = false,
                _ => {}
            }
            at = end;
        }
        Ok(out)
    }
}

impl Line {
    pub(super) fn new(stream: Box<dyn Stream>, address: &str, timeout: Duration) -> Self {
        Self {
            stream,
            address: address.to_owned(),
            timeout,
            inbox: Vec::new(),
            at: 0,
            owed: 0,
            broken: false,
            spare: Vec::new(),
            asking: None,
        }
    }

    /// From now on each command is for a key whose slot is on its way to this node.
    pub(super) fn begin_asking(&mut self) {
        self.asking = Some(Asking::default());
    }

    /// The server, without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it can be used: nothing failed, and no answer is owed.
    pub fn is_whole(&self) -> bool {
        !self.broken && self.owed == 0
    }

    /// Sends commands; their answers must be read, all of them.
    pub async fn send(&mut self, request: &Request) -> Result<(), WireError> {
        self.owed += request.answers;
        let asked = self.asking.as_mut().map(|asking| asking.before_each(request)).transpose();
        let asked = asked.map_err(|reason| self.nonsense(&reason))?;
        let bytes = asked.as_ref().unwrap_or(&request.bytes);
        let sent = tokio::time::timeout(self.timeout, self.stream.write_all(bytes)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.away(&error.to_string())),
            Err(_) => Err(self.away("it takes no bytes")),
        }
    }

    /// The next reply, as values.
    pub async fn reply(&mut self) -> Result<Reply, WireError> {
        let reply = Reply::read(self.next(self.timeout).await?);
        reply.map_err(|reason| self.nonsense(&reason))
    }

    /// The next message of a subscription; none where none comes for so long. The line stays whole.
    pub async fn pushed(&mut self, limit: Duration) -> Result<Option<Reply>, WireError> {
        match tokio::time::timeout(limit, self.whole(limit * 2)).await {
            Err(_) => Ok(None),
            Ok(found) => {
                let (from, to) = found?;
                self.at = to;
                let reply = Reply::read(&self.inbox[from..to]);
                reply.map(Some).map_err(|reason| self.nonsense(&reason))
            }
        }
    }

    /// Reads so many replies that are expected to be `+QUEUED`; answers the first error among them.
    pub async fn queued(&mut self, count: usize) -> Result<Option<String>, WireError> {
        let mut refusal = None;
        for _ in 0..count {
            let bytes = self.next(self.timeout).await?;
            if bytes.first() == Some(&b'-') && refusal.is_none() {
                refusal = Some(String::from_utf8_lossy(&bytes[1..bytes.len() - 2]).into_owned());
            }
        }
        Ok(refusal)
    }

    /// The next reply as entries of streams; waits so much longer, for a read that blocks.
    pub async fn streams(&mut self, longer: Duration, command: &str) -> Result<Answer, WireError> {
        self.answer(longer, command, Answer::of_streams).await
    }

    /// The next reply as entries of a range.
    pub async fn range(&mut self, command: &str) -> Result<Answer, WireError> {
        self.answer(Duration::ZERO, command, Answer::of_range).await
    }

    async fn answer(
        &mut self,
        longer: Duration,
        command: &str,
        read: fn(Vec<u8>) -> Result<Answer, String>,
    ) -> Result<Answer, WireError> {
        let bytes = self.take(longer).await?;
        if bytes.first() == Some(&b'-') {
            let words = String::from_utf8_lossy(&bytes[1..]).trim_end().to_owned();
            return Err(self.refused(command, &words));
        }
        read(bytes).map_err(|reason| self.nonsense(&reason))
    }

    /// One command and its answer; an error of the server is an error here.
    pub async fn call(&mut self, args: &[&[u8]]) -> Result<Reply, WireError> {
        self.send(&Request::of(args)).await?;
        let reply = self.reply().await?;
        match reply {
            Reply::Error(words) => Err(self.refused(&String::from_utf8_lossy(args[0]), &words)),
            reply => Ok(reply),
        }
    }

    /// Several commands in one write, and their answers; errors of the server stand among them.
    pub async fn all(&mut self, request: &Request) -> Result<Vec<Reply>, WireError> {
        self.send(request).await?;
        let mut replies = Vec::with_capacity(request.answers);
        for _ in 0..request.answers {
            replies.push(self.reply().await?);
        }
        Ok(replies)
    }

    /// What an error reply means: wait, or not.
    pub fn refused(&mut self, command: &str, words: &str) -> WireError {
        let code = words.split(' ').next().unwrap_or_default();
        // MOVED: this node has given the key's slot away; who connects anew learns where it is.
        let passing = matches!(
            code,
            "LOADING" | "BUSY" | "MOVED" | "CLUSTERDOWN" | "MASTERDOWN" | "NOREPLICAS" | "MISCONF" | "READONLY"
        );
        let shut = matches!(code, "NOAUTH" | "WRONGPASS" | "DENIED")
            || ["ERR max number of clients", "ERR invalid password", "ERR Client sent AUTH", "ERR AUTH "]
                .iter()
                .any(|beginning| words.starts_with(beginning));
        if shut {
            self.broken = true;
            return WireError::Shut { address: self.address.clone(), reason: words.to_owned() };
        }
        if matches!(code, "ASK" | "TRYAGAIN") {
            return WireError::Moving { address: self.address.clone(), reason: words.to_owned() };
        }
        if passing {
            // A master that became a replica, or a server that reads its data: the next connection may lead elsewhere.
            return self.away(words);
        }
        let (address, command) = (self.address.clone(), command.to_owned());
        WireError::Refused { address, command, reason: words.to_owned() }
    }

    /// An answer that has not the form that it should have.
    pub fn nonsense(&mut self, reason: &str) -> WireError {
        self.broken = true;
        WireError::Nonsense { address: self.address.clone(), reason: reason.to_owned() }
    }

    fn away(&mut self, reason: &str) -> WireError {
        self.broken = true;
        WireError::Away { address: self.address.clone(), reason: reason.to_owned() }
    }

    /// Gives the memory of an answer back, for the next one.
    pub fn reuse(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() > self.spare.capacity() && bytes.capacity() <= KEEP_BYTES_MAX {
            bytes.clear();
            self.spare = bytes;
        }
    }

    /// The next reply as it came. Its bytes stay until the next call.
    pub async fn bytes(&mut self) -> Result<&[u8], WireError> {
        self.next(self.timeout).await
    }

    async fn next(&mut self, limit: Duration) -> Result<&[u8], WireError> {
        let (from, to) = self.whole(limit).await?;
        self.at = to;
        Ok(&self.inbox[from..to])
    }

    /// The bytes of the next reply, taken out.
    async fn take(&mut self, longer: Duration) -> Result<Vec<u8>, WireError> {
        let (from, to) = self.whole(self.timeout + longer).await?;
        let mut left = std::mem::take(&mut self.spare);
        left.clear();
        left.extend_from_slice(&self.inbox[to..]);
        let mut bytes = std::mem::replace(&mut self.inbox, left);
        bytes.truncate(to);
        if from > 0 {
            bytes.drain(..from);
        }
        self.at = 0;
        Ok(bytes)
    }

    /// Whether the next answer is that to `ASKING`; takes it off the list.
    fn is_of_asking(&mut self) -> bool {
        self.asking.as_mut().is_some_and(|asking| asking.answers.pop_front() == Some(true))
    }

    /// Waits until the next reply is there as a whole. No progress within `limit` is an end of the connection.
    async fn whole(&mut self, limit: Duration) -> Result<(usize, usize), WireError> {
        if self.at > 0 && self.at == self.inbox.len() {
            self.inbox.clear();
            self.at = 0;
        }
        let mut from = self.at;
        let mut scanner = Scanner::at(from);
        loop {
            match scanner.end(&self.inbox) {
                Ok(Some(end)) if self.is_of_asking() => {
                    if self.inbox[from] == b'-' {
                        let words = String::from_utf8_lossy(&self.inbox[from + 1..end]).trim_end().to_owned();
                        self.broken = true;
                        return Err(self.refused("ASKING", &words));
                    }
                    (self.at, from, scanner) = (end, end, Scanner::at(end));
                    continue;
                }
                Ok(Some(end)) => {
                    self.owed = self.owed.saturating_sub(1);
                    return Ok((from, end));
                }
                Ok(None) => {}
                Err(reason) => return Err(self.nonsense(&reason)),
            }
            if self.inbox.capacity() - self.inbox.len() < READ_BYTES / 4 {
                self.inbox.reserve(READ_BYTES.max(self.inbox.len() / 2));
            }
            match tokio::time::timeout(limit, self.stream.read_buf(&mut self.inbox)).await {
                Ok(Ok(0)) => return Err(self.away("the connection was closed")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(self.away(&error.to_string())),
                Err(_) => return Err(self.away(&format!("no answer within {} ms", limit.as_millis()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_asked_for_but_not_what_a_transaction_queues() {
        let mut request = Request::of(&[b"WATCH", b"MULTI"]);
        request.command(&[b"MULTI"]).command(&[b"XADD", b"k", b"ASKING"]).command(&[b"EXEC"]).command(&[b"TIME"]);
        let mut asking = Asking::default();
        let bytes = asking.before_each(&request).expect("whole commands");
        let mut wanted = Request::of(&[b"ASKING"]);
        wanted.command(&[b"WATCH", b"MULTI"]).command(&[b"ASKING"]).command(&[b"MULTI"]);
        wanted.command(&[b"XADD", b"k", b"ASKING"]).command(&[b"EXEC"]).command(&[b"ASKING"]).command(&[b"TIME"]);
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&wanted.bytes));
        assert_eq!(asking.answers, [true, false, true, false, false, false, true, false]);
        // A transaction may begin in one request and end in another.
        asking.before_each(&Request::of(&[b"MULTI"])).expect("a command");
        let bytes = asking.before_each(&Request::of(&[b"EXEC"])).expect("a command");
        assert_eq!(bytes, Request::of(&[b"EXEC"]).bytes);
        assert!(asking.before_each(&Request { bytes: b"*2\r\n$4\r\nMULT".to_vec(), answers: 1 }).is_err());
    }
}
