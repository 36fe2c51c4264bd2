//! Glimmer: messages with named recipients (itself, the user, a tool), calls as XML, images, and five levels of thinking.

use super::images::Images;
use super::json::{self, SPACED};
use super::{Renderer, is_prefill, rendered};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Think, Tool, ToolCall};

pub(super) struct Glimmer;

const START: &str = "<|begin_of_text|>";
const END_OF_TURN: &str = "<|eot|>";
/// Between the messages of one answer.
const END_OF_MESSAGE: &str = "<|eom|>";

impl Renderer for Glimmer {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let images = Images::of(messages);
        let instructions = instructions(conversation);
        let mut out = START.to_owned();
        if !messages.iter().any(|message| message.role == Role::SYSTEM) {
            let today = chrono::Local::now().format("%Y-%m-%d");
            out += &format!(
                "<|start|>system<|message|>You are a helpful AI assistant.\nKnowledge cutoff: 2026-01-04.\n\
                 Current date: {today}.{instructions}{END_OF_TURN}"
            );
        }
        for (index, message) in messages.iter().enumerate() {
            let content = images.content(messages, index);
            match message.role.as_str() {
                Role::SYSTEM => {
                    out += &format!("<|start|>system<|message|>{content}{instructions}{END_OF_TURN}");
                }
                Role::USER => out += &format!("<|start|>user<|message|>{content}{END_OF_TURN}"),
                Role::ASSISTANT => {
                    out += &answer(message, &content);
                    if is_prefill(messages, index) {
                        return Ok(rendered(out, conversation));
                    }
                    out += END_OF_TURN;
                }
                Role::TOOL => {
                    let name = result_name(messages, index);
                    out += &format!(
                        "<|start|>tool {name}<|message|><tool_output name=\"{name}\">\n{content}\n</tool_output>{END_OF_TURN}"
                    );
                }
                _ => {}
            }
        }
        Ok(rendered(out + "<|start|>assistant", conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some(START)
    }
}

/// An answer without its end. Text beside calls has no place in the format.
fn answer(message: &Message, content: &str) -> String {
    let mut parts = Vec::new();
    if !message.thinking.is_empty() {
        parts.push(format!("<|start|>assistant to=self<|message|>{}", message.thinking));
    }
    if message.tool_calls.is_empty() {
        parts.push(format!("<|start|>assistant to=user<|message|>{content}"));
    }
    parts.extend(message.tool_calls.iter().map(call));
    parts.join(END_OF_MESSAGE)
}

fn call(call: &ToolCall) -> String {
    let name = &call.function.name;
    let arguments = call.function.arguments.iter().map(|(key, value)| {
        format!("<atem:parameter name=\"{key}\">{}</atem:parameter>\n", json::printed(value, SPACED))
    });
    format!(
        "<|start|>assistant to={name}<|message|><atem:function_calls>\n<atem:invoke name=\"{name}\">\n{}</atem:invoke>\n\
         </atem:function_calls>",
        arguments.collect::<String>()
    )
}

/// The tool that a result comes from: as the client says, else as the call's id says, else the id itself.
fn result_name(messages: &[Message], index: usize) -> &str {
    let message = &messages[index];
    if !message.tool_name.is_empty() {
        return &message.tool_name;
    }
    let id = &message.tool_call_id;
    let mut calls = messages[..index].iter().rev().flat_map(|message| &message.tool_calls);
    calls.find(|call| !id.is_empty() && call.id == *id).map_or(id, |call| &call.function.name)
}

/// What stands behind every system text.
fn instructions(conversation: &Conversation) -> String {
    let strength = match conversation.think {
        None | Some(Think::On) => "high",
        Some(Think::Off) => "none",
        Some(level) => level.level(),
    };
    let tools = &conversation.tools;
    let recipients: String = namespaces(tools).iter().map(|name| format!(" \"{name}.*\",")).collect();
    format!(
        "\n\nReasoning strength: {strength}.\n\n{}# Valid recipients: \"self\",{recipients} \"user\".",
        self::tools(tools)
    )
}

/// What stands before the dot of each tool's name, once each.
fn namespaces(tools: &[Tool]) -> Vec<&str> {
    let mut names = Vec::new();
    for tool in tools {
        let name = tool.function.name.split('.').next().unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn tools(tools: &[Tool]) -> String {
    if tools.is_empty() {
        return String::new();
    }
    let metadata = |name: &&str| format!("{{\"name\": {}, \"description\": \"\"}}\n", json::write(name, SPACED));
    let metadata: String = namespaces(tools).iter().map(metadata).collect();
    let schemas: String = tools.iter().map(|tool| format!("{}\n", json::function(tool, false, true))).collect();
    format!(
        r#"In this environment you have access to a set of tools you can use to answer the user's question.

You can invoke a function by writing a "<atem:function_calls>" block like the following:
<atem:function_calls>
<atem:invoke name="$FUNCTION_NAME">
<atem:parameter name="$PARAMETER_NAME">$PARAMETER_VALUE</atem:parameter>
...
</atem:invoke>
</atem:function_calls>

String and scalar parameters should be specified as is, while lists and objects should use JSON format. {NOTE}
Here are the functions available in JSONSchema format:
// Tool metadata
{metadata}// Function schemas
{schemas}
Here's an example of how to call a function in the tool set:
(If the tool namespace is not specified, invoke the function directly as `example_function_name` rather than {EXAMPLE})

to=example_tool_name.example_function_name

<atem:function_calls>
<atem:invoke name="example_tool_name.example_function_name">
<atem:parameter name="example_parameter_1">value_1</atem:parameter>
<atem:parameter name="example_parameter_2">This is the value for the second parameter
that can span
"multiple" lines
</atem:parameter>
</atem:invoke>
</atem:function_calls>

"#
    )
}

const NOTE: &str = "Note that spaces for string values are not stripped. The output is not expected to be valid XML and is \
parsed with regular expressions.";
const EXAMPLE: &str = "`example_tool_name.example_function_name`";
