//! What may stand on a [`Disk`] after a power cut: a fate for each step, no better than wished and no worse than is sure.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use hanzod::types::Digest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore as _;

use super::{Change, Content, Disk, Fate, File, Name, Node, ROOT, Span, State, Step};

/// Bytes that a disk writes at once.
const SECTOR: u64 = 512;
/// States by chance, for each moment.
const CHANCES: usize = 3;

impl Disk {
    /// States in which the disk may be when the power fails at the moment `cut`: with all and with nothing of what is not sure;
    /// with one name alone, and without one name, for `most` names; and some by chance.
    pub fn states(&mut self, cut: usize, most: usize, random: &mut ChaCha8Rng) -> Vec<State> {
        self.files.clear();
        let sure = self.sure(cut);
        let open = |step: &usize| self.steps[*step].is_of_names() && sure[*step].is_some_and(|fate| fate < Fate::Whole);
        let mut single: Vec<usize> = (0..sure.len()).filter(open).collect();
        while single.len() > most {
            single.swap_remove(random.next_u32() as usize % single.len());
        }
        let wish = |names: Fate, bytes: Fate| -> Vec<Fate> {
            self.steps.iter().map(|step| if step.is_of_names() { names } else { bytes }).collect()
        };
        let mut wishes = Vec::new();
        for (names, other) in [(Fate::Lost, Fate::Whole), (Fate::Whole, Fate::Lost)] {
            wishes.extend([Fate::Lost, Fate::Half, Fate::Whole].map(|bytes| wish(names, bytes)));
            for one in &single {
                for (own, bytes) in [(other, Fate::Lost), (Fate::Half, Fate::Whole)] {
                    let mut single = wish(names, bytes);
                    single[*one] = own;
                    wishes.push(single);
                }
            }
        }
        for _ in 0..CHANCES {
            let chance = |step: &Step| match random.next_u32() % 4 {
                0 => Fate::Lost,
                1 => Fate::Half,
                2 if !step.is_of_names() => Fate::Torn(u64::from(random.next_u32())),
                _ => Fate::Whole,
            };
            wishes.push(self.steps.iter().map(chance).collect());
        }
        let fates = wishes.into_iter().map(|wishes| self.fates(&sure, &wishes)).collect::<Vec<_>>();
        fates.iter().map(|fates| self.state(fates)).collect()
    }

    /// The least that became of each step that had begun at the moment `cut`.
    fn sure(&self, cut: usize) -> Vec<Option<Fate>> {
        let works = |what: &String| self.left_out.as_ref() != Some(what);
        let synced = |step: &Step, node: Node| {
            let covers = |span: &Span| span.end <= cut && step.span.end < span.begin;
            self.syncs.iter().any(|(span, of, what)| *of == node && covers(span) && works(what))
        };
        let least = |step: &Step| match &step.change {
            _ if !synced(step, step.of) => Fate::Lost,
            Change::Move(from, ..) if !synced(step, from.0) => Fate::Half,
            _ => Fate::Whole,
        };
        self.steps.iter().map(|step| (step.span.begin <= cut).then(|| least(step))).collect()
    }

    /// What becomes of the steps when these wishes are granted as far as they can be.
    fn fates(&self, sure: &[Option<Fate>], wishes: &[Fate]) -> Vec<Fate> {
        let granted = sure.iter().zip(wishes).map(|(least, wish)| least.map_or(Fate::Lost, |least| least.max(*wish)));
        let mut fates: Vec<Fate> = granted.collect();
        // Where a name was changed, all earlier changes of it had been made.
        let mut changed: HashSet<&Name> = HashSet::new();
        for (at, step) in self.steps.iter().enumerate().rev().filter(|(at, _)| sure[*at].is_some()) {
            let needed = |fate: Fate| step.changed(fate).iter().any(|name| changed.contains(name));
            if needed(Fate::Half) {
                fates[at] = fates[at].max(Fate::Half);
            }
            if matches!(&step.change, Change::Move(from, ..) if changed.contains(&from))
                || (step.changed(Fate::Half).is_empty() && needed(Fate::Whole))
            {
                fates[at] = Fate::Whole;
            }
            changed.extend(step.changed(fates[at]));
        }
        fates
    }

    pub(super) fn state(&mut self, fates: &[Fate]) -> State {
        let mut names: BTreeMap<Name, Node> = BTreeMap::new();
        for (step, fate) in self.steps.iter().zip(fates) {
            for name in step.changed(*fate) {
                match &step.change {
                    Change::Enter(_, node) => names.insert(name.clone(), *node),
                    Change::Move(_, to, node) if name == to => names.insert(name.clone(), *node),
                    _ => names.remove(name),
                };
            }
        }
        let mut state = State::default();
        let mut folders = vec![(ROOT, PathBuf::new())];
        while let Some((folder, path)) = folders.pop() {
            for ((_, name), node) in names.range((folder, String::new())..(Node(folder.0 + 1), String::new())) {
                let path = path.join(name);
                let file = self.modes[node.0].map(|mode| self.file(*node, mode, fates));
                if file.is_none() {
                    folders.push((*node, path.clone()));
                }
                state.0.insert(path, file);
            }
        }
        state
    }

    pub(super) fn file(&mut self, node: Node, mode: u32, fates: &[Fate]) -> File {
        let steps = || self.steps.iter().zip(fates).filter(|(step, _)| step.of == node && !step.is_of_names());
        let key = (node, steps().map(|(_, fate)| *fate).collect());
        if let Some(file) = self.files.get(&key) {
            return file.clone();
        }
        let (mut bytes, mut mode) = (Vec::new(), mode);
        for (step, fate) in steps() {
            match &step.change {
                _ if *fate == Fate::Lost => {}
                Change::Write(at, written) => write(&mut bytes, *at, written, *fate),
                Change::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
                Change::Mode(changed) => mode = *changed,
                Change::Enter(..) | Change::Leave(_) | Change::Move(..) => unreachable!("no step of a file"),
            }
        }
        let file = File { content: Arc::new(Content { digest: Digest::of(&bytes), bytes }), mode };
        self.files.insert(key, file.clone());
        file
    }
}

pub(super) fn write(file: &mut Vec<u8>, at: u64, bytes: &[u8], fate: Fate) {
    let length = bytes.len() as u64;
    let there = match fate {
        Fate::Torn(upto) if length > 0 => ((at + upto % length) / SECTOR * SECTOR).saturating_sub(at),
        _ => length,
    };
    let (at, there) = (usize::try_from(at).unwrap(), usize::try_from(there).unwrap());
    if there == 0 {
        return;
    }
    if file.len() < at + there {
        file.resize(at + there, 0);
    }
    if fate != Fate::Half {
        file[at..][..there].copy_from_slice(&bytes[..there]);
    }
}
