//! JSON as Python's `json.dump(value, indent=2)` writes it: members in their order, numbers as they were written.
//!
//! Two things differ from Python, which reads values where this reads texts: a number is not written in another way
//! (`1e5` stays), and of members with the same name none is dropped.

use serde::de::IgnoredAny;

/// Writes JSON again with two spaces of indentation and strings in ASCII. None of it may be malformed.
pub(super) fn indent(raw: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(raw).map_err(|e| format!("it is no text: {e}"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| format!("it is no JSON: {e}"))?;
    let mut writer = Writer { out: Vec::with_capacity(raw.len() * 2), depth: 0 };
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => writer.string(rest),
            '{' | '[' => writer.open(rest),
            '}' | ']' => writer.close(first),
            ',' => {
                writer.out.push(b',');
                writer.line();
                1
            }
            ':' => {
                writer.out.extend(b": ");
                1
            }
            // A number or a word.
            _ => {
                let end = rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                writer.out.extend(&rest.as_bytes()[..end]);
                end
            }
        };
        rest = rest[taken..].trim_start_matches([' ', '\t', '\n', '\r']);
    }
    Ok(writer.out)
}

/// What was written so far; each method is given well-formed JSON, and answers how much of it was used.
struct Writer {
    out: Vec<u8>,
    depth: usize,
}

impl Writer {
    fn line(&mut self) {
        self.out.push(b'\n');
        self.out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
    }

    /// What is empty stays on its line.
    fn open(&mut self, rest: &str) -> usize {
        self.out.push(rest.as_bytes()[0]);
        let inside = rest[1..].trim_start_matches([' ', '\t', '\n', '\r']);
        if inside.starts_with(['}', ']']) {
            self.out.push(inside.as_bytes()[0]);
            return rest.len() - inside.len() + 1;
        }
        self.depth += 1;
        self.line();
        1
    }

    fn close(&mut self, bracket: char) -> usize {
        self.depth = self.depth.saturating_sub(1);
        self.line();
        self.out.extend(bracket.to_string().bytes());
        1
    }

    /// A string as Python escapes it: whatever is not printable ASCII as `\u` and four small digits, `/` as it is.
    fn string(&mut self, rest: &str) -> usize {
        self.out.push(b'"');
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.out.push(b'"');
                    return at + 1;
                }
                '\\' => match chars.next() {
                    Some((at, 'u')) => {
                        let digits = rest.get(at + 1..at + 5).unwrap_or_default();
                        self.unit(u16::from_str_radix(digits, 16).unwrap_or_default());
                        chars.nth(3);
                    }
                    Some((_, 'b')) => self.unit(8),
                    Some((_, 'f')) => self.unit(12),
                    Some((_, 'n')) => self.unit(10),
                    Some((_, 'r')) => self.unit(13),
                    Some((_, 't')) => self.unit(9),
                    // A quote, a slash or a backslash.
                    Some((_, other)) => self.unit(other as u16),
                    None => {}
                },
                other => {
                    let mut units = [0; 2];
                    other.encode_utf16(&mut units).iter().for_each(|unit| self.unit(*unit));
                }
            }
        }
        rest.len()
    }

    /// One UTF-16 unit of a string.
    fn unit(&mut self, unit: u16) {
        match u8::try_from(unit) {
            Ok(b'"') => self.out.extend(br#"\""#),
            Ok(b'\\') => self.out.extend(br"\\"),
            Ok(8) => self.out.extend(br"\b"),
            Ok(12) => self.out.extend(br"\f"),
            Ok(b'\n') => self.out.extend(br"\n"),
            Ok(b'\r') => self.out.extend(br"\r"),
            Ok(b'\t') => self.out.extend(br"\t"),
            Ok(plain @ b' '..=b'~') => self.out.push(plain),
            Ok(_) | Err(_) => self.out.extend(format!("\\u{unit:04x}").bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn indented(raw: &str) -> String {
        String::from_utf8(indent(raw.as_bytes()).expect("JSON")).expect("text")
    }

    /// What `json.dump(json.loads(raw), file, indent=2)` of Python 3 wrote for it.
    const PYTHON: &str = r###"{
  "block_id": {
    "hash": "q9/A+=",
    "part_set_header": {
      "total": 1,
      "hash": ""
    }
  },
  "empty": {},
  "none": [],
  "deep": [
    [],
    [
      {}
    ],
    [
      [
        1,
        -2.5,
        true,
        false,
        null
      ]
    ]
  ],
  "text": "a\"b\\c<d\u00e9\t\b\f\n\r\u0001\u007f",
  "raw": "\u00e9\u20ac\ud83d\ude00",
  "pair": "\ud83d\ude00",
  "lone": "\ud800x",
  "big": 12345678901234567890,
  "": ""
}"###;

    #[test]
    fn it_is_byte_for_byte_what_python_writes() {
        let raw = r###"{ "block_id" : {"hash":"q9\/A+=","part_set_header":{"total":1,"hash":""}},"empty":{},"none":[ ],"deep":[[],[{}],[[1,-2.5,true,false,null]]],
 "text":"a\"b\\c\u003cd\u00e9\t\b\f\n\r\u0001\u007f","raw":"é€😀","pair":"\ud83d\ude00","lone":"\ud800x","big":12345678901234567890,"":"" }"###;
        assert_eq!(indented(raw), PYTHON);
        for (raw, python) in [("[]", "[]"), (" {} ", "{}"), ("7", "7"), ("[{}]", "[\n  {}\n]"), ("\"\"", "\"\"")] {
            assert_eq!(indented(raw), python);
        }
    }

    #[test]
    fn numbers_members_and_order_are_kept() {
        let raw = r#"{"z":1,"a":12345678901234567890123456789,"z":1e5,"b":-0.0}"#;
        assert_eq!(
            indented(raw),
            "{\n  \"z\": 1,\n  \"a\": 12345678901234567890123456789,\n  \"z\": 1e5,\n  \"b\": -0.0\n}"
        );
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in [&b"{"[..], b"{}{}", b"{\"a\":}", b"\"\xff\"", b"", b"nul", b"[1 2]", b"{\"a\" 1}"] {
            assert!(indent(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..100), text in r#"[\[\]{},:"\\u0-9a-f ]{0,40}"#) {
            let _ = indent(&bytes);
            let _ = indent(text.as_bytes());
        }

        /// Whatever it looks like, it is the same value, and writing it again changes nothing.
        #[test]
        fn the_value_stays_the_same(texts in prop::collection::vec(".{0,8}", 0..6), n: i64, deep: bool) {
            let members = texts.iter().map(|t| (t.clone(), serde_json::json!([t, n, {}, []])));
            let value = Value::Object(members.collect());
            let value = if deep { serde_json::json!([[value.clone()], { "x": value }]) } else { value };
            let once = indent(value.to_string().as_bytes()).expect("JSON");
            prop_assert!(once.is_ascii());
            prop_assert_eq!(serde_json::from_slice::<Value>(&once).expect("JSON"), value);
            prop_assert_eq!(indent(&once).expect("JSON"), once);
        }
    }
}
