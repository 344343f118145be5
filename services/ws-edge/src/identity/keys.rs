//! The keys of a JWKS, read again and again: keys come and go while we run.

use std::{path::PathBuf, sync::Arc, time::Duration};

use herald_runtime::health::Condition;
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Client, Url, redirect};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Refusal,
    keyset::{BadKeySet, KeySet},
};
use crate::config::JwtConfig;

/// Most bytes of a set: far more than any has.
const MOST: usize = 256 << 10;
/// How soon the keys are tried again while there are none at all.
const SOON: Duration = Duration::from_secs(1);

/// The keys as they were last read.
pub(super) struct Keys {
    known: watch::Receiver<Known>,
    wanted: Arc<Notify>,
    /// Tokens with keys that nobody knows, which anybody can make, cause no more than one reading in this time.
    pause: Duration,
    timeout: Duration,
}

#[derive(Clone, Default)]
struct Known {
    /// The last good set.
    set: Option<Arc<KeySet>>,
    /// How many readings have ended, well or not.
    readings: u64,
    /// When the last one began.
    begun: Option<Instant>,
}

/// Reads the keys, for as long as it runs.
pub(super) struct Reader {
    source: Source,
    known: watch::Sender<Known>,
    wanted: Arc<Notify>,
    refresh: Duration,
    pause: Duration,
    timeout: Duration,
}

enum Source {
    File(PathBuf),
    Url(Client, Url),
}

/// Why the keys can't be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the file can't be read")]
    File(#[from] std::io::Error),
    #[error("the server can't be asked")]
    Http(#[source] reqwest::Error),
    #[error("the server answered {0}")]
    Status(http::StatusCode),
    #[error("larger than {MOST} bytes")]
    TooLarge,
    #[error("not in time")]
    Late,
    #[error(transparent)]
    Bad(#[from] BadKeySet),
}

impl Keys {
    /// The keys at `place`, a URL or a file, and who reads them.
    pub(super) fn new(place: &str, config: &JwtConfig) -> Result<(Self, Reader), reqwest::Error> {
        let (sender, known) = watch::channel(Known::default());
        let (wanted, pause, timeout) = (Arc::<Notify>::default(), config.refresh_min.get(), config.timeout.get());
        let source = Source::new(place)?;
        let reader =
            Reader { source, known: sender, wanted: wanted.clone(), refresh: config.refresh.get(), pause, timeout };
        Ok((Self { known, wanted, pause, timeout }, reader))
    }

    /// The key of that id and algorithm. Where nobody knows it, the keys are read once more before that is the answer: it
    /// may be new.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Refusal> {
        let known = self.known.borrow().clone();
        if let Some(key) = known.key(id, algorithm) {
            return Ok(key);
        }
        if known.begun.is_some_and(|begun| begun.elapsed() < self.pause) {
            return Err(known.refusal());
        }
        self.wanted.notify_one();
        let mut watching = self.known.clone();
        let read = watching.wait_for(|now| now.readings > known.readings);
        let now = match timeout(self.timeout + SOON, read).await {
            Ok(Ok(now)) => now.clone(),
            _ => known,
        };
        now.key(id, algorithm).ok_or_else(|| now.refusal())
    }
}

impl Known {
    fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        self.set.as_ref()?.find(id, algorithm)
    }

    const fn refusal(&self) -> Refusal {
        if self.set.is_some() { Refusal::UnknownKey } else { Refusal::NoKeys }
    }
}

impl Reader {
    /// Reads the keys now, every so often, and when a token names one that is not known. Where that fails, the last good ones
    /// stay: who makes tokens may be away for a while.
    pub(super) async fn run(self, condition: Condition) {
        loop {
            let begun = Instant::now();
            let read = timeout(self.timeout, self.source.read()).await.unwrap_or(Err(ReadError::Late));
            let outcome = if read.is_ok() { "read" } else { "failed" };
            metrics::counter!("herald_auth_key_readings_total", "outcome" => outcome).increment(1);
            let set = match read {
                Ok(set) => {
                    tracing::debug!(keys = set.len(), "keys of tokens read");
                    condition.ok();
                    Some(Arc::new(set))
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "keys of tokens not read, the last good ones stay");
                    None
                }
            };
            let mut good = false;
            self.known.send_modify(|known| {
                known.set = set.or_else(|| known.set.take());
                known.readings += 1;
                known.begun = Some(begun);
                good = known.set.is_some();
            });
            if !good {
                condition.fail("the keys of tokens could not be read yet");
            }
            let next = begun + if good { self.refresh } else { self.refresh.min(SOON) };
            self.next(begun, next).await;
        }
    }

    /// Waits until `next`, or until somebody wants the keys read and it is not too soon.
    async fn next(&self, begun: Instant, next: Instant) {
        let wanted = async {
            self.wanted.notified().await;
            sleep_until(begun + self.pause).await;
        };
        tokio::select! {
            () = sleep_until(next) => {}
            () = wanted => {}
        }
    }
}

impl Source {
    fn new(place: &str) -> Result<Self, reqwest::Error> {
        match url(place) {
            None => Ok(Self::File(place.into())),
            // No redirects, no proxy from the environment: the keys come from where the configuration says.
            Some(url) => Ok(Self::Url(Client::builder().redirect(redirect::Policy::none()).no_proxy().build()?, url)),
        }
    }

    async fn read(&self) -> Result<KeySet, ReadError> {
        let bytes = match self {
            Self::File(path) => {
                let mut bytes = Vec::new();
                tokio::fs::File::open(path).await?.take(MOST as u64 + 1).read_to_end(&mut bytes).await?;
                bytes
            }
            Self::Url(client, url) => download(client, url).await?,
        };
        if bytes.len() > MOST { Err(ReadError::TooLarge) } else { Ok(KeySet::read(&bytes)?) }
    }
}

/// The body at `url`, up to a little more than is allowed.
async fn download(client: &Client, url: &Url) -> Result<Vec<u8>, ReadError> {
    // Errors of the client name the URL, which may hold credentials.
    let failed = |error: reqwest::Error| ReadError::Http(error.without_url());
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(ReadError::Status(response.status()));
    }
    let mut bytes = Vec::new();
    while bytes.len() <= MOST
        && let Some(chunk) = response.chunk().await.map_err(failed)?
    {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The host that keys come from over a network that is open to whoever sits in between; `None`: they don't.
pub(super) fn open_host(place: &str) -> Option<String> {
    let url = url(place).filter(|url| url.scheme() == "http")?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    (!local).then(|| host.to_owned())
}

/// The URL that `place` is; `None`: it is a path.
pub(crate) fn url(place: &str) -> Option<Url> {
    Url::parse(place).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_url_or_a_path() {
        for (place, is_url, open) in [
            ("https://issuer.example/.well-known/jwks.json", true, None),
            ("http://issuer.example/jwks", true, Some("issuer.example")),
            ("http://10.0.0.1/jwks", true, Some("10.0.0.1")),
            ("http://user:secret@keys/", true, Some("keys")),
            ("http://127.0.0.1:8080/jwks", true, None),
            ("http://[::1]/jwks", true, None),
            ("http://localhost/jwks", true, None),
            ("ftp://issuer.example", false, None),
            ("/etc/herald/jwks.json", false, None),
            ("jwks.json", false, None),
        ] {
            assert_eq!((url(place).is_some(), open_host(place).as_deref()), (is_url, open), "{place}");
        }
    }
}
