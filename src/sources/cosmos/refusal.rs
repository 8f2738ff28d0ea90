//! What an error of the gateway means. Codes are those of gRPC; many errors share one, so the text is looked at too.

use serde::Deserialize;

use crate::sources::pool::text::short;

/// An error of the gateway, `{"code", "message", "details"}`, or of the older server, `{"error"}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error {code}: {message}")]
pub(super) struct GatewayError {
    /// As sent; 0 if there was none.
    pub code: i64,
    /// As sent, shortened.
    pub message: String,
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The height is above the chain of this node.
    NotYet,
    /// This height was thrown away.
    Pruned,
    /// Too many requests: later.
    Limited,
    /// The path is not known: this is no such endpoint.
    Foreign,
    /// Anything else; says nothing certain.
    Other,
}

/// Texts in lower case, and what they mean; the first that occurs counts.
const TEXTS: &[(&str, Refusal)] = &[
    // The upstream spelling, and the right one.
    ("bigger then the chain length", Refusal::NotYet),
    ("bigger than the chain length", Refusal::NotYet),
    ("must be less than or equal to the current blockchain height", Refusal::NotYet),
    ("lowest height is", Refusal::Pruned),
    ("pruned", Refusal::Pruned),
    ("rate limit", Refusal::Limited),
    ("ratelimit", Refusal::Limited),
    ("too many requests", Refusal::Limited),
    ("limit exceeded", Refusal::Limited),
    ("quota", Refusal::Limited),
    ("throttl", Refusal::Limited),
    ("not implemented", Refusal::Foreign),
    ("unknown service", Refusal::Foreign),
];
/// gRPC: RESOURCE_EXHAUSTED.
const EXHAUSTED: i64 = 8;
/// gRPC: UNIMPLEMENTED.
const UNIMPLEMENTED: i64 = 12;

impl GatewayError {
    /// Reads an error; none where the bytes are something else.
    pub fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire {
            code: Option<i64>,
            message: Option<String>,
            error: Option<String>,
        }
        let wire: Wire = serde_json::from_slice(body).ok()?;
        let message = match (wire.code, wire.message, wire.error) {
            (Some(_), Some(message), _) => message,
            (_, _, Some(error)) => error,
            (_, _, None) => return None,
        };
        Some(Self { code: wire.code.unwrap_or(0), message: short(&message) })
    }

    /// What it means.
    pub fn refusal(&self) -> Refusal {
        let text = self.message.to_lowercase();
        match (TEXTS.iter().find(|(part, _)| text.contains(part)), self.code) {
            (Some((_, refusal)), _) => *refusal,
            (None, EXHAUSTED) => Refusal::Limited,
            (None, UNIMPLEMENTED) => Refusal::Foreign,
            (None, _) => Refusal::Other,
        }
    }
}

/// Whether bytes that came with an HTTP error are an error of the gateway.
pub(super) fn is_error(body: &[u8]) -> bool {
    GatewayError::parse(body).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_real_nodes_are_told_apart() {
        let cases = [
            (
                r#"{"code":3,"message":"requested block height is bigger then the chain length","details":[]}"#,
                Some(Refusal::NotYet),
            ),
            (r#"{"error":"requested block height is bigger then the chain length"}"#, Some(Refusal::NotYet)),
            (
                r#"{"error":"x","code":2,"message":"height 5 must be less than or equal to the current blockchain height 4"}"#,
                Some(Refusal::NotYet),
            ),
            (
                r#"{"code":2,"message":"height 5 is not available, lowest height is 900","details":[]}"#,
                Some(Refusal::Pruned),
            ),
            (r#"{"error":"height 5 is not available, lowest height is 900"}"#, Some(Refusal::Pruned)),
            (r#"{"code":8,"message":"x"}"#, Some(Refusal::Limited)),
            (r#"{"code":14,"message":"rate limit reached"}"#, Some(Refusal::Limited)),
            (r#"{"code":12,"message":"Not Implemented","details":[]}"#, Some(Refusal::Foreign)),
            (r#"{"code":14,"message":"connection refused"}"#, Some(Refusal::Other)),
            (r#"{"code":13,"message":"runtime error: nil pointer"}"#, Some(Refusal::Other)),
            (r#"{"code":3}"#, None),
            (r#"{"block_id":{},"block":null}"#, None),
            ("[]", None),
            ("<html>", None),
        ];
        for (body, refusal) in cases {
            assert_eq!(GatewayError::parse(body.as_bytes()).map(|e| e.refusal()), refusal, "{body}");
        }
    }
}
