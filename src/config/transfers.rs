//! The settings of pulls and pushes.

use std::path::PathBuf;

use super::{ConfigError, boolean};
use crate::types::ByteRate;

/// Connections for one file at the most.
const MOST_STREAMS: usize = 64;

/// How models come in and go out.
#[derive(Clone, Debug)]
pub struct Transfers {
    /// Bytes in a second, of all pulls and pushes together.
    pub limit: Option<ByteRate>,
    /// Connections for one file; `None` leaves it to the server.
    pub streams: Option<usize>,
    /// Registries' hosts, and the addresses that are asked before them, in order.
    pub mirrors: Vec<(String, Vec<String>)>,
    /// Where models without a host in their name come from, if not Ollama's registry.
    pub default_registry: Option<String>,
    /// Certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Files may be pulled from addresses in private networks, and over plain HTTP.
    pub private_addresses: bool,
}

impl Transfers {
    pub(super) fn read(text: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let default_registry = text("HANZOD_DEFAULT_REGISTRY");
        if let Some(address) = default_registry.as_deref().filter(|address| !is_web(address)) {
            return Err(wrong("HANZOD_DEFAULT_REGISTRY", address, "is no address of http or https"));
        }
        Ok(Self {
            limit: text("HANZOD_LIMIT_RATE").map(limit).transpose()?,
            streams: text("HANZOD_PULL_STREAMS").map(streams).transpose()?,
            mirrors: mirrors(&text("HANZOD_REGISTRY_MIRRORS").unwrap_or_default())?,
            default_registry,
            ca_file: text("HANZOD_CA_FILE").map(PathBuf::from),
            private_addresses: boolean(text("HANZOD_PRIVATE_ADDRESSES")),
        })
    }
}

fn wrong(name: &'static str, value: &str, why: &'static str) -> ConfigError {
    ConfigError { name, value: value.to_owned(), why }
}

fn limit(value: String) -> Result<ByteRate, ConfigError> {
    value.parse().map_err(|_| wrong("HANZOD_LIMIT_RATE", &value, "is no rate such as 500k, 20M or 1.5G"))
}

fn streams(value: String) -> Result<usize, ConfigError> {
    let number = value.parse().ok().filter(|streams| (1..=MOST_STREAMS).contains(streams));
    number.ok_or_else(|| wrong("HANZOD_PULL_STREAMS", &value, "is no number from 1 to 64"))
}

/// `host=address[,address];…`
fn mirrors(value: &str) -> Result<Vec<(String, Vec<String>)>, ConfigError> {
    let entries = value.split(';').map(str::trim).filter(|entry| !entry.is_empty());
    let read = |entry: &str| {
        let (host, list) = entry.split_once('=')?;
        let list: Vec<String> = list.split(',').map(|address| address.trim().to_owned()).collect();
        let meant = !host.trim().is_empty() && list.iter().all(|address| is_web(address));
        meant.then(|| (host.trim().to_owned(), list))
    };
    let why = "is not of the form host=https://mirror[,https://mirror];…";
    entries.map(|entry| read(entry).ok_or_else(|| wrong("HANZOD_REGISTRY_MIRRORS", entry, why))).collect()
}

/// An address of http or https, with neither a password nor a query.
fn is_web(address: &str) -> bool {
    let host = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && !address.contains(['@', '?', '#', ' ']))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn how_models_come_in() {
        let set = [
            ("HANZOD_LIMIT_RATE", "20M"),
            ("HANZOD_PULL_STREAMS", "3"),
            ("HANZOD_REGISTRY_MIRRORS", "registry.example=http://one:5000, https://two/x ;other:1=https://three;"),
        ];
        let transfers = Config::read(&set).unwrap().transfers;
        assert_eq!((transfers.limit.map(ByteRate::bytes), transfers.streams), (Some(20 << 20), Some(3)));
        let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            transfers.mirrors,
            [
                ("registry.example".to_owned(), list(&["http://one:5000", "https://two/x"])),
                ("other:1".to_owned(), list(&["https://three"])),
            ]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (name, value) in [
            ("HANZOD_LIMIT_RATE", "fast"),
            ("HANZOD_PULL_STREAMS", "0"),
            ("HANZOD_REGISTRY_MIRRORS", "https://mirror.example"),
            ("HANZOD_REGISTRY_MIRRORS", "registry.example=mirror.example"),
            ("HANZOD_REGISTRY_MIRRORS", "registry.example=https://me:secret@mirror.example"),
            ("HANZOD_DEFAULT_REGISTRY", "registry.example"),
        ] {
            assert_eq!(Config::read(&[(name, value)]).unwrap_err().name, name);
        }
    }
}
