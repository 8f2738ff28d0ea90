//! `gapless checkpoint`: where every unit stands, and where it stood; and a unit sent back.

mod rewind;

use clap::Subcommand;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::exit::Exit;
use super::output::{self, Side, Table};
use super::reach::{self, Reach};
use super::words::{age, or_dash, plain};
use crate::config::Settings;
use crate::ids::UnitId;
use crate::store::StoreError;
use crate::store::checkpoint::{Sample, Shown};
use crate::store::status::server_ms;
use crate::supervisor::wiring;

/// Checkpoints that are asked for side by side.
const REQUESTS_MAX: usize = 32;

/// `gapless checkpoint ...`
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Every unit's checkpoint in a line
    #[command(after_help = "Example:\n  gapless checkpoint list")]
    List,
    /// One checkpoint with its state; exit code 1 if the unit was never held
    #[command(after_help = "Example:\n  gapless checkpoint show blocks.mainnet/collector")]
    Show {
        /// KIND.NAME/ACTOR, in a pool KIND.NAME/ACTOR/SLOT
        unit: String,
    },
    /// Samples of its past, newest first
    #[command(after_help = "Example:\n  gapless checkpoint history blocks.mainnet/gap_fixer/0")]
    History {
        /// KIND.NAME/ACTOR, in a pool KIND.NAME/ACTOR/SLOT
        unit: String,
    },
    /// Send the source of a pipeline back: what lies above the position is done again
    #[command(after_help = "Examples:\n  gapless checkpoint rewind blocks.mainnet/collector --by 1000\n  \
        gapless checkpoint rewind blocks.mainnet/collector --to 18000000 --yes\n  \
        gapless checkpoint rewind logs.web/log_watcher@web-3 --by 10000\n  \
        gapless checkpoint rewind selftest.main/feeder --sample 412\n\n\
        Says first what is done again and what cannot be. The fencing token rises, so that the holder begins again from \
        there; its mailbox offset stays. Ends with 2 for a unit that has no place in a source.")]
    Rewind(rewind::RewindArgs),
}

/// Runs the command.
pub fn run(settings: Settings, command: &CheckpointCommand, json: bool) -> Exit {
    let reach = match Reach::new(settings) {
        Ok(reach) => reach,
        Err(exit) => return exit,
    };
    let (name, history) = match command {
        CheckpointCommand::List => return reach::block_on(list(&reach, json)),
        CheckpointCommand::Show { unit } => (unit, false),
        CheckpointCommand::History { unit } => (unit, true),
        CheckpointCommand::Rewind(args) => {
            return match reach.unit(args.unit()) {
                Ok(unit) => reach::block_on(rewind::run(&reach, &unit, args, json)),
                Err(exit) => exit,
            };
        }
    };
    match reach.unit(name) {
        Err(exit) => exit,
        Ok(unit) if history => reach::block_on(past(&reach, &unit, json)),
        Ok(unit) => reach::block_on(show(&reach, &unit, json)),
    }
}

async fn list(reach: &Reach, json: bool) -> Result<Exit, StoreError> {
    let now = server_ms(&reach.link).await?;
    let units = wiring::units(&reach.settings);
    let each = units.iter().cloned().map(|unit| async move { reach.store.checkpoint(&reach.link, &unit).await });
    let shown: Vec<Option<Shown>> = stream::iter(each).buffered(REQUESTS_MAX).try_collect().await?;
    let shown = shown.iter().zip(&units);
    if json {
        let all: Vec<Value> = shown.filter_map(|(shown, _)| shown.as_ref()).map(|s| shown_json(s, now)).collect();
        return Ok(output::json(&json!({ "checkpoints": all }), Exit::good()));
    }
    let columns = [
        ("UNIT", Side::Left),
        ("NODE", Side::Left),
        ("SEQ", Side::Right),
        ("COMMIT", Side::Right),
        ("OFFSET", Side::Left),
        ("STATE", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for (shown, unit) in shown {
        let Some(shown) = shown else {
            let dash = || "-".to_owned();
            table.row(vec![unit.to_string(), dash(), "0".to_owned(), dash(), dash(), "never held".to_owned()]);
            continue;
        };
        let (node, seq, offset) = (plain(&shown.node), shown.seq.to_string(), shown.offset.clone());
        table.row(vec![unit.to_string(), node, seq, committed(shown, now), offset, or_dash(&plain(&shown.state))]);
    }
    Ok(output::text(&table.render(), Exit::good()))
}

async fn show(reach: &Reach, unit: &UnitId, json: bool) -> Result<Exit, StoreError> {
    let now = server_ms(&reach.link).await?;
    let Some(shown) = reach.store.checkpoint(&reach.link, unit).await? else {
        return never_held(reach, unit).await;
    };
    if json {
        return Ok(output::json(&shown_json(&shown, now), Exit::good()));
    }
    let owned = if shown.owned { "" } else { " (released)" };
    let lines = [
        ("unit", shown.unit.clone()),
        ("node", format!("{}{owned}", plain(&shown.node))),
        ("token", shown.token.clone()),
        ("tip", shown.tip.clone()),
        ("seq", shown.seq.to_string()),
        ("commit", committed(&shown, now)),
        ("offset", shown.offset.clone()),
        ("format", or_dash(&shown.needs)),
        ("failed", shown.failed.to_string()),
        ("unfinished", shown.unfinished.to_string()),
        ("fault", or_dash(&plain(&shown.fault))),
        ("state", or_dash(&plain(&shown.state))),
    ];
    let text: String = lines.iter().map(|(name, value)| format!("{name:<10}  {value}\n")).collect();
    Ok(output::text(&text, Exit::good()))
}

/// There is no such checkpoint. Of a unit of a host those of other hosts are named: what a host is called is easily mistaken.
async fn never_held(reach: &Reach, unit: &UnitId) -> Result<Exit, StoreError> {
    let mut words = format!("{unit} has no checkpoint: no node has held it yet");
    if let Some((actor, _)) = unit.actor.split_once('@') {
        let locals = reach.store.tables(&reach.link, &unit.pipeline).await?;
        let others = locals.iter().filter(|local| local.split('@').next() == Some(actor));
        let others: Vec<String> = others.map(|local| format!("{}/{local}", unit.pipeline)).collect();
        if !others.is_empty() {
            words.push_str(&format!("; there are: {}", plain(&others.join(", "))));
        }
    }
    Ok(Exit::missing(&words))
}

async fn past(reach: &Reach, unit: &UnitId, json: bool) -> Result<Exit, StoreError> {
    let now = server_ms(&reach.link).await?;
    let samples = reach.store.history(&reach.link, unit).await?;
    if json {
        let samples: Vec<Value> = samples.iter().map(|sample| sample_json(sample, now)).collect();
        return Ok(output::json(&json!({ "unit": unit.to_string(), "samples": samples }), Exit::good()));
    }
    if samples.is_empty() {
        return Ok(output::text(&format!("{unit} has no history: no node has held it yet\n"), Exit::good()));
    }
    let columns = [
        ("AGE", Side::Right),
        ("WHY", Side::Left),
        ("SEQ", Side::Right),
        ("NODE", Side::Left),
        ("OFFSET", Side::Left),
        ("STATE", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for sample in &samples {
        let (node, state) = (plain(&sample.node), or_dash(&plain(&sample.state)));
        let (why, seq, offset) = (sample.why.clone(), sample.seq.clone(), sample.offset.clone());
        table.row(vec![age(sample_age(sample, now)), why, seq, node, offset, state]);
    }
    Ok(output::text(&table.render(), Exit::good()))
}

fn committed(shown: &Shown, now: u64) -> String {
    if shown.committed_ms == 0 { "never".to_owned() } else { age(now.saturating_sub(shown.committed_ms)) }
}

/// The state as JSON; what is none stays text.
fn state_json(state: &str) -> Value {
    if state.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(state).unwrap_or_else(|_| Value::String(state.to_owned()))
}

fn shown_json(shown: &Shown, now: u64) -> Value {
    json!({
        "unit": shown.unit,
        "node": shown.node,
        "owned": shown.owned,
        "token": shown.token,
        "tip": shown.tip,
        "seq": shown.seq,
        "commit_age_ms": (shown.committed_ms > 0).then(|| now.saturating_sub(shown.committed_ms)),
        "offset": shown.offset,
        "format": shown.needs,
        "failed": shown.failed,
        "unfinished": shown.unfinished,
        "fault": shown.fault,
        "state": state_json(&shown.state),
    })
}

fn sample_age(sample: &Sample, now: u64) -> u64 {
    now.saturating_sub(sample.time_ms.parse().unwrap_or(0))
}

fn sample_json(sample: &Sample, now: u64) -> Value {
    json!({
        "why": sample.why,
        "seq": sample.seq.parse().unwrap_or(0_u64),
        "token": sample.token,
        "node": sample.node,
        "time_ms": sample.time_ms.parse().unwrap_or(0_u64),
        "age_ms": sample_age(sample, now),
        "offset": sample.offset,
        "state": state_json(&sample.state),
    })
}
