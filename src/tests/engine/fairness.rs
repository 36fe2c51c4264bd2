//! Turns: nobody's answer waits for another's prompt, who came first is served first, and who leaves is gone with the next
//! batch. Counted in batches: an answer that runs beside takes a step in each.

use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use hanzod::engine::{Constraint, EngineError, GenerateRequest, Runner, StepEvent, StepStream};
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
