//! How an answer grows, ends and makes room.

use std::sync::mpsc;

use super::*;
use crate::engine::constraint::Vocabulary;
use crate::engine::protocol::Event;
use crate::engine::request::Constraint;
use crate::engine::tokens::Piece;
use crate::types::SamplingOptions;

const END: u32 = 26;

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: Vec::new(),
        sampling: SamplingOptions { temperature: 0.0, num_keep: 1, ..SamplingOptions::default() },
        constraint: None,
        preserved: Vec::new(),
        logprobs: None,
        context: 0,
        truncate: true,
        shift: true,
    }
}

/// Tokens are the letters, an end, and a special one.
fn letters() -> Arc<Tokens> {
    let mut pieces: Vec<Piece> = (b'a'..=b'z').map(|byte| Piece { bytes: vec![byte], special: false }).collect();
    pieces.push(Piece { bytes: b"<end>".to_vec(), special: true });
    pieces.push(Piece { bytes: b"<call>".to_vec(), special: true });
    Arc::new(Tokens::new(pieces, vec![END]))
}

/// Lets a model that wants to say `tokens` answer a prompt of three tokens.
fn say(request: &GenerateRequest, tokens: &[u32], context: usize) -> (String, Completion, Vec<Next>) {
    let (sender, events) = mpsc::channel();
    let mut answer = Answer::new(1, request, vec![0, 1, 2], 0, context, &letters(), &Events::new(sender));
    answer.begin(0);
    assert_eq!(answer.history(), [0, 1, 2]);
    let mut steps = Vec::new();
    for &token in tokens {
        let mut logits = vec![0.0; 40];
        logits[token as usize] = 1.0;
        // A padded vocabulary has logits that belong to no token.
        logits[39] = 9.0;
        steps.push(answer.push(&logits));
        if let Some(Next::Full(_)) = steps.last() {
            answer.shift();
        }
    }
    let mut text = String::new();
    let done = loop {
        match events.try_recv().unwrap() {
            Event::Step { step: StepEvent::Text { text: more, .. }, .. } => text += &more,
            Event::Step { step: StepEvent::Done(done), .. } => break done,
            other => panic!("{other:?}"),
        }
    };
    (text, done, steps)
}

#[test]
fn it_ends_at_the_end_token_which_counts() {
    let (text, done, steps) = say(&request(), &[7, 27, 8, END, 3], 16);
    assert_eq!(text, "hi");
    assert_eq!((done.finish, done.usage.prompt_tokens, done.usage.completion_tokens), (FinishReason::Stop, 3, 4));
    assert_eq!(done.tokens, [0, 1, 2, 7, 27, 8]);
    assert_eq!(steps.last(), Some(&Next::Over));
    let preserved = GenerateRequest { preserved: vec!["<call>".into()], ..request() };
    assert_eq!(say(&preserved, &[7, 27, 8, END], 16).0, "h<call>i");
}

#[test]
fn a_stop_string_is_no_part_of_text_or_tokens() {
    let mut request = request();
    request.sampling.stop = vec!["cd".into()];
    let (text, done, _) = say(&request, &[0, 1, 2, 3], 16);
    assert_eq!((text.as_str(), done.stop.as_deref()), ("ab", Some("cd")));
    assert_eq!((done.tokens.as_slice(), done.usage.completion_tokens), (&[0, 1, 2, 0, 1][..], 4));
}

#[test]
fn it_ends_at_its_limits() {
    let mut short = request();
    short.sampling.num_predict = 2;
    let (text, done, _) = say(&short, &[0, 1, 2], 16);
    assert_eq!((text.as_str(), done.finish), ("ab", FinishReason::Length));
    let still = GenerateRequest { shift: false, ..request() };
    let (text, done, _) = say(&still, &[4, 5, 6, 7, 8, 9], 8);
    assert_eq!((text.as_str(), done.finish, done.tokens.len()), ("efghi", FinishReason::Length, 8));
}

#[test]
fn num_predict_is_bounded_and_zero_is_not_set() {
    let limit = |num_predict| {
        let mut request = request();
        request.sampling.num_predict = num_predict;
        let (sender, _events) = mpsc::channel();
        Answer::new(1, &request, vec![0], 0, 8, &letters(), &Events::new(sender)).limit
    };
    assert_eq!([3, 0, -1, i64::MIN, i64::MAX].map(limit), [3, 80, 80, 80, 80]);
}

#[test]
fn guesses_never_reach_beyond_the_answer() {
    let room = |num_predict, context, said| {
        let mut request = request();
        request.sampling.num_predict = num_predict;
        let (sender, _events) = mpsc::channel();
        let mut answer = Answer::new(1, &request, vec![0; 3], 0, context, &letters(), &Events::new(sender));
        for _ in 0..said {
            answer.push(&[1.0]);
        }
        answer.guessed(2);
        answer.guessed_right();
        assert_eq!((answer.usage.guessed_tokens, answer.usage.accepted_tokens), (2, 1));
        answer.room()
    };
    // One more token is always chosen than is guessed.
    assert_eq!([room(5, 64, 1), room(5, 64, 4), room(-1, 10, 1), room(-1, 5, 1)], [3, 0, 5, 0]);
}

#[test]
fn num_keep_leaves_room_whatever_it_is() {
    let kept = |num_keep, prompt, context| {
        let mut request = request();
        request.sampling.num_keep = num_keep;
        kept(&request, prompt, 1, context)
    };
    // All of the prompt, with the one that the tokenizer put in front.
    assert_eq!((kept(-1, 10, 64), kept(-1, 100, 64), kept(4, 100, 64), kept(4, 3, 64)), (10, 60, 5, 3));
    assert_eq!((kept(i64::MAX, 100, 64), kept(i64::MIN, 100, 4), kept(0, 100, 64)), (60, 0, 1));
    let mut request = request();
    for (num_keep, context) in [(i64::MAX, 4), (-1, 4), (0, 4), (-1, 5), (7, 8)] {
        request.sampling.num_keep = num_keep;
        let prompt = fit((0..20).collect(), &request, 1, context).unwrap();
        assert!((1..context).contains(&prompt.len()), "{num_keep}, {context}: {prompt:?}");
        let (sender, _events) = mpsc::channel();
        let mut answer = Answer::new(1, &request, prompt, 1, context, &letters(), &Events::new(sender));
        let logits: Vec<f32> = (0..26).map(|token| if token == 5 { 1.0 } else { 0.0 }).collect();
        for _ in 0..3 * context {
            if let Next::Full(_) = answer.push(&logits) {
                answer.shift();
            }
            assert!(answer.history().len() < context, "{num_keep}, {context}");
        }
    }
}

#[test]
fn a_full_context_loses_its_older_half() {
    let (text, done, steps) = say(&request(), &[4, 5, 6, 7, 8, 9, END], 8);
    assert_eq!(text, "efghij");
    assert_eq!(steps[4], Next::Full(8));
    assert_eq!(done.tokens, [0, 5, 6, 7, 8, 9]);
    let mut stopped = request();
    stopped.sampling.stop = vec!["ij".into()];
    let (text, done, _) = say(&stopped, &[4, 5, 6, 7, 8, 9, END], 8);
    assert_eq!((text.as_str(), done.tokens.as_slice()), ("efgh", &[0, 5, 6, 7][..]));
}

#[test]
fn a_long_prompt_loses_its_middle() {
    let prompt: Vec<u32> = (0..20).collect();
    assert_eq!(fit(prompt[..7].to_vec(), &request(), 0, 8).unwrap(), prompt[..7]);
    // One is kept, and of the seven others half may stay.
    assert_eq!(fit(prompt.clone(), &request(), 0, 8).unwrap(), [0, 16, 17, 18, 19]);
    for context in 0..6 {
        let fitted = fit(prompt.clone(), &request(), 0, context);
        assert_eq!(fitted.is_ok_and(|fitted| (1..context).contains(&fitted.len())), context >= 2, "{context}");
    }
    let refused = fit(prompt.clone(), &GenerateRequest { truncate: false, ..request() }, 0, 8);
    assert!(matches!(refused, Err(EngineError::Invalid(text)) if text.contains("request (20 tokens) exceeds")));
    let refused = fit(prompt, &GenerateRequest { shift: false, ..request() }, 0, 8);
    assert!(matches!(refused, Err(EngineError::Invalid(text)) if text.starts_with("the prompt is longer than")));
}

#[test]
fn a_constraint_holds_it_and_ends_it() {
    let (sender, events) = mpsc::channel();
    let tokens = letters();
    let mut answer = Answer::new(1, &request(), vec![0], 0, 16, &tokens, &Events::new(sender));
    let constraint = Constraint { schema: r#"{"type":"null"}"#.into(), after: None, calls: Vec::new() };
    answer.hold(Vocabulary::new(tokens).constrain(&constraint).unwrap());
    // The model would rather say something else.
    let mut logits = vec![0.0; 28];
    logits[23] = 9.0;
    let steps: Vec<Next> = (0..4).map(|_| answer.push(&logits)).collect();
    let [n, u, l] = [b'n', b'u', b'l'].map(|letter| u32::from(letter - b'a'));
    assert_eq!(steps, [Next::Token(n), Next::Token(u), Next::Token(l), Next::Over]);
    let last = events.try_iter().last().unwrap();
    let Event::Step { step: StepEvent::Done(done), .. } = last else { panic!("{last:?}") };
    assert_eq!((done.finish, done.usage.completion_tokens), (FinishReason::Stop, 5), "the end is counted too");
}
