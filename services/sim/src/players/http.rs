//! The public HTTP API, as a browser uses it.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use herald_protocol::{
    SessionId,
    record::{Lang, NewsKind},
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Longer than any answer may take: a start waits for the action that it ends.
const CALL: Duration = Duration::from_secs(30);

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(250);

/// The door.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    http: reqwest::Client,
}

/// An answer that is not the expected one.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// None at all.
    #[error("{path}: no answer")]
    Unreachable {
        /// What was asked for.
        path: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Another status.
    #[error("{path}: {status} {body}")]
    Refused {
        /// What was asked for.
        path: String,
        /// The answer's status.
        status: u16,
        /// The answer's text.
        body: String,
    },
}

impl Api {
    /// The API at a base URL.
    ///
    /// # Errors
    /// If it is no `http` URL.
    pub fn new(url: &str) -> Result<Self> {
        let parsed = reqwest::Url::parse(url)?;
        if parsed.scheme() == "https" {
            bail!("--url: https is not spoken here; TLS ends in front of the door");
        }
        ensure!(parsed.scheme() == "http" && parsed.has_host(), "--url: expected http://host:port[/prefix]");
        let http =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(CALL).build()?;
        Ok(Self { base: url.trim_end_matches('/').to_owned(), http })
    }

    /// The URL of a session's socket.
    #[must_use]
    pub fn socket(&self, session: &SessionId) -> String {
        format!("ws{}/ws/{session}", self.base.strip_prefix("http").unwrap_or(&self.base))
    }

    /// Starts a game.
    ///
    /// # Errors
    /// Whatever is not 200.
    pub async fn start(&self, session: &SessionId, lang: Lang) -> Result<(), ApiError> {
        self.get(&format!("/api/start?session_id={session}&lang={}", lang.as_str()), 200).await.map(drop)
    }

    /// Asks for a proposal.
    ///
    /// # Errors
    /// Whatever is not 202.
    pub async fn propose(&self, session: &SessionId, lang: Lang) -> Result<(), ApiError> {
        self.get(&format!("/api/propose?session_id={session}&lang={}", lang.as_str()), 202).await.map(drop)
    }

    /// Chooses one of the proposed news.
    ///
    /// # Errors
    /// Whatever is not 202.
    pub async fn choose(&self, session: &SessionId, kind: NewsKind, lang: Lang) -> Result<(), ApiError> {
        let query = format!("session_id={session}&kind={}&lang={}", kind.as_str(), lang.as_str());
        self.get(&format!("/api/choose?{query}"), 202).await.map(drop)
    }

    /// Fetches a picture; its size.
    ///
    /// # Errors
    /// Whatever is not 200.
    pub async fn image(&self, path: &str) -> Result<usize, ApiError> {
        self.get(path, 200).await.map(|body| body.len())
    }

    /// Makes a session known and gives it an arena.
    ///
    /// # Errors
    /// Whatever is not 200.
    pub async fn init_session(&self, session: &SessionId) -> Result<(), ApiError> {
        self.post("/init_session", &json!({ "session_id": session })).await
    }

    /// Gives the arena news to debate.
    ///
    /// # Errors
    /// Whatever is not 200.
    pub async fn submit_news(&self, session: &SessionId, content: &str) -> Result<(), ApiError> {
        self.post("/submit_news", &json!({ "session_id": session, "content": content })).await
    }

    async fn get(&self, path: &str, expected: u16) -> Result<bytes::Bytes, ApiError> {
        self.send(path, expected, self.http.get(format!("{}{path}", self.base))).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(), ApiError> {
        let request = self.http.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        self.send(path, 200, request.body(body.to_string())).await.map(drop)
    }

    async fn send(
        &self,
        path: &str,
        expected: u16,
        request: reqwest::RequestBuilder,
    ) -> Result<bytes::Bytes, ApiError> {
        let unreachable =
            |source: reqwest::Error| ApiError::Unreachable { path: path.to_owned(), source: source.without_url() };
        let response = send_when_there(request).await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(unreachable)?;
        if status == expected {
            return Ok(body);
        }
        // An error's text is short; a page of HTML would fill the screen.
        let body = String::from_utf8_lossy(&body).chars().take(300).collect();
        Err(ApiError::Refused { path: path.to_owned(), status, body })
    }
}

/// Sends a request as soon as the door takes a connection: a door that is started again is away for a moment. Nothing
/// was sent before, so nothing is done twice.
async fn send_when_there(request: reqwest::RequestBuilder) -> Result<reqwest::Response, reqwest::Error> {
    let deadline = Instant::now() + CALL;
    loop {
        // A request without a body that streams can always be copied.
        let Some(copy) = request.try_clone() else { return request.send().await };
        match copy.send().await {
            Err(error) if error.is_connect() && Instant::now() < deadline => tokio::time::sleep(RETRY).await,
            answer => return answer,
        }
    }
}
