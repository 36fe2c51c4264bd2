//! Chooses the next token: a pure function of logits, history, options and seed, the same for every backend.
//!
//! The order of the steps is llama.cpp's: penalties, top-k, typical-p, top-p, min-p, temperature, draw. Two differences
//! from it can be seen only in a seeded draw, since its generator is another.

#[cfg(test)]
mod tests;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::event::TokenLogprob;
use crate::types::SamplingOptions;

/// A token and its logit, later its probability.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: u32,
    value: f32,
}

/// One sequence's choices.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
    /// Of the context, for `repeat_last_n` -1.
    context: usize,
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// `entropy` seeds the draw when the options leave the seed open.
    pub fn new(options: &SamplingOptions, context: usize, entropy: u64) -> Self {
        let seed = u64::try_from(options.seed).unwrap_or(entropy);
        Self {
            options: options.clone(),
            random: ChaCha8Rng::seed_from_u64(seed),
            context,
            logits: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// The next token. `history` is the prompt and what was generated; the bits of `allowed` are the tokens that a constraint
    /// leaves, 32 in a word.
    ///
    /// `None` when no token is left.
    pub fn sample(&mut self, logits: &[f32], history: &[u32], allowed: Option<&[u32]>) -> Option<u32> {
        let penalised = self.penalised(history);
        let mut changed = std::mem::take(&mut self.logits);
        changed.clear();
        let logits = if penalised.is_empty() && allowed.is_none() {
            logits
        } else {
            changed.extend_from_slice(logits);
            self.penalise(&mut changed, &penalised);
            if let Some(allowed) = allowed {
                restrict(&mut changed, allowed);
            }
            &changed
        };
        let chosen = if self.options.temperature <= 0.0 { argmax(logits) } else { self.choose(logits) };
        self.logits = changed;
        chosen
    }

    /// One of those that the options leave, by chance.
    fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        self.top_k(logits);
        self.typical_p();
        self.top_p();
        self.min_p();
        self.draw()
    }

    /// Tokens of the window that the penalties look at, with how often each stands there.
    fn penalised(&self, history: &[u32]) -> Vec<(u32, u32)> {
        let SamplingOptions { repeat_last_n, repeat_penalty, presence_penalty, frequency_penalty, .. } = self.options;
        if repeat_penalty == 1.0 && presence_penalty == 0.0 && frequency_penalty == 0.0 {
            return Vec::new();
        }
        let window = usize::try_from(repeat_last_n).unwrap_or(self.context);
        let mut tokens = history[history.len().saturating_sub(window)..].to_vec();
        tokens.sort_unstable();
        let mut counts: Vec<(u32, u32)> = Vec::new();
        for token in tokens {
            match counts.last_mut() {
                Some((last, count)) if *last == token => *count += 1,
                _ => counts.push((token, 1)),
            }
        }
        counts
    }

    fn penalise(&self, logits: &mut [f32], counts: &[(u32, u32)]) {
        let SamplingOptions { repeat_penalty, presence_penalty, frequency_penalty, .. } = self.options;
        for &(token, count) in counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            if *logit <= 0.0 {
                *logit *= repeat_penalty;
            } else {
                *logit /= repeat_penalty;
            }
            *logit -= count as f32 * frequency_penalty + presence_penalty;
        }
    }

    /// Fills `candidates` with the best `top_k`, best first; with all when it is not positive, in order if that matters.
    fn top_k(&mut self, logits: &[f32]) {
        self.candidates.clear();
        match usize::try_from(self.options.top_k) {
            Ok(k) if (1..logits.len()).contains(&k) => best_of(logits, k, &mut self.candidates),
            _ => {
                let all = (0..).zip(logits).filter(|(_, logit)| **logit > f32::NEG_INFINITY);
                self.candidates.extend(all.map(|(token, &value)| Candidate { token, value }));
                // Nothing is cut, so nobody asks for the order of a whole vocabulary.
                if self.options.typical_p >= 1.0 && self.options.top_p >= 1.0 && self.options.min_p <= 0.0 {
                    return;
                }
            }
        }
        self.candidates.sort_unstable_by(best_first);
    }

    /// Keeps the tokens whose surprise is nearest to the expected one, up to a mass of `typical_p`.
    fn typical_p(&mut self) {
        let mass = self.options.typical_p;
        if mass >= 1.0 || self.candidates.is_empty() {
            return;
        }
        let chances = softmax(&self.candidates, 1.0);
        let entropy: f32 = chances.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let mut order: Vec<usize> = (0..chances.len()).collect();
        let distance = |&index: &usize| (-chances[index].ln() - entropy).abs();
        order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        let mut sum = 0.0;
        let mut kept: Vec<usize> = Vec::new();
        for index in order {
            // One stays always.
            if sum > mass.max(0.0) {
                break;
            }
            sum += chances[index];
            kept.push(index);
        }
        kept.sort_unstable();
        self.candidates = kept.into_iter().map(|index| self.candidates[index]).collect();
    }

    fn top_p(&mut self) {
        let mass = self.options.top_p;
        if mass >= 1.0 || self.candidates.is_empty() {
            return;
        }
        let mut sum = 0.0;
        let last = softmax(&self.candidates, 1.0).iter().position(|chance| {
            sum += chance;
            sum >= mass
        });
        if let Some(last) = last {
            self.candidates.truncate(last + 1);
        }
    }

    fn min_p(&mut self) {
        let share = self.options.min_p;
        let Some(best) = self.candidates.first().copied() else { return };
        if share > 0.0 {
            let least = best.value + share.ln();
            let kept = self.candidates.iter().take_while(|candidate| candidate.value >= least).count();
            self.candidates.truncate(kept.max(1));
        }
    }

    /// Draws by giving each token its own noise of Gumbel's kind and taking the best, which chooses each with the chance
    /// that softmax gives it. Logits differ in their last digits with what else is in a batch; walking along summed
    /// chances, that would move every border a little, and here it matters only when two tokens are nearly as good.
    fn draw(&mut self) -> Option<u32> {
        let step = self.random.next_u64();
        let temperature = self.options.temperature;
        let scored = self
            .candidates
            .iter()
            .map(|&Candidate { token, value }| (f64::from(value / temperature) + gumbel(step, token), token));
        scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, token)| token)
    }
}

/// Takes every chance from tokens whose bit is not set. A constraint leaves nearly all tokens or nearly none, so most words
/// are looked at as a whole.
fn restrict(logits: &mut [f32], allowed: &[u32]) {
    for (part, &word) in logits.chunks_mut(32).zip(allowed.iter().chain(std::iter::repeat(&0))) {
        match word {
            u32::MAX => {}
            0 => part.fill(f32::NEG_INFINITY),
            word => {
                let out = part.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0);
                out.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
            }
        }
    }
}

/// The noise of `token` in the step whose random number is `step`.
fn gumbel(step: u64, token: u32) -> f64 {
    // SplitMix64's finish: neighbouring inputs give unrelated numbers.
    let mut bits = step.wrapping_add(u64::from(token).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // 53 bits make a number between 0 and 1, neither of them.
    let uniform = ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -(-uniform.ln()).ln()
}

/// Fills `found` with the best `k`, in no order. A vocabulary has a hundred thousand tokens, and nearly all of them need only be
/// held against the worst of those that were found before.
fn best_of(logits: &[f32], k: usize, found: &mut Vec<Candidate>) {
    const TOGETHER: usize = 64;
    let cut = |found: &mut Vec<Candidate>| {
        found.select_nth_unstable_by(k - 1, best_first);
        found.truncate(k);
        found[k - 1].value
    };
    let mut least = f32::NEG_INFINITY;
    for (part, values) in logits.chunks(TOGETHER).enumerate() {
        // Without a branch for each: the compiler makes vectors of it.
        if !values.iter().fold(false, |any, value| any | (*value > least)) {
            continue;
        }
        for (token, &value) in (part * TOGETHER..).zip(values) {
            if value > least {
                found.push(Candidate { token: token as u32, value });
            }
        }
        if found.len() >= k + TOGETHER * 4 {
            least = cut(found);
        }
    }
    if found.len() > k {
        cut(found);
    }
}

fn best_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.value.total_cmp(&a.value).then(a.token.cmp(&b.token))
}

fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &logit) in (0..).zip(logits) {
        if logit > best.map_or(f32::NEG_INFINITY, |(_, logit)| logit) {
            best = Some((token, logit));
        }
    }
    best.map(|(token, _)| token)
}

/// Chances of candidates that are sorted best first.
fn softmax(candidates: &[Candidate], temperature: f32) -> Vec<f32> {
    let best = candidates.first().map_or(0.0, |candidate| candidate.value);
    let mut chances: Vec<f32> =
        candidates.iter().map(|candidate| ((candidate.value - best) / temperature).exp()).collect();
    let sum: f32 = chances.iter().sum();
    chances.iter_mut().for_each(|chance| *chance /= sum);
    chances
}

/// The log-probability of `token` and of the `top` likeliest, before any option. `piece` gives a token's bytes.
pub fn logprobs(logits: &[f32], token: u32, top: usize, piece: impl Fn(u32) -> Vec<u8>) -> TokenLogprob {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - best).exp()).sum();
    let of = |token: u32, top: Vec<TokenLogprob>| {
        let bytes = piece(token);
        let logit = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let logprob = (f64::from(logit - best) - sum.ln()) as f32;
        TokenLogprob { token: String::from_utf8_lossy(&bytes).into_owned(), logprob, bytes, top }
    };
    let mut candidates: Vec<Candidate> = (0..).zip(logits).map(|(token, &value)| Candidate { token, value }).collect();
    let top = top.min(candidates.len());
    if (1..candidates.len()).contains(&top) {
        candidates.select_nth_unstable_by(top - 1, best_first);
    }
    candidates.truncate(top);
    candidates.sort_unstable_by(best_first);
    of(token, candidates.iter().map(|candidate| of(candidate.token, Vec::new())).collect())
}
