//! Proving who we are to a registry: challenges, tokens, and where either may be sent.
//!
//! Invariant: a secret goes to the origin (scheme, host, port) it is meant for and to the token server that may speak for
//! it, and nowhere else; it never appears in a message or a log.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};

use super::http::{Http, Named, host_of};
use super::key::{self, Key};
use super::transfer::blocking;
use super::{PullError, PullSettings};
use crate::types::Digest;

/// Bytes of a token server's answer that are read.
const LONGEST_TOKEN: usize = 64 << 10;

/// Text that must not be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a registry wants to be shown by its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    Basic {
        user: String,
        password: Secret,
    },
    /// Sent as it is, as a bearer token.
    Token(Secret),
}

impl Credentials {
    /// The value of `Authorization`.
    pub(super) fn header(&self) -> Secret {
        match self {
            Self::Basic { user, password } => {
                Secret(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))
            }
            Self::Token(token) => Secret(format!("Bearer {}", token.expose())),
        }
    }
}

/// As a header that the HTTP library does not log either.
pub(super) fn authorization(secret: &Secret) -> Result<(reqwest::header::HeaderName, HeaderValue), PullError> {
    let value = HeaderValue::from_str(secret.expose());
    let mut value = value.map_err(|_| PullError::Broken("a token that is no header".into()))?;
    value.set_sensitive(true);
    Ok((AUTHORIZATION, value))
}

/// What a registry said with a 401.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Challenge {
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    Basic,
}

impl Challenge {
    /// The one that asks for a token, if there are several.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(text) = value.to_str() else { continue };
            let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
            if scheme.eq_ignore_ascii_case("bearer") {
                let mut values = parameters(rest);
                let realm = values.remove("realm")?;
                return Some(Self::Bearer { realm, service: values.remove("service"), scope: values.remove("scope") });
            }
        }
        basic
    }
}

/// `key="value", key=value …`; what is not of this form ends it.
fn parameters(mut text: &str) -> HashMap<String, String> {
    let mut values = HashMap::new();
    while let Some((key, rest)) = text.trim_start_matches([' ', ',']).split_once('=') {
        let (value, tail) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (mut value, mut escaped, mut end) = (String::new(), false, quoted.len());
                for (at, letter) in quoted.char_indices() {
                    match letter {
                        '\\' if !escaped => escaped = true,
                        '"' if !escaped => {
                            end = at + 1;
                            break;
                        }
                        _ => {
                            value.push(letter);
                            escaped = false;
                        }
                    }
                }
                (value, &quoted[end..])
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        values.entry(key.trim().to_ascii_lowercase()).or_insert(value);
        text = tail;
    }
    values
}

/// Shared by every pull and push.
pub(super) type SharedAuth = Arc<Auth>;

/// Tokens and the means to get more.
#[derive(Debug)]
pub(super) struct Auth {
    key: PathBuf,
    credentials: HashMap<String, Credentials>,
    realms: Vec<(String, String)>,
    /// By registry and challenge. A std mutex: held for single map operations.
    tokens: Mutex<HashMap<(String, Challenge), Secret>>,
}

impl Auth {
    pub(super) fn new(settings: &PullSettings) -> Self {
        Self {
            key: settings.key.clone(),
            credentials: settings.credentials.clone(),
            realms: settings.realms.clone(),
            tokens: Mutex::default(),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<(String, Challenge), Secret>> {
        self.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn credentials(&self, host: &str) -> Option<&Credentials> {
        self.credentials.get(host)
    }

    /// The `Authorization` that answers `challenge`, which `registry` sent after `refused`.
    pub(super) async fn answer(
        &self,
        http: &Http,
        registry: &Url,
        challenge: Challenge,
        refused: Option<&Secret>,
    ) -> Result<Secret, PullError> {
        let own = self.credentials(&host_of(registry));
        let Challenge::Bearer { realm, service, scope } = &challenge else {
            let own = own.filter(|own| matches!(own, Credentials::Basic { .. })).map(Credentials::header);
            return own.filter(|own| Some(own) != refused).ok_or(PullError::Unauthorized);
        };
        let entry = (registry.origin().ascii_serialization(), challenge.clone());
        let cached = self.tokens().get(&entry).cloned();
        if let Some(token) = cached.filter(|token| Some(token) != refused) {
            return Ok(token);
        }
        let realm = self.realm(registry, realm)?;
        let token = self.token(http, &realm, service.as_deref(), scope.as_deref(), own).await?;
        let token = Secret(format!("Bearer {}", token.expose()));
        self.tokens().insert(entry, token.clone());
        Ok(token)
    }

    /// The token server's address, if it may speak for the registry: one of the same host, or one that was configured.
    fn realm(&self, registry: &Url, realm: &str) -> Result<Url, PullError> {
        let url = registry.join(realm).map_err(|_| PullError::Broken("a realm that is no address".into()))?;
        let (theirs, ours) = (host_of(&url), host_of(registry));
        let configured = self.realms.iter().any(|(registry, realm)| *registry == ours && *realm == theirs);
        if theirs != ours && !configured {
            return Err(PullError::Realm { realm: theirs, original: ours });
        }
        super::http::target(registry, url.as_str())
    }

    async fn token(
        &self,
        http: &Http,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
        own: Option<&Credentials>,
    ) -> Result<Secret, PullError> {
        let url = token_url(realm, service, scope)?;
        let proof = match own {
            Some(own) => Some(own.header()),
            None => self.signature(&url).await,
        };
        let signed = own.is_none() && proof.is_some();
        match fetch_token(http, &url, proof.as_ref()).await {
            // A token server of another kind does not know our signatures, and may give a token to anybody.
            Err(error) if signed && (error.is_refusal() || matches!(error, PullError::Unauthorized)) => {
                fetch_token(http, &url, None).await
            }
            other => other,
        }
    }

    /// Signs a request for a token. Without a key we are nobody, which public models need not mind.
    async fn signature(&self, url: &Url) -> Option<Secret> {
        let path = self.key.clone();
        let nothing = STANDARD.encode(Digest::of(b"").hex());
        let message = format!("GET,{url},{nothing}");
        let signed = blocking(move || Key::load_or_create(&path).map(|key| key.authorization(&message))).await;
        signed
            .and_then(|signed| signed)
            .map(Secret)
            .inspect_err(|error| tracing::warn!(%error, "the registry is asked without a signature"))
            .ok()
    }
}

/// The query in the order of its keys, as the signature covers it.
fn token_url(realm: &Url, service: Option<&str>, scope: Option<&str>) -> Result<Url, PullError> {
    let random: [u8; 16] = key::random().map_err(|error| PullError::Client(error.to_string()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut values: Vec<(String, String)> = realm.query_pairs().into_owned().collect();
    let mut add = |key: &str, value: &str| values.push((key.to_owned(), value.to_owned()));
    service.into_iter().for_each(|service| add("service", service));
    scope.into_iter().flat_map(str::split_ascii_whitespace).for_each(|scope| add("scope", scope));
    add("ts", &now.to_string());
    add("nonce", &URL_SAFE_NO_PAD.encode(random));
    values.sort_by(|one, other| one.0.cmp(&other.0));
    let mut url = realm.clone();
    url.query_pairs_mut().clear().extend_pairs(values);
    Ok(url)
}

async fn fetch_token(http: &Http, url: &Url, proof: Option<&Secret>) -> Result<Secret, PullError> {
    #[derive(serde::Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    // The realm is on the registry's own host, or configured: somebody at our side named it.
    let mut request = http.request(Method::GET, url, Named::User)?;
    if let Some(proof) = proof {
        let (name, value) = authorization(proof)?;
        request = request.header(name, value);
    }
    let response = http.send(request).await?;
    match response.status().as_u16() {
        200 => {}
        401 | 403 => return Err(PullError::Unauthorized),
        400.. => return Err(http.refusal(response).await),
        status => return Err(PullError::Broken(format!("status {status} for a token"))),
    }
    let body = http.body(response, LONGEST_TOKEN).await?;
    let answer: Option<Answer> = serde_json::from_slice(&body).ok();
    let token = answer.and_then(|answer| answer.token.filter(|token| !token.is_empty()).or(answer.access_token));
    token.map(Secret).ok_or_else(|| PullError::Broken("an answer without a token".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let read = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
            }
            Challenge::read(&headers)
        };
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        let full = "Bearer realm=\"https://a/t\",service=\"a\",scope=\"repository:b:pull,push repository:c:pull\"";
        assert_eq!(read(&[full]), bearer("https://a/t", Some("a"), Some("repository:b:pull,push repository:c:pull")));
        assert_eq!(read(&["Basic realm=\"x\"", "bearer Realm=/t , error=\"a\\\"b,c=\""]), bearer("/t", None, None));
        assert_eq!(read(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        for bad in ["", "Bearer", "Bearer realm", "Bearer =\"", "Negotiate x"] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&["Bearer realm=\"unterminated"]), bearer("unterminated", None, None));
    }

    #[test]
    fn the_query_is_sorted_and_fresh() {
        let realm = Url::parse("https://a.example/token?zone=1").unwrap();
        let url = token_url(&realm, Some("s"), Some("repository:b:pull repository:c:push")).unwrap();
        let keys: Vec<_> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
        assert_eq!(keys, ["nonce", "scope", "scope", "service", "ts", "zone"]);
        assert!(url.as_str().contains("scope=repository%3Ab%3Apull&scope=repository%3Ac%3Apush"), "{url}");
        assert_ne!(url, token_url(&realm, Some("s"), None).unwrap());
    }

    #[test]
    fn secrets_show_as_stars() {
        let credentials = Credentials::Basic { user: "me".into(), password: Secret::new("hunter2".into()) };
        assert_eq!(format!("{credentials:?}"), "Basic { user: \"me\", password: *** }");
        assert!(!format!("{:?}", authorization(&credentials.header()).unwrap()).contains("bWU6"));
    }
}
