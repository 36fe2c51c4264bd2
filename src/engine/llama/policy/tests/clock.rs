//! Machines, draft models and texts, and a clock that is told how long passes over the weights take, by which the rules are
//! played through as they are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::event::EngineError;
use crate::engine::llama::ahead::{Ahead, Drafts, Seat, Wish};
use crate::engine::llama::guess::Guesser;
use crate::engine::llama::pace::Pace;
use crate::engine::llama::turns::{self, Rows, Turns};
use crate::engine::tokens::{Piece, Tokens};
use crate::types::Guessing;

/// Seconds of a pass with so many rows.
pub type Machine = fn(usize) -> f64;

/// As measured on two cores, with 0.6 billion weights in Q8_0: a second token costs as much as the first, further ones less,
/// and those of a large batch a thirteenth.
pub const CORES: Machine = |rows| match rows {
    1 => 0.071,
    2..64 => 0.095 + 0.024 * rows as f64,
    _ => 0.0053 * rows as f64,
};
/// Weights come from a fast memory, and arithmetic costs next to nothing.
pub const ACCELERATOR: Machine = |rows| 0.010 + 0.0002 * rows as f64;
/// Every token costs the same.
pub const SLOW: Machine = |rows| 0.0001 + 0.001 * rows as f64;

/// Seconds of a draft's pass with so many rows, after so many passes.
pub type Pass = fn(usize, usize) -> f64;

pub const CORES_DRAFT: Pass = |rows, _| 0.15 * CORES(rows);
pub const ACCELERATOR_DRAFT: Pass = |rows, _| 0.2 * ACCELERATOR(rows);

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

/// A token that stands in no text.
const WRONG: u32 = 60_000;

/// Numbers from 0 to 1 that look random, the same each time.
struct Dice(u32);

impl Dice {
    fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1 << 24)
    }
}

/// A draft model that is sure of its guess as often as `sure`, and then right as often as `right`.
pub struct Pupil {
    sure: f64,
    right: f64,
    good_from: usize,
    pass: Pass,
    /// What each slot will have said.
    texts: Vec<Vec<u32>>,
    known: Vec<usize>,
    dice: Dice,
    turns: Turns,
    passes: usize,
    took: f64,
    spent: f64,
}

impl Pupil {
    pub fn new(sure: f64, right: f64, pass: Pass) -> Self {
        let (texts, known) = (Vec::new(), Vec::new());
        Self {
            sure,
            right,
            good_from: usize::MAX,
            pass,
            texts,
            known,
            dice: Dice(7),
            turns: Turns::new(),
            passes: 0,
            took: 0.0,
            spent: 0.0,
        }
    }

    /// From so many tokens on it is nearly always sure and right.
    pub fn good_from(self, good_from: usize) -> Self {
        Self { good_from, ..self }
    }

    /// One token of each of these sequences.
    fn step(&mut self, slots: &[usize]) {
        let batch: Vec<Rows> = slots.iter().map(|slot| Rows { slot: *slot, rows: 1 }).collect();
        let took: f64 = turns::passes(&batch).into_iter().map(|rows| (self.pass)(rows, self.passes)).sum();
        self.passes += 1;
        self.turns.learn(&batch, took, &Pace::new(512));
        self.took += took;
        self.spent += took;
    }
}

impl Drafts for Pupil {
    fn guess(&mut self, wishes: &[Wish<'_>]) -> Result<Vec<Option<Vec<u32>>>, EngineError> {
        self.took = 0.0;
        if wishes.iter().any(|wish| wish.history.len() >= self.good_from) {
            (self.sure, self.right) = (0.95, 0.95);
        }
        for wish in wishes {
            let new = wish.history.len() - self.known[wish.slot];
            self.known[wish.slot] = wish.history.len();
            self.took += new.saturating_sub(1) as f64 * (self.pass)(512, self.passes) / 512.0;
        }
        self.spent += self.took;
        let mut guesses = vec![Vec::new(); wishes.len()];
        let mut open: Vec<usize> = (0..wishes.len()).collect();
        while !open.is_empty() {
            self.step(&open.iter().map(|wish| wishes[*wish].slot).collect::<Vec<_>>());
            let sure: Vec<bool> = open.iter().map(|_| self.dice.throw() < self.sure).collect();
            if !sure.contains(&true) {
                break;
            }
            for (&wish, sure) in open.iter().zip(sure) {
                let Wish { slot, history, .. } = wishes[wish];
                let right = self.dice.throw() < if sure { self.right } else { 0.2 };
                let true_one = self.texts[slot][history.len() + guesses[wish].len()];
                guesses[wish].push(if right { true_one } else { WRONG });
            }
            open.retain(|wish| guesses[*wish].len() < wishes[*wish].most);
        }
        Ok(guesses.into_iter().map(Some).collect())
    }

    fn measure(&mut self) -> Result<(), EngineError> {
        self.took = 0.0;
        self.step(&[0]);
        Ok(())
    }

    fn most(&self) -> usize {
        4
    }

    fn expect(&self, batch: &[Rows]) -> Option<f64> {
        self.turns.expect(batch, &Pace::new(512))
    }

    fn took(&self) -> f64 {
        self.took
    }
}

/// A prompt, and the answer to it.
pub type Text<'a> = (&'a [u32], &'a [u32]);

/// How many times as fast the answers come as without guesses, all at once. A machine with other work takes longer now and
/// then, as it happens.
pub fn faster(texts: &[Text<'_>], machine: Machine, pupil: Option<Pupil>, busy: bool) -> f64 {
    let all = Arc::new(Tokens::new(vec![Piece::default(); 1 << 16], Vec::new()));
    let mut pace = Pace::new(512);
    pace.learn(512, Duration::from_secs_f64(machine(512)));
    let whole: Vec<Vec<u32>> = texts.iter().map(|(prompt, answer)| [*prompt, *answer].concat()).collect();
    let pupil = pupil.map(|pupil| Pupil { texts: whole.clone(), known: vec![0; whole.len()], ..pupil });
    let mut ahead = Ahead::new(Guessing::WherePays, pupil);
    let mut guessers: Vec<Guesser> = whole.iter().map(|_| Guesser::new(&all)).collect();
    let mut said: Vec<usize> = texts.iter().map(|(prompt, _)| prompt.len() + 1).collect();
    let (mut seconds, mut plain, mut dice) = (0.0, 0.0, Dice(1));
    let time = |batch: &[Rows]| turns::passes(batch).into_iter().map(machine).sum::<f64>();
    for round in 1..texts.iter().map(|(_, answer)| answer.len()).max().unwrap() {
        let going = (0..texts.len()).filter(|slot| texts[*slot].1.len() > round);
        plain += time(&going.map(|slot| Rows { slot, rows: 1 }).collect::<Vec<_>>());
    }
    loop {
        let mut seats = Vec::new();
        for (slot, guesser) in guessers.iter_mut().enumerate() {
            let (history, left) = whole[slot].split_at(said[slot]);
            if !left.is_empty() {
                seats.push(Seat { slot, history, room: left.len() - 1, guesser: Some(guesser) });
            }
        }
        if seats.is_empty() {
            return plain / (seconds + ahead.draft().map_or(0.0, |pupil| pupil.spent));
        }
        let guesses = ahead.guess(&mut seats, &pace);
        let batch: Vec<Rows> =
            seats.iter().zip(&guesses).map(|(seat, guess)| Rows { slot: seat.slot, rows: 1 + guess.len() }).collect();
        let took = time(&batch);
        seconds += took;
        let delay = match dice.throw() {
            _ if !busy => 1.0,
            chance if chance < 0.1 => 6.0,
            chance => 1.0 + chance / 4.0,
        };
        ahead.learn(&batch, Duration::from_secs_f64(took * delay), &pace);
        for (Rows { slot, .. }, guess) in batch.into_iter().zip(guesses) {
            for right in 0..=guess.len() {
                let token = whole[slot][said[slot]];
                guessers[slot].saw(token);
                said[slot] += 1;
                if guess.get(right) != Some(&token) {
                    break;
                }
            }
        }
    }
}

/// Texts of this repository: what was asked, what was told of nothing in it, code, an edit of the code, a quote.
pub struct Texts {
    pub asked: Vec<u32>,
    pub told: Vec<u32>,
    pub code: Vec<u32>,
    pub edited: Vec<u32>,
    pub quote: Vec<u32>,
}

pub fn texts() -> Texts {
    let mut known = HashMap::new();
    let prose = tokens(include_str!("../../../../../api-spec/README.md"), &mut known);
    let mut code = tokens(include_str!("../../cache.rs"), &mut known);
    code.truncate(1800);
    let (asked, told) = (prose[..800].to_vec(), prose[800..3000].to_vec());
    // As it was but for a token here and there.
    let edited = (0..).zip(&code).map(|(at, token)| if at % 45 == 40 { WRONG } else { *token }).collect();
    let quote = [&told[..40], &asked[200..700], &told[40..80]].concat();
    Texts { asked, told, code, edited, quote }
}
