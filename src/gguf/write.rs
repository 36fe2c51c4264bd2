//! Writes a GGUF file (version 3) as a stream: the header first, then each tensor's bytes as they are made.

use std::collections::HashSet;
use std::io::{self, Write};

use super::header::ALIGNMENT;
use super::{GgufError, Tensor, TensorType, ValueType};

/// Bytes of a tensor's name in ggml, whose last is a zero.
const NAME: usize = 64;

/// A file that is being put together. Keys and tensors come out in the order in which they were given.
#[derive(Debug, Default)]
pub struct GgufWriter {
    keys: HashSet<String>,
    entries: Vec<u8>,
    names: HashSet<String>,
    tensors: Vec<Tensor>,
    /// Where the next tensor's data begins.
    end: u64,
}

/// What a metadata value can be.
pub trait Field {
    const TYPE: ValueType;

    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! number {
    ($($number:ty => $kind:ident),+) => {$(
        impl Field for $number {
            const TYPE: ValueType = ValueType::$kind;

            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )+};
}

number!(u32 => U32, i32 => I32, f32 => F32, u64 => U64);

impl Field for bool {
    const TYPE: ValueType = ValueType::Bool;

    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Field for str {
    const TYPE: ValueType = ValueType::String;

    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.extend(self.as_bytes());
    }
}

impl Field for String {
    const TYPE: ValueType = ValueType::String;

    fn put(&self, out: &mut Vec<u8>) {
        self.as_str().put(out);
    }
}

impl<T: Field> Field for [T] {
    const TYPE: ValueType = ValueType::Array;

    fn put(&self, out: &mut Vec<u8>) {
        T::TYPE.id().put(out);
        (self.len() as u64).put(out);
        self.iter().for_each(|element| element.put(out));
    }
}

impl GgufWriter {
    /// Puts a value under a key that has none yet; what was set first stands.
    pub fn set<F: Field + ?Sized>(&mut self, key: &str, value: &F) {
        if self.keys.insert(key.to_owned()) {
            key.put(&mut self.entries);
            F::TYPE.id().put(&mut self.entries);
            value.put(&mut self.entries);
        }
    }

    /// Announces the next tensor: innermost dimension first.
    ///
    /// # Errors
    /// A name that is there already or too long for ggml, or a shape that cannot be.
    pub fn tensor(&mut self, name: &str, kind: TensorType, shape: &[u64]) -> Result<(), GgufError> {
        let problem = |problem| GgufError::Tensor { name: name.to_owned(), problem };
        if name.len() >= NAME {
            return Err(problem("has a name that is too long"));
        }
        if !(1..=4).contains(&shape.len()) {
            return Err(problem("has fewer than one or more than four dimensions"));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(GgufError::DuplicateTensor(name.to_owned()));
        }
        let tensor = Tensor::new(name.to_owned(), kind, shape.to_vec(), self.end)?;
        let end = self.end.checked_add(tensor.size()).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
        self.end = end.ok_or_else(|| problem("reaches further than can be counted"))?;
        self.tensors.push(tensor);
        Ok(())
    }

    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Writes the file. `data` writes the bytes of the tensor of this number, as many as it has.
    ///
    /// # Errors
    /// Those of the writer and of `data`, and a tensor that came out shorter or longer than it was announced.
    pub fn write<W: Write, E: From<io::Error>>(
        self,
        out: W,
        mut data: impl FnMut(usize, &mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut head = b"GGUF".to_vec();
        3_u32.put(&mut head);
        (self.tensors.len() as u64).put(&mut head);
        (self.keys.len() as u64).put(&mut head);
        head.extend(&self.entries);
        for tensor in &self.tensors {
            tensor.name().put(&mut head);
            (tensor.shape().len() as u32).put(&mut head);
            tensor.shape().iter().for_each(|length| length.put(&mut head));
            tensor.kind().id().put(&mut head);
            tensor.offset().put(&mut head);
        }
        let mut out = Counted { out, count: 0 };
        out.write_all(&head)?;
        out.pad()?;
        for (number, tensor) in self.tensors.iter().enumerate() {
            let start = out.count;
            data(number, &mut out)?;
            let written = out.count - start;
            if written != tensor.size() {
                let why = format!("tensor `{}` has {written} bytes in place of {}", tensor.name(), tensor.size());
                return Err(io::Error::other(why).into());
            }
            out.pad()?;
        }
        Ok(out.flush()?)
    }
}

struct Counted<W> {
    out: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Counted<W> {
    fn pad(&mut self) -> io::Result<()> {
        let room = self.count.next_multiple_of(ALIGNMENT) - self.count;
        io::copy(&mut io::Read::take(io::repeat(0), room), self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Elements, Gguf, Value};

    #[test]
    fn what_is_written_is_read() {
        let mut writer = GgufWriter::default();
        writer.set("general.architecture", "owl");
        writer.set("owl.wings", &2_u32);
        writer.set("owl.wings", &3_u32);
        writer.set("owl.weight", &0.5_f32);
        writer.set("owl.flies", &true);
        writer.set("words", &["tu".to_owned(), "whit".to_owned()][..]);
        writer.set("numbers", &[-1_i32, 7][..]);
        writer.tensor("a", TensorType::F32, &[3]).unwrap();
        writer.tensor("b", TensorType::F16, &[2, 5]).unwrap();
        for (name, shape) in [("a", &[3][..]), ("c", &[0]), ("d", &[]), ("e", &[u64::MAX, 2]), (&"f".repeat(64), &[1])]
        {
            assert!(writer.tensor(name, TensorType::F32, shape).is_err(), "{name}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = [vec![1; 12], vec![2; 20]];
        writer.write(file.as_file(), |number, out| out.write_all(&bytes[number])).unwrap();

        let gguf = Gguf::open(file.path()).unwrap();
        assert_eq!((gguf.architecture(), gguf.arch_u64("wings")), ("owl", Some(2)));
        assert_eq!(gguf.get("owl.weight"), Some(&Value::F32(0.5)));
        assert_eq!(gguf.get("owl.flies").and_then(Value::as_bool), Some(true));
        let elements = |key: &str| gguf.elements(gguf.get(key).unwrap().as_array().unwrap()).unwrap();
        assert_eq!(elements("words"), Elements::String(vec!["tu".into(), "whit".into()]));
        assert_eq!(elements("numbers"), Elements::I32(vec![-1, 7]));
        let whole = std::fs::read(file.path()).unwrap();
        for (tensor, bytes) in gguf.tensors().iter().zip(bytes) {
            let at = (gguf.data_offset() + tensor.offset()) as usize;
            assert_eq!(whole[at..at + bytes.len()], bytes);
        }
    }

    #[test]
    fn a_tensor_must_be_as_long_as_was_said() {
        let mut writer = GgufWriter::default();
        writer.tensor("a", TensorType::F32, &[3]).unwrap();
        let error = writer.write(io::sink(), |_, out| out.write_all(&[0; 8])).unwrap_err();
        assert_eq!(error.to_string(), "tensor `a` has 8 bytes in place of 12");
    }
}
