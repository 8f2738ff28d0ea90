//! Limits: the thinnest client that appends the lines of a file. One thread, plain `XADD`, 500 in one write, bytes put
//! together by hand; nothing is atomic, nothing is remembered.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::super::server::Server;
use super::super::usage;
use super::super::usage::Figure;
use super::corpus::Corpus;
use crate::messages::level::level_of;

/// Entries of one write.
const BATCH: u64 = 500;
/// Until an answer counts as lost.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The stream.
const KEY: &str = "logs";

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// The line, as most programs store it.
    One,
    /// What a node stores: the line behind its id and its level.
    Same,
}

/// Appends all lines.
pub fn append(server: &Server, corpus: &Corpus, fields: Fields) -> Result<Figure> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let mut answers = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
    let mut lines = corpus.read()?;
    let (mut out, mut answer) = (Vec::with_capacity(512 * 1024), Vec::new());
    let (mut sent, mut offset) = (0, 0);
    let (redis, own, started) = (server.cpu_seconds()?, usage::own_cpu_seconds(), Instant::now());
    while sent < corpus.lines {
        let mut waiting = 0;
        while waiting < BATCH {
            let Some(line) = lines.next()? else { break };
            write_append(&mut out, fields, offset, line)?;
            offset += line.len() as u64 + 1;
            waiting += 1;
        }
        ensure!(waiting > 0, "the file has become shorter");
        stream.write_all(&out)?;
        out.clear();
        (0..waiting).try_for_each(|_| entry_id(&mut answers, &mut answer))?;
        sent += waiting;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (own, redis) = (usage::own_cpu_seconds() - own, server.cpu_seconds()? - redis);
    Ok(Figure { count: sent, seconds, cpu: own, redis_cpu: redis, peak_kib: 0 })
}

fn write_append(out: &mut Vec<u8>, fields: Fields, offset: u64, line: &[u8]) -> io::Result<()> {
    write!(out, "*5\r\n$4\r\nXADD\r\n${}\r\n{KEY}\r\n$1\r\n*\r\n", KEY.len())?;
    match fields {
        Fields::One => out.extend_from_slice(b"$1\r\nd\r\n"),
        Fields::Same => {
            let level = level_of(line);
            let (level, digits) = (level.as_str(), offset.checked_ilog10().unwrap_or(0) as usize + 1);
            // As long as a label is: the digest of a first line, an inode, a generation, the place in the file, a level.
            write!(out, "${}\r\n9c1185a5c5e9fc54-3a1f5-0:{offset} {level}\r\n", 26 + digits + level.len())?;
        }
    }
    write!(out, "${}\r\n", line.len())?;
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Reads past one answer: the length and the id of an entry.
fn entry_id(answers: &mut impl BufRead, answer: &mut Vec<u8>) -> Result<()> {
    for begin in [Some(b'$'), None] {
        answer.clear();
        answers.read_until(b'\n', answer)?;
        if !answer.ends_with(b"\r\n") || begin.is_some_and(|begin| answer[0] != begin) {
            bail!("redis refused to append: {}", String::from_utf8_lossy(answer).trim_end());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(args: &[&str]) -> String {
        let args: String = args.iter().map(|arg| format!("${}\r\n{arg}\r\n", arg.len())).collect();
        format!("*{}\r\n{args}", args.matches('$').count())
    }

    #[test]
    fn what_is_sent_is_a_command() {
        for (offset, id) in [(0, "0"), (9, "9"), (10, "10"), (142_000, "142000")] {
            let mut out = Vec::new();
            write_append(&mut out, Fields::Same, offset, b"ERROR x").expect("written");
            let label = format!("9c1185a5c5e9fc54-3a1f5-0:{id} ERROR");
            let wanted = packed(&["XADD", KEY, "*", &label, "ERROR x"]);
            assert_eq!(String::from_utf8_lossy(&out), wanted);
        }
        let mut out = Vec::new();
        write_append(&mut out, Fields::One, 7, b"x").expect("written");
        assert_eq!(String::from_utf8_lossy(&out), packed(&["XADD", KEY, "*", "d", "x"]));
    }

    #[test]
    fn a_refusal_is_told() {
        let mut answer = Vec::new();
        entry_id(&mut &b"$3\r\n1-0\r\n"[..], &mut answer).expect("an id");
        let refused = entry_id(&mut &b"-OOM no memory\r\n"[..], &mut answer).expect_err("refused");
        assert!(refused.to_string().contains("OOM no memory"), "{refused}");
    }
}
