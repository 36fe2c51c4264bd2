//! Progress of a pull, a push or a create: bars on a terminal, one line a status elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal as _;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// Ten frames a second.
const RATE: u8 = 10;

pub(crate) struct Progress {
    json: bool,
    terminal: bool,
    bars: MultiProgress,
    layers: HashMap<String, ProgressBar>,
    status: Option<ProgressBar>,
    last: String,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(RATE));
        let terminal = std::io::stderr().is_terminal();
        Self { json, terminal, bars, layers: HashMap::new(), status: None, last: String::new() }
    }

    /// Shows one line of an answer.
    pub(crate) fn show(&mut self, line: &Value) {
        if self.json {
            return super::say(&format!("{line}\n"));
        }
        let status = line["status"].as_str().unwrap_or_default();
        let total = line["total"].as_u64().unwrap_or(0);
        match (line["digest"].as_str(), total) {
            (Some(digest), 1..) => self.layer(digest, status, total, line["completed"].as_u64().unwrap_or(0)),
            _ => self.step(status),
        }
    }

    fn layer(&mut self, digest: &str, status: &str, total: u64, completed: u64) {
        self.end_step();
        if !self.terminal {
            return self.plain(status);
        }
        let bars = &self.bars;
        let bar = self.layers.entry(digest.to_owned()).or_insert_with(|| {
            let template = "{msg}: {percent:>3}% ▕{bar:24}▏ {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec:>12} {eta:>5}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(ProgressBar::new(total).with_style(style.progress_chars("█▉▊▋▌▍▎▏ ")));
            bar.set_message(status.to_owned());
            bar
        });
        bar.set_position(completed.min(total));
        if completed >= total && !bar.is_finished() {
            bar.finish();
        }
    }

    fn step(&mut self, status: &str) {
        if !self.terminal {
            return self.plain(status);
        }
        if self.last == status {
            return;
        }
        self.end_step();
        self.last = status.to_owned();
        let spinner = self.bars.add(ProgressBar::new_spinner());
        spinner.set_message(status.to_owned());
        spinner.enable_steady_tick(std::time::Duration::from_millis(100));
        self.status = Some(spinner);
    }

    fn end_step(&mut self) {
        if let Some(spinner) = self.status.take() {
            spinner.finish();
        }
    }

    fn plain(&mut self, status: &str) {
        if self.last != status {
            self.last = status.to_owned();
            super::tell(&format!("{status}\n"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end_step();
    }
}
