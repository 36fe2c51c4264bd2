//! A web site that is no registry, as one pull sees it: requests with their redirects, and its files as [`Remote`]s.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, Url};

use super::auth::{self, Secret};
use super::http::{self, HOPS, Http, Named};
use super::transfer::{Remote, backoff, ranged};
use super::{PullError, PullSettings, address};

pub(super) struct Site {
    http: Arc<Http>,
    /// Scheme, host and port of this are the site.
    origin: Url,
    named: Named,
    /// Shown to the site, and to nobody it leads to.
    secret: Option<Secret>,
    /// What hosts that the site leads to may be.
    leads: tokio::sync::OnceCell<Named>,
}

/// An answer, and what was learnt on the way to it.
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) url: Url,
    /// The head of the last answer that the site itself gave; `None` when it was not asked.
    pub(super) told: Option<HeaderMap>,
}

impl Site {
    pub(super) fn new(http: Arc<Http>, origin: Url, named: Named, secret: Option<Secret>) -> Self {
        Self { http, origin, named, secret, leads: tokio::sync::OnceCell::new() }
    }

    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.origin.origin()
    }

    pub(super) fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    async fn begin(&self, url: &Url) -> Result<RequestBuilder, PullError> {
        if self.is_own(url) {
            let request = self.http.request(Method::GET, url, self.named)?;
            return Ok(match &self.secret {
                Some(secret) => {
                    let (name, value) = auth::authorization(secret)?;
                    request.header(name, value)
                }
                None => request,
            });
        }
        let leads = self.leads.get_or_init(async || match self.named {
            Named::PublicServer => Named::PublicServer,
            _ if address::is_private(&self.origin).await => Named::PrivateServer,
            _ => Named::PublicServer,
        });
        self.http.request(Method::GET, url, *leads.await)
    }

    /// Asks for `url`, or a range of it, and follows where that leads.
    pub(super) async fn get(
        &self,
        url: Url,
        range: Option<&Range<u64>>,
        etag: Option<&str>,
    ) -> Result<Answer, PullError> {
        let (mut url, mut told) = (url, None);
        for _ in 0..=HOPS {
            let request = ranged(self.begin(&url).await?, range, etag);
            let response = self.http.send(request).await?;
            if self.is_own(&url) {
                told = Some(response.headers().clone());
            }
            match http::next_hop(&url, &response)? {
                Some(next) => url = next,
                None => return Ok(Answer { response, url, told }),
            }
        }
        Err(PullError::Refused { host: http::host_of(&url), why: "too many redirects" })
    }

    /// As [`Site::get`], of what is asked for before a transfer. A server that cannot be reached is told at once; one
    /// that is busy gets time. Other refusals are the caller's.
    pub(super) async fn ask(
        &self,
        settings: &PullSettings,
        url: &Url,
        range: Option<&Range<u64>>,
    ) -> Result<Answer, PullError> {
        let mut failures = 0;
        loop {
            let answer = self.get(url.clone(), range, None).await?;
            let busy = matches!(answer.response.status().as_u16(), 408 | 425 | 429 | 500..);
            if !busy || failures == settings.retries {
                return Ok(answer);
            }
            failures += 1;
            let error = self.refusal(answer.response).await;
            tokio::time::sleep(error.retry_after().unwrap_or_else(|| backoff(settings, failures))).await;
        }
    }

    pub(super) async fn body(&self, response: Response, limit: usize) -> Result<Vec<u8>, PullError> {
        self.http.body(response, limit).await
    }

    /// The error that a response of status 400 and above is: without what the server wrote, which whoever named the
    /// address may have no business to read.
    pub(super) async fn refusal(&self, response: Response) -> PullError {
        let reason = response.status().canonical_reason().unwrap_or("refused").to_ascii_lowercase();
        match self.http.refusal(response).await {
            PullError::Status { status, retry_after, .. } => PullError::Status { status, body: reason, retry_after },
            other => other,
        }
    }
}

/// Says whether an answer is of the file that was meant, or what a refusal means.
pub(super) type Judge = Box<dyn Fn(&Answer) -> Result<(), PullError> + Send + Sync>;

/// A file of a site's. Where a redirect led is remembered, until it does not answer well.
pub(super) struct SiteFile {
    site: Arc<Site>,
    url: Url,
    judge: Judge,
    /// A std mutex: held to read or replace the value.
    direct: Mutex<Option<Url>>,
}

impl SiteFile {
    pub(super) fn new(site: Arc<Site>, url: Url, judge: Judge) -> Self {
        Self { site, url, judge, direct: Mutex::default() }
    }

    fn direct(&self) -> std::sync::MutexGuard<'_, Option<Url>> {
        self.direct.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Remote for SiteFile {
    fn get<'a>(
        &'a self,
        range: Option<Range<u64>>,
        etag: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Response, PullError>> {
        async move {
            let known = self.direct().clone();
            let answer = self.site.get(known.unwrap_or_else(|| self.url.clone()), range.as_ref(), etag).await?;
            (self.judge)(&answer)?;
            match answer.response.status().as_u16() {
                200 | 206 => {
                    if !self.site.is_own(&answer.url) {
                        *self.direct() = Some(answer.url);
                    }
                    Ok(answer.response)
                }
                400.. => Err(self.site.refusal(answer.response).await),
                status => Err(PullError::Broken(format!("status {status} for a file"))),
            }
        }
        .boxed()
    }

    fn forget(&self) {
        *self.direct() = None;
    }
}
