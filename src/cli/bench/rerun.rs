//! Rerun: how long work waits whose node was killed. Two real processes: the first takes a message and hangs on it,
//! is killed as by `kill -9`, and a second one, started at that moment, must do the message again and commit.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::server::{Durability, Server};
use super::wire::{Reply, Wire};
use crate::ids::{Address, Kind, PipelineId, UnitId};
use crate::store::keys::Keys;
use crate::supervisor::wiring;

/// The longest wait for one step; a takeover takes at most two lease times.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Between two looks; the error of the time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A process that does not outlive this value.
struct Node(Child);

impl Node {
    fn start(server: &Server, name: &str, hangs: bool) -> Result<Self> {
        let folder = server.folder().join(name);
        fs::create_dir_all(&folder)?;
        let config: PathBuf = folder.join("gapless.toml");
        let hang_every = u32::from(hangs);
        // Everything else as a user finds it: above all the lease time.
        let text = format!(
            "[redis]\nurl = \"{}\"\n[node]\nname = \"{name}\"\nhttp = \"\"\nstate_dir = \"{}\"\n\
             [selftest.bench]\nactors = 1\nhang_every = {hang_every}\n",
            server.url(),
            folder.display(),
        );
        fs::write(&config, text)?;
        let log = fs::File::create(folder.join("log"))?;
        let program = std::env::current_exe().context("the path of this program")?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Self(command.spawn().context("starting a node")?))
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// Seconds from the death of a node until its work in flight was done again by a node that was started at once.
pub fn measure() -> Result<f64> {
    let server = Server::start(Durability::EverySecond)?;
    let (keys, pipeline) = (Keys::new("gapless"), PipelineId::new(Kind::Selftest, "bench"));
    let actor = wiring::tally_name(0);
    let checkpoint = keys.checkpoint(&UnitId::exclusive(&pipeline, &actor));
    let mailbox = keys.mailbox(&Address::new(&pipeline, &actor));
    let mut wire = server.wire()?;
    wire.call(&["XADD", &mailbox, "*", "type", "number", "body", "{\"n\":1}"])?;
    let mut first = Node::start(&server, "first", true)?;
    wait_for(
        "a message in the first node's hands",
        &mut wire,
        &["HGET", &checkpoint, "serving"],
        |reply| matches!(reply, Reply::Bytes(text) if !text.is_empty()),
    )?;
    first.kill()?;
    let killed = Instant::now();
    let _second = Node::start(&server, "second", false)?;
    wait_for("the message to be done again", &mut wire, &["XLEN", &mailbox], |reply| {
        *reply == Reply::Bytes(b"0".to_vec())
    })?;
    Ok(killed.elapsed().as_secs_f64())
}

fn wait_for(what: &str, wire: &mut Wire, ask: &[&str], good: impl Fn(&Reply) -> bool) -> Result<()> {
    let started = Instant::now();
    while !good(&wire.call(ask)?) {
        ensure!(started.elapsed() < STEP_MAX, "waited {STEP_MAX:?} for {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}
