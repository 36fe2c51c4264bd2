//! Which hosts may be gone to.

use std::fmt;
use std::str::FromStr;

use super::name::DEFAULT_HOST;

/// What `default` stands for: Ollama's registry and the hub, and where the two keep their files.
const DEFAULT: [&str; 8] = [
    DEFAULT_HOST,
    "ollama.com",
    "*.ollama.com",
    "*.r2.cloudflarestorage.com",
    "huggingface.co",
    "*.huggingface.co",
    "hf.co",
    "*.hf.co",
];

/// Every host, or those of a list: `host`, `host:port`, `*.domain`. Without a port each will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostList(Option<Vec<String>>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host such as registry.example, registry.example:5000 or *.example")]
pub struct InvalidHost(String);

impl HostList {
    pub fn any() -> Self {
        Self(None)
    }

    /// `port` is the one that is gone to, whether it was written or not.
    pub fn allows(&self, host: &str, port: Option<u16>) -> bool {
        let fits = |allowed: &String| {
            let (name, wanted) = split_port(allowed);
            let same = match name.strip_prefix('*') {
                Some(domain) => host.len() > domain.len() && ends_with(host, domain),
                None => host.eq_ignore_ascii_case(name),
            };
            same && wanted.is_none_or(|wanted| port == Some(wanted))
        };
        self.0.as_ref().is_none_or(|allowed| allowed.iter().any(fits))
    }
}

fn ends_with(host: &str, domain: &str) -> bool {
    host.get(host.len() - domain.len()..).is_some_and(|end| end.eq_ignore_ascii_case(domain))
}

fn split_port(text: &str) -> (&str, Option<u16>) {
    let parsed = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parsed {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

impl FromStr for HostList {
    type Err = InvalidHost;

    /// `any`, or hosts with commas between them, `default` among them.
    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text.trim().eq_ignore_ascii_case("any") {
            return Ok(Self::any());
        }
        let mut hosts = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if item.eq_ignore_ascii_case("default") {
                hosts.extend(DEFAULT.map(str::to_owned));
                continue;
            }
            let (name, _) = split_port(item);
            let plain = name.strip_prefix("*.").unwrap_or(name);
            let address = plain.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            let sound = match address {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => !plain.is_empty() && plain.bytes().all(legal),
            };
            if !sound || item.eq_ignore_ascii_case("any") {
                return Err(InvalidHost(item.to_owned()));
            }
            hosts.push(item.to_owned());
        }
        match hosts.is_empty() {
            true => Err(InvalidHost(text.to_owned())),
            false => Ok(Self(Some(hosts))),
        }
    }
}

impl fmt::Display for HostList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("any"),
            Some(hosts) => f.write_str(&hosts.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_list_and_no_others() {
        let list: HostList = "default, ghcr.example, *.lan, box:5000,[::1]:5000".parse().unwrap();
        for (host, port) in [
            (DEFAULT_HOST, 443),
            ("CDN-lfs.hf.co", 443),
            ("hf.co", 443),
            ("ghcr.example", 8443),
            ("a.lan", 80),
            ("box", 5000),
            ("[::1]", 5000),
        ] {
            assert!(list.allows(host, Some(port)), "{host}:{port}");
            assert!(HostList::any().allows(host, Some(port)));
        }
        for (host, port) in [
            ("evil.example", 443),
            ("lan", 80),
            ("evillan", 80),
            ("xhf.co", 443),
            ("hf.co.evil.example", 443),
            ("box", 5001),
            ("éaan", 443),
        ] {
            assert!(!list.allows(host, Some(port)), "{host}:{port}");
        }
    }

    #[test]
    fn what_is_no_list() {
        assert_eq!("ANY".parse(), Ok(HostList::any()));
        for bad in ["", ",", "https://a.example", "*", "a.*.example", "a b", "any,a.example", "[x]", "::1"] {
            assert!(bad.parse::<HostList>().is_err(), "{bad}");
        }
        assert_eq!("a.example,b:1".parse::<HostList>().unwrap().to_string(), "a.example,b:1");
    }
}
