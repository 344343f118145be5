//! Sessions whose log begins with another one's.

use std::time::Duration;

use herald_protocol::{Position, SessionId};
use herald_runtime::jetstream::{Fork, ForkError, fork, purge_below};
use herald_testkit::{Edge, Nats, Service, eventually, http, sse, within, ws};
use serde_json::{Value, json};

use crate::support::Engine;

const MINUTES: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(30);

async fn publish(engine: &Engine, session: &str, numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    let mut all = Vec::new();
    for n in numbers {
        all.push(engine.publish(&format!("gm.{session}.phase"), json!({ "n": n }).to_string()).await);
        engine.publish("gm.other.phase", "{}").await;
    }
    all
}

/// As the owner of the root does.
async fn forked(engine: &Engine, parent: &str, at: u64) -> Fork {
    let parent: SessionId = parent.parse().unwrap();
    fork(&engine.nats, "EVENTS", "gm", &parent, Some(Position::Seq(at))).await.unwrap()
}

async fn refused(engine: &Engine, parent: &str, at: &str) -> ForkError {
    let parent: SessionId = parent.parse().unwrap();
    fork(&engine.nats, "EVENTS", "gm", &parent, Some(at.parse().unwrap())).await.unwrap_err()
}

async fn edges(nats: &Nats) -> [Service; 3] {
    [
        Edge::new(nats).start().await,
        Edge::new(nats).set("history.shelf", "0B").set("history.page", "200B").start().await,
        Edge::new(nats).set("ring.frames", 4).set("ring.linger", "50ms").start().await,
    ]
}

/// What a client sees up to that sequence.
async fn shown(edge: &Service, path: &str, protocols: &[&str], last: u64) -> Vec<u64> {
    let client = ws::Client::connect(&edge.ws(path), protocols).await;
    client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(last)).await;
    client.check_order();
    client.events().iter().filter_map(ws::Frame::seq).collect()
}

/// As its owner does: nothing of the session is left but that it was removed.
async fn remove(engine: &Engine, session: &str, events: u64) {
    let action = engine.publish(&format!("gm.{session}._action"), r#"{"n":9,"kind":"cancel"}"#).await;
    let word = json!({ "session": session, "upto": action - 1, "events": events });
    engine.publish("gm._purged", word.to_string()).await;
    purge_below(&engine.nats, "EVENTS", &format!("*.{session}.>"), action).await.unwrap();
}

async fn page(edge: &Service, path: &str) -> Value {
    edge.get(path).await.expect_status(200).json()
}

fn seqs(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_the_other_log_up_to_there_and_then_its_own() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edges = edges(&nats).await;
        let parent = publish(&engine, "S", 1..=30).await;
        let Fork { session, at, .. } = forked(&engine, "S", parent[19]).await;
        assert_eq!(at, parent[19]);
        // At once, however far an edge has come: also before it says something itself.
        let mut live = Vec::new();
        for edge in &edges {
            let client = ws::Client::connect(&edge.ws(&format!("/ws/{session}?after=0")), ws::V1).await;
            client.wait_events(20, BOUND).await;
            live.push(client);
        }
        publish(&engine, "S", 31..=40).await;
        let own = publish(&engine, session.as_str(), 21..=30).await;
        let expected = [&parent[..20], &own].concat();
        let last = own[9];
        for client in &live {
            client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(last)).await;
            client.check_order();
            assert_eq!(client.events().iter().filter_map(ws::Frame::seq).collect::<Vec<_>>(), expected);
        }
        for edge in &edges {
            for protocols in [ws::PLAIN, ws::V1] {
                for (after, from) in [(0, 0), (parent[7], 8), (parent[19], 20), (parent[25], 20), (own[3], 24)] {
                    let path = format!("/ws/{session}?after={after}");
                    assert_eq!(shown(edge, &path, protocols, last).await, expected[from..], "{path}");
                }
            }
            let stream = sse::Client::connect(&edge.http(&format!("/sse/{session}?after=0")), None).await;
            stream.wait_for("the last one", BOUND, |event| event.json()["seq"] == last).await;
            let cursor = stream.last_id().unwrap();
            assert!(cursor.ends_with(&format!("-{last}")));
            let read = page(edge, &format!("/sessions/{session}/events?limit=7")).await;
            assert_eq!((seqs(&read), &read["gaps"]), (expected[..7].to_vec(), &json!([])));
            let next = read["next"].as_str().unwrap();
            let rest = page(edge, &format!("/sessions/{session}/events?after={next}")).await;
            assert_eq!(seqs(&rest), expected[7..]);
            let told = page(edge, &format!("/sessions/{session}")).await;
            assert_eq!(
                (&told["events"], &told["forked_at"]),
                (&json!(30), &json!(at)),
                "what it begins with is counted"
            );
            assert_eq!((&told["types"], told.get("uncounted")), (&json!({ "gm.phase": 30 }), None));
            assert_eq!((&told["first"]["seq"], &told["last"]["seq"]), (&json!(parent[0]), &json!(last)));
            assert_eq!(shown(edge, "/ws/S?after=0", ws::V1, parent[29]).await[..30], parent, "the other one goes on");
        }
        // Played again, too.
        let played = ws::Client::connect(&edges[1].ws(&format!("/ws/{session}?speed=64&max_gap=0.01")), ws::V1).await;
        played.wait_for("live", BOUND, |frame| frame.event() == "herald.live").await;
        assert_eq!(played.events().iter().filter_map(ws::Frame::seq).collect::<Vec<_>>(), expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_has_the_state_of_the_moment_it_was_made_at() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edges = edges(&nats).await;
        engine.publish("gm.S.proposal", r#"{"n":1}"#).await;
        engine.publish("arena.S.agent.7.status", r#"{"n":1}"#).await;
        let at = engine.publish("gm.S.proposal", r#"{"n":2}"#).await;
        engine.publish("gm.S.proposal", r#"{"n":3}"#).await;
        let Fork { session, .. } = forked(&engine, "S", at).await;
        let state = async |edge: &Service| {
            let client = ws::Client::connect(&edge.ws(&format!("/ws/{session}?snapshot=1")), ws::V1).await;
            client.wait_for("live", BOUND, |frame| frame.event() == "herald.live").await;
            let frames = client.events().into_iter();
            frames.map(|frame| (frame.event().to_owned(), frame.data()["n"].clone())).collect::<Vec<_>>()
        };
        let of = |all: &[(&str, u64)]| all.iter().map(|(name, n)| ((*name).to_owned(), json!(n))).collect::<Vec<_>>();
        for edge in &edges {
            assert_eq!(state(edge).await, of(&[("arena.agent.7.status", 1), ("gm.proposal", 2)]));
        }
        engine.publish(&format!("gm.{session}.proposal"), r#"{"n":9}"#).await;
        for edge in &edges {
            let known = async || {
                let state = state(edge).await;
                if state == of(&[("arena.agent.7.status", 1), ("gm.proposal", 9)]) { Ok(()) } else { Err(state) }
            };
            eventually("its own word counts", BOUND, known).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_counted_and_looked_at_as_a_whole() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("replay.max_events", 20).set("history.page", "200B").start().await;
        engine.publish("arena.S.input.fakenews", "{}").await;
        let parent = publish(&engine, "S", 1..=15).await;
        let told = async |session: &str| page(&edge, &format!("/sessions/{session}")).await;
        // Of a log that ends there all are counted, of one that goes on those up to there, and of a longer one not all.
        let whole = forked(&engine, "S", parent[14]).await.session;
        let part = forked(&engine, "S", parent[9]).await.session;
        assert_eq!(told(whole.as_str()).await["types"], json!({ "gm.phase": 15 }));
        publish(&engine, "S", 16..=40).await;
        let own = publish(&engine, part.as_str(), 11..=12).await;
        let of_part = told(part.as_str()).await;
        assert_eq!((&of_part["types"], of_part.get("uncounted")), (&json!({ "gm.phase": 12 }), None));
        let of_both = forked(&engine, part.as_str(), own[0]).await.session;
        assert_eq!(told(of_both.as_str()).await["types"], json!({ "gm.phase": 11 }));
        let long = publish(&engine, "S", 41..=41).await;
        let long = forked(&engine, "S", long[0]).await.session;
        publish(&engine, "S", 42..=42).await;
        let of_long = told(long.as_str()).await;
        assert_eq!(of_long["uncounted"], true);
        assert!(of_long["events"].as_u64().unwrap() < 41, "{of_long}");
        // The end of it, for who looks from inside.
        let url = |query: &str| format!("http://{}/inspect/sessions/{of_both}/tail{query}", edge.operations());
        let tail = async |query: &str| seqs(&http::get(&url(query)).await.expect_status(200).json());
        let expected = [&parent[..10], &own[..1]].concat();
        assert_eq!(tail("?n=3").await, expected[8..]);
        assert_eq!(tail("?n=500").await, expected);
        assert_eq!(tail(&format!("?after={}", parent[4])).await, expected[5..]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_what_a_session_began_with() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mine = publish(&engine, "mine", 1..=3).await;
        publish(&engine, "secret", 1..=3).await;
        let fork = forked(&engine, "mine", mine[1]).await.session;
        let own = publish(&engine, fork.as_str(), 3..=3).await;
        let plain = "fork-0123456789abcdef0123456789abcdef";
        let said = publish(&engine, plain, 1..=1).await;
        // A record that comes later, by whatever root.
        for session in [fork.as_str(), plain] {
            for root in ["gm", "arena"] {
                let record = json!({ "session": "secret", "first": 1, "at": said[0], "depth": 1 });
                engine.publish(&format!("{root}.{session}._fork"), record.to_string()).await;
            }
        }
        for shelf in ["64MiB", "0B"] {
            let edge = Edge::new(&nats).set("history.shelf", shelf).start().await;
            let expected = [&mine[..2], &own].concat();
            assert_eq!(shown(&edge, &format!("/ws/{fork}?after=0"), ws::V1, own[0]).await, expected);
            assert_eq!(shown(&edge, &format!("/ws/{plain}?after=0"), ws::V1, said[0]).await, said);
        }
        let depth = forked(&engine, fork.as_str(), own[0]).await.session;
        let edge = Edge::new(&nats).start().await;
        assert_eq!(seqs(&page(&edge, &format!("/sessions/{depth}/events")).await), [&mine[..2], &own].concat());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_is_no_part_of_a_fork_and_what_came_then_is() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        publish(&engine, "other", 1..=1).await;
        publish(&engine, "S", 1..=4).await;
        remove(&engine, "S", 4).await;
        engine.publish("gm.S._over", "{}").await;
        let last = engine.publish("gm.other.phase", "{}").await;
        assert!(
            matches!(refused(&engine, "S", &last.to_string()).await, ForkError::NoSession),
            "nothing is left of it"
        );
        let anew = publish(&engine, "S", 5..=6).await;
        let fork = forked(&engine, "S", anew[1]).await.session;
        let own = publish(&engine, fork.as_str(), 7..=7).await;
        for shelf in ["64MiB", "0B"] {
            let edge = Edge::new(&nats).set("history.shelf", shelf).start().await;
            let client = ws::Client::connect(&edge.ws(&format!("/ws/{fork}?after=0")), ws::V1).await;
            client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(own[0])).await;
            let gaps: Vec<_> = client.frames().into_iter().filter(|frame| frame.event() == "herald.gap").collect();
            assert!(gaps.is_empty(), "nothing of it is missing: {gaps:?}");
            let read = page(&edge, &format!("/sessions/{fork}/events")).await;
            assert_eq!((seqs(&read), &read["gaps"]), ([&anew[..], &own].concat(), &json!([])));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_gone_from_the_memory_of_forks_too() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let parent = publish(&engine, "S", 1..=5).await;
        let fork = forked(&engine, "S", parent[4]).await.session;
        let own = publish(&engine, fork.as_str(), 6..=7).await;
        // Who reads all of it fills the ring, and keeps it.
        let path = format!("/ws/{fork}?after=0");
        let first = ws::Client::connect(&edge.ws(&path), ws::V1).await;
        first.wait_for("the last one", BOUND, |frame| frame.seq() == Some(own[1])).await;
        // Who plays it crawls, and holds the rest.
        let crawls = ws::Client::connect(&edge.ws(&format!("{path}&speed=0.1")), ws::V1).await;
        crawls.send_text(json!({ "event": "herald.replay", "data": { "pause": true } }).to_string()).await;
        remove(&engine, "S", 5).await;
        let known = async || {
            let client = ws::Client::connect(&edge.ws(&path), ws::V1).await;
            client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(own[1])).await;
            let seen: Vec<_> = client.events().iter().filter_map(ws::Frame::seq).collect();
            if seen == own { Ok(()) } else { Err(seen) }
        };
        eventually("its removal is known", BOUND, known).await;
        let next = publish(&engine, fork.as_str(), 8..=8).await;
        first.wait_for("what comes next", BOUND, |frame| frame.seq() == Some(next[0])).await;
        first.check_order();
        let held = crawls.events().len();
        crawls
            .send_text(json!({ "event": "herald.replay", "data": { "pause": false, "speed": 64 } }).to_string())
            .await;
        crawls.wait_for("the last one", BOUND, |frame| frame.seq() == Some(next[0])).await;
        let seen: Vec<_> = crawls.events().iter().filter_map(ws::Frame::seq).collect();
        assert_eq!(seen[held..], [&own[..], &next].concat(), "after {held} of it");
        crawls.check_order();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_fork_led_by_one_that_is_removed_all_edges_show_the_same() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let first = publish(&engine, "S", 1..=3).await;
        let between = forked(&engine, "S", first[2]).await.session;
        let second = publish(&engine, between.as_str(), 4..=5).await;
        let last = forked(&engine, between.as_str(), second[1]).await.session;
        let third = publish(&engine, last.as_str(), 6..=6).await;
        let path = format!("/sessions/{last}/events");
        let knows = Edge::new(&nats).start().await;
        assert_eq!(seqs(&page(&knows, &path).await), [&first[..], &second, &third].concat());
        remove(&engine, between.as_str(), 3).await;
        let fresh = Edge::new(&nats).set("history.shelf", "0B").start().await;
        for edge in [&knows, &fresh] {
            eventually("its removal is known", BOUND, async || {
                let told = page(edge, &path).await;
                let gap = json!([{ "from": 1, "to": second[1], "reason": "removed" }]);
                if (seqs(&told), &told["gaps"]) == (third.clone(), &gap) { Ok(()) } else { Err(told) }
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_a_fork_begins_with_both_and_ends_somewhere() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let first = publish(&engine, "S", 1..=5).await;
        let child = forked(&engine, "S", first[2]).await.session;
        let second = publish(&engine, child.as_str(), 4..=6).await;
        let late = forked(&engine, child.as_str(), second[1]).await.session;
        let third = publish(&engine, late.as_str(), 6..=6).await;
        let expected = [&first[..3], &second[..2], &third].concat();
        assert_eq!(shown(&edge, &format!("/ws/{late}?after=0"), ws::V1, third[0]).await, expected);
        // One of it that ends where it was not itself yet.
        let early = forked(&engine, child.as_str(), first[1]).await.session;
        let own = publish(&engine, early.as_str(), 3..=3).await;
        let expected = [&first[..2], &own].concat();
        assert_eq!(shown(&edge, &format!("/ws/{early}?after=0"), ws::PLAIN, own[0]).await, expected);
        let (mut deep, mut depth) = (late, 2);
        while depth < 8 {
            let head = publish(&engine, deep.as_str(), 1..=1).await[0];
            deep = forked(&engine, deep.as_str(), head).await.session;
            depth += 1;
        }
        let head = publish(&engine, deep.as_str(), 1..=1).await[0];
        let whole = shown(&edge, &format!("/ws/{deep}?after=0"), ws::V1, head).await;
        assert_eq!((whole.len(), whole[0]), (3 + 2 + 1 + 6 + 1, first[0]));
        assert!(matches!(refused(&engine, deep.as_str(), &head.to_string()).await, ForkError::TooDeep));
        // What can't be forked.
        assert!(matches!(refused(&engine, "never", "1").await, ForkError::NoSession));
        assert!(matches!(refused(&engine, "S", "999999").await, ForkError::Beyond));
        assert!(matches!(refused(&engine, "S", "deadbeef-1").await, ForkError::OtherLife));
        assert!(matches!(refused(&engine, "S", "0").await, ForkError::TooOld));
        // One that says it is a fork, and is none.
        let none = "fork-0123456789abcdef0123456789abcdef";
        let own = publish(&engine, none, 1..=2).await;
        assert_eq!(shown(&edge, &format!("/ws/{none}?after=0"), ws::V1, own[1]).await, own);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_fork_begins_with_may_be_removed_and_that_is_told() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        publish(&engine, "other", 1..=1).await;
        let parent = publish(&engine, "S", 1..=10).await;
        let Fork { session, at, .. } = forked(&engine, "S", parent[4]).await;
        let own = publish(&engine, session.as_str(), 6..=8).await;
        let seen = Edge::new(&nats).start().await;
        assert_eq!(shown(&seen, &format!("/ws/{session}?after=0"), ws::V1, own[2]).await.len(), 8);
        // As its owner does.
        let action = engine.publish("gm.S._action", r#"{"n":9,"kind":"cancel"}"#).await;
        let word = json!({ "session": "S", "upto": action - 1, "events": 10 });
        engine.publish("gm._purged", word.to_string()).await;
        assert_eq!(purge_below(&engine.nats, "EVENTS", "*.S.>", action).await.unwrap(), 10);
        let fresh = Edge::new(&nats).set("history.shelf", "0B").start().await;
        for edge in [&seen, &fresh] {
            eventually("its removal is known", BOUND, async || {
                let told = page(edge, &format!("/sessions/{session}/events")).await;
                if told["gaps"] == json!([{ "from": 1, "to": at, "reason": "removed" }]) && seqs(&told) == own {
                    Ok(())
                } else {
                    Err(told)
                }
            })
            .await;
        }
        let fresh = Edge::new(&nats).start().await;
        let client = ws::Client::connect(&fresh.ws(&format!("/ws/{session}?after=0")), ws::V1).await;
        client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(own[2])).await;
        let names: Vec<_> = client.frames().iter().map(|frame| frame.event().to_owned()).collect();
        assert_eq!(names[..2], ["herald.hello", "herald.gap"], "{names:?}");
        assert_eq!((&client.frames()[1].data()["to"], client.events().len()), (&json!(at), 3));
        client.check_order();
        let plain = ws::Client::connect(&fresh.ws(&format!("/ws/{session}?after=0")), ws::PLAIN).await;
        let end = plain.wait_end(BOUND).await;
        assert_eq!(end.code(), 4410);
        let after = end.reason().strip_prefix("after=").unwrap();
        assert_eq!(shown(&fresh, &format!("/ws/{session}?after={after}"), ws::PLAIN, own[2]).await, own);
        // The fork itself: nothing of it is left, nor of what it began with.
        let action = engine.publish(&format!("gm.{session}._action"), r#"{"n":1,"kind":"cancel"}"#).await;
        let word = json!({ "session": session.as_str(), "upto": action - 1, "events": 4 });
        engine.publish("gm._purged", word.to_string()).await;
        purge_below(&engine.nats, "EVENTS", &format!("*.{session}.>"), action).await.unwrap();
        engine.publish(&format!("gm.{session}._over"), "{}").await;
        eventually("it is gone", BOUND, async || match fresh.get(&format!("/sessions/{session}")).await.status {
            404 => Ok(()),
            other => Err(other),
        })
        .await;
    })
    .await;
}
