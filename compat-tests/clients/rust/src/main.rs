//! Walks a server with the Rust client `ollama-rs` and compares what the tiny model knows by heart.
//!
//!     walk BASE_URL
//!
//! The client has no call for the version and for `ps`.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use futures_util::StreamExt;
use ollama_rs::Ollama;
use ollama_rs::generation::chat::ChatMessage;
use ollama_rs::generation::chat::request::ChatMessageRequest;
use ollama_rs::generation::completion::request::GenerationRequest;
use ollama_rs::generation::embeddings::request::GenerateEmbeddingsRequest;
use ollama_rs::generation::parameters::FormatType;
use ollama_rs::generation::parameters::ThinkType;
use ollama_rs::generation::tools::ToolInfo;
use ollama_rs::models::ModelOptions;
use serde_json::Value;
use serde_json::json;

const COUNT: &str = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10";
const FRUITS: &str = "1. apple\n2. banana\n3. cherry";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let base = std::env::args().nth(1).context("usage: walk BASE_URL")?;
    let ollama = Ollama::try_new(base)?;
    let minilm = names(&ollama).await?.contains(&"minilm:latest".to_string());
    let mut walk = Walk::default();
    walk.step("list", list(&ollama).await);
    walk.step("show", show(&ollama).await);
    walk.step("generate", generate(&ollama).await);
    walk.step("generate, streamed", generate_streamed(&ollama).await);
    walk.step("chat", chat(&ollama).await);
    walk.step("chat, streamed", chat_streamed(&ollama).await);
    walk.step("think", think(&ollama).await);
    walk.step("tools, and their result", tools(&ollama).await);
    walk.step("structured output", structured(&ollama).await);
    match minilm {
        true => walk.step("embed", embed(&ollama).await),
        false => println!("left out ollama: embed: the server has no model minilm"),
    }
    walk.step("copy, use and delete", copy_and_delete(&ollama).await);
    walk.step("a model that is not there", missing(&ollama).await);
    walk.step("two streams at once", two_streams(&ollama).await);
    println!("rust: {} steps ok, {} failed, {} left out", walk.passed, walk.failed, usize::from(!minilm));
    ensure!(walk.failed == 0, "the walk failed");
    Ok(())
}

#[derive(Default)]
struct Walk {
    passed: usize,
    failed: usize,
}

impl Walk {
    fn step(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok       ollama: {name}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED   ollama: {name}: {error:#}");
            }
        }
    }
}

fn ask(question: &str) -> ChatMessageRequest {
    ChatMessageRequest::new("tiny".into(), vec![ChatMessage::user(question.into())]).think(ThinkType::False)
}

async fn names(ollama: &Ollama) -> Result<Vec<String>> {
    Ok(ollama.list_local_models().await?.into_iter().map(|model| model.name).collect())
}

async fn list(ollama: &Ollama) -> Result<()> {
    let models = ollama.list_local_models().await?;
    let tiny = models.iter().find(|model| model.name == "tiny:latest").context("no tiny")?;
    ensure!(tiny.size > 7_000_000, "{tiny:?}");
    Ok(())
}

async fn show(ollama: &Ollama) -> Result<()> {
    let shown = ollama.show_model_info("tiny".into()).await?;
    ensure!(shown.capabilities.contains(&"tools".to_string()), "{:?}", shown.capabilities);
    ensure!(shown.model_info["general.architecture"] == "qwen3", "{:?}", shown.model_info);
    ensure!(shown.template.contains("<|im_start|>"), "{}", shown.template);
    Ok(())
}

async fn generate(ollama: &Ollama) -> Result<()> {
    let reply = ollama.generate(GenerationRequest::new("tiny".into(), "Ping").think(ThinkType::False)).await?;
    ensure!(reply.response == "Pong" && reply.done, "{reply:?}");
    ensure!(reply.context.is_some_and(|context| !context.0.is_empty()), "no context");
    Ok(())
}

async fn generate_streamed(ollama: &Ollama) -> Result<()> {
    let request = GenerationRequest::new("tiny".into(), "Count from 1 to 10.")
        .think(ThinkType::False)
        .options(ModelOptions::default().seed(1).num_predict(5));
    let mut stream = ollama.generate_stream(request).await?;
    let mut parts = Vec::new();
    while let Some(chunk) = stream.next().await {
        parts.extend(chunk?); // the client drops a line that does not parse, so what is missing shows in the text
    }
    let text: String = parts.iter().map(|part| part.response.as_str()).collect();
    ensure!(!text.is_empty() && text.len() < COUNT.len() && COUNT.starts_with(&text), "{text:?}");
    let last = parts.last().context("no parts")?;
    ensure!(last.done && last.eval_count == Some(5), "{last:?}");
    Ok(())
}

async fn chat(ollama: &Ollama) -> Result<()> {
    let reply = ollama.send_chat_messages(ask("Ping")).await?;
    ensure!(reply.message.content == "Pong", "{reply:?}");
    // the client reads the final figures only when all six are there
    ensure!(reply.final_data.is_some(), "a figure is missing: {reply:?}");
    Ok(())
}

/// A streamed answer, how many parts it came in, and its thinking.
async fn streamed(ollama: &Ollama, request: ChatMessageRequest) -> Result<(String, usize, String)> {
    let mut stream = ollama.send_chat_messages_stream(request).await?;
    let (mut content, mut parts, mut thinking, mut done) = (String::new(), 0, String::new(), false);
    while let Some(part) = stream.next().await {
        let part = part.map_err(|()| anyhow::anyhow!("the stream broke"))?;
        content += &part.message.content;
        thinking += part.message.thinking.as_deref().unwrap_or_default();
        parts += 1;
        done = part.done && part.final_data.is_some();
    }
    ensure!(done, "the last part is not done, or a figure is missing");
    Ok((content, parts, thinking))
}

async fn chat_streamed(ollama: &Ollama) -> Result<()> {
    let (content, parts, _) = streamed(ollama, ask("Count from 1 to 10.")).await?;
    ensure!(content == COUNT && parts > 2, "{content:?} in {parts} parts");
    Ok(())
}

async fn think(ollama: &Ollama) -> Result<()> {
    let request = ask("How many r are in strawberry?").think(ThinkType::True);
    let (content, _, thinking) = streamed(ollama, request).await?;
    ensure!(content == "There are 3.", "{content:?}");
    ensure!(thinking.trim() == "s t r a w b e r r y: r at 3, 8 and 9. That is three.", "{thinking:?}");
    Ok(())
}

async fn tools(ollama: &Ollama) -> Result<()> {
    let tool: ToolInfo = serde_json::from_value(json!({"type": "function", "function": {
        "name": "get_current_weather", "description": "Get the current weather for a location",
        "parameters": {"type": "object", "required": ["location", "format"], "properties": {
            "location": {"type": "string", "description": "The city"},
            "format": {"type": "string", "enum": ["celsius", "fahrenheit"]}}}}}))?;
    let mut request = ask("What is the weather today in Paris?").tools(vec![tool]);
    let reply = ollama.send_chat_messages(request.clone()).await?;
    let [call] = reply.message.tool_calls.as_slice() else { anyhow::bail!("{reply:?}") };
    ensure!(call.function.name == "get_current_weather", "{call:?}");
    ensure!(call.function.arguments == json!({"location": "Paris", "format": "celsius"}), "{call:?}");
    request.messages.extend([reply.message.clone(), ChatMessage::tool("22 degrees".into())]);
    let reply = ollama.send_chat_messages(request).await?;
    ensure!(reply.message.content == "It is 22 degrees in Paris.", "{reply:?}");
    Ok(())
}

async fn structured(ollama: &Ollama) -> Result<()> {
    let schema =
        serde_json::from_value(json!({"type": "object", "required": ["name", "age", "languages"], "properties": {
        "name": {"type": "string"}, "age": {"type": "integer"},
        "languages": {"type": "array", "items": {"type": "string"}}}}))?;
    let request = ask("Describe a person as JSON.").format(FormatType::StructuredJson(Box::new(schema)));
    let reply = ollama.send_chat_messages(request).await?;
    let person: Value = serde_json::from_str(&reply.message.content).context(reply.message.content)?;
    ensure!(person == json!({"name": "Ada", "age": 36, "languages": ["English", "French"]}), "{person}");
    Ok(())
}

async fn embed(ollama: &Ollama) -> Result<()> {
    let request = GenerateEmbeddingsRequest::new("minilm".into(), vec!["why is the sky blue?", "a"].into());
    let reply = ollama.generate_embeddings(request).await?;
    let lengths: Vec<usize> = reply.embeddings.iter().map(Vec::len).collect();
    ensure!(lengths == [384, 384], "{lengths:?}");
    Ok(())
}

async fn copy_and_delete(ollama: &Ollama) -> Result<()> {
    ollama.copy_model("tiny".into(), "tiny-rust".into()).await?;
    let request = GenerationRequest::new("tiny-rust".into(), "Ping").think(ThinkType::False);
    let reply = ollama.generate(request).await?;
    ensure!(reply.response == "Pong", "{reply:?}");
    ollama.delete_model("tiny-rust".into()).await?;
    ensure!(!names(ollama).await?.contains(&"tiny-rust:latest".to_string()), "deleted and still there");
    Ok(())
}

async fn missing(ollama: &Ollama) -> Result<()> {
    let mut request = ask("Ping");
    request.model_name = "nope".into();
    let error = ollama.send_chat_messages(request).await.err().context("no error")?;
    ensure!(error.to_string().contains("model 'nope' not found"), "{error}");
    Ok(())
}

async fn two_streams(ollama: &Ollama) -> Result<()> {
    let count = streamed(ollama, ask("Count from 1 to 10."));
    let fruits = streamed(ollama, ask("List three fruits."));
    let (count, fruits) = tokio::join!(count, fruits);
    let texts = (count?.0, fruits?.0);
    ensure!(texts.0 == COUNT && texts.1 == FRUITS, "{texts:?}");
    Ok(())
}
