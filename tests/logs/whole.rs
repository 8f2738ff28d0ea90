//! Whole nodes, real processes: real logs in random pieces with rotations between, a burst while Redis is away, a folder
//! that two hosts share.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fields::node;
use crate::oracle;
use crate::support::fleet::Node;
use crate::support::redis::RedisServer;
use crate::support::{chaos, wait};

/// A line is cut above this.
const LIMIT: usize = 64 * 1024;

/// One followed file, and what its lives held.
pub struct Logger {
    pub path: PathBuf,
    handle: File,
    pub lives: Vec<Vec<u8>>,
}

impl Logger {
    pub fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let path = folder.join("app.log");
        Self { handle: open(&path), path, lives: vec![Vec::new()] }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.handle.write_all(bytes).expect("written");
        self.lives.last_mut().expect("a life").extend_from_slice(bytes);
    }

    /// As logrotate does, by renaming or by copying.
    pub fn rotate(&mut self, copies: bool) {
        let numbered = |n: usize| self.path.with_file_name(format!("app.log.{n}"));
        for n in (1..self.lives.len()).rev() {
            fs::rename(numbered(n), numbered(n + 1)).expect("shifted");
        }
        if copies {
            fs::copy(&self.path, numbered(1)).expect("copied");
            self.handle.set_len(0).expect("truncated");
        } else {
            fs::rename(&self.path, numbered(1)).expect("renamed");
            self.handle = open(&self.path);
        }
        self.lives.push(Vec::new());
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).expect("a file")
}

pub fn section(name: &str, path: &Path, more: &str) -> String {
    format!(
        "[logs.{name}]\npaths = [\"{}\"]\npoll_ms = 50\npoll_only_ms = 50\nrotate_wait_ms = 500\n{more}\n",
        path.display()
    )
}

/// Waits until the stream has had so many entries. As long as there is progress it may take its time.
pub async fn entries(redis: &RedisServer, stream: &str, want: u64) {
    let mut connection = redis.connection();
    let mut had = 0;
    while had < want {
        wait::until_true(&format!("more than {had} of {want} lines"), || {
            let length = redis::cmd("XLEN").arg(stream).query(&mut connection).unwrap_or(0);
            let grew = length > had;
            had = length.max(had);
            grew
        })
        .await;
    }
}

pub fn judged(redis: &RedisServer, stream: &str, lives: &[Vec<u8>]) {
    let faults = oracle::faults(&oracle::truth(lives, LIMIT), &oracle::entries(redis, stream));
    assert!(faults.is_empty(), "{stream}:\n{}", faults.join("\n"));
}

#[tokio::test]
async fn real_logs_in_random_pieces_with_rotations_between_come_as_their_bytes() {
    let Some(data) = std::env::var_os("GAPLESS_REAL_DATA") else {
        println!("skipped: GAPLESS_REAL_DATA is not set");
        return;
    };
    let seed = chaos::seed(20_261_126);
    let (mut rng, redis, folder) =
        (StdRng::seed_from_u64(seed), RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let names = ["hdfs", "openssh", "openstack"];
    let mut texts = Vec::new();
    let mut loggers = Vec::new();
    for name in names {
        // With characters of several bytes, so that pieces end inside of one.
        let text = fs::read(Path::new(&data).join(format!("logs/{name}.log"))).expect("a real log");
        let lines = text.split_inclusive(|b| *b == b'\n').map(|line| [line, "→ü\n".as_bytes()].concat());
        texts.push((lines.collect::<Vec<_>>().concat(), 0));
        loggers.push(Logger::new(&folder.path().join(name)));
    }
    let sections: String = names.iter().zip(&loggers).map(|(name, l)| section(name, &l.path, "")).collect();
    let mut node = node(folder.path(), "n", "h", &redis.url(), "t", &sections);
    node.start();
    let mut rotations = 0;
    while texts.iter().any(|(text, at)| *at < text.len()) {
        for ((text, at), logger) in texts.iter_mut().zip(&mut loggers) {
            let upto = (*at + rng.random_range(1..20_000)).min(text.len());
            logger.append(&text[*at..upto]);
            *at = upto;
            // A rotation, at the end of a line.
            if upto < text.len() && rng.random_ratio(1, 12) {
                let rest = text[upto..].iter().position(|b| *b == b'\n').map_or(text.len(), |end| upto + end + 1);
                logger.append(&text[upto..rest]);
                *at = rest;
                logger.rotate(rng.random_ratio(1, 3));
                rotations += 1;
            }
        }
        wait::step().await;
    }
    let mut lines = 0;
    for (name, (logger, (text, _))) in names.iter().zip(loggers.iter().zip(&texts)) {
        assert_eq!(logger.lives.concat(), *text, "all of it was written");
        let stream = format!("t:{{logs.{name}}}:out:lines");
        let want = oracle::count(&logger.lives, LIMIT) as u64;
        entries(&redis, &stream, want).await;
        judged(&redis, &stream, &logger.lives);
        lines += want;
    }
    println!("logs: {lines} real lines, {rotations} rotations, bytes equal (seed {seed})");
    node.kill();
}

/// Kibibytes of memory that a process has now.
pub fn resident(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Deleted files that a process holds open.
fn deleted_files(node: &Node) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("its files").flatten();
    let files = files.filter_map(|file| fs::read_link(file.path()).ok());
    files.filter(|path| path.to_string_lossy().ends_with("app.log.1 (deleted)")).count()
}

/// Redis stands still, so much is written, rotated and deleted; memory stays flat, and nothing is missing in the end.
async fn burst(megabytes: usize) {
    let (mut redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let mut logger = Logger::new(&folder.path().join("x"));
    let sections = section("x", &logger.path, "stream_entries_max = 10000000");
    let mut node = node(folder.path(), "n", "h", &redis.url(), "t", &sections);
    node.start();
    let stream = "t:{logs.x}:out:lines";
    let line = |n: usize| format!("{n:08} INFO {}\n", "x".repeat(1000)).into_bytes();
    logger.append(&line(0));
    entries(&redis, stream, 1).await;
    redis.kill();
    let before = resident(&node);
    let (mut peak, lines) = (before, megabytes * 1000);
    for n in 1..=lines {
        logger.append(&line(n));
        if n % 1000 == 0 {
            peak = peak.max(resident(&node));
        }
        if n == lines / 2 {
            // It is rotated and deleted while nobody can take its lines: it stays open.
            logger.rotate(false);
            fs::remove_file(logger.path.with_file_name("app.log.1")).expect("deleted");
        }
    }
    wait::until_true("the deleted file to be held open", || deleted_files(&node) == 1).await;
    chaos::restart(&mut redis);
    let want = lines as u64 + 1;
    let mut connection = redis.connection();
    let mut had = 0_u64;
    while had < want {
        wait::until_true(&format!("more than {had} of {want} lines"), || {
            peak = peak.max(resident(&node));
            let length = redis::cmd("XLEN").arg(stream).query(&mut connection).unwrap_or(0);
            let grew = length > had;
            had = length.max(had);
            grew
        })
        .await;
    }
    println!("logs: a burst of {megabytes} MB while redis was away: {before} kB before, {peak} kB at most");
    judged(&redis, stream, &logger.lives);
    assert!(peak < before + 48 * 1024, "{before} kB grew to {peak} kB");
    node.kill();
}

#[tokio::test]
async fn a_burst_while_redis_is_away_waits_in_the_files_and_memory_stays_flat() {
    burst(24).await;
}

#[tokio::test]
#[ignore = "long: make chaos"]
async fn a_long_burst_while_redis_is_away_waits_in_the_files_and_memory_stays_flat() {
    burst(220).await;
}

#[tokio::test]
async fn a_node_of_another_host_goes_on_at_the_exact_byte_of_a_shared_folder() {
    let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let mut logger = Logger::new(&folder.path().join("x"));
    let sections = section("x", &logger.path, "shared = true");
    let of = |name: &str| node(folder.path(), name, name, &redis.url(), "t", &sections);
    let (mut first, mut second) = (of("one"), of("two"));
    first.start();
    let stream = "t:{logs.x}:out:lines";
    logger.append(b"INFO 1\nINFO 2\nha");
    entries(&redis, stream, 2).await;
    first.kill();
    logger.append(b"lf\n");
    logger.rotate(false);
    logger.append(b"INFO 4\n");
    second.start();
    entries(&redis, stream, 4).await;
    judged(&redis, stream, &logger.lives);
    second.kill();
}

#[tokio::test]
async fn a_rewind_by_ten_thousand_lines_appends_only_what_the_stream_lacks() {
    let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let mut logger = Logger::new(&folder.path().join("x"));
    let sections = section("x", &logger.path, "");
    let mut node = node(folder.path(), "n", "h", &redis.url(), "t", &sections);
    node.start();
    let (stream, lines) = ("t:{logs.x}:out:lines", 12_000_u64);
    (0..lines).for_each(|n| logger.append(format!("INFO line {n}\n").as_bytes()));
    entries(&redis, stream, lines).await;
    // What a careless operator deleted, of the last ten thousand lines.
    let ids: Vec<(String, Vec<String>)> =
        redis::from_redis_value(redis.command(&["XRANGE", stream, "-", "+"])).expect("entries");
    let lost: Vec<&str> = ids.iter().skip(2500).step_by(37).map(|(id, _)| id.as_str()).collect();
    redis.command(&[&["XDEL", stream], lost.as_slice()].concat());
    let run = |args: &[&str]| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_gapless"));
        let output =
            program.args(args).arg("--config").arg(folder.path().join("n/node.toml")).env("GAPLESS__NODE__HOST", "h");
        let output = output.output().expect("the program");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, _) = run(&["logs", "verify"]);
    assert!(code == Some(1) && out.contains(&format!("{} missing", lost.len())), "{out}");
    let rewind = run(&["checkpoint", "rewind", "logs.x/log_watcher@h", "--by", "10000", "--yes"]);
    assert_eq!(rewind.0, Some(0), "{rewind:?}");
    entries(&redis, stream, lines).await;
    logger.append(b"INFO after\n");
    entries(&redis, stream, lines + 1).await;
    let mut offsets: Vec<u64> = oracle::entries(&redis, stream).iter().map(|entry| entry.piece.offset).collect();
    offsets.sort_unstable();
    let truth = oracle::truth(&logger.lives, LIMIT);
    let want: Vec<u64> = truth[0].iter().map(|piece| piece.offset).collect();
    assert!(offsets == want, "each line once: {} of {}, {} were deleted", offsets.len(), want.len(), lost.len());
    // They stand out of their order by right, and that is said.
    let (code, out, _) = run(&["logs", "verify"]);
    let words = format!("{} of them came again after a rewind", lost.len());
    assert!(code == Some(0) && out.contains(&words), "{out}");
    redis.command(&["XDEL", stream, &ids[300].0]);
    assert_eq!(run(&["logs", "verify"]).0, Some(1), "what is missing is missing all the same");
    node.kill();
}
