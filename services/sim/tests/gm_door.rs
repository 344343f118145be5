//! The game master stand-in at its door: it knocks, opens one socket, hands over news and goes on with the arena.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "recorded/shapes.rs"]
mod recorded;

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use herald_testkit::{SimGm, eventually, within};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, broadcast, mpsc},
};
use tokio_tungstenite::tungstenite::Message;

const LIMIT: Duration = Duration::from_secs(60);

/// A door of our own: answers each call with 200 and says on the socket what the test wants said.
#[derive(Clone)]
struct Door {
    calls: mpsc::Sender<(String, Value)>,
    /// What the socket says; `None` closes it.
    say: broadcast::Sender<Option<String>>,
    /// Held by a test that wants an answer to wait.
    answers: Arc<Mutex<()>>,
}

impl Door {
    async fn open() -> (String, Self, mpsc::Receiver<(String, Value)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/gm", listener.local_addr().unwrap());
        let (calls, called) = mpsc::channel(64);
        let door = Self { calls, say: broadcast::Sender::new(64), answers: Arc::default() };
        let served = door.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(tcp));
            }
        });
        (url, door, called)
    }

    async fn serve(self, mut tcp: TcpStream) {
        let mut head = [0; 16];
        while tcp.peek(&mut head).await.unwrap() < head.len() {
            tokio::task::yield_now().await;
        }
        if head.starts_with(b"GET /gm/ws/") {
            return self.socket(tcp).await;
        }
        let mut request = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head_lower = head.to_ascii_lowercase();
                let length = head_lower.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
                if body.len() == length.parse::<usize>().unwrap() {
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    self.calls.send((path, serde_json::from_str(body).unwrap())).await.unwrap();
                    drop(self.answers.lock().await);
                    tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                    request.clear();
                    continue;
                }
            }
            if tcp.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    async fn socket(self, tcp: TcpStream) {
        let mut said = self.say.subscribe();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        self.calls.send(("socket".into(), Value::Null)).await.unwrap();
        while let Ok(Some(text)) = said.recv().await {
            socket.send(Message::text(text)).await.unwrap();
        }
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    }

    fn arena(&self, subject: &str, data: Value) {
        self.say.send(Some(json!({ "subject": subject, "data": data }).to_string())).unwrap();
    }
}

/// A choose, read as it comes.
struct Choose {
    response: reqwest::Response,
    body: String,
}

impl Choose {
    async fn begin(url: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        http.get(format!("{url}/api/stream/propose")).send().await.unwrap().text().await.unwrap();
        let response = http.get(format!("{url}/api/stream/choose?kind=fake")).send().await.unwrap();
        Self { response, body: String::new() }
    }

    /// Reads until an event of this type has come.
    async fn until(&mut self, kind: &str) {
        while of_type(&recorded::sse_events(&self.body), kind).is_empty() {
            let chunk = self.response.chunk().await.unwrap().expect("more");
            self.body.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn end(mut self) -> Vec<Value> {
        self.body.push_str(&self.response.text().await.unwrap());
        recorded::sse_events(&self.body)
    }
}

fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

#[tokio::test]
async fn it_knocks_listens_once_and_goes_on_as_soon_as_the_arena_waits_again() {
    within(LIMIT, async {
        let (url, door, mut called) = Door::open().await;
        let gm =
            SimGm::new().arg(format!("--door={url}")).arg("--id=9e0d0000-0000-4000-8000-000000000001").start().await;
        let (path, body) = called.recv().await.unwrap();
        assert_eq!(
            (path.as_str(), body),
            ("/gm/init_session", json!({"session_id": "9e0d0000-0000-4000-8000-000000000001"}))
        );
        assert_eq!(called.recv().await.unwrap().0, "socket");
        eventually("the door is open", LIMIT, async || {
            let health = gm.get("/health").await.json();
            if health["door_open"] == true { Ok(()) } else { Err(health) }
        })
        .await;

        let held = door.answers.lock().await;
        let mut choice = Choose::begin(&gm.url()).await;
        let (path, body) = called.recv().await.unwrap();
        assert_eq!((path.as_str(), body["session_id"].as_str().unwrap().len()), ("/gm/submit_news", 36));
        assert!(body["content"].as_str().unwrap().contains("\n\n"));
        // Before the answer nothing counts, as the original empties its queue only then.
        door.arena("input.waiting", json!({"round": 1, "waiting": true}));
        eventually("the early word is in", LIMIT, async || {
            let health = gm.get("/health").await.json();
            if health["heard"] == 1 { Ok(()) } else { Err(health) }
        })
        .await;
        drop(held);
        // The news are with the arena, it says: now it listens.
        choice.until("phase").await;
        for phase in [1, 2, 3] {
            door.arena("phase.start", json!({"round": 1, "phase": phase}));
            door.arena("agent.status", json!({"agent_id": "a", "phase": phase, "take": format!("take {phase}")}));
        }
        door.arena("agent.status", json!({"agent_id": "a", "phase": 4, "take": "a vote"}));
        door.arena("event.death", json!({"agent_id": "a", "cause": "eliminated_round_1"}));
        door.arena("event.clone", json!({"parent_id": "b"}));
        door.arena("state.global", json!({}));
        door.arena("input.waiting", json!({"round": 2, "waiting": true}));
        let events = choice.end().await;
        for kind in ["agent_nats", "agent_death", "agent_clone"] {
            assert!(!of_type(&events, kind).is_empty(), "{kind}");
        }
        assert_eq!(of_type(&events, "agent_death")[0]["data"], json!({"agent_id": "a", "cause": "eliminated_round_1"}));
        let reactions = &of_type(&events, "reactions")[0]["data"]["reactions"];
        assert_eq!(reactions[0]["reaction_text"], "take 3", "the vote is no opinion");
        assert!(reactions[1]["reaction_text"].as_str().unwrap().starts_with('['), "three have said nothing");
        assert_eq!(events.last().unwrap()["type"], "result");
    })
    .await;
}

#[tokio::test]
async fn it_never_opens_a_second_socket_and_then_waits_in_vain() {
    within(LIMIT, async {
        let (url, door, mut called) = Door::open().await;
        let gm = SimGm::new().arg(format!("--door={url}")).arg("--arena-wait=300ms").start().await;
        assert_eq!(called.recv().await.unwrap().0, "/gm/init_session");
        assert_eq!(called.recv().await.unwrap().0, "socket");
        door.say.send(None).unwrap();
        let events = Choose::begin(&gm.url()).await.end().await;
        assert_eq!(called.recv().await.unwrap().0, "/gm/submit_news", "and no socket before it");
        let reactions = &of_type(&events, "reactions")[0]["data"]["reactions"];
        assert!(reactions[0]["reaction_text"].as_str().unwrap().starts_with('['));
        assert!(called.try_recv().is_err());
    })
    .await;
}

#[tokio::test]
async fn it_waits_for_a_door_that_is_not_there_and_ends_on_a_signal() {
    within(LIMIT, async {
        let (url, _door, mut called) = Door::open().await;
        let mut gm = SimGm::new().arg("--door=http://127.0.0.1:9/gm").start().await;
        assert_eq!(gm.get("/api/wh26").await.json()["connected"], false);
        assert!(gm.stop().await.success());
        let mut gm = SimGm::new().arg(format!("--door={url}")).start().await;
        assert_eq!(called.recv().await.unwrap().0, "/gm/init_session");
        assert!(gm.stop().await.success());
    })
    .await;
}
