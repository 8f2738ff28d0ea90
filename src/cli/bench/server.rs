//! Server: a private redis-server on a free loopback port, in a temporary folder; both end with it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};

use super::wire::{Reply, Wire};
use crate::ids::RandomId;
use crate::store::managed::find_program;

/// Until a server that was started answers.
const START_MAX: Duration = Duration::from_secs(5);
/// Between two looks at a server that starts.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Ports that are tried: another process may take one between our look and the server's start.
const TRIES: u32 = 5;

/// What the server writes of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// An append-only file, synced once a second: gapless's own default.
    EverySecond,
    /// Nothing: what the programs that people compare with often measure.
    Nothing,
}

impl Durability {
    /// For tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::EverySecond => "everysec",
            Durability::Nothing => "off",
        }
    }
}

/// What may be asked for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Aof {
    /// Synced once a second
    Everysec,
    /// None
    Off,
    /// Everysec, then off
    Both,
}

/// How often all is measured, and on which servers.
#[derive(Debug, Args)]
pub struct Rounds {
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Append-only file of Redis: synced every second (the default of gapless), off, or one after the other
    #[arg(long, value_enum, default_value_t = Aof::Both)]
    aof: Aof,
}

impl Rounds {
    /// What is to be measured on, one after the other.
    pub fn turns(&self) -> impl Iterator<Item = Durability> {
        let round: &[Durability] = match self.aof {
            Aof::Everysec => &[Durability::EverySecond],
            Aof::Off => &[Durability::Nothing],
            Aof::Both => &[Durability::EverySecond, Durability::Nothing],
        };
        (0..self.runs).flat_map(move |_| round.iter().copied())
    }
}

/// A running server.
pub struct Server {
    child: Child,
    folder: PathBuf,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts one, with Redis's own defaults apart from the persistence.
    pub fn start(durability: Durability) -> Result<Self> {
        let program = find_program().ok_or_else(|| {
            anyhow!("no redis-server on PATH; install one (Debian, Ubuntu: apt-get install redis-server)")
        })?;
        for _ in 0..TRIES {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let folder = temporary_folder().context("a temporary folder")?;
            let child = spawn(&program, &folder, port, durability)?;
            let mut server = Self { child, folder, port };
            if server.wait_until_it_answers()? {
                return Ok(server);
            }
        }
        bail!("redis-server does not start on any of {TRIES} free ports")
    }

    /// As the store wants it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Where the files of this measurement may lie; deleted with the server.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A plain connection.
    pub fn wire(&self) -> io::Result<Wire> {
        Wire::connect(self.port)
    }

    /// A field of `INFO`.
    pub fn info(&self, field: &str) -> Result<String> {
        let Reply::Bytes(text) = self.wire()?.call(&["INFO", "everything"])? else { bail!("INFO gave no text") };
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned()).with_context(|| format!("INFO names no {field}"))
    }

    /// CPU seconds of the server so far, children that rewrite the append-only file left out.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let user: f64 = self.info("used_cpu_user")?.parse()?;
        let system: f64 = self.info("used_cpu_sys")?.parse()?;
        Ok(user + system)
    }

    /// Whether it answers; false if it ended, for example because the port was taken.
    fn wait_until_it_answers(&mut self) -> Result<bool> {
        let started = Instant::now();
        while started.elapsed() < START_MAX {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            let answer = self.wire().and_then(|mut wire| wire.call(&["PING"]));
            if answer.is_ok_and(|reply| reply == Reply::Bytes(b"PONG".to_vec())) {
                return Ok(true);
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        bail!("redis-server does not answer within {START_MAX:?}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What cannot be ended or deleted now is a stray process or folder, and no fault of the measurement.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn temporary_folder() -> io::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("gapless-bench-{}", RandomId::new().short()));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

fn spawn(program: &Path, folder: &Path, port: u16, durability: Durability) -> Result<Child> {
    let append = match durability {
        Durability::EverySecond => "yes",
        Durability::Nothing => "no",
    };
    Command::new(program)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendfsync", "everysec"])
        .args(["--appendonly", append, "--loglevel", "warning", "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}
