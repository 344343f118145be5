//! What engines say to one connection.

use herald_testkit::{Nats, eventually, within, ws};

use super::{BOUND, Ear, MINUTE, door, join};
use crate::support::Engine;

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_answers_one_client_and_closes_one() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.*").await;
        let edge =
            door(&nats, &[("/ws/{sid}", "uplink = {}"), ("/gm/{sid}", "uplink = {}\ndialect = \"gm\"")]).start().await;
        let ann = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        let to_ann = ear.joined("s1").await;
        let bob = join(&edge.ws("/ws/s1"), "bob", "", ws::PLAIN).await;
        let to_bob = ear.joined("s1").await;

        // An answer to what was sent is an answer to who sent it.
        ann.send_text("roll").await;
        let asked = ear.next().await;
        ear.client.publish(asked.reply.unwrap(), "{\"face\":6}".into()).await.unwrap();
        let frame = ann.wait_for("the answer", BOUND, |frame| frame.event() == "gm.message").await;
        assert_eq!(frame.text, r#"{"event":"gm.message","data":{"face":6}}"#);
        assert_eq!(ear.say(&to_bob, &[("Herald-Topic", "hand.dealt")], "no JSON").await, "ok");
        let frame = bob.wait_for("the hand", BOUND, |frame| frame.event() == "gm.hand.dealt").await;
        assert_eq!(frame.text, r#"{"event":"gm.hand.dealt","data":"no JSON"}"#);

        // Between the events of the log, whose order and proof nothing changes.
        for number in 0..20 {
            engine.publish("gm.s1.phase", number.to_string()).await;
            assert_eq!(ear.say(&to_ann, &[("Herald-Topic", "note")], &number.to_string()).await, "ok");
        }
        ann.wait_for("the last note", BOUND, |frame| frame.event() == "gm.note" && *frame.data() == 19).await;
        ann.wait_for("the last event", BOUND, |frame| frame.event() == "gm.phase" && *frame.data() == 19).await;
        let events: Vec<_> = ann.frames().into_iter().filter(|frame| frame.seq().is_some()).collect();
        assert_eq!(events.len(), 20);
        assert!(events.windows(2).all(|pair| pair[1].prev() == pair[0].seq()));
        let notes: Vec<_> =
            ann.frames().iter().filter(|it| it.event() == "gm.note").map(|it| it.data().clone()).collect();
        assert_eq!(notes, (0..20).collect::<Vec<_>>());
        assert!(bob.frames().iter().all(|frame| frame.event() != "gm.note"), "nobody else's");

        for (headers, why) in [
            (&[("Herald-Topic", "_action")][..], "bad: Herald-Topic"),
            (&[("Herald-Close", "1006")], "bad: Herald-Close"),
            (&[("Herald-Close", "4000"), ("Herald-Reason", &"x".repeat(200))], "bad: Herald-Reason"),
        ] {
            let said = ear.say(&to_ann, headers, "{}").await;
            assert!(said.starts_with(why), "{said}");
        }
        let nobody = format!("{}{}", &to_ann[..to_ann.len() - 16], "a".repeat(16));
        assert_eq!(ear.say(&nobody, &[], "{}").await, "gone");

        // The last word and the end.
        let closing = [("Herald-Topic", "bye"), ("Herald-Close", "4321"), ("Herald-Reason", "go home: now")];
        assert_eq!(ear.say(&to_ann, &closing, "{\"last\":true}").await, "ok");
        let end = ann.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (4321, "go home: now"));
        assert_eq!(ann.frames().last().map(|frame| frame.event().to_owned()).as_deref(), Some("gm.bye"));
        assert_eq!(ear.text().await.0, "in.gm.s1.leave");
        assert_eq!(ear.say(&to_ann, &[], "{}").await, "gone");
        assert_eq!(ear.say(&to_bob, &[("Herald-Close", "1012")], "").await, "ok");
        assert_eq!(bob.wait_end(BOUND).await.code(), 1012);
        assert_eq!(edge.metric("herald_closed_connections_total", &["reason=\"told\""]).await, 2.0);
        assert!(edge.metric("herald_words_total", &["outcome=\"bad\""]).await >= 3.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_costs_an_engine_nothing_and_is_closed_all_the_same() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.join").await;
        let edge = door(&nats, &[("/ws/{sid}", "uplink = {}")]).set("words.queue", 8).set("socket.send_buffer", "4KiB");
        let edge = edge.start().await;
        let ann = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        let to_ann = ear.joined("s1").await;
        ann.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        ann.stall(true).await;
        let large = "x".repeat(30_000);
        eventually("it takes no more", BOUND, async || {
            let said = ear.say(&to_ann, &[], &large).await;
            if said == "busy" { Ok(()) } else { Err(said) }
        })
        .await;
        assert!(edge.metric("herald_words_refused_total", &["reason=\"full\""]).await >= 1.0);
        let too_large = "x".repeat(257 << 10);
        assert_eq!(ear.say(&to_ann, &[], &too_large).await, "bad: larger than words.queue_bytes", "for ever");
        assert!(edge.metric("herald_words_refused_total", &["reason=\"too_large\""]).await >= 1.0);
        assert!(edge.metric("herald_words_waiting_bytes", &[]).await > 0.0);
        // With a last word for which there is no room.
        let closing = [("Herald-Close", "1012"), ("Herald-Reason", "Superseded DM connection")];
        assert_eq!(ear.say(&to_ann, &closing, &large).await, "closed");
        eventually("it is gone", BOUND, async || {
            let said = ear.say(&to_ann, &[], "").await;
            if said == "gone" { Ok(()) } else { Err(said) }
        })
        .await;
        ann.stall(false).await;
        let end = ann.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (1012, "Superseded DM connection"));
        assert_eq!(edge.metric("herald_words_waiting_bytes", &[]).await, 0.0);
    })
    .await;
}
