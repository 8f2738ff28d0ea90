//! A real `gapless run` process, its configuration, and what its log says.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::signals;

/// What differs from test to test; the rest of the configuration makes a node that notices things quickly.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Messages for each tally.
    pub messages: u64,
    /// Tallies.
    pub actors: u32,
    /// Messages of one send.
    pub batch: u32,
    /// Entries that a mailbox may hold.
    pub capacity: u64,
    /// Between two sends, milliseconds.
    pub pause_ms: u64,
    /// One turn in so many panics; 0 for none.
    pub panic_every: u64,
    /// One turn in so many hangs; 0 for none.
    pub hang_every: u64,
    /// Further lines by table, for example `("supervisor", "restarts_max = 2")`; they replace a line of the same key.
    pub more: Vec<(&'static str, String)>,
}

impl Default for Plan {
    fn default() -> Self {
        let (batch, capacity) = (50, 200);
        Self {
            messages: 1000,
            actors: 6,
            batch,
            capacity,
            pause_ms: 0,
            panic_every: 0,
            hang_every: 0,
            more: Vec::new(),
        }
    }
}

impl Plan {
    /// The tables, each with its lines.
    fn tables(&self, url: &str, state: &Path) -> Vec<(&'static str, Vec<String>)> {
        let line = |text: &str| text.to_owned();
        let redis = vec![
            format!("url = \"{url}\""),
            line("connect_timeout_ms = 300"),
            line("command_timeout_ms = 400"),
            line("lease_timeout_ms = 150"),
            line("reconnect_min_ms = 5"),
            line("reconnect_max_ms = 100"),
        ];
        let node = vec![
            line("http = \"\""),
            line("lease_seconds = 1"),
            line("turn_grace_ms = 300"),
            line("drain_seconds = 5"),
        ];
        let node = [node, vec![format!("state_dir = \"{}\"", state.display())]].concat();
        let supervisor = vec![
            line("backoff_min_ms = 5"),
            line("backoff_max_ms = 50"),
            line("restarts_max = 1000"),
            line("hang_seconds = 1"),
            line("blocked_seconds = 1"),
            line("blocked_exit_seconds = 3"),
        ];
        let mailbox = vec![
            format!("capacity = {}", self.capacity),
            line("turn_entries_max = 50"),
            // Chance plants the faults of the self-test, so no number of them proves an entry guilty.
            line("failed_attempts_max = 1000"),
            line("unfinished_attempts_max = 1000"),
        ];
        let Self { actors, messages, batch, pause_ms, panic_every, hang_every, .. } = self;
        let selftest = vec![
            format!("actors = {actors}"),
            format!("messages = {messages}"),
            format!("batch = {batch}"),
            format!("pause_ms = {pause_ms}"),
            format!("panic_every = {panic_every}"),
            format!("hang_every = {hang_every}"),
        ];
        vec![
            ("redis", redis),
            ("node", node),
            ("log", vec![line("format = \"json\"")]),
            ("supervisor", supervisor),
            ("mailbox", mailbox),
            ("selftest.x", selftest),
        ]
    }

    /// The configuration file of a node that reaches Redis at `url`.
    pub fn toml(&self, url: &str, state: &Path) -> String {
        let key = |line: &str| line.split_once('=').expect("key = value").0.trim().to_owned();
        let mut text = String::new();
        for (table, mut lines) in self.tables(url, state) {
            for (_, line) in self.more.iter().filter(|(of, _)| *of == table) {
                lines.retain(|old| key(old) != key(line));
                lines.push(line.clone());
            }
            text.push_str(&format!("[{table}]\n{}\n", lines.join("\n")));
        }
        text
    }
}

/// One line of a node's log.
pub type LogLine = serde_json::Map<String, serde_json::Value>;

/// One node of a test: its folder stays, its process comes and goes.
pub struct Node {
    pub name: String,
    folder: PathBuf,
    /// The ignored test of this binary that is its process; none for the program itself.
    test: Option<&'static str>,
    /// Variables of every one of its processes.
    environment: Vec<(String, String)>,
    process: Option<Child>,
    /// Bytes of the log at the last start.
    log_before: u64,
    /// Processes started so far.
    pub starts: u32,
    /// How the last process that ended by itself did.
    pub last_end: Option<ExitStatus>,
}

impl Node {
    /// A node that is not running yet; its files stand in `folder`.
    pub fn new(folder: &Path, name: &str, plan: &Plan, url: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the node");
        std::fs::write(folder.join("node.toml"), plan.toml(url, &folder.join("state"))).expect("a configuration");
        let (name, environment) = (name.to_owned(), Vec::new());
        Self { name, folder, test: None, environment, process: None, log_before: 0, starts: 0, last_end: None }
    }

    /// Gives every process from now on this variable.
    pub fn always(&mut self, variable: &str, value: &str) {
        self.environment.retain(|(name, _)| name != variable);
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    /// Makes it a node with an actor of the tests: its process is an ignored test of this very binary.
    pub fn play(&mut self, test: &'static str) {
        self.test = Some(test);
    }

    fn command(&self) -> Command {
        if let Some(test) = self.test {
            let mut command = Command::new(std::env::current_exe().expect("this binary"));
            command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
            return command;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_gapless"));
        command.args(["run", "--node", &self.name, "--config"]).arg(self.folder.join("node.toml"));
        command
    }

    /// Starts its process.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts its process with these environment variables.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        assert!(self.process.is_none(), "{} is running", self.name);
        self.starts += 1;
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        self.log_before = log.metadata().expect("its size").len();
        let mut command = self.command();
        let child = command
            .current_dir(&self.folder)
            .env_remove("GAPLESS_CRASH_POINT")
            .env_remove("GAPLESS_SABOTAGE")
            .env_remove("GAPLESS_FORMAT")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("the gapless binary");
        self.process = Some(child);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap_or_else(|| panic!("{} is not running", self.name)).id()
    }

    /// How its process ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.process.as_mut()?.try_wait().expect("its status")?;
        self.process = None;
        self.last_end = Some(ended);
        Some(ended)
    }

    /// Whether its process has logged anything since its start.
    pub fn has_spoken(&self) -> bool {
        std::fs::metadata(self.log_path()).is_ok_and(|log| log.len() > self.log_before)
    }

    /// The signal that ended its last process, if one did.
    pub fn died_of(&self) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&self.last_end?)
    }

    pub fn is_running(&mut self) -> bool {
        let _ = self.ended();
        self.process.is_some()
    }

    /// `kill -9`, and waits for the end of it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `SIGTERM`.
    pub fn terminate(&self) {
        signals::terminate(self.pid());
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log.json")
    }

    /// Every line of its log, over all of its processes. A line that a kill cut off is left out.
    pub fn log(&self) -> Vec<LogLine> {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The log as it is, for the message of a failed test.
    pub fn log_text(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Lines of its log whose message holds `words`.
    pub fn logged(&self, words: &str) -> usize {
        self.log().iter().filter(|line| says(line, words)).count()
    }

    /// Empties its log, so that what is read afterwards is news.
    pub fn forget_log(&self) {
        let _ = File::create(self.log_path());
    }
}

/// Whether the message of a log line holds `words`.
pub fn says(line: &LogLine, words: &str) -> bool {
    line.get("message").and_then(|message| message.as_str()).is_some_and(|message| message.contains(words))
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log_text());
        }
    }
}
