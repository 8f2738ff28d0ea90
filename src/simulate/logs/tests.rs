//! The list against the disk: every life of every file, read by one who holds it open, is what the list says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;
use crate::messages::level::level_of;

const STYLES: [Rotate; 11] = [
    Rotate::None,
    Rotate::Rename,
    Rotate::Copytruncate,
    Rotate::Gz,
    Rotate::Zst,
    Rotate::Delete,
    Rotate::Truncate,
    Rotate::Chain,
    Rotate::ChainGz,
    Rotate::Date,
    Rotate::Mix,
];
const FORMATS: [LogFormat; 6] =
    [LogFormat::Seed, LogFormat::Json, LogFormat::Nginx, LogFormat::Syslog, LogFormat::Logfmt, LogFormat::Trace];

fn everything_goes_wrong() -> LogFaults {
    "partial=0.4,torn=0.3,late=0.5,crlf=0.2,empty=0.05,invalid=0.05,nul=0.05,long=0.02:3000".parse().expect("a plan")
}

struct World {
    _folder: tempfile::TempDir,
    plan: LogPlan,
}

impl World {
    fn new(plan: LogPlan) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("logs");
        std::fs::create_dir(&dir).expect("a folder");
        let plan = LogPlan { truth: folder.path().join("truth"), dir, ..plan };
        Self { _folder: folder, plan }
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(&self.plan.dir).expect("a folder").map(|entry| entry.expect("an entry"));
        entries
            .map(|entry| {
                (entry.file_name().into_string().expect("a name"), std::fs::read(entry.path()).expect("bytes"))
            })
            .collect()
    }
}

fn whole(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().expect("metadata").len()).expect("a size")];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

/// Carries a plan out and holds every life open. Returns the bytes of each life, by file and number.
fn followed(world: &World) -> (BTreeMap<(String, u64), Vec<u8>>, u64) {
    let mut generator = Generator::open(world.plan.clone()).expect("a generator");
    let open = |name: &str| File::open(world.plan.dir.join(name)).expect("a file");
    let (mut live, mut over) = (BTreeMap::new(), BTreeMap::new());
    for name in world.files().into_keys() {
        live.insert(name.clone(), (open(&name), 0));
    }
    while let Some(next) = generator.peek().cloned() {
        let (file, life) = live.remove(&next.file).expect("a file");
        let ends = match &next.step {
            Step::Truncate { .. } => {
                over.insert((next.file.clone(), life), whole(&file));
                true
            }
            Step::Create { .. } => true,
            _ => false,
        };
        assert_eq!(generator.step().expect("a step").as_ref(), Some(&next));
        if matches!(next.step, Step::Create { .. }) {
            over.insert((next.file.clone(), life), whole(&file));
        }
        let now = if ends { (open(&next.file), life + 1) } else { (file, life) };
        live.insert(next.file, now);
    }
    over.extend(live.into_iter().map(|(name, (file, life))| ((name, life), whole(&file))));
    assert_eq!(over.len() as u64, generator.lives());
    (over, generator.lines())
}

/// The lines of a life as a list says them, computed from its bytes.
fn lines_of(bytes: &[u8]) -> Vec<(u64, u64, u64, String, LineEnd)> {
    let mut lines = Vec::new();
    let mut offset = 0;
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (body, end) = match piece {
            [body @ .., b'\r', b'\n'] => (body, LineEnd::Crlf),
            [body @ .., b'\n'] => (body, LineEnd::Lf),
            body => (body, LineEnd::None),
        };
        let nul = body.iter().take_while(|byte| **byte == 0).count();
        let body = &body[nul..];
        lines.push((offset, nul as u64, body.len() as u64, blake3::hash(body).to_hex().to_string(), end));
        offset += piece.len() as u64;
    }
    lines
}

#[track_caller]
fn list_agrees(world: &World) -> Vec<TruthLine> {
    let (lives, written) = followed(world);
    let list = read_truth(&world.plan.truth).expect("a list");
    let mut listed: BTreeMap<(String, u64), Vec<_>> = lives.keys().map(|life| (life.clone(), Vec::new())).collect();
    let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in &list {
        let (seq, life) = last.entry(line.file.clone()).or_insert((0, 0));
        assert!(line.seq == *seq && line.life >= *life, "{line:?} after {seq} {life}");
        (*seq, *life) = (line.seq + 1, line.life);
        let of_life = listed.get_mut(&(line.file.clone(), line.life)).expect("a life");
        of_life.push((line.offset, line.nul, line.length, line.digest.clone(), line.end));
    }
    for (life, bytes) in &lives {
        assert_eq!(listed[life], lines_of(bytes), "{life:?}");
    }
    assert_eq!(list.iter().filter(|line| line.end != LineEnd::None).count() as u64, written);
    list
}

#[test]
fn the_list_is_what_one_reads_who_holds_every_file_open() {
    for style in STYLES {
        for seed in 0..4 {
            let faults = if seed == 0 { LogFaults::default() } else { everything_goes_wrong() };
            let formats = FORMATS.to_vec();
            let world = World::new(LogPlan {
                seed,
                files: 7,
                formats,
                lines: Some(1500),
                burst: 12,
                rotate: style,
                rotate_lines: 40,
                faults,
                ..LogPlan::default()
            });
            let list = list_agrees(&world);
            let lines = list.iter().filter(|line| line.end != LineEnd::None).count();
            let torn = list.len() - lines;
            // A line that is torn was begun, and ends nowhere; what waited behind it is given up.
            assert!(
                if torn == 0 { lines == 1500 } else { (1000..1500).contains(&lines) },
                "{style:?} {seed}: {lines} {torn}"
            );
            let lives =
                list.iter().map(|line| (&line.file, line.life)).collect::<std::collections::BTreeSet<_>>().len();
            assert!(if style == Rotate::None { lives == 7 } else { lives > 14 }, "{style:?} {seed}: {lives} lives");
        }
    }
}

#[test]
fn every_fault_occurs() {
    let plan = LogPlan { seed: 3, lines: Some(5000), rotate: Rotate::Rename, rotate_lines: 30, ..LogPlan::default() };
    let world = World::new(LogPlan { faults: everything_goes_wrong(), ..plan });
    let mut generator = Generator::open(world.plan.clone()).expect("a generator");
    let (mut cuts, mut in_character, mut late, mut renamed) = (0, 0, 0, false);
    while let Some(planned) = generator.step().expect("a step") {
        if let Step::Append { bytes, .. } = &planned.step {
            cuts += usize::from(bytes.last() != Some(&b'\n'));
            in_character += usize::from(std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none()));
            late += usize::from(renamed);
        }
        renamed = matches!(planned.step, Step::Rename { .. });
    }
    let list = read_truth(&world.plan.truth).expect("a list");
    let count = |which: &dyn Fn(&TruthLine) -> bool| list.iter().filter(|line| which(line)).count();
    let found = [
        ("partial", cuts),
        ("late", late),
        ("torn", count(&|line| line.end == LineEnd::None)),
        ("crlf", count(&|line| line.end == LineEnd::Crlf)),
        ("empty", count(&|line| line.length == 0)),
        ("nul", count(&|line| line.nul > 0)),
        ("long", count(&|line| line.length >= 3000)),
    ];
    for (fault, count) in found {
        assert!(count >= 10, "{fault} occurred {count} times");
    }
    // The lines of this format are ASCII but for what is invalid.
    assert!(in_character < 10);
    let files = world.files().into_values();
    assert!(files.map(|bytes| String::from_utf8_lossy(&bytes).matches('\u{fffd}').count()).sum::<usize>() > 20);
}

#[test]
fn appends_are_cut_in_the_middle_of_a_character() {
    let faults = LogFaults { partial: 1.0, ..LogFaults::default() };
    let plan = LogPlan { formats: vec![LogFormat::Json], lines: Some(2000), burst: 1, faults, ..LogPlan::default() };
    let world = World::new(plan);
    let mut generator = Generator::open(world.plan.clone()).expect("a generator");
    let mut cut = 0;
    while let Some(planned) = generator.step().expect("a step") {
        let Step::Append { bytes, .. } = planned.step else { panic!("{planned:?}") };
        cut += usize::from(std::str::from_utf8(&bytes).is_err_and(|e| e.error_len().is_none()));
    }
    assert!(cut > 20, "{cut}");
    assert!(std::str::from_utf8(&world.files()["app.log"]).is_ok());
}

#[test]
fn equal_plans_are_equal_files_and_another_seed_is_another_world() {
    let run = |seed| {
        let plan = LogPlan { seed, files: 3, formats: FORMATS.to_vec(), lines: Some(2000), ..LogPlan::default() };
        let faults = everything_goes_wrong();
        let world = World::new(LogPlan { rotate: Rotate::Mix, rotate_lines: 50, keep: 0, faults, ..plan });
        let mut generator = Generator::open(world.plan.clone()).expect("a generator");
        while generator.step().expect("a step").is_some() {}
        (world.files(), std::fs::read(&world.plan.truth).expect("a list"))
    };
    let first = run(5);
    assert!(first.0.len() > 10);
    assert!(run(5) == first);
    assert!(run(6).1 != first.1);
}

fn unpacked(path: &Path) -> Vec<u8> {
    let file = File::open(path).expect("a packed file");
    let mut plain = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => drop(flate2::read::GzDecoder::new(file).read_to_end(&mut plain).expect("gzip")),
        Some("zst") => zstd::stream::copy_decode(file, &mut plain).expect("zstd"),
        _ => drop((&file).read_to_end(&mut plain).expect("bytes")),
    }
    plain
}

/// What is kept of the rotated files is whole lives, the newest ones.
#[test]
fn rotated_files_are_the_newest_lives() {
    for (style, expected) in [
        (Rotate::Rename, [".old-"; 3]),
        (Rotate::Copytruncate, [".copy-"; 3]),
        (Rotate::Gz, [".gz"; 3]),
        (Rotate::Zst, [".zst"; 3]),
        (Rotate::Chain, [".1", ".2", ".3"]),
        (Rotate::ChainGz, [".1", ".2.gz", ".3.gz"]),
        (Rotate::Date, ["-2026"; 3]),
    ] {
        let plan =
            LogPlan { seed: 9, lines: Some(1000), rotate: style, rotate_lines: 60, keep: 3, ..LogPlan::default() };
        let world = World::new(LogPlan { faults: everything_goes_wrong(), ..plan });
        let (mut lives, _) = followed(&world);
        let live = lives.pop_last().expect("a life").1;
        let mut files = world.files();
        assert_eq!(files.remove("app.log"), Some(live), "{style:?}");
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert!(names.len() == 3 && names.iter().zip(expected).all(|(name, part)| name.contains(part)), "{names:?}");
        let mut kept: Vec<Vec<u8>> = names.iter().map(|name| unpacked(&world.plan.dir.join(name))).collect();
        let mut newest: Vec<Vec<u8>> = lives.into_values().rev().take(3).collect();
        kept.sort();
        newest.sort();
        assert!(kept == newest, "{style:?}");
    }
}

#[test]
fn lines_have_the_levels_that_the_list_gives_them() {
    for format in FORMATS {
        let world = World::new(LogPlan { formats: vec![format], lines: Some(500), ..LogPlan::default() });
        let list = list_agrees(&world);
        let text = String::from_utf8(world.files().remove("app.log").expect("a file")).expect("UTF-8");
        assert_eq!(text.lines().count(), 500);
        let mut records = 0;
        for (line, listed) in text.split_terminator('\n').zip(&list) {
            assert_eq!(level_of(line.as_bytes()).as_str(), listed.level, "{line}");
            records = listed.record + 1;
            match format {
                LogFormat::Seed => {
                    let members: BTreeMap<String, String> = serde_json::from_str(line).expect("JSON");
                    assert!(line.is_ascii());
                    let [message, time, level] = ["message", "timestamp", "type"].map(|key| members[key].clone());
                    let written = serde_json::to_string(&message).expect("JSON");
                    if message.is_ascii() {
                        let expected = format!(r#"{{"timestamp": "{time}", "type": "{level}", "message": {written}}}"#);
                        assert_eq!(line, expected);
                    }
                }
                LogFormat::Json => drop(serde_json::from_str::<serde_json::Value>(line).expect("JSON")),
                _ => {}
            }
        }
        assert_eq!(records < 500, format == LogFormat::Trace, "{format:?}: {records} records");
    }
}

/// The lines of the list, in order, from the lives that the followed files had.
fn written(world: &World) -> Vec<Vec<u8>> {
    let (lives, _) = followed(world);
    let lines = read_truth(&world.plan.truth).expect("a list").into_iter();
    lines
        .map(|line| {
            let from = usize::try_from(line.offset + line.nul).expect("a size");
            lives[&(line.file, line.life)][from..][..usize::try_from(line.length).expect("a size")].to_vec()
        })
        .collect()
}

#[test]
fn given_lines_are_written_as_they_are() {
    let given: &[u8] = b"one\r\n\n\0\0two \xff\ntr\xc3\xa4\r\r\nERROR end";
    let faults = "partial=0.8,nul=0.3,crlf=0.3".parse().expect("a plan");
    let plan = LogPlan {
        text: Some(given.into()),
        burst: 2,
        rotate: Rotate::Rename,
        rotate_lines: 2,
        faults,
        ..LogPlan::default()
    };
    let list = list_agrees(&World::new(plan.clone()));
    assert_eq!(
        list.iter().map(|line| line.level.as_str()).collect::<Vec<_>>(),
        ["UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "ERROR"]
    );
    assert_eq!((list[0].end, list[3].end), (LineEnd::Crlf, LineEnd::Crlf));
    let lines = written(&World::new(plan.clone()));
    assert_eq!(lines, [&b"one"[..], b"", b"two \xff", b"tr\xc3\xa4\r", b"ERROR end"]);
    let world = World::new(LogPlan { lines: Some(2), ..plan.clone() });
    assert_eq!(written(&world).len(), 2);
    let faults = LogFaults { empty: 0.1, ..LogFaults::default() };
    let fault = LogPlan { faults, ..plan }.check().expect_err("a fault");
    assert!(fault.contains("would change the lines"), "{fault}");
}

#[test]
fn real_logs_are_written_as_they_are() {
    let Some(data) = std::env::var_os("GAPLESS_REAL_DATA") else { return };
    for name in ["hdfs", "openssh", "openstack"] {
        let text = std::fs::read(Path::new(&data).join("logs").join(format!("{name}.log"))).expect("a real log");
        let faults = "partial=0.5,late=0.5".parse().expect("a plan");
        let plan = LogPlan {
            text: Some(text.as_slice().into()),
            rotate: Rotate::Mix,
            rotate_lines: 100,
            faults,
            ..LogPlan::default()
        };
        let lines = written(&World::new(plan));
        let expected: Vec<&[u8]> = text
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .collect();
        assert_eq!(lines, expected, "{name}");
    }
}

#[test]
fn what_is_begun_is_ended_when_no_more_is_asked_for() {
    let plan = LogPlan { files: 3, rotate: Rotate::Mix, rotate_lines: 20, ..LogPlan::default() };
    let world = World::new(LogPlan { faults: everything_goes_wrong(), ..plan });
    let mut generator = Generator::open(world.plan.clone()).expect("a generator");
    for _ in 0..500 {
        assert!(generator.step().expect("a step").is_some());
    }
    generator.wind_down();
    let mut steps = 0;
    while generator.step().expect("a step").is_some() {
        steps += 1;
    }
    assert!(steps < 100, "{steps} steps");
    for (name, bytes) in world.files().into_iter().filter(|(name, _)| name.ends_with(".log")) {
        assert!(bytes.last().is_none_or(|byte| *byte == b'\n'), "{name}");
    }
}

/// A line that is about to end is in the list before its bytes are in the file: a death between the two leaves one too
/// many, and it shows.
#[test]
fn the_list_is_written_first() {
    let world = World::new(LogPlan { lines: Some(100), ..LogPlan::default() });
    let mut generator = Generator::open(world.plan.clone()).expect("a generator");
    generator.step().expect("a step");
    let full = File::options().read(true).open(world.plan.dir.join("app.log")).expect("a file");
    let before = full.metadata().expect("metadata").len();
    // The file can take no more: the disk is full for it alone.
    let planned = generator.peek().cloned().expect("a step");
    let Step::Append { lines, .. } = &planned.step else { panic!("{planned:?}") };
    generator.break_handle(&planned);
    let error = generator.step().expect_err("a file that cannot be written");
    assert!(error.to_string().contains("app.log: "), "{error}");
    let list = read_truth(&world.plan.truth).expect("a list");
    assert!(list.ends_with(lines));
    assert_eq!(full.metadata().expect("metadata").len(), before);
    assert!(list.iter().rev().take(lines.len()).all(|line| line.offset + line.length >= before));
}

#[test]
fn what_is_in_the_way_is_named_with_the_remedy() {
    let refused = |change: &dyn Fn(&mut LogPlan)| {
        let mut world = World::new(LogPlan::default());
        change(&mut world.plan);
        format!("{:#}", Generator::open(world.plan.clone()).expect_err("a fault"))
    };
    for (fault, part) in [
        (refused(&|plan| plan.dir = plan.dir.join("none")), "mkdir -p"),
        (refused(&|plan| plan.dir = "/proc".into()), "cannot make app.log in /proc; name a folder of yours"),
        (refused(&|plan| plan.dir = "/dev/null".into()), "cannot be read"),
        (refused(&|plan| plan.truth = plan.dir.join("list")), "is inside --dir"),
        (refused(&|plan| plan.truth = plan.dir.join("../logs/list")), "is inside --dir"),
        (refused(&|plan| std::fs::write(&plan.truth, "x").expect("a file")), "name a new file"),
        (refused(&|plan| std::fs::write(plan.dir.join("app.log.1"), "x").expect("a file")), "holds app.log.1 already"),
        (refused(&|plan| plan.burst = 0), "burst of 0 lines"),
        (refused(&|plan| plan.files = 0), "0 files"),
        (refused(&|plan| (plan.rotate, plan.keep) = (Rotate::Chain, 0)), "keeps 1 file or more"),
    ] {
        assert!(fault.contains(part), "{fault}");
    }
}

#[test]
fn a_list_that_was_cut_is_read_up_to_the_cut() {
    let world = World::new(LogPlan { lines: Some(30), ..LogPlan::default() });
    let list = list_agrees(&world);
    let bytes = std::fs::read(&world.plan.truth).expect("a list");
    std::fs::write(&world.plan.truth, &bytes[..bytes.len() - 1]).expect("a cut list");
    assert_eq!(read_truth(&world.plan.truth).expect("a list"), list[..29]);
    std::fs::write(&world.plan.truth, b"{}\n").expect("another list");
    assert!(read_truth(&world.plan.truth).expect_err("no list").to_string().contains("truth:1: missing field"));
}
