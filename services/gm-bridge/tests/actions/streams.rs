//! From a Game Master's stream to the log.

use std::time::Duration;

use gm_bridge::action::Accepted;
use herald_testkit::{
    game_master::{Answer, CHOOSE as CHOOSE_PATH, Gate, PROPOSE as PROPOSE_PATH, sse},
    traces, within,
};
use serde_json::{Value, json};

use crate::harness::{BOUND, Bridge, CHOOSE, LIMIT, PROPOSE, World, session};

/// The data of a recorded stream's events, as they were received, heartbeats left out.
fn recorded(name: &str) -> Vec<String> {
    let text = traces::text(name);
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| !data.contains("\"type\": \"heartbeat\"")).map(str::to_owned).collect()
}

fn type_of(data: &str) -> String {
    serde_json::from_str::<Value>(data).unwrap()["type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_recorded_turn_arrives_as_received_but_for_the_secret() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        let mut turns = 0;
        for (command, path, kind) in [(PROPOSE, PROPOSE_PATH, "propose"), (CHOOSE, CHOOSE_PATH, "choose")] {
            for turn in ["turn1", "turn2"] {
                let (file, s) = (format!("gm-{kind}.{turn}.sse"), session(&format!("{kind}-{turn}")));
                // In single bytes, in one piece: what arrives is the same.
                let body = traces::read(&file);
                let answer = if turn == "turn1" { Answer::sse().split(&body, 1) } else { Answer::sse().send(body) };
                world.gm.on(path, [answer]);
                assert_eq!(bridge.run(&s, command).await.unwrap(), Accepted::Started);
                let log = world.wait_idle(&s).await;
                let expected = recorded(&file);
                assert!(expected.len() > 50, "{file}");
                assert_eq!((log[0].topic.as_str(), log.len()), ("_action", expected.len() + 1), "{file}");
                for (event, expected) in log[1..].iter().zip(&expected) {
                    assert_eq!(event.topic, type_of(expected));
                    if event.topic == "proposal" {
                        let mut without: Value = serde_json::from_str(expected).unwrap();
                        assert!(without["data"].as_object_mut().unwrap().remove("gm_secret").is_some());
                        assert_eq!(event.json(), without);
                        assert!(!event.data.contains("gm_secret"));
                    } else {
                        assert_eq!(&event.data, expected, "to the byte");
                    }
                }
                assert_eq!(bridge.table.finished(&s), [(log[0].sequence, true)]);
                turns += 1;
            }
        }
        assert_eq!((turns, world.gm.asked(PROPOSE_PATH).len(), world.gm.asked(CHOOSE_PATH).len()), (4, 2, 2));
        assert_eq!(world.gm.asked(CHOOSE_PATH)[0].query, "kind=fake&lang=en");
        assert_eq!(world.gm.asked(PROPOSE_PATH)[0].query, "lang=fr");
    })
    .await;
}

#[tokio::test]
async fn recorded_failures_end_as_the_game_master_said_or_did() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        for name in
            ["choose-without-proposal", "propose-http429", "propose-badjson", "propose-drop", "propose-gm-killed"]
        {
            let (file, s) = (format!("gm-error.{name}.sse"), session(name));
            let killed = name == "propose-gm-killed";
            let answer = Answer::sse().send(traces::read(&file));
            world.gm.on(PROPOSE_PATH, [if killed { answer.cut_off() } else { answer }]);
            bridge.run(&s, PROPOSE).await.unwrap();
            let log = world.wait_idle(&s).await;
            let seen: Vec<_> = log[1..].iter().map(|event| event.data.clone()).collect();
            let mut expected = recorded(&file);
            if killed {
                let end = json!({"error": "Propose stream failed", "detail": "the stream broke off"});
                assert_eq!(log.last().unwrap().json(), end);
                expected.push(log.last().unwrap().data.clone());
            }
            assert_eq!(seen, expected, "its own error is passed on as it is: {name}");
            assert_eq!(bridge.table.finished(&s), [(log[0].sequence, !killed)]);
        }
    })
    .await;
}

#[tokio::test]
async fn odd_events_become_unknown_and_what_is_not_json_is_left_out() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        let body = "data: {\"type\":\"_action\",\"n\":9}\n\ndata: {\"type\":\"a.b\"}\n\ndata: {\"type\":\"\"}\n\n\
                    data: {\"type\":5}\n\ndata: [1]\n\ndata: not JSON\n\ndata: {\"x\":NaN}\n\ndata:\n\n: comment\n\n\
                    event: x\nid: 7\nretry: 1\ndata: {\"type\":\ndata: \"two\"}\n\ndata: {\"type\":\"heartbeat\"}\n\n\
                    data: {\"type\": \"result\", \"data\": \"ok\"}\n\ndata: {\"type\":\"late\"}\n\n";
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(body)]);
        let s = session("odd");
        bridge.run(&s, PROPOSE).await.unwrap();
        world.wait_idle(&s).await;
        assert_eq!(world.topics(&s).await, ["unknown", "unknown", "unknown", "unknown", "unknown", "two", "result"]);
        let log = world.log(&s).await;
        assert_eq!(log.iter().filter(|event| event.topic == "_action").count(), 1, "only the bridge's own");
        assert_eq!(log[6].data, "{\"type\":\n\"two\"}");
    })
    .await;
}

#[tokio::test]
async fn every_way_a_game_master_can_fail_ends_in_one_error_and_one_request() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        let first = sse([json!({"type": "phase"})]);
        let beat = sse([json!({"type": "heartbeat"})]);
        let large = sse([json!({"type": "x", "text": "x".repeat(70_000)})]);
        let cases = [
            ("answers-500", Answer::status(500), "the game master answered 500"),
            ("redirects", Answer::redirect("/api/state"), "the game master answered 302"),
            ("sends-html", Answer::html("<p>hello</p>"), "the game master answered with something else than events"),
            ("is-no-http", Answer::raw("hello\r\n\r\n"), "the game master can't be reached"),
            ("refuses", Answer::refuse(), "the game master can't be reached"),
            ("hangs", Answer::sse().hang(), "no event for 4s"),
            ("hangs-after-life", Answer::sse().send(beat.clone()).hang(), "no event for 1s500ms"),
            ("drips", Answer::sse().send(beat).endless("data: x\n"), "an event is larger than 64KiB"),
            ("ends-early", Answer::sse().send(first.clone()), "the stream ended before its result"),
            ("is-killed", Answer::sse().send(first.clone()).cut_off(), "the stream broke off"),
            ("stops-mid-event", Answer::sse().send("data: {\"type\":\"res").cut_off(), "the stream broke off"),
            ("large-event", Answer::sse().send(large), "an event is larger than 64KiB"),
            ("endless-line", Answer::sse().endless("x".repeat(1000)), "an event is larger than 64KiB"),
            ("garbage", Answer::sse().send(vec![0xff; 5000]), "the stream ended before its result"),
        ];
        for (index, (name, answer, detail)) in cases.into_iter().enumerate() {
            world.gm.on(CHOOSE_PATH, [answer]);
            let s = session(name);
            bridge.run(&s, CHOOSE).await.unwrap();
            let log = world.wait_idle(&s).await;
            let last = log.last().unwrap();
            assert_eq!(last.topic, "error", "{name}: {log:?}");
            assert_eq!(last.json(), json!({"error": "Choose stream failed", "detail": detail}), "{name}");
            assert_eq!(log.iter().filter(|event| event.topic == "error").count(), 1, "{name}");
            assert_eq!(world.gm.asked(CHOOSE_PATH).len(), index + 1, "{name}: asked once");
            assert_eq!(bridge.table.finished(&s), [(log[0].sequence, false)], "{name}");
        }
        // Other sessions notice nothing.
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "error", "error": "429"})]))]);
        let s = session("fine");
        bridge.run(&s, PROPOSE).await.unwrap();
        let log = world.wait_idle(&s).await;
        assert_eq!(log.last().unwrap().data, "{\"error\":\"429\",\"type\":\"error\"}", "its own error is passed on");
        assert_eq!(bridge.table.finished(&s), [(log[0].sequence, true)]);
    })
    .await;
}

#[tokio::test]
async fn a_game_master_that_is_down_is_told_at_once() {
    within(LIMIT, async {
        let mut world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        world.gm = herald_testkit::game_master::Scripted::start().await; // the one that the bridge knows is gone
        let s = session("down");
        bridge.run(&s, PROPOSE).await.unwrap();
        let log = world.wait_idle(&s).await;
        let expected = json!({"error": "Propose stream failed", "detail": "the game master can't be reached"});
        assert_eq!(log.last().unwrap().json(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_session_without_a_game_makes_no_request() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        let s = session("stranger");
        bridge.table.take_away(&s);
        bridge.run(&s, PROPOSE).await.unwrap();
        let log = world.wait_idle(&s).await;
        let expected = json!({"error": "Propose stream failed", "detail": "no game started"});
        assert_eq!(log.last().unwrap().json(), expected);
        assert!(world.gm.asked(PROPOSE_PATH).is_empty());
    })
    .await;
}

#[tokio::test]
async fn heartbeats_keep_a_silent_stream_alive() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        let beat = sse([json!({"type": "heartbeat"})]);
        let mut answer = Answer::sse();
        for _ in 0..12 {
            // 4.8 s in all: longer than either silence.
            answer = answer.send(beat.clone()).pause(Duration::from_millis(400));
        }
        world.gm.on(CHOOSE_PATH, [answer.send(sse([json!({"type": "result"})]))]);
        let s = session("slow");
        bridge.run(&s, CHOOSE).await.unwrap();
        world.wait_idle(&s).await;
        assert_eq!(world.topics(&s).await, ["result"]);
    })
    .await;
}

#[tokio::test]
async fn the_upstream_is_closed_after_the_result_though_the_game_master_goes_on() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        let gate = Gate::new();
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})])).until(&gate)]);
        let s = session("done");
        bridge.run(&s, PROPOSE).await.unwrap();
        world.wait_idle(&s).await;
        world.gm.wait_hung_up(PROPOSE_PATH, 0, BOUND).await;
    })
    .await;
}
