//! What a listener says of its health where no service is asked, or none answers.

use http::{Method, StatusCode};

use crate::{
    answer::{self, Answer},
    config::HealthConfig,
    edge::Upstream,
    template::{Places, Template},
};

/// Where it is to be had, unless something else is there by configuration.
pub const PATH: &str = "/health";

/// What it may say: whether NATS is connected.
pub(crate) const PLACES: &Places = &[("nats", "true")];

/// What a listener says of its health.
#[derive(Debug, Clone)]
pub struct Health {
    ok: Template,
    degraded: Template,
}

impl Health {
    /// As `config` describes it; `None` where its texts are none, which the configuration's check refuses.
    #[must_use]
    pub fn new(config: &HealthConfig) -> Option<Self> {
        let text = |text: &str| Template::new(text, PLACES).ok();
        Some(Self { ok: text(&config.ok)?, degraded: text(&config.degraded)? })
    }

    /// Answers a request for it. It is for everybody, load balancers mostly. `streams`: those that must be served for all to be
    /// well.
    #[must_use]
    pub fn answer(&self, method: &Method, upstream: Option<&Upstream>, streams: &[String]) -> Answer {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return answer::method_not_allowed("GET, HEAD");
        }
        let connected = upstream.is_some_and(|upstream| upstream.nats.connected());
        let hub = |stream: &String| upstream.and_then(|upstream| upstream.hubs.get(stream));
        let well = connected && streams.iter().all(|stream| hub(stream).is_some_and(|hub| hub.is_well()));
        if well { said(&self.ok, true) } else { self.degraded(connected) }
    }

    /// The answer of a service that is not there.
    #[must_use]
    pub fn degraded(&self, connected: bool) -> Answer {
        said(&self.degraded, connected)
    }
}

fn said(template: &Template, connected: bool) -> Answer {
    answer::json(StatusCode::OK, template.filled(&[if connected { "true" } else { "false" }]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_nats_nothing_is_well_whatever_is_said_of_it() {
        let config = HealthConfig {
            ok: r#"{"status":"healthy"}"#.to_owned(),
            degraded: r#"{"status":"degraded","nats":{nats}}"#.to_owned(),
        };
        let health = Health::new(&config).unwrap();
        let body = async |answer: Answer| axum::body::to_bytes(answer.into_body(), 1 << 10).await.unwrap();
        assert_eq!(body(health.answer(&Method::GET, None, &[])).await, r#"{"status":"degraded","nats":false}"#);
        assert_eq!(body(health.degraded(true)).await, r#"{"status":"degraded","nats":true}"#);
        assert_eq!(health.answer(&Method::POST, None, &[]).status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(health.answer(&Method::HEAD, None, &[]).status(), StatusCode::OK);
        assert!(Health::new(&HealthConfig::default()).is_some());
    }
}
