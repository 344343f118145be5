//! Requests that two readers would read in two ways, and headers that say what is not theirs to say.

use herald_testkit::{Edge, Nats, Service, within};

use super::{MINUTE, Notes, exchange, get_raw, status};
use crate::support::Engine;

/// What is to be taken for a request of its own, behind another one.
const SMUGGLED: &str = "GET /api/state?smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

async fn noting() -> (Nats, Engine, Notes, herald_runtime::http_over_nats::ServerHandle, Service) {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    let notes = Notes::default();
    let served = engine.serve(notes.router()).await;
    let edge = Edge::new(&nats).start().await;
    (nats, engine, notes, served, edge)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_could_be_read_in_two_ways_is_one_or_none() {
    within(MINUTE, async {
        let (_nats, _engine, notes, _served, edge) = noting().await;
        let post = |lines: &str, body: &str| format!("POST /init_session HTTP/1.1\r\nhost: x\r\n{lines}\r\n{body}");
        let empty = format!("0\r\n\r\n{SMUGGLED}");
        let hidden = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
        let all = format!("content-length: {}\r\n", empty.len());
        let chunked = "transfer-encoding: chunked\r\n";
        // The whole of it is said by one length, and the connection ends behind it.
        let one = [
            ("CL.TE", post(&format!("{all}{chunked}"), &empty)),
            ("TE.CL", post(&format!("{chunked}{all}"), &empty)),
            ("TE.CL, the other way round", post(&format!("content-length: 4\r\n{chunked}"), &hidden)),
            ("a length behind the encoding", post(&format!("{chunked}content-length: 4\r\n"), &hidden)),
            ("a length that is none, behind it", post(&format!("{chunked}content-length: x\r\n"), &empty)),
            (
                "a trailer",
                post(&format!("connection: close\r\n{chunked}"), "0\r\nherald-user: root\r\nhost: y\r\n\r\n"),
            ),
            (
                "a chunk's extension",
                post(&format!("connection: close\r\n{chunked}"), "2;x=\"\\r\\n0\"\r\nhi\r\n0\r\n\r\n"),
            ),
        ];
        for (what, request) in one {
            let answer = exchange(&edge, &request).await;
            assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (200, 1), "{what}: {answer}");
        }
        let lines = [
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: 5, 6\r\n",
            "content-length: +5\r\n",
            "content-length: -1\r\n",
            "content-length: 0x5\r\n",
            "content-length: 5 5\r\n",
            "content-length:\r\n",
            "content-length: 18446744073709551616\r\n",
            "transfer-encoding: xchunked\r\n",
            "transfer-encoding: chunked, identity\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: cow\r\n",
            "transfer-encoding : chunked\r\n",
            "transfer-encoding:\r\n chunked\r\n",
            " transfer-encoding: chunked\r\n",
            "transfer-encoding: \u{b}chunked\r\n",
            "x: y\rtransfer-encoding: chunked\r\n",
            "x: y\0\r\n",
            "x: \u{1b}[31m\r\n",
            "herald user: root\r\n",
            "herald-user\0: root\r\n",
            "(herald-user): root\r\n",
            "h\u{e9}rald: root\r\n",
            ": root\r\n",
            "herald-user root\r\n",
            "host: y\r\n",
            "host: x\r\n",
        ];
        let heads = [
            format!("GET /api/state HTTP/1.1\r\n\r\n{SMUGGLED}"),
            format!("GET /api/state\r\n\r\n{SMUGGLED}"),
            format!("GET  /api/state HTTP/1.1\r\nhost: x\r\n\r\n{SMUGGLED}"),
            format!("GET /api/state HTTP/1.2\r\nhost: x\r\n\r\n{SMUGGLED}"),
            format!("GET /api/state?a b HTTP/1.1\r\nhost: x\r\n\r\n{SMUGGLED}"),
            format!("GET /api/st\rate HTTP/1.1\r\nhost: x\r\n\r\n{SMUGGLED}"),
            format!("GET /api/st\0ate HTTP/1.1\r\nhost: x\r\n\r\n{SMUGGLED}"),
            format!("G@T /api/state HTTP/1.1\r\nhost: x\r\n\r\n{SMUGGLED}"),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            format!("POST /init_session HTTP/1.0\r\nhost: x\r\n{chunked}\r\n{empty}"),
            format!("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}{SMUGGLED}"),
        ];
        let chunks = ["0x5\r\nhello", "-1\r\n", "FFFFFFFFFFFFFFFFF\r\n", "5\r\nhelloX\r\n", "\r\n", "5 5\r\nhello\r\n"];
        let none = lines
            .iter()
            .map(|lines| post(lines, &empty))
            .chain(heads)
            .chain(chunks.iter().map(|chunk| post(chunked, &format!("{chunk}{SMUGGLED}"))));
        for request in none {
            let answer = exchange(&edge, &request).await;
            assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{request:?}: {answer}");
            // Who speaks another version is not answered in this one.
            assert!(status(&answer) == 400 || answer.is_empty() && request.starts_with("PRI"), "{request:?}: {answer}");
        }
        let asked = notes.all().join("\n");
        assert!(!asked.contains("smuggled") && !asked.contains("root"), "{asked}");
        // Two that stand behind each other in order are two.
        let two = format!(
            "{}{}",
            post("content-length: 2\r\n", "{}"),
            SMUGGLED.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")
        );
        assert_eq!(exchange(&edge, two).await.matches("HTTP/1.1 200").count(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_line_ends_split_nothing_on_the_way() {
    within(MINUTE, async {
        let (_nats, _engine, notes, _served, edge) = noting().await;
        let target = "/api/x%0d%0aHerald-User:%20root/%0a%00?y=%0d%0aHerald-Role:%20operator&z=%E5%98%8A%E5%98%8D";
        let answer = get_raw(&edge, target, "user-agent: a%0d%0aherald-user: root\r\n").await;
        assert_eq!(status(&answer), 200, "{answer}");
        let asked: serde_json::Value = serde_json::from_str(&notes.all()[0]).unwrap();
        assert_eq!(asked["uri"], target, "as it came");
        assert_eq!(asked["caller"], serde_json::Value::Null);
        let headers = asked["headers"].to_string().to_lowercase();
        assert_eq!(headers.matches("herald").count(), 1, "in the user agent, where it is text: {headers}");
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        assert!(!head.contains("root") && !head.contains("operator"), "{head}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_door_says_can_neither_be_said_nor_unsaid_by_a_client() {
    within(MINUTE, async {
        let (_nats, _engine, notes, _served, edge) = noting().await;
        let claims = "herald-user: root\r\nHERALD-SESSIONS: *\r\nherald_user: root\r\nherald-h-herald-user: root\r\n\
            x-forwarded-for: 6.6.6.6\r\nX-FORWARDED-FOR: 127.0.0.1, 6.6.6.6\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\n";
        for named in ["herald-user", "x-forwarded-for", "close, x-forwarded-for, herald-user, host, accept", "te, *"] {
            let request = format!("GET /api/state HTTP/1.1\r\nhost: x\r\nconnection: {named}, close\r\naccept: a\r\n{claims}\r\n");
            assert_eq!(status(&exchange(&edge, request).await), 200, "{named}");
            let asked: serde_json::Value = serde_json::from_str(notes.all().last().unwrap()).unwrap();
            assert_eq!(asked["caller"], serde_json::Value::Null, "{asked}");
            let text = asked["headers"].to_string();
            assert_eq!(text.matches("x-forwarded-for: \\\"127.0.0.1\\\"").count(), 1, "{named}: {text}");
            assert!(!text.contains("6.6.6.6") && !text.contains("root"), "{named}: {text}");
        }
    })
    .await;
}
