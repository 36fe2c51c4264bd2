//! Runs what was recorded from Ollama's own renderers, parsers, templates, Modelfile reader and option reader.
//!
//! `cargo test --release --test conformance`; the files come from `$HANZOD_PROMPTS`, by default
//! `compat-tests/conformance/prompts`. Each id that differs is printed with what came and what was wanted, then a count a file.

mod any_text;
mod decode;
mod generic;
mod modelfiles;
mod options;
mod parsers;
mod renderers;
mod templates;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

/// The cases of one file, in order.
pub(crate) fn cases(file: &str) -> Vec<Value> {
    let folder = std::env::var_os("HANZOD_PROMPTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("compat-tests/conformance/prompts"),
        PathBuf::from,
    );
    let text = std::fs::read_to_string(folder.join(file)).expect(file);
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Runs `check` on every case and fails with the ids that differ. `better` names the cases in which hanzod does the better
/// thing on purpose, each with the defect of Ollama's that it avoids; `check` is not asked to agree there, but it must run.
pub(crate) fn run(file: &str, better: &BTreeMap<&str, &str>, check: impl Fn(&Value) -> Result<(), String>) {
    let cases = cases(file);
    let mut report = String::new();
    let (mut same, mut differ, mut known) = (0, 0, 0);
    for case in &cases {
        let id = case["id"].as_str().expect("each case has an id");
        match (check(case), better.get(id)) {
            (Ok(()), _) => same += 1,
            (Err(_), Some(_)) => known += 1,
            (Err(difference), None) => {
                differ += 1;
                writeln!(report, "DIFFERS {id}: {difference}").expect("a string takes all");
            }
        }
    }
    println!("{file}: {same} same, {known} better on purpose, {differ} differ, of {}", cases.len());
    assert!(differ == 0, "{file}: {differ} of {} differ\n{report}", cases.len());
}
