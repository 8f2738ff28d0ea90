//! What `doctor` asks of log files and their streams.

use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use super::Check;
use crate::cli::handles;
use crate::cli::reach::Reach;
use crate::cli::words::{bytes, count, grouped};
use crate::config::{Keep, LogsSettings, Settings};
use crate::http::logs;
use crate::ids::{Kind, PipelineId};
use crate::sources::files::{FaultKind, FilesReport, Notice, Tails};
use crate::store::startup::Server;
use crate::store::status::server_ms;
use crate::store::{Entry, StoreError};
use crate::supervisor::wiring;

/// Share of its bound above which a stream is soon full, in percent.
const FULL_PERCENT: u64 = 90;
/// Entries that tell how large one is.
const SAMPLE: u32 = 100;
/// What an entry takes in Redis beside its bytes, about.
const ENTRY_BYTES: u64 = 40;

/// What the patterns of each pipeline match, whether it can be read, how changes are noticed; and the handles for all.
pub(super) fn check(settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, section) in &settings.logs {
        let mut tails = match Tails::new(wiring::file_options(name, section, settings)) {
            Ok(tails) => tails,
            Err(faults) => {
                checks.push(Check::bad(&format!("logs.{name} files"), faults.join("; "), "correct the patterns"));
                continue;
            }
        };
        // A look opens what it finds and reads nothing of it.
        tails.look(Instant::now());
        let (report, notices) = (tails.report(Instant::now()), tails.notices());
        checks.push(files(name, section, &report));
        checks.push(watch(name, section, &report, &notices));
    }
    if !settings.logs.is_empty() {
        checks.push(open_files(handles::needed(settings), handles::limit()));
    }
    checks
}

fn files(name: &str, section: &LogsSettings, report: &FilesReport) -> Check {
    let title = format!("logs.{name} files");
    let matching = report.files.len() + report.beyond;
    let size: u64 = report.files.iter().map(|file| file.size).sum();
    let words = format!("{}, {}", count(matching, "file matches", "files match"), bytes(size));
    if report.beyond > 0 {
        let words = format!("{words}; {} are not followed, files_max is {}", report.beyond, section.files_max);
        return Check::warn(&title, words, format!("raise logs.{name}.files_max, or narrow the patterns"));
    }
    let of_files =
        report.files.iter().filter_map(|file| file.fault.as_ref().map(|(kind, why)| (&file.path, *kind, why)));
    let faults: Vec<_> = of_files.chain(report.faults.iter().map(|(path, kind, why)| (path, *kind, why))).collect();
    if let Some((path, kind, reason)) = faults.first() {
        let more = faults.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let words = format!("{words}; cannot read {}: {reason}{more}", path.display());
        return Check::warn(&title, words, remedy_for(*kind));
    }
    let words = if matching == 0 { format!("no file matches {}", section.paths.join(", ")) } else { words };
    if let Some(folder) = section.paths.iter().find_map(|pattern| missing_folder(pattern)) {
        let words = format!("{words}; there is no folder {}", folder.display());
        return Check::warn(&title, words, "correct the patterns; or it is made later, and found then");
    }
    if matching == 0 {
        return Check::warn(&title, words, "correct the patterns; or a file comes later, and is found then");
    }
    Check::good(&title, words)
}

fn remedy_for(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Denied => "give the user of the node the right to read it and to search its folders",
        FaultKind::NoHandles => handles::REMEDY,
        FaultKind::Packed => "unpack it and pack it again, or leave it out: exclude = [...]",
        FaultKind::Device => "look at the disk, or at the server of the network file system",
        FaultKind::Other => "mend the path, or leave it out: exclude = [...]",
    }
}

/// The folder in which the files of a pattern lie, up to its first wildcard, if it is not there.
fn missing_folder(pattern: &str) -> Option<PathBuf> {
    let pattern = Path::new(pattern);
    let is_plain = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    let folder: PathBuf = pattern.parent()?.components().take_while(is_plain).collect();
    (!folder.as_os_str().is_empty() && !folder.is_dir()).then_some(folder)
}

/// How changes are noticed.
fn watch(name: &str, section: &LogsSettings, report: &FilesReport, notices: &[Notice]) -> Check {
    let title = format!("logs.{name} watch");
    let poll = section.poll_only.as_millis();
    if !section.events {
        return Check::good(&title, format!("files are looked at every {poll} ms, as configured"));
    }
    let limit = notices.iter().find_map(|notice| match notice {
        Notice::Bound { what } => Some(what),
        _ => None,
    });
    if let Some(limit) = limit {
        let remedy = "sysctl -w the limit that is named, and the same in /etc/sysctl.d; lines come later until then";
        return Check::warn(&title, limit, remedy);
    }
    if report.polled_folders > 0 {
        let folders = count(report.polled_folders, "folder gives", "folders give");
        let words = format!("{folders} no events (a network file system): looked at every {poll} ms");
        return Check::good(&title, words);
    }
    Check::good(&title, format!("by events, and every {} ms in any case", section.poll.as_millis()))
}

fn open_files(needed: u64, limit: Option<u64>) -> Check {
    let title = "open files";
    match limit {
        Some(limit) if limit < needed => {
            let words = format!("{needed} may be needed (files_max and held_max), a process may have {limit}");
            Check::warn(title, words, handles::REMEDY)
        }
        Some(limit) => Check::good(title, format!("{needed} may be needed, a process may have {limit}")),
        None => Check::good(title, format!("{needed} may be needed, there is no limit")),
    }
}

/// How full each stream is, who holds it up, whether Redis has room for it, and hosts that nobody follows.
pub(super) async fn streams(reach: &Reach, server: &Server) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, section) in &reach.settings.logs {
        let pipeline = PipelineId::new(Kind::Logs, name);
        match one(reach, server, &pipeline, section).await {
            Ok(some) => checks.extend(some),
            Err(error) => {
                checks.push(Check::bad(&format!("{pipeline} stream"), error.to_string(), "look at the server"));
            }
        }
    }
    checks
}

async fn one(
    reach: &Reach,
    server: &Server,
    pipeline: &PipelineId,
    section: &LogsSettings,
) -> Result<Vec<Check>, StoreError> {
    let (store, link) = (&reach.store, &reach.link);
    let nodes = store.nodes(link).await?;
    let now = (nodes.as_slice(), server_ms(link).await?);
    let seen = logs::look(&reach.settings, store, link, pipeline, now, 1).await?;
    let sample = store.newest(link, pipeline, crate::actors::log_watcher::LINES, SAMPLE).await?;
    let mut checks = vec![stream(pipeline, section, &seen, &sample, server)];
    let orphans: Vec<&str> = seen.watchers.iter().filter(|w| w.orphan).map(|w| w.host.as_str()).collect();
    if !orphans.is_empty() && !nodes.is_empty() {
        let words = format!("nobody follows the files of {}: no node of it lives", orphans.join(", "));
        checks.push(Check::warn(&format!("{pipeline} hosts"), words, "start a node there, under the same node.host"));
    }
    Ok(checks)
}

fn stream(
    pipeline: &PipelineId,
    section: &LogsSettings,
    seen: &logs::LogsSeen,
    sample: &[Entry],
    server: &Server,
) -> Check {
    let title = format!("{pipeline} stream");
    let most = section.stream_entries_max;
    let stream = seen.stream.clone().unwrap_or_default();
    let words = format!("{} of {} entries", grouped(stream.length), grouped(most));
    if section.keep == Keep::Newest && stream.dropped.unread > 0 {
        let words = format!("{words}; {} left it before every group had read them", grouped(stream.dropped.unread));
        return Check::warn(&title, words, "raise stream_entries_max, or set keep = \"acknowledged\": then files wait");
    }
    let slowest = stream.groups.iter().max_by_key(|group| group.lag.unwrap_or(0) + group.pending);
    if let Some(group) = slowest.filter(|_| section.keep == Keep::Acknowledged)
        && stream.length.saturating_mul(100) >= most.saturating_mul(FULL_PERCENT)
    {
        let owes = grouped(group.lag.unwrap_or(0) + group.pending);
        let words = format!("{words}: nearly full, the files wait then; the group {} owes {owes}", group.name);
        return Check::warn(
            &title,
            words,
            "let its readers acknowledge, or drop a group that nobody uses (XGROUP DESTROY)",
        );
    }
    let (size, memory) = (full_size(most, sample), server.memory_max.parse().unwrap_or(0_u64));
    if memory > 0 && size > memory {
        let words = format!("{words}; full it takes about {}, maxmemory is {}", bytes(size), bytes(memory));
        return Check::warn(&title, words, "lower stream_entries_max, or raise maxmemory");
    }
    let size = if sample.is_empty() { String::new() } else { format!(", full about {}", bytes(size)) };
    Check::good(&title, format!("{words}{size}"))
}

/// About how many bytes a stream of so many entries takes, if they are as large as these.
fn full_size(entries: u64, sample: &[Entry]) -> u64 {
    let all: u64 = sample.iter().map(|entry| entry.bytes() as u64 + ENTRY_BYTES).sum();
    all.checked_div(sample.len() as u64).unwrap_or(0).saturating_mul(entries)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::ids::EntryId;
    use crate::store::output::{GroupFacts, OutputFacts};
    use crate::store::trim::Dropped;

    fn section(keys: &str) -> LogsSettings {
        let text = format!("[logs.web]\npaths = [\"/l/*.log\"]\n{keys}\n");
        Settings::from_text("a.toml", &text).expect("a configuration").logs["web"].clone()
    }

    #[test]
    fn handles_are_judged_against_the_limit() {
        assert_eq!(open_files(300, Some(1024)).verdict, Verdict::Good);
        assert_eq!(open_files(300, None).verdict, Verdict::Good);
        let few = open_files(1456, Some(1024));
        assert_eq!((few.verdict, few.remedy.contains("LimitNOFILE")), (Verdict::Warn, true));
    }

    #[test]
    fn what_matches_is_counted_and_what_cannot_be_followed_is_said() {
        let judge = |report: &FilesReport| {
            let check = files("web", &section(""), report);
            (check.verdict, check.words)
        };
        let none = FilesReport::default();
        let words = "no file matches /l/*.log; there is no folder /l".to_owned();
        assert_eq!(judge(&none), (Verdict::Warn, words));
        let many = FilesReport { beyond: 3, ..FilesReport::default() };
        assert!(judge(&many).1.contains("3 are not followed, files_max is 1000"));
    }

    #[test]
    fn the_folder_of_a_pattern_is_looked_for_up_to_its_first_wildcard() {
        for (pattern, folder) in [
            ("/no/such/*.log", Some("/no/such")),
            ("/no/such/a.log", Some("/no/such")),
            ("/no/*/deep/**/*.log", Some("/no")),
            ("/tmp/*/x.log", None),
            ("/*.log", None),
            ("*.log", None),
            ("no_such/{a,b}/x", Some("no_such")),
        ] {
            assert_eq!(missing_folder(pattern), folder.map(PathBuf::from), "{pattern}");
        }
    }

    #[test]
    fn limits_of_the_system_and_network_folders_are_told() {
        let bound = Notice::Bound { what: "raise fs.inotify.max_user_watches".to_owned() };
        let report = FilesReport { polled_folders: 2, ..FilesReport::default() };
        let judge = |keys: &str, report: &FilesReport, notices: &[Notice]| {
            let check = watch("web", &section(keys), report, notices);
            (check.verdict, check.words)
        };
        assert_eq!(judge("", &report, &[bound]).0, Verdict::Warn);
        let (verdict, words) = judge("", &report, &[]);
        assert_eq!(verdict, Verdict::Good);
        assert!(words.starts_with("2 folders give no events"), "{words}");
        assert!(judge("watch = \"poll\"", &report, &[]).1.ends_with("as configured"));
        assert!(judge("", &FilesReport::default(), &[]).1.starts_with("by events"));
    }

    #[test]
    fn a_stream_that_holds_up_or_loses_is_warned_about() {
        let pipeline = PipelineId::new(Kind::Logs, "web");
        let judge = |keys: &str, facts: OutputFacts, memory: &str| {
            let keys = format!("stream_entries_max = 1000\n{keys}");
            let seen = logs::LogsSeen {
                watchers: Vec::new(),
                files: Vec::new(),
                has_more: false,
                stream: Some(facts),
                parser: None,
            };
            let sample = [Entry { id: EntryId::ZERO, fields: vec![(vec![b'd'], vec![b'x'; 99])] }];
            let server = Server { memory_max: memory.to_owned(), ..Server::default() };
            let check = stream(&pipeline, &section(&keys), &seen, &sample, &server);
            (check.verdict, check.words)
        };
        let group = GroupFacts { name: "slow".to_owned(), lag: Some(850), pending: 50, ..GroupFacts::default() };
        let full = || OutputFacts { length: 950, groups: vec![group.clone()], ..OutputFacts::default() };
        let (verdict, words) = judge("", full(), "0");
        assert_eq!(verdict, Verdict::Warn);
        assert!(words.ends_with("the group slow owes 900"), "{words}");
        let lost = OutputFacts { dropped: Dropped { all: 9, unread: 7 }, ..full() };
        let (verdict, words) = judge("keep = \"newest\"", lost, "0");
        assert_eq!((verdict, words.contains("7 left it before")), (Verdict::Warn, true), "{words}");
        let small = || OutputFacts { length: 5, ..OutputFacts::default() };
        assert_eq!(judge("", small(), "100000").0, Verdict::Warn, "140 bytes each");
        assert_eq!(judge("", small(), "0"), (Verdict::Good, "5 of 1,000 entries, full about 136.7 KiB".to_owned()));
    }
}
