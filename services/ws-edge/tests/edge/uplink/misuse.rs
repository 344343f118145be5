//! What clients and engines that mean ill, or know no better, do with the ways between them.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use herald_testkit::{Edge, Nats, eventually, nats_wire, users, within, ws};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{BOUND, Ear, MINUTE, door, is_told, join, token};
use crate::{
    attacks::unreadable::odd_ones,
    floods::{close_code, frame},
    limits::{ONE, ask, status, upgrade},
    support::Engine,
};

#[tokio::test(flavor = "multi_thread")]
async fn no_word_that_can_t_be_read_keeps_clients_from_being_heard() {
    within(3 * MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.*").await;
        let mut edge = door(&nats, &[("/ws/{sid}", "uplink = { messages = 50, burst = 50 }")]).start().await;
        let ann = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        let to_ann = ear.joined("s1").await;
        for (number, odd) in odd_ones(&to_ann).into_iter().enumerate() {
            nats_wire::send(&nats, users::OPERATOR, &odd).await;
            // What goes up while a client of NATS is replaced may be lost; the next does not have to be.
            let (said, heard) = (number.to_string(), &mut ear.heard);
            let mut last = None;
            while last.as_deref() != Some(said.as_bytes()) {
                ann.send_text(said.clone()).await;
                let next = timeout(Duration::from_millis(200), heard.next()).await;
                last = next.ok().flatten().map(|message| message.payload);
            }
        }
        edge.wait_ready(BOUND).await;
        eventually("engines are heard again", BOUND, async || {
            let answer = ear.client.request(to_ann.clone(), "{}".into()).await.map_err(|error| error.to_string())?;
            if &*answer.payload == b"ok" { Ok(()) } else { Err(format!("{:?}", answer.payload)) }
        })
        .await;
        ann.wait_for("the word", BOUND, |frame| frame.event() == "gm.message").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_in_one_write_are_heard_as_fast_as_they_may_be_and_closed_in_the_end() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.text").await;
        let slow = "uplink = { messages = 40, burst = 40, patience = \"5s\" }";
        let edge = door(&nats, &[("/ws/{sid}", slow)]).start().await;
        let (raw, head) = ask(&edge, ONE, &upgrade(&format!("/ws/s1?token={}", token("ann", "")))).await;
        assert_eq!(status(&head), 101, "{head}");
        let (mut reader, mut writer) = raw.into_inner().into_split();
        let begun = Instant::now();
        let writing = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let frames = frame(0x81, b"ping").repeat(1000);
            while writer.write_all(&frames).await.is_ok() {}
        });
        let hearing = tokio::spawn(async move {
            let mut count = 0_u32;
            while timeout(Duration::from_secs(5), ear.heard.next()).await.is_ok() {
                count += 1;
            }
            count
        });
        let mut read = Vec::new();
        let _ended = timeout(BOUND, tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut read)).await.unwrap();
        let took = begun.elapsed();
        writing.abort();
        assert_eq!(close_code(&read), 1008);
        assert!(took >= Duration::from_secs(5), "{took:?}");
        // All that time it was heard: what is read is looked at when its time has come.
        let (heard, seconds) = (hearing.await.unwrap(), took.as_secs_f64());
        assert!((200..=40 * (seconds as u32 + 2)).contains(&heard), "{heard} in {seconds} s");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_publishes_nothing_for_engines_but_answers() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.*").await;
        let edge = door(&nats, &[("/ws/{sid}", "uplink = {}")]).start().await;
        let ann = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        let to_ann = ear.joined("s1").await;
        for question in [to_ann.clone(), "edge.watching.s1".to_owned()] {
            ear.client.publish_with_reply(question, "in.gm.other.text", "{}".into()).await.unwrap();
        }
        ann.wait_for("the word", BOUND, |frame| frame.event() == "gm.message").await;
        // Behind both of them.
        assert_eq!(ear.say(&to_ann, &[], "{}").await, "ok");
        assert!(!ear.client.request("edge.watching.s1", "".into()).await.unwrap().payload.is_empty());
        ann.send_text("mine").await;
        assert_eq!(ear.text().await, ("in.gm.s1.text".to_owned(), "mine".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_no_engine_whether_or_not_anybody_asks_for_one() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.text").await;
        let open = "[[ws-edge.listeners]]\n[[ws-edge.listeners.routes]]\npath = \"/ws/{sid}\"\nroots = [\"gm\"]\nuplink = {}\n";
        let doors = [Edge::new(&nats).config(open), door(&nats, &[("/ws/{sid}", "uplink = {}")])];
        for door in doors {
            let edge = door.start().await;
            let ann = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
            ann.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
            for frame in [
                format!(r#"{{"event":"herald.token","data":{{"token":"{}"}}}}"#, token("ann", "")),
                r#"{"event":"herald.token","data":"a.b.c"}"#.to_owned(),
                r#"{"data":1,"event":"herald.\u0074oken","x":1}"#.to_owned(),
            ] {
                ann.send_text(frame).await;
            }
            ann.send_text("for the engine").await;
            assert_eq!(ear.text().await.1, "for the engine");
            assert!(edge.metric("herald_ignored_messages_total", &[]).await >= 2.0);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_and_not_heard_when_a_connection_ends_is_counted() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.*").await;
        let edge = door(&nats, &[("/ws/{sid}", "uplink = { messages = 5, burst = 5 }")]).start().await;
        let (mut raw, head) = ask(&edge, ONE, &upgrade(&format!("/ws/s1?token={}", token("ann", "")))).await;
        assert_eq!(status(&head), 101, "{head}");
        let to_ann = ear.joined("s1").await;
        raw.write([frame(0x81, b"x").repeat(50), frame(0x82, b"x").repeat(50)].concat()).await;
        assert_eq!(ear.text().await.0, "in.gm.s1.text");
        assert_eq!(ear.say(&to_ann, &[("Herald-Close", "4000")], "").await, "ok");
        let count = async |name: &str, kind: &str, more: &[&str]| {
            let kind = format!("kind=\"{kind}\"");
            let labels = [&[kind.as_str()], more].concat();
            edge.metric(name, &labels).await as u32
        };
        for kind in ["text", "binary"] {
            eventually("each of them is counted once", BOUND, async || {
                let heard = count("herald_uplink_messages_total", kind, &[]).await;
                let lost = count("herald_uplink_refused_total", kind, &["reason=\"closed\""]).await;
                if heard + lost == 50 { Ok(()) } else { Err((heard, lost)) }
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_and_bytes_have_limits_of_their_own() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.binary").await;
        let route = "uplink = { max_message = \"1KiB\", max_binary = \"8KiB\", bytes = \"10KiB\", burst = 20 }";
        let edge = door(&nats, &[("/ws/{sid}", route)]).start().await;
        let radio = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        let begun = Instant::now();
        // A second's worth of bytes at once, and then as fast as they may come.
        for _ in 0..3 {
            radio.send(Message::Binary(vec![7; 8 << 10].into())).await;
        }
        radio.wait_for("told", BOUND, |frame| is_told(frame, "slowed", "rate")).await;
        for _ in 0..3 {
            assert_eq!(ear.next().await.payload.len(), 8 << 10);
        }
        assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
        radio.send_text("x".repeat(1025)).await;
        assert_eq!(radio.wait_end(BOUND).await.code(), 1009);
        let radio = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        radio.send(Message::Binary(vec![7; (8 << 10) + 1].into())).await;
        assert_eq!(radio.wait_end(BOUND).await.code(), 1009);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_connection_is_told_to_no_client_and_stands_in_no_log() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.*").await;
        let routes = "uplink = {}\npresence = \"list\"\nnewest = { roles = [\"dm\"] }";
        let edge = door(&nats, &[("/ws/{sid}", routes), ("/sse/{sid}", &format!("{routes}\ntransport = \"sse\""))])
            .env("HERALD_LOG__FILTER", "trace,async_nats=info")
            .start()
            .await;
        let mut names = Vec::new();
        let mut sockets = Vec::new();
        for (user, role) in [("ann", "dm"), ("bob", ""), ("ann", "dm")] {
            sockets.push(join(&edge.ws("/ws/s1"), user, role, ws::V1).await);
            let to = loop {
                let message = ear.next().await;
                if message.subject.ends_with(".join") {
                    break message.reply.unwrap().to_string();
                }
            };
            names.push(to);
        }
        assert_eq!(sockets[0].wait_end(BOUND).await.code(), 4409, "superseded");
        sockets[1].send_text("said").await;
        assert_eq!(ear.say(&names[1], &[], "{}").await, "ok");
        engine.publish("gm.s1.phase", "{}").await;
        for socket in &sockets[1..] {
            socket.wait_for("the event", BOUND, |frame| frame.event() == "gm.phase").await;
        }
        let mut shown: Vec<String> = sockets.iter().flat_map(|it| it.frames()).map(|frame| frame.text).collect();
        let bearer = format!("Bearer {}", token("bob", ""));
        for path in ["/presence/s1", "/sse/s1?after=0", "/ws/s1", "/openapi.json", "/asyncapi.json", "/nothing"] {
            let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\n\r\n");
            let (mut raw, head) = ask(&edge, ONE, &head).await;
            shown.extend([
                head,
                String::from_utf8_lossy(&raw.read_until(b"never", Duration::from_millis(500)).await).into_owned(),
            ]);
        }
        assert!(shown.iter().any(|text| text.contains("\"persons\"")), "{shown:?}");
        shown.push(edge.log());
        for name in names.iter().filter_map(|name| name.rsplit('.').next()) {
            let told = shown.iter().find(|text| text.contains(name));
            assert_eq!(told, None, "{name}");
        }
    })
    .await;
}
