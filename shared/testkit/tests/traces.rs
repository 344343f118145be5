//! One event followed by its trace: from the Game Master's byte to the write to the socket, over two services and NATS.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use herald_testkit::{
    Bridge, Edge, Ingest, Nats, Service,
    collector::{Collector, Span},
    eventually,
    game_master::{Answer, PROPOSE, Scripted, sse as events},
    http,
    port::Reserved,
    sse, within, ws,
};
use hyper::Method;
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);
const SESSION: &str = "5e551040-0000-4000-8000-0000000000e6";
/// What a proxy in front may say.
const OUTSIDE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OUTSIDE_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A game whose services send their spans to that collector.
struct Game {
    edge: Service,
    bridge: Service,
    nats: Nats,
    _gm: Scripted,
}

impl Game {
    async fn start(endpoint: &str, ratio: f64, edge: impl FnOnce(Edge) -> Edge) -> Self {
        Self::start_with(endpoint, ratio, "20ms", edge).await
    }

    /// The edge keeps its spans for so long.
    async fn start_with(endpoint: &str, ratio: f64, interval: &str, edge: impl FnOnce(Edge) -> Edge) -> Self {
        let (nats, gm) = (Nats::start().await, Scripted::start().await);
        let said = [json!({"type": "phase"}), json!({"type": "proposal", "data": {}}), json!({"type": "result"})];
        gm.on(PROPOSE, [Answer::sse().send(events(said))]);
        let bridge = Bridge::new(&nats).gm(&gm.url());
        let bridge = bridge.set("traces.endpoint", endpoint).set("traces.ratio", ratio).set("traces.interval", "20ms");
        let door = Edge::new(&nats).set("traces.endpoint", endpoint).set("traces.ratio", ratio);
        let door = edge(door.set("traces.interval", interval));
        let (edge, bridge) = tokio::join!(door.start(), bridge.start());
        edge.get(&format!("/api/start?session_id={SESSION}")).await.expect_status(200);
        Self { edge, bridge, nats, _gm: gm }
    }

    /// Plays a propose with somebody there.
    async fn propose(&self, headers: &[(&str, &str)]) -> ws::Client {
        let socket = ws::Client::connect(&self.edge.ws(&format!("/ws/{SESSION}")), ws::V1).await;
        socket.wait_for("hello", SOON, |frame| frame.event() == "herald.hello").await;
        let url = self.edge.http(&format!("/api/propose?session_id={SESSION}"));
        http::send(Method::GET, &url, headers, "").await.expect_status(202);
        socket.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        socket
    }

    /// The traces that the stored events of that type name.
    async fn stored(&self, event: &str) -> Vec<Option<String>> {
        let stream = self.nats.jetstream().await.get_stream("EVENTS").await.expect("the stream");
        let mut found = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.expect("a message");
            if message.subject.as_str() == format!("gm.{SESSION}.{event}") {
                found.push(message.headers.get("traceparent").map(|value| value.as_str().to_owned()));
            }
        }
        found
    }
}

fn names(way: &[Span]) -> Vec<(&str, &str)> {
    way.iter().map(|span| (span.service.as_str(), span.name.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_followed_from_the_game_masters_byte_to_the_socket() {
    within(Duration::from_secs(90), async {
        let collector = Collector::start().await;
        let game = Game::start(&collector.url(), 1.0, |edge| edge).await;
        let socket = game.propose(&[("traceparent", OUTSIDE)]).await;
        let of_result = |span: &Span| span.name == "deliver" && span.said("herald.transport") == "socket";
        let subject = format!("gm.{SESSION}.result");
        let intake = |span: &Span| span.name == "intake" && span.said("messaging.destination.name") == subject;
        let intake = collector.wait_for("the intake", SOON, intake).await;
        let deliver = |span: &Span| of_result(span) && span.parent == intake.id;
        let deliver = collector.wait_for("the write", SOON, deliver).await;

        let way = collector.way_to(&deliver, SOON).await;
        assert_eq!(
            names(&way),
            [
                ("ws-edge", "deliver"),
                ("ws-edge", "intake"),
                ("gm-bridge", "publish"),
                ("gm-bridge", "gm.event"),
                ("gm-bridge", "action"),
                ("gm-bridge", "http.gm"),
                ("ws-edge", "forward"),
            ]
        );
        assert!(way.iter().all(|span| span.failure.is_none() && span.begun <= span.ended), "{way:#?}");
        assert!(
            way.windows(2).all(|pair| pair[1].begun <= pair[0].begun),
            "each begins within the one above: {way:#?}"
        );
        assert_eq!(deliver.said("herald.deliveries"), "1");
        assert_eq!((way[3].said("herald.event_type"), way[4].said("herald.session")), ("result", SESSION));
        assert_eq!((way[4].said("herald.command"), way[6].said("http.response.status_code")), ("propose", "202"));
        // What anybody says who is not trusted begins no trace of ours.
        assert!(way.iter().all(|span| span.trace != OUTSIDE_TRACE));

        // The request that brought them is one of its steps, and the log says to which trace an event belongs.
        let asked = |span: &Span| span.name == "gm.request" && span.parent == way[4].id;
        collector.wait_for("the request", SOON, asked).await;
        let context = format!("00-{}-{}-01", way[2].trace, way[2].id);
        assert_eq!(game.stored("result").await, [Some(context)]);
        let frames = format!("{:?}", socket.events());
        assert!(!frames.contains("traceparent") && !frames.contains(&way[0].trace), "nobody else is told");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_is_the_end_of_the_way_too() {
    within(Duration::from_secs(90), async {
        let collector = Collector::start().await;
        let game = Game::start(&collector.url(), 1.0, |edge| edge).await;
        let stream = sse::Client::connect(&game.edge.http(&format!("/sse/{SESSION}")), None).await;
        stream.wait_for("hello", SOON, |event| event.event == "herald.hello").await;
        game.edge.get(&format!("/api/propose?session_id={SESSION}")).await.expect_status(202);
        let handed_over = |span: &Span| span.name == "deliver" && span.said("herald.transport") == "sse";
        let deliver = collector.wait_for("the hand over", SOON, handed_over).await;
        assert_eq!(collector.way_to(&deliver, SOON).await.len(), 7);
        assert!(game.edge.metric("herald_delivery_seconds_count", &["transport=\"sse\""]).await >= 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_from_outside_is_continued_where_that_is_trusted() {
    within(Duration::from_secs(90), async {
        let collector = Collector::start().await;
        let believing = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\ntraceparent = true\n";
        // Nothing is begun here: it is recorded because the one in front wants it.
        let game = Game::start(&collector.url(), 0.0, |edge| edge.config(believing)).await;
        let _socket = game.propose(&[("traceparent", OUTSIDE)]).await;
        let deliver = collector.wait_for("the write", SOON, |span| span.name == "deliver").await;
        assert_eq!(deliver.trace, OUTSIDE_TRACE);
        let first = |span: &Span| span.name == "forward" && span.parent == "00f067aa0ba902b7";
        collector.wait_for("the forward", SOON, first).await;
        assert!(collector.spans().iter().all(|span| span.trace == OUTSIDE_TRACE), "{:#?}", collector.spans());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_traced_leaves_nothing_in_the_log() {
    within(Duration::from_secs(90), async {
        let collector = Collector::start().await;
        let game = Game::start(&collector.url(), 0.0, |edge| edge).await;
        let _socket = game.propose(&[("traceparent", OUTSIDE)]).await;
        assert_eq!(game.stored("result").await, [None]);
        let (mut edge, mut bridge) = (game.edge, game.bridge);
        assert!(edge.stop().await.success() && bridge.stop().await.success());
        assert!(collector.spans().is_empty(), "{:#?}", collector.spans());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_disturbs_nobody() {
    within(Duration::from_secs(90), async {
        // Nobody listens there.
        let nowhere = Reserved::take();
        let url = format!("http://{}", nowhere.address());
        let game = Game::start(&url, 1.0, |edge| edge.set("traces.queue", 2).set("traces.batch", 1)).await;
        let socket = game.propose(&[]).await;
        assert_eq!(socket.events().iter().filter(|frame| frame.event().starts_with("gm.")).count(), 3);
        eventually("spans are dropped", SOON, async || {
            let dropped = game.edge.metric("herald_spans_dropped_total", &["queue_full"]).await;
            if dropped > 0.0 { Ok(()) } else { Err(dropped) }
        })
        .await;
        let (mut edge, mut bridge) = (game.edge, game.bridge);
        assert!(edge.stop().await.success() && bridge.stop().await.success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_leave_with_the_process() {
    within(Duration::from_secs(90), async {
        let collector = Collector::start().await;
        let game = Game::start_with(&collector.url(), 1.0, "1h", |edge| edge).await;
        let _socket = game.propose(&[]).await;
        assert!(collector.spans().iter().all(|span| span.service != "ws-edge"));
        let mut edge = game.edge;
        assert!(edge.stop().await.success());
        collector.wait_for("the write", SOON, |span| span.name == "deliver").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_by_http_is_followed_to_the_socket() {
    const DOOR: &str = r#"
        [[ws-edge.listeners]]
        name = "app"
        [[ws-edge.listeners.routes]]
        path = "/ws/{sid}"
        stream = "APP"
        roots = ["app"]
        [[ws-edge.listeners.forwards]]
        name = "ingest"
        service = "ingest"
        paths = ["/sessions/*"]
    "#;
    within(Duration::from_secs(90), async {
        let (nats, collector) = (Nats::start().await, Collector::start().await);
        let ingest = Ingest::new(&nats).set("traces.endpoint", collector.url()).set("traces.interval", "20ms");
        let _ingest = ingest.start().await;
        let edge = Edge::new(&nats).config(DOOR).set("traces.endpoint", collector.url());
        let edge = edge.set("traces.ratio", 1).set("traces.interval", "20ms").start().await;
        let socket = ws::Client::connect(&edge.ws("/ws/table-1"), ws::V1).await;
        socket.wait_for("hello", SOON, |frame| frame.event() == "herald.hello").await;
        let event = json!({"topic": "chat", "data": 1});
        edge.post("/sessions/table-1/events", &event).await.expect_status(201);
        socket.wait_for("the event", SOON, |frame| frame.event() == "app.chat").await;
        let deliver = collector.wait_for("the write", SOON, |span| span.name == "deliver").await;
        let way = collector.way_to(&deliver, SOON).await;
        assert_eq!(
            names(&way),
            [
                ("ws-edge", "deliver"),
                ("ws-edge", "intake"),
                ("ingest", "publish"),
                ("ingest", "http.ingest"),
                ("ws-edge", "forward"),
            ]
        );
    })
    .await;
}
