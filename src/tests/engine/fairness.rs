//! Turns: nobody's answer waits for another's prompt, who came first is served first, and who leaves is gone with the next
//! batch. Counted in batches: an answer that runs beside takes a step in each.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use hanzod::engine::{Constraint, EngineError, GenerateRequest, PromptPart, Runner, StepEvent, StepStream};
use hanzod::types::{Guessing, LoadOptions};

use super::llama::{answer, load, question, request, spec};

/// Tokens of a batch: few, so that a prompt takes many.
const BATCH: u64 = 64;

async fn runner(parallel: u32) -> Arc<dyn Runner> {
    let usual = spec(4096, parallel);
    let options = LoadOptions { num_batch: BATCH as i64, ..usual.options };
    // Guessed tokens would come several in a batch.
    load(hanzod::engine::LoadSpec { options, guessing: Guessing::Off, ..usual }).await.unwrap()
}

/// An answer that takes a step in each batch, for longer than any test.
fn endless() -> GenerateRequest {
    let schema = r#"{"type":"array","minItems":900000,"items":{"enum":[1,2,3,4,5,6,7,8,9]}}"#;
    let constraint = Some(Constraint { schema: schema.into(), after: None, calls: Vec::new() });
    let mut request = GenerateRequest { constraint, ..request(&question("Ping")) };
    request.sampling.num_predict = -1;
    request
}

/// A prompt of nearly a context, which nobody has asked before.
fn long(secret: &str) -> GenerateRequest {
    let mut request = request(&format!("{secret} {}{}", "a ".repeat(3900), question("Ping")));
    request.sampling.num_predict = 1;
    request
}

fn is_text(step: Option<Result<StepEvent, EngineError>>) -> bool {
    matches!(step, Some(Ok(StepEvent::Text { .. })))
}

/// Steps of `beside` until `stream` says something, and that.
async fn steps_until(beside: &mut StepStream, stream: &mut StepStream) -> (u64, Result<StepEvent, EngineError>) {
    let mut steps = 0;
    loop {
        tokio::select! {
            biased;
            step = beside.next() => {
                assert!(is_text(step));
                steps += 1;
            }
            said = stream.next() => return (steps, said.unwrap()),
        }
    }
}

/// Waits until the runner has heard all that it was told. Gives the steps of `beside` until then: of those the runner has made,
/// none is left to be read.
async fn heard(runner: &Arc<dyn Runner>, beside: &mut StepStream) -> u64 {
    // It is answered in its turn, between two batches.
    runner.tokenize(String::new(), false).await.unwrap();
    let mut steps = 0;
    while let Some(step) = beside.next().now_or_never() {
        assert!(is_text(step));
        steps += 1;
    }
    steps
}

#[tokio::test]
async fn a_long_prompt_holds_no_answer_up() {
    let runner = runner(4).await;
    let mut beside = runner.generate(endless());
    beside.next().await.unwrap().unwrap();
    let (steps, said) = steps_until(&mut beside, &mut runner.generate(long("one"))).await;
    assert!(is_text(Some(said)));
    let batches = 3900 / BATCH;
    assert!(steps >= batches, "{steps} steps in {batches} batches");

    // Two long prompts and a short one: they share a batch, and the short one need not wait for the long ones.
    let mut others = [runner.generate(long("two")), runner.generate(long("three"))];
    let mut short = runner.generate(request(&question("Hello!")));
    heard(&runner, &mut beside).await;
    let steps = beside.take_until(short.next()).count().await as u64;
    assert!(steps < batches, "a short prompt waits for {steps} batches");
    for other in &mut others {
        assert!(is_text(other.next().await));
    }
}

#[tokio::test]
async fn a_prompt_nobody_waits_for_is_left_with_the_next_batch() {
    const BATCHES: u64 = 10;
    let runner = runner(2).await;
    let mut beside = runner.generate(endless());
    beside.next().await.unwrap().unwrap();
    heard(&runner, &mut beside).await;
    let leaves = runner.generate(long("one"));
    let mut batches = heard(&runner, &mut beside).await + BATCHES;
    for _ in 0..BATCHES {
        assert!(is_text(beside.next().await));
    }
    drop(leaves);
    batches += heard(&runner, &mut beside).await;
    // What was evaluated of it is remembered: no more than was when it was left.
    let again = answer(&runner, long("one")).await.unwrap().done.usage;
    assert!((1..=(batches + 1) * BATCH).contains(&again.cached_tokens), "{batches} batches: {again:?}");
    assert!(again.prompt_tokens > 3900, "{again:?}");
}

#[tokio::test]
async fn nobody_waits_for_another_s_constraint() {
    let runner = runner(2).await;
    let mut beside = runner.generate(endless());
    beside.next().await.unwrap().unwrap();
    // It takes as long to compile as many steps do.
    let properties: Vec<String> = (0..2000).map(|n| format!(r#""p{n}":{{"type":"string"}}"#)).collect();
    let schema = format!(r#"{{"type":"object","properties":{{{}}}}}"#, properties.join(","));
    let constraint = Some(Constraint { schema, after: None, calls: Vec::new() });
    let slow = GenerateRequest { constraint, ..request(&question("Describe a person as JSON.")) };
    let mut slow = runner.generate(slow);
    heard(&runner, &mut beside).await;
    let (steps, _) = steps_until(&mut beside, &mut slow).await;
    assert!(steps >= 10, "{steps} steps meanwhile");
}

#[tokio::test]
async fn first_come_first_served() {
    let runner = runner(1).await;
    let order = std::sync::Mutex::new(Vec::new());
    let occupied = runner.generate(endless());
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut stream = runner.generate(request(&question(&format!("Count from 1 to {}.", 20 - number))));
        let order = &order;
        clients.push(async move {
            // Every third one does not wait for its turn.
            if number % 3 == 2 {
                return drop(stream);
            }
            stream.next().await.unwrap().unwrap();
            order.lock().unwrap().push(number);
            while stream.next().await.is_some() {}
        });
    }
    let begin = async { drop(occupied) };
    tokio::join!(join_all(clients), begin);
    assert_eq!(order.into_inner().unwrap(), [0, 1, 3, 4, 6, 7]);
}

/// A text of two megabytes, which takes a large part of a second to tokenise.
fn huge() -> String {
    "a word or two ".repeat(150_000)
}

#[tokio::test]
async fn nobody_waits_while_a_text_of_megabytes_is_tokenised() {
    let runner = runner(2).await;
    let refused = async {
        let refused = answer(&runner, GenerateRequest { truncate: false, ..request(&huge()) }).await.map(drop);
        let why = refused.unwrap_err().to_string();
        assert!(why.contains("exceeds the available context size"), "{why}");
    };
    let counted = async { assert!(runner.tokenize(huge(), false).await.unwrap().len() > 300_000) };
    for mut long in [refused.boxed(), counted.boxed()] {
        tokio::select! {
            biased;
            () = &mut long => panic!("who came at once with it was answered after it"),
            reply = answer(&runner, request(&question("Ping"))) => assert_eq!(reply.unwrap().text, "Pong"),
        }
        long.await;
    }
}

#[tokio::test]
async fn a_long_text_keeps_its_place_until_it_is_left() {
    let runner = runner(1).await;
    let occupied = runner.generate(endless());
    let mut first = runner.generate(request(&(huge() + &question("Ping"))));
    let mut second = runner.generate(request(&question("Hello!")));
    drop(occupied);
    tokio::select! {
        said = first.next() => drop(said.unwrap().unwrap()),
        said = second.next() => panic!("who came later is served first: {said:?}"),
    }
    drop(first);
    second.next().await.unwrap().unwrap();

    let left = runner.generate(request(&huge()));
    let after = answer(&runner, request(&question("Ping")));
    drop(left);
    let after = tokio::time::timeout(Duration::from_secs(60), after).await.expect("nobody is before it any more");
    assert_eq!(after.unwrap().text, "Pong");
}

#[tokio::test]
async fn a_long_text_has_the_same_tokens_as_its_parts() {
    const TURNS: usize = 250;
    let runner = runner(1).await;
    let turn = runner.tokenize(question("Ping"), false).await.unwrap();
    let (text, tokens) = (question("Ping").repeat(TURNS), turn.repeat(TURNS));
    assert!(text.len() > 1 << 14 && tokens.len() < 4000, "{} bytes, {} tokens", text.len(), tokens.len());
    assert_eq!(runner.tokenize(text.clone(), false).await.unwrap(), tokens);
    let reply = answer(&runner, request(&text)).await.unwrap();
    assert_eq!(
        (&reply.done.tokens[..tokens.len()], reply.done.usage.prompt_tokens),
        (&tokens[..], tokens.len() as u64)
    );
    // Its parts are one text.
    let (one, other) = text.split_at(text.len() / 2 + 3);
    let parts = [one, other].map(|part| PromptPart::Text(part.into())).to_vec();
    let reply = answer(&runner, GenerateRequest { prompt: parts, ..request("") }).await.unwrap();
    assert_eq!(
        (&reply.done.tokens[..tokens.len()], reply.done.usage.cached_tokens),
        (&tokens[..], tokens.len() as u64 - 1)
    );
}
