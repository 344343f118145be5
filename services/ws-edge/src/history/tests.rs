//! History on a fake stream: what a single real server can't show, above all a replica that lags.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use futures_util::future::join_all;
use herald_runtime::config::HumanDuration;
use proptest::prelude::*;

use super::{fake::Fake, *};
use crate::config::Config;

static SESSION: LazyLock<SessionId> = LazyLock::new(|| SessionId::new("s").unwrap());

fn roots(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

const fn size(events: u32) -> PageSize {
    PageSize { events, bytes: 1 << 20 }
}

fn inner(fake: Fake, size: PageSize) -> Arc<Inner<Fake>> {
    Inner::new(fake, &Config::default().history, size)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Page by page from `after` to `upto`.
async fn read_all(inner: &Arc<Inner<Fake>>, roots: &[Arc<str>], after: u64, upto: u64) -> Vec<u64> {
    let (mut seen, mut after) = (vec![], after);
    while after < upto {
        let page = inner.page(&SESSION, roots, after, upto).await.unwrap();
        assert!(page.through > after && page.through <= upto, "{} after {after} upto {upto}", page.through);
        assert!(page.events.iter().all(|event| event.seq > after && event.seq <= page.through));
        seen.extend(page.events.iter().map(|event| event.seq));
        after = page.through;
    }
    seen
}

fn shown(fake: &Fake, roots: &[Arc<str>], shows: impl Fn(&Event) -> bool) -> Vec<u64> {
    let event = |message: herald_runtime::jetstream::Stored| {
        Event::parse(message.subject, message.sequence, 0, message.payload).unwrap()
    };
    let events = fake.kept("*.s.>").into_iter().map(event);
    let wanted = events.filter(|event| roots.iter().any(|root| **root == *event.root()) && shows(event));
    wanted.map(|event| event.seq).collect()
}

fn is_shown(event: &Event) -> bool {
    event.parts().is_shown()
}

fn subjects() -> impl Strategy<Value = Vec<&'static str>> {
    let subject = prop_oneof![
        4 => Just("gm.s.llm_text"),
        2 => Just("gm.s.proposal"),
        1 => Just("gm.s._action"),
        2 => Just("arena.s.round.start"),
        1 => Just("arena.s.input.fakenews"),
        1 => Just("other.s.x"),
        2 => Just("gm.t.x"),
        3 => Just(""),
    ];
    prop::collection::vec(subject, 0..60)
}

fn some_roots() -> impl Strategy<Value = Vec<Arc<str>>> {
    prop_oneof![Just(vec!["gm", "arena"]), Just(vec!["gm"]), Just(vec!["arena"])].prop_map(|names| roots(&names))
}

proptest! {
    #[test]
    fn a_range_is_complete_and_in_order_whatever_replica_answers(
        subjects in subjects(), roots in some_roots(), after in 0_u64..60, upto in 0_u64..60,
        page in 1_u32..8, bytes in 1_u32..80, lag in 0_u64..60, pace in 0_u64..4,
    ) {
        let fake = Fake::of(subjects);
        let upto = upto.min(fake.lock().head);
        let expected: Vec<u64> =
            shown(&fake, &roots, |_| true).into_iter().filter(|seq| *seq > after && *seq <= upto).collect();
        {
            let mut state = fake.lock();
            (state.replica, state.pace) = (state.head.saturating_sub(lag), pace);
        }
        let seen = run(read_all(&inner(fake, PageSize { events: page, bytes }), &roots, after, upto));
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn a_purge_in_the_middle_ends_the_read_at_what_is_kept(
        subjects in subjects(), page in 1_u32..8, requests in 0_u32..12, purged in 0_u64..60, lag in 0_u64..9,
    ) {
        let fake = Fake::of(subjects);
        let upto = fake.lock().head;
        {
            let mut state = fake.lock();
            (state.replica, state.pace, state.purge) = (upto.saturating_sub(lag), 1, Some((requests, purged)));
        }
        let all = shown(&fake, &roots(&["gm"]), |_| true);
        let seen = run(read_all(&inner(fake, size(page)), &roots(&["gm"]), 0, upto));
        prop_assert!(seen.is_sorted() && seen.iter().all(|seq| all.contains(seq)));
        prop_assert!(all.iter().filter(|seq| **seq > purged).all(|seq| seen.contains(seq)), "kept, so read");
    }

    #[test]
    fn before_is_the_last_shown_event_below(
        subjects in subjects(), roots in some_roots(), seq in 0_u64..62, far in any::<bool>(), page in 1_u32..8,
    ) {
        // What is looked for may be far away in the stream, behind the traffic of others.
        let quiet = if far { 5_000 } else { 0 };
        let fake = Fake::of(subjects.into_iter().chain(std::iter::repeat_n("", quiet)).chain(["gm.s._action"]));
        let seq = if far && seq > 30 { fake.lock().head + 1 } else { seq.min(fake.lock().head + 1) };
        let expected = shown(&fake, &roots, is_shown).into_iter().filter(|found| *found < seq).max().unwrap_or(0);
        let asked = Asked::new(&SESSION, &roots);
        prop_assert_eq!(run(range::before(&fake, size(page), &asked, seq, is_shown)).unwrap(), expected);
    }

    #[test]
    fn a_tail_is_the_last_shown_events_wherever_they_are(
        subjects in subjects(), roots in some_roots(), far in any::<bool>(), page in 1_u32..8, most in 1_usize..9,
        upto in 0_u64..80,
    ) {
        let quiet = if far { 5_000 } else { 0 };
        let fake = Fake::of(subjects.into_iter().chain(std::iter::repeat_n("", quiet)).chain(["gm.s._action"]));
        let upto = if upto < 40 { upto } else { u64::MAX };
        let mut expected = shown(&fake, &roots, is_shown);
        expected.retain(|seq| *seq <= upto);
        expected.drain(..expected.len().saturating_sub(most));
        let asked = Asked::new(&SESSION, &roots);
        let tail = run(range::tail(&fake, size(page), &asked, upto, most, is_shown)).unwrap();
        prop_assert_eq!(tail.iter().map(|event| event.seq).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_snapshot_and_what_follows_its_cut_leave_no_hole(
        subjects in subjects(), lag in 0_u64..60, pace in 1_u64..4, most in 0_usize..5,
    ) {
        let filters: Vec<String> = ["gm.s.*", "arena.s.round.start", "gm.s.proposal"].map(String::from).into();
        let fake = Fake::of(subjects);
        let head = fake.lock().head;
        let last = |seqs: Vec<(String, u64)>| seqs.into_iter().collect::<BTreeMap<_, _>>();
        let wanted = |message: &herald_runtime::jetstream::Stored| message.subject.starts_with("gm.s.") || *message.subject == *"arena.s.round.start";
        let expected = last(
            fake.kept(">").into_iter().filter(wanted).map(|message| (message.subject.to_string(), message.sequence)).collect(),
        );
        {
            let mut state = fake.lock();
            (state.replica, state.pace, state.most_subjects) = (head.saturating_sub(lag), pace, most);
        }
        let taken = run(snapshot::snapshot(&fake, &SESSION, &filters, usize::MAX)).unwrap();
        prop_assert!(taken.cut <= head && taken.events.iter().all(|event| event.seq <= taken.cut));
        prop_assert!(taken.events.is_sorted_by_key(|event| event.seq));
        // The state of one who takes the snapshot and then every event behind the cut.
        let mut state: Vec<(String, u64)> = taken.events.iter().map(|event| (event.subject().to_owned(), event.seq)).collect();
        let tail = fake.kept(">").into_iter().filter(|message| message.sequence > taken.cut && wanted(message));
        state.extend(tail.map(|message| (message.subject.to_string(), message.sequence)));
        prop_assert_eq!(last(state), expected);
    }
}

#[test]
fn nothing_to_show_is_cut_at_the_head() {
    let fake = Fake::of(["gm.t.x", "gm.s.llm_text", ""]);
    let snapshot = run(snapshot::snapshot(&fake, &SESSION, &["gm.s.proposal".to_owned()], usize::MAX)).unwrap();
    assert_eq!((snapshot.events.len(), snapshot.cut), (0, 3));
}

#[test]
fn a_replica_that_has_not_seen_the_session_yet_is_asked_again() {
    let fake = Fake::of(["", "", "gm.s.proposal"]);
    (fake.lock().replica, fake.lock().pace) = (0, 1);
    let snapshot = run(snapshot::snapshot(&fake, &SESSION, &["gm.s.proposal".to_owned()], usize::MAX)).unwrap();
    assert_eq!((snapshot.events.len(), snapshot.cut), (1, 3));
}

#[test]
fn a_quiet_session_costs_one_question() {
    let fake = Fake::of(["gm.s.phase", "gm.t.x", "gm.s._action"]);
    let roots = roots(&["gm"]);
    assert!(run(range::page(&fake, size(8), &Asked::new(&SESSION, &roots), 3, 3)).unwrap().events.is_empty());
    assert_eq!(fake.lock().asked, (1, 0), "the leader holds nothing behind the cursor");
    let other = SessionId::new("t").unwrap();
    assert_eq!(run(range::before(&fake, size(8), &Asked::new(&other, &roots), 4, is_shown)).unwrap(), 2);
    assert_eq!(fake.lock().asked, (2, 0), "the last event is the one looked for");
    assert_eq!(run(range::first(&fake, &other, &roots)).unwrap(), Some(2));
}

#[test]
fn reads_beyond_the_limit_wait_for_their_turn() {
    let inner =
        Inner::new(Fake::of(["gm.s.x"; 40]), &HistoryConfig { max_reads: 2, ..Config::default().history }, size(8));
    let roots = roots(&["gm"]);
    run(async {
        let pages = join_all((0..10).map(|after| inner.page(&SESSION, &roots, after, 40))).await;
        assert!(pages.iter().all(|page| page.as_ref().unwrap().events.len() == 8));
    });
    assert_eq!(inner.reads.lock().under_way, (0, 2));
}

#[test]
fn equal_ranges_asked_at_the_same_time_are_one_read() {
    let inner = inner(Fake::of(["gm.s.x"; 4]), size(8));
    let roots = roots(&["gm"]);
    inner.reads.lock().hangs = true;
    let all_have_asked = async { inner.reads.lock().hangs = false };
    let asking = join_all((0..5).map(|_| inner.page(&SESSION, &roots, 0, 4)));
    let (pages, ()) = run(futures_util::future::join(asking, all_have_asked));
    assert!(pages.into_iter().all(|page| page.unwrap().events.len() == 4));
    assert_eq!(inner.reads.lock().asked, (1, 1));
}

#[test]
fn reads_that_began_in_different_lives_are_two() {
    let inner = inner(Fake::of(["gm.s.x"; 4]), size(8));
    let roots = roots(&["gm"]);
    inner.reads.lock().hangs = true;
    run(async {
        let mut former = Box::pin(inner.page(&SESSION, &roots, 0, 4));
        assert!(futures_util::poll!(&mut former).is_pending());
        inner.reads.lock().lives = 1;
        let mut present = Box::pin(inner.page(&SESSION, &roots, 0, 4));
        assert!(futures_util::poll!(&mut present).is_pending());
        inner.reads.lock().hangs = false;
        let (former, present) = futures_util::future::join(former, present).await;
        assert!(!Arc::ptr_eq(&former.unwrap(), &present.unwrap()));
    });
}

#[test]
fn a_read_ends_at_its_time_limit_and_leaves_its_place() {
    let config = HistoryConfig { max_reads: 1, timeout: HumanDuration::from_millis(20), ..Config::default().history };
    let inner = Inner::new(Fake::of(["gm.s.x"]), &config, size(8));
    inner.reads.lock().hangs = true;
    let roots = roots(&["gm"]);
    assert!(matches!(run(inner.page(&SESSION, &roots, 0, 1)), Err(HistoryError::Timeout)));
    inner.reads.lock().hangs = false;
    assert_eq!(run(inner.page(&SESSION, &roots, 0, 1)).unwrap().events.len(), 1);
}
