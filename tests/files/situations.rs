//! What may happen to a file: each row of the table of situations, and what must come of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use gapless::messages::line::Part;
use gapless::sources::files::{Budget, FaultKind, FileState, Multiline, Notice, Start, Tails};

use super::world::World;

#[test]
fn appended_lines_come_once_and_in_order() {
    let mut world = World::new(&["*.log"]);
    world.append("a.log", "1\n2\n");
    world.read();
    world.append("a.log", "3\n");
    world.read();
    world.restart();
    world.append("a.log", "4\n");
    world.read();
    assert_eq!(world.news(), "1|2|3|4");
}

#[test]
fn rename_and_create_the_old_file_is_drained_then_the_new_one_read() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n2\n");
    world.read();
    world.append("a.log", "3\n");
    world.rename("a.log", "a.log.1");
    world.append("a.log", "4\n");
    // The writer has not noticed yet.
    world.append("a.log.1", "late\n");
    world.read();
    assert_eq!(world.news(), "1|2|3|late|4");
    world.append("a.log.1", "later\nhalf");
    world.read();
    assert_eq!(world.news(), "later");
    world.settle();
    assert_eq!(world.news(), "half <torn>");
    assert_eq!(world.tails.report(world.now).files.iter().filter(|file| file.state == FileState::Held).count(), 1);
}

#[test]
fn rename_within_the_patterns_is_the_same_file() {
    let mut world = World::new(&["a.log*"]);
    world.append("a.log", "1\n2\n");
    world.read();
    world.append("a.log", "3\n");
    world.rename("a.log", "a.log.1");
    world.append("a.log", "4\n");
    world.read();
    world.restart();
    world.read();
    world.settle();
    assert_eq!(world.news(), "1|2|3|4");
}

#[test]
fn a_copy_of_what_was_truncated_in_the_very_moment_of_a_look_is_not_read_again() {
    for patterns in ["a.log*", "*"] {
        let mut world = World::new(&[patterns]);
        world.append("a.log", "1\n2\n");
        world.age("a.log", 5);
        world.read();
        assert_eq!(world.news(), "1|2");
        let time = fs::metadata(world.path("a.log")).and_then(|meta| meta.modified()).expect("a time");
        world.copy("a.log", "a.log.1");
        world.truncate("a.log");
        world.append("a.log", "3\n4\n");
        // The look that finds the copy sees nothing new of the original.
        let file = fs::File::options().write(true).open(world.path("a.log"));
        file.and_then(|file| file.set_modified(time)).expect("the same time");
        world.read();
        assert_eq!(world.news(), "", "{patterns}");
        world.append("a.log", "5\n");
        world.read();
        world.settle();
        assert_eq!(world.news(), "3|4|5", "{patterns}");
    }
}

#[test]
fn a_followed_file_whose_name_looks_like_a_rotated_one_of_another_is_not_over() {
    for name in ["a-2.log", "a-8080.log", "a.2.log"] {
        let mut world = World::new(&["*.log"]);
        world.append("a.log", "1\n");
        world.read();
        assert_eq!(world.news(), "1");
        world.append(name, "2\nhal");
        world.append("a.log", "3\n");
        world.read();
        let news = world.news();
        assert_eq!(news.split('|').collect::<BTreeSet<_>>(), BTreeSet::from(["2", "3"]), "{name}");
        world.settle();
        world.restart();
        world.settle();
        assert_eq!(world.news(), "", "{name}: its last line is not ended yet");
        world.append(name, "f\n");
        world.settle();
        assert_eq!(world.news(), "half", "{name}");
    }
}

#[test]
fn copytruncate_is_seen_at_once_and_the_tail_is_read_from_the_copy() {
    for (patterns, copy) in [("a.log", "a.log.1"), ("a.log*", "a.log.1"), ("a.log", "a-20260131.log")] {
        let mut world = World::new(&[patterns]);
        world.append("a.log", "1\n2\n3\n");
        world.read();
        world.append("a.log", "between\n");
        world.copy("a.log", copy);
        world.truncate("a.log");
        world.append("a.log", "4\n");
        world.read();
        assert_eq!(world.news(), "1|2|3|between|4", "{patterns} {copy}");
        world.append("a.log", "5\n");
        world.settle();
        world.restart();
        world.settle();
        assert_eq!(world.news(), "5", "{patterns} {copy}");
        assert_eq!(world.stored.len(), 2);
    }
}

#[test]
fn a_copy_that_is_seen_before_the_truncation_is_no_new_file() {
    let mut world = World::new(&["a.log*"]);
    world.append("a.log", "1\n2\n");
    world.read();
    world.copy("a.log", "a.log.1");
    world.read();
    world.append("a.log", "3\n");
    world.read();
    world.truncate("a.log");
    world.append("a.log", "4\n");
    world.settle();
    world.settle();
    assert_eq!(world.news(), "1|2|3|4");
}

#[test]
fn the_copy_of_a_file_that_held_one_line_is_no_new_file() {
    for (patterns, is_stopped) in [("a.log", false), ("a.log", true), ("a.log*", false), ("a.log*", true)] {
        let mut world = World::new(&[patterns]);
        world.append("a.log", "alone\n");
        world.settle();
        world.copy("a.log", "a.log.1");
        if !is_stopped {
            world.read();
        }
        world.truncate("a.log");
        world.append("a.log", "2\n");
        if is_stopped {
            world.restart();
        }
        world.settle();
        world.append("a.log", "3\n");
        world.settle();
        world.restart();
        world.settle();
        assert_eq!(world.news(), "alone|2|3", "{patterns}, stopped meanwhile: {is_stopped}");
    }
}

#[test]
fn truncated_and_regrown_past_the_offset_begins_anew() {
    let mut world = World::new(&["a.log"]);
    // The same first line, so that the head alone would not tell.
    world.append("a.log", "head\n1\n");
    world.read();
    world.truncate("a.log");
    world.append("a.log", "head\n2\n3\n4\n");
    world.read();
    assert_eq!(world.news(), "head|1|head|2|3|4");
    let ids: BTreeSet<_> = world.stored.values().map(|record| record.id.generation).collect();
    assert_eq!(ids, BTreeSet::from([0, 1]), "two lives of one file");
    // While nobody looks.
    world.truncate("a.log");
    world.append("a.log", "head\n5\n6\n7\n8\n");
    world.restart();
    world.read();
    assert_eq!(world.news(), "head|5|6|7|8");
}

#[test]
fn inode_reuse_is_a_new_file() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n2\n3\n");
    world.read();
    // A file with the same inode and device but another content is what reuse looks like from outside.
    world.tails = Tails::new(world.options.clone()).expect("options");
    fs::write(world.path("a.log"), "x\ny\nz\nmore\n").expect("written in place");
    world.restore();
    world.read();
    assert_eq!(world.news(), "1|2|3|x|y|z|more");
}

#[test]
fn tiny_files_are_read_at_once() {
    let mut world = World::new(&["*.log"]);
    world.append("a.log", "x\n");
    world.append("b.log", "\n");
    world.append("empty.log", "");
    world.read();
    // Of several files whichever comes first.
    let mut lines = world.texts();
    lines.sort();
    assert_eq!(lines, ["", "x"]);
    world.lines.clear();
    world.restart();
    world.append("a.log", "y\n");
    world.append("empty.log", "z\n");
    world.read();
    assert_eq!(world.news(), "y|z");
}

#[test]
fn the_same_first_line_in_each_file() {
    let mut world = World::new(&["*.csv"]);
    for name in ["a.csv", "b.csv", "c.csv"] {
        world.append(name, "time,level\n");
    }
    world.read();
    world.append("b.csv", "b\n");
    world.append("c.csv", "c\n");
    world.restart();
    world.read();
    // Those of one file are in order; of several files whichever comes first.
    let mut lines = world.texts();
    lines.sort();
    assert_eq!(lines, ["b", "c", "time,level", "time,level", "time,level"]);
    world.lines.clear();
    // Rotated: the new one begins alike.
    world.rename("a.csv", "a.csv.1");
    world.append("a.csv", "time,level\nnew\n");
    world.restart();
    world.settle();
    assert_eq!(world.news(), "time,level|new");
}

#[test]
fn a_file_that_is_packed_beside_itself_and_truncated_gives_its_tail_from_there() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n2\n");
    world.read();
    world.append("a.log", "3\n");
    world.copy("a.log", "spare");
    world.pack("spare", "a.log.gz");
    world.truncate("a.log");
    world.append("a.log", "4\n");
    world.settle();
    assert_eq!(world.news(), "1|2|3|4");
}

#[test]
fn rotated_while_stopped_is_found_under_its_new_name() {
    for to in ["a.log.1", "a.log-20260131", "a-1.log", "a.log.old-1", "some-other-name"] {
        let mut world = World::new(&["a.log"]);
        world.append("a.log", "1\n");
        world.read();
        world.append("a.log", "2\nhalf");
        world.rename("a.log", to);
        world.append("a.log", "3\n");
        world.restart();
        world.settle();
        assert_eq!(world.news(), "1|2|3|half <torn>", "{to}");
    }
}

#[test]
fn rotated_into_another_folder_while_stopped() {
    let mut world = World::with(&["a.log"], |options| {
        let place = options.paths[0].replace("a.log", "old/*");
        options.rotated = vec![place];
    });
    world.append("a.log", "1\n");
    world.read();
    world.append("a.log", "2\n");
    fs::create_dir(world.path("old")).expect("a folder");
    world.rename("a.log", "old/a.log");
    world.append("a.log", "3\n");
    world.restart();
    world.read();
    assert_eq!(world.news(), "1|2|3");
}

#[test]
fn rotated_and_packed_while_stopped_the_tail_is_read_from_the_packed_file() {
    for to in ["a.log.1.gz", "a.log-20260131.zst"] {
        let mut world = World::new(&["a.log"]);
        let many: String = (0..5_000).map(|n| format!("{n} {}\n", "x".repeat(100))).collect();
        world.append("a.log", &many);
        world.read();
        assert_eq!(world.lines.len(), 5_000);
        world.lines.clear();
        world.append("a.log", "tail 1\ntail 2\nhalf");
        world.pack("a.log", to);
        world.append("a.log", "new\n");
        world.restart();
        world.read();
        assert_eq!(world.news(), "tail 1|tail 2|half <torn>|new", "{to}");
        world.restart();
        world.settle();
        assert_eq!(world.news(), "", "{to}");
    }
}

#[test]
fn a_packed_file_that_only_begins_alike_is_not_taken() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "head\n1\n2\n");
    world.read();
    world.append("x", "head\nother\nmore\nand more\n");
    world.pack("x", "a.log.1.gz");
    world.remove("a.log");
    world.append("a.log", "head\n3\n");
    world.restart();
    world.settle();
    let news = world.news();
    assert!(news.ends_with("head|3") && news.matches("|1|2").count() == 1, "{news}");
    assert!(world.has_noticed(|notice| matches!(notice, Notice::Lost { unread: 0, .. })), "{:?}", world.notices);
}

#[test]
fn several_rotations_while_stopped_come_oldest_first() {
    for style in ["plain", "packed", "matched"] {
        let mut world = World::new(&[if style == "matched" { "a.log*" } else { "a.log" }]);
        world.append("a.log.7", "from before\n");
        world.age("a.log.7", 9_000);
        world.append("a.log", "1\n");
        world.read();
        world.news();
        world.append("a.log", "2\n");
        world.rename("a.log", "a.log.3");
        world.append("a.log.2", "3\n4\n");
        world.append("a.log.1", "5\n");
        world.append("a.log", "6\n");
        for (name, age) in [("a.log.3", 300), ("a.log.2", 200), ("a.log.1", 100)] {
            world.age(name, age);
        }
        for record in world.stored.values_mut() {
            record.mtime -= 400;
        }
        if style == "packed" {
            world.pack("a.log.3", "a.log.3.gz");
            world.pack("a.log.2", "a.log.2.zst");
        }
        world.restart();
        world.read();
        assert_eq!(world.news(), "2|3|4|5|6", "{style}");
        world.settle();
        world.restart();
        world.settle();
        assert_eq!(world.news(), "", "{style}");
    }
}

#[test]
fn two_rotations_between_two_looks() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n");
    world.read();
    world.rename("a.log", "a.log.2");
    world.append("a.log.1", "2\n");
    world.append("a.log", "3\n");
    world.settle();
    assert_eq!(world.news(), "1|2|3");
}

#[test]
fn a_partial_last_line_is_held_until_it_is_whole() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\nha");
    world.read();
    world.append("a.log", "lf");
    world.settle();
    world.restart();
    world.settle();
    assert_eq!(world.news(), "1");
    world.append("a.log", " is whole\n");
    world.read();
    assert_eq!(world.news(), "half is whole");
}

#[test]
fn a_line_that_never_ends_comes_torn_when_its_file_is_deleted() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n2\nhalf");
    world.read();
    world.remove("a.log");
    world.read();
    assert_eq!(world.news(), "1|2");
    world.settle();
    assert_eq!(world.news(), "half <torn>");
    assert_eq!(world.tails.report(world.now).torn_lines, 1);
}

#[test]
fn writing_to_a_rotated_file_after_it_was_finished_is_flagged() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\nhalf");
    world.read();
    world.rename("a.log", "a.log.1");
    world.settle();
    world.append("a.log.1", " line\nwhole\n");
    world.settle();
    assert_eq!(world.news(), "1|half <torn>| line <rest>|whole");
}

#[test]
fn ends_of_lines_nul_runs_and_bytes_that_are_no_text() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", b"crlf\r\n\0\0\0after\ncaf\xe9 \x00 \xff\n\r\n");
    world.read();
    let bytes: Vec<_> = world.lines.iter().map(|line| line.bytes.to_vec()).collect();
    assert_eq!(bytes, [&b"crlf"[..], b"after", b"caf\xe9 \x00 \xff", b""]);
    assert_eq!(world.lines[1].id.offset, 9, "behind the NUL run");
    assert_eq!(world.tails.report(world.now).nul_bytes, 3);
}

#[test]
fn a_hole_that_a_truncation_left_takes_no_memory_and_no_record() {
    let mut world = World::with(&["a.log"], |options| options.turn_bytes = 4096);
    world.append("a.log", "1\n");
    world.read();
    let file = fs::OpenOptions::new().write(true).open(world.path("a.log")).expect("a file");
    file.set_len(3 << 20).expect("a hole");
    world.append("a.log", "2\n");
    world.read();
    assert_eq!(world.news(), "1|2");
    assert_eq!(world.tails.report(world.now).nul_bytes, (3 << 20) - 2);
}

#[test]
fn a_line_over_the_limit_is_cut_flagged_and_counted_and_the_file_goes_on() {
    let mut world = World::with(&["a.log"], |options| options.line_bytes_max = 1000);
    world.append("a.log", format!("1\n{}\n2\n", "x".repeat(2500)));
    world.read();
    let parts: Vec<_> = world.lines.iter().map(|line| (line.part, line.bytes.len(), line.id.offset)).collect();
    let cut = [(Part::Cut, 1000, 2), (Part::Cut, 1000, 1002), (Part::Rest, 500, 2002)];
    assert_eq!(parts[1..4], cut);
    assert_eq!((parts.len(), world.tails.report(world.now).cut_lines), (5, 2));
    // It dies inside such a line.
    world.lines.clear();
    world.append("a.log", "y".repeat(1500));
    world.read();
    world.restart();
    world.append("a.log", "end\n3\n");
    world.read();
    let parts: Vec<_> = world.lines.iter().map(|line| (line.part, line.bytes.len())).collect();
    assert_eq!(parts, [(Part::Cut, 1000), (Part::Rest, 503), (Part::Whole, 1)]);
}

#[test]
fn removed_then_created_later() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n");
    world.read();
    world.remove("a.log");
    world.settle();
    assert!(world.stored.values().all(|record| record.finished && record.gone_seconds.is_some()), "kept");
    world.append("a.log", "2\n");
    world.read();
    world.restart();
    world.read();
    assert_eq!(world.news(), "1|2");
}

#[test]
fn a_link_whose_target_changes() {
    let mut world = World::new(&["current.log"]);
    world.append("one", "1\n");
    symlink(world.path("one"), world.path("current.log")).expect("a link");
    world.read();
    world.append("one", "2\n");
    world.append("two", "3\n");
    world.remove("current.log");
    symlink(world.path("two"), world.path("current.log")).expect("a link");
    world.settle();
    world.append("two", "4\n");
    world.restart();
    world.read();
    assert_eq!(world.news(), "1|2|3|4");
}

#[test]
fn one_file_by_two_patterns_a_link_and_a_hard_link_is_one() {
    let mut world = World::new(&["*.log", "a*", "b/*"]);
    world.append("a.log", "1\n");
    fs::create_dir(world.path("b")).expect("a folder");
    fs::hard_link(world.path("a.log"), world.path("b/hard")).expect("a hard link");
    symlink(world.path("a.log"), world.path("b/soft")).expect("a link");
    world.read();
    world.append("b/hard", "2\n");
    world.read();
    assert_eq!(world.news(), "1|2");
    assert_eq!(world.tails.report(world.now).files.len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_reported_and_tried_again_while_others_go_on() {
    let mut world = World::new(&["*.log", "*.xz"]);
    world.append("a.log", "1\n");
    // A form that cannot be read, whoever asks.
    world.append("b.xz", b"\xfd7zXZ\0");
    world.append("c.log", "c\n");
    fs::set_permissions(world.path("c.log"), fs::Permissions::from_mode(0o0)).expect("closed");
    world.read();
    let report = world.tails.report(world.now);
    assert!(
        report.faults.iter().any(|(_, kind, reason)| *kind == FaultKind::Packed && reason.contains("xz")),
        "{report:?}"
    );
    if rustix::process::geteuid().is_root() {
        assert_eq!(world.news(), "1|c", "root reads everything");
        return;
    }
    assert_eq!(world.news(), "1");
    assert!(report.faults.iter().any(|(_, kind, _)| *kind == FaultKind::Denied), "{report:?}");
    fs::set_permissions(world.path("c.log"), fs::Permissions::from_mode(0o600)).expect("open");
    world.pass(Duration::from_secs(120));
    world.read();
    assert_eq!(world.news(), "c");
    assert!(world.has_noticed(|notice| matches!(notice, Notice::Healed { .. })));
}

#[test]
fn dev_number_changes() {
    let mut world = World::new(&["*.log"]);
    world.append("a.log", "1\n2\n");
    world.append("b.log", "1\n2\n");
    world.read();
    world.news();
    // The machine was started again: the same files on another device number.
    for record in world.stored.values_mut() {
        record.dev += 7;
    }
    world.append("a.log", "3\n");
    world.restart();
    world.read();
    assert_eq!(world.news(), "3");
    assert_eq!(world.stored.len(), 2);
}

#[test]
fn a_file_that_was_copied_to_its_own_name_is_the_same_if_more_than_its_first_line_is_known() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n2\n");
    world.read();
    world.copy("a.log", "b");
    world.remove("a.log");
    world.rename("b", "a.log");
    world.append("a.log", "3\n");
    world.restart();
    world.read();
    assert_eq!(world.news(), "1|2|3");
}

#[test]
fn a_rollback_after_the_deletion_reads_the_deleted_file_again_within_the_horizon() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n");
    world.read();
    let (earlier, lines) = (world.stored.clone(), world.lines.len());
    world.append("a.log", "2\n3\n");
    world.read();
    world.remove("a.log");
    world.settle();
    world.pass(world.options.horizon / 2);
    world.read();
    // Redis lost the last commits.
    world.stored = earlier;
    world.lines.truncate(lines);
    world.restore();
    world.read();
    assert_eq!(world.news(), "1|2|3");
    world.pass(world.options.horizon + world.options.rotate_wait);
    world.settle();
    world.pass(world.options.horizon);
    world.read();
    assert_eq!(world.tails.report(world.now).held, 0, "let go after the horizon");
}

#[test]
fn held_files_are_bounded_and_the_bound_is_said() {
    let mut world = World::with(&["a.log"], |options| options.held_max = 2);
    for n in 0..5 {
        world.append("a.log", format!("{n}\n"));
        world.read();
        world.rename("a.log", &format!("a.log.{}", 9 - n));
        world.settle();
    }
    world.read();
    assert_eq!(world.tails.report(world.now).held, 2);
    assert!(
        world.has_noticed(|notice| matches!(notice, Notice::Bound { what } if what.contains("logs.test.held_max")))
    );
    assert_eq!(world.news(), "0|1|2|3|4");
}

#[test]
fn a_lost_commit_is_read_again_under_the_same_names() {
    let mut world = World::new(&["*.log"]);
    world.append("a.log", "1\n2\n3\n");
    world.tails.look(world.now);
    let lost = world.tails.next_batch(world.budget, world.now).expect("lines");
    assert_eq!(lost.lines.len(), 3);
    world.restore();
    // A word of the void batch changes nothing.
    world.tails.committed(&lost, world.now);
    world.read();
    assert_eq!(world.lines, lost.lines);
}

#[test]
fn batches_may_be_read_ahead_of_their_commits() {
    let mut world = World::new(&["*.log"]);
    world.append("a.log", "1\n2\n3\n");
    world.tails.look(world.now);
    let budget = Budget { lines: 1, bytes: 1 << 20 };
    let batches: Vec<_> = std::iter::from_fn(|| world.tails.next_batch(budget, world.now)).collect();
    assert_eq!(batches.len(), 3);
    world.commit(&batches[0]);
    // The second one did not come about.
    world.restore();
    world.read();
    assert_eq!(world.news(), "1|2|3");
}

#[test]
fn where_reading_begins() {
    for (start, expected) in
        [(Start::Beginning, "1|2|half 3|x|new"), (Start::End, "half 3|new"), (Start::Since(0), "1|2|half 3|x|new")]
    {
        let mut world = World::with(&["*.log"], |options| options.start = start);
        world.append("a.log", "1\n2\nhalf");
        world.append("b.log", "x\n");
        world.tails.look(world.now);
        // Nothing was stored when it died: the first look is still to come.
        world.restart();
        world.read();
        assert!(world.begun);
        // What comes now counts, even while it is down.
        world.append("a.log", " 3\n");
        world.append("new.log", "new\n");
        world.restart();
        world.read();
        let mut lines: Vec<_> = world.texts();
        lines.sort();
        let mut expected: Vec<_> = expected.split('|').collect();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{start:?}");
    }
}

#[test]
fn since_takes_files_by_their_time_of_change() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let since = Start::Since(i64::try_from(now).expect("a time") - 1_000);
    let mut world = World::with(&["*.log"], |options| options.start = since);
    world.append("old.log", "old\n");
    world.age("old.log", 2_000);
    world.append("young.log", "young\n");
    world.read();
    world.append("old.log", "more\n");
    world.read();
    assert_eq!(world.news(), "young|more");
}

#[test]
fn a_file_that_floods_does_not_starve_others() {
    let mut world = World::with(&["*.log"], |options| options.turn_bytes = 1024);
    world.append("quiet.log", "quiet\n");
    for _ in 0..2_000 {
        world.append("flood.log", format!("{}\n", "x".repeat(99)));
    }
    world.tails.look(world.now);
    let batch = world.tails.next_batch(Budget { lines: 100, bytes: 10_000 }, world.now).expect("lines");
    assert!(batch.lines.iter().any(|line| &line.bytes[..] == b"quiet"), "it had its turn");
    assert!(batch.lines.len() <= 100);
}

#[test]
fn a_burst_is_given_in_bounded_batches() {
    let mut world = World::new(&["*.log"]);
    let burst: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    world.append("a.log", &burst);
    world.tails.look(world.now);
    let budget = Budget { lines: 1_000, bytes: 8_192 };
    let mut lines = 0;
    while let Some(batch) = world.tails.next_batch(budget, world.now) {
        let bytes: usize = batch.lines.iter().map(|line| line.bytes.len()).sum();
        assert!(bytes <= budget.bytes && batch.lines.len() <= budget.lines);
        lines += batch.lines.len();
        world.commit(&batch);
    }
    assert_eq!(lines, 50_000);
}

#[test]
fn a_batch_lingers_only_behind_another() {
    let linger = Duration::from_millis(100);
    let mut world = World::with(&["*.log"], |options| options.linger = linger);
    world.append("a.log", "1\n");
    world.tails.look(world.now);
    assert!(world.tails.next_batch(world.budget, world.now).is_some(), "alone: at once");
    world.append("a.log", "2\n");
    world.pass(world.options.poll);
    world.tails.look(world.now);
    assert!(world.tails.next_batch(world.budget, world.now).is_some());
    world.append("a.log", "3\n");
    world.tails.restore(Vec::new(), true, world.now);
    world.tails.look(world.now);
    assert!(world.tails.next_batch(world.budget, world.now + linger / 2).is_none());
    assert_eq!(world.tails.next_due(world.now), Some(linger));
    assert_eq!(world.tails.next_batch(world.budget, world.now + linger).map(|batch| batch.lines.len()), Some(3));
}

#[test]
fn records_of_several_lines_come_whole_or_after_the_time() {
    let wait = Duration::from_secs(1);
    let start = regex::bytes::Regex::new(r"^\d").expect("a pattern");
    let mut world = World::with(&["*.log"], |options| {
        options.multiline = Some(Multiline { start, wait });
        options.poll = Duration::from_millis(100);
        options.poll_only = options.poll;
    });
    world.append("a.log", "1 first\n  at x\n  at y\n2 sec");
    world.read();
    assert_eq!(world.news(), "", "the line that would close it is not whole");
    world.append("a.log", "ond\n");
    world.read();
    assert_eq!(world.news(), "1 first\n  at x\n  at y");
    world.pass(wait);
    world.read();
    assert_eq!(world.news(), "2 second");
}

#[test]
fn too_many_files_are_reported_with_the_key_and_the_others_go_on() {
    let mut world = World::with(&["*.log"], |options| options.files_max = 2);
    for name in ["a.log", "b.log", "c.log"] {
        world.append(name, format!("{name}\n"));
    }
    world.read();
    world.read();
    assert_eq!(world.lines.len(), 2);
    assert_eq!(world.tails.report(world.now).beyond, 1);
    let said = |notice: &Notice| matches!(notice, Notice::TooMany { key, max: 2, .. } if key == "logs.test.files_max");
    assert_eq!(world.notices.iter().filter(|notice| said(notice)).count(), 1, "once: {:?}", world.notices);
}

#[test]
fn records_of_files_that_were_gone_for_long_are_dropped_by_observed_time_alone() {
    let mut world = World::new(&["*.log"]);
    world.options.forget_after = Duration::from_secs(3_600);
    world.restart();
    world.append("a.log", "1\n");
    world.append("b.log", "2\n");
    world.read();
    world.remove("a.log");
    world.settle();
    world.pass(world.options.horizon);
    world.read();
    // Years pass while nobody looks.
    world.pass(Duration::from_secs(100_000_000));
    world.restart();
    world.read();
    assert_eq!(world.stored.len(), 2, "a jump of the clock forgets nothing");
    for _ in 0..62 {
        world.pass(Duration::from_secs(60));
        world.read();
    }
    assert_eq!(world.stored.len(), 1);
    assert!(world.stored.values().all(|record| record.path.ends_with("b.log")));
}

#[test]
fn what_was_lost_is_said_with_its_bytes() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n2\n");
    world.read();
    world.append("a.log", "3\nhalf");
    world.tails.look(world.now + world.options.poll);
    world.truncate("a.log");
    world.append("a.log", "4\n");
    world.settle();
    assert!(world.has_noticed(|notice| matches!(notice, Notice::Lost { unread: 6, .. })), "{:?}", world.notices);
    assert_eq!(world.tails.report(world.now).lost_bytes, 6);
    assert_eq!(world.news(), "1|2|4");
}

#[test]
fn the_report_says_how_far_behind_each_file_is_and_since_when() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n2\n3\n");
    world.tails.look(world.now);
    let later = world.now + Duration::from_secs(7);
    let file = world.tails.report(later).files.remove(0);
    assert_eq!((file.behind, file.oldest, file.state), (6, Some(Duration::from_secs(7)), FileState::Followed));
    world.read();
    world.append("a.log", "half");
    world.read();
    let file = world.tails.report(world.now).files.remove(0);
    assert_eq!((file.behind, file.oldest), (4, None), "an unfinished line is not late");
}

#[test]
fn nothing_is_read_that_nobody_asks_for() {
    let mut world = World::new(&["a.log"]);
    world.append("a.log", "1\n");
    for _ in 0..3 {
        world.pass(world.options.poll);
        world.tails.look(world.now);
    }
    assert!(world.tails.report(world.now).files[0].id.is_none(), "not even its first line");
}

#[test]
fn a_packed_file_that_was_read_is_known_after_a_restart() {
    let mut world = World::new(&["a.log*"]);
    world.append("a.log", "1\n");
    world.read();
    world.append("a.log", "2\n3\n");
    world.pack("a.log", "a.log.1.gz");
    world.restart();
    world.read();
    assert_eq!(world.news(), "1|2|3");
    world.restart();
    world.settle();
    world.settle();
    assert_eq!(world.news(), "", "{:?} {:?}", world.notices, world.stored);
}
