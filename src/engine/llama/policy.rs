//! What guessing by lookup wins and costs, reckoned over texts of this repository and machines of several kinds: the
//! rules as they are, with a clock that is told how long batches take.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::guess::{self, Guesser, MOST};
use super::pace::Pace;
use super::turns::Turns;
use crate::engine::tokens::Tokens;

/// Seconds of a batch of so many tokens.
type Machine = fn(usize) -> f64;

/// As measured on two cores, with 0.6 billion weights in Q8_0: a second token costs as much as the first, further ones less.
const CORES: Machine = |tokens| if tokens == 1 { 0.071 } else { 0.095 + 0.024 * tokens as f64 };
/// Weights come from a fast memory, and arithmetic costs next to nothing.
const ACCELERATOR: Machine = |tokens| 0.010 + 0.0002 * tokens as f64;
/// Every token costs the same.
const SLOW: Machine = |tokens| 0.0001 + 0.001 * tokens as f64;

/// About as models have them: up to five letters, with the blank before them, or a mark.
fn tokens(text: &str, known: &mut HashMap<String, u32>) -> Vec<u32> {
    let mut pieces: Vec<String> = Vec::new();
    for letter in text.chars() {
        match pieces.last_mut() {
            Some(last) if letter.is_alphanumeric() && last.len() < 5 && !last.ends_with(['\n', '.', ',']) => {
                last.push(letter);
            }
            _ => pieces.push(letter.to_string()),
        }
    }
    let mut number = |piece: String| {
        let next = u32::try_from(known.len()).expect("a short text: a bug");
        *known.entry(piece).or_insert(next)
    };
    pieces.into_iter().map(&mut number).collect()
}

/// How many times as fast `answer` comes behind `prompt` as without guesses. A machine with other work takes longer now and
/// then, as it happens.
fn faster(prompt: &[u32], answer: &[u32], machine: Machine, busy: bool) -> f64 {
    let all = Arc::new(Tokens::new(vec![crate::engine::tokens::Piece::default(); 1 << 16], Vec::new()));
    let (mut pace, mut turns) = (Pace::new(512), Turns::new());
    pace.learn(512, Duration::from_secs_f64(machine(512)));
    let mut guesser = Guesser::new(&all);
    let mut history = [prompt, &answer[..1]].concat();
    let (mut seconds, mut said, mut chance) = (0.0, 1, 1_u32);
    while said < answer.len() {
        let odds = guesser.look(&history);
        let most = guesser.count().min(MOST).min(answer.len() - said - 1);
        let guess = guesser.first(guess::worth(odds, most, 1.0, |more| turns.expect(1 + more, &pace)));
        let took = machine(1 + guess.len());
        seconds += took;
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let delay = match chance >> 24 {
            _ if !busy => 1.0,
            0..25 => 6.0,
            some => 1.0 + f64::from(some) / 1000.0,
        };
        turns.learn(1 + guess.len(), took * delay);
        for right in 0..=guess.len() {
            let token = answer[said];
            guesser.saw(token);
            history.push(token);
            said += 1;
            if guess.get(right) != Some(&token) {
                break;
            }
        }
    }
    machine(1) * (answer.len() - 1) as f64 / seconds
}

#[test]
fn text_that_repeats_nothing_costs_nothing_and_quotes_come_faster() {
    let mut known = HashMap::new();
    let prose = tokens(include_str!("../../../api-spec/README.md"), &mut known);
    let code = tokens(include_str!("cache.rs"), &mut known);
    let (asked, told) = (&prose[..800], &prose[800..3000]);
    // As it was but for a token here and there.
    let edited: Vec<u32> =
        (0..).zip(&code[..1800]).map(|(at, token)| if at % 45 == 40 { 60_000 } else { *token }).collect();
    let quote = [&told[..40], &asked[200..700], &told[40..80]].concat();
    for busy in [false, true] {
        for machine in [CORES, ACCELERATOR, SLOW] {
            for (what, prompt, answer) in
                [("prose", asked, told), ("code", asked, &code[..]), ("short", asked, &told[..60])]
            {
                let faster = faster(prompt, answer, machine, busy);
                println!("{what}: {faster:.3}");
                // One try at the wrong moment costs a short answer a token or so; and these texts change.
                assert!(faster > 0.95, "{what} is slower: {faster}, busy: {busy}");
            }
        }
        for (what, prompt, answer) in [("a quote", asked, &quote), ("an edit", &code[..1800], &edited)] {
            let (cores, accelerator) = (faster(prompt, answer, CORES, busy), faster(prompt, answer, ACCELERATOR, busy));
            println!("{what}: {cores:.2}, {accelerator:.2}");
            assert!(cores > 1.1 && accelerator > 3.0, "{what}: {cores} {accelerator}, busy: {busy}");
        }
    }
}
