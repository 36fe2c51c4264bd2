//! What sequences share: the beginning that their prompts have in common, and nothing else.

use std::sync::Arc;

use futures_util::future::join_all;
use hanzod::engine::{GenerateRequest, Runner};

use super::llama::{Reply, answer, load, request, spec};

/// A conversation with a system prompt that others have too, and words that are its own.
fn conversation(secret: &str) -> GenerateRequest {
    let rules = "You are a helpful assistant of a small company. Answer in one sentence. ".repeat(3);
    let prompt = format!(
        "<|im_start|>system\n{rules}<|im_end|>\n<|im_start|>user\nThe password is {secret}. What is the \
         password?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
    let mut asked = request(&prompt);
    asked.logprobs = Some(5);
    asked.sampling.num_predict = 24;
    asked
}

async fn ask(runner: &Arc<dyn Runner>, secret: &str) -> Reply {
    answer(runner, conversation(secret)).await.unwrap()
}

pub(super) fn assert_same(secret: &str, reply: &Reply, fresh: &Reply) {
    assert_eq!((&reply.text, &reply.done.tokens), (&fresh.text, &fresh.done.tokens), "{secret}");
    for (a, b) in reply.logprobs.iter().zip(&fresh.logprobs) {
        assert_eq!(&a.token, &b.token, "{secret}");
        // Sums of many terms differ in their last digits with what else is in a batch; a word of another conversation
        // would make another difference.
        assert!((a.logprob - b.logprob).abs() < 0.05, "{secret}: {} {}", a.logprob, b.logprob);
        for a in &a.top {
            let rival = b.top.iter().find(|b| b.token == a.token);
            assert!(rival.is_none_or(|b| (a.logprob - b.logprob).abs() < 0.05), "{secret}: {a:?} {rival:?}");
        }
    }
}

/// Each answer is that of a server which has never heard of the other conversations, one after the other, and together.
#[tokio::test]
async fn a_conversation_never_sees_another_one() {
    let secrets = ["heron", "one two three four five six seven", "Paris", "heron and Paris", "h"];
    let mut fresh = Vec::new();
    for secret in secrets {
        let runner = load(spec(512, 1)).await.unwrap();
        let reply = ask(&runner, secret).await;
        assert_eq!(reply.done.usage.cached_tokens, 0);
        fresh.push(reply);
    }
    for parallel in [1, 3] {
        let runner = load(spec(512, parallel)).await.unwrap();
        for (turn, secret) in secrets.iter().chain(&secrets).enumerate() {
            let reply = ask(&runner, secret).await;
            assert_same(secret, &reply, &fresh[turn % secrets.len()]);
            let usage = reply.done.usage;
            // What is shared is found, and of a conversation that was not heard before no more than that.
            assert!(turn == 0 || usage.cached_tokens > 40, "{usage:?}");
            assert!(turn >= secrets.len() || usage.cached_tokens < usage.prompt_tokens - 12, "{usage:?}");
        }
        for (reply, (secret, fresh)) in
            join_all(secrets.iter().map(|secret| ask(&runner, secret))).await.iter().zip(secrets.iter().zip(&fresh))
        {
            assert_same(secret, reply, fresh);
        }
    }
}

/// Rows without meaning are evaluated behind the shorter of two prompts that nearly have one length, and in a place that rests
/// between two that are at work. Nothing of them stays.
#[tokio::test]
async fn rows_without_meaning_leave_nothing() {
    let secrets = ["heron", "one two three", "Paris"];
    let mut fresh = Vec::new();
    for secret in secrets {
        fresh.push(ask(&load(spec(512, 1)).await.unwrap(), secret).await);
    }
    let runner = load(spec(512, 3)).await.unwrap();
    for (reply, (secret, fresh)) in
        join_all(secrets.iter().map(|secret| ask(&runner, secret))).await.iter().zip(secrets.iter().zip(&fresh))
    {
        assert_same(secret, reply, fresh);
    }
    for _ in 0..2 {
        let (first, last) = tokio::join!(ask(&runner, secrets[0]), ask(&runner, secrets[2]));
        assert_same(secrets[0], &first, &fresh[0]);
        assert_same(secrets[2], &last, &fresh[2]);
        let between = ask(&runner, secrets[1]).await;
        assert_same(secrets[1], &between, &fresh[1]);
        assert_eq!(between.done.usage.cached_tokens, between.done.usage.prompt_tokens - 1);
    }
}
