//! A shelf against what was put on it, and against the stream it was read from.

use std::{future::Future, sync::LazyLock};

use async_nats::Subject;
use herald_runtime::config::ByteSize;
use proptest::prelude::*;

use super::{super::fake::Fake, *};
use crate::config::Config;

static SESSION: LazyLock<SessionId> = LazyLock::new(|| SessionId::new("s").unwrap());
const LIFE: Epoch = Epoch::new(1);

fn shelf(part: usize, most: u64) -> Arc<Shelf> {
    let mut config = Config::default().history;
    config.shelf = ByteSize::from_mib(1);
    // What is free of the disk that tests happen to run on is not what they are about.
    (config.shelf_folder, config.shelf_spare) = (Some(std::env::temp_dir()), ByteSize::from_mib(0));
    let mut shelf = Arc::into_inner(Shelf::of_parts("EVENTS", &config, part)).unwrap();
    shelf.most = most;
    Arc::new(shelf)
}

fn begin(shelf: &Arc<Shelf>, head: u64) {
    begin_life(shelf, Life { epoch: LIFE, head });
}

fn begin_life(shelf: &Arc<Shelf>, life: Life) {
    Shelved::new(Some(shelf.clone()), &Arc::default(), Arc::new(NoRings)).reset(life);
}

struct NoRings;

impl Rings for NoRings {
    fn append(&self, _: &Event) {}
    fn flush(&self) {}
    fn advance(&self, _: u64) {}
    fn purged(&self, _: u64, _: &Purged) {}
    fn reset(&self, _: Life) {}
    fn mark_broken(&self, _: u64) {}
    fn suspend(&self) {}
    fn resume(&self) {}
}

fn event(subject: &str, seq: u64) -> Event {
    Event::parse(Subject::from(subject), seq, seq * 2, format!("{{\"n\":{seq}}}").into()).unwrap()
}

/// Puts events on the shelf as the intake does, an empty subject for something that is none; writes parts as they are full.
async fn feed(shelf: &Arc<Shelf>, subjects: &[&str], after: u64) -> Vec<Event> {
    let fed = Shelved::new(Some(shelf.clone()), &Arc::default(), Arc::new(NoRings));
    let mut parts = shelf.written.lock().unwrap().take();
    let mut all = Vec::new();
    for (subject, seq) in subjects.iter().zip(after + 1..) {
        if subject.is_empty() {
            fed.advance(seq);
        } else {
            all.push(event(subject, seq));
            fed.append(&all[all.len() - 1]);
        }
        while let Some(Ok(part)) = parts.as_mut().map(mpsc::Receiver::try_recv) {
            shelf.write(part).await;
        }
    }
    *shelf.written.lock().unwrap() = parts;
    all
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

fn roots() -> Vec<Arc<str>> {
    vec!["gm".into(), "arena".into()]
}

fn size(events: u32) -> PageSize {
    PageSize { events, bytes: 1 << 20 }
}

fn of_session(events: &[Event]) -> Vec<Event> {
    let shown = |event: &&Event| event.session() == "s" && ["gm", "arena"].contains(&event.root());
    events.iter().filter(shown).cloned().collect()
}

fn subjects() -> impl Strategy<Value = Vec<&'static str>> {
    let subject = prop_oneof![
        4 => Just("gm.s.llm_text"),
        2 => Just("gm.s.proposal"),
        2 => Just("arena.s.agent.7.status"),
        1 => Just("other.s.x"),
        4 => Just("gm.t.x"),
        2 => Just("gm.sss.x"),
        2 => Just(""),
    ];
    prop::collection::vec(subject, 0..60)
}

#[test]
fn a_session_that_makes_up_much_of_a_part_is_read_from_the_stream() {
    run(async {
        let shelf = shelf(1 << 20, 1 << 20);
        begin(&shelf, 0);
        let one = len_on_shelf("gm.s.x");
        let few = DENSE / one;
        let subjects = vec!["gm.s.x"; usize::try_from(few).unwrap()];
        feed(&shelf, &subjects, 0).await;
        assert!(
            shelf.page(size(9), Some(LIFE), &SESSION, &roots(), 0, few).await.is_some(),
            "as much as is read at once"
        );
        let more = [vec!["gm.s.x"; 20], vec!["gm.other.x"]].concat();
        feed(&shelf, &more, few).await;
        assert!(shelf.page(size(9), Some(LIFE), &SESSION, &roots(), 0, few).await.is_none(), "more");
        let other = SessionId::new("other").unwrap();
        assert!(
            shelf.page(size(9), Some(LIFE), &other, &roots(), 0, few + 21).await.is_some(),
            "others are read as ever"
        );
    });
}

/// Bytes that such an event takes, where its number has three digits at most.
fn len_on_shelf(subject: &str) -> u64 {
    let mut table = Table::behind(0);
    table.put(&Hasher::default(), &event(subject, 100));
    table.bytes()
}

proptest! {
    #[test]
    fn a_page_is_what_was_put_there(
        subjects in subjects(), part in 1_usize..600, after in 0_u64..60, upto in 0_u64..60, page in 1_u32..20,
    ) {
        let shelf = shelf(part, u64::MAX);
        begin(&shelf, 0);
        let (after, upto) = (after.min(upto), upto.min(subjects.len() as u64));
        let (all, seen) = run(async {
            let all = feed(&shelf, &subjects, 0).await;
            let (mut seen, mut at) = (Vec::new(), after);
            while at < upto {
                let page = shelf.page(size(page), Some(LIFE), &SESSION, &roots(), at, upto).await.unwrap();
                assert!(page.through > at && page.through <= upto);
                seen.extend(page.events);
                at = page.through;
            }
            (all, seen)
        });
        let expected: Vec<_> =
            of_session(&all).into_iter().filter(|event| event.seq > after && event.seq <= upto).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn what_came_before_and_the_last_of_each_are_those_of_the_stream(
        subjects in subjects(), part in 1_usize..600, seq in 1_u64..60, first in 1_u64..60,
    ) {
        let shelf = shelf(part, u64::MAX);
        begin(&shelf, 0);
        shelf.heard(LIFE, &Extent { first, last: 60, holes: Holes::None });
        let seq = seq.min(subjects.len() as u64 + 1);
        let filters = ["gm.s.proposal", "arena.s.agent.*.status"].map(String::from);
        let is_text = |event: &Event| event.topic() == "llm_text";
        let (all, before, snapshot) = run(async {
            let all = feed(&shelf, &subjects, 0).await;
            let before = shelf.before(Some(LIFE), &SESSION, &roots(), seq, is_text).await.unwrap();
            (all, before, shelf.snapshot(Some(LIFE), &SESSION, &filters, 1 << 20).await.unwrap())
        });
        let kept: Vec<_> = of_session(&all).into_iter().filter(|event| event.seq >= first).collect();
        let expected = kept.iter().rfind(|event| event.seq < seq && is_text(event)).map_or(0, |event| event.seq);
        prop_assert_eq!(before, expected);
        let last = |topic| kept.iter().rfind(|event| event.topic() == topic).cloned();
        let mut expected: Vec<_> = ["proposal", "agent.7.status"].into_iter().filter_map(last).collect();
        expected.sort_unstable_by_key(|event| event.seq);
        prop_assert_eq!((snapshot.events, snapshot.cut), (expected, subjects.len() as u64));
    }

    #[test]
    fn what_was_there_before_is_read_from_the_stream(
        subjects in subjects(), live in subjects(), part in 1_usize..600, lag in 0_u64..60,
    ) {
        // The stream's own holes are those of this test, not something that is no event.
        let subjects: Vec<_> = subjects.into_iter().map(|it| if it.is_empty() { "gm.init" } else { it }).collect();
        let fake = Fake::of(&subjects);
        let head = subjects.len() as u64;
        {
            let mut state = fake.lock();
            (state.replica, state.pace) = (head.saturating_sub(lag), 20);
        }
        let shelf = shelf(part, u64::MAX);
        begin(&shelf, head);
        let (new, page) = run(async {
            let new = feed(&shelf, &live, head).await;
            assert!(matches!(shelf.look_back(&fake).await, backfill::End::Complete));
            let upto = head + live.len() as u64;
            (new, shelf.page(size(1000), Some(LIFE), &SESSION, &roots(), 0, upto).await.unwrap())
        });
        let parse = |message: herald_runtime::jetstream::Stored| {
            let ts_ms = message.time_ms();
            Event::parse(message.subject, message.sequence, ts_ms, message.payload)
        };
        let mut expected: Vec<_> = fake.kept(">").into_iter().filter_map(parse).collect();
        expected.extend(new);
        prop_assert_eq!(page.events, of_session(&expected));
    }
}

#[test]
fn what_it_does_not_hold_it_does_not_answer() {
    let shelf = shelf(100, u64::MAX);
    let page =
        |after, upto| run(shelf.page(size(9), Some(LIFE), &SESSION, &roots(), after, upto)).map(|page| page.through);
    assert_eq!(page(0, 0), None, "nothing is known of any life");
    begin(&shelf, 10);
    run(feed(&shelf, &["gm.s.x"; 5], 10));
    assert_eq!((page(9, 15), page(10, 16), page(10, 15)), (None, None, Some(15)));
    assert_eq!(run(shelf.before(Some(LIFE), &SESSION, &roots(), 11, |_| true)), None, "it may lie before the floor");
    assert!(
        run(shelf.snapshot(Some(LIFE), &SESSION, &["gm.s.x".to_owned()], 1000)).is_none(),
        "the rest may be before the floor"
    );
    shelf.heard(LIFE, &Extent { first: 11, last: 15, holes: Holes::None });
    assert_eq!(run(shelf.before(Some(LIFE), &SESSION, &roots(), 11, |_| true)), Some(0), "nothing is before the floor");
    assert_eq!(run(shelf.snapshot(Some(LIFE), &SESSION, &["gm.s.x".to_owned()], 10_000)).map(|it| it.cut), Some(15));
    assert!(
        run(shelf.snapshot(Some(LIFE), &SESSION, &["gm.s.x".to_owned()], 10)).is_none(),
        "too much to look through"
    );
}

#[test]
fn a_stream_that_never_held_anything_is_held_whole() {
    let fake = Fake::of([""; 0]);
    let shelf = shelf(100, u64::MAX);
    begin(&shelf, 0);
    assert!(matches!(run(shelf.look_back(&fake)), backfill::End::Complete));
    shelf.heard(LIFE, &Extent { first: 0, last: 0, holes: Holes::None });
    let stored = run(feed(&shelf, &["gm.s.x"; 2], 0));
    assert_eq!(run(shelf.page(size(9), Some(LIFE), &SESSION, &roots(), 0, 2)).unwrap().events, stored);
    assert_eq!(run(shelf.before(Some(LIFE), &SESSION, &roots(), 1, |_| true)), Some(0));
}

#[test]
fn a_stream_with_holes_is_asked_itself() {
    let shelf = shelf(100, u64::MAX);
    begin(&shelf, 0);
    run(feed(&shelf, &["gm.s.x"; 5], 0));
    let answers = || run(shelf.page(size(9), Some(LIFE), &SESSION, &roots(), 0, 5)).is_some();
    shelf.heard(Epoch::new(7), &Extent { first: 1, last: 5, holes: Holes::Everywhere });
    assert!(answers(), "that was said of another life");
    shelf.heard(LIFE, &Extent { first: 1, last: 5, holes: Holes::At([3].into()) });
    assert!(!answers());
    shelf.heard(LIFE, &Extent { first: 4, last: 5, holes: Holes::None });
    assert!(answers(), "what was deleted would be gone by now");
}

#[test]
fn nothing_of_a_former_life_is_left() {
    let shelf = shelf(100, u64::MAX);
    begin(&shelf, 0);
    run(feed(&shelf, &["gm.s.old"; 9], 0));
    begin_life(&shelf, Life { epoch: Epoch::new(2), head: 3 });
    let new = run(feed(&shelf, &["gm.s.new"; 2], 3));
    let page = |life, after| run(shelf.page(size(9), Some(life), &SESSION, &roots(), after, 5)).map(|page| page.events);
    assert_eq!(page(Epoch::new(2), 3), Some(new));
    assert_eq!((page(Epoch::new(2), 0), page(LIFE, 3)), (None, None), "nor is anything given to who asks in it");
}

#[test]
fn what_is_deleted_before_it_is_read_ends_the_look_back() {
    let fake = Fake::of(["gm.s.a", "gm.s.b", "", "gm.s.d", "gm.s.e"]);
    fake.lock().holes = Holes::At([3].into());
    let deleted = shelf(1000, u64::MAX);
    begin(&deleted, 5);
    assert!(matches!(run(deleted.look_back(&fake)), backfill::End::Hole));
    assert_eq!(deleted.held(), (3, 5));
}

#[test]
fn what_a_removed_session_has_left_open_is_looked_over() {
    // Nothing is missing that is not explained.
    let fake = Fake::of(["gm.s.a", "", "gm.s.c", "gm.s.d", "", "", "gm.s.g"]);
    let shelf = shelf(1000, u64::MAX);
    begin(&shelf, 6);
    assert!(matches!(run(shelf.look_back(&fake)), backfill::End::Complete));
    assert_eq!(shelf.held(), (0, 6));
}

#[test]
fn a_look_back_ends_when_the_shelf_is_full_or_the_life_over() {
    let fake = Fake::of(["gm.s.text"; 300]);
    let full = shelf(200, 2000);
    begin(&full, 300);
    assert!(matches!(run(full.look_back(&fake)), backfill::End::Complete));
    assert!(full.held().0 > 0 && full.lock().bytes <= 20_000);
    let former = shelf(200, u64::MAX);
    begin(&former, 300);
    fake.lock().lives = 1;
    run(async {
        let mut looking = std::pin::pin!(former.look_back(&fake));
        let a_while = tokio::time::timeout(Duration::from_secs(60), &mut looking);
        assert!(a_while.await.is_err(), "as long as it is in doubt, it waits");
        assert_eq!(former.held(), (300, 300));
        begin_life(&former, Life { epoch: Epoch::new(2), head: 100 });
        assert!(matches!(looking.await, backfill::End::Anew));
    });
}

#[test]
fn the_oldest_goes_first_when_there_is_too_much() {
    let shelf = shelf(300, 1500);
    begin(&shelf, 0);
    run(feed(&shelf, &["gm.s.text"; 200], 0));
    let (floor, upto) = shelf.held();
    assert!(upto == 200 && floor > 100, "{floor}");
    let state = shelf.lock();
    assert!(state.bytes <= 1500 && state.parts[0].floor() == floor);
    assert_eq!(state.bytes, state.parts.iter().map(|part| part.bytes()).sum::<u64>(), "nothing is counted for ever");
    assert!(!state.gone.is_empty(), "files are closed by others");
    assert!(state.parts.iter().all(|part| matches!(**part, Part::Sorted(_))), "all are in files");
}

#[test]
fn a_disk_that_is_too_slow_costs_the_shelf_not_memory() {
    let shelf = shelf(50, u64::MAX);
    begin(&shelf, 0);
    let fed = Shelved::new(Some(shelf.clone()), &Arc::default(), Arc::new(NoRings));
    for seq in 1..=100 {
        fed.append(&event("gm.s.text", seq));
    }
    assert!(shelf.lock().parts.len() <= WRITING);
    let (floor, upto) = shelf.held();
    let page = run(shelf.page(size(99), Some(LIFE), &SESSION, &roots(), floor, upto)).unwrap();
    assert_eq!(page.events.len() as u64, upto - floor);
}

#[test]
fn a_folder_that_takes_nothing_costs_the_shelf_not_memory() {
    let mut broken = Arc::into_inner(shelf(300, u64::MAX)).unwrap();
    broken.folder = "/nowhere/at/all".into();
    let broken = Arc::new(broken);
    begin(&broken, 0);
    run(feed(&broken, &["gm.s.text"; 50], 0));
    assert!(broken.lock().parts.len() <= 1);
    let (floor, upto) = broken.held();
    assert!(floor > 0 && upto == 50);
    let pause = |shelf: &Shelf| shelf.lock().off.map(|off| off.pause);
    let first = pause(&broken).unwrap();
    run(feed(&broken, &["gm.s.text"; 50], 50));
    assert_eq!((broken.held(), pause(&broken)), ((100, 100), Some(first)), "nothing is tried for a while");
}

#[test]
fn a_past_of_large_messages_is_read_in_small_parts() {
    let fake = Fake::of(["gm.s.text"; 60]);
    // The first part that is tried would be several times as large.
    let shelf = shelf(150, u64::MAX);
    begin(&shelf, 60);
    assert!(matches!(run(shelf.look_back(&fake)), backfill::End::Complete));
    assert!(shelf.lock().parts.iter().all(|part| part.bytes() <= 2 * 150 + 100));
}

#[test]
fn a_replay_is_read_from_a_shelf_that_holds_all_that_the_stream_does() {
    let shelf = shelf(1000, u64::MAX);
    begin(&shelf, 10);
    let all = run(feed(&shelf, &["gm.s.x"; 5], 10));
    let replay = || run(shelf.page(size(9), Some(LIFE), &SESSION, &roots(), 0, 15)).map(|page| page.events);
    assert_eq!(replay(), None, "there may be something before");
    shelf.heard(LIFE, &Extent { first: 11, last: 15, holes: Holes::None });
    assert_eq!(replay(), Some(all));
}
