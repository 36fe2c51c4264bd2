//! Who waits for a slot, in the order they came.

use std::collections::VecDeque;

use crate::engine::protocol::SequenceId;

/// Those who wait. One whose job is still being made has its place among them.
pub struct Queue<J> {
    places: VecDeque<(SequenceId, Option<J>)>,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        Self { places: VecDeque::new() }
    }
}

impl<J> Queue<J> {
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Keeps a place behind all others for a job that is still being made.
    pub fn keep(&mut self, sequence: SequenceId) {
        self.places.push_back((sequence, None));
    }

    /// Puts `job` into the place that is kept for it, or else behind all others.
    pub fn enter(&mut self, sequence: SequenceId, job: J) {
        match self.places.iter_mut().find(|(place, _)| *place == sequence) {
            Some((_, place)) => *place = Some(job),
            None => self.places.push_back((sequence, Some(job))),
        }
    }

    /// Gives up a place, if there is one.
    pub fn leave(&mut self, sequence: SequenceId) {
        self.places.retain(|(place, _)| *place != sequence);
    }

    /// The next job behind the first `passed`, which still wait for something else. Each of them keeps one of the `free` slots.
    /// The job's place is kept too, until it leaves or enters again.
    pub fn next(&mut self, passed: &mut usize, free: usize) -> Option<J> {
        while *passed < free {
            match &mut self.places.get_mut(*passed)?.1 {
                None => *passed += 1,
                job => return job.take(),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is seated, when those in `late` wait for something else.
    fn seated(queue: &mut Queue<u64>, mut free: usize, late: &[u64]) -> Vec<u64> {
        let (mut passed, mut seated) = (0, Vec::new());
        while let Some(job) = queue.next(&mut passed, free) {
            if late.contains(&job) {
                queue.enter(job, job);
                passed += 1;
            } else {
                queue.leave(job);
                seated.push(job);
                free -= 1;
            }
        }
        seated
    }

    fn queue() -> Queue<u64> {
        let mut queue = Queue::default();
        queue.keep(1);
        for sequence in 2..=5 {
            queue.enter(sequence, sequence);
        }
        queue
    }

    #[test]
    fn nobody_takes_the_slot_of_one_who_came_before() {
        assert!(seated(&mut queue(), 1, &[]).is_empty());
        assert_eq!(seated(&mut queue(), 3, &[]), [2, 3]);
        assert_eq!(seated(&mut queue(), 3, &[2]), [3]);
        assert_eq!(seated(&mut queue(), 9, &[2, 4]), [3, 5]);
        let mut queue = queue();
        assert_eq!(seated(&mut queue, 2, &[]), [2]);
        queue.enter(1, 1);
        assert_eq!(seated(&mut queue, 1, &[]), [1]);
        assert_eq!(seated(&mut queue, 9, &[]), [3, 4, 5]);
        assert!(queue.is_empty());
    }

    #[test]
    fn who_leaves_keeps_nothing() {
        let mut queue = queue();
        queue.leave(1);
        queue.leave(3);
        assert_eq!(seated(&mut queue, 2, &[]), [2, 4]);
    }
}
