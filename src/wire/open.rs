//! Open: from an address to a server that has said what it is; every step bounded.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::line::{Line, Stream};
use super::scan::Reply;
use super::{Request, WireError, tls};
use crate::config::{HostPort, RedisEnd, Route};

/// The way to one Redis, and how long its steps may take.
#[derive(Debug, Clone)]
pub struct Door {
    /// Address, credentials, TLS.
    pub end: RedisEnd,
    /// How the keys of the configuration begin that say more of it: `source_`, `target_`, `redis.`.
    pub side: &'static str,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one command.
    pub command_timeout: Duration,
    /// What the connections call themselves in `CLIENT LIST`; empty = nothing.
    pub name: String,
    /// One node of the end, where it is a cluster.
    pub shown: Option<String>,
    /// Each command to it needs `ASKING` before it.
    pub asking: bool,
}

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Redis or Valkey, with the version, for people.
    pub shown: String,
    /// Major and minor of the version of Redis that it is compatible with.
    pub version: (u32, u32),
    /// Which life of which process.
    pub run_id: String,
    /// Which line of writes.
    pub replid: String,
    /// It takes writes only from its master.
    pub is_replica: bool,
    /// It is a node of a cluster.
    pub is_cluster: bool,
}

impl Server {
    /// Whether streams count what was ever added to them, and groups what they have read.
    pub fn counts(&self) -> bool {
        self.version >= (7, 0)
    }

    /// Whether what was deleted above the lowest entry of a stream is told by its `max-deleted-entry-id`. Redis 8.2 came
    /// with trims that pass over what groups still want, and so take entries from the middle without a trace.
    pub fn tells_deletions(&self) -> bool {
        self.counts() && self.version < (8, 2)
    }

    /// Whether this is the same line of writes as another look at it.
    pub fn is_same_history(&self, other: &Server) -> bool {
        self.replid == other.replid && self.run_id == other.run_id
    }
}

impl Door {
    /// Where it leads, without credentials.
    pub fn address(&self) -> String {
        self.shown.clone().unwrap_or_else(|| self.end.url.to_string())
    }

    /// Opens a line to the server, in this database, and asks what it is.
    pub async fn open(&self, db: u16) -> Result<(Line, Server), WireError> {
        match &self.end.url.route {
            Route::Tcp(_) | Route::Unix(_) => self.direct(&self.end.url.route, db).await,
            Route::Sentinel { sentinels, master } => self.through_sentinels(sentinels, master, db).await,
            Route::Cluster(nodes) => self.through_nodes(nodes, db).await,
        }
    }

    /// The same end, at one node of it.
    pub(super) fn at(&self, node: &HostPort) -> Door {
        let mut door = self.clone();
        door.end.url.route = Route::Tcp(node.clone());
        door.shown = Some(node.to_string());
        door
    }

    /// The same way, for keys whose slot is on its way to that node.
    pub(super) fn asking(mut self, asking: bool) -> Door {
        self.asking = asking;
        self
    }

    /// The first node that answers.
    async fn through_nodes(&self, nodes: &[HostPort], db: u16) -> Result<(Line, Server), WireError> {
        let mut reasons = Vec::new();
        for node in nodes {
            let door = self.at(node);
            match door.direct(&door.end.url.route, db).await {
                Err(WireError::Away { reason, .. }) => reasons.push(format!("node {node}: {reason}")),
                other => return other,
            }
        }
        Err(WireError::Away { address: self.address(), reason: reasons.join("; ") })
    }

    async fn direct(&self, route: &Route, db: u16) -> Result<(Line, Server), WireError> {
        let opened = self.greeted(route, db).await;
        opened.map_err(|error| match error {
            WireError::Away { address, reason } if self.end.url.tls => {
                WireError::Away { address, reason: tls::explained(&reason, self.side) }
            }
            error => error,
        })
    }

    async fn greeted(&self, route: &Route, db: u16) -> Result<(Line, Server), WireError> {
        let mut line = self.connect(route).await?;
        self.greet(&mut line, self.end.username.as_deref(), self.end.password.as_ref().map(|p| p.reveal())).await?;
        if db > 0 {
            line.call(&[b"SELECT", db.to_string().as_bytes()]).await?;
        }
        if !self.name.is_empty() {
            // A name is for people; a user without the right goes without.
            line.all(&Request::of(&[b"CLIENT", b"SETNAME", self.name.as_bytes()])).await?;
        }
        let server = ask(&mut line).await?;
        if server.is_replica && !self.end.allow_replica {
            let reason = "the server is a replica, not a master".to_owned();
            return Err(WireError::Away { address: self.address(), reason });
        }
        if self.asking {
            line.begin_asking();
        }
        Ok((line, server))
    }

    async fn connect(&self, route: &Route) -> Result<Line, WireError> {
        let away = |reason: String| WireError::Away { address: self.address(), reason };
        let opened = tokio::time::timeout(self.connect_timeout * 2, self.stream(route)).await;
        let opened = opened.map_err(|_| away(self.late()))?;
        Ok(Line::new(opened.map_err(away)?, &self.address(), self.command_timeout))
    }

    fn late(&self) -> String {
        format!("no connection within {} ms", self.connect_timeout.as_millis())
    }

    async fn stream(&self, route: &Route) -> Result<Box<dyn Stream>, String> {
        let words = |error: std::io::Error| error.to_string();
        match route {
            Route::Unix(path) => Ok(Box::new(UnixStream::connect(path as &Path).await.map_err(words)?)),
            Route::Tcp(HostPort { host, port }) => {
                let reached = TcpStream::connect((host.as_str(), *port));
                let reached = tokio::time::timeout(self.connect_timeout, reached).await;
                let stream = reached.map_err(|_| self.late())?.map_err(words)?;
                stream.set_nodelay(true).map_err(words)?;
                if !self.end.url.tls {
                    return Ok(Box::new(stream));
                }
                let connector = TlsConnector::from(tls::client(&self.end.tls)?);
                let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
                let greeted = tokio::time::timeout(self.connect_timeout, connector.connect(name, stream)).await;
                let late = |_| format!("no TLS within {} ms", self.connect_timeout.as_millis());
                Ok(Box::new(greeted.map_err(late)?.map_err(words)?))
            }
            Route::Sentinel { .. } => Err("a Sentinel is no server".to_owned()),
            Route::Cluster(_) => Err("a cluster is many servers".to_owned()),
        }
    }

    async fn greet(&self, line: &mut Line, user: Option<&str>, password: Option<&str>) -> Result<(), WireError> {
        let Some(password) = password else { return Ok(()) };
        let answer = match user {
            Some(user) => line.call(&[b"AUTH", user.as_bytes(), password.as_bytes()]).await,
            None => line.call(&[b"AUTH", password.as_bytes()]).await,
        };
        answer.map(drop)
    }

    /// The first Sentinel wins whose master calls itself one.
    async fn through_sentinels(
        &self,
        sentinels: &[HostPort],
        name: &str,
        db: u16,
    ) -> Result<(Line, Server), WireError> {
        let mut reasons = Vec::new();
        for sentinel in sentinels {
            match self.ask_sentinel(sentinel, name).await {
                Ok(master) => match self.direct(&Route::Tcp(master.clone()), db).await {
                    Ok(opened) => return Ok(opened),
                    Err(WireError::Away { reason, .. }) => reasons.push(format!("master {master}: {reason}")),
                    Err(error) => return Err(error),
                },
                Err(error) => reasons.push(format!("sentinel {sentinel}: {error}")),
            }
        }
        Err(WireError::Away { address: self.address(), reason: reasons.join("; ") })
    }

    async fn ask_sentinel(&self, sentinel: &HostPort, name: &str) -> Result<HostPort, String> {
        let words = |error: WireError| match error {
            WireError::Away { reason, .. } => reason,
            error => error.to_string(),
        };
        let mut line = self.connect(&Route::Tcp(sentinel.clone())).await.map_err(words)?;
        let password = self.end.sentinel_password.as_ref().map(|password| password.reveal());
        self.greet(&mut line, self.end.sentinel_username.as_deref(), password).await.map_err(words)?;
        let told = line.call(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()]).await.map_err(words)?;
        match told.list() {
            [host, port] => {
                let port = port.int().and_then(|port| u16::try_from(port).ok());
                let port = port.ok_or_else(|| "it names no port".to_owned())?;
                Ok(HostPort { host: host.text(), port })
            }
            _ => Err(format!("it knows no master `{name}`")),
        }
    }
}

async fn ask(line: &mut Line) -> Result<Server, WireError> {
    let mut request = Request::of(&[b"INFO", b"server"]);
    request.command(&[b"INFO", b"replication"]).command(&[b"INFO", b"cluster"]);
    let replies = line.all(&request).await?;
    let mut text = String::new();
    for reply in &replies {
        match reply {
            // A user may be kept from INFO: then features are found by trying, from the oldest on.
            Reply::Error(words) if words.starts_with("NOPERM") => {}
            Reply::Error(words) => return Err(line.refused("INFO", words)),
            reply => {
                text.push_str(&reply.text());
                text.push('\n');
            }
        }
    }
    Ok(judge(&text))
}

fn judge(info: &str) -> Server {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
    let version = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let redis = field("redis_version:");
    let valkey = field("valkey_version:");
    Server {
        shown: if valkey.is_empty() { format!("Redis {redis}") } else { format!("Valkey {valkey}") },
        // Valkey calls itself Redis 7.2.4 for clients that look at the version.
        version: version(redis),
        run_id: field("run_id:").to_owned(),
        replid: field("master_replid:").to_owned(),
        is_replica: field("role:") == "slave",
        is_cluster: field("cluster_enabled:") == "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_what_its_info_says() {
        let redis = judge("redis_version:6.2.14\r\nrun_id:r\r\nrole:slave\r\nmaster_replid:m\r\ncluster_enabled:0\r\n");
        assert_eq!((redis.shown.as_str(), redis.version, redis.counts()), ("Redis 6.2.14", (6, 2), false));
        assert!(redis.is_replica && !redis.is_cluster);
        let valkey = judge("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.1\r\nrole:master\r\n");
        assert_eq!((valkey.shown.as_str(), valkey.counts(), valkey.is_replica), ("Valkey 9.0.1", true, false));
        assert!(!redis.is_same_history(&valkey) && redis.is_same_history(&redis));
    }
}
