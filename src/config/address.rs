//! Addresses as people write them: of Redis, of a chain's nodes, of folders.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::Url;

use super::settings::{RedisAddress, SecretUrl};

/// Parts of other ways to reach Redis, and what they are called.
const REDIS_LATER: [(&str, &str); 6] = [
    ("rediss:", "TLS to Redis"),
    ("redis+sentinel:", "Redis Sentinel"),
    ("sentinel:", "Redis Sentinel"),
    ("redis+cluster:", "Redis Cluster"),
    ("unix:", "a Unix socket"),
    ("redis+unix:", "a Unix socket"),
];

/// `managed` or `redis://[user[:password]@]host[:port][/db]`.
pub(super) fn redis(text: &str) -> Result<RedisAddress, String> {
    const FORM: &str = "must be \"managed\" or redis://[user[:password]@]host[:port][/db]";
    if text == "managed" {
        return Ok(RedisAddress::Managed);
    }
    let lower = text.to_ascii_lowercase();
    if let Some((_, what)) = REDIS_LATER.iter().find(|(scheme, _)| lower.starts_with(scheme)) {
        return Err(format!("{what} comes later; use redis://"));
    }
    let url = Url::parse(text).map_err(|error| format!("{FORM} ({error})"))?;
    if url.scheme() != "redis" || url.host_str().is_none_or(str::is_empty) {
        return Err(FORM.to_owned());
    }
    if url.host_str().is_some_and(|host| host.contains(',')) || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{FORM}: one host, no parameters"));
    }
    let db = url.path().trim_start_matches('/');
    if url.port() == Some(0) || !(db.is_empty() || db.parse::<u16>().is_ok()) {
        return Err(format!("{FORM}: a port from 1 to 65535, a database as a number"));
    }
    Ok(RedisAddress::Server(SecretUrl::new(text)))
}

/// Whether a checked address carries a password of its own.
pub(super) fn has_password(address: &RedisAddress) -> bool {
    match address {
        RedisAddress::Managed => false,
        RedisAddress::Server(url) => Url::parse(url.reveal()).is_ok_and(|url| url.password().is_some()),
    }
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
    fn addresses_of_redis() {
        assert_eq!(redis("managed"), Ok(RedisAddress::Managed));
        for good in ["redis://127.0.0.1", "redis://[::1]:6379/3", "redis://me:pass@cache.example:6380", "redis://:p@h"]
        {
            assert_eq!(redis(good), Ok(RedisAddress::Server(SecretUrl::new(good))));
        }
        for (bad, part) in [
            ("rediss://h", "TLS to Redis comes later"),
            ("REDISS://h", "TLS to Redis comes later"),
            ("redis+sentinel://h/mymaster", "Redis Sentinel comes later"),
            ("redis+cluster://h", "Redis Cluster comes later"),
            ("unix:///run/redis.sock", "a Unix socket comes later"),
            ("redis+unix:///run/redis.sock", "a Unix socket comes later"),
            ("http://h", "must be \"managed\""),
            ("h:6379", "must be \"managed\""),
            ("redis://", "must be \"managed\""),
            ("redis://h:99999", "invalid port number"),
            ("redis://h:0", "a port from 1"),
            ("redis://h/zero", "a database as a number"),
            ("redis://h?protocol=3", "no parameters"),
            ("redis://a,b", "one host"),
        ] {
            let what = redis(bad).expect_err(bad);
            assert!(what.contains(part), "{bad}: {what}");
        }
        assert!(has_password(&redis("redis://:p@h").expect("an address")));
        assert!(!has_password(&redis("redis://me@h").expect("an address")));
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in "\\PC{0,40}") {
            let _ = (redis(&text), endpoint(&text), hint(&text), listen(&text), store(&text));
            let _ = (redis(&format!("redis://{text}")), endpoint(&format!("http://{text}")));
        }
    }
}
