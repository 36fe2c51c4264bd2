//! Making room: what no name uses and nobody is at work with goes, once it is old enough.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::loose::{digest_of, entries};
use super::view::{self, BUILDING};
use super::{Loose, LooseKind, Store};
use crate::types::Digest;

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneRules {
    /// A blob this young may belong to a create or a pull of another program on the same store.
    pub grace: Duration,
    /// A download that nobody has gone on with for this long is given up; so are a damaged blob and a saved prompt that nobody
    /// has used.
    pub partial_life: Duration,
    /// Only tell.
    pub dry_run: bool,
}

impl Default for PruneRules {
    fn default() -> Self {
        let hours = |count: u64| Duration::from_secs(count * 60 * 60);
        Self { grace: hours(24), partial_life: hours(7 * 24), dry_run: false }
    }
}

/// What went, or would have gone.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    pub removed: Vec<Loose>,
    /// Bytes.
    pub freed: u64,
    /// Why unused blobs stay.
    pub kept: Option<&'static str>,
}

impl Store {
    /// Removes what `rules` let go. What a running pull holds, here or in another process, stays; so does every unused blob
    /// while one runs, since it may be its own.
    pub fn prune(&self, rules: &PruneRules) -> Pruned {
        let (loose, unsure) = self.loose();
        let pulling = loose.iter().any(|loose| loose.kind == LooseKind::Partial && loose.held);
        let kept = unsure.or(pulling.then_some("a pull is under way, and unused blobs may be its own"));
        let mut pruned = Pruned { kept, ..Pruned::default() };
        for loose in loose {
            let age = match loose.kind {
                LooseKind::Blob if kept.is_some() => continue,
                LooseKind::Blob | LooseKind::Temporary => rules.grace,
                LooseKind::Partial | LooseKind::Damaged | LooseKind::Prompt => rules.partial_life,
            };
            if !loose.is_left(age) || loose.held || !(rules.dry_run || self.discard(&loose, age)) {
                continue;
            }
            pruned.freed += loose.size;
            pruned.removed.push(loose);
        }
        if !rules.dry_run {
            self.remove_old_views(entries(&self.layout().views()).collect());
            self.remove_old_stamps();
        }
        pruned
    }

    /// What the server does by itself, at its start and every hour. Gives the bytes freed.
    pub fn sweep(&self) -> u64 {
        self.prune(&PruneRules::default()).freed
    }

    /// Removes what was found to have been left alone for so long, if that still holds: others have gone on meanwhile.
    fn discard(&self, loose: &Loose, age: Duration) -> bool {
        match (loose.kind, loose.digest) {
            // Named by a manifest, or about to be, since we looked.
            (LooseKind::Blob, Some(digest)) => {
                self.remove_unused_if([digest], |_| loose.is_left(age)).is_ok_and(|gone| gone == 1)
            }
            // Held while its files go: a pull that comes now finds them gone and begins anew.
            (LooseKind::Partial, Some(digest)) => match self.blobs().partial(&digest) {
                Ok(partial) if partial.lock().is_ok_and(|ours| ours) => {
                    let gone = loose.is_left(age) && remove(loose);
                    if gone || fs::symlink_metadata(partial.journal()).is_err() {
                        partial.discard();
                    }
                    gone
                }
                _ => false,
            },
            _ => loose.is_left(age) && remove(loose),
        }
    }

    /// Notes of blobs that are gone. A new one may be of a blob that has just come.
    fn remove_old_stamps(&self) {
        for note in entries(&self.layout().stamps()).filter(|note| !is_young(note)) {
            if digest_of(&note).is_none_or(|digest| self.blobs().size(&digest).is_none()) {
                fs::remove_file(note).ok();
            }
        }
    }

    /// Of the folders of links that were there when they were listed, those for models that are gone.
    fn remove_old_views(&self, listed: Vec<PathBuf>) {
        // No name comes between the look at the names and the removal.
        let _alone = self.alone();
        if self.tags().all_names().is_none() {
            return;
        }
        let used: HashSet<Digest> = self.tags().list().iter().map(|tag| view::key(&tag.manifest)).collect();
        for view in listed {
            // One that is being filled, or was a day ago when its process was killed.
            let hex = view.file_name().and_then(|name| name.to_str());
            if hex.is_some_and(|name| name.starts_with(BUILDING)) && is_young(&view) {
                continue;
            }
            let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            if digest.is_none_or(|digest| !used.contains(&digest)) {
                fs::remove_dir_all(view).ok();
            }
        }
    }
}

/// Whether somebody may be at work with a file or folder that nothing names yet.
fn is_young(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|seen| seen.modified());
    modified.is_ok_and(|then| then.elapsed().map_or(true, |past| past < PruneRules::default().grace))
}

fn remove(loose: &Loose) -> bool {
    let remove = |path: &PathBuf| match fs::symlink_metadata(path) {
        // It stood in a blob's place.
        Ok(seen) if seen.is_dir() => fs::remove_dir_all(path).is_ok(),
        _ => fs::remove_file(path).is_ok(),
    };
    // `and` would stop at the first that fails
    loose.files.iter().map(remove).fold(true, |all, gone| all & gone)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use rustix::fs::{FlockOperation, flock};

    use super::*;
    use crate::store::testing::{self, store, weights};
    use crate::store::{Descriptor, MediaType};
    use crate::types::ModelName;

    /// Makes a file `hours` old.
    fn age(path: &Path, hours: u64) {
        let then = SystemTime::now() - Duration::from_secs(hours * 3600);
        File::open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn the_young_and_the_used_stay() {
        let (_folder, store) = store();
        let used = weights(&store, "one", b"used");
        age(&store.blobs().path(&used), 1000);
        let [young, old, pinned] = [&b"young"[..], b"old", b"pinned"].map(|text| store.blobs().put(text).unwrap());
        age(&store.blobs().path(&young), 23);
        age(&store.blobs().path(&old), 25);
        age(&store.blobs().path(&pinned), 25);
        let _pin = store.pin(pinned);

        let dry = store.prune(&PruneRules { dry_run: true, ..PruneRules::default() });
        assert_eq!((dry.freed, dry.removed.len(), dry.kept), (3, 1, None));
        assert_eq!(dry.removed[0].digest, Some(old));
        assert!(store.blobs().size(&old).is_some(), "only told");
        assert_eq!(store.sweep(), 3);
        let there = [used, young, old, pinned].map(|digest| store.blobs().size(&digest).is_some());
        assert_eq!(there, [true, true, false, true]);
    }

    #[test]
    fn downloads_live_seven_days_and_those_under_way_for_ever() {
        let (_folder, store) = store();
        let [young, old, running] = [&b"young"[..], b"old", b"running"].map(Digest::of);
        for digest in [young, old, running] {
            let partial = store.blobs().partial(&digest).unwrap();
            fs::write(partial.path(), b"part").unwrap();
            fs::write(partial.journal(), b"note").unwrap();
            for path in [partial.path().to_owned(), partial.journal()] {
                age(&path, if digest == young { 6 * 24 } else { 8 * 24 });
            }
        }
        let unused = store.blobs().put(b"of the running pull").unwrap();
        age(&store.blobs().path(&unused), 30);
        let lock = store.blobs().partial(&running).unwrap();
        flock(lock.file(), FlockOperation::LockExclusive).unwrap();

        let pruned = store.prune(&PruneRules::default());
        let gone: Vec<_> = pruned.removed.iter().map(|loose| (loose.kind, loose.digest)).collect();
        assert_eq!(gone, [(LooseKind::Partial, Some(old))]);
        assert!(pruned.kept.is_some_and(|why| why.contains("a pull is under way")));
        assert_eq!(fs::read_dir(store.layout().partials()).unwrap().count(), 4);

        drop(lock);
        let pruned = store.prune(&PruneRules { partial_life: Duration::ZERO, ..PruneRules::default() });
        assert_eq!(pruned.removed.len(), 3, "two downloads, and the blob");
        assert_eq!(fs::read_dir(store.layout().partials()).unwrap().count(), 0);
    }

    #[test]
    fn saved_prompts_live_seven_days_after_their_last_use() {
        let (_folder, store) = store();
        fs::create_dir_all(store.layout().prompts()).unwrap();
        let [used, unused] = ["used.prompt", "unused.prompt"].map(|name| store.layout().prompts().join(name));
        for (path, days) in [(&used, 6), (&unused, 8)] {
            fs::write(path, b"state").unwrap();
            age(path, days * 24);
        }
        let loose: Vec<_> = store.usage().loose.iter().map(|loose| (loose.kind, loose.size)).collect();
        assert_eq!(loose, [(LooseKind::Prompt, 5), (LooseKind::Prompt, 5)]);
        assert_eq!(store.sweep(), 5);
        assert!(used.exists() && !unused.exists());
    }

    #[test]
    fn a_manifest_that_cannot_be_read_keeps_all_blobs() {
        let (_folder, store) = store();
        weights(&store, "one", b"used");
        fs::write(store.layout().manifest(&ModelName::parse("one").unwrap()), b"").unwrap();
        let blobs = store.blobs().list();
        blobs.iter().for_each(|(digest, ..)| age(&store.blobs().path(digest), 100));
        let ollamas = store.layout().blobs().join(format!("{}-partial-3", Digest::of(b"o").file_name()));
        let ours = store.layout().blobs().join("ingest-x");
        for path in [&ollamas, &ours] {
            fs::write(path, b"x").unwrap();
            age(path, 200);
        }
        let pruned = store.prune(&PruneRules::default());
        assert!(pruned.kept.is_some_and(|why| why.contains("manifest")));
        assert_eq!((pruned.removed.len(), store.blobs().list().len()), (2, blobs.len()));
        assert!(!ollamas.exists() && !ours.exists());
    }

    /// What `loose` says of the files of one kind, before `change`, and what of them is discarded then.
    fn discarded(store: &Store, kind: LooseKind, change: impl FnOnce()) -> bool {
        let (found, _) = store.loose();
        let mut found = found.into_iter().filter(|loose| loose.kind == kind);
        let (loose, none) = (found.next().unwrap(), found.next());
        assert!(none.is_none() && loose.is_left(Duration::from_secs(60)));
        change();
        store.discard(&loose, Duration::from_secs(60))
    }

    #[test]
    fn what_is_named_or_begun_since_the_look_stays() {
        let (_folder, store) = store();
        let digest = store.blobs().put(b"content").unwrap();
        let blob = store.blobs().path(&digest);
        // As a create or a pull of another process does that uses the blob, and one of an older version that pins nothing.
        age(&blob, 30);
        assert!(!discarded(&store, LooseKind::Blob, || store.blobs().touch(&digest)));
        age(&blob, 30);
        assert!(!discarded(&store, LooseKind::Blob, || {
            weights(&store, "one", b"content");
        }));
        store.tags().remove(&ModelName::parse("one").unwrap()).unwrap();
        age(&blob, 30);
        store.blobs().remove(&Digest::of(b"{}")).unwrap();
        assert!(discarded(&store, LooseKind::Blob, || ()));

        // A pull has gone on with what was there, or begun once more beside what an earlier one left.
        let partial = || store.blobs().partial(&digest).unwrap();
        fs::write(partial().path(), b"part").unwrap();
        fs::write(partial().journal(), b"note").unwrap();
        let old = || [partial().path().to_owned(), partial().journal()].iter().for_each(|path| age(path, 30));
        old();
        assert!(!discarded(&store, LooseKind::Partial, || fs::write(partial().path(), b"more").unwrap()));
        old();
        fs::remove_file(partial().path()).unwrap();
        let mut begun = None;
        assert!(!discarded(&store, LooseKind::Partial, || {
            let pull = begun.insert(partial());
            assert!(pull.lock().unwrap());
        }));
        assert!(partial().journal().exists());
        drop(begun);
        fs::remove_file(partial().path()).unwrap();
        assert!(discarded(&store, LooseKind::Partial, || ()));
        assert_eq!(fs::read_dir(store.layout().partials()).unwrap().count(), 0);

        let file = store.layout().blobs().join("ingest-x");
        fs::write(&file, b"x").unwrap();
        age(&file, 30);
        assert!(!discarded(&store, LooseKind::Temporary, || fs::write(&file, b"xy").unwrap()));
    }

    #[test]
    fn the_links_of_a_model_that_is_named_since_the_look_stay() {
        let (_folder, store) = store();
        let layer = testing::layer(&store, MediaType::File, b"content");
        let file = Descriptor { name: Some("model.safetensors".to_owned()), ..layer };
        let _pin = store.pin(file.digest);
        let name = testing::model(&store, "one", vec![file.clone()]);
        let view = store.model(&name).unwrap().view().unwrap();
        store.remove(&name).unwrap();
        let listed: Vec<PathBuf> = entries(&store.layout().views()).collect();
        testing::model(&store, "one", vec![file]);
        store.remove_old_views(listed.clone());
        assert!(view.is_dir());
        store.remove(&name).unwrap();
        store.remove_old_views(listed);
        assert!(!view.exists());
    }
}
