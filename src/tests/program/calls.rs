//! System calls of the program, as `strace` saw them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::NamedTempFile;

const PROGRAM: &str = "strace";

/// Whether system calls can be watched here; where not, it is said why.
pub fn can_watch() -> bool {
    let probe = Command::new(PROGRAM).args(["-f", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match probe {
        Ok(status) if status.success() => true,
        Ok(_) => {
            println!("skipped: `{PROGRAM}` may not watch programs here");
            false
        }
        Err(_) => {
            println!("skipped: `{PROGRAM}` is not installed (script/test installs it)");
            false
        }
    }
}

/// `program` with its environment, under `strace` with these options.
pub fn under_strace(program: &Command, options: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("-f").args(options).arg("--").arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs `program` to its end. Gives those of its calls that went well, in the order in which they ended, with as many bytes of
/// what it wrote as are wanted.
pub fn watch(program: &Command, calls: &str, bytes: usize) -> (Output, Vec<Call>) {
    let log = NamedTempFile::new().unwrap();
    let (traced, limit) = (format!("trace={calls}"), bytes.to_string());
    // All text in hexadecimal: then no name and no content looks like a part of the line.
    let options =
        ["--seccomp-bpf", "-y", "-xx", "-s", limit.as_str(), "-e", traced.as_str(), "-o", log.path().to_str().unwrap()];
    let output = under_strace(program, &options).output().unwrap();
    (output, read(&std::fs::read_to_string(log.path()).unwrap()))
}

/// One call that went well.
#[derive(Debug, PartialEq)]
pub struct Call {
    /// The lines in which it begins and ends. What happens between them happens at the same time.
    pub begin: usize,
    pub end: usize,
    pub name: String,
    arguments: String,
    pub result: i64,
}

impl Call {
    /// What stands between the commas, as far as there are no commas within.
    pub fn argument(&self, index: usize) -> &str {
        self.arguments.split(", ").nth(index).unwrap_or_default()
    }

    pub fn last(&self) -> &str {
        self.arguments.rsplit(", ").next().unwrap_or_default()
    }

    pub fn says(&self, word: &str) -> bool {
        self.arguments.contains(word)
    }

    /// The text in quotes: names of files, or what was written.
    pub fn texts(&self) -> Vec<Vec<u8>> {
        self.arguments.split('"').skip(1).step_by(2).map(decode).collect()
    }

    /// Names of files in the arguments.
    pub fn names(&self) -> Vec<PathBuf> {
        self.texts().into_iter().map(path).collect()
    }

    /// What a descriptor stands for, unless that has lost its name: `9</path>`.
    pub fn file(&self, index: usize) -> Option<PathBuf> {
        let (_, named) = self.argument(index).split_once('<')?;
        let (name, rest) = named.split_once('>')?;
        rest.is_empty().then(|| path(decode(name)))
    }

    pub fn descriptor(&self, index: usize) -> Option<i64> {
        self.argument(index).split('<').next()?.parse().ok()
    }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8(bytes).expect("names in these tests are UTF-8"))
}

fn decode(text: &str) -> Vec<u8> {
    // What is no file has its kind there, as it is.
    match text.strip_prefix("\\x") {
        Some(digits) => digits.split("\\x").map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect(),
        None => text.as_bytes().to_vec(),
    }
}

/// Reads lines of `PID call(arguments) = result`. A call that others interrupt stands in two pieces.
fn read(text: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let Some((pid, rest)) = content.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let (begin, whole) = if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(pid, (line, start.trim_end()));
            continue;
        } else if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            let Some((begin, start)) = begun.remove(pid) else { continue };
            (begin, start.to_owned() + end)
        } else {
            (line, rest.to_owned())
        };
        let Some((call, result)) = whole.rsplit_once(" = ") else { continue };
        let Some((name, arguments)) = call.trim_end().strip_suffix(')').and_then(|call| call.split_once('(')) else {
            continue;
        };
        let result = result.split(['<', ' ']).next().and_then(|result| result.parse().ok()).unwrap_or(-1);
        if result >= 0 {
            calls.push(Call { begin, end: line, name: name.to_owned(), arguments: arguments.to_owned(), result });
        }
    }
    calls
}

#[test]
fn lines_are_read() {
    let log = r#"7 openat(AT_FDCWD<\x2f>, "\x2f\x61", O_RDWR|O_CREAT, 0600) = 3<\x2f\x61>
7 pwrite64(3<\x2f\x61>, "\x2c\x20\x22", 3, 5 <unfinished ...>
8 rename("\x2f\x62", "\x2f\x63" <unfinished ...>
7 <... pwrite64 resumed>)           = 3
8 <... rename resumed>)             = -1 ENOENT (No such file or directory)
7 write(3<\x2f\x61>(deleted), "\x61", 1) = 1
7 +++ exited with 0 +++"#;
    let calls = read(log);
    let seen: Vec<_> = calls.iter().map(|call| (call.begin, call.end, call.name.as_str(), call.result)).collect();
    assert_eq!(seen, [(0, 0, "openat", 3), (1, 3, "pwrite64", 3), (5, 5, "write", 1)]);
    assert_eq!((calls[0].names(), calls[0].last()), (vec![PathBuf::from("/a")], "0600"));
    assert_eq!((calls[1].texts(), calls[1].last()), (vec![b", \"".to_vec()], "5"));
    assert_eq!((calls[1].file(0), calls[1].descriptor(0), calls[2].file(0)), (Some("/a".into()), Some(3), None));
}
