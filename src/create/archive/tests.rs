//! Archives that come back the same, and hostile ones.

use std::fs;
use std::io::{self, Read};

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::{export, import};
use crate::store::testing::store;
use crate::store::{Descriptor, Manifest, MediaType, Store};
use crate::types::{Digest, ModelName};

const WEIGHTS: &[u8] = &[7; 100_000];

fn descriptor(kind: MediaType, content: &[u8]) -> Descriptor {
    Descriptor::new(kind, Digest::of(content), content.len() as u64)
}

fn manifest() -> Manifest {
    let layers = vec![descriptor(MediaType::Model, WEIGHTS), descriptor(MediaType::System, b"Be brief.")];
    Manifest::new(descriptor(MediaType::Config, b"{}"), layers)
}

fn filled(name: &str) -> (tempfile::TempDir, Store, ModelName) {
    let (folder, store) = store();
    for content in [WEIGHTS, b"Be brief.", b"{}"] {
        store.blobs().put(content).unwrap();
    }
    let name = ModelName::parse(name).unwrap();
    store.tag(&name, &manifest().to_bytes()).unwrap();
    (folder, store, name)
}

fn written(store: &Store, name: &ModelName) -> Vec<u8> {
    let mut bytes = Vec::new();
    export(store, name).unwrap().write(&mut bytes).unwrap();
    bytes
}

/// Nothing came, and nothing is left of what was coming.
fn is_empty(store: &Store) {
    assert!(store.tags().list().is_empty() && store.blobs().list().is_empty());
    assert_eq!(fs::read_dir(store.layout().blobs()).unwrap().count(), 0);
}

#[test]
fn there_and_back() {
    let (_one, from, name) = filled("host.example:5000/team/tiny:q4");
    let archive = written(&from, &name);
    assert_eq!(archive, written(&from, &name), "the same model gives the same bytes");

    let (_two, to) = store();
    assert_eq!(import(&to, &archive[..], None).unwrap(), std::slice::from_ref(&name));
    assert_eq!(to.tags().bytes(&name).unwrap().0, from.tags().bytes(&name).unwrap().0);
    assert_eq!(to.blobs().read(&Digest::of(WEIGHTS), 1 << 20).unwrap(), WEIGHTS);
    assert_eq!(to.blobs().list().len(), 3, "the manifest is no blob");

    let other = ModelName::parse("other").unwrap();
    assert_eq!(import(&to, &archive[..], Some(&other)).unwrap(), std::slice::from_ref(&other));
    assert_eq!((to.tags().list().len(), to.blobs().list().len()), (2, 3));
    assert!(export(&to, &ModelName::parse("nobody").unwrap()).is_err());
}

#[test]
fn of_several_models_all_come_or_none() {
    let (_folder, store) = store();
    let manifest = manifest().to_bytes();
    let archive = Forged::new().called(&manifest, manifest.len(), &["first", "second"]).0.into_inner().unwrap();
    let second = store.layout().manifest(&ModelName::parse("second").unwrap());
    fs::create_dir_all(second.join("in the way")).unwrap();
    assert!(import(&store, &archive[..], None).is_err());
    // Its blobs stay until they are pruned: while a name is broken, nobody knows which are used.
    assert!(store.tags().list().is_empty());
    assert!(!store.layout().manifest(&ModelName::parse("first").unwrap()).exists());

    fs::remove_dir(second.join("in the way")).unwrap();
    fs::remove_dir(&second).unwrap();
    assert_eq!(import(&store, &archive[..], None).unwrap().len(), 2);
    assert_eq!(store.tags().list().len(), 2);
}

#[test]
fn an_archive_that_breaks_off_leaves_nothing() {
    let (_one, from, name) = filled("tiny");
    let archive = written(&from, &name);
    let (_two, to) = store();
    for length in (0..archive.len() - 1024).step_by(997) {
        assert!(import(&to, &archive[..length], None).is_err(), "{length}");
        is_empty(&to);
    }
}

#[test]
fn a_damaged_blob_is_not_exported_as_a_good_one() {
    let (_one, from, name) = filled("tiny");
    let ready = export(&from, &name).unwrap();
    let path = from.blobs().path(&Digest::of(WEIGHTS));
    let mut wrong = WEIGHTS.to_vec();
    wrong[5] = 0;
    fs::remove_file(&path).unwrap();
    fs::write(&path, wrong).unwrap();
    let mut bytes = Vec::new();
    assert!(ready.write(&mut bytes).unwrap_err().to_string().contains("is damaged"));
    let (_two, to) = store();
    assert!(import(&to, &bytes[..], None).is_err());
    is_empty(&to);
}

/// An archive made by hand.
struct Forged(Builder<Vec<u8>>);

impl Forged {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Adds an entry under any name, of any kind, that says any size.
    fn add(mut self, path: &str, kind: EntryType, size: u64, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.add(path, EntryType::Regular, content.len() as u64, content)
    }

    fn blob(self, content: &[u8]) -> Self {
        self.file(&format!("blobs/sha256/{}", Digest::of(content).hex()), content)
    }

    /// All of the model, and an index whose manifest is said to be `size` long.
    fn model(self, manifest: &[u8], size: usize) -> Self {
        self.called(manifest, size, &["tiny"])
    }

    /// The same under several names.
    fn called(self, manifest: &[u8], size: usize, names: &[&str]) -> Self {
        let entry = |name: &&str| {
            let named = json!({"org.opencontainers.image.ref.name": name});
            json!({"digest": Digest::of(manifest), "size": size, "annotations": named})
        };
        let entries: Vec<_> = names.iter().map(entry).collect();
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        let all = self.file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
        all.blob(b"{}").blob(b"Be brief.").blob(WEIGHTS).blob(manifest).file("index.json", index.as_bytes())
    }

    fn whole(self) -> Self {
        let manifest = manifest().to_bytes();
        let size = manifest.len();
        self.model(&manifest, size)
    }

    fn refused(self, why: &str) {
        let (folder, store) = store();
        let bytes = self.0.into_inner().unwrap();
        let error = import(&store, &bytes[..], None).expect_err(why).to_string();
        assert!(error.contains(why), "refused for another reason than {why:?}: {error}");
        is_empty(&store);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{why}: something lies outside of the store");
    }
}

#[test]
fn other_orders_and_notes_of_other_tools_are_fine() {
    let (_folder, store) = store();
    let archive = Forged::new().add("./blobs/", EntryType::Directory, 0, b"").file("manifest.json", b"[]").whole();
    let bytes = archive.0.into_inner().unwrap();
    assert_eq!(import(&store, &bytes[..], None).unwrap()[0].short(), "tiny:latest");
    assert_eq!(store.blobs().list().len(), 3);
}

#[test]
fn hostile_archives_are_refused() {
    use EntryType::{Block, Fifo, Link, Regular, Symlink};
    let hex = Digest::of(b"x").hex();
    let blob = format!("blobs/sha256/{hex}");
    for path in ["../evil", "/etc/evil", "blobs/sha256/../../evil", "blobs/evil", "a/b", "..", "blobs/sha256/ABC"] {
        Forged::new().file(path, b"x").whole().refused("it has an");
    }
    for kind in [Symlink, Link, Block, Fifo] {
        Forged::new().add(&blob, kind, 0, b"").whole().refused("something that is no file");
    }
    Forged::new().add("../up", EntryType::Directory, 0, b"").whole().refused("a folder");
    Forged::new().file(&blob, b"y").whole().refused("digest mismatch");
    Forged::new().blob(b"{}").whole().refused("twice");
    Forged::new().file("index.json", b"{}").whole().refused("two indexes");
    Forged::new().add(&blob, Regular, 1 << 40, b"x").refused("");
    Forged::new().blob(b"x").refused("no index.json");
    Forged::new().file("index.json", b"{\"schemaVersion\":2,\"manifests\":[]}").refused("no model");
    Forged::new().file("oci-layout", b"{\"imageLayoutVersion\":\"9\"}").refused("unknown version");
    Forged::new().file("index.json", &vec![b' '; (4 << 20) + 1]).refused("too long");
    let bytes = manifest().to_bytes();
    Forged::new().model(&bytes, bytes.len() + 1).refused("of another length");
    let mut lying = manifest();
    lying.layers[0].size -= 1;
    let lying = lying.to_bytes();
    Forged::new().model(&lying, lying.len()).refused("not as long as the manifest says");
    let mut lacking = manifest();
    lacking.layers.push(descriptor(MediaType::License, b"not here"));
    let lacking = lacking.to_bytes();
    Forged::new().model(&lacking, lacking.len()).refused("is missing");
    Forged::new().model(b"[]", 2).refused("manifest");
}

#[test]
fn an_endless_name_does_not_fill_the_memory() {
    let (_folder, store) = store();
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let mut served = 0_u64;
    let endless = io::repeat(b'a').take(1 << 40);
    let counted = Counted { input: header.as_bytes().chain(endless), served: &mut served };
    assert!(import(&store, counted, None).unwrap_err().to_string().contains("between its files"));
    assert!(served < 2 << 20, "{served}");
    is_empty(&store);
}

struct Counted<'a, R> {
    input: R,
    served: &'a mut u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        *self.served += count as u64;
        Ok(count)
    }
}
