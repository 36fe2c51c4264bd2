//! The tree of a parsed Go template, and how its parts are written back in error messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::value::Value;

/// A byte offset into the template's text.
pub type Pos = usize;

#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    Range(Branch),
    With(Branch),
    Template { pos: Pos, name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// The bodies of named blocks.
pub(super) type Defines = BTreeMap<String, Vec<Node>>;

/// What `if`, `range` and `with` share.
#[derive(Clone, Debug)]
pub struct Branch {
    pub pipe: Pipe,
    pub body: Vec<Node>,
    pub otherwise: Vec<Node>,
}

#[derive(Clone, Debug)]
pub struct Pipe {
    pub pos: Pos,
    /// Variables set, with their `$`.
    pub set: Vec<String>,
    /// `=` and not `:=`.
    pub assigns: bool,
    pub commands: Vec<Command>,
}

#[derive(Clone, Debug)]
pub struct Command {
    pub pos: Pos,
    /// Never empty.
    pub operands: Vec<Operand>,
}

#[derive(Clone, Debug)]
pub struct Operand {
    pub pos: Pos,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Dot,
    Nil,
    /// A constant and its text in the source.
    Constant(Value, String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A`, the name with its `$`.
    Variable(String, Vec<String>),
    Function(String),
    Pipe(Box<Pipe>),
    /// `(pipe).A.B`
    Chain(Box<Operand>, Vec<String>),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.set.is_empty() {
            write!(f, "{} {} ", self.set.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if index > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, operand) in self.operands.iter().enumerate() {
            write!(f, "{}{operand}", if index > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields =
            |f: &mut fmt::Formatter<'_>, names: &[String]| names.iter().try_for_each(|name| write!(f, ".{name}"));
        match &self.kind {
            Kind::Dot => f.write_str("."),
            Kind::Nil => f.write_str("nil"),
            Kind::Constant(_, text) | Kind::Function(text) => f.write_str(text),
            Kind::Field(names) => fields(f, names),
            Kind::Variable(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            Kind::Pipe(pipe) => write!(f, "({pipe})"),
            Kind::Chain(base, names) => {
                write!(f, "{base}")?;
                fields(f, names)
            }
        }
    }
}

/// Calls `visit` for every operand of the nodes, in the order of the text.
pub fn operands<'a>(nodes: &'a [Node], visit: &mut dyn FnMut(&'a Operand)) {
    for node in nodes {
        match node {
            Node::Text(_) | Node::Break | Node::Continue => {}
            Node::Action(pipe) => pipe_operands(pipe, visit),
            Node::Template { pipe, .. } => pipe.iter().for_each(|pipe| pipe_operands(pipe, visit)),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                pipe_operands(&branch.pipe, visit);
                operands(&branch.body, visit);
                operands(&branch.otherwise, visit);
            }
        }
    }
}

/// Calls `visit` for every operand of a pipeline, those in brackets included.
pub fn pipe_operands<'a>(pipe: &'a Pipe, visit: &mut dyn FnMut(&'a Operand)) {
    for operand in pipe.commands.iter().flat_map(|command| &command.operands) {
        operand_and_inner(operand, visit);
    }
}

fn operand_and_inner<'a>(operand: &'a Operand, visit: &mut dyn FnMut(&'a Operand)) {
    visit(operand);
    match &operand.kind {
        Kind::Pipe(pipe) => pipe_operands(pipe, visit),
        Kind::Chain(base, _) => operand_and_inner(base, visit),
        _ => {}
    }
}

/// Whether a pipeline names this field of dot, alone or as the beginning of a chain.
pub fn names_field(pipe: &Pipe, field: &str) -> bool {
    let mut found = false;
    pipe_operands(pipe, &mut |operand| {
        found |= matches!(&operand.kind, Kind::Field(names) if names.iter().any(|name| name == field));
    });
    found
}

/// The names a template uses, lower-cased: fields of dot and of variables, and variables with their `$`.
pub(super) fn names<'a>(lists: impl Iterator<Item = &'a Vec<Node>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for nodes in lists {
        operands(nodes, &mut |operand| match &operand.kind {
            Kind::Field(names) => found.extend(names.iter().map(|name| name.to_lowercase())),
            Kind::Variable(name, names) => {
                found.insert(name.to_lowercase());
                found.extend(names.iter().map(|name| name.to_lowercase()));
            }
            _ => {}
        });
    }
    found
}

/// Ollama refuses every `{{ template "x" }}` without a pipeline; that is right only where there is no such block.
pub(super) fn calls_undefined(nodes: &[Node], defines: &Defines) -> bool {
    nodes.iter().any(|node| match node {
        Node::Template { name, pipe, .. } => pipe.is_none() && !defines.contains_key(name),
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
            calls_undefined(&branch.body, defines) || calls_undefined(&branch.otherwise, defines)
        }
        _ => false,
    })
}
