//! The configuration of traces.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::{Fault, HumanDuration, Secret};

/// Traces, in the OpenTelemetry Protocol over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TracesConfig {
    /// The collector that they go to, `http://127.0.0.1:4318`; `/v1/traces` is added. Default: none, nothing is traced.
    pub endpoint: Option<String>,
    /// Headers that the collector wants, `name=value`, separated by commas: its keys, mostly. Default: none.
    pub headers: Secret,
    /// Which part of what begins here is traced, from 0 to 1; what has begun elsewhere is as it was decided there.
    /// Default 0.01.
    pub ratio: f64,
    /// Spans that wait to be sent; further ones are dropped (counted). Default 4096.
    pub queue: usize,
    /// Spans sent together at most. Default 512.
    pub batch: usize,
    /// How long a span waits for others. Default 2s.
    pub interval: HumanDuration,
    /// How long the collector may take to answer. Default 5s.
    pub timeout: HumanDuration,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: Secret::default(),
            ratio: 0.01,
            queue: 4096,
            batch: 512,
            interval: HumanDuration::from_secs(2),
            timeout: HumanDuration::from_secs(5),
        }
    }
}

impl TracesConfig {
    /// Where spans are sent; `None`: nowhere.
    pub(crate) fn url(&self) -> Option<String> {
        let base = self.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty())?;
        Some(format!("{}/v1/traces", base.trim_end_matches('/')))
    }

    /// The headers that are sent along; `None` where they are none.
    pub(crate) fn header_map(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        for pair in self.headers.expose().split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            headers.append(HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value);
        }
        Some(headers)
    }

    /// What is wrong with it.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |good: bool, key: &str, message: &str| {
            if !good {
                faults.push(Fault::new(format!("traces.{key}"), message));
            }
        };
        let is_base = |url: Uri| {
            matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some() && url.query().is_none()
        };
        let endpoint = self.url().is_none_or(|url| url.parse().is_ok_and(is_base));
        check(endpoint, "endpoint", "expected http:// or https:// and a host, without a query");
        check(self.header_map().is_some(), "headers", "expected name=value, separated by commas");
        check((0.0..=1.0).contains(&self.ratio), "ratio", "must be from 0 to 1");
        check(self.queue > 0, "queue", "must be at least 1");
        check(self.batch > 0, "batch", "must be at least 1");
        check(!self.interval.get().is_zero(), "interval", "must be longer than zero");
        check(!self.timeout.get().is_zero(), "timeout", "must be longer than zero");
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_below_the_endpoint() {
        let url =
            |endpoint: &str| TracesConfig { endpoint: Some(endpoint.to_owned()), ..TracesConfig::default() }.url();
        for endpoint in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/"] {
            assert_eq!(url(endpoint).as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
        }
        assert_eq!(url("https://c.example/otlp").as_deref(), Some("https://c.example/otlp/v1/traces"));
        assert_eq!((url(""), TracesConfig::default().url()), (None, None));
    }

    #[test]
    fn all_faults_are_found_and_no_key_is_shown() {
        assert_eq!(TracesConfig::default().faults(), []);
        let bad = TracesConfig {
            endpoint: Some("127.0.0.1:4318".to_owned()),
            headers: Secret::from("hunter2".to_owned()),
            ratio: f64::NAN,
            queue: 0,
            batch: 0,
            interval: HumanDuration::from_secs(0),
            timeout: HumanDuration::from_secs(0),
        };
        let faults = bad.faults();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        let all = ["endpoint", "headers", "ratio", "queue", "batch", "interval", "timeout"];
        assert_eq!(keys, all.map(|key| format!("traces.{key}")));
        assert!(!format!("{faults:?}{bad:?}").contains("hunter2"));
        for endpoint in ["ftp://h", "http://", "http://h?x=1", "h/traces"] {
            let config = TracesConfig { endpoint: Some(endpoint.to_owned()), ..TracesConfig::default() };
            assert_eq!(config.faults().len(), 1, "{endpoint}");
        }
    }

    #[test]
    fn headers_come_as_the_standards_variable_has_them() {
        let config =
            TracesConfig { headers: Secret::from("api-key=a=b, x-scope = c,".to_owned()), ..Default::default() };
        let headers = config.header_map().unwrap();
        assert_eq!((headers["api-key"].as_bytes(), headers["x-scope"].as_bytes()), (&b"a=b"[..], &b"c"[..]));
        assert_eq!(TracesConfig::default().header_map().map(|none| none.len()), Some(0));
    }
}
