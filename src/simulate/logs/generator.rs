//! Which step is next: drawn from the seed, one step at a time.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};

use super::LogPlan;
use super::files::{Begun, LogFile};
use super::rotate::{Rotate, Step, Todo, steps};
use super::truth::{LineEnd, Truth};
use super::words::draft;
use crate::messages::level::level_of;
use crate::simulate::noise::Noise;

/// The time of the first line: 2026-01-01, in microseconds since 1970. The clock follows from the seed too.
const CLOCK_START: i64 = 1_767_225_600_000_000;
/// Most microseconds from one record to the next.
const CLOCK_STEP_MAX: u64 = 500_000;
/// Most NUL bytes before a line.
const NUL_MAX: u64 = 5_000;
/// How often what a rotation does later is its file's next step.
const LATER_SHARE: f64 = 0.5;

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The name of the file whose logger or rotation does it.
    pub file: String,
    /// What.
    pub step: Step,
    index: usize,
}

/// A plan that is being carried out.
///
/// A generator that is dropped, or whose process dies, leaves the files between two steps, or in an append; it cannot be
/// resumed.
#[derive(Debug)]
pub struct Generator {
    plan: LogPlan,
    noise: Noise,
    files: Vec<LogFile>,
    truth: Truth,
    next: Option<Planned>,
    clock: i64,
    /// Bytes of the given text that were taken.
    text_at: usize,
    /// Lines that have been begun.
    begun: u64,
    /// Lines that have been written to their end.
    lines: u64,
}

impl Generator {
    /// Makes the list and the first files. The error names what is in the way, and what to do.
    pub fn open(mut plan: LogPlan) -> anyhow::Result<Self> {
        plan.check().map_err(anyhow::Error::msg)?;
        check_folder(&plan)?;
        if let Some(text) = &plan.text {
            let given = text.split_inclusive(|byte| *byte == b'\n').count() as u64;
            plan.lines = Some(plan.lines.map_or(given, |lines| lines.min(given)));
        }
        let truth = Truth::create(&plan.truth).with_context(|| {
            format!(
                "cannot make the list of lines {}; name a new file in a folder of yours with --truth",
                plan.truth.display()
            )
        })?;
        let mut files = Vec::new();
        for (index, format) in (0..plan.files).zip(plan.formats.iter().cycle()) {
            let name = if index == 0 { "app.log".to_owned() } else { format!("app-{}.log", index + 1) };
            let cannot = || format!("cannot make {name} in {}; name a folder of yours with --dir", plan.dir.display());
            files.push(LogFile::create(&plan.dir, name.clone(), *format).with_context(cannot)?);
        }
        let key = blake3::derive_key("gapless simulate logs 1", &plan.seed.to_le_bytes());
        let mut generator = Self {
            noise: Noise::new(&key, 0),
            plan,
            files,
            truth,
            next: None,
            clock: CLOCK_START,
            text_at: 0,
            begun: 0,
            lines: 0,
        };
        for index in 0..generator.files.len() {
            generator.files[index].lines_left = generator.life_lines();
        }
        generator.next = generator.draw();
        Ok(generator)
    }

    /// The next step; none at the end.
    pub fn peek(&self) -> Option<&Planned> {
        self.next.as_ref()
    }

    /// Does the next step, and says what it was; none at the end. The error names the file.
    pub fn step(&mut self) -> io::Result<Option<Planned>> {
        let Some(planned) = self.next.take() else { return Ok(None) };
        let file = &mut self.files[planned.index];
        file.perform(&planned.step, &mut self.truth)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.path.display())))?;
        if let Step::Append { lines, .. } = &planned.step {
            self.lines += lines.len() as u64;
        }
        self.next = self.draw();
        Ok(Some(planned))
    }

    /// Begins no further lines: the steps that are left end what is begun.
    pub fn wind_down(&mut self) {
        self.plan.lines = Some(self.begun);
    }

    /// Makes the next step of a file fail at its handle, as a full disk does.
    #[cfg(test)]
    pub(super) fn break_handle(&mut self, planned: &Planned) {
        self.files[planned.index].break_handle();
    }

    /// How many lines have been written to their end.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// How many files have begun, all lives counted.
    pub fn lives(&self) -> u64 {
        self.files.iter().map(LogFile::lives).sum()
    }

    /// Lines that may still be begun.
    fn left(&self) -> u64 {
        self.plan.lines.map_or(u64::MAX, |lines| lines.saturating_sub(self.begun))
    }

    fn life_lines(&mut self) -> u64 {
        let lines = u64::from(self.plan.rotate_lines);
        lines / 2 + 1 + self.noise.below(lines)
    }

    fn draw(&mut self) -> Option<Planned> {
        let goes_on = self.left() > 0;
        let has_work = |file: &LogFile| !file.todo.is_empty() || !file.later.is_empty() || !file.begun.is_empty();
        let busy: Vec<usize> = (0..self.files.len()).filter(|i| goes_on || has_work(&self.files[*i])).collect();
        let index = *busy.get(usize::try_from(self.noise.below(busy.len() as u64)).unwrap_or(0))?;
        // Now and then a step turns out to be nothing, as a late write that is not drawn; then the next one is taken.
        let step = loop {
            if let Some(step) = self.step_of(index) {
                break step;
            }
        };
        Some(Planned { file: self.files[index].name.clone(), step, index })
    }

    /// The next step of a file that has one.
    fn step_of(&mut self, index: usize) -> Option<Step> {
        if let Some(todo) = self.files[index].todo.pop_front() {
            return match todo {
                Todo::Do(step) => {
                    if matches!(step, Step::Create { .. } | Step::Truncate { .. }) {
                        self.files[index].begin_life();
                    }
                    Some(step)
                }
                Todo::Late => self.late(index),
            };
        }
        let due = self.files[index].lines_left == 0 && self.plan.rotate != Rotate::None;
        let idle = self.left() == 0 && self.files[index].begun.is_empty();
        if !self.files[index].later.is_empty() && (due || idle || self.noise.hit(LATER_SHARE)) {
            return self.files[index].later.pop_front();
        }
        if due {
            return self.rotate(index);
        }
        Some(self.append(index))
    }

    /// Ends what is begun, or tears it and begins a rotation.
    fn rotate(&mut self, index: usize) -> Option<Step> {
        let mut torn = None;
        if !self.files[index].begun.is_empty() {
            let tears = self.noise.hit(self.plan.faults.torn);
            let file = &mut self.files[index];
            torn = if tears { file.tear() } else { None };
            if torn.is_none() {
                return Some(file.append(file.waiting()));
            }
        }
        let style = match self.plan.rotate {
            Rotate::Mix => Rotate::MIXED[usize::try_from(self.noise.below(8)).unwrap_or(0)],
            style => style,
        };
        let lines_left = self.life_lines();
        let file = &mut self.files[index];
        let steps = steps(style, &file.path, &mut file.past, self.plan.keep, self.clock / 1_000_000);
        file.todo.extend(steps.now);
        file.later.extend(steps.later);
        file.lines_left = lines_left;
        torn
    }

    /// The logger has not noticed yet that its file has another name.
    fn late(&mut self, index: usize) -> Option<Step> {
        // A logger that left a torn line is dead, and writes nothing behind it.
        let late = self.left() > 0 && !self.files[index].torn && self.noise.hit(self.plan.faults.late);
        late.then(|| {
            self.begin_lines(index);
            let file = &mut self.files[index];
            file.append(file.waiting())
        })
    }

    /// Some lines, perhaps cut; what was cut before comes first.
    fn append(&mut self, index: usize) -> Step {
        if self.left() > 0 {
            self.begin_lines(index);
        }
        let cut = self.left() > 0 && self.noise.hit(self.plan.faults.partial);
        let waiting = self.files[index].waiting();
        let count = if cut { 1 + self.noise.below(waiting as u64) as usize } else { waiting };
        self.files[index].append(count)
    }

    /// Between one line and a burst.
    fn begin_lines(&mut self, index: usize) {
        let wanted = 1 + self.noise.below(u64::from(self.plan.burst));
        let mut begun = 0;
        while begun < wanted && self.left() > 0 {
            begun += self.begin_record(index);
        }
        let file = &mut self.files[index];
        file.lines_left = file.lines_left.saturating_sub(begun);
    }

    /// Begins the lines of one record, and says how many they are.
    fn begin_record(&mut self, index: usize) -> u64 {
        self.clock += 1 + self.noise.below(CLOCK_STEP_MAX) as i64;
        let mut bodies = match self.given_line() {
            Some(line) => vec![line],
            None => self.made_up(index),
        };
        bodies.truncate(usize::try_from(self.left()).unwrap_or(usize::MAX));
        let count = bodies.len() as u64;
        for body in bodies {
            self.begin_line(index, body);
        }
        self.files[index].records += 1;
        self.begun += count;
        count
    }

    /// The next line of the text that was given, with its own end.
    fn given_line(&mut self) -> Option<Body> {
        let rest = self.plan.text.as_deref()?.get(self.text_at..)?;
        let line = rest.split_inclusive(|byte| *byte == b'\n').next()?;
        self.text_at += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (line, crlf) = line.strip_suffix(b"\r").map_or((line, false), |line| (line, true));
        let nul = line.iter().take_while(|byte| **byte == 0).count();
        let level = level_of(&line[nul..]).to_string().into();
        Some(Body { bytes: line.to_vec(), level, crlf })
    }

    /// The lines of a record as its logger makes them up.
    fn made_up(&mut self, index: usize) -> Vec<Body> {
        let noise = &mut self.noise;
        let draft = draft(self.files[index].format, noise, self.clock);
        let faults = &self.plan.faults;
        let mut first = draft.head.into_bytes();
        if noise.hit(faults.long) {
            first.resize(first.len().max(faults.long_bytes as usize), b'x');
        }
        if noise.hit(faults.invalid) {
            first.extend_from_slice(&[0xff, 0xc3, b'(', 0xe2, 0x82]);
        }
        first.extend_from_slice(draft.tail.as_bytes());
        let empty = noise.hit(faults.empty);
        if empty {
            return vec![Body { bytes: Vec::new(), level: "UNKNOWN".into(), crlf: false }];
        }
        let mut bodies = vec![Body { bytes: first, level: draft.level.into(), crlf: false }];
        let more = draft.more.into_iter();
        bodies.extend(more.map(|line| Body { bytes: line.into_bytes(), level: "UNKNOWN".into(), crlf: false }));
        bodies
    }

    fn begin_line(&mut self, index: usize, body: Body) {
        let (faults, noise) = (&self.plan.faults, &mut self.noise);
        let zeros = if noise.hit(faults.nul) { 1 + noise.below(NUL_MAX) as usize } else { 0 };
        let crlf = noise.hit(faults.crlf) || body.crlf;
        let (end, mark) = if crlf { (LineEnd::Crlf, "\r\n") } else { (LineEnd::Lf, "\n") };
        let nul = zeros + body.bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = [&vec![0; zeros], body.bytes.as_slice(), mark.as_bytes()].concat();
        let record = self.files[index].records;
        self.files[index].begun.push_back(Begun { bytes, nul, end, level: body.level, record });
    }
}

/// A line before its faults.
struct Body {
    bytes: Vec<u8>,
    level: Cow<'static, str>,
    crlf: bool,
}

/// Whether the folder can take the files: it is there, empty of ours, and does not hold the list.
fn check_folder(plan: &LogPlan) -> anyhow::Result<()> {
    let shown = plan.dir.display();
    let entries = std::fs::read_dir(&plan.dir)
        .with_context(|| format!("--dir {shown} cannot be read; name a folder that is there (mkdir -p {shown})"))?;
    for entry in entries {
        let name = entry.with_context(|| format!("--dir {shown} cannot be read"))?.file_name();
        if name.to_string_lossy().starts_with("app") {
            bail!("--dir {shown} holds {} already; name an empty folder, or delete it first", name.to_string_lossy());
        }
    }
    let folder = plan.truth.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(folder), Ok(dir)) = (folder.canonicalize(), plan.dir.canonicalize())
        && folder.starts_with(dir)
    {
        bail!(
            "--truth {} is inside --dir {shown}; name a file elsewhere: a reader may take it for a log",
            plan.truth.display()
        );
    }
    Ok(())
}
