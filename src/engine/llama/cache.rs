//! The key-value cache: what llama.cpp remembers of each sequence, and how much of it a new prompt can use.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::{LlamaModel, RopeType};

use super::load;
use super::log;

/// What this model's memory can do.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Positions can be moved.
    moves: bool,
    /// Parts of a sequence can be given to another.
    copies: bool,
    /// Tokens of a sequence at the most.
    context: usize,
    /// The end of a sequence can be taken back at any time. A window may have moved on meanwhile, and a state has no end.
    rolls_back: bool,
    /// Tokens that some layers look back; zero when it is all of them.
    window: usize,
}

impl Traits {
    /// To be asked once the context is made.
    pub fn of(model: &LlamaModel, limits: load::Limits) -> Self {
        let windowed = log::has_window();
        let plain = !windowed && !model.is_recurrent() && !model.is_hybrid();
        let window = load::metadata(model, "attention.sliding_window").and_then(|window| window.parse().ok());
        Self {
            moves: plain && positions_move(model),
            copies: plain,
            context: limits.context,
            rolls_back: plain,
            // Of an unknown window no part will do.
            window: if windowed { window.unwrap_or(usize::MAX) } else { 0 },
        }
    }
}

/// llama.cpp aborts when it is told to move what it cannot: positions in several dimensions, compressed keys, and two
/// architectures of their own kind.
fn positions_move(model: &LlamaModel) -> bool {
    let architecture = load::architecture(model);
    !matches!(model.rope_type(), Some(RopeType::MRope | RopeType::IMRope | RopeType::Vision))
        && load::metadata(model, "attention.kv_lora_rank").is_none()
        && !["step35", "deepseek"].iter().any(|name| architecture.starts_with(name))
}

/// Where an image or a sound is in a sequence. Its positions may be fewer than its tokens, when they are counted in two
/// dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub at: usize,
    pub tokens: usize,
    pub positions: usize,
}

impl Span {
    pub fn end(self) -> usize {
        self.at + self.tokens
    }
}

/// One sequence of the context: the tokens whose keys and values are there.
#[derive(Debug, Default)]
pub struct Cached {
    pub tokens: Vec<u32>,
    /// What of them is no text, in order.
    pub spans: Vec<Span>,
    /// When it was last used, on the decoder's clock.
    pub used: u64,
    /// From where on tokens were moved to the place of others that were taken out, which they have seen.
    pub moved: Option<usize>,
}

impl Cached {
    /// How many tokens at the beginning are those of `prompt`. The prompt's last token is never among them: its logits
    /// are wanted, and only evaluation gives those.
    pub fn common(&self, prompt: &[u32]) -> usize {
        let known = &prompt[..prompt.len().saturating_sub(1)];
        let common = self.tokens.iter().zip(known).take_while(|(a, b)| a == b).count();
        // Of an image there is all or nothing.
        let cut = self.spans.iter().find(|span| span.at < common && common < span.end());
        cut.map_or(common, |span| span.at)
    }

    /// It knows what its tokens say and nothing else.
    pub fn is_plain(&self) -> bool {
        self.spans.is_empty() && self.moved.is_none()
    }

    /// The position of the token `at` this place, which is not within an image.
    pub fn position(&self, at: usize) -> usize {
        let before = self.spans.iter().filter(|span| span.end() <= at);
        before.fold(at, |position, span| position - span.tokens + span.positions)
    }
}

/// Where a prompt goes, and where its beginning comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub slot: usize,
    /// A slot that knows more of the prompt than `slot` does.
    pub from: Option<usize>,
}

/// Chooses among `slots`, of which those in `free` may be taken. The one that knows most of the prompt is continued, when
/// the prompt goes on from most of what it knows; else the one unused for longest, with what any other knows copied to it.
pub fn place(slots: &[Cached], free: &[usize], prompt: &[u32], copies: Option<usize>) -> Option<Place> {
    let common = |slot: usize| slots[slot].common(prompt);
    let best = free.iter().copied().max_by_key(|slot| (common(*slot), std::cmp::Reverse(slots[*slot].used)))?;
    let oldest = oldest(slots, free)?;
    let goes_on = common(best) > 0 && (common(best) * 2 >= slots[best].tokens.len() || copies.is_none());
    let slot = if goes_on { best } else { oldest };
    let source = copies.and_then(|least| {
        let most = (0..slots.len()).max_by_key(|slot| common(*slot))?;
        (common(most) >= common(slot) + least).then_some(most)
    });
    Some(Place { slot, from: source })
}

/// Of those in `free` an empty one, or else the one unused for longest.
pub fn oldest(slots: &[Cached], free: &[usize]) -> Option<usize> {
    free.iter().copied().min_by_key(|slot| (!slots[*slot].tokens.is_empty(), slots[*slot].used))
}

/// The number of a slot as llama.cpp counts sequences.
pub fn sequence(slot: usize) -> i32 {
    i32::try_from(slot).expect("a slot beyond llama.cpp's sequences: a bug")
}

/// Empties a slot, which always works.
pub fn clear(context: &mut LlamaContext<'_>, slot: usize, cached: &mut Cached) {
    if let Err(error) = context.kv_cache_seq_rm(sequence(slot), None, None) {
        tracing::warn!(%error, "a sequence cannot be emptied");
    }
    cached.tokens.clear();
    cached.spans.clear();
    cached.moved = None;
}

/// Keeps the first `length` tokens, or none when this memory cannot lose its end, or has lost its beginning.
pub fn keep(context: &mut LlamaContext<'_>, slot: usize, cached: &mut Cached, length: usize, traits: Traits) {
    let position = cached.position(length);
    let end = u32::try_from(position).unwrap_or(u32::MAX);
    let cut = context.kv_cache_seq_rm(sequence(slot), Some(end), None).is_ok();
    let first = context.kv_cache_seq_pos_min(sequence(slot));
    let whole = traits.window == 0 || sees_enough(first, traits.window, position);
    if cut && whole && length > 0 {
        cached.tokens.truncate(length);
        cached.spans.retain(|span| span.end() <= length);
        cached.moved.take_if(|from| *from >= length);
    } else {
        clear(context, slot, cached);
    }
}

/// Forgets what was evaluated behind the first `length` tokens and is none of them. Only for memory that rolls back.
pub fn take_back(context: &mut LlamaContext<'_>, slot: usize, cached: &mut Cached, length: usize) {
    let end = u32::try_from(cached.position(length)).unwrap_or(u32::MAX);
    if let Err(error) = context.kv_cache_seq_rm(sequence(slot), Some(end), None) {
        tracing::warn!(%error, "rows without meaning cannot be taken back");
        clear(context, slot, cached);
    }
}

/// Layers that look back `window` tokens from position `length` find them all, when `first` is the first one there is.
fn sees_enough(first: i32, window: usize, length: usize) -> bool {
    // A negative one says that the window has moved on and left nothing.
    usize::try_from(first).is_ok_and(|first| first == 0 || first.saturating_add(window) < length)
}

impl Traits {
    /// The fewest tokens that are worth a copy, if there can be one: a whole buffer is copied, however few are wanted.
    pub fn copies(self) -> Option<usize> {
        self.copies.then_some((self.context / 128).max(16))
    }

    pub fn rolls_back(self) -> bool {
        self.rolls_back
    }

    /// Gives `to` the first `length` tokens of `from`.
    pub fn copy(self, context: &mut LlamaContext<'_>, slots: &mut [Cached], from: usize, to: usize, length: usize) {
        clear(context, to, &mut slots[to]);
        // Between buffers of their own llama.cpp copies all or nothing.
        match context.kv_cache_seq_cp(sequence(from), sequence(to), None, None) {
            Ok(()) => {
                slots[to].tokens = slots[from].tokens.clone();
                slots[to].spans = slots[from].spans.clone();
                slots[to].moved = slots[from].moved;
                keep(context, to, &mut slots[to], length, self);
            }
            Err(error) => tracing::warn!(%error, "a sequence cannot be copied"),
        }
    }

    /// Takes out `from..to`, of text only, and moves what comes after it. Where positions cannot be moved, all from `from` on goes and
    /// has to be evaluated again.
    pub fn shift(self, context: &mut LlamaContext<'_>, slot: usize, cached: &mut Cached, from: usize, to: usize) {
        let position = |at: usize| u32::try_from(at).ok();
        let back = i32::try_from(to - from).map(|by| -by);
        if let Ok(back) = back
            && self.moves
            && to <= cached.tokens.len()
            && context.kv_cache_seq_rm(sequence(slot), position(from), position(to)).is_ok()
            && context.kv_cache_seq_add(sequence(slot), position(to), None, back).is_ok()
        {
            cached.tokens.drain(from..to);
            cached.moved = Some(cached.moved.map_or(from, |before| before.min(from)));
        } else {
            keep(context, slot, cached, from, self);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(known: &[(&[u32], u64)]) -> Vec<Cached> {
        known
            .iter()
            .map(|(tokens, used)| Cached { tokens: tokens.to_vec(), used: *used, ..Cached::default() })
            .collect()
    }

    #[test]
    fn a_conversation_goes_on_where_it_was() {
        let slots = slots(&[(&[], 0), (&[1, 2, 3, 4], 5), (&[1, 2, 9], 6)]);
        assert_eq!(place(&slots, &[0, 1, 2], &[1, 2, 3, 4, 5], Some(1)), Some(Place { slot: 1, from: None }));
    }

    #[test]
    fn a_shared_beginning_is_copied() {
        let slots = slots(&[(&[7], 3), (&[1, 2, 3, 4, 5, 6], 5)]);
        assert_eq!(place(&slots, &[0, 1], &[1, 2, 8], Some(1)), Some(Place { slot: 0, from: Some(1) }));
        assert_eq!(place(&slots, &[0], &[1, 2, 3, 4], Some(1)), Some(Place { slot: 0, from: Some(1) }));
        assert_eq!(place(&slots, &[0, 1], &[1, 2, 8], None), Some(Place { slot: 1, from: None }));
        assert_eq!(place(&slots, &[], &[1], Some(1)), None);
    }

    #[test]
    fn the_slot_unused_for_longest_goes_first() {
        let used = slots(&[(&[7], 9), (&[8], 3)]);
        assert_eq!(place(&used, &[0, 1], &[1, 2], Some(1)), Some(Place { slot: 1, from: None }));
        let empty = slots(&[(&[7], 1), (&[], 3)]);
        assert_eq!(place(&empty, &[0, 1], &[1, 2], Some(1)), Some(Place { slot: 1, from: None }));
    }

    #[test]
    fn an_image_is_known_as_a_whole_or_not_at_all() {
        let spans = vec![Span { at: 1, tokens: 4, positions: 2 }, Span { at: 6, tokens: 4, positions: 2 }];
        let cached = Cached { tokens: vec![1, 90, 90, 90, 90, 2, 91, 91, 91, 91, 3], spans, ..Cached::default() };
        assert_eq!([0, 1, 5, 6, 10, 11].map(|at| cached.position(at)), [0, 1, 3, 4, 6, 7]);
        assert_eq!(cached.common(&[1, 90, 90, 90, 90, 2, 92, 92, 92, 92, 3]), 6);
        assert_eq!(cached.common(&[1, 90, 90, 90, 90, 2, 91, 91, 91, 91, 3, 4]), 11);
        assert_eq!(cached.common(&[1, 90, 90, 7]), 1);
    }

    #[test]
    fn a_window_that_moved_on_is_no_beginning() {
        assert!(sees_enough(0, 64, 10) && sees_enough(135, 64, 200));
        assert!(!sees_enough(136, 64, 200) && !sees_enough(-1, 64, 200) && !sees_enough(5, 64, 10));
    }

    #[test]
    fn one_token_is_always_left_to_evaluate() {
        assert_eq!(slots(&[(&[1, 2, 3], 0)])[0].common(&[1, 2, 3]), 2);
    }
}
