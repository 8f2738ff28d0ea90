//! `gapless demo`: a simulated chain or simulated logs, a managed Redis and several nodes on this machine; nodes are killed
//! on the way, and an audit at the end computes from the seed, or from a list of what was written, whether anything is
//! missing.

mod audit;
mod logs;
mod logs_audit;
mod nodes;
mod servers;
mod sync;
mod sync_audit;
mod sync_writers;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::desk::Desk;
use super::exit::Exit;
use super::output::say;
use super::reach::Reach;
use super::words::{count, grouped};
use crate::config::Settings;
use crate::simulate::chain::{ChainPlan, Control, FaultPlan, serve};
use nodes::Nodes;

/// Confirmations of the demo's chain: small, so that both the Collector and the pool have work.
const CONFIRMATIONS: u64 = 12;
/// Blocks that exist when the demo begins.
const PAST: u64 = 10_000;
/// A new block each.
const BLOCK_TIME: Duration = Duration::from_millis(250);
/// How long the nodes may take to catch up after the last fault.
const CATCH_UP: Duration = Duration::from_secs(30);
/// Faults of the chain and of its endpoint, all the time. Reorgs are less deep than the confirmations.
const CHAIN_FAULTS: &str = "reorg=20:3,outage=9s+2s,429=0.02,slow=0.01:300ms,null=0.05,error=0.01,malformed=0.005";

/// Kinds of pipelines that can be shown, in their order.
const KINDS: [&str; 3] = ["blocks", "logs", "sync"];
/// The least time for which one is shown: a node is killed in it.
const SECONDS_MIN: u64 = 5;

/// Shows the whole on this machine.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  gapless demo\n  gapless demo --pipeline blocks --nodes 3 --chaos\n  \
    gapless demo --pipeline logs --seconds 60\n\n\
    Each kind is shown in turn, with nodes and a Redis of its own, and nodes are killed. Ends with 0 only if all is well.\n\n\
    blocks: the chain reorganises, its endpoint fails. All is well if every block is held, whole, once, and equal to the \
    chain computed from the seed, and what else is kept are blocks that a reorg replaced.\n\n\
    logs: files grow in bursts and are rotated in every style. All is well if each line that was written is in the stream \
    once, as it is, in the order of its file.\n\n\
    sync: streams are copied from one Redis to another; --chaos kills both too. All is well if each entry that was written \
    is on the target as it is, or was deleted before and is counted, and groups are the same.")]
pub struct DemoArgs {
    /// How long it all grows and nodes are killed; the pipelines share it, with 5 s each at the least
    #[arg(long, default_value_t = 36, value_name = "N", value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
    /// Node processes
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    nodes: u32,
    /// Kill more often, and kill Redis too
    #[arg(long)]
    chaos: bool,
    /// Seed of the chain, the lines and the faults
    #[arg(long, default_value_t = 7, value_name = "N")]
    seed: u64,
    /// Where it works, of several kinds each in a folder of its own; kept [default: temporary folders, removed if all is well]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Which pipeline to show
    #[arg(long, default_value = "all", value_name = "KIND", value_parser = ["all", "blocks", "logs", "sync"])]
    pipeline: String,
}

/// Runs it. Everything is shown, whatever comes of the first; the worse code counts.
pub fn run(args: &DemoArgs) -> Exit {
    let all = shows(args);
    actix_rt::System::new().block_on(async {
        let mut end = Exit::good();
        for (number, one) in all.iter().enumerate() {
            if number > 0 {
                say("");
            }
            let played = match one.pipeline.as_str() {
                "logs" => logs::play(one).await,
                "sync" => sync::play(one).await,
                _ => play(one).await,
            };
            let (Ok(exit) | Err(exit)) = played;
            end = end.worse(exit);
        }
        end
    })
}

/// What is asked, a kind at a time.
fn shows(args: &DemoArgs) -> Vec<DemoArgs> {
    if args.pipeline != "all" {
        return vec![args.clone()];
    }
    let seconds = (args.seconds / KINDS.len() as u64).max(SECONDS_MIN);
    let one = |kind: &str| DemoArgs {
        pipeline: kind.to_owned(),
        seconds,
        dir: args.dir.as_ref().map(|dir| dir.join(kind)),
        ..args.clone()
    };
    KINDS.into_iter().map(one).collect()
}

async fn play(args: &DemoArgs) -> Result<Exit, Exit> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Exit::usage(&format!("demo: {what}: {error}"));
    let folder = workplace(args).map_err(|e| failed("cannot make a folder", &e))?;
    let plan = ChainPlan {
        seed: args.seed,
        blocks: PAST,
        block_time: None,
        faults: CHAIN_FAULTS.parse::<FaultPlan>().map_err(|e| failed("faults", &e))?,
        ..ChainPlan::default()
    };
    let chain = serve(plan.clone(), ([127, 0, 0, 1], 0).into()).await.map_err(|e| failed("chain", &e))?;
    let config = folder.join("gapless.toml");
    std::fs::write(&config, configuration(&folder, &chain.url(), &chain.socket_url()))
        .map_err(|e| failed("cannot write", &e))?;
    introduce(args, &folder);
    let mut nodes = Nodes::start(&config, &folder, args.nodes).map_err(|e| failed("cannot start nodes", &e))?;
    let text = std::fs::read_to_string(&config).map_err(|e| failed("cannot read", &e))?;
    let settings = Settings::from_text("demo", &text).map_err(|report| Exit::usage(&report.to_string()))?;
    let desk = patient_desk(&settings).await?;
    let control = chain.control();
    let kills = grow_and_kill(args, &desk, &plan, &control, &mut nodes, &folder).await;
    let caught_up = audit::wait(&desk, &plan, control.head(), CATCH_UP).await;
    let found = audit::audit(&desk, &plan, &control, &kills).await?;
    let drained = nodes.stop();
    for line in table::lines(&found, args.seed) {
        say(&line);
    }
    Ok(conclude(args, &folder, found.is_whole(), caught_up, drained))
}

/// The verdict, in words and as an exit code.
fn conclude(args: &DemoArgs, folder: &Path, is_whole: bool, caught_up: bool, drained: bool) -> Exit {
    let whole = is_whole && caught_up && drained;
    if !caught_up {
        say(&format!("the nodes did not catch up within {} s", CATCH_UP.as_secs()));
    }
    if !drained {
        say("a node did not end with exit code 0 after SIGTERM");
    }
    say(if whole { "nothing is missing" } else { "this is NOT as it should be" });
    match (whole, &args.dir) {
        // Thousands of files take a moment; the verdict does not wait for it.
        (true, None) => drop(std::fs::remove_dir_all(folder)),
        (true, Some(_)) => {}
        (false, _) => say(&format!("logs and data are kept in {}", folder.display())),
    }
    if whole { Exit::good() } else { Exit::found() }
}

/// How often a unit passed from one node to another, by the checkpoints' histories.
async fn takeovers(desk: &Desk) -> Result<u64, Exit> {
    let mut count = 0;
    for unit in crate::supervisor::wiring::units(&desk.settings) {
        let samples = desk.store.history(&desk.link, &unit).await.map_err(super::desk::fault)?;
        let nodes: Vec<&str> = samples.iter().filter(|s| s.why == "acquire").map(|s| s.node.as_str()).collect();
        count += nodes.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
    }
    Ok(count)
}

/// What is about to be seen.
fn introduce(args: &DemoArgs, folder: &Path) {
    let nodes = count(args.nodes as usize, "node follows", "nodes follow");
    say(&format!("demo {}: {nodes} a chain from seed {}", args.pipeline, args.seed));
    say(&format!("chain:  {} blocks, then a new one every {} ms", grouped(PAST), BLOCK_TIME.as_millis()));
    say(&format!("faults: {CHAIN_FAULTS}"));
    say(&format!("work in {}", folder.display()));
    say("");
}

fn workplace(args: &DemoArgs) -> std::io::Result<PathBuf> {
    let folder = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("gapless-demo-{}", crate::ids::RandomId::new().short())),
    };
    std::fs::create_dir_all(&folder)?;
    folder.canonicalize()
}

/// The nodes' configuration: what a user would write, with short leases and paths of the demo's own.
fn configuration(folder: &Path, endpoint: &str, hints: &str) -> String {
    let folder = folder.display();
    format!(
        "[redis]\nurl = \"managed\"\ndata_dir = \"{folder}/redis\"\n\n\
         [node]\nhttp = \"\"\nlease_seconds = 2\nstate_dir = \"{folder}/state\"\n\n\
         [blocks.demo]\nchain = \"evm\"\nendpoints = [\"{endpoint}\"]\nhints = [\"{hints}\"]\nstart = 0\n\
         store = \"{folder}/blocks\"\n\
         confirmations = {CONFIRMATIONS}\npoll_ms = 200\nrequest_age_seconds = 10\ntask_heights = 100\n"
    )
}

/// The desk, once the first node has started the managed Redis: its files are there and whole.
async fn patient_desk(settings: &Settings) -> Result<Desk, Exit> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Reach::prepare(settings.clone()).is_err() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Desk::open(settings.clone(), false)
}

/// What was done to the system under way.
#[derive(Debug, Default, Clone)]
pub(super) struct Kills {
    /// `kill -9` of a node.
    pub nodes: u64,
    /// `kill -9` of Redis.
    pub redis: u64,
}

/// Lets the chain grow and kills nodes, by the seed; a line a second says how it stands.
async fn grow_and_kill(
    args: &DemoArgs,
    desk: &Desk,
    plan: &ChainPlan,
    chain: &Control,
    nodes: &mut Nodes,
    folder: &Path,
) -> Kills {
    let mut rng = StdRng::seed_from_u64(args.seed);
    let mut kills = Kills::default();
    let started = Instant::now();
    let end = started + Duration::from_secs(args.seconds);
    let mut next_kill = started + Duration::from_millis(rng.random_range(3000..4500));
    let mut next_line = started;
    let mut blocks = tokio::time::interval(BLOCK_TIME);
    while Instant::now() < end {
        blocks.tick().await;
        chain.advance(1);
        let now = Instant::now();
        if now >= next_line {
            next_line = now + Duration::from_secs(1);
            let so_far = format!("nodes {}  kills {}", nodes.alive(), kills.nodes + kills.redis);
            say(&audit::line(desk, plan, chain.head(), started.elapsed(), &so_far).await);
        }
        if now >= next_kill {
            next_kill = now + kill_pause(args, &mut rng);
            kill_one(args, &mut rng, &mut kills, nodes, folder);
        }
        nodes.revive(Duration::from_millis(1500));
    }
    nodes.revive(Duration::ZERO);
    kills
}

/// Until the next kill.
fn kill_pause(args: &DemoArgs, rng: &mut StdRng) -> Duration {
    let (least, most) = if args.chaos { (1500, 3500) } else { (4000, 6000) };
    Duration::from_millis(rng.random_range(least..most))
}

/// Kills a node, or with `--chaos` one time in four Redis.
fn kill_one(args: &DemoArgs, rng: &mut StdRng, kills: &mut Kills, nodes: &mut Nodes, folder: &Path) {
    if args.chaos && rng.random_ratio(1, 4) && nodes::kill_redis(&folder.join("redis/pid")) {
        kills.redis += 1;
        say("        kill -9 redis");
    } else if let Some(name) = nodes.kill(rng.random_range(0..args.nodes as usize)) {
        kills.nodes += 1;
        say(&format!("        kill -9 {name}"));
    }
}
