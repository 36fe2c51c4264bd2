//! Bytes of a file with a known end. Nothing is allocated or skipped before it is known to be there.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::GgufError;

/// Bytes that a header may have. The largest vocabularies come to some 30 MB.
const HEADER: u64 = 256 << 20;
const BUFFER: usize = 64 << 10;

pub(super) struct Source<R> {
    reader: BufReader<R>,
    at: u64,
    end: u64,
}

impl<R: Read + Seek> Source<R> {
    pub(super) fn new(mut reader: R) -> io::Result<Self> {
        let end = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        Ok(Self { reader: BufReader::with_capacity(BUFFER, reader), at: 0, end })
    }

    /// Starts at byte `at`, which the caller knows to be inside the file.
    pub(super) fn from(reader: R, at: u64) -> io::Result<Self> {
        let mut source = Self::new(reader)?;
        source.reader.seek(SeekFrom::Start(at))?;
        source.at = at;
        Ok(source)
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// Moves past `count` bytes on paper; the caller reads or skips them.
    fn claim(&mut self, count: u64, what: &'static str) -> Result<(), GgufError> {
        if count > self.left() {
            return Err(GgufError::Truncated { what, at: self.end });
        }
        self.at += count;
        if self.at > HEADER {
            return Err(GgufError::TooLarge { what: "a header", have: self.at, most: HEADER });
        }
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        self.claim(N as u64, what)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// A length and as many bytes.
    pub(super) fn string(&mut self, what: &'static str, most: u64) -> Result<Vec<u8>, GgufError> {
        let length = self.u64(what)?;
        // a length that the file does not have is the better message, also when it is over the limit
        if length <= self.left() && length > most {
            return Err(GgufError::TooLarge { what, have: length, most });
        }
        self.claim(length, what)?;
        let mut bytes = vec![0; usize::try_from(length).expect("a string's length is below the header's: a bug")];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn skip(&mut self, count: u64, what: &'static str) -> Result<(), GgufError> {
        self.claim(count, what)?;
        self.reader.seek_relative(i64::try_from(count).expect("a skip is shorter than the header: a bug"))?;
        Ok(())
    }

    pub(super) fn skip_string(&mut self, what: &'static str) -> Result<(), GgufError> {
        let length = self.u64(what)?;
        self.skip(length, what)
    }
}
