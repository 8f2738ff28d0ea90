//! What happens while files are looked at: a rotation comes between any two questions to the file system.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gapless::sources::files::{Budget, meanwhile};

use super::world::World;

/// A rotation, step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Chain,
    Pack,
    Copy,
    CopyAndPack,
}

const STYLES: [Style; 4] = [Style::Chain, Style::Pack, Style::Copy, Style::CopyAndPack];

/// The logger: every line is a number, and its file is rotated as logrotate does it.
struct Logger {
    folder: std::path::PathBuf,
    style: Style,
    line: u32,
}

impl Logger {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.join(name)
    }

    fn write(&mut self, lines: u32) {
        use std::io::Write;
        let path = self.path("a.log");
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("a file");
        for _ in 0..lines {
            self.line += 1;
            writeln!(file, "line {}", self.line).expect("written");
        }
    }

    fn rotate(&mut self) {
        for n in (1..20).rev() {
            for ending in ["", ".gz"] {
                let from = self.path(&format!("a.log.{n}{ending}"));
                if from.exists() {
                    rustix::fs::rename(from, self.path(&format!("a.log.{}{ending}", n + 1))).expect("renamed");
                }
            }
        }
        let (log, first) = (self.path("a.log"), self.path("a.log.1"));
        match self.style {
            Style::Chain | Style::Pack => {
                rustix::fs::rename(&log, &first).expect("renamed");
                std::fs::File::create(&log).expect("a new file");
            }
            Style::Copy | Style::CopyAndPack => {
                std::fs::copy(&log, &first).expect("copied");
                std::fs::File::options().write(true).open(&log).and_then(|file| file.set_len(0)).expect("truncated");
            }
        }
        if matches!(self.style, Style::Pack | Style::CopyAndPack) {
            self.pack("a.log.1");
        }
    }

    fn pack(&self, name: &str) {
        use std::io::Write;
        let path = self.path(name);
        let time = std::fs::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&std::fs::read(&path).expect("a file")).expect("packed");
        let packed = self.path(&format!("{name}.gz"));
        std::fs::write(&packed, packer.finish().expect("packed")).expect("written");
        std::fs::File::options().write(true).open(packed).and_then(|file| file.set_modified(time)).expect("a time");
        std::fs::remove_file(path).expect("removed");
    }
}

/// What has come, sorted, against every line that was written.
fn judge(world: &mut World, logger: &Rc<RefCell<Logger>>, story: &str) {
    for _ in 0..4 {
        world.settle();
    }
    let number = |line: &String| line.trim_start_matches("line ").parse::<u32>().expect("a number");
    let mut lines: Vec<u32> = world.texts().iter().map(number).collect();
    lines.sort_unstable();
    let truth: Vec<u32> = (1..=logger.borrow().line).collect();
    assert_eq!(lines, truth, "{story}: {:?}", world.notices);
}

/// Tells one story: files that a dead node left half read, rotations while nobody looks, and then another node whose first
/// looks meet `rotations` more of them, each just before a question to the file system. Says whether all of them came.
fn tell(style: Style, at: u32, rotations: u32, pattern: &str) -> bool {
    let mut world = World::new(&[pattern]);
    world.budget = Budget { lines: 3, bytes: 1 << 20 };
    let logger = Rc::new(RefCell::new(Logger { folder: world.path(""), style, line: 0 }));
    logger.borrow_mut().write(5);
    world.tails.look(world.now);
    // Three of the five lines are stored.
    let batch = world.tails.next_batch(world.budget, world.now).expect("lines");
    world.commit(&batch);
    logger.borrow_mut().rotate();
    logger.borrow_mut().write(2);
    logger.borrow_mut().rotate();
    logger.borrow_mut().write(4);
    world.restart();
    let (asked, left) = (Cell::new(0), Rc::new(Cell::new(rotations)));
    let (its_logger, its_left) = (logger.clone(), left.clone());
    meanwhile(Some(Box::new(move || {
        asked.set(asked.get() + 1);
        if asked.get() >= at && its_left.get() > 0 {
            its_left.set(its_left.get() - 1);
            let mut logger = its_logger.borrow_mut();
            logger.rotate();
            logger.write(2);
        }
    })));
    world.read();
    world.read();
    meanwhile(None);
    let have_all_come = left.get() == 0;
    judge(&mut world, &logger, &format!("{style:?} {pattern} at question {at}, {rotations} rotations"));
    have_all_come
}

#[test]
fn a_rotation_between_any_two_questions_loses_and_doubles_nothing() {
    for style in STYLES {
        for rotations in [1, 2] {
            let questions = (1..400).find(|at| !tell(style, *at, rotations, "a.log")).expect("an end");
            assert!(questions > 20, "only {questions} questions");
        }
    }
}

#[test]
fn a_rotation_between_any_two_questions_where_rotated_files_are_followed() {
    for style in [Style::Chain, Style::Copy] {
        for rotations in [1, 2] {
            let questions = (1..400).find(|at| !tell(style, *at, rotations, "a.log*")).expect("an end");
            assert!(questions > 20, "only {questions} questions");
        }
    }
}

#[test]
fn the_copy_of_a_file_that_no_node_has_opened_yet_is_no_new_file() {
    for is_packed in [false, true] {
        let mut world = World::new(&["a.log"]);
        let logger = Rc::new(RefCell::new(Logger { folder: world.path(""), style: Style::Copy, line: 0 }));
        logger.borrow_mut().write(3);
        world.read();
        logger.borrow_mut().rotate();
        // One line, of which nobody knows, and its copy; the truncation is still to come.
        logger.borrow_mut().write(1);
        world.copy("a.log", "a.log.0");
        world.restart();
        world.read();
        if is_packed {
            logger.borrow().pack("a.log.0");
        }
        world.truncate("a.log");
        logger.borrow_mut().write(2);
        judge(&mut world, &logger, &format!("packed: {is_packed}"));
    }
}

#[test]
fn a_copy_that_nobody_truncates_the_original_of_is_not_read() {
    for is_packed in [false, true] {
        let mut world = World::new(&["a.log"]);
        let logger = Rc::new(RefCell::new(Logger { folder: world.path(""), style: Style::Copy, line: 0 }));
        logger.borrow_mut().write(3);
        world.read();
        world.copy("a.log", "a.log.bak");
        if is_packed {
            logger.borrow().pack("a.log.bak");
        }
        logger.borrow_mut().write(2);
        world.remove("a.log");
        world.settle();
        logger.borrow_mut().write(2);
        judge(&mut world, &logger, &format!("packed: {is_packed}"));
    }
}

#[test]
fn of_lives_that_begin_alike_the_one_of_which_more_is_known_is_found_first() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "#head\n1\n2\n");
    world.read();
    world.rename("a.log", "a.log.1");
    // Of the next life the header alone is given when the node dies.
    world.append("a.log", "#head\nfour");
    world.read();
    assert_eq!(world.news(), "#head|1|2|#head");
    world.append("a.log", " is whole\n");
    world.pack("a.log.1", "a.log.2.gz");
    world.pack("a.log", "a.log.1.gz");
    world.append("a.log", "#head\n5\n");
    // The places are read in the order of the times at which the files were seen.
    for record in world.stored.values_mut().filter(|record| record.offset > 6) {
        record.mtime += 1;
    }
    world.restart();
    world.settle();
    assert_eq!(world.news(), "four is whole|#head|5");
}
