//! A home folder of a test's own, the program started in it, and a client of the server that then runs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What takes longer than this has failed, whatever the machine is busy with.
pub const PATIENCE: Duration = Duration::from_secs(60);
const STARTED: &str = "hanzod is listening on ";

/// The folder with the tiny model's files.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny")
}

/// Looks until `holds` is true.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A home folder without anything in it, and a folder for temporary files, which outlive a program that is killed.
pub struct Home {
    folder: tempfile::TempDir,
    temporary: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        let [folder, temporary] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        Self { folder, temporary }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn store(&self) -> PathBuf {
        self.path().join(".ollama/models")
    }

    /// The program, with the environment of a user who has set nothing, and with no server to be found.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hanzod"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text.starts_with("ollama_") || text.starts_with("hanzod_") || text.ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command.args(arguments).stdin(Stdio::null()).env("HOME", self.path());
        command.env("TMPDIR", self.temporary.path());
        command.env("HANZOD_HOST", "off").env("OLLAMA_HOST", "off");
        command
    }

    /// Runs a command to its end; without a server, it does its work in its own process.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().unwrap()
    }

    /// As [`Home::run`], and it must go well. Gives standard output.
    pub fn good(&self, arguments: &[&str]) -> String {
        good(self.run(arguments))
    }

    /// The tiny model's Modelfile, with one of its files.
    pub fn modelfile(&self, name: &str, file: &str) -> PathBuf {
        let text = std::fs::read_to_string(tiny().join("Modelfile")).unwrap();
        let from = format!("FROM {}", tiny().join(file).display());
        let modelfile = self.path().join(format!("Modelfile-{}", name.replace(['/', ':'], "-")));
        std::fs::write(&modelfile, text.replacen("FROM ./tiny-f16.gguf", &from, 1)).unwrap();
        modelfile
    }

    /// Makes `name` of one of the tiny model's files.
    pub fn create(&self, name: &str, file: &str) {
        let modelfile = self.modelfile(name, file);
        self.good(&["create", name, "-f", modelfile.to_str().unwrap()]);
    }
}

/// The same program, run by another: `wrapper` and its arguments, which end where the program begins.
#[cfg(target_os = "linux")]
pub fn wrapped(wrapper: &[&str], program: &Command) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Standard output of a command that went well.
pub fn good(output: Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {words}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that said why it could not.
pub fn bad(output: Output) -> String {
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.lines().last().is_some_and(|line| line.starts_with("Error: ")), "{words}");
    words
}

/// What a server has written to standard error.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

/// A server that runs; dropped, it is killed.
pub struct Server {
    child: Child,
    log: Arc<Log>,
    /// One an address.
    pub urls: Vec<String>,
    pub http: reqwest::Client,
}

impl Server {
    /// One address, a free port.
    pub fn start(home: &Home) -> Self {
        Self::start_with(home.program(&["serve", "--listen", "127.0.0.1:0"]), 1)
    }

    /// As [`Server::start`], with further settings in its environment.
    #[cfg(all(feature = "llama", target_os = "linux"))]
    pub fn start_set(home: &Home, settings: &[(&str, &str)]) -> Self {
        let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
        command.envs(settings.iter().copied());
        Self::start_with(command, 1)
    }

    /// Waits until the program has said of `count` addresses that it listens there.
    pub fn start_with(mut command: Command, count: usize) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (words, kept) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in words.lines().map_while(Result::ok) {
                kept.lines.lock().unwrap().0.push(line);
                kept.more.notify_all();
            }
            kept.lines.lock().unwrap().1 = true;
            kept.more.notify_all();
        });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut server = Self { child, log, urls: Vec::new(), http };
        let all = server.wait_for_lines(STARTED, count);
        server.urls = all.iter().map(|line| line[STARTED.len()..].to_owned()).collect();
        server
    }

    /// Lines that begin with `start`, when there are `count`.
    fn wait_for_lines(&self, start: &str, count: usize) -> Vec<String> {
        let all = self.log.lines.lock().unwrap();
        let found = |lines: &[String]| lines.iter().filter(|line| line.starts_with(start)).cloned().collect::<Vec<_>>();
        let wait = |seen: &mut (Vec<String>, bool)| found(&seen.0).len() < count && !seen.1;
        let (seen, _) = self.log.more.wait_timeout_while(all, PATIENCE, wait).unwrap();
        let lines = found(&seen.0);
        assert_eq!(lines.len(), count, "lines that begin with `{start}` in:\n{}", seen.0.join("\n"));
        lines
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        self.log.lines.lock().unwrap().0.join("\n")
    }

    /// Pulls a model from another server of this machine, to the end.
    pub async fn pull(&self, model: &str) -> (u16, Value) {
        self.post("/api/pull", serde_json::json!({"model": model, "insecure": true, "stream": false})).await
    }

    /// The names of the models that are there, in order.
    pub async fn names(&self) -> Vec<String> {
        let (status, answer) = self.get("/api/tags").await;
        assert_eq!(status, 200, "{answer}");
        let models = answer["models"].as_array().unwrap().iter();
        let mut names: Vec<String> = models.map(|model| model["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    pub fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// `127.0.0.1:port` of the first address.
    pub fn address(&self) -> &str {
        self.urls[0].strip_prefix("http://").unwrap()
    }

    /// How it ended; it is waited for.
    pub fn ended(mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// A command of the command line that finds this server.
    pub fn command(&self, home: &Home, arguments: &[&str]) -> Command {
        let mut command = home.program(arguments);
        command.env("HANZOD_HOST", self.address());
        command
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        whole(self.http.get(self.urls[0].clone() + path)).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> (u16, Value) {
        whole(self.http.post(self.urls[0].clone() + path).body(body.into().0)).await
    }

    pub async fn delete(&self, path: &str, body: impl Into<Body>) -> u16 {
        whole(self.http.delete(self.urls[0].clone() + path).body(body.into().0)).await.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.said());
        }
    }
}

/// A request's body: JSON, or bytes as they are.
pub struct Body(Vec<u8>);

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self(value.to_string().into_bytes())
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// Status and JSON; an empty body is null.
async fn whole(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.timeout(PATIENCE).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    match text.as_str() {
        "" => (status, Value::Null),
        text => (status, serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))),
    }
}

/// Sends a request as it stands and gives the connection.
pub fn send(address: &str, request: &[u8]) -> std::net::TcpStream {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    stream
}

/// One connection, used over and over.
pub struct Talk(BufReader<std::net::TcpStream>);

impl Talk {
    pub fn with(server: &Server) -> Self {
        Self(BufReader::new(send(server.address(), b"")))
    }

    pub fn post(&mut self, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let body = body.into().0;
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        self.0.get_mut().write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_ascii_lowercase()),
            }
        }
        let status = lines.first().expect("an answer").split(' ').nth(1).unwrap().parse().unwrap();
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer).unwrap();
        (status, if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).unwrap() })
    }
}

/// The child processes of `parent` that live.
#[cfg(target_os = "linux")]
pub fn children(parent: rustix::process::Pid) -> Vec<rustix::process::Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let lives =
        |number: &i32| stat(*number).is_some_and(|(state, of)| state != 'Z' && of == parent.as_raw_nonzero().get());
    numbers.filter(lives).filter_map(rustix::process::Pid::from_raw).collect()
}

/// A process's state and parent.
#[cfg(target_os = "linux")]
pub fn stat(number: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}
