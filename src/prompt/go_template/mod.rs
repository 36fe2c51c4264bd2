//! Go's `text/template`, as far as prompts need it, with Ollama's own functions.
//!
//! Written for this program because a prompt must be what Go would make of the template: a struct's missing field is an error
//! and a map's is not, tools print as JSON, a template that Go refuses is refused in the same words.

mod budget;
mod execute;
mod functions;
mod lexer;
mod node;
mod number;
mod parser;
mod printf;
mod value;

use std::collections::BTreeSet;

pub use budget::Budget;
pub use node::{Branch, Command, Kind, Node, Operand, Pipe, Pos, names_field, operands, pipe_operands};
pub use value::{Dict, List, Object, Shown, Value};

/// What is wrong with a template or with its data, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    nodes: Vec<Node>,
    defines: node::Defines,
}

impl Template {
    /// # Errors
    /// [`TemplateError`] when Go would refuse the text.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (nodes, defines) = parser::parse(text)?;
        Ok(Self { text: text.to_owned(), nodes, defines })
    }

    /// # Errors
    /// [`TemplateError`] when a value is not what the template takes it for.
    pub fn execute(&self, data: &Value) -> Result<String, TemplateError> {
        self.execute_nodes(&self.nodes, data, &mut Budget::default())
    }

    /// As [`Template::execute`], one of several times for the same prompt, and with such nodes in place of its own as
    /// [`Template::nodes`], cut.
    ///
    /// # Errors
    /// As [`Template::execute`].
    pub fn execute_nodes(&self, nodes: &[Node], data: &Value, budget: &mut Budget) -> Result<String, TemplateError> {
        execute::execute(self, nodes, data, budget)
    }

    /// The nodes outside all `define`s.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names it uses, lower-cased: fields, and variables with their `$`.
    pub fn names(&self) -> BTreeSet<String> {
        node::names(self.defines.values().chain([&self.nodes]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> String {
        Template::parse(text)
            .and_then(|template| template.execute(&Value::map([("A", Value::from("x")), ("N", Value::Nil)])))
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn blocks_variables_and_jumps() {
        assert_eq!(
            run("{{ range $c := .A }}\n{{ end }}"),
            "template: :1:9: executing \"\" at <$c := .A>: range can't iterate over x"
        );
        assert_eq!(
            run(
                "{{ range $i := 4 }}{{ if eq $i 1 }}{{ continue }}{{ end }}{{ if eq $i 3 }}{{ break }}{{ end }}{{ $i }}{{ end }}"
            ),
            "02"
        );
        assert_eq!(run("{{ if .N }}a{{ else if .A }}{{ with .A }}{{ . }}{{ $.A }}{{ end }}{{ else }}c{{ end }}"), "xx");
        assert_eq!(run("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ end }}{{ $x }}"), "2");
    }

    #[test]
    fn numbers_and_strings() {
        assert_eq!(
            run("{{ 017 }} {{ 0b11 }} {{ .5 }} {{ 1e7 }} {{ 123456.0 }} {{ \"\\x41\\101\\u00e9\" }}"),
            "15 3 0.5 1e+07 123456 AAé"
        );
        assert_eq!(
            run("{{ printf \"%6.2f|%-5d|%+d|%q|%05d|%g|%e\" 3.14159 7 7 \"a\\n\" -42 1e7 1500.0 }}"),
            "  3.14|7    |+7|\"a\\n\"|-0042|1e+07|1.500000e+03"
        );
        assert_eq!(run("{{ printf \"%d %s\" 1 }} {{ printf \"x\" 2 }}"), "1 %!s(MISSING) x%!(EXTRA int=2)");
    }

    #[test]
    fn has_no_templates_that_fill_the_memory() {
        let grown = |with: &str| format!("{{{{ $x := \"ab\" }}}}{{{{ range 60 }}}}{{{{ $x = {with} }}}}{{{{ end }}}}");
        for with in
            ["print $x $x", "printf \"%s%s\" $x $x", "println $x $x", "html $x $x", "js $x $x", "printf \"%q%q\" $x $x"]
        {
            let error = run(&grown(with));
            assert!(error.ends_with("the text is too long"), "{with}: {error}");
        }
        let wide = format!("{{{{ $x := printf \"{}\" {}}}}}", "%1000000d".repeat(20), "1 ".repeat(20));
        assert!(run(&wide).ends_with("the text is too long"), "{}", run(&wide));
        // Each is as long as a text may be, and none of them is kept.
        let long = "{{ $x := printf \"%1000000d\" 1 }}{{ range 2000 }}{{ $y := print $x 1 }}{{ end }}";
        assert!(run(long).ends_with("too much memory"), "{}", run(long));
        let printed = "{{ $x := printf \"%1000000d\" 1 }}{{ range 2000 }}{{ $x }}{{ end }}";
        assert!(run(printed).ends_with("the prompt is too long"));
    }

    #[test]
    fn has_no_bottomless_templates() {
        assert!(
            run("{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}")
                .contains("within each other")
        );
        assert!(run(&"{{ if true }}".repeat(1000)).contains("within each other"));
        assert!(run(&format!("{{{{ {}", "(".repeat(1000))).contains("within each other"));
        assert!(run("{{ range 100000000000 }}{{ end }}").contains("too many turns"));
        let twice = |name: usize| format!("{{{{ template \"{}\" }}}}", name + 1).repeat(2);
        let doubling: String =
            (0..60).map(|name| format!("{{{{ define \"{name}\" }}}}{}{{{{ end }}}}", twice(name))).collect();
        assert!(
            run(&format!("{doubling}{{{{ define \"60\" }}}}{{{{ end }}}}{{{{ template \"0\" }}}}"))
                .contains("too many turns")
        );
    }
}
