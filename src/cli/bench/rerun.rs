//! Rerun: how long work waits whose node was killed. Two real processes: the first takes a message and hangs on it,
//! is killed as by `kill -9`, and a second one, started at that moment, must do the message again and commit.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::child::Child;
use super::server::{Durability, Server};
use super::wire::{Reply, Wire};
use crate::ids::{Address, Kind, PipelineId, UnitId};
use crate::store::keys::Keys;
use crate::supervisor::wiring;

/// The longest wait for one step; a takeover takes at most two lease times.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Between two looks; the error of the time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The configuration of one node: everything that is not named is as a user finds it, above all the lease time.
fn configuration(server: &Server, hangs: bool) -> String {
    let (url, hang_every) = (server.url(), u32::from(hangs));
    format!("[redis]\nurl = \"{url}\"\n[selftest.bench]\nactors = 1\nhang_every = {hang_every}\n")
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
    let mut first = Child::node(server.folder(), "first", &configuration(&server, true), &[])?;
    wait_for(
        "a message in the first node's hands",
        &mut wire,
        &["HGET", &checkpoint, "serving"],
        |reply| matches!(reply, Reply::Bytes(text) if !text.is_empty()),
    )?;
    first.kill()?;
    let killed = Instant::now();
    let _second = Child::node(server.folder(), "second", &configuration(&server, false), &[])?;
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
