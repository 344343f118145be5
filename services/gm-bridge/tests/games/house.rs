//! A nats-server, bridges in this process, and somebody who sends requests as an edge does.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use gm_bridge::config::Config;
use herald_protocol::Name;
use herald_runtime::{
    Context,
    config::{Common, HumanDuration, NatsConfig},
    http_over_nats::{Client, Limits, RequestMeta},
    nats,
};
use herald_testkit::{Nats, eventually};
use http::{Method, Request, Response};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::master::Master;

/// How long anything may take to be seen.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Everything a test needs.
pub(crate) struct House {
    pub(crate) nats: Nats,
    pub(crate) client: async_nats::Client,
    pub(crate) bridges: Vec<Bridge>,
    requests: Client,
}

/// A bridge in this process.
pub(crate) struct Bridge {
    pub(crate) context: Context,
    task: JoinHandle<anyhow::Result<()>>,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: http::HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl House {
    /// A house with that many bridges, all with those Game Masters.
    pub(crate) async fn build(bridges: usize, masters: &[&Master], change: impl Fn(&mut Config)) -> Self {
        let nats = Nats::start().await;
        let client = nats.client().await;
        let context = Context::new("test", common(&nats));
        let connection = nats::connect(&context.common.nats, "nats", &context).await.unwrap();
        let requests = Client::new(&connection, Limits::default()).await.unwrap();
        let mut house = Self { nats, client, bridges: Vec::new(), requests };
        for _ in 0..bridges {
            house.add_bridge(masters, &change).await;
        }
        house
    }

    pub(crate) async fn add_bridge(&mut self, masters: &[&Master], change: impl Fn(&mut Config)) {
        let mut config = Config::default();
        config.gm.base_urls = masters.iter().map(|master| master.url.clone()).collect();
        config.gm.edge_forgotten = HumanDuration::from_secs(5);
        change(&mut config);
        let context = Context::new("gm-bridge", common(&self.nats));
        let task = tokio::spawn(gm_bridge::start(config, context.clone()));
        let mut ready = context.health.watch();
        tokio::time::timeout(SOON, ready.wait_for(|ready| *ready)).await.expect("a bridge gets ready").unwrap();
        self.bridges.push(Bridge { context, task });
    }

    pub(crate) async fn send(&self, door: &str, request: Request<Body>) -> Reply {
        let timeout = Duration::from_secs(60);
        let meta = RequestMeta { door: Name::new(door).unwrap(), timeout, max_body: 32 << 20, confirm: false };
        let response = self.requests.request(&Name::new("gm").unwrap(), request, &meta).await.expect("an answer");
        read(response).await
    }

    pub(crate) async fn request(&self, door: &str, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        self.send(door, Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.request("event", Method::GET, path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_at("event", path, body).await
    }

    pub(crate) async fn post_at(&self, door: &str, path: &str, body: &Value) -> Reply {
        self.request(door, Method::POST, path, body.to_string()).await
    }

    /// The last message of a subject in a stream.
    pub(crate) async fn last(
        &self,
        stream: &str,
        subject: &str,
    ) -> Option<async_nats::jetstream::message::StreamMessage> {
        let stream = async_nats::jetstream::new(self.client.clone()).get_stream(stream).await.unwrap();
        stream.get_last_raw_message_by_subject(subject).await.ok()
    }

    /// The last message of a subject among the events, as JSON, once it is there.
    pub(crate) async fn event(&self, subject: &str) -> Value {
        eventually(subject, SOON, async || {
            let last = self.last("EVENTS", subject).await.ok_or("not there")?;
            serde_json::from_slice(&last.payload).map_err(|_| "no json")
        })
        .await
    }

    /// How many messages the events have on a subject.
    pub(crate) async fn count(&self, subject: &str) -> u64 {
        let stream = async_nats::jetstream::new(self.client.clone()).get_stream("EVENTS").await.unwrap();
        let mut subjects = stream.info_with_subjects(subject).await.unwrap();
        let mut count = 0;
        while let Some(Ok((_, number))) = subjects.next().await {
            count += number as u64;
        }
        count
    }

    /// The record under a key of a bucket.
    pub(crate) async fn record(&self, bucket: &str, key: &str) -> Option<Value> {
        let last = self.last(&format!("KV_{bucket}"), &format!("$KV.{bucket}.{key}")).await?;
        serde_json::from_slice(&last.payload).ok()
    }

    /// Puts a record into a bucket, as a bridge that has died since would have.
    pub(crate) async fn put(&self, bucket: &str, key: &str, record: &Value) {
        let store = async_nats::jetstream::new(self.client.clone()).get_key_value(bucket).await.unwrap();
        store.put(key, record.to_string().into()).await.unwrap();
    }

    /// The record of the only Game Master.
    pub(crate) async fn seat(&self) -> (String, Value) {
        let store = async_nats::jetstream::new(self.client.clone()).get_key_value("ALIASES").await.unwrap();
        let keys: Vec<String> = store.keys().await.unwrap().filter_map(async |key| key.ok()).collect().await;
        let key = keys.into_iter().find(|key| key.starts_with("gm.")).expect("a game master's record");
        let record = self.record("ALIASES", &key).await.expect("a record");
        (key, record)
    }

    /// Publishes an event as whoever speaks on that subject, acknowledged.
    pub(crate) async fn publish(&self, subject: &str, payload: &str) {
        let jetstream = async_nats::jetstream::new(self.client.clone());
        jetstream.publish(subject.to_owned(), payload.to_owned().into()).await.unwrap().await.unwrap();
    }

    /// Makes the stream of events capture these subjects, as an operator could.
    pub(crate) async fn capture(&self, subjects: &[&str]) {
        let jetstream = async_nats::jetstream::new(self.client.clone());
        let mut config = jetstream.get_stream("EVENTS").await.unwrap().cached_info().config.clone();
        config.subjects = subjects.iter().map(|&subject| subject.into()).collect();
        jetstream.update_stream(&config).await.unwrap();
    }

    /// Starts a game for the session, which must succeed.
    pub(crate) async fn start_game(&self, session: &str) -> Value {
        self.get(&format!("/api/start?session_id={session}")).await.expect(200).json()
    }

    /// Plays the session's game to its end, which its Game Master must have been told to bring.
    pub(crate) async fn end_game(&self, session: &str) {
        self.get(&format!("/api/choose?session_id={session}&kind=real")).await.expect(202);
        self.event(&format!("gm.{session}.result")).await;
    }

    /// Answers, as an edge of that name, how many watch each session, until dropped.
    pub(crate) async fn edge(&self, name: &'static str, count: impl Fn(&str) -> u64 + Send + 'static) -> Edge {
        let mut questions = self.client.subscribe("edge.watching.*").await.unwrap();
        settle(&self.client).await;
        let client = self.client.clone();
        Edge(tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                let session = question.subject.rsplit('.').next().unwrap_or_default();
                let answer = serde_json::json!({"edge": name, "count": count(session)}).to_string();
                client.publish(question.reply.unwrap(), answer.into()).await.unwrap();
            }
        }))
    }
}

/// An edge that says who watches.
pub(crate) struct Edge(JoinHandle<()>);

impl Drop for Edge {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Bridge {
    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.context.shutdown.begin();
        tokio::time::timeout(SOON, self.task).await.expect("a bridge ends").unwrap().unwrap();
    }
}

impl Reply {
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no json: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }
}

async fn read(response: Response<Body>) -> Reply {
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Reply { status: head.status.as_u16(), head: head.headers, body }
}

fn common(nats: &Nats) -> Common {
    Common { nats: NatsConfig { url: nats.url(), ..NatsConfig::default() }, ..Common::with_operations_port(0) }
}

/// A session id of its own.
pub(crate) fn session() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Waits until the server has taken what the client sent so far, subscriptions above all.
pub(crate) async fn settle(client: &async_nats::Client) {
    let answer = client.request(client.new_inbox(), "".into()).await;
    assert!(answer.is_err(), "nobody listens there");
}
