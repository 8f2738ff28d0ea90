//! `gapless status --watch`: the status again and again, as plain text or as one JSON document a line.

use std::io::ErrorKind;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use tokio::time::MissedTickBehavior;

use super::exit::{self, Exit};
use super::output::Paint;
use super::printer::{Printer, closed};
use super::reach::Reach;
use super::signals::Signals;
use super::status;
use crate::config::Settings;
use crate::http::status::Status;
use crate::store::StoreError;

/// Repeats until SIGTERM, SIGINT, or the reader closes the pipe: 0 then.
pub fn run(settings: Settings, every: Duration, json: bool) -> Exit {
    let reach = match Reach::new(settings) {
        Ok(reach) => reach.for_repeated_looks(),
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::usage(&format!("cannot start: {error}")),
    };
    runtime.block_on(async {
        let (mut signals, printer) = match Signals::listen().and_then(|signals| Ok((signals, Printer::start()?))) {
            Ok(both) => both,
            Err(error) => return Exit::usage(&format!("cannot start: {error}")),
        };
        tokio::select! {
            () = signals.next() => Exit::good(),
            () = closed() => Exit::good(),
            exit = repeat(&reach, every, json, &printer) => exit,
        }
    })
}

async fn repeat(reach: &Reach, every: Duration, json: bool, printer: &Printer) -> Exit {
    let mut tick = tokio::time::interval(every);
    // After a slow answer the next question keeps its distance.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    for first in std::iter::once(true).chain(std::iter::repeat(false)) {
        tick.tick().await;
        let text = match status::read(reach).await {
            Ok(status) => picture(&status, json, std::mem::take(&mut away)),
            Err(error) if first && !matches!(error, StoreError::Unreachable { .. }) => return Exit::store(&error),
            // An outage is said once, when it begins.
            Err(_) if std::mem::replace(&mut away, true) => continue,
            Err(error) => no_picture(&error, json),
        };
        match printer.print(text.into_bytes()).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Exit::good(),
            Err(error) => return Exit::usage(&format!("cannot write to standard output: {error}")),
        }
    }
    Exit::good()
}

/// The status as it is printed; after an outage, with a word that it is over.
fn picture(status: &Status, json: bool, back: bool) -> String {
    if json {
        if back {
            exit::complain("redis answers again");
        }
        // Strings, numbers and lists: nothing in it can fail to be JSON.
        return serde_json::to_string(status).map_or_else(|_| String::new(), |line| format!("{line}\n"));
    }
    format!("{}\n{}\n", stamp(), status::text(status, Paint::stdout()))
}

/// Lines of JSON are for the status alone; there, an outage is said on standard error.
fn no_picture(error: &StoreError, json: bool) -> String {
    let words = match error {
        StoreError::Unreachable { address, reason } => exit::unreachable(address, reason),
        error => format!("redis refuses: {error}"),
    };
    if json {
        exit::complain(&words);
        return String::new();
    }
    format!("{}\n{words}\n\n", stamp())
}

fn stamp() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}
