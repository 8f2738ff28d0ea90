//! Look: what streams there are, and what is to be done about each. The first half asks, the second half is pure.

use std::collections::{BTreeMap, BTreeSet};

use super::ScoutPlan;
use super::share::share;
use crate::config::SyncSettings;
use crate::messages::sync::{StreamName, StreamRow, database_of};
use crate::sinks::replica::{CHAINS, MARKS, Mark, REPAIRS, marks_of};
use crate::sources::streams::{Found, find};
use crate::store::table::Table;
use crate::wire::{Lines, Node, Nodes, Server, WireError, look::now_ms};

/// Streams whose marks are asked for in one request.
const MARKS_PAGE: usize = 1000;

/// What one look saw.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// The streams that match a pattern, and on which of them another pipeline copies.
    pub streams: BTreeMap<StreamName, Option<Mark>>,
    /// Databases that could not be looked at, and why; streams of them are neither new nor gone.
    pub faults: BTreeMap<u16, String>,
    /// Source and target are one server.
    pub is_one_server: bool,
    /// There are more streams than may be.
    pub is_cut: bool,
    /// Something could not be seen that may be seen soon.
    pub is_partial: bool,
    /// The source.
    pub source: Server,
    /// The target.
    pub target: Server,
    /// The source's clock.
    pub now_ms: u64,
}

/// What is to become of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// Rows that are new or other, by their names; none where a stream is gone.
    pub changes: Vec<(String, Option<StreamRow>)>,
}

/// Looks into every database of the configuration. One that cannot be selected, or scanned, leaves the others alone.
pub async fn look(plan: &ScoutPlan) -> Result<Sight, WireError> {
    let mut sight = Sight::default();
    let (target, _) = Nodes::find(&plan.target, plan.settings.target_db).await?;
    let mut lines = Lines::new(plan.source.clone());
    let source = lines.nodes().await?.clone();
    sight.is_one_server = source.overlaps(&target);
    for node in source.all() {
        sight.now_ms = sight.now_ms.max(now_ms(lines.at(0, &node).await?).await?);
        for db in &plan.settings.databases {
            if plan.settings.discover.is_none() {
                break;
            }
            let found = match look_into(plan, &mut lines, *db, &node, sight.streams.len()).await {
                Ok(found) => found,
                // Of a cluster there is database 0, as a rule, and nobody said that there are others.
                Err(WireError::Refused { command, .. }) if source.is_cluster() && command == "SELECT" => continue,
                Err(WireError::Refused { reason, .. }) => {
                    sight.faults.insert(*db, reason);
                    continue;
                }
                Err(error) => return Err(error),
            };
            sight.is_cut |= found.is_cut;
            let keys: Vec<Vec<u8>> = found.keys.into_iter().collect();
            for page in keys.chunks(MARKS_PAGE) {
                let marks = match marks_of(lines.of(*db, MARKS).await?, page).await {
                    Err(error) if lines.follow(MARKS, &error) => marks_of(lines.of(*db, MARKS).await?, page).await?,
                    marks => marks?,
                };
                let names = page.iter().map(|key| StreamName { db: *db, key: key.clone() });
                sight.streams.extend(names.zip(marks));
            }
        }
    }
    (sight.source, sight.target) = (source.server, target.server);
    Ok(sight)
}

async fn look_into(
    plan: &ScoutPlan,
    lines: &mut Lines,
    db: u16,
    node: &Node,
    known: usize,
) -> Result<Found, WireError> {
    let max = usize::try_from(plan.settings.streams_max).unwrap_or(usize::MAX).saturating_sub(known);
    find(lines.at(db, node).await?, &plan.settings.patterns, max).await
}

/// Compares what was seen with what is listed. Pure.
pub fn judge(settings: &SyncSettings, own_prefix: &str, sight: &Sight, known: &Table) -> Judged {
    let by_hand: BTreeSet<StreamName> =
        settings.streams.iter().map(|s| StreamName { db: s.db, key: s.key.clone().into_bytes() }).collect();
    let listed: BTreeMap<&str, StreamRow> =
        known.iter().map(|(row, text)| (row.as_str(), serde_json::from_str(text).unwrap_or_default())).collect();
    // Who was there first keeps the key: the older row, then the smaller name.
    let mut order: Vec<&StreamName> = sight.streams.keys().chain(&by_hand).collect();
    order.sort_by_cached_key(|name| {
        (listed.get(name.shown().as_str()).map_or(u64::MAX, |row| row.since_ms), (*name).clone())
    });
    order.dedup();
    let mut taken: BTreeMap<Vec<u8>, &StreamName> = BTreeMap::new();
    let mut wanted: BTreeMap<String, StreamRow> = BTreeMap::new();
    for name in order {
        let mark = sight.streams.get(name).and_then(Option::as_ref);
        if is_own(own_prefix, &name.key) || (mark.is_some() && !settings.relay && !by_hand.contains(name)) {
            continue;
        }
        let target = settings.target_key(name.db, &name.key);
        let refused = refusal(settings, sight, name, &target, taken.get(&target).copied());
        if refused.is_empty() {
            taken.insert(target, name);
        }
        let row = name.shown();
        let since_ms = listed.get(row.as_str()).map_or(sight.now_ms, |row| row.since_ms);
        let key = name.long_key().filter(|_| name.is_too_long().is_none());
        wanted.insert(row, StreamRow { since_ms, refused, key, ..StreamRow::default() });
    }
    share(&mut wanted, &listed, settings.buckets);
    let news = wanted.iter().filter(|(name, row)| listed.get(name.as_str()) != Some(*row));
    let mut changes: Vec<_> = news.map(|(name, row)| (name.clone(), Some(row.clone()))).collect();
    let unseen = |row: &str| sight.is_cut || database_of(row).is_some_and(|db| sight.faults.contains_key(&db));
    let gone = listed.keys().filter(|row| !wanted.contains_key(**row) && !unseen(row));
    changes.extend(gone.map(|row| ((*row).to_owned(), None)));
    Judged { changes }
}

fn refusal(
    settings: &SyncSettings,
    sight: &Sight,
    name: &StreamName,
    target: &[u8],
    other: Option<&StreamName>,
) -> String {
    if let Some(reason) = name.is_too_long() {
        return reason;
    }
    if let Some(other) = other {
        return format!("{} goes to the same key of the target; use {{db}} in map", other.shown());
    }
    if sight.is_one_server && name.db == settings.target_db && name.key == target {
        return "it would be copied onto itself: source and target are one server".to_owned();
    }
    if sight.is_one_server && settings.relay {
        return "relay = true on one server would copy copies without end".to_owned();
    }
    String::new()
}

/// gapless's own keys are never copied, nor is what a repair builds, nor the evidence of copies.
fn is_own(prefix: &str, key: &[u8]) -> bool {
    let begins = |with: &str| key.starts_with(with.as_bytes());
    begins(REPAIRS) || begins(CHAINS) || !prefix.is_empty() && begins(&format!("{prefix}:{{"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn settings(more: &str) -> SyncSettings {
        let text = format!("[sync.x]\nsource = \"redis://a:1\"\ntarget = \"redis://b:2\"\n{more}");
        let settings = Settings::from_text("a.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        settings.sync["x"].clone()
    }

    fn name(db: u16, key: &str) -> StreamName {
        StreamName { db, key: key.as_bytes().to_vec() }
    }

    fn sight(names: &[StreamName]) -> Sight {
        Sight { streams: names.iter().map(|name| (name.clone(), None)).collect(), now_ms: 7, ..Sight::default() }
    }

    fn row(refused: &str) -> Option<StreamRow> {
        Some(StreamRow { since_ms: 7, refused: refused.to_owned(), ..StreamRow::default() })
    }

    /// The changes without the bucket of each; who is copied has one.
    fn changes(judged: &Judged) -> Vec<(String, Option<StreamRow>)> {
        let plain = |row: &StreamRow| {
            assert_eq!(row.bucket.is_some(), row.refused.is_empty(), "{row:?}");
            StreamRow { bucket: None, ..row.clone() }
        };
        judged.changes.iter().map(|(name, row)| (name.clone(), row.as_ref().map(plain))).collect()
    }

    fn table(rows: &[(StreamName, u64)]) -> Table {
        let row = |at: usize, since_ms: u64| {
            let bucket = u32::try_from(at).ok();
            super::super::text(&StreamRow { since_ms, bucket, ..StreamRow::default() })
        };
        rows.iter().enumerate().map(|(at, (name, since))| (name.shown(), row(at, *since))).collect()
    }

    #[test]
    fn the_same_key_of_two_databases_is_a_collision_of_the_later_one() {
        let (a, b) = (name(0, "s"), name(1, "s"));
        let judged = judge(&settings(""), "gapless", &sight(&[a.clone(), b.clone()]), &Table::new());
        let why = "db0:s goes to the same key of the target; use {db} in map";
        assert_eq!(changes(&judged), [(a.shown(), row("")), (b.shown(), row(why))]);
        // Who was listed first stays, whatever its name.
        let judged = judge(&settings(""), "gapless", &sight(&[a.clone(), b.clone()]), &table(&[(b.clone(), 1)]));
        let why = "db1:s goes to the same key of the target; use {db} in map";
        assert_eq!(changes(&judged), [(a.shown(), row(why))]);
        let judged = judge(&settings("map = \"{db}/{key}\""), "gapless", &sight(&[a, b]), &Table::new());
        assert!(changes(&judged).iter().all(|(_, change)| *change == row("")), "{judged:?}");
    }

    #[test]
    fn copies_and_own_keys_are_passed_over() {
        let (copy, own) = (name(0, "a-stream"), name(0, "gapless:{sync.x}:in:scout"));
        let (chain, built) = (name(0, "gapless:chain:{a}:a"), name(0, "gapless:repair:{a}:a"));
        let mark = Mark { owner: "sync.back@b".to_owned(), begun: true, counted: None };
        let mut seen = sight(&[own, chain, built]);
        seen.streams.insert(copy.clone(), Some(mark));
        assert_eq!(judge(&settings(""), "gapless", &seen, &Table::new()), Judged::default());
        let relayed = judge(&settings("relay = true"), "gapless", &seen, &Table::new());
        assert_eq!(changes(&relayed), [(copy.shown(), row(""))]);
        let by_hand = judge(&settings("streams = [\"a-stream\"]"), "gapless", &seen, &Table::new());
        assert_eq!(changes(&by_hand), [(copy.shown(), row(""))], "who names it wants it");
    }

    #[test]
    fn nothing_is_copied_onto_itself() {
        let mut seen = sight(&[name(0, "s"), name(3, "s2")]);
        seen.is_one_server = true;
        let judged = judge(&settings(""), "gapless", &seen, &Table::new());
        let refused: Vec<bool> =
            judged.changes.iter().map(|(_, row)| row.as_ref().is_some_and(|r| !r.refused.is_empty())).collect();
        assert_eq!(refused, [true, false], "{judged:?}");
    }

    #[test]
    fn what_was_not_seen_is_not_gone() {
        let known = table(&[(name(0, "a"), 1), (name(1, "b"), 1), (name(2, "c"), 1)]);
        let mut seen = sight(&[name(0, "a")]);
        seen.faults.insert(1, "no".to_owned());
        assert_eq!(judge(&settings(""), "gapless", &seen, &known).changes, [(name(2, "c").shown(), None)]);
        seen.is_cut = true;
        assert_eq!(judge(&settings(""), "gapless", &seen, &known), Judged::default());
    }
}
