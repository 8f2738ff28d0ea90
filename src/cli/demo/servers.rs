//! The demo's source and target: Redis servers of its own that can be killed and started again.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::bench::wire::Wire;
use crate::store::managed::find_program;

/// Until a server that was started answers.
const START_MAX: Duration = Duration::from_secs(20);
/// Between two looks at a server that starts.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One server; ended when dropped.
pub(super) struct Server {
    program: PathBuf,
    folder: PathBuf,
    /// Where it listens, through restarts.
    pub port: u16,
    child: Option<Child>,
    ended: Option<Instant>,
}

impl Server {
    /// Starts one that keeps its data in a folder of its own.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let program = find_program().ok_or_else(|| io::Error::other("no redis-server on PATH; install one"))?;
        std::fs::create_dir_all(folder)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut server = Self { program, folder: folder.to_owned(), port, child: None, ended: None };
        server.spawn()?;
        let begun = Instant::now();
        while !server.answers() {
            if begun.elapsed() > START_MAX {
                return Err(io::Error::other(format!("{} does not answer", server.program.display())));
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(server)
    }

    fn spawn(&mut self) -> io::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?;
        // Synced always: what it has answered it still has after a kill, so that the audit may be exact.
        let child = Command::new(&self.program)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        (self.child, self.ended) = (Some(child), None);
        Ok(())
    }

    fn answers(&self) -> bool {
        Wire::connect(self.port).and_then(|mut wire| wire.call(&["PING"])).is_ok()
    }

    /// `kill -9`, if it runs.
    pub fn kill(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        // Both fail only if it has ended already.
        let _ = child.kill();
        let _ = child.wait();
        self.ended = Some(Instant::now());
        true
    }

    /// Starts it again if it was killed at least so long ago.
    pub fn revive(&mut self, after: Duration) {
        if self.ended.is_some_and(|ended| ended.elapsed() >= after)
            && let Err(error) = self.spawn()
        {
            eprintln!("gapless: demo: cannot start redis in {} again: {error}", self.folder.display());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
