//! Tools in the XML form that Qwen3-Coder began: declarations, the instruction that explains them, and calls.

use serde_json::Value;

use super::json::{self, COMPACT, SPACED, Style};
use crate::types::chat::Properties;
use crate::types::{Property, Tool, ToolCall};

/// Opens every list of tools.
pub(super) const TOOLS: &str = "# Tools\n\nYou have access to the following functions:\n\n<tools>";

/// Closes every list of tools and says how to call one.
pub(super) const HOW_TO_CALL: &str = "\n</tools>\n
If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within \
<tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell \
the user about function calls
</IMPORTANT>";

/// The whole section, each tool as a line of JSON.
pub(super) fn as_json(tools: &[Tool]) -> String {
    let lines: String = tools.iter().map(|tool| format!("\n{}", json::tool(tool, SPACED))).collect();
    format!("{TOOLS}{lines}{HOW_TO_CALL}")
}

/// The whole section, each tool as XML. `words` is how values in it are written.
pub(super) fn as_xml(tools: &[Tool], words: Words) -> String {
    let declarations: String = tools.iter().map(|tool| declaration(tool, words)).collect();
    format!("{TOOLS}{declarations}{HOW_TO_CALL}")
}

/// How the two families write values.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Words {
    /// `true`, `null`, compact JSON; schemas with sorted keys.
    Go,
    /// `True`, `None`, JSON with blanks.
    Python,
}

impl Words {
    fn style(self) -> Style {
        match self {
            Self::Go => COMPACT,
            Self::Python => SPACED,
        }
    }

    /// The part of a schema, in the order that this family keeps.
    fn schema<T: serde::Serialize>(self, part: &T) -> String {
        match self {
            Self::Go => json::value(&serde_json::to_value(part).unwrap_or_default(), COMPACT),
            Self::Python => json::write(part, SPACED),
        }
    }

    fn argument(self, value: &Value) -> String {
        match (self, value) {
            (Self::Python, Value::Null) => "None".to_owned(),
            (Self::Python, Value::Bool(true)) => "True".to_owned(),
            (Self::Python, Value::Bool(false)) => "False".to_owned(),
            _ => json::printed(value, self.style()),
        }
    }
}

fn declaration(tool: &Tool, words: Words) -> String {
    let function = json::tidy(tool).function;
    let mut out = format!("\n<function>\n<name>{}</name>", function.name);
    if !function.description.is_empty() {
        out += &format!("\n<description>{}</description>", function.description);
    }
    out += "\n<parameters>";
    for (name, property) in function.parameters.properties.iter().flat_map(Properties::iter) {
        out += &parameter(name, property, words);
    }
    if let Some(defs) = &function.parameters.defs {
        out += &format!("\n<$defs>{}</$defs>", words.schema(defs));
    }
    if !function.parameters.required.is_empty() {
        out += &format!("\n<required>{}</required>", words.schema(&function.parameters.required));
    }
    out + "\n</parameters>\n</function>"
}

fn parameter(name: &str, property: &Property, words: Words) -> String {
    let mut out = format!("\n<parameter>\n<name>{name}</name>");
    match property.kind.as_slice() {
        [] => {}
        [one] => out += &format!("\n<type>{one}</type>"),
        many => {
            let quoted: Vec<_> = many.iter().map(|kind| format!("'{kind}'")).collect();
            out += &format!("\n<type>[{}]</type>", quoted.join(", "));
        }
    }
    if !property.description.is_empty() {
        out += &format!("\n<description>{}</description>", property.description);
    }
    if !property.variants.is_empty() {
        out += &format!("\n<enum>{}</enum>", words.schema(&property.variants));
    }
    if !property.any_of.is_empty() {
        out += &format!("\n<anyOf>{}</anyOf>", words.schema(&property.any_of));
    }
    if let Some(items) = &property.items {
        out += &format!("\n<items>{}</items>", words.schema(items));
    }
    if let Some(properties) = &property.properties {
        out += &format!("\n<properties>{}</properties>", words.schema(properties));
    }
    if !property.required.is_empty() {
        out += &format!("\n<required>{}</required>", words.schema(&property.required));
    }
    out + "\n</parameter>"
}

/// One call, without a line break around it.
pub(super) fn call(call: &ToolCall, words: Words) -> String {
    let mut out = format!("<tool_call>\n<function={}>\n", call.function.name);
    for (name, value) in &call.function.arguments {
        out += &format!("<parameter={name}>\n{}\n</parameter>\n", words.argument(value));
    }
    out + "</function>\n</tool_call>"
}
