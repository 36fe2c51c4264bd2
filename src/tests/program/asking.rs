//! Questions to a server with an engine: in one piece, line by line, and as long as one wants.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};

use super::harness::{PATIENCE, Server};

impl Server {
    /// An answer that comes line by line.
    pub async fn stream(&self, path: &str, body: Value) -> Lines {
        let sent = self.http.post(self.urls[0].clone() + path).body(body.to_string()).send();
        let answer = tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        Lines { bytes: answer.bytes_stream().boxed(), kept: Vec::new() }
    }

    /// What `model` says to `text`, in one piece and without thinking.
    pub async fn ask(&self, model: &str, text: &str) -> String {
        let request = json!({"model": model, "prompt": text, "think": false, "stream": false});
        let (status, answer) = self.post("/api/generate", request).await;
        assert_eq!(status, 200, "{answer}");
        answer["response"].as_str().unwrap().to_owned()
    }

    /// The names of the models that are loaded.
    pub async fn loaded(&self) -> Vec<String> {
        let (_, answer) = self.get("/api/ps").await;
        let names = answer["models"].as_array().unwrap().iter();
        names.map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// An answer that is still coming.
pub struct Lines {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    kept: Vec<u8>,
}

impl Lines {
    /// The next line; `None` when the answer has ended as it should.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.kept.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let bytes = tokio::time::timeout(PATIENCE, self.bytes.next()).await.expect("a line in time");
            self.kept.extend_from_slice(&bytes?.expect("the answer ends as it should"));
        }
    }

    /// Text and last line of the rest.
    pub async fn rest(mut self) -> (String, Value) {
        let (mut text, mut last) = (String::new(), Value::Null);
        while let Some(line) = self.next().await {
            text += line["response"].as_str().unwrap_or_default();
            last = line;
        }
        (text, last)
    }
}

/// A request to the tiny model whose answer is a list of `count` digits: as long as one wants it to be.
pub fn long(model: &str, count: usize) -> Value {
    // A digit each: a number would never have to end.
    let digit = json!({"enum": [1, 2, 3, 4, 5, 6, 7, 8, 9]});
    let list = json!({"type": "array", "items": digit, "minItems": count, "maxItems": count});
    json!({"model": model, "prompt": "Ping", "think": false, "format": list, "options": {"num_predict": 100_000}})
}

/// Whether a process is there and no zombie.
#[cfg(target_os = "linux")]
pub fn lives(process: rustix::process::Pid) -> bool {
    super::harness::stat(process.as_raw_nonzero().get()).is_some_and(|(state, _)| state != 'Z')
}
