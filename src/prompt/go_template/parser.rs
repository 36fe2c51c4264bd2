//! Builds the tree of a Go template from its tokens, refusing what Go refuses in Go's words.

use std::collections::BTreeMap;

use super::TemplateError;
use super::functions;
use super::lexer::{Lexeme, Token, is_keyword, lex};
use super::node::{Branch, Command, Defines, Kind, Node, Operand, Pipe, calls_undefined};

/// Blocks and brackets within each other; Go has no bound, but neither has it our stack.
const DEPTH: usize = 100;

/// The template's own nodes and the named blocks it defines.
pub(super) fn parse(text: &str) -> Result<(Vec<Node>, Defines), TemplateError> {
    let mut parser = Parser {
        text,
        tokens: lex(text),
        at: 0,
        names: vec!["$".to_owned()],
        defines: BTreeMap::new(),
        loops: 0,
        depth: 0,
    };
    let (nodes, stop) = parser.list(true)?;
    match stop {
        Stop::Text => {}
        Stop::End => return Err(parser.error("unexpected {{end}}")),
        Stop::Else => return Err(parser.error("unexpected {{else}}")),
    }
    let undefined = |nodes: &Vec<Node>| calls_undefined(nodes, &parser.defines);
    if undefined(&nodes) || parser.defines.values().any(undefined) {
        return Err(TemplateError("undefined template specified".to_owned()));
    }
    Ok((nodes, parser.defines))
}

/// What ended a list of nodes.
#[derive(PartialEq)]
enum Stop {
    Text,
    End,
    Else,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Lexeme>,
    at: usize,
    /// The variables that can be named here.
    names: Vec<String>,
    defines: Defines,
    loops: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Lexeme {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Lexeme {
        let lexeme = self.peek().clone();
        self.at += 1;
        lexeme
    }

    fn error(&self, message: impl std::fmt::Display) -> TemplateError {
        let last = &self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)];
        let line = 1 + self.text[..last.pos].matches('\n').count();
        TemplateError(format!("template: :{line}: {message}"))
    }

    fn unexpected(&self, lexeme: &Lexeme, context: &str) -> TemplateError {
        let shown = match &lexeme.token {
            Token::Bad(message) => return self.error(message),
            Token::End => "EOF".to_owned(),
            Token::Word(word) if is_keyword(word) => format!("<{word}>"),
            other => {
                let text = other.source();
                if text.chars().count() > 10 {
                    format!("{:?}...", text.chars().take(10).collect::<String>())
                } else {
                    format!("{text:?}")
                }
            }
        };
        self.error(format!("unexpected {shown} in {context}"))
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH { Err(self.error("too many blocks within each other")) } else { Ok(()) }
    }

    fn list(&mut self, top: bool) -> Result<(Vec<Node>, Stop), TemplateError> {
        self.deeper()?;
        let mut nodes = Vec::new();
        let stop = loop {
            let lexeme = self.next();
            match lexeme.token {
                Token::Text(text) => nodes.push(Node::Text(text)),
                Token::Open => {
                    if let Some(stop) = self.action(top, &mut nodes)? {
                        break stop;
                    }
                }
                Token::End if top => break Stop::Text,
                Token::End => return Err(self.error("unexpected EOF")),
                _ => return Err(self.unexpected(&lexeme, "input")),
            }
        };
        self.depth -= 1;
        Ok((nodes, stop))
    }

    /// Reads what follows `{{`.
    fn action(&mut self, top: bool, nodes: &mut Vec<Node>) -> Result<Option<Stop>, TemplateError> {
        let word = match &self.peek().token {
            Token::Word(word) => word.clone(),
            _ => String::new(),
        };
        if !is_keyword(&word) || (word == "define" && !top) {
            nodes.push(Node::Action(self.pipe("command", &Token::Close)?));
            return Ok(None);
        }
        self.at += 1;
        match word.as_str() {
            "if" => nodes.push(Node::If(self.branch("if")?)),
            "with" => nodes.push(Node::With(self.branch("with")?)),
            "range" => nodes.push(Node::Range(self.branch("range")?)),
            "template" => {
                let (pos, name) = self.block_name("template clause")?;
                let pipe = match self.peek().token {
                    Token::Close => {
                        self.at += 1;
                        None
                    }
                    _ => Some(self.pipe("template clause", &Token::Close)?),
                };
                nodes.push(Node::Template { pos, name, pipe });
            }
            "block" => {
                let (pos, name) = self.block_name("block clause")?;
                let pipe = self.pipe("block clause", &Token::Close)?;
                self.define(name.clone())?;
                nodes.push(Node::Template { pos, name, pipe: Some(pipe) });
            }
            "define" => {
                let (_, name) = self.block_name("define clause")?;
                self.close("define clause")?;
                self.define(name)?;
            }
            "end" => {
                self.close("end")?;
                return Ok(Some(Stop::End));
            }
            // `else if` and `else with` stand for a nested block; who reads the block sees to it
            "else" => {
                if !matches!(&self.peek().token, Token::Word(word) if word == "if" || word == "with") {
                    self.close("else")?;
                }
                return Ok(Some(Stop::Else));
            }
            jump => {
                self.close(&format!("{{{{{jump}}}}}"))?;
                if self.loops == 0 {
                    return Err(self.error(format!("{{{{{jump}}}}} outside {{{{range}}}}")));
                }
                nodes.push(if jump == "break" { Node::Break } else { Node::Continue });
            }
        }
        Ok(None)
    }

    fn close(&mut self, context: &str) -> Result<(), TemplateError> {
        let lexeme = self.next();
        if lexeme.token == Token::Close { Ok(()) } else { Err(self.unexpected(&lexeme, context)) }
    }

    fn block_name(&mut self, context: &str) -> Result<(usize, String), TemplateError> {
        let lexeme = self.next();
        match &lexeme.token {
            Token::Constant(value, source) if source.starts_with(['"', '`']) => Ok((lexeme.pos, value.to_string())),
            _ => Err(self.unexpected(&lexeme, context)),
        }
    }

    fn define(&mut self, name: String) -> Result<(), TemplateError> {
        let outer = (std::mem::replace(&mut self.names, vec!["$".to_owned()]), std::mem::take(&mut self.loops));
        let (nodes, stop) = self.list(false)?;
        (self.names, self.loops) = outer;
        if stop != Stop::End {
            return Err(self.error("unexpected {{else}} in define clause"));
        }
        let blank =
            |nodes: &[Node]| nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        match self.defines.get(&name) {
            Some(old) if !blank(old) && !blank(&nodes) => {
                return Err(TemplateError(format!("template: multiple definition of template {name:?}")));
            }
            Some(old) if !blank(old) => {}
            _ => {
                self.defines.insert(name, nodes);
            }
        }
        Ok(())
    }

    fn branch(&mut self, word: &str) -> Result<Branch, TemplateError> {
        let outer = self.names.len();
        let pipe = self.pipe(word, &Token::Close)?;
        self.loops += usize::from(word == "range");
        let (body, stop) = self.list(false)?;
        self.loops -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        if stop == Stop::Else {
            match &self.peek().token {
                Token::Word(inner) if inner == word && word != "range" => {
                    self.at += 1;
                    self.deeper()?;
                    let inner = self.branch(word)?;
                    self.depth -= 1;
                    otherwise.push(if word == "if" { Node::If(inner) } else { Node::With(inner) });
                }
                Token::Word(inner) if inner == "if" || inner == "with" => {
                    let lexeme = self.next();
                    return Err(self.unexpected(&lexeme, "else"));
                }
                _ => {
                    let (nodes, stop) = self.list(false)?;
                    if stop != Stop::End {
                        return Err(self.error("expected end; found {{else}}"));
                    }
                    otherwise = nodes;
                }
            }
        }
        self.names.truncate(outer);
        Ok(Branch { pipe, body, otherwise })
    }

    /// Reads a pipeline and the token that ends it.
    fn pipe(&mut self, context: &str, end: &Token) -> Result<Pipe, TemplateError> {
        self.deeper()?;
        let pos = self.peek().pos;
        let (set, assigns) = self.settings(context)?;
        let mut commands = Vec::new();
        loop {
            let lexeme = self.next();
            if lexeme.token == *end {
                break;
            }
            match lexeme.token {
                Token::Constant(..) | Token::Dot | Token::Field(_) | Token::Variable(_) | Token::OpenBracket => {}
                Token::Word(ref word) if !is_keyword(word) => {}
                _ => return Err(self.unexpected(&lexeme, context)),
            }
            self.at -= 1;
            commands.push(self.command()?);
        }
        if commands.is_empty() {
            return Err(self.error(format!("missing value for {context}")));
        }
        for (index, command) in commands.iter().enumerate().skip(1) {
            if matches!(command.operands[0].kind, Kind::Constant(..) | Kind::Dot | Kind::Nil) {
                return Err(self.error(format!("non executable command in pipeline stage {}", index + 1)));
            }
        }
        self.depth -= 1;
        Ok(Pipe { pos, set, assigns, commands })
    }

    /// Reads `$x :=`, `$x =`, and for `range` also `$i, $x :=`.
    fn settings(&mut self, context: &str) -> Result<(Vec<String>, bool), TemplateError> {
        let mut set = Vec::new();
        loop {
            let Token::Variable(name) = self.peek().token.clone() else {
                return Ok((set, false));
            };
            let after = self.tokens.get(self.at + 1).map(|lexeme| lexeme.token.clone());
            match after {
                Some(Token::Declare | Token::Assign) => {
                    self.at += 2;
                    set.push(name.clone());
                    self.names.push(name);
                    return Ok((set, after == Some(Token::Assign)));
                }
                Some(Token::Other(',')) => {
                    self.at += 2;
                    set.push(name.clone());
                    self.names.push(name);
                    if context != "range" || set.len() > 1 {
                        return Err(self.error(format!("too many declarations in {context}")));
                    }
                    if !matches!(self.peek().token, Token::Variable(_)) {
                        return Err(self.error("range can only initialize variables"));
                    }
                }
                _ => return Ok((set, false)),
            }
        }
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let pos = self.peek().pos;
        let mut operands = Vec::new();
        loop {
            operands.extend(self.operand()?);
            let lexeme = self.next();
            match lexeme.token {
                Token::Close | Token::CloseBracket => {
                    self.at -= 1;
                    break;
                }
                Token::Pipe => break,
                _ if lexeme.spaced && lexeme.token.begins_operand() => self.at -= 1,
                _ => return Err(self.unexpected(&lexeme, "operand")),
            }
        }
        if operands.is_empty() {
            return Err(self.error("empty command"));
        }
        Ok(Command { pos, operands })
    }

    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let Some(mut base) = self.term()? else {
            return Ok(None);
        };
        let mut chain = Vec::new();
        let mut chain_pos = base.pos;
        while let Lexeme { token: Token::Field(name), pos, spaced: false } = self.peek() {
            if chain.is_empty() {
                chain_pos = *pos;
            }
            chain.push(name.clone());
            self.at += 1;
        }
        if chain.is_empty() {
            return Ok(Some(base));
        }
        match &mut base.kind {
            Kind::Field(names) | Kind::Variable(_, names) => {
                names.append(&mut chain);
                base.pos = chain_pos;
            }
            Kind::Constant(..) | Kind::Nil | Kind::Dot => {
                return Err(self.error(format!("unexpected . after term {:?}", base.to_string())));
            }
            Kind::Function(_) | Kind::Pipe(_) | Kind::Chain(..) => {
                base = Operand { pos: chain_pos, kind: Kind::Chain(Box::new(base), chain) };
            }
        }
        Ok(Some(base))
    }

    fn term(&mut self) -> Result<Option<Operand>, TemplateError> {
        let lexeme = self.next();
        let kind = match lexeme.token {
            Token::Word(word) => match word.as_str() {
                "nil" => Kind::Nil,
                "true" | "false" => Kind::Constant(super::Value::Bool(word == "true"), word),
                keyword if is_keyword(keyword) => {
                    self.at -= 1;
                    return Ok(None);
                }
                name if functions::arity(name).is_none() => {
                    return Err(self.error(format!("function {name:?} not defined")));
                }
                _ => Kind::Function(word),
            },
            Token::Dot => Kind::Dot,
            Token::Constant(value, source) => Kind::Constant(value, source),
            Token::Field(name) => Kind::Field(vec![name]),
            Token::Variable(name) => {
                if !self.names.contains(&name) {
                    return Err(self.error(format!("undefined variable {name:?}")));
                }
                Kind::Variable(name, Vec::new())
            }
            Token::OpenBracket => Kind::Pipe(Box::new(self.pipe("parenthesized pipeline", &Token::CloseBracket)?)),
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Operand { pos: lexeme.pos, kind }))
    }
}
