//! Hints: keys that keyspace events tell of, where the server sends some. Nothing rests on them: a look finds every stream.
//!
//! The server's configuration is read and never changed. What is subscribed to is matched by the server, pattern by
//! pattern; where it only tells events by their kind, the kinds that make streams are.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::messages::sync::StreamName;
use crate::wire::{Door, Nodes, Reply, Request, WireError};

/// Before a server is asked again that sends no events, or was lost.
const AGAIN: Duration = Duration::from_secs(60);
/// Without an event for so long, the connection is asked whether it is there.
const QUIET: Duration = Duration::from_secs(15);
/// Keys that wait for the scout.
const KEYS_MAX: usize = 1000;
/// Events in a second that are too many to be a hint: then they are let go of for a while.
const EVENTS_MAX: u32 = 20_000;
/// What may have made a stream.
const MAKERS: [&str; 6] = ["xadd", "new", "rename_to", "restore", "copy_to", "xgroup-create"];

/// A listener at work; it ends when this is dropped.
pub struct Hints {
    keys: Rc<RefCell<BTreeSet<StreamName>>>,
    task: actix_rt::task::JoinHandle<()>,
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hints {
    /// Begins to listen for keys of these patterns that `is_new` says are not known; `bell` is rung for each.
    pub fn start(
        door: Door,
        patterns: Vec<String>,
        is_new: impl Fn(&StreamName) -> bool + 'static,
        bell: impl Fn() + 'static,
    ) -> Self {
        let keys: Rc<RefCell<BTreeSet<StreamName>>> = Rc::default();
        let told = keys.clone();
        let hear = move |name: StreamName| {
            let mut keys = told.borrow_mut();
            if keys.len() < KEYS_MAX && is_new(&name) && keys.insert(name) {
                bell();
            }
        };
        let task = actix_rt::spawn(async move {
            loop {
                match listen_everywhere(&door, &patterns, &hear).await {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(source = door.address(), %error, "keyspace events are not heard"),
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { keys, task }
    }

    /// The keys that were told since the last time.
    pub fn take(&self) -> BTreeSet<StreamName> {
        std::mem::take(&mut self.keys.borrow_mut())
    }
}

/// Every node of a cluster tells of its own keys.
async fn listen_everywhere(door: &Door, patterns: &[String], hear: &impl Fn(StreamName)) -> Result<(), WireError> {
    let (nodes, _) = Nodes::find(door, 0).await?;
    let doors: Vec<Door> = nodes.all().iter().map(|node| nodes.door(node)).collect();
    try_join_all(doors.iter().map(|door| listen(door, patterns, hear))).await.map(drop)
}

/// Ends where the server sends no events, or too many.
async fn listen(door: &Door, patterns: &[String], hear: &impl Fn(StreamName)) -> Result<(), WireError> {
    let (mut line, _) = door.open(0).await?;
    let setting = line.call(&[b"CONFIG", b"GET", b"notify-keyspace-events"]).await?;
    let flags = setting.list().get(1).map(Reply::text).unwrap_or_default();
    let channels = channels(&flags, patterns);
    if channels.is_empty() {
        return Ok(());
    }
    let mut request = Request::new();
    channels.iter().for_each(|channel| {
        request.command(&[b"PSUBSCRIBE", channel.as_bytes()]);
    });
    line.all(&request).await?;
    let (mut began, mut count) = (Instant::now(), 0u32);
    let mut quiet = false;
    loop {
        let Some(reply) = line.pushed(QUIET).await? else {
            if quiet {
                return Err(line.nonsense("no answer to a PING"));
            }
            quiet = true;
            line.send(&Request::of(&[b"PING"])).await?;
            continue;
        };
        quiet = false;
        if let [_, _, channel, payload] = reply.list()
            && let Some(name) = heard(channel.bytes(), payload.bytes())
        {
            hear(name);
        }
        if began.elapsed() >= Duration::from_secs(1) {
            (began, count) = (Instant::now(), 0);
        }
        count += 1;
        if count > EVENTS_MAX {
            tracing::info!(source = door.address(), "more keyspace events than a hint is worth; looks find streams");
            return Ok(());
        }
    }
}

/// What to subscribe to, by the server's setting; nothing where it sends nothing of use.
fn channels(flags: &str, patterns: &[String]) -> Vec<String> {
    let has = |flag: char| flags.contains(flag);
    if !(has('t') || has('A') || has('n')) {
        return Vec::new();
    }
    if has('K') {
        return patterns.iter().map(|pattern| format!("__keyspace@*__:{pattern}")).collect();
    }
    // By kind alone: the kinds that only streams have.
    let kinds = ["xadd", "xgroup-create"].map(|kind| format!("__keyevent@*__:{kind}"));
    if has('E') && (has('t') || has('A')) { kinds.to_vec() } else { Vec::new() }
}

/// The key that an event is about, if it may have made a stream.
fn heard(channel: &[u8], payload: &[u8]) -> Option<StreamName> {
    let rest = |beginning: &[u8]| channel.strip_prefix(beginning);
    let (is_keyspace, rest) = match (rest(b"__keyspace@"), rest(b"__keyevent@")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return None,
    };
    let end = rest.windows(3).position(|bytes| bytes == b"__:")?;
    let db = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let behind = &rest[end + 3..];
    let (event, key) = if is_keyspace { (payload, behind) } else { (behind, payload) };
    MAKERS.iter().any(|maker| maker.as_bytes() == event).then(|| StreamName { db, key: key.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_sends_is_subscribed_to() {
        let patterns = ["a*".to_owned(), "b".to_owned()];
        assert_eq!(channels("", &patterns), Vec::<String>::new());
        assert_eq!(channels("KEx", &patterns), Vec::<String>::new());
        assert_eq!(channels("AKE", &patterns), ["__keyspace@*__:a*", "__keyspace@*__:b"]);
        assert_eq!(channels("Et", &patterns), ["__keyevent@*__:xadd", "__keyevent@*__:xgroup-create"]);
    }

    #[test]
    fn an_event_names_its_stream() {
        let name = |db, key: &[u8]| Some(StreamName { db, key: key.to_vec() });
        assert_eq!(heard(b"__keyspace@3__:a__:b\xff", b"xadd"), name(3, b"a__:b\xff"));
        assert_eq!(heard(b"__keyevent@0__:xadd", b"key"), name(0, b"key"));
        assert_eq!(heard(b"__keyspace@3__:a", b"del"), None);
        assert_eq!(heard(b"news", b"xadd"), None);
        assert_eq!(heard(b"__keyspace@x__:a", b"xadd"), None);
    }
}
