//! Floods: of connections that say nothing, of clients that come back all at once, of what clients send.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{future::join_all, stream, stream::StreamExt as _};
use herald_testkit::{
    Edge, Nats, Service, eventually,
    http::{Raw, send},
    within, ws,
};
use hyper::Method;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use crate::{
    limits::{BOUND, ONE, ask, retry_after, status, upgrade},
    support::Engine,
};

const MINUTES: Duration = Duration::from_secs(120);

pub(crate) async fn refused(edge: &Service, reason: &str) -> f64 {
    edge.metric("herald_connections_refused_total", &[&format!("reason=\"{reason}\"")]).await
}

/// Connections that begin a request and never end it.
async fn half_open(edge: &Service, count: usize) -> Vec<Raw> {
    let address = edge.address();
    let open = move |_| async move {
        let mut raw = Raw::connect(address).await;
        raw.write("GET /ws/S HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
        raw
    };
    stream::iter(0..count).map(open).buffer_unordered(64).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_half_open_handshakes_keep_nobody_out() {
    const SILENT: usize = 4000;
    within(MINUTES, async {
        // Who is served is opening no longer: one gives way for all that follow. Where it is places that are scarce, one for each.
        for (what, max_connections, gone) in
            [("too many are opening", 25_000, 1.0), ("all places are taken", 400, 100.0)]
        {
            let nats = Nats::start().await;
            let engine = Engine::start(&nats).await;
            let edge = Edge::new(&nats)
                .set("limits.max_opening", 400)
                .set("limits.opening_grace", "300ms")
                .set("http.max_connections", max_connections)
                .start()
                .await;
            let before = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
            let silent = half_open(&edge, SILENT).await;
            // Of those that came together only so many were let in; they are as far as anybody knows honest for a moment.
            eventually("the edge has seen them all", BOUND, async || {
                let turned_away = edge.metric("herald_connections_refused_total", &[]).await as usize;
                if turned_away + 400 >= SILENT { Ok(()) } else { Err(turned_away) }
            })
            .await;
            eventually("the first of them had their time", BOUND, async || {
                let (_raw, head) = ask(&edge, ONE, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
                if status(&head) == 200 { Ok(()) } else { Err(head) }
            })
            .await;
            // They stay, and all the same whoever comes is served, at once.
            let mut held = Vec::new();
            for _ in 0..100 {
                let begun = Instant::now();
                let (raw, head) = ask(&edge, ONE, &upgrade("/ws/S")).await;
                assert_eq!(status(&head), 101, "{what}: {head}");
                held.push(raw);
                assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
            }
            let client = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
            engine.publish("gm.S.phase", "1").await;
            before.wait_events(1, BOUND).await;
            client.wait_events(1, BOUND).await;
            assert!(refused(&edge, "half_open").await >= gone, "{what}");
            drop((silent, held));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attack_of_half_open_handshakes_that_goes_on_costs_others_little() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Arc::new(
            Edge::new(&nats).set("limits.max_opening", 1000).set("limits.opening_grace", "500ms").start().await,
        );
        let opened = Arc::new(AtomicUsize::new(0));
        // Some hundred a second, each held as long as the edge lets it.
        let attack = {
            let (edge, opened) = (edge.clone(), opened.clone());
            tokio::spawn(async move {
                let mut held = std::collections::VecDeque::new();
                loop {
                    held.extend(half_open(&edge, 64).await);
                    opened.fetch_add(64, Ordering::Relaxed);
                    // Descriptors are ours to save, too.
                    while held.len() > 3000 {
                        held.pop_front();
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
        };
        eventually("the edge is full of them", BOUND, async || {
            let gone = refused(&edge, "half_open").await;
            if gone > 100.0 { Ok(()) } else { Err((gone, opened.load(Ordering::Relaxed))) }
        })
        .await;
        let (mut served, mut tries) = (0, 0);
        while served < 50 {
            tries += 1;
            let (_raw, head) = ask(&edge, ONE, &upgrade("/ws/S")).await;
            match status(&head) {
                101 => served += 1,
                // All that are opening are young: the machine may be overrun, as far as the edge knows.
                503 => assert!(retry_after(&head).is_some(), "{head}"),
                other => panic!("{other}: {head}"),
            }
        }
        attack.abort();
        assert!(tries < 100, "{tries} tries for 50 sockets, {} half-open handshakes", opened.load(Ordering::Relaxed));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_reconnects_is_shed_and_all_come_back() {
    within(MINUTES, async {
        const CLIENTS: usize = 200;
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Arc::new(Edge::new(&nats).set("limits.handshakes", 60).start().await);
        let calm = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let client = |edge: Arc<Service>| async move {
            let mut sheds = 0;
            loop {
                let (raw, head) = ask(&edge, ONE, &upgrade("/ws/S")).await;
                match status(&head) {
                    101 => return (sheds, raw),
                    503 => {
                        let wait = retry_after(&head).unwrap();
                        assert!((1..=5).contains(&wait), "{head}");
                        sheds += 1;
                        tokio::time::sleep(Duration::from_secs(wait)).await;
                    }
                    other => panic!("{other}: {head}"),
                }
            }
        };
        let all = join_all((0..CLIENTS).map(|_| tokio::spawn(client(edge.clone()))));
        let watch = async {
            for number in 0..20 {
                let begun = Instant::now();
                engine.publish("gm.S.phase", number.to_string()).await;
                calm.wait_events(number + 1, BOUND).await;
                assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (all, ()) = tokio::join!(all, watch);
        let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        let sheds: usize = all.iter().map(|(sheds, _)| sheds).sum();
        assert!(sheds >= CLIENTS - 60 - 60, "{sheds}");
        assert_eq!(refused(&edge, "handshakes").await, sheds as f64);
        assert_eq!(edge.metric("herald_watching_connections_count", &[]).await, CLIENTS as f64 + 1.0);
    })
    .await;
}

/// A client's frame, masked with zeros.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

pub(crate) async fn socket(edge: &Service) -> Raw {
    let (raw, head) = ask(edge, ONE, &upgrade("/ws/S")).await;
    assert_eq!(status(&head), 101, "{head}");
    raw
}

/// Waits until that comes.
pub(crate) async fn heard(raw: &mut Raw, what: &[u8]) {
    let heard = raw.read_until(what, BOUND).await;
    assert!(heard.ends_with(what), "{:?}", String::from_utf8_lossy(&heard));
}

/// Writes the same again and again, as fast as it is taken, until the other side ends it; the close code that came.
async fn flood(edge: &Service, frames: Vec<u8>) -> u16 {
    let (mut reader, mut writer) = socket(edge).await.into_inner().into_split();
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        while writer.write_all(&frames).await.is_ok() {}
    });
    let mut read = Vec::new();
    let _ended = timeout(BOUND, reader.read_to_end(&mut read)).await.unwrap();
    writing.abort();
    close_code(&read)
}

/// The code of the close frame among pongs and pings.
pub(crate) fn close_code(mut bytes: &[u8]) -> u16 {
    while let [first, len, rest @ ..] = bytes {
        if *first == 0x88 {
            return u16::from_be_bytes([rest[0], rest[1]]);
        }
        bytes = &rest[usize::from(*len)..];
    }
    0
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_is_read_more_slowly_and_closed_if_it_never_rests() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("limits.inbound_frames", 20).set("limits.inbound_patience", "5s").start().await;
        // Three seconds' worth at once: two of them it has to wait, and nothing else.
        let mut eager = socket(&edge).await;
        let begun = Instant::now();
        eager.write([frame(0x81, &[7; 200]).repeat(60), frame(0x89, b"last")].concat()).await;
        heard(&mut eager, b"\x8A\x04last").await;
        assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
        assert!(edge.metric("herald_inbound_slowed_total", &[]).await >= 1.0);

        let calm = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let watch = async {
            for number in 0..40 {
                let begun = Instant::now();
                engine.publish("gm.S.phase", number.to_string()).await;
                calm.wait_events(number + 1, BOUND).await;
                assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let floods = [
            ("small frames", frame(0x81, b"x").repeat(100)),
            ("pings", frame(0x89, b"").repeat(100)),
            ("large frames", frame(0x82, &[7; 60_000])),
            // More than is read in all the time there is.
            ("a message that never ends", [frame(0x01, b""), frame(0x00, b"").repeat(200_000)].concat()),
        ];
        let all = floods.into_iter().map(|(what, frames)| {
            let edge = &edge;
            async move { (what, flood(edge, frames).await) }
        });
        let (codes, ()) = tokio::join!(join_all(all), watch);
        for (what, code) in codes {
            assert_eq!(code, 1008, "{what}");
        }
        assert_eq!(edge.metric("herald_closed_connections_total", &["reason=\"policy\""]).await, 4.0);
        // Who was only eager is still there.
        eager.write(frame(0x89, b"still")).await;
        heard(&mut eager, b"\x8A\x05still").await;
        assert_eq!(calm.ended(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_messages_are_refused_however_they_are_cut() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.max_message", "8KiB").start().await;
        let calm = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let giant = [&[0x82, 0xFF][..], &(1_u64 << 62).to_be_bytes(), &[0; 4]].concat();
        let fragmented = [frame(0x02, &[7; 8000]), frame(0x00, &[7; 193])].concat();
        let many = [frame(0x02, &[7; 100]), frame(0x00, &[7; 100]).repeat(40), frame(0x00, &[7; 5000])].concat();
        for (what, bytes) in [("declared", giant), ("in two", fragmented), ("in many", many)] {
            let mut raw = socket(&edge).await;
            raw.write(bytes).await;
            assert_eq!(close_code(&raw.read_to_end(BOUND).await), 1009, "{what}");
        }
        // Just as large as it may be, in fragments, is fine.
        let mut polite = socket(&edge).await;
        polite.write([frame(0x02, &[7; 8000]), frame(0x80, &[7; 192]), frame(0x89, b"ok")].concat()).await;
        heard(&mut polite, b"\x8A\x02ok").await;
        engine.publish("gm.S.phase", "1").await;
        calm.wait_events(1, BOUND).await;
        assert_eq!(edge.metric("herald_closed_connections_total", &["reason=\"too_large\""]).await, 3.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_malformed_or_slow_are_counted() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("http.header_timeout", "2s").set("http.max_header", "8KiB").start().await;
        let mut slow = Raw::connect(edge.address()).await;
        slow.write("GET /health HTTP/1.1\r\n").await;
        let url = edge.http("/health");
        let long = "x".repeat(9000);
        send(Method::GET, &url, &[("x-long", &long)], "").await.expect_status(431);
        let mut broken = TcpStream::connect(edge.address()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut broken, b"nonsense\r\n\r\n").await.unwrap();
        slow.read_to_end(BOUND).await;
        for reason in ["head_too_large", "head_malformed", "head_slow"] {
            eventually(reason, BOUND, async || {
                let label = format!("reason=\"{reason}\"");
                let counted = edge.metric("herald_requests_refused_total", &[&label]).await;
                if counted == 1.0 { Ok(()) } else { Err(counted) }
            })
            .await;
        }
        edge.get("/health").await.expect_status(200);
    })
    .await;
}
