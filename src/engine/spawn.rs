//! A child process of this same binary: how it is started, spoken with and ended, and what is told of its death.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command as Process};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::event::EngineError;
use super::protocol::{self, Command, Event};

/// Lines of a dead runner's last words that are kept.
const LAST_WORDS: usize = 20;
/// A runner that no longer speaks has this long to end by itself.
const LAST_BREATH: Duration = Duration::from_secs(5);
/// How long the threads of GNU's OpenMP, which llama.cpp computes with, spin for each other before they sleep. By default
/// it is milliseconds, and on a busy machine they then spin away the very time the other thread waits for: with two busy
/// neighbours on two cores a model was a tenth as fast. This long costs nothing on an idle one.
const SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "10000");
/// On an abort, llama.cpp would have gdb attach itself, which takes long and drowns what it complained of.
const NO_BACKTRACE: (&str, &str) = ("GGML_NO_BACKTRACE", "1");

/// Weights and caches are gigabytes: in pages of 2 MiB, where the system gives them to who asks (`madvise`, Linux's usual setting),
/// they are there in a third of the time, and are read through fewer entries of the processor's page tables.
const TUNABLES: &str = "GLIBC_TUNABLES";
const HUGE_PAGES: &str = "glibc.malloc.hugetlb";

/// The tunables of GNU's C library for a runner: those that are set, and huge pages unless they say of them.
fn tunables(set: Option<OsString>) -> OsString {
    let mut all = set.unwrap_or_default();
    if !all.to_string_lossy().contains(HUGE_PAGES) {
        if !all.is_empty() {
            all.push(":");
        }
        all.push(format!("{HUGE_PAGES}=1"));
    }
    all
}

/// What is started, and how it is told to be a runner.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    pub(super) fn new(path: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { path, arguments }
    }

    /// `hanzod runner`, of the program that is running.
    pub(super) fn this() -> io::Result<Self> {
        Ok(Self::new(std::env::current_exe()?, vec!["runner".into()]))
    }

    /// Must be called within a tokio runtime.
    pub(super) fn start(&self) -> io::Result<Spawned> {
        let decided = [SPIN.0, "OMP_WAIT_POLICY"].iter().any(|name| std::env::var_os(name).is_some());
        let mut child = Process::new(&self.path)
            .args(&self.arguments)
            .envs((!decided).then_some(SPIN))
            .env(NO_BACKTRACE.0, NO_BACKTRACE.1)
            .env(TUNABLES, tunables(std::env::var_os(TUNABLES)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("it has no pipes"));
        };
        Ok(Spawned {
            commands: Commands(FramedWrite::new(stdin, protocol::codec())),
            events: Events(FramedRead::new(stdout, protocol::codec())),
            process: Offspring { child, last_words: tokio::spawn(log(stderr)) },
        })
    }
}

/// A runner that was just started.
pub(super) struct Spawned {
    pub(super) commands: Commands,
    pub(super) events: Events,
    pub(super) process: Offspring,
}

/// The pipe to a runner. When it is dropped, the runner ends.
pub(super) struct Commands(FramedWrite<ChildStdin, LengthDelimitedCodec>);

impl Commands {
    /// # Errors
    /// When the runner no longer reads.
    pub(super) async fn send(&mut self, command: &Command) -> io::Result<()> {
        self.0.send(bytes::Bytes::from(protocol::encode(command)?)).await
    }
}

/// The pipe from a runner.
pub(super) struct Events(FramedRead<ChildStdout, LengthDelimitedCodec>);

impl Events {
    /// `None` when the runner has closed the pipe or sent what is no event.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let frame = self.0.next().await?;
        match frame.and_then(|frame| protocol::decode(&frame)) {
            Ok(event) => Some(event),
            Err(error) => {
                tracing::error!(%error, "a runner's frame is broken");
                None
            }
        }
    }
}

/// The process itself. Dropped, it is killed.
pub(super) struct Offspring {
    child: Child,
    last_words: JoinHandle<VecDeque<String>>,
}

impl Offspring {
    /// Lets it end by itself, if it does within `time`.
    pub(super) async fn wait(&mut self, time: Duration) {
        timeout(time, self.child.wait()).await.ok();
    }

    /// Kills it and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await.ok();
    }

    /// Says how a child ended that has closed its pipe; one that lives on all the same is killed.
    pub(super) async fn last_rites(mut self) -> EngineError {
        let ended = match timeout(LAST_BREATH, self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                self.child.start_kill().ok();
                self.child.wait().await
            }
        };
        let status = match ended {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let words = self.last_words.await.unwrap_or_default();
        // A library's own complaint may stand before a backtrace, or before Rust's advice to ask for one.
        let telling = words.iter().rev().find(|line| line.contains("rror") || line.contains("GGML_ASSERT"));
        EngineError::Died(match telling.or_else(|| words.iter().rev().find(|line| !line.starts_with("note: "))) {
            Some(line) => format!("{status}: {}", without_folder(line)),
            None => status,
        })
    }
}

/// A complaint that begins with a source file's place, without the folders of the machine it was built on.
fn without_folder(line: &str) -> &str {
    match line.split_once(':') {
        Some((place, _)) if place.starts_with('/') => &line[place.rfind('/').map_or(0, |at| at + 1)..],
        _ => line,
    }
}

/// Passes a runner's standard error on to our log and keeps its last lines.
async fn log(stderr: ChildStderr) -> VecDeque<String> {
    let mut lines = BufReader::new(stderr).split(b'\n');
    let mut kept = VecDeque::new();
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() {
            continue;
        }
        tracing::debug!(target: "hanzod::runner", "{line}");
        if kept.len() == LAST_WORDS {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_stays() {
        assert_eq!(tunables(None), "glibc.malloc.hugetlb=1");
        assert_eq!(tunables(Some("glibc.a=2".into())), "glibc.a=2:glibc.malloc.hugetlb=1");
        assert_eq!(tunables(Some("glibc.malloc.hugetlb=0".into())), "glibc.malloc.hugetlb=0");
    }

    #[test]
    fn a_complaint_names_no_folder() {
        for (line, shown) in [
            (
                "/build/x/llama-model.cpp:1330: GGML_ASSERT(a / b) failed",
                "llama-model.cpp:1330: GGML_ASSERT(a / b) failed",
            ),
            ("error: cannot open /a/b", "error: cannot open /a/b"),
            ("what(): bad", "what(): bad"),
        ] {
            assert_eq!(without_folder(line), shown);
        }
    }
}
