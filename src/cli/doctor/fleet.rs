//! What `doctor` asks around Redis: TLS, Sentinels, replicas.

use super::Check;
use crate::cli::words::count;
use crate::config::{Durability, RedisAddress, Route, Settings};
use crate::store::link::sentinels::{self, MasterTold, SentinelSeen};
use crate::store::options::StoreOptions;
use crate::store::startup::Server;

/// Fewer cannot agree on anything when one of them is gone.
const SENTINELS_MIN: u64 = 3;

/// Whom Redis must prove to be; nothing without TLS.
pub(super) fn tls(settings: &Settings) -> Option<Check> {
    let RedisAddress::Server(url) = &settings.redis.url else { return None };
    if !url.tls {
        return None;
    }
    let tls = &settings.redis.tls;
    if tls.insecure {
        let remedy = "name the authority of its certificate in redis.tls_ca_file, and drop redis.tls_insecure";
        return Some(Check::warn("tls", "any certificate is trusted: whoever answers may change everything", remedy));
    }
    let trusted = match &tls.ca_file {
        Some(file) => file.display().to_string(),
        None => "the authorities of this system".to_owned(),
    };
    let client = if tls.client.is_some() { "; with a client certificate" } else { "" };
    Some(Check::good("tls", format!("its certificate is checked against {trusted}{client}")))
}

/// One check for each Sentinel of the address, and one for what they say together.
pub(super) async fn sentinels(options: &StoreOptions) -> Vec<Check> {
    let seen = sentinels::look(options).await;
    let mut checks: Vec<Check> = seen.iter().map(one_sentinel).collect();
    checks.extend(together(&seen));
    checks
}

fn one_sentinel(seen: &SentinelSeen) -> Check {
    let name = format!("sentinel {}", seen.sentinel);
    let MasterTold { master, replicas, others, quorum, judged } = match &seen.told {
        Ok(told) => told,
        Err(words) => {
            let remedy = "start it, or take it out of redis.url; the others are asked meanwhile";
            return Check::warn(&name, words, remedy);
        }
    };
    let words = format!(
        "master {master}, {}, quorum {quorum} of {} sentinels",
        count(usize::try_from(*replicas).unwrap_or(usize::MAX), "replica", "replicas"),
        others + 1
    );
    match judged {
        Err(why) => Check::warn(&name, format!("{words}; {why}"), "as it stands, they cannot fail over"),
        Ok(()) if *replicas == 0 => Check::warn(&name, words, "add a replica: there is nothing to fail over to"),
        Ok(()) if others + 1 < SENTINELS_MIN => {
            Check::warn(&name, words, "run at least three: of two, one alone must not choose a master")
        }
        Ok(()) => Check::good(&name, words),
    }
}

/// Whether all that answer name one master.
fn together(seen: &[SentinelSeen]) -> Option<Check> {
    let mut masters: Vec<String> =
        seen.iter().filter_map(|seen| seen.told.as_ref().ok()).map(|told| told.master.to_string()).collect();
    masters.sort();
    masters.dedup();
    (masters.len() > 1).then(|| {
        let remedy = "a failover is under way, or one of them watches something else; ask again in some seconds";
        Check::warn("sentinels", format!("they name different masters: {}", masters.join(", ")), remedy)
    })
}

/// Whether there are as many replicas as are counted on, and whether an isolated master would go on writing.
pub(super) fn replicas(settings: &Settings, server: &Server) -> Option<Check> {
    let followers = count(usize::try_from(server.replicas).unwrap_or(usize::MAX), "replica", "replicas");
    if let Durability::Replicated { replicas: wanted } = settings.redis.durability
        && server.replicas < wanted
    {
        let words = format!("{followers}, but redis.wait_replicas is {wanted}: every unit waits after its first turn");
        return Some(Check::bad("replicas", words, "add a replica, or lower redis.wait_replicas"));
    }
    let RedisAddress::Server(url) = &settings.redis.url else { return None };
    if !matches!(url.route, Route::Sentinel { .. }) {
        return (server.replicas > 0).then(|| Check::good("replicas", followers));
    }
    if server.replicas_min == "0" && server.replicas > 0 {
        let words = format!("{followers}; min-replicas-to-write is 0: a master that is cut off goes on taking commits");
        let remedy = "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 10 on every server, and the same in \
                      redis.conf: then a failover forgets at most ten seconds";
        return Some(Check::warn("replicas", words, remedy));
    }
    Some(Check::good("replicas", followers))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::config::HostPort;

    fn seen(port: u16, told: Result<(u16, u64, u64), &str>) -> SentinelSeen {
        let at = |port| HostPort { host: "h".to_owned(), port };
        let told = told.map(|(master, replicas, others)| MasterTold {
            master: at(master),
            replicas,
            others,
            quorum: 2,
            judged: Ok(()),
        });
        SentinelSeen { sentinel: at(port), told: told.map_err(str::to_owned) }
    }

    #[test]
    fn sentinels_are_judged_alone_and_together() {
        assert_eq!(one_sentinel(&seen(1, Ok((9, 1, 2)))).verdict, Verdict::Good);
        for bad in [seen(1, Ok((9, 0, 2))), seen(1, Ok((9, 1, 1))), seen(1, Err("refused"))] {
            assert_eq!(one_sentinel(&bad).verdict, Verdict::Warn, "{bad:?}");
        }
        assert!(together(&[seen(1, Ok((9, 1, 2))), seen(2, Ok((9, 1, 2))), seen(3, Err("away"))]).is_none());
        let two = together(&[seen(1, Ok((9, 1, 2))), seen(2, Ok((8, 1, 2)))]).expect("they differ");
        assert!(two.words.contains("h:8, h:9"), "{two:?}");
    }
}
