//! The rules of the project that a machine can hold. Each rule is also shown a file that breaks it.

use std::path::{Path, PathBuf};

/// Most production lines of a file. A ratchet: lower it when the longest file has become shorter.
const LINES_MAX: usize = 500;
/// The test files that may pause: one waits for an observed state, with a deadline; the other is a slow network.
const MAY_SLEEP: [&str; 2] = ["tests/support/wait.rs", "tests/support/proxy.rs"];
/// What the header of an actor says, in this order.
const ACTOR_HEADER: [&str; 4] = ["//! Reads", "//! Writes", "//! Promise", "//! Crash"];
/// The rooms of `src` by layer; each looks only downwards. Words may use one another, and `cli` opens the other doors.
const LAYERS: [&[&str]; 7] = [
    &["ids", "error", "config", "telemetry", "messages"],
    &["wire"],
    &["sources", "sinks", "store"],
    &["actors"],
    &["supervisor"],
    &["http", "simulate"],
    &["cli"],
];

/// One file of the project.
struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// What stands before the tests in the file; nothing in a file of tests.
    fn production(&self) -> &str {
        if !self.path.starts_with("src/") || self.path.ends_with("/tests.rs") {
            return "";
        }
        &self.text[..self.text.find("#[cfg(test)]").unwrap_or(self.text.len())]
    }

    /// Lines of the file as `(number, line)`, without comments that fill a line.
    fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
        text.lines().enumerate().map(|(i, line)| (i + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The room of `src` that it belongs to.
    fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        Some(rest.split_once('/').map_or_else(|| rest.trim_end_matches(".rs"), |(room, _)| room))
    }

    /// Its name, if it is an actor.
    fn actor(&self) -> Option<&str> {
        let name = self.path.strip_prefix("src/actors/")?.strip_suffix(".rs")?;
        (!name.contains('/') && name != "mod" && !name.starts_with("turn")).then_some(name)
    }
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// The words that follow `prefix` (such as `crate::`) in a line; of `{a, b::c}` the first of each part.
fn named_after<'t>(line: &'t str, prefix: &str) -> Vec<&'t str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        // `super::super::x` and `my_crate::x` are other paths.
        if line[..at].ends_with(|c| is_word(c) || c == ':') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.extend(rest.split(|c| !is_word(c)).next()),
            Some(list) => {
                let mut depth = 0;
                let parts = list.split(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    c == ',' && depth == 0
                });
                names.extend(parts.filter_map(|part| part.trim_start().split(|c| !is_word(c)).next()));
            }
        }
    }
    names
}

/// `use` lists that rustfmt broke over several lines, joined, so that a line holds a whole path.
fn joined(text: &str) -> String {
    let mut joined = String::new();
    let mut open = false;
    for line in text.lines() {
        let starts = line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ");
        open = (open || starts) && !line.contains(';');
        joined.push_str(if open { line.trim() } else { line });
        joined.push(if open { ' ' } else { '\n' });
    }
    joined.replace("{ ", "{")
}

/// Every file opens with a sentence on what it is for.
fn has_a_sign(file: &File) -> Vec<String> {
    let good = file.text.starts_with("//! ");
    if good { Vec::new() } else { vec![format!("{}:1: begin with `//! ` and what the file is for", file.path)] }
}

/// Layers look only downwards; rooms of one layer do not look at each other, except words.
fn looks_downwards(file: &File) -> Vec<String> {
    let Some((room, rank)) = file.room().and_then(|room| Some((room, layer(room)?))) else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    for (_, line) in File::code(&joined(file.production())) {
        for other in named_after(line, "crate::") {
            let Some(other_rank) = layer(other) else { continue };
            let sideways = other_rank == rank && rank > 0 && other != room;
            if other_rank > rank || sideways {
                faults.push(format!("{}: {room} must not look at {other}: `{}`", file.path, line.trim()));
            }
        }
    }
    faults
}

/// Actors meet in mailboxes only: no actor's file names another one's.
fn actors_do_not_meet(file: &File, actors: &[&str]) -> Vec<String> {
    let Some(me) = file.actor() else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    for (_, line) in File::code(&joined(&file.text)) {
        let mut names = named_after(line, "crate::actors::");
        names.extend(named_after(line, "super::"));
        for other in names.into_iter().filter(|name| *name != me && actors.contains(name)) {
            faults.push(format!("{}: {me} must not know {other}: `{}`", file.path, line.trim()));
        }
    }
    faults
}

/// Only the store speaks Redis.
fn only_the_store_speaks_redis(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") || file.path.starts_with("src/store/") {
        return Vec::new();
    }
    let speaks = |line: &str| {
        line.match_indices("redis::")
            .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
            || line.trim_start().starts_with("use redis")
    };
    let faults = File::code(&file.text).filter(|(_, line)| speaks(line));
    faults
        .map(|(number, line)| format!("{}:{number}: only src/store speaks Redis: `{}`", file.path, line.trim()))
        .collect()
}

/// Words that mean unfinished work, or lose messages.
fn has_no_banned_word(file: &File) -> Vec<String> {
    const EVERYWHERE: [&str; 6] = ["do_send", "todo!", "dbg!", "unimplemented!", "TODO", "FIXME"];
    const IN_TESTS: [&str; 2] = ["thread::sleep", "time::sleep"];
    let mut banned = EVERYWHERE.to_vec();
    if file.path.starts_with("tests/") && !MAY_SLEEP.contains(&file.path.as_str()) {
        banned.extend(IN_TESTS);
    }
    let mut faults = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for word in banned.iter().filter(|word| line.contains(**word)) {
            faults.push(format!("{}:{}: `{word}` must not occur", file.path, index + 1));
        }
    }
    faults
}

/// No file grows past the ratchet.
fn is_short(file: &File) -> Vec<String> {
    let lines = file.production().lines().count();
    let good = lines <= LINES_MAX;
    if good {
        Vec::new()
    } else {
        vec![format!("{}: {lines} production lines; split it (at most {LINES_MAX})", file.path)]
    }
}

/// The header of an actor says what it reads, writes and promises, and what a crash means.
fn actor_has_its_header(file: &File) -> Vec<String> {
    if file.actor().is_none() {
        return Vec::new();
    }
    let mut header = file.text.lines().take_while(|line| line.starts_with("//!"));
    let missing = ACTOR_HEADER.iter().find(|start| !header.any(|line| line.starts_with(**start)));
    missing
        .map(|start| format!("{}: the header lacks `{start}` (order: Reads, Writes, Promise, Crash)", file.path))
        .into_iter()
        .collect()
}

/// Everything that is wrong with a set of files.
fn judge(files: &[File]) -> Vec<String> {
    let actors: Vec<&str> = files.iter().filter_map(File::actor).collect();
    let mut faults = Vec::new();
    for file in files {
        faults.extend(has_a_sign(file));
        faults.extend(looks_downwards(file));
        faults.extend(actors_do_not_meet(file, &actors));
        faults.extend(only_the_store_speaks_redis(file));
        faults.extend(has_no_banned_word(file));
        faults.extend(is_short(file));
        faults.extend(actor_has_its_header(file));
    }
    faults
}

fn rust_files(root: &Path, folder: &Path, files: &mut Vec<File>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder of the project")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("inside").to_str().expect("a plain name").replace('\\', "/");
            files.push(File { path: name, text: std::fs::read_to_string(&path).expect("a text") });
        }
    }
}

#[test]
fn the_project_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"].map(|folder| root.join(folder)) {
        if folder.is_dir() {
            rust_files(root, &folder, &mut files);
        }
    }
    // This file spells out what it forbids.
    files.retain(|file| file.path != "tests/tidy.rs");
    assert!(files.len() > 20, "only {} files were found", files.len());
    let rooms: Vec<&str> = files.iter().filter_map(File::room).filter(|room| !["lib", "main"].contains(room)).collect();
    let strangers: Vec<&&str> = rooms.iter().filter(|room| layer(room).is_none()).collect();
    assert!(strangers.is_empty(), "rooms without a layer: {strangers:?}; add them to LAYERS");
    let faults = judge(&files);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn each_rule_can_be_broken() {
    const HEADER: &str = "//! A.\n//! Reads a\n//! Writes b\n//! Promise c\n//! Crash d\n";
    let long = format!("//! A.\n{}", "\n".repeat(LINES_MAX));
    let sibling = format!("{HEADER}use super::gap_fixer::Thing;\n");
    let cousin = format!("{HEADER}use crate::actors::{{gap_fixer, turn}};\n");
    let shuffled = HEADER.replace("Reads a", "Writes a");
    for (path, text, part) in [
        ("src/ids.rs", "// A.\n", "begin with"),
        ("src/store/keys.rs", "//! A.\nuse crate::actors::Collector;\n", "store must not look at actors"),
        (
            "src/store/keys.rs",
            "//! A.\nuse crate::{\n    ids::Kind,\n    supervisor::{Node, Plan},\n};\n",
            "look at supervisor",
        ),
        ("src/sinks/disk.rs", "//! A.\nfn f() { crate::store::open() }\n", "sinks must not look at store"),
        ("src/messages/gap.rs", "//! A.\nuse crate::sources::Chain;\n", "messages must not look at sources"),
        ("src/http/mod.rs", "//! A.\nuse crate::cli::Arguments;\n", "http must not look at cli"),
        ("src/actors/collector.rs", sibling.as_str(), "collector must not know gap_fixer"),
        ("src/actors/collector.rs", cousin.as_str(), "collector must not know gap_fixer"),
        ("src/actors/collector.rs", shuffled.as_str(), "lacks `//! Reads`"),
        ("src/actors/collector.rs", "//! A.\n//! Reads a\n", "lacks `//! Writes`"),
        ("src/error.rs", "//! A.\nfn f(e: redis::RedisError) {}\n", "only src/store speaks Redis"),
        ("src/error.rs", "//! A.\nuse redis::RedisError;\n", "only src/store speaks Redis"),
        ("src/error.rs", "//! A.\nfn f() { addr.do_send(1); }\n", "`do_send` must not occur"),
        ("src/error.rs", "//! A.\n// FIXME later\n", "`FIXME` must not occur"),
        ("tests/cluster.rs", "//! A.\nasync fn f() { tokio::time::sleep(D).await }\n", "`time::sleep` must not occur"),
        ("src/error.rs", long.as_str(), "production lines"),
    ] {
        let files = [File::new(path, text), File::new("src/actors/gap_fixer.rs", HEADER)];
        let faults = judge(&files);
        assert!(
            faults.len() == 1 && faults[0].starts_with(path) && faults[0].contains(part),
            "{path} {part}: {faults:?}"
        );
    }
}

#[test]
fn what_is_allowed_is_not_judged() {
    const HEADER: &str =
        "//! A.\n//!\n//! Reads    a\n//! Writes   b\n//! Promise  c\n//!          more\n//! Crash    d\n";
    let files = [
        File::new("src/actors/collector.rs", &format!("{HEADER}use super::turn::Turn;\nuse crate::store::Commit;\n")),
        File::new("src/actors/gap_fixer.rs", HEADER),
        File::new("src/cli/mod.rs", "//! A.\nuse crate::{http, simulate, supervisor};\n"),
        File::new("src/store/mod.rs", "//! A.\nuse redis::Client;\nuse crate::messages::gap::GapTask;\n"),
        File::new(
            "src/config/check.rs",
            "//! A.\nfn f() { address::redis::parse() }\n// `redis::Client` is elsewhere\n",
        ),
        File::new(
            "src/error.rs",
            &format!("//! A.\n#[cfg(test)]\nmod tests {{ use crate::cli::x; }}\n{}", "\n".repeat(LINES_MAX)),
        ),
        File::new(MAY_SLEEP[0], "//! A.\nasync fn f() { tokio::time::sleep(D).await }\n"),
    ];
    assert_eq!(judge(&files), Vec::<String>::new());
}
