//! What an error of an EVM node means. Codes and texts differ from provider to provider, so both are looked at.
//!
//! Codes: EIP-1474 (-32005), EIP-4444 (4444), execution-apis (-39001), go-ethereum (-32003, -32600 on batches).

use serde::Deserialize;

use crate::sources::pool::text::short;

/// An `error` member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error {code}: {message}")]
pub(super) struct RpcError {
    /// As sent; 0 if there was none.
    pub code: i64,
    /// As sent, shortened.
    pub message: String,
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many requests: later.
    Limited,
    /// Too much in one request: ask for less.
    TooLarge,
    /// This height was thrown away.
    Pruned,
    /// This height is not known (yet).
    Unknown,
    /// Anything else; says nothing certain.
    Other,
}

/// Texts in lower case, and what they mean. The first that occurs counts, so the order matters:
/// "batch limit exceeded" is about the batch, "limit exceeded" about the rate.
const TEXTS: &[(&str, Refusal)] = &[
    ("batch", Refusal::TooLarge),
    ("too large", Refusal::TooLarge),
    ("response size", Refusal::TooLarge),
    ("body limit", Refusal::TooLarge),
    ("too big", Refusal::TooLarge),
    ("pruned", Refusal::Pruned),
    ("pruning", Refusal::Pruned),
    ("history is not available", Refusal::Pruned),
    ("historical data", Refusal::Pruned),
    ("historical block", Refusal::Pruned),
    ("history expir", Refusal::Pruned),
    ("old data not available", Refusal::Pruned),
    ("rate limit", Refusal::Limited),
    ("ratelimit", Refusal::Limited),
    ("too many requests", Refusal::Limited),
    ("limit exceeded", Refusal::Limited),
    ("limit reached", Refusal::Limited),
    ("exceeded its", Refusal::Limited),
    ("exceeded your", Refusal::Limited),
    ("count exceeded", Refusal::Limited),
    ("quota", Refusal::Limited),
    ("throttl", Refusal::Limited),
    ("per second", Refusal::Limited),
    ("unknown block", Refusal::Unknown),
    ("header not found", Refusal::Unknown),
    ("block not found", Refusal::Unknown),
    ("could not find block", Refusal::Unknown),
];

impl RpcError {
    /// Reads an `error` member; what has not the form of one becomes the message as it is.
    pub fn parse(raw: &str) -> Self {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            code: i64,
            #[serde(default)]
            message: String,
        }
        match serde_json::from_str::<Wire>(raw) {
            Ok(wire) => Self { code: wire.code, message: short(&wire.message) },
            Err(_) => Self { code: 0, message: short(raw) },
        }
    }

    /// What it means.
    pub fn refusal(&self) -> Refusal {
        let text = self.message.to_lowercase();
        let by_text = TEXTS.iter().find(|(part, _)| text.contains(part)).map(|(_, refusal)| *refusal);
        match (self.code, by_text) {
            (4444, _) => Refusal::Pruned,
            (-39001, _) => Refusal::Unknown,
            (-32003, None) => Refusal::TooLarge,
            (-32005 | 429, None) => Refusal::Limited,
            (_, Some(refusal)) => refusal,
            (_, None) => Refusal::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as providers send them.
    #[test]
    fn errors_of_real_providers_are_told_apart() {
        let cases = [
            (r#"{"code":-32005,"message":"limit exceeded"}"#, Refusal::Limited),
            (r#"{"code":-32005,"message":"daily request count exceeded, request rate limited"}"#, Refusal::Limited),
            (
                r#"{"code":429,"message":"Your app has exceeded its compute units per second capacity"}"#,
                Refusal::Limited,
            ),
            (r#"{"code":-32005}"#, Refusal::Limited),
            (r#""Too Many Requests""#, Refusal::Limited),
            (r#"{"code":-32600,"message":"batch too large"}"#, Refusal::TooLarge),
            (
                r#"{"code":-32000,"message":"batch limit 10 exceeded (can increase by --rpc.batch.limit)"}"#,
                Refusal::TooLarge,
            ),
            (r#"{"code":-32003,"message":"response too large"}"#, Refusal::TooLarge),
            (r#"{"code":4444,"message":"gone"}"#, Refusal::Pruned),
            (r#"{"code":4444,"message":"pruned history unavailable"}"#, Refusal::Pruned),
            (r#"{"code":-32000,"message":"historical data is not available, pruned"}"#, Refusal::Pruned),
            (r#"{"code":-39001,"message":"Unknown block"}"#, Refusal::Unknown),
            (r#"{"code":-32000,"message":"header not found"}"#, Refusal::Unknown),
            (r#"{"code":-32603,"message":"Internal error"}"#, Refusal::Other),
            (r#"{"code":1e99,"message":7}"#, Refusal::Other),
            ("[]", Refusal::Other),
        ];
        for (raw, refusal) in cases {
            assert_eq!(RpcError::parse(raw).refusal(), refusal, "{raw}");
        }
    }
}
