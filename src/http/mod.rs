//! The node's HTTP door: `/healthz`, `/metrics`, `/status`, and `/` which lists them. Reading only.
//!
//! Nothing here waits for Redis longer than its named bound: a probe or a scrape that hangs would say less than an
//! answer that is a little old.

pub mod blocks;
pub mod guard;
pub mod health;
pub mod logs;
pub mod status;
pub mod sync;
pub mod units;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::config::Settings;
use crate::ids::RandomId;
use crate::store::link::{Link, Patience};
use crate::store::{Store, StoreError};
use crate::supervisor::Handle;
use crate::telemetry::metrics::{ActorLabels, Metrics};
use status::MailboxStatus;

/// Redis is asked for figures at most so often, however many ask us.
const FRESH: Duration = Duration::from_secs(1);
/// A scrape waits so long for fresh figures of mailboxes, then goes on with the last ones.
const SCRAPE_DEADLINE: Duration = Duration::from_millis(500);
/// `/status` is given up after this long; the question to Redis goes on for whoever asks next.
const STATUS_DEADLINE: Duration = Duration::from_secs(2);
/// How long one question waits for a Redis that is away.
const PATIENCE: Duration = Duration::from_secs(1);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "gapless\n\n\
    /healthz   whether this node takes work: 200 or 503, with the reasons\n\
    /metrics   figures of this node and depths of all mailboxes, OpenMetrics\n\
    /status    nodes, pipelines, units and mailboxes, as `gapless status --json`\n";

/// What the door shows. The supervisor and the store are there once Redis has answered.
#[derive(Clone)]
pub struct HttpState {
    /// The node's settings.
    pub settings: Arc<Settings>,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Its connection, of the class of commands.
    pub link: Link,
    /// Set once the node has started.
    pub started: Arc<tokio::sync::OnceCell<(Store, Handle)>>,
}

/// Takes the address; an error names the configuration key.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!(
            "node.http = \"{address}\" cannot be used: {error}; give each node of a host an address of its own, \
             or \"\" for none"
        )
    })
}

/// Serves until the node ends.
pub async fn serve(listener: TcpListener, state: HttpState) {
    let door = Arc::new(Door::new(state));
    if let Err(error) = axum::serve(guard::GuardedListener::new(listener), router(door)).await {
        tracing::error!(%error, "the HTTP door closed");
    }
}

/// The state with what the door keeps between two requests.
struct Door {
    state: HttpState,
    /// A connection of its own, which gives up: nodes wait for Redis, readers do not.
    link: Link,
    /// Reads only, so it need not know which Redis it is.
    store: Store,
    /// When the gauges of mailboxes were read last; locked while they are.
    gauges: Mutex<Option<Instant>>,
    /// The last answer of `/status`; locked while the next one is made.
    status: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Door {
    fn new(state: HttpState) -> Self {
        let link = state.link.with_patience(Patience::For(PATIENCE));
        let store = Store::new(&state.settings.redis.prefix, &state.settings.node.name, RandomId::default());
        Self { state, link, store, gauges: Mutex::default(), status: Mutex::default() }
    }

    /// Reads the gauges of mailboxes, unless somebody else does, or just has.
    async fn refresh_gauges(&self) {
        let Ok(mut last) = self.gauges.try_lock() else { return };
        if last.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        match status::configured_mailboxes(&self.state.settings, &self.store, &self.link).await {
            Ok(mailboxes) => mailboxes.iter().for_each(|mailbox| self.set_gauges(mailbox)),
            Err(error) => {
                tracing::debug!(%error, "the depths of mailboxes are unknown");
                // No figure is better than an old one that looks new.
                let metrics = &self.state.metrics;
                for family in [&metrics.mailbox_entries, &metrics.mailbox_age_seconds, &metrics.mailbox_dead] {
                    family.clear();
                }
            }
        }
        *last = Some(Instant::now());
    }

    fn set_gauges(&self, mailbox: &MailboxStatus) {
        let metrics = &self.state.metrics;
        let Some((pipeline, actor)) = mailbox.mailbox.split_once('/') else { return };
        let labels = ActorLabels { pipeline: pipeline.to_owned(), actor: actor.to_owned() };
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.mailbox_entries.get_or_create(&labels).set(number(mailbox.waiting));
        let age = mailbox.oldest_age_ms.unwrap_or(0) / 1000;
        metrics.mailbox_age_seconds.get_or_create(&labels).set(number(age));
        metrics.mailbox_dead.get_or_create(&labels).set(number(mailbox.dead));
    }

    /// The JSON of `/status`, made at most once in [`FRESH`].
    async fn status(&self) -> Result<Arc<str>, StoreError> {
        let mut last = self.status.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let status = status::gather(&self.state.settings, &self.store, &self.link).await?;
        let text = serde_json::to_string(&status).map_err(|error| StoreError::Protocol(error.to_string()))?;
        let text: Arc<str> = text.into();
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/status", get(status_json))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .with_state(door)
}

async fn healthz(State(door): State<Arc<Door>>) -> Response {
    let health = health::health(&door.state);
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

async fn metrics(State(door): State<Arc<Door>>) -> Response {
    // A task of its own goes on after the deadline, so that a connection that hangs meets its own time-out.
    let refresh = tokio::spawn({
        let door = door.clone();
        async move { door.refresh_gauges().await }
    });
    // Late or not, the figures of the node itself are served.
    let _ = timeout(SCRAPE_DEADLINE, refresh).await;
    ([(header::CONTENT_TYPE, OPENMETRICS)], door.state.metrics.render()).into_response()
}

async fn status_json(State(door): State<Arc<Door>>) -> Response {
    let question = tokio::spawn(async move { door.status().await });
    match timeout(STATUS_DEADLINE, question).await {
        Ok(Ok(Ok(text))) => ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response(),
        Ok(Ok(Err(fault))) => error(StatusCode::SERVICE_UNAVAILABLE, &fault.to_string()),
        Ok(Err(fault)) => error(StatusCode::INTERNAL_SERVER_ERROR, &fault.to_string()),
        Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "redis did not answer within 2 s; ask again"),
    }
}

async fn unknown(uri: Uri) -> Response {
    error(StatusCode::NOT_FOUND, &format!("there is no {}; / lists what there is", uri.path()))
}

async fn not_allowed(method: Method, uri: Uri) -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, &format!("{} takes GET only, not {method}", uri.path()))
}

fn error(status: StatusCode, words: &str) -> Response {
    (status, Json(json!({ "error": words }))).into_response()
}
