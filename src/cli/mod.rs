//! Floor 6: the command line, a client of our own wire.
//!
//! Every command but `serve` and `runner` speaks the HTTP API: to a server that answers, else to the same router called in
//! this process. Words for people go to the terminal, `--json` gives what a program reads.

mod archive;
mod client;
mod create;
mod models;
mod progress;
mod repl;
mod run;
mod session;
mod share;
mod show;
mod store;
mod table;
mod words;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Endpoint, Environment, OWN_PORT};
use client::Client;

/// A model server with Ollama's API, and OpenAI's and Anthropic's beside it.
#[derive(Debug, Parser)]
#[command(name = "hanzod", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server
    #[command(visible_alias = "start")]
    Serve(Serve),
    /// Bring a model into the store: from a registry, the Hugging Face hub, or an address
    Pull(models::Pull),
    /// Send a model to a registry
    Push(models::Push),
    /// List the models of the store
    #[command(visible_alias = "ls")]
    List(models::List),
    /// Tell what a model is made of
    Show(show::Show),
    /// Ask a model: one prompt, or a conversation
    Run(run::Run),
    /// List the models that are loaded
    Ps(models::Ps),
    /// Unload a model
    Stop(models::Stop),
    /// Remove models from the store
    #[command(visible_alias = "delete")]
    Rm(models::Rm),
    /// Give a model a second name
    Cp(models::Cp),
    /// Tell what takes the room on disk
    Df(store::Df),
    /// Remove what no model uses: unused blobs, downloads that nobody went on with
    Prune(store::Prune),
    /// Read blobs through, to see whether they are what their names say
    Verify(store::Verify),
    /// Make a model of a GGUF file of this machine, without a copy
    Link(share::Link),
    /// Write a model into one file
    Export(archive::Export),
    /// Take in a model that was exported
    Import(archive::Import),
    /// Make a model from a Modelfile
    Create(create::Create),
    /// One loaded model; the server starts these itself
    #[command(hide = true)]
    Runner,
}

/// Where to listen. Without any of these: 127.0.0.1:3690, and 127.0.0.1:11434 for Ollama's clients.
#[derive(Debug, Args)]
struct Serve {
    /// Our own address; `off` leaves it out [env: HANZOD_HOST]
    #[arg(long)]
    host: Option<String>,
    /// Our own port; 0 takes a free one
    #[arg(long)]
    port: Option<u16>,
    /// Listen here and nowhere else; may be given several times
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["host", "port"])]
    listen: Vec<String>,
    /// The store [env: OLLAMA_MODELS]
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
}

/// Where to ask.
#[derive(Clone, Copy, Debug, Default, Args)]
struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Cli {
    /// True for the child process, which has no terminal and no tasks.
    pub fn is_runner(&self) -> bool {
        matches!(self.command, Command::Runner)
    }

    /// True for the server, whose log is for people who run servers.
    pub fn is_server(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What a person should read.
    pub async fn execute(self) -> anyhow::Result<()> {
        let config = Config::read(&Environment)?;
        match self.command {
            Command::Runner => anyhow::bail!("the runner has no tasks: a bug"),
            Command::Serve(serve) => serve.execute(config).await,
            Command::Link(link) => link.execute(&config).await,
            command => {
                let client = Client::connect(&config).await?;
                match command {
                    Command::Pull(pull) => pull.execute(&client).await,
                    Command::Push(push) => push.execute(&client).await,
                    Command::List(list) => list.execute(&client).await,
                    Command::Show(show) => show.execute(&client).await,
                    Command::Run(run) => run.execute(&client, &config).await,
                    Command::Ps(ps) => ps.execute(&client).await,
                    Command::Stop(stop) => stop.execute(&client).await,
                    Command::Rm(rm) => rm.execute(&client).await,
                    Command::Cp(cp) => cp.execute(&client).await,
                    Command::Df(df) => df.execute(&client).await,
                    Command::Prune(prune) => prune.execute(&client).await,
                    Command::Verify(verify) => verify.execute(&client).await,
                    Command::Export(export) => export.execute(&client).await,
                    Command::Import(import) => import.execute(&client).await,
                    Command::Create(create) => create.execute(&client).await,
                    Command::Serve(_) | Command::Link(_) | Command::Runner => Ok(()),
                }
            }
        }
    }
}

impl Serve {
    async fn execute(self, mut config: Config) -> anyhow::Result<()> {
        if let Some(models) = self.models {
            config.models = models;
        }
        match self.host.as_deref() {
            Some("off") => config.own = None,
            Some(host) => config.own = Some(Endpoint::parse(host, OWN_PORT)),
            None => {}
        }
        if let (Some(port), Some(own)) = (self.port, &mut config.own) {
            own.port = port;
        }
        let listen: Vec<Endpoint> = self.listen.iter().map(|text| address(text)).collect();
        Ok(crate::server::serve(config, listen).await?)
    }
}

/// An address of `--listen`: a bare port listens on this machine only.
fn address(text: &str) -> Endpoint {
    match text.parse::<u16>() {
        Ok(port) => Endpoint::loopback(port),
        Err(_) => match text.parse::<IpAddr>() {
            Ok(ip) => Endpoint { https: false, host: ip.to_string(), port: OWN_PORT },
            Err(_) => Endpoint::parse(text, OWN_PORT),
        },
    }
}

/// Writes to standard output. A reader that has left (`| head`) is no error: the program ends quietly.
fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Writes to standard error, for the person who waits; what is being done goes on when nobody reads it.
fn tell(text: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(text.as_bytes()).ok();
}

/// Prints what a program reads: one JSON value, indented.
fn say_json(value: &serde_json::Value) {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    say(&format!("{text}\n"));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn listen_addresses() {
        assert_eq!(address("8080"), Endpoint::loopback(8080));
        assert_eq!(address("0.0.0.0"), Endpoint { https: false, host: "0.0.0.0".into(), port: OWN_PORT });
        assert_eq!(address("[::1]:99").addresses().unwrap()[0].to_string(), "[::1]:99");
    }
}
