//! Chooses the next token: a pure function of logits, history, options and seed, the same for every backend.
//!
//! The order of the steps is llama.cpp's: penalties, top-k, typical-p, top-p, min-p, temperature, draw. Two differences
//! from it can be seen only in a seeded draw, since its generator is another.

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

    /// The next token. `history` is the prompt and what was generated; `allowed` says which tokens a constraint leaves.
    ///
    /// `None` when no token is left.
    pub fn sample(&mut self, logits: &[f32], history: &[u32], allowed: Option<&dyn Fn(u32) -> bool>) -> Option<u32> {
        let penalised = self.penalised(history);
        if self.options.temperature <= 0.0 && penalised.is_empty() && allowed.is_none() {
            return argmax(logits);
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.penalise(&penalised);
        if let Some(allowed) = allowed {
            for (token, logit) in self.logits.iter_mut().enumerate() {
                if !allowed(token as u32) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        if self.options.temperature <= 0.0 {
            return argmax(&self.logits);
        }
        self.top_k();
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

    fn penalise(&mut self, counts: &[(u32, u32)]) {
        let SamplingOptions { repeat_penalty, presence_penalty, frequency_penalty, .. } = self.options;
        for &(token, count) in counts {
            let Some(logit) = self.logits.get_mut(token as usize) else { continue };
            if *logit <= 0.0 {
                *logit *= repeat_penalty;
            } else {
                *logit /= repeat_penalty;
            }
            *logit -= count as f32 * frequency_penalty + presence_penalty;
        }
    }

    /// Fills `candidates` with the best `top_k`, best first; with all when it is not positive, in order if that matters.
    fn top_k(&mut self) {
        self.candidates.clear();
        let all = (0..).zip(&self.logits).filter(|(_, logit)| **logit > f32::NEG_INFINITY && !logit.is_nan());
        self.candidates.extend(all.map(|(token, &value)| Candidate { token, value }));
        if let Ok(k) = usize::try_from(self.options.top_k)
            && (1..self.candidates.len()).contains(&k)
        {
            self.candidates.select_nth_unstable_by(k - 1, best_first);
            self.candidates.truncate(k);
        } else if self.options.typical_p >= 1.0 && self.options.top_p >= 1.0 && self.options.min_p <= 0.0 {
            // Nothing is cut, so nobody asks for the order of a whole vocabulary.
            return;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SamplingOptions {
        SamplingOptions { seed: 7, ..SamplingOptions::default() }
    }

    fn many(options: &SamplingOptions, logits: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(options, 64, 0);
        (0..500).filter_map(|_| sampler.sample(logits, &[], None)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_tokens() {
        let logits = [1.0, 1.1, 0.9, 1.0];
        assert_eq!(many(&options(), &logits), many(&options(), &logits));
        assert_ne!(many(&options(), &logits), many(&SamplingOptions { seed: 8, ..options() }, &logits));
    }

    #[test]
    fn tokens_come_as_often_as_their_chance_says() {
        // Chances of 1/2, 1/4, 1/4 at temperature 2.
        let logits = [2.0 * 2_f32.ln(), 0.0, 0.0];
        let even = SamplingOptions { temperature: 2.0, top_p: 1.0, ..options() };
        let mut sampler = Sampler::new(&even, 64, 0);
        let mut counts = [0_i32; 3];
        for _ in 0..4000 {
            counts[sampler.sample(&logits, &[], None).unwrap() as usize] += 1;
        }
        assert!((counts[0] - 2000).abs() < 130 && (counts[1] - 1000).abs() < 110, "{counts:?}");
    }

    #[test]
    fn the_last_digits_of_logits_hardly_matter() {
        let logits: Vec<f32> = (0..2000).map(|token| ((token * 7919) % 100) as f32 / 50.0).collect();
        let digits = |(token, logit): (usize, &f32)| logit + (token % 3) as f32 * 1e-4;
        let nearly: Vec<f32> = logits.iter().enumerate().map(digits).collect();
        let flat = SamplingOptions { temperature: 3.0, top_k: 0, top_p: 1.0, ..options() };
        let same = many(&flat, &logits).iter().zip(many(&flat, &nearly)).filter(|(a, b)| **a == *b).count();
        assert!(same >= 498, "{same}");
    }

    #[test]
    fn temperature_zero_and_top_k_one_are_greedy() {
        let logits = [0.1, 3.0, 2.9];
        assert!(many(&SamplingOptions { temperature: 0.0, ..options() }, &logits).iter().all(|&token| token == 1));
        assert!(many(&SamplingOptions { top_k: 1, ..options() }, &logits).iter().all(|&token| token == 1));
    }

    #[test]
    fn cuts_leave_out_the_unlikely() {
        let logits = [5.0, 4.9, 0.0, -5.0];
        for cut in [
            SamplingOptions { top_k: 2, top_p: 1.0, ..options() },
            SamplingOptions { top_p: 0.9, ..options() },
            SamplingOptions { min_p: 0.5, top_p: 1.0, ..options() },
        ] {
            let tokens = many(&cut, &logits);
            assert!(tokens.contains(&0) && tokens.contains(&1) && tokens.iter().all(|&token| token < 2), "{cut:?}");
        }
    }

    #[test]
    fn no_value_of_an_option_leaves_nothing_to_choose() {
        let logits = [2.0, -1.0, 0.0, f32::NAN, f32::NEG_INFINITY];
        let huge = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-44, f32::MAX, f32::INFINITY, f32::NEG_INFINITY];
        let set: [fn(&mut SamplingOptions, f32); 7] = [
            |options, value| options.temperature = value,
            |options, value| options.top_p = value,
            |options, value| (options.min_p, options.top_p) = (value, 1.0),
            |options, value| (options.typical_p, options.top_p) = (value, 1.0),
            |options, value| options.repeat_penalty = value,
            |options, value| options.presence_penalty = value,
            |options, value| options.frequency_penalty = value,
        ];
        for (set, value) in set.iter().flat_map(|set| huge.map(|value| (set, value))) {
            for whole in [0, -1, 1, i64::MIN, i64::MAX] {
                let mut options =
                    SamplingOptions { top_k: whole, repeat_last_n: whole, seed: whole, num_keep: whole, ..options() };
                set(&mut options, value);
                let token = Sampler::new(&options, 64, 0).sample(&logits, &[0, 0, 3, 77], None);
                assert!(token.is_some_and(|token| token < 3), "{options:?}: {token:?}");
            }
        }
    }

    #[test]
    fn typical_p_leaves_out_the_surprising_and_the_too_sure() {
        // Entropy is nearest to the surprise of the middle ones.
        let logits = [0.5_f32.ln(), 0.2_f32.ln(), 0.2_f32.ln(), 0.1_f32.ln()];
        let cut = SamplingOptions { typical_p: 0.3, top_p: 1.0, ..options() };
        let tokens = many(&cut, &logits);
        assert!(tokens.contains(&1) && tokens.contains(&2) && !tokens.contains(&0) && !tokens.contains(&3));
    }

    #[test]
    fn the_window_of_penalties() {
        let greedy = SamplingOptions { temperature: 0.0, presence_penalty: 5.0, ..options() };
        let choose = |repeat_last_n, context| {
            let options = SamplingOptions { repeat_last_n, ..greedy.clone() };
            Sampler::new(&options, context, 0).sample(&[3.0, 2.0, 1.0], &[0, 1, 1], None)
        };
        assert_eq!((choose(0, 64), choose(2, 64), choose(-1, 64), choose(-1, 2)), (Some(0), Some(0), Some(2), Some(0)));
        let often = SamplingOptions { presence_penalty: 0.0, frequency_penalty: 0.6, ..greedy };
        assert_eq!(Sampler::new(&often, 64, 0).sample(&[3.0, 2.9, 2.5], &[0, 1, 1], None), Some(2));
    }

    #[test]
    fn penalties_and_constraints_change_the_choice() {
        let greedy = SamplingOptions { temperature: 0.0, ..options() };
        let logits = [3.0, 2.9, 1.0];
        let repeat = SamplingOptions { repeat_penalty: 1.2, ..greedy.clone() };
        assert_eq!(Sampler::new(&repeat, 64, 0).sample(&logits, &[0], None), Some(1));
        let outside = SamplingOptions { repeat_last_n: 1, ..repeat };
        assert_eq!(Sampler::new(&outside, 64, 0).sample(&logits, &[0, 2], None), Some(0));
        assert_eq!(Sampler::new(&greedy, 64, 0).sample(&logits, &[], Some(&|token| token == 2)), Some(2));
        assert_eq!(Sampler::new(&greedy, 64, 0).sample(&logits, &[], Some(&|_| false)), None);
    }

    #[test]
    fn log_probabilities_are_natural_and_sorted() {
        let reply = logprobs(&[0.0, 1.0, 2.0], 0, 2, |token| vec![b'a' + token as u8]);
        let sum: f32 = (0..3).map(|token| logprobs(&[0.0, 1.0, 2.0], token, 0, |_| Vec::new()).logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
        assert_eq!(reply.top.iter().map(|top| top.token.as_str()).collect::<Vec<_>>(), ["c", "b"]);
        assert!(reply.top[0].logprob > reply.top[1].logprob && reply.top[1].logprob > reply.logprob);
    }
}
