//! The events of a stream.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Content, Output, Response};

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type")]
pub enum Event {
    #[serde(rename = "response.created")]
    Created { response: Response },
    #[serde(rename = "response.in_progress")]
    InProgress { response: Response },
    #[serde(rename = "response.completed")]
    Completed { response: Response },
    #[serde(rename = "response.incomplete")]
    Incomplete { response: Response },
    #[serde(rename = "response.failed")]
    Failed { response: Response },
    #[serde(rename = "response.output_item.added")]
    ItemAdded { output_index: usize, item: Output },
    #[serde(rename = "response.output_item.done")]
    ItemDone { output_index: usize, item: Output },
    #[serde(rename = "response.content_part.added")]
    PartAdded { item_id: String, output_index: usize, content_index: usize, part: Content },
    #[serde(rename = "response.content_part.done")]
    PartDone { item_id: String, output_index: usize, content_index: usize, part: Content },
    #[serde(rename = "response.output_text.delta")]
    TextDelta { item_id: String, output_index: usize, content_index: usize, delta: String, logprobs: [(); 0] },
    #[serde(rename = "response.output_text.done")]
    TextDone { item_id: String, output_index: usize, content_index: usize, text: String, logprobs: [(); 0] },
    #[serde(rename = "response.reasoning_summary_text.delta")]
    SummaryDelta { item_id: String, output_index: usize, summary_index: usize, delta: String },
    #[serde(rename = "response.reasoning_summary_text.done")]
    SummaryDone { item_id: String, output_index: usize, summary_index: usize, text: String },
    #[serde(rename = "response.function_call_arguments.delta")]
    ArgumentsDelta { item_id: String, output_index: usize, delta: String },
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone { item_id: String, output_index: usize, arguments: String },
    #[serde(rename = "response.custom_tool_call_input.delta")]
    InputDelta { item_id: String, output_index: usize, delta: String },
    #[serde(rename = "response.custom_tool_call_input.done")]
    InputDone { item_id: String, output_index: usize, input: String },
}

impl Event {
    /// As Ollama writes it: out of hash tables, so its names are in order, and what is not set of `reasoning` is `null`.
    pub fn data(&self, sequence_number: u64) -> Value {
        let mut data = serde_json::to_value(self).expect("events are plain JSON: a bug");
        data["sequence_number"] = sequence_number.into();
        if let Some(Value::Object(reasoning)) = data.pointer_mut("/response/reasoning") {
            for field in ["effort", "summary"] {
                reasoning.entry(field).or_insert(Value::Null);
            }
        }
        by_name(data)
    }
}

/// The value with its objects in the order of their names, but for what is in a `schema`.
pub fn by_name(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            let sorted = |(name, value): (String, Value)| {
                let value = if name == "schema" { value } else { by_name(value) };
                (name, value)
            };
            Value::Object(entries.into_iter().map(sorted).collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(by_name).collect()),
        other => other,
    }
}
