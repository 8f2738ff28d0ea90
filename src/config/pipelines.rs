//! The tables of the pipelines: every key with its range, and what two pipelines must not share.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use config::{Map, Value, ValueKind};

use super::address;
use super::check::table;
use super::section::{Found, Notes, Section, whole};
use super::seed_view::seed_view;
use super::settings::{BlocksSettings, ChainDialect, FinalityRule, GapOrder, SecretUrl, SelftestSettings, Start};
use super::sync::{SyncSettings, sync};
use crate::ids::is_name;
use crate::messages::heights::{HEIGHT_MAX, Height};

/// Where the defaults of `blocks` stand.
pub(super) const BLOCKS_DEFAULTS: &str = "defaults.blocks";
/// Where the defaults of `selftest` stand.
pub(super) const SELFTEST_DEFAULTS: &str = "defaults.selftest";
/// Where the defaults of `sync` stand.
pub(super) const SYNC_DEFAULTS: &str = "defaults.sync";
/// Most endpoints, and most hints, of one chain.
const URLS_MAX: usize = 64;
/// The words of `order`.
const ORDERS: [(&str, GapOrder); 2] = [("oldest", GapOrder::Oldest), ("newest", GapOrder::Newest)];
/// Dialects of the design that this version does not speak.
const DIALECTS_LATER: [&str; 2] = ["cometbft", "esplora"];
/// What says that a block is final, as it is written.
const FINALITY_RULES: [(&str, FinalityRule); 3] =
    [("count", FinalityRule::Count), ("safe", FinalityRule::Safe), ("finalized", FinalityRule::Finalized)];
/// Most characters of a Cosmos chain's name (CometBFT's own limit).
const CHAIN_NAME_MAX: usize = 50;

/// Every `[blocks.NAME]`.
pub(super) fn all_blocks(
    tables: Map<String, Value>,
    defaults: Map<String, Value>,
    notes: &mut Notes,
) -> BTreeMap<String, BlocksSettings> {
    let pipelines = all("blocks", BLOCKS_DEFAULTS, tables, defaults, notes, blocks);
    separate_folders(&pipelines, notes);
    pipelines
}

/// Every `[selftest.NAME]`.
pub(super) fn all_selftests(
    tables: Map<String, Value>,
    defaults: Map<String, Value>,
    notes: &mut Notes,
) -> BTreeMap<String, SelftestSettings> {
    all("selftest", SELFTEST_DEFAULTS, tables, defaults, notes, selftest)
}

/// Every `[sync.NAME]`.
pub(super) fn all_syncs(
    tables: Map<String, Value>,
    defaults: Map<String, Value>,
    notes: &mut Notes,
) -> BTreeMap<String, SyncSettings> {
    all("sync", SYNC_DEFAULTS, tables, defaults, notes, sync)
}

pub(super) fn all<T>(
    kind: &str,
    defaults_path: &'static str,
    tables: Map<String, Value>,
    defaults: Map<String, Value>,
    notes: &mut Notes,
    read: fn(&mut Section<'_>) -> T,
) -> BTreeMap<String, T> {
    // The defaults are read like a pipeline, so that a fault in them shows before the first pipeline exists.
    let mut section = Section::new(defaults_path, defaults.clone(), None, notes);
    read(&mut section);
    section.finish();
    let mut pipelines = BTreeMap::new();
    for (name, value) in tables {
        let path = format!("{kind}.{name}");
        if !is_name(&name) {
            notes.fault(&path, "a pipeline is named with 1 to 64 of a-z, 0-9 and _; rename it");
        }
        if !matches!(value.kind, ValueKind::Table(_)) {
            notes.fault(
                &path,
                &format!("must be a table; name the pipeline, for example [{kind}.main], and set it there"),
            );
            continue;
        }
        let own = table(Some(value), &path, notes);
        let mut section = Section::new(&path, own, Some((defaults_path, defaults.clone())), notes);
        let settings = read(&mut section);
        section.finish();
        pipelines.insert(name, settings);
    }
    pipelines
}

fn blocks(s: &mut Section<'_>) -> BlocksSettings {
    // A dialect that is not known makes nothing else wrong.
    let chain = s.parsed("chain", dialect);
    let settings = BlocksSettings {
        chain: chain.unwrap_or(ChainDialect::Evm),
        endpoints: endpoints(s),
        hints: urls(s, "hints", address::hint),
        hint_silence: s.seconds("hint_silence_seconds", 5..=3600),
        start: start(s),
        end: optional_height(s, "end"),
        store: store(s),
        zstd_level: zstd_level(s),
        bare_names: Some(s.path("bare_names")).filter(|path| !path.as_os_str().is_empty()),
        bare_suffix: s.word("bare_suffix", &[("", ""), (".json", ".json")]).unwrap_or_default(),
        confirmations: s.number("confirmations", 1..=512, ""),
        poll: s.millis("poll_ms", 10..=3_600_000),
        finality: finality(s, chain),
        chain_id: chain_id(s, chain),
        request_timeout: s.seconds("request_timeout_seconds", 1..=600),
        batch_heights: s.nonzero("batch_heights", 1000),
        response_bytes_max: s.size("response_mb_max", 1..=1024, " of mebibytes").saturating_mul(1 << 20),
        quarantine: s.seconds("quarantine_seconds", 1..=86_400),
        head_jump_max: s.number("head_jump_max", 1..=HEIGHT_MAX, ""),
        task_heights: s.nonzero("task_heights", 10_000),
        slots: s.count("slots", 1..=64),
        task_capacity: s.number("task_capacity", 1..=1_000_000, ""),
        request_age: s.seconds("request_age_seconds", 1..=86_400),
        attempts_max: s.count("attempts_max", 1..=1000),
        order: s.word("order", &ORDERS).unwrap_or_default(),
        parked_retry: some(s.seconds("parked_retry_seconds", 0..=31_536_000)),
        reconcile: some(s.seconds("reconcile_seconds", 0..=31_536_000)),
        seed_view: seed_view(s),
    };
    if !settings.hints.is_empty() && settings.chain != ChainDialect::Evm {
        s.conflict("hints", "only chain = \"evm\" has nodes that push new heads; drop the key, poll_ms decides");
    }
    if let (Start::Height(start), Some(end)) = (settings.start, settings.end)
        && end < start
    {
        s.pair(["end", "start"], &format!("end must not be below start, {end} is below {start}"));
    }
    if (chain, settings.start) == (Some(ChainDialect::CosmosRest), Start::Height(0)) {
        s.conflict("start", "the first block of a Cosmos chain is 1; write start = 1, or \"latest\"");
    }
    settings
}

/// A pause of nothing stands for none.
fn some(pause: Duration) -> Option<Duration> {
    Some(pause).filter(|pause| !pause.is_zero())
}

fn store(s: &mut Section<'_>) -> PathBuf {
    let store = s.parsed("store", address::store);
    if store.as_ref().is_some_and(|store| store.as_os_str().is_empty()) {
        s.missing("store", "name a folder of its own, for example store = \"data/blocks/mainnet\"");
    }
    store.unwrap_or_default()
}

fn zstd_level(s: &mut Section<'_>) -> Option<i32> {
    let packs = s.word("compression", &[("none", false), ("zstd", true)]).unwrap_or(false);
    // Read in any case: a level that no run could use is a fault today.
    let level = i32::try_from(s.count("compression_level", 1..=19)).ok();
    level.filter(|_| packs)
}

fn dialect(text: &str) -> Result<ChainDialect, String> {
    match text {
        "evm" => Ok(ChainDialect::Evm),
        "cosmos-rest" => Ok(ChainDialect::CosmosRest),
        later if DIALECTS_LATER.contains(&later) => {
            Err("comes later; this version speaks \"evm\" and \"cosmos-rest\"".to_owned())
        }
        _ => Err("must be \"evm\" or \"cosmos-rest\"".to_owned()),
    }
}

fn endpoints(s: &mut Section<'_>) -> Vec<SecretUrl> {
    let faults = s.faults();
    let urls = urls(s, "endpoints", address::endpoint);
    if urls.is_empty() && s.faults() == faults {
        s.missing("endpoints", "name at least one, for example endpoints = [\"http://127.0.0.1:8545\"]");
    }
    urls
}

/// A list of addresses, each of them once.
fn urls(s: &mut Section<'_>, key: &'static str, parse: fn(&str) -> Result<SecretUrl, String>) -> Vec<SecretUrl> {
    let Some(items) = s.list(key) else {
        return Vec::new();
    };
    if items.len() > URLS_MAX {
        s.conflict(key, &format!("must hold at most {URLS_MAX}"));
    }
    let mut urls: Vec<SecretUrl> = Vec::new();
    for item in items.into_iter().take(URLS_MAX) {
        let parsed = match &item.value {
            ValueKind::String(text) => parse(text),
            _ => Err("must be a URL in double quotes".to_owned()),
        };
        match parsed {
            Ok(url) if urls.contains(&url) => s.refuse(&item.path, &item.value, "stands in the list twice; drop one"),
            Ok(url) => urls.push(url),
            Err(what) => s.refuse(&item.path, &item.value, &what),
        }
    }
    urls
}

fn start(s: &mut Section<'_>) -> Start {
    let Some(found) = s.find("start") else {
        return Start::Latest;
    };
    match (text_of(&found), height(&found)) {
        (Some("latest"), _) => Start::Latest,
        (Some(""), _) => {
            s.missing(
                "start",
                "choose start = 0 for the whole chain, a height, or \"latest\" for what comes from now on",
            );
            Start::Latest
        }
        (_, Some(height)) => Start::Height(height),
        (_, None) => {
            s.refuse(&found.path, &found.value, &format!("must be a height, 0 to {HEIGHT_MAX}, or \"latest\""));
            Start::Latest
        }
    }
}

fn optional_height(s: &mut Section<'_>, key: &'static str) -> Option<Height> {
    let found = s.find(key).filter(|found| text_of(found) != Some(""))?;
    let height = height(&found);
    if height.is_none() {
        s.refuse(&found.path, &found.value, &format!("must be a height, 0 to {HEIGHT_MAX}, or \"\" for none"));
    }
    height
}

fn height(found: &Found) -> Option<Height> {
    whole(found).filter(|height| *height <= HEIGHT_MAX)
}

fn text_of(found: &Found) -> Option<&str> {
    match &found.value {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

fn finality(s: &mut Section<'_>, chain: Option<ChainDialect>) -> FinalityRule {
    let rule = s.word("finality", &FINALITY_RULES).unwrap_or(FinalityRule::Count);
    match (chain, rule) {
        (Some(ChainDialect::CosmosRest), FinalityRule::Safe | FinalityRule::Finalized) => {
            s.conflict(
                "finality",
                "only EVM nodes know this tag; leave it out, a block of a Cosmos chain is final at once",
            );
            FinalityRule::Count
        }
        (Some(ChainDialect::CosmosRest | ChainDialect::Evm) | None, rule) => rule,
    }
}

/// The chain's id in the form in which its nodes are compared with it.
fn chain_id(s: &mut Section<'_>, chain: Option<ChainDialect>) -> Option<String> {
    let found = s.find("chain_id").filter(|found| text_of(found) != Some(""))?;
    let (id, form) = match chain? {
        ChainDialect::Evm => (number_of(&found), "must be the number of the chain, 1 or \"0x1\", or \"\" for any"),
        ChainDialect::CosmosRest => {
            (name_of(&found), "must be the name of the chain in double quotes, as in \"migaloo-1\", or \"\" for any")
        }
    };
    if id.is_none() {
        s.refuse(&found.path, &found.value, form);
    }
    id
}

/// In decimal: EVM chains write it as a number, as text, or (their nodes) in hexadecimal.
fn number_of(found: &Found) -> Option<String> {
    let number: Option<u64> = match text_of(found) {
        Some(text) => match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        },
        None => whole(found),
    };
    number.map(|number| number.to_string())
}

/// As Cosmos chains are named: printable, without spaces.
fn name_of(found: &Found) -> Option<String> {
    let fits = |name: &&str| name.len() <= CHAIN_NAME_MAX && name.bytes().all(|b| b.is_ascii_graphic());
    text_of(found).filter(fits).map(str::to_owned)
}

fn selftest(s: &mut Section<'_>) -> SelftestSettings {
    SelftestSettings {
        actors: s.count("actors", 1..=64),
        messages: s.number("messages", 0..=1_000_000_000, ""),
        batch: s.count("batch", 1..=1000),
        pause: s.millis("pause_ms", 0..=60_000),
        panic_every: std::num::NonZeroU64::new(s.number("panic_every", 0..=1_000_000_000, "")),
        hang_every: std::num::NonZeroU64::new(s.number("hang_every", 0..=1_000_000_000, "")),
        seed: s.number("seed", 0..=i64::MAX.unsigned_abs(), ""),
    }
}

/// Refuses two folders that are one, or one inside the other: each would take the other's files for its own. Folders
/// are the stores and those of bare names.
fn separate_folders(pipelines: &BTreeMap<String, BlocksSettings>, notes: &mut Notes) {
    let stores = pipelines.iter().map(|(name, settings)| (format!("blocks.{name}"), "store", &settings.store));
    let bare = |(name, settings): (_, &'_ BlocksSettings)| settings.bare_names.clone().map(|folder| (name, folder));
    let views: Vec<(&String, PathBuf)> = pipelines.iter().filter_map(bare).collect();
    let views = views.iter().map(|(name, folder)| (format!("blocks.{name}"), "bare_names", folder));
    let folders: Vec<(String, &str, PathBuf)> = stores
        .chain(views)
        .filter(|(.., folder)| !folder.as_os_str().is_empty())
        .map(|(name, key, folder)| (name, key, plain(folder)))
        .collect();
    for (index, (name, key, folder)) in folders.iter().enumerate() {
        let clash = |other: &&(String, &str, PathBuf)| folder.starts_with(&other.2) || other.2.starts_with(folder);
        if let Some((other, other_key, _)) = folders[..index].iter().find(clash) {
            let other =
                if (*key, *other_key) == ("store", "store") { other.clone() } else { format!("{other}.{other_key}") };
            let what = format!("{other} has this folder, or one inside or around it; give each its own");
            notes.clash(&format!("{name}.{key}"), &what);
        }
    }
}

/// The path from the root, without `.` and `..`, as written (links are not followed: the folder may not exist yet).
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}
