//! The audit of the logs demo: what should be there is the list that the generator wrote, what is there is the stream.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::Kills;
use super::logs::pipeline;
use crate::actors::log_watcher::LINES;
use crate::cli::desk::{Desk, fault};
use crate::cli::exit::Exit;
use crate::ids::EntryId;
use crate::messages::line::{FileId, Label, LineId};
use crate::simulate::logs::{LineEnd, TruthLine, read_truth};
use crate::store::Entry;

/// Entries of one page.
const PAGE: u32 = 1000;

/// What the audit found. Lines are named by file, life and number.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Complete lines that were written.
    pub written: u64,
    /// Entries that are such lines, each counted once.
    pub in_stream: u64,
    /// Files that began, all lives counted.
    pub lives: u64,
    /// Complete lines without an entry.
    pub missing: Vec<String>,
    /// Lines with more than one.
    pub doubled: Vec<String>,
    /// Entries that are no line that was written there.
    pub altered: Vec<String>,
    /// Entries behind one of a later line of their life.
    pub reordered: Vec<String>,
    /// Last lines that never got their end, and are in the stream.
    pub torn: u64,
    /// All of those.
    pub torn_left: u64,
    /// Bytes of lines in the stream.
    pub bytes: u64,
    pub rotations: u64,
    pub kills: Kills,
    pub takeovers: u64,
}

impl Found {
    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        let faults = [&self.missing, &self.doubled, &self.altered, &self.reordered];
        self.in_stream == self.written && faults.iter().all(|lines| lines.is_empty())
    }
}

/// What one entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    id: Option<LineId>,
    level: String,
    length: u64,
    digest: String,
}

impl Told {
    fn of(entry: &Entry) -> Self {
        let (label, data) = Label::of(&entry.fields).unzip();
        let data = data.unwrap_or_default();
        Self {
            level: label.as_ref().map(|label| label.level.to_string()).unwrap_or_default(),
            id: label.map(|label| label.id),
            length: data.len() as u64,
            digest: blake3::hash(data).to_hex().to_string(),
        }
    }
}

/// Compares the whole stream with the list.
pub(super) async fn audit(desk: &Desk, truth: &Path) -> Result<Found, Exit> {
    let truth = read_truth(truth).map_err(|error| Exit::usage(&format!("demo: {error}")))?;
    let (mut after, mut told) = (EntryId::ZERO, Vec::new());
    loop {
        let page = desk.store.output(&desk.link, &pipeline(), LINES, after, PAGE).await.map_err(fault)?;
        let Some(last) = page.last() else { break };
        after = last.id;
        told.extend(page.iter().map(Told::of));
    }
    Ok(compare(&truth, &told))
}

/// One life of one file.
type Life<'a> = (&'a str, u64);

fn name(line: &TruthLine) -> String {
    format!("{} {} line {}", line.file, line.life, line.seq)
}

/// Compares entries, in their order, with what was written. Pure.
fn compare(truth: &[TruthLine], told: &[Told]) -> Found {
    let mut places: HashMap<(Life<'_>, u64), usize> = HashMap::new();
    for (number, line) in truth.iter().enumerate() {
        places.insert(((&line.file, line.life), line.offset + line.nul), number);
    }
    let lives = lives(truth, told);
    let mut seen = vec![0_u32; truth.len()];
    let mut newest: BTreeMap<Life<'_>, u64> = BTreeMap::new();
    let mut found = Found::default();
    for entry in told {
        found.bytes += entry.length;
        let place = entry.id.as_ref().and_then(|id| Some((*lives.get(&id.file)?, id.offset)));
        let line = place.and_then(|place| places.get(&place)).map(|number| (*number, &truth[*number]));
        let Some((number, line)) = line.filter(|(_, line)| is_it(line, entry)) else {
            found
                .altered
                .push(entry.id.as_ref().map_or_else(|| "an entry without an id".to_owned(), ToString::to_string));
            continue;
        };
        seen[number] += 1;
        let newest = newest.entry((&line.file, line.life)).or_insert(line.seq);
        match seen[number] {
            1 if line.seq < *newest => found.reordered.push(name(line)),
            1 => *newest = line.seq,
            _ => found.doubled.push(name(line)),
        }
    }
    for (line, seen) in truth.iter().zip(seen) {
        let is_complete = line.end != LineEnd::None;
        (found.written, found.torn_left) =
            (found.written + u64::from(is_complete), found.torn_left + u64::from(!is_complete));
        match (is_complete, seen) {
            (true, 0) => found.missing.push(name(line)),
            (true, _) => found.in_stream += 1,
            // Nobody is owed a line that has no end.
            (false, 0) => {}
            (false, _) => found.torn += 1,
        }
    }
    found.lives =
        truth.iter().map(|line| (&line.file, line.life)).collect::<std::collections::BTreeSet<_>>().len() as u64;
    found
}

fn is_it(line: &TruthLine, entry: &Told) -> bool {
    (line.length, line.digest.as_str(), line.level.as_str())
        == (entry.length, entry.digest.as_str(), entry.level.as_str())
}

/// Which life each file of the stream is: that of the first of its lines that only one life can have.
fn lives<'a>(truth: &'a [TruthLine], told: &[Told]) -> HashMap<FileId, Life<'a>> {
    let mut by_content: HashMap<(u64, &str), Vec<Life<'a>>> = HashMap::new();
    for line in truth.iter().filter(|line| line.length > 0) {
        let lives = by_content.entry((line.offset + line.nul, &line.digest)).or_default();
        lives.push((&line.file, line.life));
    }
    let mut lives = HashMap::new();
    for entry in told {
        let Some(id) = &entry.id else { continue };
        if lives.contains_key(&id.file) {
            continue;
        }
        if let Some([life]) = by_content.get(&(id.offset, entry.digest.as_str())).map(Vec::as_slice) {
            lives.insert(id.file.clone(), *life);
        }
    }
    lives
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two lives of three lines each; the second one's last is torn.
    fn truth() -> Vec<TruthLine> {
        let line = |life: u64, number: u64| TruthLine {
            file: "app.log".to_owned(),
            life,
            seq: life * 3 + number,
            record: 0,
            offset: number * 3,
            nul: 0,
            length: 2,
            digest: blake3::hash(format!("{life}{number}").as_bytes()).to_hex().to_string(),
            level: "INFO".to_owned(),
            end: if (life, number) == (1, 2) { LineEnd::None } else { LineEnd::Lf },
        };
        (0..2).flat_map(|life| (0..3).map(move |number| line(life, number))).collect()
    }

    fn told(life: u32, number: u64) -> Told {
        let file = FileId { head: u64::from(life), inode: 1, generation: life };
        Told {
            id: Some(LineId { file, offset: number * 3 }),
            level: "INFO".to_owned(),
            length: 2,
            digest: blake3::hash(format!("{life}{number}").as_bytes()).to_hex().to_string(),
        }
    }

    fn all() -> Vec<Told> {
        (0..2).flat_map(|life| (0..3).map(move |number| told(life, number))).collect()
    }

    #[test]
    fn each_class_of_fault_is_found() {
        let judge = |told: &[Told]| compare(&truth(), told);
        let whole = judge(&all());
        assert!(whole.is_whole(), "{whole:?}");
        assert_eq!((whole.written, whole.in_stream, whole.torn, whole.lives), (5, 5, 1, 2));
        assert!(judge(&all()[..5]).is_whole(), "nobody is owed a torn line");
        let mut some = all();
        some.remove(1);
        assert_eq!(judge(&some).missing, ["app.log 0 line 1"]);
        some.push(told(0, 1));
        assert_eq!(judge(&some).reordered, ["app.log 0 line 1"]);
        some.push(told(0, 1));
        assert_eq!(judge(&some).doubled, ["app.log 0 line 1"]);
        let mut other = all();
        other[1].digest = "x".to_owned();
        let judged = judge(&other);
        assert_eq!((judged.altered.len(), judged.missing.len()), (1, 1));
        let mut other = all();
        other[4].level = "WARN".to_owned();
        assert_eq!(judge(&other).altered.len(), 1);
        let mut foreign = all();
        foreign.push(Told { id: None, ..told(0, 0) });
        assert!(!judge(&foreign).is_whole());
    }
}
