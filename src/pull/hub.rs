//! The hub's API: what a repository has at one commit, where its files are, and what a refusal means.

use std::sync::Arc;

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::assemble::Origin;
use super::huggingface::Listed;
use super::repository::Repository;
use super::site::{Answer, Site, SiteFile};
use super::transfer::{GitHash, Wanted};
use super::{PullError, PullSettings, http, mlx};
use crate::types::Digest;

/// Bytes of an answer of the API that are read.
const LONGEST: usize = 32 << 20;
/// A list of files comes in pages of a thousand.
const MOST_PAGES: usize = 20;
/// Repositories in one page of a search.
const SEARCH_PAGE: &str = "1000";

const GATED: &str = "GatedRepo";

#[derive(Deserialize)]
struct Info {
    sha: String,
}

#[derive(Deserialize)]
struct Hit {
    id: String,
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

/// The hub, as one pull of one repository sees it.
pub(super) struct Hub {
    site: Arc<Site>,
    endpoint: Url,
    settings: Arc<PullSettings>,
}

impl Hub {
    pub(super) fn new(site: Site, endpoint: Url, settings: Arc<PullSettings>) -> Self {
        Self { site: Arc::new(site), endpoint, settings }
    }

    fn url(&self, parts: &[&str]) -> Result<Url, PullError> {
        let mut url = self.endpoint.clone();
        let wrong = PullError::Hub(format!("its address `{}` is none", self.endpoint));
        url.path_segments_mut().map_err(|()| wrong)?.pop_if_empty().extend(parts);
        Ok(url)
    }

    /// What the API says, and where it says that more is.
    async fn json<T: DeserializeOwned>(&self, url: &Url, refusals: &Refusals) -> Result<(T, Option<Url>), PullError> {
        let answer = self.site.ask(&self.settings, url, None).await?;
        let next = next_page(url, answer.response.headers())?;
        match answer.response.status().as_u16() {
            200 => {}
            400.. => {
                let why = refusals.explain(&answer.response);
                return Err(match why {
                    Some(why) => PullError::Hub(why),
                    None => self.site.refusal(answer.response).await,
                });
            }
            status => return Err(PullError::Broken(format!("status {status} for {}", url.path()))),
        }
        let body = self.site.body(answer.response, LONGEST).await?;
        let value = serde_json::from_slice(&body);
        Ok((value.map_err(|error| PullError::Broken(format!("it cannot be read: {error}")))?, next))
    }

    /// All of a list that comes in pages.
    async fn pages<T: DeserializeOwned>(&self, mut url: Url, refusals: &Refusals) -> Result<Vec<T>, PullError> {
        let mut items = Vec::new();
        for _ in 0..MOST_PAGES {
            let (mut page, next) = self.json::<Vec<T>>(&url, refusals).await?;
            items.append(&mut page);
            match next {
                Some(next) if self.site.is_own(&next) => url = next,
                Some(next) => {
                    return Err(PullError::Refused { host: http::host_of(&next), why: "a page of another host" });
                }
                None => return Ok(items),
            }
        }
        Err(PullError::Hub("it has too many files".into()))
    }

    fn refusals(&self, repository: &Repository) -> Refusals {
        let page = self.url(&repository.path()).map_or_else(|_| repository.to_string(), |url| url.to_string());
        Refusals { page, has_token: self.site.has_secret() }
    }

    /// The commit that the repository's revision is, and the files it has.
    pub(super) async fn list(&self, repository: &Repository) -> Result<(GitHash, Vec<Listed>), PullError> {
        let refusals = self.refusals(repository);
        let [owner, name] = repository.path();
        let url = self.url(&["api", "models", owner, name, "revision", repository.revision()])?;
        let (info, _) = self.json::<Info>(&url, &refusals).await?;
        let commit = GitHash::parse(&info.sha).ok_or_else(|| PullError::Broken("a commit that is none".into()))?;

        let mut url = self.url(&["api", "models", owner, name, "tree", &commit.to_string()])?;
        url.set_query(Some("recursive=true"));
        let entries = self.pages::<Entry>(url, &refusals).await?;
        let files = entries.into_iter().filter(|entry| entry.kind == "file");
        let listed = files.map(|entry| Ok(Listed { wanted: entry.wanted()?, path: entry.path }));
        Ok((commit, listed.collect::<Result<_, PullError>>()?))
    }

    /// The repositories of `mlx-community` whose names have `base` in them.
    pub(super) async fn counterparts(&self, base: &str) -> Result<Vec<String>, PullError> {
        let mut url = self.url(&["api", "models"])?;
        url.query_pairs_mut().extend_pairs([("author", mlx::OWNER), ("search", base), ("limit", SEARCH_PAGE)]);
        let hits = self.pages::<Hit>(url, &Refusals { page: String::new(), has_token: self.site.has_secret() }).await?;
        let own = |hit: Hit| hit.id.strip_prefix(mlx::OWNER)?.strip_prefix('/').map(str::to_owned);
        Ok(hits.into_iter().filter_map(own).collect())
    }

    /// Where a file of a commit is fetched from.
    pub(super) fn origin(&self, repository: &Repository, commit: GitHash, file: &Listed) -> Result<Origin, PullError> {
        let (commit, wanted) = (commit.to_string(), file.wanted);
        let [owner, name] = repository.path();
        let mut place = vec![owner, name, "resolve", &commit];
        place.extend(file.path.split('/'));
        let url = self.url(&place)?;
        let refusals = self.refusals(repository);
        let judge = move |answer: &Answer| {
            // What a repository has is told to all, its files are not.
            if error_code(&answer.response) == GATED {
                return Err(PullError::Hub(refusals.gated()));
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
        Ok(Origin::Remote(Arc::new(SiteFile::new(self.site.clone(), url, Box::new(judge)))))
    }
}

/// What the hub's refusals mean to whoever asked for a repository.
#[derive(Clone)]
struct Refusals {
    /// Where people find the repository.
    page: String,
    has_token: bool,
}

impl Refusals {
    fn gated(&self) -> String {
        let then = match self.has_token {
            true => "the account of the token that was sent has not been given it",
            false => "do so, then set HF_TOKEN to a token of that account",
        };
        format!("access is given to those who accept its conditions at {}: {then}", self.page)
    }

    fn explain(&self, response: &Response) -> Option<String> {
        let said = response.headers().get("x-error-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
        Some(match (response.status().as_u16(), error_code(response)) {
            (_, GATED) => self.gated(),
            (_, "RevisionNotFound") => "it has no such revision".to_owned(),
            (401, _) if self.has_token && said.starts_with("Invalid credentials") => {
                "the token that was sent is not valid: it is read from HF_TOKEN, or the file that HF_TOKEN_PATH names"
                    .to_owned()
            }
            (404, _) | (401 | 403, "RepoNotFound" | "") => match self.has_token {
                true => "there is no such repository, or it is private and the token that was sent may not read it",
                false => "there is no such repository, or it is private: then set HF_TOKEN to a token that may read it",
            }
            .to_owned(),
            _ => return None,
        })
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
