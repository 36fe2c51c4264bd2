//! Which answers of a batch get guesses behind their token, how many, and whose: those of the lookup, or of a draft model.

use std::time::Duration;

use super::guess::{Guesser, MOST, Record, Source};
use super::pace::Pace;
use super::padding::{self, Room};
use super::policy::{self, Offer, Rest};
use super::turns::{Rows, SMALL, Turns};
use crate::engine::event::EngineError;
use crate::types::Guessing;

/// A sequence that wants a guess: its slot, all of its tokens, and how many to guess.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub slot: usize,
    pub history: &'a [u32],
    pub most: usize,
}

/// A draft model, as far as its use is decided here.
pub trait Drafts {
    /// Guesses in the order of `wishes`, fewer than wished where it is not sure enough. `None` for a sequence that it is still
    /// reading.
    ///
    /// # Errors
    /// When it cannot be used any more.
    fn guess(&mut self, wishes: &[Wish<'_>]) -> Result<Vec<Option<Vec<u32>>>, EngineError>;

    /// Measures anew how long a guess takes, in about the time of one.
    ///
    /// # Errors
    /// When it cannot be used any more.
    fn measure(&mut self) -> Result<(), EngineError>;

    /// Tokens it guesses at once.
    fn most(&self) -> usize;

    /// Seconds that a guess for each of `batch` takes, if that can be told.
    fn expect(&self, batch: &[Rows]) -> Option<f64>;

    /// Seconds that the last call took, with what was read for it.
    fn took(&self) -> f64;
}

/// An answer that is a token further with this batch.
pub struct Seat<'a> {
    pub slot: usize,
    pub history: &'a [u32],
    /// Tokens that may be guessed.
    pub room: usize,
    /// `None` where nothing is guessed.
    pub guesser: Option<&'a mut Guesser>,
}

pub struct Ahead<D> {
    guessing: Guessing,
    draft: Option<D>,
    /// The draft's latest, for sequences that are new to it.
    record: Record,
    /// Until the draft is tried where it did not pay.
    rest: Rest,
    turns: Turns,
}

impl<D: Drafts> Ahead<D> {
    pub fn new(guessing: Guessing, draft: Option<D>) -> Self {
        Self { guessing, draft, record: Record::new(), rest: Rest::default(), turns: Turns::new() }
    }

    pub fn is_on(&self) -> bool {
        self.guessing != Guessing::Off
    }

    #[cfg(test)]
    pub fn draft(&self) -> Option<&D> {
        self.draft.as_ref()
    }

    /// A batch of answers took so long, guesses counted.
    pub fn learn(&mut self, batch: &[Rows], took: Duration, pace: &Pace) {
        let seconds = took.as_secs_f64();
        self.rest.pass(seconds);
        self.turns.learn(batch, seconds, pace);
    }

    /// The guesses behind each seat's token. The seats are in the order of their slots.
    pub fn guess(&mut self, seats: &mut [Seat<'_>], pace: &Pace) -> Vec<Vec<u32>> {
        // Of more rows than are told apart nothing could be learnt.
        let room = pace.room(seats.len()).min((SMALL - 1).saturating_sub(seats.len()));
        let share = room.checked_div(seats.len()).unwrap_or(0).min(MOST);
        if !self.is_on() || share == 0 {
            return vec![Vec::new(); seats.len()];
        }
        for guesser in seats.iter_mut().filter_map(|seat| seat.guesser.as_mut()) {
            self.record = guesser.news().unwrap_or(self.record);
        }
        let mut offers: Vec<Offer> = seats.iter_mut().map(|seat| seat.found(share)).collect();
        let mut sources = vec![Source::Lookup; seats.len()];
        let asked = self.ask(seats, &offers, share, pace).unwrap_or_else(|error| {
            tracing::warn!(%error, "the draft model is given up");
            self.draft = None;
            Vec::new()
        });
        let step = self.step(seats, pace);
        for at in asked {
            let drafted = seats[at].drafted(share);
            if step.prefers(at, (drafted, &[]), offers[at]) {
                (offers[at], sources[at]) = (drafted, Source::Draft);
            }
        }
        let counts = step.plan(&offers, &[]);
        let guess = |((seat, source), count): ((&Seat<'_>, Source), usize)| seat.first(source, count);
        seats.iter().zip(sources).zip(counts).map(guess).collect()
    }

    /// Asks the draft where it pays; and, after a rest or where all that it said last came true, where it would pay if it were
    /// always right. When it is too slow even for that it is measured again. Gives the seats it was asked for.
    fn ask(
        &mut self,
        seats: &mut [Seat<'_>],
        found: &[Offer],
        share: usize,
        pace: &Pace,
    ) -> Result<Vec<usize>, EngineError> {
        let Some(draft) = &self.draft else { return Ok(Vec::new()) };
        let (rested, most) = (self.rest.is_over(), share.min(draft.most()));
        let promise = |guesser: &Guesser| guesser.promise(self.record);
        let hope = |guesser: &Guesser| if rested || guesser.is_proven() { 1.0 } else { promise(guesser) };
        let offers = |chance: &dyn Fn(&Guesser) -> f64| {
            let offer = |seat: &Seat<'_>| {
                let chance = chance(seat.guesser.as_ref()?);
                Some(Offer { chance, most: most.min(seat.room) })
            };
            seats.iter().map(|seat| offer(seat).unwrap_or_default()).collect::<Vec<_>>()
        };
        let step = self.step(seats, pace);
        let promised = step.wished(&offers(&promise), found);
        let wishes = step.wished(&offers(&hope), found);
        // Also a longer guess than promises to pay: else it would be asked for at each step from the rest's end on. It costs what
        // it takes longer; what has to be read is read for the others too.
        let tried = wishes.iter().any(|&(at, most)| promised.iter().all(|&(seat, told)| seat != at || told < most));
        let longer = (!promised.is_empty()).then(|| step.drafting(&wishes) - step.drafting(&promised));
        let Some(draft) = &mut self.draft else { return Ok(Vec::new()) };
        if !wishes.is_empty() {
            let wish = |&(at, most): &(usize, usize)| Wish { slot: seats[at].slot, history: seats[at].history, most };
            let guesses = draft.guess(&wishes.iter().map(wish).collect::<Vec<_>>())?;
            for (&(at, most), guess) in wishes.iter().zip(guesses) {
                if let (Some(guesser), Some(guess)) = (&mut seats[at].guesser, guess) {
                    guesser.take(guess, most, self.record);
                }
            }
        } else if rested {
            draft.measure()?;
        }
        if rested && (tried || wishes.is_empty()) {
            self.rest.after(longer.unwrap_or_else(|| draft.took()));
        }
        Ok(wishes.into_iter().map(|(at, _)| at).collect())
    }

    fn step<'a>(&'a self, seats: &[Seat<'_>], pace: &'a Pace) -> Step<'a, D> {
        let slots = seats.iter().map(|seat| seat.slot).collect();
        Step { always: self.guessing == Guessing::Always, slots, turns: &self.turns, pace, draft: self.draft.as_ref() }
    }
}

/// What the next step takes, by the guesses of each seat.
struct Step<'a, D> {
    always: bool,
    slots: Vec<usize>,
    turns: &'a Turns,
    pace: &'a Pace,
    draft: Option<&'a D>,
}

impl<D: Drafts> Step<'_, D> {
    fn rows(&self, count: impl Fn(usize) -> usize) -> Vec<Rows> {
        let rows = |(at, slot): (usize, &usize)| Rows { slot: *slot, rows: count(at) };
        self.slots.iter().enumerate().map(rows).collect()
    }

    /// Seconds without guesses, whether gaps between the seats are closed or not.
    fn alone(&self) -> Option<f64> {
        let rows = self.rows(|_| 1);
        let closed = padding::pad(&rows, |_| Room { most: usize::MAX, behind: 0 }, SMALL);
        self.turns.measured(&closed).or_else(|| self.turns.measured(&rows))
    }

    /// Seconds with so many guesses, of which the draft is yet to make those of the seats `asked`.
    fn seconds(&self, counts: &[usize], asked: &[usize]) -> Option<f64> {
        let evaluated = self.turns.expect(&self.rows(|at| 1 + counts[at]), self.pace)?;
        Some(evaluated + self.drafting(&asked.iter().map(|at| (*at, counts[*at])).collect::<Vec<_>>()))
    }

    /// Seconds that the draft takes to guess for so many seats so many tokens each.
    fn drafting(&self, wishes: &[(usize, usize)]) -> f64 {
        let longest = wishes.iter().map(|(_, most)| *most).max().unwrap_or(0);
        let wished = |at: usize, length: usize| wishes.iter().any(|&(seat, most)| seat == at && most >= length);
        (1..=longest).map(|length| self.guessing(|at| wished(at, length))).sum()
    }

    /// Seconds that the draft takes to guess a token for some seats. What is not known yet is hoped to be nothing.
    fn guessing(&self, asked: impl Fn(usize) -> bool) -> f64 {
        self.draft.and_then(|draft| draft.expect(&self.rows(|at| usize::from(asked(at))))).unwrap_or(0.0)
    }

    /// How many guesses to take of each offer, of which those of the seats `asked` are the draft's to make.
    fn plan(&self, offers: &[Offer], asked: &[usize]) -> Vec<usize> {
        match self.always {
            true => offers.iter().map(|offer| offer.most).collect(),
            false => policy::plan(offers, self.alone(), |counts| self.seconds(counts, asked)),
        }
    }

    /// Whether what the draft made for a seat, or is yet to make when it is `asked`, promises more tokens a second than what
    /// was found, were this the only seat that is guessed ahead.
    fn prefers(&self, at: usize, (drafted, asked): (Offer, &[usize]), found: Offer) -> bool {
        let rate = |offer: Offer, asked: &[usize]| {
            let mut only = vec![Offer::default(); self.slots.len()];
            only[at] = offer;
            policy::best(&only, |counts| self.seconds(counts, asked)).map_or(0.0, |(rate, _)| rate)
        };
        if self.always { found.most == 0 } else { rate(drafted, asked) > rate(found, &[]) }
    }

    /// The seats for which to ask the draft, by what it offers, and how many guesses: where those take it less time than
    /// tokens take without, promise more than what was found, and enough to pay.
    fn wished(&self, offers: &[Offer], found: &[Offer]) -> Vec<(usize, usize)> {
        let each = self.guessing(|_| true);
        let cheap = |offer: &Offer| self.always || self.alone().is_some_and(|alone| each < offer.chance * alone);
        let better = |at: &usize| cheap(&offers[*at]) && self.prefers(*at, (offers[*at], &[*at]), found[*at]);
        let asked: Vec<usize> = (0..offers.len()).filter(|at| offers[*at].most > 0).filter(better).collect();
        if asked.is_empty() {
            return Vec::new();
        }
        let chosen = |at: usize| if asked.contains(&at) { offers[at] } else { found[at] };
        let counts = self.plan(&(0..offers.len()).map(chosen).collect::<Vec<_>>(), &asked);
        asked.into_iter().map(|at| (at, counts[at])).filter(|(_, count)| *count > 0).collect()
    }
}

impl Seat<'_> {
    fn found(&mut self, share: usize) -> Offer {
        let Some(guesser) = &mut self.guesser else { return Offer::default() };
        let found = guesser.look(self.history);
        Offer { most: found.most.min(share).min(self.room), ..found }
    }

    fn drafted(&self, share: usize) -> Offer {
        let drafted = self.guesser.as_ref().map_or_else(Offer::default, |guesser| guesser.drafted());
        Offer { most: drafted.most.min(share).min(self.room), ..drafted }
    }

    fn first(&self, source: Source, count: usize) -> Vec<u32> {
        self.guesser.as_ref().map_or_else(Vec::new, |guesser| guesser.first(source, count))
    }
}
