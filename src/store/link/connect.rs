//! One connection: from the address to a master that has said so, every step bounded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates, Value,
};

use super::health::Health;
use super::{Class, Failure, judge, wrong_password};
use crate::config::{HostPort, RedisEnd, RedisUrl, Route, Secret};
use crate::store::error::StoreError;
use crate::store::managed::Managed;
use crate::store::options::{self, StoreOptions};
use crate::store::reply;

/// An open connection to a master.
pub(super) struct Opened {
    pub(super) connection: MultiplexedConnection,
    /// The home that it belongs to.
    pub(super) home: u64,
    /// Where it leads.
    pub(super) place: Arc<Place>,
}

/// The server that a connection has found, for others beside it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) end: RedisEnd,
    /// For people, and as the name of the history where the server does not say it.
    pub(super) shown: String,
}

/// Opens a connection of this class.
pub(super) async fn open(options: &StoreOptions, health: &Health, class: Class) -> Result<Opened, Failure> {
    match &options.place {
        options::Place::Managed(managed) => {
            let url = locate(managed.clone()).await.map_err(passing)?;
            let url = RedisUrl::parse(&url).map_err(passing)?;
            let credentials = Credentials {
                username: url.username.clone(),
                password: url.password.as_ref().map(|password| password.reveal().to_owned()),
            };
            direct(options, health, class, &url, &url.route, &credentials).await
        }
        options::Place::Server(url) => {
            let credentials = Credentials { username: options.username.clone(), password: options.password.clone() };
            match &url.route {
                Route::Tcp(_) | Route::Unix(_) => direct(options, health, class, url, &url.route, &credentials).await,
                Route::Sentinel { sentinels, master } => {
                    through_sentinels(options, health, class, (url, sentinels, master), &credentials).await
                }
                // Refused by the configuration already.
                Route::Cluster(_) => Err(passing(NO_CLUSTER.to_owned())),
            }
        }
    }
}

const NO_CLUSTER: &str = "a cluster cannot hold gapless's own keys yet";

struct Credentials {
    username: Option<String>,
    password: Option<String>,
}

fn passing(reason: String) -> Failure {
    Failure::Passing { reason, dropped: true }
}

/// Starting a server and reading its address block, so they leave the runtime alone.
async fn locate(managed: Arc<Managed>) -> Result<String, String> {
    let located = tokio::task::spawn_blocking(move || managed.locate()).await;
    located.map_err(|error| format!("looking for the managed redis: {error}"))?
}

/// Asks the Sentinels in turn, beginning with the one that was right last; the first whose master calls itself one
/// wins. So a Sentinel that is dead, cut off or behind costs a moment, not the connection.
async fn through_sentinels(
    options: &StoreOptions,
    health: &Health,
    class: Class,
    (url, sentinels, name): (&RedisUrl, &[HostPort], &str),
    credentials: &Credentials,
) -> Result<Opened, Failure> {
    let first = health.sentinel.load(Ordering::Relaxed);
    let (mut tried, mut reasons) = (Vec::new(), Vec::new());
    for place in (first..first + sentinels.len()).map(|place| place % sentinels.len()) {
        let sentinel = &sentinels[place];
        let master = match ask_sentinel(options, url, sentinel, name).await {
            Ok(master) if tried.contains(&master) => continue,
            Ok(master) => master,
            Err(Failure::Passing { reason, .. }) => {
                reasons.push(format!("sentinel {sentinel}: {reason}"));
                continue;
            }
            Err(other) => return Err(other),
        };
        match direct(options, health, class, url, &Route::Tcp(master.clone()), credentials).await {
            Ok(opened) => {
                health.sentinel.store(place, Ordering::Relaxed);
                return Ok(opened);
            }
            Err(Failure::Passing { reason, .. }) => reasons.push(format!("master {master}: {reason}")),
            Err(other) => return Err(other),
        }
        tried.push(master);
    }
    Err(passing(reasons.join("; ")))
}

/// Which server this Sentinel calls the master.
pub(super) async fn ask_sentinel(
    options: &StoreOptions,
    url: &RedisUrl,
    sentinel: &HostPort,
    name: &str,
) -> Result<HostPort, Failure> {
    let mut cmd = redis::cmd("SENTINEL");
    cmd.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let told = match sentinel_call(options, url, sentinel, &cmd).await? {
        Value::Nil => return Err(passing(format!("it knows no master `{name}`"))),
        told => told,
    };
    let mut row = reply::Row::new("SENTINEL", told).map_err(Failure::Final)?;
    let (host, port) = (row.text().map_err(Failure::Final)?, row.number().map_err(Failure::Final)?);
    let port = u16::try_from(port).map_err(|_| passing(format!("it names the port {port}")))?;
    Ok(HostPort { host, port })
}

/// One command to one Sentinel, on a connection of its own, within `connect_timeout`.
pub(super) async fn sentinel_call(
    options: &StoreOptions,
    url: &RedisUrl,
    sentinel: &HostPort,
    cmd: &Cmd,
) -> Result<Value, Failure> {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = &options.sentinel_username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &options.sentinel_password {
        settings = settings.set_password(password);
    }
    let client = client(options, url, &Route::Tcp(sentinel.clone()), settings)?;
    let limit = options.connect_timeout;
    let asked = async {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        match connection.send_packed_command(cmd).await {
            Ok(Value::ServerError(error)) => Err(RedisError::from(error)),
            other => other,
        }
    };
    let answer = tokio::time::timeout(limit, asked).await;
    let answer = answer.map_err(|_| passing(format!("no answer within {} ms", limit.as_millis())))?;
    answer.map_err(|error| match (error.kind(), error.code()) {
        (redis::ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            Failure::Final(StoreError::Refused {
                command: "the user or password of the sentinels (redis.sentinel_username, redis.sentinel_password, \
                          redis.sentinel_password_file)"
                    .to_owned(),
                reason: error.to_string(),
            })
        }
        _ => passing(explained(&error, url.tls)),
    })
}

/// What a connection of this class is given for one answer.
pub(super) fn response_timeout(options: &StoreOptions, class: Class) -> Duration {
    match class {
        Class::Command => options.command_timeout,
        Class::Lease => options.lease_timeout,
        Class::Bell => options.bell_block + options.command_timeout,
        Class::Confirm => options.wait + options.command_timeout,
    }
}

async fn direct(
    options: &StoreOptions,
    health: &Health,
    class: Class,
    url: &RedisUrl,
    route: &Route,
    credentials: &Credentials,
) -> Result<Opened, Failure> {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name().set_db(i64::from(url.db));
    if let Some(username) = &credentials.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &credentials.password {
        settings = settings.set_password(password);
    }
    let client = client(options, url, route, settings)?;
    let greeting = if class == Class::Lease { options.lease_timeout } else { options.command_timeout };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(greeting));
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    health.connects_total.fetch_add(1, Ordering::Relaxed);
    let mut connection = connected.map_err(|error| match (error.kind(), error.code()) {
        (redis::ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
            Failure::Final(wrong_password(error.to_string()))
        }
        _ => passing(explained(&error, url.tls)),
    })?;
    check_role(&mut connection).await?;
    let shown = match route {
        Route::Tcp(address) => address.to_string(),
        Route::Unix(path) => path.display().to_string(),
        Route::Sentinel { .. } | Route::Cluster(_) => url.to_string(),
    };
    let history = history(&mut connection).await?.unwrap_or_else(|| shown.clone());
    connection.set_response_timeout(response_timeout(options, class));
    let home = health.settle(&history, &shown);
    let mut url = url.clone();
    url.route = route.clone();
    let end = RedisEnd {
        url,
        username: credentials.username.clone(),
        password: credentials.password.as_deref().map(Secret::new),
        sentinel_username: None,
        sentinel_password: None,
        tls: options.tls.clone(),
        allow_replica: false,
    };
    Ok(Opened { connection, home, place: Arc::new(Place { end, shown }) })
}

/// A replica would take reads and refuse writes; it is as good as away.
async fn check_role(connection: &mut MultiplexedConnection) -> Result<(), Failure> {
    // A user without the right to ask learns of a replica at the first write.
    let Some(role) = may_ask(connection, &redis::cmd("ROLE"), "ROLE").await? else { return Ok(()) };
    let mut row = reply::Row::new("ROLE", role).map_err(Failure::Final)?;
    let word = row.text().map_err(Failure::Final)?;
    if word == "master" { Ok(()) } else { Err(passing(format!("the server is a {word}, not a master"))) }
}

/// Which life of which server this is, and which line of writes; none where the user may not ask.
async fn history(connection: &mut MultiplexedConnection) -> Result<Option<String>, Failure> {
    let mut cmd = redis::cmd("INFO");
    cmd.arg("server").arg("replication");
    let Some(info) = may_ask(connection, &cmd, "INFO").await? else { return Ok(None) };
    let info = reply::text("INFO", info).map_err(Failure::Final)?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
    let history = format!("{}/{}", field("run_id:"), field("master_replid:"));
    Ok((history != "/").then_some(history))
}

/// An answer, or none where the user may not ask.
async fn may_ask(connection: &mut MultiplexedConnection, cmd: &Cmd, name: &str) -> Result<Option<Value>, Failure> {
    let answer = match connection.send_packed_command(cmd).await {
        Ok(Value::ServerError(error)) => Err(RedisError::from(error)),
        other => other,
    };
    match answer {
        Err(error) if error.code() == Some("NOPERM") => Ok(None),
        answer => answer.map(Some).map_err(|error| judge(&error, name)),
    }
}

/// Describes a connection; nothing is sent. The files of TLS are read now.
fn client(
    options: &StoreOptions,
    url: &RedisUrl,
    route: &Route,
    settings: RedisConnectionInfo,
) -> Result<Client, Failure> {
    let tls = &options.tls;
    let address = match route {
        Route::Tcp(HostPort { host, port }) if url.tls => {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: tls.insecure, tls_params: None }
        }
        Route::Tcp(HostPort { host, port }) => ConnectionAddr::Tcp(host.clone(), *port),
        Route::Unix(path) => ConnectionAddr::Unix(path.clone()),
        Route::Sentinel { .. } => return Err(passing("a Sentinel is no server".to_owned())),
        Route::Cluster(_) => return Err(passing(NO_CLUSTER.to_owned())),
    };
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    let info: ConnectionInfo = address.into_connection_info().map_err(|error| passing(error.to_string()))?;
    let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
    if !url.tls {
        return Client::open(info).map_err(|error| passing(error.to_string()));
    }
    // Where another part of the process chose its cryptography before, that stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| passing(format!("cannot read {}: {error}", path.display())))
    };
    let root_cert = tls.ca_file.as_deref().map(read).transpose()?;
    let client_tls = match &tls.client {
        None => None,
        Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
    };
    Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(|error| passing(error.to_string()))
}

/// The error, with what to do about those of TLS.
fn explained(error: &RedisError, tls: bool) -> String {
    let words = error.to_string();
    let remedy = if words.contains("UnknownIssuer") {
        "; name the authority that signed it in redis.tls_ca_file"
    } else if words.contains("not valid for name") {
        "; the certificate must name the host as it stands in redis.url (or as the Sentinels name it)"
    } else if tls && (words.contains("InvalidContentType") || error.is_timeout()) {
        "; perhaps the server speaks no TLS on this port"
    } else if words.contains("CertificateRequired") || words.contains("HandshakeFailure") {
        "; the server wants a client certificate: redis.tls_cert_file and redis.tls_key_file"
    } else {
        ""
    };
    format!("{words}{remedy}")
}
