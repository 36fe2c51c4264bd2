//! The rules of the house, read from the sources: who may import whom, and what every file must be like.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room and the rooms of ours it may name. `go` may be named by all.
const FLOORS: [(&str, &[&str]); 13] = [
    ("go", &[]),
    ("types", &[]),
    ("wire", &["types"]),
    ("gguf", &["types"]),
    ("store", &["types", "gguf"]),
    ("prompt", &["types"]),
    ("create", &["types", "gguf", "store", "prompt"]),
    // Files from an address or a hub become a model as an upload of them would.
    ("pull", &["types", "store", "create"]),
    ("engine", &["types", "gguf", "store"]),
    ("scheduler", &["types", "store", "engine"]),
    ("api", &["types", "wire", "gguf", "store", "prompt", "pull", "create", "engine", "scheduler", "config"]),
    // The command line is a client of our own wire; Modelfiles are text that it reads, and without a server it calls the router.
    ("cli", &["types", "wire", "config", "server", "store::modelfile"]),
    ("config", &["types"]),
];

/// Outside crates that only these places may name.
const DOORS: [(&str, &[&str]); 8] = [
    ("llama_cpp_2", &["engine/llama"]),
    ("mistralrs", &["engine/mistral"]),
    ("llguidance", &["engine"]),
    ("minijinja", &["prompt"]),
    ("reqwest", &["pull", "cli"]),
    ("axum", &["api", "server", "pull/tests"]),
    ("clap", &["cli", "main.rs"]),
    ("hyper", &["server", "api", "pull"]),
];

/// A page is short; a test may be longer.
const LONGEST: usize = 400;

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The program's own sources.
fn rooms() -> Vec<(String, String)> {
    sources().into_iter().filter(|(name, _)| !name.starts_with("tests/")).collect()
}

/// Lines that are code, as far as a look at one line can tell.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for (name, text) in rooms() {
        let room = name.split(['/', '.']).next().unwrap();
        let Some((_, allowed)) = FLOORS.iter().find(|(floor, _)| *floor == room) else { continue };
        for (line, text) in code(&text) {
            for (at, _) in text.match_indices("crate::") {
                let named = &text[at + "crate::".len()..];
                let named = named.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap();
                let fits = |allowed: &str| named == allowed || named.starts_with(&format!("{allowed}::"));
                let grouped = named.is_empty();
                if !grouped && !fits(room) && !fits("go") && !allowed.iter().any(|allowed| fits(allowed)) {
                    wrong.push(format!("{name}:{line} names `{named}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these imports go up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn outside_crates_have_their_door() {
    let mut wrong = Vec::new();
    for (name, text) in rooms() {
        for (line, text) in code(&text) {
            for (outside, doors) in DOORS {
                let named = text.contains(&format!("{outside}::")) || text.contains(&format!("use {outside};"));
                let whole = !text.contains(&format!("_{outside}::"));
                if named && whole && !doors.iter().any(|door| name.starts_with(door)) {
                    wrong.push(format!("{name}:{line} names `{outside}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these crates are named outside their rooms:\n{}", wrong.join("\n"));
}

#[test]
fn a_file_says_what_it_is_and_is_a_page() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{name} does not say what it is"));
        }
        let lines = text.lines().count();
        let excused = name.starts_with("tests/") || name.contains("/tests/");
        if lines > LONGEST && !excused {
            wrong.push(format!("{name} has {lines} lines"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_is_declared() {
    let sources = sources();
    let names: BTreeSet<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
    let mut wrong = Vec::new();
    for name in &names {
        let path = Path::new(name);
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap();
        let (module, above) = match stem {
            "main" | "lib" => continue,
            "mod" => (folder.file_name().unwrap().to_str().unwrap(), folder.parent().unwrap()),
            _ => (stem, folder),
        };
        let declared = sources.iter().any(|(other, text)| {
            let beside = Path::new(other).parent() == Some(above) || Path::new(other).with_extension("") == above;
            beside && (text.contains(&format!("mod {module};")) || text.contains(&format!("{module}.rs\"")))
        });
        if !declared {
            wrong.push(format!("{name} is declared nowhere"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_lying_about() {
    let marks = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME", "XXX"];
    let mut wrong = Vec::new();
    for (name, text) in rooms() {
        for (line, text) in code(&text) {
            wrong
                .extend(marks.iter().filter(|mark| text.contains(**mark)).map(|mark| format!("{name}:{line}: {mark}")));
        }
        let program = text.split("#[cfg(test)]").next().unwrap();
        let of_tests =
            ["tests.rs", "/testing.rs"].iter().any(|ending| name.ends_with(ending)) || name.contains("/tests/");
        if !of_tests {
            let unwraps = code(program).filter(|(_, line)| line.contains(".unwrap()"));
            wrong.extend(unwraps.map(|(line, _)| format!("{name}:{line}: unwrap outside tests")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
