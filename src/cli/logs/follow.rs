//! `logs follow`: lines as they come, from the stream or as a member of a consumer group.
//!
//! In a group a page is acknowledged after it was written out. A death in between prints the page again, and no line is
//! passed over.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IsTerminal};
use std::pin::Pin;
use std::time::Duration;

use clap::Args;

use super::pages::{PAGE_FIRST, next_page};
use super::paths::{self, PathGlob, Paths};
use super::print::Shown;
use super::{Chosen, Desk, Exit, Which};
use crate::actors::log_watcher::LINES;
use crate::cli::exit::{complain, unreachable};
use crate::cli::output::Paint;
use crate::cli::printer::{Printer, closed};
use crate::cli::signals::Signals;
use crate::ids::EntryId;
use crate::messages::line::{Label, Level};
use crate::store::link::{Class, Link, Patience};
use crate::store::output::{Begin, GroupReader};
use crate::store::{Entry, StoreError};

/// How long one request tries before it is said that Redis is away.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most letters of the name of a group or of a consumer.
const NAME_MAX: usize = 128;

/// `gapless logs follow`
#[derive(Debug, Args, Clone)]
pub struct FollowArgs {
    #[command(flatten)]
    which: Which,
    /// Only lines of these levels, for example ERROR,FATAL
    #[arg(long, value_name = "LEVEL", value_delimiter = ',', value_parser = level)]
    level: Vec<String>,
    /// Only lines of files whose path matches; without a slash, whose name does
    #[arg(long, value_name = "GLOB", value_parser = paths::glob)]
    file: Option<PathGlob>,
    /// The consumer group that remembers what was printed; it is made if it is not there
    #[arg(long, value_name = "NAME", value_parser = name)]
    group: Option<String>,
    /// Tells those apart that share a group at the same time: each line goes to one of them
    #[arg(long, value_name = "NAME", default_value = "follow", requires = "group", value_parser = name)]
    consumer: String,
    /// Where to begin: beginning, now, or behind an entry ID of the stream. A group that is there goes on where it was
    /// [default: now; a new group at the beginning]
    #[arg(long, value_name = "WHERE", value_parser = from)]
    from: Option<Origin>,
    /// Acknowledge nothing: the group's next run prints the same lines again
    #[arg(long, requires = "group")]
    no_ack: bool,
    /// The events that lines became, in place of the lines: [logs.NAME.parse]
    #[arg(long, conflicts_with = "unparsed")]
    events: bool,
    /// The lines that became no event, with --json each with its reason
    #[arg(long)]
    unparsed: bool,
}

impl FollowArgs {
    pub(super) fn which(&self) -> &Which {
        &self.which
    }

    /// The output that is read.
    fn output(&self, chosen: &Chosen) -> Result<String, Exit> {
        if !self.events && !self.unparsed {
            return Ok(LINES.to_owned());
        }
        let parse = chosen.section.parse.as_ref();
        let output = parse.map(|parse| if self.events { &parse.events } else { &parse.unparsed });
        output.cloned().ok_or_else(|| {
            let name = &chosen.pipeline.name;
            Exit::usage(&format!("lines of logs.{name} do not become events; add a table [logs.{name}.parse]"))
        })
    }

    fn begin(&self) -> Result<Origin, Exit> {
        match (self.from, &self.group) {
            (None, None) => Ok(Origin::Now),
            (None, Some(_)) => Ok(Origin::Beginning),
            (Some(Origin::Behind(_)), Some(_)) => {
                Err(Exit::usage("a group begins at the beginning or now, not at an entry; drop --from, or --group"))
            }
            (Some(from), _) => Ok(from),
        }
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Beginning,
    Now,
    Behind(EntryId),
}

fn from(text: &str) -> Result<Origin, String> {
    match text {
        "beginning" => Ok(Origin::Beginning),
        "now" => Ok(Origin::Now),
        _ => text
            .parse()
            .map(Origin::Behind)
            .map_err(|_| "write beginning, now, or an entry ID like 1795232430552-0".to_owned()),
    }
}

fn level(text: &str) -> Result<String, String> {
    let level = Level::new(text.as_bytes()).map(|level| level.as_str().to_owned());
    level.ok_or_else(|| "a level is a word of letters, digits and _".to_owned())
}

fn name(text: &str) -> Result<String, String> {
    let fits = (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| format!("write 1 to {NAME_MAX} printable characters without spaces"))
}

pub(super) fn run(desk: Desk, chosen: &Chosen, args: &FollowArgs) -> Exit {
    let begin = match args.begin() {
        Ok(begin) => begin,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::usage(&format!("cannot start: {error}")),
    };
    runtime.block_on(async {
        let signals = Signals::interrupt().and_then(|interrupt| Ok((interrupt, Signals::terminate()?)));
        let (mut interrupt, mut terminate) = match signals {
            Ok(both) => both,
            Err(error) => return Exit::usage(&format!("cannot start: {error}")),
        };
        let stop = async move {
            tokio::select! {
                () = interrupt.next() => Exit::from_code(130),
                () = terminate.next() => Exit::good(),
                () = closed() => Exit::good(),
            }
        };
        match Follower::new(desk, chosen, args, begin) {
            Ok(follower) => follower.run(Box::pin(stop)).await,
            Err(exit) => exit,
        }
    })
}

/// Whom lines come from.
enum Source {
    /// A group that was not asked yet.
    Unjoined,
    Group(GroupReader),
    /// The stream itself, behind this entry; none: not known yet.
    Stream(Option<EntryId>),
}

struct Follower<'a> {
    desk: Desk,
    bell: Link,
    chosen: &'a Chosen,
    args: &'a FollowArgs,
    begin: Origin,
    output: String,
    levels: BTreeSet<&'a str>,
    source: Source,
    paths: Paths,
    printer: Printer,
    /// How many entries the next page has.
    page: u32,
    /// The newest entry that was read.
    last: EntryId,
    /// The last page was full: there may be more than is read in time.
    was_full: bool,
    is_away: bool,
    /// It was said that lines of unknown files are left out.
    said_unknown: bool,
}

type Stop = Pin<Box<dyn Future<Output = Exit>>>;

impl<'a> Follower<'a> {
    fn new(desk: Desk, chosen: &'a Chosen, args: &'a FollowArgs, begin: Origin) -> Result<Self, Exit> {
        let printer = Printer::start().map_err(|error| Exit::usage(&format!("cannot start: {error}")))?;
        let link = desk.link.with_patience(Patience::For(PATIENCE));
        let (bell, desk) = (link.sibling(Class::Bell), Desk { link, ..desk });
        let source = match (&args.group, begin) {
            (Some(_), _) => Source::Unjoined,
            (None, Origin::Beginning) => Source::Stream(Some(EntryId::ZERO)),
            (None, Origin::Behind(id)) => Source::Stream(Some(id)),
            (None, Origin::Now) => Source::Stream(None),
        };
        Ok(Self {
            desk,
            bell,
            chosen,
            args,
            begin,
            output: args.output(chosen)?,
            levels: args.level.iter().map(String::as_str).collect(),
            source,
            paths: Paths::default(),
            printer,
            page: PAGE_FIRST,
            last: EntryId::ZERO,
            was_full: false,
            is_away: false,
            said_unknown: false,
        })
    }

    async fn run(mut self, mut stop: Stop) -> Exit {
        loop {
            let entries = tokio::select! {
                biased;
                exit = &mut stop => return exit,
                entries = self.next() => entries,
            };
            let entries = match self.heard(entries).await {
                Ok(Some(entries)) => entries,
                Ok(None) => continue,
                Err(error) => return Exit::store(&error),
            };
            if let Err(exit) = self.page(&entries, &mut stop).await {
                return exit;
            }
        }
    }

    /// Prints a page and acknowledges it, however long Redis is away.
    async fn page(&mut self, entries: &[Entry], stop: &mut Stop) -> Result<(), Exit> {
        let text = loop {
            let text = tokio::select! {
                biased;
                exit = &mut *stop => return Err(exit),
                text = self.text(entries) => text,
            };
            match self.heard(text).await {
                Ok(Some(text)) => break text,
                Ok(None) => {}
                Err(error) => return Err(Exit::store(&error)),
            }
        };
        if !text.is_empty() {
            let printed = tokio::select! {
                biased;
                exit = &mut *stop => return Err(exit),
                printed = self.printer.print(text) => printed,
            };
            match printed {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(Exit::good()),
                Err(error) => return Err(Exit::usage(&format!("cannot write to standard output: {error}"))),
            }
        }
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        loop {
            let acknowledged = match &self.source {
                Source::Group(group) if !self.args.no_ack => group.acknowledge(&ids).await,
                _ => Ok(()),
            };
            match self.heard(acknowledged).await {
                Ok(Some(())) => return Ok(()),
                // What was printed is acknowledged before an order to end is obeyed, but not at any price.
                Ok(None) => {
                    if let Some(exit) = futures_util::FutureExt::now_or_never(&mut *stop) {
                        return Err(exit);
                    }
                }
                Err(error) => return Err(Exit::store(&error)),
            }
        }
    }

    /// What was answered; none while Redis is away, which is said once when it begins and once when it ends.
    async fn heard<T>(&mut self, answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match answer {
            Ok(answer) => {
                if std::mem::take(&mut self.is_away) {
                    complain("redis answers again");
                    self.look_back().await;
                }
                Ok(Some(answer))
            }
            Err(StoreError::Unreachable { address, reason }) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    complain(&format!("{}; waiting for it", unreachable(&address, &reason)));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// After an outage a stream may end before what was read of it: what is appended there now would be passed over.
    async fn look_back(&mut self) {
        let Source::Stream(Some(after)) = &mut self.source else { return };
        let facts = self.desk.store.output_facts(&self.desk.link, &self.chosen.pipeline, &self.output).await;
        let last = facts.ok().flatten().map_or(EntryId::ZERO, |facts| facts.last);
        if last < *after {
            complain(&format!("redis has lost lines that were printed: it goes on behind {last}, before {after}"));
            (*after, self.last) = (last, last);
        }
    }

    /// The end of the stream, as of now.
    async fn end(&self) -> Result<EntryId, StoreError> {
        let facts = self.desk.store.output_facts(&self.desk.link, &self.chosen.pipeline, &self.output).await?;
        Ok(facts.map_or(EntryId::ZERO, |facts| facts.last))
    }

    async fn next(&mut self) -> Result<Vec<Entry>, StoreError> {
        let (store, pipeline) = (&self.desk.store, &self.chosen.pipeline);
        if let (Source::Unjoined, Some(group)) = (&self.source, &self.args.group) {
            let begin = match self.begin {
                Origin::Beginning => Begin::Oldest,
                Origin::Now => Begin::Behind(self.end().await?),
                Origin::Behind(id) => Begin::Behind(id.min(self.end().await?)),
            };
            if let Begin::Behind(id) = begin {
                // A group that Redis loses begins here once more, whatever came meanwhile.
                self.begin = Origin::Behind(id);
            }
            let names = (group.as_str(), self.args.consumer.as_str());
            self.source = Source::Group(store.join(&self.bell, pipeline, &self.output, names, begin).await?);
        }
        if let Source::Stream(None) = &self.source {
            self.source = Source::Stream(Some(self.end().await?));
        }
        if std::mem::take(&mut self.was_full) {
            self.look_for_a_hole().await?;
        }
        let entries = match &mut self.source {
            Source::Group(group) => match group.next(self.page).await {
                Err(StoreError::Broken { .. }) if group.is_forgotten() => {
                    complain("redis has lost the group; it begins once more, and lines may come twice");
                    self.source = Source::Unjoined;
                    return Ok(Vec::new());
                }
                entries => entries?,
            },
            Source::Stream(after) => {
                let from = after.unwrap_or(EntryId::ZERO);
                let entries = store.tail(&self.bell, pipeline, &self.output, from, self.page).await?;
                *after = entries.last().map(|entry| entry.id).or(*after);
                entries
            }
            Source::Unjoined => Vec::new(),
        };
        self.last = entries.last().map_or(self.last, |entry| entry.id.max(self.last));
        self.was_full = entries.len() >= self.page as usize;
        self.page = next_page(self.page, &entries);
        Ok(entries)
    }

    /// Behind a full page there may be lines that left the stream before they were read.
    async fn look_for_a_hole(&self) -> Result<(), StoreError> {
        let facts = self.desk.store.output_facts(&self.desk.link, &self.chosen.pipeline, &self.output).await?;
        if let Some(first) = facts.and_then(|facts| facts.first).filter(|first| *first > self.last) {
            let last = self.last;
            complain(&format!(
                "lines between {last} and {first} may have left the stream before they were printed; with --group and \
                 keep = \"acknowledged\" they wait"
            ));
        }
        Ok(())
    }

    /// What is printed of a page.
    async fn text(&mut self, entries: &[Entry]) -> Result<Vec<u8>, StoreError> {
        let labels: Vec<_> = entries.iter().map(|entry| Label::of(&entry.fields).map(|(label, _)| label)).collect();
        if self.desk.json || self.args.file.is_some() {
            let files = labels.iter().flatten().map(|label| &label.id.file);
            self.paths.learn(&self.desk, self.chosen, files).await?;
        }
        let (mut out, mut unknown) = (Vec::new(), false);
        let is_terminal = std::io::stdout().is_terminal();
        for (entry, label) in entries.iter().zip(labels) {
            let path = label.as_ref().and_then(|label| self.paths.of(&label.id.file));
            let is_meant = self.args.file.as_ref().is_none_or(|glob| path.is_some_and(|path| glob.matches(path)));
            unknown |= self.args.file.is_some() && path.is_none();
            let level = label.as_ref().map_or("", |label| label.level.as_str());
            if !is_meant || !(self.levels.is_empty() || self.levels.contains(level)) {
                continue;
            }
            let shown = Shown { entry, path, label, is_event: self.args.events };
            match (self.desk.json, is_terminal) {
                (true, _) => shown.json(&mut out),
                (false, true) => shown.terminal(Paint::stdout().is_on(), &mut out),
                (false, false) => shown.raw(&mut out),
            }
        }
        if unknown && !std::mem::replace(&mut self.said_unknown, true) {
            complain("lines of files whose place is not kept any more are left out: --file cannot tell theirs");
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_word_or_an_entry() {
        assert_eq!(from("now"), Ok(Origin::Now));
        assert_eq!(from("5-1"), Ok(Origin::Behind(EntryId { ms: 5, seq: 1 })));
        assert!(from("yesterday").is_err());
        assert_eq!(level("warn"), Ok("WARN".to_owned()));
        assert!(level("a b").is_err() && name("a b").is_err() && name("").is_err());
    }
}
