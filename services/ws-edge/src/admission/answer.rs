//! What an engine says, read with care: it may be anything.

use std::{sync::Arc, time::Duration};

use herald_protocol::SessionId;
use serde::Deserialize;

use super::{Refusal, Verdict, Welcome, refusal::NOT_ALLOWED};

/// Longest answer, in bytes.
const LONGEST: usize = 16 << 10;
/// Longest name of a user, a role or for others to read, in bytes: as that of a caller.
const LONGEST_NAME: usize = 256;
/// Longest reason, in bytes: that of a close frame (RFC 6455, section 5.5).
const LONGEST_REASON: usize = 123;
/// The codes that are an engine's to give: those of applications (RFC 6455, section 7.4.2).
const CODES: std::ops::RangeInclusive<u16> = 4000..=4999;
/// Of these, what means something else where Herald says it: it would make a client come back by a cursor that is not there, or
/// take for the end of a session what is none.
const OURS: [u16; 3] = [4408, 4410, 4411];

/// An answer as engines give it; what else is in it is theirs.
#[derive(Deserialize)]
struct Answer {
    allow: bool,
    sid: Option<SessionId>,
    user: Option<String>,
    role: Option<String>,
    display_name: Option<String>,
    code: Option<u16>,
    reason: Option<String>,
    reuse_s: Option<f64>,
}

/// What an engine said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) verdict: Verdict,
    /// For how long it counts at most, if the engine says so.
    pub(super) reuse: Option<Duration>,
}

/// An answer that is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Invalid {
    #[error("the answer is larger than {LONGEST} bytes")]
    TooLarge,
    #[error("the answer is no JSON object")]
    NoObject,
    #[error("the answer has not the form it should have")]
    Form(#[source] serde_json::Error),
    #[error("{0}: expected 1 to {LONGEST_NAME} bytes without control characters, and no blank at either end")]
    Name(&'static str),
    #[error("code: expected 4000 to 4999")]
    Code,
    #[error("reuse_s: expected a number of seconds, 0 or more")]
    Reuse,
}

/// Reads an answer.
///
/// # Errors
/// Where it breaks a rule: then nobody knows what was meant, and it counts as none.
pub(super) fn read(answer: &[u8]) -> Result<Said, Invalid> {
    if answer.len() > LONGEST {
        return Err(Invalid::TooLarge);
    }
    // An array would be read as its fields, one after the other.
    if !answer.trim_ascii_start().starts_with(b"{") {
        return Err(Invalid::NoObject);
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(Invalid::Form)?;
    let reuse = match answer.reuse_s {
        Some(seconds) if seconds < 0.0 => return Err(Invalid::Reuse),
        // More than can be counted is as long as may be.
        seconds => seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
    };
    let verdict = if answer.allow {
        Ok(Arc::new(Welcome {
            session: answer.sid,
            user: name("user", answer.user)?,
            role: name("role", answer.role)?,
            display_name: name("display_name", answer.display_name)?,
        }))
    } else {
        let code = answer.code.unwrap_or(NOT_ALLOWED);
        if !CODES.contains(&code) {
            return Err(Invalid::Code);
        }
        let code = if OURS.contains(&code) { NOT_ALLOWED } else { code };
        // A no stays a no, whatever is said with it.
        let reason = answer.reason.filter(|reason| is_reason(reason)).map(Arc::from);
        Err(Refusal::Said { code, reason })
    };
    Ok(Said { verdict, reuse })
}

fn name(field: &'static str, text: Option<String>) -> Result<Option<Arc<str>>, Invalid> {
    let is_name = |text: &String| {
        (1..=LONGEST_NAME).contains(&text.len()) && text.trim() == text && !text.chars().any(char::is_control)
    };
    match text {
        Some(text) if !is_name(&text) => Err(Invalid::Name(field)),
        text => Ok(text.map(Arc::from)),
    }
}

fn is_reason(text: &str) -> bool {
    (1..=LONGEST_REASON).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(answer: &str) -> (u16, Option<String>) {
        match read(answer.as_bytes()).unwrap().verdict {
            Err(Refusal::Said { code, reason }) => (code, reason.map(|reason| reason.as_ref().to_owned())),
            other => panic!("{answer}: {other:?}"),
        }
    }

    #[test]
    fn a_yes_says_who_it_is_and_what_they_see() {
        let said =
            read(br#" {"allow":true,"sid":"t7","user":"ann","role":"dm","display_name":"Zo\u00eb","reuse_s":1.5}"#);
        let said = said.unwrap();
        let welcome = said.verdict.unwrap();
        assert_eq!(welcome.session.as_ref().map(SessionId::as_str), Some("t7"));
        assert_eq!((welcome.user.as_deref(), welcome.role.as_deref()), (Some("ann"), Some("dm")));
        assert_eq!((welcome.display_name.as_deref(), said.reuse), (Some("Zoë"), Some(Duration::from_millis(1500))));
        assert_eq!(read(br#"{"allow":true,"reuse_s":1e300}"#).unwrap().reuse, Some(Duration::MAX));
        // What an engine leaves out, has nothing to say about, or has for others.
        for plain in [
            r#"{"allow":true}"#,
            r#"{"allow":true,"sid":null,"user":null,"role":null,"display_name":null,"reuse_s":null}"#,
            r#"{"allow":true,"follow":true,"code":0,"reason":"","x":[1]}"#,
        ] {
            let said = read(plain.as_bytes()).unwrap();
            assert_eq!((said.verdict, said.reuse), (Ok(Arc::default()), None), "{plain}");
        }
    }

    #[test]
    fn a_no_has_the_engines_code_and_a_reason_that_fits_a_close_frame() {
        let longest = "x".repeat(LONGEST_REASON);
        let quoted = |code: u16, reason: &str| serde_json::json!({"allow": false, "code": code, "reason": reason});
        assert_eq!(refused(&quoted(4404, &longest).to_string()), (4404, Some(longest.clone())));
        assert_eq!(refused(&quoted(4999, "pas là").to_string()), (4999, Some("pas là".to_owned())));
        assert_eq!(refused(r#"{"allow":false}"#), (4403, None));
        for odd in ["", "a\nb", "a\u{0}", "\u{85}", "\u{1b}[31m", &format!("{longest}x"), &"é".repeat(62)] {
            assert_eq!(refused(&quoted(4401, odd).to_string()), (4401, None), "{odd:?}: no, without its reason");
        }
        for ours in [4408, 4410, 4411] {
            assert_eq!(refused(&quoted(ours, "after=0a-1").to_string()).0, 4403, "{ours} has a meaning of ours");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let table: [&str; 22] = [
            "",
            "null",
            "true",
            "[true]",
            "[true,null,null,null,null,null,null,null]",
            "{}",
            r#"{"allow":1}"#,
            r#"{"allow":"true"}"#,
            r#"{"allow":null}"#,
            r#"{"allow":true"#,
            r#"{"allow":true}x"#,
            r#"{"allow":true,"allow":false}"#,
            r#"{"allow":true,"sid":"a.b"}"#,
            r#"{"allow":true,"sid":5}"#,
            r#"{"allow":true,"sid":""}"#,
            r#"{"allow":true,"user":""}"#,
            r#"{"allow":true,"role":"a\nb"}"#,
            r#"{"allow":true,"display_name":" a"}"#,
            r#"{"allow":true,"reuse_s":-1}"#,
            r#"{"allow":false,"code":1000}"#,
            r#"{"allow":false,"code":70000}"#,
            r#"{"allow":false,"reason":5}"#,
        ];
        for answer in table {
            assert!(read(answer.as_bytes()).is_err(), "{answer}");
        }
        let long = format!(r#"{{"allow":true,"x":"{}"}}"#, "x".repeat(LONGEST));
        assert!(matches!(read(long.as_bytes()), Err(Invalid::TooLarge)));
        assert!(read(b"{\"allow\":true,\"user\":\"\xff\"}").is_err(), "not UTF-8");
        assert!(read("\u{feff}{\"allow\":true}".as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_an_engine_says_what_is_passed_on_is_harmless(
            allow: bool, code in 0_u32..70_000, text in "\\PC{0,20}|[\\x00-\\x7f]{0,200}|.{0,140}", reuse: f64,
        ) {
            let answer = serde_json::json!({
                "allow": allow, "sid": text, "user": text, "role": text, "display_name": text, "code": code,
                "reason": text, "reuse_s": reuse,
            });
            for answer in [answer.to_string(), text] {
                match read(answer.as_bytes()).map(|said| said.verdict) {
                    Ok(Err(Refusal::Said { code, reason })) => {
                        prop_assert!(CODES.contains(&code) && !OURS.contains(&code));
                        let reason = reason.unwrap_or_default();
                        prop_assert!(reason.len() <= 123 && !reason.chars().any(char::is_control));
                    }
                    Ok(Err(other)) => prop_assert!(false, "{other:?}"),
                    Ok(Ok(welcome)) => {
                        let names = [&welcome.user, &welcome.role, &welcome.display_name];
                        prop_assert!(names.into_iter().flatten().all(|name| !name.chars().any(char::is_control)));
                    }
                    Err(_) => {}
                }
            }
        }
    }
}
