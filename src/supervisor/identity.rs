//! Which keys of a pipeline two nodes must agree on, and what is said when they do not. Pure.
//!
//! Those are the keys with which the work of one node would contradict that of another. With all other keys nodes may
//! differ, and so they can be changed node by node; with these they cannot, by their nature: a change means to stop
//! every node that runs the pipeline, and to start with the new values. That costs the pipeline a second (a drain and a
//! start), which is why there is no option that lets two of them work side by side for a while.

use std::collections::BTreeMap;

use crate::config::{
    BlocksSettings, ChainDialect, FinalityRule, LogsSettings, ParseSettings, SelftestSettings, Settings, Start,
    SyncSettings,
};
use crate::ids::{Kind, PipelineId};
use crate::store::identity::{Identity, StoredIdentity};
use crate::store::membership::NodeInfo;

/// What a pipeline of the configuration is; none if it is not there.
pub fn identity(settings: &Settings, pipeline: &PipelineId) -> Option<Identity> {
    match pipeline.kind {
        Kind::Blocks => settings.blocks.get(&pipeline.name).map(blocks),
        Kind::Logs => settings.logs.get(&pipeline.name).map(logs),
        Kind::Selftest => settings.selftest.get(&pipeline.name).map(selftest),
        Kind::Sync => settings.sync.get(&pipeline.name).map(sync),
    }
}

/// A key that a later release adds must be left out where it means what earlier releases did, or its first node would
/// be refused beside theirs. So optional keys stand here only where they are set.
fn blocks(section: &BlocksSettings) -> Identity {
    let chain = match section.chain {
        ChainDialect::Evm => "evm",
        ChainDialect::CosmosRest => "cosmos-rest",
    };
    let start = match section.start {
        Start::Latest => "latest".to_owned(),
        Start::Height(height) => height.to_string(),
    };
    let finality = match section.finality {
        FinalityRule::Count => None,
        FinalityRule::Safe => Some("safe"),
        FinalityRule::Finalized => Some("finalized"),
    };
    let keys = [
        // What a stored block looks like, and what its hashes are.
        ("chain", Some(chain.to_owned())),
        // Which chain: without it the first endpoint's word counts, so naming none is another statement.
        ("chain_id", section.chain_id.clone()),
        // Which heights are wanted: one node would ask for what the other calls done.
        ("start", Some(start)),
        ("end", section.end.map(|end| end.to_string())),
        // Up to which height the Collector alone writes: both it and the pool would write what lies between.
        ("confirmations", Some(section.confirmations.to_string())),
        ("finality", finality.map(str::to_owned)),
        // Not here: `store` (its marker is compared already), `slots` (removed ones are drained), `compression` and
        // `bare_names` (both kinds of files are read, and names are a view), sizes, pauses and bounds (any mix works).
    ];
    named(keys)
}

fn logs(section: &LogsSettings) -> Identity {
    let keys = [
        // Who holds the place in a file: one node would read on for all hosts what the other reads for its own.
        ("shared", section.shared.then(|| "true".to_owned())),
        // Where a record begins: the next node goes on in the middle of what the one before had joined.
        ("record_start", section.record_start.clone()),
        // Which reader the lines are kept for, and what it makes of them: two nodes would write events of two kinds.
        ("parse", section.parse.as_ref().map(parse)),
        // Not here: `paths` and `start` (hosts may differ; the place in a file that is known counts), the bounds of lines
        // and batches, channels, and what is trimmed: any mix works.
    ];
    named(keys)
}

/// The outputs, and the digest of the mapping: it may be long.
fn parse(section: &ParseSettings) -> String {
    // Texts and numbers always become JSON, in the order of their names.
    let mapping = serde_json::to_vec(&section.mapping).unwrap_or_default();
    let digest = &blake3::hash(&mapping).to_hex()[..12];
    format!("to {} and {}, mapping {digest}", section.events, section.unparsed)
}

fn selftest(section: &SelftestSettings) -> Identity {
    // How many mailboxes the Feeder fills: entries of those that the other node does not have would wait for ever.
    named([("actors", Some(section.actors.to_string()))])
}

fn sync(section: &SyncSettings) -> Identity {
    named([
        // Which unit copies which stream: with another number two would write one stream.
        ("buckets", Some(section.buckets.to_string())),
        // From where, to where, under which name. Addresses differ between hosts, so they are not compared.
        ("target_db", Some(section.target_db.to_string())),
        ("map", Some(section.map.clone())),
        ("prefix", Some(section.prefix.clone())),
        // Deletions: what one node keeps the other would delete.
        ("deletes", Some(format!("{:?}", section.deletes).to_lowercase())),
    ])
}

fn named<const N: usize>(keys: [(&str, Option<String>); N]) -> Identity {
    Identity(keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

/// What a node has to do about a pipeline that is configured otherwise than Redis remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the same.
    Same,
    /// Nobody that lives works with the remembered one: this one takes over.
    TakeOver,
    /// These nodes live and work with the remembered one.
    Refuse(Vec<String>),
}

/// Compares what this node was told with what Redis remembers and who lives.
pub fn judge(mine: &Identity, stored: &StoredIdentity, pipeline: &PipelineId, others: &[NodeInfo]) -> Verdict {
    if mine.digest() == stored.digest {
        return Verdict::Same;
    }
    let pipeline = pipeline.to_string();
    let works = |node: &&NodeInfo| node.configs.get(&pipeline) == Some(&stored.digest);
    let names: Vec<String> = others.iter().filter(works).map(|node| node.name.clone()).collect();
    if names.is_empty() { Verdict::TakeOver } else { Verdict::Refuse(names) }
}

/// The keys that differ, one a line, both values beside each other.
pub fn differences(mine: &Identity, stored: &Identity) -> String {
    const UNSET: &str = "not set";
    let keys: BTreeMap<&String, ()> = mine.0.keys().chain(stored.0.keys()).map(|key| (key, ())).collect();
    let value = |of: &Identity, key: &String| of.0.get(key).map_or_else(|| UNSET.to_owned(), Clone::clone);
    let lines = keys.into_keys().filter(|key| mine.0.get(*key) != stored.0.get(*key));
    let lines: Vec<String> =
        lines.map(|key| format!("  {key}: here {}, there {}", value(mine, key), value(stored, key))).collect();
    if lines.is_empty() {
        "  the keys were written by a release that this one cannot read".to_owned()
    } else {
        lines.join("\n")
    }
}

/// Why a node is refused, in a report that names the pipeline, the keys, both nodes and the remedy.
pub fn refusal(pipeline: &PipelineId, me: &str, mine: &Identity, stored: &StoredIdentity, living: &[String]) -> String {
    let (nodes, differences) = (living.join(", "), differences(mine, &stored.keys));
    format!(
        "{pipeline} is configured otherwise on {nodes} (there) than on this node, {me} (here):\n{differences}\n  \
         With different values one node would undo the work of the other. Write the same ones; or, to change them, \
         stop every node that runs {pipeline} ({nodes}) and start this one: it takes over. (Configuration {}, written by \
         node {})",
        stored.generation, stored.node
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn settings(text: &str) -> Settings {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gapless.toml");
        std::fs::write(&path, text).expect("a file");
        Settings::load(&[path], std::iter::empty(), Overrides::default()).expect("a configuration")
    }

    fn of(keys: &str) -> Identity {
        let text = format!("[blocks.main]\nendpoints = [\"http://user:secret@h:1/key\"]\nstore = \"s\"\n{keys}\n");
        identity(&settings(&text), &main()).expect("an identity")
    }

    fn main() -> PipelineId {
        PipelineId::new(Kind::Blocks, "main")
    }

    fn stored(identity: &Identity) -> StoredIdentity {
        let (digest, node) = (identity.digest(), "a".to_owned());
        StoredIdentity { generation: 3, digest, keys: identity.clone(), node }
    }

    #[test]
    fn keys_that_contradict_each_other_differ_and_others_do_not() {
        let base = of("start = 0");
        for same in [
            "start = 0\nend = \"\"",
            "start = 0\nslots = 9\nbatch_heights = 3\ncompression = \"zstd\"\norder = \"newest\"",
        ] {
            assert_eq!(of(same).digest(), base.digest(), "{same}");
        }
        for other in [
            "start = 1",
            "start = \"latest\"",
            "start = 0\nend = 10",
            "start = 0\nconfirmations = 12",
            "start = 0\nfinality = \"safe\"",
            "start = 0\nchain_id = 1",
            "start = 1\nchain = \"cosmos-rest\"",
        ] {
            assert_ne!(of(other).digest(), base.digest(), "{other}");
        }
        let tallies = |n: u32| {
            let settings = settings(&format!("[selftest.x]\nactors = {n}\nmessages = {n}\n"));
            identity(&settings, &PipelineId::new(Kind::Selftest, "x")).expect("an identity")
        };
        assert_eq!(tallies(4).json(), "{\"actors\":\"4\"}");
        assert_eq!(identity(&settings(""), &main()), None);
    }

    #[test]
    fn only_a_living_node_with_the_remembered_values_is_in_the_way() {
        let (mine, theirs) = (of("start = 0"), of("start = 5"));
        let node = |name: &str, pipeline: &str, digest: String| NodeInfo {
            name: name.to_owned(),
            configs: BTreeMap::from([(pipeline.to_owned(), digest)]),
            ..NodeInfo::default()
        };
        let stored = stored(&theirs);
        let judge = |mine: &Identity, others: &[NodeInfo]| judge(mine, &stored, &main(), others);
        let holder = node("b", "blocks.main", theirs.digest());
        assert_eq!(judge(&theirs, &[]), Verdict::Same);
        assert_eq!(judge(&mine, &[]), Verdict::TakeOver);
        assert_eq!(judge(&mine, &[node("b", "blocks.other", theirs.digest())]), Verdict::TakeOver);
        assert_eq!(judge(&mine, &[node("c", "blocks.main", mine.digest())]), Verdict::TakeOver, "it waits as we do");
        assert_eq!(judge(&mine, &[holder]), Verdict::Refuse(vec!["b".to_owned()]));
    }

    #[test]
    fn the_report_names_keys_values_nodes_and_the_remedy_and_no_secret() {
        let (mine, theirs) = (of("start = 0\nend = 9"), of("start = 0\nconfirmations = 12"));
        let text = refusal(&main(), "b", &mine, &stored(&theirs), &["a".to_owned(), "c".to_owned()]);
        assert_eq!(
            text,
            "blocks.main is configured otherwise on a, c (there) than on this node, b (here):\n  confirmations: here 64, \
             there 12\n  end: here 9, there not set\n  With different values one node would undo the work of the other. \
             Write the same ones; or, to change them, stop every node that runs blocks.main (a, c) and start this one: it \
             takes over. (Configuration 3, written by node a)"
        );
        let unreadable = StoredIdentity { keys: mine.clone(), ..stored(&theirs) };
        assert!(refusal(&main(), "b", &mine, &unreadable, &[]).contains("cannot read"));
    }
}
