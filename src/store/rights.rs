//! The rights that a node needs in Redis, and which of them the configured user lacks.

use redis::Cmd;

use super::Store;
use super::error::StoreError;
use super::link::Link;
use super::reply;
use crate::config::Durability;
use crate::ids::RandomId;

/// A right, and one harmless use of it: `KEY` is a key of the trial's own, by the letter of its type.
struct Need {
    /// As `ACL SETUSER` takes it.
    rule: &'static str,
    /// The command with arguments that it would take.
    sample: &'static [&'static str],
}

const fn need(rule: &'static str, sample: &'static [&'static str]) -> Need {
    Need { rule, sample }
}

/// Digest of `return 1`, which the sample before it has loaded.
const RETURN_1: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

/// What every node sends, inside scripts or beside them.
const NEEDS: [Need; 54] = [
    need("+ping", &["PING"]),
    need("+info", &["INFO", "server"]),
    need("+role", &["ROLE"]),
    need("+time", &["TIME"]),
    need("+config|get", &["CONFIG", "GET", "save"]),
    need("+eval", &["EVAL", "return 1", "0"]),
    need("+evalsha", &["EVALSHA", RETURN_1, "0"]),
    need("+type", &["TYPE", "KEY:k"]),
    need("+set", &["SET", "KEY:k", "x"]),
    need("+get", &["GET", "KEY:k"]),
    need("+del", &["DEL", "KEY:k"]),
    need("+hset", &["HSET", "KEY:h", "f", "x"]),
    need("+hsetnx", &["HSETNX", "KEY:h", "f", "x"]),
    need("+hget", &["HGET", "KEY:h", "f"]),
    need("+hmget", &["HMGET", "KEY:h", "f"]),
    need("+hgetall", &["HGETALL", "KEY:h"]),
    need("+hincrby", &["HINCRBY", "KEY:h", "n", "1"]),
    need("+hexists", &["HEXISTS", "KEY:h", "f"]),
    need("+hlen", &["HLEN", "KEY:h"]),
    need("+hkeys", &["HKEYS", "KEY:h"]),
    need("+hscan", &["HSCAN", "KEY:h", "0"]),
    need("+hdel", &["HDEL", "KEY:h", "f"]),
    need("+lpush", &["LPUSH", "KEY:l", "x"]),
    need("+rpush", &["RPUSH", "KEY:l", "x"]),
    need("+lrange", &["LRANGE", "KEY:l", "0", "-1"]),
    need("+ltrim", &["LTRIM", "KEY:l", "0", "0"]),
    need("+zadd", &["ZADD", "KEY:z", "1", "x"]),
    need("+zcard", &["ZCARD", "KEY:z"]),
    need("+zscore", &["ZSCORE", "KEY:z", "x"]),
    need("+zrangebyscore", &["ZRANGEBYSCORE", "KEY:z", "0", "1"]),
    need("+zrevrangebyscore", &["ZREVRANGEBYSCORE", "KEY:z", "1", "0"]),
    need("+zrem", &["ZREM", "KEY:z", "x"]),
    need("+zremrangebyrank", &["ZREMRANGEBYRANK", "KEY:z", "0", "0"]),
    need("+zremrangebyscore", &["ZREMRANGEBYSCORE", "KEY:z", "0", "1"]),
    need("+xadd", &["XADD", "KEY:x", "*", "f", "x"]),
    need("+xlen", &["XLEN", "KEY:x"]),
    need("+xrange", &["XRANGE", "KEY:x", "-", "+"]),
    need("+xrevrange", &["XREVRANGE", "KEY:x", "+", "-"]),
    need("+xread", &["XREAD", "COUNT", "1", "STREAMS", "KEY:x", "0"]),
    need("+xgroup|create", &["XGROUP", "CREATE", "KEY:x", "g", "0"]),
    need("+xreadgroup", &["XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "KEY:x", ">"]),
    need("+xpending", &["XPENDING", "KEY:x", "g"]),
    need("+xinfo|stream", &["XINFO", "STREAM", "KEY:x"]),
    need("+xinfo|groups", &["XINFO", "GROUPS", "KEY:x"]),
    need("+xsetid", &["XSETID", "KEY:x", "18446744073709551615-0"]),
    need("+xack", &["XACK", "KEY:x", "g", "0-1"]),
    need("+xdel", &["XDEL", "KEY:x", "0-1"]),
    need("+xtrim", &["XTRIM", "KEY:x", "MINID", "0-1"]),
    // Before MULTI: by itself it is an error, and no right is missing.
    need("+exec", &["EXEC"]),
    need("+multi", &["MULTI"]),
    need("+publish", &["PUBLISH", "KEY:c", "x"]),
    need("+pubsub|numsub", &["PUBSUB", "NUMSUB", "KEY:c"]),
    need("+pubsub|numpat", &["PUBSUB", "NUMPAT"]),
    need("+select", &["SELECT", "0"]),
];

/// What waits for replicas.
const WAIT: Need = need("+wait", &["WAIT", "0", "1"]);
/// What waits for the disk.
const WAITAOF: Need = need("+waitaof", &["WAITAOF", "0", "0", "1"]);

/// The types of the trial's keys.
const TYPES: [&str; 5] = ["k", "h", "l", "z", "x"];

fn needs(durability: Durability) -> impl Iterator<Item = &'static Need> {
    let more = match durability {
        Durability::Fast => None,
        Durability::Replicated { .. } => Some(&WAIT),
        Durability::Fsync => Some(&WAITAOF),
    };
    NEEDS.iter().chain(more)
}

/// A name as a pattern that means it alone, whatever stands in it.
fn escaped(name: &str) -> String {
    name.chars()
        .flat_map(|c| matches!(c, '*' | '?' | '[' | ']' | '\\').then_some('\\').into_iter().chain([c]))
        .collect()
}

/// The rule for one key outside of the prefix.
fn key_rule(key: &str) -> String {
    format!("~{}", escaped(key))
}

/// The rule for the channels that begin so.
fn channel_rule(start: &str) -> String {
    format!("&{}*", escaped(start))
}

/// What a node uses outside of its prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Keys (the seed's view).
    pub keys: Vec<String>,
    /// What channels begin with (lines that are published).
    pub channels: Vec<String>,
}

/// The `ACL SETUSER` line of a user that may do what a node needs, and nothing else. `PASSWORD` is to be replaced.
pub fn acl_line(user: &str, prefix: &str, durability: Durability, outside: &Outside) -> String {
    let more: String = outside.keys.iter().map(|key| format!("{} ", key_rule(key))).collect();
    let heard: String = outside.channels.iter().map(|channel| format!("{} ", channel_rule(channel))).collect();
    let commands: Vec<&str> = needs(durability).map(|need| need.rule).collect();
    format!("ACL SETUSER {user} reset on >PASSWORD ~{prefix}:* {more}&{prefix}:* {heard}-@all {}", commands.join(" "))
}

/// How a user stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Who it is; empty where it may not ask.
    pub user: String,
    /// The rules that are missing, as `ACL SETUSER` takes them.
    pub missing: Vec<String>,
}

impl Store {
    /// Tries every right of the user of this connection: by `ACL DRYRUN` where it may ask that, else by using it on
    /// keys of its own (`PREFIX:doctor:RANDOM:`), which are deleted. Of keys outside of the prefix only
    /// the type is asked; to the channels `...doctor` outside of it an empty message is published.
    ///
    /// A crash in between leaves these few keys behind; nothing ever reads them.
    pub async fn rights(&self, link: &Link, outside: &Outside) -> Result<Rights, StoreError> {
        let durability = link.options().durability;
        let user = match link.call("ACL", redis::cmd("ACL").arg("WHOAMI")).await {
            Ok(name) => reply::text("ACL", name)?,
            Err(StoreError::Refused { .. }) => String::new(),
            Err(error) => return Err(error),
        };
        let base = format!("{}:doctor:{}", self.keys.prefix(), RandomId::new().short());
        let dry = !user.is_empty() && is_allowed(link, redis::cmd("ACL").arg("DRYRUN").arg(&user).arg("PING")).await?;
        let mut missing = Vec::new();
        for need in needs(durability) {
            let mut cmd = Cmd::new();
            if dry {
                cmd.arg("ACL").arg("DRYRUN").arg(&user);
            }
            need.sample.iter().for_each(|arg| {
                cmd.arg(arg.replace("KEY", &base));
            });
            let opens = !dry && need.rule == "+multi";
            if opens && missing.iter().any(|rule| rule == "+exec") {
                // What cannot be ended must not begin on this connection.
                continue;
            }
            let refused = refusal(link, &cmd).await?;
            if opens && refused.is_none() {
                refusal(link, &redis::cmd("EXEC")).await?;
            }
            if let Some(words) = refused {
                let rule = self.rule(need, &words);
                if !missing.contains(&rule) {
                    missing.push(rule);
                }
            }
        }
        missing.extend(self.missing_outside(link, outside, dry.then_some(&user)).await?);
        if !dry {
            let keys: Vec<String> = TYPES.iter().map(|kind| format!("{base}:{kind}")).collect();
            // Whether DEL is among the missing rights has been found out above.
            refusal(link, redis::cmd("DEL").arg(&keys)).await?;
        }
        Ok(Rights { user, missing })
    }

    /// What is missing outside of the prefix; by `ACL DRYRUN` of this user, or by use.
    async fn missing_outside(
        &self,
        link: &Link,
        outside: &Outside,
        dry: Option<&String>,
    ) -> Result<Vec<String>, StoreError> {
        let keys = outside.keys.iter().map(|key| (["TYPE", key].map(str::to_owned).to_vec(), "key", key_rule(key)));
        let channels = outside.channels.iter().map(|start| {
            let told = vec!["PUBLISH".to_owned(), format!("{start}doctor"), String::new()];
            (told, "channel", channel_rule(start))
        });
        let mut missing = Vec::new();
        for (sample, what, rule) in keys.chain(channels) {
            let mut cmd = Cmd::new();
            if let Some(user) = dry {
                cmd.arg("ACL").arg("DRYRUN").arg(user);
            }
            cmd.arg(sample);
            if refusal(link, &cmd).await?.is_some_and(|words| words.contains(what)) {
                missing.push(rule);
            }
        }
        Ok(missing)
    }

    /// Which rule would cure a refusal: it may be of the command, of the key or of the channel.
    fn rule(&self, need: &Need, words: &str) -> String {
        let prefix = self.keys.prefix();
        if words.contains("channel") {
            format!("&{prefix}:*")
        } else if words.contains("key") {
            format!("~{prefix}:*")
        } else {
            need.rule.to_owned()
        }
    }
}

/// Why the user may not, in the words of Redis; none if it may, whatever else is wrong with the command.
async fn refusal(link: &Link, cmd: &Cmd) -> Result<Option<String>, StoreError> {
    match link.call("a right", cmd).await {
        // A dry run answers with the words that the command would have been refused with.
        Ok(redis::Value::BulkString(words)) => {
            let words = String::from_utf8_lossy(&words).into_owned();
            Ok(words.contains("no permissions").then_some(words))
        }
        Ok(_) => Ok(None),
        Err(StoreError::Refused { reason, .. }) => Ok(reason.starts_with("NOPERM").then_some(reason)),
        Err(StoreError::OutOfMemory(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn is_allowed(link: &Link, cmd: &Cmd) -> Result<bool, StoreError> {
    match link.call("ACL", cmd).await {
        Ok(_) => Ok(true),
        Err(StoreError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of this room, in every folder below it.
    fn texts(folder: &std::path::Path, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { texts(&path, all) } else { all.push(std::fs::read_to_string(path).expect("a text")) }
        }
    }

    /// Every command that a script calls, or that is sent beside them, is among the rights: none can be forgotten.
    #[test]
    fn whatever_is_sent_is_among_the_rights() {
        // Sent to a managed server, which has no users; to Sentinels; or by doctor, which lives without them.
        const APART: [&str; 4] = ["shutdown", "sentinel", "acl", "x"];
        let lines = [Durability::Fsync, Durability::Replicated { replicas: 1 }];
        let granted =
            lines.map(|durability| acl_line("node", "gapless", durability, &Outside::default())).join(" ") + " ";
        let mut all = Vec::new();
        texts(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"), &mut all);
        let mut found = 0;
        for (start, end) in [("call('", '\''), ("cmd(\"", '"')] {
            for rest in all.iter().flat_map(|text| text.split(start).skip(1)) {
                let name = rest.split(end).next().expect("a command").to_lowercase();
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase()) || APART.contains(&name.as_str()) {
                    continue;
                }
                let is_granted = granted.contains(&format!(" +{name} ")) || granted.contains(&format!(" +{name}|"));
                assert!(is_granted, "+{name} is missing in NEEDS");
                found += 1;
            }
        }
        assert!(found > 80, "only {found} were found");
    }

    #[test]
    fn the_line_grants_no_category_and_names_prefix_and_user() {
        let outside = Outside { keys: vec!["a*".to_owned(), "b".to_owned()], channels: vec!["logs:".to_owned()] };
        let line = acl_line("node", "fleet", Durability::Replicated { replicas: 1 }, &outside);
        let start = "ACL SETUSER node reset on >PASSWORD ~fleet:* ~a\\* ~b &fleet:* &logs:* -@all +ping ";
        assert!(line.starts_with(start), "{line}");
        assert!(line.ends_with(" +wait") && !line.contains("+@"), "{line}");
    }
}
