//! A model of GGUF files that lie on this machine, taken into the store without a copy; and the search for such files where
//! other programs keep theirs.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{CreateError, CreateEvent, CreateFile, CreateRequest, create};
use crate::gguf::{Gguf, GgufError};
use crate::store::{Pin, Store, Taken};
use crate::types::ModelName;
use crate::types::file_name::{Part, gguf_stem, model_stem};
use crate::types::name::legal_part;

/// Folders below a place that is searched.
const DEEPEST: usize = 8;
/// Entries that are looked at.
const MOST: usize = 100_000;

/// What is to be linked.
#[derive(Clone, Debug)]
pub struct LinkRequest {
    /// `None` takes the file's.
    pub name: Option<ModelName>,
    /// A GGUF file; of a split model, any part.
    pub file: PathBuf,
    /// Further files of the same model, such as a projector.
    pub more: Vec<PathBuf>,
    /// Where it takes a copy, one is made.
    pub copy: bool,
}

#[derive(Clone, Debug)]
pub enum LinkEvent {
    Reading { file: PathBuf, total: u64, completed: u64 },
    Taken { file: PathBuf, taken: Taken },
    Made(CreateEvent),
}

/// Makes the model. `tell` ends it with `false`.
///
/// # Errors
/// [`CreateError`]; then the store has no new model.
pub fn link(
    store: &Store,
    request: &LinkRequest,
    tell: &mut dyn FnMut(LinkEvent) -> bool,
) -> Result<ModelName, CreateError> {
    let name = match &request.name {
        Some(name) => name.clone(),
        None => name_of(&request.file)?,
    };
    let files: Vec<PathBuf> = parts(&request.file).into_iter().chain(request.more.iter().cloned()).collect();
    for file in &files {
        look(file)?;
    }
    let mut pins: Vec<Pin> = Vec::new();
    let mut made = CreateRequest::new(name.clone());
    for file in &files {
        let total = fs::metadata(file).map_or(0, |seen| seen.len());
        let mut completed = 0;
        let adopted = store.blobs().adopt(file, request.copy, &mut |bytes| {
            completed += bytes.len() as u64;
            tell(LinkEvent::Reading { file: file.clone(), total, completed })
        })?;
        let digest = adopted.digest;
        pins.push(store.pin(digest));
        let taken = adopted.commit()?;
        made.files.push(CreateFile::new(&file_name(file), &digest.to_string())?);
        tell(LinkEvent::Taken { file: file.clone(), taken });
    }
    create(store, made, |event| {
        tell(LinkEvent::Made(event));
    })?;
    Ok(name)
}

/// Refuses what is no GGUF file before all of it is read.
fn look(file: &Path) -> Result<(), CreateError> {
    match Gguf::peek(file) {
        Ok(_) => Ok(()),
        Err(GgufError::Magic) => Err(CreateError::NotGguf),
        Err(source) => Err(CreateError::Gguf { file: file.display().to_string(), source }),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn name_of(file: &Path) -> Result<ModelName, CreateError> {
    let name = file_name(file);
    let stem = gguf_stem(&name).ok_or(CreateError::UnknownType)?;
    ModelName::parse(&legal_part(model_stem(stem))).map_err(|_| CreateError::InvalidName)
}

/// All parts of a split model, whichever was named.
fn parts(file: &Path) -> Vec<PathBuf> {
    let name = file_name(file);
    let Some((named, ending)) = part(&name) else {
        return vec![file.to_owned()];
    };
    named.all().map(|part| file.with_file_name(format!("{part}{ending}"))).collect()
}

/// Which part a GGUF file is, and how its name ends.
fn part(name: &str) -> Option<(Part<'_>, &str)> {
    let stem = gguf_stem(name)?;
    Some((Part::parse(stem)?, &name[stem.len()..]))
}

/// A GGUF file somewhere on this machine; of a split model, its first part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseGguf {
    pub path: PathBuf,
    /// Bytes, of all parts.
    pub size: u64,
    pub parts: u32,
    /// The store has this very file.
    pub linked: bool,
}

/// The GGUF files below `folders`, the largest first. A file that is found under several names is listed once.
pub fn scan(store: &Store, folders: &[PathBuf]) -> Vec<LooseGguf> {
    let mut found = BTreeMap::new();
    let mut looked = 0;
    for folder in folders {
        walk(folder, DEEPEST, &mut looked, &mut found);
    }
    let (own, mut seen) = (store.identities(), HashSet::new());
    let mut list: Vec<LooseGguf> = Vec::new();
    for (path, (size, identity)) in found {
        let name = file_name(&path);
        if !seen.insert(identity) {
            continue;
        }
        let first = part(&name).filter(|(part, _)| part.number > 1).map(|(part, ending)| {
            let first = Part { number: 1, ..part };
            path.with_file_name(format!("{first}{ending}"))
        });
        match first.and_then(|first| list.iter_mut().find(|listed| listed.path == first)) {
            Some(whole) => {
                whole.size += size;
                whole.parts += 1;
            }
            None => list.push(LooseGguf { path, size, parts: 1, linked: own.contains(&identity) }),
        }
    }
    list.sort_by(|a, b| (b.size, &a.path).cmp(&(a.size, &b.path)));
    list
}

type Walked = BTreeMap<PathBuf, (u64, (u64, u64))>;

fn walk(folder: &Path, depth: usize, looked: &mut usize, found: &mut Walked) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        *looked += 1;
        if *looked > MOST {
            return;
        }
        let path = entry.path();
        // Links to folders may lead round in circles; links to files are how the hub's cache names them.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth > 0 {
                walk(&path, depth - 1, looked, found);
            }
        } else if gguf_stem(&file_name(&path)).is_some()
            && let Ok(seen) = fs::metadata(&path)
            && seen.is_file()
        {
            found.insert(path, (seen.len(), (seen.dev(), seen.ino())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny/tiny-q4_k_m.gguf")
    }

    #[test]
    fn names_and_parts() {
        assert_eq!(name_of(Path::new("/x/Qwen3 0.6B.Q8_0.gguf")).unwrap().short(), "Qwen3-0.6B.Q8_0:latest");
        assert_eq!(name_of(Path::new("big-00002-of-00003.GGUF")).unwrap().short(), "big:latest");
        assert!(name_of(Path::new("model.safetensors")).is_err());
        let names: Vec<_> = parts(Path::new("/x/big-00002-of-00003.gguf")).iter().map(|path| file_name(path)).collect();
        assert_eq!(names, ["big-00001-of-00003.gguf", "big-00002-of-00003.gguf", "big-00003-of-00003.gguf"]);
        for whole in ["big-2-of-3.gguf", "big-00003-of-00002.gguf", "big-00001-of-01000.gguf"] {
            assert_eq!(parts(Path::new(whole)), [Path::new(whole)], "as a pull reads it");
        }
    }

    #[test]
    fn found_where_others_keep_them_and_linked() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let (studio, hub) = (folder.path().join("studio/maker/model"), folder.path().join("hub"));
        for folder in [&studio, &hub.join("blobs"), &hub.join("snapshots/main")] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::copy(tiny(), studio.join("tiny.gguf")).unwrap();
        fs::write(studio.join("big-00001-of-00002.gguf"), b"123").unwrap();
        fs::write(studio.join("big-00002-of-00002.gguf"), b"45").unwrap();
        fs::write(studio.join("notes.txt"), b"x").unwrap();
        fs::write(hub.join("blobs/abc"), b"GGUF").unwrap();
        for name in ["a.gguf", "b.gguf"] {
            std::os::unix::fs::symlink("../../blobs/abc", hub.join("snapshots/main").join(name)).unwrap();
        }
        let folders = [folder.path().join("studio"), hub, folder.path().join("nowhere")];
        let before = scan(&store, &folders);
        let told: Vec<_> = before.iter().map(|file| (file_name(&file.path), file.parts, file.linked)).collect();
        assert_eq!(
            told,
            [("tiny.gguf".into(), 1, false), ("big-00001-of-00002.gguf".into(), 2, false), ("a.gguf".into(), 1, false)]
        );
        assert_eq!(before[1].size, 5);

        let request = LinkRequest { name: None, file: before[0].path.clone(), more: Vec::new(), copy: false };
        let mut taken = None;
        let name = link(&store, &request, &mut |event| {
            if let LinkEvent::Taken { taken: how, .. } = event {
                taken = Some(how);
            }
            true
        })
        .unwrap();
        assert_eq!(store.model(&name).unwrap().gguf().unwrap().unwrap().architecture(), "qwen3");
        assert_eq!(scan(&store, &folders)[0].linked, taken == Some(Taken::Linked));

        let broken = LinkRequest { file: before[1].path.clone(), ..request };
        assert!(link(&store, &broken, &mut |_| true).is_err(), "no GGUF, and nothing is left of it");
        assert_eq!(store.tags().list().len(), 1);
    }
}
