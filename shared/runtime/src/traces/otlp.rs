//! Spans as the OpenTelemetry Protocol has them, in JSON: ids in hexadecimal digits, 64 bit numbers as texts.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::span::{Finished, Value};

/// Who the spans are of.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) service: &'static str,
    pub(super) instance: String,
}

/// One request with these spans.
pub(super) fn request(resource: &Resource, spans: &[Finished]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = [
        text("service.name", resource.service),
        text("service.namespace", "herald"),
        text("service.version", version),
        text("service.instance.id", &resource.instance),
    ];
    let spans: Vec<Json> = spans.iter().map(span).collect();
    let document = json!({ "resourceSpans": [{
        "resource": { "attributes": attributes },
        "scopeSpans": [{ "scope": { "name": "herald", "version": version }, "spans": spans }],
    }] });
    document.to_string().into_bytes()
}

fn span(span: &Finished) -> Json {
    let mut json = json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": nanoseconds(span.begun),
        "endTimeUnixNano": nanoseconds(span.ended),
        "attributes": span.attributes.iter().map(|(key, value)| match value {
            Value::Text(value) => text(key, value),
            Value::Number(value) => json!({ "key": key, "value": { "intValue": value.to_string() } }),
        }).collect::<Vec<_>>(),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = format!("{parent:016x}").into();
    }
    if let Some(why) = &span.failure {
        // 2: an error.
        json["status"] = json!({ "code": 2, "message": why });
    }
    json
}

fn text(key: &str, value: &str) -> Json {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn nanoseconds(moment: SystemTime) -> String {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::traces::Kind;

    #[test]
    fn a_request_is_what_the_protocol_wants() {
        let begun = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001);
        let span = Finished {
            context: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("a context"),
            parent: std::num::NonZeroU64::new(0xab),
            name: "publish".into(),
            kind: Kind::Producer,
            begun,
            ended: begun + Duration::from_millis(2),
            attributes: vec![("herald.session", Value::Text("s \"1\"".to_owned())), ("herald.seq", Value::Number(7))],
            failure: Some("NATS was away".to_owned()),
        };
        let resource = Resource { service: "gm-bridge", instance: "b1".to_owned() };
        let written: Json = serde_json::from_slice(&request(&resource, std::slice::from_ref(&span))).expect("JSON");
        let of_resource = &written["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(of_resource[0], json!({"key": "service.name", "value": {"stringValue": "gm-bridge"}}));
        assert_eq!(
            written["resourceSpans"][0]["scopeSpans"][0]["spans"][0],
            json!({
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7",
                "parentSpanId": "00000000000000ab", "name": "publish", "kind": 4,
                "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": "1700000000002000001",
                "attributes": [
                    {"key": "herald.session", "value": {"stringValue": "s \"1\""}},
                    {"key": "herald.seq", "value": {"intValue": "7"}},
                ],
                "status": {"code": 2, "message": "NATS was away"},
            })
        );
        let first = Finished { parent: None, failure: None, attributes: vec![], ..span };
        let written: Json = serde_json::from_slice(&request(&resource, &[first])).expect("JSON");
        let written = &written["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert!(written.get("parentSpanId").is_none() && written.get("status").is_none(), "{written}");
    }
}
