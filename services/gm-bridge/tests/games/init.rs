//! `/init_session`.

use futures_util::{StreamExt, future::join_all};
use herald_testkit::within;
use serde_json::json;

use crate::{
    house::{House, SOON, session, settle},
    master::Master,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_init_tells_the_engine_once() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let mut told = house.client.subscribe("arena.init").await.unwrap();
        settle(&house.client).await;
        let id = session();
        let reply = house.post("/init_session?lang=en&x=1", &json!({"session_id": id})).await.expect(200);
        assert_eq!(reply.json(), json!({"status": "ok", "session_id": id}));
        let message = told.next().await.unwrap();
        assert_eq!(message.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().as_str(), format!("{id}:init"));
        let said: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(said, json!({"session_id": id, "lang": "en", "query_params": {"lang": "en", "x": "1"}}));
        let record = house.record("SESSIONS", &id).await.unwrap();
        assert_eq!(record, json!({"init": "ready", "arena": "sent", "lang": "en"}));

        let again = house.post("/init_session", &json!({"session_id": id})).await.expect(400);
        assert_eq!(again.error(), "Session already exists");
        assert_eq!(house.count("arena.init").await, 1);

        let plain = session();
        house.post("/init_session", &json!({"session_id": plain})).await.expect(200);
        let said: serde_json::Value = serde_json::from_slice(&told.next().await.unwrap().payload).unwrap();
        assert_eq!(said, json!({"session_id": plain}), "neither language nor parameters where there are none");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_whose_bridge_died_is_finished_by_the_next_one() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let id = session();
        house.put("SESSIONS", &id, &json!({"init": "initialising", "arena": "none"})).await;
        house.post("/init_session", &json!({"session_id": id})).await.expect(200);
        assert_eq!(house.count("arena.init").await, 1);
        assert_eq!(house.record("SESSIONS", &id).await.unwrap()["init"], "ready");
        house.post("/init_session", &json!({"session_id": id})).await.expect(400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inits_at_once_on_several_bridges_make_one_session() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        let id = session();
        let body = json!({"session_id": id});
        let replies = join_all((0..8).map(|_| house.post("/init_session", &body))).await;
        assert!(replies.iter().any(|reply| reply.status == 200), "{replies:?}");
        for reply in replies.iter().filter(|reply| reply.status != 200) {
            assert_eq!((reply.status, reply.error().as_str()), (400, "Session already exists"));
        }
        assert_eq!(house.count("arena.init").await, 1, "repeated under one message id");
        assert_eq!(house.record("SESSIONS", &id).await.unwrap()["init"], "ready");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_door_leaves_the_engine_to_the_start_and_the_gm_door_needs_none() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let (app, gm) = (session(), session());
        house.post_at("app", "/init_session", &json!({"session_id": app})).await.expect(200);
        house.post_at("gm", "/init_session", &json!({"session_id": gm})).await.expect(200);
        house.post_at("app", "/init_session", &json!({"session_id": app})).await.expect(400);
        assert_eq!(house.count("arena.init").await, 0);
        house.get(&format!("/api/start?session_id={app}&lang=en")).await.expect(200);
        assert_eq!(house.event("arena.init").await, json!({"session_id": app, "lang": "en"}));
        assert_eq!(house.record("SESSIONS", &app).await.unwrap()["arena"], "sent");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_after_a_start_sends_nothing_again() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let id = session();
        house.start_game(&id).await;
        assert_eq!(house.event("arena.init").await, json!({"session_id": id, "lang": "fr"}));
        let record = house.record("SESSIONS", &id).await.unwrap();
        assert_eq!((&record["init"], &record["arena"]), (&json!("none"), &json!("sent")));
        house.post("/init_session", &json!({"session_id": id})).await.expect(200);
        house.post("/init_session", &json!({"session_id": id})).await.expect(400);
        assert_eq!(house.count("arena.init").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_could_not_tell_the_engine_is_finished_by_a_later_one() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        house.capture(&["gm.>"]).await;
        let id = session();
        let refused = house.post("/init_session", &json!({"session_id": id})).await.expect(503);
        assert_eq!(refused.error(), "NATS is not connected");
        house.capture(&["gm.>", "arena.>"]).await;
        house.post("/init_session", &json!({"session_id": id})).await.expect(200);
        assert_eq!(house.event("arena.init").await, json!({"session_id": id}));
        house.post("/init_session", &json!({"session_id": id})).await.expect(400);
    })
    .await;
}
