//! What `doctor` asks Redis.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Check, Findings, Verdict, fleet, logs, policy};
use crate::cli::exit::unreachable;
use crate::cli::reach::Reach;
use crate::cli::words::bytes;
use crate::config::{RedisAddress, Settings};
use crate::ids::PipelineId;
use crate::store::StoreError;
use crate::store::managed::find_program;
use crate::store::rights;
use crate::store::startup::{Danger, Server};
use crate::store::status::round_trip;
use crate::store::view;
use crate::supervisor::identity as agreed;
use crate::supervisor::node;

/// Round trips that are measured.
const PINGS: usize = 100;
/// Measuring ends after this time, however many there were.
const PINGS_WITHIN: Duration = Duration::from_secs(3);
/// Above this median every turn feels the distance: one turn is one round trip.
const SLOW: Duration = Duration::from_millis(20);
/// Share of `maxmemory` above which appends may soon be refused, in percent.
const MEMORY_PERCENT: u64 = 80;

/// Adds every check of Redis; the first that cannot reach it is the last.
pub(super) async fn check(settings: &Settings, findings: &mut Findings) {
    if settings.redis.url == RedisAddress::Managed {
        findings.checks.push(program());
    }
    let reach = match Reach::prepare(settings.clone()) {
        Ok(reach) => reach,
        Err(words) => return away(findings, Check::bad("redis", words, "gapless run starts it")),
    };
    findings.checks.extend(fleet::sentinels(reach.link.options()).await);
    let server = match Server::ask(&reach.link).await {
        Ok(server) => server,
        Err(StoreError::Unreachable { address, reason }) => {
            let remedy = "start it, or correct redis.url";
            return away(findings, Check::bad("redis", unreachable(&address, &reason), remedy));
        }
        Err(error) => {
            let remedy = "correct redis.url, redis.username, redis.password or redis.password_file; `gapless doctor \
                          --acl` prints the rights that the user needs";
            return findings.checks.push(Check::bad("redis", error.to_string(), remedy));
        }
    };
    let address = reach.link.options().address();
    findings.checks.push(Check::good("redis", format!("{address}: {} {}", server.name, server.version)));
    findings.checks.extend(fleet::tls(settings));
    findings.checks.extend(dangers(settings, &server));
    findings.checks.extend(fleet::replicas(settings, &server));
    findings.checks.push(memory(&server));
    findings.checks.push(distance(&reach).await);
    findings.checks.push(rights(&reach).await);
    findings.checks.push(scripts(&reach).await);
    findings.checks.push(identity(&reach).await);
    for pipeline in settings.pipelines() {
        findings.checks.extend(agreement(&reach, &pipeline).await);
    }
    findings.checks.extend(logs::streams(&reach, &server).await);
}

/// Would a node with this configuration be let in beside those that live? Nothing to say before the first one.
async fn agreement(reach: &Reach, pipeline: &PipelineId) -> Option<Check> {
    let name = format!("{pipeline} configuration");
    let looked = async {
        let stored = reach.store.identity(&reach.link, pipeline).await?;
        Ok::<_, StoreError>((stored, reach.store.nodes(&reach.link).await?))
    };
    let (stored, nodes) = match looked.await {
        Ok((Some(stored), nodes)) => (stored, nodes),
        Ok((None, _)) => return None,
        Err(error) => return Some(Check::bad(&name, error.to_string(), "look at the server")),
    };
    let mine = agreed::identity(&reach.settings, pipeline)?;
    let generation = stored.generation;
    let changed = || agreed::differences(&mine, &stored.keys).replace('\n', ";");
    Some(match agreed::judge(&mine, &stored, pipeline, &nodes) {
        agreed::Verdict::Same => Check::good(&name, format!("generation {generation}, as nodes know it")),
        agreed::Verdict::TakeOver => {
            let words = format!("differs from generation {generation}, with which no node works:{}", changed());
            Check::warn(&name, words, "if that is meant, start a node: it takes over")
        }
        agreed::Verdict::Refuse(living) => {
            let (words, living) = (format!("a node would be refused:{}", changed()), living.join(", "));
            let remedy = format!("use the same values as node {living}, or stop all nodes that run {pipeline} first");
            Check::bad(&name, words, remedy)
        }
    })
}

fn away(findings: &mut Findings, check: Check) {
    findings.unreachable = true;
    findings.checks.push(check);
}

fn program() -> Check {
    match find_program() {
        Some(path) => Check::good("server program", path.display().to_string()),
        None => Check::bad(
            "server program",
            "redis.url is \"managed\", but neither redis-server nor valkey-server is on PATH",
            "install one (Debian, Ubuntu: apt-get install redis-server), or set redis.url to a server",
        ),
    }
}

/// What would lose data, and a good word for each setting that would not.
fn dangers(settings: &Settings, server: &Server) -> Vec<Check> {
    let (mut eviction, mut persistence) = (None, None);
    let mut checks = Vec::new();
    for danger in server.dangers().into_iter().chain(server.durability_danger(settings.redis.durability)) {
        // A danger's own words say what to do.
        let check = |name: &str, verdict, remedy: &str| Check {
            name: name.to_owned(),
            verdict,
            words: danger.to_string(),
            remedy: remedy.to_owned(),
        };
        match &danger {
            Danger::Version(_) => checks.push(check("version", Verdict::Bad, "upgrade it, or use another server")),
            Danger::Durability(_) => {
                checks.push(check("durability", Verdict::Bad, "or set redis.durability = \"fast\""));
            }
            Danger::Untold(_) => checks.push(check("durability", Verdict::Warn, "ask who runs the server")),
            Danger::Eviction(_) => {
                let remedy = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf";
                eviction = Some(check("eviction", policy(settings.redis.eviction), remedy));
            }
            Danger::Persistence(_) => {
                let remedy = "CONFIG SET appendonly yes, and the same in redis.conf";
                persistence = Some(check("persistence", policy(settings.redis.persistence), remedy));
            }
        }
    }
    let policy = if server.eviction.is_empty() { "not told" } else { &server.eviction };
    checks.push(eviction.unwrap_or_else(|| Check::good("eviction", format!("maxmemory-policy {policy}"))));
    checks.push(persistence.unwrap_or_else(|| kept(server)));
    checks
}

fn kept(server: &Server) -> Check {
    let lost = match server.append_fsync.as_str() {
        "always" => "appendonly yes, appendfsync always",
        "everysec" => "appendonly yes, appendfsync everysec: a crash of the machine may take back the last second",
        "no" => {
            return Check::warn(
                "persistence",
                "appendonly yes, appendfsync no: a crash of the machine may take back about 30 seconds",
                "CONFIG SET appendfsync everysec, and the same in redis.conf",
            );
        }
        _ => "appendonly yes",
    };
    Check::good("persistence", lost)
}

fn memory(server: &Server) -> Check {
    let (used, most) = (server.memory_used, server.memory_max.parse().unwrap_or(0_u64));
    if most == 0 {
        return Check::good("memory", format!("{} used, no maxmemory", bytes(used)));
    }
    let words = format!("{} of {} used", bytes(used), bytes(most));
    if used.saturating_mul(100) / most < MEMORY_PERCENT {
        return Check::good("memory", words);
    }
    let remedy = "raise maxmemory: when it is full, mailboxes take nothing more and every reader waits";
    Check::warn("memory", words, remedy)
}

async fn distance(reach: &Reach) -> Check {
    let started = Instant::now();
    let mut trips = Vec::with_capacity(PINGS);
    while trips.len() < PINGS && started.elapsed() < PINGS_WITHIN {
        match round_trip(&reach.link).await {
            Ok(trip) => trips.push(trip),
            Err(error) => return Check::bad("round trip", error.to_string(), "look at the server and the network"),
        }
    }
    trips.sort();
    let (p50, p99) = (percentile(&trips, 50), percentile(&trips, 99));
    let ms = |trip: Duration| format!("{:.2} ms", trip.as_secs_f64() * 1e3);
    let words = format!("p50 {}, p99 {} of {} PINGs", ms(p50), ms(p99), trips.len());
    if p50 > SLOW {
        return Check::warn("round trip", words, "every turn costs one: move the nodes closer to redis");
    }
    if p99 > reach.link.options().lease_timeout / 2 {
        let remedy =
            "a renewal that takes longer than redis.lease_timeout_ms fails: look for slow commands (SLOWLOG GET)";
        return Check::warn("round trip", words, remedy);
    }
    Check::good("round trip", words)
}

/// The smallest value that is not below `percent` of all; zero of none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

/// The line of the least user that suffices: the configured one, or one to be made.
pub(super) fn acl_line(settings: &Settings) -> String {
    let user = settings.redis.username.as_deref().unwrap_or("gapless");
    rights::acl_line(user, &settings.redis.prefix, settings.redis.durability, &outside(settings))
}

/// What pipelines use outside of the prefix.
fn outside(settings: &Settings) -> rights::Outside {
    let views = settings.blocks.values().filter_map(|section| section.seed_view.as_ref());
    let keys = views.flat_map(|view| [view.blocks_key.clone(), view.gaps_key.clone(), view::more(&view.gaps_key)]);
    let channels: BTreeSet<String> =
        settings.logs.values().filter_map(|section| section.channel_prefix.clone()).collect();
    rights::Outside { keys: keys.collect(), channels: channels.into_iter().collect() }
}

async fn rights(reach: &Reach) -> Check {
    let found = match reach.store.rights(&reach.link, &outside(&reach.settings)).await {
        Ok(found) => found,
        Err(error) => return Check::bad("rights", error.to_string(), "look at the server"),
    };
    let user = if found.user.is_empty() { "the user" } else { &found.user };
    if found.missing.is_empty() {
        return Check::good("rights", format!("{user} may do all that a node needs (the least: gapless doctor --acl)"));
    }
    let words = format!("{user} lacks {}", found.missing.join(" "));
    Check::bad("rights", words, format!("ACL SETUSER {user} {}", found.missing.join(" ")))
}

async fn scripts(reach: &Reach) -> Check {
    match reach.store.trial(&reach.link).await {
        Ok(took) => {
            let ms = took.as_secs_f64() * 1e3;
            Check::good("scripts", format!("sent, read and committed one message in {ms:.1} ms"))
        }
        Err(failed) => Check::bad(
            "scripts",
            format!("{} failed: {}", failed.step, failed.fault),
            "if it is a matter of rights, `gapless doctor --acl` prints those that the user needs",
        ),
    }
}

/// Is it the Redis that nodes of this folder worked with last?
async fn identity(reach: &Reach) -> Check {
    let remembered = match node::remembered(&reach.settings, &reach.link) {
        Ok(remembered) => remembered,
        Err(error) => return Check::bad("identity", error.to_string(), "make node.state_dir readable"),
    };
    let found = match reach.store.cluster_id(&reach.link).await {
        Ok(found) => found,
        Err(error) => return Check::bad("identity", error.to_string(), "look at the server"),
    };
    match (remembered, found) {
        (None, None) => Check::good("identity", "not marked yet; the first node marks it"),
        (None, Some(found)) => Check::good("identity", format!("cluster {}; new to this folder", found.short())),
        (Some(remembered), Some(found)) if remembered == found => {
            Check::good("identity", format!("cluster {}, the same as before", found.short()))
        }
        (Some(remembered), found) => {
            let now = found.map_or_else(|| "it has no id now".to_owned(), |id| format!("it is {} now", id.short()));
            let words = format!("nodes of this folder worked with cluster {}, {now}", remembered.short());
            let remedy = "redis was emptied, or redis.url leads to another server: restore it, or accept the loss \
                          with gapless run --accept-data-loss";
            Check::bad("identity", words, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let trips: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&trips, 50), Duration::from_millis(50));
        assert_eq!(percentile(&trips, 99), Duration::from_millis(99));
        assert_eq!(percentile(&trips[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn memory_is_judged_only_against_a_limit() {
        let server = |used, most: &str| Server { memory_used: used, memory_max: most.to_owned(), ..Server::default() };
        assert_eq!(memory(&server(u64::MAX, "0")).verdict, Verdict::Good);
        assert_eq!(memory(&server(799, "1000")).verdict, Verdict::Good);
        assert_eq!(memory(&server(800, "1000")).verdict, Verdict::Warn);
    }
}
