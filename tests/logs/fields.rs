//! Folders with loggers of every style, followed by real processes: what a schedule writes, and what must come of it.

use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

use crate::oracle;
use crate::support::fleet::{Node, Plan};
use crate::support::redis::RedisServer;
use crate::support::wait;
use crate::writer::{Habits, Style, Writer};

/// A line is cut above this.
const LIMIT: usize = 512;

/// One pipeline with one logger.
pub struct Field {
    /// As in `[logs.NAME]`.
    pub name: String,
    pub writer: Writer,
    stream: String,
    /// Its file is known to the watchers.
    is_known: bool,
}

impl Field {
    pub fn new(folder: &Path, prefix: &str, name: &str, style: Style, seed: u64) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let (header, torn, late) =
            (!style.is_in_place() && seed.is_multiple_of(3), seed % 4 == 1, seed.is_multiple_of(2));
        let longest = if seed.is_multiple_of(5) { 700 } else { 60 };
        let habits = Habits { style, header, torn, late, longest };
        Self {
            name: name.to_owned(),
            writer: Writer::new(&folder.join("app.log"), habits, seed),
            stream: format!("{prefix}:{{logs.{name}}}:out:lines"),
            is_known: false,
        }
    }

    /// Its section of a configuration.
    pub fn section(&self) -> String {
        let path = self.writer.path.display();
        format!(
            "[logs.{}]\npaths = [\"{path}\"]\npoll_ms = 50\npoll_only_ms = 50\nrotate_wait_ms = 700\nbatch_lines = 6\n\
             line_bytes_max = {LIMIT}\n",
            self.name
        )
    }

    pub fn length(&self, redis: &mut redis::Connection) -> u64 {
        redis::cmd("XLEN").arg(&self.stream).query(redis).unwrap_or(0)
    }

    pub fn want(&self) -> u64 {
        oracle::count(&self.writer.lives, LIMIT) as u64
    }

    /// Whether it may be rotated: what was never seen under its followed name is nobody's.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// One thing that the logger does; `is_read` says whether all that it wrote is in the stream for good.
    pub fn step(&mut self, rng: &mut StdRng, is_read: bool) {
        self.is_known |= is_read && self.want() > 0;
        let may_rotate = self.is_known && (is_read || !self.writer.habits.style.destroys());
        if self.writer.is_rotating() {
            self.writer.step();
        } else if may_rotate && rng.random_ratio(1, 3) {
            self.writer.begin_rotation();
            if self.writer.habits.style.destroys() {
                self.finish_rotation();
            }
        } else if self.writer.is_packing() && rng.random_ratio(1, 2) {
            self.writer.step_later();
        } else {
            // A file that is about to be deleted or truncated has no line without an end.
            let cut = !self.writer.habits.style.destroys() && rng.random_ratio(1, 3);
            self.writer.append(rng.random_range(1..12), cut);
        }
    }

    pub fn finish_rotation(&mut self) {
        while self.writer.is_rotating() {
            self.writer.step();
        }
    }

    /// The last lines.
    pub fn end(&mut self) {
        self.finish_rotation();
        self.writer.append(2, false);
    }

    /// Writes down what it wrote and when: each life, and what the logger did.
    pub fn keep(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a folder");
        for (n, life) in self.writer.lives.iter().enumerate() {
            std::fs::write(folder.join(format!("life-{n}")), life).expect("written");
        }
        std::fs::write(folder.join("story.txt"), self.writer.story.join("\n")).expect("written");
    }

    /// Waits until all of it is there, and judges it.
    pub async fn faults(&self, redis: &RedisServer) -> Vec<String> {
        let mut connection = redis.connection();
        let want = self.want();
        for _ in 0..2500 {
            if self.length(&mut connection) >= want {
                break;
            }
            wait::step().await;
        }
        let faults = oracle::faults(&oracle::truth(&self.writer.lives, LIMIT), &oracle::entries(redis, &self.stream));
        faults.into_iter().map(|fault| format!("{} ({:?}): {fault}", self.name, self.writer.habits)).collect()
    }
}

/// Whether what Redis was told is in its append-only file, as far as the system goes: `kill -9` takes nothing of it.
pub fn is_kept(redis: &RedisServer) -> bool {
    redis.text(&["INFO", "persistence"]).contains("aof_buffer_length:0\r")
}

/// A node of the host `host` that runs these sections; not started yet.
pub fn node(folder: &Path, name: &str, host: &str, url: &str, prefix: &str, sections: &str) -> Node {
    let node = Node::new(folder, name, &Plan::default(), url);
    let state: PathBuf = folder.join(name).join("state");
    let text = format!(
        "[redis]\nurl = \"{url}\"\nprefix = \"{prefix}\"\nconnect_timeout_ms = 300\ncommand_timeout_ms = 1000\n\
         lease_timeout_ms = 200\nreconnect_min_ms = 5\nreconnect_max_ms = 100\n\
         [node]\nhttp = \"\"\nhost = \"{host}\"\nlease_seconds = 1\nturn_grace_ms = 300\ndrain_seconds = 5\n\
         state_dir = \"{}\"\n[log]\nformat = \"json\"\nlevel = \"info,gapless::sources::files=debug\"\n\
         [supervisor]\nbackoff_min_ms = 5\nbackoff_max_ms = 50\nrestarts_max = 1000\n{sections}",
        state.display()
    );
    std::fs::write(folder.join(name).join("node.toml"), text).expect("a configuration");
    node
}
