//! Entries of an answer, as places in its bytes: nothing is copied, and order, doubles and any bytes stay.

use std::ops::Range;

use super::scan::{header, number};
use crate::ids::EntryId;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: EntryId,
    /// Where its id stands, as an encoded argument.
    id_at: Range<usize>,
    /// Where its fields stand, as encoded arguments.
    fields_at: Range<usize>,
    /// How many arguments they are: names and values.
    pub arguments: usize,
    /// It was deleted while it was pending: only its id is left.
    pub deleted: bool,
}

impl Item {
    /// The id as an encoded argument.
    pub fn id_bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.id_at.clone()]
    }

    /// Names and values as encoded arguments. Two entries are the same if these bytes are.
    pub fn fields<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.fields_at.clone()]
    }

    /// Bytes of the entry as it travels.
    pub fn len(&self) -> usize {
        self.id_at.len() + self.fields_at.len()
    }

    /// Whether it holds nothing at all, which no entry does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one stream gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The stream's key.
    pub key: Vec<u8>,
    /// Its entries, in order.
    pub items: Vec<Item>,
}

/// Entries of one or more streams, with the bytes that hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What each stream gave.
    pub parts: Vec<Part>,
}

impl Answer {
    /// Reads the answer to `XREAD` or `XREADGROUP`.
    pub(super) fn of_streams(bytes: Vec<u8>) -> Result<Self, String> {
        let mut at = 0;
        let mut parts = Vec::new();
        for _ in 0..list(&bytes, &mut at)?.unwrap_or(0) {
            if list(&bytes, &mut at)? != Some(2) {
                return Err("a stream is a key and its entries".to_owned());
            }
            let key = text(&bytes, &mut at)?;
            let key = bytes[key].to_vec();
            parts.push(Part { key, items: items(&bytes, &mut at)? });
        }
        Ok(Self { bytes, parts })
    }

    /// Reads the answer to `XRANGE` or `XREVRANGE`: one part, without its key.
    pub(super) fn of_range(bytes: Vec<u8>) -> Result<Self, String> {
        let mut at = 0;
        let items = items(&bytes, &mut at)?;
        Ok(Self { bytes, parts: vec![Part { key: Vec::new(), items }] })
    }

    /// The entries of the only part.
    pub fn items(&self) -> &[Item] {
        self.parts.first().map_or(&[], |part| part.items.as_slice())
    }

    /// Adds what another answer holds; its bytes go behind these.
    pub fn append(&mut self, other: Answer) {
        let by = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let moved = |at: &Range<usize>| at.start + by..at.end + by;
        self.parts.extend(other.parts.into_iter().map(|part| {
            Part {
                key: part.key,
                items: part
                    .items
                    .into_iter()
                    .map(|item| Item { id_at: moved(&item.id_at), fields_at: moved(&item.fields_at), ..item })
                    .collect(),
            }
        }));
    }

    /// Whether no stream gave anything.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.items.is_empty())
    }
}

fn items(bytes: &[u8], at: &mut usize) -> Result<Vec<Item>, String> {
    let count = list(bytes, at)?.unwrap_or(0);
    let mut items = Vec::with_capacity(count.min(16_384));
    for _ in 0..count {
        match list(bytes, at)? {
            Some(2) => {}
            // What `XCLAIM` leaves of a deleted entry on 6.2.
            None => continue,
            Some(other) => return Err(format!("an entry of {other} values")),
        }
        let id_from = *at;
        let id = text(bytes, at)?;
        let id = parse_id(&bytes[id])?;
        let id_at = id_from..*at;
        let arguments = list(bytes, at)?;
        let fields_from = *at;
        for _ in 0..arguments.unwrap_or(0) {
            text(bytes, at)?;
        }
        items.push(Item {
            id,
            id_at,
            fields_at: fields_from..*at,
            arguments: arguments.unwrap_or(0),
            deleted: arguments.is_none(),
        });
    }
    Ok(items)
}

fn parse_id(text: &[u8]) -> Result<EntryId, String> {
    let fault = || format!("`{}` is no id of an entry", String::from_utf8_lossy(text));
    let dash = text.iter().position(|byte| *byte == b'-').ok_or_else(fault)?;
    let half = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    Ok(EntryId { ms: half(&text[..dash]).ok_or_else(fault)?, seq: half(&text[dash + 1..]).ok_or_else(fault)? })
}

/// Steps over the head of a list; none where there is nothing.
fn list(bytes: &[u8], at: &mut usize) -> Result<Option<usize>, String> {
    match header(bytes, *at)? {
        Some((b'*', head, next)) => {
            *at = next;
            Ok(usize::try_from(number(head)?).ok())
        }
        Some((b'$', b"-1", next)) => {
            *at = next;
            Ok(None)
        }
        _ => Err("a list was expected".to_owned()),
    }
}

/// Steps over a text; answers where it stands.
fn text(bytes: &[u8], at: &mut usize) -> Result<Range<usize>, String> {
    let Some((b'$', head, next)) = header(bytes, *at)? else { return Err("a text was expected".to_owned()) };
    let length = usize::try_from(number(head)?).map_err(|_| "a text was expected".to_owned())?;
    let end = next.checked_add(length).filter(|end| end + 2 <= bytes.len());
    let end = end.ok_or_else(|| "a text that ends too early".to_owned())?;
    *at = end + 2;
    Ok(next..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use proptest::prelude::*;

    #[test]
    fn order_doubles_and_bytes_stay() {
        let bytes =
            b"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n5-1\r\n*4\r\n$1\r\nb\r\n$1\r\n\r\r\n$1\r\nb\r\n$0\r\n\r\n\
            *2\r\n$3\r\n6-0\r\n*-1\r\n";
        let answer = Answer::of_streams(bytes.to_vec()).expect("an answer");
        let part = &answer.parts[0];
        assert_eq!((part.key.as_slice(), part.items.len()), (b"s".as_slice(), 2));
        let item = &part.items[0];
        assert_eq!((item.id, item.arguments, item.deleted), (EntryId { ms: 5, seq: 1 }, 4, false));
        assert_eq!(item.fields(&answer.bytes), b"$1\r\nb\r\n$1\r\n\r\r\n$1\r\nb\r\n$0\r\n\r\n");
        assert!(part.items[1].deleted);
        let mut both = answer.clone();
        both.append(answer.clone());
        let again = &both.parts[1].items[0];
        assert_eq!(
            (again.fields(&both.bytes), again.id_bytes(&both.bytes)),
            (item.fields(&answer.bytes), item.id_bytes(&answer.bytes))
        );
        assert!(Answer::of_streams(b"*-1\r\n".to_vec()).expect("nothing").is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(prop_oneof![
            Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'2'), Just(b'-'), any::<u8>()], 0..80)) {
            let _ = Answer::of_streams(bytes.clone());
            let _ = Answer::of_range(bytes);
        }

        #[test]
        fn any_fields_come_back_as_the_arguments_they_were(fields in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..20), 2..12)) {
            let mut arguments = Request::new();
            fields.iter().for_each(|field| arguments.argument(field));
            let mut bytes = b"*1\r\n*2\r\n$3\r\n7-9\r\n".to_vec();
            bytes.extend_from_slice(format!("*{}\r\n", fields.len()).as_bytes());
            bytes.extend_from_slice(&arguments.bytes);
            let answer = Answer::of_range(bytes).expect("an answer");
            prop_assert_eq!(answer.items()[0].fields(&answer.bytes), &arguments.bytes[..]);
            prop_assert_eq!(answer.items()[0].arguments, fields.len());
        }
    }
}
