//! Reads the answers of Redis: the only place that knows the shapes of `redis::Value`.

use redis::Value;

use super::error::StoreError;
use super::packed;
use crate::ids::EntryId;

/// One entry of a stream: its id and its fields, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id that Redis gave it.
    pub id: EntryId,
    /// Fields and values as they were sent; names may repeat.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The first value of `name`.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, v)| v.as_slice())
    }

    /// The first value of `name` as text, foreign bytes replaced.
    pub fn text(&self, name: &str) -> Option<String> {
        self.field(name).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// Bytes of all fields and values.
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(|(n, v)| n.len() + v.len()).sum()
    }
}

/// An answer that is an array, taken apart from the front.
pub(super) struct Row {
    script: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Row {
    pub(super) fn new(script: &'static str, value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Array(values) => Ok(Self { script, values: values.into_iter() }),
            other => Err(unexpected(script, &other)),
        }
    }

    /// Whether the first of what is left is this word.
    pub(super) fn starts_with(&self, word: &str) -> bool {
        match self.values.as_slice().first() {
            Some(Value::BulkString(bytes)) => bytes == word.as_bytes(),
            _ => false,
        }
    }

    pub(super) fn value(&mut self) -> Result<Value, StoreError> {
        self.values.next().ok_or_else(|| StoreError::Protocol(format!("{}: the answer is too short", self.script)))
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        let script = self.script;
        text(script, self.value()?)
    }

    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        let script = self.script;
        let text = self.text()?;
        text.parse().map_err(|_| StoreError::Protocol(format!("{script}: `{text}` is no number")))
    }

    /// Entries that a script hands out, packed.
    pub(super) fn entries(&mut self) -> Result<Vec<Entry>, StoreError> {
        let script = self.script;
        packed::entries(script, &bytes(script, self.value()?)?)
    }

    pub(super) fn rest(self) -> impl Iterator<Item = Value> {
        self.values
    }
}

pub(super) fn text(script: &'static str, value: Value) -> Result<String, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) => Ok(text),
        Value::Okay => Ok("OK".to_owned()),
        Value::Int(n) => Ok(n.to_string()),
        Value::Nil => Ok(String::new()),
        other => Err(unexpected(script, &other)),
    }
}

/// A list of texts.
pub(super) fn texts(script: &'static str, value: Value) -> Result<Vec<String>, StoreError> {
    match value {
        Value::Array(values) | Value::Set(values) => values.into_iter().map(|value| text(script, value)).collect(),
        Value::Nil => Ok(Vec::new()),
        other => Err(unexpected(script, &other)),
    }
}

/// Stream entries as `XRANGE` gives them.
pub(super) fn entries(script: &'static str, value: Value) -> Result<Vec<Entry>, StoreError> {
    let rows = match value {
        Value::Array(rows) => rows,
        Value::Nil => return Ok(Vec::new()),
        other => return Err(unexpected(script, &other)),
    };
    rows.into_iter().map(|row| entry(script, row)).collect()
}

fn entry(script: &'static str, row: Value) -> Result<Entry, StoreError> {
    let mut row = Row::new(script, row)?;
    let id = row.text()?;
    let id = id.parse().map_err(StoreError::Protocol)?;
    let Value::Array(flat) = row.value()? else {
        // An entry that was deleted while it was pending has no fields.
        return Ok(Entry { id, fields: Vec::new() });
    };
    let mut fields = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((bytes(script, name)?, bytes(script, value)?));
    }
    Ok(Entry { id, fields })
}

pub(super) fn bytes(script: &'static str, value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Int(n) => Ok(n.to_string().into_bytes()),
        other => Err(unexpected(script, &other)),
    }
}

/// Pairs of a hash or of `CONFIG GET`.
pub(super) fn pairs(script: &'static str, value: Value) -> Result<Vec<(String, String)>, StoreError> {
    match value {
        Value::Map(pairs) => pairs.into_iter().map(|(k, v)| Ok((text(script, k)?, text(script, v)?))).collect(),
        Value::Nil => Ok(Vec::new()),
        value => {
            let mut row = Row::new(script, value)?;
            let mut out = Vec::new();
            while row.values.len() >= 2 {
                out.push((row.text()?, row.text()?));
            }
            Ok(out)
        }
    }
}

pub(super) fn unexpected(script: &'static str, value: &Value) -> StoreError {
    let mut shown = format!("{value:?}");
    if shown.len() > 200 {
        let end = (0..=200).rev().find(|i| shown.is_char_boundary(*i)).unwrap_or(0);
        shown.truncate(end);
    }
    StoreError::Protocol(format!("{script}: unexpected answer {shown}"))
}

/// Turns a refusal of a script into an error.
pub(super) fn refusal(word: &str, row: &mut Row) -> Result<StoreError, StoreError> {
    Ok(match word {
        "FENCED" => StoreError::Fenced { token: row.text()? },
        "MOVED" => {
            let _tip = row.text()?;
            StoreError::Moved { seq: row.number()? }
        }
        "FULL" => StoreError::Full { key: row.text()? },
        "LINK" => {
            StoreError::Link { below: row.number()?, above: row.number()?, hash: row.text()?, parent: row.text()? }
        }
        "OVERLAP" => StoreError::Overlap { lo: row.number()?, hi: row.number()? },
        "UNCOVERED" => StoreError::Uncovered { height: row.number()? },
        "BROKEN" => {
            let (key, reason) = (row.text()?, row.text()?);
            if reason.contains("OOM ") { StoreError::OutOfMemory(reason) } else { StoreError::Broken { key, reason } }
        }
        other => StoreError::Protocol(format!("`{other}`")),
    })
}
