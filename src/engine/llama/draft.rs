//! A draft model: a small one of the same vocabulary, which writes ahead what the large one then only has to check.

use std::time::{Duration, Instant};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;

use super::ahead::{Drafts, Wish};
use super::cache::{self, Cached, Traits};
use super::load::{self, Limits};
use super::pace::Pace;
use super::turns::{Rows, Turns};
use super::vocab::{self, native};
use crate::engine::event::EngineError;
use crate::engine::request::LoadSpec;
use crate::engine::tokens::Tokens;
use crate::gguf::Gguf;
use crate::types::Guessing;

/// Tokens at the end of one vocabulary that the other may lack: some are padded.
const PADDING: usize = 128;
/// A guess that the draft itself holds for less likely, with all before it, is not worth its evaluation.
const LEAST: f64 = 0.3;

/// The weights. A draft only makes answers faster: when it cannot be used the model runs without it, and the log says why.
pub fn model(backend: &LlamaBackend, spec: &LoadSpec, tokens: &Tokens) -> Option<LlamaModel> {
    if spec.drafts.is_empty() || spec.embedding || spec.guessing == Guessing::Off {
        return None;
    }
    let draft = load(backend, spec, tokens);
    draft.inspect_err(|error| tracing::warn!(%error, "the draft model is not used")).ok()
}

fn load(backend: &LlamaBackend, spec: &LoadSpec, tokens: &Tokens) -> Result<LlamaModel, EngineError> {
    for path in &spec.drafts {
        // llama.cpp's own reader may crash where ours says what is wrong.
        Gguf::open(path).map_err(|error| EngineError::Load(error.to_string()))?;
    }
    let (adapters, projectors) = (Vec::new(), Vec::new());
    let own = LoadSpec { weights: spec.drafts.clone(), adapters, projectors, ..spec.clone() };
    let model = load::model(backend, &own)?;
    if !same(&vocab::tokens(&model), tokens) {
        return Err(EngineError::Load("it has another vocabulary than the model".into()));
    }
    Ok(model)
}

/// The ordinary tokens of two vocabularies are the same. The special ones may have other names.
fn same(a: &Tokens, b: &Tokens) -> bool {
    let common = 0..u32::try_from(a.count().min(b.count())).unwrap_or(u32::MAX);
    let agree = |token: u32| (a.is_special(token) && b.is_special(token)) || a.bytes(token) == b.bytes(token);
    a.count().abs_diff(b.count()) <= PADDING && common.into_iter().all(agree)
}

pub struct Draft<'m> {
    context: LlamaContext<'m>,
    traits: Traits,
    cached: Vec<Cached>,
    batch: LlamaBatch<'static>,
    largest: usize,
    most: usize,
    /// How long a guess takes, for one sequence and for several.
    turns: Turns,
    pace: Pace,
    took: Duration,
}

impl<'m> Draft<'m> {
    /// `None` when memory is short; the log then says so.
    pub fn new(backend: &LlamaBackend, model: &'m LlamaModel, spec: &LoadSpec, limits: Limits) -> Option<Self> {
        // What memory it takes is its own, not the model's that it guesses for.
        let own = LoadSpec { weights: spec.drafts.clone(), ..spec.clone() };
        let context = load::text(backend, model, &own, limits);
        let context = context.inspect_err(|error| tracing::warn!(%error, "the draft model is not used")).ok()?;
        let traits = Traits::of(model, limits);
        if !traits.rolls_back() {
            tracing::warn!("the draft model is not used: its memory cannot lose its end");
            return None;
        }
        let largest = context.n_batch() as usize;
        Some(Self {
            traits,
            cached: std::iter::repeat_with(Cached::default).take(limits.parallel as usize).collect(),
            batch: LlamaBatch::new(largest, 1),
            largest,
            most: usize::try_from(spec.options.draft_num_predict).unwrap_or(0),
            turns: Turns::new(),
            pace: Pace::new(largest),
            took: Duration::ZERO,
            context,
        })
    }

    /// Takes in what is new of the sequences, as far as one batch holds it. Gives those that were read to their end, each
    /// with the place of its logits.
    fn read(&mut self, wishes: &[Wish<'_>]) -> Result<Vec<(usize, i32)>, EngineError> {
        self.batch.clear();
        let mut whole = Vec::new();
        let mut room = self.largest;
        let mut rows = Vec::new();
        for (index, wish) in wishes.iter().enumerate() {
            let cached = &mut self.cached[wish.slot];
            let common = cached.common(wish.history);
            if common < cached.tokens.len() {
                cache::keep(&mut self.context, wish.slot, cached, common, self.traits);
            }
            let known = self.cached[wish.slot].tokens.len();
            let new = &wish.history[known..];
            let taken = new.len().min(room);
            room -= taken;
            rows.push(Rows { slot: wish.slot, rows: taken });
            for (at, &token) in new[..taken].iter().enumerate() {
                let last = at + 1 == new.len();
                if last {
                    whole.push((index, self.batch.n_tokens()));
                }
                self.add(wish.slot, token, last);
            }
        }
        self.decode(&rows)?;
        Ok(whole)
    }

    /// Evaluates the last guess of each that is `open`, and closes those that have all they wished for.
    fn go_on(
        &mut self,
        wishes: &[Wish<'_>],
        guesses: &[Option<Vec<u32>>],
        open: &mut Vec<(usize, i32)>,
    ) -> Result<(), EngineError> {
        let guess = |wish: usize| guesses[wish].as_deref().unwrap_or_default();
        open.retain(|(wish, _)| guess(*wish).len() < wishes[*wish].most);
        self.batch.clear();
        for (output, (wish, at)) in (0..).zip(&mut *open) {
            let Some(&token) = guess(*wish).last() else { continue };
            self.add(wishes[*wish].slot, token, true);
            *at = output;
        }
        match open.is_empty() {
            true => Ok(()),
            false => self
                .decode(&open.iter().map(|(wish, _)| Rows { slot: wishes[*wish].slot, rows: 1 }).collect::<Vec<_>>()),
        }
    }

    /// Puts a token behind what is known of a slot into the batch.
    fn add(&mut self, slot: usize, token: u32, wanted: bool) {
        let tokens = &mut self.cached[slot].tokens;
        let position = i32::try_from(tokens.len()).expect("a context beyond llama.cpp's positions: a bug");
        self.batch
            .add(native(token), position, &[cache::sequence(slot)], wanted)
            .expect("the batch is larger than planned: a bug");
        tokens.push(token);
    }

    /// Evaluates the batch, which has so many rows of each slot, and learns how long that takes.
    fn decode(&mut self, rows: &[Rows]) -> Result<(), EngineError> {
        let begun = Instant::now();
        self.context.decode(&mut self.batch).map_err(|error| {
            for Rows { slot, .. } in rows {
                cache::clear(&mut self.context, *slot, &mut self.cached[*slot]);
            }
            EngineError::Failed(error.to_string())
        })?;
        self.context.synchronize();
        let took = begun.elapsed();
        self.pace.learn(rows.iter().map(|piece| piece.rows).sum(), took);
        self.turns.learn(rows, took.as_secs_f64(), &self.pace);
        Ok(())
    }
}

impl Drafts for Draft<'_> {
    fn guess(&mut self, wishes: &[Wish<'_>]) -> Result<Vec<Option<Vec<u32>>>, EngineError> {
        let begun = Instant::now();
        let mut open = self.read(wishes)?;
        let mut guesses = vec![None; wishes.len()];
        open.iter().for_each(|(wish, _)| guesses[*wish] = Some(Vec::new()));
        let mut chances = vec![1.0; wishes.len()];
        while !open.is_empty() {
            let best: Vec<(u32, f64)> =
                open.iter().map(|(_, output)| likeliest(self.context.get_logits_ith(*output))).collect();
            for ((wish, _), (_, chance)) in open.iter().zip(&best) {
                chances[*wish] *= chance;
            }
            // One that is unsure goes on while others are sure: without it they would take more passes.
            if !open.iter().any(|(wish, _)| chances[*wish] >= LEAST) {
                break;
            }
            for ((wish, _), (token, _)) in open.iter().zip(best) {
                guesses[*wish].get_or_insert_default().push(token);
            }
            self.go_on(wishes, &guesses, &mut open)?;
        }
        self.took = begun.elapsed();
        Ok(guesses)
    }

    fn measure(&mut self) -> Result<(), EngineError> {
        let longest = (0..self.cached.len()).max_by_key(|slot| self.cached[*slot].tokens.len()).unwrap_or(0);
        let mut history = self.cached[longest].tokens.clone();
        if history.is_empty() {
            history.push(0);
        }
        // Its last token is read once more.
        self.guess(&[Wish { slot: longest, history: &history, most: 1 }]).map(drop)
    }

    fn most(&self) -> usize {
        self.most
    }

    fn expect(&self, batch: &[Rows]) -> Option<f64> {
        self.turns.expect(batch, &self.pace)
    }

    fn took(&self) -> f64 {
        self.took.as_secs_f64()
    }
}

/// The likeliest token and its chance.
fn likeliest(logits: &[f32]) -> (u32, f64) {
    let best = (0..).zip(logits).fold(
        (0_u32, f32::NEG_INFINITY),
        |best, (token, &logit)| {
            if logit > best.1 { (token, logit) } else { best }
        },
    );
    let sum: f32 = logits.iter().map(|logit| (logit - best.1).exp()).sum();
    (best.0, 1.0 / f64::from(sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tokens::Piece;

    #[test]
    fn vocabularies_are_compared() {
        let tokens = |texts: &[(&str, bool)]| {
            let piece = |(text, special): &(&str, bool)| Piece { bytes: text.as_bytes().to_vec(), special: *special };
            Tokens::new(texts.iter().map(piece).collect(), vec![0])
        };
        let one = tokens(&[("<end>", true), ("a", false), ("b", false)]);
        assert!(same(&one, &tokens(&[("</s>", true), ("a", false), ("b", false), ("<pad>", true)])));
        assert!(!same(&one, &tokens(&[("<end>", true), ("a", false), ("c", false)])));
        let many: Vec<(&str, bool)> = std::iter::repeat_n(("a", false), PADDING + 4).collect();
        assert!(!same(&tokens(&many), &tokens(&many[..3])));
    }

    #[test]
    fn the_likeliest_token_and_how_likely_it_is() {
        let (token, chance) = likeliest(&[0.0, 3_f32.ln(), 0.0]);
        assert_eq!(token, 1);
        assert!((chance - 0.6).abs() < 1e-6);
    }
}
