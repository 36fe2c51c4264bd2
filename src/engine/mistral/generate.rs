//! An answer from mistral.rs, every token of which hanzod chooses.
//!
//! mistral.rs lets a "logits processor" change the logits before it picks the largest. Ours gives them to the
//! [`Answer`] and returns logits in which only the answer's token can be picked, or the token that ends the sequence once
//! the answer is over. What mistral.rs says in its responses is not used: it has no seed, its `min_p` and stop strings do
//! not work, and its log-probabilities are of another base.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mistralrs::{CustomLogitsProcessor, RequestMessage, Tensor};

use super::model::Model;
use crate::engine::answer::{self, Answer, Next};
use crate::engine::event::EngineError;
use crate::engine::protocol::SequenceId;
use crate::engine::request::GenerateRequest;

/// How far an answer is, as mistral.rs's thread and ours see it.
pub struct Course {
    state: Mutex<(Answer, Stage)>,
    cancelled: Arc<AtomicBool>,
    end: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// The context is full; the sequence ends and another goes on with what is kept.
    Full,
    Over,
    Cancelled,
}

impl Course {
    fn state(&self) -> MutexGuard<'_, (Answer, Stage)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CustomLogitsProcessor for Course {
    /// Called once a token. A sequence that ends with its first token is asked once more, and ends again.
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> mistralrs::Result<Tensor> {
        let logits = logits.to_vec1::<f32>()?;
        let (answer, stage) = &mut *self.state();
        if *stage == Stage::Running && self.cancelled.load(Ordering::Acquire) {
            *stage = Stage::Cancelled;
        }
        let mut chosen = self.end;
        if *stage == Stage::Running {
            match answer.push(&logits) {
                Next::Token(token) => chosen = token,
                Next::Full(_) => *stage = Stage::Full,
                Next::Over => *stage = Stage::Over,
            }
        }
        let mut only = vec![0.0_f32; logits.len()];
        if let Some(one) = only.get_mut(chosen as usize) {
            *one = 1.0;
        }
        let length = only.len();
        Tensor::from_vec(only, length, &mistralrs::Device::Cpu)
    }
}

impl Model {
    /// Answers `request`; its events tell how it went.
    pub fn generate(&self, sequence: SequenceId, request: &GenerateRequest, cancelled: Arc<AtomicBool>) {
        let answered = self.answer(sequence, request).and_then(|answer| self.follow(answer, cancelled));
        if let Err(error) = answered {
            self.events.failed(sequence, error);
        }
    }

    fn answer(&self, sequence: SequenceId, request: &GenerateRequest) -> Result<Answer, EngineError> {
        if self.embedding {
            return Err(EngineError::Invalid("this model makes embeddings and no text".into()));
        }
        let prefix = self.tokenizer.prefix().len();
        let prompt = self.tokenizer.prompt(&request.prompt, &self.tokens)?;
        let prompt = answer::fit(prompt, request, prefix, request.context_in(self.context))?;
        let context = request.context_in(self.context);
        let mut answer = Answer::new(sequence, request, prompt, prefix, context, &self.tokens, &self.events);
        if let Some(constraint) = &request.constraint {
            answer.hold(self.constraints.constrain(constraint)?);
        }
        Ok(answer)
    }

    /// Lets mistral.rs run until the answer is over.
    fn follow(&self, mut answer: Answer, cancelled: Arc<AtomicBool>) -> Result<(), EngineError> {
        answer.begin(0);
        let mut tokens = answer.history().to_vec();
        let course = Arc::new(Course { state: Mutex::new((answer, Stage::Running)), cancelled, end: self.end });
        loop {
            let result = self.run(RequestMessage::CompletionTokens(tokens), Some(course.clone()));
            let (answer, stage) = &mut *course.state();
            match stage {
                Stage::Over | Stage::Cancelled => return Ok(()),
                Stage::Full => {
                    // mistral.rs cannot move its cache, so what is kept is evaluated again.
                    answer.shift();
                    tokens = answer.history().to_vec();
                    *stage = Stage::Running;
                }
                Stage::Running => {
                    result?;
                    return Err(EngineError::Failed("mistral.rs ended the sequence by itself".into()));
                }
            }
        }
    }
}
