//! `[redis]`: where Redis is, who we are there, and what a commit must have reached to count.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::address;
use super::redis_url::{RedisUrl, Route};
use super::section::Section;
use super::settings::{Durability, OnUnsafe, RedisAddress, RedisSettings, RedisTls, Secret};
use crate::ids::is_name;

const SAFETY: [(&str, OnUnsafe); 2] = [("refuse", OnUnsafe::Refuse), ("warn", OnUnsafe::Warn)];

/// Reads the table; what is wrong stands in the notes of `s`.
pub(super) fn redis(s: &mut Section<'_>) -> RedisSettings {
    // Where the address is wrong, nothing can be said of what belongs to it.
    let parsed = s.parsed("url", address::redis);
    let known = parsed.is_some();
    let url = parsed.unwrap_or(RedisAddress::Managed);
    let server = match &url {
        RedisAddress::Managed => None,
        RedisAddress::Server(server) => Some(server.clone()),
    };
    let server = server.as_ref();
    let username = user_name(s, server, known);
    let password = password(s, server, known);
    let (sentinel_username, sentinel_password) = sentinel_credentials(s, server, known);
    let settings = RedisSettings {
        data_dir: s.folder("data_dir"),
        prefix: s.parsed("prefix", prefix).unwrap_or_default(),
        managed_port: u16::try_from(s.number("managed_port", 0..=65_535, "")).unwrap_or_default(),
        username,
        password,
        sentinel_username,
        sentinel_password,
        tls: tls(s, server, known),
        connect_timeout: s.millis("connect_timeout_ms", 10..=60_000),
        command_timeout: s.millis("command_timeout_ms", 50..=60_000),
        lease_timeout: s.millis("lease_timeout_ms", 20..=60_000),
        reconnect_min: s.millis("reconnect_min_ms", 1..=60_000),
        reconnect_max: s.millis("reconnect_max_ms", 1..=600_000),
        eviction: s.word("eviction", &SAFETY).unwrap_or(OnUnsafe::Refuse),
        persistence: s.word("persistence", &SAFETY).unwrap_or(OnUnsafe::Refuse),
        durability: durability(s, &url, known),
        wait: s.millis("wait_ms", 10..=60_000),
        url,
    };
    if settings.reconnect_min > settings.reconnect_max {
        s.pair(["reconnect_min_ms", "reconnect_max_ms"], "reconnect_min_ms must not be above reconnect_max_ms");
    }
    if settings.username.is_some() && settings.password.is_none() && known {
        let key = if server.is_some_and(|url| url.username.is_some()) { "url" } else { "username" };
        s.conflict(key, "a user without a password: set redis.password_file (or redis.password)");
    }
    settings
}

fn prefix(text: &str) -> Result<String, String> {
    let fault = || "must be 1 to 64 of a-z, 0-9 and _".to_owned();
    if is_name(text) { Ok(text.to_owned()) } else { Err(fault()) }
}

fn without_nul(text: &str) -> Result<String, String> {
    if text.contains('\0') { Err("must not hold a NUL character".to_owned()) } else { Ok(text.to_owned()) }
}

/// The text of an optional key; none where it is empty.
pub(super) fn optional(s: &mut Section<'_>, key: &'static str) -> Option<String> {
    s.parsed(key, without_nul).filter(|text| !text.is_empty())
}

fn user_name(s: &mut Section<'_>, server: Option<&RedisUrl>, known: bool) -> Option<String> {
    let named = optional(s, "username");
    let in_url = server.and_then(|url| url.username.clone());
    if named.is_some() && in_url.is_some() {
        s.conflict("username", "redis.url holds a user too; keep one of the two");
    }
    if named.is_some() && server.is_none() && known {
        s.conflict("username", "a managed Redis has no users; leave it empty, or set redis.url");
    }
    named.or(in_url)
}

/// The password, from wherever it was given; twice is a fault, since one of the two would be ignored.
fn password(s: &mut Section<'_>, server: Option<&RedisUrl>, known: bool) -> Option<Secret> {
    let (password, key) = secret(s, ["password", "password_file"]);
    let in_url = server.and_then(|url| url.password.clone());
    if password.is_some() && server.is_none() && known {
        s.conflict(key, "a managed Redis has no password; leave it empty, or set redis.url");
    }
    if password.is_some() && in_url.is_some() {
        s.conflict(key, "redis.url holds a password too; keep one of the two");
    }
    password.or(in_url)
}

/// A secret that may stand in the configuration or in a file, and the key that it was given by.
pub(super) fn secret(s: &mut Section<'_>, [direct_key, file_key]: [&'static str; 2]) -> (Option<Secret>, &'static str) {
    let direct = optional(s, direct_key).map(|text| Secret::new(&text));
    let file = s.secret_file(file_key);
    let key = if direct.is_some() { direct_key } else { file_key };
    if direct.is_some() && file.is_some() {
        s.conflict(file_key, &format!("the password stands in {}.{direct_key} too; keep one of the two", s.table()));
    }
    (direct.or(file), key)
}

fn sentinel_credentials(
    s: &mut Section<'_>,
    server: Option<&RedisUrl>,
    known: bool,
) -> (Option<String>, Option<Secret>) {
    let username = optional(s, "sentinel_username");
    let (password, key) = secret(s, ["sentinel_password", "sentinel_password_file"]);
    let has_sentinels = server.is_some_and(|url| matches!(url.route, Route::Sentinel { .. }));
    let given = [(username.is_some(), "sentinel_username"), (password.is_some(), key)];
    for (_, key) in given.into_iter().filter(|(given, _)| *given && known && !has_sentinels) {
        s.conflict(key, "redis.url names no Sentinels; leave it empty, or write redis+sentinel://");
    }
    if username.is_some() && password.is_none() {
        s.conflict("sentinel_username", "a user without a password: set redis.sentinel_password_file");
    }
    (username, password)
}

fn tls(s: &mut Section<'_>, server: Option<&RedisUrl>, known: bool) -> RedisTls {
    let ca_file = pem_file(s, "tls_ca_file", certificates);
    let certificate = pem_file(s, "tls_cert_file", certificates);
    let key = pem_file(s, "tls_key_file", private_key);
    let insecure = s.flag("tls_insecure");
    let given = [
        (ca_file.is_some(), "tls_ca_file"),
        (certificate.is_some(), "tls_cert_file"),
        (key.is_some(), "tls_key_file"),
        (insecure, "tls_insecure"),
    ];
    let speaks_tls = server.is_some_and(|url| url.tls);
    for (_, key) in given.into_iter().filter(|(given, _)| *given && known && !speaks_tls) {
        s.conflict(key, "redis.url speaks no TLS; write rediss:// (or rediss+sentinel://), or leave this out");
    }
    if server.is_some_and(|url| url.insecure) && !insecure {
        let what = "#insecure would trust any server: name its authority in redis.tls_ca_file, or set \
                    redis.tls_insecure = true if that is what you want";
        s.conflict("url", what);
    }
    if certificate.is_some() != key.is_some() {
        s.pair(["tls_cert_file", "tls_key_file"], "tls_cert_file and tls_key_file belong together; name both or none");
    }
    RedisTls { ca_file, client: certificate.zip(key), insecure }
}

/// A file that must hold PEM; none where the key is empty.
pub(super) fn pem_file(
    s: &mut Section<'_>,
    key: &'static str,
    judge: fn(&Path) -> Result<(), String>,
) -> Option<PathBuf> {
    let path = s.path(key);
    if path.as_os_str().is_empty() {
        return None;
    }
    if let Err(what) = judge(&path) {
        s.conflict(key, &what);
    }
    Some(path)
}

pub(super) fn certificates(path: &Path) -> Result<(), String> {
    let fault = |error: String| format!("cannot be used ({error}); it must be a PEM file of certificates");
    let all = CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| fault(error.to_string()))?;
    if all.is_empty() { Err(fault("it holds none".to_owned())) } else { Ok(()) }
}

pub(super) fn private_key(path: &Path) -> Result<(), String> {
    let fault = |error| format!("cannot be used ({error}); it must be a PEM file with the private key");
    PrivateKeyDer::from_pem_file(path).map(drop).map_err(fault)
}

fn durability(s: &mut Section<'_>, url: &RedisAddress, known: bool) -> Durability {
    #[derive(Clone, Copy)]
    enum Word {
        Fast,
        Replicated,
        Fsync,
    }
    let words = [("fast", Word::Fast), ("replicated", Word::Replicated), ("fsync", Word::Fsync)];
    let replicas = s.count("wait_replicas", 1..=16);
    match s.word("durability", &words).unwrap_or(Word::Fast) {
        Word::Fast => Durability::Fast,
        Word::Replicated => {
            if *url == RedisAddress::Managed && known {
                s.conflict(
                    "durability",
                    "a managed Redis has no replicas; use \"fast\" or \"fsync\", or set redis.url",
                );
            }
            Durability::Replicated { replicas }
        }
        Word::Fsync => Durability::Fsync,
    }
}
