//! The real binary in a folder of its own: one-shot commands, nodes, their log lines, signals, and a small HTTP client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait;

/// Longer than anything that a correct program takes here, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A working folder with a `gapless.toml`; what the program writes stays in it.
pub struct Workspace {
    folder: TempDir,
}

/// How a one-shot command ended.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Done {
    /// Standard output as JSON; it must be the whole output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Asserts the code and the whole standard error.
    #[track_caller]
    pub fn failed(&self, code: i32, err: &str) {
        assert_eq!((self.code, self.err.as_str(), self.out.as_str()), (code, err, ""), "{self:?}");
    }
}

/// A configuration for a Redis: no HTTP, the shortest lease, and `more` behind it.
pub fn config(redis: &str, more: &str) -> String {
    format!("[redis]\nurl = \"{redis}\"\nprefix = \"t\"\n[node]\nhttp = \"\"\nlease_seconds = 1\n{more}\n")
}

impl Workspace {
    /// A folder whose `gapless.toml` is this text; without one if it is empty.
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let workspace = Self { folder };
        if !text.is_empty() {
            workspace.write("gapless.toml", text);
        }
        workspace
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The program in this folder, without any configuration of the one who runs the tests.
    pub fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gapless"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GAPLESS__")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Done {
        finish(self.program(args), "")
    }

    /// Runs a command to its end, with `input` on its standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Done {
        finish(self.program(args), input)
    }

    /// Starts `gapless run --node NAME` with more arguments.
    pub fn node(&self, name: &str, args: &[&str]) -> Node {
        let mut all = vec!["run", "--node", name];
        all.extend(args);
        Node::start(self.program(&all))
    }

    /// As [`Workspace::node`], with a variable of its environment.
    pub fn node_with(&self, name: &str, args: &[&str], variable: (&str, &str)) -> Node {
        let mut command = self.program(&[&["run", "--node", name], args].concat());
        command.env(variable.0, variable.1);
        Node::start(command)
    }

    /// As [`Workspace::node`], and waits until it has started.
    pub fn started(&self, name: &str, args: &[&str]) -> Node {
        let node = self.node(name, args);
        node.wait_for("node started");
        node
    }
}

fn finish(mut command: Command, input: &str) -> Done {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let began = Instant::now();
    let mut child = command.spawn().expect("the program");
    if let Some(mut stdin) = child.stdin.take() {
        // A command that refuses early does not read everything.
        let _ = stdin.write_all(input.as_bytes());
    }
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        send_signal(pid, Signal::KILL);
        panic!("{command:?} did not end within {DEADLINE:?}");
    };
    let output = output.expect("its output");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let code = output.status.code().unwrap_or(-1);
    Done { code, out: text(output.stdout), err: text(output.stderr), took: began.elapsed() }
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

/// A running `gapless run`; killed at drop.
pub struct Node {
    child: Child,
    log: Arc<Log>,
}

impl Node {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().expect("the program");
        let stderr = child.stderr.take().expect("a pipe");
        let log = Arc::new(Log::default());
        let written = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.lines.lock().expect("the log").0.push(line);
                written.changed.notify_all();
            }
            written.lines.lock().expect("the log").1 = true;
            written.changed.notify_all();
        });
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has said so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().expect("the log").0.clone()
    }

    /// Waits until a line holds `text`, and answers the first such line. Ends early when the program does.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut log = self.log.lines.lock().expect("the log");
        loop {
            if let Some(line) = log.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !log.1, "waited in vain for `{text}` in:\n{}", log.0.join("\n"));
            log = self.log.changed.wait_timeout(log, left).expect("the log").0;
        }
    }

    /// Sends SIGTERM, SIGSTOP...
    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// Waits for its end and answers the exit code; -1 after a signal.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let Self { child, log } = self;
        let status = poll("the node's end", || child.try_wait().expect("its status"));
        let deadline = Instant::now() + DEADLINE;
        let mut lines = log.lines.lock().expect("the log");
        while !lines.1 && Instant::now() < deadline {
            lines = log.changed.wait_timeout(lines, Duration::from_secs(1)).expect("the log").0;
        }
        status.code().unwrap_or(-1)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process of this test.
pub fn send_signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    // It may have ended by itself meanwhile; whoever waits for it sees that.
    let _ = kill_process(pid, signal);
}

/// Looks again and again until there is something to see, for tests without a runtime.
#[track_caller]
pub fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(wait::until_some(what, || std::future::ready(look())))
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In small letters.
    pub headers: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// One HTTP request; none while nobody listens, or if the connection ends without an answer.
pub fn request(address: SocketAddr, head: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    stream.write_all(format!("{head}\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    // What was read before a reset is still an answer.
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, headers: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// `GET path`.
pub fn get(address: SocketAddr, path: &str) -> Option<Answer> {
    request(address, &format!("GET {path} HTTP/1.1"))
}
