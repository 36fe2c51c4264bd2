//! Making room: what no name uses and nobody is at work with goes, once it is old enough.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::loose::{digest_of, entries};
use super::view::{self, BUILDING};
use super::{Loose, LooseKind, Store, layout};
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
        let now = SystemTime::now();
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
            let old = now.duration_since(loose.modified).is_ok_and(|past| past >= age);
            if !old || loose.held || !(rules.dry_run || self.discard(&loose)) {
                continue;
            }
            pruned.freed += loose.size;
            pruned.removed.push(loose);
        }
        if !rules.dry_run {
            self.remove_old_views();
            self.remove_old_stamps();
        }
        pruned
    }

    /// What the server does by itself, at its start and every hour. Gives the bytes freed.
    pub fn sweep(&self) -> u64 {
        self.prune(&PruneRules::default()).freed
    }

    fn discard(&self, loose: &Loose) -> bool {
        match (loose.kind, loose.digest) {
            // Named by a manifest, or about to be, since we looked.
            (LooseKind::Blob, Some(digest)) => self.remove_unused([digest]).is_ok_and(|gone| gone == 1),
            (LooseKind::Partial, Some(digest)) => {
                // Held while its files go: a pull that comes now finds them gone and begins anew.
                let held = layout::open(&self.layout().partial(&digest)).ok();
                let ours =
                    held.as_ref().is_none_or(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
                ours && remove(loose)
            }
            _ => remove(loose),
        }
    }

    /// Notes of blobs that are gone.
    fn remove_old_stamps(&self) {
        for note in entries(&self.layout().stamps()) {
            if digest_of(&note).is_none_or(|digest| self.blobs().size(&digest).is_none()) {
                fs::remove_file(note).ok();
            }
        }
    }

    /// Folders of links for models that are gone.
    fn remove_old_views(&self) {
        if self.tags().all_names().is_none() {
            return;
        }
        let used: HashSet<Digest> = self.tags().list().iter().map(|tag| view::key(&tag.manifest)).collect();
        for view in entries(&self.layout().views()) {
            // One that is being filled, or was a day ago when its process was killed.
            let young = || {
                fs::metadata(&view)
                    .and_then(|seen| seen.modified())
                    .is_ok_and(|then| then.elapsed().is_ok_and(|past| past < PruneRules::default().grace))
            };
            let hex = view.file_name().and_then(|name| name.to_str());
            if hex.is_some_and(|name| name.starts_with(BUILDING)) && young() {
                continue;
            }
            let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            if digest.is_none_or(|digest| !used.contains(&digest)) {
                fs::remove_dir_all(view).ok();
            }
        }
    }
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
    use std::path::Path;

    use super::*;
    use crate::store::testing::{store, weights};
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
}
