//! `/submit_news`.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use herald_runtime::config::HumanDuration;
use herald_testkit::within;
use serde_json::{Value, json};

use crate::{
    house::{House, SOON, session, settle},
    master::Master,
};

#[tokio::test(flavor = "multi_thread")]
async fn news_reach_a_playing_engine_at_once() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let id = session();
        house.post("/init_session", &json!({"session_id": id})).await.expect(200);
        house.publish(&format!("arena.{id}.input.waiting"), r#"{"round":1,"waiting":true}"#).await;
        for content in ["Un chat é", "a second"] {
            let reply =
                house.post("/submit_news?lang=fr", &json!({"session_id": id, "content": content})).await.expect(200);
            assert_eq!(reply.json(), json!({"status": "published", "session_id": id}));
            let news = house.event(&format!("arena.{id}.input.fakenews")).await;
            assert_eq!(news, json!({"content": content, "query_params": {"lang": "fr"}}));
        }
        assert_eq!(house.count("arena.init").await, 1, "the engine has spoken, before our own news");
        let unknown = house.post("/submit_news", &json!({"session_id": session(), "content": "x"})).await.expect(404);
        assert_eq!(unknown.error(), "Session not found");
    })
    .await;
}

/// Answers each `arena.init` as the engine does, after a while.
async fn engine(house: &House, after: Duration) -> tokio::task::JoinHandle<()> {
    let mut inits = house.client.subscribe("arena.init").await.unwrap();
    settle(&house.client).await;
    let client = house.client.clone();
    tokio::spawn(async move {
        while let Some(init) = inits.next().await {
            let init: Value = serde_json::from_slice(&init.payload).unwrap();
            let id = init["session_id"].as_str().unwrap();
            tokio::time::sleep(after).await;
            client.publish(format!("arena.{id}.input.waiting"), r#"{"round":1,"waiting":true}"#.into()).await.unwrap();
            client.flush().await.unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_has_gone_silent_is_told_again_and_heard_before_the_answer() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.arena.waiting_timeout = HumanDuration::from_secs(6);
        })
        .await;
        let id = session();
        house.post("/init_session?lang=en", &json!({"session_id": id})).await.expect(200);
        house.publish(&format!("arena.{id}.event.end"), r#"{"survivors":[]}"#).await;
        let _engine = engine(&house, Duration::from_millis(100)).await;
        let mut log = house.client.subscribe(format!("arena.{id}.>")).await.unwrap();
        settle(&house.client).await;

        let asked = Instant::now();
        house.post("/submit_news", &json!({"session_id": id, "content": "x"})).await.expect(200);
        assert!(asked.elapsed() >= Duration::from_millis(300), "200 ms after the engine asked for news");
        assert!(asked.elapsed() < Duration::from_secs(5), "and no longer");
        let (first, second) = (log.next().await.unwrap(), log.next().await.unwrap());
        assert!(first.subject.ends_with("input.waiting") && second.subject.ends_with("input.fakenews"));
        assert_eq!(house.count("arena.init").await, 2);
        assert_eq!(house.event("arena.init").await, json!({"session_id": id, "lang": "en"}));

        house.post("/submit_news", &json!({"session_id": id, "content": "y"})).await.expect(200);
        assert_eq!(house.count("arena.init").await, 2, "it plays again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_are_sent_even_where_no_engine_answers() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.arena.waiting_timeout = HumanDuration::from_millis(300);
        })
        .await;
        let id = session();
        house.post("/init_session", &json!({"session_id": id})).await.expect(200);
        house.post("/submit_news", &json!({"session_id": id, "content": "x"})).await.expect(200);
        assert_eq!(house.event(&format!("arena.{id}.input.fakenews")).await, json!({"content": "x"}));
        assert_eq!(house.count("arena.init").await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_silent_for_longer_than_it_waits_is_told_again() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.arena.silent = HumanDuration::from_millis(1);
        })
        .await;
        let id = session();
        house.post("/init_session", &json!({"session_id": id})).await.expect(200);
        house.publish(&format!("arena.{id}.agent.a1.status"), r#"{"state":"done"}"#).await;
        let _engine = engine(&house, Duration::ZERO).await;
        house.post("/submit_news", &json!({"session_id": id, "content": "x"})).await.expect(200);
        assert_eq!(house.count("arena.init").await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_for_a_game_master_go_to_whoever_plays_there_now() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        // At its own start it makes itself known, before anybody plays.
        house.post_at("gm", "/init_session", &json!({"session_id": master.id()})).await.expect(200);
        master.end_games(true);
        for _ in 0..2 {
            let id = session();
            house.start_game(&id).await;
            house.publish(&format!("arena.{id}.input.waiting"), "{}").await;
            let body = json!({"session_id": master.id(), "content": "x"});
            let reply = house.post_at("gm", "/submit_news", &body).await.expect(200);
            assert_eq!(reply.json()["session_id"], master.id(), "as it was sent");
            assert_eq!(house.event(&format!("arena.{id}.input.fakenews")).await["content"], "x");
            house.end_game(&id).await;
        }
        assert_eq!(house.count(&format!("arena.{}.>", master.id())).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_are_answered_before_a_game_master_gives_up() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.arena.waiting_timeout = HumanDuration::from_secs(60);
            config.arena.news_timeout = HumanDuration::from_millis(500);
        })
        .await;
        let id = session();
        house.post("/init_session", &json!({"session_id": id})).await.expect(200);
        house.post("/submit_news", &json!({"session_id": id, "content": "x"})).await.expect(503);
    })
    .await;
}
