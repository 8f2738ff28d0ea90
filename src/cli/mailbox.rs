//! `gapless mailbox`: how mailboxes stand, and what waits in one.

mod dead;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::exit::Exit;
use super::output::{self, Side, Table};
use super::reach::{self, Reach};
use super::words::{age, maybe_age, or_dash, plain};
use crate::config::Settings;
use crate::http::status::{MailboxStatus, configured_mailboxes};
use crate::ids::EntryId;
use crate::store::status::server_ms;
use crate::store::{Entry, StoreError};
use dead::DeadCommand;

/// Entries that one question may show.
const COUNT_MAX: u32 = 1000;

/// `gapless mailbox ...`
#[derive(Debug, Subcommand)]
pub enum MailboxCommand {
    /// Every mailbox with what waits in it
    #[command(after_help = "Example:\n  gapless mailbox list")]
    List,
    /// Entries that wait, oldest first; takes nothing
    #[command(after_help = "Example, the second page of 50:\n  \
        gapless mailbox peek blocks.mainnet/gap_fixer --count 50 --after 1700000000000-7")]
    Peek(PageArgs),
    /// Entries that were set aside
    #[command(subcommand)]
    Dead(DeadCommand),
}

/// Which entries.
#[derive(Debug, Args)]
pub struct PageArgs {
    /// The mailbox's actor: KIND.NAME/ACTOR
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(COUNT_MAX)))]
    count: u32,
    /// Show those behind this entry
    #[arg(long, value_name = "ID", default_value = "0-0")]
    after: EntryId,
}

/// Runs the command.
pub fn run(settings: Settings, command: MailboxCommand, json: bool) -> Exit {
    let reach = match Reach::new(settings) {
        Ok(reach) => reach,
        Err(exit) => return exit,
    };
    match command {
        MailboxCommand::List => reach::block_on(list(&reach, json)),
        MailboxCommand::Peek(page) => reach::block_on(peek(&reach, &page, json)),
        MailboxCommand::Dead(command) => reach::block_on(dead::run(&reach, &command, json)),
    }
}

/// The table of `mailbox list` and `status`.
pub(super) fn table(mailboxes: &[MailboxStatus]) -> String {
    let columns = [
        ("MAILBOX", Side::Left),
        ("WAITING", Side::Right),
        ("CAPACITY", Side::Right),
        ("OLDEST", Side::Right),
        ("LATER", Side::Right),
        ("DEAD", Side::Right),
        ("", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for mailbox in mailboxes {
        table.row(vec![
            mailbox.mailbox.clone(),
            mailbox.waiting.to_string(),
            mailbox.capacity.to_string(),
            maybe_age(mailbox.oldest_age_ms),
            later(mailbox),
            mailbox.dead.to_string(),
            plain(&mailbox.fault),
        ]);
    }
    table.render()
}

/// Entries that come again later, and when the next does.
fn later(mailbox: &MailboxStatus) -> String {
    match mailbox.next_later_ms {
        Some(ms) => format!("{} in {}", mailbox.later, age(ms)),
        None => mailbox.later.to_string(),
    }
}

async fn list(reach: &Reach, json: bool) -> Result<Exit, StoreError> {
    let mailboxes = configured_mailboxes(&reach.settings, &reach.store, &reach.link).await?;
    if json {
        return Ok(output::json(&json!({ "mailboxes": mailboxes }), Exit::good()));
    }
    if mailboxes.is_empty() {
        return Ok(output::text("no pipeline is configured; name a file with --config\n", Exit::good()));
    }
    Ok(output::text(&table(&mailboxes), Exit::good()))
}

async fn peek(reach: &Reach, page: &PageArgs, json: bool) -> Result<Exit, StoreError> {
    let address = match reach.address(&page.address) {
        Ok(address) => address,
        Err(exit) => return Ok(exit),
    };
    let now = server_ms(&reach.link).await?;
    let entries = reach.store.peek(&reach.link, &address, page.after, page.count).await?;
    if json {
        let entries: Vec<Value> = entries.iter().map(|entry| entry_json(entry, now)).collect();
        return Ok(output::json(&json!({ "mailbox": address.to_string(), "entries": entries }), Exit::good()));
    }
    let columns = [("ID", Side::Left), ("AGE", Side::Right), ("TYPE", Side::Left), ("BODY", Side::Left)];
    let mut table = Table::new(&columns);
    for entry in &entries {
        let [kind, body] = ["type", "body"].map(|name| or_dash(&plain(&entry.text(name).unwrap_or_default())));
        table.row(vec![entry.id.to_string(), age(now.saturating_sub(entry.id.ms)), output::cut(&kind, 24), body]);
    }
    Ok(output::text(&pages(&table.render(), &entries, page, "nothing waits"), Exit::good()))
}

/// The table, and how to see what follows it.
fn pages(table: &str, entries: &[Entry], page: &PageArgs, nothing: &str) -> String {
    match entries.last() {
        None => format!("{nothing}\n"),
        Some(last) if entries.len() == page.count as usize => {
            format!("{table}there may be more: --after {}\n", last.id)
        }
        Some(_) => table.to_owned(),
    }
}

/// Fields as pairs, in order: names may repeat.
fn fields_json(entry: &Entry) -> Vec<[String; 2]> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    entry.fields.iter().map(|(name, value)| [text(name), text(value)]).collect()
}

fn entry_json(entry: &Entry, now: u64) -> Value {
    json!({
        "id": entry.id.to_string(),
        "age_ms": now.saturating_sub(entry.id.ms),
        "fields": fields_json(entry),
    })
}
