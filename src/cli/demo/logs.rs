//! `gapless demo --pipeline logs`: files that grow in bursts and are rotated in every style, nodes that are killed, and an
//! audit of the stream against the list of what was written.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::logs_audit::{Found, audit};
use super::nodes::Nodes;
use super::{CATCH_UP, DemoArgs, Kills, conclude, kill_one, kill_pause, patient_desk, takeovers, workplace};
use crate::actors::log_watcher::LINES;
use crate::cli::desk::Desk;
use crate::cli::exit::Exit;
use crate::cli::output::say;
use crate::cli::words::{bytes, count, grouped};
use crate::config::Settings;
use crate::ids::{Kind, PipelineId};
use crate::simulate::logs::{Generator, LogFaults, LogFormat, LogPlan, Rotate};
use crate::store::status::is_written;

/// Lines a second, all files together, between bursts.
const RATE: f64 = 1000.0;
/// Lines of a burst, written as fast as the disk takes them.
const BURST_LINES: u64 = 5000;
/// Pause between two bursts.
const BURST_EVERY: Duration = Duration::from_secs(4);
/// Files that grow.
const FILES: u32 = 4;
/// A file is rotated after about so many lines.
const ROTATE_LINES: u32 = 1500;
/// Appends are made in steps of this time.
const TICK: Duration = Duration::from_millis(50);
/// What goes wrong in the files.
const FAULTS: &str = "partial=0.3,late=0.3,crlf=0.02,empty=0.01,invalid=0.01,nul=0.005,long=0.002:3000";
/// How long a killed node stays away: longer than its lease, so that another one goes on.
const AWAY: Duration = Duration::from_millis(4500);
/// The same where there is no other one.
const AWAY_ALONE: Duration = Duration::from_millis(1500);
/// Entries that fit in the stream: all of the longest demo.
const STREAM_MAX: u64 = 100_000_000;

/// The demo's only pipeline.
pub(super) fn pipeline() -> PipelineId {
    PipelineId::new(Kind::Logs, "demo")
}

/// Runs it.
pub(super) async fn play(args: &DemoArgs) -> Result<Exit, Exit> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Exit::usage(&format!("demo: {what}: {error}"));
    let folder = workplace(args).map_err(|e| failed("cannot make a folder", &e))?;
    let plan = plan(args, &folder).map_err(|e| failed("faults", &e))?;
    std::fs::create_dir(&plan.dir).map_err(|e| failed("cannot make a folder", &e))?;
    let mut generator = Generator::open(plan.clone()).map_err(|e| failed("files", &e))?;
    let config = folder.join("gapless.toml");
    std::fs::write(&config, configuration(&folder)).map_err(|e| failed("cannot write", &e))?;
    introduce(args, &folder);
    let mut nodes = Nodes::start(&config, &folder, args.nodes).map_err(|e| failed("cannot start nodes", &e))?;
    let text = std::fs::read_to_string(&config).map_err(|e| failed("cannot read", &e))?;
    let settings = Settings::from_text("demo", &text).map_err(|report| Exit::usage(&report.to_string()))?;
    let desk = patient_desk(&settings).await?;
    let mut stage = Stage { args, desk: &desk, folder: &folder, generator: &mut generator, kills: Kills::default() };
    stage.grow_and_kill(&mut nodes).await.map_err(|e| failed("files", &e))?;
    let (kills, rotations) = (stage.kills, generator.lives() - u64::from(FILES));
    let (mut found, caught_up) = settle(&desk, &plan.truth).await?;
    (found.kills, found.rotations, found.takeovers) = (kills, rotations, takeovers(&desk).await?);
    let drained = nodes.stop();
    for line in found.lines(args.seed) {
        say(&line);
    }
    Ok(conclude(args, &folder, found.is_whole(), caught_up, drained))
}

fn plan(args: &DemoArgs, folder: &Path) -> Result<LogPlan, String> {
    Ok(LogPlan {
        seed: args.seed,
        dir: folder.join("logs"),
        truth: folder.join("truth.jsonl"),
        files: FILES,
        formats: vec![LogFormat::Seed, LogFormat::Json, LogFormat::Nginx, LogFormat::Logfmt],
        burst: 200,
        rotate: Rotate::Mix,
        rotate_lines: ROTATE_LINES,
        // Nothing that was rotated is deleted.
        keep: u32::MAX,
        faults: FAULTS.parse::<LogFaults>()?,
        ..LogPlan::default()
    })
}

/// What is about to be seen.
fn introduce(args: &DemoArgs, folder: &Path) {
    let nodes = count(args.nodes as usize, "node follows", "nodes follow");
    say(&format!("demo {}: {nodes} {FILES} log files from seed {}", args.pipeline, args.seed));
    say(&format!(
        "files:  {RATE} lines/s, bursts of {}, rotated in 8 styles after about {} lines",
        grouped(BURST_LINES),
        grouped(u64::from(ROTATE_LINES))
    ));
    say(&format!("faults: {FAULTS}"));
    say("what is truncated or deleted without a copy was read before");
    say(&format!("work in {}", folder.display()));
    say("");
}

/// The nodes' configuration: what a user would write, with short leases and waits and paths of the demo's own.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[redis]\nurl = \"managed\"\ndata_dir = \"{folder}/redis\"\n\n\
         [node]\nhttp = \"\"\nhost = \"demo\"\nlease_seconds = 2\nstate_dir = \"{folder}/state\"\n\n\
         [logs.demo]\npaths = [\"{folder}/logs/*.log\"]\npoll_ms = 200\nrotate_wait_ms = 15000\n\
         stream_entries_max = {STREAM_MAX}\n"
    )
}

/// Everything on the way.
struct Stage<'a> {
    args: &'a DemoArgs,
    desk: &'a Desk,
    folder: &'a Path,
    generator: &'a mut Generator,
    kills: Kills,
}

impl Stage<'_> {
    /// Lets the files grow and kills nodes, by the seed; a line a second says how it stands. At the end every file has
    /// what was begun.
    async fn grow_and_kill(&mut self, nodes: &mut Nodes) -> std::io::Result<()> {
        let mut rng = StdRng::seed_from_u64(self.args.seed);
        let started = Instant::now();
        let end = started + Duration::from_secs(self.args.seconds);
        let mut next_kill = started + Duration::from_millis(rng.random_range(3000..4500));
        let (mut next_line, mut next_burst, mut extra) = (started, started + BURST_EVERY, 0);
        let mut tick = tokio::time::interval(TICK);
        let away = if self.args.nodes > 1 { AWAY } else { AWAY_ALONE };
        while Instant::now() < end {
            tick.tick().await;
            let now = Instant::now();
            if now >= next_burst {
                (next_burst, extra) = (now + BURST_EVERY, extra + BURST_LINES);
            }
            self.write(due(started.elapsed()) + extra).await?;
            if now >= next_line {
                next_line = now + Duration::from_secs(1);
                say(&self.line(started.elapsed(), nodes.alive()).await);
            }
            if now >= next_kill {
                next_kill = now + kill_pause(self.args, &mut rng);
                kill_one(self.args, &mut rng, &mut self.kills, nodes, self.folder);
            }
            nodes.revive(away);
        }
        nodes.revive(Duration::ZERO);
        self.generator.wind_down();
        while self.generator.peek().is_some() && Instant::now() < end + CATCH_UP {
            tick.tick().await;
            self.write(u64::MAX).await?;
        }
        Ok(())
    }

    /// Writes until so many lines are written, or until something would be destroyed that was not read yet.
    async fn write(&mut self, lines: u64) -> std::io::Result<()> {
        while self.generator.lines() < lines {
            let Some(next) = self.generator.peek() else { return Ok(()) };
            if next.step.destroys() && !self.is_all_read().await {
                return Ok(());
            }
            self.generator.step()?;
        }
        Ok(())
    }

    /// Whether every line that was written is in the stream, and would be there after `kill -9` of Redis.
    async fn is_all_read(&self) -> bool {
        let pipeline = pipeline();
        let Ok(Some(facts)) = self.desk.store.output_facts(&self.desk.link, &pipeline, LINES).await else {
            return false;
        };
        // Only what was read before may be judged by what is written now.
        facts.length >= self.generator.lines() && matches!(is_written(&self.desk.link).await, Ok(true))
    }

    /// One line on how it stands.
    async fn line(&self, since: Duration, alive: usize) -> String {
        let written = self.generator.lines();
        let rotations = self.generator.lives() - u64::from(FILES);
        let pipeline = pipeline();
        let facts = self.desk.store.output_facts(&self.desk.link, &pipeline, LINES);
        let length = match tokio::time::timeout(Duration::from_millis(400), facts).await {
            Ok(Ok(facts)) => facts.map_or(0, |facts| facts.length),
            _ => return format!("{:>4} s  redis is away", since.as_secs()),
        };
        format!(
            "{:>4} s  written {:>7}  in stream {:>7}  rotations {rotations:>3}  nodes {alive}  kills {}",
            since.as_secs(),
            grouped(written),
            grouped(length),
            self.kills.nodes + self.kills.redis,
        )
    }
}

/// Lines that are written after so long, without bursts.
fn due(since: Duration) -> u64 {
    // Seconds of a demo times a thousand.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
    let lines = (since.as_secs_f64() * RATE) as u64;
    lines
}

/// The audit, once everything is in the stream; else what it finds after a while, and false.
async fn settle(desk: &Desk, truth: &Path) -> Result<(Found, bool), Exit> {
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let found = audit(desk, truth).await;
        match found {
            Ok(found) if found.missing.is_empty() => return Ok((found, true)),
            found if Instant::now() >= deadline => return Ok((found?, false)),
            _ => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

impl Found {
    /// The lines of the table.
    fn lines(&self, seed: u64) -> Vec<String> {
        let mut lines = vec![String::new(), format!("audit of the stream against what was written from seed {seed}")];
        let mut row = |name: &str, value: u64, note: String| {
            lines.push(format!("  {name:<22} {:>12}  {note}", grouped(value)).trim_end().to_owned());
        };
        row("lines written", self.written, format!("in {} lives of {FILES} files", grouped(self.lives)));
        row("in stream", self.in_stream, String::new());
        row("missing", self.missing.len() as u64, named(&self.missing));
        row("doubled", self.doubled.len() as u64, named(&self.doubled));
        row("altered or foreign", self.altered.len() as u64, named(&self.altered));
        row("reordered", self.reordered.len() as u64, named(&self.reordered));
        row("rotations", self.rotations, String::new());
        row("bytes", self.bytes, bytes(self.bytes));
        row("node kills survived", self.kills.nodes, String::new());
        row("redis kills survived", self.kills.redis, String::new());
        row("units taken over", self.takeovers, String::new());
        lines
    }
}

/// The first lines of a row, by name.
fn named(lines: &[String]) -> String {
    const NAMED_MAX: usize = 3;
    let more = if lines.len() > NAMED_MAX { ", ..." } else { "" };
    format!("{}{more}", lines[..lines.len().min(NAMED_MAX)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_line_up_and_faults_are_named() {
        let missing = (0..5).map(|n| format!("app.log 0 line {n}")).collect();
        let found = Found { written: 12_000, in_stream: 11_995, lives: 9, missing, ..Found::default() };
        assert!(!found.is_whole());
        let lines = found.lines(7);
        let line = |name: &str| lines.iter().find(|line| line.trim_start().starts_with(name)).expect("a row").as_str();
        assert_eq!(line("lines written"), "  lines written                12,000  in 9 lives of 4 files");
        assert_eq!(
            line("missing"),
            "  missing                           5  app.log 0 line 0, app.log 0 line 1, app.log 0 line 2, ..."
        );
        assert_eq!(line("doubled"), "  doubled                           0");
    }
}
