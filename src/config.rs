//! Every setting, parsed once. The only reader of the environment.
//!
//! `OLLAMA_*` variables are read as Ollama reads them: trimmed of blanks and quotes, empty is unset. A value that cannot be
//! meant stops the start with its name, where Ollama would go on with a default in silence.

#[cfg(test)]
mod tests;
mod transfers;

pub use transfers::Transfers;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::go::duration::GoDuration;
use crate::types::name::DEFAULT_HOST;
use crate::types::{ByteSize, Guessing, HostList, KeepAlive, ModelName};

/// hanzod's own port.
pub const OWN_PORT: u16 = 3690;
/// Ollama's port.
pub const OLLAMA_PORT: u16 = 11434;

/// Where settings come from: the process's environment, or a test's map.
pub trait Strings {
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Environment;

impl Strings for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl<const N: usize> Strings for [(&str, &str); N] {
    fn get(&self, name: &str) -> Option<String> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}: `{value}`")]
pub struct ConfigError {
    pub name: &'static str,
    pub value: String,
    pub why: &'static str,
}

/// An address to listen on, or to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub https: bool,
    /// An IP address or a name, IPv6 without brackets. Empty is every address.
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    pub fn loopback(port: u16) -> Self {
        Self { https: false, host: "127.0.0.1".into(), port }
    }

    /// `[scheme://]host[:port][/path]` as Ollama reads `OLLAMA_HOST`: the scheme sets the port that is meant, a port that
    /// is none gives way to the default.
    pub fn parse(text: &str, default: u16) -> Self {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (https, port) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ if rest == "ollama.com" => (true, 443),
            _ => (false, default),
        };
        let rest = rest.split('/').next().unwrap_or_default();
        let (host, given) = match rest.rsplit_once(':') {
            Some((host, given)) if !host.contains(':') || host.ends_with(']') => (host, Some(given)),
            _ => (rest, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let host = if rest.is_empty() { "127.0.0.1".to_owned() } else { host };
        Self { https, host, port: given.and_then(|given| given.parse().ok()).unwrap_or(port) }
    }

    /// For a client: an address that means every interface is called on this machine.
    pub fn url(&self) -> String {
        let host = match self.host.as_str() {
            "" | "0.0.0.0" => "127.0.0.1".to_owned(),
            "::" => "[::1]".to_owned(),
            host if host.contains(':') => format!("[{host}]"),
            host => host.to_owned(),
        };
        format!("{}://{host}:{}", if self.https { "https" } else { "http" }, self.port)
    }

    /// What to bind. `None` when the host is a name that does not resolve.
    pub fn addresses(&self) -> Option<Vec<SocketAddr>> {
        use std::net::ToSocketAddrs as _;
        if self.host.is_empty() {
            return Some(vec![SocketAddr::new(IpAddr::from([0_u16; 8]), self.port)]);
        }
        let found: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs().ok()?.collect();
        (!found.is_empty()).then_some(found)
    }
}

/// What other machines get of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryMode {
    #[default]
    Off,
    /// What is there.
    On,
    /// What is not there too: it is pulled first.
    PullThrough,
}

/// A setting that must not be seen.
#[derive(Clone)]
pub struct Hidden(String);

impl Hidden {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The Hugging Face hub, as its own tools are told of it.
#[derive(Clone, Debug)]
pub struct Hub {
    pub endpoint: String,
    pub token: Option<Hidden>,
    /// Where those tools keep a token.
    pub token_file: PathBuf,
    /// Where they keep what they fetched; `None` leaves it out.
    pub cache: Option<PathBuf>,
    /// What is pulled goes there as well.
    pub share: bool,
    pub offline: bool,
}

/// Everything that can be set from outside, resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// hanzod's own address; `None` is off.
    pub own: Option<Endpoint>,
    /// Our own address was set.
    pub own_is_set: bool,
    /// The address for Ollama's clients; `None` is off.
    pub compatible: Option<Endpoint>,
    /// The compatible address was set, so a client may try it; before our own, if that was not.
    pub compatible_is_set: bool,
    pub models: PathBuf,
    /// Whether other machines may pull from here.
    pub registry: RegistryMode,
    /// The registry that a pull-through asks.
    pub registry_upstream: String,
    /// Further stores, which are only read.
    pub extra_stores: Vec<PathBuf>,
    /// Where other programs keep GGUF files: LM Studio, now and formerly, and the hub's cache.
    pub model_folders: Vec<PathBuf>,
    /// Signs requests to Ollama's registry.
    pub key: PathBuf,
    pub hub: Hub,
    /// The only hosts that models are pulled from.
    pub pull_hosts: HostList,
    pub transfers: Transfers,
    /// Where the REPL keeps its lines; `None` when it may not.
    pub history: Option<PathBuf>,
    pub keep_alive: KeepAlive,
    pub load_timeout: Option<Duration>,
    /// Context of one sequence when nobody says; zero leaves it to the server.
    pub context_length: u32,
    /// Sequences at once in one model; zero leaves it to the server.
    pub num_parallel: u32,
    pub guessing: Guessing,
    /// What saved prompts may take on the disk; `None` saves none.
    pub prompt_cache: Option<ByteSize>,
    /// Zero leaves it to the server.
    pub max_loaded: usize,
    pub max_queue: usize,
    /// Further origins that browsers may call from.
    pub origins: Vec<String>,
    pub no_prune: bool,
    /// Whether a Go template is preferred to the model's own Jinja: `None` decides by what they can do.
    pub go_template: Option<bool>,
    /// More log.
    pub debug: bool,
}

impl Config {
    /// # Errors
    /// [`ConfigError`] for the first value that cannot be meant.
    pub fn read(strings: &dyn Strings) -> Result<Self, ConfigError> {
        let text = |name: &str| {
            let value = strings.get(name)?;
            let value = value.trim().trim_matches(['"', '\'']).trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let home = text("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let number = |name: &'static str, default: u32| match text(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| ConfigError { name, value, why: "is no number of zero or more" }),
        };
        let endpoint = |name: &str, port: u16| match text(name).as_deref() {
            Some("off") => None,
            Some(value) => Some(Endpoint::parse(value, port)),
            None => Some(Endpoint::loopback(port)),
        };
        let keep_alive = text("OLLAMA_KEEP_ALIVE").map_or(Ok(KeepAlive::DEFAULT), keep_alive)?;
        let load_timeout = match text("OLLAMA_LOAD_TIMEOUT").map(|value| duration("OLLAMA_LOAD_TIMEOUT", value)) {
            None => Some(Duration::from_secs(300)),
            Some(time) => time?.to_std().filter(|time| !time.is_zero()),
        };
        let ollama = home.join(".ollama");
        let hub = hub(&text, &home)?;
        let studio = [".lmstudio/models", ".cache/lm-studio/models"].map(|folder| home.join(folder));
        Ok(Self {
            model_folders: studio.into_iter().chain(hub.cache.clone()).collect(),
            own: endpoint("HANZOD_HOST", OWN_PORT),
            own_is_set: text("HANZOD_HOST").is_some_and(|value| value != "off"),
            compatible: endpoint("OLLAMA_HOST", OLLAMA_PORT),
            compatible_is_set: text("OLLAMA_HOST").is_some_and(|value| value != "off"),
            models: text("OLLAMA_MODELS").map_or_else(|| ollama.join("models"), PathBuf::from),
            registry: registry(text("HANZOD_REGISTRY"))?,
            registry_upstream: upstream(text("HANZOD_REGISTRY_UPSTREAM"))?,
            extra_stores: folders(text("HANZOD_EXTRA_STORES")),
            key: ollama.join("id_ed25519"),
            hub,
            pull_hosts: pull_hosts(text("HANZOD_PULL_HOSTS"))?,
            transfers: Transfers::read(&text)?,
            history: (!boolean(text("OLLAMA_NOHISTORY"))).then(|| ollama.join("history")),
            keep_alive,
            load_timeout,
            context_length: number("OLLAMA_CONTEXT_LENGTH", 0)?,
            num_parallel: number("OLLAMA_NUM_PARALLEL", 0)?,
            guessing: text("HANZOD_SPECULATIVE").map_or(Ok(Guessing::default()), guessing)?,
            prompt_cache: prompt_cache(text("HANZOD_PROMPT_CACHE"))?,
            max_loaded: number("OLLAMA_MAX_LOADED_MODELS", 0)? as usize,
            max_queue: number("OLLAMA_MAX_QUEUE", 512)? as usize,
            origins: origins(text("OLLAMA_ORIGINS"))?,
            no_prune: boolean(text("OLLAMA_NOPRUNE")),
            go_template: text("OLLAMA_GO_TEMPLATE").map(|value| boolean(Some(value))),
            debug: boolean(text("OLLAMA_DEBUG")) || boolean(text("HANZOD_DEBUG")),
        })
    }
}

/// The variables of `huggingface_hub`.
fn hub(text: &dyn Fn(&str) -> Option<String>, home: &Path) -> Result<Hub, ConfigError> {
    let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
    if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
        return Err(ConfigError { name: "HF_ENDPOINT", value: endpoint, why: "is no address of http or https" });
    }
    let path = |name: &str| {
        let value = text(name)?;
        Some(value.strip_prefix("~/").map_or_else(|| PathBuf::from(&value), |rest| home.join(rest)))
    };
    let cache = || path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
    let folder = path("HF_HOME").unwrap_or_else(|| cache().join("huggingface"));
    let (used, share) = match text("HANZOD_HUB_CACHE").map(|value| value.to_ascii_lowercase()).as_deref() {
        None | Some("on") => (true, true),
        Some("read") => (true, false),
        Some("off") => (false, false),
        Some(other) => {
            return Err(ConfigError {
                name: "HANZOD_HUB_CACHE",
                value: other.to_owned(),
                why: "is none of on, read, off",
            });
        }
    };
    let yes = |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
    Ok(Hub {
        endpoint,
        token: text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).map(Hidden),
        cache: used.then(|| {
            path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| folder.join("hub"))
        }),
        share,
        token_file: path("HF_TOKEN_PATH").unwrap_or_else(|| folder.join("token")),
        offline: text("HF_HUB_OFFLINE").or_else(|| text("TRANSFORMERS_OFFLINE")).is_some_and(yes),
    })
}

fn pull_hosts(value: Option<String>) -> Result<HostList, ConfigError> {
    let name = "HANZOD_PULL_HOSTS";
    value.map_or(Ok(HostList::any()), |value| {
        value.parse().map_err(|_| ConfigError {
            name,
            value,
            why: "is neither any nor a list of hosts such as default,*.example",
        })
    })
}

/// Go's ParseBool; whatever it does not know is true, as in Ollama.
fn boolean(value: Option<String>) -> bool {
    value.is_some_and(|value| !matches!(value.as_str(), "0" | "f" | "F" | "false" | "FALSE" | "False"))
}

fn duration(name: &'static str, value: String) -> Result<GoDuration, ConfigError> {
    if let Ok(seconds) = value.parse::<i64>() {
        return Ok(GoDuration(seconds.saturating_mul(1_000_000_000)));
    }
    GoDuration::parse(&value).map_err(|_| ConfigError { name, value, why: "is no duration such as 5m or 1h30m" })
}

fn keep_alive(value: String) -> Result<KeepAlive, ConfigError> {
    duration("OLLAMA_KEEP_ALIVE", value).map(|time| KeepAlive::from_nanos(time.0))
}

fn registry(value: Option<String>) -> Result<RegistryMode, ConfigError> {
    Ok(match value.as_deref() {
        None | Some("off" | "0" | "false") => RegistryMode::Off,
        Some("on" | "1" | "true") => RegistryMode::On,
        Some("pull-through") => RegistryMode::PullThrough,
        Some(value) => {
            let why = "is none of off, on, pull-through";
            return Err(ConfigError { name: "HANZOD_REGISTRY", value: value.to_owned(), why });
        }
    })
}

/// The host of a registry, as it stands in a model's name.
fn upstream(value: Option<String>) -> Result<String, ConfigError> {
    let value = value.unwrap_or_else(|| DEFAULT_HOST.to_owned());
    match ModelName::from_parts(&value, "x", "x", "x") {
        Ok(_) => Ok(value),
        Err(_) => Err(ConfigError { name: "HANZOD_REGISTRY_UPSTREAM", value, why: "is no host of a registry" }),
    }
}

/// Folders between colons.
fn folders(value: Option<String>) -> Vec<PathBuf> {
    let list = value.unwrap_or_default();
    list.split(':').map(str::trim).filter(|folder| !folder.is_empty()).map(PathBuf::from).collect()
}

fn guessing(value: String) -> Result<Guessing, ConfigError> {
    match value.as_str() {
        "off" => Ok(Guessing::Off),
        "on" => Ok(Guessing::WherePays),
        "always" => Ok(Guessing::Always),
        _ => Err(ConfigError { name: "HANZOD_SPECULATIVE", value, why: "is none of on, off and always" }),
    }
}

fn prompt_cache(value: Option<String>) -> Result<Option<ByteSize>, ConfigError> {
    let Some(value) = value.filter(|value| value != "off" && value != "0") else { return Ok(None) };
    let size = value.parse().map(Some);
    size.map_err(|_| ConfigError { name: "HANZOD_PROMPT_CACHE", value, why: "is neither off nor a size such as 4GiB" })
}

/// `*`, or an origin with a scheme and at most one `*`.
fn origins(value: Option<String>) -> Result<Vec<String>, ConfigError> {
    let list = value.unwrap_or_default();
    let origins: Vec<String> =
        list.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect();
    match origins.iter().find(|item| *item != "*" && (item.matches('*').count() > 1 || !item.contains("://"))) {
        Some(bad) => Err(ConfigError {
            name: "OLLAMA_ORIGINS",
            value: bad.clone(),
            why: "is no origin such as https://x.example",
        }),
        None => Ok(origins),
    }
}
