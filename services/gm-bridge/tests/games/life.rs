//! The end of a session's life: it is ended, it is removed, it is full.

use std::time::Duration;

use axum::body::Body;
use herald_runtime::config::{ByteSize, HumanDuration};
use herald_testkit::{eventually, within};
use http::{Method, Request};
use serde_json::{Value, json};

use crate::{
    house::{House, Reply, SOON, session},
    master::Master,
};

const LIMIT: Duration = Duration::from_secs(120);

async fn post(house: &House, path: &str) -> Reply {
    house.request("event", Method::POST, path, Body::empty()).await
}

async fn delete(house: &House, session: &str) -> Reply {
    house.request("event", Method::DELETE, &format!("/sessions/{session}"), Body::empty()).await
}

/// Asks as somebody whose door has verified who they are.
async fn delete_as(house: &House, session: &str, role: &str, sessions: &str) -> Reply {
    ask_as(house, (Method::DELETE, &format!("/sessions/{session}")), role, sessions).await
}

/// The same, for something else.
async fn ask_as(house: &House, (method, path): (Method, &str), role: &str, sessions: &str) -> Reply {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let caller = herald_runtime::http_over_nats::Caller::new("ann", Some(role), sessions.parse().unwrap());
    request.extensions_mut().insert(caller.unwrap());
    house.send("event", request).await
}

/// Topics of the session's log, of all roots.
async fn log(house: &House, session: &str) -> Vec<String> {
    let stream = async_nats::jetstream::new(house.client.clone()).get_stream("EVENTS").await.unwrap();
    let state = stream.get_info().await.unwrap().state;
    let mut topics = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        if let Some((root, topic)) = message.subject.split_once(&format!(".{session}.")) {
            topics.push(format!("{root}.{topic}"));
        }
    }
    topics
}

async fn play(house: &House, session: &str) {
    house.start_game(session).await;
    house.get(&format!("/api/propose?session_id={session}")).await.expect(202);
    house.event(&format!("gm.{session}.result")).await;
    idle(house, session).await;
}

async fn idle(house: &House, session: &str) {
    eventually("no action is open", SOON, async || match house.record("ACTIONS", session).await {
        None => Ok(()),
        Some(record) => Err(record),
    })
    .await;
}

#[tokio::test]
async fn an_ended_session_is_over_until_it_is_started_again() {
    within(LIMIT, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        let s = session();
        assert_eq!(post(&house, &format!("/sessions/{s}/end")).await.expect(404).error(), "Session not found");
        play(&house, &s).await;
        for _ in 0..3 {
            assert_eq!(post(&house, &format!("/sessions/{s}/end")).await.expect(200).json(), json!({"status": "over"}));
        }
        let topics = log(&house, &s).await;
        assert_eq!(topics.iter().filter(|topic| *topic == "gm._over").count(), 1, "said once: {topics:?}");
        assert_eq!(topics.last().unwrap(), "gm._over");
        for command in ["propose?", "choose?kind=real&"] {
            let refused = house.get(&format!("/api/{command}session_id={s}")).await.expect(400);
            assert_eq!(refused.error(), "No game started");
        }
        // Its Game Master is free, and taken without a word to it.
        assert_eq!(house.seat().await.1["session"], Value::Null);
        let other = session();
        house.start_game(&other).await;
        assert_eq!(log(&house, &s).await, topics);
        house.request("event", Method::GET, &format!("/sessions/{other}/end"), Body::empty()).await.expect(405);
        post(&house, &format!("/sessions/{other}/end")).await.expect(200);
        house.start_game(&s).await;
        assert!(log(&house, &s).await.ends_with(&["gm._action".to_owned(), "gm._done".to_owned()]));
        house.get(&format!("/api/propose?session_id={s}")).await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn a_session_with_a_running_action_is_not_ended() {
    within(LIMIT, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        let s = session();
        house.start_game(&s).await;
        master.hold_chooses(true);
        house.get(&format!("/api/choose?session_id={s}&kind=real")).await.expect(202);
        house.event(&format!("gm.{s}.phase")).await;
        let refused = post(&house, &format!("/sessions/{s}/end")).await.expect(409);
        assert_eq!(refused.error(), "An action is running; cancel it first");
        master.hold_chooses(false);
        house.event(&format!("gm.{s}.result")).await;
        idle(&house, &s).await;
        post(&house, &format!("/sessions/{s}/end")).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn a_removed_session_leaves_nothing_but_its_fence() {
    within(LIMIT, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        let (s, other) = (session(), session());
        assert_eq!(delete(&house, &s).await.expect(404).error(), "Session not found");
        delete(&house, "a.b").await.expect(400);
        house.publish(&format!("gm.{other}.phase"), "{}").await;
        play(&house, &s).await;
        for topic in ["round.start", "input.waiting", "state.global"] {
            house.publish(&format!("arena.{s}.{topic}"), "{}").await;
            house.publish(&format!("arena.{other}.{topic}"), "{}").await;
        }
        let kept = log(&house, &s).await.len();
        assert!(house.record("ALIASES", master.id()).await.is_some());
        assert_eq!(delete(&house, &s).await.expect(200).json(), json!({ "purged": kept }));

        assert_eq!(log(&house, &s).await, ["gm._action", "gm._over"]);
        assert_eq!(log(&house, &other).await.len(), 4, "nobody else's");
        for (bucket, key) in [("SESSIONS", s.clone()), ("SESSIONS", format!("{s}.start")), ("ACTIONS", s.clone())] {
            assert_eq!(house.record(bucket, &key).await, None, "{bucket} {key}");
        }
        assert_eq!(house.record("ALIASES", master.id()).await, None);
        assert_eq!(house.seat().await.1["session"], Value::Null);
        let said = house.event("gm._purged").await;
        assert_eq!((&said["session"], said["events"].as_u64().unwrap() >= kept as u64), (&json!(s), true));
        for path in [format!("/api/propose?session_id={s}"), format!("/api/state?session_id={s}")] {
            house.get(&path).await.expect(404);
        }

        assert_eq!(delete(&house, &s).await.expect(200).json(), json!({ "purged": 0 }), "it is gone already");
        assert_eq!(log(&house, &s).await, ["gm._action", "gm._over"]);
        let number = house.event(&format!("gm.{s}._action")).await["n"].as_u64().unwrap();
        // What comes late of the engine is removed by another request.
        house.publish(&format!("arena.{s}.state.global"), "{}").await;
        assert_eq!(delete(&house, &s).await.expect(200).json(), json!({ "purged": 3 }));
        play(&house, &s).await;
        assert!(house.event(&format!("gm.{s}._action")).await["n"].as_u64().unwrap() > number, "numbers never fall");
    })
    .await;
}

#[tokio::test]
async fn a_running_action_is_cancelled_before_and_nothing_of_it_comes_after() {
    within(LIMIT, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |config| {
            config.action_policy = Some(gm_bridge::config::ActionPolicy::Queue);
        })
        .await;
        let s = session();
        house.start_game(&s).await;
        master.hold_chooses(true);
        house.get(&format!("/api/choose?session_id={s}&kind=real")).await.expect(202);
        house.event(&format!("gm.{s}.phase")).await;
        // What waits for its end never comes to its turn.
        house.get(&format!("/api/propose?session_id={s}")).await.expect(202);
        delete(&house, &s).await.expect(200);
        master.hold_chooses(false);
        assert_eq!(log(&house, &s).await, ["gm._action", "gm._over"]);
        idle(&house, &s).await;
        assert_eq!((master.asked("propose"), house.count(&format!("gm.{s}.>")).await), (0, 2));
    })
    .await;
}

#[tokio::test]
async fn only_who_may_open_a_session_or_looks_after_all_removes_it() {
    within(LIMIT, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        for (role, sessions) in [("player", None), ("operator", Some(""))] {
            let s = session();
            house.post("/init_session", &json!({ "session_id": s })).await.expect(200);
            let foreign = delete_as(&house, &s, "player", "another").await.expect(403);
            assert_eq!(foreign.error(), "This session is not yours");
            delete_as(&house, &s, role, sessions.unwrap_or(&s)).await.expect(200);
            assert_eq!(house.record("SESSIONS", &s).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_is_being_started_is_not_removed() {
    within(LIMIT, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        let s = session();
        master.hold_starts(true);
        let path = format!("/api/start?session_id={s}");
        let ask = async {
            let asked = async || if master.asked("start") == 1 { Ok(()) } else { Err("not asked") };
            eventually("the master is asked", SOON, asked).await;
            let refused = delete(&house, &s).await.expect(409);
            assert_eq!(refused.error(), "The session is being started; try again");
            master.hold_starts(false);
        };
        let (started, ()) = tokio::join!(house.get(&path), ask);
        started.expect(200);
        delete(&house, &s).await.expect(200);
        assert_eq!(log(&house, &s).await, ["gm._action", "gm._over"]);
    })
    .await;
}

#[tokio::test]
async fn a_full_session_ends_its_action_and_takes_no_more_at_any_bridge() {
    within(LIMIT, async {
        let master = Master::start().await;
        let small = |config: &mut gm_bridge::config::Config| {
            config.action.quota_events = 8;
            config.gm.repeated_start = HumanDuration::from_millis(1);
        };
        let mut house = House::build(2, &[&master], small).await;
        let s = session();
        // Start: an action, its end. Propose: an action, three events. One is left for the next action, which is its claim.
        play(&house, &s).await;
        assert_eq!(house.count(&format!("gm.{s}.>")).await, 6);
        house.get(&format!("/api/propose?session_id={s}")).await.expect(202);
        let told = house.event(&format!("gm.{s}.error")).await;
        assert_eq!(
            told,
            json!({"error": "Propose stream failed", "detail": "the session's quota is used up"}),
            "the last word always fits"
        );
        idle(&house, &s).await;
        assert_eq!(log(&house, &s).await[6..], ["gm._action", "gm.phase", "gm.error"]);
        house.add_bridge(&[&master], small).await;
        for _ in 0..6 {
            for command in ["start?", "propose?", "choose?kind=fake&"] {
                let refused = house.get(&format!("/api/{command}session_id={s}")).await.expect(409);
                assert_eq!(refused.error(), "The session's quota is used up: delete it, or play on in another one");
            }
        }
        let other = session();
        post(&house, &format!("/api/cancel?session_id={s}")).await.expect(200);
        post(&house, &format!("/sessions/{s}/end")).await.expect(200);
        house.start_game(&other).await;
        post(&house, &format!("/sessions/{other}/end")).await.expect(200);
        delete(&house, &s).await.expect(200);
        play(&house, &s).await;
    })
    .await;
}

#[tokio::test]
async fn bytes_are_counted_over_actions_and_bridges_and_the_arena_counts_too() {
    within(LIMIT, async {
        let master = Master::start().await;
        // A turn takes some 1.6 KB: four messages with some 300 bytes each beside what they say.
        let house = House::build(2, &[&master], |config| config.action.quota_bytes = ByteSize::from_kib(8)).await;
        let s = session();
        house.start_game(&s).await;
        let mut turns = 0;
        loop {
            let reply = house.get(&format!("/api/propose?session_id={s}")).await;
            if reply.status == 409 {
                break;
            }
            reply.expect(202);
            idle(&house, &s).await;
            turns += 1;
        }
        assert!((3..=8).contains(&turns), "{turns}");

        let house = House::build(1, &[&master], |config| config.action.quota_events = 20).await;
        let s = session();
        house.start_game(&s).await;
        for _ in 0..20 {
            house.publish(&format!("arena.{s}.state.global"), "{}").await;
        }
        house.get(&format!("/api/propose?session_id={s}")).await.expect(409);
    })
    .await;
}

#[tokio::test]
async fn a_flooding_session_pushes_nobody_out_of_the_log() {
    within(LIMIT, async {
        let (noisy, quiet) = (Master::start().await, Master::start().await);
        let house = House::build(2, &[&noisy, &quiet], |config| {
            config.stream.max_bytes = ByteSize::from_kib(256);
            config.action.quota_bytes = ByteSize::from_kib(32);
            config.action.max_news = ByteSize::from_kib(2);
        })
        .await;
        let (loud, calm) = (session(), session());
        play(&house, &calm).await;
        house.start_game(&loud).await;
        let before = log(&house, &calm).await;
        let mut refused = 0;
        for _ in 0..400 {
            let reply = house.get(&format!("/api/propose?session_id={loud}")).await;
            refused += u32::from(reply.status == 409);
            if refused == 3 {
                break;
            }
        }
        assert_eq!(refused, 3, "it is stopped at last");
        // Nor by news, which nobody counts byte by byte.
        let flood = session();
        house.post("/init_session", &json!({"session_id": flood})).await.expect(200);
        house.publish(&format!("arena.{flood}.input.waiting"), "{}").await;
        let news = json!({"session_id": flood, "content": "x".repeat(1900)});
        let mut published = 0;
        let told = loop {
            let reply = house.post("/submit_news?lang=fr", &news).await;
            if reply.status != 200 {
                break reply.expect(409);
            }
            published += 1;
            assert!(published < 100, "it is stopped at last");
        };
        assert_eq!(told.error(), "The session's quota is used up: delete it, or play on in another one");
        assert!((10..=16).contains(&published), "each takes 2 KiB of 32: {published}");
        let larger = json!({"session_id": calm, "content": "x".repeat(2048)});
        let told = house.post("/submit_news?lang=fr", &larger).await.expect(413);
        assert_eq!(told.error(), "content is larger than 2KiB");
        assert_eq!(log(&house, &calm).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_session_is_forked_by_one_record_and_both_go_on() {
    within(LIMIT, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let s = session();
        assert_eq!(post(&house, &format!("/sessions/{s}/fork")).await.expect(404).error(), "Session not found");
        play(&house, &s).await;
        let before = log(&house, &s).await;
        let forked = post(&house, &format!("/sessions/{s}/fork")).await.expect(201).json();
        let (fork, at) = (forked["session_id"].as_str().unwrap().to_owned(), forked["at"].as_u64().unwrap());
        assert!(fork.starts_with("fork-") && at > 0, "{forked}");
        assert_eq!((log(&house, &fork).await, log(&house, &s).await), (vec!["gm._fork".to_owned()], before));
        for (query, error) in [
            ("at=x", "at: expected a cursor or a sequence"),
            ("at=1&at=2", "at is given twice"),
            ("at=999999", "at: there is no such place yet"),
            ("at=deadbeef-1", "at: that place was in another life of the log"),
            ("at=0", "at: nothing of the session is kept up to there"),
        ] {
            assert_eq!(post(&house, &format!("/sessions/{s}/fork?{query}")).await.expect(400).error(), error);
        }
        // Who may open another session, a fork of this one too, gets nothing of it that way.
        let path = format!("/sessions/{s}/fork");
        let fork_as = async |role: &str, sessions: &str| ask_as(&house, (Method::POST, &path), role, sessions).await;
        for sessions in ["another", "", &fork] {
            assert_eq!(fork_as("player", sessions).await.expect(403).error(), "This session is not yours");
        }
        fork_as("player", &s).await.expect(201);
        fork_as("operator", "").await.expect(201);
        // A game in the fork, and the end of it.
        assert_eq!(post(&house, &format!("/sessions/{s}/end")).await.expect(200).json(), json!({"status": "over"}));
        play(&house, &fork).await;
        assert!(log(&house, &fork).await.contains(&"gm.result".to_owned()));
        assert_eq!(
            delete(&house, &fork).await.expect(200).json()["purged"].as_u64().map(|events| events > 1),
            Some(true)
        );
        assert!(!log(&house, &fork).await.contains(&"gm._fork".to_owned()));
        assert!(log(&house, &s).await.contains(&"gm.result".to_owned()), "the other one is still there");
        // Of what is left of a session that was removed there is nothing to be forked.
        for removed in [&fork, &s] {
            delete(&house, removed).await.expect(200);
            assert_eq!(
                post(&house, &format!("/sessions/{removed}/fork")).await.expect(404).error(),
                "Session not found"
            );
        }
    })
    .await;
}
