//! What a Jinja chat template tells about the answers of its model.
//!
//! Nothing in a model's files says how it marks thinking and calls but the template, which writes past ones the same way.

use crate::prompt::json_calls::CallTags;
use crate::prompt::thinking::Tags;

/// How a model's answers are to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub thinking: Option<Tags>,
    pub calls: Calls,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// The template knows none, or they are of no form known here.
    #[default]
    None,
    /// JSON, in these tags.
    Json(CallTags),
    /// As this built-in parser reads them.
    Builtin(&'static str),
    /// The model puts all it writes into frames, which this built-in parser reads.
    Framed(&'static str),
}

/// Texts that all stand in a template, and how what its model writes is read.
const BUILTIN: [(&[&str], Calls); 7] = [
    (&["<|start|>", "<|channel|>", "<|message|>"], Calls::Framed("harmony")),
    (&["<|tool_call>", "<|channel>"], Calls::Framed("gemma4")),
    (&["<|START_ACTION|>", "<|START_THINKING|>"], Calls::Framed("cohere")),
    (&["<function=", "<parameter="], Calls::Builtin("qwen3-coder")),
    (&["<arg_key>", "<arg_value>"], Calls::Builtin("glm-4.7")),
    (&["<|tool_call_start|>", "<|tool_call_end|>"], Calls::Builtin("lfm2")),
    (&["<start_function_call>"], Calls::Builtin("functiongemma")),
];

/// A text in a template, and the tags of the calls that it tells of. The first that is found counts.
const JSON: [(&str, &[&str], &[&str]); 14] = [
    ("<tool_call>", &["<tool_call>"], &["</tool_call>"]),
    ("<tool_calls>", &["<tool_calls>"], &["</tool_calls>"]),
    ("[TOOL_CALLS]", &["[TOOL_CALLS]"], &["[/TOOL_CALLS]"]),
    ("<TOOLCALL>", &["<TOOLCALL>"], &["</TOOLCALL>"]),
    (
        "<｜tool▁calls▁begin｜>",
        &["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"],
        &["<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"],
    ),
    (
        "<|tool_calls_section_begin|>",
        &["<|tool_calls_section_begin|>", "<|tool_call_begin|>"],
        &["<|tool_call_end|>", "<|tool_calls_section_end|>"],
    ),
    ("<|tool_call|>", &["<|tool_call|>"], &["<|/tool_call|>", "<|end_of_text|>"]),
    ("<|tools_prefix|>", &["<|tools_prefix|>"], &["<|tools_suffix|>"]),
    ("<|tool_call_begin|>", &["<|tool_call_begin|>"], &["<|tool_call_end|>"]),
    ("<function_call>", &["<function_call>"], &["</function_call>"]),
    ("<functioncall>", &["<functioncall>"], &["</functioncall>"]),
    ("<function=", &["<function="], &["</function>"]),
    (" functools[", &["functools["], &[]),
    ("Action:", &["Action: ```json", "Action:```json"], &["```"]),
];

/// The tags of thinking; the first of which both are found count.
const THINKING: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
];

impl Answers {
    /// Reads a template's text.
    pub fn of(text: &str) -> Self {
        let tags = THINKING.iter().find(|(open, close)| text.contains(open) && text.contains(close));
        // some only cut past thinking away
        let cut = || text.contains("</think>").then_some(&THINKING[0]);
        let thinking = tags.or_else(cut).map(|(open, close)| Tags::new(open, close));
        Self { thinking, calls: Calls::of(text) }
    }
}

impl Calls {
    fn of(text: &str) -> Self {
        if let Some((_, calls)) = BUILTIN.iter().find(|(marks, _)| marks.iter().all(|mark| text.contains(mark))) {
            return calls.clone();
        }
        if !text.contains("tool") && !text.contains("function") {
            return Self::None;
        }
        if let Some((_, opens, closes)) = JSON.iter().find(|(mark, ..)| text.contains(mark)) {
            return Self::Json(CallTags::tagged(opens, closes));
        }
        if !text.contains("tool_call") && !text.contains("tools") {
            return Self::None;
        }
        // Llama 3 and what follows it: the answer is the call
        let python = text.contains("<|python_tag|>") || text.contains("<|start_header_id|>");
        let opens: &[&str] = if python { &["<|python_tag|>"] } else { &[] };
        Self::Json(CallTags { bare: Some('{'), ..CallTags::tagged(opens, &[]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::json_calls::JsonCallParser;
    use crate::prompt::testing::{Answer, all_cuts};
    use crate::types::{Tool, ToolFunction};

    fn read(template: &str, output: &str) -> Answer {
        let Calls::Json(tags) = Answers::of(template).calls else {
            panic!("{template}: {:?}", Answers::of(template));
        };
        let tool =
            Tool { function: ToolFunction { name: "get".to_owned(), ..ToolFunction::default() }, ..Tool::default() };
        all_cuts(output, || Box::new(JsonCallParser::new(tags.clone(), std::slice::from_ref(&tool))))
    }

    #[test]
    fn reads_calls_in_the_common_formats() {
        let json = r#"{"name": "get", "arguments": {"a": 1}}"#;
        let parameters = r#"{"name": "get", "parameters": {"a": 1}}"#;
        for (template, output) in [
            ("tools <tool_call>", format!("<tool_call>\n{json}\n</tool_call>")),
            ("tools <tool_calls>", format!("<tool_calls>[{json}]</tool_calls>")),
            ("tools [TOOL_CALLS]", format!("[TOOL_CALLS] [{json}]")),
            ("tools [TOOL_CALLS]", "[TOOL_CALLS]get[ARGS]{\"a\": 1}".to_owned()),
            ("tools [TOOL_CALLS]", "[TOOL_CALLS]get[CALL_ID]abc[ARGS]{\"a\": 1}".to_owned()),
            ("tools <TOOLCALL>", format!("<TOOLCALL>[{json}]</TOOLCALL>")),
            (
                "tools <｜tool▁calls▁begin｜>",
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n```json\n{\"a\": 1}\n```\
                 <｜tool▁call▁end｜><｜tool▁calls▁end｜>"
                    .to_owned(),
            ),
            (
                "tools <｜tool▁calls▁begin｜>",
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
                    .to_owned(),
            ),
            (
                "tools <|tool_calls_section_begin|>",
                "<|tool_calls_section_begin|><|tool_call_begin|>functions.get:0<|tool_call_argument_begin|>{\"a\": 1}\
                 <|tool_call_end|><|tool_calls_section_end|>"
                    .to_owned(),
            ),
            ("tools <|tool_call|>", format!("<|tool_call|>[{json}]<|/tool_call|>")),
            ("tools <|tools_prefix|>", "<|tools_prefix|>[{\"get\": {\"a\": 1}}]<|tools_suffix|>".to_owned()),
            ("tools <function_call>", format!("<function_call> {json}</function_call>")),
            ("functions <function=", "<function=get>{\"a\": 1}</function>".to_owned()),
            ("tools: functools[", format!(" functools[{json}]")),
            (
                "tools Action: ```json",
                "Action: ```json\n[\n {\"tool_name\": \"get\", \"parameters\": {\"a\": 1}}\n]```".to_owned(),
            ),
            ("tools <|start_header_id|>", parameters.to_owned()),
            ("tools <|python_tag|>", format!("<|python_tag|>{parameters}")),
            ("tools and tool_calls", json.to_owned()),
        ] {
            let answer = read(template, &output);
            assert_eq!((answer.calls.as_str(), answer.content.trim()), ("get{\"a\":1}", ""), "{template}: {output}");
        }
    }

    #[test]
    fn two_calls_and_text() {
        let deepseek = "Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get<｜tool▁sep｜>{}<｜tool▁call▁end｜>\n\
                        <｜tool▁call▁begin｜>get<｜tool▁sep｜>{\"b\": 2}<｜tool▁call▁end｜><｜tool▁calls▁end｜> Done.";
        assert_eq!(read("tools <｜tool▁calls▁begin｜>", deepseek), Answer::new("Hm.Done.", "", "get{} get{\"b\":2}"));
        assert_eq!(read("tools <|python_tag|>", "Plain {\"a\": 1}"), Answer::content("Plain {\"a\": 1}"));
    }

    #[test]
    fn knows_what_it_does_not_know() {
        assert_eq!(Answers::of("{{ messages }}"), Answers::default());
        assert_eq!(Answers::of("x.split('</think>')").thinking, Some(Tags::new("<think>", "</think>")));
        assert_eq!(Answers::of("tools <function= <parameter=").calls, Calls::Builtin("qwen3-coder"));
        assert_eq!(Answers::of("tools <arg_key> <arg_value>").calls, Calls::Builtin("glm-4.7"));
    }
}
