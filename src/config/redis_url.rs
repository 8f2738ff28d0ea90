//! The address of a Redis as people write it: one server, a socket file, or Sentinels that know where the master is.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::settings::Secret;

/// The port of a Redis where none is written.
const PORT: u16 = 6379;
/// The port of a Sentinel where none is written.
const SENTINEL_PORT: u16 = 26_379;
/// Most Sentinels, or nodes of a cluster, of one address.
const SENTINELS_MAX: usize = 15;
/// What an address looks like.
const FORM: &str = "must be \"managed\", redis://[user[:password]@]host[:port][/db], rediss://... (TLS), \
                    redis+unix:///PATH[?db=N] or redis+sentinel://[user[:password]@]host[:port],.../MASTER[/db]";

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name or an IP address, the latter without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The way to a Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// One address, whatever stands behind it.
    Tcp(HostPort),
    /// A socket file of this machine.
    Unix(PathBuf),
    /// Whatever server these Sentinels call the master.
    Sentinel {
        /// Asked in this order; 1 to 15.
        sentinels: Vec<HostPort>,
        /// The name that they know the master by.
        master: String,
    },
    /// The nodes of a cluster, as far as they are written; each knows the others. 1 to 15.
    Cluster(Vec<HostPort>),
}

/// A checked address. Its text never holds credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// The way there.
    pub route: Route,
    /// Speak TLS, to Sentinels too.
    pub tls: bool,
    /// It ends with `#insecure`: certificates are not checked.
    pub insecure: bool,
    /// The database.
    pub db: u16,
    /// The ACL user; none = `default`.
    pub username: Option<String>,
    /// The password, if the address carries one.
    pub password: Option<Secret>,
    shown: String,
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl RedisUrl {
    /// Understands the address of gapless's own Redis, or answers everything that is wrong with it. Errors hold no part
    /// of the address.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Self::parse_any(text) {
            Ok(Self { route: Route::Cluster(_), .. }) => {
                Err("Redis Cluster comes later: name one server with redis://, \
                                                              or Sentinels with redis+sentinel://"
                    .to_owned())
            }
            other => other,
        }
    }

    /// As [`RedisUrl::parse`], for a Redis that is not gapless's own: it may be a cluster.
    pub fn parse_any(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else { return Err(FORM.to_owned()) };
        let mut faults = Vec::new();
        let url = match scheme.to_ascii_lowercase().as_str() {
            "redis" => tcp(text, false, &mut faults),
            "rediss" => tcp(text, true, &mut faults),
            "unix" | "redis+unix" => unix(rest, &mut faults),
            "redis+sentinel" => sentinel(rest, false, &mut faults),
            "rediss+sentinel" => sentinel(rest, true, &mut faults),
            "redis+cluster" => cluster(rest, false, &mut faults),
            "rediss+cluster" => cluster(rest, true, &mut faults),
            "sentinel" => return Err("Sentinels are written redis+sentinel://host:port,.../MASTER".to_owned()),
            _ => return Err(FORM.to_owned()),
        };
        match url {
            Some(url) if faults.is_empty() => Ok(Self { shown: without_credentials(text), ..url }),
            _ => Err(faults.join("; ")),
        }
    }

    fn to(route: Route, tls: bool) -> Self {
        Self { route, tls, insecure: false, db: 0, username: None, password: None, shown: String::new() }
    }
}

fn tcp(text: &str, tls: bool, faults: &mut Vec<String>) -> Option<RedisUrl> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            faults.push(format!("{FORM} ({error})"));
            return None;
        }
    };
    let host = host_of(&url);
    match &host {
        None => faults.push(format!("{FORM}: a host")),
        Some(host) if host.contains(',') => {
            faults.push("one host; several Sentinels are written redis+sentinel://".into());
        }
        Some(_) => {}
    }
    if url.port() == Some(0) {
        faults.push("a port from 1 to 65535".to_owned());
    }
    if url.query().is_some() {
        faults.push("no parameters behind a question mark".to_owned());
    }
    let mut found =
        RedisUrl::to(Route::Tcp(HostPort { host: host.unwrap_or_default(), port: url.port().unwrap_or(PORT) }), tls);
    found.db = database(url.path().trim_start_matches('/'), faults);
    found.insecure = insecure(url.fragment(), tls, faults);
    (found.username, found.password) = credentials(&url, faults);
    Some(found)
}

/// `/path.sock`, perhaps with `?db=N`.
fn unix(rest: &str, faults: &mut Vec<String>) -> Option<RedisUrl> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.contains(['\0', '#']) || path.len() < 2 {
        faults.push("a socket file is written with three slashes, redis+unix:///run/redis/redis.sock".to_owned());
    }
    let mut found = RedisUrl::to(Route::Unix(PathBuf::from(decoded(path, faults))), false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("db", number)) => found.db = database(number, faults),
            _ => faults.push(
                "db is the only parameter; user and password stand in redis.username and redis.password_file"
                    .to_owned(),
            ),
        }
    }
    Some(found)
}

/// `[user[:password]@]host[:port],.../MASTER[/db]`.
fn sentinel(rest: &str, tls: bool, faults: &mut Vec<String>) -> Option<RedisUrl> {
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    if query.is_some() {
        faults.push("no parameters behind a question mark".to_owned());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let sentinels: Vec<HostPort> = hosts.split(',').filter_map(|host| one_sentinel(host, faults)).collect();
    if sentinels.len() > SENTINELS_MAX {
        faults.push(format!("at most {SENTINELS_MAX} Sentinels"));
    }
    let (master, db) = path.split_once('/').unwrap_or((path, ""));
    let master = decoded(master, faults);
    if master.is_empty() || !master.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        faults.push("the master's name behind the hosts, redis+sentinel://host:26379/mymaster".to_owned());
    }
    let mut found = RedisUrl::to(Route::Sentinel { sentinels, master }, tls);
    found.db = database(db, faults);
    found.insecure = insecure(fragment, tls, faults);
    user_of(user, &mut found, faults);
    Some(found)
}

/// `[user[:password]@]host[:port],...`.
fn cluster(rest: &str, tls: bool, faults: &mut Vec<String>) -> Option<RedisUrl> {
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !matches!(path, "" | "0") || authority.contains('?') {
        faults.push("nothing behind the nodes: a cluster has database 0 alone".to_owned());
    }
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let nodes: Vec<HostPort> = hosts.split(',').filter_map(|host| host_and_port(host, PORT)).collect();
    if nodes.len() != hosts.split(',').count() || nodes.len() > SENTINELS_MAX {
        faults
            .push(format!("1 to {SENTINELS_MAX} nodes of the cluster, each as host[:port], with commas between them"));
    }
    let mut found = RedisUrl::to(Route::Cluster(nodes), tls);
    found.insecure = insecure(fragment, tls, faults);
    user_of(user, &mut found, faults);
    Some(found)
}

fn user_of(user: Option<&str>, found: &mut RedisUrl, faults: &mut Vec<String>) {
    let Some(user) = user else { return };
    match Url::parse(&format!("redis://{user}@h")) {
        Ok(url) => (found.username, found.password) = credentials(&url, faults),
        Err(_) => faults.push("special characters of user and password written as %XX".to_owned()),
    }
}

fn host_and_port(text: &str, default: u16) -> Option<HostPort> {
    let url = Url::parse(&format!("redis://{text}")).ok();
    let url = url.filter(|url| !text.contains('@') && url.port() != Some(0))?;
    let host = host_of(&url).filter(|host| !host.is_empty())?;
    Some(HostPort { host, port: url.port().unwrap_or(default) })
}

fn one_sentinel(text: &str, faults: &mut Vec<String>) -> Option<HostPort> {
    let found = host_and_port(text, SENTINEL_PORT);
    if found.is_none() {
        faults.push("each Sentinel as host[:port], a port from 1 to 65535, with commas between them".to_owned());
    }
    found
}

/// The host without the brackets of IPv6.
fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| host.to_owned())
}

fn database(text: &str, faults: &mut Vec<String>) -> u16 {
    if text.is_empty() {
        return 0;
    }
    text.parse().unwrap_or_else(|_| {
        faults.push("a database as a number".to_owned());
        0
    })
}

fn insecure(fragment: Option<&str>, tls: bool, faults: &mut Vec<String>) -> bool {
    match fragment {
        None => false,
        Some("insecure") if tls => true,
        Some("insecure") => {
            faults.push("#insecure belongs to TLS (rediss://); without TLS there is no certificate".to_owned());
            false
        }
        Some(_) => {
            faults.push("nothing but `insecure` behind a #".to_owned());
            false
        }
    }
}

fn credentials(url: &Url, faults: &mut Vec<String>) -> (Option<String>, Option<Secret>) {
    let username = Some(decoded(url.username(), faults)).filter(|name| !name.is_empty());
    let password = url.password().map(|text| Secret::new(&decoded(text, faults)));
    (username, password)
}

/// `%2F` as `/`.
fn decoded(text: &str, faults: &mut Vec<String>) -> String {
    percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).unwrap_or_else(|_| {
        faults.push("%XX only for UTF-8".to_owned());
        String::new()
    })
}

/// The address as it was written, without user and password.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return String::new() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    fn good(text: &str) -> RedisUrl {
        RedisUrl::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    #[test]
    fn every_way_to_redis() {
        assert_eq!(good("redis://127.0.0.1").route, Route::Tcp(at("127.0.0.1", 6379)));
        assert_eq!(good("redis://[::1]:6380/3").route, Route::Tcp(at("::1", 6380)));
        assert_eq!(good("redis://[::1]:6380/3").db, 3);
        let url = good("rediss://me:p%40ss@cache.example:6380");
        assert!(url.tls && !url.insecure);
        assert_eq!(url.username.as_deref(), Some("me"));
        assert_eq!(url.password, Some(Secret::new("p@ss")));
        assert_eq!(good("redis://:p@h").username, None);
        assert!(good("rediss://h/#insecure").insecure);
        for text in ["unix:///run/redis.sock?db=2", "redis+unix:///run/redis.sock?db=2"] {
            let url = good(text);
            assert_eq!((url.route, url.db), (Route::Unix(PathBuf::from("/run/redis.sock")), 2));
        }
        let url = good("redis+sentinel://me:secret@a,[::1]:7000,b:7001/main.db-1/4");
        let sentinels = vec![at("a", 26_379), at("::1", 7000), at("b", 7001)];
        assert_eq!(url.route, Route::Sentinel { sentinels, master: "main.db-1".to_owned() });
        assert_eq!((url.db, url.tls, url.username.as_deref()), (4, false, Some("me")));
        assert!(good("rediss+sentinel://a/m#insecure").insecure);
    }

    #[test]
    fn the_nodes_of_a_cluster_are_an_address_of_other_servers_only() {
        let url = RedisUrl::parse_any("rediss+cluster://me:secret@a,[::1]:7000/#insecure").expect("an address");
        assert_eq!(url.route, Route::Cluster(vec![at("a", 6379), at("::1", 7000)]));
        assert_eq!((url.tls, url.insecure, url.username.as_deref(), url.db), (true, true, Some("me"), 0));
        assert_eq!(url.to_string(), "rediss+cluster://a,[::1]:7000/#insecure");
        assert!(RedisUrl::parse_any("redis+cluster://a:0,b/3").expect_err("two faults").contains("database 0 alone"));
    }

    #[test]
    fn an_address_never_shows_credentials() {
        for (text, shown) in [
            ("redis://me:p@ss@host:1/2", "redis://host:1/2"),
            ("redis://host", "redis://host"),
            ("redis+sentinel://me:secret@a:1,b:2/m/3", "redis+sentinel://a:1,b:2/m/3"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ] {
            assert_eq!(good(text).to_string(), shown);
        }
        assert!(!format!("{:?}", good("redis://me:secret@host")).contains("secret"));
    }

    #[test]
    fn each_fault_is_named() {
        for (bad, parts) in [
            ("http://h", vec!["must be \"managed\""]),
            ("h:6379", vec!["must be \"managed\""]),
            ("redis://", vec!["a host"]),
            ("redis://h:99999", vec!["invalid port number"]),
            ("redis://h:0/zero?protocol=3", vec!["a port from 1", "a database as a number", "no parameters"]),
            ("redis://a,b", vec!["one host", "redis+sentinel://"]),
            ("redis://h/#insecure", vec!["belongs to TLS"]),
            ("rediss://h/#careless", vec!["nothing but `insecure`"]),
            ("redis+cluster://h", vec!["Redis Cluster comes later"]),
            ("REDIS+CLUSTER://h", vec!["Redis Cluster comes later"]),
            ("sentinel://h/m", vec!["redis+sentinel://host:port"]),
            ("redis+sentinel://h", vec!["the master's name"]),
            ("redis+sentinel://h:0,/m m?x=1", vec!["each Sentinel as", "the master's name", "no parameters"]),
            ("redis+sentinel://a:x@b:y@c/m/db", vec!["a database as a number"]),
            ("redis+unix://run/redis.sock", vec!["three slashes"]),
            ("unix:///s?db=x&password=secret", vec!["a database as a number", "redis.password_file"]),
        ] {
            let what = RedisUrl::parse(bad).expect_err(bad);
            assert!(parts.iter().all(|part| what.contains(part)), "{bad}: {what}");
            assert!(!what.contains("secret"), "{what}");
        }
        let many = vec!["h"; SENTINELS_MAX + 1].join(",");
        assert!(RedisUrl::parse(&format!("redis+sentinel://{many}/m")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser_or_shows_a_password(text in "\\PC{0,40}") {
            for scheme in ["redis", "rediss", "unix", "redis+sentinel"] {
                let _ = RedisUrl::parse(&format!("{scheme}://{text}"));
                if let Ok(url) = RedisUrl::parse(&format!("{scheme}://me:Geheimnis@{text}")) {
                    prop_assert!(!format!("{url} {url:?}").contains("Geheimnis"), "{url}");
                }
            }
        }
    }
}
