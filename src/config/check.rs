//! From the merged tables to settings: every key of the node with its range, and what must fit together.

use config::{Map, Value, ValueKind};

use super::address;
use super::logs;
use super::pipelines;
use super::redis::redis;
use super::section::{Notes, Section};
use super::seed_view;
use super::settings::{LogFormat, LogSettings, MailboxSettings, NodeSettings, Settings, SupervisorSettings};
use crate::ids::is_host;

/// The tables of this version.
const TABLES: [&str; 10] =
    ["redis", "node", "log", "supervisor", "mailbox", "defaults", "blocks", "logs", "selftest", "sync"];
/// The kinds whose defaults can be set.
const KINDS: [&str; 4] = ["blocks", "logs", "selftest", "sync"];
/// Kinds of pipelines that this version does not have.
const LATER: [&str; 2] = ["firehose", "shards"];

/// Reads everything; what is wrong stands in `notes` afterwards.
pub(super) fn settings(mut merged: Map<String, Value>, notes: &mut Notes) -> Settings {
    unknown_tables("", &merged, &TABLES, notes);
    let mut defaults = table(merged.remove("defaults"), "defaults", notes);
    unknown_tables("defaults.", &defaults, &KINDS, notes);
    let blocks_defaults = table(defaults.remove("blocks"), pipelines::BLOCKS_DEFAULTS, notes);
    let logs_defaults = table(defaults.remove("logs"), logs::LOGS_DEFAULTS, notes);
    let selftest_defaults = table(defaults.remove("selftest"), pipelines::SELFTEST_DEFAULTS, notes);
    let sync_defaults = table(defaults.remove("sync"), pipelines::SYNC_DEFAULTS, notes);
    let settings = Settings {
        redis: section(&mut merged, "redis", notes, redis),
        node: section(&mut merged, "node", notes, node),
        log: section(&mut merged, "log", notes, log),
        supervisor: section(&mut merged, "supervisor", notes, supervisor),
        mailbox: section(&mut merged, "mailbox", notes, mailbox),
        blocks: pipelines::all_blocks(table(merged.remove("blocks"), "blocks", notes), blocks_defaults, notes),
        logs: logs::all_logs(table(merged.remove("logs"), "logs", notes), logs_defaults, notes),
        selftest: pipelines::all_selftests(
            table(merged.remove("selftest"), "selftest", notes),
            selftest_defaults,
            notes,
        ),
        sync: pipelines::all_syncs(table(merged.remove("sync"), "sync", notes), sync_defaults, notes),
    };
    seed_view::separate(&settings.blocks, &settings.redis.prefix, notes);
    if settings.redis.lease_timeout * 2 > settings.node.lease && notes.faults.is_empty() {
        let keys = ["redis.lease_timeout_ms", "node.lease_seconds"];
        let key = keys.into_iter().find(|key| !notes.places.of_value(key).is_default()).unwrap_or(keys[0]);
        notes.clash(
            key,
            "lease_timeout_ms must be at most half of lease_seconds, so that a slow renewal can be repeated",
        );
    }
    settings
}

/// The entries of a table; anything else in its place is a fault.
pub(super) fn table(value: Option<Value>, path: &str, notes: &mut Notes) -> Map<String, Value> {
    match value.map(|value| value.kind) {
        None => Map::new(),
        Some(ValueKind::Table(entries)) => entries,
        Some(_) => {
            notes.fault(path, "must be a table; write its keys below a line with its name in square brackets");
            // Its keys are not missing: they were never looked for.
            notes.incomplete = true;
            Map::new()
        }
    }
}

fn section<T>(
    merged: &mut Map<String, Value>,
    name: &str,
    notes: &mut Notes,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> T {
    let own = table(merged.remove(name), name, notes);
    let mut section = Section::new(name, own, None, notes);
    let settings = read(&mut section);
    section.finish();
    settings
}

fn unknown_tables(prefix: &str, tables: &Map<String, Value>, known: &[&str], notes: &mut Notes) {
    for name in tables.keys().filter(|name| !known.contains(&name.as_str())) {
        let path = format!("{prefix}{name}");
        if LATER.contains(&name.as_str()) {
            notes.fault(
                &path,
                "not in this version; it collects blocks and logs and copies streams, and selftest proves the runtime",
            );
        } else {
            notes.unknown(&path, "unknown table", known.iter().copied());
        }
    }
}

fn node(s: &mut Section<'_>) -> NodeSettings {
    NodeSettings {
        name: s.parsed("name", node_name).unwrap_or_default(),
        host: s.parsed("host", node_host).unwrap_or_default(),
        http: s.parsed("http", address::listen).unwrap_or_default(),
        lease: s.seconds("lease_seconds", 1..=300),
        drain: s.seconds("drain_seconds", 1..=3600),
        turn_grace: s.millis("turn_grace_ms", 0..=60_000),
        token: s.secret_file("token_file"),
        state_dir: s.folder("state_dir"),
        workers: s.size("workers", 1..=64, ""),
        rollback_horizon: s.seconds("rollback_horizon_seconds", 0..=604_800),
    }
}

fn node_name(text: &str) -> Result<String, String> {
    let name = if text.is_empty() { host_name() } else { text.to_owned() };
    match (is_host(&name), text.is_empty()) {
        (true, _) => Ok(name),
        (false, true) => {
            Err("the host name cannot be used as it is; set one of 1 to 64 of A-Z a-z 0-9 . _ -".to_owned())
        }
        (false, false) => Err("must be 1 to 64 of A-Z a-z 0-9 . _ -".to_owned()),
    }
}

/// What files that lie on this machine are filed under: what the system was installed with outlives a change of its name.
fn node_host(text: &str) -> Result<String, String> {
    if !text.is_empty() {
        let what = "must be 1 to 64 of A-Z a-z 0-9 . _ -";
        return is_host(text).then(|| text.to_owned()).ok_or_else(|| what.to_owned());
    }
    let id = std::fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default();
    let digest = |id: &str| blake3::hash(id.as_bytes()).to_hex()[..12].to_owned();
    match (id.is_empty(), host_name()) {
        (false, _) => Ok(digest(&id)),
        (true, name) if is_host(&name) => Ok(name),
        (true, _) => Err("neither /etc/machine-id nor the host name says which host this is; set one".to_owned()),
    }
}

/// The name of this machine as the kernel has it, else as the shell has it; may be empty.
fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    kernel.ok().filter(|name| !name.is_empty()).or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default()
}

fn log(s: &mut Section<'_>) -> LogSettings {
    LogSettings {
        level: s.parsed("level", log_level).unwrap_or_default(),
        format: s.word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]).unwrap_or(LogFormat::Text),
    }
}

/// `LEVEL` or `MODULE=LEVEL`, with commas. Checked here, since the filter itself takes a mistyped level for a module
/// and then logs nothing.
fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let good = |part: &str| {
        let (module, level) = part.rsplit_once('=').unwrap_or(("gapless", part));
        let named = !module.is_empty() && module.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
        named && LEVELS.contains(&level)
    };
    if text.split(',').all(good) {
        return Ok(text.to_owned());
    }
    Err(format!("must be {}, or such words for modules, as in \"info,gapless::store=debug\"", LEVELS.join(", ")))
}

fn supervisor(s: &mut Section<'_>) -> SupervisorSettings {
    let mut settings = SupervisorSettings {
        backoff_min: s.millis("backoff_min_ms", 1..=60_000),
        backoff_max: s.millis("backoff_max_ms", 1..=3_600_000),
        healthy: s.seconds("healthy_seconds", 1..=86_400),
        restarts_max: s.count("restarts_max", 1..=1000),
        group_restarts_max: s.count("group_restarts_max", 1..=100_000),
        restart_window: s.seconds("restart_window_seconds", 1..=86_400),
        failed_cooldown: s.seconds("failed_cooldown_seconds", 1..=86_400),
        failed_cooldown_max: s.seconds("failed_cooldown_max_seconds", 1..=604_800),
        starts_at_a_time: s.size("starts_at_a_time", 1..=1000, ""),
        failed_groups_exit: s.size("failed_groups_exit", 0..=1000, ""),
        unready_exit: Some(s.seconds("unready_exit_seconds", 0..=86_400)).filter(|time| !time.is_zero()),
        hang: s.seconds("hang_seconds", 1..=3600),
        blocked: s.seconds("blocked_seconds", 1..=3600),
        blocked_exit: s.seconds("blocked_exit_seconds", 1..=3600),
    };
    if settings.backoff_min > settings.backoff_max {
        s.pair(["backoff_min_ms", "backoff_max_ms"], "backoff_min_ms must not be above backoff_max_ms");
    }
    // Whoever raises the one bound means the other as well, which has a default of its own.
    settings.group_restarts_max = settings.group_restarts_max.max(settings.restarts_max);
    settings.failed_cooldown_max = settings.failed_cooldown_max.max(settings.failed_cooldown);
    if settings.blocked >= settings.blocked_exit {
        s.pair(
            ["blocked_seconds", "blocked_exit_seconds"],
            "blocked_seconds must be below blocked_exit_seconds: a thread is reported before it ends the node",
        );
    }
    settings
}

fn mailbox(s: &mut Section<'_>) -> MailboxSettings {
    let settings = MailboxSettings {
        capacity: s.number("capacity", 1..=10_000_000, ""),
        turn_entries_max: s.size("turn_entries_max", 1..=10_000, ""),
        turn_bytes_max: s.size("turn_bytes_max", 1024..=16_777_216, " of bytes"),
        entry_bytes_max: s.size("entry_bytes_max", 256..=16_777_216, " of bytes"),
        failed_attempts_max: s.count("failed_attempts_max", 1..=1000),
        unfinished_attempts_max: s.count("unfinished_attempts_max", 1..=1000),
        dead_letters_max: s.number("dead_letters_max", 1..=1_000_000, ""),
        dedupe_window: s.seconds("dedupe_window_seconds", 0..=604_800),
        dedupe_entries_max: s.number("dedupe_entries_max", 1..=10_000_000, ""),
        history_max: s.count("history_max", 1..=1000),
        history_interval: s.seconds("history_interval_seconds", 1..=86_400),
        state_bytes_max: s.size("state_bytes_max", 1024..=65_536, " of bytes"),
    };
    if settings.entry_bytes_max > settings.turn_bytes_max {
        s.pair(
            ["entry_bytes_max", "turn_bytes_max"],
            "entry_bytes_max must not be above turn_bytes_max: such an entry would fit into no turn",
        );
    }
    settings
}
