//! What a model is called by size and quantisation.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the weights of a file mostly are: a value of `general.file_type` that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct FileType(u32);

/// What it takes to make a file of a type out of one in full precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// The weights alone.
    Plain,
    /// An importance matrix too: with so few bits it matters which weights matter.
    Matrix,
    /// ggml reads it and does not make it.
    Never,
}

use Making::{Matrix, Never, Plain};

/// The numbers between are of types that were removed from the format.
const TYPES: [(u32, &str, Making); 36] = [
    (0, "F32", Plain),
    (1, "F16", Plain),
    (2, "Q4_0", Plain),
    (3, "Q4_1", Plain),
    (7, "Q8_0", Plain),
    (8, "Q5_0", Plain),
    (9, "Q5_1", Plain),
    (10, "Q2_K", Plain),
    (11, "Q3_K_S", Plain),
    (12, "Q3_K_M", Plain),
    (13, "Q3_K_L", Plain),
    (14, "Q4_K_S", Plain),
    (15, "Q4_K_M", Plain),
    (16, "Q5_K_S", Plain),
    (17, "Q5_K_M", Plain),
    (18, "Q6_K", Plain),
    (19, "IQ2_XXS", Matrix),
    (20, "IQ2_XS", Matrix),
    (21, "Q2_K_S", Matrix),
    // its tensors of attention are IQ3_XXS
    (22, "IQ3_XS", Matrix),
    (23, "IQ3_XXS", Matrix),
    (24, "IQ1_S", Matrix),
    (25, "IQ4_NL", Plain),
    (26, "IQ3_S", Plain),
    (27, "IQ3_M", Plain),
    (28, "IQ2_S", Matrix),
    (29, "IQ2_M", Matrix),
    (30, "IQ4_XS", Plain),
    (31, "IQ1_M", Matrix),
    (32, "BF16", Plain),
    (36, "TQ1_0", Plain),
    (37, "TQ2_0", Plain),
    (38, "MXFP4_MOE", Plain),
    (39, "NVFP4", Never),
    (40, "Q1_0", Plain),
    (41, "Q2_0", Plain),
];

impl FileType {
    /// The type of this number in a file.
    pub fn of_id(id: u64) -> Option<Self> {
        TYPES.iter().find(|(known, ..)| u64::from(*known) == id).map(|(known, ..)| Self(*known))
    }

    /// The type of this name, in whatever case.
    pub fn parse(name: &str) -> Option<Self> {
        TYPES.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name)).map(|(id, ..)| Self(*id))
    }

    /// Every type that has a name.
    pub fn all() -> impl Iterator<Item = Self> {
        TYPES.iter().map(|(id, ..)| Self(*id))
    }

    pub fn id(self) -> u32 {
        self.0
    }

    pub fn name(self) -> &'static str {
        self.entry().1
    }

    pub fn making(self) -> Making {
        self.entry().2
    }

    /// Numbers as they were trained, or nearly: what a quantisation starts from.
    pub fn is_full_precision(self) -> bool {
        matches!(self.name(), "F32" | "F16" | "BF16")
    }

    fn entry(self) -> &'static (u32, &'static str, Making) {
        TYPES.iter().find(|(id, ..)| *id == self.0).expect("a file type is one of the table: a bug")
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<u32> for FileType {
    type Error = String;

    fn try_from(id: u32) -> Result<Self, String> {
        Self::of_id(id.into()).ok_or_else(|| format!("{id} is no file type"))
    }
}

impl From<FileType> for u32 {
    fn from(kind: FileType) -> Self {
        kind.0
    }
}

/// The name of a `general.file_type`; `unknown` for one without a name.
pub fn file_type_name(id: u64) -> &'static str {
    FileType::of_id(id).map_or("unknown", FileType::name)
}

/// A count of parameters as Ollama writes it: `8B`, `3.2B`, `22.57M`, `82K`.
pub fn parameter_size(count: u64) -> String {
    let count_f = count as f64;
    match count {
        1_000_000_000.. if count.is_multiple_of(1_000_000_000) => format!("{}B", count / 1_000_000_000),
        1_000_000_000.. => format!("{:.1}B", count_f / 1e9),
        1_000_000.. => format!("{:.2}M", count_f / 1e6),
        1_000.. => format!("{:.0}K", count_f / 1e3),
        _ => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sizes_read_as_ollama_writes_them() {
        let cases = [
            (3_541_760, "3.54M"),
            (22_565_376, "22.57M"),
            (8_000_000_000, "8B"),
            (8_030_261_312, "8.0B"),
            (1_543_714_304, "1.5B"),
            (82_000, "82K"),
            (999, "999"),
        ];
        for (count, text) in cases {
            assert_eq!(parameter_size(count), text);
        }
    }

    #[test]
    fn types_go_by_number_and_by_name() {
        for kind in FileType::all() {
            assert_eq!(FileType::parse(&kind.name().to_lowercase()), Some(kind));
            assert_eq!(FileType::of_id(kind.id().into()), Some(kind));
        }
        let ids: std::collections::BTreeSet<u32> = FileType::all().map(FileType::id).collect();
        assert_eq!(ids.len(), TYPES.len(), "no number twice");
        assert_eq!((FileType::parse("Q9_9"), FileType::parse(""), FileType::of_id(4)), (None, None, None));
        assert_eq!((file_type_name(15), file_type_name(1024)), ("Q4_K_M", "unknown"));
    }

    #[test]
    fn a_type_says_what_it_takes() {
        let making = |name| FileType::parse(name).map(FileType::making);
        assert_eq!(
            [making("q4_k_m"), making("iq2_xxs"), making("nvfp4"), making("x")],
            [Some(Plain), Some(Matrix), Some(Never), None]
        );
        let full: Vec<_> = FileType::all().filter(|kind| kind.is_full_precision()).map(FileType::name).collect();
        assert_eq!(full, ["F32", "F16", "BF16"]);
    }
}
