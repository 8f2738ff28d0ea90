//! What a configuration is refused for, word by word, and that no key is forgotten.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::{Kind, PipelineId};

const CHAIN: &str = "[blocks.main]\nendpoints = [\"http://127.0.0.1:8545\"]\nstart = 0\nstore = \"data/main\"\n";

fn report(text: &str) -> String {
    Settings::from_text("a.toml", text).expect_err(text).to_string()
}

fn environment(variables: &[(&str, &str)]) -> Result<Settings, ConfigReport> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(&[], variables.collect::<Vec<_>>().into_iter(), Overrides::default())
}

/// The headlines: everything but the excerpts.
fn headlines(report: &str) -> Vec<&str> {
    report.lines().skip(1).filter(|line| !line.starts_with("  ")).collect()
}

#[test]
fn the_report_shows_the_line_and_a_caret() {
    assert_eq!(
        report("[node]\nworkers = 65 # all of them\n\n[redis]\nprefx = \"a\"\n"),
        "the configuration has 2 faults:\n\
         a.toml:2: node.workers = 65: must be a whole number, 1 to 64\n\
         \x20 2 | workers = 65 # all of them\n\
         \x20   |           ^^\n\
         a.toml:5: redis.prefx: unknown key; did you mean `prefix`?\n\
         \x20 5 | prefx = ...\n\
         \x20   | ^^^^^"
    );
}

#[test]
fn every_fault_names_its_place_and_its_remedy() {
    let cases: &[(&str, &[&str])] = &[
        (
            "[colour]",
            &[
                "a.toml:1: colour: unknown table; known are redis, node, log, supervisor, mailbox, defaults, blocks, logs, selftest, sync",
            ],
        ),
        ("[bloks.main]", &["a.toml:1: bloks: unknown table; did you mean `blocks`?"]),
        (
            "[logs.web]",
            &[
                "a.toml:1: logs.web.paths: is not set; name at least one file or pattern, for example paths = [\"/var/log/nginx/*.log\"]",
            ],
        ),
        (
            "[logs.web]\npaths = [\"/a/[\", \"/b\", \"/b\"]\nrecord_start = \"(\"\nstart = \"now\"\nchannel_prefix = \"a b\"",
            &[
                "a.toml:2: logs.web.paths[0] = \"/a/[\": is no pattern: unclosed character class; missing ']'",
                "a.toml:2: logs.web.paths[2] = \"/b\": stands in the list twice; drop one",
                "a.toml:3: logs.web.record_start = \"(\": is no regular expression (unclosed group)",
                "a.toml:4: logs.web.start = \"now\": must be \"beginning\", \"end\", or a time like \"2026-11-26T00:00:00Z\"",
                "a.toml:5: logs.web.channel_prefix = \"a b\": must be at most 128 printable characters without spaces, or \"\" to publish nothing",
            ],
        ),
        (
            "[logs.web]\npaths = [\"/b\"]\nline_bytes_max = 8192\nbatch_bytes = 4096",
            &[
                "a.toml:3: logs.web.line_bytes_max = 8192: line_bytes_max must not be above batch_bytes: a commit holds whole lines",
            ],
        ),
        ("[node]\nhost = \"a b\"", &["a.toml:2: node.host = \"a b\": must be 1 to 64 of A-Z a-z 0-9 . _ -"]),
        (
            "[defaults.shards]",
            &[
                "a.toml:1: defaults.shards: not in this version; it collects blocks and logs and copies streams, and selftest proves the runtime",
            ],
        ),
        (
            "redis = 5",
            &["a.toml:1: redis: must be a table; write its keys below a line with its name in square brackets"],
        ),
        (
            "[redis]\nurl = \"redis+cluster://me:pw@h\"",
            &[
                "a.toml:2: redis.url = \"redis+cluster://h\": Redis Cluster comes later: name one server with redis://, \
               or Sentinels with redis+sentinel://",
            ],
        ),
        ("[redis]\nurl = 6379", &["a.toml:2: redis.url = 6379: must be a text in double quotes"]),
        ("[redis]\nprefix = \"A\"", &["a.toml:2: redis.prefix = \"A\": must be 1 to 64 of a-z, 0-9 and _"]),
        ("[redis]\neviction = \"no\"", &["a.toml:2: redis.eviction = \"no\": must be \"refuse\" or \"warn\""]),
        ("[redis]\ndata_dir = \"\"", &["a.toml:2: redis.data_dir = \"\": must name a folder"]),
        (
            "[redis]\npassword = \"pw\"",
            &["a.toml:2: redis.password: a managed Redis has no password; leave it empty, or set redis.url"],
        ),
        (
            "[redis]\nurl = \"redis://:pw@h\"\npassword = \"pw\"",
            &["a.toml:3: redis.password: redis.url holds a password too; keep one of the two"],
        ),
        (
            "[redis]\nreconnect_min_ms = 3000",
            &["a.toml:2: redis.reconnect_min_ms = 3000: reconnect_min_ms must not be above reconnect_max_ms"],
        ),
        (
            "[redis]\nlease_timeout_ms = 1501",
            &[
                "a.toml:2: redis.lease_timeout_ms: lease_timeout_ms must be at most half of lease_seconds, so that a slow renewal can be repeated",
            ],
        ),
        (
            "[node]\nhttp = \"localhost:80\"",
            &["a.toml:2: node.http = \"localhost:80\": must be IP:PORT, for example 127.0.0.1:7300, or \"\" for off"],
        ),
        ("[node]\nname = \"a b\"", &["a.toml:2: node.name = \"a b\": must be 1 to 64 of A-Z a-z 0-9 . _ -"]),
        (
            "[node]\nlease_seconds = 1.5",
            &["a.toml:2: node.lease_seconds = 1.5: must be a whole number of seconds, 1 to 300"],
        ),
        (
            "[node]\nlease_seconds = -1",
            &["a.toml:2: node.lease_seconds = -1: must be a whole number of seconds, 1 to 300"],
        ),
        (
            "[node]\nlease_seconds = \"3\"",
            &["a.toml:2: node.lease_seconds = \"3\": must be a whole number of seconds, 1 to 300"],
        ),
        (
            "[node]\nworkers = 99999999999999999999",
            &["a.toml:2: node.workers = \"99999999999999999999\": must be a whole number, 1 to 64"],
        ),
        (
            "[log]\nlevel = \"infoo\"",
            &[
                "a.toml:2: log.level = \"infoo\": must be off, error, warn, info, debug, trace, or such words for modules, as in \"info,gapless::store=debug\"",
            ],
        ),
        ("[log]\nformat = \"xml\"", &["a.toml:2: log.format = \"xml\": must be \"text\" or \"json\""]),
        (
            "[supervisor]\nblocked_seconds = 30",
            &[
                "a.toml:2: supervisor.blocked_seconds = 30: blocked_seconds must be below blocked_exit_seconds: a thread is reported before it ends the node",
            ],
        ),
        (
            "[mailbox]\nturn_bytes_max = 2048",
            &[
                "a.toml:2: mailbox.turn_bytes_max = 2048: entry_bytes_max must not be above turn_bytes_max: such an entry would fit into no turn",
            ],
        ),
        (
            "[mailbox]\nstate_bytes_max = 65537",
            &["a.toml:2: mailbox.state_bytes_max = 65537: must be a whole number of bytes, 1024 to 65536"],
        ),
        ("[defaults.blocks]\nslots = 65", &["a.toml:2: defaults.blocks.slots = 65: must be a whole number, 1 to 64"]),
        (
            "[blocks.main]",
            &[
                "a.toml:1: blocks.main.endpoints: is not set; name at least one, for example endpoints = [\"http://127.0.0.1:8545\"]",
                "a.toml:1: blocks.main.start: is not set; choose start = 0 for the whole chain, a height, or \"latest\" for what comes from now on",
                "a.toml:1: blocks.main.store: is not set; name a folder of its own, for example store = \"data/blocks/mainnet\"",
            ],
        ),
        (
            "[blocks.Main]",
            &["a.toml:1: blocks.Main: names are written with a-z, 0-9 and _, at most 64 of them; rename it"],
        ),
        (
            "[blocks]\nstart = 0",
            &[
                "a.toml:2: blocks.start: must be a table; name the pipeline, for example [blocks.main], and set it there",
            ],
        ),
        (
            "[selftest.t]\nactors = 0\nseeed = 1",
            &[
                "a.toml:2: selftest.t.actors = 0: must be a whole number, 1 to 64",
                "a.toml:3: selftest.t.seeed: unknown key; did you mean `seed`?",
            ],
        ),
        (
            "x = \n[node]\nworkers = 0",
            &[
                "a.toml:1: not TOML: string values must be quoted, expected literal string",
                "a.toml:3: node.workers = 0: must be a whole number, 1 to 64",
            ],
        ),
        ("[node]\n[node]", &["a.toml:2: not TOML: duplicate key"]),
    ];
    for (text, expected) in cases {
        assert_eq!(headlines(&report(text)), *expected, "{text}");
    }
}

#[test]
fn a_mapping_is_read_and_every_fault_in_it_has_its_place() {
    let web = "[logs.web]\npaths = [\"/b\"]\n";
    assert_eq!(Settings::from_text("a.toml", web).expect("settings").logs["web"].parse, None);
    let good = format!(
        "{web}[logs.web.parse]\npreset = \"json\"\ntime = {{ field = \"ts\", formats = [\"unix_ms\"] }}\n\
         severity = {{ words = {{ Oops = \"HIGH\" }} }}\nevents = \"shop\"\n[logs.web.parse.fields]\n\
         \"principal.ip\" = [\"client\", \"/request/remote\"]\n\"security_result.summary\" = \"msg\"\n\
         [[logs.web.parse.rules]]\nfield = \"msg\"\npattern = '^login'\n\
         constants = {{ \"metadata.event_type\" = \"USER_LOGIN\" }}\n"
    );
    let parse = Settings::from_text("a.toml", &good).expect("settings").logs["web"].parse.clone().expect("a mapping");
    assert_eq!((parse.events.as_str(), parse.unparsed.as_str(), parse.batch_lines), ("shop", "unparsed", 500));
    let mapping = &parse.mapping;
    assert_eq!(mapping.fields["principal.ip"].0, ["client", "/request/remote"]);
    assert_eq!((mapping.time.field.0.as_slice(), mapping.time.year), (["ts".to_owned()].as_slice(), None));
    assert_eq!(mapping.severity.words["Oops"], "HIGH");
    assert_eq!(mapping.rules[0].constants["metadata.event_type"], "USER_LOGIN");
    let cases: &[(&str, &[&str])] = &[
        ("", &["a.toml:3: logs.web.parse.format: is not set; write "]),
        ("preset = \"ngnix\"", &["a.toml:4: logs.web.parse.preset = \"ngnix\": is no preset; there are seed, json,"]),
        ("format = \"xml\"", &["a.toml:4: logs.web.parse.format = \"xml\": must be \"\" or \"json\" or"]),
        ("presett = \"json\"", &["a.toml:4: logs.web.parse.presett: unknown key; did you mean `preset`?"]),
        ("preset = \"json\"\nevents = \"lines\"", &["a.toml:5: logs.web.parse.events = \"lines\": is the stream"]),
        (
            "preset = \"json\"\nevents = \"unparsed\"",
            &["a.toml:5: logs.web.parse.events = \"unparsed\": events and unparsed must be two outputs"],
        ),
        (
            "preset = \"json\"\n[logs.web.parse.fields]\n\"principal.ipp\" = \"a\"\n\"target.ip\" = 5",
            &["a.toml:7: logs.web.parse.fields.\"target.ip\" = 5: must be the name of a value, or a list of names"],
        ),
        (
            "preset = \"json\"\n[logs.web.parse.fields]\n\"principal.ipp\" = \"a\"",
            &["a.toml:6: logs.web.parse.fields.\"principal.ipp\": is no path that can be mapped; there are "],
        ),
        (
            "preset = \"json\"\n[logs.web.parse.time]\nzone = \"Mars\"\nyears = 1",
            &["a.toml:7: logs.web.parse.time.years: unknown key; did you mean `year`?"],
        ),
        ("preset = \"json\"\ntime = { zone = \"Mars\" }", &["a.toml:5: logs.web.parse.time.zone = \"Mars\": "]),
        (
            "format = \"text\"\npatterns = [\"(?<a>x)\", \"(\"]",
            &["a.toml:5: logs.web.parse.patterns[1] = \"(\": is no regular expression: unclosed group"],
        ),
        (
            "preset = \"json\"\n[[logs.web.parse.rules]]\nfield = \"a\"\npattern = \"b\"\nconstant = {}",
            &["a.toml:8: logs.web.parse.rules[0].constant"],
        ),
        (
            "preset = \"json\"\nrules = [{ field = \"a\", pattern = \"(\" }]",
            &["a.toml:5: logs.web.parse.rules[0].pattern = \"(\": is no regular expression: unclosed group"],
        ),
        ("preset = \"json\"\nconstants = 5", &["a.toml:5: logs.web.parse.constants = 5: must be a table"]),
    ];
    for (text, expected) in cases {
        let report = report(&format!("{web}[logs.web.parse]\n{text}\n"));
        for words in *expected {
            assert!(report.contains(words), "{text}\n{report}\nhas no: {words}");
        }
    }
    assert!(report(&format!("{web}parse = true\n")).contains("a.toml:3: logs.web.parse: must be a table"));
}

#[test]
fn blocks_are_packed_only_when_told() {
    for (lines, level) in [
        ("", None),
        ("compression_level = 19", None),
        ("compression = \"zstd\"", Some(3)),
        ("compression = \"zstd\"\ncompression_level = 19", Some(19)),
    ] {
        let settings = Settings::from_text("a.toml", &format!("{CHAIN}{lines}")).expect(lines);
        assert_eq!(settings.blocks["main"].zstd_level, level, "{lines}");
    }
}

#[test]
fn bare_names_need_a_folder_of_their_own() {
    let settings = Settings::from_text("a.toml", CHAIN).expect("off");
    assert_eq!((&settings.blocks["main"].bare_names, settings.blocks["main"].bare_suffix), (&None, ""));
    let text = format!("{CHAIN}bare_names = \"data/bare\"\nbare_suffix = \".json\"");
    let settings = Settings::from_text("a.toml", &text).expect("on");
    let main = &settings.blocks["main"];
    assert_eq!((main.bare_names.as_deref(), main.bare_suffix), (Some(Path::new("data/bare")), ".json"));
    for folder in ["data/main", "data/main/bare", "data", "data/x/../main"] {
        let report = report(&format!("{CHAIN}bare_names = \"{folder}\""));
        let what =
            "blocks.main.bare_names: blocks.main.store has this folder, or one inside or around it; give each its own";
        assert_eq!(headlines(&report), [format!("a.toml:5: {what}")], "{folder}");
    }
    let two = format!("{CHAIN}bare_names = \"bare\"\n{}", CHAIN.replace("main", "other"));
    let report = report(&format!("{two}bare_names = \"bare/other\""));
    let what = "blocks.other.bare_names: blocks.main.bare_names has this folder, or one inside or around it";
    assert!(headlines(&report)[0].contains(what), "{report}");
}

#[test]
fn every_fault_of_a_chain_is_refused() {
    for (line, expected) in [
        (
            "chain = \"esplora\"",
            "blocks.main.chain = \"esplora\": comes later; this version speaks \"evm\" and \"cosmos-rest\"",
        ),
        ("chain = \"cow\"", "blocks.main.chain = \"cow\": must be \"evm\" or \"cosmos-rest\""),
        ("finality = \"soon\"", "blocks.main.finality = \"soon\": must be \"count\" or \"safe\" or \"finalized\""),
        ("quarantine_seconds = 0", "blocks.main.quarantine_seconds = 0: must be a whole number of seconds, 1 to 86400"),
        ("head_jump_max = 0", "blocks.main.head_jump_max = 0: must be a whole number, 1 to 9007199254740991"),
        ("end = -5", "blocks.main.end = -5: must be a height, 0 to 9007199254740991, or \"\" for none"),
        ("confirmations = 513", "blocks.main.confirmations = 513: must be a whole number, 1 to 512"),
        ("poll_ms = 9", "blocks.main.poll_ms = 9: must be a whole number of milliseconds, 10 to 3600000"),
        (
            "chain_id = \"main\"",
            "blocks.main.chain_id = \"main\": must be the number of the chain, 1 or \"0x1\", or \"\" for any",
        ),
        ("compression = \"gzip\"", "blocks.main.compression = \"gzip\": must be \"none\" or \"zstd\""),
        ("bare_suffix = \"json\"", "blocks.main.bare_suffix = \"json\": must be \"\" or \".json\""),
        ("compression_level = 20", "blocks.main.compression_level = 20: must be a whole number, 1 to 19"),
        ("order = \"lowest\"", "blocks.main.order = \"lowest\": must be \"oldest\" or \"newest\""),
        ("seed_view = \"yes\"", "blocks.main.seed_view = \"yes\": must be true or false"),
        (
            "seed_gaps_key = \"\"",
            "blocks.main.seed_gaps_key = \"\": must be the name of a key in Redis, 1 to 200 bytes without control characters",
        ),
        ("hints = \"ws://h\"", "blocks.main.hints = \"ws://h\": must be a list of texts, [\"...\", \"...\"]"),
        (
            "hints = [\"http://h/KEY\"]",
            "blocks.main.hints[0] = \"http://h/...\": must be a URL that begins with ws:// or wss://",
        ),
        (
            "hints = [\"ws://h/KEY\", \"ws://h/KEY\"]",
            "blocks.main.hints[1] = \"ws://h/...\": stands in the list twice; drop one",
        ),
        (
            "hint_silence_seconds = 4",
            "blocks.main.hint_silence_seconds = 4: must be a whole number of seconds, 5 to 3600",
        ),
        ("confirmation = 5", "blocks.main.confirmation: unknown key; did you mean `confirmations`?"),
    ] {
        assert_eq!(headlines(&report(&format!("{CHAIN}{line}"))), [format!("a.toml:5: {expected}")], "{line}");
    }
    for (from, to, expected) in [
        ("start = 0", "start = 7\nend = 6", "a.toml:4: blocks.main.end = 6: end must not be below start, 6 is below 7"),
        (
            "start = 0",
            "start = \"now\"",
            "a.toml:3: blocks.main.start = \"now\": must be a height, 0 to 9007199254740991, or \"latest\"",
        ),
        (
            "data/main",
            "s3://bucket",
            "a.toml:4: blocks.main.store = \"s3://bucket\": object stores come later; name a folder",
        ),
        (
            "http:",
            "ws:",
            "a.toml:2: blocks.main.endpoints[0] = \"ws://127.0.0.1:8545\": must be a URL that begins with http:// or https://",
        ),
        (
            "[\"http://127.0.0.1:8545\"]",
            "[\"http://h/KEY\", \"http://h/KEY\"]",
            "a.toml:2: blocks.main.endpoints[1] = \"http://h/...\": stands in the list twice; drop one",
        ),
        (
            "[\"http://127.0.0.1:8545\"]",
            "\"http://h\"",
            "a.toml:2: blocks.main.endpoints = \"http://h\": must be a list of texts, [\"...\", \"...\"]",
        ),
    ] {
        assert_eq!(headlines(&report(&CHAIN.replace(from, to))), [expected], "{to}");
    }
}

#[test]
fn a_cosmos_chain_has_a_name_and_no_tags() {
    let zero = format!("{CHAIN}chain = \"cosmos-rest\"\n");
    let expected =
        "a.toml:3: blocks.main.start = 0: the first block of a Cosmos chain is 1; write start = 1, or \"latest\"";
    assert_eq!(headlines(&report(&zero)), [expected]);
    let cosmos = CHAIN.replace("start = 0", "start = 1\nchain = \"cosmos-rest\"");
    for (line, expected) in [
        (
            "chain_id = 5",
            "blocks.main.chain_id = 5: must be the name of the chain in double quotes, as in \"migaloo-1\", or \"\" for any",
        ),
        (
            "chain_id = \"a b\"",
            "blocks.main.chain_id = \"a b\": must be the name of the chain in double quotes, as in \"migaloo-1\", or \"\" for any",
        ),
        (
            "finality = \"safe\"",
            "blocks.main.finality = \"safe\": only EVM nodes know this tag; leave it out, a block of a Cosmos chain is final at once",
        ),
    ] {
        assert_eq!(headlines(&report(&format!("{cosmos}{line}"))), [format!("a.toml:6: {expected}")], "{line}");
    }
    let settings = Settings::from_text("a.toml", &format!("{cosmos}chain_id = \"migaloo-1\"")).expect("a chain");
    let main = &settings.blocks["main"];
    assert_eq!((main.chain, main.chain_id.as_deref()), (ChainDialect::CosmosRest, Some("migaloo-1")));
    // A word that is no dialect is one fault, whatever else would hold for this dialect or that.
    let unknown = cosmos.replace("cosmos-rest", "cosmos") + "chain_id = \"migaloo-1\"\n";
    assert_eq!(headlines(&report(&unknown)).len(), 1, "{}", report(&unknown));
}

#[test]
fn two_pipelines_never_share_a_folder() {
    for other in ["data/main", "./data/x/../main", "data/main/deeper", "data"] {
        let second = CHAIN.replace("main]", "other]").replace("data/main", other);
        let expected =
            "a.toml:8: blocks.other.store: blocks.main has this folder, or one inside or around it; give each its own";
        assert_eq!(headlines(&report(&format!("{CHAIN}{second}"))), [expected], "{other}");
    }
    let second = CHAIN.replace("main]", "other]").replace("data/main", "data/main2");
    Settings::from_text("a.toml", &format!("{CHAIN}{second}")).expect("two folders");
}

#[test]
fn two_pipelines_never_write_the_same_keys_of_the_seed() {
    let on = format!("{CHAIN}seed_view = true\n");
    let second = |more: &str| on.replace("main]", "other]").replace("data/main", "data/other") + more;
    let faults = |more: &str| {
        headlines(&report(&format!("{on}{}", second(more)))).iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()
    };
    let found = faults("");
    assert!(found.len() == 1 && found[0].contains("blocks.main writes this key too"), "{found:?}");
    // The key of the rest counts as well.
    let found = faults("seed_blocks_key = \"theirs\"\nseed_gaps_key = \"gaps_detected\"\n");
    assert!(found.len() == 1 && found[0].contains("blocks.other.seed_gaps_key: blocks.main writes"), "{found:?}");
    let found = faults("seed_blocks_key = \"gaps_detected:more\"\nseed_gaps_key = \"theirs\"\n");
    assert!(found.len() == 1 && found[0].contains("blocks.other.seed_blocks_key: blocks.main writes"), "{found:?}");
    let apart = second("seed_blocks_key = \"theirs\"\nseed_gaps_key = \"their_gaps\"\n");
    Settings::from_text("a.toml", &format!("{on}{apart}")).expect("keys of their own");
    let found = headlines(&report(&format!("{on}seed_gaps_key = \"gapless:x\"\n"))).join("");
    assert!(found.ends_with("blocks.main.seed_gaps_key: keys below gapless: are gapless's own; choose another name"));
    // Names that nobody writes clash with nothing.
    let off = CHAIN.replace("main]", "other]").replace("data/main", "data/other");
    Settings::from_text("a.toml", &format!("{on}{off}")).expect("one view");
    for keys in
        ["seed_blocks_key = \"a\"\nseed_gaps_key = \"a\"\n", "seed_blocks_key = \"a:more\"\nseed_gaps_key = \"a\"\n"]
    {
        let text = report(&format!("{CHAIN}{keys}"));
        assert!(text.contains("seed_blocks_key must be neither seed_gaps_key nor"), "{text}");
    }
}

#[test]
fn no_report_shows_a_secret() {
    for text in [
        "[redis]\nurl = \"rediss://me:hunter2@h/x#insecure\"\n",
        "[redis]\nurl = \"redis+sentinel://me:hunter2@h:1,h:2\"\n",
        "[redis]\nurl = \"unix:///s?pass=hunter2\"\n",
        "[redis]\nsentinel_password = \"hunter2\"\n",
        "[redis]\nurl = \"redis://me:hunter2@h:99999\"\n",
        "[redis]\npassword = [\"hunter2\"]\n",
        "[redis]\npasword = \"hunter2\"\n",
        "[redis]\npassword = \"hunter2\n",
        "[redis]\nurl = \"redis://:hunter2@h\n",
        "[blocks.main]\nhints = [\n  \"http://h/v3/hunter2\",\n  \"wss://h:0/?key=hunter2\",\n]\n",
        "[blocks.main]\nendpoints = [\n  \"ws://h/v3/hunter2\",\n  \"http://h:0/?key=hunter2\",\n]\n",
    ] {
        assert!(!report(text).contains("hunter2"), "{}", report(text));
    }
    let report =
        environment(&[("GAPLESS__REDIS__URL", "rediss://:hunter2@h/x"), ("GAPLESS__REDIS__PASWORD", "hunter2")]);
    let report = report.expect_err("two faults").to_string();
    assert!(!report.contains("hunter2"), "{report}");
}

/// Calls `visit` with the number of each line of `default.toml` that sets a key, its table, its key and its value.
fn default_keys(mut visit: impl FnMut(usize, &str, &str, &str)) {
    let mut table = "";
    for (index, line) in DEFAULT_TOML.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            visit(index, table, key, value);
        }
    }
}

fn load_defaults(text: &str) -> Result<Settings, ConfigReport> {
    finish(with_defaults(text))
}

#[test]
fn each_default_key_is_read_and_each_key_read_has_a_default() {
    let mut count = 0;
    default_keys(|index, table, key, _| {
        let edited = |line: Option<String>| {
            let lines = DEFAULT_TOML.lines().enumerate();
            let lines = lines.filter_map(|(i, old)| if i == index { line.clone() } else { Some(old.to_owned()) });
            load_defaults(&lines.collect::<Vec<_>>().join("\n")).expect_err(key).to_string()
        };
        assert!(edited(None).contains(&format!("{table}.{key}: has no default")), "{table}.{key} is not read");
        let wrong = edited(Some(format!("{key} = [true]")));
        assert!(wrong.contains(&format!(":{}: {table}.{key}", index + 1)), "{table}.{key} is not checked: {wrong}");
        count += 1;
    });
    let settings = load_defaults(DEFAULT_TOML).expect("the defaults are possible");
    assert!(settings.pipelines().is_empty() && count > 60, "{count} keys");
}

#[test]
fn each_default_key_has_a_comment_of_its_own() {
    let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
    let mut seen = BTreeSet::new();
    default_keys(|index, table, key, _| {
        assert!(lines[index - 1].starts_with("# "), "{table}.{key} has no comment");
        assert!(seen.insert(lines[index - 1].to_owned()), "{table}.{key} has the comment of another key");
    });
}

/// Every key can be set from the environment, with the very text of its default.
#[test]
fn the_environment_reaches_every_key() {
    let mut variables = vec![("GAPLESS__SELFTEST__T__ACTORS".to_owned(), "2".to_owned())];
    default_keys(|_, table, key, value| {
        let name = format!("GAPLESS__{}__{key}", table.replace('.', "__")).to_uppercase();
        variables.push((name, value.trim_matches(['"', '[', ']']).to_owned()));
    });
    let count = variables.len();
    let settings = Settings::load(&[], variables.clone().into_iter(), Overrides::default()).expect("the defaults");
    assert_eq!((settings.selftest["t"].actors, settings.selftest["t"].batch), (2, 200));
    // And each of them is noticed: an impossible value is reported with the name of its variable.
    for index in 1..count {
        let mut variables = variables.clone();
        variables[index].1 = "\0".to_owned();
        let report = Settings::load(&[], variables.clone().into_iter(), Overrides::default());
        let report = report.map(|_| ()).expect_err(&variables[index].0).to_string();
        assert!(report.contains(&format!("environment {}: ", variables[index].0)), "{report}");
    }
}

#[test]
fn the_environment_wins_over_files_and_arguments_over_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("1.toml"), folder.path().join("2.toml"));
    std::fs::write(&first, format!("{CHAIN}poll_ms = 500\nslots = 9\n[node]\nname = \"one\"\nworkers = 3\n"))
        .expect("written");
    std::fs::write(
        &second,
        "[node]\nname = \"two\"\n[blocks.main]\nslots = 8\n[defaults.blocks]\nbatch_heights = 7\n[selftest.t]\n",
    )
    .expect("written");
    let variables = [
        ("GAPLESS__NODE__NAME", "three"),
        ("GAPLESS__BLOCKS__MAIN__ENDPOINTS", "http://a:1, http://b:2"),
        ("GAPLESS__BLOCKS__MAIN__END", "99"),
        ("GAPLESS__BLOCKS__MAIN__CHAIN_ID", "0x10"),
        ("GAPLESS_ANVIL", "is none of ours"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let overrides = Overrides { node_name: Some("four".to_owned()), log_level: Some("debug".to_owned()) };
    let settings = Settings::load(&[first, second], variables.into_iter(), overrides).expect("settings");
    assert_eq!((settings.node.name.as_str(), settings.node.workers, settings.log.level.as_str()), ("four", 3, "debug"));
    let main = &settings.blocks["main"];
    let urls: Vec<&str> = main.endpoints.iter().map(SecretUrl::reveal).collect();
    assert_eq!(urls, ["http://a:1", "http://b:2"]);
    assert_eq!((main.slots, main.batch_heights.get(), main.end), (8, 7, Some(99)));
    assert_eq!((main.poll, main.chain_id.as_deref()), (Duration::from_millis(500), Some("16")));
    assert_eq!((main.start, main.store.as_path()), (Start::Height(0), Path::new("data/main")));
    let pipelines = [PipelineId::new(Kind::Blocks, "main"), PipelineId::new(Kind::Selftest, "t")];
    assert_eq!(settings.pipelines(), pipelines);
}

#[test]
fn variables_that_name_no_key_are_refused() {
    for (variables, expected) in [
        (
            vec![("GAPLESS__REDIS__ULR", "x")],
            "environment GAPLESS__REDIS__ULR: redis.ulr: unknown key; did you mean `url`?",
        ),
        (
            vec![("GAPLESS__NODE__WORKERS", "many")],
            "environment GAPLESS__NODE__WORKERS: node.workers = \"many\": must be a whole number, 1 to 64",
        ),
        (
            vec![("GAPLESS__redis__url", "x")],
            "environment GAPLESS__redis__url: no key is written like this; write GAPLESS__TABLE__KEY in capitals, for example GAPLESS__REDIS__URL",
        ),
        (
            vec![("GAPLESS__", "x")],
            "environment GAPLESS__: no key is written like this; write GAPLESS__TABLE__KEY in capitals, for example GAPLESS__REDIS__URL",
        ),
        (
            vec![("GAPLESS__REDIS", "x")],
            "environment GAPLESS__REDIS: redis: must be a table; write its keys below a line with its name in square brackets",
        ),
        (
            vec![("GAPLESS__LOG", "x"), ("GAPLESS__LOG__LEVEL", "warn")],
            "environment GAPLESS__LOG: log: is a table, since other variables set keys in it; remove this one",
        ),
    ] {
        let report = environment(&variables).expect_err("a fault").to_string();
        assert_eq!(headlines(&report), [expected]);
    }
    let arguments = Overrides { node_name: Some("a b".to_owned()), log_level: None };
    let report = Settings::load(&[], std::iter::empty(), arguments).expect_err("a fault").to_string();
    assert_eq!(headlines(&report), ["argument --node: node.name = \"a b\": must be 1 to 64 of A-Z a-z 0-9 . _ -"]);
}

#[test]
fn secrets_come_from_files_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    let load = |line: &str| {
        let text = format!("[redis]\nurl = \"redis://h\"\n{line}\npassword_file = '{}'\n", secret.display());
        Settings::from_text("a.toml", &text).map(|settings| settings.redis.password)
    };
    let fault = load("").expect_err("no file").to_string();
    assert!(fault.contains("redis.password_file") && fault.contains("cannot be read"), "{fault}");
    std::fs::write(&secret, "\n").expect("written");
    assert!(load("").expect_err("empty").to_string().contains("has an empty first line; write the secret there"));
    std::fs::write(&secret, "open sesame\nsecond line\n").expect("written");
    assert_eq!(load("").expect("a password"), Some(Secret::new("open sesame")));
    let fault = load("password = \"other\"").expect_err("twice").to_string();
    assert!(fault.contains("the password stands in redis.password too; keep one of the two"), "{fault}");
    std::fs::write(&secret, vec![b'x'; 5000]).expect("written");
    assert!(load("").expect_err("large").to_string().contains("holds 5000 bytes; a secret has at most 4096"));
}

#[test]
fn a_long_report_is_cut_and_counted() {
    let text = (0..60).map(|i| format!("[zzzzzz{i}]\n")).collect::<String>();
    let report = Settings::from_text("a.toml", &text).expect_err("60 faults");
    assert_eq!(report.count(), 60);
    let text = report.to_string();
    assert!(text.starts_with("the configuration has 60 faults:\n") && text.ends_with("\nand 10 more"), "{text}");
    assert_eq!(headlines(&text).len(), 51);
}

#[test]
fn lines_cannot_move_the_cursor_of_a_terminal() {
    let report = report("[node]\nname = \"\\u001b[2J\"\n");
    assert!(!report.contains('\u{1b}'), "{report:?}");
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let missing = Settings::load(&["no/such.toml".into()], std::iter::empty(), Overrides::default());
    let missing = missing.expect_err("no file").to_string();
    assert!(headlines(&missing)[0].starts_with("no/such.toml: cannot be read (No such file"), "{missing}");
}

#[test]
fn a_node_without_a_pipeline_is_refused() {
    let fault = Settings::for_tests("redis://127.0.0.1:1").require_pipelines().expect_err("none").to_string();
    assert!(fault.contains("no pipeline is configured; name a file with --config"), "{fault}");
    Settings::from_text("a.toml", CHAIN).expect("settings").require_pipelines().expect("a pipeline");
}

#[test]
fn the_example_is_possible() {
    let example = include_str!("../../config/node.example.toml");
    let settings = Settings::from_text("node.example.toml", example).expect("settings");
    assert_eq!(settings.pipelines().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in a file or in the environment, the answer is settings or a report.
    #[test]
    fn no_text_breaks_the_configuration(text in "(\\PC|[\\[\\]=\".\n\r\t_a-z0-9]){0,80}", name in "[A-Z_]{0,20}") {
        let said = Settings::from_text("a.toml", &text).map(|_| ()).map_err(|report| report.to_string());
        prop_assert!(said.err().is_none_or(|report| report.contains("fault")));
        let lines = text.lines().map(|line| format!("[redis]\n{line}"));
        for line in lines {
            let _ = Settings::from_text("a.toml", &line).map_err(|report| report.to_string());
        }
        let _ = environment(&[(&format!("GAPLESS__{name}"), &text)]).map_err(|report| report.to_string());
    }
}

/// What stands together in `[redis]` must fit together; all of it is told at once.
#[test]
fn the_ways_to_redis_fit_together_or_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let signed = rcgen::generate_simple_self_signed(vec!["h".to_owned()]).expect("a certificate");
    std::fs::write(path("cert"), signed.cert.pem()).expect("written");
    std::fs::write(path("key"), signed.signing_key.serialize_pem()).expect("written");
    std::fs::write(path("empty"), "").expect("written");
    let (cert, key, empty) = (path("cert"), path("key"), path("empty"));
    for (lines, faults) in [
        (
            vec!["url = 'rediss://h/#insecure'"],
            vec!["a.toml:2: redis.url = \"rediss://h/...\": #insecure would trust any"],
        ),
        (vec!["url = 'rediss://h/#insecure'", "tls_insecure = true"], vec![]),
        (
            vec!["url = 'redis://h'", "tls_insecure = true"],
            vec!["a.toml:3: redis.tls_insecure = true: redis.url speaks no"],
        ),
        (vec!["url = 'rediss://h'", &format!("tls_ca_file = '{cert}'")], vec![]),
        (
            vec!["url = 'rediss://h'", &format!("tls_ca_file = '{empty}'"), &format!("tls_cert_file = '{cert}'")],
            vec!["it must be a PEM file of certificates", "tls_cert_file and tls_key_file belong together"],
        ),
        (vec!["url = 'rediss://h'", &format!("tls_cert_file = '{cert}'"), &format!("tls_key_file = '{key}'")], vec![]),
        (
            vec!["url = 'rediss://h'", &format!("tls_cert_file = '{cert}'"), &format!("tls_key_file = '{cert}'")],
            vec!["it must be a PEM file with the private key"],
        ),
        (vec!["url = 'redis://me:pw@h'", "username = 'you'"], vec!["redis.url holds a user too"]),
        (vec!["url = 'redis://h'", "username = 'you'"], vec!["a user without a password"]),
        (vec!["url = 'redis://me@h'"], vec!["a user without a password"]),
        (vec!["url = 'unix:///s?db=1'", "username = 'you'", "password = 'pw'"], vec![]),
        (vec!["username = 'you'"], vec!["a managed Redis has no users", "a user without a password"]),
        (vec!["url = 'redis://h'", "sentinel_password = 'pw'"], vec!["redis.sentinel_password: redis.url names no"]),
        (
            vec!["url = 'redis+sentinel://h/m'", "sentinel_username = 'you'"],
            vec!["a user without a password: set redis.sentinel_password_file"],
        ),
        (vec!["url = 'redis+sentinel://h/m'", "sentinel_password = 'pw'"], vec![]),
        (vec!["durability = 'replicated'"], vec!["a managed Redis has no replicas"]),
        (vec!["url = 'redis://h'", "durability = 'replicated'", "wait_replicas = 0"], vec!["1 to 16"]),
        (vec!["durability = 'fsync'"], vec![]),
        (
            // One report, and nothing that only follows from the address.
            vec!["url = 'redis://h:0/x'", "tls_insecure = true", "sentinel_username = 'you'", "username = 'you'"],
            vec!["a port from 1 to 65535; a database as a number", "set redis.sentinel_password_file"],
        ),
    ] {
        let text = format!("[redis]\n{}\n", lines.join("\n"));
        let found = Settings::from_text("a.toml", &text).map(|_| String::new());
        let found = found.unwrap_or_else(|report| report.to_string());
        let heads = headlines(&found);
        assert_eq!(heads.len(), faults.len(), "{text}{found}");
        assert!(faults.iter().all(|fault| heads.iter().any(|head| head.contains(fault))), "{text}{found}");
    }
}
