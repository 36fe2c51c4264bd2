//! What is read for which prompt, and what is kept.

use super::*;

struct Place {
    folder: tempfile::TempDir,
    bytes: u64,
    rolls_back: bool,
}

impl Place {
    fn new(rolls_back: bool) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), bytes: 1 << 20, rolls_back }
    }

    fn open(&self) -> Saved {
        let saving = Saving { folder: self.folder.path().join("prompts"), bytes: self.bytes };
        Saved::open(&saving, Digest::of(b"a model"), self.rolls_back).unwrap()
    }
}

/// `common` tokens that all have, then `own` ones of this number.
fn tokens(common: usize, number: u32, own: usize) -> Vec<u32> {
    let beginning = (0..common).map(|token| token as u32);
    beginning.chain(std::iter::repeat_n(10_000 + number, own)).collect()
}

fn keep(saved: &mut Saved, tokens: &[u32]) {
    assert!(saved.wants(tokens));
    saved.keep(State { tokens: tokens.to_vec(), bytes: vec![9; 100] });
    saved.flush();
}

fn look(saved: &mut Saved, prompt: &[u32], known: usize) -> Look {
    loop {
        match saved.look(prompt, known, Turn::First) {
            // Woken when it is read.
            Look::Coming => thread::park(),
            look => return look,
        }
    }
}

/// How many tokens there are of what is found.
fn found(saved: &mut Saved, prompt: &[u32], known: usize) -> Option<usize> {
    match look(saved, prompt, known) {
        Look::Here(_, state) => Some(state.tokens.len()),
        _ => None,
    }
}

#[test]
fn the_one_that_knows_most_is_read() {
    let place = Place::new(true);
    let mut saved = place.open();
    keep(&mut saved, &tokens(1000, 1, 500));
    keep(&mut saved, &tokens(1000, 2, 600));
    for mut saved in [saved, place.open()] {
        assert_eq!(found(&mut saved, &tokens(1000, 1, 500), 0), Some(1500));
        assert_eq!(found(&mut saved, &tokens(1000, 2, 700), 0), Some(1600));
        assert_eq!(found(&mut saved, &tokens(1000, 3, 10), 0), Some(1500), "the smaller one will do");
        assert_eq!(found(&mut saved, &tokens(1000, 3, 10), 1000 - LEAST), Some(1500));
        assert_eq!(found(&mut saved, &tokens(1000, 3, 10), 1001 - LEAST), None, "a slot knows nearly as much");
        assert_eq!(found(&mut saved, &tokens(LEAST, 3, 10), 0), Some(1500));
        assert_eq!(found(&mut saved, &tokens(LEAST, 3, 0), 0), None, "the last token is evaluated in any case");
        assert_eq!(found(&mut saved, &tokens(0, 1, 500), 0), None);
    }
}

#[test]
fn a_long_one_is_not_read_for_a_small_part_of_it() {
    let place = Place::new(true);
    let mut saved = place.open();
    keep(&mut saved, &tokens(400, 1, 8000));
    assert_eq!(found(&mut saved, &tokens(400, 2, 10), 0), None);
}

#[test]
fn a_state_without_an_end_to_take_back_is_used_whole() {
    let place = Place::new(false);
    let mut saved = place.open();
    keep(&mut saved, &tokens(1000, 1, 500));
    assert_eq!(found(&mut saved, &tokens(1000, 2, 500), 0), None);
    assert_eq!(found(&mut saved, &tokens(1000, 1, 500), 0), None);
    assert_eq!(found(&mut saved, &tokens(1000, 1, 501), 0), Some(1500));
    // Its beginning is another state.
    assert!(saved.wants(&tokens(1000, 1, 400)) && !saved.wants(&tokens(1000, 1, 500)));
    keep(&mut saved, &tokens(1000, 1, 600));
    assert_eq!(found(&mut saved, &tokens(1000, 1, 501), 0), Some(1500));
}

#[test]
fn what_is_there_but_for_its_end_is_not_kept_again() {
    let place = Place::new(true);
    let mut saved = place.open();
    assert!(!saved.wants(&tokens(LEAST - 1, 1, 0)));
    keep(&mut saved, &tokens(1000, 1, 0));
    assert!(!saved.wants(&tokens(500, 1, 0)) && !saved.wants(&tokens(1000, 1, LEAST - 1)));
    keep(&mut saved, &tokens(1000, 1, LEAST));
    let names = saved.folder.names(&saved.key);
    assert_eq!((saved.known.len(), names.len()), (1, 1), "the longer one knows all of the shorter");
    assert!(!saved.holds(10, 1 << 20) && saved.holds(10, 1000));
}

#[test]
fn a_damaged_one_goes_and_the_next_best_is_read() {
    let place = Place::new(true);
    let mut saved = place.open();
    keep(&mut saved, &tokens(1000, 1, 500));
    keep(&mut saved, &tokens(1000, 2, 500));
    let path = saved.folder.path(&saved.known[1].name);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut other = place.open();
    for saved in [&mut saved, &mut other] {
        assert_eq!(saved.known.len(), 2);
        // It knows 1500 tokens, but wrongly; for the other runner it is gone.
        let mut prompt = tokens(1000, 2, 500);
        prompt.push(5);
        let Look::Here(_, state) = look(saved, &prompt, 0) else { panic!("nothing was found") };
        assert_eq!((state.tokens, saved.known.len()), (tokens(1000, 1, 500), 1));
        assert!(!path.exists());
    }
}

#[test]
fn what_the_engine_does_not_take_is_not_offered_again() {
    let place = Place::new(true);
    let mut saved = place.open();
    keep(&mut saved, &tokens(1000, 1, 500));
    let Look::Here(name, _) = look(&mut saved, &tokens(1000, 2, 10), 0) else { panic!("nothing was found") };
    saved.reject(&name);
    assert_eq!(found(&mut saved, &tokens(1000, 2, 10), 0), None);
    assert!(place.open().known.is_empty());
}

/// Of several who wait the one in front is served, also when what was read was meant for another, who has left.
#[test]
fn what_nobody_wants_any_more_is_dropped() {
    let place = Place::new(true);
    let mut saved = place.open();
    keep(&mut saved, &tokens(0, 1, 500));
    keep(&mut saved, &tokens(0, 2, 500));
    assert!(matches!(saved.look(&tokens(0, 1, 500), 0, Turn::First), Look::Coming));
    let Look::Here(_, state) = look(&mut saved, &tokens(0, 2, 500), 0) else { panic!("nothing was found") };
    assert_eq!(state.tokens, tokens(0, 2, 500));
    assert!(saved.read.is_none());

    assert!(matches!(saved.look(&tokens(0, 1, 500), 0, Turn::First), Look::Coming));
    while saved.read.is_none() {
        thread::park();
        saved.settle();
    }
    saved.let_go();
    assert!(saved.read.is_none());
}

#[test]
fn who_is_behind_takes_nothing_away_and_waits_for_a_state_of_its_own_alone() {
    let place = Place::new(true);
    let mut saved = place.open();
    keep(&mut saved, &tokens(0, 1, 500));
    keep(&mut saved, &tokens(0, 2, 500));
    assert!(matches!(saved.look(&tokens(0, 1, 500), 0, Turn::First), Look::Coming));
    while saved.read.is_none() {
        thread::park();
        saved.settle();
    }
    for (number, coming) in [(1, true), (2, true), (3, false)] {
        let looked = saved.look(&tokens(0, number, 500), 0, Turn::Behind);
        assert_eq!(matches!(looked, Look::Coming), coming, "{number}: {looked:?}");
    }
    assert!(matches!(saved.look(&tokens(0, 1, 500), 0, Turn::First), Look::Here(..)));
    // Nor does one who is first, while what is read is for another who has left.
    assert!(matches!(saved.look(&tokens(0, 1, 500), 0, Turn::First), Look::Coming));
    assert!(matches!(saved.look(&tokens(0, 3, 500), 0, Turn::First), Look::Nothing));
}
