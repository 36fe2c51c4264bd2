//! Images over every route that takes some, with the tiny model and a projector.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::util::{Reply, TestApp};

fn picture(name: &str) -> Vec<u8> {
    let folder = format!("{}/compat-tests/models/vision", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

async fn app() -> TestApp {
    let app = TestApp::real();
    app.add_tiny("tiny-q8_0.gguf", "tiny-q8_0.gguf").await;
    app.add_projector("tiny", "mmproj-llava.gguf", "eyes").await;
    app
}

/// A way to ask about an image.
#[derive(Clone, Copy, Debug)]
enum Way {
    Chat,
    Generate,
    OpenAi,
    Responses,
    Anthropic,
}

const WAYS: [Way; 5] = [Way::Chat, Way::Generate, Way::OpenAi, Way::Responses, Way::Anthropic];

async fn ask(app: &TestApp, way: Way, image: &[u8], stream: bool) -> Reply {
    let (image, words) = (base64(image), "What is this?");
    let options = json!({ "temperature": 0, "num_predict": 8 });
    let (path, mut body) = match way {
        Way::Chat => {
            let message = json!({ "role": "user", "content": words, "images": [image] });
            ("/api/chat", json!({ "messages": [message], "think": false, "options": options, "logprobs": true }))
        }
        Way::Generate => (
            "/api/generate",
            json!({ "prompt": words, "images": [image], "think": false, "options": options, "logprobs": true }),
        ),
        Way::OpenAi => {
            let url = format!("data:image/png;base64,{image}");
            let content =
                json!([{ "type": "text", "text": words }, { "type": "image_url", "image_url": { "url": url } }]);
            let message = json!({ "role": "user", "content": content });
            let more = json!({ "temperature": 0, "max_tokens": 8, "reasoning_effort": "none", "logprobs": true });
            let mut body = json!({ "messages": [message] });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            ("/v1/chat/completions", body)
        }
        Way::Responses => {
            let url = format!("data:image/png;base64,{image}");
            let content = json!([{ "type": "input_text", "text": words }, { "type": "input_image", "image_url": url }]);
            let input = json!([{ "role": "user", "content": content }]);
            let reasoning = json!({ "effort": "none" });
            let body = json!({ "input": input, "temperature": 0, "max_output_tokens": 8, "reasoning": reasoning });
            ("/v1/responses", body)
        }
        Way::Anthropic => {
            let source = json!({ "type": "base64", "media_type": "image/png", "data": image });
            let content = json!([{ "type": "image", "source": source }, { "type": "text", "text": words }]);
            ("/v1/messages", json!({ "messages": [{ "role": "user", "content": content }], "max_tokens": 8 }))
        }
    };
    body["model"] = "eyes".into();
    body["stream"] = stream.into();
    app.post(path, body).await
}

/// Tokens of the prompt, and the chances of the answer's first token where the route tells them.
fn told(way: Way, reply: &Reply) -> (u64, Option<f64>) {
    assert_eq!(reply.status, 200, "{way:?}: {}", reply.text());
    let reply = reply.json();
    let (tokens, chance) = match way {
        Way::Chat | Way::Generate => (&reply["prompt_eval_count"], &reply["logprobs"][0]["logprob"]),
        Way::OpenAi => (&reply["usage"]["prompt_tokens"], &reply["choices"][0]["logprobs"]["content"][0]["logprob"]),
        Way::Responses | Way::Anthropic => (&reply["usage"]["input_tokens"], &Value::Null),
    };
    (tokens.as_u64().unwrap(), chance.as_f64())
}

#[tokio::test]
async fn every_route_sees() {
    let app = app().await;
    let shown = app.post("/api/show", json!({ "model": "eyes" })).await.json();
    assert_eq!(shown["capabilities"], json!(["completion", "vision", "tools", "thinking"]));
    assert_eq!(shown["projector_info"]["clip.projector_type"], "mlp");
    let tags = app.get("/api/tags").await.json();
    let eyes = tags["models"].as_array().unwrap().iter().find(|model| model["name"] == "eyes:latest").unwrap().clone();
    assert!(eyes["capabilities"].as_array().unwrap().contains(&"vision".into()), "{eyes}");

    let mut broken = picture("sun.png");
    broken.truncate(100);
    for way in WAYS {
        let first = ask(&app, way, &picture("sun.png"), false).await;
        let (tokens, chance) = told(way, &first);
        assert!(tokens > 16 + 10, "{way:?}: {tokens}");
        let again = told(way, &ask(&app, way, &picture("sun.png"), false).await);
        assert_eq!(again.0, tokens);
        let jpeg = told(way, &ask(&app, way, &picture("sun.jpg"), false).await);
        assert_eq!(jpeg.0, tokens);
        if let (Some(chance), Some(again), Some(jpeg)) = (chance, again.1, jpeg.1) {
            assert!((chance - again).abs() < 0.06, "{way:?}: {chance} {again}");
            assert_ne!(chance, jpeg, "{way:?}");
        } else {
            assert!(matches!(way, Way::Responses | Way::Anthropic), "{way:?}: {}", first.text());
        }
        for stream in [false, true] {
            let reply = ask(&app, way, &broken, stream).await;
            assert_eq!(reply.status, 400, "{way:?}: {}", reply.text());
            assert!(reply.text().contains("invalid image: it is cut short"), "{way:?}: {}", reply.text());
        }
    }
    let streamed = ask(&app, Way::Chat, &picture("sun.gif"), true).await;
    assert_eq!(streamed.lines().last().unwrap()["done"], true);
    let ping = json!({ "model": "eyes", "prompt": "Ping", "think": false, "stream": false });
    assert_eq!(app.post("/api/generate", ping).await.json()["response"], "Pong");
}

#[tokio::test]
async fn what_an_answer_leaves_can_be_gone_on_with() {
    let app = app().await;
    let first = ask(&app, Way::Generate, &picture("sun.png"), false).await.json();
    let tokens = first["context"].as_array().unwrap().len() as u64;
    assert_eq!(tokens, first["prompt_eval_count"].as_u64().unwrap() - 16 + first["eval_count"].as_u64().unwrap());
    let next =
        json!({ "model": "eyes", "prompt": "Ping", "context": first["context"], "think": false, "stream": false });
    assert_eq!(app.post("/api/generate", next).await.status, 200);

    let raw = |prompt: &str| {
        let image = base64(&picture("sun.png"));
        json!({ "model": "eyes", "prompt": prompt, "images": [image], "raw": true, "stream": false, "options": { "num_predict": 2 } })
    };
    for prompt in ["see [img-0]", "see [img-0] there", "see"] {
        let reply = app.post("/api/generate", raw(prompt)).await;
        assert!(reply.json()["prompt_eval_count"].as_u64().unwrap() > 16, "{}", reply.text());
    }
    let blind = json!({ "model": "tiny", "prompt": "x", "images": [base64(&picture("sun.png"))], "stream": false });
    let reply = app.post("/api/generate", blind).await;
    assert_eq!((reply.status, reply.text().as_str()), (400, r#"{"error":"this model does not support images"}"#));
}
