//! Fetching what of a blob is missing: several connections that share the work, each patient for as long as anybody gets on.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use reqwest::Response;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::{PullError, PullSettings};
use super::Remote;
use super::job::{Claim, Job, Seen};
use super::rate::Rate;
use super::reply::{Body, Content, content, strong_etag};

/// Bytes of one connection that are written in one go: what a killed process may lose of it.
const BUFFER: usize = 1 << 20;
/// Nor do they wait longer than this.
const HOLD: Duration = Duration::from_secs(1);
/// Between two looks of an idle connection at what others do.
const LOOK: Duration = Duration::from_millis(100);
/// An attempt that brought less than this does not end the growing of the waits, but keeps them short.
const WORTH: u64 = 64 << 10;
const SHORT_STREAK: u32 = 3;
const LONGEST_BACKOFF: Duration = Duration::from_secs(32);
/// Bytes a second for which one connection will do.
const ONE_STREAM: u64 = 1 << 20;

/// What the server has shown that it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Unknown,
    Ranges,
    /// It sends all of a blob, whatever is asked.
    Whole,
}

/// What all connections of a transfer have in common.
struct Line<'a> {
    job: &'a Arc<Job>,
    remote: &'a dyn Remote,
    rates: &'a [Arc<Rate>],
    mode: watch::Sender<Mode>,
}

/// Fetches all that is missing: one connection at first, several once the server has answered with a range.
pub(super) async fn fetch(job: &Arc<Job>, remote: &dyn Remote, rates: &[Arc<Rate>]) -> Result<(), PullError> {
    let line = Line { job, remote, rates, mode: watch::channel(Mode::Unknown).0 };
    let limit = rates.iter().filter_map(|rate| rate.limit()).min();
    let enough = limit.map_or(usize::MAX, |limit| usize::try_from(limit / ONE_STREAM).unwrap_or(usize::MAX));
    let streams = job.settings.streams.min(enough).max(1);
    let connections = (0..streams).map(|number| line.work(number == 0).boxed());
    let unasked = try_join_all(connections).await?.into_iter().flatten().next();
    if job.is_complete() {
        return Ok(());
    }
    line.whole(unasked).await
}

impl Line<'_> {
    /// Notes what the server can do, if nothing is known yet.
    fn show(&self, can: Mode) {
        self.mode.send_if_modified(|mode| {
            let news = *mode == Mode::Unknown;
            if news {
                *mode = can;
            }
            news
        });
    }

    /// Work for a connection. Until the server has shown what it can do, one has all that is free; others may only try
    /// to do better with it.
    fn claim(&self, leads: bool) -> Option<Claim> {
        let ranges = *self.mode.borrow() == Mode::Ranges;
        let free = if ranges || leads { self.job.free() } else { None };
        let half = || if ranges { self.job.half() } else { None };
        free.or_else(half).or_else(|| self.job.race())
    }

    /// Fetches until nothing is left, or until the server sends everything instead: then gives that answer.
    async fn work(&self, leads: bool) -> Result<Option<Response>, PullError> {
        let mut patience = Patience::new(self.job);
        loop {
            self.job.paused().await;
            let changed = self.job.changed.notified();
            if self.job.is_complete() || *self.mode.borrow() == Mode::Whole {
                return Ok(None);
            }
            let Some(claim) = self.claim(leads) else {
                tokio::time::timeout(LOOK, changed).await.ok();
                continue;
            };
            let (start, mut at) = (claim.range.start, claim.range.start);
            let ended = self.attempt(&claim, &mut at).await;
            drop(claim);
            match ended {
                Ok(None) => patience = Patience::new(self.job),
                Ok(unasked) => {
                    self.mode.send_replace(Mode::Whole);
                    self.job.changed.notify_waiters();
                    return Ok(unasked);
                }
                Err(error) => patience.wait(self, error, at - start).await?,
            }
        }
    }

    async fn attempt(&self, claim: &Claim, at: &mut u64) -> Result<Option<Response>, PullError> {
        let job = self.job;
        let asked = Some(claim.range.clone()).filter(|range| *range != (0..job.size()));
        let Some((response, known)) = self.ask(claim, asked.as_ref()).await? else { return Ok(None) };
        let seen = job.see(response.url().host_str().unwrap_or_default(), strong_etag(response.headers()));
        if seen == Seen::Changed && !job.mix() {
            return Err(PullError::Changed);
        }
        // All of it, because it is not what we have a part of: by its name. The hash will tell whether it is.
        if seen != Seen::Same && known && response.status() == 200 {
            return Ok(None);
        }
        match content(&response, asked.as_ref(), &job.wanted.key, job.size())? {
            Content::All if asked.is_some() => return Ok(Some(response)),
            Content::All => {}
            Content::Part(_) => self.show(Mode::Ranges),
        }
        self.pump(response, claim, at).await.map(|()| None)
    }

    /// The answer, and whether it was asked for only if the content has the name it had. `None` when another connection
    /// has brought the bytes meanwhile.
    async fn ask(&self, claim: &Claim, asked: Option<&Range<u64>>) -> Result<Option<(Response, bool)>, PullError> {
        let etag = self.job.etag().filter(|_| asked.is_some());
        let response = self.remote.get(asked.cloned(), etag.as_deref());
        tokio::select! {
            response = response => Ok(Some((response?, etag.is_some()))),
            () = claim.over() => Ok(None),
        }
    }

    /// Fetches the blob from its beginning until the gaps are filled: all that a server without ranges allows.
    async fn whole(&self, mut unasked: Option<Response>) -> Result<(), PullError> {
        let job = self.job;
        let mut patience = Patience::new(job);
        while !job.is_complete() {
            job.paused().await;
            let before = job.received();
            let claim = job.whole();
            let response = match unasked.take() {
                Some(response) => Ok(response),
                None => self.remote.get(None, None).await,
            };
            let ended = match response {
                Ok(response) => match content(&response, None, &job.wanted.key, job.size()) {
                    Ok(_) => self.pump(response, &claim, &mut 0).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            drop(claim);
            if let Err(error) = ended {
                patience.wait(self, error, job.received() - before).await?;
            }
        }
        Ok(())
    }

    /// Moves a body into the file, from `at` on and not beyond the end of the claim. What came before an error is kept.
    async fn pump(&self, response: Response, claim: &Claim, at: &mut u64) -> Result<(), PullError> {
        let job = self.job;
        job.note_answer();
        let mut body = Body::new(response, &job.settings);
        let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER / 4);
        let mut held = Instant::now();
        let (mut end, mut overtaken) = (claim.got(0), false);
        let read = loop {
            let cut = end < claim.range.end;
            let room = end.saturating_sub(*at + buffer.len() as u64);
            if room == 0 && (cut || body.ends_by_itself()) {
                break Ok(());
            }
            claim.wait();
            let chunk = tokio::select! {
                chunk = body.next() => chunk,
                () = claim.over() => {
                    overtaken = true;
                    break Ok(());
                }
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            for rate in self.rates {
                rate.take(chunk.len() as u64).await;
            }
            end = claim.got(chunk.len() as u64);
            let room = usize::try_from(end.saturating_sub(*at + buffer.len() as u64)).unwrap_or(usize::MAX);
            if chunk.len() > room && end == claim.range.end {
                break Err(PullError::Size { digest: job.wanted.key, expected: job.size(), actual: "more".into() });
            }
            buffer.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if buffer.len() >= BUFFER || held.elapsed() >= HOLD {
                let length = buffer.len() as u64;
                buffer = claim.store(*at, buffer).await?;
                *at += length;
                held = Instant::now();
            }
        };
        let length = buffer.len() as u64;
        claim.store(*at, buffer).await?;
        *at += length;
        match read {
            Err(error @ PullError::Size { .. }) => Err(error),
            _ if overtaken || *at >= claim.got(0) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(PullError::Transport("unexpected EOF".into())),
        }
    }
}

/// How often one connection fails before all is given up: only attempts during which nobody got on count.
struct Patience {
    fruitless: u32,
    streak: u32,
    seen: u64,
}

impl Patience {
    fn new(job: &Job) -> Self {
        Self { fruitless: 0, streak: 0, seen: job.received() }
    }

    /// Waits before another try, or gives up.
    async fn wait(&mut self, line: &Line<'_>, error: PullError, got: u64) -> Result<(), PullError> {
        let job = line.job;
        line.remote.forget();
        let received = job.received();
        let others = matches!(error, PullError::Size { .. }) && line.remote.distrust();
        if !others && (!error.is_transient() || (error.is_refusal() && !job.is_answered())) {
            return Err(error);
        }
        self.fruitless = if received > self.seen { 0 } else { self.fruitless + 1 };
        self.seen = received;
        if self.fruitless > job.settings.retries {
            return Err(PullError::Retries(Arc::new(error)));
        }
        tracing::debug!(blob.digest = %job.wanted.key, %error, "a connection is tried again");
        self.streak = match got {
            WORTH.. => 0,
            0 => self.streak + 1,
            _ => (self.streak + 1).min(SHORT_STREAK),
        };
        if let Some(wait) = error.retry_after() {
            job.pause(wait);
            return Ok(());
        }
        tokio::time::sleep(backoff(&job.settings, self.streak)).await;
        Ok(())
    }
}

/// The wait after `failures` in a row: doubled each time, and shaken so that connections do not march in step.
pub(in super::super) fn backoff(settings: &PullSettings, failures: u32) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    if failures == 0 {
        return Duration::ZERO;
    }
    let wait = settings.backoff.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_BACKOFF);
    let shake = (RandomState::new().hash_one(failures) % 512) as f64 / 1024.0;
    wait.mul_f64(0.75 + shake)
}
