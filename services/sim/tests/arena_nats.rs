//! The arena stand-in on a real nats-server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "recorded/shapes.rs"]
mod recorded;

use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use herald_testkit::{Launch, Nats, SimArena, eventually, within};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const S: &str = "5e551040-0000-4000-8000-000000000001";

struct Table {
    client: Client,
    heard: Subscriber,
}

impl Table {
    async fn at(nats: &Nats) -> Self {
        let client = nats.client().await;
        let heard = client.subscribe("arena.*.>").await.unwrap();
        client.flush().await.unwrap();
        Self { client, heard }
    }

    async fn init(&self, session: &str) {
        let payload = json!({ "session_id": session, "lang": "en" }).to_string();
        self.client.publish("arena.init", payload.into()).await.unwrap();
    }

    async fn news(&self, session: &str, content: &str) {
        let payload = json!({ "content": content }).to_string();
        self.client.publish(format!("arena.{session}.input.fakenews"), payload.into()).await.unwrap();
    }

    /// What the engine says next: topic and payload.
    async fn next(&mut self) -> (String, Value) {
        loop {
            let message = self.heard.next().await.unwrap();
            assert!(message.headers.is_none(), "core NATS without headers");
            let topic = message.subject.splitn(3, '.').nth(2).unwrap().to_owned();
            if topic != "input.fakenews" {
                return (topic, serde_json::from_slice(&message.payload).unwrap());
            }
        }
    }

    /// Everything up to a topic, which it ends with.
    async fn until(&mut self, topic: &str) -> Vec<(String, Value)> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|(last, _): &(String, Value)| last != topic) {
            heard.push(self.next().await);
        }
        heard
    }
}

#[tokio::test]
async fn a_game_is_played_round_by_round_to_its_end() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let _arena = SimArena::new(&nats).arg("--rounds=3").start().await;
        let mut table = Table::at(&nats).await;
        table.init("no-uuid").await;
        table.init(S).await;
        for round in 1..=3 {
            assert_eq!(table.next().await, ("input.waiting".into(), json!({"round": round, "waiting": true})));
            // Ignored while it plays: another word of waiting would follow otherwise.
            table.init(S).await;
            table.news(S, "A title\n\nA body").await;
            let heard = table.until("state.global").await;
            assert_eq!(heard.len(), 56, "round {round}");
            assert_eq!(heard[0].1["fake_news"], "A title\n\nA body");
            assert_eq!(heard[55].1["lang"], "en");
            assert_eq!(heard[55].1["agents"].as_array().unwrap().len(), 4);
            assert_eq!(heard[55].1["graveyard"].as_array().unwrap().len(), round);
        }
        let (topic, end) = table.next().await;
        assert_eq!((topic.as_str(), &end["history"]), ("event.end", &json!([1, 2, 3])));
        table.init(S).await;
        assert_eq!(table.next().await.0, "event.end", "a game that has played its rounds is over for good");
    })
    .await;
}

#[tokio::test]
async fn silence_or_empty_news_end_a_game_and_an_init_resumes_it() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let saves = tempfile::tempdir().unwrap();
        let arena = || SimArena::new(&nats).arg(format!("--saves={}", saves.path().display()));
        let mut first = arena().start().await;
        let mut table = Table::at(&nats).await;
        table.init(S).await;
        table.until("input.waiting").await;
        table.news(S, "x").await;
        table.until("input.waiting").await;
        table.news(S, "").await;
        let (topic, end) = table.next().await;
        assert_eq!((topic.as_str(), &end["history"]), ("event.end", &json!([1, 2])));
        table.init(S).await;
        assert_eq!(table.next().await.1["round"], 2);
        assert!(first.stop().await.success(), "a signal ends it in order");

        let _second = arena().arg("--patience=50ms").start().await;
        table.init(S).await;
        assert_eq!(table.next().await.1["round"], 2, "resumed from its save");
        assert_eq!(table.next().await.0, "event.end", "nobody sent news");
    })
    .await;
}

#[tokio::test]
async fn a_lost_server_is_waited_for() {
    within(LIMIT, async {
        let mut nats = Nats::start().await;
        let _arena = SimArena::new(&nats).start().await;
        nats.stop().await;
        nats.resume().await;
        let mut table = Table::at(&nats).await;
        // Core NATS: until the engine is back, nobody hears.
        eventually("the engine hears again", LIMIT, async || {
            table.init(S).await;
            let said = tokio::time::timeout(Duration::from_millis(200), table.next()).await;
            said.map(drop).map_err(|_| "silence")
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_recorded_debate_is_played_into_another_session() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let mut table = Table::at(&nats).await;
        let replay = Launch::new("sim").arg("replay").arg(recorded::path("arena.ndjson")).arg("--speed=max");
        let mut replay = replay.arg(format!("--nats={}", nats.url())).arg(format!("--session={S}")).spawn();
        assert!(replay.process().wait(LIMIT).await.success());
        let recorded: Vec<Value> =
            recorded::fixture("arena.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for message in &recorded {
            let subject = message["subject"].as_str().unwrap();
            let Some(topic) = subject.strip_prefix("arena.9e503b5a-e433-4072-a9be-74994edee0e0.") else { continue };
            if topic == "input.fakenews" {
                continue;
            }
            let payload = message["payload"].to_string().replace("9e503b5a-e433-4072-a9be-74994edee0e0", S);
            assert_eq!(table.next().await, (topic.to_owned(), serde_json::from_str(&payload).unwrap()));
        }
    })
    .await;
}
