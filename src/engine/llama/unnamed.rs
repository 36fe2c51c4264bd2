//! The first projectors of LLaVA do not say of what kind they are, since there was only one; llama.cpp wants to be told.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::gguf::Metadata;

/// Where the metadata of a GGUF file begin, behind magic number, version and two counts.
const COUNT: u64 = 16;
const BEGIN: u64 = 24;
/// What tensors are aligned to: the entries that are added move them by a multiple of it.
const ALIGNMENT: usize = 32;
const STRING: u32 = 8;

/// Whether this is one.
pub fn is_unnamed(head: &Metadata) -> bool {
    let kinds = ["clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type"];
    head.bool("clip.has_llava_projector") == Some(true)
        && kinds.iter().all(|kind| head.get(kind).is_none())
        && head.get("general.alignment").is_none()
}

/// A copy that says so.
///
/// # Errors
/// When it cannot be read or written.
pub fn named(path: &Path) -> io::Result<NamedTempFile> {
    let mut old = File::open(path)?;
    let mut new = NamedTempFile::new()?;
    io::copy(&mut Read::by_ref(&mut old).take(COUNT), &mut new)?;
    let mut count = [0; 8];
    old.read_exact(&mut count)?;
    new.write_all(&u64::from_le_bytes(count).saturating_add(2).to_le_bytes())?;
    new.write_all(&entries())?;
    old.seek(SeekFrom::Start(BEGIN))?;
    io::copy(&mut old, new.as_file_mut())?;
    Ok(new)
}

/// The kind, and an entry that fills it up.
fn entries() -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let entry = |key: &str, value: &str| [string(key), STRING.to_le_bytes().into(), string(value)].concat();
    let kind = entry("clip.projector_type", "mlp");
    let least = kind.len() + entry("hanzod.fill", "").len();
    let fill = " ".repeat(least.next_multiple_of(ALIGNMENT) - least);
    [kind, entry("hanzod.fill", &fill)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Gguf;

    #[test]
    fn tensors_stay_where_they_are_found() {
        let path = format!("{}/compat-tests/models/vision/mmproj-llava.gguf", env!("CARGO_MANIFEST_DIR"));
        let mut bytes = std::fs::read(path).expect("the projector of the tests");
        let key = b"clip.projector_type";
        let at = bytes.windows(key.len()).position(|part| part == key).expect("its kind");
        bytes[at + key.len() - 1] = b'X';
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let old = Gguf::open(file.path()).unwrap();
        assert!(is_unnamed(old.metadata()));

        let copy = named(file.path()).unwrap();
        let new = Gguf::open(copy.path()).unwrap();
        assert!(!is_unnamed(new.metadata()));
        assert_eq!(new.metadata().str("clip.projector_type"), Some("mlp"));
        let data = std::fs::read(copy.path()).unwrap();
        assert_eq!(data[new.data_offset() as usize..], bytes[old.data_offset() as usize..]);
    }
}
