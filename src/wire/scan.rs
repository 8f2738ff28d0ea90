//! Scan: where a reply of RESP2 ends, found once however its bytes arrive; and a whole reply as values.

/// Most bytes of one reply. A stream's entry may have 512 MiB; more than two of them are never asked for at a time.
pub const REPLY_BYTES_MAX: usize = 1 << 30;
/// Deepest nesting of a reply that is turned into values.
const DEPTH_MAX: usize = 16;

/// Looks for the end of one reply; goes on where it stopped when more bytes are there.
#[derive(Debug)]
pub(super) struct Scanner {
    at: usize,
    /// Values that are still to come.
    left: usize,
}

impl Scanner {
    /// Begins at a byte.
    pub(super) fn at(at: usize) -> Self {
        Self { at, left: 1 }
    }

    /// The place behind the reply, once all of it is there.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        while self.left > 0 {
            let Some((kind, head, next)) = header(bytes, self.at)? else { return Ok(None) };
            match kind {
                b'+' | b'-' | b':' => self.left -= 1,
                b'$' => {
                    let length = number(head)?;
                    self.left -= 1;
                    if let Ok(length) = usize::try_from(length) {
                        let behind = next.saturating_add(length).saturating_add(2);
                        if behind > bytes.len() {
                            self.left += 1;
                            return within(behind).map(|()| None);
                        }
                        self.at = behind;
                        continue;
                    }
                }
                b'*' => {
                    let count = usize::try_from(number(head)?).unwrap_or(0);
                    self.left = (self.left - 1).saturating_add(count);
                }
                other => return Err(format!("a reply begins with byte {other}")),
            }
            self.at = next;
        }
        Ok(Some(self.at))
    }
}

fn within(bytes: usize) -> Result<(), String> {
    if bytes > REPLY_BYTES_MAX { Err(format!("a reply of more than {REPLY_BYTES_MAX} bytes")) } else { Ok(()) }
}

/// The head of a value: its kind, what stands behind that on its line, and where the next line begins.
type Header<'a> = (u8, &'a [u8], usize);

/// The kind of the value at a place, what stands behind it on its line, and where the next line begins.
pub(super) fn header(bytes: &[u8], at: usize) -> Result<Option<Header<'_>>, String> {
    let rest = bytes.get(at..).unwrap_or_default();
    // Numbers are short; a simple text or an error may be longer, and then its end is looked for again.
    let Some(eol) = rest.iter().position(|byte| *byte == b'\r') else {
        return within(bytes.len()).map(|()| None);
    };
    match rest.get(eol + 1) {
        None => Ok(None),
        Some(b'\n') => match rest.first() {
            Some(kind) if eol > 0 => Ok(Some((*kind, &rest[1..eol], at + eol + 2))),
            _ => Err("an empty line in place of a reply".to_owned()),
        },
        Some(_) => Err("a carriage return within a line".to_owned()),
    }
}

/// A number of a header. Written by hand: an answer has seven of them an entry.
pub(super) fn number(text: &[u8]) -> Result<i64, String> {
    let fault = || format!("`{}` is no number", String::from_utf8_lossy(text));
    let (digits, negative) = match text.split_first() {
        Some((b'-', rest)) => (rest, true),
        _ => (text, false),
    };
    if digits.is_empty() || digits.len() > 19 {
        return Err(fault());
    }
    let mut value: i64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return Err(fault());
        }
        value = value.checked_mul(10).and_then(|v| v.checked_add(i64::from(digit))).ok_or_else(fault)?;
    }
    Ok(if negative { -value } else { value })
}

/// A reply as values, for all that is not bulk data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A simple text or bytes.
    Bytes(Vec<u8>),
    /// An error, as the server words it.
    Error(String),
    /// A list.
    List(Vec<Reply>),
}

impl Reply {
    /// Reads one whole reply.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut at = 0;
        read_at(bytes, &mut at, 0)
    }

    /// As text, foreign bytes replaced; numbers in decimal, nothing as the empty text.
    pub fn text(&self) -> String {
        match self {
            Reply::Nil | Reply::List(_) => String::new(),
            Reply::Int(number) => number.to_string(),
            Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Error(words) => words.clone(),
        }
    }

    /// As a number, also where it came as text.
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(number) => Some(*number),
            Reply::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Reply::Nil | Reply::Error(_) | Reply::List(_) => None,
        }
    }

    /// The bytes of a text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Reply::Bytes(bytes) => bytes,
            Reply::Nil | Reply::Int(_) | Reply::Error(_) | Reply::List(_) => &[],
        }
    }

    /// The values of a list; none of anything else.
    pub fn list(&self) -> &[Reply] {
        match self {
            Reply::List(values) => values,
            Reply::Nil | Reply::Int(_) | Reply::Bytes(_) | Reply::Error(_) => &[],
        }
    }

    /// The value behind a name, in a list of names and values.
    pub fn field(&self, name: &str) -> Option<&Reply> {
        self.list().chunks_exact(2).find(|pair| pair[0].bytes() == name.as_bytes()).map(|pair| &pair[1])
    }
}

/// The values of a list, each as its bytes; none of what is no list.
pub fn items(reply: &[u8]) -> Result<Option<Vec<&[u8]>>, String> {
    let short = || "a reply that ends too early".to_owned();
    let (kind, head, mut at) = header(reply, 0)?.ok_or_else(short)?;
    let Some(count) = usize::try_from(number(head).unwrap_or(-1)).ok().filter(|_| kind == b'*') else {
        return Ok(None);
    };
    // The count is the server's word: memory grows only with values that are there.
    let mut items = Vec::with_capacity(count.min(8192));
    for _ in 0..count {
        let end = Scanner::at(at).end(reply)?.ok_or_else(short)?;
        items.push(&reply[at..end]);
        at = end;
    }
    Ok(Some(items))
}

fn read_at(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Reply, String> {
    let short = || "a reply that ends too early".to_owned();
    let (kind, head, next) = header(bytes, *at)?.ok_or_else(short)?;
    *at = next;
    match kind {
        b'+' => Ok(Reply::Bytes(head.to_vec())),
        b'-' => Ok(Reply::Error(String::from_utf8_lossy(head).into_owned())),
        b':' => number(head).map(Reply::Int),
        b'$' => {
            let Ok(length) = usize::try_from(number(head)?) else { return Ok(Reply::Nil) };
            let text = bytes.get(next..next.saturating_add(length)).ok_or_else(short)?;
            *at = next + length + 2;
            Ok(Reply::Bytes(text.to_vec()))
        }
        b'*' => {
            let Ok(count) = usize::try_from(number(head)?) else { return Ok(Reply::Nil) };
            if depth == DEPTH_MAX {
                return Err(format!("a reply nested deeper than {DEPTH_MAX}"));
            }
            // The count is the server's word: memory grows only with values that are there.
            let mut values = Vec::with_capacity(count.min(1024));
            for _ in 0..count {
                values.push(read_at(bytes, at, depth + 1)?);
            }
            Ok(Reply::List(values))
        }
        other => Err(format!("a reply begins with byte {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reply_is_found_however_its_bytes_arrive() {
        let reply = b"*3\r\n$2\r\na\r\r\n*2\r\n:-5\r\n$-1\r\n-ERR no\r\n+next";
        let whole = reply.len() - 5;
        let mut scanner = Scanner::at(0);
        for end in 0..whole {
            assert_eq!(scanner.end(&reply[..end]), Ok(None), "{end}");
        }
        assert_eq!(scanner.end(reply), Ok(Some(whole)));
        let values = Reply::read(&reply[..whole]).expect("a reply");
        let inside = items(&reply[..whole]).expect("a reply").expect("a list");
        assert_eq!(inside, [b"$2\r\na\r\r\n".as_slice(), b"*2\r\n:-5\r\n$-1\r\n", b"-ERR no\r\n"]);
        assert!(items(&reply[..whole - 1]).is_err());
        for other in [b"*-1\r\n".as_slice(), b"-ERR no\r\n", b"$1\r\n*\r\n"] {
            assert_eq!(items(other), Ok(None));
        }
        let inner = Reply::List(vec![Reply::Int(-5), Reply::Nil]);
        assert_eq!(values, Reply::List(vec![Reply::Bytes(b"a\r".to_vec()), inner, Reply::Error("ERR no".to_owned())]));
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [b"?\r\n".as_slice(), b"$x\r\n", b"\r\n", b"+a\rb\n", b"$99999999999999999999\r\n", b"*--1\r\n"] {
            assert!(Scanner::at(0).end(bytes).is_err(), "{bytes:?}");
        }
        assert!(Scanner::at(0).end(format!("${}\r\n", REPLY_BYTES_MAX + 1).as_bytes()).is_err());
        assert!(Reply::read(&b"*1\r\n".repeat(40)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(prop_oneof![
            Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'-'), any::<u8>()], 0..60)) {
            let _ = Scanner::at(0).end(&bytes);
            let _ = Reply::read(&bytes);
            let _ = items(&bytes);
        }
    }
}
