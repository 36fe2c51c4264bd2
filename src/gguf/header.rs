//! Reads a GGUF file's header: versions 2 and 3, little-endian.
//!
//! Invariant: whatever the bytes, reading them ends in a header that holds together or in an error, and takes no more
//! memory than a few times the bytes that are there.

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::source::Source;
use super::tensor::{self, Tensor, TensorType};
use super::{GgufError, Metadata};

/// Entries of the metadata, and tensors.
const COUNT: u64 = 65_536;
/// Bytes of a tensor's name.
const NAME: u64 = 1024;
const DIMENSIONS: u32 = 4;
/// The alignment of files that do not tell theirs.
pub(super) const ALIGNMENT: u64 = 32;
/// Bytes that the shortest entry and the shortest tensor take.
const LEAST: u64 = 12;

#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Tensor>,
    /// Where the tensors' data begins.
    pub(super) data: u64,
}

/// The counts that follow the magic number and the version.
struct Start {
    version: u32,
    tensors: u64,
    entries: u64,
}

impl Start {
    fn read<R: Read + Seek>(source: &mut Source<R>) -> Result<Self, GgufError> {
        // a file that is too short to have a magic number has none
        match source.bytes("the magic number") {
            Ok(magic) if &magic == b"GGUF" => {}
            Ok(_) | Err(GgufError::Truncated { .. }) => return Err(GgufError::Magic),
            Err(error) => return Err(error),
        }
        let version = source.u32("the version")?;
        match version {
            2 | 3 => {}
            // a small number with its bytes turned round
            _ if version.swap_bytes() < 0x1_0000 && version >= 0x1_0000 => return Err(GgufError::BigEndian),
            _ => return Err(GgufError::Version(version)),
        }
        let tensors = Self::count(source, "a count of tensors")?;
        let entries = Self::count(source, "a count of metadata")?;
        Ok(Self { version, tensors, entries })
    }

    fn count<R: Read + Seek>(source: &mut Source<R>, what: &'static str) -> Result<u64, GgufError> {
        let have = source.u64(what)?;
        let most = COUNT.min(source.left() / LEAST);
        if have > most {
            return Err(GgufError::TooLarge { what, have, most });
        }
        Ok(have)
    }
}

impl Header {
    pub(super) fn read<R: Read + Seek>(reader: R) -> Result<Self, GgufError> {
        let source = &mut Source::new(reader)?;
        let start = Start::read(source)?;
        let metadata = Metadata::read(source, start.entries)?;
        let alignment = alignment(&metadata)?;
        let mut names = HashSet::new();
        let mut tensors = Vec::new();
        for _ in 0..start.tensors {
            let tensor = read_tensor(source)?;
            if !names.insert(tensor.name().to_owned()) {
                return Err(GgufError::DuplicateTensor(tensor.name().to_owned()));
            }
            tensors.push(tensor);
        }
        let data = source.at().next_multiple_of(alignment);
        tensor::check_places(&tensors, alignment, source.end().saturating_sub(data))?;
        Ok(Self { version: start.version, metadata, tensors, data })
    }

    /// Reads the metadata and leaves the tensors.
    pub(super) fn peek<R: Read + Seek>(reader: R) -> Result<Metadata, GgufError> {
        let source = &mut Source::new(reader)?;
        let start = Start::read(source)?;
        Metadata::read(source, start.entries)
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(super::Value::U32(value)) if value.is_power_of_two() && (8..=65_536).contains(value) => {
            Ok((*value).into())
        }
        Some(_) => Err(GgufError::Alignment),
    }
}

fn read_tensor<R: Read + Seek>(source: &mut Source<R>) -> Result<Tensor, GgufError> {
    const WHAT: &str = "a tensor's description";
    let name = source.string("a tensor's name", NAME)?;
    let name = String::from_utf8(name).map_err(|_| GgufError::NotUtf8("a tensor's name"))?;
    let dimensions = source.u32(WHAT)?;
    if !(1..=DIMENSIONS).contains(&dimensions) {
        return Err(GgufError::Tensor { name, problem: "has fewer than one or more than four dimensions" });
    }
    let shape = (0..dimensions).map(|_| source.u64(WHAT)).collect::<Result<Vec<_>, _>>()?;
    let id = source.u32(WHAT)?;
    let Some(kind) = TensorType::of_id(id) else {
        return Err(GgufError::TensorType { name, id });
    };
    let offset = source.u64(WHAT)?;
    Tensor::new(name, kind, shape, offset)
}
