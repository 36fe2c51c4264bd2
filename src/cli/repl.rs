//! The conversation: lines in, answers out, and commands that begin with a slash.

use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::{Config as LineConfig, DefaultEditor};
use serde_json::{Value, json};

use super::client::{Client, set};
use super::session::{Session, Shown, attachments, timings};
use super::{say, show, tell};
use crate::config::Config;

const HISTORY: usize = 100;
const HELP: &str = "\
Available Commands:
  /set parameter NAME VALUE   Set an option of the model
  /set system TEXT            Set the system message
  /set format json | noformat Hold answers to JSON, or not
  /set think [LEVEL] | nothink  Let the model think, or not
  /set verbose | quiet        Show timings, or not
  /set history | nohistory    Keep lines for later, or not
  /show info | license | modelfile | parameters | system | template
  /load MODEL                 Talk to another model
  /save MODEL                 Make a model of this session
  /clear                      Forget the conversation
  /list                       List the models of the store
  /bye                        Leave
Use \"\"\" to begin and end a message of several lines.
";

struct Repl<'a> {
    client: &'a Client,
    session: Session,
    messages: Vec<Value>,
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

/// What a command leads to.
enum Then {
    Go,
    Leave,
}

/// Talks until the person leaves.
pub(super) async fn converse(client: &Client, config: &Config, session: Session, about: &Value) -> anyhow::Result<()> {
    let settings = LineConfig::builder().max_history_size(HISTORY)?.auto_add_history(true).build();
    let mut editor = DefaultEditor::with_config(settings)?;
    if let Some(path) = &config.history {
        editor.load_history(path).ok();
    }
    let mut repl = Repl { client, session, messages: Vec::new(), editor, history: config.history.clone() };
    repl.load().await?;
    for message in about["messages"].as_array().into_iter().flatten() {
        match (message["role"].as_str(), message["content"].as_str()) {
            (Some("user"), Some(text)) => say(&format!(">>> {text}\n")),
            (_, Some(text)) => say(&format!("{text}\n\n")),
            _ => {}
        }
    }
    let ended = repl.talk().await;
    if let Some(path) = &repl.history {
        path.parent().map(std::fs::create_dir_all);
        repl.editor.save_history(path).ok();
    }
    ended
}

impl Repl<'_> {
    async fn talk(&mut self) -> anyhow::Result<()> {
        loop {
            let line = match self.read() {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => {
                    say("\nUse Ctrl + d or /bye to exit.\n");
                    continue;
                }
                Err(ReadlineError::Eof) => {
                    say("\n");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            let done = match text.strip_prefix('/') {
                // A path to an image may begin a message.
                Some(command) if !text.split(' ').next().is_some_and(|word| word[1..].contains('/')) => {
                    self.command(command).await
                }
                _ => self.ask(text).await.map(|()| Then::Go),
            };
            match done {
                Ok(Then::Go) => {}
                Ok(Then::Leave) => return Ok(()),
                Err(error) => tell(&format!("Error: {error:#}\n")),
            }
        }
    }

    /// One message: a line, or what stands between two `"""`.
    fn read(&mut self) -> rustyline::Result<String> {
        let line = self.editor.readline(">>> ")?;
        let Some(rest) = line.trim_start().strip_prefix("\"\"\"") else { return Ok(line) };
        let mut text = rest.to_owned();
        while !text.trim_end().ends_with("\"\"\"") {
            text.push('\n');
            text += &self.editor.readline("... ")?;
        }
        Ok(text.trim_end().trim_end_matches("\"\"\"").to_owned())
    }

    async fn load(&self) -> anyhow::Result<()> {
        let mut request = json!({"model": self.session.model, "messages": [], "stream": false});
        set(&mut request, "keep_alive", self.session.keep_alive.clone());
        self.client.call("POST", "/api/chat", Some(&request)).await.map(drop)
    }

    async fn ask(&mut self, text: &str) -> anyhow::Result<()> {
        let (content, images) = if self.session.media { attachments(text)? } else { (text.to_owned(), Vec::new()) };
        let mut message = json!({"role": "user", "content": content});
        if !images.is_empty() {
            message["images"] = Value::Array(images);
        }
        self.messages.push(message);
        let system = self.session.system.iter().map(|text| json!({"role": "system", "content": text}));
        let messages: Vec<Value> = system.chain(self.messages.iter().cloned()).collect();
        let mut request = json!({"model": self.session.model, "messages": messages});
        self.session.apply(&mut request);

        let mut shown = Shown::new(self.session.hide_thinking);
        let (mut answer, mut thinking) = (String::new(), String::new());
        let verbose = self.session.verbose;
        let lines = self.client.lines("/api/chat", &request, |line| {
            let message = &line["message"];
            let (thought, said) = (message["thinking"].as_str(), message["content"].as_str());
            thinking += thought.unwrap_or_default();
            answer += said.unwrap_or_default();
            shown.thinking(thought.unwrap_or_default());
            shown.content(said.unwrap_or_default());
            if verbose && line["done"] == true {
                tell(&format!("\n\n{}", timings(&line)));
            }
            Ok(())
        });
        let interrupted = tokio::select! {
            done = lines => { done?; false }
            _ = tokio::signal::ctrl_c() => true,
        };
        drop(shown);
        say(if interrupted { "\n" } else { "\n\n" });
        let mut message = json!({"role": "assistant", "content": answer});
        if !thinking.is_empty() {
            message["thinking"] = json!(thinking);
        }
        self.messages.push(message);
        Ok(())
    }

    async fn command(&mut self, text: &str) -> anyhow::Result<Then> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        match word {
            "bye" | "exit" => return Ok(Then::Leave),
            "?" | "help" => say(HELP),
            "clear" => {
                self.messages.clear();
                say("Cleared session context\n");
            }
            "list" => {
                let answer = self.client.call("GET", "/api/tags", None).await?;
                let models = answer["models"].as_array().into_iter().flatten();
                models.filter_map(|model| model["name"].as_str()).for_each(|name| say(&format!("{name}\n")));
            }
            "load" => {
                say(&format!("Loading model '{rest}'\n"));
                let former = std::mem::replace(&mut self.session.model, rest.to_owned());
                if let Err(error) = self.load().await {
                    self.session.model = former;
                    return Err(error);
                }
                self.messages.clear();
            }
            "save" => self.save(rest).await?,
            "set" => self.set(rest),
            "show" => self.show(rest).await?,
            _ => say(&format!("Unknown command '/{word}'. Type /? for help\n")),
        }
        Ok(Then::Go)
    }

    fn set(&mut self, text: &str) {
        let (what, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        let session = &mut self.session;
        let said = match (what, rest) {
            ("parameter", rest) => match rest.split_once(' ') {
                Some((name, value)) => {
                    let value = value.trim();
                    let parsed = match name {
                        "stop" => json!(value.split_whitespace().collect::<Vec<_>>()),
                        _ => serde_json::from_str(value).unwrap_or_else(|_| json!(value)),
                    };
                    session.options.insert(name.to_owned(), parsed);
                    format!("Set parameter '{name}' to '{value}'")
                }
                None => "Usage: /set parameter NAME VALUE".into(),
            },
            ("system", text) if !text.is_empty() => {
                session.system = Some(text.trim_matches('"').to_owned());
                "Set system message.".into()
            }
            ("format", "json") => {
                session.format = Some(json!("json"));
                "Set format to 'json' mode.".into()
            }
            ("noformat", _) => {
                session.format = None;
                "Disabled format.".into()
            }
            ("verbose", _) => {
                session.verbose = true;
                "Set 'verbose' mode.".into()
            }
            ("quiet", _) => {
                session.verbose = false;
                "Set 'quiet' mode.".into()
            }
            ("think", "") => {
                session.think = Some(Value::Bool(true));
                "Set 'think' mode.".into()
            }
            ("think", level) => {
                session.think = Some(json!(level));
                format!("Set 'think' mode to '{level}'.")
            }
            ("nothink", _) => {
                session.think = Some(Value::Bool(false));
                "Set 'nothink' mode.".into()
            }
            ("nohistory", _) => {
                self.history = None;
                "Lines are not kept.".into()
            }
            ("history", _) => "Lines are kept unless /set nohistory was given.".into(),
            _ => "Usage: /set parameter | system | format | noformat | think | nothink | verbose | quiet".into(),
        };
        say(&format!("{said}\n"));
    }

    async fn show(&self, what: &str) -> anyhow::Result<()> {
        let request = json!({"model": self.session.model});
        let answer = self.client.call("POST", "/api/show", Some(&request)).await?;
        let text =
            |key: &str, none: &str| answer[key].as_str().filter(|text| !text.is_empty()).unwrap_or(none).to_owned();
        let said = match what {
            "" | "info" => show::describe(&answer, false),
            "license" => text("license", "No license was specified for this model."),
            "modelfile" => text("modelfile", ""),
            "system" => self
                .session
                .system
                .clone()
                .unwrap_or_else(|| text("system", "No system message was specified for this model.")),
            "template" => text("template", "No prompt template was specified for this model."),
            "parameters" => {
                let own =
                    self.session.options.iter().map(|(name, value)| format!("  {name} {value}\n")).collect::<String>();
                format!("Model defined parameters:\n{}\n\nUser defined parameters:\n{own}", text("parameters", ""))
            }
            other => format!("Unknown command '/show {other}'. Type /? for help"),
        };
        say(&format!("{}\n", said.trim_end()));
        Ok(())
    }

    async fn save(&self, name: &str) -> anyhow::Result<()> {
        let mut request =
            json!({"model": name, "from": self.session.model, "stream": false, "messages": self.messages});
        set(&mut request, "system", self.session.system.clone().map(Value::String));
        if !self.session.options.is_empty() {
            request["parameters"] = Value::Object(self.session.options.clone());
        }
        self.client.call("POST", "/api/create", Some(&request)).await?;
        say(&format!("Created new model '{name}'\n"));
        Ok(())
    }
}
