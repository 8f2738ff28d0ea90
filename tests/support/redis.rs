//! A real redis-server on a free port in a temporary folder, ended at drop.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server of this test alone.
pub struct RedisServer {
    child: Option<Child>,
    pub port: u16,
    folder: TempDir,
    extra: Vec<String>,
    program: String,
}

impl RedisServer {
    /// Starts a server with an append-only file.
    pub fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "everysec"])
    }

    /// Starts a server with these arguments more.
    pub fn with(extra: &[&str]) -> Self {
        Self::of("redis-server", extra)
    }

    /// Starts a server of this program.
    pub fn of(program: &str, extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let extra = extra.iter().map(|arg| (*arg).to_owned()).collect();
        let mut server = Self { child: None, port: 0, folder, extra, program: program.to_owned() };
        // Another process may take the port between our look and the server's start: then look again.
        for _ in 0..20 {
            server.port = free_port();
            server.resume();
            if server.child.is_some() {
                return server;
            }
        }
        panic!("redis-server does not start; is it installed? (make test installs it)");
    }

    /// Starts a Sentinel with this configuration file, which lies in `folder`.
    pub fn sentinel(folder: TempDir, config: &Path, port: u16) -> Self {
        let text = std::fs::read_to_string(config).expect("its configuration");
        let dir = folder.path().display().to_string();
        std::fs::write(config, format!("port {port}\nbind 127.0.0.1\ndir {dir}\n{text}")).expect("written");
        let mut command = Command::new("redis-server");
        command.arg(config).arg("--sentinel");
        let program = "redis-server".to_owned();
        let mut server = Self { child: None, port, folder, extra: Vec::new(), program };
        server.run(command);
        assert!(server.child.is_some(), "redis-server --sentinel does not start");
        server
    }

    /// Starts the server again, on its port and folder, after [`RedisServer::kill`].
    pub fn resume(&mut self) {
        mend(&self.folder.path().join("appendonlydir"));
        let mut command = Command::new(&self.program);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.extra);
        self.run(command);
    }

    /// Starts the process and waits until it listens.
    fn run(&mut self, mut command: Command) {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(quiet.spawn().expect("redis-server, which make test installs"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().expect("its status").is_some());
            if ended || Instant::now() > deadline {
                self.kill();
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The process, for signals.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves its folder, with the append-only file, where it is when the server is dropped.
    pub fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    /// Runs a command through a connection of its own, as an operator would.
    pub fn command(&self, args: &[&str]) -> redis::Value {
        let mut cmd = redis::cmd(args[0]);
        cmd.arg(&args[1..]);
        cmd.query(&mut self.connection()).expect("an answer")
    }

    /// Whether it takes the command; what it refuses changes nothing.
    pub fn accepts(&self, args: &[&str]) -> bool {
        redis::cmd(args[0]).arg(&args[1..]).query::<redis::Value>(&mut self.connection()).is_ok()
    }

    /// Whether its process was started and not killed since.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// As [`RedisServer::command`], the answer as text.
    pub fn text(&self, args: &[&str]) -> String {
        let mut cmd = redis::cmd(args[0]);
        cmd.arg(&args[1..]);
        cmd.query(&mut self.connection()).expect("an answer as text")
    }

    /// A connection of an operator, who has the patience of an operator.
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a url");
        let connection = client.get_connection_with_timeout(Duration::from_secs(5)).expect("a connection");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        connection
    }

    /// Stops the process as a debugger would (`SIGSTOP`), or lets it go on.
    pub fn pause(&self, paused: bool) {
        let signal = if paused { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("a signal");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What an operator does before the start after a crash. Redis 7.0 leaves a transaction open that the end of the file has
/// cut: what is appended then becomes a part of it, and the start after the next runs its beginning after all.
fn mend(folder: &Path) {
    // By the manifest: a part that has a line which begins with `file` is taken for one, and refused.
    let manifest = folder.join("appendonly.aof.manifest");
    if !manifest.exists() {
        return;
    }
    let mut check = Command::new("redis-check-aof");
    let check = check.arg("--fix").arg(&manifest).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut check = check.spawn().expect("redis-check-aof, which comes with redis-server");
    // It asks before it cuts; about a file that is whole it does not ask.
    let _ = check.stdin.take().expect("a pipe").write_all(b"y\n");
    let status = check.wait().expect("its end");
    assert!(status.success(), "redis-check-aof --fix {}: {status}", manifest.display());
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("its address").port()
}
