//! What an operator sees of a running edge: sessions, connections with their lag and the reason of their beginning, and the tail of
//! a session; and that nobody sees it whom it is not for.

use std::time::Duration;

use herald_testkit::{Edge, Nats, Service, eventually, http, sse, within, ws};
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    forge::{SECRET, claims, hs256, with},
    support::Engine,
};

const MINUTE: Duration = Duration::from_secs(90);
const BOUND: Duration = Duration::from_secs(30);

fn url(edge: &Service, path: &str) -> String {
    format!("http://{}/inspect{path}", edge.operations())
}

async fn shown(edge: &Service, path: &str) -> Value {
    http::get(&url(edge, path)).await.expect_status(200).json()
}

/// What is shown there, once `is` holds.
async fn shown_once(edge: &Service, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(path, BOUND, async || {
        let shown = shown(edge, path).await;
        if is(&shown) { Ok(shown) } else { Err(shown) }
    })
    .await
}

/// What is said of the one connection of a session, once it is up to date.
async fn only(edge: &Service, session: &str) -> Value {
    let path = format!("/connections?session={session}");
    let is = |shown: &Value| {
        shown["connections"].as_array().is_some_and(|all| all.len() == 1 && all[0]["doing"] == "listens")
    };
    shown_once(edge, &path, is).await["connections"][0].take()
}

fn conns(page: &Value) -> Vec<String> {
    page["connections"].as_array().unwrap().iter().map(|it| it["conn"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_says_why_it_began_where_it_did() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut seqs = Vec::new();
        for n in 0..20 {
            seqs.push(engine.publish("gm.S.phase", json!({ "n": n }).to_string()).await);
        }
        let edge = Edge::new(&nats).set("ring.frames", 4).start().await;
        let last = *seqs.last().unwrap();

        // Each alone in the session, so that there is no doubt which is meant.
        let live = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        live.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        let cursor = live.cursor().unwrap();
        let epoch = cursor.split('-').next().unwrap().to_owned();
        let seen = only(&edge, "S").await;
        assert_eq!((&seen["last_resume"]["asked"], &seen["last_resume"]["got"]), (&"live".into(), &"live".into()));
        assert_eq!(seen["cursor"], format!("{epoch}-{last}"));
        assert_eq!((&seen["transport"], &seen["view"]["encoding"]), (&"socket".into(), &"herald.v1".into()));
        let seq = engine.publish("gm.S.phase", "{}").await;
        live.wait_for("the next", BOUND, |frame| frame.seq() == Some(seq)).await;
        let path = format!("/connections/{}", seen["conn"].as_str().unwrap());
        let now = shown(&edge, &path).await;
        assert_eq!(
            (&now["cursor"], &now["lag"]["frames"]),
            (&format!("{epoch}-{seq}").into(), &0.into()),
            "without its task"
        );
        live.close().await;
        assert_eq!(http::get(&url(&edge, &path)).await.status, 404);

        for (query, got, part) in [
            (format!("?after={epoch}-{seq}"), "ring", format!("{epoch}-{seq}")),
            (format!("?after={}", seqs[2]), "history", format!("place {}", seqs[2])),
            ("?after=0".to_owned(), "replay", "all that is kept".to_owned()),
            ("?snapshot=1".to_owned(), "snapshot", "state".to_owned()),
            ("?after=00000001-3".to_owned(), "gap", format!("another life of the log than {epoch}")),
            (format!("?after={epoch}-999999"), "gap", "beyond the end".to_owned()),
        ] {
            let client = sse::Client::connect(&edge.http(&format!("/sse/S{query}")), None).await;
            let seen = only(&edge, "S").await;
            let resume = &seen["last_resume"];
            assert_eq!(resume["got"], got, "{query}: {resume}");
            assert!(resume["why"].as_str().unwrap().contains(&part), "{query}: {resume}");
            assert_eq!(resume["gap"].is_null(), got != "gap", "{query}: {resume}");
            assert_eq!(seen["transport"], "sse");
            drop(client);
            shown_once(&edge, "/connections?session=S", |shown| shown["connections"] == json!([])).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_is_shown_first_and_by_how_much() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.send_buffer", "16KiB").start().await;
        let url = edge.ws("/ws/S?after=0");
        let slow = ws::Client::connect(&url, ws::V1).await;
        let fast = ws::Client::connect(&url, ws::V1).await;
        for client in [&slow, &fast] {
            client.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        }
        slow.stall(true).await;
        let large = json!({ "pad": "x".repeat(100_000) }).to_string();
        let mut last = 0;
        for _ in 0..60 {
            last = engine.publish("gm.S.llm_text", large.clone()).await;
        }
        fast.wait_for("the last", BOUND, |frame| frame.seq() == Some(last)).await;
        let blocked = |shown: &Value| shown["connections"][0]["doing"] == "blocked";
        let seen = shown_once(&edge, "/connections?by=lag&limit=1", blocked).await;
        let worst = &seen["connections"][0];
        assert_eq!(seen["connections"].as_array().unwrap().len(), 1);
        let lag = |of: &Value| (of["lag"]["frames"].as_u64().unwrap(), of["lag"]["bytes"].as_u64().unwrap());
        let (frames, bytes) = lag(worst);
        assert!((5..=60).contains(&frames) && bytes >= frames * 100_000, "{worst}");
        let of_session = shown(&edge, "/sessions/S").await;
        let furthest = of_session["furthest_behind"].as_array().unwrap();
        assert_eq!((furthest.len(), &furthest[0]["conn"]), (2, &worst["conn"]));
        assert_eq!((lag(&furthest[1]), &furthest[1]["doing"]), ((0, 0), &"listens".into()));
        let session = &of_session["sessions"][0];
        assert_eq!((&session["viewers"], &session["over"], &session["root"]), (&2.into(), &false.into(), &"gm".into()));
        let ring = &session["rings"][0];
        assert_eq!((&ring["readers"], &ring["last"], &ring["taken"]["frames"]), (&2.into(), &last.into(), &60.into()));
        assert!(ring["held"]["bytes"].as_u64().unwrap() <= 1 << 20 && ring["idle_s"].is_null(), "{ring}");
        let stream = &shown(&edge, "/streams").await["streams"][0];
        assert_eq!(
            (&stream["stream"], &stream["seq"], &stream["serving"]),
            (&"EVENTS".into(), &last.into(), &true.into())
        );

        slow.stall(false).await;
        slow.wait_for("the last", BOUND, |frame| frame.seq() == Some(last)).await;
        let caught_up = |shown: &Value| shown["connections"][0]["lag"]["bytes"] == 0;
        shown_once(&edge, "/connections?by=lag&limit=1", caught_up).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_shown_in_pages_and_what_makes_no_sense_is_refused() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let jwt = format!("[ws-edge.jwt]\nsecret = \"{SECRET}\"\nquery = true\n");
        let listener = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\n";
        let edge = Edge::new(&nats).config(jwt + listener).start().await;
        let mut clients = Vec::new();
        for n in 0..7 {
            let token = hs256(&with(claims(&format!("user-{}", n % 3), &["*"]), "role", "player"));
            let path = format!("/ws/s{}?token={token}", n % 5);
            clients.push(ws::Client::connect(&edge.ws(&path), ws::V1).await);
        }
        let all = shown_once(&edge, "/connections", |shown| conns(shown).len() == 7).await;
        let all_conns = conns(&all);
        assert!(all_conns.is_sorted() && all["next"].is_null());
        let mut paged = Vec::new();
        let mut path = "/connections?limit=3".to_owned();
        loop {
            let page = shown(&edge, &path).await;
            paged.extend(conns(&page));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/connections?limit=3&after={next}");
        }
        assert_eq!(paged, all_conns);
        let of_user = shown(&edge, "/connections?user=user-1").await;
        assert_eq!(conns(&of_user).len(), 2);
        assert_eq!(
            (&of_user["connections"][0]["user"], &of_user["connections"][0]["role"]),
            (&"user-1".into(), &"player".into())
        );
        assert_eq!(conns(&shown(&edge, "/connections?user=user-1&session=s1").await).len(), 1);

        let first = shown(&edge, "/sessions?limit=3").await;
        let second = shown(&edge, &format!("/sessions?limit=3&after={}", first["next"].as_str().unwrap())).await;
        let sessions = [&first, &second].into_iter().flat_map(|page| page["sessions"].as_array().unwrap());
        let sessions: Vec<_> =
            sessions.map(|it| (it["session"].as_str().unwrap(), it["viewers"].as_u64().unwrap())).collect();
        assert_eq!(sessions, [("s0", 2), ("s1", 2), ("s2", 1), ("s3", 1), ("s4", 1)]);
        assert!(second["next"].is_null());
        let index = shown(&edge, "").await;
        assert_eq!((&index["service"], &index["connections"]), (&"ws-edge".into(), &7.into()));
        // Nothing that opens a door.
        let everything = format!("{all}{first}{second}{of_user}");
        assert!(!everything.contains("eyJ") && !everything.contains("token"), "{everything}");

        for (path, status) in [
            ("/nothing", 404),
            ("/sessions/nobody", 404),
            ("/sessions/b%20ad", 400),
            ("/sessions?limit=0", 400),
            ("/sessions?limit=1001", 400),
            ("/sessions?after=x", 400),
            ("/sessions?more=1", 400),
            ("/connections/none", 404),
            ("/connections?after=x", 400),
            ("/connections?by=name", 400),
            ("/connections?session=b%20ad", 400),
            ("/connections?by=lag&after=aaaaaaaaaaaaaaaa", 400),
            ("/sessions/s1/tail?n=0", 400),
            ("/sessions/s1/tail?n=501", 400),
            ("/sessions/s1/tail?route=/no/{sid}", 400),
            ("/sessions/s1/tail?listener=none", 400),
            ("/sessions/s1/tail?after=x", 400),
        ] {
            let reply = http::get(&url(&edge, path)).await;
            assert_eq!(reply.status, status, "{path}: {}", reply.text());
            assert!(!reply.error().is_empty(), "{path}");
        }
        assert_eq!(http::post(&url(&edge, "/sessions")).await.status, 405);
        // The public door leads nowhere near it.
        assert_eq!(edge.get("/inspect/sessions").await.status, 404);
        drop(clients);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_of_a_session_is_what_its_clients_would_see() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let mut seqs = Vec::new();
        for n in 0..700_u32 {
            let topic = if n.is_multiple_of(3) { "gm.S.phase" } else { "arena.S.agent.1.output" };
            seqs.push(engine.publish(topic, json!({ "n": n }).to_string()).await);
            if n.is_multiple_of(100) {
                engine.publish("gm.S._action", "{}").await;
                engine.publish("gm.other.phase", "{}").await;
            }
        }
        engine.publish("arena.S.input.fakenews", "{}").await;
        let frames = |shown: &Value| -> Vec<u64> {
            shown["events"].as_array().unwrap().iter().map(|frame| frame["seq"].as_u64().unwrap()).collect()
        };
        let tail = shown(&edge, "/sessions/S/tail").await;
        assert_eq!((frames(&tail), &tail["route"]), (seqs[680..].to_vec(), &"/ws/{sid}".into()));
        // As a client has it.
        let client = ws::Client::connect(&edge.ws(&format!("/ws/S?after={}", seqs[698])), ws::PLAIN).await;
        assert_eq!(client.wait_events(1, BOUND).await[0].json, tail["events"][19]);
        assert_eq!(frames(&shown(&edge, "/sessions/S/tail?n=500").await), seqs[200..]);
        // From a place on, page by page.
        let (mut read, mut after) = (Vec::new(), seqs[9]);
        while read.len() < 690 {
            let page = shown(&edge, &format!("/sessions/S/tail?n=300&after={after}")).await;
            read.extend(frames(&page));
            after = page["next"].as_u64().unwrap();
        }
        assert_eq!(read, seqs[10..]);
        // By another route: another dialect.
        let by_app = shown(&edge, "/sessions/S/tail?n=1&route=/app/ws/{sid}").await;
        assert_eq!((frames(&by_app), &by_app["route"]), (seqs[699..].to_vec(), &"/app/ws/{sid}".into()));
        // Of nobody: nothing.
        assert_eq!(shown(&edge, "/sessions/nobody/tail").await["events"], json!([]));
        // Whoever looks does not count as watching.
        assert_eq!(shown(&edge, "/sessions").await["sessions"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_is_of_any_listener_although_their_paths_are_the_same() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let listener = |name: &str, root: &str| {
            format!(
                "[[ws-edge.listeners]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n\
                 [[ws-edge.listeners.routes]]\npath = \"/ws/{{sid}}\"\nroots = [\"{root}\"]\n"
            )
        };
        let edge = Edge::new(&nats).config(listener("game", "gm") + &listener("debate", "arena")).start().await;
        let (of_game, of_debate) = (engine.publish("gm.S.a", "1").await, engine.publish("arena.S.b", "2").await);
        for (query, listener, seq) in
            [("", "game", of_game), ("?listener=game", "game", of_game), ("?listener=debate&n=1", "debate", of_debate)]
        {
            let tail = shown(&edge, &format!("/sessions/S/tail{query}")).await;
            assert_eq!((&tail["listener"], &tail["events"][0]["seq"]), (&listener.into(), &seq.into()), "{query}");
            assert_eq!(tail["events"].as_array().unwrap().len(), 1, "{query}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_shut_and_is_open_to_no_page_of_a_browser() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let request = "GET /inspect HTTP/1.1\r\nhost: rebound.example:9100\r\nconnection: close\r\n\r\n";
        let answer = http::raw(edge.operations(), request, BOUND).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        let shut = Edge::new(&nats).set("operations.inspect", "off").start().await;
        assert_eq!(http::get(&url(&shut, "/connections")).await.status, 404);
    })
    .await;
}

/// The answer to somebody with that token, if any.
async fn asked(edge: &Service, path: &str, token: Option<&str>) -> http::Reply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    http::send(Method::GET, &edge.http(path), &headers, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_the_same_lists_at_the_door_and_nobody_else_does() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let listener =
            "[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\norigins = \"https://play.example\"\n";
        let jwt = |more: &str| format!("[ws-edge.jwt]\nsecret = \"{SECRET}\"\nquery = true\n{more}\n{listener}");
        let edge = Edge::new(&nats).config(jwt("")).start().await;
        let seq = engine.publish("gm.s1.phase", "{}").await;
        let token = |user: &str, role: &str, sessions: &[&str]| hs256(&with(claims(user, sessions), "role", role));
        let (ann, operator) = (token("ann", "player", &["*"]), token("olga", "operator", &[]));
        let mut clients = Vec::new();
        for session in ["s1", "s2", "s3"] {
            let client = ws::Client::connect(&edge.ws(&format!("/ws/{session}?after=0&token={ann}")), ws::V1).await;
            client.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
            clients.push(client);
        }
        clients[0].wait_for("the event", BOUND, |frame| frame.seq() == Some(seq)).await;
        shown_once(&edge, "/connections", |shown| {
            conns(shown).len() == 3
                && shown["connections"].as_array().unwrap().iter().all(|it| it["doing"] == "listens")
        })
        .await;

        // The same as at the operations port, but for what time changes.
        let without_ages = |mut shown: Value| {
            for it in shown["connections"].as_array_mut().into_iter().flatten() {
                it["age_s"] = Value::Null;
            }
            shown
        };
        for query in ["", "?limit=2", "?session=s1", "?user=ann", "?user=bob", "?by=lag&limit=1"] {
            let path = format!("/connections{query}");
            let reply = asked(&edge, &format!("/operator{path}"), Some(&operator)).await.expect_status(200);
            assert_eq!((reply.header("cache-control"), reply.header("content-type")), ("no-store", "application/json"));
            if query.starts_with("?by") {
                assert_eq!(conns(&reply.json()).len(), 1);
            } else {
                assert_eq!(without_ages(reply.json()), without_ages(shown(&edge, &path).await), "{path}");
            }
        }
        let first = asked(&edge, "/operator/sessions?limit=2", Some(&operator)).await.expect_status(200).json();
        assert_eq!(first, shown(&edge, "/sessions?limit=2").await);
        let path = format!("/operator/sessions?limit=2&after={}", first["next"].as_str().unwrap());
        let second = asked(&edge, &path, Some(&operator)).await.expect_status(200).json();
        assert_eq!((&second["sessions"][0]["session"], &second["next"]), (&"s3".into(), &Value::Null));
        let everything = format!("{first}{second}");
        assert!(!everything.contains("eyJ") && !everything.contains("token"), "{everything}");
        // By a token in the query, which is no parameter of the list.
        let path = format!("/operator/sessions?token={operator}&limit=1");
        assert_eq!(asked(&edge, &path, None).await.expect_status(200).json()["next"], "gm.s1");

        for path in ["/operator/sessions", "/operator/connections"] {
            let expired = hs256(&with(with(claims("olga", &["*"]), "role", "operator"), "exp", 1));
            for (status, token) in [
                (401, None),
                (401, Some("nonsense".to_owned())),
                (401, Some(expired)),
                (403, Some(ann.clone())),
                (403, Some(token("eve", "Operator", &["*"]))),
                (403, Some(hs256(&claims("eve", &["*"])))),
            ] {
                let reply = asked(&edge, path, token.as_deref()).await;
                assert_eq!(reply.status, status, "{path} {token:?}: {}", reply.text());
                assert!(!reply.error().is_empty() && reply.header("cache-control") == "no-store");
                assert!(reply.header("www-authenticate").starts_with("Bearer"), "{path}");
            }
            for (query, status) in [("limit=0", 400), ("limit=1001", 400), ("after=x", 400), ("more=1", 400)] {
                let reply = asked(&edge, &format!("{path}?{query}"), Some(&operator)).await;
                assert_eq!((reply.status, reply.error().is_empty()), (status, false), "{path} {query}");
            }
            let bearer = format!("Bearer {operator}");
            let sent = async |method, headers: &[(&str, &str)]| {
                let headers = [&[("authorization", bearer.as_str())], headers].concat();
                http::send(method, &edge.http(path), &headers, "").await
            };
            assert_eq!(sent(Method::POST, &[]).await.status, 405);
            assert_eq!(sent(Method::GET, &[("origin", "https://evil.example")]).await.status, 403);
            let page = sent(Method::GET, &[("origin", "https://play.example")]).await.expect_status(200);
            assert_eq!(page.header("access-control-allow-origin"), "https://play.example");
            assert_eq!(asked(&edge, &format!("{path}/x"), Some(&operator)).await.status, 404);
        }

        // Whom an operator's role is called otherwise, and a door at which nobody is asked who they are.
        let other = Edge::new(&nats).config(jwt("operator_role = \"host\"")).start().await;
        assert_eq!(asked(&other, "/operator/sessions", Some(&operator)).await.status, 403);
        let host = token("olga", "host", &[]);
        assert_eq!(
            asked(&other, "/operator/sessions", Some(&host)).await.expect_status(200).json()["sessions"],
            json!([])
        );
        let open = Edge::new(&nats).start().await;
        assert_eq!(asked(&open, "/operator/sessions", Some(&operator)).await.status, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_lists_is_counted_as_others_are() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let listener = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\n";
        let jwt = format!("[ws-edge.jwt]\nsecret = \"{SECRET}\"\n{listener}");
        let edge = Edge::new(&nats).config(jwt).set("limits.handshakes_per_address", 3).start().await;
        let operator = hs256(&with(claims("olga", &["*"]), "role", "operator"));
        let mut refused = None;
        for _ in 0..50 {
            let reply = asked(&edge, "/operator/connections", Some(&operator)).await;
            if reply.status != 200 {
                refused = Some(reply);
                break;
            }
        }
        let refused = refused.expect("too many at once");
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
    })
    .await;
}
