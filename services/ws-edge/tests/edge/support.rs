//! What these tests need behind the door: an owner of stream and buckets, and an engine that answers HTTP.

use std::time::Duration;

use async_nats::HeaderMap;
use axum::Router;
use herald_protocol::{Name, SessionId, frame::data_json};
use herald_runtime::{
    Context,
    config::Common,
    http_over_nats::{Limits, ServerHandle, serve},
    jetstream::{BucketSpec, StreamSpec, epoch::EpochOwner, stream_info},
    nats::{Nats, connect},
};

/// An engine: owns `EVENTS` and `ALIASES`, publishes, and answers HTTP if it is told to.
pub(crate) struct Engine {
    pub(crate) nats: Nats,
    pub(crate) context: Context,
    _owner: EpochOwner,
}

impl Engine {
    pub(crate) async fn start(server: &herald_testkit::Nats) -> Self {
        let mut common = Common::with_operations_port(0);
        common.nats.url = server.url();
        let context = Context::new("engine", common);
        let nats = connect(&context.common.nats, "nats", &context).await.unwrap();
        let stream = StreamSpec::new("EVENTS", ["gm.>", "arena.>"]);
        let owner = EpochOwner::spawn(&nats, stream, vec![BucketSpec::new("ALIASES")]);
        owner.ready().await;
        Self { nats, context, _owner: owner }
    }

    /// Answers `http.gm` with `router`.
    pub(crate) async fn serve(&self, router: Router) -> ServerHandle {
        let service = Name::new("gm").unwrap();
        let served = serve(&self.nats, &service, &self.context.instance, router, Limits::default()).await.unwrap();
        // A connection's commands are worked off in turn: with this answer the server knows of the subscription.
        stream_info(&self.nats, "EVENTS").await.unwrap();
        served
    }

    /// Publishes and waits for the acknowledgement; the event's sequence.
    pub(crate) async fn publish(&self, subject: &str, payload: impl Into<bytes::Bytes>) -> u64 {
        let sent = self.nats.jetstream().publish(subject.to_owned(), payload.into()).await.unwrap();
        sent.await.unwrap().sequence
    }

    /// Lets an alias stand for a session from behind `after`.
    pub(crate) async fn alias(&self, name: &str, session: &str, after: u64) {
        let bucket = self.nats.jetstream().get_key_value("ALIASES").await.unwrap();
        let target = serde_json::json!({ "session": session, "after": after });
        bucket.put(name, target.to_string().into()).await.unwrap();
    }

    /// Asks all edges who watches `session`, and takes the answers that come within `bound`.
    pub(crate) async fn watching(&self, session: &str, bound: Duration) -> Vec<serde_json::Value> {
        use futures_util::StreamExt as _;
        let client = self.nats.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.unwrap();
        let subject = herald_protocol::subject::watching(&SessionId::new(session).unwrap());
        client.publish_with_reply_and_headers(subject, inbox, HeaderMap::new(), "".into()).await.unwrap();
        let mut all = Vec::new();
        while let Ok(Some(answer)) = tokio::time::timeout(bound, answers.next()).await {
            assert!(data_json(&answer.payload).is_some());
            if answer.status.is_none() {
                all.push(serde_json::from_slice(&answer.payload).unwrap());
            }
        }
        all
    }
}
