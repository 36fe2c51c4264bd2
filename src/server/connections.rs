//! Connections: taken in as they come, as many as there is room for, and given up when nobody uses them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::patient::{Patience, Patient};

/// Connections at once; more requests than that could not be queued either.
const MOST: usize = 4096;
/// A connection without a request is kept for this long.
const IDLE: Duration = Duration::from_secs(75);
/// What has just connected is about to ask.
const YOUNG: Duration = Duration::from_secs(1);
/// What to expect of clients that have a request, or an answer.
const PATIENCE: Patience = Patience { head: Duration::from_secs(10), unread: Duration::from_secs(30) };

/// All connections of this server.
#[derive(Clone)]
pub struct Connections {
    room: Arc<Semaphore>,
    /// Told to go: who is idle does so at once, and who waits for an answer once it is whole. Each connection holds a
    /// receiver.
    leave: watch::Sender<()>,
    /// Cancelled when nobody is waited for any more.
    cut: CancellationToken,
}

impl Connections {
    /// As many as the system allows, but for some files that are needed beside them.
    pub fn new() -> Self {
        let most = open_files().map_or(MOST, |files| (files / 2).clamp(1, MOST));
        Self { room: Arc::new(Semaphore::new(most)), leave: watch::Sender::new(()), cut: CancellationToken::new() }
    }

    /// Takes connections in until it is told to stop.
    pub async fn accept(self, listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
        loop {
            let next = async {
                let accepted = listener.accept().await;
                (accepted, self.place().await)
            };
            tokio::select! {
                (accepted, place) = next => match accepted {
                    Ok((stream, _)) => {
                        let served = serve(stream, router.clone(), self.leave.subscribe(), place);
                        drop(tokio::spawn(self.cut.clone().run_until_cancelled_owned(served)));
                    }
                    Err(error) => {
                        // Out of file descriptors, mostly: give the others time to end.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                _ = stopped.changed() => return,
            }
        }
    }

    /// When there is no room, idle connections are closed.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.room.clone().try_acquire_owned() {
            return Some(place);
        }
        tracing::warn!("too many connections: those that are idle are closed");
        self.leave.send(()).ok();
        // The semaphore is never closed.
        self.room.clone().acquire_owned().await.ok()
    }

    /// Closes idle connections, and waits until all others have ended.
    pub async fn end(&self) {
        self.leave.send(()).ok();
        self.leave.closed().await;
    }

    /// Ends all that are left, whatever they are at.
    pub async fn cut(&self) {
        self.cut.cancel();
        self.leave.closed().await;
    }
}

/// `_place` is free again when the connection has ended.
async fn serve(
    stream: TcpStream,
    router: Router,
    mut leave: watch::Receiver<()>,
    _place: Option<OwnedSemaphorePermit>,
) {
    stream.set_nodelay(true).ok();
    let stream = Patient::new(stream, PATIENCE);
    let working = stream.working();
    let service = hyper::service::service_fn(move |request| {
        let (router, working) = (router.clone(), working.begin());
        async move {
            let answer = router.oneshot(request).await;
            drop(working);
            answer
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let grown = sleep_until(Instant::now() + YOUNG);
    let told_to_go = async {
        let told = leave.changed().await;
        grown.await;
        told
    };
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        Ok(()) = told_to_go => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Files that this program may have open, sockets among them: as many as the system lets it have, which is often far more
/// than what programs begin with.
fn open_files() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok())
}
