//! What is chosen, how often, and what the options leave to choose from.

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
fn the_best_of_many_are_those_that_sorting_finds() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let logits: Vec<f32> = (0..5000).map(|_| (random.next_u32() % 900) as f32 / 10.0).collect();
    let mut sorted: Vec<Candidate> = (0..).zip(&logits).map(|(token, &value)| Candidate { token, value }).collect();
    sorted.sort_unstable_by(best_first);
    for k in [1, 40, 300, 4999] {
        let mut found = Vec::new();
        best_of(&logits, k, &mut found);
        found.sort_unstable_by(best_first);
        assert!(found.iter().map(|one| one.token).eq(sorted[..k].iter().map(|one| one.token)), "{k}");
    }
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
    assert_eq!(Sampler::new(&greedy, 64, 0).sample(&logits, &[], Some(&[0b100])), Some(2));
    assert_eq!(Sampler::new(&greedy, 64, 0).sample(&logits, &[], Some(&[0])), None);
}

#[test]
fn a_constraint_leaves_the_tokens_whose_bits_are_set() {
    let allowed = [u32::MAX, 0, 0x8000_0001];
    let mut logits = [1.0; 100];
    restrict(&mut logits, &allowed);
    let left: Vec<usize> = (0..100).filter(|token| logits[*token] == 1.0).collect();
    let expected: Vec<usize> = (0..32).chain([64, 95]).collect();
    assert_eq!(left, expected, "and none beyond the last word");
}

#[test]
fn log_probabilities_are_natural_and_sorted() {
    let reply = logprobs(&[0.0, 1.0, 2.0], 0, 2, |token| vec![b'a' + token as u8]);
    let sum: f32 = (0..3).map(|token| logprobs(&[0.0, 1.0, 2.0], token, 0, |_| Vec::new()).logprob.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    assert_eq!(reply.top.iter().map(|top| top.token.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    assert!(reply.top[0].logprob > reply.top[1].logprob && reply.top[1].logprob > reply.logprob);
}
