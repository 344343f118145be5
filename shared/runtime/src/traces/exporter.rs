//! The task that sends spans to the collector, many at a time.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use metrics::{Counter, counter};
use reqwest::{Client, redirect, retry};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    otlp::{self, Resource},
    span::Finished,
};
use crate::config::TracesConfig;

/// How often spans are sent before they are given up, with these pauses between, each with a random part. Those that end
/// meanwhile wait in their queue.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// How often a batch that is being gathered is looked after: whoever ends a span wakes nobody meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// At most one line in the log about spans that could not be sent in this time; all of them are counted.
const QUIET: Duration = Duration::from_secs(60);

/// What takes spans out of the queue.
pub(super) struct Exporter {
    spans: mpsc::Receiver<Finished>,
    /// Those to be sent next.
    batch: Vec<Finished>,
    most: usize,
    interval: Duration,
    http: Client,
    url: String,
    resource: Resource,
    complained: Option<Instant>,
    exported: Counter,
    refused: Counter,
    unreachable: Counter,
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the collector can't be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the collector takes no spans now: {0}")]
    Later(StatusCode),
    #[error("the collector refuses spans: {0}")]
    Refused(StatusCode),
}

impl Exporter {
    pub(super) fn new(
        spans: mpsc::Receiver<Finished>,
        config: &TracesConfig,
        url: &str,
        service: &'static str,
        instance: &str,
    ) -> Result<Self, reqwest::Error> {
        let mut headers = config.header_map().unwrap_or_default();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .timeout(config.timeout.get())
            .default_headers(headers)
            .user_agent(concat!("herald/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let dropped = |reason: &'static str| counter!("herald_spans_dropped_total", "reason" => reason);
        Ok(Self {
            spans,
            batch: Vec::new(),
            most: config.batch,
            interval: config.interval.get(),
            http,
            url: url.to_owned(),
            resource: Resource { service, instance: instance.to_owned() },
            complained: None,
            exported: counter!("herald_spans_exported_total"),
            refused: dropped("refused"),
            unreachable: dropped("unreachable"),
        })
    }

    /// Sends until it is told to stop, then what is left, once.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let work = async {
            loop {
                self.gather().await;
                self.send().await;
            }
        };
        stop.run_until_cancelled(work).await;
        self.spans.close();
        loop {
            self.take_waiting();
            if self.batch.is_empty() {
                return;
            }
            if let Err(error) = self.post(self.body()).await {
                return self.complain(&error);
            }
            self.batch.clear();
        }
    }

    /// Waits for spans: until there are as many as may go together, or the first one has waited long enough. May be
    /// cancelled: what came is kept.
    async fn gather(&mut self) {
        if self.batch.is_empty() {
            match self.spans.recv().await {
                Some(first) => self.batch.push(first),
                // Nobody makes any more.
                None => std::future::pending().await,
            }
        }
        let until = Instant::now() + self.interval;
        loop {
            self.take_waiting();
            if self.batch.len() >= self.most || Instant::now() >= until {
                return;
            }
            sleep_until(until.min(Instant::now() + LOOK)).await;
        }
    }

    /// Takes what waits, as many as may go together.
    fn take_waiting(&mut self) {
        while self.batch.len() < self.most
            && let Ok(span) = self.spans.try_recv()
        {
            self.batch.push(span);
        }
    }

    /// Sends what was gathered, more than once if need be, or gives it up. May be cancelled: then it is still there.
    async fn send(&mut self) {
        let (body, count) = (self.body(), self.batch.len() as u64);
        let mut pauses = PAUSES.into_iter();
        let outcome = loop {
            match self.post(body.clone()).await {
                Ok(()) => break &self.exported,
                Err(error) => {
                    self.complain(&error);
                    match (error, pauses.next()) {
                        (SendError::Refused(_), _) => break &self.refused,
                        (_, None) => break &self.unreachable,
                        (_, Some(pause)) => sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await,
                    }
                }
            }
        };
        outcome.increment(count);
        self.batch.clear();
    }

    fn body(&self) -> Bytes {
        otlp::request(&self.resource, &self.batch).into()
    }

    async fn post(&self, body: Bytes) -> Result<(), SendError> {
        let sent = self.http.post(&self.url).body(body).send().await;
        let status = sent.map_err(|error| SendError::Unreachable(error.without_url()))?.status();
        match status.as_u16() {
            200..=299 => Ok(()),
            429 | 502..=504 => Err(SendError::Later(status)),
            _ => Err(SendError::Refused(status)),
        }
    }

    fn complain(&mut self, error: &SendError) {
        if self.complained.is_none_or(|complained| complained.elapsed() >= QUIET) {
            self.complained = Some(Instant::now());
            tracing::warn!(error = error as &dyn std::error::Error, "spans not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, routing::post};
    use serde_json::Value;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        config::HumanDuration,
        traces::{Kind, Tracer},
    };

    /// A collector that answers so, the last answer again and again; where it is, and how many spans each request brought.
    async fn collector(answers: &'static [u16]) -> (String, mpsc::Receiver<usize>) {
        let (came, requests) = mpsc::channel(16);
        let asked = Arc::new(AtomicUsize::new(0));
        let take = async move |body: Bytes| {
            let document: Value = serde_json::from_slice(&body).expect("JSON");
            let spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").len();
            came.send(spans).await.expect("listening");
            let turn = asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            StatusCode::from_u16(answers[turn]).expect("a status")
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}/v1/traces", listener.local_addr().expect("address"));
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accept");
                let service = hyper_util::service::TowerToHyperService::new(router.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        (url, requests)
    }

    fn exporter(url: &str, batch: usize, interval: HumanDuration) -> (Tracer, Exporter) {
        let config = TracesConfig { ratio: 1.0, batch, interval, ..TracesConfig::default() };
        let (tracer, spans) = Tracer::new(&config);
        (tracer, Exporter::new(spans, &config, url, "test", "one").expect("a client"))
    }

    fn spans(tracer: &Tracer, count: usize) {
        (0..count).for_each(|_| drop(tracer.follow(None, "x".into(), Kind::Internal)));
    }

    #[tokio::test]
    async fn spans_go_together_and_the_last_ones_at_the_end() {
        let (url, mut requests) = collector(&[200]).await;
        let (tracer, exporter) = exporter(&url, 3, HumanDuration::from_secs(600));
        let stop = CancellationToken::new();
        let task = tokio::spawn(exporter.run(stop.clone()));
        spans(&tracer, 3);
        assert_eq!(requests.recv().await, Some(3), "as many as may go together do not wait");
        spans(&tracer, 2);
        stop.cancel();
        task.await.expect("ended");
        assert_eq!(requests.recv().await, Some(2));
    }

    #[tokio::test]
    async fn a_span_waits_no_longer_than_the_interval() {
        let (url, mut requests) = collector(&[200]).await;
        let (tracer, exporter) = exporter(&url, 1000, HumanDuration::from_millis(20));
        let _task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(exporter.run(CancellationToken::new())));
        spans(&tracer, 1);
        assert_eq!(requests.recv().await, Some(1));
    }

    #[tokio::test]
    async fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
        let (url, mut requests) = collector(&[503, 200, 400, 200]).await;
        let (tracer, exporter) = exporter(&url, 1, HumanDuration::from_millis(1));
        let _task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(exporter.run(CancellationToken::new())));
        spans(&tracer, 1);
        assert_eq!((requests.recv().await, requests.recv().await), (Some(1), Some(1)), "the same one again");
        spans(&tracer, 1);
        assert_eq!(requests.recv().await, Some(1), "refused");
        spans(&tracer, 1);
        assert_eq!(requests.recv().await, Some(1));
        tokio::task::yield_now().await;
        assert!(requests.try_recv().is_err());
    }

    #[tokio::test]
    async fn without_a_collector_the_end_does_not_wait() {
        let (tracer, exporter) = exporter("http://127.0.0.1:9/v1/traces", 1, HumanDuration::from_millis(1));
        let stop = CancellationToken::new();
        let task = tokio::spawn(exporter.run(stop.clone()));
        spans(&tracer, 100);
        tokio::task::yield_now().await;
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(2), task).await;
        assert!(ended.is_ok());
    }
}
