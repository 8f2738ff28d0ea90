//! Hints against real sockets: a server of this test that pushes, is silent, or lies.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;

/// What the server does once somebody has subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Pushes a head for each one that the test wants.
    Pushes,
    /// Answers pings, and pushes nothing.
    Silent,
    /// Answers nothing any more.
    Dead,
    /// Sends one message that is larger than any header.
    Floods,
    /// Refuses the subscription.
    Refuses,
}

struct Server {
    url: String,
    /// Subscriptions that were asked for.
    asked: Arc<AtomicUsize>,
    /// Sockets that are open.
    open: Arc<AtomicUsize>,
    heads: watch::Sender<u64>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("ws://{}/v3/0123456789abcdef", listener.local_addr().expect("bound"));
        let (asked, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (heads, news) = watch::channel(0);
        let (counted, opened) = (Arc::clone(&asked), Arc::clone(&open));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counted, opened, news) = (Arc::clone(&counted), Arc::clone(&opened), news.clone());
                tokio::spawn(async move {
                    opened.fetch_add(1, Ordering::SeqCst);
                    serve(stream, manner, &counted, news).await;
                    opened.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, asked, open, heads, task: task.abort_handle() }
    }

    fn push(&self) {
        self.heads.send_modify(|heads| *heads += 1);
    }
}

async fn serve(stream: TcpStream, manner: Manner, asked: &AtomicUsize, mut news: watch::Receiver<u64>) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let Some(Ok(Message::Text(request))) = socket.next().await else { return };
    let request: serde_json::Value = serde_json::from_str(&request).expect("JSON");
    assert_eq!((&request["method"], &request["params"][0]), (&"eth_subscribe".into(), &"newHeads".into()));
    asked.fetch_add(1, Ordering::SeqCst);
    let send = |text: &str| Message::text(text.to_owned());
    if manner == Manner::Refuses {
        let _ = socket.send(send(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"not for you"}}"#)).await;
        return;
    }
    let _ = socket.send(send(r#"{"jsonrpc":"2.0","id":1,"result":"0x7"}"#)).await;
    news.mark_unchanged();
    match manner {
        Manner::Pushes => pushes(&mut socket, news).await,
        Manner::Silent => while let Some(Ok(_)) = socket.next().await {},
        // The connection stays open, and nobody reads it.
        Manner::Dead => std::future::pending().await,
        Manner::Floods => {
            let _ = socket.send(Message::text("x".repeat(300 * 1024))).await;
            while let Some(Ok(_)) = socket.next().await {}
        }
        Manner::Refuses => {}
    }
}

async fn pushes(socket: &mut WebSocketStream<TcpStream>, mut news: watch::Receiver<u64>) {
    // What is not ours, and what is not even JSON, is passed over.
    for text in
        ["nonsense", r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x8","result":{}}}"#]
    {
        let _ = socket.send(Message::text(text)).await;
    }
    loop {
        tokio::select! {
            changed = news.changed() => {
                if changed.is_err() { return }
                let head = r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x7","result":{"number":"0x1"}}}"#;
                if socket.send(Message::text(head)).await.is_err() { return }
            }
            message = socket.next() => if !matches!(message, Some(Ok(_))) { return },
        }
    }
}

/// A listener on a task, and what it did.
struct Listener {
    metrics: Arc<Metrics>,
    rings: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    fn start(servers: &[&Server], options: HintOptions) -> Self {
        let urls = servers.iter().map(|server| server.url.clone()).collect();
        let hints = Hints::new(HintOptions { urls, pipeline: "blocks.main".to_owned(), ..options }).expect("hints");
        let (metrics, rings) = (Metrics::new(), Arc::new(AtomicUsize::new(0)));
        let (figures, rung) = (metrics.clone(), rings.clone());
        let task = tokio::spawn(async move {
            let ring = || {
                rung.fetch_add(1, Ordering::SeqCst);
            };
            hints.listen(&figures, ring).await;
        });
        Self { metrics, rings, task }
    }

    fn rings(&self) -> usize {
        self.rings.load(Ordering::SeqCst)
    }

    fn figure(&self, name: &str) -> Option<u64> {
        let text = self.metrics.render();
        let start = format!("gapless_{name}{{pipeline=\"blocks.main\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).map(|value| value.parse().expect("a number"))
    }
}

fn quick() -> HintOptions {
    let (pause_min, pause_max) = (Duration::from_millis(5), Duration::from_millis(20));
    HintOptions { pause_min, pause_max, ..HintOptions::default() }
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !look() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test]
async fn each_push_rings_and_is_counted() {
    let server = Server::start(Manner::Pushes).await;
    let listener = Listener::start(&[&server], quick());
    until("the subscription, which rings", || listener.rings() == 1).await;
    assert_eq!((listener.figure("blocks_hints_total"), listener.figure("blocks_hints_connected")), (Some(0), Some(1)));
    for rings in 2..5 {
        server.push();
        until("a ring", || listener.rings() == rings).await;
    }
    assert_eq!(listener.figure("blocks_hints_total"), Some(3));
    assert_eq!((server.asked.load(Ordering::SeqCst), listener.figure("blocks_hint_reconnects_total")), (1, Some(0)));
}

#[tokio::test]
async fn a_silent_socket_is_left_for_the_next_address() {
    let (silent, loud) = (Server::start(Manner::Silent).await, Server::start(Manner::Pushes).await);
    let silence = Duration::from_millis(200);
    let listener = Listener::start(&[&silent, &loud], HintOptions { silence, ..quick() });
    until("the second address", || loud.asked.load(Ordering::SeqCst) > 0).await;
    until("the first socket to be closed", || silent.open.load(Ordering::SeqCst) == 0).await;
    assert!(silent.asked.load(Ordering::SeqCst) >= 1 && listener.figure("blocks_hint_reconnects_total") >= Some(1));
}

#[tokio::test]
async fn a_socket_without_a_sign_of_life_is_left() {
    let (dead, loud) = (Server::start(Manner::Dead).await, Server::start(Manner::Pushes).await);
    let ping = Duration::from_millis(100);
    let _listener = Listener::start(&[&dead, &loud], HintOptions { ping, ..quick() });
    until("the second address", || loud.asked.load(Ordering::SeqCst) > 0).await;
}

#[tokio::test]
async fn a_silent_socket_that_answers_pings_is_alive_until_the_silence_is_too_long() {
    let server = Server::start(Manner::Silent).await;
    let options = HintOptions { ping: Duration::from_millis(20), silence: Duration::from_millis(500), ..quick() };
    let began = Instant::now();
    let _listener = Listener::start(&[&server], options);
    until("a second subscription", || server.asked.load(Ordering::SeqCst) == 2).await;
    assert!(began.elapsed() >= Duration::from_millis(500), "left after {:?}, though it answered", began.elapsed());
}

#[tokio::test]
async fn what_is_too_large_or_refused_ends_the_socket_and_another_is_tried() {
    let (refuses, floods) = (Server::start(Manner::Refuses).await, Server::start(Manner::Floods).await);
    let loud = Server::start(Manner::Pushes).await;
    let _listener = Listener::start(&[&refuses, &floods, &loud], quick());
    until("the third address", || loud.asked.load(Ordering::SeqCst) > 0).await;
    assert_eq!((refuses.asked.load(Ordering::SeqCst), floods.asked.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn it_ends_with_its_owner_and_leaves_no_socket() {
    let server = Server::start(Manner::Pushes).await;
    for _ in 0..3 {
        let listener = Listener::start(&[&server], quick());
        until("the subscription", || listener.rings() == 1).await;
        assert_eq!(server.open.load(Ordering::SeqCst), 1);
        listener.task.abort();
        until("the socket to be closed", || server.open.load(Ordering::SeqCst) == 0).await;
        assert_eq!(listener.figure("blocks_hints_connected"), None);
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 3);
}

#[test]
fn rings_are_spaced_out_and_the_last_push_always_rings() {
    let (mut ringer, start) = (Ringer::default(), Instant::now());
    assert_eq!(ringer.due(), None);
    ringer.push(start);
    assert_eq!(ringer.due(), Some(start));
    ringer.rung(start);
    let later = start + Duration::from_millis(10);
    ringer.push(later);
    ringer.push(later + Duration::from_millis(10));
    assert_eq!(ringer.due(), Some(start + RING_PAUSE));
    ringer.rung(start + RING_PAUSE);
    assert_eq!(ringer.due(), None);
}

#[test]
fn addresses_are_bounded_and_hidden() {
    let options = |urls: &[&str]| HintOptions { urls: urls.iter().map(|url| (*url).to_owned()).collect(), ..quick() };
    assert!(Hints::new(options(&[])).err().expect("a fault").contains("name 1 to 64"));
    assert!(Hints::new(options(&["ws://h"; 65])).err().expect("a fault").contains("65 hints"));
    assert!(Hints::new(options(&["ws://h", "http://h"])).err().expect("a fault").contains("hint 2"));
    assert!(!format!("{:?}", options(&["ws://h/s3cret"])).contains("s3cret"));
}
