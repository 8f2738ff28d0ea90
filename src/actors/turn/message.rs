//! Message: an entry's fields as a typed message.
//!
//! A message is an enum with its name under `type` and its content under `body`. Both are fields of the entry, so they
//! are handed to serde as the two keys of one map, as they are: nothing is joined into a text to be taken apart again.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Error;

use crate::store::Entry;

/// Reads an entry that carries `type` and, as JSON, `body`; other fields are for others.
pub(super) fn parse<M: DeserializeOwned>(entry: &Entry) -> Result<M, String> {
    let kind = entry.field("type").ok_or("the entry has no field `type`")?;
    let kind = std::str::from_utf8(kind).map_err(|e| format!("the field `type` is no text: {e}"))?;
    let body = entry.field("body").unwrap_or(b"{}");
    M::deserialize(Parts { kind, body, given: 0 }).map_err(|error| match error.is_data() {
        true => error.to_string(),
        false => format!("the field `body` is no JSON: {error}"),
    })
}

/// The map `{"type": kind, "body": body}`, in this order.
struct Parts<'a> {
    kind: &'a str,
    body: &'a [u8],
    /// Keys that were asked for.
    given: usize,
}

impl<'de> Deserializer<'de> for Parts<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Parts<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(key) = ["type", "body"].get(self.given) else { return Ok(None) };
        self.given += 1;
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        if self.given <= 1 {
            return seed.deserialize(self.kind.into_deserializer());
        }
        let mut body = serde_json::Deserializer::from_slice(self.body);
        let value = seed.deserialize(&mut body)?;
        body.end()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EntryId;
    use crate::messages::tally::TallyMessage;
    use proptest::prelude::*;

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        let fields = fields.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec())).collect();
        Entry { id: EntryId { ms: 1, seq: 0 }, fields }
    }

    #[test]
    fn entries_are_read_from_type_and_body() {
        let good = entry(&[("type", b"number"), ("body", b"{\"n\":7}"), ("traceparent", b"x")]);
        assert_eq!(parse::<TallyMessage>(&good), Ok(TallyMessage::Number { n: 7 }));
        for (fields, fault) in [
            (vec![("body", b"{}".as_slice())], "no field `type`"),
            (vec![("type", b"number".as_slice()), ("body", b"{")], "no JSON"),
            (vec![("type", b"number".as_slice()), ("body", b"{\"n\":1} {}")], "no JSON"),
            (vec![("type", b"number\xff".as_slice()), ("body", b"{\"n\":1}")], "no text"),
            (vec![("type", b"number".as_slice())], "missing field `n`"),
            (vec![("type", b"nonsense".as_slice()), ("body", b"{}")], "unknown variant"),
            (vec![("type", b"number".as_slice()), ("body", b"{\"n\":-1}")], "invalid value"),
        ] {
            let error = parse::<TallyMessage>(&entry(&fields)).expect_err("malformed");
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn a_body_may_be_left_out_where_it_would_be_empty() {
        use crate::messages::gap::CollectorMessage;
        assert_eq!(parse::<CollectorMessage>(&entry(&[("type", b"poll")])), Ok(CollectorMessage::Poll {}));
    }

    proptest! {
        #[test]
        fn two_fields_read_as_one_json_object_would(
            kind in prop_oneof![Just("number"), Just("other")],
            body in prop_oneof![any::<u64>().prop_map(|n| format!("{{\"n\":{n},\"pad\":[{n},null]}}")), ".{0,12}"],
        ) {
            let whole = serde_json::from_str::<TallyMessage>(&format!("{{\"type\":\"{kind}\",\"body\":{body}}}"));
            // A body that closes the object and begins another field is one text only when it is joined.
            prop_assume!(serde_json::from_str::<serde_json::Value>(&body).is_ok() || whole.is_err());
            let parsed = parse::<TallyMessage>(&entry(&[("type", kind.as_bytes()), ("body", body.as_bytes())]));
            prop_assert_eq!(parsed.ok(), whole.ok());
        }


        #[test]
        fn hostile_entries_are_errors(kind in ".{0,20}", body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse::<TallyMessage>(&entry(&[("type", kind.as_bytes()), ("body", &body)]));
        }
    }
}
