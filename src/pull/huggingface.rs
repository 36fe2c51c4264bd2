//! Models of the Hugging Face hub: which files make one, where they are had (the hub, or the cache that its own tools keep),
//! and each held to the hash that git or LFS has of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use reqwest::Url;
use serde::Deserialize;

use super::assemble::{Origin, RemoteFile};
use super::auth::{Credentials, Secret};
use super::http::Named;
use super::hub::Hub;
use super::hub_cache::{CachedRepository, HubCache, Share};
use super::pick::{INDEX, pick, with_parts};
use super::repository::Repository;
use super::site::Site;
use super::transfer::{GitHash, Wanted, blocking};
use super::{PullError, PullEvent, Puller, address, mlx};
use crate::store::is_clean_path;
use crate::types::ModelName;

/// Bytes of a token file that are read.
const LONGEST_TOKEN: u64 = 64 << 10;
const ENDPOINT: &str = "https://huggingface.co";
const OFFLINE: &str = "HF_HUB_OFFLINE is set";

/// The hub, and what it is shown.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Its address, or a mirror's.
    pub endpoint: String,
    pub token: Option<Secret>,
    /// Where a token stands that the hub's own tools wrote; read when there is no other.
    pub token_file: Option<PathBuf>,
    /// Where those tools keep what they fetched.
    pub cache: Option<PathBuf>,
    /// What is fetched is given to that cache as well.
    pub share: bool,
    /// It is not to be asked at all.
    pub offline: bool,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { endpoint: ENDPOINT.into(), token: None, token_file: None, cache: None, share: true, offline: false }
    }
}

/// A file of a repository, and what it should be.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) path: String,
    pub(super) wanted: Wanted,
}

/// A repository at one commit, and where its files can be had.
struct Snapshot {
    repository: Repository,
    commit: GitHash,
    listed: Vec<Listed>,
    cached: Option<CachedRepository>,
    /// The hub, or why it is not asked.
    hub: Result<Hub, String>,
}

impl Snapshot {
    fn file(&self, path: &str) -> Result<RemoteFile, PullError> {
        if !is_clean_path(path) || path.contains(char::is_control) {
            return Err(PullError::Hub(format!("it has a file called {path:?}")));
        }
        let listed = self.listed.iter().find(|listed| listed.path == path).expect("what is picked is there: a bug");
        let cached = self.cached.as_ref();
        let places = cached.map(|cached| cached.places(self.commit, path, &listed.wanted)).unwrap_or_default();
        let origin = match (&self.hub, cached) {
            (Ok(hub), _) => hub.origin(&self.repository, self.commit, listed)?,
            (Err(why), Some(cached)) => Origin::Cache { folder: cached.folder(), why: why.clone() },
            (Err(why), None) => return Err(PullError::Hub(why.clone())),
        };
        Ok(RemoteFile::new(path, listed.wanted, origin).or_at(places))
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
            let found = puller.snapshot_files(&repository, &name).await;
            let (files, share) = found.map_err(|error| error.of_repository(&repository))?;
            let mut events = std::pin::pin!(puller.assemble(name, files, share));
            while let Some(event) = events.next().await {
                yield event.map_err(|error| error.of_repository(&repository))?;
            }
        }
    }

    /// Brings in a model of the registry that the hub is; through its API where another hub is meant, or none at all.
    pub(super) fn pull_hub_name(
        &self,
        repository: Repository,
        name: ModelName,
        insecure: bool,
    ) -> BoxStream<'static, Result<PullEvent, PullError>> {
        let hub = &self.settings().hub;
        if hub.offline || hub.endpoint.trim_end_matches('/') != ENDPOINT {
            return self.pull_repository(repository, name).boxed();
        }
        self.pull_registry_first(repository, name, insecure).boxed()
    }

    /// The hub's registry knows no safetensors, no split files and no tokens: where it refuses, its API is asked.
    pub(super) fn pull_registry_first(
        &self,
        repository: Repository,
        name: ModelName,
        insecure: bool,
    ) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        let puller = self.clone();
        try_stream! {
            {
                let mut events = std::pin::pin!(puller.pull(name.clone(), insecure));
                loop {
                    match events.next().await {
                        None => return,
                        Some(Err(PullError::Manifest(error))) if error.is_denial() || error.is_unreachable() => {
                            tracing::debug!(%error, %repository, "the hub's registry does not have it");
                            break;
                        }
                        Some(event) => yield event?,
                    }
                }
            }
            let mut events = std::pin::pin!(puller.pull_repository(repository, name));
            while let Some(event) = events.next().await {
                yield event?;
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
            return Err(PullError::Hub(OFFLINE.into()));
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

    /// The files that make the model, and where they are to be shared.
    async fn snapshot_files(
        &self,
        repository: &Repository,
        name: &ModelName,
    ) -> Result<(Vec<RemoteFile>, Option<Share>), PullError> {
        let cache = self.settings().hub.cache.as_deref().map(HubCache::new);
        if self.settings().hub.offline {
            let snapshot = cached_snapshot(cache, repository, OFFLINE.to_owned()).await?;
            return Ok((self.choose(&snapshot, name).await?, None));
        }
        let snapshot = match self.hub_snapshot(repository, cache.as_ref()).await {
            Err(error) if error.is_unreachable() => {
                let files = self.cached_files(cache, repository, name, &error).await;
                return files.map(|files| (files, None)).ok_or(error);
            }
            snapshot => snapshot?,
        };
        let files = self.choose(&snapshot, name).await?;
        let share = snapshot.cached.filter(|_| self.settings().hub.share).map(|cached| Share {
            repository: cached,
            revision: repository.revision().to_owned(),
            commit: snapshot.commit,
            reserve: self.settings().reserve,
        });
        Ok((files, share))
    }

    async fn hub_snapshot(&self, wanted: &Repository, cache: Option<&HubCache>) -> Result<Snapshot, PullError> {
        let endpoint = self.hub_endpoint()?;
        let hub = Hub::new(self.hub_site(endpoint.clone()).await?, endpoint, self.inner.settings.clone());
        let repository = match wanted.counterpart() {
            None => wanted.clone(),
            Some(counterpart) => {
                let [_, base] = wanted.path();
                let there = hub.counterparts(base).await?;
                wanted.found(mlx::choose(&there, base, counterpart.width)?)
            }
        };
        let (commit, listed) = hub.list(&repository).await?;
        let cached = cache.map(|cache| cache.repository(&repository));
        Ok(Snapshot { repository, commit, listed, cached, hub: Ok(hub) })
    }

    /// The files that make the model, if all of them are in the cache.
    async fn cached_files(
        &self,
        cache: Option<HubCache>,
        repository: &Repository,
        name: &ModelName,
        error: &PullError,
    ) -> Option<Vec<RemoteFile>> {
        let snapshot = cached_snapshot(cache, repository, format!("the hub cannot be reached: {error}")).await.ok()?;
        let files = self.choose(&snapshot, name).await.ok()?;
        if !files.iter().all(RemoteFile::is_near) {
            return None;
        }
        tracing::warn!(%error, %repository, "the hub cannot be reached, and what its cache has is taken");
        Some(files)
    }

    /// The files that make the model. Where an index says which weights there are, it is fetched for that.
    async fn choose(&self, snapshot: &Snapshot, name: &ModelName) -> Result<Vec<RemoteFile>, PullError> {
        let missing = |error: PullError| match (&snapshot.hub, error) {
            (Err(why), PullError::Hub(what)) => PullError::Hub(format!("of what its cache has, {what}; {why}")),
            (_, error) => error,
        };
        let quant = snapshot.repository.quant();
        let paths: Vec<&str> = snapshot.listed.iter().map(|listed| listed.path.as_str()).collect();
        if let Some(file) = snapshot.repository.file() {
            let picked = with_parts(&paths, &file.path).map_err(missing)?;
            return picked.into_iter().map(|path| snapshot.file(path)?.held_to(file)).collect();
        }
        let picked = pick(&paths, quant, None).map_err(missing)?;
        let mut files = picked.into_iter().map(|path| snapshot.file(path)).collect::<Result<Vec<_>, _>>()?;
        let Some(at) = files.iter().position(|file| file.path == INDEX) else { return Ok(files) };
        let mut index = files.swap_remove(at);
        let named = indexed(&self.bring_ahead(name, &mut index).await?)?;
        let picked = pick(&paths, quant, Some(&named)).map_err(missing)?;
        let mut index = Some(index);
        let again = picked.into_iter().map(|path| match index.take_if(|_| path == INDEX) {
            Some(index) => Ok(index),
            None => snapshot.file(path),
        });
        again.collect()
    }
}

/// What the cache has of a repository's revision.
async fn cached_snapshot(cache: Option<HubCache>, wanted: &Repository, why: String) -> Result<Snapshot, PullError> {
    let wanted = wanted.clone();
    let Some(cache) = cache else {
        return Err(PullError::Hub(format!("{why}, and HANZOD_HUB_CACHE leaves its cache out")));
    };
    let look = move || {
        let repository = match wanted.counterpart() {
            None => wanted,
            Some(counterpart) => {
                let [_, base] = wanted.path();
                let found = mlx::choose(&cache.of_owner(mlx::OWNER), base, counterpart.width);
                let missing = |error| PullError::Hub(format!("{error}, in its cache; {why}"));
                wanted.found(found.map_err(missing)?)
            }
        };
        let cached = cache.repository(&repository);
        let found = cached.commit(repository.revision()).map(|commit| (commit, cached.files(commit)));
        let Some((commit, listed)) = found.filter(|(_, listed)| !listed.is_empty()) else {
            let (revision, folder) = (repository.revision(), cached.folder());
            let what = format!("revision `{revision}` is not in its cache at `{}`; {why}", folder.display());
            return Err(PullError::Hub(what));
        };
        Ok(Snapshot { repository, commit, listed, cached: Some(cached), hub: Err(why) })
    };
    blocking(look).await?
}

/// The files that an index names.
fn indexed(index: &[u8]) -> Result<BTreeSet<String>, PullError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index)
        .map_err(|error| PullError::Hub(format!("its `{INDEX}` cannot be read: {error}")))?;
    Ok(index.weight_map.into_values().collect())
}
