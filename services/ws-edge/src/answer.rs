//! Responses the door gives itself: errors as the contract has them, `{"error":"<text>"}`, or as a listener wants them.

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// In which member of an error's body its text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorBody {
    /// `{"error":"<text>"}`.
    #[default]
    Error,
    /// `{"detail":"<text>"}`.
    Detail,
    /// Both.
    Both,
}

impl ErrorBody {
    /// The members that the text stands in.
    #[must_use]
    pub const fn members(self) -> &'static [&'static str] {
        match self {
            Self::Error => &["error"],
            Self::Detail => &["detail"],
            Self::Both => &["error", "detail"],
        }
    }

    /// The same answer; if it is an error of the door's own that has no shape yet, in this one.
    #[must_use]
    pub fn shape(self, mut answer: Answer) -> Answer {
        if let Some(said) = answer.extensions_mut().remove::<Said>()
            && self != Self::Error
        {
            *answer.body_mut() = Body::from(said.body(self));
        }
        answer
    }

    /// The body of an error of that text.
    pub(crate) fn body(self, text: &str) -> String {
        Said { text: text.to_owned(), code: None }.body(self)
    }
}

/// What an error of the door's own says, until it has its shape.
#[derive(Debug, Clone)]
struct Said {
    text: String,
    code: Option<u16>,
}

impl Said {
    fn body(&self, shape: ErrorBody) -> String {
        let text = |name: &&str| ((*name).to_owned(), Value::from(self.text.as_str()));
        let mut members: Map<_, _> = shape.members().iter().map(text).collect();
        members.extend(self.code.map(|code| ("code".to_owned(), code.into())));
        Value::Object(members).to_string()
    }
}

/// What the door answers with.
pub type Answer = Response<Body>;

/// `no-store`: nothing between us and the player keeps an answer that may be another one the next time.
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The same answer, which no browser takes for something else than it says it is: what an engine serves as a picture is no page.
#[must_use]
pub fn taken_at_its_word(mut answer: Answer) -> Answer {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    answer
}

/// A JSON answer.
#[must_use]
pub fn json(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// 204: there is nothing (more) to be had. An `EventSource` that gets it does not come back.
#[must_use]
pub fn no_content() -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// An error, with a text for people.
#[must_use]
pub fn error(status: StatusCode, text: &str) -> Answer {
    said(status, Said { text: text.to_owned(), code: None })
}

/// The same, with the code by which a socket would have been closed.
#[must_use]
pub fn error_with_code(status: StatusCode, text: &str, code: u16) -> Answer {
    said(status, Said { text: text.to_owned(), code: Some(code) })
}

/// The same error in other words.
#[must_use]
pub fn reworded(mut answer: Answer, text: &str) -> Answer {
    let (head, body) = error(answer.status(), text).into_parts();
    *answer.body_mut() = body;
    answer.extensions_mut().extend(head.extensions);
    answer
}

fn said(status: StatusCode, said: Said) -> Answer {
    let mut answer = json(status, said.body(ErrorBody::Error));
    answer.extensions_mut().insert(said);
    answer
}

/// An error after which the connection is of no use: what comes next on it may be anything.
#[must_use]
pub fn closing(status: StatusCode, text: &str) -> Answer {
    let mut answer = error(status, text);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// 400, naming what is wrong.
#[must_use]
pub fn bad_request(text: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, text)
}

/// 404: there is nothing of that name.
#[must_use]
pub fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "Not Found")
}

/// 405, with what is allowed.
#[must_use]
pub fn method_not_allowed(allow: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

/// The same answer; if it says which methods are allowed, with GET, which is answered elsewhere.
#[must_use]
pub fn allowing_get(mut answer: Answer) -> Answer {
    if answer.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Some(others) = answer.headers().get(ALLOW).and_then(|allow| allow.to_str().ok())
        && !others.split(',').any(|method| method.trim() == "GET")
        && let Ok(all) = HeaderValue::try_from(format!("{others}, GET"))
    {
        answer.headers_mut().insert(ALLOW, all);
    }
    answer
}

/// 503, to be tried again in a second.
#[must_use]
pub fn unavailable(text: &str) -> Answer {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(answer: Answer) -> String {
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_error_has_the_shape_that_the_first_who_knows_it_says() {
        for (shape, plain, coded) in [
            (ErrorBody::Error, r#"{"error":"No \"x\""}"#, r#"{"code":4403,"error":"No"}"#),
            (ErrorBody::Detail, r#"{"detail":"No \"x\""}"#, r#"{"code":4403,"detail":"No"}"#),
            (
                ErrorBody::Both,
                r#"{"detail":"No \"x\"","error":"No \"x\""}"#,
                r#"{"code":4403,"detail":"No","error":"No"}"#,
            ),
        ] {
            let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let answer = shape.shape(error(StatusCode::BAD_REQUEST, "No \"x\""));
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
            let again = ErrorBody::Detail.shape(answer);
            assert_eq!(value(&text(again).await), value(plain), "{shape:?}, and no other afterwards");
            let answer = shape.shape(error_with_code(StatusCode::FORBIDDEN, "No", 4403));
            assert_eq!(value(&text(answer).await), value(coded));
        }
        let theirs = ErrorBody::Detail.shape(json(StatusCode::BAD_REQUEST, "{\"error\":\"x\"}".to_owned()));
        assert_eq!(text(theirs).await, "{\"error\":\"x\"}", "what a service says is its own");
    }
}
