//! The operations of the documents with their schemas compiled, and the judgement of a request or an answer by them.

use std::collections::BTreeMap;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::document::{Documents, NAMES, Place};
use super::pieces;

pub struct Contract {
    pub operations: Vec<Operation>,
    schemas: Schemas,
    /// Answers in place of an operation's, by the name of their case.
    beside: BTreeMap<String, Answers>,
}

/// An answer to be judged.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    pub status: u16,
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

pub struct Operation {
    /// In capitals.
    pub method: String,
    /// With its parameters in braces.
    pub path: String,
    /// Whether the last parameter takes the rest of the path, its slashes included.
    rest: bool,
    request: Option<SchemaIndex>,
    answers: Answers,
}

/// By status, then by content type without its parameters. No content type: no body.
type Answers = BTreeMap<u16, BTreeMap<String, Content>>;

#[derive(Default)]
struct Content {
    /// Of the body, or of one piece of a stream.
    schema: Option<SchemaIndex>,
    /// Of the last piece.
    last: Option<SchemaIndex>,
    /// What ends a stream of events, unless an error did.
    sentinel: Option<String>,
    /// The field of an event's data that is its name as well.
    name: Option<String>,
}

impl Contract {
    pub fn load() -> Result<Self, String> {
        let documents = Documents::load()?;
        let mut reader = Reader::new(&documents);
        let mut operations = Vec::new();
        let mut beside = BTreeMap::new();
        for name in NAMES {
            let root = Place::new(name, "");
            for path in reader.keys(&root.child("paths"))? {
                let item = root.child("paths").child(&path);
                for method in reader.keys(&item)?.into_iter().filter(|key| key != "parameters") {
                    operations.push(reader.operation(&path, &method, &item)?);
                }
            }
            if documents.get(&root.child("x-beside")).is_some() {
                for case in reader.keys(&root.child("x-beside"))? {
                    beside.insert(case.clone(), reader.answers(&root.child("x-beside").child(&case))?);
                }
            }
        }
        Ok(Self { operations, schemas: reader.schemas, beside })
    }

    pub fn check(&self, method: &str, path: &str, answer: &Answer<'_>) -> Result<(), String> {
        let (case, answers) = match self.find(method, path) {
            _ if method == "OPTIONS" => ("preflight", &self.beside["preflight"]),
            Ok(operation) => ("answer", &operation.answers),
            Err(case) => (case, &self.beside[case]),
        };
        let verdict = if method == "HEAD" { headless(answers, answer) } else { self.judge(answers, answer) };
        // guards and redirects stand before every route, and what unpacks bodies before those of `/v1`
        let before = if path.starts_with("/v1/") { &["without-body", "unpacked"][..] } else { &["without-body"] };
        let other = || {
            let verdicts = before.iter().map(|case| self.judge(&self.beside[*case], answer));
            verdicts.reduce(Result::or).unwrap_or_else(|| Err("nothing stands before".into()))
        };
        verdict.or_else(|error| other().map_err(|_| format!("{case}: {error}")))
    }

    pub fn check_request(&self, method: &str, path: &str, body: &[u8]) -> Result<(), String> {
        let operation = self.find(method, path).map_err(str::to_owned)?;
        let schema = operation.request.ok_or("this operation takes no JSON")?;
        self.valid(schema, &without_nulls(pieces::json(body)?))
    }

    /// The operation, or what is not known of it.
    fn find(&self, method: &str, path: &str) -> Result<&Operation, &'static str> {
        let path = path.split('?').next().unwrap_or_default();
        let here: Vec<_> = self.operations.iter().filter(|operation| operation.takes(path)).collect();
        match here.iter().find(|operation| operation.method == method) {
            Some(operation) => Ok(operation),
            None if here.is_empty() => Err("unknown-path"),
            None => Err("unknown-method"),
        }
    }

    fn judge(&self, answers: &Answers, answer: &Answer<'_>) -> Result<(), String> {
        let Answer { status, content_type, body } = *answer;
        let contents = answers.get(&status).ok_or("this status is not in the documents")?;
        if contents.is_empty() {
            return match content_type {
                Some(kind) => Err(format!("the content type {kind} of no body")),
                None => empty(body),
            };
        }
        let content_type = content_type.ok_or("no content type")?;
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let content = contents.get(kind).ok_or_else(|| format!("the content type {kind} is not in the documents"))?;
        if !["", "charset=utf-8"].contains(&parameters.trim()) {
            return Err(format!("{kind} with {parameters}"));
        }
        let text = || std::str::from_utf8(body).map_err(|error| error.to_string());
        match kind {
            "application/json" => self.whole(content, &pieces::json(body)?),
            "application/x-ndjson" => self.stream(content, &pieces::lines(body)?),
            "text/event-stream" => self.events(content, body),
            _ => self.whole(content, &Value::from(text()?)),
        }
    }

    fn events(&self, content: &Content, body: &[u8]) -> Result<(), String> {
        let mut events = pieces::events(body)?;
        let sentinel = content.sentinel.as_deref();
        let ended = events.pop_if(|event| Some(event.data) == sentinel);
        let mut data = Vec::new();
        for event in &events {
            let value = pieces::json(event.data.as_bytes())?;
            let name = content.name.as_ref().and_then(|field| value[field].as_str());
            if event.name != name {
                return Err(format!("an event named {:?} with {}", event.name, pieces::shown(event.data)));
            }
            data.push(value);
        }
        let broken = data.last().is_some_and(|last| last.get("error").is_some());
        if ended.is_none() && sentinel.is_some() && !broken {
            return Err("the stream has no end".into());
        }
        self.stream(content, &data)
    }

    fn stream(&self, content: &Content, values: &[Value]) -> Result<(), String> {
        let (Some(last), true) = (values.last(), content.schema.is_some()) else {
            return Err("an empty stream".into());
        };
        values.iter().try_for_each(|value| self.whole(content, value))?;
        match content.last {
            Some(schema) => self.valid(schema, last).map_err(|error| format!("as the last piece: {error}")),
            None => Ok(()),
        }
    }

    fn whole(&self, content: &Content, value: &Value) -> Result<(), String> {
        content.schema.map_or(Ok(()), |schema| self.valid(schema, value))
    }

    fn valid(&self, schema: SchemaIndex, value: &Value) -> Result<(), String> {
        let verdict = self.schemas.validate(value, schema);
        verdict.map_err(|error| format!("{error:#}\nin {}", pieces::shown(&value.to_string())))
    }
}

/// The answer to HEAD: whatever it says of its body, there is none.
fn headless(answers: &Answers, answer: &Answer<'_>) -> Result<(), String> {
    if !answers.contains_key(&answer.status) {
        return Err("this status is not in the documents".into());
    }
    empty(answer.body)
}

fn empty(body: &[u8]) -> Result<(), String> {
    let text = pieces::shown(&String::from_utf8_lossy(body));
    if body.is_empty() { Ok(()) } else { Err(format!("a body where none belongs: {text}")) }
}

impl Operation {
    fn takes(&self, path: &str) -> bool {
        let pattern: Vec<_> = self.path.split('/').collect();
        let parts: Vec<_> = match self.rest {
            true => path.splitn(pattern.len(), '/').collect(),
            false => path.split('/').collect(),
        };
        let fits =
            |(pattern, part): (&&str, &&str)| if pattern.starts_with('{') { !part.is_empty() } else { pattern == part };
        pattern.len() == parts.len() && pattern.iter().zip(&parts).all(fits)
    }
}

/// Builds operations out of documents.
struct Reader<'a> {
    documents: &'a Documents,
    compiler: Compiler,
    schemas: Schemas,
}

impl<'a> Reader<'a> {
    fn new(documents: &'a Documents) -> Self {
        Self { documents, compiler: compiler(documents), schemas: Schemas::new() }
    }

    fn keys(&self, place: &Place) -> Result<Vec<String>, String> {
        let (value, place) = self.documents.follow(place.clone())?;
        let object = value.as_object().ok_or_else(|| format!("no object at {}", place.url()))?;
        Ok(object.keys().cloned().collect())
    }

    fn operation(&mut self, path: &str, method: &str, item: &Place) -> Result<Operation, String> {
        let place = item.child(method);
        let parameters = self.documents.get(&item.child("parameters")).and_then(Value::as_array);
        let rest = parameters.into_iter().flatten().any(|parameter| parameter["x-rest"] == true);
        let request = place.child("requestBody").child("content").child("application/json").child("schema");
        Ok(Operation {
            method: method.to_uppercase(),
            path: path.into(),
            rest,
            request: self.schema(&request)?,
            answers: self.answers(&place.child("responses"))?,
        })
    }

    fn answers(&mut self, place: &Place) -> Result<Answers, String> {
        let mut answers = Answers::new();
        for status in self.keys(place)? {
            let (answer, answer_place) = self.documents.follow(place.child(&status))?;
            let kinds = answer.get("content").and_then(Value::as_object).into_iter().flat_map(|kinds| kinds.keys());
            let mut contents = BTreeMap::new();
            for kind in kinds {
                contents.insert(kind.clone(), self.content(&answer_place.child("content").child(kind))?);
            }
            let status = status.parse().map_err(|_| format!("no status: {status} at {}", place.url()))?;
            answers.insert(status, contents);
        }
        Ok(answers)
    }

    fn content(&mut self, place: &Place) -> Result<Content, String> {
        let text = |key: &str| self.documents.get(&place.child(key)).and_then(Value::as_str).map(str::to_owned);
        let (sentinel, name) = (text("x-sentinel"), text("x-event"));
        Ok(Content {
            schema: self.schema(&place.child("schema"))?,
            last: self.schema(&place.child("x-last"))?,
            sentinel,
            name,
        })
    }

    fn schema(&mut self, place: &Place) -> Result<Option<SchemaIndex>, String> {
        if self.documents.get(place).is_none() {
            return Ok(None);
        }
        let compiled = self.compiler.compile(&place.url(), &mut self.schemas);
        compiled.map(Some).map_err(|error| format!("{}: {error:#}", place.url()))
    }
}

/// Compiles schemas of the documents; formats and encodings are asserted.
pub fn compiler(documents: &Documents) -> Compiler {
    let mut compiler = Compiler::new();
    compiler.use_loader(Box::new(documents.clone()));
    compiler.enable_format_assertions();
    compiler.enable_content_assertions();
    compiler
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
