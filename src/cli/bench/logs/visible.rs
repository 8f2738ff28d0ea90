//! Visible: a reader that waits in `XREAD BLOCK`, with as little work as possible: it shares the machine with what it
//! measures, and up to 100,000 lines a second pass here.

use anyhow::{Context, Result, bail, ensure};

use super::super::server::Server;
use super::super::wire::{Wire, header};
use super::node::stream;

/// Until a line counts as lost, in milliseconds: as one wait of the reader.
const LINE_MAX_MS: &str = "30000";
/// What stands before the number of a line that was made here.
const NUMBER: &[u8] = b"\"seq\":";

/// Reads the stream as it grows.
pub struct Reader {
    wire: Wire,
    stream: String,
    after: String,
}

impl Reader {
    /// From the first entry on.
    pub fn new(server: &Server) -> Result<Self> {
        Ok(Self { wire: server.wire()?, stream: stream(), after: "0".to_owned() })
    }

    /// Waits for lines; the numbers of those that came.
    pub fn read(&mut self) -> Result<Vec<u64>> {
        let read = ["XREAD", "COUNT", "1000", "BLOCK", LINE_MAX_MS, "STREAMS", &self.stream, &self.after];
        self.wire.push(&read.map(str::as_bytes));
        self.wire.flush()?;
        let (numbers, last) = entries(self.wire.raw()?)?;
        self.after = last.context("no line came within 30 s")?;
        Ok(numbers)
    }
}

/// The numbers of the lines in an answer of `XREAD` about one stream, and the id of the last entry.
fn entries(mut answer: &[u8]) -> Result<(Vec<u64>, Option<String>)> {
    let (mut numbers, mut last) = (Vec::new(), None);
    if list(&mut answer)? == 0 {
        return Ok((numbers, last));
    }
    ensure!(list(&mut answer)? == 2, "an answer about no stream");
    bytes(&mut answer)?;
    for _ in 0..list(&mut answer)? {
        ensure!(list(&mut answer)? == 2, "an entry of another form");
        last = Some(String::from_utf8_lossy(bytes(&mut answer)?).into_owned());
        for _ in 0..list(&mut answer)? / 2 {
            let (_label, line) = (bytes(&mut answer)?, bytes(&mut answer)?);
            numbers.push(number(line).context("a line without a number")?);
        }
    }
    Ok((numbers, last))
}

/// Steps into a list; how many values it has. None at all are an empty one.
fn list(answer: &mut &[u8]) -> Result<u64> {
    match header(answer)? {
        Some((length, count)) if answer[0] == b'*' => {
            *answer = &answer[length..];
            Ok(count)
        }
        _ => bail!("redis answered no list"),
    }
}

/// Steps past a text.
fn bytes<'a>(answer: &mut &'a [u8]) -> Result<&'a [u8]> {
    match header(answer)? {
        Some((length, 0)) if answer[0] == b'$' && answer.len() >= length => {
            let (value, rest) = answer.split_at(length);
            *answer = rest;
            let begin = value.iter().position(|byte| *byte == b'\n').map_or(length, |end| end + 1);
            Ok(value[begin..].strip_suffix(b"\r\n").unwrap_or_default())
        }
        _ => bail!("redis answered no text"),
    }
}

fn number(line: &[u8]) -> Option<u64> {
    let begin = memchr::memmem::find(line, NUMBER)? + NUMBER.len();
    let digits = line[begin..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |number: Option<u64>, digit| {
        number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_the_last_id_are_found_in_an_answer() {
        let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let entry = |id: &str, line: &str| {
            let fields: String = ["x:1 INFO", line].into_iter().map(text).collect();
            format!("*2\r\n{}*2\r\n{fields}", text(id))
        };
        let (first, second) = (entry("1-0", "{\"seq\":7,\"x\":1}"), entry("1-1", "{\"seq\":1234}"));
        let answer = format!("*1\r\n*2\r\n{}*2\r\n{first}{second}", text("lines"));
        assert_eq!(entries(answer.as_bytes()).expect("entries"), (vec![7, 1234], Some("1-1".to_owned())));
        assert_eq!(entries(b"*-1\r\n").expect("none"), (Vec::new(), None));
        assert!(entries(b"$1\r\nx\r\n").is_err());
    }
}
