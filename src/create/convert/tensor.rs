//! A tensor on its way from safetensors into GGUF: read in small pieces, put in another order or type, and written.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use half::{bf16, f16};

use crate::create::CreateError;
use crate::gguf::TensorType;

/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) file: Arc<File>,
    /// Where its bytes begin in the file.
    pub(super) at: u64,
    pub(super) dtype: String,
    /// Outermost dimension first.
    pub(super) shape: Vec<u64>,
}

/// A type of numbers that is converted from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Float {
    F16,
    BF16,
    F32,
}

impl Float {
    fn parse(dtype: &str) -> Option<Self> {
        match dtype {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::BF16),
            _ => None,
        }
    }

    fn width(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    pub(super) fn kind(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::BF16 => TensorType::BF16,
        }
    }

    fn read(self, bytes: &[u8], into: &mut Vec<f32>) {
        into.clear();
        match self {
            Self::F32 => into.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))),
            Self::F16 => into.extend(bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32())),
            Self::BF16 => into.extend(bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32())),
        }
    }

    fn write(self, numbers: &[f32], into: &mut Vec<u8>) {
        into.clear();
        match self {
            Self::F32 => into.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
            Self::F16 => into.extend(numbers.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes())),
            Self::BF16 => into.extend(numbers.iter().flat_map(|number| bf16::from_f32(*number).to_le_bytes())),
        }
    }
}

impl Stored {
    /// # Errors
    /// Of a type that holds no plain numbers.
    pub(super) fn float(&self, name: &str) -> Result<Float, CreateError> {
        Float::parse(&self.dtype).ok_or_else(|| {
            let dtype = &self.dtype;
            CreateError::Files(format!("tensor `{name}` is {dtype}: only F32, F16 and BF16 can be converted"))
        })
    }

    /// Rows, and numbers in each.
    fn rows(&self) -> (u64, u64) {
        match self.shape.as_slice() {
            [] => (1, 1),
            [only] => (1, *only),
            [first, rest @ ..] => (*first, rest.iter().product()),
        }
    }
}

/// In which order rows come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    AsTheyAre,
    /// Those of each head are halves whose rows belong together in pairs; they come out pair by pair, as llama.cpp
    /// turns them for the positions in models of this kind.
    Paired {
        heads: u64,
    },
}

impl Order {
    /// The row that comes out in this place.
    fn row(self, place: u64, rows: u64) -> u64 {
        match self {
            Self::AsTheyAre => place,
            Self::Paired { heads } => {
                let head = rows / heads;
                let within = place % head;
                place - within + (within % 2) * (head / 2) + within / 2
            }
        }
    }
}

/// What a tensor of the GGUF file is made of.
#[derive(Debug)]
pub(super) enum Data {
    /// Numbers that stand in no file.
    Made(Vec<f32>),
    Stored {
        /// One, or several of one shape on top of each other.
        parts: Vec<Stored>,
        from: Float,
        order: Order,
        /// Is added to every number.
        plus: f32,
    },
}

#[derive(Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    /// Innermost dimension first.
    pub(super) shape: Vec<u64>,
    pub(super) to: Float,
    pub(super) data: Data,
}

impl Planned {
    pub(super) fn made(name: &str, numbers: Vec<f32>) -> Self {
        let (name, shape) = (name.to_owned(), vec![numbers.len() as u64]);
        Self { name, shape, to: Float::F32, data: Data::Made(numbers) }
    }

    /// The same numbers under another name.
    ///
    /// # Errors
    /// When its type cannot be converted, or its rows do not come in as many pairs as the order says.
    pub(super) fn stored(name: &str, from: &str, parts: Vec<Stored>, to: Float) -> Result<Self, CreateError> {
        let first = parts.first().expect("a tensor has a part: a bug");
        let float = first.float(from)?;
        let mut shape: Vec<u64> = first.shape.iter().rev().copied().collect();
        if shape.is_empty() {
            shape.push(1);
        }
        if parts.len() > 1 {
            shape.push(parts.len() as u64);
        }
        let data = Data::Stored { parts, from: float, order: Order::AsTheyAre, plus: 0.0 };
        Ok(Self { name: name.to_owned(), shape, to, data })
    }

    pub(super) fn paired(mut self, heads: u64) -> Result<Self, CreateError> {
        if let Data::Stored { parts, order, .. } = &mut self.data {
            let rows = parts[0].shape.first().copied().unwrap_or(0);
            if heads == 0 || rows == 0 || !rows.is_multiple_of(heads) || !(rows / heads).is_multiple_of(2) {
                return Err(CreateError::Files(format!("`{}` has {rows} rows for {heads} heads", self.name)));
            }
            // a bias has a number where the others have a row
            if let [part] = &mut parts[..]
                && part.shape.len() == 1
            {
                part.shape.push(1);
            }
            *order = Order::Paired { heads };
        }
        Ok(self)
    }

    pub(super) fn plus(mut self, number: f32) -> Self {
        if let Data::Stored { plus, .. } = &mut self.data {
            *plus = number;
        }
        self
    }

    /// Writes all of it. `moved` is told of the bytes as they go out.
    pub(super) fn write(&self, out: &mut dyn Write, moved: &mut dyn FnMut(u64) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = Vec::new();
        match &self.data {
            Data::Made(numbers) => {
                self.to.write(numbers, &mut bytes);
                out.write_all(&bytes)?;
                moved(bytes.len() as u64)
            }
            Data::Stored { parts, from, order, plus } => {
                let mut work =
                    Work { from: *from, to: self.to, plus: *plus, read: Vec::new(), numbers: Vec::new(), bytes };
                parts.iter().try_for_each(|part| self.write_part(part, *order, &mut work, out, moved))
            }
        }
    }

    fn write_part(
        &self,
        part: &Stored,
        order: Order,
        work: &mut Work,
        out: &mut dyn Write,
        moved: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let (rows, row) = part.rows();
        let width = work.from.width() as u64;
        // rows that stay beside each other go together
        let (pieces, length) = match order {
            Order::AsTheyAre => (1, rows * row * width),
            Order::Paired { .. } => (rows, row * width),
        };
        for place in 0..pieces {
            let begin = part.at + order.row(place, rows) * row * width * u64::from(pieces > 1);
            let mut done = 0;
            while done < length {
                let piece = PIECE.min(length - done);
                let bytes = work.convert(part, begin + done, piece as usize).map_err(|error| self.named(error))?;
                out.write_all(bytes)?;
                let count = bytes.len() as u64;
                moved(count)?;
                done += piece;
            }
        }
        Ok(())
    }

    fn named(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::InvalidData => io::Error::new(error.kind(), format!("tensor `{}` {error}", self.name)),
            _ => error,
        }
    }
}

/// Room that is used again from piece to piece.
struct Work {
    from: Float,
    to: Float,
    plus: f32,
    read: Vec<u8>,
    numbers: Vec<f32>,
    bytes: Vec<u8>,
}

impl Work {
    fn convert(&mut self, part: &Stored, at: u64, length: usize) -> io::Result<&[u8]> {
        self.read.resize(length, 0);
        part.file.read_exact_at(&mut self.read, at)?;
        if self.from == self.to && self.plus == 0.0 {
            return Ok(&self.read);
        }
        self.from.read(&self.read, &mut self.numbers);
        if self.plus != 0.0 {
            self.numbers.iter_mut().for_each(|number| *number += self.plus);
        }
        let too_large = |number: &f32| number.is_finite() && f16::from_f32(*number).is_infinite();
        if self.to == Float::F16 && self.numbers.iter().any(too_large) {
            let why = "has numbers that are too large for F16; BF16 and F32 hold them";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.to.write(&self.numbers, &mut self.bytes);
        Ok(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(numbers: &[f32], shape: &[u64]) -> Stored {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"head").unwrap();
        numbers.iter().for_each(|number| file.write_all(&number.to_le_bytes()).unwrap());
        Stored { file: Arc::new(file), at: 4, dtype: "F32".to_owned(), shape: shape.to_vec() }
    }

    fn written(planned: &Planned) -> Vec<f32> {
        let (mut bytes, mut count) = (Vec::new(), 0);
        let mut told = |moved| {
            count += moved;
            Ok(())
        };
        planned.write(&mut bytes, &mut told).unwrap();
        assert_eq!(count, bytes.len() as u64);
        let mut numbers = Vec::new();
        planned.to.read(&bytes, &mut numbers);
        numbers
    }

    /// Two heads of four rows: halves `a b | c d` come out as pairs `a c b d`.
    #[test]
    fn halves_come_out_in_pairs() {
        let numbers: Vec<f32> = (0..24_u8).map(f32::from).collect();
        let planned = |shape: &[u64]| {
            let plain = Planned::stored("q", "q", vec![stored(&numbers, shape)], Float::F32).unwrap();
            plain.paired(2)
        };
        let rows: Vec<f32> = written(&planned(&[8, 3]).unwrap()).chunks(3).map(|row| row[0] / 3.0).collect();
        assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        let bias = planned(&[8]).unwrap();
        assert_eq!((written(&bias), bias.shape), (vec![0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0], vec![8]));
        for shape in [&[9, 2][..], &[2, 12], &[]] {
            assert!(planned(shape).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn numbers_are_added_to_stacked_and_rounded() {
        let parts = vec![stored(&[1.0, 2.0], &[1, 2]), stored(&[3.0, 0.1], &[1, 2])];
        let planned = Planned::stored("e", "e", parts, Float::F16).unwrap().plus(1.0);
        assert_eq!(planned.shape, [2, 1, 2]);
        assert_eq!(written(&planned), [2.0, 3.0, 4.0, f16::from_f32(1.1).to_f32()]);
        assert_eq!(written(&Planned::made("m", vec![0.25])), [0.25]);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let large = |number: f32| Planned::stored("w", "w", vec![stored(&[number], &[1])], Float::F16).unwrap();
        let error = large(1e9).write(&mut io::sink(), &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "tensor `w` has numbers that are too large for F16; BF16 and F32 hold them");
        assert!(written(&large(f32::INFINITY))[0].is_infinite());
        let odd = Stored { dtype: "F8_E4M3".to_owned(), ..stored(&[], &[0]) };
        let error = Planned::stored("w", "model.w", vec![odd], Float::F16).unwrap_err();
        assert_eq!(error.to_string(), "tensor `model.w` is F8_E4M3: only F32, F16 and BF16 can be converted");
    }
}
