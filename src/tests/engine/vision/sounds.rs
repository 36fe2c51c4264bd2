//! Sounds, and answers that go on while one is heard.

use futures_util::StreamExt as _;
use hanzod::engine::{Constraint, EngineError, GenerateRequest, StepEvent, StepStream};

use super::{about, look, red, same, see, seeing, view};
use crate::engine::llama::{ask, load, question, request};

/// A tone as WAV.
fn tone(hertz: f32, rate: u32, samples: u32) -> Vec<u8> {
    let samples = (0..samples).map(|at| ((at as f32 * hertz * std::f32::consts::TAU / rate as f32).sin() * 9e3) as i16);
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let format = [&[1, 0, 1, 0][..], &rate.to_le_bytes(), &(rate * 2).to_le_bytes(), &[2, 0, 16, 0]].concat();
    let [whole, length] = [36 + data.len(), data.len()].map(|length| (length as u32).to_le_bytes());
    [b"RIFF", &whole[..], b"WAVEfmt ", &[16, 0, 0, 0], &format, b"data", &length, &data].concat()
}

#[tokio::test]
async fn a_projector_that_hears() {
    let runner = load(seeing("mmproj-ultravox.gguf", 1)).await.unwrap();
    let [low, high] = [200.0, 3000.0].map(|hertz| tone(hertz, 16_000, 8000));
    let first = see(&runner, about(std::slice::from_ref(&low), "What is this?")).await.unwrap();
    assert!(first.done.usage.prompt_tokens > 75, "{:?}", first.done.usage);
    let other = see(&runner, about(&[high], "What is this?")).await.unwrap();
    let again = see(&runner, about(std::slice::from_ref(&low), "What is this?")).await.unwrap();
    assert!(same(&first, &again) && !same(&first, &other), "{:?} {:?}", view(&first), view(&other));
    for bad in [low[..low.len() - 15_999].to_vec(), low[..46].to_vec(), low[..44].to_vec(), b"fLaC".to_vec(), red()] {
        let error = see(&runner, about(std::slice::from_ref(&bad), "x")).await.map(drop);
        assert!(matches!(&error, Err(EngineError::Invalid(_)) | Ok(())), "{error:?}");
    }
    let seen = see(&runner, about(&[red()], "x")).await.map(drop).unwrap_err();
    assert_eq!(seen, EngineError::Invalid("this model does not support image input".into()));
    assert_eq!(ask(&runner, "Ping").await.text, "Pong");
}

/// An answer that does not end by itself.
fn endless() -> GenerateRequest {
    let schema = r#"{"type":"array","minItems":100000,"items":{"type":"integer"}}"#.into();
    let constraint = Some(Constraint { schema, after: None, calls: Vec::new() });
    let mut endless = GenerateRequest { constraint, ..request(&question("Count from 1 to 50.")) };
    endless.sampling.num_predict = -1;
    endless
}

/// Reads from `answer` until `other` gives something or there were `most` tokens: how many those were.
async fn tokens_until(other: &mut StepStream, answer: &mut StepStream, most: usize) -> usize {
    for count in 0..most {
        tokio::select! {
            biased;
            event = other.next() => {
                event.unwrap().unwrap();
                return count;
            }
            event = answer.next() => assert!(matches!(event, Some(Ok(StepEvent::Text { .. })))),
        }
    }
    most
}

#[tokio::test]
async fn an_answer_goes_on_while_a_long_sound_is_heard() {
    let runner = load(seeing("mmproj-ultravox.gguf", 2)).await.unwrap();
    // Five minutes go through the encoder in ten parts, and each comes into the batches by itself.
    let sound = about(&[tone(300.0, 4000, 4000 * 300)], "What is this?");
    let mut answer = runner.generate(endless());
    answer.next().await.unwrap().unwrap();

    let tokens = tokens_until(&mut runner.generate(look(sound)), &mut answer, usize::MAX).await;
    assert!(tokens > 100, "the answer got {tokens} tokens while the sound was heard");

    // Given up in the middle it leaves nothing behind.
    let sound = about(&[tone(2000.0, 4000, 4000 * 300)], "What is this?");
    tokens_until(&mut runner.generate(look(sound.clone())), &mut answer, tokens / 2).await;
    let after = see(&runner, sound.clone()).await.unwrap();
    let alone = see(&load(seeing("mmproj-ultravox.gguf", 2)).await.unwrap(), sound).await.unwrap();
    assert!(same(&after, &alone), "{:?} {:?}", view(&after), view(&alone));
}
