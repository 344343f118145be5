//! Reading back, while everything goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use herald_protocol::{SessionId, TopicPattern, subject};
use herald_runtime::{
    config::{ByteSize, HumanDuration},
    jetstream::epoch::EpochWatcher,
    nats::Nats,
};
use herald_testkit::within;
use ws_edge::{
    config::{Config, HistoryConfig},
    event::Event,
    history::{History, HistoryError},
};

use super::world::{LIMIT, STREAM, World};

pub(crate) fn session(id: &str) -> SessionId {
    SessionId::new(id).unwrap()
}

pub(crate) fn roots() -> Vec<Arc<str>> {
    vec!["gm".into(), "arena".into()]
}

/// History of a stream, with a watcher of its own.
pub(crate) fn history(nats: &Nats, stream: &str, config: &HistoryConfig) -> History {
    History::new(nats, stream, config, &Arc::new(EpochWatcher::spawn(nats, stream)))
}

/// First and last sequence.
async fn extent(history: &History) -> (u64, u64) {
    let proof = history.proof().await.unwrap();
    (proof.extent.first, proof.extent.last)
}

/// Small pages, so that there are many.
pub(crate) fn small_pages() -> HistoryConfig {
    HistoryConfig { page: ByteSize::from_kib(1), ..Config::default().history }
}

pub(crate) async fn read_all(history: &History, session: &SessionId, after: u64, upto: u64) -> Vec<Event> {
    let (mut events, mut after) = (vec![], after);
    while after < upto {
        let page = history.page(session, &roots(), after, upto).await.unwrap();
        assert!(page.through > after);
        events.extend(page.events.iter().cloned());
        after = page.through;
    }
    events
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_read_while_others_publish_is_complete_and_in_order() {
    within(LIMIT, async {
        let world = World::start().await;
        let history = history(&world.nats, STREAM, &small_pages());
        let (mut mine, session) = (BTreeSet::new(), session("s"));
        for round in 0..15 {
            let (gm, arena, others) = tokio::join!(
                world.put("gm.s.llm_text", 20),
                world.put("arena.s.round.start", 5),
                world.put("gm.other.x", 30)
            );
            mine.extend(gm.into_iter().chain(arena));
            let upto = *mine.last().unwrap();
            // While it is read, the session and the others go on.
            let from = *mine.iter().nth(round * 3).unwrap();
            let (events, whole, more, _) = tokio::join!(
                read_all(&history, &session, from, upto),
                read_all(&history, &session, 0, upto),
                world.put("gm.s.phase", 10),
                world.put("arena.other.x", 20)
            );
            assert_eq!(seqs(&events), mine.range(from + 1..).copied().collect::<Vec<_>>());
            assert_eq!(seqs(&whole), mine.iter().copied().collect::<Vec<_>>());
            assert!(others.iter().all(|seq| !mine.contains(seq)));
            mine.extend(more);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_up_to_the_intake_and_the_intake_from_there_are_the_whole_log() {
    within(LIMIT, async {
        let world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        let history = history(&world.nats, STREAM, &small_pages());
        let session = session("s");
        let mut reads = vec![];
        let (mut stored, gm) = (BTreeSet::new(), async { world.put("gm.s.x", 3000).await });
        let looking = async {
            // At any moment: what the intake has seen is history, what it has not is to come.
            for _ in 0..20 {
                let floor = taking.record.position();
                reads.push((floor, read_all(&history, &session, 0, floor).await));
            }
        };
        let (gm, arena, ()) = tokio::join!(gm, world.put("arena.s.x", 1500), looking);
        stored.extend(gm.into_iter().chain(arena));
        taking.reaches(*stored.last().unwrap()).await;
        let told = taking.record.only_life();
        for (floor, events) in reads {
            let mut whole = seqs(&events);
            whole.extend(told.events.iter().filter(|seq| **seq > floor));
            assert_eq!(whole, stored.iter().copied().collect::<Vec<_>>(), "seam at {floor}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_finds_the_last_shown_event() {
    within(LIMIT, async {
        let world = World::start().await;
        let history = history(&world.nats, STREAM, &small_pages());
        let (id, roots) = (session("s"), roots());
        let shows = |event: &Event| event.parts().is_shown();
        let before = async |seq| history.before(&id, &roots, seq, shows).await.unwrap();
        assert_eq!(before(1).await, 0, "nothing yet");
        world.put("gm.s._action", 1).await;
        assert_eq!(before(2).await, 0, "nothing shown yet");
        let shown = world.put("gm.s.phase", 1).await[0];
        assert_eq!(before(shown + 1).await, shown);
        assert_eq!(before(shown).await, 0);
        // Far away, behind others and what is hidden.
        world.put("gm.other.x", 3000).await;
        world.put("arena.s.input.fakenews", 3).await;
        let end = world.put("gm.s._action", 1).await[0];
        assert_eq!(before(end + 1).await, shown);
        world.put("arena.s.input.waiting", 1).await;
        assert_eq!(before(end + 1).await, shown, "what came later does not count");
        assert_eq!(before(end + 2).await, end + 1);
        let arena = ["arena".into()];
        assert_eq!(history.before(&id, &arena, end + 1, shows).await.unwrap(), 0, "another root");
        assert_eq!(history.first(&id, &roots).await.unwrap(), Some(1));
        assert_eq!(history.first(&id, &arena).await.unwrap(), Some(3003));
        assert_eq!(history.first(&session("nobody"), &roots).await.unwrap(), None);
        assert_eq!(extent(&history).await, (1, end + 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_what_follows_it_are_the_present_state() {
    within(LIMIT, async {
        let world = World::start().await;
        let history = history(&world.nats, STREAM, &Config::default().history);
        let session = session("s");
        let pattern = |topic| TopicPattern::parse(topic).unwrap();
        let filters: Vec<String> = vec![
            subject::session_topics("gm", &session, &pattern("proposal")),
            subject::session_topics("arena", &session, &pattern("agent.*.status")),
        ];
        let nothing = history.snapshot(&session, &filters).await.unwrap();
        assert!(nothing.events.is_empty() && nothing.cut == 0);
        world.put("gm.other.x", 7).await;
        assert_eq!(history.snapshot(&session, &filters).await.unwrap().cut, 7, "nothing of this session up to here");

        let publish = async {
            for round in 0..30 {
                world.put(&format!("arena.s.agent.{}.status", round % 4), 3).await;
                world.put("gm.s.proposal", 1).await;
                world.put("gm.s.llm_text", 3).await;
            }
        };
        let look = async {
            let mut snapshots = vec![];
            for _ in 0..30 {
                snapshots.push(history.snapshot(&session, &filters).await.unwrap());
            }
            snapshots
        };
        let ((), snapshots) = tokio::join!(publish, look);
        let state = |events: &[Event], state: &mut BTreeMap<String, u64>| {
            let of_filters = |event: &&Event| event.topic() == "proposal" || event.topic().ends_with(".status");
            for event in events.iter().filter(of_filters) {
                state.insert(event.subject().to_owned(), event.seq);
            }
        };
        let (_, head) = extent(&history).await;
        let mut expected = BTreeMap::new();
        state(&read_all(&history, &session, 0, head).await, &mut expected);
        assert_eq!(expected.len(), 5);
        for snapshot in snapshots {
            let mut seen = BTreeMap::new();
            state(&snapshot.events, &mut seen);
            assert_eq!(seen.len(), snapshot.events.len(), "one event of each subject, of these topics alone");
            state(&read_all(&history, &session, snapshot.cut, head).await, &mut seen);
            assert_eq!(seen, expected, "cut at {}", snapshot.cut);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_too_many_subjects_is_taken_topic_by_topic() {
    within(LIMIT, async {
        let world = World::start().await;
        let history = history(&world.nats, STREAM, &Config::default().history);
        let session = session("s");
        let agents = |from: usize| (from..from + 700).map(|agent| format!("arena.s.agent.{agent}.status"));
        join_all(agents(0).map(|subject| async move { subject }).map(|subject| async {
            world.put(&subject.await, 1).await;
        }))
        .await;
        join_all(agents(0).map(|subject| subject.replace("status", "output")).map(async |subject| {
            world.put(&subject, 1).await;
        }))
        .await;
        let filters = ["arena.s.agent.*.status", "arena.s.agent.*.output", "gm.s.proposal"].map(String::from);
        let snapshot = history.snapshot(&session, &filters).await.unwrap();
        assert_eq!((snapshot.events.len(), snapshot.cut), (1400, 1400));
        assert!(snapshot.events.is_sorted_by_key(|event| event.seq));

        // One topic too large alone: all of it is history.
        join_all(agents(700).map(async |subject| {
            world.put(&subject, 1).await;
        }))
        .await;
        let snapshot = history.snapshot(&session, &filters).await.unwrap();
        assert_eq!((snapshot.events.len(), snapshot.cut), (0, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_while_it_is_read_is_no_reason_to_wait() {
    within(LIMIT, async {
        let world = World::start().await;
        let history = history(&world.nats, STREAM, &small_pages());
        let session = session("s");
        let stored = world.put("gm.s.x", 400).await;
        let first = history.page(&session, &roots(), 0, 400).await.unwrap();
        assert_eq!(seqs(&first.events), stored[..first.events.len()]);
        let stream = world.nats.jetstream().get_stream(STREAM).await.unwrap();
        stream.purge().sequence(300).await.unwrap();
        let rest = read_all(&history, &session, first.through, 400).await;
        assert_eq!(seqs(&rest), (300..=400).collect::<Vec<_>>());
        stream.purge().await.unwrap();
        assert!(read_all(&history, &session, 0, 400).await.is_empty());
        assert_eq!(history.before(&session, &roots(), 401, |_| true).await.unwrap(), 0);
        assert_eq!(extent(&history).await, (401, 400));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_a_moment_delays_a_read() {
    within(LIMIT, async {
        let mut world = World::start().await;
        let config = HistoryConfig { timeout: HumanDuration::from_secs(30), ..Config::default().history };
        let history = history(&world.nats, STREAM, &config);
        let stored = world.put("gm.s.x", 50).await;
        world.server.stop().await;
        let id = session("s");
        let (events, ()) = tokio::join!(read_all(&history, &id, 0, 50), world.server.resume());
        assert_eq!(seqs(&events), stored);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_an_error_in_time() {
    within(LIMIT, async {
        let mut world = World::start().await;
        let config = HistoryConfig { timeout: HumanDuration::from_millis(300), ..Config::default().history };
        let absent = history(&world.nats, "ABSENT", &config);
        let (id, roots) = (session("s"), roots());
        assert!(matches!(absent.page(&id, &roots, 0, 5).await, Err(HistoryError::Unavailable(_))));
        world.put("gm.s.x", 1).await;
        let history = history(&world.nats, STREAM, &config);
        world.server.freeze().await;
        let begun = std::time::Instant::now();
        assert!(matches!(history.page(&id, &roots, 0, 1).await, Err(HistoryError::Timeout)));
        assert!(begun.elapsed() < Duration::from_secs(10));
        world.server.thaw();
    })
    .await;
}
