//! The power fails while the program works (F29): whatever of its work the disk has by then, the store is whole. What the program
//! does is recorded, and what may be left of it is laid out again and opened, for many moments.

mod disk;
mod recorded;

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hanzod::store::{Descriptor, Manifest, MediaType, Store, StoreError};
use hanzod::types::{Digest, ModelName};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use tempfile::TempDir;

use self::disk::State;
use self::recorded::{BYTES, CALLS, Recorded, STARTED};
use super::calls::{can_watch, watch};
use super::harness::{Home, good, tiny};
use super::puller;
use super::served::{CONFIG, Registry, noise};

/// Names that are tried alone at one moment.
const SINGLE: usize = 4;
/// One in as many of the moments at which bytes are written.
const EACH: u32 = 4;

/// A model that must be there from one moment on, until another.
struct Promise {
    name: ModelName,
    from: usize,
    until: usize,
}

impl Promise {
    fn holds(&self, cut: usize) -> bool {
        (self.from..self.until).contains(&cut)
    }
}

struct Bench {
    home: Home,
    recorded: Recorded,
    promises: Vec<Promise>,
    /// No other program writes into the store.
    alone: bool,
    /// Blobs that are pulled.
    blobs: Vec<(Digest, u64)>,
    /// States that were looked at, with what was promised then; up to this moment.
    seen: HashSet<(Digest, Vec<bool>, Vec<u64>)>,
    upto: usize,
    random: ChaCha8Rng,
}

impl Bench {
    /// What is in the home folder by now outlives any power cut.
    fn new(home: Home) -> Self {
        let recorded = Recorded::new(home.path());
        let random = ChaCha8Rng::seed_from_u64(29);
        let (promises, blobs, seen) = (Vec::new(), Vec::new(), HashSet::new());
        Self { home, recorded, promises, alone: true, blobs, seen, upto: STARTED, random }
    }

    /// Runs a program to its end and notes what it does to the disk.
    fn record(&mut self, program: &Command) {
        let (output, calls) = watch(program, CALLS, BYTES);
        good(output);
        self.recorded.add(&calls);
        // Nothing that it did was missed.
        let (told, real) = (self.recorded.disk.now(), Recorded::new(self.home.path()).disk.now());
        let names = |state: &State| state.0.keys().cloned().collect::<Vec<PathBuf>>();
        assert_eq!(names(&told), names(&real));
        assert_eq!(told.digest(), real.digest(), "some file has another content or mode");
    }

    fn run(&mut self, arguments: &[&str]) {
        let program = self.home.program(arguments);
        self.record(&program);
    }

    /// From now on the model is there.
    fn promise(&mut self, name: &str) {
        let (name, from) = (ModelName::parse(name).unwrap(), self.recorded.disk.end());
        self.promises.push(Promise { name, from, until: usize::MAX });
    }

    /// From now on it may go.
    fn release(&mut self, name: &str) {
        let (name, now) = (ModelName::parse(name).unwrap(), self.recorded.disk.end());
        self.promises.iter_mut().filter(|promise| promise.name == name).for_each(|promise| promise.until = now);
    }

    /// The store, below the home folder.
    fn store(&self) -> PathBuf {
        self.home.store().strip_prefix(self.home.path()).unwrap().to_owned()
    }

    /// Lets the power fail at every moment since the last time after which names may have changed, and at some of the others.
    /// Gives how many states were held against the promises, and `some` of them; half had bytes to lose, and come first.
    fn fail(&mut self, some: usize) -> Result<(usize, Vec<(usize, State)>), String> {
        let (mut moments, bytes) = self.recorded.disk.moments();
        moments.extend(bytes.into_iter().filter(|_| self.random.next_u32().is_multiple_of(EACH)));
        moments.push(self.recorded.disk.end());
        moments.retain(|cut| *cut > self.upto);
        // Backwards: what is promised in the end is broken first.
        moments.sort_unstable_by_key(|cut| std::cmp::Reverse(*cut));
        let (mut count, mut kept) = (0, [Vec::new(), Vec::new()]);
        let mut counts = [0; 2];
        for cut in moments {
            let promised: Vec<bool> = self.promises.iter().map(|promise| promise.holds(cut)).collect();
            let safe: Vec<u64> = self.blobs.iter().map(|(blob, _)| self.kept(cut, blob)).collect();
            for state in self.recorded.disk.states(cut, SINGLE, &mut self.random) {
                if !self.seen.insert((state.digest(), promised.clone(), safe.clone())) {
                    continue;
                }
                self.hold(cut, &state)?;
                count += 1;
                let kind = usize::from(self.at_stake(cut, &state).1 > 0);
                // Each with the same chance.
                counts[kind] += 1;
                let place = self.random.next_u32() as usize % counts[kind];
                if kept[kind].len() < some / 2 {
                    kept[kind].push((cut, state));
                } else if place < some / 2 {
                    kept[kind][place] = (cut, state);
                }
            }
        }
        self.upto = self.recorded.disk.end();
        println!("{count} states up to {}, {counts:?}", self.upto);
        Ok((count, kept.into_iter().rev().flatten().collect()))
    }

    /// Each sync counts: on a disk where it does nothing some promise is broken.
    async fn each_sync_counts(&mut self, pull: Option<(&Registry, &str)>) {
        for what in self.recorded.disk.synced(STARTED) {
            self.recorded.disk.leave_out(Some(&what));
            self.seen.clear();
            self.upto = STARTED;
            // All of them, since few may tell: the first that does is enough.
            let broken = match (self.fail(usize::MAX), pull) {
                (Ok((_, some)), Some((registry, name))) => self.recover_all(&some, registry, name).await.err(),
                (held, _) => held.err(),
            };
            let broken = broken.unwrap_or_else(|| panic!("nobody needs the sync of {what}"));
            println!("without the sync of {what}: {}", broken.split(", of ").next().unwrap());
        }
        self.recorded.disk.leave_out(None);
    }

    /// Lays a state out and looks at it with the store's own code. Gives the store and its folder.
    fn hold(&self, cut: usize, state: &State) -> Result<(TempDir, Store), String> {
        let folder = lay_out(state);
        let store = Store::open(&folder.path().join(self.store())).unwrap();
        let told = |why: &dyn std::fmt::Display| format!("at {cut}: {why}, of {:?}", state.0.keys());
        let whole = |model: Option<&ModelName>| store.verify(model, false, &mut |_| true).unwrap().findings;
        let mut findings = Vec::new();
        if self.alone {
            self.hold_blobs(state).map_err(|why| told(&why))?;
            findings = whole(None);
        }
        for promise in &self.promises {
            match store.tags().get(&promise.name) {
                Err(StoreError::NotFound(_)) if !promise.holds(cut) => {}
                Err(error) => return Err(told(&error)),
                Ok(_) if self.alone => {}
                Ok(_) => findings.extend(whole(Some(&promise.name))),
            }
        }
        match findings.first() {
            Some(finding) => Err(told(&format!("{finding:?}"))),
            None => Ok((folder, store)),
        }
    }

    fn hold_blobs(&self, state: &State) -> Result<(), String> {
        for (path, file) in state.0.iter().filter(|(path, _)| path.parent() == Some(&self.store().join("blobs"))) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let file = file.as_ref().expect("no folder among the blobs");
            let (real, mode) = (file.content.digest.file_name(), file.mode);
            if !name.starts_with("ingest-") && (real != name || mode != 0o444) {
                return Err(format!("blob {name} is {real}, of mode {mode:o}"));
            }
        }
        Ok(())
    }

    /// Bytes of a blob that a power cut must not cost any more: they were synced, and so was what says so, and its name.
    fn kept(&self, cut: usize, blob: &Digest) -> u64 {
        let disk = &self.recorded.disk;
        let partials = self.store().join("hanzod/partial");
        let Some(folder) = disk.find(&partials) else { return 0 };
        let syncs = |name: String| disk.ever(&partials.join(name)).into_iter().flat_map(|node| disk.syncs(node, cut));
        let told: Vec<_> = syncs(format!("{}.journal-new", blob.hex())).collect();
        let mut kept = 0;
        for file in disk.ever(&partials.join(blob.hex())) {
            for synced in disk.syncs(file, cut) {
                let after = |told: &&disk::Span| told.begin > synced.end;
                let ended = told.iter().filter(after).map(|told| told.end).min();
                if ended.is_some_and(|ended| disk.syncs(folder, cut).any(|named| named.begin > ended)) {
                    kept = kept.max(disk.written(file, synced.begin));
                }
            }
        }
        kept
    }

    /// Bytes of the blobs that are not there, and those of them that must not be lost.
    fn at_stake(&self, cut: usize, state: &State) -> (u64, u64) {
        let there = |blob: &Digest| state.0.contains_key(&self.store().join("blobs").join(blob.file_name()));
        let missing = || self.blobs.iter().filter(|(blob, _)| !there(blob));
        (missing().map(|(_, size)| size).sum(), missing().map(|(blob, _)| self.kept(cut, blob)).sum())
    }

    /// Pulls the model that did not come through, and gives the bytes that could not be lost.
    async fn recover(&self, cut: usize, state: &State, registry: &Registry, name: &str) -> Result<u64, String> {
        let (folder, store) = self.hold(cut, state)?;
        let ((missing, kept), before) = (self.at_stake(cut, state), registry.sent());
        puller::pull(&store, name, u64::MAX).await.map_err(|error| format!("at {cut}: {error}"))?;
        let sent = registry.sent() - before;
        if sent > missing - kept {
            return Err(format!("at {cut}: {sent} bytes of {missing} were sent, and {kept} were safe"));
        }
        let store = Store::open(&folder.path().join(self.store())).unwrap();
        let findings = store.verify(None, false, &mut |_| true).unwrap().findings;
        if !findings.is_empty() || store.tags().get(&ModelName::parse(name).unwrap()).is_err() {
            return Err(format!("at {cut}: after the pull {findings:?}"));
        }
        Ok(kept)
    }

    /// Gives of how many states something could have been lost.
    async fn recover_all(&self, states: &[(usize, State)], registry: &Registry, name: &str) -> Result<usize, String> {
        let mut safe = 0;
        for (cut, state) in states {
            safe += usize::from(self.recover(*cut, state, registry, name).await? > 0);
        }
        Ok(safe)
    }
}

/// In memory where that can be: then nothing waits for a disk.
fn lay_out(state: &State) -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for (path, file) in &state.0 {
        let place = folder.path().join(path);
        let Some(file) = file else {
            std::fs::create_dir(place).unwrap();
            continue;
        };
        let is_journal = path.extension().is_some_and(|ending| ending.to_str().unwrap().starts_with("journal"));
        let fresh = is_journal.then(|| of_another_boot(&file.content.bytes)).flatten();
        std::fs::write(&place, fresh.as_ref().unwrap_or(&file.content.bytes)).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(file.mode)).unwrap();
    }
    folder
}

/// A journal whose first line is whole, as if another run of the machine had written it.
fn of_another_boot(journal: &[u8]) -> Option<Vec<u8>> {
    let end = journal.iter().position(|byte| *byte == b'\n')?;
    let line = str::from_utf8(&journal[..end]).ok()?.rsplit_once(' ')?.0;
    let line = format!("{} another-boot", line.rsplit_once(' ')?.0);
    // Other lines tell how long what stands above them is.
    let line = format!("{line:-<end$.end$}", end = end - 13);
    let sum = Digest::of(line.as_bytes()).short();
    Some([format!("{line} {sum}").as_bytes(), &journal[end..]].concat())
}

fn put(store: &Store, name: &str, contents: &[(MediaType, &[u8])]) {
    let layer = |(kind, content): &(MediaType, &[u8])| Descriptor {
        media_type: kind.clone(),
        digest: store.blobs().put(content).unwrap(),
        size: content.len() as u64,
        from: None,
        name: None,
    };
    let mut layers: Vec<_> = contents.iter().map(layer).collect();
    let config = layers.pop().unwrap();
    store.tag(&ModelName::parse(name).unwrap(), &Manifest::new(config, layers).to_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_broken_off_gone_on_with_and_done_again() {
    if !can_watch() {
        return;
    }
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let license = || ("license", b"as you like".to_vec());
    let layers = [("model", noise(&mut random, 384 << 10)), ("projector", noise(&mut random, 48 << 10)), license()];
    let registry = Registry::new(&layers, 8 << 10, Duration::from_millis(10));
    let name = format!("{}/library/random:latest", registry.serve().await);
    let home = Home::new();
    put(&Store::open(&home.store()).unwrap(), "old", &[(MediaType::Model, b"weights"), (MediaType::Config, b"{}")]);
    let mut bench = Bench::new(home);
    bench.promise("old");
    bench.blobs = registry.blobs();

    for part in [160 << 10, 320 << 10] {
        let program = puller::program(&bench.home.store(), &name, part);
        bench.record(&program);
    }
    registry.hurry();
    bench.run(&["pull", "--insecure", &name]);
    bench.promise(&name);
    let (count, some) = bench.fail(60).unwrap();
    assert!(count > 300, "{count} states are too few to tell");
    let safe = bench.recover_all(&some, &registry, &name).await.unwrap();
    assert!(safe >= 5, "only {safe} states had something to lose");
    bench.each_sync_counts(Some((&registry, &name))).await;

    registry.replace(&[("model", noise(&mut random, 96 << 10)), license()]);
    bench.blobs = registry.blobs();
    bench.run(&["pull", "--insecure", &name]);
    let (_, some) = bench.fail(10).unwrap();
    bench.recover_all(&some, &registry, &name).await.unwrap();
}

/// Another program, which syncs nothing, has left blobs and a model; the models of ours that name them make sure of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_program_left_is_made_sure_of() {
    if !can_watch() {
        return;
    }
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let [pulled, copied] = [64 << 10, 32 << 10].map(|length| noise(&mut random, length));
    let registry = Registry::new(&[("model", pulled.clone())], 8 << 10, Duration::ZERO);
    let name = format!("{}/library/random:latest", registry.serve().await);
    let (home, other) = (Home::new(), Home::new());
    Store::open(&home.store()).unwrap();
    let mut bench = Bench::new(home);
    bench.alone = false;
    let theirs = Store::open(&other.store()).unwrap();
    for blob in [&pulled[..], CONFIG] {
        theirs.blobs().put(blob).unwrap();
    }
    put(&theirs, "theirs", &[(MediaType::Model, &copied), (MediaType::Config, b"{}")]);
    // Another program knows nothing of our notes.
    std::fs::remove_dir_all(other.store().join("hanzod")).unwrap();
    bench.recorded.find(other.path(), Path::new(""));
    bench.run(&["cp", "theirs", "copy"]);
    bench.promise("copy");
    bench.run(&["pull", "--insecure", &name]);
    bench.promise(&name);
    assert_eq!(registry.sent(), 0, "what was there was fetched");
    assert!(bench.fail(0).unwrap().0 > 100);
    bench.each_sync_counts(None).await;
}

#[tokio::test]
async fn a_model_is_made_copied_and_removed() {
    if !can_watch() {
        return;
    }
    let home = Home::new();
    let modelfile = home.modelfile("tiny", "tiny-q4_k_m.gguf");
    let mut bench = Bench::new(home);
    bench.run(&["create", "one", "-f", modelfile.to_str().unwrap()]);
    bench.promise("one");
    bench.run(&["cp", "one", "two"]);
    bench.promise("two");
    bench.release("one");
    bench.run(&["rm", "one"]);
    bench.release("two");
    bench.run(&["rm", "two"]);
    assert!(bench.fail(0).unwrap().0 > 100);
    bench.each_sync_counts(None).await;
}

#[tokio::test]
async fn a_file_of_this_machine_is_linked() {
    if !can_watch() {
        return;
    }
    let home = Home::new();
    let mut bench = Bench::new(home);
    let file = bench.home.path().join("tiny.gguf");
    bench.recorded.find(&tiny().join("tiny-q4_k_m.gguf"), Path::new("tiny.gguf"));
    bench.run(&["link", file.to_str().unwrap(), "linked"]);
    bench.promise("linked");
    assert!(bench.fail(0).unwrap().0 > 20);
    bench.each_sync_counts(None).await;
}
