//! Which of the formats with a name a chat template writes.
//!
//! Ollama compares the template's text with texts that it keeps. Here what both write is compared: a few conversations go
//! through the chat template and through each format's Go template, and a format is found where all come out the same.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::choose::Abilities;
use super::go_prompt::GoPrompt;
use super::jinja::{Calls, JinjaPrompt};
use super::named::{NAMED, Named};
use super::{Conversation, PromptError};
use crate::types::{Message, Role, Think, Tool};

/// No template of these formats is longer, has more loops, or needs one of these words.
const LONGEST: usize = 16 << 10;
const LOOPS: usize = 2;
const UNNEEDED: [&str; 6] = ["range", "macro", "recursive", "call", "include", "import"];
/// A template that takes longer than this is none of them: it may come with a file from anywhere.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a model's file says of its format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTexts {
    /// The chat template.
    pub jinja: String,
    /// The texts of the special tokens, empty when it has none.
    pub bos: String,
    pub eos: String,
    /// Whether the tokenizer puts the first of them in front by itself; `None` when the file does not say.
    pub adds_bos: Option<bool>,
}

/// The format of these texts, if a Go template does all that the chat template does.
pub fn detect(texts: &ChatTexts) -> Option<&'static Named> {
    if !is_simple(&texts.jinja) || Abilities::of_jinja(&texts.jinja) != Abilities::default() {
        return None;
    }
    let texts = texts.clone();
    within(PATIENCE, move || find(&texts)).flatten()
}

fn is_simple(jinja: &str) -> bool {
    let loops = jinja.split("{%").filter(|block| block.trim_start_matches(['-', '+']).trim_start().starts_with("for"));
    jinja.len() <= LONGEST && loops.count() <= LOOPS && !UNNEEDED.iter().any(|word| jinja.contains(word))
}

/// What `work` gives, if it does in time. Nothing can end a template that is being rendered, so `work` goes on by itself.
fn within<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::channel();
    let work = move || drop(send.send(work()));
    thread::Builder::new().name("detect".into()).spawn(work).ok()?;
    receive
        .recv_timeout(patience)
        .inspect_err(|_| tracing::warn!("the format of a chat template was not found in time"))
        .ok()
}

fn find(texts: &ChatTexts) -> Option<&'static Named> {
    let prompt = JinjaPrompt::parse(&texts.jinja, &texts.bos, &texts.eos).ok()?;
    if prompt.answers().thinking.is_some() || prompt.answers().calls != Calls::None {
        return None;
    }
    let render = |conversation: &Conversation| Ok::<_, PromptError>(prompt.render(conversation)?.text);
    let probes = probes();
    let written = probes.iter().map(render).collect::<Result<Vec<_>, _>>().ok()?;
    // What no Go template of these formats heeds must mean nothing to the chat template either.
    for (probe, written) in probes.iter().zip(&written) {
        if !variations(probe).iter().all(|more| render(more).as_ref() == Ok(written)) {
            return None;
        }
    }
    let starts = |text: &String| !texts.bos.is_empty() && text.starts_with(&texts.bos);
    if texts.adds_bos == Some(false) && written.iter().any(starts) {
        return None;
    }
    let plain = |text: &String| text.strip_prefix(&texts.bos).unwrap_or(text).trim().to_owned();
    let written: Vec<String> = written.iter().map(plain).collect();
    let fits = |named: &Named| {
        let Ok(go) = GoPrompt::parse(named.template) else { return false };
        let same = |(probe, text): (&Conversation, &String)| go.render(probe).is_ok_and(|own| own.text.trim() == text);
        named.system.is_none_or(|taught| taught == prompt.takes_system()) && probes.iter().zip(&written).all(same)
    };
    NAMED.iter().find(|named| fits(named))
}

/// A question; one with a system message; several turns without and with one.
fn probes() -> [Conversation; 4] {
    let system = Message::text(Role::SYSTEM, "Answer in One word.");
    let question = |text: &str| Message::text(Role::USER, text);
    let answer = |text: &str| Message::text(Role::ASSISTANT, text);
    let turns =
        [question("Whose is it?"), answer("Hers."), question("And That?"), answer("his"), question("Well 3 then?")];
    let of = |messages: &[Message]| Conversation { messages: messages.to_vec(), ..Conversation::default() };
    [of(&turns[..1]), of(&[system.clone(), turns[0].clone()]), of(&turns[..3]), of(&[&[system][..], &turns].concat())]
}

/// The same with tools, with thinking asked for and forbidden, and with answers that were thought about.
fn variations(probe: &Conversation) -> [Conversation; 4] {
    let tool = json!({ "type": "function", "function": { "name": "look", "description": "Looks.", "parameters": {
        "type": "object", "properties": { "at": { "type": "string" } } } } });
    let tool = Tool { raw: tool, ..Tool::default() };
    let mut thought = probe.clone();
    for message in thought.messages.iter_mut().filter(|message| message.role == Role::ASSISTANT) {
        message.thinking = "Hm.".to_owned();
    }
    [
        Conversation { tools: vec![tool], ..probe.clone() },
        Conversation { think: Some(Think::On), ..probe.clone() },
        Conversation { think: Some(Think::Off), ..probe.clone() },
        thought,
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Messages one after the other, each in the frame of its role; what follows opens the answer.
    fn frames(system: &str, user: &str, assistant: &str, open: &str) -> String {
        let frame = |text: &str| text.replace("TEXT", "{{ message['content'] }}");
        format!(
            "{{{{ bos_token }}}}{{% for message in messages %}}{{% if message['role'] == 'system' %}}{}{{% elif message['role'] \
             == 'user' %}}{}{{% else %}}{}{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}{open}{{% endif %}}",
            frame(system),
            frame(user),
            frame(assistant)
        )
    }

    fn name(jinja: &str) -> &'static str {
        name_with(jinja, "<s>", "</s>")
    }

    fn name_with(jinja: &str, bos: &str, eos: &str) -> &'static str {
        let texts = ChatTexts { jinja: jinja.to_owned(), bos: bos.to_owned(), eos: eos.to_owned(), adds_bos: None };
        detect(&texts).map_or("", |named| named.name)
    }

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}\
                          {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    const LLAMA3: &str = "{% for m in messages %}{% set part = '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\n\n' ~ m.content | trim ~ \
                          '<|eot_id|>' %}{% if loop.first %}{% set part = bos_token ~ part %}{% endif %}{{ part }}{% endfor %}\
                          {{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}";
    const GEMMA: &str = "{{ bos_token }}{% if messages[0].role == 'system' %}REFUSE{% endif %}{% for m in messages %}{% set who = 'model' if \
                         m.role == 'assistant' else m.role %}{{ '<start_of_turn>' + who + '\n' + (first if loop.first else '') + m.content | trim \
                         + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";
    const ZEPHYR: &str = "{% for m in messages %}\n{% if m.role == 'user' %}\n{{ '<|user|>\n' + m.content + eos_token }}\n\
                          {% elif m.role == 'system' %}\n{{ '<|system|>\n' + m.content + eos_token }}\n{% else %}\n\
                          {{ '<|assistant|>\n' + m.content + eos_token }}\n{% endif %}\n\
                          {% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
    const LLAMA2: &str = "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set first = '<<SYS>>\n' ~ messages[0].content ~ \
                          '\n<</SYS>>\n\n' %}{% else %}{% set rest = messages %}{% set first = '' %}{% endif %}{% for m in rest %}\
                          {% if m.role == 'user' %}{{ bos_token ~ '[INST] ' ~ (first if loop.first else '') ~ m.content ~ ' [/INST]' }}\
                          {% else %}{{ ' ' ~ m.content ~ ' ' ~ eos_token }}{% endif %}{% endfor %}";

    fn gemma() -> String {
        GEMMA
            .replace("REFUSE", "{{ raise_exception('no system messages') }}")
            .replace("(first if loop.first else '') + ", "")
    }

    fn gemma3() -> String {
        let first = "{% set first = '' %}{% set turns = messages %}{% if messages[0].role == 'system' %}\
                     {% set first = messages[0].content ~ '\n\n' %}{% set turns = messages[1:] %}{% endif %}";
        let rest = GEMMA
            .replace("{% if messages[0].role == 'system' %}REFUSE{% endif %}", "")
            .replace("in messages", "in turns");
        format!("{first}{rest}")
    }

    #[test]
    fn formats_are_known_by_what_they_write() {
        let command = |who: &str| format!("<|START_OF_TURN_TOKEN|><|{who}_TOKEN|>TEXT<|END_OF_TURN_TOKEN|>");
        for (expected, jinja) in [
            ("chatml", CHATML.to_owned()),
            ("llama3-instruct", LLAMA3.to_owned()),
            ("gemma-instruct", gemma()),
            ("gemma3-instruct", gemma3()),
            ("zephyr", ZEPHYR.to_owned()),
            ("llama2-chat", LLAMA2.to_owned()),
            ("mistral-instruct", frames("{{ raise_exception('x') }}", "[INST] TEXT [/INST]", " TEXT{{ eos_token }}", "")),
            ("mistral-instruct", frames("{{ raise_exception('x') }}", "[INST] TEXT [/INST]", "TEXT{{ eos_token }} ", "")),
            (
                "alfred",
                frames(
                    "<start_system>TEXT<end_message>",
                    "<start_user>TEXT<end_message>",
                    "<start_assistant>TEXT<end_message>",
                    "<start_assistant>",
                ),
            ),
            ("alpaca", frames("TEXT\n\n", "### Instruction:\nTEXT\n\n", "### Response:\nTEXT\n\n", "### Response:\n")),
            ("chatqa", frames("System: TEXT\n\n", "User: TEXT\n\n", "Assistant: TEXT\n\n", "Assistant:")),
            (
                "codellama-70b-instruct",
                frames(
                    "Source: system\n\n TEXT <step> ",
                    "Source: user\n\n TEXT <step> ",
                    "Source: assistant\n\n TEXT <step> ",
                    "Source: assistant\nDestination: user\n\n ",
                ),
            ),
            (
                "command-r",
                frames(
                    &command("SYSTEM"),
                    &command("USER"),
                    &command("CHATBOT"),
                    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
                ),
            ),
            ("falcon-instruct", frames("TEXT", "\n\nUser: TEXT", "\n\nAssistant: TEXT", "\n\nAssistant:")),
            ("falcon-instruct", frames("TEXT\n", "User: TEXT\n", "Assistant: TEXT\n", "Assistant:")),
            ("granite-instruct", frames("System:\nTEXT\n\n", "Question:\nTEXT\n\n", "Answer:\nTEXT\n\n", "Answer:\n")),
            ("magicoder", frames("TEXT\n\n", "@@ Instruction\nTEXT\n\n", "@@ Response\nTEXT\n\n", "@@ Response\n")),
            (
                "openchat",
                "{{ bos_token }}{% for m in messages %}{{ 'GPT4 Correct ' + m.role.title() + ': ' + m.content + '<|end_of_turn|>' }}\
                 {% endfor %}GPT4 Correct Assistant:"
                    .to_owned(),
            ),
            (
                "phi-3",
                "{% for m in messages %}{{ '<|' ~ m.role ~ '|>\n' ~ m.content ~ '<|end|>\n' }}{% endfor %}{{ '<|assistant|>\n' }}".to_owned(),
            ),
            ("phi-3", frames("", "<|user|>\nTEXT<|end|>\n", "<|assistant|>\nTEXT<|end|>\n", "<|assistant|>\n")),
            (
                "solar-instruct",
                frames("### System:\nTEXT\n\n", "### User:\nTEXT\n\n", "### Assistant:\nTEXT", "### Assistant:\n"),
            ),
            (
                "starcoder2-instruct",
                frames("TEXT\n\n", "### Instruction\nTEXT\n\n", "### Response\nTEXT<|endoftext|>\n\n", "### Response\n"),
            ),
            ("vicuna", frames("TEXT ", "USER: TEXT ", "ASSISTANT: TEXT</s>", "ASSISTANT:")),
        ] {
            assert_eq!(name(&jinja), expected, "{jinja}");
        }
    }

    #[test]
    fn what_writes_anything_else_is_none_of_them() {
        assert_eq!(name_with(ZEPHYR, "<s>", "<|stop|>"), "", "the end of a turn is the model's own");
        assert_eq!(name_with(LLAMA3, "<|begin_of_text|>", ""), "llama3-instruct");
        for (what, jinja) in [
            (
                "a system message of its own",
                format!(
                    "{{% if messages[0].role != 'system' %}}<|im_start|>system\nBe good.<|im_end|>\n{{% endif %}}{CHATML}"
                ),
            ),
            ("another frame", CHATML.replace("<|im_end|>", "<|im_stop|>")),
            ("a blank more within", CHATML.replace("+ '\n' + m['content']", "+ '\n ' + m['content']")),
            ("only the last question", CHATML.replace("in messages %}", "in messages[-1:] %}")),
            ("text that is changed", CHATML.replace("m['content'] +", "m['content'] | lower +")),
            (
                "answers left out",
                CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'assistant' %}"),
            ),
            ("no place for the answer", CHATML.replace("assistant\n", "")),
            ("tools", format!("{CHATML}{{% if tools %}}{{{{ tools }}}}{{% endif %}}")),
            (
                "tools by another name",
                format!(
                    "{{% set given = 'to' ~ 'ols' %}}{{% for t in self[given] or [] %}}x{{% endfor %}}{CHATML}{{{{ builtin_tools }}}}"
                ),
            ),
            ("thinking", format!("{CHATML}{{% if enable_thinking %}}Think first.{{% endif %}}")),
            ("past thinking", CHATML.replace("m['content'] +", "(m.reasoning_content or '') + m['content'] +")),
            ("nothing at all", "x".to_owned()),
            ("no Jinja", "{% if %}".to_owned()),
        ] {
            assert_eq!(name(&jinja), "", "{what}: {jinja}");
        }
    }

    #[test]
    fn a_bos_that_only_the_chat_template_writes_stays() {
        let texts =
            |adds_bos| ChatTexts { jinja: LLAMA3.to_owned(), bos: "<b>".to_owned(), eos: String::new(), adds_bos };
        assert!(detect(&texts(Some(true))).is_some() && detect(&texts(Some(false))).is_none());
        let bare = ChatTexts { jinja: CHATML.to_owned(), ..texts(Some(false)) };
        assert!(detect(&bare).is_some());
    }

    #[test]
    fn a_template_that_may_not_end_is_left() {
        let loops = "{% for a in bos_token %}".repeat(3) + &"{% endfor %}".repeat(3);
        for long in [loops, " ".repeat(LONGEST), "{% macro x() %}{% endmacro %}".to_owned()] {
            assert_eq!(name(&(CHATML.to_owned() + &long)), "");
        }
        let long = Duration::from_secs(600);
        assert_eq!(within(long, || 1), Some(1));
        let began = Instant::now();
        assert_eq!(within(Duration::from_millis(1), move || thread::sleep(long)), None);
        assert!(began.elapsed() < long / 2);
    }
}
