//! Runners that misbehave, and readers that do.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::*;
use crate::engine::protocol;
use crate::engine::{Completion, EngineKind, FinishReason, Saving, Usage};
use crate::types::{Guessing, LoadOptions, SamplingOptions};

fn spec() -> LoadSpec {
    LoadSpec {
        engine: EngineKind::Mistral,
        weights: Vec::new(),
        adapters: Vec::new(),
        projectors: Vec::new(),
        drafts: Vec::new(),
        guessing: Guessing::default(),
        options: LoadOptions::default(),
        parallel: 1,
        embedding: false,
        saving: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_falls_silent_and_lives_is_ended() {
    let silent = ["-c", "exec >&-; exec sleep 1000"].map(OsString::from);
    let engine = ProcessEngine::new("/bin/sh".into(), silent.into());
    let error = engine.load(spec()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("signal: 9"), "{error}");
}

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: Vec::new(),
        sampling: SamplingOptions::default(),
        constraint: None,
        preserved: Vec::new(),
        logprobs: None,
        context: 0,
        truncate: true,
        shift: true,
    }
}

/// A runner's frames: for each of `sequences` as many texts, in turn, and an end.
fn frames(sequences: std::ops::RangeInclusive<SequenceId>, texts: usize, end: bool) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut say = |sequence, step| protocol::write(&mut frames, &Event::Step { sequence, step }).unwrap();
    for _ in 0..texts {
        for sequence in sequences.clone() {
            say(sequence, StepEvent::Text { text: "word ".into(), logprobs: Vec::new() });
        }
    }
    for sequence in sequences.filter(|_| end) {
        let (finish, usage) = (FinishReason::Stop, Usage::default());
        say(sequence, StepEvent::Done(Completion { finish, usage, tokens: Vec::new(), stop: None }));
    }
    frames
}

/// A reader that takes nothing loses its answer when its buffer is full; what the runner says to others arrives.
#[tokio::test]
async fn a_reader_that_never_reads_is_cut_and_slows_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut loaded = Vec::new();
    protocol::write(&mut loaded, &Event::Loaded(Box::default())).unwrap();
    std::fs::write(folder.path().join("loaded"), loaded).unwrap();
    // Far more for the first than it is let fall behind, with the others' words before, between and after.
    let said = [frames(1..=5, 50, false), frames(1..=1, BUFFER + 100, false), frames(2..=5, 50, true)];
    std::fs::write(folder.path().join("said"), said.concat()).unwrap();
    let script = "cat loaded; while [ ! -e go ]; do sleep 0.01; done; cat said; exec sleep 1000";
    let script = format!("cd '{}'; {script}", folder.path().display());
    let engine = ProcessEngine::new("/bin/sh".into(), vec!["-c".into(), script.into()]);
    let runner = engine.load(spec()).await.unwrap();

    let mut unread = runner.generate(request());
    let others: Vec<StepStream> = (0..4).map(|_| runner.generate(request())).collect();
    std::fs::write(folder.path().join("go"), "").unwrap();
    let all = futures_util::future::join_all(others.into_iter().map(|stream| stream.collect::<Vec<_>>()));
    for steps in tokio::time::timeout(Duration::from_secs(60), all).await.unwrap() {
        assert_eq!(steps.len(), 101);
        assert!(matches!(steps.last(), Some(Ok(StepEvent::Done(_)))));
    }
    let mut steps = 0;
    let end = loop {
        match unread.next().await.unwrap() {
            Ok(StepEvent::Text { .. }) => steps += 1,
            end => break end,
        }
    };
    assert_eq!((steps, end), (BUFFER, Err(EngineError::Slow)));
}

/// A runner that, when it has been told to load `spec` and to leave, makes the file `left`.
fn leaver(folder: &std::path::Path, spec: &LoadSpec) -> ProcessEngine {
    let mut loaded = Vec::new();
    protocol::write(&mut loaded, &Event::Loaded(Box::default())).unwrap();
    std::fs::write(folder.join("loaded"), loaded).unwrap();
    let mut told = Vec::new();
    protocol::write(&mut told, &Command::Load(Box::new(spec.clone()))).unwrap();
    protocol::write(&mut told, &Command::Leave).unwrap();
    let script = format!("cd '{}'; cat loaded; head -c {} > told; mv told left", folder.display(), told.len());
    ProcessEngine::new("/bin/sh".into(), vec!["-c".into(), script.into()])
}

fn saving(folder: &std::path::Path) -> LoadSpec {
    LoadSpec { saving: Some(Saving { folder: folder.to_owned(), bytes: 1 }), ..spec() }
}

#[tokio::test]
async fn a_runner_that_saves_is_told_to_leave_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let spec = saving(folder.path());
    let engine = leaver(folder.path(), &spec);
    let left = folder.path().join("left");
    let runner = engine.load(spec.clone()).await.unwrap();
    assert!(!left.exists());
    drop(runner);
    // The next one begins when it is gone.
    let runner = engine.load(spec.clone()).await.unwrap();
    assert!(left.exists());
    std::fs::remove_file(&left).unwrap();
    drop(runner);
    engine.ended().await;
    assert!(left.exists());
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_will_not_leave_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let spec = saving(folder.path());
    // It waits for more than it will be told.
    let longer = LoadSpec { weights: vec!["a long name".into()], ..spec.clone() };
    let engine = leaver(folder.path(), &longer);
    let runner = engine.load(spec).await.unwrap();
    let begun = tokio::time::Instant::now();
    drop(runner);
    engine.ended().await;
    assert_eq!(begun.elapsed().as_secs(), LEAVE.as_secs());
    assert!(!folder.path().join("left").exists());
}
