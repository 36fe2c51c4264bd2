//! Runs a parsed template on its data, with Go's rules and Go's errors.

use std::fmt;

use super::budget::Budget;
use super::functions;
use super::node::{Branch, Command, Kind, Node, Operand, Pipe, Pos};
use super::value::Value;
use super::{Template, TemplateError};

/// Blocks and templates within each other.
const DEPTH: usize = 200;

/// What a list of nodes ended with.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

pub(super) fn execute(
    template: &Template,
    nodes: &[Node],
    data: &Value,
    budget: &mut Budget,
) -> Result<String, TemplateError> {
    let variables = vec![("$".to_owned(), data.clone())];
    let mut run = Run { template, name: "", variables, out: String::new(), depth: 0, budget };
    run.walk(data, nodes)?;
    Ok(run.out)
}

struct Run<'a> {
    template: &'a Template,
    /// Of the named block that runs.
    name: &'a str,
    variables: Vec<(String, Value)>,
    out: String,
    depth: usize,
    budget: &'a mut Budget,
}

impl<'a> Run<'a> {
    fn error(&self, pos: Pos, place: impl fmt::Display, message: impl fmt::Display) -> TemplateError {
        let before = &self.template.text[..pos];
        let line = 1 + before.matches('\n').count();
        let column = pos - before.rfind('\n').map_or(0, |newline| newline + 1);
        TemplateError(format!("template: :{line}:{column}: executing {:?} at <{place}>: {message}", self.name))
    }

    fn walk(&mut self, dot: &Value, nodes: &'a [Node]) -> Result<Flow, TemplateError> {
        if self.depth == DEPTH {
            return Err(TemplateError("template: too many blocks within each other".to_owned()));
        }
        self.depth += 1;
        let outer = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(dot, node)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(outer.max(1));
        self.depth -= 1;
        Ok(flow)
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.print(text)?,
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.set.is_empty() {
                    match &value {
                        Value::Nil => self.print("<no value>")?,
                        Value::Text(text) => self.print(text)?,
                        other => self.print(&other.to_string())?,
                    }
                }
            }
            Node::If(branch) | Node::With(branch) => {
                let outer = self.variables.len();
                let value = self.pipe(dot, &branch.pipe)?;
                let inner = if matches!(node, Node::With(_)) { &value } else { dot };
                let flow =
                    if value.is_true() { self.walk(inner, &branch.body) } else { self.walk(dot, &branch.otherwise) };
                self.variables.truncate(outer);
                return flow;
            }
            Node::Range(branch) => return self.range(dot, branch),
            Node::Template { pos, name, pipe } => self.call(dot, *pos, name, pipe.as_ref())?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn print(&mut self, text: &str) -> Result<(), TemplateError> {
        self.budget.output(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn call(&mut self, dot: &Value, pos: Pos, name: &'a str, pipe: Option<&'a Pipe>) -> Result<(), TemplateError> {
        let Some(nodes) = self.template.defines.get(name) else {
            let pipe = pipe.map(|pipe| format!(" {pipe}")).unwrap_or_default();
            let place = format!("{{{{template {name:?}{pipe}}}}}");
            return Err(self.error(pos, place, format!("template {name:?} not defined")));
        };
        self.budget.turn()?;
        let value = pipe.map_or(Ok(Value::Nil), |pipe| self.pipe(dot, pipe))?;
        let caller = std::mem::replace(&mut self.name, name);
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), value.clone())]);
        let flow = self.walk(&value, nodes);
        self.variables = outer;
        self.name = caller;
        flow.map(drop)
    }

    fn range(&mut self, dot: &Value, branch: &'a Branch) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        if branch.pipe.set.is_empty() || branch.pipe.assigns {
            self.variables.truncate(outer);
        }
        let inner = self.variables.len();
        let mut any = false;
        let mut turn = |run: &mut Self, key: Value, item: Value| -> Result<bool, TemplateError> {
            any = true;
            run.budget.turn()?;
            run.variables.truncate(inner);
            match &branch.pipe.set[..] {
                [] => {}
                [one] => run.set(one, item.clone(), branch.pipe.assigns, branch.pipe.pos)?,
                [first, second, ..] => {
                    run.set(first, key, branch.pipe.assigns, branch.pipe.pos)?;
                    run.set(second, item.clone(), branch.pipe.assigns, branch.pipe.pos)?;
                }
            }
            Ok(run.walk(&item, &branch.body)? != Flow::Break)
        };
        let number = |index: usize| Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
        match &value {
            Value::Nil => {}
            Value::Int(_) if branch.pipe.set.len() > 1 => {
                let message = format!("can't use {value} to iterate over more than one variable");
                return Err(self.error(branch.pipe.pos, &branch.pipe, message));
            }
            Value::Int(count) => {
                for index in 0..*count {
                    if !turn(self, Value::Int(index), Value::Int(index))? {
                        break;
                    }
                }
            }
            Value::List(list) => {
                for (index, item) in list.items.iter().enumerate() {
                    if !turn(self, number(index), item.clone())? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (name, item) in &map.entries {
                    if !turn(self, Value::from(name.as_str()), item.clone())? {
                        break;
                    }
                }
            }
            other => {
                return Err(self.error(branch.pipe.pos, &branch.pipe, format!("range can't iterate over {other}")));
            }
        }
        self.variables.truncate(outer);
        if any { Ok(Flow::On) } else { self.walk(dot, &branch.otherwise) }
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool, pos: Pos) -> Result<(), TemplateError> {
        if !assigns {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, slot)) => *slot = value,
            None => return Err(self.error(pos, name, format!("undefined variable: {name}"))),
        }
        Ok(())
    }

    fn pipe(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.set {
            self.set(name, value.clone(), pipe.assigns, pipe.pos)?;
        }
        Ok(value)
    }

    fn command(&mut self, dot: &Value, command: &'a Command, piped: Option<Value>) -> Result<Value, TemplateError> {
        let first = &command.operands[0];
        if let Kind::Function(name) = &first.kind {
            return self.function(dot, first, name, Some(command), piped);
        }
        if command.operands.len() > 1 || piped.is_some() {
            return Err(match &first.kind {
                Kind::Field(names) | Kind::Variable(_, names) | Kind::Chain(_, names) if !names.is_empty() => {
                    let name = names.last().map_or("", String::as_str);
                    self.error(first.pos, first, format!("{name} has arguments but cannot be invoked as function"))
                }
                _ => self.error(first.pos, first, format!("can't give argument to non-function {first}")),
            });
        }
        if let Kind::Nil = first.kind {
            return Err(self.error(first.pos, first, "nil is not a command"));
        }
        self.operand(dot, first)
    }

    fn function(
        &mut self,
        dot: &Value,
        operand: &'a Operand,
        name: &str,
        command: Option<&'a Command>,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let operands = command.map_or(&[][..], |command| &command.operands[1..]);
        let (least, more) = functions::arity(name).expect("the parser lets known functions pass: a bug");
        let count = operands.len() + usize::from(piped.is_some());
        if count < least || (count > least && !more) {
            let want = if more { format!("at least {least}") } else { least.to_string() };
            let message = format!("wrong number of args for {name}: want {want} got {count}");
            return Err(self.error(operand.pos, operand, message));
        }
        if name == "and" || name == "or" {
            let mut value = Value::Nil;
            for operand in operands {
                value = self.operand(dot, operand)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(piped.unwrap_or(value));
        }
        let mut args = Vec::with_capacity(count);
        for operand in operands {
            args.push(self.operand(dot, operand)?);
        }
        args.extend(piped);
        let result = match name {
            "call" => Err(match operands.first() {
                Some(first) => format!("non-function {first} of type {}", args[0].type_name()),
                None => format!("non-function of type {}", args[0].type_name()),
            }),
            _ => functions::call(name, &args),
        };
        if let Ok(Value::Text(text)) = &result {
            self.budget.text(text.len())?;
        }
        result.map_err(|message| {
            let message = format!("error calling {name}: {message}");
            match command {
                Some(command) => self.error(command.pos, command, message),
                None => self.error(operand.pos, operand, message),
            }
        })
    }

    fn operand(&mut self, dot: &Value, operand: &'a Operand) -> Result<Value, TemplateError> {
        match &operand.kind {
            Kind::Dot => Ok(dot.clone()),
            Kind::Nil => Ok(Value::Nil),
            Kind::Constant(value, _) => Ok(value.clone()),
            Kind::Field(names) => self.fields(operand, dot.clone(), names),
            Kind::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let Some(value) = found.map(|(_, value)| value.clone()) else {
                    return Err(self.error(operand.pos, operand, format!("undefined variable: {name}")));
                };
                self.fields(operand, value, names)
            }
            Kind::Function(name) => self.function(dot, operand, name, None, None),
            Kind::Pipe(pipe) => self.pipe(dot, pipe),
            Kind::Chain(base, names) => {
                if let Kind::Nil = base.kind {
                    return Err(self.error(
                        operand.pos,
                        operand,
                        format!("indirection through explicit nil in {operand}"),
                    ));
                }
                let value = self.operand(dot, base)?;
                self.fields(operand, value, names)
            }
        }
    }

    fn fields(&self, operand: &Operand, mut value: Value, names: &[String]) -> Result<Value, TemplateError> {
        // what a map holds has the type of anything
        let mut of_map = false;
        for name in names {
            value = match &value {
                Value::Map(map) => {
                    of_map = true;
                    map.entries.get(name).cloned().unwrap_or_default()
                }
                Value::Object(object) => match object.fields.iter().find(|(field, _)| field == name) {
                    Some((_, value)) => {
                        of_map = false;
                        value.clone()
                    }
                    None => {
                        let message = format!("can't evaluate field {name} in type {}", object.type_name);
                        return Err(self.error(operand.pos, operand, message));
                    }
                },
                Value::Nil if of_map => {
                    return Err(self.error(
                        operand.pos,
                        operand,
                        format!("nil pointer evaluating interface {{}}.{name}"),
                    ));
                }
                // no value at all, as in a block called without one
                Value::Nil => Value::Nil,
                other => {
                    let kind = if of_map { "interface {}" } else { other.type_name() };
                    return Err(self.error(
                        operand.pos,
                        operand,
                        format!("can't evaluate field {name} in type {kind}"),
                    ));
                }
            };
        }
        Ok(value)
    }
}
