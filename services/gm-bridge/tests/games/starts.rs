//! `/api/start`, and what follows it in a game.

use futures_util::{StreamExt, future::join};
use herald_runtime::config::HumanDuration;
use herald_testkit::{eventually, within};
use serde_json::json;

use crate::{
    house::{House, SOON, session, settle},
    master::Master,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_start_shows_the_game_masters_answer_with_our_session() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let id = session();
        let reply = house.get(&format!("/api/start?session_id={id}&lang=en")).await.expect(200);
        let expected =
            format!("{{\"session_id\":\"{id}\",\"gm_session_id\":\"{}\",\"turn\":1.0,\"lang\":\"é\"}}", master.id());
        assert_eq!(reply.body, expected.as_bytes());
        assert_eq!(reply.head["cache-control"], "no-store");
        assert_eq!(reply.head["content-type"], "application/json");
        assert_eq!(master.calls(), ["start en"]);

        let (_, seat) = house.seat().await;
        assert_eq!(
            (&seat["session"], &seat["state"], &seat["G"]),
            (&json!(id), &json!("playing"), &json!(master.id()))
        );
        let alias = house.record("ALIASES", master.id()).await.unwrap();
        assert_eq!(alias, json!({"session": id, "after": seat["after"]}));
        assert!(seat["after"].as_u64().unwrap() > 0);

        let state = house.get(&format!("/api/state?session_id={id}")).await.expect(200);
        assert_eq!(state.body, expected.as_bytes());
        assert_eq!(house.get("/api/state").await.expect(200).body, expected.as_bytes(), "whoever plays there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_session_gets_a_fresh_one() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let started = house.get("/api/start").await.expect(200).json();
        let id = started["session_id"].as_str().unwrap();
        assert!(uuid::Uuid::try_parse(id).is_ok() && id != master.id());
        assert_eq!(house.event("arena.init").await, json!({"session_id": id, "lang": "fr"}));
        // A double click wipes nothing: it is another session's start.
        let second = house.get("/api/start").await.expect(503);
        assert_eq!(
            (&*second.error(), second.head["retry-after"].to_str().unwrap()),
            ("all game masters are busy", "10")
        );
        assert_eq!(master.asked("start"), 1);
        house.get(&format!("/api/propose?session_id={id}")).await.expect(202);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_played_through_either_bridge() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        let id = session();
        house.start_game(&id).await;
        let accepted = house.get(&format!("/api/propose?session_id={id}&lang=en")).await.expect(202);
        assert_eq!(accepted.json(), json!({"status": "streaming", "session_id": id}));
        assert_eq!(accepted.head["cache-control"], "no-store");
        house.event(&format!("gm.{id}.result")).await;
        house.get(&format!("/api/choose?session_id={id}&kind=fake")).await.expect(202);
        eventually("two results", SOON, async || {
            let results = house.count(&format!("gm.{id}.result")).await;
            if results == 2 { Ok(()) } else { Err(results) }
        })
        .await;
        assert_eq!(master.calls(), ["start fr", "propose en", "choose fake fr"]);
        let idle = house.request("event", http::Method::POST, &format!("/api/cancel?session_id={id}"), "").await;
        assert_eq!(idle.expect(200).json(), json!({"status": "idle"}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_browsers_that_start_at_once_do_not_wipe_each_other() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        master.hold_starts(true);
        let (first, second) = (session(), session());
        let paths = [&first, &second].map(|id| format!("/api/start?session_id={id}"));
        let release = async {
            eventually("a start", SOON, async || if master.asked("start") > 0 { Ok(()) } else { Err(()) }).await;
            master.hold_starts(false);
        };
        let ((one, other), ()) = join(join(house.get(&paths[0]), house.get(&paths[1])), release).await;
        assert_eq!(master.asked("start"), 1);
        let (winner, loser, refused) = if one.status == 200 { (first, second, other) } else { (second, first, one) };
        assert_eq!(refused.expect(503).error(), "all game masters are busy");
        house.get(&format!("/api/propose?session_id={winner}")).await.expect(202);
        let unknown = house.get(&format!("/api/propose?session_id={loser}")).await.expect(404);
        assert_eq!(unknown.error(), "Session not found");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_of_a_session_gets_the_first_ones_answer() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        master.hold_starts(true);
        let path = format!("/api/start?session_id={}", session());
        let release = async {
            eventually("a start", SOON, async || if master.asked("start") > 0 { Ok(()) } else { Err(()) }).await;
            master.hold_starts(false);
        };
        let ((one, other), ()) = join(join(house.get(&path), house.get(&path)), release).await;
        let soon_after = house.get(&path).await;
        assert_eq!((one.status, &one.body), (200, &other.body));
        assert_eq!(one.body, soon_after.body);
        assert_eq!(master.asked("start"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_waited_for_a_start_gets_its_answer_whatever_the_clocks_say() {
    within(SOON, async {
        let master = Master::start().await;
        // Every answer is too old: as with a bridge whose clock is ahead of the server's.
        let house = House::build(2, &[&master], |config| {
            config.gm.repeated_start = HumanDuration::from_millis(0);
        })
        .await;
        master.hold_starts(true);
        let id = session();
        let path = format!("/api/start?session_id={id}");
        let second = async {
            eventually("a start", SOON, async || if master.asked("start") > 0 { Ok(()) } else { Err(()) }).await;
            let mut looks = house.client.subscribe("$JS.API.STREAM.MSG.GET.KV_SESSIONS").await.unwrap();
            settle(&house.client).await;
            let release = async {
                let key = format!("{id}.start");
                let mut seen = 0;
                // At the second look it has read at the first one that a start runs.
                while seen < 2 {
                    let look = looks.next().await.unwrap();
                    seen += usize::from(String::from_utf8_lossy(&look.payload).contains(&key));
                }
                master.hold_starts(false);
            };
            join(house.get(&path), release).await.0
        };
        let (one, other) = join(house.get(&path), second).await;
        assert_eq!((one.status, &one.body), (200, &other.body));
        assert_eq!(master.asked("start"), 1, "the second has not wiped what the first began");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_starts_again_gets_the_game_master_it_has() {
    within(SOON, async {
        let (one, other) = (Master::start().await, Master::start().await);
        let house = House::build(1, &[&one, &other], |config| {
            config.gm.repeated_start = HumanDuration::from_millis(0);
        })
        .await;
        let (first, second) = (session(), session());
        house.start_game(&first).await;
        house.start_game(&second).await;
        house.start_game(&second).await;
        assert_eq!((one.asked("start"), other.asked("start")), (1, 2));
        house.get(&format!("/api/choose?session_id={second}&kind=real&lang=en")).await.expect(202);
        house.event(&format!("gm.{second}.result")).await;
        assert_eq!((one.asked("choose"), other.asked("choose real en")), (0, 1));
        house.get(&format!("/api/start?session_id={}", session())).await.expect(503);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_games_in_a_row_on_one_game_master() {
    within(SOON * 2, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        master.end_games(true);
        let mut after = 0;
        for game in 0..10 {
            let id = session();
            let lang = ["fr", "en"][game % 2];
            house.get(&format!("/api/start?session_id={id}&lang={lang}")).await.expect(200);
            let alias = house.record("ALIASES", master.id()).await.unwrap();
            assert_eq!(alias["session"], json!(id));
            assert!(alias["after"].as_u64().unwrap() > after, "each game is shown from its own start");
            after = alias["after"].as_u64().unwrap();
            assert_eq!(house.event("arena.init").await, json!({"session_id": id, "lang": lang}));
            house.end_game(&id).await;
        }
        assert_eq!(master.asked("start"), 10);
        assert_eq!(house.count("gm.*.error").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_wait_for_each_other_on_the_app_door_and_stop_each_other_elsewhere() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |_| {}).await;
        let id = session();
        house.start_game(&id).await;
        master.hold_chooses(true);
        let (choose, propose) =
            (format!("/api/choose?session_id={id}&kind=real"), format!("/api/propose?session_id={id}"));
        let chosen = async |times| {
            eventually("a choose", SOON, async || if master.asked("choose") == times { Ok(()) } else { Err(()) }).await;
        };
        house.get(&choose).await.expect(202);
        chosen(1).await;
        house.request("app", http::Method::GET, &propose, "").await.expect(202);
        assert_eq!(master.asked("propose"), 0, "it waits");
        master.hold_chooses(false);
        eventually("the propose", SOON, async || if master.asked("propose") == 1 { Ok(()) } else { Err(()) }).await;
        eventually("two results", SOON, async || {
            let results = house.count(&format!("gm.{id}.result")).await;
            if results == 2 { Ok(()) } else { Err(results) }
        })
        .await;
        assert_eq!(house.count(&format!("gm.{id}.error")).await, 0);

        master.hold_chooses(true);
        house.get(&choose).await.expect(202);
        chosen(2).await;
        house.get(&propose).await.expect(202);
        let error = house.event(&format!("gm.{id}.error")).await;
        assert_eq!(error, json!({"error": "Cancelled", "detail": "superseded"}));
    })
    .await;
}
