//! The parse step over whole nodes: while lines are parsed, either of two nodes of a host and Redis die by `kill -9`, and
//! nodes stand still past their lease. Each line of the files is one event or one unparsed line, in order.

use std::collections::BTreeMap;

use gapless::ids::EntryId;
use gapless::messages::level::level_of;
use gapless::messages::line::Label;
use gapless::messages::udm::{Facts, Mapping, Parser};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use redis::FromRedisValue;
use tempfile::TempDir;

use crate::fields::{Field, is_kept, node};
use crate::support::fleet::Node;
use crate::support::redis::RedisServer;
use crate::support::{chaos, signals, wait};
use crate::writer::Style;

const PRESET: &str = "seed";

/// An entry of a stream: its id, and its fields.
struct Record(EntryId, Vec<(Vec<u8>, Vec<u8>)>);

impl Record {
    fn line(&self) -> (Label, &[u8]) {
        Label::of(&self.1).expect("a line")
    }

    /// The line's id, the reason if it has one, and what stands behind its label.
    fn text(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let reason = self.1.iter().find(|(name, _)| name == b"r").map(|(_, reason)| text(reason));
        let (label, bytes) = self.line();
        [Some(label.id.to_string()), reason, Some(text(bytes))].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// The whole stream, in its order.
fn records(redis: &RedisServer, key: &str) -> Vec<Record> {
    type Raw = Vec<(String, Vec<Vec<u8>>)>;
    let raw = Raw::from_redis_value(redis.command(&["XRANGE", key, "-", "+"])).expect("entries");
    let record = |(id, fields): (String, Vec<Vec<u8>>)| {
        Record(id.parse().expect("an id"), fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    };
    raw.into_iter().map(record).collect()
}

/// One pipeline whose lines become events.
struct Parsed {
    field: Field,
    prefix: String,
}

impl Parsed {
    fn new(folder: &TempDir, name: &str, style: Style, seed: u64) -> Self {
        let field = Field::new(folder.path(), "t", name, style, seed);
        Self { field, prefix: format!("t:{{logs.{name}}}:out:") }
    }

    fn section(&self) -> String {
        let (mine, name) = (self.field.section(), &self.field.name);
        format!("{mine}[logs.{name}.parse]\npreset = \"{PRESET}\"\nbatch_lines = 5\n")
    }

    fn length(&self, redis: &mut redis::Connection) -> u64 {
        let of = |output| redis::cmd("XLEN").arg(format!("{}{output}", self.prefix)).to_owned();
        ["events", "unparsed"].map(|output| of(output).query(redis).unwrap_or(0_u64)).iter().sum()
    }

    /// What both outputs must hold, in their order, from the lines as the logger wrote them; and what they hold.
    fn compared(&self, redis: &RedisServer) -> [(Vec<String>, Vec<String>); 2] {
        let parser = Parser::new(&Mapping { preset: Some(PRESET.to_owned()), ..Mapping::default() }).expect("a preset");
        let of = |output| records(redis, &format!("{}{output}", self.prefix));
        let (lines, events, unparsed) = (of("lines"), of("events"), of("unparsed"));
        // The name of a file is that of the moment in which its line was parsed.
        let files: BTreeMap<String, String> =
            events.iter().map(|event| (event.line().0.id.to_string(), file_of(event))).collect();
        let (mut want_events, mut want_unparsed) = (Vec::new(), Vec::new());
        for line in &lines {
            let (Label { id: line_id, level: said, part }, bytes) = line.line();
            let id = line_id.to_string();
            let received =
                jiff::Timestamp::from_millisecond(i64::try_from(line.0.ms).expect("a time")).expect("a time");
            let (level, file) = (level_of(bytes), files.get(&id).map_or("", String::as_str));
            assert_eq!(level, said, "{id}");
            match parser.parse(bytes, &Facts { id: &line_id, level: &level, part, received, host: "h", file }) {
                Ok(event) => want_events.push(format!("{id} {}", serde_json::to_string(&event).expect("JSON"))),
                Err(why) => want_unparsed.push(format!("{id} {} {}", why.word(), String::from_utf8_lossy(bytes))),
            }
        }
        let texts = |records: &[Record]| records.iter().map(Record::text).collect();
        [(want_events, texts(&events)), (want_unparsed, texts(&unparsed))]
    }
}

fn file_of(event: &Record) -> String {
    let event: serde_json::Value = serde_json::from_slice(event.line().1).expect("JSON");
    let file = event["additional"]["gapless.file"].as_str().expect("a file").to_owned();
    assert!(file.contains("/app.log"), "{file} is no file of this logger");
    file
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    NodeKill,
    NodeStop,
    RedisKill,
}

struct Storm {
    rng: StdRng,
    redis: RedisServer,
    pipelines: Vec<Parsed>,
    nodes: Vec<Node>,
    faults: BTreeMap<Fault, u32>,
}

impl Storm {
    fn new(seed: u64, folder: &TempDir) -> Self {
        let redis = RedisServer::start();
        let styles = [Style::RenameCreate, Style::Chain];
        let pipelines: Vec<Parsed> =
            (0..).zip(styles).map(|(n, style)| Parsed::new(folder, &format!("x{n}"), style, seed + n)).collect();
        let sections: String = pipelines.iter().map(Parsed::section).collect();
        let of = |name| node(folder.path(), name, "h", &redis.url(), "t", &sections);
        let nodes = vec![of("a"), of("b")];
        Self { rng: StdRng::seed_from_u64(seed), redis, pipelines, nodes, faults: BTreeMap::new() }
    }

    /// One thing that some logger does. It rotates when all that it wrote is in the stream for good: what rotation may do to
    /// files that nobody has read is for other storms.
    fn write(&mut self) {
        let n = self.rng.random_range(0..self.pipelines.len());
        let mut connection = self.redis.is_running().then(|| self.redis.connection());
        let field = &mut self.pipelines[n].field;
        let is_read = connection.as_mut().is_some_and(|redis| {
            let want = field.want();
            want > 0 && field.length(redis) >= want && is_kept(&self.redis)
        });
        if is_read && self.rng.random_ratio(1, 4) {
            field.writer.begin_rotation();
            field.finish_rotation();
        } else {
            let cut = self.rng.random_ratio(1, 3);
            field.writer.append(self.rng.random_range(1..12), cut);
        }
    }

    fn length(&self) -> u64 {
        let mut connection = self.redis.connection();
        self.pipelines.iter().map(|one| one.length(&mut connection)).sum()
    }

    /// Loggers go on until so many more lines were parsed.
    async fn until_more(&mut self, more: u64) {
        let had = self.length();
        for _ in 0..2500 {
            if self.length() >= had + more {
                return;
            }
            self.write();
            wait::step().await;
        }
        panic!("no {more} lines more were parsed");
    }

    async fn fault(&mut self, fault: Fault) {
        let of = self.rng.random_range(0..self.nodes.len());
        *self.faults.entry(fault).or_default() += 1;
        match fault {
            Fault::NodeKill => {
                self.nodes[of].kill();
                // The other one takes over before it comes back, or it comes back first.
                let more = self.rng.random_range(0..30);
                self.until_more(more).await;
                self.nodes[of].start();
            }
            Fault::NodeStop => {
                signals::stop(self.nodes[of].pid());
                self.until_more(20).await;
                signals::go_on(self.nodes[of].pid());
            }
            Fault::RedisKill => {
                self.redis.kill();
                for _ in 0..self.rng.random_range(0..20) {
                    self.write();
                    wait::step().await;
                }
                chaos::restart(&mut self.redis);
            }
        }
    }

    async fn run(&mut self, rounds: u32) {
        // A group that keeps the lines in their stream, so that they can be judged.
        for one in &self.pipelines {
            let key = format!("{}lines", one.prefix);
            self.redis.command(&["XGROUP", "CREATE", &key, "judge", "0", "MKSTREAM"]);
        }
        wait::until_true("the groups to be kept", || is_kept(&self.redis)).await;
        self.nodes.iter_mut().for_each(Node::start);
        self.until_more(20).await;
        for _ in 0..rounds {
            let mut faults = [Fault::NodeKill, Fault::RedisKill, Fault::NodeKill, Fault::NodeStop];
            faults.shuffle(&mut self.rng);
            for fault in faults {
                self.fault(fault).await;
                let more = self.rng.random_range(1..60);
                self.until_more(more).await;
            }
        }
        self.pipelines.iter_mut().for_each(|one| one.field.end());
    }

    /// Waits until everything is parsed, or until nothing more is where that is not certain; ends the nodes, and judges.
    async fn judged(&mut self, is_certain: bool) -> Vec<String> {
        let mut found = Vec::new();
        for one in &self.pipelines {
            found.extend(one.field.faults(&self.redis).await);
        }
        let want: u64 = self.pipelines.iter().map(|one| one.field.want()).sum();
        if is_certain {
            wait::until_true("all lines to be parsed", || self.length() >= want || !found.is_empty()).await;
        } else {
            let mut had = (0, 0);
            // Long enough for a takeover.
            while had.1 < 500 && had.0 < want {
                let length = self.length();
                had = if length == had.0 { (length, had.1 + 1) } else { (length, 0) };
                wait::step().await;
            }
        }
        self.nodes.iter().for_each(Node::terminate);
        for node in &mut self.nodes {
            wait::until_true("the end of a node", || !node.is_running()).await;
        }
        let (mut events, mut unparsed) = (0, 0);
        for one in &self.pipelines {
            // The lines once more: nothing came after they were judged.
            found.extend(one.field.faults(&self.redis).await);
            let [of_events, of_unparsed] = one.compared(&self.redis);
            (events, unparsed) = (events + of_events.1.len(), unparsed + of_unparsed.1.len());
            for (what, (want, have)) in [("events", of_events), ("unparsed", of_unparsed)] {
                found.extend(difference(what, &want, &have).map(|words| format!("{}: {words}", one.field.name)));
            }
        }
        println!("logs: {:?}: {events} events and {unparsed} unparsed lines of {want} lines", self.faults);
        found
    }
}

/// Where two lists begin to differ.
fn difference(what: &str, want: &[String], have: &[String]) -> Option<String> {
    let at = want.iter().zip(have).take_while(|(want, have)| want == have).count();
    let of = |list: &[String]| list.get(at).cloned();
    (want != have).then(|| {
        format!("{what}: {} are not {}; at {at} want {:?}, have {:?}", have.len(), want.len(), of(want), of(have))
    })
}

async fn storm(seed: u64, rounds: u32) {
    println!("logs: storm over the parse step of seed {seed}");
    let folder = tempfile::tempdir().expect("a folder");
    let mut storm = Storm::new(seed, &folder);
    storm.run(rounds).await;
    let found = storm.judged(true).await;
    assert!(found.is_empty(), "seed {seed}:\n{}", found.join("\n\n"));
}

#[tokio::test]
async fn kills_of_nodes_and_redis_leave_each_line_one_event_or_one_unparsed_line() {
    storm(chaos::seed(11), 1).await;
}

#[tokio::test]
#[ignore = "long: make chaos"]
async fn long_storms_leave_each_line_one_event_or_one_unparsed_line() {
    let seed = chaos::seed(20_261_126);
    for storm_seed in seed..seed + 4 {
        storm(storm_seed, 8).await;
    }
}

/// Whoever reads goes on behind what was read, committed or not: a line whose turn died is lost, and that must be seen.
#[cfg(any(debug_assertions, feature = "failpoints"))]
#[tokio::test]
#[ignore = "long: make chaos"]
async fn a_parser_that_skips_what_was_not_committed_is_found_out() {
    for seed in 1..=8 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut storm = Storm::new(seed, &folder);
        storm.nodes.iter_mut().for_each(|node| node.always("GAPLESS_SABOTAGE", "skipping_read"));
        storm.run(1).await;
        let found = storm.judged(false).await;
        println!("logs: sabotage, seed {seed}: {} findings", found.len());
        if !found.is_empty() {
            return;
        }
    }
    panic!("nothing was found in 8 storms");
}

#[test]
fn a_difference_is_seen_wherever_it_is() {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let whole = list(&["a", "b", "c"]);
    assert_eq!(difference("x", &whole, &whole), None);
    for damaged in [&["a", "b"] as &[&str], &["a", "b", "c", "c"], &["b", "a", "c"], &["a", "b", "x"], &[]] {
        assert!(difference("x", &whole, &list(damaged)).is_some(), "{damaged:?}");
    }
}
