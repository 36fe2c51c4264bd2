//! Reading blobs through, to see whether they still are what their names say.

use std::collections::{BTreeMap, BTreeSet};

use super::sound::is_damage;
use super::{Store, StoreError};
use crate::types::{Digest, ModelName};

/// How far the reading of one blob has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyStep {
    pub digest: Digest,
    pub total: u64,
    pub completed: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `None` for a manifest that cannot be read.
    pub digest: Option<Digest>,
    pub why: String,
    /// The names that need it.
    pub models: Vec<ModelName>,
    /// It was moved out of the way: a pull of the models brings it anew.
    pub moved: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs that are right, and their bytes.
    pub right: usize,
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

/// The blobs to look at, each with the names that need it and the size that they say.
type Wanted = BTreeMap<Digest, (BTreeSet<String>, Option<u64>)>;

impl Store {
    /// Reads every blob of `model`, or of the whole store. With `repair`, what is damaged is moved out of the way. `tell`
    /// hears how far it is, and ends it with `false`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; a blob that cannot be moved.
    pub fn verify(
        &self,
        model: Option<&ModelName>,
        repair: bool,
        tell: &mut dyn FnMut(VerifyStep) -> bool,
    ) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        let wanted = self.wanted(model, &mut verified.findings)?;
        for (digest, (models, size)) in wanted {
            let (mut going, mut tries) = (true, 2);
            let (read, judged) = loop {
                let total = self.blobs().size(&digest).unwrap_or(0);
                let judged = self.blobs().stamp_of(&digest);
                let mut told = |completed: u64| {
                    going = tell(VerifyStep { digest, total, completed });
                    going
                };
                let read = self.blobs().read_through(&digest, &mut told);
                tries -= 1;
                // While it is read, a pull may bring the right one.
                let is_other = read.is_err() && self.blobs().stamp_of(&digest) != judged;
                if !is_other || !going || tries == 0 {
                    break (read, judged);
                }
            };
            if !going {
                break;
            }
            let (why, there) = match read {
                Ok(length) if size.is_none_or(|size| size == length) => {
                    verified.right += 1;
                    verified.bytes += length;
                    continue;
                }
                // Its content is what its name says: the manifest is wrong about it.
                Ok(length) => (format!("it is {length} bytes long, and a manifest says otherwise"), false),
                Err(StoreError::MissingBlob(_)) => ("it is missing".to_owned(), false),
                Err(StoreError::Damaged { why, .. }) => (why, true),
                Err(error) => (error.to_string(), is_damage(&error)),
            };
            let moved =
                repair && there && self.blobs().is_own(&digest) && self.blobs().set_aside(&digest, judged.as_ref())?;
            let models = models.iter().filter_map(|name| ModelName::parse(name).ok()).collect();
            verified.findings.push(Finding { digest: Some(digest), why, models, moved });
        }
        Ok(verified)
    }

    fn wanted(&self, model: Option<&ModelName>, findings: &mut Vec<Finding>) -> Result<Wanted, StoreError> {
        let mut wanted = Wanted::new();
        let names = match model {
            Some(name) => vec![self.tags().get(name)?.name],
            None => {
                let all = self.blobs().list().into_iter().map(|(digest, ..)| (digest, Default::default()));
                wanted.extend(all);
                self.tags().names()
            }
        };
        for name in names {
            match self.tags().get(&name) {
                Ok(tag) => {
                    for blob in tag.manifest.descriptors() {
                        let (models, size) = wanted.entry(blob.digest).or_default();
                        models.insert(tag.name.to_string());
                        *size = Some(blob.size);
                    }
                }
                Err(StoreError::NotFound(_)) => {}
                Err(error) => {
                    findings.push(Finding { digest: None, why: error.to_string(), models: vec![name], moved: false });
                }
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    use super::*;
    use crate::store::{Model, testing};

    const WEIGHTS: &[u8] = b"GGUF weights, as it were";

    fn filled(folder: &Path) -> (Store, ModelName, Digest) {
        let store = Store::open(folder).unwrap();
        let digest = testing::weights(&store, "one", WEIGHTS);
        (store, ModelName::parse("one").unwrap(), digest)
    }

    /// Writes to a blob, some time after it was stored.
    fn write(path: &Path, change: impl FnOnce(&fs::File)) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(2)).unwrap();
        change(&file);
    }

    fn flip(file: &fs::File) {
        let later = file.metadata().unwrap().modified().unwrap();
        file.write_at(b"X", 3).unwrap();
        file.set_modified(later).unwrap();
    }

    type Damage = Box<dyn Fn(&Path, &Path)>;

    /// Ways in which a disk or a hand damages a blob, and what is said of it.
    fn damages() -> Vec<(&'static str, Damage)> {
        vec![
            ("its content is sha256:", Box::new(|blob, _| write(blob, flip))),
            ("it is 5 bytes long, not 24", Box::new(|blob, _| write(blob, |file| file.set_len(5).unwrap()))),
            ("it is 0 bytes long, not 24", Box::new(|blob, _| write(blob, |file| file.set_len(0).unwrap()))),
            ("is missing", Box::new(|blob, _| fs::remove_file(blob).unwrap())),
            (
                "it is a folder",
                Box::new(|blob, _| {
                    fs::remove_file(blob).unwrap();
                    fs::create_dir(blob).unwrap();
                }),
            ),
            (
                "a link that leads out of the store",
                Box::new(|blob, outside| {
                    fs::rename(blob, outside).unwrap();
                    symlink(outside, blob).unwrap();
                }),
            ),
            (
                "it is no file",
                Box::new(|blob, _| {
                    fs::remove_file(blob).unwrap();
                    let mode = rustix::fs::Mode::from_raw_mode(0o644);
                    rustix::fs::mknodat(rustix::fs::CWD, blob, rustix::fs::FileType::Fifo, mode, 0).unwrap();
                }),
            ),
        ]
    }

    fn weights(model: &Model) -> Result<(), String> {
        model.weights().map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_disk_does_is_found_on_use_and_mended_by_what_comes_anew() {
        for (why, damage) in damages() {
            let folder = tempfile::tempdir().unwrap();
            let (store, name, digest) = filled(&folder.path().join("store"));
            let model = store.model(&name).unwrap();
            weights(&model).unwrap();
            damage(&store.blobs().path(&digest), &folder.path().join("outside"));

            // In this process, and in one that has seen nothing yet; twice each.
            let fresh = Store::open(&folder.path().join("store")).unwrap();
            for store in [&store, &fresh, &store, &fresh] {
                let error = weights(&store.model(&name).unwrap()).unwrap_err();
                assert!(error.contains(why) && error.contains(&digest.to_string()), "{why}: {error}");
            }
            let verified = fresh.verify(Some(&name), false, &mut |_| true).unwrap();
            assert_eq!((verified.right, verified.findings.len()), (1, 1), "{why}");
            assert_eq!(verified.findings[0].models, std::slice::from_ref(&name));

            assert!(!fresh.blobs().settle(&digest, Some(WEIGHTS.len() as u64)).unwrap(), "{why}");
            assert_eq!(fresh.blobs().put(WEIGHTS).unwrap(), digest, "{why}");
            weights(&model).unwrap();
            assert!(fresh.verify(None, false, &mut |_| true).unwrap().findings.is_empty(), "{why}");
        }
    }

    #[test]
    fn damage_that_leaves_no_trace_is_found_by_reading_and_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (store, name, digest) = filled(folder.path());
        let path = store.blobs().path(&digest);
        let before = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 24 * 3600);
        fs::File::open(&path).unwrap().set_modified(before).unwrap();
        weights(&store.model(&name).unwrap()).unwrap();
        write(&path, |file| {
            file.write_at(b"X", 3).unwrap();
            file.set_modified(before).unwrap();
        });
        let fresh = Store::open(folder.path()).unwrap();
        weights(&fresh.model(&name).unwrap()).unwrap();

        let mut steps = Vec::new();
        let verified = fresh.verify(None, true, &mut |step| {
            steps.push(step);
            true
        });
        let verified = verified.unwrap();
        assert!(steps.contains(&VerifyStep { digest, total: 24, completed: 24 }));
        assert_eq!((verified.right, verified.findings.len(), verified.findings[0].moved), (1, 1, true));
        assert_eq!(weights(&fresh.model(&name).unwrap()).unwrap_err(), format!("blob {digest} is missing"));
        assert_eq!(fs::read_dir(fresh.layout().damaged()).unwrap().count(), 1, "nothing is thrown away");
        assert_eq!(fresh.usage().loose[0].digest, Some(digest));
        assert!(fresh.prune(&Default::default()).removed.is_empty(), "not even for seven days");
        assert!(matches!(fresh.verify(None, false, &mut |_| false), Ok(stopped) if stopped.right == 0));
    }

    #[test]
    fn what_only_looks_changed_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let (store, name, digest) = filled(folder.path());
        let path = store.blobs().path(&digest);
        store.blobs().touch(&digest);
        assert!(store.blobs().is_unchanged(&digest), "our own touch is known");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
        fs::File::open(&path).unwrap().set_modified(later).unwrap();
        let fresh = Store::open(folder.path()).unwrap();
        assert!(!fresh.blobs().is_unchanged(&digest));
        weights(&fresh.model(&name).unwrap()).unwrap();
        assert!(fresh.blobs().is_unchanged(&digest));

        // Nothing is known of what another program brought: it is believed at its first use, and looked after from then on.
        fs::remove_file(fresh.layout().stamp(&digest)).unwrap();
        let fresh = Store::open(folder.path()).unwrap();
        weights(&fresh.model(&name).unwrap()).unwrap();
        assert!(fresh.blobs().is_unchanged(&digest));
        store.blobs().remove(&digest).unwrap();
        assert!(!fresh.layout().stamp(&digest).exists());
    }

    #[test]
    fn what_a_pull_brings_while_the_damaged_one_is_read_stays() {
        for repair in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (store, name, digest) = filled(folder.path());
            write(&store.blobs().path(&digest), flip);
            let mut pulled = false;
            let verified = store.verify(Some(&name), repair, &mut |step| {
                if step.digest == digest && !std::mem::replace(&mut pulled, true) {
                    let puller = Store::open(folder.path()).unwrap();
                    assert!(!puller.blobs().settle(&digest, Some(step.total)).unwrap(), "it is set aside");
                    puller.blobs().put(WEIGHTS).unwrap();
                }
                true
            });
            let verified = verified.unwrap();
            assert_eq!((verified.right, verified.findings), (2, Vec::new()), "repair: {repair}");
            weights(&store.model(&name).unwrap()).unwrap();
            assert_eq!(fs::read_dir(store.layout().damaged()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_has_come_between_the_judgement_and_the_move_is_moved_back() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _, digest) = filled(folder.path());
        let path = store.blobs().path(&digest);
        let right = store.blobs().stamp_of(&digest).unwrap();
        write(&path, flip);
        let judged = store.blobs().stamp_of(&digest).unwrap();
        assert_ne!(judged, right);
        fs::remove_file(&path).unwrap();
        store.blobs().put(WEIGHTS).unwrap();
        assert!(!store.blobs().move_aside(&digest, Some(&judged)).unwrap());
        assert_eq!(fs::read(&path).unwrap(), WEIGHTS);
        assert!(store.blobs().is_unchanged(&digest));
        assert_eq!(fs::read_dir(store.layout().damaged()).unwrap().count(), 0);
        let judged = store.blobs().stamp_of(&digest);
        assert!(store.blobs().set_aside(&digest, judged.as_ref()).unwrap() && !path.exists());
    }
}
