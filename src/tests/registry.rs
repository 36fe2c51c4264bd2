//! A real registry, Debian's `docker-registry`: a model goes out to it and comes back the same.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use hanzod::pull::{PullEvent, PullSettings, Puller, PushEvent};
use hanzod::store::{Descriptor, Manifest, MediaType, Store};
use hanzod::types::ModelName;

const PROGRAM: &str = "docker-registry";
const CONFIG: &[u8] =
    b"{\"model_format\":\"gguf\",\"model_family\":\"llama\",\"architecture\":\"amd64\",\"os\":\"linux\"}";

pub struct Registry {
    child: Child,
    pub address: String,
}

impl Registry {
    /// With a storage of its own. `None` where the program is not installed.
    pub fn start(folder: &Path) -> Option<Self> {
        Self::start_with(folder, "")
    }

    /// As [`Registry::start`], with more in its configuration.
    pub fn start_with(folder: &Path, more: &str) -> Option<Self> {
        let config = folder.join("registry.yml");
        let data = folder.join("registry").display().to_string();
        let text = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {data}\nhttp:\n  addr: 127.0.0.1:0\n{more}"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(PROGRAM);
        let child = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = match child {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: `{PROGRAM}` is not installed (script/test installs it)");
                return None;
            }
            child => child.unwrap(),
        };
        // The port is free until it has it, and it says which one that is.
        let (tell, told) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        std::thread::spawn(move || {
            // It is read to its end, so that it can always be written.
            for line in lines {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    tell.send(rest.split('"').next().unwrap().to_owned()).ok();
                }
            }
        });
        let mut registry = Self { child, address: String::new() };
        registry.address = told.recv_timeout(Duration::from_secs(60)).expect("it says where it listens");
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A store with the tiny model under `name`, put there by hand.
fn filled(folder: &Path, name: &ModelName) -> (Store, Manifest) {
    let store = Store::open(folder).unwrap();
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny/tiny-q4_k_m.gguf");
    let blob = |kind, bytes: &[u8]| Descriptor::new(kind, store.blobs().put(bytes).unwrap(), bytes.len() as u64);
    let weights = blob(MediaType::Model, &std::fs::read(weights).unwrap());
    let template = blob(MediaType::Template, b"{{ .Prompt }}");
    let manifest = Manifest::new(blob(MediaType::Config, CONFIG), vec![weights, template]);
    store.tag(name, &manifest.to_bytes()).unwrap();
    (store, manifest)
}

fn puller(store: &Store, folder: &Path) -> Puller {
    // Small pieces, so that a small model goes through all that a large one does.
    let settings = PullSettings {
        range: 256 << 10..=256 << 10,
        upload: 1 << 20,
        reserve: 0,
        ..PullSettings::new(folder.join("id_ed25519"))
    };
    Puller::new(store.clone(), settings)
}

async fn events<E>(stream: impl Stream<Item = Result<E, hanzod::pull::PullError>>) -> Vec<E> {
    stream.map(Result::unwrap).collect().await
}

/// A model that is in the registry: its name, and how many blobs it has.
pub async fn pushed(registry: &Registry, folder: &Path) -> (String, usize) {
    let text = format!("{}/team/tiny:q4", registry.address);
    let name = ModelName::parse(&text).unwrap();
    let (store, manifest) = filled(&folder.join("pushed"), &name);
    events(puller(&store, folder).push(name, true)).await;
    (text, manifest.descriptors().count())
}

#[tokio::test]
async fn a_model_goes_out_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(folder.path()) else { return };
    let name = ModelName::parse(&format!("{}/team/tiny:q4", registry.address)).unwrap();
    let (store, manifest) = filled(&folder.path().join("one"), &name);
    let puller_one = puller(&store, folder.path());

    let pushed = events(puller_one.push(name.clone(), true)).await;
    assert_eq!(pushed.first(), Some(&PushEvent::Retrieving));
    assert_eq!(pushed[pushed.len() - 2..], [PushEvent::Manifest, PushEvent::Done]);
    for blob in manifest.descriptors() {
        let (digest, total) = (blob.digest, blob.size);
        assert!(pushed.contains(&PushEvent::Layer { digest, total, completed: total }));
    }

    // Again, without `insecure`: a registry on this machine is found to speak plain HTTP. All is there already.
    let pushed = events(puller_one.push(name.clone(), false)).await;
    assert_eq!(pushed.len(), 3 + manifest.descriptors().count());

    let other = Store::open(&folder.path().join("two")).unwrap();
    let puller_two = puller(&other, folder.path());
    let pulled = events(puller_two.pull(name.clone(), false)).await;
    assert_eq!(pulled.last(), Some(&PullEvent::Done));
    assert_eq!(other.tags().bytes(&name).unwrap().0, store.tags().bytes(&name).unwrap().0);
    for blob in manifest.descriptors() {
        let read = |store: &Store| std::fs::read(store.blobs().path(&blob.digest)).unwrap();
        assert!(read(&store) == read(&other));
    }

    let missing = ModelName::parse(&format!("{}/team/other", registry.address)).unwrap();
    let ended: Vec<_> = puller_two.pull(missing.clone(), true).collect().await;
    let error = ended.last().and_then(|event| event.as_ref().err()).unwrap();
    assert_eq!(error.to_string(), "pull model manifest: file does not exist");
    let told: Vec<_> =
        puller_two.push(missing, true).map(|event| event.map_err(|error| error.to_string())).collect().await;
    assert_eq!(told[..2], [Ok(PushEvent::Retrieving), Ok(PushEvent::NotRetrieved)]);
    assert!(told[2].as_ref().is_err_and(|error| error.contains("not found")), "{told:?}");
}
