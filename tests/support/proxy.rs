//! A TCP proxy between a node and Redis, for faults of the network: cut, refused, slow, paused, half-open, and the
//! cruellest one: the request arrives and its answer is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does to every connection, from now on and to those that are open.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// New connections are closed at once.
    pub refuse: bool,
    /// Nothing passes; what comes in waits, and passes after the pause.
    pub hold_requests: bool,
    /// Answers wait until this is over.
    pub hold_answers: bool,
    /// Answers are thrown away, and their connection is closed.
    pub drop_answers: bool,
    /// Each piece waits so long, in both directions.
    pub delay: Duration,
    /// Bytes that pass in a second, in each direction of each connection; 0 = as fast as it can.
    pub bytes_per_second: u32,
    /// New connections are accepted, and nothing ever comes of them: the other end is gone without a word.
    pub half_open: bool,
    /// What clients send vanishes, and they are not told.
    pub lose_requests: bool,
    /// What the server answers vanishes, and nobody is told: one direction died.
    pub lose_answers: bool,
}

/// Largest piece of a slow connection.
const SLOW_PIECE: usize = 1024;

#[derive(Debug, Clone, Copy, Default)]
struct State {
    faults: Faults,
    /// How many connections there have been.
    connections: u64,
    /// Those below this number are closed.
    cut_below: u64,
    /// Requests of those below this number are held.
    strand_below: u64,
    /// The server's port on loopback, for new connections.
    port: u16,
}

/// The proxy; gone with this value.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy on a free loopback port, in front of a server on loopback.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(watch::Sender::new(State { port, ..State::default() }));
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Self { address, state, accepting }
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Replaces the faults.
    pub fn set(&self, faults: Faults) {
        self.state.send_modify(|state| state.faults = faults);
    }

    /// Holds the requests of every connection that is open now, while new connections work: what their callers have
    /// given up arrives late, at [`Proxy::heal`].
    pub fn strand(&self) {
        self.state.send_modify(|state| state.strand_below = state.connections);
    }

    /// Ends all faults; what was held passes.
    pub fn heal(&self) {
        self.state.send_modify(|state| (state.faults, state.strand_below) = (Faults::default(), 0));
    }

    /// Leads new connections to another server; open ones stay where they are.
    pub fn lead_new_to(&self, port: u16) {
        self.state.send_modify(|state| state.port = port);
    }

    /// Leads to another server from now on; open connections are closed. What a failover looks like from a node.
    pub fn lead_to(&self, port: u16) {
        self.lead_new_to(port);
        self.cut();
    }

    /// Closes every open connection. What is held back in them is lost.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut_below = state.connections);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<watch::Sender<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        let seen = *state.borrow();
        if seen.faults.refuse {
            continue;
        }
        if seen.faults.half_open {
            let (number, mut cut) = (seen.connections, state.subscribe());
            state.send_modify(|state| state.connections += 1);
            // Held open, never read, until somebody cuts it.
            tokio::spawn(async move {
                let _ = cut.wait_for(|state| number < state.cut_below).await;
                drop(client);
            });
            continue;
        }
        let Ok(upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, seen.port)).await else { continue };
        let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = upstream.into_split();
        let number = state.borrow().connections;
        state.send_modify(|state| state.connections += 1);
        let watch = || state.subscribe();
        let held = move |state: &State| state.faults.hold_requests || number < state.strand_below;
        let fate = |faults: &Faults| if faults.lose_requests { Fate::Lost } else { Fate::Passes };
        let requests = pump(from_client, to_server, watch(), held, fate);
        let held = |state: &State| state.faults.hold_answers;
        let fate = |faults: &Faults| match (faults.drop_answers, faults.lose_answers) {
            (true, _) => Fate::EndsAll,
            (false, true) => Fate::Lost,
            (false, false) => Fate::Passes,
        };
        let answers = pump(from_server, to_client, watch(), held, fate);
        let mut cut = watch();
        tokio::spawn(async move {
            // Whichever ends first takes the whole connection along.
            tokio::select! {
                () = requests => {}
                () = answers => {}
                _ = cut.wait_for(|state| number < state.cut_below) => {}
            }
        });
    }
}

/// What becomes of a piece.
enum Fate {
    Passes,
    /// Thrown away.
    Lost,
    /// Thrown away with its connection.
    EndsAll,
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    held: impl Fn(&State) -> bool,
    fate: fn(&Faults) -> Fate,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let Ok(now) = state.wait_for(|state| !held(state)).await.map(|state| *state) else { return };
        match fate(&now.faults) {
            Fate::Passes => {}
            Fate::Lost => continue,
            Fate::EndsAll => return,
        }
        if !now.faults.delay.is_zero() {
            tokio::time::sleep(now.faults.delay).await;
        }
        for piece in buffer[..n].chunks(if now.faults.bytes_per_second > 0 { SLOW_PIECE } else { n }) {
            if now.faults.bytes_per_second > 0 {
                let seconds = piece.len() as f64 / f64::from(now.faults.bytes_per_second);
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            }
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
    }
}
