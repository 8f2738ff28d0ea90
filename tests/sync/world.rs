//! A Redis of gapless, a source, a target, and a configuration that copies from one to the other.

use std::collections::BTreeMap;

use crate::support::node::{Done, Node, Workspace, config, poll};
use crate::support::redis::RedisServer;

/// An entry: its id, and names and values in order, as they are.
pub type Entry = (String, Vec<Vec<u8>>);

pub struct World {
    pub redis: RedisServer,
    pub source: RedisServer,
    pub target: RedisServer,
    pub space: Workspace,
}

/// Keys that make tests quick; `more` follows them.
pub fn pipeline(name: &str, source: &str, target: &str, more: &str) -> String {
    let mut lines = vec![
        format!("source = \"{source}\""),
        format!("target = \"{target}\""),
        "patterns = [\"s*\"]".to_owned(),
        "discover_seconds = 1".to_owned(),
        "groups_ms = 200".to_owned(),
        "deletes_seconds = 1".to_owned(),
        "poll_ms = 100".to_owned(),
        "buckets = 2".to_owned(),
        "command_timeout_ms = 2000".to_owned(),
    ];
    for line in more.lines() {
        let key = line.split('=').next().expect("key = value").trim().to_owned();
        lines.retain(|old| old.split('=').next().expect("a key").trim() != key);
        lines.push(line.to_owned());
    }
    format!("[sync.{name}]\n{}\n", lines.join("\n"))
}

impl World {
    /// Two servers, and a pipeline `x` with `more` keys.
    pub fn new(more: &str) -> Self {
        Self::with(RedisServer::start(), RedisServer::start(), more)
    }

    pub fn with(source: RedisServer, target: RedisServer, more: &str) -> Self {
        let redis = RedisServer::start();
        let text = pipeline("x", &source.url(), &target.url(), more);
        let space = Workspace::new(&config(&redis.url(), &text));
        Self { redis, source, target, space }
    }

    pub fn node(&self) -> Node {
        self.space.started("a", &[])
    }

    /// Waits until the target's stream is, entry for entry, what `wanted` is.
    #[track_caller]
    pub fn wait_for(&self, key: &str, wanted: &[Entry]) {
        let what = format!("{} entries in {key}", wanted.len());
        poll(&what, || {
            (length(&self.target, 0, key) == wanted.len() && entries(&self.target, 0, key) == wanted).then_some(())
        });
    }

    /// Waits until both have the same entries under this key in database 0.
    #[track_caller]
    pub fn wait_equal(&self, key: &str) {
        self.wait_for(key, &entries(&self.source, 0, key));
    }

    /// What the pipeline remembers of its streams: by name, as JSON.
    pub fn notes(&self) -> BTreeMap<String, serde_json::Value> {
        let mut notes = BTreeMap::new();
        for bucket in 0..2 {
            let key = format!("t:{{sync.x}}:files:stream_sync_{bucket}");
            let rows: Vec<(String, String)> = query(&self.redis, 0, &["HGETALL", &key]);
            notes.extend(rows.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).expect("JSON"))));
        }
        notes
    }

    /// Waits until something is noted of a stream, and answers it.
    #[track_caller]
    pub fn wait_noted(&self, stream: &str, kind: &str) -> serde_json::Value {
        poll(&format!("a {kind} of {stream}"), || {
            let notes = self.notes();
            let all = notes.get(stream)?["notes"].as_array()?.clone();
            all.into_iter().find(|note| note["kind"] == kind)
        })
    }

    /// Waits until a stream is left alone, and answers why.
    #[track_caller]
    pub fn wait_stopped(&self, stream: &str) -> String {
        poll(&format!("{stream} to be left alone"), || {
            self.notes()
                .get(stream)
                .and_then(|notes| notes["stopped"].as_str().map(str::to_owned))
                .filter(|s| !s.is_empty())
        })
    }

    /// Waits until a round of the background has passed over the streams.
    #[track_caller]
    pub fn wait_noted_position(&self) {
        poll("a position written down", || {
            self.notes().values().any(|notes| !notes["position"].is_null()).then_some(())
        });
    }

    /// Who copies to a key of the target, and how its count is known, as the target says.
    pub fn target_mark(&self, key: &str) -> Option<String> {
        query(&self.target, 0, &["HGET", "gapless:replicas", key])
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.space.run(args)
    }
}

/// One command in a database of a server.
#[track_caller]
pub fn query<T: redis::FromRedisValue>(server: &RedisServer, db: u16, args: &[&str]) -> T {
    let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    raw(server, db, &bytes).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

pub fn raw<T: redis::FromRedisValue>(server: &RedisServer, db: u16, args: &[&[u8]]) -> redis::RedisResult<T> {
    let mut connection = server.connection();
    if db > 0 {
        redis::cmd("SELECT").arg(db).query::<()>(&mut connection)?;
    }
    let mut cmd = redis::Cmd::new();
    args.iter().for_each(|arg| {
        cmd.arg(arg);
    });
    cmd.query(&mut connection)
}

pub fn length(server: &RedisServer, db: u16, key: &str) -> usize {
    query(server, db, &["XLEN", key])
}

/// Every entry of a stream, raw: order, doubles and any bytes.
pub fn entries(server: &RedisServer, db: u16, key: &str) -> Vec<Entry> {
    query(server, db, &["XRANGE", key, "-", "+"])
}

/// Adds entries `from..=to` with the ids `n-0`.
pub fn add(server: &RedisServer, db: u16, key: &str, ids: std::ops::RangeInclusive<u64>) {
    let mut connection = server.connection();
    if db > 0 {
        redis::cmd("SELECT").arg(db).query::<()>(&mut connection).expect("a database");
    }
    let mut pipe = redis::pipe();
    for n in ids {
        pipe.cmd("XADD").arg(key).arg(format!("{n}-0")).arg("n").arg(n).arg("text").arg(format!("{key} {n}")).ignore();
    }
    pipe.query::<()>(&mut connection).expect("entries");
}

/// A field of `XINFO STREAM` as text.
pub fn info(server: &RedisServer, key: &str, field: &str) -> String {
    let value: redis::Value = query(server, 0, &["XINFO", "STREAM", key]);
    let redis::Value::Array(pairs) = value else { panic!("{value:?}") };
    let at = pairs.iter().position(|name| matches!(name, redis::Value::BulkString(b) if b == field.as_bytes()));
    redis::from_redis_value(pairs[at.expect("the field") + 1].clone()).expect("text")
}
