//! Child: this program once more, as a process of its own whose work can be measured and killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::usage::{self, Used};

/// A process that does not outlive this value.
pub struct Child {
    process: process::Child,
    log: PathBuf,
}

impl Child {
    /// A node with the configuration `text`; its files lie in `folder/name`. Its log is at level `warn`.
    pub fn node(folder: &Path, name: &str, text: &str, arguments: &[&str]) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let (config, log) = (folder.join("gapless.toml"), folder.join("log"));
        let state = folder.display();
        let node =
            format!("[node]\nname = \"{name}\"\nhttp = \"\"\nstate_dir = \"{state}\"\n[log]\nlevel = \"warn\"\n");
        fs::write(&config, format!("{node}{text}"))?;
        let mut command = this_program()?;
        command.args(["run", "--config"]).arg(&config).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        Ok(Self { process: command.spawn().context("starting a node")?, log })
    }

    /// A simulated chain of so many blocks; the second value is its address.
    pub fn chain(folder: &Path, head: u64, block_bytes: u32) -> Result<(Self, String)> {
        let log = folder.join("chain.log");
        let mut command = this_program()?;
        command.args(["simulate", "chain", "--listen", "127.0.0.1:0", "--blocks", &head.to_string()]);
        command.args(["--block-bytes", &block_bytes.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut process = command.spawn().context("starting the simulated chain")?;
        let out = process.stdout.take().context("the chain's output")?;
        let chain = Self { process, log };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) else {
            bail!("the simulated chain does not say where it serves: `{}`; {}", line.trim(), chain.last_words());
        };
        let url = url.to_owned();
        Ok((chain, url))
    }

    /// What it has used so far.
    pub fn used(&self) -> Used {
        usage::of_process(self.process.id())
    }

    /// Fails if it has ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.process.try_wait()? {
            Some(status) => bail!("a measured process ended: {status}; {}", self.last_words()),
            None => Ok(()),
        }
    }

    /// As by `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().last().unwrap_or("its log is empty").to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

fn this_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("the path of this program")?))
}
