//! The Hugging Face hub: what a repository has at one commit, and its files, each held to the hash that git or LFS has of
//! it.

use std::sync::Arc;

use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::assemble::RemoteFile;
use super::auth::{Credentials, Secret};
use super::http::{self, Named};
use super::pick::pick;
use super::repository::Repository;
use super::site::{Answer, Site, SiteFile};
use super::transfer::{GitHash, Wanted, blocking};
use super::{PullError, PullEvent, Puller, address, hub_cache};
use crate::store::is_clean_path;
use crate::types::{Digest, ModelName};

/// Bytes of an answer of the API that are read.
const LONGEST: usize = 32 << 20;
/// A list of files comes in pages of a thousand.
const MOST_PAGES: usize = 20;
/// Bytes of a token file that are read.
const LONGEST_TOKEN: u64 = 64 << 10;

const GATED: &str = "GatedRepo";
const GATED_WHY: &str = "its owner gives access to those who ask for it on its page, and to their tokens";

/// The hub, and what it is shown.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Its address, or a mirror's.
    pub endpoint: String,
    pub token: Option<Secret>,
    /// Where a token stands that the hub's own tools wrote; read when there is no other.
    pub token_file: Option<std::path::PathBuf>,
    /// Where those tools keep what they fetched; read, and never written.
    pub cache: Option<std::path::PathBuf>,
    /// It is not to be asked at all.
    pub offline: bool,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { endpoint: "https://huggingface.co".into(), token: None, token_file: None, cache: None, offline: false }
    }
}

#[derive(Deserialize)]
struct Info {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: String,
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Entry {
    fn wanted(&self) -> Result<Wanted, PullError> {
        let wrong = || PullError::Broken(format!("the hash of `{}` is none", self.path));
        match &self.lfs {
            Some(lfs) => Ok(Wanted::digest(format!("sha256:{}", lfs.oid).parse().map_err(|_| wrong())?, lfs.size)),
            None => Ok(Wanted::git(GitHash::parse(&self.oid).ok_or_else(wrong)?, self.size)),
        }
    }
}

impl Puller {
    /// Brings a repository's files in, and makes them the model `name`.
    pub(super) fn pull_repository(
        &self,
        repository: Repository,
        name: ModelName,
    ) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        let puller = self.clone();
        try_stream! {
            yield PullEvent::Manifest;
            let files = puller.repository_files(&repository).await.map_err(|error| error.of_repository(&repository))?;
            let mut events = std::pin::pin!(puller.assemble(name, files));
            while let Some(event) = events.next().await {
                yield event.map_err(|error| error.of_repository(&repository))?;
            }
        }
    }

    pub(super) fn hub_endpoint(&self) -> Result<Url, PullError> {
        let endpoint = &self.settings().hub.endpoint;
        let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.ok_or_else(|| PullError::Hub(format!("its address `{endpoint}` is none")))
    }

    /// The hub. A token is not sent where others can read it.
    pub(super) async fn hub_site(&self, endpoint: Url) -> Result<Site, PullError> {
        if self.settings().hub.offline {
            return Err(PullError::Hub("HF_HUB_OFFLINE is set".into()));
        }
        let mut secret = None;
        if endpoint.scheme() == "https" || address::is_loopback(&endpoint) {
            secret = self.hub_token().await.map(|token| Credentials::Token(token).header());
        }
        Ok(Site::new(self.http()?, endpoint, Named::User, secret))
    }

    async fn hub_token(&self) -> Option<Secret> {
        let hub = &self.settings().hub;
        if hub.token.is_some() {
            return hub.token.clone();
        }
        let path = hub.token_file.clone()?;
        let read = blocking(move || {
            use std::io::Read as _;
            let mut text = String::new();
            std::fs::File::open(path)?.take(LONGEST_TOKEN).read_to_string(&mut text).map(|_| text)
        });
        let text = match read.await.ok()? {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "the hub's token file cannot be read");
                return None;
            }
        };
        (!text.is_empty()).then(|| Secret::new(text))
    }

    async fn repository_files(&self, repository: &Repository) -> Result<Vec<RemoteFile>, PullError> {
        let endpoint = self.hub_endpoint()?;
        let hub = Hub { site: Arc::new(self.hub_site(endpoint.clone()).await?), endpoint, puller: self };
        let [owner, name] = repository.path();
        let url = hub.url(&["api", "models", owner, name, "revision", repository.revision()])?;
        let (info, _) = hub.json::<Info>(&url).await?;
        let commit = GitHash::parse(&info.sha).ok_or_else(|| PullError::Broken("a commit that is none".into()))?;

        let commit = commit.to_string();
        let entries = hub.tree(hub.url(&["api", "models", owner, name, "tree", &commit])?).await?;
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        let cache = self.settings().hub.cache.as_deref();
        let mut files = Vec::new();
        for path in pick(&paths, repository.quant())? {
            if !is_clean_path(path) || path.contains(char::is_control) {
                return Err(PullError::Hub(format!("it has a file called {path:?}")));
            }
            let entry = entries.iter().find(|entry| entry.path == path).expect("what is picked is there: a bug");
            let mut place = vec![owner, name, "resolve", &commit];
            place.extend(path.split('/'));
            let wanted = entry.wanted()?;
            let local = cache.and_then(|cache| hub_cache::place(cache, repository.path(), &wanted));
            files.push(RemoteFile { local, ..hub.file(hub.url(&place)?, path, wanted, &commit) });
        }
        Ok(files)
    }
}

struct Hub<'a> {
    site: Arc<Site>,
    endpoint: Url,
    puller: &'a Puller,
}

impl Hub<'_> {
    fn url(&self, parts: &[&str]) -> Result<Url, PullError> {
        let mut url = self.endpoint.clone();
        let wrong = PullError::Hub(format!("its address `{}` is none", self.endpoint));
        url.path_segments_mut().map_err(|()| wrong)?.pop_if_empty().extend(parts);
        Ok(url)
    }

    /// What the API says, and where it says that more is.
    async fn json<T: serde::de::DeserializeOwned>(&self, url: &Url) -> Result<(T, Option<Url>), PullError> {
        let answer = self.site.ask(self.puller.settings(), url, None).await?;
        let next = next_page(url, answer.response.headers())?;
        match answer.response.status().as_u16() {
            200 => {}
            400.. => return Err(self.refusal(answer.response).await),
            status => return Err(PullError::Broken(format!("status {status} for {}", url.path()))),
        }
        let body = self.site.body(answer.response, LONGEST).await?;
        let value = serde_json::from_slice(&body);
        Ok((value.map_err(|error| PullError::Broken(format!("it cannot be read: {error}")))?, next))
    }

    async fn tree(&self, mut url: Url) -> Result<Vec<Entry>, PullError> {
        url.set_query(Some("recursive=true"));
        let mut entries = Vec::new();
        for _ in 0..MOST_PAGES {
            let (page, next) = self.json::<Vec<Entry>>(&url).await?;
            entries.extend(page.into_iter().filter(|entry| entry.kind == "file"));
            match next {
                Some(next) if self.site.is_own(&next) => url = next,
                Some(next) => {
                    return Err(PullError::Refused { host: http::host_of(&next), why: "a page of another host" });
                }
                None => return Ok(entries),
            }
        }
        Err(PullError::Hub("it has too many files".into()))
    }

    /// The error that a refusal of the hub's is.
    async fn refusal(&self, response: Response) -> PullError {
        let code = error_code(&response);
        let hub = |why: &str| PullError::Hub(why.into());
        match (response.status().as_u16(), code) {
            (_, GATED) => hub(GATED_WHY),
            (_, "RevisionNotFound") => hub("it has no such revision"),
            (404, _) | (401, "RepoNotFound") => hub("there is no such repository, or it is private"),
            (401 | 403, _) => hub("it is private or not there, or the token is wrong; a token is read from HF_TOKEN"),
            _ => self.site.refusal(response).await,
        }
    }

    fn file(&self, url: Url, path: &str, wanted: Wanted, commit: &str) -> RemoteFile {
        let commit = commit.to_owned();
        let judge = move |answer: &Answer| {
            // What a repository has is told to all, its files are not.
            if error_code(&answer.response) == GATED {
                return Err(PullError::Hub(GATED_WHY.into()));
            }
            let Some(told) = answer.told.as_ref().filter(|_| answer.response.status().is_success()) else {
                return Ok(());
            };
            let text = |name| told.get(name).and_then(|value| value.to_str().ok());
            let other = text("x-repo-commit").is_some_and(|told| told != commit)
                || text("x-linked-size").is_some_and(|told| told.parse() != Ok(wanted.size))
                || linked_digest(answer).zip(wanted.known()).is_some_and(|(told, known)| told != known);
            if other { Err(PullError::Changed) } else { Ok(()) }
        };
        let remote = Arc::new(SiteFile::new(self.site.clone(), url, Box::new(judge)));
        RemoteFile { path: path.to_owned(), wanted, remote, local: None }
    }
}

fn error_code(response: &Response) -> &str {
    response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default()
}

/// The digest that the hub says a file has which it keeps elsewhere.
pub(super) fn linked_digest(answer: &Answer) -> Option<Digest> {
    let told = answer.told.as_ref()?.get("x-linked-etag")?.to_str().ok()?;
    format!("sha256:{}", told.trim_matches('"')).parse().ok()
}

/// `Link: <…>; rel="next"`.
fn next_page(from: &Url, headers: &HeaderMap) -> Result<Option<Url>, PullError> {
    let links =
        headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(", "));
    let next = links.filter_map(|link| link.split_once(';')).find(|(_, kind)| kind.contains("rel=\"next\""));
    let Some((place, _)) = next else { return Ok(None) };
    let place = place.trim().trim_start_matches('<').trim_end_matches('>');
    http::target(from, place).map(Some)
}
