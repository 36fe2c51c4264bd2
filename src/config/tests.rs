//! What is read of the environment, and what is refused.

use super::*;

#[test]
fn ollama_host_as_ollama_reads_it() {
    for (text, url) in [
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("1.2.3.4:56", "http://1.2.3.4:56"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("https://x.example", "https://x.example:443"),
        ("https://x.example:8080/path", "https://x.example:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("1.2.3.4:99999", "http://1.2.3.4:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
    ] {
        assert_eq!(Endpoint::parse(text, OLLAMA_PORT).url(), url, "{text}");
    }
}

#[test]
fn defaults_and_values() {
    let config = Config::read(&[("HOME", "/h")]).unwrap();
    assert_eq!((config.models, config.guessing), (PathBuf::from("/h/.ollama/models"), Guessing::WherePays));
    assert_eq!(config.prompt_cache, None);
    assert_eq!((config.own, config.compatible), (Some(Endpoint::loopback(3690)), Some(Endpoint::loopback(11434))));
    let set = [
        ("HOME", "/h"),
        ("OLLAMA_HOST", "off"),
        ("OLLAMA_MODELS", " \"/m\" "),
        ("OLLAMA_KEEP_ALIVE", "-1"),
        ("OLLAMA_ORIGINS", "https://a.example, app://*"),
        ("HANZOD_EXTRA_STORES", "/a:/b c:"),
        ("HANZOD_SPECULATIVE", "off"),
        ("HANZOD_PROMPT_CACHE", "4GiB"),
    ];
    let config = Config::read(&set).unwrap();
    assert_eq!((config.guessing, config.prompt_cache.map(ByteSize::bytes)), (Guessing::Off, Some(4 << 30)));
    assert_eq!((config.compatible, config.models, config.keep_alive), (None, "/m".into(), KeepAlive::Forever));
    assert_eq!(config.origins, ["https://a.example", "app://*"]);
    assert_eq!(config.extra_stores, [PathBuf::from("/a"), PathBuf::from("/b c")]);
}

#[test]
fn prompts_are_saved_only_when_it_is_said() {
    for off in ["off", "0", ""] {
        assert_eq!(Config::read(&[("HANZOD_PROMPT_CACHE", off)]).unwrap().prompt_cache, None, "{off}");
    }
}

#[test]
fn the_hub_as_its_own_tools_have_it() {
    let hub = Config::read(&[("HOME", "/h")]).unwrap().hub;
    assert_eq!(hub.endpoint, "https://huggingface.co");
    assert_eq!(hub.token_file, PathBuf::from("/h/.cache/huggingface/token"));
    let set = [("HF_HOME", "/x"), ("HF_TOKEN", "hf_secret"), ("HF_ENDPOINT", "http://m:1"), ("HF_HUB_OFFLINE", "yes")];
    let hub = Config::read(&set).unwrap().hub;
    assert_eq!(
        (hub.token_file.as_path(), hub.cache.as_deref(), hub.share, hub.offline),
        (Path::new("/x/token"), Some(Path::new("/x/hub")), true, true)
    );
    let hub = Config::read(&[("HOME", "/h"), ("HF_HUB_CACHE", "~/c"), ("HANZOD_HUB_CACHE", "Read")]).unwrap().hub;
    assert_eq!((hub.cache, hub.share), (Some(PathBuf::from("/h/c")), false));
    assert_eq!(Config::read(&[("HANZOD_HUB_CACHE", "off")]).unwrap().hub.cache, None);
    let hub = Config::read(&set).unwrap().hub;
    assert_eq!(hub.token.as_ref().map(Hidden::expose), Some("hf_secret"));
    assert!(!format!("{hub:?}").contains("hf_secret"));
}

#[test]
fn what_cannot_be_meant_is_named() {
    for (name, value) in [
        ("HF_ENDPOINT", "hub.example"),
        ("HANZOD_HUB_CACHE", "maybe"),
        ("HANZOD_PULL_HOSTS", "https://x.example"),
        ("OLLAMA_NUM_PARALLEL", "many"),
        ("OLLAMA_KEEP_ALIVE", "soon"),
        ("OLLAMA_ORIGINS", "x.example"),
        ("OLLAMA_MAX_QUEUE", "-1"),
        ("HANZOD_REGISTRY", "yes"),
        ("HANZOD_REGISTRY_UPSTREAM", "https://x.example"),
        ("HANZOD_SPECULATIVE", "maybe"),
        ("HANZOD_PROMPT_CACHE", "some"),
    ] {
        assert_eq!(Config::read(&[(name, value)]).unwrap_err().name, name);
    }
}
