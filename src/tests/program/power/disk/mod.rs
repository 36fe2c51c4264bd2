//! A disk on which the power may fail: what it was told to do, what it was told to keep, and what may stand on it afterwards.
//!
//! The rules are those that POSIX gives, and no file system's own. What was done to a file is there for sure once a sync of the
//! file has ended that began after it; a name, once such a sync of its folder has. Of all else any part may be there:
//!
//! - written bytes are there, or some sectors of them, or the file is only as long as they made it, or not even that;
//! - a name is there or not, whatever became of the names that came before and after it, and of the file's content;
//! - but what happened to one and the same name happened in its order;
//! - a rename is whole, or has not happened; between two folders it may also have left the old name beside the new one. The sync
//!   that counts is that of the new name's folder.

mod cut;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hanzod::types::Digest;

/// A file or a folder, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(usize);

const ROOT: Node = Node(0);

/// When something began and ended. What overlaps happens at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub begin: usize,
    pub end: usize,
}

/// In a folder.
type Name = (Node, String);

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
    Mode(u32),
    Enter(Name, Node),
    Leave(Name),
    Move(Name, Name, Node),
}

#[derive(Debug)]
struct Step {
    span: Span,
    /// What must be synced: the file, or the folder of the name; of a rename, that of the new name.
    of: Node,
    change: Change,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Fate {
    Lost,
    /// Of bytes, the length; of a rename between folders, the new name. Of others, nothing.
    Half,
    /// Whole sectors, up to some byte.
    Torn(u64),
    Whole,
}

impl Step {
    fn is_of_names(&self) -> bool {
        matches!(self.change, Change::Enter(..) | Change::Leave(_) | Change::Move(..))
    }

    /// The names that it has changed if that has become of it.
    fn changed(&self, fate: Fate) -> Vec<&Name> {
        match (&self.change, fate) {
            (Change::Enter(name, _) | Change::Leave(name), Fate::Whole) => vec![name],
            (Change::Move(from, to, _), Fate::Whole) => vec![from, to],
            (Change::Move(from, to, _), Fate::Half) if from.0 != to.0 => vec![to],
            _ => Vec::new(),
        }
    }
}

/// What may stand on the disk, by paths below the root. Folders have no content.
#[derive(Clone, Debug, Default)]
pub struct State(pub BTreeMap<PathBuf, Option<File>>);

#[derive(Clone, Debug)]
pub struct File {
    pub content: Arc<Content>,
    pub mode: u32,
}

#[derive(Debug)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

impl State {
    /// What tells one state from another.
    pub fn digest(&self) -> Digest {
        let tell = |(path, file): (&PathBuf, &Option<File>)| match file {
            Some(file) => format!("{} {:o} {}\n", file.content.digest, file.mode, path.display()),
            None => format!("{}\n", path.display()),
        };
        Digest::of(self.0.iter().map(tell).collect::<String>().as_bytes())
    }
}

/// Everything that happened, in the order in which it ended.
pub struct Disk {
    steps: Vec<Step>,
    syncs: Vec<(Span, Node, String)>,
    /// Syncs that do nothing.
    left_out: Option<String>,
    /// Of each node: the mode of a new file; folders have none.
    modes: Vec<Option<u32>>,
    /// The names of now.
    names: HashMap<Name, Node>,
    /// Of one moment.
    files: HashMap<(Node, Vec<Fate>), File>,
}

impl Disk {
    /// Empty.
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            syncs: Vec::new(),
            left_out: None,
            modes: vec![None],
            names: HashMap::new(),
            files: HashMap::new(),
        }
    }

    /// What bears this name now. Names begin below the root.
    pub fn find(&self, path: &Path) -> Option<Node> {
        path.iter().try_fold(ROOT, |folder, name| self.names.get(&(folder, name.to_str()?.to_owned())).copied())
    }

    fn name(&self, path: &Path) -> Name {
        let folder = path.parent().and_then(|folder| self.find(folder));
        let folder = folder.unwrap_or_else(|| panic!("{} has no folder here", path.display()));
        (folder, path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn step(&mut self, span: Span, of: Node, change: Change) {
        self.steps.push(Step { span, of, change });
    }

    fn make(&mut self, span: Span, path: &Path, mode: Option<u32>) -> Node {
        let node = Node(self.modes.len());
        self.modes.push(mode);
        self.enter(span, path, node);
        node
    }

    pub fn make_folder(&mut self, span: Span, path: &Path) -> Node {
        self.make(span, path, None)
    }

    pub fn make_file(&mut self, span: Span, path: &Path, mode: u32) -> Node {
        self.make(span, path, Some(mode))
    }

    /// Gives a node a name, be it its first or another.
    pub fn enter(&mut self, span: Span, path: &Path, node: Node) {
        let name = self.name(path);
        self.names.insert(name.clone(), node);
        self.step(span, name.0, Change::Enter(name, node));
    }

    pub fn leave(&mut self, span: Span, path: &Path) {
        let name = self.name(path);
        self.names.remove(&name);
        self.step(span, name.0, Change::Leave(name));
    }

    pub fn rename(&mut self, span: Span, from: &Path, to: &Path) {
        let (old, new) = (self.name(from), self.name(to));
        let node = self.names.remove(&old).unwrap_or_else(|| panic!("{} is not here", from.display()));
        self.names.insert(new.clone(), node);
        self.step(span, new.0, Change::Move(old, new, node));
    }

    pub fn write(&mut self, span: Span, file: Node, at: u64, bytes: Vec<u8>) {
        self.step(span, file, Change::Write(at, bytes));
    }

    pub fn set_length(&mut self, span: Span, file: Node, length: u64) {
        self.step(span, file, Change::Length(length));
    }

    pub fn set_mode(&mut self, span: Span, file: Node, mode: u32) {
        self.step(span, file, Change::Mode(mode));
    }

    /// `what` is what the sync is known by.
    pub fn sync(&mut self, span: Span, node: Node, what: &str) {
        self.syncs.push((span, node, what.to_owned()));
    }

    /// What was synced since the moment `from`.
    pub fn synced(&self, from: usize) -> BTreeSet<String> {
        self.syncs.iter().filter(|(span, ..)| span.begin > from).map(|(.., what)| what.clone()).collect()
    }

    /// From now on the disk is one whose syncs of this do nothing.
    pub fn leave_out(&mut self, what: Option<&str>) {
        self.left_out = what.map(str::to_owned);
    }

    /// All that was done, as if the power had not failed.
    pub fn now(&mut self) -> State {
        self.files.clear();
        let whole = vec![Fate::Whole; self.steps.len()];
        self.state(&whole)
    }

    pub fn content(&mut self, file: Node) -> Vec<u8> {
        let whole = vec![Fate::Whole; self.steps.len()];
        self.file(file, 0, &whole).content.bytes.clone()
    }

    /// The last moment of what has happened.
    pub fn end(&self) -> usize {
        let spans = self.steps.iter().map(|step| step.span).chain(self.syncs.iter().map(|(span, ..)| *span));
        spans.map(|span| span.end).max().unwrap_or(0)
    }

    /// Moments after which other names may stand on the disk than before, and those after which only other bytes may.
    pub fn moments(&self) -> (Vec<usize>, Vec<usize>) {
        let (of_names, of_bytes): (Vec<&Step>, Vec<&Step>) = self.steps.iter().partition(|step| step.is_of_names());
        let mut names: Vec<usize> = of_names.iter().map(|step| step.span.begin).collect();
        names.extend(self.syncs.iter().map(|(span, ..)| span.end));
        let mut bytes: Vec<usize> = of_bytes.iter().map(|step| step.span.begin).collect();
        for moments in [&mut names, &mut bytes] {
            moments.sort_unstable();
            moments.dedup();
        }
        (names, bytes)
    }

    /// The syncs of a node that had ended at the moment `cut`, whatever they did.
    pub fn syncs(&self, node: Node, cut: usize) -> impl Iterator<Item = Span> {
        self.syncs.iter().filter(move |(span, of, _)| *of == node && span.end <= cut).map(|(span, ..)| *span)
    }

    /// All that ever bore this name, in a folder that is still there.
    pub fn ever(&self, path: &Path) -> Vec<Node> {
        let name = self.name(path);
        let node = |step: &Step| match &step.change {
            Change::Enter(to, node) | Change::Move(_, to, node) if *to == name => Some(*node),
            _ => None,
        };
        self.steps.iter().filter_map(node).collect()
    }

    /// Bytes that had been written to a file before the moment `cut`, each counted once.
    pub fn written(&self, file: Node, cut: usize) -> u64 {
        let range = |step: &Step| match &step.change {
            Change::Write(at, bytes) if step.of == file && step.span.end < cut => Some((*at, at + bytes.len() as u64)),
            _ => None,
        };
        let mut ranges: Vec<(u64, u64)> = self.steps.iter().filter_map(range).collect();
        ranges.sort_unstable();
        let mut upto = 0;
        let mut fresh = |(from, to): (u64, u64)| {
            let fresh = to.saturating_sub(from.max(upto));
            upto = upto.max(to);
            fresh
        };
        ranges.into_iter().map(&mut fresh).sum()
    }
}
