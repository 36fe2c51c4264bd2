//! harmony, the frames of gpt-oss: `<|start|>role<|channel|>name to=recipient<|message|>…<|end|>`, the first header implied.
//!
//! Its prompt can name tools by identifiers only: [`rename_tools`] gives those, and the parser finds the way back.

use std::collections::HashMap;

use super::Start;
use super::json;
use super::out::{Call, Out, Space};
use super::scan::{Format, Input, Machine};
use crate::prompt::OutputParser;
use crate::types::Tool;

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const ENDS: [&str; 3] = ["<|end|>", "<|call|>", "<|return|>"];
/// What can stand at the beginning of a header.
const HEADS: [&str; 5] = [START, CHANNEL, MESSAGE, "<|constrain|>", "to="];

pub(super) const TOKENS: &[&str] = &[START, CHANNEL, MESSAGE, "<|constrain|>", "<|end|>"];

/// Built-in tools of the models, which keep their names.
const BUILT_IN: [&str; 4] = ["browser.open", "browser.search", "browser.find", "python"];

/// The tools under the names that the prompt gives them.
pub fn rename_tools(tools: &[Tool]) -> Vec<Tool> {
    let renamed = |(tool, name): (&Tool, String)| {
        let mut tool = tool.clone();
        if let Some(raw) = tool.raw.pointer_mut("/function/name") {
            *raw = name.clone().into();
        }
        tool.function.name = name;
        tool
    };
    tools.iter().zip(names(tools)).map(renamed).collect()
}

/// An identifier for each tool, no two alike.
fn names(tools: &[Tool]) -> Vec<String> {
    let mut taken: Vec<String> = Vec::with_capacity(tools.len());
    for tool in tools {
        let wanted = identifier(&tool.function.name);
        let numbered = (2..).map(|number| format!("{wanted}_{number}"));
        let free = |name: &String| !taken.contains(name);
        let name = std::iter::once(wanted.clone()).chain(numbered).find(free).unwrap_or_default();
        taken.push(name);
    }
    taken
}

fn identifier(name: &str) -> String {
    if BUILT_IN.contains(&name) {
        return name.to_owned();
    }
    let spaced = name.replace([' ', '-', '.'], "_");
    let legal: String = spaced.chars().filter(|char| char.is_alphanumeric() || matches!(char, '_' | '$')).collect();
    match legal.chars().next() {
        None => "unnamed".to_owned(),
        Some(first) if first.is_numeric() => format!("_{legal}"),
        Some(_) => legal,
    }
}

struct Harmony {
    /// From the prompt's names to the client's.
    names: HashMap<String, String>,
    state: State,
}

enum State {
    /// Outside a frame, where a header may begin.
    Between,
    /// Text that stands in no frame.
    Stray,
    Header(String),
    Content,
    Thinking,
    Tool {
        header: String,
        recipient: String,
        body: String,
    },
}

pub(super) fn harmony(start: &Start) -> Box<dyn OutputParser> {
    let originals = start.tools.iter().map(|tool| tool.function.name.clone());
    let prefill = start.prefill();
    let state = match prefill {
        Some(last) if !last.content.is_empty() => State::Content,
        Some(last) if !last.thinking.is_empty() => State::Thinking,
        _ => State::Between,
    };
    let harmony = Harmony { names: names(start.tools).into_iter().zip(originals).collect(), state };
    Machine::boxed(harmony, Out::new(Space::default(), false))
}

impl Harmony {
    fn between(&mut self, input: &mut Input) -> bool {
        let rest = input.text().trim_start();
        if !input.ended && HEADS.iter().chain(&ENDS).any(|head| rest.len() < head.len() && head.starts_with(rest)) {
            return false;
        }
        self.state = if HEADS.iter().any(|head| rest.starts_with(head)) {
            State::Header(String::new())
        } else if let Some(end) = ENDS.iter().find(|end| rest.starts_with(**end)) {
            input.take_blanks();
            input.take(end.len());
            State::Between
        } else if rest.is_empty() {
            input.take_blanks();
            return false;
        } else {
            State::Stray
        };
        true
    }

    /// The frame that a header opens.
    fn open(&self, header: String) -> State {
        let words = header.replace("<|", " <|").replace("|>", "|> ");
        let recipient = words.split_whitespace().find_map(|word| word.strip_prefix("to="));
        if let Some(recipient) = recipient {
            let recipient = recipient.strip_prefix("functions.").unwrap_or(recipient);
            let recipient = self.names.get(recipient).map_or(recipient, String::as_str).to_owned();
            return State::Tool { header, recipient, body: String::new() };
        }
        let mut words = words.split_whitespace().skip_while(|word| *word != CHANNEL).skip(1);
        if words.next() == Some("analysis") { State::Thinking } else { State::Content }
    }

    fn tool(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let State::Tool { body, .. } = &mut self.state else {
            return false;
        };
        let tags = [ENDS[0], ENDS[1], ENDS[2], START, CHANNEL];
        let (text, tag) = input.until(&tags);
        body.push_str(&text);
        let Some(tag) = tag else { return false };
        if json::within_string(body) {
            body.push_str(tags[tag]);
            return true;
        }
        if tag >= ENDS.len() {
            input.put_back(tags[tag]);
        }
        self.end_tool(out);
        true
    }

    fn end_tool(&mut self, out: &mut Out) {
        let state = std::mem::replace(&mut self.state, State::Between);
        let State::Tool { header, recipient, body } = state else {
            return;
        };
        match json::arguments(&body) {
            Some(arguments) if !recipient.is_empty() => out.call(Call { name: recipient, arguments }),
            _ => out.content(&format!("{header}{MESSAGE}{body}")),
        }
    }
}

impl Format for Harmony {
    fn step(&mut self, input: &mut Input, out: &mut Out) -> bool {
        match &mut self.state {
            State::Between => self.between(input),
            State::Stray => {
                let (text, ended) = input.until_end(&ENDS, &[START, CHANNEL, MESSAGE]);
                out.content(&text);
                if ended {
                    self.state = State::Between;
                }
                ended
            }
            State::Header(header) => {
                let (text, tag) = input.until(&[MESSAGE, ENDS[0]]);
                header.push_str(&text);
                let Some(tag) = tag else { return false };
                let header = std::mem::take(header);
                if tag == 0 {
                    self.state = self.open(header);
                } else {
                    out.content(&header);
                    self.state = State::Between;
                }
                true
            }
            State::Content | State::Thinking => {
                let (text, ended) = input.until_end(&ENDS, &[START]);
                match self.state {
                    State::Thinking => out.thinking(&text),
                    _ => out.content(&text),
                }
                if ended {
                    self.state = State::Between;
                }
                ended
            }
            State::Tool { .. } => self.tool(input, out),
        }
    }

    fn finish(&mut self, input: &mut Input, out: &mut Out) -> bool {
        match &mut self.state {
            State::Between | State::Stray | State::Content | State::Thinking => return false,
            State::Header(header) => {
                out.content(header);
                self.state = State::Between;
            }
            State::Tool { body, .. } => {
                if json::within_string(body) {
                    input.end_at_first(&ENDS, body);
                }
                self.end_tool(out);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> Tool {
        let mut tool = Tool { raw: serde_json::json!({"function": {"name": name}}), ..Tool::default() };
        tool.function.name = name.to_owned();
        tool
    }

    #[test]
    fn tools_get_identifiers_and_keep_their_order() {
        let tools = ["get weather", "get-weather", "2nd", "größe!", "", "?", "browser.open", "browser.close", "python"]
            .map(tool);
        let renamed = rename_tools(&tools);
        let names: Vec<&str> = renamed.iter().map(|tool| tool.function.name.as_str()).collect();
        let want = [
            "get_weather",
            "get_weather_2",
            "_2nd",
            "größe",
            "unnamed",
            "unnamed_2",
            "browser.open",
            "browser_close",
            "python",
        ];
        assert_eq!(names, want);
        assert_eq!(renamed[1].raw["function"]["name"], "get_weather_2");
    }

    #[test]
    fn the_parser_knows_the_way_back() {
        let tools = [tool("get weather"), tool("get-weather")];
        let mut parser = harmony(&Start { tools: &tools, last: None, think: None });
        let text = "<|channel|>commentary to=functions.get_weather_2<|message|>{}";
        let mut pieces = parser.push(text).expect("no error");
        pieces.extend(parser.finish().expect("no error"));
        let [crate::prompt::Piece::ToolCall(call)] = &pieces[..] else { panic!("{pieces:?}") };
        assert_eq!(call.name, "get-weather");
    }
}
