//! Answers that still count for whoever asks the same.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::{Verdict, question::Key};

/// So many answers, each for its time. Where there are more, the oldest goes.
#[derive(Debug)]
pub(super) struct Kept {
    answers: HashMap<Key, (Verdict, Instant)>,
    /// In the order of their coming; of what was answered anew, the earlier times too.
    order: VecDeque<(Key, Instant)>,
    most: usize,
}

impl Kept {
    pub(super) fn new(most: usize) -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), most }
    }

    /// The answer that counts at `now`.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Verdict> {
        self.answers.get(key).filter(|(_, until)| now < *until).map(|(verdict, _)| verdict.clone())
    }

    /// Forgets a yes.
    pub(super) fn withdraw(&mut self, key: &Key) {
        if self.answers.get(key).is_some_and(|(verdict, _)| verdict.is_ok()) {
            self.answers.remove(key);
        }
    }

    /// Keeps an answer, in place of an earlier one, until that time.
    pub(super) fn put(&mut self, key: Key, verdict: &Verdict, until: Instant, now: Instant) {
        self.answers.remove(&key);
        // Each answer is in the order once at least: who bounds that bounds both.
        while let Some((oldest, its_end)) = self.order.front()
            && (*its_end <= now || self.order.len() >= self.most)
        {
            if self.answers.get(oldest).is_some_and(|(_, until)| until == its_end) {
                self.answers.remove(oldest);
            }
            self.order.pop_front();
        }
        if now < until {
            self.order.push_back((key.clone(), until));
            self.answers.insert(key, (verdict.clone(), until));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{super::Refusal, *};

    const SECOND: Duration = Duration::from_secs(1);

    fn verdict(code: u16) -> Verdict {
        Err(Refusal::Said { code, reason: None })
    }

    #[test]
    fn an_answer_counts_until_its_time_or_the_next_one() {
        let (mut kept, now) = (Kept::new(10), Instant::now());
        let (one, two) = (Key::of_test(1), Key::of_test(2));
        kept.put(one.clone(), &verdict(4001), now + SECOND, now);
        assert_eq!(kept.get(&one, now), Some(verdict(4001)));
        assert_eq!((kept.get(&two, now), kept.get(&one, now + SECOND)), (None, None));
        kept.put(one.clone(), &verdict(4002), now + 2 * SECOND, now);
        assert_eq!(kept.get(&one, now + SECOND), Some(verdict(4002)));
        kept.put(one.clone(), &verdict(4003), now, now);
        assert_eq!(kept.get(&one, now), None, "not to be reused at all");
        kept.put(two.clone(), &verdict(4004), now + SECOND, now + 5 * SECOND);
        assert!(kept.answers.is_empty() && kept.order.is_empty(), "what is over goes");
    }

    proptest! {
        #[test]
        fn whatever_is_kept_is_bounded_and_the_last_word(
            steps in proptest::collection::vec((0_u8..12, 0_u32..6, 0_u32..3), 0..300), most in 1_usize..6,
        ) {
            let mut kept = Kept::new(most);
            let (mut now, mut last) = (Instant::now(), HashMap::new());
            for (number, (key, lives, passes)) in steps.into_iter().enumerate() {
                now += SECOND * passes;
                let (key, said) = (Key::of_test(key), verdict(4000 + number as u16));
                kept.put(key.clone(), &said, now + SECOND * lives, now);
                prop_assert_eq!(kept.get(&key, now).is_some(), lives > 0);
                last.insert(key, said);
                prop_assert!(kept.answers.len() <= most && kept.order.len() <= most);
                for (key, said) in &last {
                    prop_assert!(kept.get(key, now).is_none_or(|known| known == *said), "an older word");
                }
            }
        }
    }
}
