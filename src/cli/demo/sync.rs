//! `gapless demo --pipeline sync`: two Redis servers, producers that append, delete and read through groups, nodes that
//! are killed, and an audit of the target against the list of what was written.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::nodes::Nodes;
use super::servers::Server;
use super::sync_audit::{Both, Found};
use super::sync_writers::{Ledger, Place, Writers};
use super::{CATCH_UP, DemoArgs, Kills, conclude, kill_one, kill_pause, patient_desk, takeovers, workplace};
use crate::cli::desk::Desk;
use crate::cli::exit::Exit;
use crate::cli::output::say;
use crate::cli::words::grouped;
use crate::config::Settings;
use crate::http::sync::known;
use crate::ids::{Kind, PipelineId};
use crate::messages::sync::NoteKind;

/// Databases of the source that hold streams, and how many each.
const DATABASES: u16 = 3;
const STREAMS: u16 = 4;
/// Between two looks at what is to be done.
const TICK: Duration = Duration::from_millis(100);
/// A killed server starts again after this time.
const AWAY: Duration = Duration::from_millis(800);

/// The demo's only pipeline.
fn pipeline() -> PipelineId {
    PipelineId::new(Kind::Sync, "demo")
}

/// What a stream is called on the target.
fn target_name(place: &Place) -> String {
    format!("copy:{}:{}", place.db, place.key)
}

/// Runs it.
pub(super) async fn play(args: &DemoArgs) -> Result<Exit, Exit> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Exit::usage(&format!("demo: {what}: {error}"));
    let folder = workplace(args).map_err(|e| failed("cannot make a folder", &e))?;
    let source = Server::start(&folder.join("source")).map_err(|e| failed("source", &e))?;
    let target = Server::start(&folder.join("target")).map_err(|e| failed("target", &e))?;
    let config = folder.join("gapless.toml");
    let text = configuration(&folder, source.port, target.port);
    std::fs::write(&config, &text).map_err(|e| failed("cannot write", &e))?;
    introduce(args, &folder);
    let places: Vec<Place> = (0..DATABASES)
        .flat_map(|db| (0..STREAMS).map(move |n| Place { db, key: format!("device:{n}:stream") }))
        .collect();
    let writers = Writers::start(source.port, &places, args.seed).map_err(|e| failed("producers", &e))?;
    let mut nodes = Nodes::start(&config, &folder, args.nodes).map_err(|e| failed("cannot start nodes", &e))?;
    let settings = Settings::from_text("demo", &text).map_err(|report| Exit::usage(&report.to_string()))?;
    let desk = patient_desk(&settings).await?;
    let both = Both { source: source.port, target: target.port, name: target_name };
    let mut stage = Stage { args, folder: &folder, source, target, kills: Kills::default(), ends_killed: [0, 0] };
    stage.work_and_kill(&writers, &mut nodes, &both, &places).await;
    let ledger = writers.stop().map_err(|e| failed("producers", &e))?;
    let (mut found, caught_up) = settle(&desk, &both, &ledger).await?;
    [found.source_kills, found.target_kills] = stage.ends_killed;
    (found.kills, found.takeovers) = (stage.kills.clone(), takeovers(&desk).await?);
    let drained = nodes.stop();
    for line in found.lines(args.seed) {
        say(&line);
    }
    Ok(conclude(args, &folder, found.is_whole(), caught_up, drained))
}

/// What is about to be seen.
fn introduce(args: &DemoArgs, folder: &Path) {
    say(&format!(
        "demo {}: {} nodes copy streams of one Redis to another, seed {}",
        args.pipeline, args.nodes, args.seed
    ));
    say(&format!("source: {DATABASES} databases of {STREAMS} streams; names that repeat, any bytes, values of 4 KiB"));
    say("        producers append all the time and delete now and then; half of the streams have a consumer group");
    say(&format!("work in {}", folder.display()));
    say("");
}

/// The nodes' configuration: what a user would write, with short leases and waits and paths of the demo's own.
fn configuration(folder: &Path, source: u16, target: u16) -> String {
    let folder = folder.display();
    format!(
        "[redis]\nurl = \"managed\"\ndata_dir = \"{folder}/redis\"\n\n\
         [node]\nhttp = \"\"\nlease_seconds = 2\nstate_dir = \"{folder}/state\"\n\n\
         [sync.demo]\nsource = \"redis://127.0.0.1:{source}\"\ntarget = \"redis://127.0.0.1:{target}\"\n\
         prefix = \"copy:\"\nmap = \"{{prefix}}{{db}}:{{key}}\"\npatterns = [\"device:*:stream\"]\n\
         discover_seconds = 2\npoll_ms = 200\ngroups_ms = 1000\n"
    )
}

/// Everything on the way.
struct Stage<'a> {
    args: &'a DemoArgs,
    folder: &'a Path,
    source: Server,
    target: Server,
    kills: Kills,
    /// Source, target.
    ends_killed: [u64; 2],
}

impl Stage<'_> {
    /// Lets producers work and kills nodes, by the seed; a line a second says how it stands. At the end everything runs.
    async fn work_and_kill(&mut self, writers: &Writers, nodes: &mut Nodes, both: &Both, places: &[Place]) {
        let mut rng = StdRng::seed_from_u64(self.args.seed);
        let started = Instant::now();
        let end = started + Duration::from_secs(self.args.seconds);
        let mut next_kill = started + Duration::from_millis(rng.random_range(3000..4500));
        let mut next_line = started;
        let mut tick = tokio::time::interval(TICK);
        while Instant::now() < end {
            tick.tick().await;
            let now = Instant::now();
            if now >= next_line {
                next_line = now + Duration::from_secs(1);
                let so_far = self.kills.nodes + self.kills.redis + self.ends_killed.iter().sum::<u64>();
                let copied = both.copied(places);
                if copied.as_ref().is_ok_and(|each| each.iter().all(|entries| *entries > 0)) {
                    writers.may_delete();
                }
                let copied = copied.map_or_else(|_| "target away".to_owned(), |each| grouped(each.iter().sum()));
                say(&format!(
                    "{:>4} s  written {:>8}  on the target {copied:>11}  nodes {}  kills {so_far}",
                    started.elapsed().as_secs(),
                    grouped(writers.written()),
                    nodes.alive(),
                ));
            }
            if now >= next_kill {
                next_kill = now + kill_pause(self.args, &mut rng);
                self.kill(&mut rng, nodes);
            }
            nodes.revive(Duration::from_millis(1500));
            self.source.revive(AWAY);
            self.target.revive(AWAY);
        }
        nodes.revive(Duration::ZERO);
        self.source.revive(Duration::ZERO);
        self.target.revive(Duration::ZERO);
    }

    /// Kills a node; with `--chaos` one time in three one of the ends.
    fn kill(&mut self, rng: &mut StdRng, nodes: &mut Nodes) {
        if self.args.chaos && rng.random_ratio(1, 3) {
            let which = rng.random_range(0..2);
            let (server, name) = if which == 0 { (&mut self.source, "source") } else { (&mut self.target, "target") };
            if server.kill() {
                self.ends_killed[which] += 1;
                say(&format!("        kill -9 {name}"));
            }
            return;
        }
        kill_one(self.args, rng, &mut self.kills, nodes, self.folder);
    }
}

/// The audit, once everything is on the target; else what it finds after a while, and false.
async fn settle(desk: &Desk, both: &Both, ledger: &Ledger) -> Result<(Found, bool), Exit> {
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let found = audit(desk, both, ledger).await;
        let late = Instant::now() >= deadline;
        match found {
            Ok(found) if found.is_whole() => return Ok((found, true)),
            Ok(found) if late => return Ok((found, false)),
            Err(words) if late => return Err(Exit::out_of_reach(&format!("demo: {words}"))),
            // A server that was killed reads its data, or the nodes have not caught up.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

async fn audit(desk: &Desk, both: &Both, ledger: &Ledger) -> Result<Found, String> {
    let mut found = both.audit(ledger).map_err(|error| error.to_string())?;
    let section = desk.settings.sync.get("demo").ok_or("the demo's pipeline is gone")?;
    let streams = known(&desk.store, &desk.link, &pipeline(), section).await.map_err(|error| error.to_string())?;
    found.lost_counted = streams.values().map(|stream| stream.notes.count(NoteKind::Gap)).sum();
    Ok(found)
}
