//! Prompts that outlive their runner. What was evaluated anew tells whether they did, and the answers are those of a runner
//! that has saved nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hanzod::create::{convert, create};
use hanzod::engine::process::ProcessEngine;
use hanzod::engine::{Engine, GenerateRequest, LoadSpec, PromptPart, Runner, Saving};
use hanzod::store::Store;
use hanzod::types::{Digest, ModelName};
use serde_json::json;

use super::llama::{Reply, answer, load, question, request, spec};
use super::prefixes::assert_same;
use crate::convert::folders;

/// Runners that save into a folder.
struct Saves {
    engine: ProcessEngine,
    folder: tempfile::TempDir,
    spec: LoadSpec,
}

impl Saves {
    fn new(spec: LoadSpec, bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = ProcessEngine::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()]);
        let saving = Some(Saving { folder: folder.path().join("prompts"), bytes });
        Self { engine, folder, spec: LoadSpec { saving, ..spec } }
    }

    async fn load(&self) -> Arc<dyn Runner> {
        self.engine.load(self.spec.clone()).await.unwrap()
    }

    async fn unload(&self, runner: Arc<dyn Runner>) {
        drop(runner);
        self.engine.ended().await;
    }

    /// Those that are whole.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("prompts")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "prompt"));
        files.sort();
        files
    }

    async fn wait_for_files(&self, count: usize) {
        let there = async {
            while self.files().len() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let files = || format!("{count} files, but there are {:?}", self.files());
        tokio::time::timeout(Duration::from_secs(60), there).await.unwrap_or_else(|_| panic!("{}", files()));
    }
}

/// Prompts go through in equal pieces, however busy the machine is.
fn small(parallel: u32) -> LoadSpec {
    let mut small = spec(4096, parallel);
    small.options.num_batch = 64;
    small
}

/// Turns that the model knows, some hundred tokens, and a last one.
fn conversation(name: &str, last: &str) -> GenerateRequest {
    let known = |asked: &str, answered: &str| question(asked) + answered + "<|im_end|>\n";
    let turns = known(&format!("My name is {name}."), "Hello!") + &known("Ping", "Pong").repeat(20) + &question(last);
    let mut asked = request(&turns);
    asked.logprobs = Some(5);
    asked.sampling.num_predict = 24;
    asked
}

async fn ask(runner: &Arc<dyn Runner>, name: &str, question: &str) -> Reply {
    answer(runner, conversation(name, question)).await.unwrap()
}

/// The answer of a runner that knows nothing else.
async fn fresh(name: &str, question: &str) -> Reply {
    let reply = ask(&load(small(1)).await.unwrap(), name, question).await;
    assert_eq!(reply.done.usage.cached_tokens, 0);
    assert!(reply.done.usage.prompt_tokens > 350, "{:?}", reply.done.usage);
    reply
}

/// Tokens of the prompt that were evaluated, of all there are.
fn evaluated(reply: &Reply) -> (u64, u64) {
    let usage = &reply.done.usage;
    (usage.prompt_tokens - usage.cached_tokens, usage.prompt_tokens)
}

const PASSWORD: &str = "What is the password?";

#[tokio::test]
async fn a_conversation_goes_on_after_its_runner_ended() {
    let saves = Saves::new(small(1), 1 << 30);
    let mut seeded = conversation("Ada", PASSWORD);
    (seeded.sampling.temperature, seeded.sampling.seed, seeded.sampling.num_predict) = (1.5, 7, 40);

    // What one slot remembers is what has to come from the disk.
    let plain = load(small(1)).await.unwrap();
    let runner = saves.load().await;
    for runner in [&plain, &runner] {
        assert_same("Ada", &ask(runner, "Ada", PASSWORD).await, &fresh("Ada", PASSWORD).await);
    }
    saves.unload(runner).await;
    let files = saves.files();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);

    let runner = saves.load().await;
    for request in [conversation("Ada", PASSWORD), seeded, conversation("Ada", "Who are you?")] {
        let (wanted, reply) = (answer(&plain, request.clone()).await.unwrap(), answer(&runner, request).await.unwrap());
        assert_eq!(evaluated(&reply), evaluated(&wanted));
        assert!(evaluated(&reply).0 < 100, "{:?}", evaluated(&reply));
        assert_same("Ada", &reply, &wanted);
    }
    assert_eq!(saves.files().len(), 1);
}

#[tokio::test]
async fn without_saving_nothing_is_known() {
    let engine = ProcessEngine::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()]);
    for _ in 0..2 {
        let runner = engine.load(small(1)).await.unwrap();
        let (anew, all) = evaluated(&ask(&runner, "Ada", PASSWORD).await);
        assert_eq!(anew, all);
        drop(runner);
        engine.ended().await;
    }
}

#[tokio::test]
async fn of_another_conversation_only_the_common_beginning_is_used() {
    let questions =
        ["The password is heron. What is the password?", PASSWORD, "heron", "The password is Paris. What is it?"];
    for parallel in [1, 2] {
        let saves = Saves::new(small(parallel), 1 << 30);
        for (turn, question) in questions.iter().enumerate() {
            let runner = saves.load().await;
            let reply = ask(&runner, "Ada", question).await;
            assert_same(question, &reply, &fresh("Ada", question).await);
            let (anew, all) = evaluated(&reply);
            assert_eq!(turn == 0, anew == all, "{turn}");
            // At the least what begins the turn and ends it, which nobody had between them.
            assert!(turn == 0 || (5..100).contains(&anew), "{anew} of {all}");
            saves.unload(runner).await;
        }
    }
}

#[tokio::test]
async fn each_sequence_is_saved_and_comes_back() {
    let saves = Saves::new(small(2), 1 << 30);
    let names = ["Ada", "Bob"];
    let runner = saves.load().await;
    for name in names {
        ask(&runner, name, PASSWORD).await;
    }
    saves.unload(runner).await;
    assert_eq!(saves.files().len(), 2);
    let runner = saves.load().await;
    let (ada, bob) = tokio::join!(ask(&runner, "Ada", PASSWORD), ask(&runner, "Bob", PASSWORD));
    for (name, reply) in names.iter().zip([ada, bob]) {
        assert_eq!(evaluated(&reply).0, 1);
        assert_same(name, &reply, &fresh(name, PASSWORD).await);
    }
    // In a runner of one sequence a state means something else.
    let mut other = saves.spec.clone();
    other.parallel = 1;
    let runner = saves.engine.load(other).await.unwrap();
    let (anew, all) = evaluated(&ask(&runner, "Ada", PASSWORD).await);
    assert_eq!(anew, all);
}

/// Two that know nearly the same stand in for each other, until both go.
#[tokio::test]
async fn of_two_that_are_alike_one_is_saved() {
    let saves = Saves::new(small(2), 1 << 30);
    let runner = saves.load().await;
    tokio::join!(ask(&runner, "Ada", PASSWORD), ask(&runner, "Ada", "Who are you?"));
    saves.unload(runner).await;
    assert_eq!(saves.files().len(), 1);
    let reply = ask(&saves.load().await, "Ada", "How are you?").await;
    assert!(evaluated(&reply).0 < 100, "{:?}", evaluated(&reply));
}

#[tokio::test]
async fn what_makes_way_in_its_slot_is_saved() {
    let saves = Saves::new(small(1), 1 << 30);
    let runner = saves.load().await;
    ask(&runner, "Ada", PASSWORD).await;
    assert!(saves.files().is_empty(), "it is in its slot");
    ask(&runner, "Bob", PASSWORD).await;
    saves.wait_for_files(1).await;
    // The same conversation goes on, or is asked anew: nothing makes way.
    for question in [PASSWORD, "Who are you?"] {
        ask(&runner, "Bob", question).await;
    }
    let reply = ask(&runner, "Ada", PASSWORD).await;
    assert_eq!(evaluated(&reply).0, 1);
    assert_same("Ada", &reply, &fresh("Ada", PASSWORD).await);
    saves.wait_for_files(2).await;
}

#[tokio::test]
async fn a_file_that_is_not_right_is_removed_and_changes_nothing() {
    let saves = Saves::new(small(1), 1 << 30);
    let runner = saves.load().await;
    ask(&runner, "Ada", PASSWORD).await;
    saves.unload(runner).await;
    let file = saves.files().remove(0);
    let right = fs::read(&file).unwrap();
    let wanted = fresh("Ada", PASSWORD).await;

    let mut foreign = Saves::new(small(1), 1 << 30);
    foreign.spec.weights[0].set_file_name("tiny-q8_0.gguf");
    let runner = foreign.load().await;
    ask(&runner, "Ada", PASSWORD).await;
    foreign.unload(runner).await;
    let foreign = fs::read(&foreign.files()[0]).unwrap();

    let flipped = |at: usize| {
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        wrong
    };
    let tokens = u64::from_le_bytes(right[40..48].try_into().unwrap()) as usize;
    let state = 56 + 4 * tokens;
    for (what, bytes, mode) in [
        ("a wrong number", flipped(state + 5000), 0o600),
        ("a wrong token", flipped(state - 8), 0o600),
        ("a wrong checksum", flipped(right.len() - 1), 0o600),
        ("the half of it", right[..right.len() / 2].to_vec(), 0o600),
        ("nothing", Vec::new(), 0o600),
        ("another model's", foreign, 0o600),
        ("one that others could have written", right.clone(), 0o620),
        // Their checksums are right, as only this user could make them: llama.cpp itself refuses them.
        ("a state that is cut", summed(&right, state, |bytes| bytes.truncate(bytes.len() / 2)), 0o600),
        ("a state of many cells", summed(&right, state, |bytes| bytes[12..16].fill(0x7f)), 0o600),
        (
            "a state of too few cells",
            summed(&right, state, |bytes| bytes[12..16].copy_from_slice(&[3, 0, 0, 0])),
            0o600,
        ),
        ("a state of noise", summed(&right, state, |bytes| bytes.fill(0xa5)), 0o600),
        ("an empty state", summed(&right, state, Vec::clear), 0o600),
    ] {
        fs::write(&file, &bytes).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let runner = saves.load().await;
        let reply = ask(&runner, "Ada", PASSWORD).await;
        let (anew, all) = evaluated(&reply);
        assert_eq!(anew, all, "{what}");
        assert_same(what, &reply, &wanted);
        assert!(saves.files().is_empty(), "{what}");
        assert!(runner.is_alive());
        saves.unload(runner).await;
        assert_eq!(fs::read(&file).unwrap().len(), right.len(), "{what}");
    }
    let runner = saves.load().await;
    assert_eq!(evaluated(&ask(&runner, "Ada", PASSWORD).await).0, 1);
}

/// A file with another state in it, as if it had been written so.
fn summed(file: &[u8], state: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = file[state..file.len() - 32].to_vec();
    change(&mut bytes);
    let length = (bytes.len() as u64).to_le_bytes();
    let mut whole = [&file[..48], &length[..], &file[56..state], &bytes[..]].concat();
    whole.extend(Digest::of(&whole).as_bytes());
    whole
}

#[tokio::test]
async fn the_folder_does_not_grow_beyond_its_bound() {
    let saves = Saves::new(small(1), 1 << 30);
    let runner = saves.load().await;
    ask(&runner, "Ada", PASSWORD).await;
    saves.unload(runner).await;
    let size = fs::metadata(&saves.files()[0]).unwrap().len();

    let saves = Saves::new(small(1), size * 5 / 2);
    for (turn, name) in ["Ada", "Bob", "Cyd", "Dan"].iter().enumerate() {
        let runner = saves.load().await;
        ask(&runner, name, PASSWORD).await;
        saves.unload(runner).await;
        assert_eq!(saves.files().len(), (turn + 1).min(2));
    }
    let runner = saves.load().await;
    for (name, known) in [("Dan", true), ("Cyd", true), ("Ada", false)] {
        let (anew, all) = evaluated(&ask(&runner, name, PASSWORD).await);
        assert_eq!(anew == 1, known, "{name}: {anew} of {all}");
    }
    saves.unload(runner).await;

    let none = Saves::new(small(1), size / 2);
    let runner = none.load().await;
    ask(&runner, "Ada", PASSWORD).await;
    none.unload(runner).await;
    assert!(none.files().is_empty());
}

/// What was moved has seen what stood before it, so that it is not what its tokens say.
#[tokio::test]
async fn a_context_that_was_shifted_is_not_saved() {
    let turns = (question("Ping") + "Pong<|im_end|>\n").repeat(30) + &question("Count from 1 to 50.");
    let length = load(small(1)).await.unwrap().tokenize(turns.clone(), false).await.unwrap().len();
    assert!(length > 400, "{length}");
    for (room, saved) in [(400, 1), (20, 0)] {
        let saves = Saves::new(spec((length + room) as i64, 1), 1 << 30);
        let runner = saves.load().await;
        let usage = answer(&runner, request(&turns)).await.unwrap().done.usage;
        let total = (usage.prompt_tokens + usage.completion_tokens) as usize;
        assert_eq!(total > length + room, saved == 0, "{total} of {}", length + room);
        saves.unload(runner).await;
        assert_eq!(saves.files().len(), saved);
    }
}

/// Gemma 3's layout, with layers that look back 64 tokens.
fn windowed(folder: &Path) -> PathBuf {
    let more = json!({"head_dim": 32, "sliding_window": 64, "max_position_embeddings": 1024, "tie_word_embeddings": true, "hidden_act": null});
    let store = Store::open(folder).unwrap();
    let mut request = folders::request(&store, &folders::with_pieces("Gemma3ForCausalLM", more), "f32");
    convert(&store, &mut request, |_| true).unwrap();
    create(&store, request, |_| {}).unwrap();
    store.model(&ModelName::parse("made").unwrap()).unwrap().weights().unwrap().remove(0)
}

/// Of a window that has moved on no part will do, but the whole goes on.
#[tokio::test]
async fn a_sliding_window_comes_back_whole_or_not_at_all() {
    let store = tempfile::tempdir().unwrap();
    let weights = vec![windowed(store.path())];
    let asked = |tokens: &[u32]| {
        let mut asked = request("");
        asked.prompt = vec![PromptPart::Tokens(tokens.to_vec())];
        (asked.logprobs, asked.sampling.num_predict) = (Some(5), 8);
        asked
    };
    let saves = Saves::new(LoadSpec { weights, ..spec(1024, 1) }, 1 << 30);
    let plain = load(LoadSpec { saving: None, ..saves.spec.clone() }).await.unwrap();
    let prompt: Vec<u32> =
        plain.tokenize("the old owl sat on the oak and the others were gone ".repeat(60), true).await.unwrap();
    let prompt = &prompt[..600];
    let runner = saves.load().await;
    let first = answer(&runner, asked(prompt)).await.unwrap();
    answer(&plain, asked(prompt)).await.unwrap();
    saves.unload(runner).await;
    assert_eq!(saves.files().len(), 1);

    // The answer, but for its last token, is known too.
    let longer = [&first.done.tokens[..], &prompt[..20]].concat();
    let other = [&prompt[..500], &prompt[..20]].concat();
    let runner = saves.load().await;
    let reply = answer(&runner, asked(&other)).await.unwrap();
    assert_eq!(evaluated(&reply), (520, 520));
    let reply = answer(&runner, asked(&longer)).await.unwrap();
    assert!([20, 21].contains(&evaluated(&reply).0), "{:?}", evaluated(&reply));
    let wanted = answer(&plain, asked(&longer)).await.unwrap();
    assert_same("longer", &reply, &wanted);
}
