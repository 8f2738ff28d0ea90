//! What `doctor` asks both ends of the pipelines that copy streams.

use std::time::Duration;

use super::Check;
use crate::actors::sync_scout::{judge, look};
use crate::cli::sync::rights::{lacking, needs};
use crate::cli::words::{bytes, count, plain};
use crate::config::{RedisEnd, Settings, SyncSettings};
use crate::supervisor::wiring;
use crate::wire::{Door, Line, Reply, Request, Server, WireError};

/// Longest wait for a connection of a check.
const PATIENCE: Duration = Duration::from_secs(3);
/// A key that no pattern of rights forgets, and that is not there.
const TRIAL: &str = "gapless:trial";

/// Which end is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }
}

/// Both ends of each pipeline: reachable, what they are, what their users may do, what their settings would lose; and
/// which streams would be copied.
pub(super) async fn check(settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, section) in &settings.sync {
        let mut section = section.clone();
        section.connect_timeout = section.connect_timeout.min(PATIENCE);
        let before = checks.len();
        for side in [Side::Source, Side::Target] {
            checks.extend(end(name, &section, side).await);
        }
        if checks[before..].iter().all(|check| check.verdict != super::Verdict::Bad) {
            checks.push(streams(name, &section, settings).await);
        }
    }
    checks
}

async fn end(name: &str, section: &SyncSettings, side: Side) -> Vec<Check> {
    let plan = wiring::sync_plan(name, section, 0);
    let (door, db) = match side {
        Side::Source => (plan.source(), 0),
        Side::Target => (plan.target(), section.target_db),
    };
    let title = format!("sync.{name} {}", side.as_str());
    let (mut line, server) = match door.open(db).await {
        Ok(opened) => opened,
        Err(error) => return vec![away(&title, name, side, &error)],
    };
    let mut checks = vec![what(&title, &door, &server, side)];
    match judge_end(&mut line, &title, section, side, &server).await {
        Ok(more) => checks.extend(more),
        Err(error) => checks.push(away(&title, name, side, &error)),
    }
    checks
}

/// It cannot be worked with.
fn away(title: &str, name: &str, side: Side, error: &WireError) -> Check {
    let (words, end) = (error.to_string(), side.as_str());
    let says = |what: &str| words.contains(what);
    let remedy = if says("_tls_") || says("speak no TLS") || says("the certificate is another host's") {
        "as it says; nodes try again with each connection, files are read anew".to_owned()
    } else if says("NOPERM") {
        format!("give the user what `gapless sync plan --pipeline {name}` prints")
    } else if matches!(error, WireError::Shut { .. }) {
        format!("correct sync.{name}.{end}_username, {end}_password or {end}_password_file")
    } else if says("DB index is out of range") {
        format!("correct sync.{name}.target_db, or raise `databases` in redis.conf there")
    } else if says("replica") {
        match side {
            Side::Source => format!("use the master, or set sync.{name}.source_replica = true (mode = \"tail\" only)"),
            Side::Target => "use the master: a replica takes no writes".to_owned(),
        }
    } else {
        format!("start it, or correct sync.{name}.{end}; nodes wait for it without end")
    };
    Check::bad(title, words, remedy)
}

fn what(title: &str, door: &Door, server: &Server, side: Side) -> Check {
    let role = if server.is_replica { ", a replica" } else { "" };
    let counts = match (server.counts(), side) {
        (true, _) => "",
        (false, Side::Source) => "; before 7.0: gaps are told without a count",
        (false, Side::Target) => "; before 7.0: counters of streams and groups do not go along",
    };
    Check::good(title, format!("{}: {}{role}{counts}", door.address(), server.shown))
}

async fn judge_end(
    line: &mut Line,
    title: &str,
    section: &SyncSettings,
    side: Side,
    server: &Server,
) -> Result<Vec<Check>, WireError> {
    let mut checks = vec![rights(line, title, section, side).await?];
    let facts = Facts::ask(line).await?;
    checks.extend(memory(title, &facts, side));
    if side == Side::Source {
        let reply = line.all(&Request::of(&[b"CONFIG", b"GET", b"notify-keyspace-events"])).await?;
        let setting = reply.first().and_then(|reply| reply.list().get(1)).map(Reply::text);
        checks.extend(events(title, section, setting.as_deref()));
    }
    if side == Side::Target {
        checks.push(kept(title, &facts));
        checks.extend(waits(title, section, server, &facts));
    }
    Ok(checks)
}

async fn rights(line: &mut Line, title: &str, section: &SyncSettings, side: Side) -> Result<Check, WireError> {
    let title = format!("{title} rights");
    let needs = needs(section);
    let (needs, end) = match side {
        Side::Source => (needs.source, &section.source),
        Side::Target => (needs.target, &section.target),
    };
    // Tried on a key like those that are copied, since rights may hold for some keys only.
    let key = match section.streams.first() {
        Some(named) => {
            let key = match side {
                Side::Source => named.key.clone().into_bytes(),
                Side::Target => section.target_key(named.db, named.key.as_bytes()),
            };
            format!("{}:gapless-trial", String::from_utf8_lossy(&key))
        }
        None => TRIAL.to_owned(),
    };
    let user = user(end);
    let lacks = lacking(line, &key, &needs).await?;
    if lacks.is_empty() {
        return Ok(Check::good(&title, format!("{user} may do all that is needed")));
    }
    let words = format!("{user} lacks {}", lacks.join(" "));
    Ok(Check::bad(&title, words, format!("ACL SETUSER {user} {} (all: gapless sync plan)", lacks.join(" "))))
}

fn user(end: &RedisEnd) -> &str {
    end.username.as_deref().unwrap_or("default")
}

/// Settings and state of a server, as far as its user may see them.
#[derive(Debug, Default)]
struct Facts {
    policy: String,
    used: u64,
    most: u64,
    appends: bool,
    replicas: u32,
}

impl Facts {
    async fn ask(line: &mut Line) -> Result<Self, WireError> {
        let mut text = String::new();
        for section in [b"memory".as_slice(), b"persistence", b"replication"] {
            text.push_str(&line.call(&[b"INFO", section]).await?.text());
        }
        Ok(Self::of(&text))
    }

    fn of(text: &str) -> Self {
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        Self {
            policy: field("maxmemory_policy").unwrap_or_default().to_owned(),
            used: number("used_memory"),
            most: number("maxmemory"),
            appends: number("aof_enabled") == 1,
            replicas: u32::try_from(number("connected_slaves")).unwrap_or(0),
        }
    }
}

/// Share of `maxmemory` above which appends may soon be refused, in percent.
const MEMORY_PERCENT: u64 = 80;

/// Evicted streams are lost entries; only a policy that evicts keys without a time to live can do so.
fn memory(title: &str, facts: &Facts, side: Side) -> Option<Check> {
    let title = format!("{title} memory");
    if facts.policy.starts_with("allkeys") {
        let words = format!("maxmemory-policy {}: whole streams may be evicted", facts.policy);
        let remedy = match side {
            Side::Source => {
                "CONFIG SET maxmemory-policy noeviction there: what is evicted before it is copied is a gap"
            }
            Side::Target => {
                "CONFIG SET maxmemory-policy noeviction there: a copy that is evicted is made again, or lost"
            }
        };
        return Some(Check::warn(&title, words, remedy));
    }
    if facts.most > 0 && facts.used.saturating_mul(100) / facts.most >= MEMORY_PERCENT && side == Side::Target {
        let words = format!("{} of {} used", bytes(facts.used), bytes(facts.most));
        return Some(Check::warn(
            &title,
            words,
            "raise maxmemory, or cap streams (deletes = \"cap\"): when it is full, copying waits",
        ));
    }
    let most = if facts.most == 0 { "no maxmemory".to_owned() } else { format!("of {}", bytes(facts.most)) };
    Some(Check::good(&title, format!("{} used, {most}, {}", bytes(facts.used), facts.policy)))
}

/// Whether events of the source bring a look for streams forward; nothing rests on them.
fn events(title: &str, section: &SyncSettings, setting: Option<&str>) -> Option<Check> {
    let every = section.discover.filter(|_| section.discover_hints)?;
    let title = format!("{title} events");
    let looks = format!("new streams are found every {} s", every.as_secs());
    let Some(setting) = setting else {
        return Some(Check::good(&title, format!("{looks}; the user may not ask for notify-keyspace-events")));
    };
    let has = |letters: &str| setting.chars().any(|letter| letters.contains(letter));
    Some(match has("KE") && has("tnA") {
        true => Check::good(&title, "keyspace events are sent: new streams are found at once"),
        false => Check::good(&title, format!("{looks}; at once with notify-keyspace-events Kt there")),
    })
}

fn kept(title: &str, facts: &Facts) -> Check {
    let title = format!("{title} persistence");
    if facts.appends {
        return Check::good(&title, "appendonly yes");
    }
    let remedy = "CONFIG SET appendonly yes there, and the same in redis.conf";
    let words = "appendonly no: a restart forgets what came after its last snapshot; it is copied again only as far as \
                 the source still has it";
    Check::warn(&title, words, remedy)
}

/// What `wait_replicas` and `wait_aof` ask for, against what the target has.
fn waits(title: &str, section: &SyncSettings, server: &Server, facts: &Facts) -> Option<Check> {
    let title = format!("{title} waits");
    if section.wait_aof && server.version < (7, 2) {
        let words = format!("wait_aof needs Redis 7.2; it is {}", server.shown);
        return Some(Check::bad(&title, words, "set wait_aof = false, or upgrade the target"));
    }
    if section.wait_aof && !facts.appends {
        return Some(Check::bad(&title, "wait_aof without an append-only file", "CONFIG SET appendonly yes there"));
    }
    if section.wait_replicas == 0 {
        return None;
    }
    let words = format!("wait_replicas = {}, {} connected", section.wait_replicas, facts.replicas);
    Some(match facts.replicas >= section.wait_replicas {
        true => Check::good(&title, words),
        false => Check::warn(&title, words, "bring the replicas back, or lower wait_replicas: acknowledgements wait"),
    })
}

/// Which streams would be copied now.
async fn streams(name: &str, section: &SyncSettings, settings: &Settings) -> Check {
    let title = format!("sync.{name} streams");
    let sight = match look(&wiring::scout_plan(name, section, settings)).await {
        Ok(sight) => sight,
        Err(error) => return Check::bad(&title, error.to_string(), format!("gapless sync plan --pipeline {name}")),
    };
    let judged = judge(section, &settings.redis.prefix, &sight, &crate::store::table::Table::new());
    let refused: Vec<_> = judged
        .changes
        .iter()
        .filter_map(|(name, row)| Some((name, row.as_ref()?)).filter(|(_, row)| !row.refused.is_empty()))
        .collect();
    let found = count(judged.changes.len() - refused.len(), "stream", "streams");
    if let Some((first, row)) = refused.first() {
        let words = format!("{found}, {} refused: {}: {}", refused.len(), plain(first), plain(&row.refused));
        return Check::warn(&title, words, format!("gapless sync plan --pipeline {name} lists them"));
    }
    if sight.is_cut {
        return Check::warn(
            &title,
            format!("more than {}", section.streams_max),
            "raise streams_max, or narrow patterns",
        );
    }
    if let Some((db, reason)) = sight.faults.iter().next() {
        let words = format!(
            "{found}; {} cannot be looked at: database {db}: {}",
            count(sight.faults.len(), "database", "databases"),
            plain(reason)
        );
        return Check::warn(&title, words, format!("narrow sync.{name}.databases"));
    }
    if judged.changes.is_empty() {
        let words = format!("none matches {}", section.patterns.join(", "));
        return Check::warn(&title, words, "correct patterns or streams; or they come later, and are found then");
    }
    Check::good(&title, found)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn section(keys: &str) -> SyncSettings {
        let text = format!("[sync.x]\nsource = \"redis://h:1\"\ntarget = \"redis://h:2\"\n{keys}\n");
        Settings::from_text("a.toml", &text).expect("a configuration").sync["x"].clone()
    }

    fn facts(more: &str) -> Facts {
        Facts::of(&format!("used_memory:100\r\nmaxmemory_policy:noeviction\r\n{more}"))
    }

    #[test]
    fn settings_that_lose_streams_are_warned_about() {
        let judge = |more: &str, side| memory("t", &facts(more), side).map(|check| (check.verdict, check.words));
        let good = Some((Verdict::Good, "100 B used, no maxmemory, noeviction".to_owned()));
        assert_eq!(judge("maxmemory:0", Side::Target), good);
        let evicts = Facts { policy: "allkeys-lru".to_owned(), ..Facts::default() };
        assert_eq!(memory("t", &evicts, Side::Source).map(|check| check.verdict), Some(Verdict::Warn));
        assert_eq!(judge("maxmemory:110", Side::Target).map(|found| found.0), Some(Verdict::Warn));
        assert_eq!(judge("maxmemory:110", Side::Source).map(|found| found.0), Some(Verdict::Good));
        assert_eq!(kept("t", &facts("aof_enabled:0")).verdict, Verdict::Warn);
        assert_eq!(kept("t", &facts("aof_enabled:1")).verdict, Verdict::Good);
    }

    #[test]
    fn events_are_a_hint_and_never_a_fault() {
        let judge =
            |keys: &str, setting| events("t", &section(keys), setting).map(|check| (check.verdict, check.words));
        let found = |words: &str| Some((Verdict::Good, words.to_owned()));
        let looks = "new streams are found every 10 s";
        assert_eq!(judge("", Some("Kt")), found("keyspace events are sent: new streams are found at once"));
        assert_eq!(judge("", Some("AE")), judge("", Some("Kt")));
        let without = found(&format!("{looks}; at once with notify-keyspace-events Kt there"));
        assert_eq!((judge("", Some("")), judge("", Some("Kx"))), (without.clone(), without));
        assert_eq!(judge("", None), found(&format!("{looks}; the user may not ask for notify-keyspace-events")));
        assert_eq!(judge("discover_hints = false", Some("Kt")), None);
        assert_eq!(judge("discover_seconds = 0\nstreams = [\"s\"]", Some("Kt")), None);
    }

    #[test]
    fn what_is_waited_for_must_be_there() {
        let judge = |keys: &str, version, more: &str| {
            let server = Server { version, ..Server::default() };
            waits("t", &section(keys), &server, &facts(more)).map(|check| check.verdict)
        };
        assert_eq!(judge("", (7, 0), ""), None);
        assert_eq!(judge("wait_aof = true", (7, 0), "aof_enabled:1"), Some(Verdict::Bad));
        assert_eq!(judge("wait_aof = true", (7, 2), "aof_enabled:0"), Some(Verdict::Bad));
        assert_eq!(judge("wait_aof = true", (7, 2), "aof_enabled:1"), None);
        assert_eq!(judge("wait_replicas = 2", (7, 0), "connected_slaves:1"), Some(Verdict::Warn));
        assert_eq!(judge("wait_replicas = 2", (7, 0), "connected_slaves:2"), Some(Verdict::Good));
    }

    #[test]
    fn each_way_of_being_away_has_its_remedy() {
        let remedy = |reason: &str, side| {
            let error = WireError::Away { address: "redis://h:1".to_owned(), reason: reason.to_owned() };
            away("t", "x", side, &error).remedy
        };
        assert!(remedy("connection refused", Side::Source).contains("correct sync.x.source;"));
        let shut = WireError::Shut { address: "redis://h:1".to_owned(), reason: "WRONGPASS invalid".to_owned() };
        assert!(away("t", "x", Side::Target, &shut).remedy.contains("target_password_file"));
        assert!(remedy("the server is a replica, not a master", Side::Source).contains("source_replica"));
        assert!(remedy("the server is a replica, not a master", Side::Target).contains("takes no writes"));
        assert!(remedy("NOPERM this user", Side::Source).contains("sync plan --pipeline x"));
    }
}
