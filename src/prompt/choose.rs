//! What a model's texts let it do, and which of two templates is used.
//!
//! Ollama's rules: they look at the texts, not at what the templates do.

use super::go_prompt::GoPrompt;
use super::go_tags;

/// What a template can carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    pub tools: bool,
    /// Text with a gap to fill.
    pub insert: bool,
    pub thinking: bool,
}

impl Abilities {
    pub fn of_go(template: &GoPrompt) -> Self {
        Self {
            tools: template.uses("tools"),
            insert: template.uses("suffix"),
            thinking: go_tags::thinking(template.template().nodes()).is_some(),
        }
    }

    pub fn of_jinja(text: &str) -> Self {
        let tags = text.contains("<think>") && text.contains("</think>");
        let splits = text.contains("split('</think>')") || text.contains("split(\"</think>\")");
        let splits = splits && !text.contains("reasoning_content") && !text.contains("<SPECIAL_12>");
        Self { tools: text.contains("tools") || text.contains("tool_call"), insert: false, thinking: tags || splits }
    }

    pub fn or(self, other: Self) -> Self {
        Self {
            tools: self.tools || other.tools,
            insert: self.insert || other.insert,
            thinking: self.thinking || other.thinking,
        }
    }

    fn count(self) -> u32 {
        u32::from(self.tools) + u32::from(self.insert) + u32::from(self.thinking)
    }
}

/// Whether the Jinja template goes before the Go template when a model has both.
pub fn prefers_jinja(jinja: &str, go: &GoPrompt) -> bool {
    let (of_jinja, of_go) = (Abilities::of_jinja(jinja), Abilities::of_go(go));
    if of_jinja.count() > of_go.count() {
        return !go_round_trip(go) || jinja_round_trip(jinja);
    }
    of_jinja == of_go && of_jinja.tools && jinja_round_trip(jinja) && !go_round_trip(go)
}

/// Whether calls and their results both have a place.
fn jinja_round_trip(text: &str) -> bool {
    let calls = text.contains("tool_calls") || text.contains("assistant_tool_call");
    let words = ["tool_response", "tool_results", "ipython"];
    calls && (words.iter().any(|word| text.contains(word)) || compares_role_with_tool(text))
}

fn compares_role_with_tool(text: &str) -> bool {
    let plain: String =
        text.chars().filter(|char| !char.is_whitespace()).map(|c| if c == '"' { '\'' } else { c }).collect();
    ["role=='tool'", "role']=='tool'", "'tool'==message", "role!='tool'", "role']!='tool'"]
        .iter()
        .any(|comparison| plain.contains(comparison))
}

fn go_round_trip(go: &GoPrompt) -> bool {
    let text = go.template().text();
    let results = ["eq .Role \"tool\"", "tool_response", "TOOL_RESULTS"];
    go.uses("tools") && go.uses("toolcalls") && results.iter().any(|result| text.contains(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_TOOLS: &str = "{{ range .Messages }}{{ .Content }}{{ .ToolCalls }}{{ end }}{{ .Tools }}";
    const GO_ROUND: &str =
        "{{ range .Messages }}{{ if eq .Role \"tool\" }}{{ end }}{{ .ToolCalls }}{{ end }}{{ .Tools }}";
    const JINJA_ROUND: &str = "{{ tools }}{{ m.tool_calls }}{% if m.role == \"tool\" %}{% endif %}";

    fn prefers(jinja: &str, go: &str) -> bool {
        prefers_jinja(jinja, &GoPrompt::parse(go).unwrap())
    }

    #[test]
    fn the_abler_template_wins_unless_calls_would_get_lost() {
        assert!(prefers("{{ tools }}", "{{ .Prompt }}"));
        assert!(!prefers("{{ messages }}", "{{ .Prompt }}"));
        assert!(!prefers("{{ tools }}<think></think>", GO_ROUND));
        assert!(prefers(&format!("{JINJA_ROUND}<think></think>"), GO_ROUND));
        assert!(prefers(JINJA_ROUND, GO_TOOLS));
        assert!(!prefers(JINJA_ROUND, GO_ROUND));
        assert!(!prefers("{{ tools }}", GO_TOOLS));
    }

    #[test]
    fn abilities_are_read_off_the_text() {
        let thinking = |text: &str| Abilities::of_jinja(text).thinking;
        assert!(thinking("content.split('</think>')[-1]"));
        assert!(!thinking("content.split('</think>')[-1] reasoning_content"));
        let insert = GoPrompt::parse("{{ .Prompt }}{{ .Suffix }}").unwrap();
        assert_eq!(Abilities::of_go(&insert), Abilities { insert: true, ..Abilities::default() });
    }
}
