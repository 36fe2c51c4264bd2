//! The rules one by one; then what guessing wins and costs, reckoned over texts of this repository and machines of several
//! kinds.

mod clock;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::engine::event::EngineError;
use crate::engine::llama::ahead::{Ahead, Drafts, Seat, Wish};
use crate::engine::llama::guess::Guesser;
use crate::engine::llama::pace::Pace;
use crate::engine::llama::turns::{self, Rows};
use crate::engine::tokens::{Piece, Tokens};
use crate::types::Guessing;
use clock::{ACCELERATOR, ACCELERATOR_DRAFT, CORES, CORES_DRAFT, Pass, Pupil, SLOW, Text, Texts, faster, texts};

fn offer(chance: f64, most: usize) -> Offer {
    Offer { chance, most }
}

/// How many guesses one sequence gets of an offer.
fn worth(offer: Offer, seconds: fn(f64) -> f64) -> usize {
    plan(&[offer], Some(seconds(0.0)), |counts| Some(seconds(counts[0] as f64)))[0]
}

#[test]
fn guesses_are_made_where_they_pay() {
    // A batch of any length takes the same time: as many as there are.
    assert_eq!(worth(offer(0.9, 8), |_| 1.0), 8);
    // Every token takes as long as the first: none.
    assert_eq!(worth(offer(0.99, 8), |count| 1.0 + count), 0);
    // A second token is dear and further ones are cheap: some, if they are likely.
    let steep = |count: f64| if count == 0.0 { 1.0 } else { 1.5 + 0.3 * count };
    assert!((3..16).contains(&worth(offer(0.9, 16), steep)));
    assert_eq!(worth(offer(0.5, 16), steep), 0);
    assert_eq!(worth(offer(0.5, 8), |count| 1.0 + 0.3 * count), 1);
    assert_eq!(worth(offer(0.9, 0), |_| 1.0), 0);
    assert_eq!(plan(&[offer(0.9, 8)], None, |_| Some(1.0)), [0]);
    assert_eq!(plan(&[offer(0.9, 8)], Some(1.0), |_| None), [0]);
    assert_eq!(plan(&[], Some(1.0), |_| Some(1.0)), [0; 0]);
}

#[test]
fn several_are_guessed_equally_far_or_only_the_likeliest() {
    let passes = |counts: &[usize]| {
        let rows = (0..).zip(counts).map(|(slot, count)| Rows { slot, rows: 1 + count });
        turns::passes(&rows.collect::<Vec<_>>())
    };
    // A pass takes little longer with many rows.
    let memory = |counts: &[usize]| {
        let passes = passes(counts);
        Some(passes.len() as f64 + 0.02 * passes.iter().sum::<usize>() as f64)
    };
    let all = [offer(0.6, 3), offer(0.7, 3), offer(0.6, 9)];
    assert_eq!(plan(&all, memory(&[0; 3]), memory), [3, 3, 3]);
    // Alone it does not pay for a pass of its own, unless it is likely and long.
    assert_eq!(plan(&[offer(0.0, 0), offer(0.7, 9), offer(0.0, 0)], memory(&[0; 3]), memory), [0, 0, 0]);
    assert_eq!(plan(&[offer(0.1, 2), offer(0.95, 9), offer(0.1, 2)], memory(&[0; 3]), memory), [0, 9, 0]);
    // The others are not held up for long, whatever the one wins.
    let dear = |counts: &[usize]| Some(if counts == [0, 0, 0] { 1.0 } else { 2.6 });
    assert_eq!(plan(&[offer(0.0, 0), offer(0.99, 16), offer(0.0, 0)], Some(1.0), dear), [0, 0, 0]);
    assert_eq!(plan(&[offer(0.99, 16); 3], Some(1.0), dear), [16, 16, 16]);
    // A pass takes as long as it has rows.
    let arithmetic = |counts: &[usize]| Some(passes(counts).iter().sum::<usize>() as f64);
    assert_eq!(plan(&[offer(0.9, 9); 8], Some(8.0), arithmetic), [0; 8]);
}

#[test]
fn a_rest_is_as_long_as_its_reason_was_dear() {
    let mut rest = Rest::default();
    assert!(rest.is_over());
    rest.after(0.3);
    rest.pass(29.9);
    assert!(!rest.is_over());
    rest.pass(0.2);
    assert!(rest.is_over());
}

#[test]
fn text_that_repeats_nothing_costs_nothing_and_quotes_come_faster() {
    let Texts { asked, told, code, edited, quote } = texts();
    for busy in [false, true] {
        for machine in [CORES, ACCELERATOR, SLOW] {
            for (what, answer) in [("prose", &told[..]), ("code", &code), ("short", &told[..60])] {
                let faster = faster(&[(&asked, answer)], machine, None, busy);
                println!("{what}: {faster:.3}");
                // One try at the wrong moment costs a short answer a token or so; and these texts change.
                assert!(faster > 0.95, "{what} is slower: {faster}, busy: {busy}");
            }
        }
        for (what, prompt, answer) in [("a quote", &asked, &quote), ("an edit", &code, &edited)] {
            let [cores, accelerator] =
                [CORES, ACCELERATOR].map(|machine| faster(&[(prompt, answer)], machine, None, busy));
            println!("{what}: {cores:.2}, {accelerator:.2}");
            assert!(cores > 1.1 && accelerator > 3.0, "{what}: {cores} {accelerator}, busy: {busy}");
        }
    }
}

#[test]
fn a_draft_that_wins_nothing_costs_little_and_one_that_wins_is_used() {
    let Texts { asked, told, .. } = texts();
    for (machine, pass, least) in [(CORES, CORES_DRAFT, 1.2), (ACCELERATOR, ACCELERATOR_DRAFT, 2.0)] {
        let faster = |sure, right, busy| {
            let pupil = Pupil::new(sure, right, pass);
            faster(&[(&asked, &told)], machine, Some(pupil), busy) / faster(&[(&asked, &told)], machine, None, busy)
        };
        for busy in [false, true] {
            // Never sure, sure and wrong, seldom sure. Most of it is what the draft takes to read the prompt, once.
            for (sure, right) in [(0.0, 0.0), (1.0, 0.0), (0.3, 0.9)] {
                let lost = faster(sure, right, busy);
                println!("{sure} {right}: {lost:.3}");
                assert!(lost > 0.965, "sure {sure}, right {right}: {lost}, busy: {busy}");
            }
            let won = faster(1.0, 0.99, busy);
            println!("good: {won:.3}");
            assert!(won > least, "{won}, busy: {busy}");
        }
    }
}

#[test]
fn a_draft_that_was_slow_is_measured_again_for_a_hundredth_of_the_time() {
    let Texts { asked, told, .. } = texts();
    let drafted = |pass: Pass| faster(&[(&asked, &told)], ACCELERATOR, Some(Pupil::new(0.9, 0.9, pass)), false);
    let without = faster(&[(&asked, &told)], ACCELERATOR, None, false);
    let stays = drafted(|rows, _| 2.0 * ACCELERATOR(rows));
    let never = drafted(ACCELERATOR_DRAFT);
    let was = drafted(|rows, passes| if passes == 0 { 2.0 } else { 0.2 } * ACCELERATOR(rows));
    println!("without {without:.3}, always slow {stays:.3}, slow once {was:.3}, never slow {never:.3}");
    assert!(stays > 0.985 * without, "{stays} of {without}");
    assert!(was > 0.6 * never && was > 1.15 * without, "{was} of {never}");
}

#[test]
fn a_draft_that_was_poor_is_tried_again() {
    let Texts { asked, told, .. } = texts();
    for (several, least) in [(1, 1.3), (2, 1.2)] {
        let prose: Vec<Text<'_>> = (0..several).map(|at| (&asked[..], &told[at * 20..])).collect();
        // Where 1,400 tokens of 2,200 are left.
        let pupil = Pupil::new(0.0, 0.0, ACCELERATOR_DRAFT).good_from(asked.len() + 800);
        let tried = faster(&prose, ACCELERATOR, Some(pupil), false);
        println!("{several}: {tried:.2}");
        assert!(tried > least, "{several}: {tried}");
    }
}

/// A draft whose wishes are written down.
#[derive(Default)]
struct Noted {
    asked: Vec<usize>,
}

impl Drafts for Noted {
    fn guess(&mut self, wishes: &[Wish<'_>]) -> Result<Vec<Option<Vec<u32>>>, EngineError> {
        self.asked.extend(wishes.iter().map(|wish| wish.most));
        Ok(wishes.iter().map(|wish| Some((1..).take(wish.most).collect())).collect())
    }

    fn measure(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn most(&self) -> usize {
        4
    }

    fn expect(&self, batch: &[Rows]) -> Option<f64> {
        Some(if batch.iter().any(|seat| seat.rows > 0) { 0.05 } else { 0.0 })
    }

    /// Nearly all of it to read.
    fn took(&self) -> f64 {
        100.0
    }
}

/// One guess pays for what the draft promises, and two would if it were always right.
#[test]
fn a_longer_guess_than_pays_is_tried_once_a_rest() {
    let pace = Pace::new(512);
    let mut ahead = Ahead::new(Guessing::WherePays, Some(Noted::default()));
    let mut guesser = Guesser::new(&Arc::new(Tokens::new(vec![Piece::default(); 100], Vec::new())));
    let pass = |ahead: &mut Ahead<Noted>, rows: usize, seconds: f64| {
        ahead.learn(&[Rows { slot: 0, rows }], Duration::from_secs_f64(seconds), &pace);
    };
    for (rows, seconds) in [(1, 1.0), (2, 1.2), (3, 1.6), (4, 2.3), (5, 3.0)] {
        pass(&mut ahead, rows, seconds);
    }
    let mut step = |ahead: &mut Ahead<Noted>, said: &[u32]| {
        let mut seats = [Seat { slot: 0, history: &[0], room: 50, guesser: Some(&mut guesser) }];
        ahead.guess(&mut seats, &pace);
        said.iter().for_each(|token| guesser.saw(*token));
        ahead.draft().unwrap().asked.clone()
    };
    step(&mut ahead, &[1, 99]);
    step(&mut ahead, &[99]);
    assert_eq!(step(&mut ahead, &[99]), [2, 1, 1]);
    // One guess more cost a twentieth of a second, which is a hundredth of five.
    (0..4).for_each(|_| pass(&mut ahead, 1, 1.0));
    assert_eq!(step(&mut ahead, &[99]), [2, 1, 1]);
    pass(&mut ahead, 1, 1.0);
    assert_eq!(step(&mut ahead, &[1, 2, 99]), [2, 1, 1, 2], "it begins again");
}

#[test]
fn lookup_and_draft_together_are_no_worse_than_the_better_one() {
    let Texts { asked, told, quote, .. } = texts();
    let faster = |answer: &[u32], pupil| faster(&[(&asked, answer)], ACCELERATOR, pupil, false);
    let poor = || Some(Pupil::new(1.0, 0.5, ACCELERATOR_DRAFT));
    let good = || Some(Pupil::new(0.9, 0.9, ACCELERATOR_DRAFT));
    let (found, told_by_draft) = (faster(&quote, None), faster(&told, good()));
    let (beside_poor, beside_good) = (faster(&quote, poor()), faster(&quote, good()));
    println!("a quote: {found:.2}, with a poor draft {beside_poor:.2}, with a good one {beside_good:.2}");
    println!("prose, with a good draft: {told_by_draft:.2}");
    assert!(beside_poor > 0.9 * found && beside_good > 1.1 * found, "{found} {beside_poor} {beside_good}");
    assert!(beside_good > 2.0 * told_by_draft, "{beside_good} {told_by_draft}");
}

#[test]
fn several_answers_are_guessed_ahead_where_a_pass_has_room_for_more() {
    let Texts { asked, told, quote, .. } = texts();
    for (several, found, drafted) in [(2, 3.0, 2.0), (4, 2.2, 1.7), (8, 1.6, 1.3)] {
        let quotes: Vec<Text<'_>> = (0..several).map(|at| (&asked[..], &quote[at * 9..])).collect();
        let prose: Vec<Text<'_>> = (0..several).map(|at| (&asked[..], &told[at * 20..])).collect();
        let good = |pass| Some(Pupil::new(1.0, 0.99, pass));
        let quoted = [ACCELERATOR, CORES, SLOW].map(|machine| faster(&quotes, machine, None, false));
        let guessed = faster(&prose, ACCELERATOR, good(ACCELERATOR_DRAFT), false);
        let idle = faster(&prose, SLOW, good(|rows, _| 0.1 * SLOW(rows)), false);
        println!(
            "{several} quotes: {quoted:.2?}; prose with a good draft: {guessed:.2}, and where it cannot win {idle:.3}"
        );
        assert!(quoted[0] > found && guessed > drafted, "{several}: {quoted:?} {guessed}");
        assert!(quoted[1] > 1.1 && quoted[2] > 0.99 && idle > 0.985, "{several}: {quoted:?} {idle}");
        for machine in [CORES, ACCELERATOR, SLOW] {
            let new = faster(&prose, machine, None, false);
            assert!(new > 0.98, "{several} of new text are slower: {new}");
        }
    }
}
