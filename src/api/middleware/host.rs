//! Which names a request may call this server by: a guard against pages that point a name of theirs at a loopback address.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Of one listener: whether its callers' `Host` is looked at, and the machine's own name.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    guarded: bool,
    own: Arc<str>,
}

impl Hosts {
    /// Of a listener on a loopback address of the machine called `own`.
    pub fn loopback(own: &str) -> Self {
        Self { guarded: true, own: own.to_lowercase().into() }
    }

    /// Of a listener that others can reach: any name will do, as in Ollama.
    pub fn any() -> Self {
        Self::default()
    }

    fn allow(&self, asked: &str) -> bool {
        let name = without_port(asked).to_lowercase();
        if let Ok(address) = name.parse::<IpAddr>() {
            return is_near(address);
        }
        name.is_empty()
            || name == "localhost"
            || (!self.own.is_empty() && *name == *self.own)
            || [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end))
    }
}

/// The host a request names, its port included.
pub fn asked(request: &Request) -> Option<&str> {
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    request.uri().authority().map(axum::http::uri::Authority::as_str).or(named)
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

/// Loopback, private, unspecified, or one of this machine's own: those can be bound.
fn is_near(address: IpAddr) -> bool {
    let private = match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    };
    address.is_loopback() || address.is_unspecified() || private || UdpSocket::bind((address, 0)).is_ok()
}

pub async fn hosts(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    if hosts.guarded && !hosts.allow(asked(&request).unwrap_or_default()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if request.method() == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let hosts = Hosts::loopback("Box");
        for good in [
            "",
            "localhost:1",
            "127.0.0.1:11434",
            "[::1]:11434",
            "192.168.1.2",
            "box",
            "a.local",
            "host.docker.internal",
        ] {
            assert!(hosts.allow(good), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.com", "127.0.0.1.nip.io", "8.8.8.8", "locallocal", "?"] {
            assert!(!hosts.allow(bad), "{bad}");
        }
    }
}
