//! The game master stand-in at its door: it knocks, opens one socket, hands over news and goes on with the arena.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "recorded/shapes.rs"]
mod recorded;
#[path = "door/stub.rs"]
mod stub;

use std::time::Duration;

use herald_testkit::{SimGm, eventually, within};
use serde_json::{Value, json};
use stub::Door;

const LIMIT: Duration = Duration::from_secs(60);

fn arena(door: &Door, subject: &str, data: Value) {
    door.say(json!({ "subject": subject, "data": data }).to_string());
}

/// A choose, read as it comes.
struct Choose {
    response: reqwest::Response,
    body: String,
}

impl Choose {
    async fn begin(url: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        http.get(format!("{url}/api/stream/propose")).send().await.unwrap().text().await.unwrap();
        let response = http.get(format!("{url}/api/stream/choose?kind=fake")).send().await.unwrap();
        Self { response, body: String::new() }
    }

    /// Reads until an event of this type has come.
    async fn until(&mut self, kind: &str) {
        while of_type(&recorded::sse_events(&self.body), kind).is_empty() {
            let chunk = self.response.chunk().await.unwrap().expect("more");
            self.body.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn end(mut self) -> Vec<Value> {
        self.body.push_str(&self.response.text().await.unwrap());
        recorded::sse_events(&self.body)
    }
}

fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

#[tokio::test]
async fn it_knocks_listens_once_and_goes_on_as_soon_as_the_arena_waits_again() {
    within(LIMIT, async {
        let (url, door, mut called) = Door::open().await;
        let gm =
            SimGm::new().arg(format!("--door={url}/gm")).arg("--id=9e0d0000-0000-4000-8000-000000000001").start().await;
        let (path, body) = called.recv().await.unwrap();
        assert_eq!(
            (path.as_str(), body),
            ("/gm/init_session", json!({"session_id": "9e0d0000-0000-4000-8000-000000000001"}))
        );
        assert!(called.recv().await.unwrap().0.starts_with("/gm/ws/"));
        eventually("the door is open", LIMIT, async || {
            let health = gm.get("/health").await.json();
            if health["door_open"] == true { Ok(()) } else { Err(health) }
        })
        .await;

        let held = door.answers.lock().await;
        let mut choice = Choose::begin(&gm.url()).await;
        let (path, body) = called.recv().await.unwrap();
        assert_eq!((path.as_str(), body["session_id"].as_str().unwrap().len()), ("/gm/submit_news", 36));
        assert!(body["content"].as_str().unwrap().contains("\n\n"));
        // Before the answer nothing counts, as the original empties its queue only then.
        arena(&door, "input.waiting", json!({"round": 1, "waiting": true}));
        eventually("the early word is in", LIMIT, async || {
            let health = gm.get("/health").await.json();
            if health["heard"] == 1 { Ok(()) } else { Err(health) }
        })
        .await;
        drop(held);
        // The news are with the arena, it says: now it listens.
        choice.until("phase").await;
        for phase in [1, 2, 3] {
            arena(&door, "phase.start", json!({"round": 1, "phase": phase}));
            arena(&door, "agent.status", json!({"agent_id": "a", "phase": phase, "take": format!("take {phase}")}));
        }
        arena(&door, "agent.status", json!({"agent_id": "a", "phase": 4, "take": "a vote"}));
        arena(&door, "event.death", json!({"agent_id": "a", "cause": "eliminated_round_1"}));
        arena(&door, "event.clone", json!({"parent_id": "b"}));
        arena(&door, "state.global", json!({}));
        arena(&door, "input.waiting", json!({"round": 2, "waiting": true}));
        let events = choice.end().await;
        for kind in ["agent_nats", "agent_death", "agent_clone"] {
            assert!(!of_type(&events, kind).is_empty(), "{kind}");
        }
        assert_eq!(of_type(&events, "agent_death")[0]["data"], json!({"agent_id": "a", "cause": "eliminated_round_1"}));
        let reactions = &of_type(&events, "reactions")[0]["data"]["reactions"];
        assert_eq!(reactions[0]["reaction_text"], "take 3", "the vote is no opinion");
        assert!(reactions[1]["reaction_text"].as_str().unwrap().starts_with('['), "three have said nothing");
        assert_eq!(events.last().unwrap()["type"], "result");
    })
    .await;
}

#[tokio::test]
async fn a_debate_that_is_over_before_the_answer_is_not_waited_for() {
    within(LIMIT, async {
        let (url, door, mut called) = Door::open().await;
        let gm = SimGm::new().arg(format!("--door={url}/gm")).start().await;
        assert_eq!(called.recv().await.unwrap().0, "/gm/init_session");
        assert!(called.recv().await.unwrap().0.starts_with("/gm/ws/"));
        eventually("the door is open", LIMIT, async || {
            let health = gm.get("/health").await.json();
            if health["door_open"] == true { Ok(()) } else { Err(health) }
        })
        .await;
        let held = door.answers.lock().await;
        let choice = Choose::begin(&gm.url()).await;
        assert_eq!(called.recv().await.unwrap().0, "/gm/submit_news");
        for subject in ["round.start", "event.death", "input.waiting"] {
            arena(&door, subject, json!({}));
        }
        eventually("the debate is in", LIMIT, async || {
            let health = gm.get("/health").await.json();
            if health["heard"] == 3 { Ok(()) } else { Err(health) }
        })
        .await;
        drop(held);
        let events = choice.end().await;
        assert!(of_type(&events, "agent_death").is_empty(), "what came before the answer is not repeated");
        assert_eq!(events.last().unwrap()["type"], "result");
    })
    .await;
}

#[tokio::test]
async fn it_never_opens_a_second_socket_and_then_waits_in_vain() {
    within(LIMIT, async {
        let (url, door, mut called) = Door::open().await;
        let gm = SimGm::new().arg(format!("--door={url}/gm")).arg("--arena-wait=300ms").start().await;
        assert_eq!(called.recv().await.unwrap().0, "/gm/init_session");
        assert!(called.recv().await.unwrap().0.starts_with("/gm/ws/"));
        door.close(1012, "restart");
        let events = Choose::begin(&gm.url()).await.end().await;
        assert_eq!(called.recv().await.unwrap().0, "/gm/submit_news", "and no socket before it");
        let reactions = &of_type(&events, "reactions")[0]["data"]["reactions"];
        assert!(reactions[0]["reaction_text"].as_str().unwrap().starts_with('['));
        assert!(called.try_recv().is_err());
    })
    .await;
}

#[tokio::test]
async fn it_waits_for_a_door_that_is_not_there_and_ends_on_a_signal() {
    within(LIMIT, async {
        let (url, _door, mut called) = Door::open().await;
        let mut gm = SimGm::new().arg("--door=http://127.0.0.1:9/gm").start().await;
        assert_eq!(gm.get("/api/wh26").await.json()["connected"], false);
        assert!(gm.stop().await.success());
        let mut gm = SimGm::new().arg(format!("--door={url}/gm")).start().await;
        assert_eq!(called.recv().await.unwrap().0, "/gm/init_session");
        assert!(gm.stop().await.success());
    })
    .await;
}
