//! Of some connections a session has one at a time.

use herald_testkit::{
    Edge, Nats, eventually,
    proxy::{Network, Proxy},
    within, ws,
};

use super::{BOUND, MINUTE, door, door_of, join};
use crate::support::Engine;

const RULE: &str = "newest = { roles = [\"dm\"], code = 1012, reason = \"Superseded DM connection\" }";

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_stays_on_whichever_edge_it_comes() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let start = async || door(&nats, &[("/ws/{sid}", RULE), ("/any/{sid}", "")]).start().await;
        let edges = [start().await, start().await];
        let hello = async |socket: &ws::Client| {
            socket.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        };
        let player = join(&edges[0].ws("/ws/s1"), "bob", "player", ws::V1).await;
        let elsewhere = join(&edges[0].ws("/ws/s2"), "ann", "dm", ws::V1).await;
        let other_door = join(&edges[1].ws("/any/s1"), "ann", "dm", ws::V1).await;
        let mut newest = join(&edges[0].ws("/ws/s1"), "ann", "dm", ws::V1).await;
        hello(&newest).await;
        for at in [0, 1, 0, 1, 1, 0] {
            let next = join(&edges[at].ws("/ws/s1"), "ann", "dm", ws::V1).await;
            hello(&next).await;
            let end = newest.wait_end(BOUND).await;
            assert_eq!((end.code(), end.reason()), (1012, "Superseded DM connection"));
            newest = next;
        }
        // Many at once: one of them is left.
        let urls: Vec<_> = (0..10).map(|number| edges[number % 2].ws("/ws/s1")).collect();
        let all: Vec<_> = futures_util::future::join_all(urls.iter().map(|url| join(url, "ann", "dm", ws::V1))).await;
        let left = || all.iter().filter(|socket| socket.ended().is_none()).count();
        eventually("one is left", BOUND, async || if left() == 1 { Ok(()) } else { Err(left()) }).await;
        assert_eq!(newest.wait_end(BOUND).await.code(), 1012);
        let seq = engine.publish("gm.s1.phase", "{}").await;
        let last = all.iter().find(|socket| socket.ended().is_none()).unwrap();
        for socket in [last, &player, &other_door] {
            socket.wait_for("the event", BOUND, |frame| frame.seq() == Some(seq)).await;
        }
        assert!(elsewhere.ended().is_none());
        let superseded = async |edge: usize| edges[edge].metric("herald_superseded_connections_total", &[]).await;
        assert!(superseded(0).await + superseded(1).await >= 16.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_edge_that_was_cut_off_hears_what_the_other_said_meanwhile() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let proxy = Proxy::start(nats.address()).await;
        // Without a word about code and reason: these tell our client not to come back.
        let rule = "newest = { roles = [\"dm\"] }";
        let mut cut_off = door_of(Edge::at(&proxy.nats_url()), &[("/ws/{sid}", rule)]).start().await;
        let other = door(&nats, &[("/ws/{sid}", rule)]).start().await;
        let old = join(&cut_off.ws("/ws/s1"), "ann", "dm", ws::V1).await;
        old.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        proxy.set(Network::Down);
        cut_off.wait_not_ready(BOUND).await;
        let new = join(&other.ws("/ws/s1"), "ann", "dm", ws::V1).await;
        let seq = engine.publish("gm.s1.phase", "{}").await;
        new.wait_for("the event", BOUND, |frame| frame.seq() == Some(seq)).await;
        assert!(old.ended().is_none(), "it can't know");
        proxy.set(Network::Works);
        let end = old.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (4409, "superseded"));
        let seq = engine.publish("gm.s1.phase", "{}").await;
        new.wait_for("the next event", BOUND, |frame| frame.seq() == Some(seq)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_was_cut_off_from_nats_hears_of_the_newer_one_when_it_is_back() {
    within(MINUTE, async {
        let mut nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let start = async || door(&nats, &[("/ws/{sid}", RULE)]).start().await;
        let edges = [start().await, start().await];
        let old = join(&edges[0].ws("/ws/s1"), "ann", "dm", ws::V1).await;
        old.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        nats.stop().await;
        eventually("the edge knows that NATS is away", BOUND, async || {
            let (status, body) = edges[1].readyz().await;
            if status == 503 { Ok(()) } else { Err(body) }
        })
        .await;
        // A cursor is a beginning that can wait for NATS.
        let new = join(&edges[1].ws("/ws/s1?after=0"), "ann", "dm", ws::V1).await;
        nats.resume().await;
        let end = old.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (1012, "Superseded DM connection"));
        let seq = engine.publish("gm.s1.phase", "{}").await;
        new.wait_for("the event", BOUND, |frame| frame.seq() == Some(seq)).await;
    })
    .await;
}
