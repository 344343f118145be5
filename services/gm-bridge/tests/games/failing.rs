//! Starts on Game Masters that fail, and of bridges that do.

use std::time::Instant;

use futures_util::future::{join, join_all};
use herald_runtime::config::HumanDuration;
use herald_testkit::{Bridge, eventually, within};
use serde_json::json;

use crate::{
    house::{House, SOON, session},
    master::Master,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_game_master_that_fails_is_told_as_it_is_and_stays_free() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.gm.request_timeout = HumanDuration::from_millis(500);
        })
        .await;
        let start = async || house.get(&format!("/api/start?session_id={}", session())).await;
        for (status, body) in [(500, "{}"), (302, ""), (404, "{}"), (200, "<html>"), (200, "[]"), (200, "")] {
            master.answer_starts(Some((status, body)));
            assert_eq!(start().await.expect(502).error(), "GM unreachable", "{status} {body}");
        }
        master.answer_starts(Some((422, r#"{"detail":"no such thing"}"#)));
        assert_eq!(start().await.expect(400).error(), "no such thing");
        master.answer_starts(None);
        master.hold_starts(true);
        assert_eq!(start().await.expect(502).error(), "GM unreachable", "it hangs");
        master.hold_starts(false);
        let unknown = session();
        house.get(&format!("/api/propose?session_id={unknown}")).await.expect(404);
        start().await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_knows_its_own_record_whatever_became_of_a_write() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.action.renew = HumanDuration::from_millis(100);
        })
        .await;
        master.hold_starts(true);
        let id = session();
        let key = format!("{id}.start");
        let path = format!("/api/start?session_id={id}");
        let disturb = async {
            eventually("a start", SOON, async || if master.asked("start") > 0 { Ok(()) } else { Err(()) }).await;
            // As a renewal that was stored although no acknowledgement came.
            let running = house.record("SESSIONS", &key).await.unwrap();
            house.put("SESSIONS", &key, &running).await;
            let stored = async || house.last("KV_SESSIONS", &format!("$KV.SESSIONS.{key}")).await.unwrap().sequence;
            let disturbed = stored().await;
            eventually("a renewal", SOON, async || if stored().await > disturbed { Ok(()) } else { Err(()) }).await;
            master.hold_starts(false);
        };
        let (reply, ()) = join(house.get(&path), disturb).await;
        reply.expect(200);
        assert_eq!(house.record("SESSIONS", &key).await.unwrap()["answer"]["status"], 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_restart_fails_keeps_its_game() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |config| {
            config.gm.repeated_start = HumanDuration::from_millis(0);
        })
        .await;
        let id = session();
        house.start_game(&id).await;
        master.answer_starts(Some((500, "")));
        house.get(&format!("/api/start?session_id={id}")).await.expect(502);
        house.get(&format!("/api/propose?session_id={id}")).await.expect(202);
        house.event(&format!("gm.{id}.result")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_bridge_is_killed_is_begun_again_by_the_next_one() {
    within(SOON * 2, async {
        let master = Master::start().await;
        let mut house = House::build(0, &[], |_| {}).await;
        let mut bridge = Bridge::new(&house.nats).gm(&master.url).start().await;
        master.hold_starts(true);
        let id = session();
        let path = format!("/api/start?session_id={id}");
        let killed = async {
            eventually("a start", SOON, async || if master.asked("start") > 0 { Ok(()) } else { Err(()) }).await;
            bridge.process().kill().await;
        };
        tokio::select! {
            reply = house.get(&path) => panic!("answered by a bridge that is dead: {reply:?}"),
            () = killed => {}
        }
        master.hold_starts(false);
        house.add_bridge(&[&master], |_| {}).await;
        house.start_game(&id).await;
        house.get(&format!("/api/propose?session_id={id}")).await.expect(202);
        house.event(&format!("gm.{id}.result")).await;
        assert_eq!(master.asked("start"), 2, "by the second request, not by itself");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_master_that_is_down_is_unreachable_and_unwell() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let health = house.get("/health").await.expect(200).json();
        assert_eq!(
            health,
            json!({"status": "ok", "service": "herald", "nats_connected": true, "gm_client_ready": true, "arena_seen": false,
                   "game_masters": [{"number": 1, "ready": true}]})
        );
        house.publish(&format!("arena.{}.round.start", session()), "{}").await;
        drop(master);
        assert_eq!(house.get("/api/start").await.expect(502).error(), "GM unreachable");
        assert_eq!(house.get("/api/state").await.expect(502).error(), "GM unreachable");
        assert_eq!(house.get("/api/images/x/real.png").await.expect(502).error(), "Image fetch failed");
        // Each look is good for a second.
        let expected =
            json!({"status": "degraded", "service": "herald", "nats_connected": true, "gm_client_ready": false, "arena_seen": true,
                   "game_masters": [{"number": 1, "ready": false}]});
        eventually("degraded health", SOON, async || {
            let health = house.get("/health").await.expect(200).json();
            if health == expected { Ok(()) } else { Err(health) }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_a_game_master_at_most_once_a_second() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let begun = Instant::now();
        for reply in join_all((0..40).map(|_| house.get("/health"))).await {
            assert_eq!(reply.expect(200).json()["gm_client_ready"], true);
        }
        let (asked, most) = (master.asked("state"), 1 + begun.elapsed().as_secs() as usize);
        assert!((1..=most).contains(&asked), "{asked} in {:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_ends_in_order_and_the_other_goes_on() {
    within(SOON, async {
        let master = Master::start().await;
        let mut house = House::build(2, &[&master], |_| {}).await;
        let id = session();
        house.start_game(&id).await;
        house.bridges.remove(0).stop().await;
        house.get(&format!("/api/propose?session_id={id}")).await.expect(202);
        house.event(&format!("gm.{id}.result")).await;
    })
    .await;
}
