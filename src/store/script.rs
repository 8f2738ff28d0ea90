//! The Lua scripts: composed from `scripts/`, named by their digest, loaded when Redis does not know them.
//!
//! The text is part of the binary, so nodes of two releases work side by side on one Redis.

use std::sync::LazyLock;

use redis::Cmd;

use crate::wire::Request;

/// One script with the digest that `EVALSHA` wants.
#[derive(Debug)]
pub struct Script {
    /// Its name in error messages.
    pub name: &'static str,
    text: String,
    digest: String,
}

/// Whether Redis may run a script when it is out of memory.
#[derive(Clone, Copy)]
enum Memory {
    /// Refused before its first write: it may append.
    Needed,
    /// Runs at `maxmemory`: leases live and acknowledgements go on.
    Spared,
}

impl Script {
    fn new(name: &'static str, memory: Memory, parts: &[&str]) -> Self {
        // Flags can stand only in the first line; a script with flags is refused before it starts, never half-way.
        let flags = match memory {
            Memory::Needed => "#!lua\n",
            Memory::Spared => "#!lua flags=allow-oom\n",
        };
        let text = super::sabotage::applied(format!("{flags}{}", parts.join("\n")));
        let text = super::format::dressed(text);
        let digest = sha1_smol::Sha1::from(&text).hexdigest();
        Self { name, text, digest }
    }

    /// The same without comments and indentation, for a script that is sent as text each time: Redis digests the text.
    fn compact(self) -> Self {
        let (flags, body) = self.text.split_once('\n').unwrap_or((&self.text, ""));
        let lines = body.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with("--"));
        let text = std::iter::once(flags).chain(lines).collect::<Vec<_>>().join("\n");
        let digest = sha1_smol::Sha1::from(&text).hexdigest();
        Self { name: self.name, text, digest }
    }

    /// `EVALSHA` or, with `whole`, `EVAL` with the text, which also loads it.
    pub(super) fn command(&self, whole: bool, keys: &[String], args: &[Vec<u8>]) -> Cmd {
        let bytes: usize = args.iter().map(|a| a.len() + 12).sum::<usize>() + keys.len() * 80 + 64;
        let mut cmd = Cmd::with_capacity(keys.len() + args.len() + 3, bytes + if whole { self.text.len() } else { 0 });
        if whole {
            cmd.arg("EVAL").arg(&self.text);
        } else {
            cmd.arg("EVALSHA").arg(&self.digest);
        }
        cmd.arg(keys.len());
        for key in keys {
            cmd.arg(key);
        }
        for arg in args {
            cmd.arg(arg.as_slice());
        }
        cmd
    }

    /// Adds `EVAL` with the text to what is sent.
    pub(super) fn write_whole(&self, request: &mut Request, keys: &[String], args: &[Vec<u8>]) {
        request.begin(3 + keys.len() + args.len());
        request.argument(b"EVAL");
        request.argument(self.text.as_bytes());
        request.argument(keys.len().to_string().as_bytes());
        keys.iter().for_each(|key| request.argument(key.as_bytes()));
        args.iter().for_each(|arg| request.argument(arg));
    }
}

const FENCE: &str = include_str!("scripts/fence.lua");
const DELIVER: &str = include_str!("scripts/deliver.lua");
const MEMBERS: &str = include_str!("scripts/members.lua");
const INTERVALS: &str = include_str!("scripts/intervals.lua");
const LATER: &str = include_str!("scripts/later.lua");
const COMMIT: &str = include_str!("scripts/commit.lua");
const TABLE: &str = include_str!("scripts/commit_table.lua");
const HEIGHTS: &str = include_str!("scripts/commit_heights.lua");
const POOL: &str = include_str!("scripts/commit_pool.lua");
const RUN: &str = "return commit(14)";
/// Every part of a commit.
const WHOLE: [&str; 9] = [FENCE, DELIVER, LATER, INTERVALS, COMMIT, TABLE, HEIGHTS, POOL, RUN];

/// Takes a lease.
pub static ACQUIRE: LazyLock<Script> =
    LazyLock::new(|| Script::new("acquire", Memory::Spared, &[FENCE, DELIVER, include_str!("scripts/acquire.lua")]));
/// Gives a lease back.
pub static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new("release", Memory::Spared, &[include_str!("scripts/release.lua")]));
/// The regular exchange of a node: renews leases, shows units and mailboxes, says that it lives.
pub static BEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new("beat", Memory::Spared, &[FENCE, DELIVER, MEMBERS, include_str!("scripts/beat.lua")]));
/// Says that a node lives.
pub static HEARTBEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new("heartbeat", Memory::Spared, &[FENCE, MEMBERS, include_str!("scripts/heartbeat.lua")])
});
/// The fenced read.
pub static READ: LazyLock<Script> =
    LazyLock::new(|| Script::new("read", Memory::Spared, &[FENCE, DELIVER, LATER, include_str!("scripts/read.lua")]));
/// Sends a unit back to an earlier place.
pub static REWIND: LazyLock<Script> =
    LazyLock::new(|| Script::new("rewind", Memory::Spared, &[FENCE, include_str!("scripts/rewind.lua")]));
/// Dead letters back into their mailbox.
pub static RETRY: LazyLock<Script> =
    LazyLock::new(|| Script::new("retry", Memory::Needed, &[FENCE, INTERVALS, include_str!("scripts/retry.lua")]));
/// Dead letters thrown away.
pub static DROP: LazyLock<Script> =
    LazyLock::new(|| Script::new("drop", Memory::Spared, &[FENCE, include_str!("scripts/drop.lua")]));
/// A message from outside.
pub static SEND: LazyLock<Script> =
    LazyLock::new(|| Script::new("send", Memory::Needed, &[FENCE, include_str!("scripts/send.lua")]));
/// What a pipeline is configured to be.
pub static IDENTITY: LazyLock<Script> =
    LazyLock::new(|| Script::new("identity", Memory::Needed, &[FENCE, include_str!("scripts/identity.lua")]));
/// The heights as two plain keys.
pub static VIEW: LazyLock<Script> =
    LazyLock::new(|| Script::new("view", Memory::Needed, &[FENCE, include_str!("scripts/view.lua")]));
/// The commit that appends: refused as a whole when Redis is out of memory.
pub static COMMIT_NEEDED: LazyLock<Script> = LazyLock::new(|| Script::new("commit", Memory::Needed, &WHOLE));
/// The commit without appends: goes on when Redis is out of memory.
pub static COMMIT_SPARED: LazyLock<Script> = LazyLock::new(|| Script::new("commit", Memory::Spared, &WHOLE));
/// The end of a transaction that appends lines. Whatever refuses a write to a Redis without memory has done so before
/// the lines were appended; then this must not be refused.
pub static COMMIT_LINES: LazyLock<Script> = LazyLock::new(|| {
    let parts = [FENCE, DELIVER, COMMIT, TABLE, include_str!("scripts/commit_lines.lua")];
    Script::new("commit", Memory::Spared, &parts).compact()
});
/// Lines taken back whose transaction went wrong in its last step.
pub static UNDO: LazyLock<Script> =
    LazyLock::new(|| Script::new("undo", Memory::Spared, &[include_str!("scripts/undo.lua")]));
/// Bounds an output.
pub static TRIM: LazyLock<Script> =
    LazyLock::new(|| Script::new("trim", Memory::Spared, &[FENCE, DELIVER, include_str!("scripts/trim.lua")]));
/// One page of the table of a unit.
pub static TABLE_PAGE: LazyLock<Script> =
    LazyLock::new(|| Script::new("table", Memory::Spared, &[FENCE, include_str!("scripts/table.lua")]));
