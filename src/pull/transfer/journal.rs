//! What of a partial download is on disk, told in a file beside it, so that a later process can go on.
//!
//! Lines of text with a checksum each; a torn end is cut off. A range is written down after its bytes were handed to the
//! system: that outlives the process, not the machine. So a range counts after a restart of the machine only when a
//! later line says that the file had been synced.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::spans::Spans;
use crate::types::Digest;

const FORMAT: &str = "hanzod-journal-1";
/// A journal of this length tells of some terabytes; one that is longer is not ours.
const LONGEST: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Journal {
    file: Arc<File>,
    length: u64,
}

impl Journal {
    /// Reads the journal at `path` and begins a new one with what still counts. `boot` names this run of the machine,
    /// `length` is how long the partial file is. Gives the ranges that are there.
    pub(super) fn open(path: &Path, size: u64, boot: Option<&str>, length: u64) -> io::Result<(Self, Spans)> {
        let (mut safe, mut spans) = (Spans::default(), Spans::default());
        match File::open(path) {
            Ok(file) => {
                let mut text = Vec::new();
                file.take(LONGEST).read_to_end(&mut text)?;
                for (range, synced) in read(&text, size, boot) {
                    if range.end <= length.min(size) {
                        spans.insert(range.clone());
                        if synced {
                            safe.insert(range);
                        }
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut text = line(&format!("{FORMAT} {size} {}", boot.unwrap_or("-")));
        text.extend(safe.iter().map(wrote));
        text += &line(&format!("synced {}", text.len()));
        text.extend(spans.iter().flat_map(|span| safe.missing(span)).map(|range| wrote(&range)));
        let fresh = path.with_extension("journal-new");
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        if safe.total() > 0 {
            // What the old one says would outlive the machine; so must what takes its place.
            file.sync_data()?;
        }
        fs::rename(&fresh, path)?;
        let length = text.len() as u64;
        let file = Arc::new(file);
        Ok((Self { file, length }, spans))
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn wrote(&mut self, range: &Range<u64>) -> io::Result<()> {
        self.append(&wrote(range))
    }

    /// Notes that everything told in the first `length` bytes is safe. The file is to be synced then.
    pub(super) fn synced(&mut self, length: u64) -> io::Result<Arc<File>> {
        self.append(&line(&format!("synced {length}")))?;
        Ok(self.file.clone())
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        (&*self.file).write_all(text.as_bytes())?;
        self.length += text.len() as u64;
        Ok(())
    }
}

fn wrote(range: &Range<u64>) -> String {
    line(&format!("wrote {} {}", range.start, range.end))
}

fn line(text: &str) -> String {
    format!("{text} {}\n", Digest::of(text.as_bytes()).short())
}

/// The ranges of a journal that can be relied on, and whether another run of the machine could as well.
fn read(text: &[u8], size: u64, boot: Option<&str>) -> Vec<(Range<u64>, bool)> {
    let mut ranges = Vec::new();
    let (mut at, mut safe, mut same_boot) = (0, 0, false);
    for raw in text.split_inclusive(|byte| *byte == b'\n') {
        let checked = str::from_utf8(raw).ok().and_then(|text| text.strip_suffix('\n')?.rsplit_once(' '));
        let Some((told, _)) = checked.filter(|(told, sum)| Digest::of(told.as_bytes()).short() == *sum) else {
            break;
        };
        let number = |word: Option<&&str>| word.and_then(|word| word.parse::<u64>().ok());
        let words: Vec<&str> = told.split(' ').collect();
        match words[0] {
            FORMAT if at == 0 && number(words.get(1)) == Some(size) => {
                same_boot = boot.is_some() && words.get(2).copied() == boot;
            }
            "wrote" if at > 0 => {
                let (Some(start), Some(end)) = (number(words.get(1)), number(words.get(2))) else {
                    break;
                };
                ranges.push((at, start..end));
            }
            "synced" if at > 0 => safe = number(words.get(1)).unwrap_or(0).max(safe),
            _ => break,
        }
        at += raw.len() as u64;
    }
    let told = ranges.into_iter().map(|(at, range)| (range, at < safe));
    told.filter(|(_, synced)| same_boot || *synced).collect()
}

/// What names this run of the machine, where the system tells.
pub(super) fn boot() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;

    fn spans(ranges: &[Range<u64>]) -> Spans {
        let mut spans = Spans::default();
        ranges.iter().for_each(|range| spans.insert(range.clone()));
        spans
    }

    #[test]
    fn outlives_the_process_and_what_was_synced_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.journal");
        let (mut journal, none) = Journal::open(&path, 100, Some("one"), 0).unwrap();
        assert_eq!(none, Spans::default());
        journal.wrote(&(0..10)).unwrap();
        let before = journal.length();
        journal.wrote(&(50..60)).unwrap();
        journal.synced(before).unwrap();
        journal.wrote(&(90..100)).unwrap();
        let kept = fs::read(&path).unwrap();

        let again = |boot: Option<&str>, size, length| {
            fs::write(&path, &kept).unwrap();
            Journal::open(&path, size, boot, length).unwrap().1
        };
        assert_eq!(again(Some("one"), 100, 100), spans(&[0..10, 50..60, 90..100]));
        assert_eq!(again(Some("two"), 100, 100), spans(&[0..4, 4..10]));
        assert_eq!(again(None, 100, 100), spans(&[0..4, 4..10]));
        assert_eq!(again(Some("one"), 100, 60), spans(&[0..10, 50..60]), "what the file is too short for");
        assert_eq!(again(Some("one"), 99, 100), Spans::default(), "another size");

        // What was begun anew from it is as good, and no better.
        again(Some("one"), 100, 100);
        assert_eq!(Journal::open(&path, 100, Some("one"), 100).unwrap().1.total(), 30);
        assert_eq!(Journal::open(&path, 100, Some("two"), 100).unwrap().1, spans(&[0..10]));
        assert_eq!(Journal::open(&path, 100, Some("three"), 100).unwrap().1, spans(&[0..10]));
    }

    #[test]
    fn torn_and_foreign_lines_end_it() {
        let head = line(&format!("{FORMAT} 100 b"));
        let whole = format!("{head}{}{}", wrote(&(0..10)), wrote(&(10..20)));
        for cut in head.len() + wrote(&(0..10)).len()..whole.len() {
            assert_eq!(read(&whole.as_bytes()[..cut], 100, Some("b")).len(), 1, "{cut}");
        }
        assert_eq!(read(whole.as_bytes(), 100, Some("b")), [(0..10, false), (10..20, false)]);
        for bad in ["", "wrote 0 10 x\n", &wrote(&(0..10)), &format!("{head}wrote 0 9 00\n"), "\u{0}\n \n"] {
            assert!(read(bad.as_bytes(), 100, Some("b")).is_empty(), "{bad}");
        }
    }
}
