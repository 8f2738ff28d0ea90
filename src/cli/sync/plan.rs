//! `sync plan`: streams, names, sizes, refusals, missing rights and what the servers can do, before any write.

use serde_json::json;

use super::ends::{Ends, exit_of};
use super::rights::{Need, acl_line, lacking, needs};
use super::{Chosen, Exit};
use crate::actors::sync_scout::{judge, look};
use crate::cli::output::{self, Side, Table};
use crate::cli::words::{bytes, count, grouped, plain};
use crate::config::{Settings, SyncMode, SyncSettings};
use crate::ids::EntryId;
use crate::messages::sync::StreamName;
use crate::supervisor::wiring;
use crate::wire::look::stream_facts;
use crate::wire::{Lines, Request, Server, WireError};

/// One stream of the plan.
struct Planned {
    name: StreamName,
    target: Vec<u8>,
    entries: u64,
    /// None where the user may not ask.
    bytes: Option<u64>,
    on_target: Option<EntryId>,
    refused: String,
}

pub(super) async fn run(settings: &Settings, chosen: &Chosen, as_json: bool) -> Result<Exit, Exit> {
    let mut ends = Ends::open(chosen).await?;
    let scout = wiring::scout_plan(&chosen.name, &chosen.section, settings);
    let sight = look(&scout).await.map_err(|error| exit_of(&error))?;
    let judged = judge(&chosen.section, &settings.redis.prefix, &sight, &crate::store::table::Table::new());
    let (mut planned, mut too_long) = (Vec::new(), Vec::new());
    for (shown, row) in judged.changes {
        let Some(row) = row else { continue };
        let Some(name) = row.name(&shown) else {
            too_long.push(json!({ "stream": shown, "refused": row.refused }));
            continue;
        };
        planned.push(one(&mut ends, chosen, name, row.refused).await.map_err(|error| exit_of(&error))?);
    }
    planned.sort_by(|a, b| a.name.cmp(&b.name));
    let sample = planned.iter().find(|planned| planned.refused.is_empty());
    let (here, there) = sample.map_or_else(
        || ("gapless:trial".to_owned(), "gapless:trial".to_owned()),
        |planned| (trial(&planned.name.key), trial(&planned.target)),
    );
    let needs = needs(&chosen.section);
    let lacks_here = lacking_there(&mut ends.source, 0, &here, &needs.source).await.map_err(|error| exit_of(&error))?;
    let lacks_there = lacking_there(&mut ends.target, chosen.section.target_db, &there, &needs.target)
        .await
        .map_err(|error| exit_of(&error))?;
    let bad = !too_long.is_empty()
        || !lacks_here.is_empty()
        || !lacks_there.is_empty()
        || planned.iter().any(|p| !p.refused.is_empty());
    let exit = if bad { Exit::found() } else { Exit::good() };
    let acl = [acl_line("gapless_source", "~*", &needs.source), acl_line("gapless_target", "~*", &needs.target)];
    let notes = notes(&chosen.section, &ends.source_server, &ends.target_server);
    if as_json {
        let streams: Vec<_> = planned.iter().map(to_json).chain(too_long).collect();
        let answer = json!({
            "pipeline": chosen.pipeline.to_string(), "streams": streams,
            "source": ends.source_server.shown, "target": ends.target_server.shown,
            "databases_left_out": sight.faults, "cut": sight.is_cut,
            "missing_rights": { "source": lacks_here, "target": lacks_there }, "acl": acl, "notes": notes,
        });
        return Ok(output::json(&answer, exit));
    }
    let mut text = format!(
        "{}: {} ({}) to {} ({})\n",
        chosen.pipeline,
        ends.plan.source().address(),
        ends.source_server.shown,
        ends.plan.target().address(),
        ends.target_server.shown
    );
    if planned.is_empty() {
        text.push_str("no stream matches: look at databases, patterns and streams\n");
    } else {
        text.push_str(&table(&planned));
        text.push_str(&total(&planned));
    }
    for long in &too_long {
        text.push_str(&format!(
            "refused: {}: {}\n",
            plain(long["stream"].as_str().unwrap_or_default()),
            long["refused"]
        ));
    }
    for (db, reason) in &sight.faults {
        text.push_str(&format!("database {db} is left out: {reason}\n"));
    }
    if sight.is_cut {
        text.push_str("there are more streams than streams_max\n");
    }
    for (end, lacks) in [("source", &lacks_here), ("target", &lacks_there)] {
        if !lacks.is_empty() {
            text.push_str(&format!("the user of the {end} lacks: {}\n", lacks.join(" ")));
        }
    }
    notes.iter().for_each(|note| text.push_str(&format!("{note}\n")));
    text.push_str(&format!("minimal rights (~* may be narrowed to your keys, ~gapless:replicas, ~gapless:repair:* and ~gapless:chain:*):\n  source: {}\n  target: {}\n", acl[0], acl[1]));
    Ok(output::text(&text, exit))
}

/// The rights that are lacking at the node that has a key.
async fn lacking_there(lines: &mut Lines, db: u16, key: &str, needs: &[Need]) -> Result<Vec<&'static str>, WireError> {
    lacking(lines.of(db, key.as_bytes()).await?, key, needs).await
}

/// A key beside a real one, so that the user's patterns of keys hold for it, and that is not there.
fn trial(key: &[u8]) -> String {
    format!("{}:gapless-trial", String::from_utf8_lossy(key))
}

async fn one(ends: &mut Ends, chosen: &Chosen, name: StreamName, refused: String) -> Result<Planned, WireError> {
    let target = chosen.section.target_key(name.db, &name.key);
    let (source, there) = ends.both(&name).await?;
    let facts = stream_facts(source, &name.key).await.unwrap_or_default().unwrap_or_default();
    let memory = source.all(&Request::of(&[b"MEMORY", b"USAGE", &name.key])).await?;
    let bytes = memory.first().and_then(|reply| reply.int()).and_then(|n| u64::try_from(n).ok());
    let kind = there.call(&[b"TYPE", &target]).await?;
    let mut refused = refused;
    let on_target = match kind.bytes() {
        b"none" => None,
        b"stream" => stream_facts(there, &target).await?.map(|facts| facts.last),
        other => {
            refused = format!("the target has a key of type {} there", String::from_utf8_lossy(other));
            None
        }
    };
    if refused.is_empty() && on_target.is_some_and(|last| last > EntryId::ZERO) {
        let mark = ends.mark(&target).await?;
        let ours = mark.as_ref().is_some_and(|mark| mark.owner.starts_with(&format!("{}@", chosen.pipeline)));
        refused = match mark {
            Some(mark) if !ours => format!("{} copies to this key already", mark.owner),
            _ => String::new(),
        };
    }
    Ok(Planned { name, target, entries: facts.length, bytes, on_target, refused })
}

/// All of them in a line.
/// In place of a size.
const UNSIZED: &str = "of unknown size (no +memory|usage)";

fn total(planned: &[Planned]) -> String {
    let (refused, copied): (Vec<_>, Vec<_>) = planned.iter().partition(|one| !one.refused.is_empty());
    let entries: u64 = copied.iter().map(|one| one.entries).sum();
    let size: u64 = copied.iter().filter_map(|one| one.bytes).sum();
    let streams = count(copied.len(), "stream", "streams");
    let refused = if refused.is_empty() { String::new() } else { format!("; {} refused", refused.len()) };
    // The user may lack MEMORY USAGE, which the minimal rights leave out.
    let size = if copied.is_empty() || copied.iter().any(|one| one.bytes.is_some()) {
        format!("about {}", bytes(size))
    } else {
        UNSIZED.to_owned()
    };
    format!("{streams} would be copied: {} entries, {size}{refused}\n", grouped(entries))
}

fn to_json(planned: &Planned) -> serde_json::Value {
    json!({
        "stream": planned.name.shown(), "target": String::from_utf8_lossy(&planned.target),
        "entries": planned.entries, "bytes": planned.bytes,
        "target_last_id": planned.on_target.map(|id| id.to_string()), "refused": planned.refused,
    })
}

fn table(planned: &[Planned]) -> String {
    let mut table = Table::new(&[
        ("STREAM", Side::Left),
        ("ENTRIES", Side::Right),
        ("BYTES", Side::Right),
        ("TARGET HAS", Side::Left),
        ("TARGET", Side::Left),
    ]);
    for one in planned {
        let note = if one.refused.is_empty() { String::new() } else { format!("refused: {}", one.refused) };
        let cells = vec![
            plain(&one.name.shown()),
            one.entries.to_string(),
            one.bytes.map_or_else(|| "-".to_owned(), bytes),
            one.on_target.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            plain(&String::from_utf8_lossy(&one.target)),
        ];
        table.row_with(cells, note);
    }
    table.render()
}

/// What the versions of the servers mean.
fn notes(settings: &SyncSettings, source: &Server, target: &Server) -> Vec<String> {
    let mut notes = Vec::new();
    if !source.counts() {
        notes.push(
            "the source does not count what was ever added (before Redis 7.0): gaps are told without a count"
                .to_owned(),
        );
    }
    if !target.counts() {
        notes.push(
            "the target keeps no counters (before Redis 7.0): entries-added and the lag of groups are not carried over"
                .to_owned(),
        );
    }
    if source.version >= (8, 6) {
        notes.push(
            "producers' own dedupe ids (XADD IDMP) cannot be read from a server, so they do not go along".to_owned(),
        );
    }
    if source.version >= (8, 2) {
        let own = match settings.mode {
            SyncMode::Group => settings.group.as_str(),
            SyncMode::Tail => settings.publish_group.as_str(),
        };
        notes.push(match own {
            "" => "producers that trim with ACKED hold back only what a group has not acknowledged: no group stands for \
                   this copy (publish_group, or mode = \"group\"), so what is trimmed before it was copied is a gap"
                .to_owned(),
            group => format!(
                "producers that trim with ACKED wait for the group {group}: streams grow while it stands still; whether \
                 they do, no server tells, and any other trim makes a gap"
            ),
        });
    }
    for (end, server) in [("source", source), ("target", target)] {
        if server.is_cluster {
            notes.push(format!("the {end} is a cluster: each stream is followed to the node that has its slot"));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_that_trims_with_acked_means_depends_on_the_group() {
        let ends = "[sync.x]\nsource = \"redis://a:1\"\ntarget = \"redis://b:2\"\n";
        let of = |version, more: &str| {
            let settings = Settings::from_text("a.toml", &format!("{ends}{more}"));
            let settings = settings.unwrap_or_else(|report| panic!("{report}"));
            let server = Server { version, ..Server::default() };
            notes(&settings.sync["x"], &server, &server).join("\n")
        };
        assert!(!of((8, 1), "mode = \"group\"").contains("ACKED"));
        assert!(of((8, 2), "").contains("no group stands for this copy"));
        assert!(of((8, 2), "publish_group = \"at\"").contains("wait for the group at"));
        assert!(of((8, 6), "mode = \"group\"").contains("wait for the group gapless-sync"));
    }
}
