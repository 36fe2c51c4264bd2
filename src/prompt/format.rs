//! How one model is spoken to: what renders its prompts and what reads its answers.
//!
//! The one entry for all who have a conversation and want a prompt.

use std::borrow::Cow;

use super::choose::{Abilities, prefers_jinja};
use super::go_prompt::GoPrompt;
use super::jinja::{Calls, JinjaPrompt};
use super::json_calls::{CallTags, JsonCallParser};
use super::thinking::{Tags, ThinkingParser};
use super::{Conversation, OutputParser, ParseError, Piece, PromptError, Rendered, builtin, go_tags, history};
use crate::types::{Role, Think, ThinkLevel};

/// What a model's files and its configuration say about its format.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelTexts<'a> {
    /// The template layer.
    pub go_template: Option<&'a str>,
    /// The chat template in the weights.
    pub jinja: Option<&'a str>,
    /// Names in the configuration; empty when it has none.
    pub renderer: &'a str,
    pub parser: &'a str,
    /// The model's family, as the configuration writes it.
    pub family: &'a str,
    /// The model's name and its count of parameters, by which some formats differ.
    pub name: &'a str,
    pub parameters: u64,
    /// The texts of the special tokens, empty when it has none.
    pub bos: &'a str,
    pub eos: &'a str,
    /// `OLLAMA_GO_TEMPLATE`, when it is set.
    pub go_wanted: Option<bool>,
}

/// A model's format.
#[derive(Debug)]
pub struct Format {
    renderer: Renderer,
    /// A built-in parser's name; empty when the template tells how answers look.
    parser: String,
    /// Kept beside another renderer for what belongs between two texts.
    go: Option<GoPrompt>,
    abilities: Abilities,
    /// Past answers are stripped of thinking that stands in their text.
    strips: bool,
}

#[derive(Debug)]
enum Renderer {
    Builtin(String),
    Go,
    Jinja(Box<JinjaPrompt>),
}

const HARMONY: &str = "harmony";

/// Where in an answer a form that is asked for begins to hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// The text before the answer proper; `None` when the answer begins with it.
    pub after: Option<String>,
    /// Every answer has that text, whether it thinks or not.
    pub framed: bool,
    /// Texts that may stand in the answer's place, and begin a call. None without tools.
    pub calls: Vec<String>,
    /// `{` or `[`: calls may be bare JSON, one or a list of them.
    pub bare: Option<char>,
    /// Names that a bare call may have.
    pub tools: Vec<String>,
}

impl Format {
    /// # Errors
    /// When the template that is to be used cannot be read.
    pub fn of(texts: &ModelTexts<'_>) -> Result<Self, PromptError> {
        let go = texts.go_template.map(GoPrompt::parse).transpose()?;
        let jinja = texts.jinja.filter(|text| !text.trim().is_empty());
        let gpt_oss = matches!(texts.family, "gptoss" | "gpt-oss");
        let harmony =
            gpt_oss && texts.go_template.is_some_and(|text| text.contains("<|start|>") && text.contains("<|end|>"));
        let parser = if texts.parser.is_empty() && harmony { HARMONY } else { texts.parser };

        let by_go = |go: &GoPrompt| match (texts.go_wanted, jinja) {
            (_, None) | (Some(true), _) => true,
            (Some(false), Some(_)) => harmony || !texts.parser.is_empty(),
            (None, Some(jinja)) => harmony || !texts.parser.is_empty() || !prefers_jinja(jinja, go),
        };
        let renderer = match (&go, jinja) {
            _ if texts.renderer == "gemma4" => {
                Renderer::Builtin(builtin::gemma4(texts.name, texts.parameters).to_owned())
            }
            _ if !texts.renderer.is_empty() => Renderer::Builtin(texts.renderer.to_owned()),
            (Some(go), _) if by_go(go) => Renderer::Go,
            (_, Some(jinja)) => Renderer::Jinja(Box::new(JinjaPrompt::parse(jinja, texts.bos, texts.eos)?)),
            _ => Renderer::Go,
        };
        let go = match renderer {
            Renderer::Go if go.is_none() => Some(GoPrompt::parse("{{ .Prompt }}")?),
            _ => go,
        };
        let base = texts.name.rsplit('/').next().unwrap_or_default().split(':').next();
        let strips = texts.family == "qwen3" || base == Some("deepseek-r1");
        let mut format = Self { renderer, parser: parser.to_owned(), go, abilities: Abilities::default(), strips };
        format.abilities = format.find_abilities(jinja.unwrap_or_default(), gpt_oss);
        Ok(format)
    }

    /// The format of a Go template that a request brings along.
    ///
    /// # Errors
    /// When Go would refuse the template.
    pub fn of_template(text: &str) -> Result<Self, PromptError> {
        Self::of(&ModelTexts { go_template: Some(text), ..ModelTexts::default() })
    }

    fn find_abilities(&self, jinja: &str, gpt_oss: bool) -> Abilities {
        let go = self.go.as_ref().map(Abilities::of_go).unwrap_or_default();
        let own = match &self.renderer {
            Renderer::Builtin(_) => Abilities { insert: go.insert, ..Abilities::default() },
            Renderer::Go => go,
            Renderer::Jinja(prompt) => {
                let thinking = prompt.answers().thinking.is_some();
                Abilities::of_jinja(jinja).or(Abilities { insert: go.insert, thinking, ..Abilities::default() })
            }
        };
        own.or(builtin::abilities(&self.parser)).or(Abilities { thinking: gpt_oss, ..Abilities::default() })
    }

    /// What the model can be asked for.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Whether the model's own Jinja template renders its prompts.
    pub fn is_jinja(&self) -> bool {
        matches!(self.renderer, Renderer::Jinja(_))
    }

    /// # Errors
    /// When the template or the renderer cannot take this conversation.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let mut given = Cow::Borrowed(conversation);
        if self.strips {
            history::without_thinking(&mut given.to_mut().messages);
        }
        if self.parser == HARMONY && given.think == Some(Think::Level(ThinkLevel::Max)) {
            given.to_mut().think = Some(Think::Level(ThinkLevel::High));
        }
        match &self.renderer {
            Renderer::Builtin(name) => builtin::render(name, &given),
            Renderer::Go => self.go()?.render(&given),
            Renderer::Jinja(prompt) => prompt.render(&given),
        }
    }

    /// The prompt for what belongs between two texts.
    ///
    /// # Errors
    /// When the model has no Go template for that, or it fails.
    pub fn render_suffix(&self, prompt: &str, suffix: &str, think: Option<Think>) -> Result<String, PromptError> {
        self.go()?.render_suffix(prompt, suffix, think)
    }

    fn go(&self) -> Result<&GoPrompt, PromptError> {
        self.go.as_ref().ok_or_else(|| PromptError("the model has no template for this".to_owned()))
    }

    /// The beginning-of-sequence text that a prompt may begin with. Must go when the tokenizer adds that token itself.
    pub fn leading_bos(&self) -> Option<&str> {
        match &self.renderer {
            Renderer::Builtin(name) => builtin::leading_bos(name),
            Renderer::Go => None,
            Renderer::Jinja(prompt) => prompt.leading_bos(),
        }
    }

    /// What reads the answer to a prompt of [`Format::render`].
    pub fn parser(&self, conversation: &Conversation, rendered: &Rendered) -> Box<dyn OutputParser> {
        let think = conversation.think;
        if let Some(parser) = builtin::parser(&self.parser, conversation, think) {
            return parser;
        }
        let calls = self.calls();
        if let Calls::Framed(name) = calls
            && let Some(parser) = builtin::parser(name, conversation, think)
        {
            return parser;
        }
        let thinking = self.thinking_tags().map(|tags| {
            let inside = tags.opened_by(&rendered.text);
            ThinkingParser::new(tags, inside)
        });
        let calls: Option<Box<dyn OutputParser>> = match calls {
            _ if conversation.tools.is_empty() => None,
            Calls::None | Calls::Framed(_) => None,
            Calls::Json(tags) => Some(Box::new(JsonCallParser::new(tags, &conversation.tools))),
            // the thinking is taken off before
            Calls::Builtin(name) => builtin::parser(name, conversation, Some(Think::Off)),
        };
        Box::new(Reader { thinking, calls })
    }

    /// Where an answer to a prompt of [`Format::render`] can be held to a form.
    pub fn hold(&self, conversation: &Conversation, rendered: &Rendered) -> Hold {
        let on = conversation.think.is_some_and(Think::is_on);
        let calls = self.calls();
        let parser = match calls {
            Calls::Framed(name) => name,
            _ => self.parser.as_str(),
        };
        let opened = |close: &str| close == "</think>" && rendered.text.trim_end().ends_with("<think>");
        let framed =
            builtin::is_framed(parser) && conversation.messages.last().is_none_or(|last| last.role != *Role::ASSISTANT);
        let after = match (builtin::end_of_thinking(parser), self.thinking_tags()) {
            (Some(end), _) => Some(end).filter(|end| on || framed || opened(end)).map(str::to_owned),
            (None, Some(tags)) if on || tags.opened_by(&rendered.text) => Some(tags.close),
            _ => None,
        };
        let tools = conversation.tools.iter().map(|tool| tool.function.name.clone());
        let mut hold = Hold { after, framed, tools: tools.collect(), ..Hold::default() };
        if !conversation.tools.is_empty() {
            match (builtin::begin_calls(parser), calls) {
                ("", Calls::Json(tags)) => (hold.calls, hold.bare) = (tags.opens, tags.bare),
                ("", Calls::Builtin(name)) => hold.calls.push(builtin::begin_calls(name).to_owned()),
                ("", _) => {}
                (begin, _) => hold.calls.push(begin.to_owned()),
            }
        }
        hold
    }

    fn thinking_tags(&self) -> Option<Tags> {
        match (&self.renderer, &self.go) {
            (Renderer::Jinja(prompt), _) => prompt.answers().thinking.clone(),
            (_, Some(go)) => go_tags::thinking(go.template().nodes()),
            _ => None,
        }
    }

    fn calls(&self) -> Calls {
        match (&self.renderer, &self.go) {
            (Renderer::Jinja(prompt), _) => prompt.answers().calls.clone(),
            (_, Some(go)) if go.uses("tools") => Calls::Json(go_tags::calls(go.template().nodes())),
            _ => Calls::None,
        }
    }

    /// Special tokens whose text must reach the parser.
    pub fn preserved(&self) -> Vec<String> {
        let named = |parser: &str| builtin::preserved(parser).iter().map(|text| (*text).to_owned());
        let mut texts: Vec<String> = named(&self.parser).collect();
        texts.extend(self.thinking_tags().into_iter().flat_map(|Tags { open, close }| [open, close]));
        match self.calls() {
            Calls::None => {}
            Calls::Json(CallTags { opens, closes, .. }) => {
                texts.extend(opens.into_iter().chain(closes));
                texts.extend(SEPARATORS.map(str::to_owned));
            }
            Calls::Builtin(name) | Calls::Framed(name) => texts.extend(named(name)),
        }
        texts.retain(|text| !text.is_empty());
        texts
    }
}

/// Special tokens within calls, between a tool's name and what comes beside it.
const SEPARATORS: [&str; 4] = ["<｜tool▁sep｜>", "<|tool_call_argument_begin|>", "[ARGS]", "[CALL_ID]"];

/// Takes the thinking off, and gives what is left to the reader of calls.
struct Reader {
    thinking: Option<ThinkingParser>,
    calls: Option<Box<dyn OutputParser>>,
}

impl Reader {
    fn read_calls(&mut self, pieces: Vec<Piece>) -> Result<Vec<Piece>, ParseError> {
        let Some(calls) = &mut self.calls else {
            return Ok(pieces);
        };
        let mut out = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Content(text) => out.extend(calls.push(&text)?),
                other => out.push(other),
            }
        }
        Ok(out)
    }
}

impl OutputParser for Reader {
    fn push(&mut self, text: &str) -> Result<Vec<Piece>, ParseError> {
        let pieces = match &mut self.thinking {
            Some(thinking) => thinking.push(text)?,
            None if text.is_empty() => Vec::new(),
            None => vec![Piece::Content(text.to_owned())],
        };
        self.read_calls(pieces)
    }

    fn finish(&mut self) -> Result<Vec<Piece>, ParseError> {
        let pieces = self.thinking.as_mut().map_or(Ok(Vec::new()), OutputParser::finish)?;
        let mut out = self.read_calls(pieces)?;
        if let Some(calls) = &mut self.calls {
            out.extend(calls.finish()?);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::testing::{Answer, all_cuts};
    use crate::types::{Message, Tool, ToolFunction};

    const GO: &str = "{{ range .Messages }}[{{ .Role }}]{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ .Content }}\
                      {{ if .ToolCalls }}<c>{{ json .ToolCalls }}</c>{{ end }}{{ end }}{{ .Tools }}";
    const JINJA: &str = "{{ tools }}{% for m in messages %}({{ m.role }}){{ m.content }}{% endfor %}<think>\n{# </think> <tool_call> #}";

    fn asked(think: Option<Think>) -> Conversation {
        let tool =
            Tool { function: ToolFunction { name: "get".to_owned(), ..ToolFunction::default() }, ..Tool::default() };
        Conversation { messages: vec![Message::text(Role::USER, "q")], tools: vec![tool], think }
    }

    fn read(format: &Format, output: &str) -> Answer {
        let conversation = asked(None);
        let rendered = format.render(&conversation).unwrap();
        all_cuts(output, || format.parser(&conversation, &rendered))
    }

    #[test]
    fn thinking_then_text_then_calls() {
        let go = Format::of_template(GO).unwrap();
        assert!(go.abilities() == Abilities { tools: true, thinking: true, insert: false });
        let output = "<t>why</t>\nHm.<c>{\"name\":\"get\",\"arguments\":{\"a\":1}}</c>";
        assert_eq!(read(&go, output), Answer::new("Hm.", "why", "get{\"a\":1}"));
        let jinja = Format::of(&ModelTexts { jinja: Some(JINJA), ..ModelTexts::default() }).unwrap();
        let output = "why</think>\nHm.<tool_call>{\"name\":\"get\",\"arguments\":{\"a\":1}}</tool_call>";
        assert_eq!(read(&jinja, output), Answer::new("Hm.", "why", "get{\"a\":1}"));
        assert!(jinja.preserved().contains(&"</think>".to_owned()));
    }

    #[test]
    fn where_a_form_holds() {
        let hold = |format: &Format, think| format.hold(&asked(think), &format.render(&asked(think)).unwrap());
        let go = Format::of_template(GO).unwrap();
        assert_eq!((hold(&go, None).after, hold(&go, Some(Think::On)).after.as_deref()), (None, Some("</t>")));
        assert_eq!(hold(&go, None).calls, ["<c>"]);
        let jinja = Format::of(&ModelTexts { jinja: Some(JINJA), ..ModelTexts::default() }).unwrap();
        assert_eq!(hold(&jinja, None).after.as_deref(), Some("</think>"));
        assert_eq!(hold(&jinja, None).calls, ["<tool_call>"]);
        let named = |parser| Format::of(&ModelTexts { parser, ..ModelTexts::default() }).unwrap();
        assert_eq!(hold(&named("ministral"), None).calls, ["[TOOL_CALLS]"]);
        let framed = hold(&named("harmony"), Some(Think::Off));
        assert_eq!((framed.framed, framed.after.as_deref()), (true, Some("<|channel|>final<|message|>")));
        assert_eq!(hold(&named("gemma4"), Some(Think::Off)).after, None);
        let bare = "{{ .Tools }}{{ range .Messages }}{{ if .ToolCalls }}{{ json .ToolCalls }}{{ end }}{{ end }}";
        assert_eq!(hold(&Format::of_template(bare).unwrap(), None).bare, Some('{'));
    }

    #[test]
    fn the_right_one_renders() {
        let both = ModelTexts { go_template: Some("{{ .Prompt }}"), jinja: Some(JINJA), ..ModelTexts::default() };
        let text = |texts: &ModelTexts<'_>| {
            let conversation = Conversation { tools: Vec::new(), ..asked(None) };
            Format::of(texts).unwrap().render(&conversation).unwrap().text
        };
        assert_eq!(text(&both), "None(user)q<think>\n");
        assert_eq!(text(&ModelTexts { go_wanted: Some(true), ..both }), "q");
        assert_eq!(text(&ModelTexts { go_template: Some(GO), ..both }), "[user]q[]");
        assert_eq!(text(&ModelTexts { go_template: Some(GO), go_wanted: Some(false), ..both }), "None(user)q<think>\n");
        assert_eq!(text(&ModelTexts::default()), "q");
        let unknown = Format::of(&ModelTexts { renderer: "nobody", ..both }).unwrap();
        assert_eq!(unknown.render(&asked(None)).unwrap_err().to_string(), "unknown renderer \"nobody\"");
    }

    #[test]
    fn harmony_knows_no_max() {
        let template = "<|start|>{{ range .Messages }}{{ end }}{{ .ThinkLevel }}<|end|>";
        let texts = ModelTexts { go_template: Some(template), family: "gptoss", ..ModelTexts::default() };
        let format = Format::of(&texts).unwrap();
        let max = asked(Some(Think::Level(ThinkLevel::Max)));
        assert_eq!(format.render(&max).unwrap().text, "<|start|>high<|end|>");
        assert!(format.abilities().thinking);
    }
}
