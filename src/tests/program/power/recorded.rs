//! What a program did to the files of a folder, told to a [`Disk`].

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk::{Disk, Node, Span};
use crate::program::calls::Call;

/// All calls that change files, and those that tell where a program writes in one.
pub const CALLS: &str = "?open,openat,?creat,write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,splice,ftruncate,truncate,\
    fallocate,fsync,fdatasync,sync_file_range,?rename,?renameat,renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,\
    ?mkdir,mkdirat,?chmod,fchmod,fchmodat,lseek,ioctl";
/// The moment at which a recording starts.
pub const STARTED: usize = 1;
/// More than is ever written at once.
pub const BYTES: usize = 64 << 20;

/// A disk and the folder that it stands for.
pub struct Recorded {
    pub disk: Disk,
    root: PathBuf,
    /// Rights that no new file gets.
    mask: u32,
}

impl Recorded {
    /// What stands in the folder now is there for sure.
    pub fn new(root: &Path) -> Self {
        let mut recorded = Self { disk: Disk::new(), root: root.to_owned(), mask: mask() };
        let nodes = recorded.take(Span { begin: 0, end: 0 }, root, Path::new(""));
        nodes.into_iter().for_each(|node| recorded.disk.sync(Span { begin: STARTED, end: STARTED }, node, "before"));
        recorded
    }

    /// Puts what stands at `source` below the root, as another program would that syncs nothing.
    pub fn find(&mut self, source: &Path, path: &Path) {
        let place = self.root.join(path);
        let copied = Command::new("cp").args(["-rpT"]).args([source, &place]).status().unwrap();
        assert!(copied.success());
        let now = self.disk.end() + 1;
        self.take(Span { begin: now, end: now }, &place, path);
    }

    /// Notes the file or folder at `place`, with all that is below it. Gives what it had not known.
    fn take(&mut self, span: Span, place: &Path, path: &Path) -> Vec<Node> {
        if !place.is_dir() {
            let file = self.disk.make_file(span, path, std::fs::metadata(place).unwrap().mode() & 0o777);
            self.disk.write(span, file, 0, std::fs::read(place).unwrap());
            return vec![file];
        }
        let mut nodes = vec![self.disk.find(path).unwrap_or_else(|| self.disk.make_folder(span, path))];
        for entry in std::fs::read_dir(place).unwrap().flatten() {
            nodes.extend(self.take(span, &entry.path(), &path.join(entry.file_name())));
        }
        nodes
    }

    /// Notes what a program did that ran to its end.
    pub fn add(&mut self, calls: &[Call]) {
        let before = self.disk.end() + 1;
        // Where the next write goes, by the descriptor.
        let mut places: HashMap<i64, u64> = HashMap::new();
        for call in calls {
            let span = Span { begin: before + call.begin, end: before + call.end };
            self.call(span, call, &mut places);
        }
    }

    fn below(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.root).ok().map(Path::to_owned)
    }

    fn call(&mut self, span: Span, call: &Call, places: &mut HashMap<i64, u64>) {
        let named: Option<Vec<PathBuf>> = match call.name.as_str() {
            // What they write is text as well.
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => None,
            _ => Some(call.names().iter().filter_map(|name| self.below(name)).collect()),
        };
        let named = named.unwrap_or_default();
        let file = |index: usize| self.below(&call.file(index)?).and_then(|path| self.disk.find(&path));
        let first = file(0);
        match (call.name.as_str(), &named[..], first) {
            ("lseek", ..) => {
                places.insert(call.descriptor(0).unwrap(), u64::try_from(call.result).unwrap());
            }
            ("openat" | "open", [path], _) => {
                places.insert(call.result, 0);
                assert!(!call.says("O_APPEND") && !call.says("O_TMPFILE"), "{call:?} is not understood");
                match self.disk.find(path) {
                    None if call.says("O_CREAT") => {
                        self.disk.make_file(span, path, octal(call.last()) & !self.mask);
                    }
                    Some(file) if call.says("O_TRUNC") => self.disk.set_length(span, file, 0),
                    _ => {}
                }
            }
            ("write" | "writev", _, Some(file)) => {
                let place = places.get_mut(&call.descriptor(0).unwrap());
                let place = place.unwrap_or_else(|| panic!("{} is written to a descriptor of no file", call.name));
                let at = *place;
                *place += u64::try_from(call.result).unwrap();
                self.disk.write(span, file, at, written(call));
            }
            ("pwrite64", _, Some(file)) => self.disk.write(span, file, call.last().parse().unwrap(), written(call)),
            ("ftruncate", _, Some(file)) => self.disk.set_length(span, file, call.last().parse().unwrap()),
            ("fchmod", _, Some(file)) => self.disk.set_mode(span, file, octal(call.last())),
            ("chmod", [path], _) => {
                let file = self.disk.find(path).unwrap();
                self.disk.set_mode(span, file, octal(call.last()));
            }
            ("fsync" | "fdatasync", _, Some(node)) => {
                let path = self.below(&call.file(0).unwrap()).unwrap();
                self.disk.sync(span, node, &known_by(&path));
            }
            ("rename" | "renameat" | "renameat2", [from, to], _) => self.disk.rename(span, from, to),
            ("link" | "linkat", [from, to], _) => {
                let node = self.disk.find(from).unwrap();
                self.disk.enter(span, to, node);
            }
            ("unlink" | "unlinkat" | "rmdir", [path], _) => self.disk.leave(span, path),
            ("mkdir" | "mkdirat", [path], _) => {
                self.disk.make_folder(span, path);
            }
            // One file gets the blocks of another.
            ("ioctl", _, Some(clone)) if call.says("CLONE") => {
                let source = file(2).unwrap();
                let bytes = self.disk.content(source);
                self.disk.write(span, clone, 0, bytes);
            }
            ("ioctl", ..) => {}
            // Of other folders, or of files that have no name any more.
            (_, [], None) => {}
            _ => panic!("{call:?} is not understood"),
        }
    }
}

/// The path, without what is there by chance.
fn known_by(path: &Path) -> String {
    let name = |name: &OsStr| match name.to_str().unwrap() {
        name if name.starts_with("ingest-") => "ingest".to_owned(),
        name => name.to_owned(),
    };
    std::iter::once("home".to_owned()).chain(path.iter().map(name)).collect::<Vec<_>>().join("/")
}

fn mask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    octal(status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim())
}

fn octal(text: &str) -> u32 {
    u32::from_str_radix(text, 8).unwrap()
}

fn written(call: &Call) -> Vec<u8> {
    let mut bytes = call.texts().concat();
    assert!(bytes.len() as i64 >= call.result, "{} bytes were not told", call.result);
    bytes.truncate(usize::try_from(call.result).unwrap());
    bytes
}
