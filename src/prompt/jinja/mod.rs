//! A conversation through a Jinja chat template, the kind that GGUF files and Hugging Face repositories carry.
//!
//! Templates differ in what they take: some want a call's arguments as text, some content as parts, some no system message.
//! Each is asked once, when it is read, by rendering small conversations.

mod answers;
mod calls;
mod environment;
mod guards;

use std::collections::BTreeMap;

use minijinja::{Environment, Value};
use serde_json::{Map, Value as Json, json};

pub use answers::{Answers, Calls};

use super::thinking::Tags;
use super::turns::{self, append};
use super::{Conversation, PromptError, Rendered, images};
use crate::types::{Message, Role, Think, Tool, ToolCall};

/// A model's Jinja chat template.
#[derive(Debug)]
pub struct JinjaPrompt {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    habits: Habits,
    answers: Answers,
}

/// What a template takes, as far as it is not what most take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Habits {
    /// Content as a list of parts, not as text.
    parts: bool,
    /// No system message: it goes into the first user message.
    no_system: bool,
    /// A call's arguments as JSON text, not as an object.
    text_arguments: bool,
    /// Content that is none, not empty, beside calls.
    no_content: bool,
    /// An id for every call, and one of nine letters.
    ids: bool,
    short_ids: bool,
    /// Past thinking by the name `thinking`, not `reasoning_content`.
    thinking: bool,
}

impl JinjaPrompt {
    /// # Errors
    /// When the text is not Jinja.
    pub fn parse(text: &str, bos: &str, eos: &str) -> Result<Self, PromptError> {
        let environment = environment::environment(text).map_err(prompt_error)?;
        let answers = Answers::of(text);
        let asks = |words: &[&str]| words.iter().any(|words| text.contains(words));
        let habits = Habits {
            no_content: asks(&["content'] is n", "content\"] is n", "content is n"])
                && asks(&["is none", "is not none"]),
            ids: asks(&["tool_call_id"]),
            short_ids: asks(&["length != 9", "length == 9"]),
            thinking: text.contains(".thinking") && !text.contains("reasoning_content"),
            ..Habits::default()
        };
        let mut prompt = Self { environment, bos: bos.to_owned(), eos: eos.to_owned(), habits, answers };
        prompt.probe(text.contains("tool_calls"));
        Ok(prompt)
    }

    /// What the model's answers look like.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Whether it has a place for system messages.
    pub fn takes_system(&self) -> bool {
        !self.habits.no_system
    }

    /// The beginning-of-sequence text that a prompt may begin with. Must go when the tokenizer adds that token itself.
    pub fn leading_bos(&self) -> Option<&str> {
        (!self.bos.is_empty()).then_some(self.bos.as_str())
    }

    /// # Errors
    /// When the template fails, or refuses the conversation.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let (mut messages, images) = images::mark(&conversation.messages);
        let prefill = messages.pop_if(|last| last.role == Role::ASSISTANT && last.tool_calls.is_empty());
        if self.habits.no_system {
            messages = without_system(messages);
        }
        if self.habits.ids {
            calls::name(&mut messages, self.habits.short_ids);
        }
        let given = |messages| self.run(&Conversation { messages, ..conversation.clone() }, self.habits);
        // many templates refuse two messages of one role in a row, some two calls at once
        let text = given(messages.clone()).or_else(|error| {
            let merged = turns::merge(messages);
            given(merged.clone()).or_else(|_| given(calls::apart(merged))).map_err(|_| error)
        })?;
        Ok(Rendered { text: text + &self.prefill(prefill.as_ref(), conversation), images })
    }

    /// The beginning of an answer that the model is to go on with.
    fn prefill(&self, message: Option<&Message>, conversation: &Conversation) -> String {
        let Some(message) = message else {
            return String::new();
        };
        let Some(Tags { open, close }) = &self.answers.thinking else {
            return message.content.clone();
        };
        let think = conversation.think != Some(Think::Off);
        match (message.thinking.is_empty(), message.content.is_empty()) {
            (true, _) if !(think && self.opens_thinking(conversation)) => message.content.clone(),
            (true, true) => String::new(),
            (thoughtless, contentless) => {
                let open = if think && self.opens_thinking(conversation) { String::new() } else { format!("{open}\n") };
                let thinking = if thoughtless { String::new() } else { message.thinking.clone() };
                let close = if contentless { String::new() } else { format!("\n{close}\n\n") };
                format!("{open}{thinking}{close}{}", message.content)
            }
        }
    }

    /// Whether the template itself opens the thinking of an answer.
    fn opens_thinking(&self, conversation: &Conversation) -> bool {
        let asked = Conversation {
            messages: vec![Message::text(Role::USER, "x")],
            tools: Vec::new(),
            think: conversation.think,
        };
        let tags = self.answers.thinking.as_ref();
        tags.is_some_and(|tags| self.run(&asked, self.habits).is_ok_and(|text| tags.opened_by(&text)))
    }

    fn run(&self, conversation: &Conversation, habits: Habits) -> Result<String, PromptError> {
        let messages: Vec<Value> =
            conversation.messages.iter().map(|message| environment::value(&message_json(message, habits))).collect();
        let tools = match &conversation.tools[..] {
            [] => Value::from(()),
            tools => tools.iter().map(|tool| environment::value(&tool_json(tool))).collect(),
        };
        let mut data = BTreeMap::from([
            ("messages", Value::from(messages)),
            ("tools", tools),
            ("add_generation_prompt", Value::from(true)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ]);
        if let Some(think) = conversation.think {
            data.insert("enable_thinking", Value::from(think.is_on()));
            data.insert("thinking", Value::from(think.is_on()));
            if !think.level().is_empty() {
                data.insert("reasoning_effort", Value::from(think.level()));
            }
        }
        environment::render(&self.environment, data).map_err(prompt_error)
    }

    /// Learns what the template takes.
    fn probe(&mut self, has_calls: bool) {
        const NEEDLE: &str = "hay5tack";
        let shows = |prompt: &Self, messages: &[Message], habits: Habits| {
            let asked = Conversation { messages: messages.to_vec(), ..Conversation::default() };
            prompt.run(&asked, habits).is_ok_and(|text| text.contains(NEEDLE))
        };
        let user = Message::text(Role::USER, NEEDLE);
        if !shows(self, std::slice::from_ref(&user), self.habits) {
            let parts = Habits { parts: true, ..self.habits };
            if !shows(self, std::slice::from_ref(&user), parts) {
                // it shows nothing at all: nothing to learn here
                return;
            }
            self.habits = parts;
        }
        let plain = Message::text(Role::USER, "x");
        self.habits.no_system = !shows(self, &[Message::text(Role::SYSTEM, NEEDLE), plain.clone()], self.habits);
        if has_calls {
            let mut call = ToolCall { id: "call00000".to_owned(), ..ToolCall::default() };
            call.function.name = "f".to_owned();
            call.function.arguments = Map::from_iter([("a".to_owned(), Json::from(NEEDLE))]);
            let mut answer = Message::text(Role::ASSISTANT, "");
            answer.tool_calls.push(call);
            let mut result = Message::text(Role::TOOL, "1");
            result.tool_name = "f".to_owned();
            result.tool_call_id = "call00000".to_owned();
            let messages = [plain, answer, result];
            let text = Habits { text_arguments: true, ..self.habits };
            if !shows(self, &messages, self.habits) && shows(self, &messages, text) {
                self.habits = text;
            }
        }
    }
}

fn prompt_error(error: minijinja::Error) -> PromptError {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => PromptError(format!("chat template, line {line}: {detail}")),
        None => PromptError(format!("chat template: {detail}")),
    }
}

fn message_json(message: &Message, habits: Habits) -> Json {
    let mut json = Map::new();
    json.insert("role".to_owned(), Json::from(message.role.as_str()));
    let content = if habits.no_content && message.content.is_empty() && !message.tool_calls.is_empty() {
        Json::Null
    } else if habits.parts {
        json!([{"type": "text", "text": message.content}])
    } else {
        Json::from(message.content.as_str())
    };
    json.insert("content".to_owned(), content);
    if !message.thinking.is_empty() {
        let name = if habits.thinking { "thinking" } else { "reasoning_content" };
        json.insert(name.to_owned(), Json::from(message.thinking.as_str()));
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| call_json(call, habits)).collect();
        json.insert("tool_calls".to_owned(), calls);
    }
    for (name, text) in [("name", &message.tool_name), ("tool_call_id", &message.tool_call_id)] {
        if !text.is_empty() {
            json.insert(name.to_owned(), Json::from(text.as_str()));
        }
    }
    Json::Object(json)
}

fn call_json(call: &ToolCall, habits: Habits) -> Json {
    let arguments = Json::Object(call.function.arguments.clone());
    let arguments = if habits.text_arguments { Json::from(environment::python_json(&arguments)) } else { arguments };
    json!({"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}})
}

/// The tool as the client sent it: templates were made for all of JSON schema.
fn tool_json(tool: &Tool) -> Json {
    match &tool.raw {
        Json::Object(_) => tool.raw.clone(),
        _ => serde_json::to_value(tool).unwrap_or_default(),
    }
}

/// Each system message's text before that of the user message that follows it.
fn without_system(messages: Vec<Message>) -> Vec<Message> {
    let mut system = String::new();
    let mut kept = Vec::with_capacity(messages.len());
    for mut message in messages {
        if message.role == Role::SYSTEM {
            append(&mut system, &message.content);
            continue;
        }
        if message.role == Role::USER && !system.is_empty() {
            append(&mut system, &message.content);
            message.content = std::mem::take(&mut system);
        }
        kept.push(message);
    }
    if !system.is_empty() {
        kept.push(Message::text(Role::USER, system));
    }
    kept
}

#[cfg(test)]
mod tests;
