//! `Idempotency-Key`: what makes a request that is sent again the same request.
//!
//! A key is good for one publisher and one session, and everything made of it here is made of these three: so nobody can find
//! out, or take, what another one sent. It is remembered by the stream alone.

use bytes::Bytes;
use herald_protocol::{SessionId, subject};
use http::HeaderMap;
use ring::digest::{Context, SHA256};

use crate::{auth::Publisher, event::Form, refusal::Refusal};

/// Longest key, in bytes.
const LONGEST: usize = 255;
/// The name of the header.
const HEADER: &str = "idempotency-key";

/// A request that may be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The hash of publisher, session and key, by which its messages are recognised, as text.
    pub(crate) hash: String,
    /// Where it is written what was stored under it, where that is more than one event.
    pub(crate) subject: String,
    /// The message id of what is stored first.
    pub(crate) id: String,
    /// The hash of the request's body and form: another request under the same key is a mistake.
    pub(crate) digest: String,
}

impl Key {
    /// The key of a request, if it has one.
    pub(crate) fn of(
        headers: &HeaderMap,
        publisher: &Publisher,
        session: &SessionId,
        form: Form,
        body: &Bytes,
    ) -> Result<Option<Self>, Refusal> {
        let mut all = headers.get_all(HEADER).iter();
        let text = match (all.next(), all.next()) {
            (None, _) => return Ok(None),
            (Some(_), Some(_)) => return Err(Refusal::bad("Idempotency-Key is given twice")),
            (Some(value), None) => value.to_str().ok().filter(|text| is_key(text)),
        };
        let text =
            text.ok_or_else(|| Refusal::bad("invalid Idempotency-Key: expected 1 to 255 visible ASCII characters"))?;
        let hash = u128::from_be_bytes(half(&hashed([&publisher.text(), session.as_str(), text].map(str::as_bytes))));
        let form = if form == Form::One { "one" } else { "lines" };
        let digest = u128::from_be_bytes(half(&hashed([form.as_bytes(), body])));
        Ok(Some(Self {
            hash: format!("{hash:032x}"),
            subject: subject::app_key(session, hash),
            id: format!("ingest:{hash:032x}"),
            digest: format!("{digest:032x}"),
        }))
    }
}

fn is_key(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A hash of several texts, each with its length: where one ends and the next begins is part of it.
fn hashed<const N: usize>(parts: [&[u8]; N]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// 128 bits are enough: nobody finds two requests with the same.
fn half(hash: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use herald_protocol::EventSubject;
    use http::HeaderValue;

    use super::*;

    fn key(publisher: &Publisher, session: &str, text: &str, form: Form, body: &'static str) -> Key {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(text).unwrap());
        let session = SessionId::new(session).unwrap();
        Key::of(&headers, publisher, &session, form, &Bytes::from_static(body.as_bytes())).unwrap().unwrap()
    }

    #[test]
    fn a_key_belongs_to_one_publisher_and_session() {
        let [ann, bob] = ["ann", "bob"].map(|name| Publisher::User(name.into()));
        let one = key(&ann, "s1", "k", Form::One, "{}");
        assert_eq!(one, key(&ann, "s1", "k", Form::One, "{}"));
        for other in [
            key(&bob, "s1", "k", Form::One, "{}"),
            key(&Publisher::Key("ann".into()), "s1", "k", Form::One, "{}"),
            key(&ann, "s2", "k", Form::One, "{}"),
            key(&ann, "s1", "K", Form::One, "{}"),
            // Where one ends and the next begins counts.
            key(&ann, "s", "1k", Form::One, "{}"),
        ] {
            assert!(other.hash != one.hash && other.id != one.id && other.subject != one.subject, "{other:?}");
            assert_eq!(other.digest, one.digest);
        }
        for other in [key(&ann, "s1", "k", Form::Lines, "{}"), key(&ann, "s1", "k", Form::One, "{ }")] {
            assert_eq!((&other.hash, &other.id), (&one.hash, &one.id));
            assert_ne!(other.digest, one.digest);
        }
    }

    #[test]
    fn what_is_written_under_a_key_is_never_shown_and_says_nothing_of_it() {
        let one = key(&Publisher::Anybody, "s1", "my-secret-order", Form::One, "{}");
        let subject = EventSubject::parse(&one.subject).unwrap();
        assert_eq!((subject.root, subject.session, subject.is_shown()), ("app", "s1", false));
        assert!(!format!("{one:?}").contains("order"));
    }

    #[test]
    fn keys_are_visible_ascii_and_given_once() {
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
            }
            Key::of(&headers, &Publisher::Anybody, &SessionId::new("s1").unwrap(), Form::One, &Bytes::new())
        };
        assert_eq!(read(&[]), Ok(None));
        assert!(read(&[b"\"8e03978e-40d5-43dd-bc93-6894a57f9324\""]).unwrap().is_some());
        let long = [b'x'; 256];
        for bad in [&b""[..], b"a b", "é".as_bytes(), b"a\tb", &long] {
            assert!(read(&[bad]).unwrap_err().text.starts_with("invalid Idempotency-Key"), "{bad:?}");
        }
        assert!(read(&[&long[..255]]).unwrap().is_some());
        assert_eq!(read(&[b"a", b"a"]).unwrap_err().text, "Idempotency-Key is given twice");
    }
}
