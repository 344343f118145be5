use std::{cell::RefCell, collections::VecDeque};

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::Map;

use super::*;

/// A stream whose replica answers what the test says, and whose leader holds `held`.
#[derive(Default)]
struct Fake {
    held: RefCell<Vec<u64>>,
    last: u64,
    /// What the replica holds at each of the next reads; behind them what the leader does.
    replica: RefCell<VecDeque<Vec<u64>>>,
    asked: RefCell<usize>,
}

const PAGE: usize = 3;

fn stored(sequence: u64) -> Stored {
    let subject = "gm.s.phase".into();
    Stored { subject, sequence, time_ns: sequence * 10, headers: HeaderMap::new(), payload: Bytes::new() }
}

fn info(epoch: u32, created: &str, first_seq: u64, last_seq: u64) -> StreamInfo {
    StreamInfo {
        name: "EVENTS".into(),
        created: created.into(),
        first_seq,
        last_seq,
        now_ns: 0,
        last_time_ns: last_seq * 10,
        messages: 0,
        bytes: 0,
        epoch: (epoch > 0).then(|| Epoch::new(epoch)),
        replicas: 1,
        answering: 1,
        config: Map::new(),
    }
}

impl Reads for Fake {
    async fn info(&self) -> Result<StreamInfo, ApiError> {
        Ok(info(1, "then", 1, self.last))
    }

    async fn batch(&self, from: u64) -> Result<Batch, ApiError> {
        let holds = self.replica.borrow_mut().pop_front().unwrap_or_else(|| self.held.borrow().clone());
        let messages = holds.into_iter().filter(|seq| *seq >= from).take(PAGE).map(stored).collect();
        Ok(Batch { messages, pending: 0 })
    }

    async fn next(&self, from: u64) -> Result<Option<Stored>, ApiError> {
        *self.asked.borrow_mut() += 1;
        Ok(self.held.borrow().iter().find(|seq| **seq >= from).map(|seq| stored(*seq)))
    }
}

/// Reads up to `goal` from behind `through`.
async fn read(fake: &Fake, through: u64, goal: u64) -> Vec<u64> {
    let mut reader = Reader::default();
    assert_eq!(reader.look(&info(1, "then", 1, through)), Outcome::Began(Epoch::new(1)));
    let mut all = Vec::new();
    for _ in 0..50 {
        if reader.through() >= goal {
            return all;
        }
        let taken = reader.read(fake, goal).await.unwrap().unwrap();
        all.extend(taken.iter().map(|message| message.sequence));
    }
    panic!("not read to the end: {all:?}");
}

#[tokio::test]
async fn a_replica_from_behind_ends_nothing() {
    let fake = Fake { held: (1..=10).collect::<Vec<_>>().into(), last: 10, ..Fake::default() };
    *fake.replica.borrow_mut() = [vec![1, 2, 3], vec![], vec![1, 2, 3, 4, 5], vec![1, 2]].into();
    assert_eq!(read(&fake, 2, 10).await, (3..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_hole_counts_only_where_the_leader_has_it_too() {
    let fake = Fake { held: vec![1, 2, 3, 4, 5, 6, 9, 10].into(), last: 12, ..Fake::default() };
    // The replica lacks 4 and 5, which the leader has; 7 and 8, 11 and 12 are deleted.
    *fake.replica.borrow_mut() = [vec![2, 3, 6, 9], vec![3, 6, 9, 10]].into();
    assert_eq!(read(&fake, 2, 12).await, [3, 4, 5, 6, 9, 10]);
    assert!(*fake.asked.borrow() >= 4, "each hole was asked for");
}

#[tokio::test]
async fn a_whole_stream_may_be_deleted() {
    let fake = Fake { last: 7, ..Fake::default() };
    assert_eq!(read(&fake, 2, 7).await, [0; 0]);
}

#[tokio::test]
async fn another_message_in_the_place_of_the_last_one_is_another_life() {
    let fake = Fake { held: (1..=10).collect::<Vec<_>>().into(), last: 10, ..Fake::default() };
    let mut reader = Reader::default();
    let mut other = info(1, "then", 1, 5);
    other.last_time_ns = 51;
    assert_eq!(reader.look(&other), Outcome::Began(Epoch::new(1)));
    assert!(reader.read(&fake, 10).await.unwrap().is_none());
    assert_eq!(reader.through(), 5);
}

#[test]
fn a_life_is_known_by_epoch_creation_and_head() {
    let mut reader = Reader::default();
    assert_eq!(reader.look(&info(0, "then", 1, 5)), Outcome::Doubt, "nobody has named it yet");
    assert_eq!(reader.look(&info(1, "then", 1, 5)), Outcome::Began(Epoch::new(1)));
    assert_eq!(reader.through(), 5, "what was there before is not of interest");
    assert_eq!(reader.look(&info(1, "then", 1, 6)), Outcome::Same);
    assert_eq!(reader.look(&info(0, "then", 1, 6)), Outcome::Same, "the name alone was lost");
    assert_eq!(reader.look(&info(1, "now", 1, 6)), Outcome::Doubt);
    assert_eq!(reader.look(&info(1, "then", 1, 4)), Outcome::Doubt, "a head below what was read");
    assert_eq!(reader.look(&info(2, "now", 3, 4)), Outcome::Began(Epoch::new(2)));
    assert_eq!((reader.through(), reader.epoch()), (2, Some(Epoch::new(2))), "all of it");
}
