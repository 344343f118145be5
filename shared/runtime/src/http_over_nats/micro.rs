//! What NATS' service tools ask of a service (ADR-32): PING, INFO, STATS.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::{sync::Arc, time::Duration};

use async_nats::{Message, SubscribeError};
use futures_util::{StreamExt, stream};
use herald_protocol::{InstanceId, Name, subject};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::nats::{Nats, Subscription};

/// The name of the one endpoint a service has.
const ENDPOINT: &str = "http";

/// Who a service is, and what it has done.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: Name,
    instance: InstanceId,
    started: OffsetDateTime,
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    last_error: Mutex<String>,
}

impl Service {
    pub(super) fn new(name: &Name, instance: &InstanceId) -> Self {
        Self {
            name: name.clone(),
            instance: instance.clone(),
            started: OffsetDateTime::now_utc(),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            last_error: Mutex::default(),
        }
    }

    /// Counts a request that was executed.
    pub(super) fn count(&self, took: Duration, error: Option<String>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(error) = error {
            self.errors.fetch_add(1, Ordering::Relaxed);
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        }
    }

    fn answer(&self, verb: &str) -> Option<Value> {
        let endpoint = json!({
            "name": ENDPOINT,
            "subject": subject::http_service(&self.name),
            "queue_group": self.name,
        });
        let (kind, more) = match verb {
            "PING" => ("ping", json!({})),
            "INFO" => {
                let endpoint = with(endpoint, json!({"metadata": {}}));
                ("info", json!({"description": "HTTP over NATS", "endpoints": [endpoint]}))
            }
            "STATS" => {
                let (requests, nanos) = (self.requests.load(Ordering::Relaxed), self.nanos.load(Ordering::Relaxed));
                let endpoint = with(
                    endpoint,
                    json!({
                        "num_requests": requests,
                        "num_errors": self.errors.load(Ordering::Relaxed),
                        "last_error": *self.last_error.lock().unwrap_or_else(PoisonError::into_inner),
                        "processing_time": nanos,
                        "average_processing_time": nanos.checked_div(requests).unwrap_or(0),
                    }),
                );
                (
                    "stats",
                    json!({"started": self.started.format(&Rfc3339).unwrap_or_default(), "endpoints": [endpoint]}),
                )
            }
            _ => return None,
        };
        Some(with(
            more,
            json!({
                "type": format!("io.nats.micro.v1.{kind}_response"),
                "name": self.name,
                "id": self.instance,
                "version": env!("CARGO_PKG_VERSION"),
                "metadata": {},
            }),
        ))
    }
}

fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

/// The subscriptions a service is discovered by.
pub(super) async fn subscribe(nats: &Nats, service: &Service) -> Result<Vec<Subscription>, SubscribeError> {
    let Service { name, instance, .. } = service;
    let mut subscriptions = Vec::with_capacity(3);
    for subject in ["$SRV.*".to_owned(), format!("$SRV.*.{name}"), format!("$SRV.*.{name}.{instance}")] {
        subscriptions.push(nats.subscribe(subject, None).await?);
    }
    Ok(subscriptions)
}

/// Answers until the connection is closed for good.
pub(super) async fn answer(nats: Nats, service: Arc<Service>, subscriptions: Vec<Subscription>) {
    let mut questions = stream::select_all(subscriptions.into_iter().map(Subscription::into_stream));
    while let Some(Message { subject: asked, reply, .. }) = questions.next().await {
        let verb = asked.split('.').nth(1).unwrap_or_default();
        let reply = reply.filter(|reply| subject::is_inbox(reply));
        let (Some(reply), Some(answer)) = (reply, service.answer(verb)) else { continue };
        if let Err(error) = nats.client().publish(reply, answer.to_string().into()).await {
            tracing::debug!(%error, "a question of the service tools could not be answered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_fields_the_tools_read() {
        let service = Service::new(&Name::new("gm").unwrap(), &InstanceId::new("b1").unwrap());
        service.count(Duration::from_nanos(30), None);
        service.count(Duration::from_nanos(10), Some("500".to_owned()));
        for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
            let answer = service.answer(verb).unwrap();
            assert_eq!(answer["type"], format!("io.nats.micro.v1.{kind}_response"));
            assert_eq!((&answer["name"], &answer["id"]), (&json!("gm"), &json!("b1")));
            assert!(answer["metadata"].is_object() && answer["version"].is_string());
        }
        let stats = service.answer("STATS").unwrap();
        assert_eq!(stats["endpoints"][0]["average_processing_time"], 20);
        assert_eq!(stats["endpoints"][0]["num_errors"], 1);
        assert_eq!(service.answer("INFO").unwrap()["endpoints"][0]["subject"], "http.gm");
        assert_eq!(service.answer("DELETE"), None);
    }
}
