//! Bounds of every connection to the HTTP door: how many there are, how much one may send, how long it may idle.
//!
//! A client that drips its request, or never reads the answer, is cut; it cannot keep the door from others for longer
//! than [`ANSWER_WITHIN`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at the same time; further ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes after which a connection that was not answered is read no further: request line, headers and body.
pub const REQUEST_BYTES_MAX: usize = 32 * 1024;
/// A connection to which nothing could be written for this long ends, busy or idle.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, so that a process without free descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener that hands out guarded connections, at most [`CONNECTIONS_MAX`] at a time.
pub struct GuardedListener {
    inner: TcpListener,
    room: Arc<Semaphore>,
}

impl GuardedListener {
    /// Guards a listener.
    pub fn new(inner: TcpListener) -> Self {
        Self { inner, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl axum::serve::Listener for GuardedListener {
    type Io = Guarded<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok(permit) = self.room.clone().acquire_owned().await else {
                // Only a closed semaphore refuses, and nobody closes this one.
                std::future::pending::<()>().await;
                continue;
            };
            match self.inner.accept().await {
                Ok((stream, address)) => {
                    // Answers are small and written at once; without it they would merely be a little later.
                    let _ = stream.set_nodelay(true);
                    return (Guarded::new(stream, Some(permit)), address);
                }
                Err(error) => {
                    tracing::debug!(%error, "an HTTP connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// One connection within its bounds.
pub struct Guarded<S> {
    stream: S,
    /// Since the last bytes that were written.
    read: usize,
    end: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S> Guarded<S> {
    fn new(stream: S, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { stream, read: 0, end: Box::pin(tokio::time::sleep(ANSWER_WITHIN)), _permit: permit }
    }

    /// Fails once the time is over; otherwise the task is woken when it is.
    fn check_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer was written in time")),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_time(cx)?;
        if self.read > REQUEST_BYTES_MAX {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too large")));
        }
        let before = buf.filled().len();
        let answer = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read = self.read.saturating_add(buf.filled().len() - before);
        answer
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_time(cx)?;
        let answer = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(1..)) = answer {
            self.read = 0;
            self.end.as_mut().reset(Instant::now() + ANSWER_WITHIN);
        }
        answer
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[actix_rt::test]
    async fn a_client_that_only_sends_is_cut_at_the_bound() {
        let (mut client, server) = duplex(2 * REQUEST_BYTES_MAX);
        let mut server = Guarded::new(server, None);
        client.write_all(&vec![b'x'; REQUEST_BYTES_MAX + 1]).await.expect("room");
        let fault = server.read_to_end(&mut Vec::new()).await.expect_err("too much");
        assert_eq!(fault.kind(), io::ErrorKind::InvalidData);
    }

    #[actix_rt::test]
    async fn an_answer_makes_room_for_the_next_request() {
        let (mut client, server) = duplex(2 * REQUEST_BYTES_MAX);
        let mut server = Guarded::new(server, None);
        let mut request = vec![0; REQUEST_BYTES_MAX];
        for _ in 0..3 {
            client.write_all(&request).await.expect("room");
            server.read_exact(&mut request).await.expect("within the bound");
            server.write_all(b"answer").await.expect("room");
        }
    }

    #[actix_rt::test]
    async fn time_ends_a_connection_that_gets_no_answer() {
        let (_client, server) = duplex(64);
        let mut server = Guarded::new(server, None);
        server.end.as_mut().reset(Instant::now());
        let fault = server.read_u8().await.expect_err("too late");
        assert_eq!(fault.kind(), io::ErrorKind::TimedOut);
    }
}
