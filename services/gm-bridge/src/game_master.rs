//! The Game Master's HTTP API: the only place that sends it requests.
//!
//! A request costs money and moves a game, so none is ever repeated, by nobody: no retries, no redirects, no proxy from
//! the environment, and no connection is used twice (a pooled one that the Game Master has just closed is what HTTP
//! libraries retry on). What goes wrong is told in words that hold no address: they reach browsers.

mod stream;

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use herald_protocol::{Segment, record::Lang};
use http::{StatusCode, header};
use reqwest::{Client, Response, Url, redirect, retry};
use serde_json::value::RawValue;
use tokio::time::Instant;

pub use self::stream::{GmEvent, GmStream, StreamError};
use crate::{config::GmConfig, metrics};

/// What all Game Masters share: the HTTP client and the limits.
#[derive(Debug, Clone)]
pub struct GameMasters {
    http: Client,
    config: Arc<GmConfig>,
}

/// One Game Master. Clones are the same one.
#[derive(Clone)]
pub struct GameMaster {
    http: Client,
    config: Arc<GmConfig>,
    base: Arc<Url>,
}

/// A picture as the Game Master serves it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its content type, if the Game Master says one.
    pub content_type: Option<http::HeaderValue>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Not the base URL of a Game Master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the base URL of a game master: expected http:// or https://, a host, no query")]
pub struct InvalidBaseUrl;

/// Why a start, a state or a picture was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No connection, or it broke off.
    #[error("the game master can't be reached")]
    Unreachable(#[source] reqwest::Error),
    /// No complete answer in time.
    #[error("the game master did not answer in time")]
    Timeout,
    /// It has no such thing (404).
    #[error("the game master has no such thing")]
    NotFound,
    /// It refused the request (another 4xx).
    #[error("the game master refused: {reason}")]
    Refused {
        /// Its own words, shortened.
        reason: String,
    },
    /// It answered with something else than success.
    #[error("the game master answered {0}")]
    Status(StatusCode),
    /// The answer is larger than the limit.
    #[error("the answer of the game master is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The answer is not a JSON object.
    #[error("the answer of the game master is no JSON object")]
    NotJson,
}

/// A refusal's reason is cut to so many characters: enough for its validation errors, too little for a page of HTML.
const REASON_LENGTH: usize = 300;

impl RequestError {
    /// Whether there was not even a connection: the request has reached nobody.
    pub(crate) fn never_sent(&self) -> bool {
        matches!(self, Self::Unreachable(error) if error.is_connect())
    }

    /// A word for the metrics.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::NotFound => "not_found",
            Self::Refused { .. } => "refused",
            Self::Status(_) => "status",
            Self::TooLarge { .. } => "too_large",
            Self::NotJson => "not_json",
        }
    }
}

impl GameMasters {
    /// Prepares the client.
    ///
    /// # Errors
    /// Where the TLS configuration of this build can't be used.
    pub fn new(config: &GmConfig) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(config.connect_timeout.get())
            .user_agent(concat!("herald-gm-bridge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, config: Arc::new(config.clone()) })
    }

    /// The Game Master at a base URL, which may have a path of its own.
    ///
    /// # Errors
    /// [`InvalidBaseUrl`].
    pub fn at(&self, base: &str) -> Result<GameMaster, InvalidBaseUrl> {
        let url = Url::parse(base).map_err(|_| InvalidBaseUrl)?;
        let plain = matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
        if !plain || url.fragment().is_some() {
            return Err(InvalidBaseUrl);
        }
        Ok(GameMaster { http: self.http.clone(), config: Arc::clone(&self.config), base: Arc::new(url) })
    }
}

impl GameMaster {
    /// Starts a new game, which wipes the one that runs there. Returns its JSON object.
    ///
    /// # Errors
    /// [`RequestError`]. After `Timeout` and `Unreachable` the game may have been started all the same.
    pub async fn start(&self, lang: Lang) -> Result<Bytes, RequestError> {
        let url = self.url(&["api", "start"], &[("lang", lang.as_str())]);
        measured("start", self.json(url, self.config.request_timeout.get())).await
    }

    /// The state of the game that runs there, a JSON object.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn state(&self) -> Result<Bytes, RequestError> {
        measured("state", self.json(self.url(&["api", "state"], &[]), self.config.request_timeout.get())).await
    }

    /// Whether it answers at all, within the time limit of probes.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn probe(&self) -> Result<(), RequestError> {
        let asked = self.json(self.url(&["api", "state"], &[]), self.config.probe_timeout.get());
        measured("probe", asked).await.map(drop)
    }

    /// A picture of the game with the Game Master's own id `game`.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn image(&self, game: &Segment, file: &Segment) -> Result<Image, RequestError> {
        let url = self.url(&["api", "images", game.as_str(), file.as_str()], &[]);
        let fetch = async {
            let response = self.get(url).await?;
            let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
            Ok(Image { content_type, bytes: read(response, self.config.max_image.as_usize()).await? })
        };
        measured("image", within(self.config.request_timeout.get(), fetch)).await
    }

    /// Its host and port, for operators.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.base.host_str().unwrap_or_default(), self.base.port_or_known_default().unwrap_or(0))
    }

    async fn json(&self, url: Url, limit: Duration) -> Result<Bytes, RequestError> {
        let answer =
            within(limit, async { read(self.get(url).await?, self.config.max_answer.as_usize()).await }).await?;
        let object = serde_json::from_slice::<&RawValue>(&answer).is_ok_and(|json| json.get().starts_with('{'));
        if object { Ok(answer) } else { Err(RequestError::NotJson) }
    }

    async fn get(&self, url: Url) -> Result<Response, RequestError> {
        let response = self.http.get(url).send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(RequestError::NotFound),
            status if status.is_client_error() => {
                // What it says beside its refusal is a courtesy: without it the refusal stands all the same.
                let body = read(response, self.config.max_answer.as_usize()).await.unwrap_or_default();
                Err(RequestError::Refused { reason: reason(&body).unwrap_or_else(|| status.to_string()) })
            }
            status => Err(RequestError::Status(status)),
        }
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = Url::clone(&self.base);
        // Never an error: a URL with a host has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

/// Without what may stand before the host: a password.
impl fmt::Debug for GameMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GameMaster({})", self.place())
    }
}

/// Measures how long a request takes.
async fn measured<T>(
    request: &'static str,
    work: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    let begun = Instant::now();
    let answer = work.await;
    let outcome = answer.as_ref().err().map_or("ok", RequestError::reason);
    metrics::gm_request(request, outcome, begun.elapsed());
    answer
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, RequestError>>) -> Result<T, RequestError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(RequestError::Timeout))
}

fn unreachable(error: reqwest::Error) -> RequestError {
    let late = error.is_timeout() && !error.is_connect();
    if late { RequestError::Timeout } else { RequestError::Unreachable(error.without_url()) }
}

/// Reads a body of at most `limit` bytes.
async fn read(mut response: Response, limit: usize) -> Result<Bytes, RequestError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > limit {
            return Err(RequestError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The Game Master's reason in the body of a refusal: `error` or `detail` of a JSON object, or a short plain text.
fn reason(body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice(body) {
        Ok(serde_json::Value::Object(members)) => {
            let found = members.get("error").or_else(|| members.get("detail"))?;
            found.as_str().map_or_else(|| found.to_string(), str::to_owned)
        }
        Ok(other) => other.to_string(),
        Err(_) => std::str::from_utf8(body).ok()?.to_owned(),
    };
    let text: String = text.trim().chars().filter(|char| !char.is_control()).take(REASON_LENGTH).collect();
    (!text.is_empty() && !text.starts_with('<')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_the_path_of_the_base_and_nothing_else() {
        let masters = GameMasters::new(&GmConfig::default()).unwrap();
        for (base, expected) in [
            ("http://127.0.0.1:8899", "http://127.0.0.1:8899/api/start?lang=fr"),
            ("http://127.0.0.1:8899/", "http://127.0.0.1:8899/api/start?lang=fr"),
            ("https://h/gm", "https://h/gm/api/start?lang=fr"),
            ("https://h/gm/", "https://h/gm/api/start?lang=fr"),
        ] {
            let url = masters.at(base).unwrap().url(&["api", "start"], &[("lang", "fr")]);
            assert_eq!(url.as_str(), expected);
        }
        for bad in ["", "127.0.0.1:8899", "ftp://h", "http://", "http://h?x=1", "http://h#x", "unix:/x"] {
            assert!(masters.at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reason_is_short_plain_text_or_none() {
        let validation = br#"{"detail": [{"loc": "lang", "msg": "no such language"}]}"#;
        assert_eq!(reason(validation).unwrap(), r#"[{"loc":"lang","msg":"no such language"}]"#);
        assert_eq!(reason(br#"{"error":"no game"}"#).unwrap(), "no game");
        assert_eq!(reason(b"  Bad Request\n").unwrap(), "Bad Request");
        assert_eq!(reason(&[b'x'; 5000]).unwrap().len(), REASON_LENGTH);
        for none in [b"".as_slice(), b"<html>", b"\xff", b"{}"] {
            assert_eq!(reason(none), None);
        }
    }
}
