//! Addresses as people write them: of Redis, of a chain's nodes, of folders.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::Url;

use super::redis_url::RedisUrl;
use super::settings::{RedisAddress, SecretUrl};

/// `managed`, or the address of a Redis.
pub(super) fn redis(text: &str) -> Result<RedisAddress, String> {
    if text == "managed" {
        return Ok(RedisAddress::Managed);
    }
    RedisUrl::parse(text).map(RedisAddress::Server)
}

/// `http://...` or `https://...`.
pub(super) fn endpoint(text: &str) -> Result<SecretUrl, String> {
    const FORM: &str = "must be a URL that begins with http:// or https://";
    let url = Url::parse(text).map_err(|error| format!("{FORM} ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.port() == Some(0) || url.fragment().is_some() {
        return Err(FORM.to_owned());
    }
    Ok(SecretUrl::new(text))
}

/// `ws://...` or `wss://...`.
pub(super) fn hint(text: &str) -> Result<SecretUrl, String> {
    const FORM: &str = "must be a URL that begins with ws:// or wss://";
    let url = Url::parse(text).map_err(|error| format!("{FORM} ({error})"))?;
    if !matches!(url.scheme(), "ws" | "wss") || url.port() == Some(0) || url.fragment().is_some() {
        return Err(FORM.to_owned());
    }
    Ok(SecretUrl::new(text))
}

/// `IP:PORT`, or nothing.
pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let fault = || "must be IP:PORT, for example 127.0.0.1:7300, or \"\" for off".to_owned();
    text.parse().map(Some).map_err(|_| fault())
}

/// A folder on this machine, or one that every node mounts.
pub(super) fn store(text: &str) -> Result<PathBuf, String> {
    if text.starts_with("s3:") {
        return Err("object stores come later; name a folder".to_owned());
    }
    if text.contains("://") || text.contains('\0') {
        return Err("must be the path of a folder".to_owned());
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_redis_is_managed_or_has_an_address() {
        assert_eq!(redis("managed"), Ok(RedisAddress::Managed));
        assert!(matches!(redis("redis://127.0.0.1"), Ok(RedisAddress::Server(_))));
        assert!(redis("manged").expect_err("neither").contains("must be \"managed\""));
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in "\\PC{0,40}") {
            let _ = (redis(&text), endpoint(&text), hint(&text), listen(&text), store(&text));
            let _ = (redis(&format!("redis://{text}")), endpoint(&format!("http://{text}")));
        }
    }
}
