//! Speculative decoding: what is guessed changes no answer. Answers with guesses wherever there are some, by lookup and by
//! a draft model, against answers without.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;
use hanzod::engine::{Constraint, GenerateRequest, LoadSpec, Runner};
use hanzod::types::{Guessing, LoadOptions, SamplingOptions};

use super::llama::{Reply, answer, load, question, request, spec};

const STORY: &str = "Once upon a time there was a small server. ";

fn tiny(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny").join(file)
}

/// Without guesses, with those of the lookup, and with those of a draft model too.
async fn runners(num_ctx: i64, parallel: u32) -> [Arc<dyn Runner>; 3] {
    let off = LoadSpec { guessing: Guessing::Off, ..spec(num_ctx, parallel) };
    let lookup = LoadSpec { guessing: Guessing::Always, ..off.clone() };
    let draft = LoadSpec { drafts: vec![tiny("tiny-q4_k_m.gguf")], ..lookup.clone() };
    [load(off).await.unwrap(), load(lookup).await.unwrap(), load(draft).await.unwrap()]
}

fn sampled(prompt: &str, more: SamplingOptions) -> GenerateRequest {
    GenerateRequest { sampling: SamplingOptions { num_predict: 120, ..more }, ..request(prompt) }
}

/// Requests of every kind that has something to say about tokens.
fn requests() -> Vec<(&'static str, GenerateRequest)> {
    let greedy = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
    let seeded = |seed| SamplingOptions { seed, temperature: 0.9, ..SamplingOptions::default() };
    let repeated = STORY.repeat(4);
    let count: Vec<String> = (1..=50).map(|number| number.to_string()).collect();
    let asked = question("Count from 1 to 50.");
    let again = format!("{asked}{}<|im_end|>\n{asked}", count.join(", "));
    let mut json = sampled(&question("Say yes."), seeded(3));
    let schema = r#"{"type":"array","items":{"enum":["red","green"]},"minItems":9,"maxItems":12}"#;
    json.constraint = Some(Constraint { schema: schema.into(), after: None, calls: Vec::new() });
    let mut logprobs = sampled(&question("Count from 1 to 50."), greedy.clone());
    logprobs.logprobs = Some(2);
    let mut stopped = sampled(&question("Count from 1 to 50."), greedy.clone());
    stopped.sampling.stop = vec!["30, 3".into()];
    let mut short = sampled(&repeated, greedy.clone());
    short.sampling.num_predict = 17;
    let penalties = SamplingOptions { repeat_penalty: 1.1, frequency_penalty: 0.2, ..greedy.clone() };
    vec![
        ("greedy", sampled(&question("Count from 1 to 50."), greedy.clone())),
        ("greedy, said before", sampled(&again, greedy.clone())),
        ("greedy, repeating", sampled(&repeated, greedy)),
        ("seeded", sampled(&repeated, seeded(7))),
        ("seeded, hot", sampled(&repeated, SamplingOptions { temperature: 2.0, ..seeded(8) })),
        ("penalties", sampled(&repeated, penalties)),
        ("json", json),
        ("log-probabilities", logprobs),
        ("stop string", stopped),
        ("limit", short),
    ]
}

fn assert_same(what: &str, reply: &Reply, expected: &Reply) {
    assert_eq!(reply.text, expected.text, "{what}");
    let (done, other) = (&reply.done, &expected.done);
    assert_eq!((done.finish, &done.stop, &done.tokens), (other.finish, &other.stop, &other.tokens), "{what}");
    assert_eq!(done.usage.completion_tokens, other.usage.completion_tokens, "{what}");
    assert_eq!(reply.logprobs.len(), expected.logprobs.len(), "{what}");
    for (a, b) in reply.logprobs.iter().zip(&expected.logprobs) {
        assert_eq!((&a.token, a.top.len()), (&b.token, b.top.len()), "{what}");
        // Sums of many terms differ in their last digits with what else is in a batch.
        assert!((a.logprob - b.logprob).abs() < 5e-3, "{what}: {} {}", a.logprob, b.logprob);
    }
}

#[tokio::test]
async fn guesses_change_no_answer() {
    let [off, lookup, draft] = runners(512, 1).await;
    let mut right = [0, 0];
    for (what, request) in requests() {
        let expected = answer(&off, request.clone()).await.unwrap();
        assert_eq!(expected.done.usage.guessed_tokens, 0);
        for (index, runner) in [&lookup, &draft].into_iter().enumerate() {
            let reply = answer(runner, request.clone()).await.unwrap();
            assert_same(what, &reply, &expected);
            let usage = reply.done.usage;
            println!("{what}: {} of {} guesses were right", usage.accepted_tokens, usage.guessed_tokens);
            assert!(usage.accepted_tokens <= usage.guessed_tokens && usage.accepted_tokens <= usage.completion_tokens);
            right[index] += usage.accepted_tokens;
        }
    }
    assert!(right[0] > 10 && right[1] > 200, "{right:?}");
}

/// Counts and not times: tokens of an answer for each pass over the weights.
#[tokio::test]
async fn what_was_said_before_and_what_a_coarser_draft_says_is_guessed_right() {
    let [off, lookup, draft] = runners(1024, 1).await;
    let ask = question("Tell me a story.");
    let said = answer(&off, request(&ask)).await.unwrap();
    let again = request(&format!("{ask}{}<|im_end|>\n{ask}", said.text));
    let expected = answer(&off, again.clone()).await.unwrap();
    assert!(expected.text.starts_with("Once upon a time a small server lived under a desk."), "{}", expected.text);
    for (what, runner, request, least) in
        [("said before", &lookup, &again, 5.0), ("a draft", &draft, &request(&ask), 3.5), ("both", &draft, &again, 5.0)]
    {
        let reply = answer(runner, request.clone()).await.unwrap();
        let usage = reply.done.usage;
        let passes = usage.completion_tokens - usage.accepted_tokens;
        let a_pass = usage.completion_tokens as f64 / passes as f64;
        println!("{what}: {a_pass:.2} tokens a pass, {} of {} right", usage.accepted_tokens, usage.guessed_tokens);
        assert!(a_pass > least && usage.accepted_tokens * 10 > usage.guessed_tokens * 9, "{what}: {usage:?}");
    }
}

/// The answers of a runner that is asked everything at once.
async fn all(runner: &Arc<dyn Runner>, requests: &[(&str, GenerateRequest)]) -> Vec<Reply> {
    let answers = requests.iter().map(|(_, request)| answer(runner, request.clone()));
    join_all(answers).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn guesses_change_no_answer_among_many() {
    let [off, lookup, draft] = runners(512, 6).await;
    let requests = requests();
    let expected = all(&off, &requests).await;
    for runner in [&lookup, &draft] {
        for ((reply, expected), (what, _)) in all(runner, &requests).await.iter().zip(&expected).zip(&requests) {
            assert_same(what, reply, expected);
        }
    }
}

#[tokio::test]
async fn a_context_that_shifts_forgets_its_guesses() {
    let [off, lookup, draft] = runners(64, 1).await;
    let mut long = request(&question("Count from 1 to 50."));
    long.sampling.num_predict = 200;
    long.sampling.stop = vec!["never".into()];
    let expected = answer(&off, long.clone()).await.unwrap();
    for runner in [&lookup, &draft] {
        let reply = answer(runner, long.clone()).await.unwrap();
        assert_same("shift", &reply, &expected);
        let still = answer(runner, GenerateRequest { shift: false, ..long.clone() }).await.unwrap();
        assert_eq!(still.done.usage.prompt_tokens + still.done.usage.completion_tokens, 64);
    }
}

#[tokio::test]
async fn a_draft_that_cannot_be_used_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF").unwrap();
    for draft in [broken, folder.path().join("absent.gguf")] {
        let spec = LoadSpec { drafts: vec![draft], guessing: Guessing::Always, ..spec(512, 1) };
        let runner = load(spec).await.unwrap();
        let reply = answer(&runner, request(&question("Ping"))).await.unwrap();
        assert_eq!((reply.text.as_str(), reply.done.usage.guessed_tokens), ("Pong", 0));
    }
}

/// Whatever this machine's times are: where guesses pay they are made, and nothing changes.
#[tokio::test]
async fn guesses_where_they_pay_change_no_answer() {
    let drafts = vec![tiny("tiny-q4_k_m.gguf")];
    let runner = load(LoadSpec { guessing: Guessing::WherePays, drafts, ..spec(512, 4) }).await.unwrap();
    let none = load(LoadSpec {
        options: LoadOptions { draft_num_predict: 0, ..spec(512, 1).options },
        guessing: Guessing::Off,
        ..spec(512, 1)
    });
    let none = none.await.unwrap();
    for (what, request) in requests() {
        let expected = answer(&none, request.clone()).await.unwrap();
        let reply = answer(&runner, request).await.unwrap();
        assert_same(what, &reply, &expected);
    }
    let requests = requests();
    for (reply, (what, request)) in all(&runner, &requests).await.iter().zip(&requests) {
        assert_same(what, reply, &answer(&none, request.clone()).await.unwrap());
    }
}
