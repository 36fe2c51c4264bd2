//! A GGUF file at an address: how the address is read, what its server says of the file, and the model made of it.

use std::sync::Arc;

use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, LAST_MODIFIED};

use super::assemble::{Origin, RemoteFile};
use super::http::{self, Named};
use super::repository::{HubFile, Repository};
use super::site::{Answer, Site, SiteFile};
use super::source::{SourceError, legal_part};
use super::transfer::{Wanted, content_range, strong_etag};
use super::{PullError, PullEvent, Puller, hub};
use crate::create::CreateError;
use crate::types::file_name::{Part, gguf_stem, model_stem};
use crate::types::{Digest, ModelName};

const MAGIC: &[u8] = b"GGUF";
/// Hosts whose pages about a file (`blob`) have the file itself beside them (`resolve`).
const HUB_HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];

/// The address of a GGUF file.
///
/// Invariant: http or https, without a password, and its path ends in `.gguf`.
#[derive(Clone, Debug)]
pub struct Address {
    url: Url,
    sha256: Option<Digest>,
}

impl Address {
    /// `http[s]://…/x.gguf`. A `sha256=<hex>` in its query is what the content must have, and is not sent.
    ///
    /// # Errors
    /// [`SourceError`] for what is no such address.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let mut url = Url::parse(text.trim()).map_err(|_| SourceError::Address("it cannot be read"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(SourceError::Address("it is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SourceError::Address("it has a password in it"));
        }
        if url.path_segments().and_then(|mut parts| gguf_stem(parts.next_back()?)).is_none() {
            return Err(SourceError::Address("it is not that of a .gguf file"));
        }
        url.set_fragment(None);
        // What is left of the query stays byte for byte: it may be signed.
        let (mut sha256, mut rest) = (None, Vec::new());
        for pair in url.query().into_iter().flat_map(|query| query.split('&')) {
            match pair.strip_prefix("sha256=") {
                Some(hex) => {
                    let digest = format!("sha256:{}", hex.to_ascii_lowercase()).parse();
                    sha256 = Some(digest.map_err(|_| SourceError::Address("its sha256 is not 64 hexadecimal digits"))?);
                }
                None => rest.push(pair),
            }
        }
        let rest = Some(rest.join("&")).filter(|rest| !rest.is_empty());
        url.set_query(rest.as_deref());
        Ok(Self { url, sha256 })
    }

    fn file_name(&self) -> &str {
        self.url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default()
    }

    /// The file's name without its ending, as far as names allow.
    pub(super) fn name(&self) -> ModelName {
        let file = self.file_name();
        let stem = model_stem(gguf_stem(file).unwrap_or(file));
        ModelName::parse(&legal_part(stem)).expect("a legal part is a name: a bug")
    }

    /// One address for each part of a split model, whichever of them was named.
    fn parts(&self) -> Vec<Url> {
        let file = self.file_name();
        let stem = gguf_stem(file).unwrap_or(file);
        let Some(named) = Part::parse(stem) else {
            return vec![self.url.clone()];
        };
        let (folder, ending) = (&self.url.path()[..self.url.path().len() - file.len()], &file[stem.len()..]);
        let address = |part: Part<'_>| {
            let mut url = self.url.clone();
            url.set_path(&format!("{folder}{part}{ending}"));
            url
        };
        named.all().map(address).collect()
    }
}

impl Puller {
    /// Brings the file at `address` in, and makes it the model `name`. A file that changes meanwhile is begun anew, once.
    pub(super) fn pull_direct(
        &self,
        address: Address,
        name: ModelName,
    ) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        let puller = self.clone();
        try_stream! {
            if let Some(repository) = puller.on_hub(&address) {
                let mut events = std::pin::pin!(puller.pull_repository(repository, name));
                while let Some(event) = events.next().await {
                    yield event?;
                }
                return;
            }
            yield PullEvent::Manifest;
            let mut anew = false;
            'begin: loop {
                let files = puller.files_at(&address).await?;
                let mut events = puller.assemble(name.clone(), files, None).boxed();
                while let Some(event) = events.next().await {
                    if !anew && matches!(event, Err(PullError::Changed)) {
                        anew = true;
                        continue 'begin;
                    }
                    yield event?;
                }
                break;
            }
        }
    }

    /// The hub's file that an address means: `…/<owner>/<repository>/<blob or resolve>/<revision>/<path>`. Its API says more
    /// of it than its server, and others may have it already.
    fn on_hub(&self, address: &Address) -> Option<Repository> {
        let url = &address.url;
        let endpoint = self.hub_endpoint().ok()?;
        let usual = |host: Option<&str>| host.is_some_and(|host| HUB_HOSTS.contains(&host));
        let same = endpoint.origin() == url.origin() || (usual(endpoint.host_str()) && usual(url.host_str()));
        let above = endpoint.path().trim_end_matches('/');
        let path = url
            .path()
            .strip_prefix(above)
            .filter(|_| same && url.query().is_none_or(|query| query == "download=true"))?;
        let mut parts = path.trim_start_matches('/').splitn(5, '/');
        let mut next = || parts.next().filter(|part| !part.contains('%'));
        let (owner, repository, kind, revision, path) = (next()?, next()?, next()?, next()?, next()?);
        let file = HubFile { path: path.to_owned(), sha256: address.sha256 };
        matches!(kind, "blob" | "resolve").then(|| Repository::of_file(owner, repository, revision, file))?
    }

    async fn files_at(&self, address: &Address) -> Result<Vec<RemoteFile>, PullError> {
        let parts = address.parts();
        let single = parts.len() == 1;
        let mut files = Vec::new();
        for url in parts {
            let named = url == address.url;
            let url = self.resolved(url);
            let site = Arc::new(self.site_of(&url).await?);
            let expected = address.sha256.filter(|_| single || named);
            files.push(look(self, site, url, expected).await?);
        }
        Ok(files)
    }

    /// Who serves `url`: the hub, which may be shown our token, or a stranger.
    async fn site_of(&self, url: &Url) -> Result<Site, PullError> {
        if let Some(endpoint) = self.hub_endpoint().ok().filter(|endpoint| endpoint.origin() == url.origin()) {
            return self.hub_site(endpoint).await;
        }
        // An address comes with a request, and may be meant to reach what only this machine can: the server's own
        // settings say whether it may.
        let named = match (self.settings().private_addresses, url.scheme()) {
            (true, _) => Named::User,
            (false, "https") => Named::PublicServer,
            (false, _) => return Err(PullError::Refused { host: http::host_of(url), why: "not https" }),
        };
        Ok(Site::new(self.http()?, url.clone(), named, None))
    }

    /// The file, where `url` is of the hub's page about it.
    fn resolved(&self, mut url: Url) -> Url {
        let own = self.hub_endpoint().is_ok_and(|endpoint| endpoint.origin() == url.origin());
        if own || url.host_str().is_some_and(|host| HUB_HOSTS.contains(&host)) {
            let mut parts: Vec<&str> = url.path().split('/').collect();
            if parts.len() > 5 && parts[3] == "blob" {
                parts[3] = "resolve";
                let path = parts.join("/");
                url.set_path(&path);
            }
        }
        url
    }
}

/// Asks for the first bytes of a file: whether it is one, how long it is, and what names the state it is in.
async fn look(puller: &Puller, site: Arc<Site>, url: Url, expected: Option<Digest>) -> Result<RemoteFile, PullError> {
    let answer = site.ask(puller.settings(), &url, Some(&(0..MAGIC.len() as u64))).await?;
    let status = answer.response.status().as_u16();
    let headers = answer.response.headers().clone();
    let size = match status {
        206 => content_range(&headers).and_then(|(_, total)| total),
        200 => headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()),
        416 => return Err(CreateError::NotGguf.into()),
        404 | 410 => return Err(PullError::NoFile(http::host_of(&url))),
        400.. => return Err(site.refusal(answer.response).await),
        _ => return Err(PullError::Broken(format!("status {status} for a file"))),
    };
    let size = size.ok_or_else(|| PullError::Broken("it does not say how long the file is".into()))?;
    let linked = hub::linked_digest(&answer);
    let state = state(&headers);
    if !begins_with_magic(answer.response).await? {
        return Err(CreateError::NotGguf.into());
    }
    let wanted = match expected.or(linked) {
        Some(digest) => Wanted::digest(digest, size),
        None => Wanted::unknown(url.as_str(), state.as_deref(), size),
    };
    // Content whose digest is known needs no other proof.
    let state = state.filter(|_| wanted.known().is_none());
    let same = move |answer: &Answer| match (&state, self::state(answer.response.headers())) {
        (Some(before), Some(now)) if *before != now && answer.response.status().is_success() => Err(PullError::Changed),
        _ => Ok(()),
    };
    let path = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
    let origin = Origin::Remote(Arc::new(SiteFile::new(site, url, Box::new(same))));
    Ok(RemoteFile::new(&path, wanted, origin))
}

async fn begins_with_magic(mut response: reqwest::Response) -> Result<bool, PullError> {
    let (url, mut bytes) = (response.url().clone(), Vec::new());
    while bytes.len() < MAGIC.len() {
        let chunk = response.chunk().await.map_err(|error| http::transport(&reqwest::Method::GET, &url, error))?;
        match chunk {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    Ok(bytes.starts_with(MAGIC))
}

/// What names the state of a file on its server: other bytes have another name.
fn state(headers: &HeaderMap) -> Option<String> {
    let date = || headers.get(LAST_MODIFIED).and_then(|date| date.to_str().ok()).map(str::to_owned);
    strong_etag(headers).or_else(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_their_names() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let address = Address::parse(&format!("https://a.example/x/Tiny%201.5_q8.GGUF?v=1&sha256={hex}#part")).unwrap();
        assert_eq!(address.url.as_str(), "https://a.example/x/Tiny%201.5_q8.GGUF?v=1");
        assert_eq!(address.sha256, Some(Digest::of(b"")));
        assert_eq!(address.name().short(), "Tiny-201.5_q8:latest");
        let signed = Address::parse("https://a.example/x.gguf?X-Sig=a%2Fb+c").unwrap();
        assert_eq!(signed.url.as_str(), "https://a.example/x.gguf?X-Sig=a%2Fb+c", "a signature stays as it is");
        for bad in [
            "ftp://a.example/x.gguf",
            "file:///x.gguf",
            "https://a.example/x.bin",
            "https://a.example/.gguf",
            "https://u:p@a.example/x.gguf",
            "https://a.example/x.gguf?sha256=12",
            "x.gguf",
        ] {
            assert!(matches!(Address::parse(bad), Err(SourceError::Address(_))), "{bad}");
        }
    }

    #[test]
    fn a_part_stands_for_all() {
        let address = Address::parse("https://a.example/m/x-00002-of-00003.gguf?y=1").unwrap();
        assert_eq!(address.name().short(), "x:latest");
        let parts: Vec<String> = address.parts().iter().map(Url::to_string).collect();
        let part = |number| format!("https://a.example/m/x-0000{number}-of-00003.gguf?y=1");
        assert_eq!(parts, [part(1), part(2), part(3)]);
    }
}
