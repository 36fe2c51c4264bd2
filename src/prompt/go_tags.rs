//! What a Go template tells about the answers of its model: the tags around thinking, and those around tool calls.

use super::go_template::{Branch, Kind, Node, Pipe, names_field, pipe_operands};
use super::json_calls::CallTags;
use super::thinking::Tags;

/// The first and the last text beside `.Thinking` in a loop over the messages.
pub fn thinking(nodes: &[Node]) -> Option<Tags> {
    thinking_in(nodes, false)
}

fn thinking_in(nodes: &[Node], looping: bool) -> Option<Tags> {
    let shows = |node: &Node| matches!(node, Node::Action(pipe) if names_field(pipe, "Thinking"));
    if looping && nodes.iter().any(shows) {
        let mut texts = nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.trim()),
            _ => None,
        });
        let open = texts.next()?;
        let close = texts.next_back()?;
        return (!open.is_empty() && !close.is_empty()).then(|| Tags::new(open, close));
    }
    nodes.iter().find_map(|node| {
        let (branch, looping) = match node {
            Node::Range(branch) => (branch, looping || names_messages(&branch.pipe)),
            Node::If(branch) | Node::With(branch) => (branch, looping),
            _ => return None,
        };
        thinking_in(&branch.body, looping).or_else(|| thinking_in(&branch.otherwise, looping))
    })
}

fn names_messages(pipe: &Pipe) -> bool {
    let mut found = false;
    pipe_operands(pipe, &mut |operand| {
        found |= matches!(&operand.kind, Kind::Field(names) | Kind::Variable(_, names) if names.iter().any(|name| name == "Messages"));
    });
    found
}

/// The tags around calls. Without any, calls are bare JSON.
pub fn calls(nodes: &[Node]) -> CallTags {
    let branch = calls_branch(nodes);
    let first = branch.and_then(|branch| first_text(&branch.body)).unwrap_or_default();
    let open = first.split('{').next().unwrap_or_default().trim();
    match open {
        "" | "{" => return CallTags::bare('{'),
        "[" => return CallTags::bare('['),
        _ => {}
    }
    let mut texts = Vec::new();
    if let Some(branch) = branch {
        all_texts(&branch.body, &mut texts);
    }
    // with one text there is no telling whether it opens or closes
    let last = texts.last().filter(|_| texts.len() > 1).copied().unwrap_or_default();
    let close = last.rsplit('}').next().unwrap_or_default().trim();
    let close = if close == open { "" } else { close };
    let close = if close.is_empty() { closing(open) } else { close.to_owned() };
    CallTags::tagged(&[open], &[&close])
}

/// `</x>` for `<x>`, `[/X]` for `[X]`.
fn closing(open: &str) -> String {
    let inner = |start: char, end: char| open.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    match (inner('<', '>'), inner('[', ']')) {
        (Some(name), _) => format!("</{name}>"),
        (_, Some(name)) => format!("[/{name}]"),
        _ => String::new(),
    }
}

/// The first `{{ if .ToolCalls }}`.
fn calls_branch(nodes: &[Node]) -> Option<&Branch> {
    nodes.iter().find_map(|node| match node {
        Node::If(branch) if names_field(&branch.pipe, "ToolCalls") => Some(branch),
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            calls_branch(&branch.body).or_else(|| calls_branch(&branch.otherwise))
        }
        _ => None,
    })
}

/// The first text that is not blank, unless something is printed before it.
fn first_text(nodes: &[Node]) -> Option<&str> {
    for node in nodes {
        match node {
            Node::Text(text) if !text.trim().is_empty() => return Some(text),
            Node::Action(pipe) if pipe.set.is_empty() => return None,
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                let found = first_text(&branch.body).or_else(|| first_text(&branch.otherwise));
                if found.is_some() {
                    return found;
                }
            }
            _ => {}
        }
    }
    None
}

fn all_texts<'a>(nodes: &'a [Node], texts: &mut Vec<&'a str>) {
    for node in nodes {
        match node {
            Node::Text(text) if !text.trim().is_empty() => texts.push(text),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                all_texts(&branch.body, texts);
                all_texts(&branch.otherwise, texts);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::go_template::Template;

    #[test]
    fn reads_the_closing_tag_too() {
        let tags = |text: &str| calls(Template::parse(text).unwrap().nodes());
        let hermes = "{{ range .Messages }}{{ if .ToolCalls }}<tool_call>\n{{ range .ToolCalls }}{\"name\": \"{{ .Function.Name }}\", \
                      \"arguments\": {{ .Function.Arguments }}}{{ end }}\n</tool_call>{{ end }}{{ end }}";
        assert_eq!(tags(hermes), CallTags::tagged(&["<tool_call>"], &["</tool_call>"]));
        let mistral = "{{ range .Messages }}{{ if .ToolCalls }}[TOOL_CALLS] [{{ range .ToolCalls }}{\"name\": 1}{{ end }}]</s>{{ end }}{{ end }}";
        assert_eq!(tags(mistral), CallTags::tagged(&["[TOOL_CALLS] ["], &["]</s>"]));
        assert_eq!(tags("{{ .Prompt }}"), CallTags::bare('{'));
    }
}
