//! A developer's messages: OpenAI's newer name for what the system says. Few models were taught it, and most formats write
//! nothing at all for it.

use super::format::Format;
use super::{Conversation, turns};
use crate::types::{Message, Role};

const DEVELOPER: &str = "developer";

/// The same conversation. Where `format` would lose what a developer says, it is the system's, and with all else that the
/// system says at the beginning it is one message: many formats have room for no more.
pub fn as_system(format: &Format, messages: Vec<Message>) -> Vec<Message> {
    let is_developer = |message: &Message| message.role == DEVELOPER;
    if !messages.iter().any(is_developer) || shows(format, DEVELOPER) || !shows(format, Role::SYSTEM) {
        return messages;
    }
    let is_leading = |message: &&Message| is_developer(message) || message.role == Role::SYSTEM;
    let leading = messages.iter().take_while(is_leading).count();
    let is_one = messages[..leading].iter().any(is_developer);
    let system = |message: Message| match is_developer(&message) {
        true => Message { role: Role::new(Role::SYSTEM), ..message },
        false => message,
    };
    let mut messages: Vec<Message> = messages.into_iter().map(system).collect();
    if is_one {
        let rest = messages.split_off(leading);
        messages = turns::merge(messages);
        messages.extend(rest);
    }
    messages
}

/// Whether a prompt has the text of a message of that role, which begins a conversation.
fn shows(format: &Format, role: &str) -> bool {
    const NEEDLE: &str = "hay5tack";
    let messages = vec![Message::text(role, NEEDLE), Message::text(Role::USER, "x")];
    let rendered = format.render(&Conversation { messages, ..Conversation::default() });
    rendered.is_ok_and(|rendered| rendered.text.contains(NEEDLE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::format::ModelTexts;

    fn seen(texts: &ModelTexts<'_>, messages: &[(&str, &str)]) -> Vec<(String, String)> {
        let messages = messages.iter().map(|(role, text)| Message::text(role, *text)).collect();
        let messages = as_system(&Format::of(texts).unwrap(), messages);
        messages.into_iter().map(|message| (message.role.as_str().to_owned(), message.content)).collect()
    }

    #[test]
    fn what_would_be_lost_is_the_system_s() {
        let roles = "{{ range .Messages }}{{ if eq .Role \"system\" }}{{ .Content }}{{ else if eq .Role \"user\" }}{{ .Content }}\
                     {{ end }}{{ end }}";
        let raises = "{% for m in messages %}{% if m.role == 'system' or m.role == 'user' %}{{ m.content }}{% else %}\
                      {{ raise_exception('no') }}{% endif %}{% endfor %}";
        let texts = ModelTexts::default();
        let lossy = [
            ModelTexts { go_template: Some(roles), ..texts },
            ModelTexts { go_template: Some("{{ .System }}|{{ .Prompt }}"), ..texts },
            ModelTexts { jinja: Some(raises), ..texts },
            ModelTexts { renderer: "qwen3.5", ..texts },
            ModelTexts { renderer: "cogito", ..texts },
        ];
        let asked = [("system", "a"), ("developer", "b"), ("user", "c"), ("developer", "d"), ("user", "e")];
        let expected = [("system", "a\n\nb"), ("user", "c"), ("system", "d"), ("user", "e")];
        let expected = expected.map(|(role, text)| (role.to_owned(), text.to_owned()));
        for texts in &lossy {
            assert_eq!(seen(texts, &asked), expected, "{texts:?}");
        }
        // What nobody says as a developer is left as it is.
        let plain = [("system", "a"), ("system", "b"), ("user", "c"), ("developer", "d")];
        assert_eq!(seen(&lossy[0], &plain).len(), 4);
    }

    #[test]
    fn who_writes_the_role_gets_it() {
        let texts = ModelTexts::default();
        let any = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}";
        let nothing = "{{ .Prompt }}";
        for texts in [
            ModelTexts { go_template: Some(any), ..texts },
            ModelTexts { jinja: Some("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"), ..texts },
            ModelTexts { renderer: "gemma4", ..texts },
            ModelTexts { renderer: "functiongemma", ..texts },
            // Here the system is lost as well.
            ModelTexts { go_template: Some(nothing), ..texts },
        ] {
            assert_eq!(seen(&texts, &[("developer", "b"), ("user", "c")])[0].0, "developer", "{texts:?}");
        }
    }
}
