//! What clients send up, and that they come and go.

use herald_protocol::UserToken;
use herald_testkit::{eventually, sse, within, ws};
use tokio_tungstenite::tungstenite::Message;

use super::{BOUND, Ear, MINUTE, door, header, is_told, join, token};
use crate::support::Engine;

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_hears_what_clients_send_and_who_they_are() {
    within(MINUTE, async {
        let nats = herald_testkit::Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.>").await;
        let mut edge =
            door(&nats, &[("/ws/{sid}", "uplink = {}\ndoor = \"table\""), ("/plain/{sid}", "")]).start().await;
        let bearer = format!("Bearer {}", token("Zoë", "dm"));
        // What a client says of itself is no header of ours.
        let headers = [("authorization", bearer.as_str()), ("herald-user", "bob"), ("herald-role", "operator")];
        let options = ws::Options { protocols: ws::V1, headers: &headers, ..ws::Options::default() };
        let zoe = ws::Client::open(&edge.ws("/ws/s1"), options).await.unwrap();
        let joined = ear.next().await;
        assert_eq!((joined.subject.as_str(), joined.payload.len()), ("in.gm.s1.join", 0));
        let conn = header(&joined, "Herald-Conn").unwrap().to_owned();
        assert_eq!((conn.len(), conn.bytes().all(|byte| byte.is_ascii_alphanumeric())), (16, true));

        zoe.send_text("{\"type\":\"roll\"}").await;
        zoe.send(Message::Binary(vec![0, 255, 1].into())).await;
        zoe.send_text("").await;
        let expected: [(&str, &[u8]); 3] =
            [("in.gm.s1.text", b"{\"type\":\"roll\"}"), ("in.gm.s1.binary", &[0, 255, 1]), ("in.gm.s1.text", b"")];
        for (subject, payload) in expected {
            let message = ear.next().await;
            assert_eq!((message.subject.as_str(), &message.payload[..]), (subject, payload));
            let edge_name = header(&message, "Herald-Edge").unwrap();
            assert_eq!(header(&message, "Herald-Conn"), Some(conn.as_str()));
            assert_eq!(header(&message, "Herald-User"), Some("Zoë"));
            assert_eq!(header(&message, "Herald-User-Token"), Some(UserToken::of("Zoë").as_str()));
            assert_eq!((header(&message, "Herald-Role"), header(&message, "Herald-Door")), (Some("dm"), Some("table")));
            assert_eq!(message.reply.as_deref(), Some(format!("conn.{edge_name}.{conn}").as_str()));
        }
        zoe.close().await;
        let left = ear.next().await;
        assert_eq!((left.subject.as_str(), left.reply.is_some()), ("in.gm.s1.leave", false));
        assert_eq!((header(&left, "Herald-Conn"), header(&left, "Herald-User")), (Some(conn.as_str()), Some("Zoë")));

        // A client in pieces is one message; one that dies has left; one on a route without is not heard at all.
        let deaf = join(&edge.ws("/plain/s1"), "eve", "", ws::V1).await;
        deaf.send_text("nobody hears this").await;
        let bob = join(&edge.ws("/ws/s2"), "bob", "", ws::PLAIN).await;
        let joined = ear.next().await;
        assert_eq!((joined.subject.as_str(), header(&joined, "Herald-Role")), ("in.gm.s2.join", None));
        bob.send_text("x".repeat(16 << 10)).await;
        assert_eq!(ear.text().await.1.len(), 16 << 10);
        bob.cut().await;
        assert_eq!(ear.text().await.0, "in.gm.s2.leave");
        eventually("it is ignored", BOUND, async || {
            let ignored = edge.metric("herald_ignored_messages_total", &[]).await;
            if ignored == 1.0 { Ok(()) } else { Err(ignored) }
        })
        .await;
        assert_eq!(edge.metric("herald_uplink_messages_total", &["kind=\"text\""]).await, 3.0);

        // Who is there when the edge is stopped has left; whoever is told.
        let stays = join(&edge.ws("/ws/s3"), "ann", "", ws::V1).await;
        assert_eq!(ear.text().await.0, "in.gm.s3.join");
        edge.process().terminate(BOUND).await;
        assert_eq!(ear.text().await.0, "in.gm.s3.leave");
        assert_eq!(stays.wait_end(BOUND).await.code(), 1012);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_joins_and_leaves_and_an_alias_that_moves_does_both() {
    within(MINUTE, async {
        let nats = herald_testkit::Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.>").await;
        let uplink = "uplink = { root = \"arena\" }";
        let alias = format!("{uplink}\nalias = \"ALIASES\"");
        let sse_route = format!("{uplink}\ntransport = \"sse\"");
        let edge = door(&nats, &[("/sse/{sid}", &sse_route), ("/alias/{sid}", &alias)]).start().await;
        let url = edge.http(&format!("/sse/s1?token={}", token("ann", "")));
        let stream = sse::Client::connect(&url, None).await;
        let joined = ear.next().await;
        assert_eq!(joined.subject.as_str(), "in.arena.s1.join");
        // It can be answered, too.
        let to_ann = joined.reply.unwrap();
        assert_eq!(ear.say(&to_ann, &[("Herald-Topic", "welcome")], "1").await, "ok");
        let word = stream.wait_for("a word", BOUND, |event| event.data.contains("welcome")).await;
        assert_eq!(word.data, r#"{"event":"arena.welcome","data":1}"#, "by the root it is heard by");
        let closing = [("Herald-Close", "4000"), ("Herald-Reason", "enough")];
        assert_eq!(ear.say(&to_ann, &closing, "").await, "ok");
        let closed = stream.wait_for("the end", BOUND, |event| event.event == "herald.closed").await;
        assert_eq!(closed.data, r#"{"code":4000,"reason":"enough"}"#);
        stream.wait_end(BOUND).await;
        assert_eq!(ear.text().await.0, "in.arena.s1.leave");
        let stream = sse::Client::connect(&url, None).await;
        assert_eq!(ear.text().await.0, "in.arena.s1.join");
        drop(stream);
        assert_eq!(ear.text().await.0, "in.arena.s1.leave");

        let socket = join(&edge.ws("/alias/g"), "ann", "", ws::V1).await;
        socket.send_text("to nobody").await;
        socket.wait_for("told", BOUND, |frame| is_told(frame, "refused", "no_session")).await;
        engine.alias("g", "t1", 0).await;
        assert_eq!(ear.text().await.0, "in.arena.t1.join");
        socket.send_text("one").await;
        assert_eq!(ear.text().await, ("in.arena.t1.text".to_owned(), "one".to_owned()));
        engine.alias("g", "t2", 0).await;
        assert_eq!(ear.text().await.0, "in.arena.t1.leave");
        assert_eq!(ear.text().await.0, "in.arena.t2.join");
        socket.send_text("two").await;
        assert_eq!(ear.text().await, ("in.arena.t2.text".to_owned(), "two".to_owned()));
        drop(socket);
        assert_eq!(ear.text().await.0, "in.arena.t2.leave");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_is_told_and_slowed_and_closed_in_the_end() {
    within(MINUTE, async {
        let nats = herald_testkit::Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.text").await;
        let slow = "uplink = { messages = 10, burst = 5, patience = \"1s\", max_message = \"1KiB\", binary = false }";
        let edge = door(&nats, &[("/ws/{sid}", slow)]).start().await;
        let other = join(&edge.ws("/ws/other"), "bob", "", ws::V1).await;
        let flood = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        let begun = std::time::Instant::now();
        // All of them in few reads: no more than are allowed go on.
        for number in 0..100 {
            flood.send_text(number.to_string()).await;
        }
        flood.wait_for("told", BOUND, |frame| is_told(frame, "slowed", "rate")).await;
        for number in 0..10 {
            assert_eq!(ear.text().await, ("in.gm.s1.text".to_owned(), number.to_string()));
        }
        assert!(begun.elapsed().as_millis() >= 350, "5 at once, then 10 a second: {:?}", begun.elapsed());
        // Others are heard meanwhile, and are shown what happens.
        other.send_text("me too").await;
        loop {
            let (subject, text) = ear.text().await;
            if subject == "in.gm.other.text" {
                assert_eq!(text, "me too");
                break;
            }
        }
        engine.publish("gm.other.phase", "{}").await;
        other.wait_events(1, BOUND).await;
        let end = flood.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (1008, "too many messages"));
        assert_eq!(edge.metric("herald_uplink_slowed_total", &[]).await, 1.0);

        // Who sends as much as it may is none of that.
        let fair = join(&edge.ws("/ws/fair"), "cat", "", ws::V1).await;
        for number in 0..5 {
            fair.send_text(number.to_string()).await;
        }
        let mut heard = Vec::new();
        while heard.len() < 5 {
            let (subject, text) = ear.text().await;
            heard.extend((subject == "in.gm.fair.text").then_some(text));
        }
        assert_eq!(heard, ["0", "1", "2", "3", "4"]);
        fair.send_text("x".repeat(1025)).await;
        assert_eq!(fair.wait_end(BOUND).await.code(), 1009);
        let binary = join(&edge.ws("/ws/fair"), "cat", "", ws::V1).await;
        binary.send(Message::Binary(vec![1].into())).await;
        let end = binary.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (1003, "only text is taken here"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_hears_or_nats_is_away_a_client_is_told_so() {
    within(MINUTE, async {
        let mut nats = herald_testkit::Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = door(&nats, &[("/ws/{sid}", "uplink = {}")]).start().await;
        let ann = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        let plain = join(&edge.ws("/ws/s1"), "bob", "", ws::PLAIN).await;
        ann.send_text("hello?").await;
        plain.send_text("hello?").await;
        ann.wait_for("nobody", BOUND, |frame| is_told(frame, "refused", "nobody")).await;
        assert!(edge.metric("herald_uplink_refused_total", &["kind=\"text\"", "reason=\"nobody\""]).await >= 1.0);
        assert!(edge.metric("herald_uplink_refused_total", &["kind=\"join\"", "reason=\"nobody\""]).await >= 1.0);

        nats.stop().await;
        eventually("it is told that NATS is away", BOUND, async || {
            ann.send_text("hello?").await;
            let told = ann.frames().iter().any(|frame| is_told(frame, "refused", "away"));
            if told { Ok(()) } else { Err(ann.frames().len()) }
        })
        .await;
        let gone = join(&edge.ws("/ws/s1?after=0"), "cat", "", ws::V1).await;
        drop(gone);
        nats.resume().await;
        let mut ear = Ear::on(&nats, "in.gm.s1.text").await;
        eventually("it is heard again", BOUND, async || {
            ann.send_text("back").await;
            let heard = tokio::time::timeout(std::time::Duration::from_millis(300), ear.next()).await;
            if heard.is_ok() { Ok(()) } else { Err(ann.frames().len()) }
        })
        .await;
        engine.publish("gm.s1.phase", "{}").await;
        ann.wait_events(1, BOUND).await;
        let frames = plain.wait_events(1, BOUND).await;
        assert!(frames.iter().all(|frame| frame.event() == "gm.phase"), "who knows no such frames gets none");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_says_no_leave_and_another_one_has_its_client() {
    within(MINUTE, async {
        let nats = herald_testkit::Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.s1.>").await;
        let start = async || door(&nats, &[("/ws/{sid}", "uplink = {}")]).start().await;
        let (mut first, second) = (start().await, start().await);
        let ann = join(&first.ws("/ws/s1"), "ann", "", ws::V1).await;
        let old = ear.joined("s1").await;
        first.process().kill().await;
        assert_eq!(ann.wait_end(BOUND).await.code(), 1006);
        let again = join(&second.ws("/ws/s1"), "ann", "", ws::V1).await;
        let new = ear.joined("s1").await;
        assert_ne!(old, new);
        // Of the one that is gone NATS says so itself.
        let gone = ear.client.request(old, "1".into()).await.unwrap_err();
        assert_eq!(gone.kind(), async_nats::RequestErrorKind::NoResponders);
        assert_eq!(ear.say(&new, &[], "1").await, "ok");
        again.wait_for("a word", BOUND, |frame| frame.event() == "gm.message").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_token_goes_to_the_door_and_not_to_the_engine() {
    within(MINUTE, async {
        let nats = herald_testkit::Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.text").await;
        let edge = door(&nats, &[("/ws/{sid}", "uplink = { max_message = \"100B\" }")]).start().await;
        let ann = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        // Longer than what may go up.
        let fresh = serde_json::json!({"event": "herald.token", "data": {"token": token("ann", "")}}).to_string();
        assert!(fresh.len() > 100);
        ann.send_text(fresh).await;
        ann.send_text("hello").await;
        assert_eq!(ear.text().await.1, "hello");
        ann.send_text("x".repeat(101)).await;
        assert_eq!(ann.wait_end(BOUND).await.code(), 1009);
    })
    .await;
}
