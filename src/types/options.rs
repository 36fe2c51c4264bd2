//! The `options` of a request and the PARAMETERs of a model, split into what changes a reply and what needs a reload.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What changes a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingOptions {
    pub num_keep: i64,
    /// Negative is random.
    pub seed: i64,
    /// Tokens to generate at the most; negative is open-ended.
    pub num_predict: i64,
    pub top_k: i64,
    pub top_p: f32,
    pub min_p: f32,
    pub typical_p: f32,
    pub repeat_last_n: i64,
    pub temperature: f32,
    pub repeat_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub stop: Vec<String>,
}

/// What needs a reload of the model when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOptions {
    /// Context of one sequence in tokens; zero leaves it to the server.
    pub num_ctx: i64,
    pub num_batch: i64,
    /// Layers on the accelerator; negative leaves it to the engine.
    pub num_gpu: i64,
    pub main_gpu: Option<i64>,
    pub use_mmap: Option<bool>,
    /// Zero leaves it to the engine.
    pub num_thread: i64,
    pub draft_num_predict: i64,
}

/// Whether tokens are guessed ahead (speculative decoding), which never changes what an answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guessing {
    Off,
    /// Where it makes answers faster, as far as this machine's own times tell.
    #[default]
    WherePays,
    /// Wherever there is a guess: to see what it does.
    Always,
}

/// Every option, resolved.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Options {
    pub sampling: SamplingOptions,
    pub load: LoadOptions,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            num_keep: 4,
            seed: -1,
            num_predict: -1,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_last_n: 64,
            temperature: 0.8,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            stop: Vec::new(),
        }
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            num_ctx: 0,
            num_batch: 512,
            num_gpu: -1,
            main_gpu: None,
            use_mmap: None,
            num_thread: 0,
            draft_num_predict: 4,
        }
    }
}

/// An option of the wrong type, in Ollama's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("option {0:?} must be of type {1}")]
    Type(String, &'static str),
    #[error("option \"stop\" must be of an array of strings")]
    StopElement,
}

impl Options {
    /// Lays `map` over these options: known names replace, `null` and unknown names are passed over.
    ///
    /// Names are matched with their case, numbers of an integer option lose their fraction, as in Ollama.
    ///
    /// # Errors
    /// [`OptionError`] for the first value of a wrong type, in the map's order.
    pub fn apply(&mut self, map: &Map<String, Value>) -> Result<(), OptionError> {
        for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            self.set(name, value)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), OptionError> {
        let wrong = |kind| OptionError::Type(name.to_owned(), kind);
        let int = || value.as_i64().or_else(|| value.as_f64().map(go_int)).ok_or_else(|| wrong("integer"));
        let float = || value.as_f64().map(|number| number as f32).ok_or_else(|| wrong("float32"));
        let bool = || value.as_bool().ok_or_else(|| wrong("boolean"));
        let Self { sampling, load } = self;
        match name {
            "num_keep" => sampling.num_keep = int()?,
            "seed" => sampling.seed = int()?,
            "num_predict" => sampling.num_predict = int()?,
            "top_k" => sampling.top_k = int()?,
            "top_p" => sampling.top_p = float()?,
            "min_p" => sampling.min_p = float()?,
            "typical_p" => sampling.typical_p = float()?,
            "repeat_last_n" => sampling.repeat_last_n = int()?,
            "temperature" => sampling.temperature = float()?,
            "repeat_penalty" => sampling.repeat_penalty = float()?,
            "presence_penalty" => sampling.presence_penalty = float()?,
            "frequency_penalty" => sampling.frequency_penalty = float()?,
            "stop" => {
                let list = value.as_array().ok_or_else(|| wrong("array"))?;
                let strings = list.iter().map(|item| item.as_str().map(str::to_owned));
                sampling.stop = strings.collect::<Option<_>>().ok_or(OptionError::StopElement)?;
            }
            "num_ctx" => load.num_ctx = int()?,
            "num_batch" => load.num_batch = int()?,
            "num_gpu" => load.num_gpu = int()?,
            "main_gpu" => load.main_gpu = Some(int()?),
            "use_mmap" => load.use_mmap = Some(bool()?),
            "num_thread" => load.num_thread = int()?,
            "draft_num_predict" => load.draft_num_predict = int()?,
            _ => tracing::warn!(option.name = name, "unknown option is passed over"),
        }
        Ok(())
    }
}

/// Go's conversion of a float to an integer on amd64: out of range gives the smallest one.
fn go_int(number: f64) -> i64 {
    const EDGE: f64 = (1_u64 << 63) as f64;
    if (-EDGE..EDGE).contains(&number) { number as i64 } else { i64::MIN }
}
