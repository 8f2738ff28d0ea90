//! `gapless mailbox dead`: what was set aside, moved back, or thrown away.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::{PageArgs, fields_json, pages};
use crate::cli::ask;
use crate::cli::exit::Exit;
use crate::cli::output::{self, Side, Table};
use crate::cli::reach::Reach;
use crate::cli::words::{age, count, or_dash, plain};
use crate::ids::{Address, EntryId, Kind};
use crate::messages::gap::GapTask;
use crate::messages::heights::HeightRange;
use crate::store::dead::{LETTERS_MAX, Letter};
use crate::store::status::server_ms;
use crate::store::{Entry, StoreError};
use crate::supervisor::wiring;

/// `gapless mailbox dead ...`
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// What was set aside from one mailbox, with the reason, oldest first
    #[command(after_help = "Example:\n  gapless mailbox dead list blocks.mainnet/gap_fixer")]
    List(PageArgs),
    /// Move letters back to the end of their mailbox, with their attempts forgotten
    #[command(after_help = "Examples:\n  gapless mailbox dead retry blocks.mainnet/gap_fixer --all\n  \
        gapless mailbox dead retry selftest.main/tally_0 1795232432718-0\n  \
        gapless mailbox dead retry selftest.main/tally_0 --reason 'a panic' --limit 10\n\n\
        As far as the mailbox has room; ends with 1 where some are left. Heights that were parked because their task was \
        set aside are let go.")]
    Retry {
        #[command(flatten)]
        which: Letters,
    },
    /// Throw letters away
    #[command(after_help = "Example:\n  gapless mailbox dead drop selftest.main/tally_0 1795232432718-0 --yes\n\n\
        Heights of a dropped task stay parked; gapless blocks unpark lets them go.")]
    Drop {
        #[command(flatten)]
        which: Letters,
        /// Do it without asking; needed where standard input is no terminal
        #[arg(long)]
        yes: bool,
    },
}

/// Which letters.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false).args(["ids", "all", "reason"]))]
pub struct Letters {
    /// The mailbox's actor: KIND.NAME/ACTOR
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// These, by their id in `dead list`
    #[arg(value_name = "ID")]
    ids: Vec<EntryId>,
    /// Every letter that is there now
    #[arg(long)]
    all: bool,
    /// Those whose reason holds this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// At most so many, the oldest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

pub(super) async fn run(reach: &Reach, command: &DeadCommand, json: bool) -> Result<Exit, StoreError> {
    match command {
        DeadCommand::List(page) => list(reach, page, json).await,
        DeadCommand::Retry { which } => match reach.address(&which.address) {
            Ok(address) => retry(reach, &address, which, json).await,
            Err(exit) => Ok(exit),
        },
        DeadCommand::Drop { which, yes } => match reach.address(&which.address) {
            Ok(address) => throw_away(reach, &address, which, *yes, json).await,
            Err(exit) => Ok(exit),
        },
    }
}

async fn list(reach: &Reach, page: &PageArgs, json: bool) -> Result<Exit, StoreError> {
    let address = match reach.address(&page.address) {
        Ok(address) => address,
        Err(exit) => return Ok(exit),
    };
    let now = server_ms(&reach.link).await?;
    let letters = reach.store.dead(&reach.link, &address, page.after, page.count).await?;
    if json {
        let letters: Vec<Value> = letters.iter().map(|letter| letter_json(letter, now)).collect();
        return Ok(output::json(&json!({ "mailbox": address.to_string(), "letters": letters }), Exit::good()));
    }
    let columns = [
        ("ID", Side::Left),
        ("AGE", Side::Right),
        ("TYPE", Side::Left),
        ("FAILED", Side::Right),
        ("UNFINISHED", Side::Right),
        ("REASON", Side::Left),
    ];
    let mut table = Table::new(&columns).whole();
    for letter in &letters {
        let field = |name: &str| plain(&letter.text(name).unwrap_or_default());
        table.row(vec![
            letter.id.to_string(),
            age(now.saturating_sub(letter.id.ms)),
            output::cut(&or_dash(&field("type")), 24),
            field("dead.failed"),
            field("dead.unfinished"),
            field("dead.reason"),
        ]);
    }
    Ok(output::text(&pages(&table.render(), &letters, page, "nothing was set aside"), Exit::good()))
}

fn letter_json(letter: &Entry, now: u64) -> Value {
    let text = |name: &str| letter.text(name).unwrap_or_default();
    let number = |name: &str| text(name).parse().unwrap_or(0_u64);
    json!({
        "id": letter.id.to_string(),
        "age_ms": now.saturating_sub(letter.id.ms),
        "reason": text("dead.reason"),
        "entry": text("dead.entry"),
        "unit": text("dead.unit"),
        "failed": number("dead.failed"),
        "unfinished": number("dead.unfinished"),
        "fields": fields_json(letter).into_iter().filter(|[name, _]| !name.starts_with("dead.")).collect::<Vec<_>>(),
    })
}

/// Letters that are meant, page by page, so that memory holds one page.
struct Pages<'a> {
    reach: &'a Reach,
    of: &'a Address,
    which: &'a Letters,
    after: EntryId,
    /// What comes later was not there when the command began: a letter that dies again is not met twice.
    last: EntryId,
    /// Of the ids that were named, those still to look at.
    ids: std::slice::Iter<'a, EntryId>,
    room: usize,
    unknown: Vec<EntryId>,
}

impl<'a> Pages<'a> {
    async fn of(reach: &'a Reach, of: &'a Address, which: &'a Letters) -> Result<Self, StoreError> {
        let last = reach.store.dead_newest(&reach.link, of).await?.unwrap_or(EntryId::ZERO);
        let room = which.limit.map_or(usize::MAX, |limit| limit as usize);
        let (after, ids) = (EntryId::ZERO, which.ids.iter());
        Ok(Self { reach, of, which, after, last, ids, room, unknown: Vec::new() })
    }

    /// The next letters; none when all were seen.
    async fn next(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        let mut page = if self.which.ids.is_empty() { self.browse().await? } else { self.named().await? };
        if let Some(page) = &mut page {
            page.truncate(self.room);
            self.room -= page.len();
        }
        Ok(page)
    }

    async fn browse(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        if self.room == 0 || self.after >= self.last {
            return Ok(None);
        }
        let count = u32::try_from(LETTERS_MAX).unwrap_or(u32::MAX);
        let mut page = self.reach.store.dead(&self.reach.link, self.of, self.after, count).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.id;
        let wanted = self.which.reason.as_deref().unwrap_or("");
        page.retain(|letter| letter.id <= self.last && letter.text("dead.reason").unwrap_or_default().contains(wanted));
        Ok(Some(page))
    }

    async fn named(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        let ids: Vec<EntryId> = self.ids.by_ref().take(LETTERS_MAX.min(self.room)).copied().collect();
        let mut page = Vec::new();
        for id in &ids {
            match self.reach.store.dead_letter(&self.reach.link, self.of, *id).await? {
                Some(letter) => page.push(letter),
                None => self.unknown.push(*id),
            }
        }
        Ok((!ids.is_empty()).then_some(page))
    }
}

async fn retry(reach: &Reach, of: &Address, which: &Letters, json: bool) -> Result<Exit, StoreError> {
    let capacity = wiring::capacity(&reach.settings, of);
    let mut pages = Pages::of(reach, of, which).await?;
    let (mut moved, mut gone, mut left, mut tasks) = (0, 0, 0, 0);
    while let Some(page) = pages.next().await? {
        // Once the mailbox is full the rest is only counted.
        if left > 0 {
            left += page.len();
            continue;
        }
        let letters: Vec<Letter> = page.iter().map(|entry| Letter { id: entry.id, task: task(of, entry) }).collect();
        let done = reach.store.retry(&reach.link, of, capacity, &letters).await?;
        tasks += letters.iter().take(done.moved).filter(|letter| letter.task.is_some()).count();
        (moved, gone) = (moved + done.moved, gone + done.gone);
        left += letters.len() - done.moved - done.gone;
    }
    tracing::info!(mailbox = %of, moved, left, "dead letters moved back by an operator");
    let unknown: Vec<String> = pages.unknown.iter().map(ToString::to_string).collect();
    let exit = |text: String| if left > 0 || !unknown.is_empty() { Exit::missing(&text) } else { Exit::good() };
    let mut faults = Vec::new();
    if left > 0 {
        let them = count(left, "letter is", "letters are");
        faults
            .push(format!("mailbox {of} is full (capacity {capacity}): {them} left; run it again when there is room"));
    }
    if !unknown.is_empty() {
        faults.push(format!("no such letter: {}", unknown.join(", ")));
    }
    if json {
        let answer = json!({
            "mailbox": of.to_string(), "moved": moved, "gone": gone, "left": left, "unknown": unknown,
        });
        return Ok(output::json(&answer, exit(faults.join("; "))));
    }
    let mut text = format!("{} moved back to the end of {of}\n", count(moved, "letter", "letters"));
    if gone > 0 {
        text.push_str(&format!("{} gone meanwhile: moved or dropped\n", count(gone, "was", "were")));
    }
    if tasks > 0 {
        text.push_str("heights that were parked because of it are let go\n");
    }
    Ok(output::text(&text, exit(faults.join("; "))))
}

/// The heights of a task, if the letter is one.
fn task(of: &Address, letter: &Entry) -> Option<HeightRange> {
    if (of.pipeline.kind, of.actor.as_str()) != (Kind::Blocks, "gap_fixer") {
        return None;
    }
    let body: Value = serde_json::from_slice(letter.field("body")?).ok()?;
    match serde_json::from_value(json!({ "type": letter.text("type")?, "body": body })).ok()? {
        GapTask::Fill { range, .. } => Some(range),
    }
}

async fn throw_away(reach: &Reach, of: &Address, which: &Letters, yes: bool, json: bool) -> Result<Exit, StoreError> {
    let mut pages = Pages::of(reach, of, which).await?;
    let mut ids = Vec::new();
    let mut tasks = 0;
    while let Some(page) = pages.next().await? {
        ids.extend(page.iter().map(|letter| letter.id));
        tasks += page.iter().filter(|letter| task(of, letter).is_some()).count();
    }
    let them = count(ids.len(), "letter", "letters");
    if let Err(exit) = ask::confirmed(yes, &format!("throw {them} of {of} away?")) {
        return Ok(exit);
    }
    let dropped = reach.store.drop_dead(&reach.link, of, &ids).await?;
    tracing::warn!(mailbox = %of, dropped, "dead letters dropped by an operator");
    let unknown: Vec<String> = pages.unknown.iter().map(ToString::to_string).collect();
    let exit = || match unknown.is_empty() {
        true => Exit::good(),
        false => Exit::missing(&format!("no such letter: {}", unknown.join(", "))),
    };
    if json {
        let answer = json!({ "mailbox": of.to_string(), "dropped": dropped, "unknown": unknown });
        return Ok(output::json(&answer, exit()));
    }
    let mut text = format!("{} of {of} dropped\n", count(dropped, "letter", "letters"));
    if tasks > 0 {
        text.push_str("the heights of its tasks stay parked: gapless blocks gaps shows them, gapless blocks unpark lets them go\n");
    }
    Ok(output::text(&text, exit()))
}
