//! What tells one state of a file from another, without reading it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

/// Another file in its place, or one that was written to, has another stamp, unless somebody set its time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
}

impl Stamp {
    pub(super) fn of(seen: &Metadata) -> io::Result<Self> {
        Ok(Self { inode: seen.ino(), length: seen.len(), modified: seen.modified()? })
    }

    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        Self::of(&file.metadata()?)
    }

    /// One line.
    pub(super) fn to_text(self) -> String {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{} {} {} {}\n", self.inode, self.length, since.as_secs(), since.subsec_nanos())
    }

    /// `None` for anything but a whole line.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (inode, length, seconds, nanos) = (number()?, number()?, number()?, number()?);
        let since = Duration::new(seconds, u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?);
        Some(Self { inode, length, modified: SystemTime::UNIX_EPOCH.checked_add(since)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stamp = Stamp::of_file(file.as_file()).unwrap();
        let text = stamp.to_text();
        assert_eq!(Stamp::parse(&text), Some(stamp));
        for bad in [&text[..text.len() - 1], "", "1 2 3\n", "1 2 3 1000000000\n", "1 2 18446744073709551615 0\n"] {
            assert_eq!(Stamp::parse(bad), None, "{bad:?}");
        }
    }
}
