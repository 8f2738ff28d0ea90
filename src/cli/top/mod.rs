//! `gapless top`: how the fleet stands, live. It only reads, once a refresh, and with the same question as `status`.
//!
//! | file | what it does |
//! |---|---|
//! | `past` | what was seen: two samples, moves of leases, nodes that are gone, an outage |
//! | `controls` | what the keys do |
//! | `sections` | the tables |
//! | `fit` | columns and texts that fit a width |
//! | `picture` | one picture, a pure function of the three above and the size |
//! | `screen` | the terminal, taken and given back |

mod controls;
mod fit;
mod past;
mod picture;
mod screen;
mod sections;
#[cfg(test)]
mod tests;

use std::future::{Future, pending};
use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use jiff::Timestamp;
use ratatui::crossterm::event::Event;
use tokio::time::{Interval, MissedTickBehavior};

use super::exit::Exit;
use super::output::Paint;
use super::reach::Reach;
use super::signals::Signals;
use super::status::{self, INTERVAL_MAX};
use crate::config::Settings;
use crate::http::status::Status;
use crate::store::StoreError;
use controls::{Controls, Step};
use past::Past;
use picture::View;
use screen::Screen;

/// `gapless top`
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks, 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=INTERVAL_MAX))]
    interval: u64,
}

/// Why it ended before it was told to.
enum Fault {
    Terminal(io::Error),
    /// The first question already was refused: waiting would not cure it.
    Store(StoreError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Terminal(error)
    }
}

/// Shows the view until it is told to end. 0 then; 2 without a terminal, or where Redis refuses.
pub fn run(settings: Settings, args: &TopArgs) -> Exit {
    if !io::stdout().is_terminal() {
        return Exit::usage(
            "`gapless top` draws on a terminal, and standard output is none; for pipes and files: gapless status --watch",
        );
    }
    let reach = match Reach::new(settings) {
        Ok(reach) => reach.for_repeated_looks(),
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::usage(&format!("cannot start: {error}")),
    };
    // The screen is given back inside, before anything is said here.
    match runtime.block_on(show(&reach, Duration::from_secs(args.interval))) {
        Ok(()) => Exit::good(),
        Err(Fault::Terminal(error)) => Exit::usage(&format!("the terminal cannot be used: {error}")),
        Err(Fault::Store(error)) => Exit::store(&error),
    }
}

async fn show(reach: &Reach, every: Duration) -> Result<(), Fault> {
    let mut signals = Signals::listen_widely()?;
    let mut screen = Screen::open(Paint::stdout().is_on())?;
    let mut keys = screen::keys()?;
    let mut top = Top::new(reach, every);
    loop {
        top.draw(&mut screen)?;
        tokio::select! {
            () = signals.next() => return Ok(()),
            // The thread has ended: it says why first, so this is a panic of its own.
            event = keys.recv() => match event.unwrap_or_else(|| Err(io::Error::other("no more keys"))) {
                Ok(event) => if top.obey(&event, &screen) == Step::Quit { return Ok(()) },
                Err(error) => return Err(error.into()),
            },
            answer = next(&mut top.reading) => top.take(answer)?,
            _ = top.tick.tick() => top.ask(),
        }
    }
}

/// The view, and the question that is under way; one at a time.
struct Top<'r> {
    reach: &'r Reach,
    past: Past,
    controls: Controls,
    tick: Interval,
    reading: Option<LocalBoxFuture<'r, Result<Status, StoreError>>>,
    asked_ms: u64,
}

impl<'r> Top<'r> {
    fn new(reach: &'r Reach, every: Duration) -> Self {
        let mut tick = tokio::time::interval(every);
        // After a slow answer the next question keeps its distance.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { reach, past: Past::default(), controls: Controls::default(), tick, reading: None, asked_ms: 0 }
    }

    fn ask(&mut self) {
        if self.reading.is_none() && !self.controls.paused {
            self.asked_ms = now_ms();
            self.reading = Some(status::read(self.reach).boxed_local());
        }
    }

    fn take(&mut self, answer: Result<Status, StoreError>) -> Result<(), Fault> {
        self.reading = None;
        match answer {
            // The picture of a paused view stays, also when an answer was under way.
            Ok(_) | Err(_) if self.controls.paused => {}
            Ok(status) => self.past.note(status),
            Err(StoreError::Unreachable { reason, .. }) => self.past.note_away(self.asked_ms, reason, false),
            Err(error) if self.past.current.is_none() && self.past.away.is_none() => return Err(Fault::Store(error)),
            Err(error) => self.past.note_away(self.asked_ms, error.to_string(), true),
        }
        Ok(())
    }

    fn obey(&mut self, event: &Event, screen: &Screen) -> Step {
        let Event::Key(key) = event else { return Step::Redraw };
        let was_paused = self.controls.paused;
        let step = self.controls.key(*key, screen.page, screen.scroll_max);
        if was_paused && !self.controls.paused {
            self.tick.reset_immediately();
        }
        step
    }

    fn draw(&mut self, screen: &mut Screen) -> io::Result<()> {
        let address = self.reach.link.options().address();
        screen.draw(&View { past: &self.past, controls: &self.controls, address: &address, now_ms: now_ms() })?;
        // A body that has become shorter is not scrolled past its end.
        self.controls.scroll = self.controls.scroll.min(screen.scroll_max);
        Ok(())
    }
}

/// The answer of what is under way; waits for ever while nothing is.
async fn next<F: Future + Unpin>(under_way: &mut Option<F>) -> F::Output {
    match under_way {
        Some(future) => future.await,
        None => pending().await,
    }
}

fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}
