//! The demo's node processes: started, killed, started again; only processes of its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a node may take to end after SIGTERM: its drain, and some.
const STOP_MAX: Duration = Duration::from_secs(30);

struct Node {
    name: String,
    child: Option<Child>,
    ended: Option<Instant>,
}

/// All nodes of one demo; ended when dropped.
pub(super) struct Nodes {
    config: PathBuf,
    folder: PathBuf,
    nodes: Vec<Node>,
}

impl Nodes {
    /// Starts `count` nodes.
    pub fn start(config: &Path, folder: &Path, count: u32) -> io::Result<Self> {
        let nodes =
            (1..=count).map(|n| Node { name: format!("node-{n}"), child: None, ended: None }).collect::<Vec<_>>();
        let mut all = Self { config: config.to_owned(), folder: folder.to_owned(), nodes };
        for n in 0..all.nodes.len() {
            all.spawn(n)?;
        }
        Ok(all)
    }

    fn spawn(&mut self, n: usize) -> io::Result<()> {
        let node = &mut self.nodes[n];
        let path = self.folder.join(format!("{}.log", node.name));
        let log: File = OpenOptions::new().create(true).append(true).open(path)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .args(["--node", &node.name])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        node.child = Some(child);
        node.ended = None;
        Ok(())
    }

    /// How many run.
    pub fn alive(&self) -> usize {
        self.nodes.iter().filter(|node| node.child.is_some()).count()
    }

    /// `kill -9` of the nth node, if it runs and another one does.
    pub fn kill(&mut self, n: usize) -> Option<String> {
        let others = self.alive() > 1 || self.nodes.len() == 1;
        let node = self.nodes.get_mut(n)?;
        let mut child = if others { node.child.take()? } else { return None };
        // Both fail only if it has ended already.
        let _ = child.kill();
        let _ = child.wait();
        node.ended = Some(Instant::now());
        Some(node.name.clone())
    }

    /// Starts again what was killed at least so long ago.
    pub fn revive(&mut self, after: Duration) {
        for n in 0..self.nodes.len() {
            if self.nodes[n].ended.is_some_and(|ended| ended.elapsed() >= after)
                && let Err(error) = self.spawn(n)
            {
                eprintln!("gapless: demo: cannot start {} again: {error}", self.nodes[n].name);
                return;
            }
        }
    }

    /// SIGTERM to all; whether each drained and ended with exit code 0.
    pub fn stop(&mut self) -> bool {
        let mut good = true;
        for node in &mut self.nodes {
            if let Some(child) = &node.child {
                signal(child.id(), Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_MAX;
        for node in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            let status = loop {
                match child.try_wait() {
                    Ok(Some(status)) => break Some(status),
                    Ok(None) if Instant::now() < deadline => std::thread::park_timeout(Duration::from_millis(10)),
                    Ok(None) | Err(_) => {
                        let _ = child.kill();
                        let _ = child.wait();
                        break None;
                    }
                }
            };
            good &= status.is_some_and(|status| status.success());
        }
        // Nobody needs it any more, and with the folder what says its number goes too.
        kill_redis(&self.folder.join("redis/pid"));
        good
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        // A killed last node leaves the managed server behind.
        kill_redis(&self.folder.join("redis/pid"));
    }
}

/// `kill -9` of the managed Redis that wrote this file; whether there was one.
pub(super) fn kill_redis(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    // The number may have passed to another process since: only a Redis server is meant.
    let is_redis = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim().contains("redis-server") || name.trim().contains("valkey-server")
    };
    pid.filter(is_redis).is_some_and(|pid| signal(pid, Signal::KILL))
}

fn signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}
