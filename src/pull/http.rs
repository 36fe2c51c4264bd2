//! Requests by the rules that hold for all of them: no automatic redirects, no endless headers or bodies, HTTP/1.1 (a
//! connection of its own for each range), and no address that may not be gone to.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, Url, redirect};

use super::address::{self, Reach, Resolver};
use super::{PullError, PullSettings};
use crate::types::HostList;

/// Redirects that are followed for one request.
pub(super) const HOPS: usize = 10;
/// Bytes of a refusal's body that are read.
const REFUSAL: usize = 4096;
/// Nobody waits longer than this because a server asked to.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Http {
    /// For hosts that somebody at our side named.
    named: Client,
    /// For this machine: never through a proxy.
    local: Client,
    /// For hosts that a registry named.
    led: Client,
    resolver: Resolver,
    hosts: HostList,
    patience: Duration,
}

/// Who named the host of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    User,
    /// By a registry on the internet, which must not lead us to private addresses.
    PublicServer,
    /// By a registry in a private network, whose store may well be next to it.
    PrivateServer,
}

impl Http {
    pub(super) fn new(settings: &PullSettings) -> Result<Self, PullError> {
        let authorities = authorities(settings)?;
        let client = |resolver: &Resolver| {
            Client::builder()
                .tls_certs_merge(authorities.clone())
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate()
                .user_agent(&settings.user_agent)
                .redirect(redirect::Policy::none())
                .http1_only()
                .connect_timeout(settings.connect)
                .dns_resolver(resolver.clone())
        };
        let (free, resolver) = (Resolver::default(), Resolver::default());
        let build = |builder: reqwest::ClientBuilder| builder.build().map_err(|error| PullError::Client(cause(error)));
        Ok(Self {
            named: build(client(&free))?,
            local: build(client(&free).no_proxy())?,
            led: build(client(&resolver))?,
            resolver,
            hosts: settings.hosts.clone(),
            patience: settings.header,
        })
    }

    /// Begins a request, if its host may be asked.
    pub(super) fn request(&self, method: Method, url: &Url, named: Named) -> Result<RequestBuilder, PullError> {
        let refuse = |why: &'static str| PullError::Refused { host: host_of(url), why };
        if !self.hosts.allows(url.host_str().unwrap_or_default(), url.port_or_known_default()) {
            return Err(refuse("not among the hosts of HANZOD_PULL_HOSTS"));
        }
        match address::literal(url).map(address::reach) {
            Some(Reach::Link) => return Err(refuse("a link-local address")),
            Some(Reach::Private) if named == Named::PublicServer => return Err(refuse("a private address")),
            _ => {}
        }
        if named == Named::PublicServer {
            if address::is_loopback(url) {
                return Err(refuse("a private address"));
            }
            self.resolver.guard(url.host_str().unwrap_or_default());
            return Ok(self.led.request(method, url.clone()));
        }
        let client = if address::is_loopback(url) { &self.local } else { &self.named };
        Ok(client.request(method, url.clone()))
    }

    /// Sends a request whose body is small, and waits for the head of the answer.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, PullError> {
        let (client, request) = request.build_split();
        let request = request.map_err(|error| PullError::Transport(cause(error)))?;
        let (method, url) = (request.method().clone(), request.url().clone());
        match tokio::time::timeout(self.patience, client.execute(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(transport(&method, &url, error)),
            Err(_) => Err(PullError::Stalled(self.patience)),
        }
    }

    /// True unless the connection fails before HTTP begins, as TLS does on a port that speaks plain HTTP. A certificate
    /// that is not trusted is TLS nevertheless.
    pub(super) async fn speaks_tls(&self, url: &Url) -> Result<bool, PullError> {
        let request = self.request(Method::GET, url, Named::User)?;
        match tokio::time::timeout(self.patience, request.send()).await {
            Ok(Err(error)) if error.is_timeout() => Err(transport(&Method::GET, url, error)),
            Ok(Err(error)) if error.is_connect() => Ok(cause(error).contains("certificate")),
            _ => Ok(true),
        }
    }

    /// All of a body that must be small, in the time that a head may take.
    pub(super) async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, PullError> {
        let url = response.url().clone();
        let read = async {
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| transport(&Method::GET, &url, error))? {
                if bytes.len() + chunk.len() > limit {
                    return Err(PullError::Broken(format!("its body is longer than {limit} bytes")));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes)
        };
        let read = tokio::time::timeout(self.patience, read).await;
        read.unwrap_or(Err(PullError::Stalled(self.patience)))
    }

    /// The error that a response of status 400 and above is.
    pub(super) async fn refusal(&self, mut response: Response) -> PullError {
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let mut bytes = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                bytes.extend_from_slice(&chunk[..chunk.len().min(REFUSAL - bytes.len())]);
                if bytes.len() == REFUSAL {
                    break;
                }
            }
        };
        tokio::time::timeout(self.patience, read).await.ok();
        let text = String::from_utf8_lossy(&bytes).replace(char::is_control, " ");
        PullError::Status { status, body: text.trim().to_owned(), retry_after }
    }
}

/// The certificates that the user trusts beside the system's.
fn authorities(settings: &PullSettings) -> Result<Vec<Certificate>, PullError> {
    let Some(path) = &settings.ca_file else { return Ok(Vec::new()) };
    let failed = |why: String| PullError::Client(format!("`{}`: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(cause(error)))?;
    if certificates.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(certificates)
}

/// Where a redirect leads. `None` for an answer that is none.
pub(super) fn next_hop(from: &Url, response: &Response) -> Result<Option<Url>, PullError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| PullError::Broken("a redirect without a location".into()))?;
    target(from, location).map(Some)
}

/// The address that `location` names, if a server at `from` may name it.
pub(super) fn target(from: &Url, location: &str) -> Result<Url, PullError> {
    let to = from.join(location).map_err(|_| PullError::Broken("a location that is no address".into()))?;
    let refuse = |why| Err(PullError::Refused { host: host_of(&to), why });
    match (from.scheme(), to.scheme()) {
        ("https", "http") => refuse("a redirect from https to http"),
        (_, "http" | "https") if !to.username().is_empty() || to.password().is_some() => {
            refuse("a redirect with a password in it")
        }
        (_, "http" | "https") => Ok(to),
        _ => refuse("a redirect that is not to http"),
    }
}

/// `host` or `host:port`, as the address has it.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let when = chrono::DateTime::parse_from_rfc2822(text).ok()?;
            (when.with_timezone(&chrono::Utc) - chrono::Utc::now()).to_std().ok()?
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// A failed request in the words of Go's client, without the query, which may hold a signature.
pub(super) fn transport(method: &Method, url: &Url, error: reqwest::Error) -> PullError {
    let mut verb = method.as_str().to_ascii_lowercase();
    verb[..1].make_ascii_uppercase();
    let mut shown = url.clone();
    shown.set_query(None);
    let refused = error.is_connect() && io_kind(&error) == Some(std::io::ErrorKind::ConnectionRefused);
    let why = if refused {
        let port = url.port_or_known_default().unwrap_or_default();
        format!("dial tcp {}:{port}: connect: connection refused", url.host_str().unwrap_or_default())
    } else {
        cause(error)
    };
    PullError::Transport(format!("{verb} \"{shown}\": {why}"))
}

fn io_kind(error: &reqwest::Error) -> Option<std::io::ErrorKind> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        source = error.source();
    }
    None
}

/// The innermost reason.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason: &dyn std::error::Error = &error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_location_may_lead() {
        let secure = Url::parse("https://a.example/v2/x").unwrap();
        let plain = Url::parse("http://a.example/v2/x").unwrap();
        assert_eq!(target(&secure, "/y?z=1").unwrap().as_str(), "https://a.example/y?z=1");
        assert_eq!(target(&plain, "https://b.example/").unwrap().as_str(), "https://b.example/");
        for bad in ["http://a.example/", "https://u:p@b.example/", "file:///etc/passwd", "//u@b.example", "https://"] {
            assert!(target(&secure, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn waits_that_servers_ask_for() {
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait("3"), Some(Duration::from_secs(3)));
        assert_eq!(wait("999999"), Some(LONGEST_WAIT));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn a_public_server_does_not_lead_to_private_addresses() {
        let http = Http::new(&PullSettings::new("key".into())).unwrap();
        let may = |url: &str, named| http.request(Method::GET, &Url::parse(url).unwrap(), named).is_ok();
        for private in ["http://127.0.0.1/", "http://localhost:80/", "http://[::1]/", "https://10.0.0.1/"] {
            assert!(!may(private, Named::PublicServer), "{private}");
            assert!(may(private, Named::PrivateServer) && may(private, Named::User), "{private}");
        }
        assert!(may("https://1.1.1.1/", Named::PublicServer));
        assert!(!may("http://169.254.169.254/", Named::User) && !may("http://[fe80::1]/", Named::PrivateServer));
    }
}
