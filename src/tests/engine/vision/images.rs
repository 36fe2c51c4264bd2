//! Images in prompts: their formats, among others, in conversations, and those that cannot be seen.

use futures_util::future::join_all;
use hanzod::engine::{EngineError, FinishReason, GenerateRequest, LoadSpec, PromptPart};

use super::{about, blue, file, image, red, same, see, seeing, text, view};
use crate::engine::llama::{SKY, answer, ask, load, question, request, spec};

#[tokio::test]
async fn every_usual_format_is_read() {
    let runner = load(seeing("mmproj-llava.gguf", 1)).await.unwrap();
    let mut replies = Vec::new();
    for name in ["sun.png", "sun.bmp", "sun.gif", "sun.jpg", "sun-progressive.jpg"] {
        let image = std::fs::read(file(name)).unwrap();
        replies.push(see(&runner, about(&[image], "What is this?")).await.unwrap());
    }
    assert!(same(&replies[0], &replies[1]), "{:?} {:?}", view(&replies[0]), view(&replies[1]));
    assert_eq!(replies[0].done.usage.prompt_tokens, replies[4].done.usage.prompt_tokens);
    let webp = see(&runner, about(&[std::fs::read(file("sun.webp")).unwrap()], "x")).await.map(drop).unwrap_err();
    assert!(matches!(&webp, EngineError::Invalid(text) if text.contains("WebP")), "{webp}");
}

#[tokio::test]
async fn a_conversation_goes_on_behind_its_image() {
    let runner = load(seeing("mmproj-llava.gguf", 2)).await.unwrap();
    let mut prompt = about(&[red(), blue()], "What is this?");
    let first = see(&runner, prompt.clone()).await.unwrap();
    prompt.push(text(&format!("{}<|im_end|>\n{}", first.text, question("Ping"))));
    let (second, beside) = tokio::join!(see(&runner, prompt.clone()), see(&runner, prompt));
    for reply in [second.unwrap(), beside.unwrap()] {
        let usage = reply.done.usage;
        assert!(usage.cached_tokens + 1 >= first.done.usage.prompt_tokens, "{usage:?}");
    }
}

#[tokio::test]
async fn many_at_once_with_texts_among_them() {
    let runner = load(seeing("mmproj-llava.gguf", 4)).await.unwrap();
    let images: Vec<_> = (0..8).map(|n| image(30 + n, 40, [(n * 30) as u8, 90, 200])).collect();
    let prompts: Vec<_> = images.iter().map(|image| about(std::slice::from_ref(image), "What is this?")).collect();
    let looked = join_all(prompts.iter().map(|prompt| see(&runner, prompt.clone())));
    let asked = join_all((0..4).map(|_| ask(&runner, "why is the sky blue?")));
    let (looked, asked) = tokio::join!(looked, asked);
    for reply in asked {
        assert_eq!(reply.text, SKY);
    }
    let alone = load(seeing("mmproj-llava.gguf", 1)).await.unwrap();
    for (reply, prompt) in looked.iter().zip(prompts) {
        let expected = see(&alone, prompt).await.unwrap();
        let reply = reply.as_ref().map_err(EngineError::to_string).unwrap();
        assert!(same(reply, &expected), "{:?} {:?}", view(reply), view(&expected));
    }
}

#[tokio::test]
async fn a_bad_image_is_the_end_of_its_request_only() {
    let runner = load(seeing("mmproj-llava.gguf", 1)).await.unwrap();
    let png = std::fs::read(file("sun.png")).unwrap();
    let jpeg = std::fs::read(file("sun.jpg")).unwrap();
    let mut garbled = png.clone();
    garbled[60..].iter_mut().take(40).for_each(|byte| *byte = 0x55);
    let bad = [
        Vec::new(),
        b"no image".to_vec(),
        png[..png.len() / 2].to_vec(),
        jpeg[..jpeg.len() / 2].to_vec(),
        garbled,
        image(0, 0, [0; 3]),
        image(1, 300, [0; 3]),
        [&b"RIFF\x10\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0"[..], &[0; 20]].concat(),
    ];
    for file in bad {
        let error = see(&runner, about(std::slice::from_ref(&file), "x")).await.map(drop).unwrap_err();
        assert!(matches!(&error, EngineError::Invalid(_)), "{error:?}");
    }
    assert!(see(&runner, about(&[image(1, 1, [9; 3])], "x")).await.is_ok());
    assert!(see(&runner, vec![PromptPart::Media(red())]).await.is_ok());
    assert_eq!(ask(&runner, "Ping").await.text, "Pong");
}

#[tokio::test]
async fn an_image_is_never_cut_in_two() {
    let runner = load(LoadSpec { projectors: vec![file("mmproj-llava.gguf")], ..spec(64, 1) }).await.unwrap();
    let mut long = GenerateRequest { prompt: about(&[red()], "Count from 1 to 50."), ..request("") };
    long.sampling.num_predict = 300;
    long.sampling.temperature = 3.0;
    long.sampling.seed = 1;
    let reply = answer(&runner, long).await.unwrap();
    let usage = reply.done.usage;
    let ended = reply.done.finish == FinishReason::Stop;
    assert!(ended || usage.prompt_tokens + usage.completion_tokens == 64, "{usage:?}");

    let error = see(&runner, about(&[red(), blue(), red(), blue()], "Ping")).await.map(drop).unwrap_err();
    let expected = "exceeds the available context size (64 tokens)";
    assert!(matches!(&error, EngineError::Invalid(text) if text.contains(expected)), "{error}");
    assert_eq!(ask(&runner, "Ping").await.text, "Pong");
}
