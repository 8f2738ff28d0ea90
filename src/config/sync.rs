//! `[sync.NAME]`: two Redis servers, which streams go from one to the other, and what happens when they differ.

use std::collections::BTreeSet;
use std::time::Duration;

use config::ValueKind;

use super::redis::{certificates, optional, pem_file, private_key, secret};
use super::redis_url::{RedisUrl, Route};
use super::section::Section;
use super::settings::{RedisTls, Secret};

/// Highest number of a database.
const DATABASE_MAX: u16 = 16_383;
/// Most patterns, and most streams by hand.
const NAMES_MAX: usize = 10_000;
/// Longest pattern, prefix, map or key, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// One end of a `sync` pipeline: a Redis that is not gapless's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisEnd {
    /// Where it is.
    pub url: RedisUrl,
    /// The ACL user; none = `default`.
    pub username: Option<String>,
    /// From the URL or one of the keys.
    pub password: Option<Secret>,
    /// What its Sentinels ask for.
    pub sentinel_username: Option<String>,
    /// What its Sentinels ask for.
    pub sentinel_password: Option<Secret>,
    /// How TLS is spoken, where the URL says so.
    pub tls: RedisTls,
    /// A replica is good enough.
    pub allow_replica: bool,
}

/// A stream that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedStream {
    /// Its database on the source.
    pub db: u16,
    /// Its key.
    pub key: String,
}

/// How a stream of the source is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// By position; nothing is written to the source.
    Tail,
    /// Through a consumer group of the source.
    Group,
}

/// What the deletion of entries on the source means to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// Nothing.
    Keep,
    /// The target's entry goes too, unless a group of the target has not done with it.
    Mirror,
    /// The target keeps its newest entries, so many, whatever the source does.
    Cap(u64),
}

/// Whether a stream goes on after something that cannot be made good, which is recorded in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTrouble {
    /// The stream is left alone until an operator has looked; others go on.
    Stop,
    /// It goes on behind it.
    GoOn,
}

/// One pipeline that copies streams.
#[derive(Debug, Clone)]
pub struct SyncSettings {
    /// Where entries come from.
    pub source: RedisEnd,
    /// Where they go.
    pub target: RedisEnd,
    /// The database of the target.
    pub target_db: u16,
    /// What `{prefix}` stands for.
    pub prefix: String,
    /// The key on the target, with `{prefix}`, `{db}` and `{key}`.
    pub map: String,
    /// Databases of the source in which streams are looked for, ascending.
    pub databases: Vec<u16>,
    /// Patterns of keys, as Redis matches them.
    pub patterns: Vec<String>,
    /// Streams by hand.
    pub streams: Vec<NamedStream>,
    /// Between two looks for streams; none = only those by hand.
    pub discover: Option<Duration>,
    /// Keyspace events of the source, where it sends some, bring a look forward.
    pub discover_hints: bool,
    /// Most streams.
    pub streams_max: u64,
    /// Streams that are replicas themselves are copied on.
    pub relay: bool,
    /// How streams are followed.
    pub mode: SyncMode,
    /// The consumer group of mode `group`.
    pub group: String,
    /// Our consumer in it.
    pub consumer: String,
    /// Make the group where it is missing.
    pub create_group: bool,
    /// A group on the source whose position shows how far the copy is; empty = none.
    pub publish_group: String,
    /// Units that share the streams out.
    pub buckets: u32,
    /// Most entries of one batch.
    pub batch_entries: usize,
    /// Most bytes of one batch, unless one entry alone has more.
    pub batch_bytes: usize,
    /// How long one read waits for entries.
    pub poll: Duration,
    /// Between two comparisons of consumer groups; none = they are not copied.
    pub groups: Option<Duration>,
    /// What deletions mean.
    pub deletes: Deletes,
    /// Between two looks for deletions.
    pub deletes_every: Duration,
    /// Most bytes of an entry.
    pub entry_bytes_max: usize,
    /// When one has more.
    pub oversize: OnTrouble,
    /// When the source has lost entries that were not copied.
    pub gap: OnTrouble,
    /// When an entry of the target is another one than the source's of the same id.
    pub conflict: OnTrouble,
    /// When the target has lost entries.
    pub target_loss: OnTrouble,
    /// Entries a second of the whole pipeline; 0 = no limit.
    pub rate_entries: u64,
    /// Bytes a second; 0 = no limit.
    pub rate_bytes: u64,
    /// Replicas of the target that must have a batch before its position counts.
    pub wait_replicas: u32,
    /// The target's disk must have it.
    pub wait_aof: bool,
    /// How long one wait for them may take.
    pub wait: Duration,
    /// Keep a chain of evidence beside each stream of the target, a link for each batch.
    pub evidence: bool,
    /// Links of a stream that are kept.
    pub evidence_links: u64,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    pub command_timeout: Duration,
}

impl SyncSettings {
    /// The key on the target.
    pub fn target_key(&self, db: u16, key: &[u8]) -> Vec<u8> {
        mapped(&self.map, &self.prefix, db, key)
    }
}

/// `{prefix}{db}{key}` filled in; keys are any bytes.
fn mapped(map: &str, prefix: &str, db: u16, key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(map.len() + prefix.len() + key.len());
    let mut rest = map;
    while let Some(at) = rest.find('{') {
        name.extend_from_slice(&rest.as_bytes()[..at]);
        let tail = &rest[at..];
        let (word, value): (&str, &[u8]) = match tail {
            _ if tail.starts_with("{prefix}") => ("{prefix}", prefix.as_bytes()),
            _ if tail.starts_with("{db}") => ("{db}", b""),
            _ if tail.starts_with("{key}") => ("{key}", key),
            _ => ("{", b"{"),
        };
        if word == "{db}" {
            name.extend_from_slice(db.to_string().as_bytes());
        }
        name.extend_from_slice(value);
        rest = &tail[word.len()..];
    }
    name.extend_from_slice(rest.as_bytes());
    name
}

/// The keys of one end.
struct EndKeys {
    url: &'static str,
    username: &'static str,
    password: [&'static str; 2],
    sentinel_username: &'static str,
    sentinel_password: [&'static str; 2],
    ca: &'static str,
    cert: &'static str,
    key: &'static str,
    insecure: &'static str,
}

const SOURCE: EndKeys = EndKeys {
    url: "source",
    username: "source_username",
    password: ["source_password", "source_password_file"],
    sentinel_username: "source_sentinel_username",
    sentinel_password: ["source_sentinel_password", "source_sentinel_password_file"],
    ca: "source_tls_ca_file",
    cert: "source_tls_cert_file",
    key: "source_tls_key_file",
    insecure: "source_tls_insecure",
};

const TARGET: EndKeys = EndKeys {
    url: "target",
    username: "target_username",
    password: ["target_password", "target_password_file"],
    sentinel_username: "target_sentinel_username",
    sentinel_password: ["target_sentinel_password", "target_sentinel_password_file"],
    ca: "target_tls_ca_file",
    cert: "target_tls_cert_file",
    key: "target_tls_key_file",
    insecure: "target_tls_insecure",
};

/// Reads the table; what is wrong stands in the notes of `s`.
pub(super) fn sync(s: &mut Section<'_>) -> SyncSettings {
    let source_replica = s.flag("source_replica");
    let source = end(s, &SOURCE, source_replica);
    let target = end(s, &TARGET, false);
    let stop = [("stop", OnTrouble::Stop), ("go_on", OnTrouble::GoOn)];
    let default_db = source.url.db;
    let settings = SyncSettings {
        target_db: u16::try_from(s.number("target_db", 0..=u64::from(DATABASE_MAX), "")).unwrap_or_default(),
        prefix: s.parsed("prefix", name).unwrap_or_default(),
        map: s.parsed("map", map).unwrap_or_else(|| "{prefix}{key}".to_owned()),
        databases: s.parsed("databases", databases).unwrap_or_default(),
        patterns: names(s, "patterns"),
        streams: names(s, "streams").iter().map(|text| named(text, default_db)).collect(),
        discover: Some(s.seconds("discover_seconds", 0..=86_400)).filter(|time| !time.is_zero()),
        discover_hints: s.flag("discover_hints"),
        streams_max: s.number("streams_max", 1..=1_000_000, ""),
        relay: s.flag("relay"),
        mode: s.word("mode", &[("tail", SyncMode::Tail), ("group", SyncMode::Group)]).unwrap_or(SyncMode::Tail),
        group: s.parsed("group", some_name).unwrap_or_default(),
        consumer: s.parsed("consumer", some_name).unwrap_or_default(),
        create_group: s.flag("create_group"),
        publish_group: s.parsed("publish_group", name).unwrap_or_default(),
        buckets: s.count("buckets", 1..=64),
        batch_entries: s.size("batch_entries", 1..=100_000, ""),
        batch_bytes: s.size("batch_kb", 1..=1_048_576, " of kibibytes").saturating_mul(1024),
        poll: s.millis("poll_ms", 10..=60_000),
        groups: Some(s.millis("groups_ms", 0..=86_400_000)).filter(|time| !time.is_zero()),
        deletes: deletes(s),
        deletes_every: s.seconds("deletes_seconds", 1..=86_400),
        entry_bytes_max: s.size("entry_kb_max", 1..=524_288, " of kibibytes").saturating_mul(1024),
        oversize: s.word("oversize", &stop).unwrap_or(OnTrouble::Stop),
        gap: s.word("gap", &stop).unwrap_or(OnTrouble::GoOn),
        conflict: s.word("conflict", &stop).unwrap_or(OnTrouble::Stop),
        target_loss: s.word("target_loss", &stop).unwrap_or(OnTrouble::GoOn),
        rate_entries: s.number("rate_entries", 0..=1_000_000_000, ""),
        rate_bytes: s.number("rate_kb", 0..=1_000_000_000, " of kibibytes").saturating_mul(1024),
        wait_replicas: s.count("wait_replicas", 0..=16),
        wait_aof: s.flag("wait_aof"),
        wait: s.millis("wait_ms", 10..=60_000),
        evidence: s.flag("evidence"),
        evidence_links: s.number("evidence_links", 100..=100_000_000, ""),
        connect_timeout: s.millis("connect_timeout_ms", 10..=60_000),
        command_timeout: s.millis("command_timeout_ms", 50..=600_000),
        source,
        target,
    };
    fits(s, &settings);
    settings
}

/// What must fit together.
fn fits(s: &mut Section<'_>, settings: &SyncSettings) {
    if settings.patterns.is_empty() && settings.streams.is_empty() {
        s.pair(["patterns", "streams"], "name a pattern or a stream: without either nothing is copied");
    }
    if settings.mode == SyncMode::Group && settings.source.allow_replica {
        s.conflict("source_replica", "mode = \"group\" writes to the source, and a replica takes no writes");
    }
    if settings.source.allow_replica && matches!(settings.source.url.route, Route::Cluster(_)) {
        s.conflict(
            "source_replica",
            "of a cluster the masters are read; leave it out, or name one replica with redis://",
        );
    }
    if !settings.publish_group.is_empty() && settings.source.allow_replica {
        s.conflict("publish_group", "a replica takes no groups; leave it empty, or read from the master");
    }
    if settings.mode == SyncMode::Group && settings.publish_group == settings.group {
        s.conflict(
            "publish_group",
            "this is the group that mode = \"group\" reads through; its position shows already",
        );
    }
    let same = settings.source.url.route == settings.target.url.route && settings.source.url.route != nowhere().route;
    let onto_itself = same
        && settings.databases.contains(&settings.target_db)
        && settings.target_key(settings.target_db, b"k") == b"k";
    if onto_itself {
        s.conflict(
            "map",
            "source and target are one server, and streams would be copied onto themselves; set a prefix",
        );
    }
}

fn deletes(s: &mut Section<'_>) -> Deletes {
    let cap = s.number("cap_entries", 1..=1_000_000_000_000, "");
    let words = [("keep", Deletes::Keep), ("mirror", Deletes::Mirror), ("cap", Deletes::Cap(cap))];
    s.word("deletes", &words).unwrap_or(Deletes::Keep)
}

/// Stands where no address was given, which is a fault already.
fn nowhere() -> RedisUrl {
    RedisUrl::parse("redis://nowhere.invalid").unwrap_or_else(|_| unreachable!("a constant"))
}

fn end(s: &mut Section<'_>, keys: &EndKeys, allow_replica: bool) -> RedisEnd {
    let url = s.parsed(keys.url, |text| match text {
        "" => Ok(None),
        text => RedisUrl::parse_any(text).map(Some).map_err(|what| {
            let what = what.replace("must be \"managed\", ", "must be ");
            what.replace("or redis+sentinel://", "redis+cluster://host[:port],... or redis+sentinel://")
        }),
    });
    // Where the address is wrong, nothing can be said of what belongs to it.
    let known = url.as_ref().is_some_and(Option::is_some);
    if url == Some(None) {
        s.missing(keys.url, "name the server, for example redis://127.0.0.1:6379");
    }
    let url = url.flatten().unwrap_or_else(nowhere);
    let (password, password_key) = secret(s, keys.password);
    let username = optional(s, keys.username);
    if known && password.is_some() && url.password.is_some() {
        s.conflict(password_key, "the address holds a password too; keep one of the two");
    }
    if known && username.is_some() && url.username.is_some() {
        s.conflict(keys.username, "the address holds a user too; keep one of the two");
    }
    let sentinel_username = optional(s, keys.sentinel_username);
    let (sentinel_password, sentinel_key) = secret(s, keys.sentinel_password);
    let has_sentinels = matches!(url.route, Route::Sentinel { .. });
    let given = [(sentinel_username.is_some(), keys.sentinel_username), (sentinel_password.is_some(), sentinel_key)];
    for (_, key) in given.into_iter().filter(|(given, _)| *given && known && !has_sentinels) {
        s.conflict(key, "the address names no Sentinels; leave it empty, or write redis+sentinel://");
    }
    let end = RedisEnd {
        username: username.or_else(|| url.username.clone()),
        password: password.or_else(|| url.password.clone()),
        sentinel_username,
        sentinel_password,
        tls: tls(s, keys, &url, known),
        allow_replica,
        url,
    };
    if known && end.username.is_some() && end.password.is_none() {
        s.conflict(keys.username, "a user without a password: set the password's file beside it");
    }
    end
}

fn tls(s: &mut Section<'_>, keys: &EndKeys, url: &RedisUrl, known: bool) -> RedisTls {
    let ca_file = pem_file(s, keys.ca, certificates);
    let certificate = pem_file(s, keys.cert, certificates);
    let key = pem_file(s, keys.key, private_key);
    let insecure = s.flag(keys.insecure);
    let given = [
        (ca_file.is_some(), keys.ca),
        (certificate.is_some(), keys.cert),
        (key.is_some(), keys.key),
        (insecure, keys.insecure),
    ];
    for (_, key) in given.into_iter().filter(|(given, _)| *given && known && !url.tls) {
        s.conflict(key, "the address speaks no TLS; write rediss:// (or rediss+sentinel://), or leave this out");
    }
    if url.insecure && !insecure {
        s.conflict(
            keys.url,
            "#insecure would trust any server: name its authority, or set the key ending in tls_insecure",
        );
    }
    if certificate.is_some() != key.is_some() {
        s.pair([keys.cert, keys.key], "certificate and key belong together; name both files or none");
    }
    RedisTls { ca_file, client: certificate.zip(key), insecure }
}

fn name(text: &str) -> Result<String, String> {
    let fits = text.len() <= NAME_BYTES_MAX && !text.contains('\0');
    let fault = || format!("must have at most {NAME_BYTES_MAX} bytes, and no NUL character");
    if fits { Ok(text.to_owned()) } else { Err(fault()) }
}

fn some_name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { name(text) }
}

fn map(text: &str) -> Result<String, String> {
    if !text.contains("{key}") {
        return Err(
            "must hold {key}, or all streams would go to one key; {prefix} and {db} may stand beside it".to_owned()
        );
    }
    name(text)
}

fn names(s: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let Some(items) = s.list(key) else { return Vec::new() };
    if items.len() > NAMES_MAX {
        s.conflict(key, &format!("must hold at most {NAMES_MAX}"));
    }
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for item in items.into_iter().take(NAMES_MAX) {
        let ValueKind::String(text) = &item.value else {
            s.refuse(&item.path, &item.value, "must be a text in double quotes");
            continue;
        };
        match some_name(text) {
            Err(what) => s.refuse(&item.path, &item.value, &what),
            Ok(text) if !seen.insert(text.clone()) => {
                s.refuse(&item.path, &item.value, "stands in the list twice; drop one");
            }
            Ok(text) => names.push(text),
        }
    }
    names
}

/// `dbN:key` or `key`. A key that itself begins with `dbN:` is written with its database before it.
fn named(text: &str, default_db: u16) -> NamedStream {
    let split = text.strip_prefix("db").and_then(|rest| rest.split_once(':'));
    let split = split.and_then(|(db, key)| Some((db.parse::<u16>().ok()?, key))).filter(|(_, key)| !key.is_empty());
    let (db, key) = split.unwrap_or((default_db, text));
    NamedStream { db, key: key.to_owned() }
}

/// `0-15`, `0,1,5`, `0,1,5-7`: in order, each once.
fn databases(text: &str) -> Result<Vec<u16>, String> {
    let fault = || format!("must be databases as in \"0-15\" or \"0,1,5-7\", each 0 to {DATABASE_MAX}");
    let one = |text: &str| text.trim().parse::<u16>().ok().filter(|db| *db <= DATABASE_MAX).ok_or_else(fault);
    let mut databases = BTreeSet::new();
    for part in text.split(',') {
        let (lo, hi) = match part.split_once('-') {
            Some((lo, hi)) => (one(lo)?, one(hi)?),
            None => (one(part)?, one(part)?),
        };
        if lo > hi {
            return Err(fault());
        }
        databases.extend(lo..=hi);
    }
    Ok(databases.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const ENDS: &str = "[sync.x]\nsource = \"redis://a:1/3\"\ntarget = \"redis://b:2\"\n";

    fn good(more: &str) -> SyncSettings {
        let settings =
            Settings::from_text("a.toml", &format!("{ENDS}{more}")).unwrap_or_else(|report| panic!("{report}"));
        settings.sync["x"].clone()
    }

    fn fault(more: &str) -> String {
        Settings::from_text("a.toml", &format!("{ENDS}{more}")).expect_err(more).to_string()
    }

    #[test]
    fn the_seeds_forms_are_read() {
        let x = good("databases = \"0,1,5-7,6\"\nstreams = [\"a\", \"db7:b\", \"db:c\", \"db9:db1:d\"]\n");
        assert_eq!(x.databases, [0, 1, 5, 6, 7]);
        let names: Vec<_> = x.streams.iter().map(|stream| (stream.db, stream.key.as_str())).collect();
        assert_eq!(names, [(3, "a"), (7, "b"), (3, "db:c"), (9, "db1:d")]);
        assert_eq!(good("").patterns, ["*-stream", "device:*:stream", "biosignal-*"]);
    }

    #[test]
    fn keys_are_mapped_whatever_bytes_they_hold() {
        let x = good("prefix = \"eu:\"\nmap = \"{prefix}{db}/{key}{x\"\n");
        assert_eq!(x.target_key(5, b"a\xff{db}"), b"eu:5/a\xff{db}{x");
        assert_eq!(good("").target_key(5, b"a"), b"a");
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_remedy() {
        for (more, words) in [
            ("map = \"{prefix}x\"", "must hold {key}"),
            ("databases = \"5-1\"", "must be databases as in"),
            ("databases = \"0,x\"", "must be databases as in"),
            ("patterns = []", "name a pattern or a stream"),
            ("patterns = [\"a\", \"a\"]", "stands in the list twice"),
            ("mode = \"group\"\nsource_replica = true", "a replica takes no writes"),
            ("publish_group = \"g\"\nsource_replica = true", "a replica takes no groups"),
            ("mode = \"group\"\npublish_group = \"gapless-sync\"", "its position shows already"),
            ("target_tls_insecure = true", "speaks no TLS"),
            ("source_sentinel_username = \"u\"", "names no Sentinels"),
            ("source_username = \"u\"", "a user without a password"),
            ("deletes = \"all\"", "must be \"keep\" or \"mirror\" or \"cap\""),
        ] {
            let report = fault(more);
            assert!(report.contains(words), "{more}: {report}");
        }
        let same = "[sync.x]\nsource = \"redis://a:1\"\ntarget = \"redis://a:1\"\n";
        let report = Settings::from_text("a.toml", same).expect_err("a loop").to_string();
        assert!(report.contains("copied onto themselves"), "{report}");
        let secret = "[sync.x]\nsource = \"redis://me:Geheim@a:0\"\ntarget = \"redis://:Geheim@b:x\"\n";
        let report = Settings::from_text("a.toml", secret).expect_err("bad ports").to_string();
        assert!(!report.contains("Geheim") && report.contains("sync.x.source"), "{report}");
    }
}
