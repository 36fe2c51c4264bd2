//! What takes the room: models, what they share, and what no manifest names.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::{Loose, Store};
use crate::types::{Digest, ModelName};

/// One name's share.
#[derive(Clone, Debug)]
pub struct ModelUsage {
    pub name: ModelName,
    pub digest: Digest,
    /// Bytes of its blobs in this store, each counted once.
    pub size: u64,
    /// Bytes that would be free without it.
    pub own: u64,
    /// Bytes of its blobs that are in other stores, which are only read.
    pub elsewhere: u64,
    /// Blobs that its manifest names and that are not there.
    pub missing: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// The largest first.
    pub models: Vec<ModelUsage>,
    /// Bytes of all blobs of this store that its manifests name.
    pub used: u64,
    /// Of these, bytes that several names share.
    pub shared: u64,
    /// Of these, bytes of files that have another name outside of the store.
    pub linked: u64,
    /// Bytes of blobs that its manifests name and that are in other stores.
    pub elsewhere: u64,
    pub loose: Vec<Loose>,
    /// Why unused blobs cannot be told.
    pub unsure: Option<&'static str>,
    /// Bytes of the file system, and those that are free.
    pub disk: Option<(u64, u64)>,
}

impl Store {
    pub fn usage(&self) -> Usage {
        let tags = self.tags().own();
        let mut uses: HashMap<Digest, usize> = HashMap::new();
        let named = |manifest: &super::Manifest| {
            let mut named: Vec<Digest> = manifest.descriptors().map(|blob| blob.digest).collect();
            named.sort_unstable();
            named.dedup();
            named
        };
        for tag in &tags {
            named(&tag.manifest).into_iter().for_each(|digest| *uses.entry(digest).or_default() += 1);
        }
        let mut usage = Usage::default();
        // Of each blob that is there: its bytes here, and those elsewhere.
        let mut sizes: HashMap<Digest, (u64, u64)> = HashMap::new();
        for (digest, count) in &uses {
            let Some(size) = self.blobs().size(digest) else { continue };
            if !self.blobs().is_own(digest) {
                sizes.insert(*digest, (0, size));
                usage.elsewhere += size;
                continue;
            }
            sizes.insert(*digest, (size, 0));
            usage.used += size;
            if *count > 1 {
                usage.shared += size;
            }
            if fs::metadata(self.blobs().path(digest)).is_ok_and(|seen| seen.nlink() > 1) {
                usage.linked += size;
            }
        }
        let model = |tag: super::Tag| {
            let blobs = named(&tag.manifest);
            let there = || blobs.iter().filter_map(|digest| Some((digest, sizes.get(digest)?)));
            ModelUsage {
                size: there().map(|(_, (here, _))| here).sum(),
                own: there().filter(|(digest, _)| uses[digest] == 1).map(|(_, (here, _))| here).sum(),
                elsewhere: there().map(|(_, (_, elsewhere))| elsewhere).sum(),
                missing: blobs.len() - there().count(),
                name: tag.name,
                digest: tag.digest,
            }
        };
        usage.models = tags.into_iter().map(model).collect();
        usage.models.sort_by_key(|model| (std::cmp::Reverse(model.size), model.name.to_string()));
        (usage.loose, usage.unsure) = self.loose();
        let disk = rustix::fs::statvfs(self.layout().blobs()).ok();
        usage.disk = disk.map(|seen| {
            let bytes = |blocks: u64| blocks.saturating_mul(seen.f_frsize);
            (bytes(seen.f_blocks), bytes(seen.f_bavail))
        });
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LooseKind, MediaType, testing};

    #[test]
    fn what_is_shared_is_nobodys_own() {
        let (folder, store) = testing::store();
        for (name, own) in [("one", &b"12345"[..]), ("two", b"1234567")] {
            let layers = [(MediaType::Model, &b"shared----"[..]), (MediaType::System, own)];
            testing::model(&store, name, layers.map(|(kind, content)| testing::layer(&store, kind, content)).into());
        }
        let shared = store.blobs().path(&Digest::of(b"shared----"));
        fs::hard_link(shared, folder.path().join("elsewhere")).unwrap();
        let unused = store.blobs().put(b"unused").unwrap();
        store.blobs().partial(&Digest::of(b"p")).unwrap();

        let usage = store.usage();
        let models: Vec<_> = usage.models.iter().map(|model| (model.name.short(), model.size, model.own)).collect();
        assert_eq!(models, [("two:latest".into(), 19, 7), ("one:latest".into(), 17, 5)]);
        assert_eq!((usage.used, usage.shared, usage.linked), (24, 12, 10));
        let loose: Vec<_> = usage.loose.iter().map(|loose| (loose.kind, loose.digest)).collect();
        assert_eq!(loose, [(LooseKind::Blob, Some(unused)), (LooseKind::Partial, Some(Digest::of(b"p")))]);
        assert!(usage.disk.is_some_and(|(all, free)| all >= free && free > 0) && usage.unsure.is_none());
    }
}
