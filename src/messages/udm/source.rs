//! Lines of JSON, `key=value` and text as named values.

use std::borrow::Cow;

use regex::Regex;
use serde_json::{Map, Value};

/// A JSON object.
pub(super) fn json(line: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(line).map_err(|e| e.to_string())
}

/// Text from bytes, and whether some were none.
pub(super) fn text(line: &[u8]) -> (Cow<'_, str>, bool) {
    let text = String::from_utf8_lossy(line);
    let damaged = matches!(text, Cow::Owned(_));
    (text, damaged)
}

/// The named groups of the first pattern that fits; `-` and nothing are no values.
pub(super) fn matched(line: &str, patterns: &[Regex]) -> Option<Map<String, Value>> {
    patterns.iter().find_map(|pattern| {
        let mut values = Map::new();
        add_groups(pattern, line, &mut values).then_some(values)
    })
}

/// Adds what the named groups of a pattern find; false if it does not fit.
pub(super) fn add_groups(pattern: &Regex, text: &str, values: &mut Map<String, Value>) -> bool {
    let Some(found) = pattern.captures(text) else { return false };
    for name in pattern.capture_names().flatten() {
        if let Some(group) = found.name(name).map(|group| group.as_str()).filter(|text| !matches!(*text, "" | "-")) {
            values.insert(name.to_owned(), group.into());
        }
    }
    true
}

/// `key=value` and `key="value with \"quotes\""`; a key without a value is `true`. None if no key has one.
pub(super) fn logfmt(line: &str) -> Option<Map<String, Value>> {
    let mut values = Map::new();
    let (mut rest, mut pairs) = (line.trim_start(), false);
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        let (value, behind) = match behind.strip_prefix('=') {
            None => (Value::Bool(true), behind),
            Some(behind) => {
                pairs |= !key.is_empty();
                let (value, behind) = logfmt_value(behind);
                (value.into(), behind)
            }
        };
        if !key.is_empty() {
            values.insert(key.to_owned(), value);
        }
        rest = behind.trim_start();
    }
    pairs.then_some(values)
}

/// The value that begins here, and what stands behind it. A quote without an end goes to the end of the line.
fn logfmt_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut letters) = (String::new(), quoted.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, other @ ('"' | '\\'))) => value.push(other),
                Some((_, other)) => value.extend(['\\', other]),
                None => value.push('\\'),
            },
            _ => value.push(letter),
        }
    }
    (value, "")
}

/// Takes the value of a name out of an object: what is mapped is not kept twice. A name with `/` in front is a pointer;
/// an object that becomes empty by it goes as well.
pub(super) fn take(values: &mut Map<String, Value>, name: &str) -> Option<Value> {
    match name.strip_prefix('/') {
        None => values.remove(name),
        Some(pointer) => {
            let keys: Vec<String> = pointer.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
            take_below(values, &keys)
        }
    }
}

fn take_below(values: &mut Map<String, Value>, keys: &[String]) -> Option<Value> {
    let (key, below) = keys.split_first()?;
    if below.is_empty() {
        return values.remove(key);
    }
    let Value::Object(inner) = values.get_mut(key)? else { return None };
    let taken = take_below(inner, below);
    if inner.is_empty() {
        values.remove(key);
    }
    taken
}

/// Puts back what did not fit anywhere.
pub(super) fn put_back(values: &mut Map<String, Value>, name: &str, value: Value) {
    let Some(pointer) = name.strip_prefix('/') else {
        values.insert(name.to_owned(), value);
        return;
    };
    let mut at = values;
    let keys: Vec<String> = pointer.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
    let Some((last, above)) = keys.split_last() else { return };
    for key in above {
        let inner = at.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(inner) = inner else { return };
        at = inner;
    }
    at.insert(last.clone(), value);
}

/// A value as text; none of what has no simple text.
pub(super) fn plain(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(yes) => Some(yes.to_string().into()),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",").into())
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn logfmt_is_taken_apart() {
        for (line, expected) in [
            ("a=1 b=two", json!({"a": "1", "b": "two"})),
            (r#"msg="it \"was\"\n\\ \x" done x="#, json!({"msg": "it \"was\"\n\\ \\x", "done": true, "x": ""})),
            (r#"a="no end b=1"#, json!({"a": "no end b=1"})),
            ("  a=b=c  =d \u{a0}e=\u{e4} ", json!({"a": "b=c", "e": "\u{e4}"})),
            ("a=1 a=2", json!({"a": "2"})),
        ] {
            assert_eq!(logfmt(line).map(Value::from), Some(expected), "{line}");
        }
        for line in ["", "  ", "just words", "=x"] {
            assert_eq!(logfmt(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_taken_is_gone_and_what_is_put_back_is_where_it_was() {
        let whole = json!({"a": {"b": {"c/d": 1}}, "e": 2, "/x": 3});
        let Value::Object(mut values) = whole.clone() else { panic!() };
        assert_eq!(take(&mut values, "/a/b/c~1d"), Some(json!(1)));
        assert_eq!(Value::from(values.clone()), json!({"e": 2, "/x": 3}));
        put_back(&mut values, "/a/b/c~1d", json!(1));
        assert_eq!(Value::from(values.clone()), whole);
        for name in ["/e/f", "/a/b/c", "a/b", "/a/x/y", "/", "x"] {
            assert_eq!(take(&mut values, name), None, "{name}");
        }
        assert_eq!(Value::from(values), whole);
    }
}
