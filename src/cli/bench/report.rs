//! Report: rows of figures beside those of their round's limit, medians over the rounds, and how they are printed.
//!
//! Every measurement has the same: conditions, tables of rows, a column for each figure. What a bench measures is its own
//! matter; it hands over numbers, in the order of the columns.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::server::{Durability, Server};
use super::stats::{least, median, most};

/// One figure of each row: its name for programs, its heading for people.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    name: &'static str,
    head: &'static str,
    kind: Kind,
    /// By what people see it multiplied.
    times: f64,
    digits: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// How much in a second: the median, the least and the most of all rounds.
    Rate,
    /// The median of all rounds.
    Middle,
    /// The largest of all rounds.
    Most,
}

impl Column {
    /// How much in a second; `head` says of what.
    pub const fn rate(head: &'static str) -> Self {
        Self { name: "per_second", head, kind: Kind::Rate, times: 1.0, digits: 0 }
    }

    /// Anything else, shown with two digits.
    pub const fn new(name: &'static str, head: &'static str) -> Self {
        Self { name, head, kind: Kind::Middle, times: 1.0, digits: 2 }
    }

    /// The most memory of a process, in KiB.
    pub const fn peak(name: &'static str) -> Self {
        Self::new(name, "MiB").times(1.0 / 1024.0).digits(0)
    }

    /// Shown multiplied.
    pub const fn times(self, times: f64) -> Self {
        Self { times, ..self }
    }

    /// Shown with so many digits.
    pub const fn digits(self, digits: usize) -> Self {
        Self { digits, ..self }
    }

    /// The largest of all rounds, not the one in the middle.
    pub const fn most(self) -> Self {
        Self { kind: Kind::Most, ..self }
    }

    fn of(self, values: &[f64]) -> f64 {
        if self.kind == Kind::Most { most(values) } else { median(values) }
    }

    fn write(self, values: &[f64], row: &mut Map<String, Value>) {
        if self.kind == Kind::Rate {
            for (name, value) in [(self.name, median(values)), ("min", least(values)), ("max", most(values))] {
                row.insert(name.to_owned(), json!(value.round()));
            }
        } else {
            // What is no number is null.
            row.insert(self.name.to_owned(), json!(self.of(values)));
        }
    }

    fn cells(self, values: &[f64]) -> Vec<String> {
        let value = self.of(values) * self.times;
        // Nothing was measured there.
        let is_none = !value.is_finite() || value == 0.0;
        let shown = if is_none { "-".to_owned() } else { format!("{value:.*}", self.digits) };
        match self.kind {
            Kind::Rate => vec![shown, format!("({:.0} to {:.0})", least(values), most(values))],
            Kind::Middle | Kind::Most => vec![shown],
        }
    }

    fn heads(self) -> Vec<String> {
        let range = (self.kind == Kind::Rate).then(|| "(min to max)".to_owned());
        std::iter::once(self.head.to_owned()).chain(range).collect()
    }
}

/// What rows have in common: shown above them, and written in each.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    heading: String,
    fields: Vec<(&'static str, Value)>,
}

impl Group {
    /// Rows under a heading that programs know by a name and its value.
    pub fn new(heading: impl Into<String>, name: &'static str, value: Value) -> Self {
        Self { heading: heading.into(), fields: vec![(name, value)] }
    }

    /// Rows that were measured under one setting of the append-only file.
    pub fn of(durability: Durability) -> Self {
        Self::new(format!("append-only file: {}", durability.as_str()), "aof", json!(durability.as_str()))
    }

    /// With one thing more.
    pub fn and(mut self, heading: &str, name: &'static str, value: Value) -> Self {
        self.heading = format!("{heading}, {}", self.heading);
        self.fields.push((name, value));
        self
    }
}

#[derive(Debug)]
struct Row {
    group: Group,
    what: String,
    /// The values of each round, one for each column.
    runs: Vec<Vec<f64>>,
}

impl Row {
    fn values(&self, column: usize) -> Vec<f64> {
        self.runs.iter().filter_map(|run| run.get(column).copied()).collect()
    }
}

/// Rows with the same columns.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    what: String,
    columns: Vec<Column>,
    rows: Vec<Row>,
}

impl Table {
    /// Without rows. `name` is for programs; `what` is the heading of the rows' names.
    pub fn new(name: &'static str, what: impl Into<String>, columns: &[Column]) -> Self {
        Self { name, what: what.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One round of one row: its values in the order of the columns; what is no number, or 0, was not measured.
    pub fn add(&mut self, group: Group, what: impl Into<String>, values: Vec<f64>) {
        let what = what.into();
        match self.rows.iter_mut().find(|row| row.group == group && row.what == what) {
            Some(row) => row.runs.push(values),
            None => self.rows.push(Row { group, what, runs: vec![values] }),
        }
    }

    fn to_json(&self) -> Value {
        let row = |row: &Row| {
            let mut object = Map::new();
            let fields = row.group.fields.iter().cloned().chain([("what", json!(row.what))]);
            object.extend(fields.map(|(name, value)| (name.to_owned(), value)));
            for (place, column) in self.columns.iter().enumerate() {
                column.write(&row.values(place), &mut object);
            }
            Value::Object(object)
        };
        self.rows.iter().map(row).collect()
    }

    /// Columns are as wide as the widest of their cells.
    fn write(&self, text: &mut String) {
        let heads: Vec<String> = self.columns.iter().flat_map(|column| column.heads()).collect();
        let cells = |row: &Row| -> Vec<String> {
            let of = |(place, column): (usize, &Column)| column.cells(&row.values(place));
            self.columns.iter().enumerate().flat_map(of).collect()
        };
        let lines: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
        let width = |place: usize| lines.iter().chain([&heads]).map(|line| line[place].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let names = self.rows.iter().map(|row| row.what.len()).chain([self.what.len()]).max().unwrap_or(0);
        let mut line = |name: &str, cells: &[String]| {
            // Writing into a String cannot fail.
            let _ = if cells.is_empty() { write!(text, "{name}") } else { write!(text, "{name:<names$}") };
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(text, "  {cell:>width$}");
            }
            text.push('\n');
        };
        let mut groups: Vec<&Group> = self.rows.iter().map(|row| &row.group).collect();
        // Rounds take the rows in turns; people see them by group.
        groups.dedup();
        let firsts = groups.iter().enumerate().filter(|(place, group)| !groups[..*place].contains(group));
        for (_, group) in firsts {
            line("", &[]);
            line(&group.heading, &[]);
            line(&self.what, &heads);
            for (row, cells) in self.rows.iter().zip(&lines).filter(|(row, _)| row.group == **group) {
                line(&row.what, cells);
            }
        }
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    head: String,
    conditions: Map<String, Value>,
    tables: Vec<Table>,
    /// What stands in no table: its name, its value, and a line for people.
    more: Vec<(&'static str, Value, String)>,
}

impl Report {
    /// Nothing yet. `of` says what is measured, as the text begins; `conditions` what was the same in all rounds, an object.
    pub fn new(of: &str, runs: u32, conditions: Value, tables: Vec<Table>) -> anyhow::Result<Self> {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let redis = Server::start(Durability::Nothing)?.info("redis_version")?;
        Ok(Self::on(Machine { cpus, redis }, of, runs, conditions, tables))
    }

    fn on(Machine { cpus, redis }: Machine, of: &str, runs: u32, conditions: Value, tables: Vec<Table>) -> Self {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let head = format!("{of}, medians of {runs} runs, {cpus} CPUs shared with redis {redis}, {build} build\n");
        let same = json!({ "runs": runs, "cpus": cpus, "redis": redis, "build": build });
        let conditions =
            [conditions, same].into_iter().flat_map(|value| value.as_object().cloned().unwrap_or_default());
        Self { head, conditions: conditions.collect(), tables, more: Vec::new() }
    }

    /// The table of this name; it is one of those that the report was made with.
    pub fn table(&mut self, name: &str) -> anyhow::Result<&mut Table> {
        let table = self.tables.iter_mut().find(|table| table.name == name);
        table.ok_or_else(|| anyhow::anyhow!("the report has no table `{name}`"))
    }

    /// A value beside the tables, and a line about it; no line if there is nothing to say.
    pub fn also(&mut self, name: &'static str, value: Value, line: String) {
        self.more.push((name, value, line));
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let mut report = Map::new();
        report.insert("conditions".to_owned(), Value::Object(self.conditions.clone()));
        report.extend(self.tables.iter().map(|table| (table.name.to_owned(), table.to_json())));
        report.extend(self.more.iter().map(|(name, value, _)| ((*name).to_owned(), value.clone())));
        Value::Object(report)
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = self.head.clone();
        self.tables.iter().for_each(|table| table.write(&mut text));
        for (_, _, line) in self.more.iter().filter(|(_, _, line)| !line.is_empty()) {
            // Writing into a String cannot fail.
            let _ = write!(text, "\n{line}\n");
        }
        text
    }
}

struct Machine {
    cpus: u64,
    redis: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::rate("lines/s"),
        Column::new("of_limit", "of limit"),
        Column::new("longest_ms", "longest").most(),
        Column::peak("peak_kib"),
    ];

    fn report() -> Report {
        let machine = Machine { cpus: 2, redis: "7.0".to_owned() };
        let mut report =
            Report::on(machine, "100 lines", 3, json!({ "lines": 100 }), vec![Table::new("rows", "", &COLUMNS)]);
        let group = || Group::of(Durability::EverySecond).and("16 streams", "streams", json!(16));
        let table = report.table("rows").expect("the table");
        for (rate, limit) in [(100.0, 200.0), (25.0, 100.0), (50.0, 100.0)] {
            table.add(group(), "a limit", vec![limit, 1.0, 0.0, 0.0]);
            table.add(Group::of(Durability::Nothing), "a node", vec![1.0, f64::NAN, 1.0, 1024.0]);
            table.add(group(), "a node", vec![rate, rate / limit, rate, 2048.0]);
        }
        report
    }

    #[test]
    fn shares_are_those_of_each_round_and_their_median_is_printed() {
        let wanted = [
            "100 lines, medians of 3 runs, 2 CPUs shared with redis 7.0, debug build",
            "",
            "16 streams, append-only file: everysec",
            "         lines/s  (min to max)  of limit  longest  MiB",
            "a limit      100  (100 to 200)      1.00        -    -",
            "a node        50   (25 to 100)      0.50   100.00    2",
            "",
            "append-only file: off",
            "         lines/s  (min to max)  of limit  longest  MiB",
            "a node         1      (1 to 1)         -     1.00    1",
        ];
        let text = report().to_text();
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        assert_eq!(text.replace(build, "debug").lines().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn programs_get_names_and_values_without_units() {
        let json = report().to_json();
        let row = &json["rows"][2];
        assert_eq!((&row["aof"], &row["streams"], &row["what"]), (&json!("everysec"), &json!(16), &json!("a node")));
        assert_eq!((&row["per_second"], &row["min"], &row["max"]), (&json!(50.0), &json!(25.0), &json!(100.0)));
        assert_eq!(
            (&row["of_limit"], &row["longest_ms"], &row["peak_kib"]),
            (&json!(0.5), &json!(100.0), &json!(2048.0))
        );
        assert_eq!(json["rows"][1]["of_limit"], Value::Null);
        assert_eq!((&json["conditions"]["lines"], &json["conditions"]["runs"]), (&json!(100), &json!(3)));
    }

    #[test]
    fn what_stands_in_no_table_is_told_behind_them() {
        let mut report = report();
        report.also("rerun_seconds", json!(3.0), "again after 3 s".to_owned());
        report.also("nothing", Value::Null, String::new());
        assert!(report.to_text().ends_with("\n\nagain after 3 s\n"), "{}", report.to_text());
        assert_eq!((&report.to_json()["rerun_seconds"], &report.to_json()["nothing"]), (&json!(3.0), &Value::Null));
    }
}
