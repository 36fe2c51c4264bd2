//! A repository on a registry, as one pull or push sees it: requests with their authorization and redirects, manifests,
//! and blobs as a [`Remote`].

use std::ops::Range;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder, Response, Url};

use super::auth::{self, Challenge, Secret, SharedAuth};
use super::http::{self, HOPS, Http, Named};
use super::transfer::{Remote, ranged};
use super::{PullError, address};
use crate::types::{Digest, ModelName};

const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Bytes of a manifest that are read.
const LONGEST_MANIFEST: usize = 4 << 20;

/// Adds to a request what it needs; called once for each try.
pub(super) type Prepare<'a> = dyn Fn(RequestBuilder) -> RequestBuilder + Sync + 'a;

#[derive(Debug)]
pub(super) struct Registry {
    pub(super) http: Arc<Http>,
    auth: SharedAuth,
    /// Scheme, host and port, and the folder that `/v2/` is in.
    base: Url,
    host: String,
    repository: String,
    reference: String,
    /// A std mutex: held to read or replace the value.
    shown: Mutex<Option<Secret>>,
    /// One 401 is answered at a time: the others then find the token that came of it.
    answering: tokio::sync::Mutex<()>,
    /// What hosts that the registry leads to may be.
    leads: tokio::sync::OnceCell<Named>,
}

impl Registry {
    /// The registry of `name`. `insecure` means plain HTTP, as it does for Ollama.
    ///
    /// A registry on this machine that does not speak TLS is spoken to in plain HTTP without being asked to: what is
    /// said does not leave the machine, and it is what local registries do. All others get HTTPS or nothing.
    pub(super) async fn open(
        http: Arc<Http>,
        auth: SharedAuth,
        name: &ModelName,
        insecure: bool,
    ) -> Result<Self, PullError> {
        let url = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{}/", name.host()));
            url.map_err(|_| PullError::Refused { host: name.host().to_owned(), why: "not the name of a host" })
        };
        let mut base = url(if insecure { "http" } else { "https" })?;
        if !insecure && address::is_loopback(&base) && !http.speaks_tls(&base).await? {
            base = url("http")?;
        }
        Ok(Self::new(http, auth, name, base))
    }

    /// What has the models of `name`'s registry at an address of its own. Only what is meant for that address is shown
    /// there.
    pub(super) fn at(http: Arc<Http>, auth: SharedAuth, name: &ModelName, address: &str) -> Result<Self, PullError> {
        let base = Url::parse(address).ok().filter(Url::has_host);
        let why = "not the address of a registry";
        let base = base.ok_or_else(|| PullError::Refused { host: address.to_owned(), why })?;
        Ok(Self::new(http, auth, name, base))
    }

    fn new(http: Arc<Http>, auth: SharedAuth, name: &ModelName, base: Url) -> Self {
        let shown = match auth.credentials(&http::host_of(&base)) {
            Some(own @ auth::Credentials::Token(_)) => Some(own.header()),
            _ => None,
        };
        Self {
            http,
            auth,
            base,
            host: name.host().to_owned(),
            repository: format!("{}/{}", name.namespace(), name.model()),
            reference: name.tag().to_owned(),
            shown: Mutex::new(shown),
            answering: tokio::sync::Mutex::default(),
            leads: tokio::sync::OnceCell::new(),
        }
    }

    /// Names the registry in the log.
    pub(super) fn address(&self) -> &Url {
        &self.base
    }

    /// `/v2/<repository>/<rest>`.
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/v2/{}/{rest}", self.base.path().trim_end_matches('/'), self.repository));
        url
    }

    pub(super) fn manifest_url(&self) -> Url {
        self.url(&format!("manifests/{}", self.reference))
    }

    pub(super) fn blob_url(&self, digest: &Digest) -> Url {
        self.url(&format!("blobs/{digest}"))
    }

    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Whether a name with this host is one of ours.
    pub(super) fn is_named(&self, host: &str) -> bool {
        self.host.eq_ignore_ascii_case(host)
    }

    fn shown(&self) -> Option<Secret> {
        self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Begins a request: with our authorization at the registry itself, without anywhere else.
    pub(super) async fn begin(&self, method: Method, url: &Url) -> Result<(RequestBuilder, Option<Secret>), PullError> {
        if !self.is_own(url) {
            let leads = self.leads.get_or_init(async || match address::is_private(&self.base).await {
                true => Named::PrivateServer,
                false => Named::PublicServer,
            });
            return Ok((self.http.request(method, url, *leads.await)?, None));
        }
        let request = self.http.request(method, url, Named::User)?;
        match self.shown() {
            Some(secret) => {
                let (name, value) = auth::authorization(&secret)?;
                Ok((request.header(name, value), Some(secret)))
            }
            None => Ok((request, None)),
        }
    }

    /// Answers a 401, so that the next request carries what was asked for.
    pub(super) async fn unlock(&self, response: &Response, refused: Option<&Secret>) -> Result<(), PullError> {
        let challenge = Challenge::read(response.headers()).ok_or(PullError::Unauthorized)?;
        let _one = self.answering.lock().await;
        if self.shown().as_ref() != refused {
            return Ok(());
        }
        let answer = self.auth.answer(&self.http, &self.base, challenge, refused).await?;
        *self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(answer);
        Ok(())
    }

    /// Sends a request whose body is small. A 401 of the registry's is answered: with a token that is at hand, then with
    /// a fresh one.
    pub(super) async fn send(&self, method: Method, url: &Url, prepare: &Prepare<'_>) -> Result<Response, PullError> {
        for _ in 0..3 {
            let (request, shown) = self.begin(method.clone(), url).await?;
            let response = self.http.send(prepare(request)).await?;
            if response.status() != 401 || !self.is_own(url) {
                return Ok(response);
            }
            self.unlock(&response, shown.as_ref()).await?;
        }
        Err(PullError::Unauthorized)
    }

    /// Sends a GET or HEAD and follows where it leads. Gives the last address too.
    pub(super) async fn follow(
        &self,
        method: Method,
        url: Url,
        prepare: &Prepare<'_>,
    ) -> Result<(Response, Url), PullError> {
        let mut url = url;
        for _ in 0..=HOPS {
            let response = self.send(method.clone(), &url, prepare).await?;
            match http::next_hop(&url, &response)? {
                Some(next) => url = next,
                None => return Ok((response, url)),
            }
        }
        Err(PullError::Refused { host: http::host_of(&url), why: "too many redirects" })
    }

    /// The manifest's bytes as they were served.
    pub(super) async fn manifest(&self) -> Result<Vec<u8>, PullError> {
        let accept = |request: RequestBuilder| request.header(ACCEPT, MANIFEST_TYPE);
        let (response, _) = self.follow(Method::GET, self.manifest_url(), &accept).await?;
        match response.status().as_u16() {
            200 => self.http.body(response, LONGEST_MANIFEST).await,
            404 => Err(PullError::NotFound),
            400.. => Err(self.http.refusal(response).await),
            status => Err(PullError::Broken(format!("status {status} for a manifest"))),
        }
    }
}

/// How often a mirror may fail before another is asked in its place.
const CHANCES: u32 = 3;

/// A blob of a registry's, or of one that stands in for it. Where a redirect led is remembered, until it does not answer
/// well.
pub(super) struct RegistryBlob {
    /// Never empty: mirrors in their order, then the registry itself.
    line: Vec<Arc<Registry>>,
    digest: Digest,
    /// A std mutex: held to read or change the value.
    place: Mutex<Place>,
}

/// Who is asked at present.
#[derive(Clone, Debug, Default)]
struct Place {
    index: usize,
    failures: u32,
    direct: Option<Url>,
}

impl RegistryBlob {
    pub(super) fn new(line: Vec<Arc<Registry>>, digest: Digest) -> Self {
        Self { line, digest, place: Mutex::default() }
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Leaves the one at `index` for the next, if that has not been done and there is one.
    fn leave(&self, index: usize) -> bool {
        let mut place = self.place();
        let next = index + 1 < self.line.len();
        if next && place.index == index {
            *place = Place { index: index + 1, ..Place::default() };
        }
        next
    }

    async fn get_from(
        &self,
        index: usize,
        known: Option<Url>,
        range: Option<&Range<u64>>,
        etag: Option<&str>,
    ) -> Result<Response, PullError> {
        let registry = &self.line[index];
        let ask = |request: RequestBuilder| ranged(request, range, etag);
        let start = known.unwrap_or_else(|| registry.blob_url(&self.digest));
        let (response, url) = registry.follow(Method::GET, start, &ask).await?;
        match response.status().as_u16() {
            200 | 206 => {
                let mut place = self.place();
                if place.index == index && !registry.is_own(&url) {
                    place.direct = Some(url);
                }
                Ok(response)
            }
            400.. => Err(registry.http.refusal(response).await),
            status => Err(PullError::Broken(format!("status {status} for a blob"))),
        }
    }
}

impl Remote for RegistryBlob {
    fn get<'a>(
        &'a self,
        range: Option<Range<u64>>,
        etag: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Response, PullError>> {
        async move {
            loop {
                let Place { index, direct, .. } = self.place().clone();
                match self.get_from(index, direct, range.as_ref(), etag).await {
                    Err(error) if self.leave(index) => {
                        tracing::warn!(mirror = %self.line[index].address(), %error, "a mirror is left for the next");
                    }
                    ended => return ended,
                }
            }
        }
        .boxed()
    }

    fn forget(&self) {
        let mut place = self.place();
        place.direct = None;
        place.failures += 1;
        let Place { index, failures, .. } = *place;
        drop(place);
        if failures >= CHANCES {
            self.leave(index);
        }
    }

    fn distrust(&self) -> bool {
        let mut place = self.place();
        let (last, before) = (self.line.len() - 1, place.index);
        if before < last {
            *place = Place { index: last, ..Place::default() };
        }
        last > 0
    }
}
