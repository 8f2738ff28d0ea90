//! One connection: handshake, subscription, pushes, signs of life, and why it ended.

use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::Instant as Clock;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::address::Address;
use super::pace::Silence;
use super::{HintOptions, Ringer};
use crate::sources::tls;

/// The largest message that is read: a header is two kilobytes.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// What is read and written at a time.
const BUFFER_BYTES: usize = 16 * 1024;
/// Foreign words of an error that are repeated.
const WORDS_MAX: usize = 200;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What is heard from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The subscription stands.
    Subscribed,
    /// A head was pushed.
    Push,
    /// It is time to look.
    Ring,
}

/// Listens to one address until it fails or is silent for too long, and answers why it ended.
pub(super) async fn listen(
    address: &Address,
    options: &HintOptions,
    silence: &mut Silence,
    mut tell: impl FnMut(Heard),
) -> String {
    silence.begin();
    let subscribed = tokio::time::timeout(options.connect_timeout, subscribe(address)).await;
    let (mut socket, subscription) = match subscribed {
        Ok(Ok(subscribed)) => subscribed,
        Ok(Err(reason)) => return reason,
        Err(_) => return format!("no subscription within {:?}", options.connect_timeout),
    };
    tell(Heard::Subscribed);
    let reason = pushes(&mut socket, &subscription, options, silence, &mut tell).await;
    // Politely, if that takes no time.
    let _ = tokio::time::timeout(super::RING_PAUSE, socket.close(None)).await;
    reason
}

/// Subscribes once and hangs up; the fault, if that does not come about in time.
pub(super) async fn try_out(address: &Address, options: &HintOptions) -> Result<(), String> {
    match tokio::time::timeout(options.connect_timeout, subscribe(address)).await {
        Ok(Ok((mut socket, _))) => {
            let _ = tokio::time::timeout(super::RING_PAUSE, socket.close(None)).await;
            Ok(())
        }
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err(format!("no subscription within {:?}", options.connect_timeout)),
    }
}

/// Opens the socket and subscribes to new heads.
async fn subscribe(address: &Address) -> Result<(Socket, String), String> {
    if address.is_tls() {
        tls::install();
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let connected = connect_async_with_config(address.request()?, Some(config), true).await;
    let (mut socket, _) = connected.map_err(|e| e.to_string())?;
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#;
    socket.send(Message::text(request)).await.map_err(|e| e.to_string())?;
    loop {
        let message = next(&mut socket).await?;
        match parse(&message) {
            Word::Subscribed(subscription) => return Ok((socket, subscription)),
            Word::Refused(words) => return Err(format!("eth_subscribe is refused: {words}")),
            Word::Push(_) | Word::Other => {}
        }
    }
}

/// Reads pushes until the socket ends, or the chain seems to stand still.
async fn pushes(
    socket: &mut Socket,
    subscription: &str,
    options: &HintOptions,
    silence: &mut Silence,
    tell: &mut impl FnMut(Heard),
) -> String {
    let mut ringer = Ringer::default();
    let reason = hear(socket, subscription, options, silence, &mut ringer, tell).await;
    if ringer.due().is_some() {
        tell(Heard::Ring);
    }
    reason
}

async fn hear(
    socket: &mut Socket,
    subscription: &str,
    options: &HintOptions,
    silence: &mut Silence,
    ringer: &mut Ringer,
    tell: &mut impl FnMut(Heard),
) -> String {
    let (mut pushed, mut alive) = (Instant::now(), true);
    let mut ping = tokio::time::interval_at(Clock::now() + options.ping, options.ping);
    loop {
        let limit = silence.limit();
        tokio::select! {
            message = next(socket) => match message.map(|message| parse(&message)) {
                Ok(Word::Push(of)) if of == subscription => {
                    let now = Instant::now();
                    (pushed, alive) = (now, true);
                    silence.push(now);
                    ringer.push(now);
                    tell(Heard::Push);
                }
                Ok(_) => alive = true,
                Err(reason) => return reason,
            },
            () = until(ringer.due()) => {
                ringer.rung(Instant::now());
                tell(Heard::Ring);
            }
            () = until(Some(pushed + limit)) => return format!("silent for {limit:?}"),
            _ = ping.tick() => {
                if !alive {
                    return format!("no sign of life for {:?}", options.ping);
                }
                alive = false;
                if let Err(error) = socket.send(Message::Ping(Vec::new().into())).await {
                    return error.to_string();
                }
            }
        }
    }
}

/// Waits for a time; for ever if there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// The next message; empty for one that is only a sign of life. Pings are answered by the library.
async fn next(socket: &mut Socket) -> Result<Vec<u8>, String> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Ok(text.as_bytes().to_vec()),
        Some(Ok(Message::Binary(bytes))) => Ok(bytes.to_vec()),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Vec::new()),
        Some(Ok(Message::Close(_))) | None => Err("closed by the other side".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
    }
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// Our subscription, with its id.
    Subscribed(String),
    /// There is none.
    Refused(String),
    /// A push of a subscription.
    Push(String),
    /// Nothing for us.
    Other,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    result: Option<serde_json::Value>,
    #[serde(default)]
    error: Option<serde_json::Value>,
    #[serde(default)]
    params: Option<Params>,
}

#[derive(Deserialize)]
struct Params {
    subscription: serde_json::Value,
}

/// Reads hostile bytes. The header that a push carries is not even looked at.
fn parse(bytes: &[u8]) -> Word {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(bytes) else { return Word::Other };
    match envelope {
        Envelope { method: Some(method), params: Some(params), .. } if method == "eth_subscription" => {
            Word::Push(params.subscription.to_string())
        }
        Envelope { id: Some(1), error: Some(error), .. } => {
            let words = error.get("message").and_then(|message| message.as_str()).map(str::to_owned);
            Word::Refused(words.unwrap_or_else(|| error.to_string()).chars().take(WORDS_MAX).collect())
        }
        Envelope { id: Some(1), result: Some(result), .. } if !result.is_null() => Word::Subscribed(result.to_string()),
        _ => Word::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_told_apart() {
        for (text, word) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":"0x9c"}"#, Word::Subscribed("\"0x9c\"".to_owned())),
            (
                r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x9c","result":{"number":"0x1"}}}"#,
                Word::Push("\"0x9c\"".to_owned()),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}"#,
                Word::Refused("no such method".to_owned()),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, Word::Other),
            (r#"{"jsonrpc":"2.0","id":2,"result":"0x9c"}"#, Word::Other),
            (r#"{"method":"eth_subscription","params":{}}"#, Word::Other),
            ("", Word::Other),
        ] {
            assert_eq!(parse(text.as_bytes()), word, "{text}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = (parse(&bytes), parse(text.as_bytes()));
        }
    }
}
