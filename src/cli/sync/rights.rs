//! What the users of both ends must be allowed, and which of it they are not: each right is tried, harmlessly.

use crate::config::{Deletes, RedisEnd, Route, SyncMode, SyncSettings};
use crate::wire::{Line, Reply, Request, WireError};

/// A right, and one harmless use of it; `K` stands for a key that is not there.
pub(in crate::cli) type Need = (&'static str, &'static [&'static str]);
/// Uses that are not harmless: they are only queued, which asks for the right, in a transaction that a fault ends.
const QUEUED: [&str; 2] = ["+hset", "+hsetnx"];

const BOTH: [Need; 12] = [
    ("+info", &["INFO", "server"]),
    ("+time", &["TIME"]),
    ("+select", &["SELECT", "0"]),
    ("+client|setname", &["CLIENT", "SETNAME", "gapless:trial"]),
    ("+type", &["TYPE", "K"]),
    ("+xrange", &["XRANGE", "K", "-", "+", "COUNT", "1"]),
    ("+xrevrange", &["XREVRANGE", "K", "+", "-", "COUNT", "1"]),
    ("+xinfo|stream", &["XINFO", "STREAM", "K"]),
    ("+xinfo|groups", &["XINFO", "GROUPS", "K"]),
    ("+xinfo|consumers", &["XINFO", "CONSUMERS", "K", "g"]),
    ("+xpending", &["XPENDING", "K", "g", "-", "+", "1"]),
    ("+hmget", &["HMGET", "gapless:replicas", "k"]),
];

const SOURCE: [Need; 2] = [
    ("+scan", &["SCAN", "0", "MATCH", "gapless:none", "TYPE", "stream"]),
    ("+xread", &["XREAD", "COUNT", "1", "STREAMS", "K", "0"]),
];

const GROUP: [Need; 4] = [
    ("+xreadgroup", &["XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "K", ">"]),
    ("+xack", &["XACK", "K", "g", "0-1"]),
    ("+xautoclaim", &["XAUTOCLAIM", "K", "g", "c", "0", "0-0"]),
    ("+xgroup|create", &["XGROUP", "CREATE", "K", "g", "0"]),
];

const PUBLISH: [Need; 2] =
    [("+xgroup|setid", &["XGROUP", "SETID", "K", "g", "0"]), ("+xgroup|create", &["XGROUP", "CREATE", "K", "g", "0"])];

const TARGET: [Need; 17] = [
    ("+watch", &["WATCH", "K"]),
    ("+unwatch", &["UNWATCH"]),
    ("+multi", &["MULTI"]),
    ("+exec", &["EXEC"]),
    ("+xadd", &["XADD", "K", "NOMKSTREAM", "*", "a", "b"]),
    ("+xsetid", &["XSETID", "K", "1-1"]),
    ("+xgroup|create", &["XGROUP", "CREATE", "K", "g", "0"]),
    ("+xgroup|setid", &["XGROUP", "SETID", "K", "g", "0"]),
    ("+xgroup|createconsumer", &["XGROUP", "CREATECONSUMER", "K", "g", "c"]),
    ("+xclaim", &["XCLAIM", "K", "g", "c", "0", "0-1", "JUSTID"]),
    ("+xack", &["XACK", "K", "g", "0-1"]),
    ("+hget", &["HGET", "gapless:replicas", "gapless:none"]),
    ("+hset", &["HSET", "gapless:replicas", "gapless:none", "-"]),
    ("+hsetnx", &["HSETNX", "gapless:replicas", "gapless:none", "-"]),
    ("+hdel", &["HDEL", "gapless:replicas", "gapless:none"]),
    ("+rename", &["RENAME", "K", "K"]),
    ("+del", &["DEL", "K"]),
];

const DELETES: [Need; 2] = [("+xtrim", &["XTRIM", "K", "MAXLEN", "10"]), ("+xdel", &["XDEL", "K", "0-1"])];

/// What each end needs.
pub(in crate::cli) struct Needs {
    pub source: Vec<Need>,
    pub target: Vec<Need>,
}

/// The rights that a configuration needs; no more.
pub(in crate::cli) fn needs(settings: &SyncSettings) -> Needs {
    let mut source = [BOTH.to_vec(), SOURCE.to_vec()].concat();
    let mut target = [BOTH.to_vec(), TARGET.to_vec()].concat();
    if settings.mode == SyncMode::Group {
        source.extend(GROUP);
    }
    if !settings.publish_group.is_empty() {
        source.extend(PUBLISH);
    }
    if settings.deletes != Deletes::Keep {
        target.extend(DELETES);
    }
    if settings.wait_aof {
        target.push(("+waitaof", &["WAITAOF", "0", "0", "1"]));
    } else if settings.wait_replicas > 0 {
        target.push(("+wait", &["WAIT", "0", "1"]));
    }
    let slots: [Need; 2] = [("+cluster|slots", &["CLUSTER", "SLOTS"]), ("+asking", &["ASKING"])];
    let is_cluster = |end: &RedisEnd| matches!(end.url.route, Route::Cluster(_));
    source.extend(is_cluster(&settings.source).then_some(slots).into_iter().flatten());
    target.extend(is_cluster(&settings.target).then_some(slots).into_iter().flatten());
    Needs { source: once(source), target: once(target) }
}

fn once(mut needs: Vec<Need>) -> Vec<Need> {
    let mut known = std::collections::BTreeSet::new();
    needs.retain(|need| known.insert(need.0));
    needs
}

/// The line that makes a user with these rights.
pub(in crate::cli) fn acl_line(user: &str, keys: &str, needs: &[Need]) -> String {
    let rules: Vec<&str> = needs.iter().map(|(rule, _)| *rule).collect();
    format!("ACL SETUSER {user} on >PASSWORD {keys} {}", rules.join(" "))
}

/// The rights that the user of this line lacks. Every command is refused, or finds nothing, for another reason.
pub(in crate::cli) async fn lacking(
    line: &mut Line,
    key: &str,
    needs: &[Need],
) -> Result<Vec<&'static str>, WireError> {
    let mut lacks = Vec::new();
    for (rule, sample) in needs {
        let args: Vec<&[u8]> =
            sample.iter().map(|arg| if *arg == "K" { key.as_bytes() } else { arg.as_bytes() }).collect();
        let is_queued = QUEUED.contains(rule);
        if is_queued && !is_good(line, &[b"MULTI"]).await? {
            // That right is lacking as well, and told; this one is known when that is given.
            continue;
        }
        let reply = line.all(&Request::of(&args)).await?;
        // An EXEC that is refused says so in the words of its abort.
        if matches!(reply.first(), Some(Reply::Error(words)) if words.contains("NOPERM")) {
            lacks.push(*rule);
        }
        if is_queued || *rule == "+multi" {
            // What was begun ends without an effect. `DISCARD` is no right that is needed, so it may not be given.
            let mut end = Request::of(&[b"HSETNX"]);
            end.command(&[b"EXEC"]);
            line.all(&end).await?;
        }
    }
    Ok(lacks)
}

async fn is_good(line: &mut Line, args: &[&[u8]]) -> Result<bool, WireError> {
    Ok(!matches!(line.all(&Request::of(args)).await?.first(), Some(Reply::Error(_)) | None))
}
