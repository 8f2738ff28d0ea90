//! A private redis-server (or valkey-server) on this machine, shared by its nodes.
//!
//! For one machine; several machines need a Redis of their own. The server runs in a process group of its own, so
//! that neither Ctrl-C nor the death of the node that started it takes it away from the others. Who may start it is
//! decided by a lock on a file whose descriptor the *server* inherits, as its standard input: the lock lives exactly
//! as long as the server does, whoever started it, and two servers can never open the same append-only file.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::ids::RandomId;

/// Names of the server program, in the order in which they are looked for.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// Until a server that was told to stop has written everything and is gone.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// Until a server that was started listens; it then still loads its data.
const LISTEN_MAX: Duration = Duration::from_secs(2);

/// Between two looks at a server that starts or stops.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The server that belongs to a data folder.
#[derive(Debug)]
pub struct Managed {
    folder: PathBuf,
    port: u16,
    /// Nodes start the server; one-shot commands only look for it, and so does a node that has stopped it.
    may_start: AtomicBool,
    /// It syncs its file before it answers (`redis.durability` = "fsync"), else once a second.
    syncs_always: bool,
}

impl Managed {
    /// The server in `folder`; `port` 0 is any free one.
    pub fn new(folder: &Path, port: u16, may_start: bool) -> Self {
        Self { folder: folder.to_owned(), port, may_start: AtomicBool::new(may_start), syncs_always: false }
    }

    /// A server that is started from here on syncs its file before it answers, if `always`.
    pub fn syncing(self, always: bool) -> Self {
        Self { syncs_always: always, ..self }
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the server listens, with its password; starts it if it does not run and this process may.
    ///
    /// Called again at every reconnect, so a server that was killed comes back with the next request of any node.
    /// Blocks for at most a few seconds. An error is worth another try: another node may be starting the server.
    pub fn locate(&self) -> Result<String, String> {
        if self.may_start.load(Ordering::SeqCst) {
            self.create_folder()?;
            if let Some(lock) = self.try_lock()? {
                self.start(lock)?;
            }
        }
        let address = self.read("address")?;
        let address: SocketAddr = address.parse().map_err(|e| self.no_server(&format!("`{address}`: {e}")))?;
        Ok(format!("redis://:{}@{address}", self.read("password")?))
    }

    /// Stops the server, if one runs, after it has written everything; from here on this process starts none, so that
    /// connections which are still open do not bring it back. Whether others need it is for the caller to know.
    ///
    /// A crash before or in it leaves a server that the next node finds. Safe to repeat.
    pub async fn shutdown(&self) -> Result<(), String> {
        self.may_start.store(false, Ordering::SeqCst);
        let started = Instant::now();
        while self.is_running()? {
            if started.elapsed() > SHUTDOWN_MAX {
                return Err(format!("the managed redis in {} does not stop", self.folder.display()));
            }
            // It closes the connection instead of answering; while it loads its data it refuses, hence the loop.
            if let Ok(client) = redis::Client::open(self.locate()?) {
                let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(SHUTDOWN_MAX));
                if let Ok(mut connection) = client.get_multiplexed_async_connection_with_config(&config).await {
                    let _ = connection.send_packed_command(&redis::cmd("SHUTDOWN")).await;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Whether a server lives: it holds the lock.
    pub fn is_running(&self) -> Result<bool, String> {
        let exists = self.folder.join("server.lock").exists();
        Ok(exists && self.try_lock()?.is_none())
    }

    /// A small file as another process wrote it; without its line end it is only half written.
    fn read(&self, name: &str) -> Result<String, String> {
        let text = fs::read_to_string(self.folder.join(name)).map_err(|e| self.no_server(&format!("{name}: {e}")))?;
        let line = text.strip_suffix('\n').filter(|line| !line.is_empty());
        line.map(str::to_owned).ok_or_else(|| self.no_server(&format!("{name} is being written")))
    }

    fn no_server(&self, reason: &str) -> String {
        format!("no managed redis in {}: {reason}; start a node first: gapless run", self.folder.display())
    }

    fn create_folder(&self) -> Result<(), String> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.folder).map_err(|e| format!("cannot create {}: {e}", self.folder.display()))
    }

    /// The lock, if no server holds it.
    fn try_lock(&self) -> Result<Option<File>, String> {
        let path = self.folder.join("server.lock");
        let fault = |e: &dyn std::fmt::Display| format!("cannot lock {}: {e}", path.display());
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|e| fault(&e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Starts the server and leaves the lock to it.
    fn start(&self, lock: File) -> Result<(), String> {
        let program = find_program().ok_or_else(|| {
            format!(
                "redis.url is \"managed\", but neither {} nor {} is on PATH; install one \
                 (Debian, Ubuntu: apt-get install redis-server) or set redis.url to a server",
                PROGRAMS[0], PROGRAMS[1]
            )
        })?;
        let port = self.choose_port()?;
        let password = self.password()?;
        let config = self.write_config(port, &password)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let cut = super::aof::mend(&self.folder).map_err(|e| format!("cannot mend {}: {e}", self.folder.display()))?;
        if cut > 0 {
            tracing::warn!(bytes = cut, folder = %self.folder.display(), "redis died within a transaction; it is taken back");
        }
        // Before the server lives: if this process dies in between, the others find the server, or none holds the lock.
        self.replace("address", &format!("{address}\n"))?;
        let log = self.private_file("server.log", true)?;
        let log_too = log.try_clone().map_err(|e| format!("cannot write the server's log: {e}"))?;
        let mut command = Command::new(&program);
        // As its standard input the server inherits the lock, and no other child of this process can.
        command.arg(&config).stdin(Stdio::from(lock)).stdout(log).stderr(log_too).process_group(0);
        let mut child = command.spawn().map_err(|e| format!("cannot start {}: {e}", program.display()))?;
        // Closes our copy of the lock: the server's is the only one now.
        drop(command);
        let pid = child.id();
        self.replace("pid", &format!("{pid}\n"))?;
        let listens = self.wait_until_it_listens(address, &mut child);
        reap(child);
        listens?;
        tracing::info!(%address, pid, folder = %self.folder.display(), "started a managed redis");
        Ok(())
    }

    fn wait_until_it_listens(&self, address: SocketAddr, child: &mut Child) -> Result<(), String> {
        // The caller tries again with its own back-off; this only spares it the first refusals.
        let started = Instant::now();
        while started.elapsed() < LISTEN_MAX {
            // Asked first: at a fixed port another server may be listening.
            if let Ok(Some(status)) = child.try_wait() {
                let log = self.folder.join("server.log");
                return Err(format!("the managed redis ended at once ({status}); see {}", log.display()));
            }
            if TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok() {
                return Ok(());
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Err(format!("the managed redis does not listen on {address} yet"))
    }

    /// The port of the last start, if it is free: nodes that only lost the connection find it again at once.
    fn choose_port(&self) -> Result<u16, String> {
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|l| l.local_addr());
        if self.port != 0 {
            // Told now: a connection would reach the other program, and give it our password.
            let fault =
                |e| format!("port {} (redis.managed_port) cannot be used: {e}; 0 takes any free one", self.port);
            return free(self.port).map(|address| address.port()).map_err(fault);
        }
        let last = fs::read_to_string(self.folder.join("address")).ok();
        let last: Option<SocketAddr> = last.and_then(|text| text.trim().parse().ok());
        let address = last.and_then(|address| free(address.port()).ok()).map_or_else(|| free(0), Ok);
        address.map(|a| a.port()).map_err(|e| format!("no free loopback port for redis: {e}"))
    }

    /// Made at the first start: any user of the machine can reach a loopback port.
    fn password(&self) -> Result<String, String> {
        let path = self.folder.join("password");
        if let Ok(text) = fs::read_to_string(&path)
            && !text.trim().is_empty()
        {
            return Ok(text.trim().to_owned());
        }
        let password = RandomId::new().to_string();
        self.replace("password", &format!("{password}\n"))?;
        Ok(password)
    }

    fn write_config(&self, port: u16, password: &str) -> Result<PathBuf, String> {
        let folder = self.folder.canonicalize().map_err(|e| format!("{}: {e}", self.folder.display()))?;
        let folder = folder.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
        // `everysec`: a crash of the machine may take back one second, a crash of the server nothing.
        let sync = if self.syncs_always { "always" } else { "everysec" };
        let text = format!(
            "# Written by gapless at each start of the server; changes are lost.\n\
             bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\ndaemonize no\n\
             dir \"{folder}\"\nappendonly yes\nappendfsync {sync}\nsave \"\"\n\
             auto-aof-rewrite-min-size 256mb\nmaxmemory-policy noeviction\nstream-node-max-bytes 16kb\n"
        );
        self.replace("redis.conf", &text)?;
        Ok(self.folder.join("redis.conf"))
    }

    fn private_file(&self, name: &str, append: bool) -> Result<File, String> {
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        options.create(true).append(append).write(!append).truncate(!append).mode(0o600);
        options.open(&path).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// Small files of our own, written only under the lock; a reader that meets half of one tries again.
    fn replace(&self, name: &str, text: &str) -> Result<(), String> {
        let mut file = self.private_file(name, false)?;
        file.write_all(text.as_bytes()).map_err(|e| format!("cannot write {name}: {e}"))
    }
}

/// The server program on `PATH`.
pub fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    PROGRAMS.iter().find_map(|name| folders.iter().map(|f| f.join(name)).find(|p| p.is_file()))
}

/// Waits for the child's end on a thread of its own, so that a killed server does not stay a zombie.
fn reap(mut child: Child) {
    let reaper = std::thread::Builder::new().name("redis-reaper".to_owned());
    // Without the thread the server merely stays a zombie after its death, until this process ends.
    drop(reaper.spawn(move || drop(child.wait())));
}
