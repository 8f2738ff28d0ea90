//! How far a long command is: a bar on a terminal, a plain line now and then elsewhere; always on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;
use super::words::grouped;

/// Pause between two plain lines: short commands print none.
const LINES_EVERY: Duration = Duration::from_secs(10);
/// Pictures a second on a terminal, at the most.
const FRAMES: u8 = 8;

/// Work that is under way.
pub(super) struct Progress {
    bar: ProgressBar,
    /// What is counted, in the plural.
    what: &'static str,
    done: u64,
    of: Option<u64>,
    /// When the last plain line was printed; none on a terminal.
    said: Option<Instant>,
}

impl Progress {
    /// Nothing done yet of so many; none where nobody knows how many there are.
    pub fn new(what: &'static str, of: Option<u64>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr_with_hz(FRAMES) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(of, target).with_message(what);
        let template = match of {
            Some(_) => "{bar:30} {human_pos} of {human_len} {msg}  {percent} %  {eta} left",
            None => "{spinner} {human_pos} {msg}  {elapsed}",
        };
        // A template that cannot be read leaves the plain style: only a picture for people.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self { bar, what, done: 0, of, said: (!terminal).then(Instant::now) }
    }

    /// So many more.
    pub fn add(&mut self, more: u64) {
        self.set(self.done.saturating_add(more));
    }

    /// So many in all.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        self.bar.set_position(done);
        if let Some(said) = self.said.filter(|said| said.elapsed() >= LINES_EVERY) {
            self.said = Some(said + LINES_EVERY);
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "gapless: {}", words(self.done, self.of, self.what));
        }
    }

    /// Prints a line of the answer above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| output::say(line));
    }

    /// Takes the bar away: the answer follows.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// `12,000 of 100,000 heights, 12 %`.
fn words(done: u64, of: Option<u64>, what: &str) -> String {
    match of {
        // Nothing to do is done.
        Some(of) => {
            let percent = u128::from(done) * 100 / u128::from(of.max(1));
            format!("{} of {} {what}, {percent} %", grouped(done), grouped(of))
        }
        None => format!("{} {what}", grouped(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_far_it_is() {
        assert_eq!(words(12_000, Some(100_000), "heights"), "12,000 of 100,000 heights, 12 %");
        assert_eq!(words(u64::MAX, Some(u64::MAX), "heights").split(", ").last(), Some("100 %"));
        assert_eq!(words(0, Some(0), "heights"), "0 of 0 heights, 0 %");
        assert_eq!(words(7_000, None, "files"), "7,000 files");
    }
}
