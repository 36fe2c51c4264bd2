//! The values of GGUF metadata. Arrays stay in the file: only their place is kept, until someone asks.

use std::io::{Read, Seek};

use serde::{Serialize, Serializer};

use super::GgufError;
use super::source::Source;

/// Bytes of one string value. The largest templates come to some 100 kB.
const STRING: u64 = 16 << 20;
/// Elements of one array.
const ELEMENTS: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    fn of_id(id: u32) -> Option<Self> {
        const BY_ID: [ValueType; 13] = {
            use ValueType::*;
            [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
        };
        BY_ID.get(usize::try_from(id).ok()?).copied()
    }

    /// The number of this type in a file: its place in the list.
    pub(super) fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of one value; `None` where they differ.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

/// A value of the metadata. Serialises as JSON shows it, an array as `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array's place in its file. All of it is known to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    element: ValueType,
    length: u64,
    at: u64,
}

/// An array's elements, read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Elements {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Serialize for Array {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

impl Value {
    /// An integer of any width that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U64(value) => Some(value),
            _ => self.as_i64().and_then(|value| u64::try_from(value).ok()),
        }
    }

    /// An integer of any width.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::I8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U64(value) => i64::try_from(value).ok(),
            Self::I64(value) => Some(value),
            _ => None,
        }
    }

    /// A float of either width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(value) => Some(value.into()),
            Self::F64(value) => Some(value),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(value) => Some(value),
            _ => None,
        }
    }

    /// Reads the value of `key`. An array is walked and left where it is.
    pub(super) fn read<R: Read + Seek>(source: &mut Source<R>, key: &str) -> Result<Self, GgufError> {
        const WHAT: &str = "a metadata value";
        Ok(match value_type(source, key)? {
            ValueType::U8 => Self::U8(u8::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::U32 => Self::U32(u32::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::I32 => Self::I32(i32::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::U64 => Self::U64(u64::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::I64 => Self::I64(i64::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(source.bytes(WHAT)?)),
            ValueType::Bool => Self::Bool(source.bytes::<1>(WHAT)? != [0]),
            ValueType::String => Self::String(lossy(source.string(WHAT, STRING)?)),
            ValueType::Array => Self::Array(Array::walk(source, key)?),
        })
    }
}

fn value_type<R: Read + Seek>(source: &mut Source<R>, key: &str) -> Result<ValueType, GgufError> {
    let id = source.u32("a value type")?;
    ValueType::of_id(id).ok_or_else(|| GgufError::ValueType { key: key.to_owned(), id })
}

/// Some vocabularies hold tokens that are parts of characters.
fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

impl Array {
    pub fn element(&self) -> ValueType {
        self.element
    }

    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn walk<R: Read + Seek>(source: &mut Source<R>, key: &str) -> Result<Self, GgufError> {
        const WHAT: &str = "an array";
        let element = value_type(source, key)?;
        let length = source.u64(WHAT)?;
        if length > ELEMENTS {
            return Err(GgufError::TooLarge { what: WHAT, have: length, most: ELEMENTS });
        }
        let at = source.at();
        match (element, element.size()) {
            (_, Some(size)) => source.skip(length * size, WHAT)?,
            (ValueType::Array, _) => return Err(GgufError::NestedArray(key.to_owned())),
            (_, None) => (0..length).try_for_each(|_| source.skip_string(WHAT))?,
        }
        Ok(Self { element, length, at })
    }

    /// Reads the elements out of the file that the array was found in.
    pub(super) fn read<R: Read + Seek>(&self, reader: R) -> Result<Elements, GgufError> {
        let mut source = Source::from(reader, self.at)?;
        let source = &mut source;
        Ok(match self.element {
            ValueType::U8 => Elements::U8(self.numbers(source, u8::from_le_bytes)?),
            ValueType::I8 => Elements::I8(self.numbers(source, i8::from_le_bytes)?),
            ValueType::U16 => Elements::U16(self.numbers(source, u16::from_le_bytes)?),
            ValueType::I16 => Elements::I16(self.numbers(source, i16::from_le_bytes)?),
            ValueType::U32 => Elements::U32(self.numbers(source, u32::from_le_bytes)?),
            ValueType::I32 => Elements::I32(self.numbers(source, i32::from_le_bytes)?),
            ValueType::F32 => Elements::F32(self.numbers(source, f32::from_le_bytes)?),
            ValueType::U64 => Elements::U64(self.numbers(source, u64::from_le_bytes)?),
            ValueType::I64 => Elements::I64(self.numbers(source, i64::from_le_bytes)?),
            ValueType::F64 => Elements::F64(self.numbers(source, f64::from_le_bytes)?),
            ValueType::Bool => Elements::Bool(self.numbers(source, |byte: [u8; 1]| byte != [0])?),
            ValueType::String | ValueType::Array => {
                let strings = (0..self.length).map(|_| Ok(lossy(source.string("an array", STRING)?)));
                Elements::String(strings.collect::<Result<_, GgufError>>()?)
            }
        })
    }

    fn numbers<R: Read + Seek, T, const N: usize>(
        &self,
        source: &mut Source<R>,
        number: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        (0..self.length).map(|_| source.bytes("an array").map(&number)).collect()
    }

    /// Reads one string of an array of strings.
    pub(super) fn string<R: Read + Seek>(&self, reader: R, index: u64) -> Result<Option<String>, GgufError> {
        if self.element != ValueType::String || index >= self.length {
            return Ok(None);
        }
        let mut source = Source::from(reader, self.at)?;
        (0..index).try_for_each(|_| source.skip_string("an array"))?;
        Ok(Some(lossy(source.string("an array", STRING)?)))
    }
}
