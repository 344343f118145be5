//! Who may take a Game Master from whom.

use futures_util::future::join;
use gm_bridge::config::{Config, WhenBusy};
use herald_runtime::config::HumanDuration;
use herald_testkit::{eventually, within};
use serde_json::json;

use crate::{
    house::{House, SOON, session},
    master::Master,
};

/// No rest before a look at who watches.
fn at_once(config: &mut Config) {
    config.gm.unwatched = HumanDuration::from_millis(0);
    // Machines that run tests are slow.
    config.gm.watching_timeout = HumanDuration::from_secs(2);
}

async fn start(house: &House, id: &str) -> u16 {
    house.get(&format!("/api/start?session_id={id}")).await.status
}

/// The session's game is over, and it was told so.
async fn check_taken_over(house: &House, id: &str) {
    assert_eq!(house.event(&format!("gm.{id}.error")).await["error"], "Game taken over");
    for path in ["propose", "choose"] {
        let refused = house.get(&format!("/api/{path}?session_id={id}&kind=real")).await.expect(400);
        assert_eq!(refused.error(), "No game started");
    }
    assert_eq!(house.get(&format!("/api/state?session_id={id}")).await.expect(400).error(), "No game started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_nobody_watches_makes_way() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], at_once).await;
        let (first, second) = (session(), session());
        house.start_game(&first).await;
        let _edges = (house.edge("e1", |_| 0).await, house.edge("e2", |_| 0).await);
        assert_eq!(start(&house, &second).await, 200);
        check_taken_over(&house, &first).await;
        assert_eq!(house.record("ALIASES", master.id()).await.unwrap()["session"], json!(second));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_somebody_watches_on_any_edge_is_left_alone() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], at_once).await;
        let first = session();
        house.start_game(&first).await;
        let watched = first.clone();
        let _edges = (house.edge("e1", |_| 0).await, house.edge("e2", move |id| u64::from(id == watched)).await);
        assert_eq!(start(&house, &session()).await, 503);
        house.get(&format!("/api/propose?session_id={first}")).await.expect(202);
        assert_eq!(master.asked("start"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_at_play_is_left_alone_though_nobody_watches() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        house.start_game(&session()).await;
        assert_eq!(start(&house, &session()).await, 503, "its start is not 15 s old");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_does_not_answer_may_have_somebody_who_watches() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], at_once).await;
        let (first, second) = (session(), session());
        house.start_game(&first).await;
        let watched = first.clone();
        let edge = house.edge("e1", move |id| u64::from(id == watched)).await;
        assert_eq!(start(&house, &second).await, 503);
        drop(edge);
        // Known to have been there a moment ago, and silent now.
        assert_eq!(start(&house, &second).await, 503);
        // Until it is forgotten.
        let third = session();
        eventually("a start", SOON, async || match start(&house, &third).await {
            200 => Ok(()),
            other => Err(other),
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_saw_its_end_or_has_long_been_idle_makes_way() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let (first, second) = (session(), session());
        house.start_game(&first).await;
        master.end_games(true);
        house.end_game(&first).await;
        house.start_game(&second).await;
        assert_eq!(house.count(&format!("gm.{first}.error")).await, 0, "its end was its end");

        let (key, mut seat) = house.seat().await;
        assert_eq!(start(&house, &session()).await, 503);
        seat["since"] = json!(seat["since"].as_u64().unwrap() - 31 * 60_000);
        house.put("ALIASES", &key, &seat).await;
        house.start_game(&session()).await;
        check_taken_over(&house, &second).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_takeover_the_newest_start_wins() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(2, &[&master], |config| config.gm.when_busy = WhenBusy::Takeover).await;
        let (first, second) = (session(), session());
        house.start_game(&first).await;
        master.hold_chooses(true);
        house.get(&format!("/api/choose?session_id={first}&kind=real")).await.expect(202);
        house.event(&format!("gm.{first}.phase")).await;
        house.start_game(&second).await;
        check_taken_over(&house, &first).await;
        master.hold_chooses(false);

        // The old choose runs on inside: its news are not this game's, until it chooses itself.
        let news = json!({"session_id": master.id(), "content": "of the old game"});
        house.post_at("gm", "/submit_news", &news).await.expect(200);
        house.get(&format!("/api/propose?session_id={second}")).await.expect(202);
        house.event(&format!("gm.{second}.result")).await;
        house.post_at("gm", "/submit_news", &news).await.expect(200);
        assert_eq!(house.count("arena.*.input.fakenews").await, 0);
        house.get(&format!("/api/choose?session_id={second}&kind=fake")).await.expect(202);
        eventually("its choose", SOON, async || if master.asked("choose fake") == 1 { Ok(()) } else { Err(()) }).await;
        house.publish(&format!("arena.{second}.input.waiting"), "{}").await;
        house.post_at("gm", "/submit_news", &news).await.expect(200);
        assert_eq!(house.count(&format!("arena.{second}.input.fakenews")).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_master_with_a_cut_choose_is_nobody_elses_for_a_while() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            at_once(config);
            config.gm.cut_choose = HumanDuration::from_secs(4);
        })
        .await;
        let first = session();
        house.start_game(&first).await;
        master.hold_chooses(true);
        house.get(&format!("/api/choose?session_id={first}&kind=real")).await.expect(202);
        house.event(&format!("gm.{first}.phase")).await;
        assert_eq!(start(&house, &session()).await, 503, "it runs");
        let cancel = format!("/api/cancel?session_id={first}");
        let cancelled = house.request("event", http::Method::POST, &cancel, "").await.expect(200);
        assert_eq!(cancelled.json(), json!({"status": "cancelled"}));
        assert_eq!(start(&house, &session()).await, 503, "it was cut");
        eventually("a start once the cut choose is over", SOON, async || {
            let id = session();
            match start(&house, &id).await {
                200 => Ok(()),
                other => Err(other),
            }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choose_whose_bridge_died_is_known_by_the_log() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], at_once).await;
        let first = session();
        house.start_game(&first).await;
        // What a bridge leaves that dies in a choose, and another one that dies in ending it.
        let (key, mut seat) = house.seat().await;
        house.publish(&format!("gm.{first}._action"), r#"{"n":7,"kind":"choose"}"#).await;
        let choose = house.last("EVENTS", &format!("gm.{first}._action")).await.unwrap().sequence;
        seat["choose"] = json!(choose);
        house.put("ALIASES", &key, &seat).await;
        assert_eq!(start(&house, &session()).await, 503, "it may still run");
        house.publish(&format!("gm.{first}._action"), r#"{"n":8,"kind":"lost"}"#).await;
        assert_eq!(start(&house, &session()).await, 503, "it was cut");
        house.publish(&format!("gm.{first}._action"), r#"{"n":9,"kind":"choose"}"#).await;
        house.publish(&format!("gm.{first}.result"), "{}").await;
        seat["choose"] = json!(house.last("EVENTS", &format!("gm.{first}._action")).await.unwrap().sequence);
        house.put("ALIASES", &key, &seat).await;
        assert_eq!(start(&house, &session()).await, 200, "that one ended by itself");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choose_that_the_log_no_longer_holds_is_not_taken_to_run_for_ever() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            at_once(config);
            config.gm.cut_choose = HumanDuration::from_secs(2);
        })
        .await;
        house.start_game(&session()).await;
        // Its bridge died, and the log was lost since.
        let (key, mut seat) = house.seat().await;
        seat["choose"] = json!(1_000_000);
        house.put("ALIASES", &key, &seat).await;
        assert_eq!(start(&house, &session()).await, 503, "it may run on inside");
        eventually("a start", SOON, async || match start(&house, &session()).await {
            200 => Ok(()),
            other => Err(other),
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_bridge_died_lapses() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.action.renew = HumanDuration::from_millis(500);
            config.action.lapse = HumanDuration::from_secs(2);
        })
        .await;
        let (first, died, third) = (session(), session(), session());
        house.start_game(&first).await;
        // It claimed the Game Master, and died before it told the first one.
        let (key, mut seat) = house.seat().await;
        seat["previous"] = json!({"session": first, "after": seat["after"]});
        seat["session"] = json!(died);
        seat["state"] = json!("starting");
        house.put("ALIASES", &key, &seat).await;
        house.put("SESSIONS", &format!("{died}.start"), &json!({"starter": "of the dead"})).await;
        house.start_game(&third).await;
        check_taken_over(&house, &first).await;
        assert_eq!(house.count(&format!("gm.{died}.error")).await, 0, "it had no game");
        // Its own player may start again, too; the other game is left alone then.
        assert_eq!(start(&house, &died).await, 503);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_goes_on_where_a_start_that_would_take_it_fails_before_it_is_over() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.gm.when_busy = WhenBusy::Takeover;
            config.action.claim_wait = HumanDuration::from_millis(500);
        })
        .await;
        let (first, second) = (session(), session());
        house.start_game(&first).await;
        house.capture(&["arena.>"]).await;
        assert_eq!(start(&house, &second).await, 503);
        house.capture(&["gm.>", "arena.>"]).await;
        house.get(&format!("/api/propose?session_id={first}")).await.expect(202);
        house.event(&format!("gm.{first}.result")).await;
        assert_eq!(master.asked("start"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_plays_elsewhere_by_now_is_left_alone() {
    within(SOON, async {
        let (one, other) = (Master::start().await, Master::start().await);
        let house = House::build(1, &[&one, &other], |config| {
            config.gm.repeated_start = HumanDuration::from_millis(0);
            config.action.renew = HumanDuration::from_millis(500);
            config.action.lapse = HumanDuration::from_secs(2);
        })
        .await;
        let (first, died) = (session(), session());
        house.start_game(&first).await;
        // A start took its Game Master and died; so it began anew on the other one.
        let (key, old) = house.seat().await;
        let mut starting = old.clone();
        starting["previous"] = json!({"session": first, "after": old["after"]});
        starting["session"] = json!(died);
        starting["state"] = json!("starting");
        house.put("ALIASES", &key, &starting).await;
        house.put("SESSIONS", &format!("{died}.start"), &json!({"starter": "of the dead"})).await;
        other.hold_starts(true);
        let taken = async {
            eventually("a start", SOON, async || if other.asked("start") > 0 { Ok(()) } else { Err(()) }).await;
            house.start_game(&session()).await;
            other.hold_starts(false);
        };
        join(house.start_game(&first), taken).await;
        assert_eq!((one.asked("start"), other.asked("start")), (2, 1), "the lapsed one is taken");
        assert_eq!(house.count(&format!("gm.{first}.error")).await, 0, "its new game is nobody's to end");

        // As a start leaves it that gives back what it took, and does not know of the other game.
        house.put("ALIASES", &key, &old).await;
        house.get(&format!("/api/propose?session_id={first}")).await.expect(202);
        house.event(&format!("gm.{first}.result")).await;
        house.start_game(&first).await;
        assert_eq!((one.asked("propose"), other.asked("propose")), (0, 1), "it plays where it started last");
        assert_eq!((one.asked("start"), other.asked("start")), (2, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_has_lost_its_game_master_leaves_the_alias_alone() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        master.hold_starts(true);
        let (halted, other) = (session(), session());
        let taken = async {
            eventually("a start", SOON, async || if master.asked("start") > 0 { Ok(()) } else { Err(()) }).await;
            // Its bridge was halted, and taken for dead by one that has started the other's game since.
            let (key, mut seat) = house.seat().await;
            (seat["session"], seat["state"], seat["G"]) = (json!(other), json!("playing"), json!(master.id()));
            house.put("ALIASES", &key, &seat).await;
            house.put("ALIASES", master.id(), &json!({"session": other, "after": 1})).await;
            master.hold_starts(false);
        };
        let path = format!("/api/start?session_id={halted}");
        let (reply, ()) = join(house.get(&path), taken).await;
        reply.expect(503);
        assert_eq!(house.record("ALIASES", master.id()).await.unwrap()["session"], json!(other));
        assert_eq!(house.seat().await.1["session"], json!(other));
    })
    .await;
}
