//! Lines: appended by native commands, judged behind them. What a commit may do to lines it does to all or to none.

use std::time::Duration;

use gapless::ids::{EntryId, PipelineId};
use gapless::messages::heights::HeightRange;
use gapless::messages::line::{FileId, Label, Level, Line, LineId, Part};
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Committed, Fate, Lease};
use gapless::store::lines::{LINES_MAX, Lines, Payload, Publishing};
use gapless::store::link::Link;
use gapless::store::table::Table;
use gapless::store::{Store, StoreError};

use crate::support::redis::RedisServer;
use crate::world::{LONG_LEASE, World, append, link_with, options};

pub const FILE: FileId = FileId { head: 0x9c11_85a5_c5e9_fc54, inode: 0x3a1f, generation: 0 };
const LARGEST: u64 = u64::MAX;

/// Line `n` of the file, which says so.
pub fn line(n: u64) -> Line {
    let level = if n.is_multiple_of(2) { "INFO" } else { "WARN" };
    let level = Level::new(level.as_bytes()).expect("a level");
    let id = LineId { file: FILE, offset: n };
    Line { id, level, bytes: format!("line {n}").into_bytes().into(), part: Part::Whole }
}

pub fn lines(numbers: std::ops::Range<u64>) -> Lines {
    Lines { output: "lines".to_owned(), lines: numbers.map(line).collect(), ..Lines::default() }
}

/// Appends lines and moves the state and the file's row behind them.
pub fn turn(numbers: std::ops::Range<u64>) -> Commit {
    let at = format!("{{\"at\":{}}}", numbers.end);
    let row = Effect::PutRow { row: "file".to_owned(), value: at.clone(), capacity: 10 };
    Commit { state: Some(at), effects: vec![Effect::Lines(lines(numbers)), row], ..Commit::default() }
}

/// The same turn with other lines than usual.
fn with(commit: Commit, change: impl FnOnce(&mut Lines)) -> Commit {
    let mut commit = commit;
    for effect in &mut commit.effects {
        if let Effect::Lines(lines) = effect {
            change(lines);
            break;
        }
    }
    commit
}

/// The offsets of the lines in the stream, in order.
pub async fn offsets_of(store: &Store, link: &Link, pipeline: &PipelineId) -> Vec<u64> {
    let entries = store.output(link, pipeline, "lines", EntryId::ZERO, 1_000_000).await.expect("a stream");
    entries.iter().map(|entry| Label::of(&entry.fields).expect("a line").0.id.offset).collect()
}

pub async fn offsets(world: &World) -> Vec<u64> {
    offsets_of(&world.store, &world.link, &world.pipeline).await
}

pub fn stream(world: &World) -> String {
    world.store.keys.output(&world.pipeline, "lines")
}

/// Every key but the stream as Redis keeps it, and of the stream everything but its last id, which a refused commit may
/// raise: its entries, how many were ever added, and how its groups stand.
fn everything(world: &World) -> (std::collections::BTreeMap<String, Vec<u8>>, String) {
    let (mut keys, key) = (world.keyspace(), stream(world));
    if keys.remove(&key).is_none() || world.server.text(&["TYPE", &key]) != "stream" {
        return (keys, world.server.text(&["EXISTS", &key]));
    }
    let facts = world.server.command(&["XINFO", "STREAM", &key]);
    let facts: std::collections::BTreeMap<String, redis::Value> = redis::from_redis_value(facts).expect("facts");
    let groups = world.server.command(&["XINFO", "GROUPS", &key]);
    let entries = world.server.command(&["XRANGE", &key, "-", "+"]);
    (keys, format!("{:?} {groups:?} {entries:?}", facts["entries-added"]))
}

async fn refused(world: &World, lease: &Lease, commit: &Commit) -> StoreError {
    let before = everything(world);
    let error = lease.commit(commit).await.expect_err("a refusal");
    assert_eq!(everything(world), before, "a refused commit has changed something: {error}");
    error
}

/// A world whose stream has three lines, of which a group has read two and acknowledged one.
async fn with_three_lines() -> (World, Lease) {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    assert_eq!(lease.commit(&turn(0..3)).await, Ok(Committed::Now));
    let (server, key) = (&world.server, stream(&world));
    server.command(&["XGROUP", "CREATE", &key, "readers", "0"]);
    server.command(&["XREADGROUP", "GROUP", "readers", "a", "COUNT", "2", "STREAMS", &key, ">"]);
    let first = world.store.output(&world.link, &world.pipeline, "lines", EntryId::ZERO, 1).await.expect("entries");
    server.command(&["XACK", &key, "readers", &first[0].id.to_string()]);
    (world, lease)
}

#[actix_rt::test]
async fn lines_state_and_table_become_durable_together() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    let commit = with(turn(0..3), |lines| lines.lines[1].part = Part::Cut);
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
    assert_eq!((lease.appended().length, lease.state().as_str()), (3, "{\"at\":3}"));
    assert_eq!(lease.commit(&turn(3..4)).await, Ok(Committed::Now));
    let entries = world.store.output(&world.link, &world.pipeline, "lines", EntryId::ZERO, 9).await.expect("a stream");
    let fields = |place: usize| {
        let field = |(name, value): &(Vec<u8>, Vec<u8>)| {
            format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        entries[place].fields.iter().map(field).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(fields(0), "9c1185a5c5e9fc54-3a1f-0:0 INFO=line 0");
    assert_eq!(fields(1), "9c1185a5c5e9fc54-3a1f-0:1 WARN cut=line 1");
    assert_eq!(offsets(&world).await, [0, 1, 2, 3]);
    assert_eq!(lease.table().await, Ok(Table::from([("file".to_owned(), "{\"at\":4}".to_owned())])));
    assert_eq!(world.store.checkpoint(&world.link, lease.unit()).await.expect("one").expect("one").seq, 2);
}

#[actix_rt::test]
async fn a_commit_of_lines_does_what_every_commit_does() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    world.send_all("watcher", 1..=3).await;
    let delivery = lease.claim().await.expect("a delivery");
    let mut commit = turn(0..2);
    commit.ack = gapless::store::effect::Ack::Through { last: delivery.entries[1].id, count: 2 };
    commit.effects.push(append("out", &[7]));
    commit.effects.push(Effect::Put { field: "head", value: "5".to_owned() });
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
    assert_eq!(world.output("out").await, [7]);
    assert_eq!(world.store.fact(&world.link, &world.pipeline, "head").await, Ok(Some("5".to_owned())));
    let reads = |world: &World| world.server.text(&["INFO", "commandstats"]).matches("cmdstat_evalsha:calls=").count();
    let before = reads(&world);
    assert_eq!(crate::world::numbers(&lease.claim().await.expect("what the commit delivered")), [3]);
    assert_eq!(reads(&world), before);
}

#[actix_rt::test]
async fn a_refused_commit_takes_its_lines_back_and_nothing_else_has_changed() {
    let (world, old) = with_three_lines().await;
    let lease = world.again(&old, &Fate::Clean).await.expect("ours");
    let fenced = refused(&world, &old, &turn(3..6)).await;
    assert!(matches!(fenced, StoreError::Fenced { .. }), "{fenced}");
    let tip = lease.held().tip;
    world.server.command(&["HSET", &world.checkpoint("watcher"), "tip", "another history"]);
    assert_eq!(refused(&world, &lease, &turn(3..6)).await, StoreError::Moved { seq: 1 });
    world.server.command(&["HSET", &world.checkpoint("watcher"), "tip", tip.as_str()]);
    // Whatever else stands in the commit and is refused.
    let mut full = turn(3..6);
    full.effects.push(Effect::PutRow { row: "another".to_owned(), value: "{}".to_owned(), capacity: 1 });
    assert_eq!(refused(&world, &lease, &full).await, StoreError::Full { key: world.store.keys.table(lease.unit()) });
    let wrong = world.store.keys.output(&world.pipeline, "wrong");
    world.server.command(&["SET", &wrong, "x"]);
    let mut broken = turn(3..6);
    broken.effects.push(append("wrong", &[1]));
    assert!(matches!(refused(&world, &lease, &broken).await, StoreError::Broken { key, .. } if key == wrong));
    // A fault in the script itself, before anything was written.
    world.server.command(&["DEL", &world.checkpoint("watcher")]);
    world.server.command(&["SET", &world.checkpoint("watcher"), "x"]);
    refused(&world, &lease, &turn(3..6)).await;
}

#[actix_rt::test]
async fn a_stream_that_a_refused_commit_would_have_made_is_not_there() {
    let world = World::new().await;
    let old = world.acquire("watcher").await.expect("a free unit");
    let lease = world.again(&old, &Fate::Clean).await.expect("ours");
    assert!(matches!(refused(&world, &old, &turn(0..3)).await, StoreError::Fenced { .. }));
    assert!(!world.keyspace().contains_key(&stream(&world)));
    // One that somebody waits at stays, empty.
    world.server.command(&["XGROUP", "CREATE", &stream(&world), "readers", "$", "MKSTREAM"]);
    assert!(matches!(refused(&world, &old, &turn(0..3)).await, StoreError::Fenced { .. }));
    assert_eq!(lease.commit(&turn(0..3)).await, Ok(Committed::Now));
    assert_eq!(offsets(&world).await, [0, 1, 2]);
}

#[actix_rt::test]
async fn a_stream_of_another_type_refuses_the_whole_commit() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    world.server.command(&["SET", &stream(&world), "x"]);
    let error = refused(&world, &lease, &turn(0..3)).await;
    assert!(matches!(&error, StoreError::Broken { key, .. } if *key == stream(&world)), "{error}");
    assert!(lease.state().is_empty());
    world.server.command(&["DEL", &stream(&world)]);
    assert_eq!(lease.commit(&turn(0..3)).await, Ok(Committed::Now));
}

/// Ids run out in the middle of the lines, or before them, or would right behind them; what stood there before stays,
/// also the same lines from an earlier commit.
#[actix_rt::test]
async fn a_stream_whose_ids_run_out_keeps_what_it_had_and_gets_nothing() {
    for left in [0, 1, 2, 3, 1000] {
        let (world, lease) = with_three_lines().await;
        let last = format!("{LARGEST}-{}", LARGEST - left);
        world.server.command(&["XADD", &stream(&world), &last, "foreign", "x"]);
        for is_empty in [false, true] {
            if is_empty {
                world.server.command(&["XDEL", &stream(&world), &last]);
            }
            let key = stream(&world);
            let entries = || format!("{:?}", world.server.command(&["XRANGE", &key, "-", "+"]));
            let checkpoint = || format!("{:?}", world.server.command(&["HGETALL", &world.checkpoint("watcher")]));
            for commit in [turn(3..6), turn(0..3)] {
                let (before, state) = (entries(), checkpoint());
                let error = lease.commit(&commit).await.expect_err("a refusal");
                assert!(matches!(&error, StoreError::Broken { key: found, .. } if *found == key), "{error}");
                assert_eq!(entries(), before, "{left} ids left, the foreign entry gone: {is_empty}");
                assert_eq!(checkpoint(), state);
            }
        }
    }
}

#[actix_rt::test]
async fn without_memory_nothing_is_appended() {
    let (world, lease) = with_three_lines().await;
    world.server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = refused(&world, &lease, &turn(3..6)).await;
    assert!(matches!(error, StoreError::OutOfMemory(_)), "{error}");
    world.server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(lease.commit(&turn(3..6)).await, Ok(Committed::Now));
    assert_eq!(offsets(&world).await, [0, 1, 2, 3, 4, 5]);
}

#[actix_rt::test]
async fn a_full_stream_refuses_and_is_asked_for_room_before_lines_travel_again() {
    let (world, lease) = with_three_lines().await;
    let commit = |capacity| with(turn(3..13), |lines| lines.capacity = capacity);
    let full = StoreError::Full { key: stream(&world) };
    let appends = || {
        let stats = world.server.text(&["INFO", "commandstats"]);
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xadd:calls=")).expect("appends");
        calls.split(',').next().expect("a number").parse::<u64>().expect("a number")
    };
    assert_eq!(refused(&world, &lease, &commit(3)).await, full);
    assert!(lease.appended().is_full);
    let before = appends();
    assert_eq!(refused(&world, &lease, &commit(3)).await, full);
    assert_eq!(appends(), before, "the lines have travelled in vain again");
    // Full is judged before the turn: with room for one the whole turn passes.
    assert_eq!(lease.commit(&commit(4)).await, Ok(Committed::Now));
    assert_eq!((lease.appended().length, lease.appended().is_full), (13, false));
}

#[actix_rt::test]
async fn what_cannot_travel_is_refused_before_it_does() {
    let (world, lease) = with_three_lines().await;
    let long = with(turn(3..6), |lines| {
        lines.lines[1].bytes = vec![b'x'; world.link.options().limits.entry_bytes_max + 1].into();
    });
    assert!(matches!(refused(&world, &lease, &long).await, StoreError::TooLarge { .. }));
    let many = turn(3..4 + LINES_MAX as u64);
    assert!(matches!(refused(&world, &lease, &many).await, StoreError::Unfit(_)));
    let heavy = with(turn(3..4003), |lines| lines.lines.iter_mut().for_each(|l| l.bytes = vec![b'x'; 1000].into()));
    assert!(matches!(refused(&world, &lease, &heavy).await, StoreError::TooLarge { .. }));
    let range = HeightRange::new(1, 2).expect("a range");
    for effect in [Effect::Lines(lines(6..7)), Effect::Unpark { range }, append("lines", &[1])] {
        let mut commit = turn(3..6);
        commit.effects.push(effect);
        assert!(matches!(refused(&world, &lease, &commit).await, StoreError::Unfit(_)));
    }
    let empty = Effect::PutRow { row: "a".to_owned(), value: String::new(), capacity: 1 };
    let empty = Commit { effects: vec![empty], ..Commit::default() };
    assert!(matches!(refused(&world, &lease, &empty).await, StoreError::Unfit(_)));
    // No lines are no transaction.
    assert_eq!(lease.commit(&turn(3..3)).await, Ok(Committed::Now));
}

fn publishing(commit: Commit, payload: Payload) -> Commit {
    with(commit, |lines| lines.publish = Some(Publishing { prefix: "logs:".to_owned(), payload }))
}

/// The messages that wait at a subscriber, each with its channel.
fn heard(subscriber: &mut redis::PubSub<'_>) -> Vec<(String, Vec<u8>)> {
    subscriber.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let message = |message: redis::Msg| (message.get_channel_name().to_owned(), message.get_payload_bytes().to_vec());
    let all = std::iter::from_fn(|| subscriber.get_message().ok().map(message)).collect();
    // What is asked of it next is answered, however busy the machine is.
    subscriber.set_read_timeout(None).expect("no timeout");
    all
}

#[actix_rt::test]
async fn lines_are_heard_in_their_order_once_their_commit_is_done_by_those_who_listen() {
    let world = World::new().await;
    let old = world.acquire("watcher").await.expect("a free unit");
    let lease = world.again(&old, &Fate::Clean).await.expect("ours");
    let (mut all, mut warnings, mut pattern) =
        (world.server.connection(), world.server.connection(), world.server.connection());
    let (mut all, mut warnings, mut pattern) = (all.as_pubsub(), warnings.as_pubsub(), pattern.as_pubsub());
    all.subscribe("logs:all").expect("subscribed");
    old.commit(&publishing(turn(0..5), Payload::Bytes)).await.expect_err("a refusal");
    assert!(heard(&mut all).is_empty(), "a refused commit was heard");
    assert_eq!(lease.commit(&publishing(turn(0..5), Payload::Bytes)).await, Ok(Committed::Now));
    let texts = |numbers: &[u64]| numbers.iter().map(|n| format!("line {n}").into_bytes()).collect::<Vec<_>>();
    let payloads = |heard: Vec<(String, Vec<u8>)>| heard.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>();
    assert_eq!(payloads(heard(&mut all)), texts(&[0, 1, 2, 3, 4]));
    all.unsubscribe("logs:all").expect("unsubscribed");
    warnings.subscribe("logs:WARN").expect("subscribed");
    assert_eq!(lease.commit(&publishing(turn(5..9), Payload::Bytes)).await, Ok(Committed::Now));
    assert_eq!(payloads(heard(&mut warnings)), texts(&[5, 7]));
    warnings.unsubscribe("logs:WARN").expect("unsubscribed");
    pattern.psubscribe("logs:*").expect("subscribed");
    assert_eq!(lease.commit(&publishing(turn(9..11), Payload::Bytes)).await, Ok(Committed::Now));
    let heard = heard(&mut pattern);
    let channels: Vec<&str> = heard.iter().map(|(channel, _)| channel.as_str()).collect();
    assert_eq!(channels, ["logs:all", "logs:WARN", "logs:all", "logs:INFO"]);
    assert_eq!(payloads(heard.clone()), texts(&[9, 9, 10, 10]));
    assert_eq!((lease.appended().unheard, lease.appended().is_heard), (None, true));
    pattern.punsubscribe("logs:*").expect("unsubscribed");
    assert_eq!(lease.commit(&publishing(turn(11..12), Payload::Bytes)).await, Ok(Committed::Now));
    assert!(!lease.appended().is_heard, "nobody listens any more");
}

/// The first commit that is heard reads its lines back, those behind it hand them over: nobody can tell which.
#[actix_rt::test]
async fn what_is_handed_over_is_heard_as_what_is_read_back() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    let mut pattern = world.server.connection();
    let mut pattern = pattern.as_pubsub();
    pattern.psubscribe("logs:*").expect("subscribed");
    // More levels than a byte can count, and bytes of every kind.
    let texts: [&[u8]; 4] = [b"plain", b"\xff\x00\xfe", b"", b"*3\r\n$1\r\n"];
    let level = |n: usize| Level::new(format!("L{n}").as_bytes()).expect("a level");
    let commit = |numbers: std::ops::Range<u64>| {
        with(publishing(turn(numbers), Payload::Bytes), |lines| {
            for (n, line) in lines.lines.iter_mut().enumerate() {
                (line.level, line.bytes) = (level(n % 300), texts[n % texts.len()].into());
            }
        })
    };
    let mut rounds = Vec::new();
    for from in [0, 600] {
        let commit = commit(from..from + 600);
        let was_heard = lease.appended().is_heard;
        assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
        rounds.push((was_heard, heard(&mut pattern)));
    }
    let wanted = |n: usize| {
        let text = texts[n % texts.len()].to_vec();
        [("logs:all".to_owned(), text.clone()), (format!("logs:L{}", n % 300), text)]
    };
    let wanted: Vec<_> = (0..600).flat_map(wanted).collect();
    assert_eq!(rounds, [(false, wanted.clone()), (true, wanted)]);
}

/// As many bytes as a commit may hold are as many when they are handed over as well.
#[actix_rt::test]
async fn lines_that_are_heard_may_be_as_large_as_others() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    let mut all = world.server.connection();
    let mut all = all.as_pubsub();
    all.subscribe("logs:all").expect("subscribed");
    let limits = &world.link.options().limits;
    let size = limits.entry_bytes_max.min(limits.turn_bytes_max);
    let count = 3 * limits.turn_bytes_max / size;
    for from in [0, count as u64] {
        let commit = with(publishing(turn(from..from + count as u64), Payload::Bytes), |lines| {
            lines.lines.iter_mut().for_each(|line| line.bytes = vec![b'x'; size].into());
        });
        assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
        assert_eq!(heard(&mut all).len(), count);
    }
}

#[actix_rt::test]
async fn an_envelope_names_the_line_and_holds_any_bytes() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    let mut all = world.server.connection();
    let mut all = all.as_pubsub();
    all.subscribe("logs:all").expect("subscribed");
    let texts: [&[u8]; 4] = [b"plain", "quotes \" \\ / \u{7f} \u{e4}\t".as_bytes(), b"\xff\x00\xfe", b""];
    let commit = with(publishing(turn(0..4), Payload::Envelope), |lines| {
        for (line, text) in lines.lines.iter_mut().zip(texts) {
            line.bytes = text.to_vec().into();
        }
        lines.lines[3].part = Part::Torn;
    });
    assert_eq!(lease.commit(&commit).await, Ok(Committed::Now));
    for (n, (_, payload)) in heard(&mut all).into_iter().enumerate() {
        let json: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
        assert_eq!(json["id"], format!("{FILE}:{n}"));
        assert_eq!(json["level"], if n % 2 == 0 { "INFO" } else { "WARN" });
        let line = json["line"].as_str().expect("a text");
        if n == 2 {
            assert_eq!((line, &json["base64"]), ("/wD+", &serde_json::Value::Bool(true)));
        } else {
            assert_eq!(line.as_bytes(), texts[n]);
            assert!(json.get("base64").is_none());
        }
        assert_eq!(json.get("part").and_then(|part| part.as_str()), (n == 3).then_some("torn"));
    }
    let stored = world.store.output(&world.link, &world.pipeline, "lines", EntryId::ZERO, 9).await.expect("a stream");
    let stored: Vec<&[u8]> = stored.iter().map(|entry| Label::of(&entry.fields).expect("a line").1).collect();
    assert_eq!(stored, texts);
}

/// A world whose node is a user with these rules.
async fn as_user(rules: &[&str]) -> World {
    let server = RedisServer::start();
    server.command(&[&["ACL", "SETUSER", "node", "on", ">secret"][..], rules].concat());
    let mut options = options(&server.url(), LONG_LEASE);
    options.username = Some("node".to_owned());
    options.password = Some("secret".to_owned());
    World::through(server, link_with(options)).await
}

#[actix_rt::test]
async fn a_user_who_may_not_publish_commits_all_the_same_and_is_told() {
    for lacks in ["-publish", "-pubsub", "resetchannels"] {
        let world = as_user(&["~*", "&*", "+@all", lacks]).await;
        let mut all = world.server.connection();
        let mut all = all.as_pubsub();
        all.subscribe("logs:all").expect("subscribed");
        let lease = world.acquire("watcher").await.expect("a free unit");
        assert_eq!(lease.commit(&publishing(turn(0..3), Payload::Bytes)).await, Ok(Committed::Now));
        assert_eq!(offsets(&world).await, [0, 1, 2]);
        let unheard = lease.appended().unheard;
        if lacks == "-pubsub" {
            // Whoever cannot ask publishes.
            assert_eq!((unheard, heard(&mut all).len()), (None, 3));
        } else {
            assert!(unheard.as_ref().is_some_and(|reason| reason.contains("The user")), "{lacks}: {unheard:?}");
        }
    }
}

/// Without MULTI each line would be appended at once, and seen before it is judged.
#[actix_rt::test]
async fn a_user_without_transactions_appends_nothing() {
    for lacks in ["-multi", "-exec", "-xadd", "-eval"] {
        let world = as_user(&["~*", "&*", "+@all"]).await;
        let lease = world.acquire("watcher").await.expect("a free unit");
        world.server.command(&["ACL", "SETUSER", "node", lacks]);
        let error = refused(&world, &lease, &turn(0..3)).await;
        assert!(matches!(&error, StoreError::Refused { reason, .. } if reason.contains("NOPERM")), "{lacks}: {error}");
        world.server.command(&["ACL", "SETUSER", "node", &lacks.replace('-', "+")]);
        assert_eq!(lease.commit(&turn(0..3)).await, Ok(Committed::Now), "{lacks} is over");
    }
}
