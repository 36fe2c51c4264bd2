//! Calls of our own HTTP API: over the network, or straight into the router of this process.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;

use crate::config::{Config, Endpoint};
use crate::server::InProcess;

/// A body as it comes.
pub(crate) type Body = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A server on this machine answers at once, or not at all.
const GREETING: Duration = Duration::from_secs(2);

pub(crate) enum Client {
    Remote { http: reqwest::Client, base: String },
    Local(Box<InProcess>),
}

/// An answer whose status said that it is none.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) status: u16,
    message: String,
}

/// Sets a member of a request when there is a value.
pub(super) fn set(request: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        request[key] = value;
    }
}

impl Client {
    /// Finds a server: at `HANZOD_HOST` or `OLLAMA_HOST` if they are set, at our usual address, else in this process.
    pub(crate) async fn connect(config: &Config) -> anyhow::Result<Self> {
        let own = config.own.as_ref();
        let compatible = config.compatible.as_ref();
        let named =
            own.filter(|_| config.own_is_set).into_iter().chain(compatible.filter(|_| config.compatible_is_set));
        let usual = own.filter(|_| !config.own_is_set);
        for endpoint in named.chain(usual) {
            let (http, base) = (http(endpoint)?, endpoint.url());
            if http.head(&base).timeout(GREETING).send().await.is_ok() {
                return Ok(Self::Remote { http, base });
            }
            // This process cannot stand in for another machine.
            anyhow::ensure!(is_here(endpoint), "no server answers at {base}");
        }
        Self::local(config)
    }

    /// This process, whether a server runs or not.
    pub(crate) fn local(config: &Config) -> anyhow::Result<Self> {
        Ok(Self::Local(Box::new(InProcess::start(config)?)))
    }

    /// Sends a request and gives the answer's body, if its status is good.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Body>) -> anyhow::Result<Body> {
        let (status, mut body) = match self {
            Self::Remote { http, base } => {
                let mut request = http.request(method.parse()?, format!("{base}{path}"));
                if let Some(body) = body {
                    request = request.body(reqwest::Body::wrap_stream(body));
                }
                let response = request.send().await.context("the server does not answer")?;
                let status = response.status().as_u16();
                (status, Box::pin(response.bytes_stream().map_err(std::io::Error::other)) as Body)
            }
            Self::Local(server) => server.call(method, path, body).await?,
        };
        if status < 400 {
            return Ok(body);
        }
        let mut text = Vec::new();
        while let Some(bytes) = body.next().await {
            text.extend_from_slice(&bytes?);
        }
        let json: Value = serde_json::from_slice(&text).unwrap_or_default();
        let message = match json["error"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("status {status}: {}", String::from_utf8_lossy(&text).trim()),
        };
        Err(Refused { status, message }.into())
    }

    /// Calls a route that answers with one JSON value; an empty answer is null.
    pub(crate) async fn call(&self, method: &str, path: &str, request: Option<&Value>) -> anyhow::Result<Value> {
        let mut body = self.send(method, path, request.map(json_body)).await?;
        let mut text = Vec::new();
        while let Some(bytes) = body.next().await {
            text.extend_from_slice(&bytes?);
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&text).context("the answer is no JSON")
    }

    /// Calls a route that answers with a line of JSON after the other, and gives each to `line`. A line with an error
    /// ends it.
    pub(crate) async fn lines(
        &self,
        path: &str,
        request: &Value,
        mut line: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let body = self.send("POST", path, Some(json_body(request))).await?;
        let mut lines = StreamReader::new(body).lines();
        while let Some(text) = lines.next_line().await.context("the answer broke off")? {
            if text.is_empty() {
                continue;
            }
            let value: Value = serde_json::from_str(&text).context("the answer is no JSON")?;
            if let Some(error) = value["error"].as_str() {
                bail!("{error}");
            }
            line(value)?;
        }
        Ok(())
    }
}

/// A proxy is for the world outside: a server on this machine is called directly.
fn http(endpoint: &Endpoint) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().connect_timeout(GREETING);
    if is_here(endpoint) { builder.no_proxy() } else { builder }.build()
}

/// Whether an address means this machine.
fn is_here(endpoint: &Endpoint) -> bool {
    match endpoint.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => matches!(endpoint.host.as_str(), "" | "localhost"),
    }
}

fn json_body(value: &Value) -> Body {
    let bytes = Bytes::from(value.to_string());
    Box::pin(futures_util::stream::once(async move { Ok(bytes) }))
}
