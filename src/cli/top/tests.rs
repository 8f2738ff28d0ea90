//! Pictures as text, of fleets that are small, large and hostile.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::controls::{Controls, Section};
use super::fit;
use super::past::{LATELY_MS, Move, Past};
use super::picture::{View, compose};
use super::sections::{self, Order};
use crate::http::status::{MailboxStatus, NodeStatus, PipelineStatus, RedisStatus, Status, Summary};
use crate::http::units::UnitStatus;

/// 2026-11-21 04:25:12 UTC.
const NOW_MS: u64 = 1_795_235_112_000;

fn node(name: &str, incarnation: &str) -> NodeStatus {
    NodeStatus {
        node: name.to_owned(),
        incarnation: incarnation.to_owned(),
        host: "3d1219c7c4c5404a".to_owned(),
        pid: 4711,
        release: "0.1.0".to_owned(),
        http: "127.0.0.1:7300".to_owned(),
        state: "running",
        up_ms: 240_000,
        units: 2,
        unready: String::new(),
        given_up: Vec::new(),
    }
}

fn unit(name: &str, node: &str, incarnation: &str, seq: u64) -> UnitStatus {
    UnitStatus {
        unit: name.to_owned(),
        pipeline: name.split('/').next().unwrap_or(name).to_owned(),
        node: node.to_owned(),
        incarnation: incarnation.to_owned(),
        state: "running".to_owned(),
        lease_left_ms: 2_500,
        token: "7".to_owned(),
        seq,
        commit_age_ms: Some(120),
        offset: "0-0".to_owned(),
        restarts: 0,
        paused_age_ms: None,
        last_error: String::new(),
    }
}

fn mailbox(name: &str, waiting: u64, added: u64) -> MailboxStatus {
    MailboxStatus {
        mailbox: name.to_owned(),
        waiting,
        later: 0,
        next_later_ms: None,
        capacity: 1024,
        added: Some(added),
        oldest_age_ms: (waiting > 0).then_some(1_500),
        dead: 0,
        fault: String::new(),
    }
}

fn fleet(units: Vec<UnitStatus>, mailboxes: Vec<MailboxStatus>, time_ms: u64) -> Status {
    let redis = RedisStatus {
        address: "redis://127.0.0.1:6379/".to_owned(),
        server: "redis".to_owned(),
        version: "7.0.15".to_owned(),
        round_trip_ms: 0.21,
        memory_used: 12_582_912,
        memory_max: 0,
        cluster: None,
        dangers: Vec::new(),
    };
    let words = "head 851, held 840 of 852, missing 2 in 1 gap, parked 10".to_owned();
    let pipeline = PipelineStatus {
        pipeline: "blocks.main".to_owned(),
        units: units.len(),
        held: units.len(),
        failed: 0,
        waiting: mailboxes.iter().map(|mailbox| mailbox.waiting).sum(),
        dead: 0,
        summary: Some(Summary { words, facts: serde_json::Value::Null }),
    };
    let nodes = vec![node("a", "11111111aa"), node("b", "22222222bb")];
    Status { time_ms, redis, nodes, pipelines: vec![pipeline], units, mailboxes }
}

/// Two samples, two seconds apart.
fn two_samples() -> Past {
    let names = ["collector", "gap_detector", "gap_fixer/0", "gap_fixer/1"].map(|name| format!("blocks.main/{name}"));
    let sample = |more: u64, holder: (&str, &str)| {
        let unit = |(at, name): (u64, &String)| unit(name, holder.0, holder.1, 1_000 + at * more);
        let mail = [
            mailbox("blocks.main/collector", 0, 10),
            mailbox("blocks.main/gap_detector", 5 + more, 100 + 3 * more),
            mailbox("blocks.main/gap_fixer", 512, 512 + more),
        ];
        fleet((0..).zip(&names).map(unit).collect(), mail.to_vec(), NOW_MS - 2_000 + more / 10 * 1_000)
    };
    let mut past = Past::default();
    past.note(sample(0, ("a", "11111111aa")));
    past.note(sample(20, ("b", "22222222bb")));
    past
}

/// The picture as a terminal of this size shows it, without blanks at the end of lines.
fn shown(past: &Past, controls: &Controls, width: u16, height: u16) -> Vec<String> {
    let view = View { past, controls, address: "redis://127.0.0.1:6379/", now_ms: NOW_MS };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal of memory");
    terminal
        .draw(|frame| {
            let picture = compose(&view, width, height);
            for (y, row) in (0..).zip(&picture.rows) {
                row.draw(frame.buffer_mut(), y, true);
            }
        })
        .expect("a picture");
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

/// Where each of the words begins in the line.
fn at(line: &str, word: &str) -> usize {
    line.find(word).unwrap_or_else(|| panic!("no `{word}` in `{line}`"))
}

#[test]
fn a_small_fleet_at_80_by_24() {
    let lines = shown(&two_samples(), &Controls::default(), 80, 24);
    let wanted = "\
gapless top  redis://127.0.0.1:6379/  redis 7.0.15  0.2 ms  12.0 MiB
2 nodes  held 4/4  failed 0  60 commits/s  waiting 537  dead 0  moves 4
[all]   nodes    pipelines    units    mailboxes    moves
NODE  STATE       UP  UNITS  RELEASE   PID  HTTP            INCARNATION
a     running  4 min      2  0.1.0    4711  127.0.0.1:7300  11111111
b     running  4 min      2  0.1.0    4711  127.0.0.1:7300  22222222

PIPELINE     UNITS  HELD  FAILED  COMMIT/S  WAITING  DEAD
blocks.main      4     4       0        60      537     0
  head 851, held 840 of 852, missing 2 in 1 gap, parked 10

UNIT                      NODE  STATE    COMMIT/S  LAG  OLDEST  RESTARTS    SEQ
blocks.main/collector     b     running         0    0       -         0  1,000
blocks.main/gap_detector  b     running        10   25   1.5 s         0  1,020
blocks.main/gap_fixer/0   b     running        20  512   1.5 s         0  1,040
blocks.main/gap_fixer/1   b     running        30  512   1.5 s         0  1,060

MAILBOX                   FULL          WAITING  OLDEST  IN/S  OUT/S  DEAD
blocks.main/collector     [..........]        0       -     0      0     0
blocks.main/gap_detector  [#.........]       25   1.5 s    30     20     0
blocks.main/gap_fixer     [#####.....]      512   1.5 s    10     10     0

 AGO  LEASE MOVED               FROM  TO
? keys  q quit                                                        1-20 of 24";
    assert_eq!(lines, wanted.lines().collect::<Vec<_>>(), "{lines:#?}");
    let end = shown(&two_samples(), &Controls { scroll: 99, ..Controls::default() }, 80, 24);
    assert_eq!(end[22], "0 ms  blocks.main/collector     a     b", "{end:#?}");
    assert!(end[23].ends_with("5-24 of 24"), "{end:#?}");
}

#[test]
fn more_room_shows_more() {
    let lines = shown(&two_samples(), &Controls { help: true, ..Controls::default() }, 120, 40);
    let line = |start: &str| lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(lines[0].ends_with("12.0 MiB  04:25:12 UTC"), "{lines:#?}");
    assert!(lines[1].ends_with("moves 4  (4 lately)"), "{lines:#?}");
    assert!(line("NODE").ends_with("INCARNATION  HOST") && line("UNIT").ends_with("COMMIT  LEASE"), "{lines:#?}");
    assert!(line("MAILBOX").contains("WAITING  LATER  CAPACITY"), "{lines:#?}");
    assert!(line("PIPELINE").ends_with("DEAD  SUMMARY"), "{lines:#?}");
    assert!(
        line("blocks.main  ").ends_with("0  head 851, held 840 of 852, missing 2 in 1 gap, parked 10"),
        "{lines:#?}"
    );
    // Everything fits, so nothing is to be scrolled; the keys are there.
    assert_eq!(lines[39], "q quit  Tab section  Up/Down PgUp/PgDn scroll  s order  p pause  ? hide");
}

#[test]
fn what_is_wrong_stands_with_its_unit() {
    let mut status = fleet(vec![unit("blocks.main/collector", "a", "11111111aa", 9)], Vec::new(), NOW_MS);
    status.units[0].state = "failed".to_owned();
    status.units[0].lease_left_ms = 0;
    status.units[0].last_error = "wrong chain: 1337 is configured and the endpoint says 1; check endpoints".to_owned();
    status.redis.dangers = vec!["it keeps nothing on disk".to_owned(), "more".to_owned()];
    let mut past = Past::default();
    past.note(status);
    let narrow = shown(&past, &Controls { section: Section::Units, ..Controls::default() }, 80, 24);
    assert_eq!(narrow[2], "warning: it keeps nothing on disk (and 1 more)");
    assert!(narrow[5].starts_with("blocks.main/collector  a     failed"), "{narrow:#?}");
    assert_eq!(narrow[6], "  wrong chain: 1337 is configured and the endpoint says 1; check endpoints");
    let wide = shown(&past, &Controls { section: Section::Units, ..Controls::default() }, 200, 24);
    assert_eq!(at(&wide[4], "LAST ERROR"), at(&wide[5], "wrong chain: 1337"), "{wide:#?}");
}

#[test]
fn words_for_which_a_line_is_too_short_go_on_in_the_next() {
    let mut status = two_samples().current.expect("a sample");
    let words = "lines 3403, behind 2670 bytes in 1 of 1 files (the oldest 2 s), stream 459, events 3379, unparsed 24, \
                 ALARM: orphans (gapless logs status)";
    status.pipelines[0].summary = Some(Summary { words: words.to_owned(), facts: serde_json::Value::Null });
    let mut past = Past::default();
    past.note(status);
    for (width, second) in [(80, "events 3379, unparsed 24, ALARM:"), (120, "(gapless logs status)")] {
        let lines = shown(&past, &Controls { section: Section::Pipelines, ..Controls::default() }, width, 24);
        assert!(lines[6].starts_with(&format!("  {second}")), "{lines:#?}");
        assert_eq!(format!("{} {}", lines[5].trim(), lines[6].trim()), words, "{lines:#?}");
    }
    let wide = shown(&past, &Controls { section: Section::Pipelines, ..Controls::default() }, 220, 24);
    assert_eq!(at(&wide[3], "SUMMARY"), at(&wide[4], "lines 3403"), "{wide:#?}");
}

#[test]
fn an_outage_keeps_the_last_picture() {
    let mut past = two_samples();
    let before = shown(&past, &Controls::default(), 80, 24);
    past.note_away(NOW_MS - 12_000, "connection refused".to_owned(), false);
    past.note_away(NOW_MS - 1_000, "connection refused".to_owned(), false);
    let lines = shown(&past, &Controls::default(), 80, 24);
    assert_eq!(lines[2], "redis is away since 04:25:00 UTC (12.0 s): connection refused");
    assert_eq!((&lines[..2], &lines[4..9]), (&before[..2], &before[3..8]));
    past.note_away(NOW_MS, "NOPERM".to_owned(), true);
    assert!(shown(&past, &Controls::default(), 80, 24)[2].starts_with("redis refuses since 04:25:00 UTC"));
    let again = past.current.clone().expect("the last sample");
    past.note(again);
    let lines = shown(&past, &Controls::default(), 80, 24);
    assert!(lines.iter().all(|line| !line.contains("redis is away") && !line.contains("refuses")), "{lines:#?}");
    let mut never = Past::default();
    assert_eq!(shown(&never, &Controls::default(), 80, 24)[1], "asking redis ...");
    never.note_away(NOW_MS, "connection refused".to_owned(), false);
    assert!(shown(&never, &Controls::default(), 80, 24)[1].starts_with("redis is away since"));
}

#[test]
fn a_paused_view_says_so() {
    let controls = Controls { paused: true, ..Controls::default() };
    assert_eq!(shown(&two_samples(), &controls, 80, 24)[2], "paused; p goes on");
}

#[test]
fn moves_are_counted_by_holders() {
    let sample = |node: &str, incarnation: &str, held: bool, time_ms: u64| {
        let mut unit = unit("blocks.main/collector", node, incarnation, 1);
        unit.lease_left_ms = if held { 900 } else { 0 };
        fleet(vec![unit], Vec::new(), time_ms)
    };
    let mut past = Past::default();
    for (node, incarnation, held, total) in [
        ("a", "1", true, 0),
        // The same holder, once more, given back, and with nothing said.
        ("a", "1", true, 0),
        ("a", "", false, 0),
        ("a", "", true, 0),
        // Another process of the same name, and another node, which says who it is only later.
        ("a", "2", true, 1),
        ("b", "", true, 2),
        ("b", "3", true, 2),
        ("a", "2", true, 3),
    ] {
        past.note(sample(node, incarnation, held, NOW_MS));
        assert_eq!(past.moves_total, total, "{node} {incarnation} {held}");
    }
    let newest = Move { at_ms: NOW_MS, unit: "blocks.main/collector".to_owned(), from: "b".into(), to: "a".into() };
    assert_eq!((past.moves.front(), past.moves_lately()), (Some(&newest), 3));
    past.note(sample("a", "2", true, NOW_MS + LATELY_MS));
    assert_eq!((past.moves_total, past.moves_lately()), (3, 0));
}

#[test]
fn a_dead_node_is_shown_for_a_minute() {
    let mut past = two_samples();
    let mut status = past.current.clone().expect("a sample");
    status.nodes.remove(0);
    past.note(status.clone());
    status.time_ms += 5_000;
    past.note(status.clone());
    let lines = shown(&past, &Controls { section: Section::Nodes, ..Controls::default() }, 80, 24);
    assert!(
        lines[4].starts_with("b     running") && lines[5].starts_with("a     gone     5.0 s ago      -"),
        "{lines:#?}"
    );
    status.time_ms += LATELY_MS;
    past.note(status);
    assert!(past.gone.is_empty());
}

#[test]
fn counts_that_went_back_have_no_rate() {
    let mut past = two_samples();
    let mut status = past.current.clone().expect("a sample");
    status.time_ms += 1_000;
    status.units[0].seq = 1;
    status.mailboxes[0].added = Some(1);
    status.mailboxes[1].added = None;
    past.note(status.clone());
    assert_eq!(past.commit_rates().get("blocks.main/collector"), None);
    assert_eq!(past.commit_rates().get("blocks.main/gap_fixer/1"), Some(&0.0));
    assert_eq!(past.mail_rates().keys().collect::<Vec<_>>(), [&"blocks.main/gap_fixer"]);
    // By a clock that stood still or went back nobody can tell.
    past.note(status);
    assert!(past.commit_rates().is_empty() && past.mail_rates().is_empty());
}

#[test]
fn hostile_text_moves_nothing() {
    let odd = "a\u{1b}[2J\r\n\u{202e}b\u{200b}c\u{301}漢字\u{fe0f}👩\u{200d}👩\u{200d}👧🏽ﷺ";
    let long = odd.repeat(2_000);
    for text in [odd, long.as_str()] {
        let mut status = two_samples().current.expect("a sample");
        status.nodes[0].node = text.to_owned();
        status.nodes[0].release = text.to_owned();
        status.nodes[0].http = text.to_owned();
        let first = &mut status.units[0];
        for part in [&mut first.node, &mut first.state, &mut first.last_error] {
            *part = text.to_owned();
        }
        status.units[1].unit = format!("blocks.main/{text}");
        status.mailboxes[0].fault = text.to_owned();
        status.pipelines[0].summary = Some(Summary { words: text.to_owned(), facts: serde_json::Value::Null });
        status.redis.dangers = vec![text.to_owned()];
        let mut past = Past::default();
        past.note(status);
        for section in Section::ALL {
            for (width, height) in [(80, 24), (120, 40), (300, 100)] {
                let lines = shown(&past, &Controls { section, ..Controls::default() }, width, height);
                let all = lines.join("\n");
                assert!(!all.contains(['\u{1b}', '\r', '\u{202e}', '\u{200b}']), "{all}");
                assert_eq!(lines.len(), usize::from(height));
                assert!(lines[0].starts_with("gapless top  redis://"), "{all}");
                assert!(lines.last().is_some_and(|line| line.starts_with("? keys  q quit")), "{all}");
            }
        }
        // The cells behind an odd one stand where they stand in the other rows.
        let lines = shown(&past, &Controls { section: Section::Units, ..Controls::default() }, 120, 40);
        let cells = |line: &str| line.chars().filter(|c| !c.is_ascii()).count();
        let row = lines.iter().find(|line| line.starts_with("blocks.main/gap_fixer/1")).expect("a row");
        assert_eq!((cells(row), at(row, "running")), (0, at(&lines[4], "STATE")), "{lines:#?}");
    }
}

#[test]
fn three_hundred_units_are_scrolled_below_their_head() {
    let units = (0..300).map(|at| unit(&format!("blocks.main/gap_fixer/{at}"), "a", "11111111aa", at)).collect();
    let mut past = Past::default();
    past.note(fleet(units, vec![mailbox("blocks.main/gap_fixer", 3, 3)], NOW_MS));
    let controls = Controls { section: Section::Units, scroll: 150, ..Controls::default() };
    let lines = shown(&past, &controls, 80, 24);
    assert!(lines[3].starts_with("UNIT") && lines[4].starts_with("blocks.main/gap_fixer/150"), "{lines:#?}");
    assert!(lines[22].starts_with("blocks.main/gap_fixer/168") && lines[23].ends_with("151-169 of 300"), "{lines:#?}");
    let end = shown(&past, &Controls { scroll: usize::MAX, ..controls }, 80, 24);
    assert!(end[22].starts_with("blocks.main/gap_fixer/299") && end[23].ends_with("282-300 of 300"), "{end:#?}");
}

#[test]
fn what_needs_a_look_comes_first() {
    let mut status = two_samples().current.expect("a sample");
    status.units[1].paused_age_ms = Some(1);
    status.units[2].state = "restarting".to_owned();
    status.mailboxes[0].later = 9_999;
    status.units[3].state = "failed".to_owned();
    let mut past = Past::default();
    past.note(status);
    let controls = Controls { section: Section::Units, order: Order::Worst, ..Controls::default() };
    let lines = shown(&past, &controls, 80, 24);
    let order = ["gap_fixer/1", "gap_fixer/0", "gap_detector", "collector"];
    for (line, name) in lines[4..].iter().zip(order) {
        assert!(line.starts_with(&format!("blocks.main/{name} ")), "{lines:#?}");
    }
    assert!(lines[6].contains("  paused  "), "{lines:#?}");
    let controls = Controls { section: Section::Mailboxes, ..controls };
    let lines = shown(&past, &controls, 80, 24);
    assert!(
        lines[4].starts_with("blocks.main/gap_fixer ") && lines[6].starts_with("blocks.main/collector"),
        "{lines:#?}"
    );
}

#[test]
fn no_size_is_too_small() {
    let past = two_samples();
    for section in Section::ALL {
        for (width, height) in [(0, 0), (1, 1), (7, 3), (20, 5), (40, 10), (79, 2), (u16::MAX, 1)] {
            let controls = Controls { section, ..Controls::default() };
            let view = View { past: &past, controls: &controls, address: "redis://h:1/", now_ms: NOW_MS };
            let picture = compose(&view, width, height);
            assert_eq!(picture.rows.len(), usize::from(height), "{section:?} at {width}x{height}");
        }
    }
    let lines = shown(&past, &Controls::default(), 40, 12);
    assert_eq!(lines[0], "gapless top  redis://127.0..6379/");
    assert!(lines[3].starts_with("NODE  STATE       UP  UNITS  RELEASE"), "{lines:#?}");
}

#[test]
fn before_the_first_node_and_pipeline() {
    let mut status = fleet(Vec::new(), Vec::new(), NOW_MS);
    status.nodes.clear();
    status.pipelines.clear();
    let mut past = Past::default();
    past.note(status);
    let lines = shown(&past, &Controls::default(), 80, 24);
    assert_eq!(lines[3], "no node lives; start one: gapless run");
    assert_eq!(lines[5], "no pipeline is configured; name a file with --config");
}

#[test]
fn spare_columns_go_before_names_are_cut() {
    let mut status = two_samples().current.expect("a sample");
    let name = "a_node_with_a_name_of_thirty_x";
    status.nodes[0].node = name.to_owned();
    status.units[0].unit = format!("blocks.main/{}", "x".repeat(60));
    let mut past = Past::default();
    past.note(status);
    let nodes = shown(&past, &Controls { section: Section::Nodes, ..Controls::default() }, 80, 24);
    assert!(nodes[4].starts_with(&format!("{name}  running")) && !nodes[3].contains("INCARNATION"), "{nodes:#?}");
    // What a unit is watched for stays beside a name that no terminal has room for.
    let units = shown(&past, &Controls { section: Section::Units, ..Controls::default() }, 80, 24);
    for head in ["NODE", "STATE", "COMMIT/S", "LAG", "OLDEST", "RESTARTS"] {
        assert!(units[3].contains(head), "{units:#?}");
    }
    assert!(units[4].starts_with("blocks.main/xx") && units[4].contains("..xx"), "{units:#?}");
}

#[test]
fn bars_and_rates() {
    for (waiting, capacity, drawn) in [
        (0, 10, "[..........]"),
        (1, 1000, "[#.........]"),
        (999, 1000, "[#########.]"),
        (1000, 1000, "[##########]"),
        (u64::MAX, 1, "[##########]"),
        (1, 0, "[##########]"),
    ] {
        assert_eq!(sections::bar(waiting, capacity), drawn);
    }
    let rates = [None, Some(0.0), Some(0.25), Some(9.94), Some(9.96), Some(1234.4)];
    assert_eq!(rates.map(sections::rate), ["-", "0", "0.2", "9.9", "10", "1,234"]);
}

#[test]
fn names_keep_their_ends_and_texts_their_beginnings() {
    assert_eq!(fit::cut_name("blocks.mainnet/gap_fixer/12", 20), "blocks.mainne..er/12");
    assert_eq!(fit::cut("漢字漢字", 7), "漢字..");
    for width in 0..5 {
        for text in [fit::cut("漢字漢字", width), fit::cut_name("漢字漢字", width)] {
            assert!(fit::width_of(&text) <= width, "{text} in {width}");
        }
    }
}

#[test]
fn without_colours_nothing_is_coloured() {
    for look in [fit::Look::Good, fit::Look::Warn, fit::Look::Bad, fit::Look::Dim, fit::Look::Head, fit::Look::Chosen] {
        assert_eq!((look.style(false).fg, look.style(false).bg), (None, None));
    }
    assert_eq!(fit::Look::Bad.style(true).fg, Some(Color::Red));
}
