//! A line of the stream as people and programs read it.

use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::messages::line::Label;
use crate::store::Entry;

/// Levels that say that something is wrong, and that it may become so.
const BAD: [&str; 10] = ["FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "PANIC", "ERROR", "ERR", "SEVERE"];
const DOUBTFUL: [&str; 2] = ["WARN", "WARNING"];
const CHATTER: [&str; 6] = ["DEBUG", "TRACE", "FINE", "FINER", "FINEST", "VERBOSE"];

/// One entry of the stream, taken apart.
pub(super) struct Shown<'a> {
    pub entry: &'a Entry,
    /// What it says of its line; none where it is no line of ours.
    pub label: Option<Label>,
    /// Where its file was last seen, if that is known and was asked for.
    pub path: Option<&'a Path>,
    /// Its text is an event.
    pub is_event: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    entry: String,
    id: Option<String>,
    file: Option<String>,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    base64: bool,
}

impl Shown<'_> {
    fn bytes(&self) -> &[u8] {
        match &self.label {
            Some(_) => self.entry.fields.first().map(|(_, value)| value.as_slice()).unwrap_or_default(),
            None => &[],
        }
    }

    /// Empty where there is none.
    fn level(&self) -> &str {
        self.label.as_ref().map_or("", |label| label.level.as_str())
    }

    /// One JSON object, in a line.
    pub fn json(&self, out: &mut Vec<u8>) {
        let text = std::str::from_utf8(self.bytes());
        let line = match text {
            Ok(text) => text.to_owned(),
            Err(_) => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, self.bytes()),
        };
        // As it stands in the stream, members in their order.
        let event = text.ok().filter(|_| self.is_event).and_then(|text| serde_json::from_str(text).ok());
        let document = Document {
            entry: self.entry.id.to_string(),
            id: self.label.as_ref().map(|label| label.id.to_string()),
            file: self.path.map(|path| path.display().to_string()),
            level: self.level(),
            line: Some(line).filter(|_| event.is_none()),
            event,
            reason: self.entry.text("r"),
            why: self.entry.text("w"),
            part: self.label.as_ref().map(|label| label.part.as_str()).filter(|part| !part.is_empty()),
            base64: text.is_err(),
        };
        // Texts and numbers always become JSON.
        let _ = serde_json::to_writer(&mut *out, &document);
        out.push(b'\n');
    }

    /// The line's bytes as they are.
    pub fn raw(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes());
        out.push(b'\n');
    }

    /// For a terminal: coloured where that is wanted, and without anything that could move its cursor.
    pub fn terminal(&self, is_coloured: bool, out: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(self.bytes());
        let text: String =
            text.chars().map(|c| if c.is_control() && !matches!(c, '\t' | '\n') { '.' } else { c }).collect();
        match colour(self.level()).filter(|_| is_coloured) {
            Some(code) => out.extend_from_slice(format!("\u{1b}[{code}m{text}\u{1b}[0m\n").as_bytes()),
            None => out.extend_from_slice(format!("{text}\n").as_bytes()),
        }
    }
}

fn colour(level: &str) -> Option<&'static str> {
    match level {
        level if BAD.contains(&level) => Some("31"),
        level if DOUBTFUL.contains(&level) => Some("33"),
        level if CHATTER.contains(&level) => Some("2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EntryId;

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
        Entry { id: EntryId { ms: 5, seq: 1 }, fields }
    }

    fn printed(entry: &Entry, how: impl Fn(&Shown<'_>, &mut Vec<u8>)) -> String {
        let label = Label::of(&entry.fields).map(|(label, _)| label);
        let mut out = Vec::new();
        how(&Shown { entry, label, path: Some(Path::new("/l/a.log")), is_event: false }, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_line_is_printed_for_each_kind_of_reader() {
        let line = entry(&[("9c1185a5c5e9fc54-3a1f-0:7 ERROR", b"b\x1b[2Jad\t\"x\"")]);
        assert_eq!(
            printed(&line, |shown, out| shown.json(out)),
            "{\"entry\":\"5-1\",\"id\":\"9c1185a5c5e9fc54-3a1f-0:7\",\"file\":\"/l/a.log\",\"level\":\"ERROR\",\
             \"line\":\"b\\u001b[2Jad\\t\\\"x\\\"\"}\n"
        );
        assert_eq!(printed(&line, |shown, out| shown.raw(out)), "b\u{1b}[2Jad\t\"x\"\n");
        assert_eq!(printed(&line, |shown, out| shown.terminal(true, out)), "\u{1b}[31mb.[2Jad\t\"x\"\u{1b}[0m\n");
        assert_eq!(printed(&line, |shown, out| shown.terminal(false, out)), "b.[2Jad\t\"x\"\n");
        let foreign = entry(&[("9c1185a5c5e9fc54-3a1f-0:7 INFO cut", b"\xff")]);
        let json = printed(&foreign, |shown, out| shown.json(out));
        assert!(json.ends_with("\"level\":\"INFO\",\"line\":\"/w==\",\"part\":\"cut\",\"base64\":true}\n"), "{json}");
        let event = entry(&[("9c1185a5c5e9fc54-3a1f-0:7 INFO", br#"{"z":{"n":1.50},"a":[]}"#)]);
        let json = printed(&event, |shown, out| {
            Shown { entry: shown.entry, label: shown.label.clone(), path: None, is_event: true }.json(out);
        });
        assert!(json.ends_with("\"level\":\"INFO\",\"event\":{\"z\":{\"n\":1.50},\"a\":[]}}\n"), "{json}");
        let stranger = printed(&entry(&[("x", b"y")]), |shown, out| shown.json(out));
        assert!(stranger.starts_with("{\"entry\":\"5-1\",\"id\":null,"), "{stranger}");
    }
}
