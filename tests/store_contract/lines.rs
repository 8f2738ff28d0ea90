//! Lines: appended by native commands, judged behind them. What a commit may do to lines it does to all or to none.

use gapless::ids::{EntryId, UnitId};
use gapless::messages::line::{FileId, Level, Line, LineId, Part};
use gapless::store::StoreError;
use gapless::store::effect::{Commit, Effect};
use gapless::store::lease::{Committed, Lease};
use gapless::store::lines::{Lines, Payload, Publishing};
use gapless::store::table::Table;

use crate::world::World;

pub const FILE: FileId = FileId { head: 0x9c11_85a5_c5e9_fc54, inode: 0x3a1f, generation: 0 };

/// Line `n` of the file, which says so.
pub fn line(n: u64) -> Line {
    let level = Level::new([b"INFO".as_slice(), b"WARN"][usize::try_from(n % 2).expect("small")]).expect("a level");
    let id = LineId { file: FILE, offset: n };
    Line { id, level, bytes: format!("line {n}").into_bytes().into(), part: Part::Whole }
}

pub fn lines(numbers: std::ops::Range<u64>) -> Lines {
    Lines { output: "lines".to_owned(), capacity: 0, lines: numbers.map(line).collect(), publish: None }
}

/// Appends lines and moves the state behind them.
pub fn turn(numbers: std::ops::Range<u64>) -> Commit {
    let state = Some(format!("{{\"at\":{}}}", numbers.end));
    Commit { state, effects: vec![Effect::Lines(lines(numbers))], ..Commit::default() }
}

/// The offsets of the lines in the stream, in order.
pub async fn offsets(world: &World) -> Vec<u64> {
    let entries = world.store.output(&world.link, &world.pipeline, "lines", EntryId::ZERO, 100_000).await;
    let offset = |id: String| id.parse::<LineId>().expect("a line id").offset;
    entries.expect("a stream").iter().map(|entry| offset(entry.text("i").expect("an id"))).collect()
}

#[actix_rt::test]
async fn lines_state_and_table_become_durable_together() {
    let world = World::new().await;
    let lease = world.acquire("watcher").await.expect("a free unit");
    let mut commit = turn(0..3);
    if let Effect::Lines(lines) = &mut commit.effects[0] {
        lines.lines[1].part = Part::Cut;
    }
    let row = |row: &str, value: &str| Effect::PutRow { row: row.to_owned(), value: value.to_owned(), capacity: 2 };
    commit.effects.push(row("a", "{\"offset\":3}"));
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
    assert_eq!(fields(0), "i=9c1185a5c5e9fc54-3a1f-0:0 l=INFO d=line 0");
    assert_eq!(fields(1), "i=9c1185a5c5e9fc54-3a1f-0:1 l=WARN d=line 1 p=cut");
    assert_eq!(offsets(&world).await, [0, 1, 2, 3]);
    let table = Table::from([("a".to_owned(), "{\"offset\":3}".to_owned())]);
    assert_eq!(lease.table().await, Ok(table));
}

#[actix_rt::test]
async fn a_refused_commit_takes_its_lines_back() {
    let world = World::new().await;
    let old = world.acquire("watcher").await.expect("a free unit");
    old.commit(&turn(0..3)).await.expect("a commit");
    let new = world.again(&old, &gapless::store::lease::Fate::Clean).await.expect("ours");
    assert!(matches!(old.commit(&turn(3..6)).await, Err(StoreError::Fenced { .. })));
    assert_eq!(offsets(&world).await, [0, 1, 2]);
    let _ = (UnitId::exclusive, Payload::Bytes, None::<Publishing>, None::<Lease>);
    assert_eq!(new.commit(&turn(3..6)).await, Ok(Committed::Now));
    assert_eq!(offsets(&world).await, [0, 1, 2, 3, 4, 5]);
}
