use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::refusal::Detail;

fn size(text: &str) -> Result<u8, Refusal> {
    let mut form = Form::of(format!(r#"{{"size":{text}}}"#).as_bytes());
    let size = form.size();
    form.finish()?;
    size.check()
}

fn seed(text: &str) -> Result<String, Refusal> {
    let mut form = Form::of(format!(r#"{{"seed":{text}}}"#).as_bytes());
    let seed = form.seed();
    form.finish()?;
    seed.check()
}

fn client(text: &str) -> Result<String, Refusal> {
    let mut form = Form::of(format!(r#"{{"client_id":{text}}}"#).as_bytes());
    let client = form.client();
    form.finish()?;
    client.check()
}

fn ready(text: &str) -> Result<bool, Refusal> {
    let mut form = Form::of(format!(r#"{{"ready":{text}}}"#).as_bytes());
    let ready = form.ready();
    form.finish().map(|()| ready)
}

fn kinds<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Vec<&'static str> {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.status, StatusCode::UNPROCESSABLE_ENTITY);
    match refusal.detail {
        Detail::List(faults) => faults.into_iter().map(|fault| fault.kind).collect(),
        Detail::Text(text) => panic!("{text}"),
    }
}

#[test]
fn a_size_is_a_number_or_the_text_of_one() {
    for text in ["7", "7.0", r#""7""#, r#"" 7 ""#, r#""07""#, r#""7.0""#, r#""+7""#, r#""\t7""#] {
        assert_eq!(size(text), Ok(7), "{text}");
    }
    for text in [
        "3",
        "11",
        "-1",
        "1e30",
        "1e400",
        "1000000000000000000000000000000",
        r#""11""#,
        r#""-4""#,
        r#""99999999999999999999""#,
    ] {
        assert_eq!(size(text), Err(Refusal::bad("Size must be between 4 and 10")), "{text}");
    }
    for (text, kind) in [
        (r#""""#, "int_parsing"),
        (r#""x""#, "int_parsing"),
        (r#""7.5""#, "int_parsing"),
        (r#""7.""#, "int_parsing"),
        (r#""0x7""#, "int_parsing"),
        ("7.5", "int_from_float"),
        ("null", "int_type"),
        ("true", "int_type"),
        ("[]", "int_type"),
        ("{}", "int_type"),
    ] {
        assert_eq!(kinds(size(text)), [kind], "{text}");
    }
}

#[test]
fn a_seed_is_made_where_none_is_given_and_else_taken_as_it_is() {
    for text in ["null", r#""""#] {
        let made = seed(text).unwrap();
        assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    }
    assert_eq!(seed(r#"" a ""#).unwrap(), " a ", "nothing is trimmed");
    let (longest, longer) = (format!("\"{}\"", "é".repeat(100)), format!("\"{}\"", "é".repeat(101)));
    assert_eq!(seed(&longest).unwrap(), "é".repeat(100));
    assert_eq!(seed(&longer), Err(Refusal::bad("Seed must be at most 100 characters")));
    for text in [r#""a\u0000b""#, r#""<b>""#, r#""a>""#, r#""\u0085""#, r#""\n""#] {
        assert_eq!(seed(text), Err(Refusal::bad("Seed contains forbidden characters")), "{text}");
    }
    for text in ["5", "true", "[]", "{}"] {
        assert_eq!(kinds(seed(text)), ["string_type"], "{text}");
    }
}

#[test]
fn a_client_may_be_called_anything_that_does_no_harm() {
    for text in
        ["a.b.*", "$KV", "x y/z", "🦀", ">".trim_matches('>'), "'; drop"].into_iter().filter(|text| !text.is_empty())
    {
        assert_eq!(client(&json!(text).to_string()).as_deref(), Ok(text));
    }
    let longest = "é".repeat(255);
    assert_eq!(client(&json!(longest).to_string()), Ok(longest));
    for text in [r#""""#.to_owned(), json!("x".repeat(256)).to_string()] {
        assert_eq!(client(&text), Err(Refusal::bad("client_id must be 1 to 255 characters")));
    }
    for text in [r#""<img onerror=x>""#, r#""a\u0000""#, r#""a\u007f""#] {
        assert_eq!(client(text), Err(Refusal::bad("client_id contains forbidden characters")));
    }
    assert_eq!(kinds(client("5")), ["string_type"]);
    assert_eq!(kinds(client("null")), ["string_type"]);
}

#[test]
fn whether_somebody_is_ready_is_said_in_many_ways() {
    for (texts, expected) in [
        (["true", "1", "1.0", r#""true""#, r#""YES""#, r#""on""#, r#""T""#, r#""y""#, r#""1""#], true),
        (["false", "0", "0.0", r#""False""#, r#""no""#, r#""OFF""#, r#""f""#, r#""n""#, r#""0""#], false),
    ] {
        for text in texts {
            assert_eq!(ready(text), Ok(expected), "{text}");
        }
    }
    for (text, kind) in
        [(r#""maybe""#, "bool_parsing"), ("2", "bool_parsing"), ("null", "bool_type"), ("[]", "bool_type")]
    {
        assert_eq!(kinds(ready(text)), [kind], "{text}");
    }
}

#[test]
fn all_that_is_wrong_with_a_shape_is_said_at_once() {
    let asked = |body: &str| {
        let mut form = Form::of(body.as_bytes());
        let _taken = (form.session("zzz"), form.client(), form.ready());
        kinds(form.finish())
    };
    assert_eq!(asked(r#"{"client_id":5}"#), ["uuid_parsing", "string_type", "missing"]);
    assert_eq!(asked(""), ["uuid_parsing", "missing"]);
    assert_eq!(asked("{"), ["uuid_parsing", "json_invalid"]);
    assert_eq!(asked("[]"), ["uuid_parsing", "model_attributes_type"]);
    let mut form = Form::of(b"{}");
    let _size = form.size();
    let refusal = form.finish().unwrap_err();
    let expected = json!([{ "type": "missing", "loc": ["body", "size"], "msg": "Field required", "input": {} }]);
    assert_eq!(serde_json::to_value(refusal.detail).unwrap(), expected);
}

#[test]
fn a_session_is_named_by_a_uuid_however_it_is_written() {
    let id = "5e551040-0000-4000-8000-0000000000ab";
    for text in [id, &id.to_uppercase(), &id.replace('-', "")] {
        assert_eq!(session_id(text).unwrap().as_str(), id);
    }
    for text in ["", "zzz", &format!("{{{id}}}"), &format!("urn:uuid:{id}"), "5e551040-0000-4000-8000-0000000000a"] {
        assert_eq!(session_id(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_body_is_too_odd_to_be_judged(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut form = Form::of(&body);
        let _taken = (form.size(), form.seed(), form.client(), form.ready(), form.session("x"));
        prop_assert!(form.finish().is_err());
    }
}

#[test]
fn a_seed_that_can_t_be_read_is_not_taken_for_none() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for text in [r#""\ud800""#, "1e400", &deep] {
        assert_eq!(kinds(seed(text)), ["string_type"], "{text}");
    }
    assert_eq!((kinds(client(r#""\ud800""#)), kinds(ready("1e400"))), (vec!["string_type"], vec!["bool_type"]));
    assert!(seed("null").is_ok_and(|seed| seed.len() == 32) && seed(" null ").is_ok());
}
