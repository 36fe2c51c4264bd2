//! Which addresses a request may go to: a registry must not send us into the private network behind us.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How far an address is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Public,
    /// Loopback, private and shared ranges, and all that is no host on the internet.
    Private,
    /// Link-local: where clouds keep their secrets. No registry lives there.
    Link,
}

pub(super) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (169, 254, _) => Reach::Link,
        (0 | 10 | 127, ..) | (100, 64..=127, _) | (172, 16..=31, _) | (192, 168, _) | (192, 0, 0) => Reach::Private,
        (198, 18 | 19, _) | (224.., ..) => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let words = address.segments();
    let embedded = |high: u16, low: u16| reach_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match words {
        // Mapped and compatible addresses, `::` and `::1` among them; then NAT64 and 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0xfe80..=0xfebf, ..] => Reach::Link,
        [0xfc00..=0xfdff, ..] | [0xff00..=0xffff, ..] | [0x64, 0xff9b, 1, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

/// The address that stands in the URL itself, if it is one.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let named =
        |host: &str| host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    literal(url).map_or_else(|| url.host_str().is_some_and(named), |address| address.is_loopback())
}

/// True when the host is, or has, an address that is not public. A name that cannot be looked up counts as public.
pub(super) async fn is_private(url: &Url) -> bool {
    if let Some(address) = literal(url) {
        return reach(address) != Reach::Public;
    }
    let Some(host) = url.host_str() else { return false };
    tokio::net::lookup_host((host, 0))
        .await
        .is_ok_and(|mut found| found.any(|address| reach(address.ip()) != Reach::Public))
}

/// Looks names up and leaves out the addresses that may not be used, so what was checked is what is connected to.
///
/// Only the names that were put under guard are held to public addresses: a proxy of the system's, which the same client
/// looks up, may well be private.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolver {
    /// A std mutex: held for single set operations.
    guarded: Arc<Mutex<HashSet<String>>>,
}

impl Resolver {
    pub(super) fn guard(&self, host: &str) {
        let mut guarded = self.guarded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        guarded.insert(host.to_ascii_lowercase());
    }

    fn is_guarded(&self, host: &str) -> bool {
        let guarded = self.guarded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        guarded.contains(&host.to_ascii_lowercase())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guarded = self.is_guarded(name.as_str());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = |address: &SocketAddr| match reach(address.ip()) {
                Reach::Public => true,
                Reach::Private => !guarded,
                Reach::Link => false,
            };
            let found: Vec<SocketAddr> = found.filter(allowed).collect();
            if found.is_empty() {
                return Err("the host has no address that may be used".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_by_reach() {
        let public = ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"];
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "ff02::1",
        ];
        let link = ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"];
        for (addresses, expected) in [(&public[..], Reach::Public), (&private, Reach::Private), (&link, Reach::Link)] {
            for address in addresses {
                assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn loopback_by_name_and_number() {
        let loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
        assert!(loopback("http://localhost:5000/") && loopback("http://127.8.0.1/") && loopback("http://[::1]/"));
        assert!(!loopback("http://localhost.example/") && !loopback("http://10.0.0.1/"));
    }

    #[tokio::test]
    async fn a_guarded_name_has_no_private_address() {
        let resolver = Resolver::default();
        let name = || "localhost".parse().unwrap();
        assert!(resolver.resolve(name()).await.is_ok());
        resolver.guard("LOCALHOST");
        assert!(resolver.resolve(name()).await.is_err());
        assert!(is_private(&Url::parse("https://localhost/").unwrap()).await);
    }
}
