//! Connections: taken in as they come, as many as there is room for, and given up when nobody uses them. For whom there is
//! none, there is an answer that says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::Rlimit;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::patient::{Meter, Patience, Patient};
use super::queues::Queues;
use super::seats::{Idle, Seat};

/// Connections at once; more requests than that could not be queued either.
const MOST: usize = 4096;
/// Connections that are being told that there is no room for them.
const MOST_REFUSED: usize = 64;
/// That takes this long at the most, whatever such a client does.
const REFUSAL: Duration = Duration::from_secs(2);
/// Bytes of a request's head, and of an answer that its client does not read yet.
const BUFFER: usize = 64 << 10;
/// A connection without a request is kept for this long.
const IDLE: Duration = Duration::from_secs(75);
/// What has just connected is about to ask.
const YOUNG: Duration = Duration::from_secs(1);
/// Connections that were told to go have gone after this long, unless they are asked something.
const GONE: Duration = Duration::from_millis(YOUNG.as_millis() as u64 + 200);
/// Files that are asked for. A system without a bound of its own may still refuse more than it has, as macOS does: then fewer.
/// No more than that: the children inherit it, and some programs walk through all files that they could have.
const FILES: [u64; 2] = [16_384, 10_240];
const OPEN: &str = "the semaphores are never closed: a bug";
/// What to expect of clients that have a request, or an answer.
const PATIENCE: Patience = Patience { head: Duration::from_secs(10), unread: Duration::from_secs(30) };

/// All connections of this server.
#[derive(Clone)]
pub struct Connections {
    room: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    idle: Idle,
    /// Idle ones that did not go when they were told to: the end of an answer is still on its way.
    stuck: Arc<AtomicUsize>,
    /// Somebody was refused since there was room.
    full: Arc<AtomicBool>,
    /// Told to go: who is idle does so at once, and who waits for an answer once it is whole. Each connection holds a
    /// receiver.
    leave: watch::Sender<()>,
    /// Cancelled when nobody is waited for any more.
    cut: CancellationToken,
    queues: Queues,
}

/// Who answers the requests of a listener.
#[derive(Clone)]
pub struct Routers {
    pub usual: Router,
    /// When there are too many connections.
    pub full: Router,
}

/// What becomes of a new connection. The permit goes with it.
enum Place {
    Served(OwnedSemaphorePermit),
    Refused(OwnedSemaphorePermit),
}

impl Connections {
    /// As many as the system allows, but for some files that are needed beside them.
    pub fn new() -> Self {
        let most = open_files().map_or(MOST, |files| (files / 2).clamp(1, MOST));
        Self {
            room: Arc::new(Semaphore::new(most)),
            refusals: Arc::new(Semaphore::new((most / 8).clamp(1, MOST_REFUSED))),
            idle: Idle::default(),
            stuck: Arc::default(),
            full: Arc::default(),
            leave: watch::Sender::new(()),
            cut: CancellationToken::new(),
            queues: Queues::default(),
        }
    }

    /// Takes connections in until it is told to stop.
    pub async fn accept(self, listener: TcpListener, routers: Routers, mut stopped: watch::Receiver<bool>) {
        loop {
            let next = async {
                let accepted = listener.accept().await;
                (accepted, self.place().await)
            };
            tokio::select! {
                (accepted, place) = next => match accepted {
                    Ok((stream, client)) => self.take(stream, client, &routers, place),
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

    /// When there is no room, connections that wait for a request are closed. When there are none, who comes is refused;
    /// only behind many others who are just being refused does he wait.
    async fn place(&self) -> Place {
        if let Ok(place) = self.room.clone().try_acquire_owned() {
            self.full.store(false, Ordering::Relaxed);
            return Place::Served(place);
        }
        let room = self.room.clone().acquire_owned();
        tokio::pin!(room);
        let idle = self.idle.count();
        let stuck = self.stuck.fetch_min(idle, Ordering::Relaxed).min(idle);
        if idle > 0 {
            tracing::debug!("too many connections: those that are idle are closed");
            self.leave.send(()).ok();
        }
        if idle > stuck {
            if let Ok(place) = timeout(GONE, room.as_mut()).await {
                return Place::Served(place.expect(OPEN));
            }
            self.stuck.store(self.idle.count(), Ordering::Relaxed);
        }
        tokio::select! {
            biased;
            place = room => Place::Served(place.expect(OPEN)),
            place = self.refusals.clone().acquire_owned() => {
                if !self.full.swap(true, Ordering::Relaxed) {
                    tracing::warn!("too many connections, all of them in use: others are refused");
                }
                Place::Refused(place.expect(OPEN))
            }
        }
    }

    fn take(&self, stream: TcpStream, client: SocketAddr, routers: &Routers, place: Place) {
        stream.set_nodelay(true).ok();
        let seat = match place {
            Place::Served(_) => self.idle.seat(),
            // Nobody's place can be had by closing this one.
            Place::Refused(_) => Idle::default().seat(),
        };
        let (queues, ours) = (self.queues.clone(), stream.local_addr().ok());
        let meter: Meter = Arc::new(move || {
            let queues = queues.clone();
            Box::pin(async move { queues.unread(ours?, client).await })
        });
        let stream = Patient::new(stream, PATIENCE, meter, seat.clone());
        let leave = self.leave.subscribe();
        match place {
            Place::Served(place) => {
                let served = serve(stream, seat, routers.usual.clone(), leave, place);
                drop(tokio::spawn(self.cut.clone().run_until_cancelled_owned(served)));
            }
            Place::Refused(place) => {
                let refusal = serve(stream, seat, routers.full.clone(), leave, place);
                drop(tokio::spawn(timeout(REFUSAL, refusal)));
            }
        }
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
    stream: Patient<TcpStream>,
    seat: Seat,
    router: Router,
    mut leave: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
) {
    let working = stream.working();
    let service = hyper::service::service_fn(move |request| {
        let (router, working, asked) = (router.clone(), working.begin(), seat.ask());
        async move {
            let answer = router.oneshot(request).await;
            drop(working);
            // Its body is dropped when it was sent, and what the closure holds with it.
            let held = move |error| {
                let _asked = &asked;
                error
            };
            answer.map(|answer| answer.map(|body| body.map_err(held)))
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(BUFFER);
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

/// Files that this program may have open, sockets among them: more than what programs begin with, where the system lets it.
fn open_files() -> Option<usize> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    for files in FILES {
        let limit = getrlimit(Resource::Nofile);
        let Some(more) = raised(limit, files) else { break };
        if setrlimit(Resource::Nofile, more).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok())
}

/// A limit of so many files, or as near as the system's own bound lets it come, unless that is no more than now.
fn raised(limit: Rlimit, files: u64) -> Option<Rlimit> {
    let files = limit.maximum.map_or(files, |most| files.min(most));
    limit.current.is_some_and(|now| now < files).then_some(Rlimit { current: Some(files), ..limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_files_is_raised_and_never_lowered() {
        let after =
            |current, maximum| raised(Rlimit { current, maximum }, 16_384).map(|limit| (limit.current, limit.maximum));
        assert_eq!(after(Some(256), None), Some((Some(16_384), None)));
        assert_eq!(after(Some(1024), Some(524_288)), Some((Some(16_384), Some(524_288))));
        assert_eq!(after(Some(1024), Some(4096)), Some((Some(4096), Some(4096))));
        for high in [Some(256), Some(16_384), Some(1_000_000), None] {
            assert_eq!(after(high, Some(256).max(high)), None);
        }
    }
}
