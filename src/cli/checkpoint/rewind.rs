//! `gapless checkpoint rewind`: a source actor sent back, after saying what that does.

use clap::{ArgGroup, Args};
use serde_json::json;

use crate::actors::turn::rewind::{Rewound, Target};
use crate::actors::{collector, feeder, log_watcher};
use crate::cli::ask;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::reach::Reach;
use crate::cli::words::{count, plain};
use crate::ids::{Kind, RandomId, Token, UnitId};
use crate::messages::heights::Height;
use crate::store::checkpoint::Shown;
use crate::store::rewind::Rewind;
use crate::store::{Store, StoreError};

/// Tries against a unit that commits all the time, each from its newest state.
const TRIES_MAX: u32 = 200;
/// True of every unit.
const OFFSET_STAYS: &str = "the mailbox offset stays where it is: messages that were taken do not come again";

/// Which unit, and where to.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["to", "by", "sample"]))]
pub struct RewindArgs {
    /// KIND.NAME/ACTOR
    unit: String,
    /// The height or number that it is to stand at; what lies above is done again
    #[arg(long, value_name = "POSITION")]
    to: Option<u64>,
    /// So many heights or numbers back; of log files so many lines of each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    by: Option<u64>,
    /// Where it stood at the sample of `checkpoint history` with this SEQ
    #[arg(long, value_name = "SEQ")]
    sample: Option<u64>,
    /// Do it without asking; needed where standard input is no terminal
    #[arg(long)]
    yes: bool,
}

impl RewindArgs {
    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }
}

pub(super) async fn run(reach: &Reach, unit: &UnitId, args: &RewindArgs, as_json: bool) -> Result<Exit, StoreError> {
    if let Some(why) = no_place(unit) {
        return Ok(Exit::usage(&format!("{unit} cannot be rewound: {why}")));
    }
    let (Some(shown), Some(cluster)) =
        (reach.store.checkpoint(&reach.link, unit).await?, reach.store.cluster_id(&reach.link).await?)
    else {
        return super::never_held(reach, unit).await;
    };
    let store = Store { cluster, ..reach.store.clone() };
    let (target, start) = match (target(reach, unit, args).await?, start(reach, unit).await?) {
        (Ok(target), start) => (target, start),
        (Err(exit), _) => return Ok(exit),
    };
    let plan = match plan(unit, &shown.state, &target, start) {
        Ok(plan) => plan,
        Err(why) => return Ok(Exit::usage(&format!("{unit} cannot be rewound: {why}"))),
    };
    if !as_json {
        output::say(words(unit, &plan).trim_end());
    }
    let question = format!("send {unit} back over {}?", count_of(unit, &plan));
    if let Err(exit) = ask::confirmed(args.yes, &question) {
        return Ok(if as_json { output::json(&to_json(unit, &plan, None), exit) } else { exit });
    }
    match carry_out(reach, &store, unit, shown, plan, (target, start)).await? {
        Err(exit) => Ok(exit),
        Ok((plan, token)) if as_json => Ok(output::json(&to_json(unit, &plan, Some(token)), Exit::good())),
        Ok((_, token)) => {
            Ok(output::text(&format!("done under token {token}; its holder begins again from there\n"), Exit::good()))
        }
    }
}

/// Why a unit has no place in a source that it could be sent back to, and what helps instead.
fn no_place(unit: &UnitId) -> Option<&'static str> {
    match (unit.pipeline.kind, unit.actor.as_str()) {
        (Kind::Blocks, "collector") | (Kind::Selftest, "feeder") => None,
        (Kind::Logs, actor) if actor.split('@').next() == Some("log_watcher") => None,
        (Kind::Logs, _) => Some(
            "its place is that of the last line of which it wrote an event, and lines that were parsed may have left the \
             stream; to have lines read, and parsed, again: gapless checkpoint rewind of the log_watcher, which appends \
             those that the stream lacks",
        ),
        (Kind::Blocks, "gap_detector") => Some(
            "it has no place in the chain, it looks at the held heights themselves; to have blocks judged again: \
             gapless blocks verify A..B, to have heights collected again: gapless checkpoint rewind of the collector",
        ),
        (Kind::Blocks, _) => Some(
            "a slot of a pool has no place of its own, its tasks wait in the mailbox; to have heights asked for: \
             gapless blocks fill A..B, to have tasks again that were set aside: gapless mailbox dead retry",
        ),
        (Kind::Sync, _) => Some(
            "its place is the last id of each stream on the target itself; to have a stream copied again: delete it there",
        ),
        (Kind::Selftest, _) => Some(
            "its place is the offset in its mailbox, and what was taken from there is gone; to have numbers sent \
             again: gapless checkpoint rewind of the feeder",
        ),
    }
}

fn plan(unit: &UnitId, state: &str, target: &Target, start: Height) -> Result<Rewound, String> {
    match unit.pipeline.kind {
        Kind::Blocks => collector::rewind(state, target, start),
        Kind::Logs => log_watcher::rewind(state, target),
        Kind::Selftest => feeder::rewind(state, target),
        Kind::Sync => Err("a stream's place is its last id on the target".to_owned()),
    }
}

/// The lowest wanted height, where there is such a thing.
async fn start(reach: &Reach, unit: &UnitId) -> Result<Height, StoreError> {
    let facts = reach.store.facts(&reach.link, &unit.pipeline).await?;
    let start = facts.iter().find(|(name, _)| name == "start").and_then(|(_, value)| value.parse().ok());
    Ok(start.unwrap_or(0))
}

async fn target(reach: &Reach, unit: &UnitId, args: &RewindArgs) -> Result<Result<Target, Exit>, StoreError> {
    let seq = match (args.to, args.by, args.sample) {
        (Some(position), ..) => return Ok(Ok(Target::To(position))),
        (None, Some(count), _) => return Ok(Ok(Target::By(count))),
        (None, None, seq) => seq.unwrap_or(0).to_string(),
    };
    let samples = reach.store.history(&reach.link, unit).await?;
    let found = samples.into_iter().find(|sample| sample.seq == seq);
    Ok(found.map(|sample| Target::Stood(sample.state)).ok_or_else(|| {
        Exit::missing(&format!("no sample of {unit} has SEQ {seq}; there are: gapless checkpoint history {unit}"))
    }))
}

/// Writes the new state. A unit that commits meanwhile is read again; where it is sent back to stays what was said.
async fn carry_out(
    reach: &Reach,
    store: &Store,
    unit: &UnitId,
    mut shown: Shown,
    mut rewound: Rewound,
    (target, start): (Target, Height),
) -> Result<Result<(Rewound, Token), Exit>, StoreError> {
    let target = match unit.pipeline.kind {
        // Of many files there is no position: it goes so many lines back from where each stands then.
        Kind::Logs => target,
        Kind::Blocks | Kind::Selftest | Kind::Sync => {
            rewound.again.checked_sub(1).map_or_else(|| Target::Stood(String::new()), Target::To)
        }
    };
    for _ in 0..TRIES_MAX {
        match store.rewind(&reach.link, unit, &shown.tip, &RandomId::new(), &rewound.state).await {
            Ok(Rewind::Now(token) | Rewind::Before(token)) => {
                tracing::warn!(%unit, from = rewound.from, again = rewound.again, "rewound by an operator");
                return Ok(Ok((rewound, token)));
            }
            Err(StoreError::Moved { .. }) => {}
            Err(error) => return Err(error),
        }
        let Some(now) = store.checkpoint(&reach.link, unit).await? else { break };
        shown = now;
        rewound = match plan(unit, &shown.state, &target, start) {
            Ok(rewound) => rewound,
            Err(why) => return Ok(Err(Exit::missing(&format!("nothing was changed: {why}")))),
        };
    }
    let advice = "it commits faster than it can be read; pause it first, for example gapless pause";
    Ok(Err(Exit::missing(&format!("nothing was changed: {advice} {}", unit.pipeline))))
}

fn count_of(unit: &UnitId, plan: &Rewound) -> String {
    let number = usize::try_from(plan.count()).unwrap_or(usize::MAX);
    match unit.pipeline.kind {
        Kind::Logs => count(number, "line of each file", "lines of each file"),
        Kind::Blocks | Kind::Selftest | Kind::Sync => count(number, "position", "positions"),
    }
}

fn words(unit: &UnitId, plan: &Rewound) -> String {
    let to = plan.again.checked_sub(1).map_or_else(|| "before 0".to_owned(), |to| to.to_string());
    let way = match unit.pipeline.kind {
        Kind::Logs => format!("back by {}", count_of(unit, plan)),
        Kind::Blocks | Kind::Selftest | Kind::Sync => format!("from {} back to {to}", plan.from),
    };
    let mut text = format!("{unit}: {way}\n  {}\n  {OFFSET_STAYS}\n", plain(&plan.replayed));
    plan.lost.iter().for_each(|line| text.push_str(&format!("  {}\n", plain(line))));
    text
}

fn to_json(unit: &UnitId, plan: &Rewound, token: Option<Token>) -> serde_json::Value {
    let mut notes = vec![OFFSET_STAYS.to_owned()];
    notes.extend(plan.lost.iter().cloned());
    json!({
        "unit": unit.to_string(), "from": plan.from, "again_from": plan.again, "count": plan.count(),
        "replayed": plan.replayed, "notes": notes, "done": token.is_some(), "token": token.map(|token| token.to_string()),
    })
}
