//! What requests bring, and what is wrong with it: the shape of a field first (422, all faults at once), then its value (400).

use std::collections::BTreeMap;

use herald_protocol::SessionId;
use serde_json::{Value, json, value::RawValue};

use crate::{
    maze::size::{self, SizeError},
    refusal::{Fault, Refusal},
};

/// Most characters of a seed.
const LONGEST_SEED: usize = 100;
/// Most characters of a client's id.
const LONGEST_CLIENT: usize = 255;

/// The body of a request, and the faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Form {
    body: Value,
    /// As texts: numbers of any length are numbers.
    fields: BTreeMap<String, Box<RawValue>>,
    faults: Vec<Fault>,
    /// The body itself is no object: a field that lacks is not the fault.
    no_object: bool,
}

impl Form {
    /// Reads a body.
    pub(crate) fn of(body: &[u8]) -> Self {
        let mut form = Self::default();
        if body.is_empty() {
            return form.broken("missing", vec![json!("body")], "Field required", Value::Null);
        }
        match serde_json::from_slice::<Box<RawValue>>(body) {
            Err(error) => {
                let at = json!(error.column());
                form.broken("json_invalid", vec![json!("body"), at], "JSON decode error", json!({}))
            }
            Ok(text) => match serde_json::from_str(text.get()) {
                Ok(fields) => {
                    (form.body, form.fields) = (value(&text), fields);
                    form
                }
                Err(_) => {
                    let msg = "Input should be a valid dictionary or object to extract fields from";
                    form.broken("model_attributes_type", vec![json!("body")], msg, value(&text))
                }
            },
        }
    }

    fn broken(mut self, kind: &'static str, loc: Vec<Value>, msg: &'static str, input: Value) -> Self {
        self.no_object = true;
        self.faults.push(Fault { kind, loc, msg, input });
        self
    }

    fn fault(&mut self, field: &str, kind: &'static str, msg: &'static str, input: Value) {
        self.faults.push(Fault { kind, loc: vec![json!("body"), json!(field)], msg, input });
    }

    /// Takes a field that must be there.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.take_text(field).map(|text| value(&text))
    }

    fn take_text(&mut self, field: &str) -> Option<Box<RawValue>> {
        let text = self.fields.remove(field);
        if text.is_none() && !self.no_object {
            self.fault(field, "missing", "Field required", self.body.clone());
        }
        text
    }

    /// Refuses what is wrong with the shape of what was taken so far.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        if self.faults.is_empty() { Ok(()) } else { Err(Refusal::shape(self.faults)) }
    }

    /// The size of a labyrinth.
    pub(crate) fn size(&mut self) -> Size {
        let Some(text) = self.take_text("size") else { return Size(Err(SizeError::NotAnInteger)) };
        let read = size::read(text.get());
        if read == Err(SizeError::NotAnInteger) {
            let input = value(&text);
            let (kind, msg) = match input {
                Value::Number(_) => {
                    ("int_from_float", "Input should be a valid integer, got a number with a fractional part")
                }
                Value::String(_) => {
                    ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
                }
                _ => ("int_type", "Input should be a valid integer"),
            };
            self.fault("size", kind, msg, input);
        }
        Size(read)
    }

    /// The seed of a labyrinth, if there is one.
    pub(crate) fn seed(&mut self) -> Seed {
        // What can't be read is shown as null, and is none.
        let text = self.fields.remove("seed").filter(|text| text.get() != "null");
        match text.map(|text| value(&text)) {
            None => Seed(None),
            Some(Value::String(seed)) => Seed(Some(seed).filter(|seed| !seed.is_empty())),
            Some(other) => {
                self.fault("seed", "string_type", "Input should be a valid string", other);
                Seed(None)
            }
        }
    }

    /// The id of a client.
    pub(crate) fn client(&mut self) -> Client {
        match self.take("client_id") {
            Some(Value::String(client)) => Client(client),
            Some(other) => {
                self.fault("client_id", "string_type", "Input should be a valid string", other);
                Client(String::new())
            }
            None => Client(String::new()),
        }
    }

    /// Whether somebody is ready.
    pub(crate) fn ready(&mut self) -> bool {
        let Some(value) = self.take("ready") else { return false };
        boolean(&value).unwrap_or_else(|(kind, msg)| {
            self.fault("ready", kind, msg, value);
            false
        })
    }

    /// The session that the path names.
    pub(crate) fn session(&mut self, text: &str) -> Option<SessionId> {
        let id = session_id(text);
        if id.is_none() {
            self.faults.insert(0, not_a_uuid(text));
        }
        id
    }
}

/// The session that the path of a request without a body names.
pub(crate) fn session(text: &str) -> Result<SessionId, Refusal> {
    session_id(text).ok_or_else(|| Refusal::shape(vec![not_a_uuid(text)]))
}

/// A UUID in any case, with or without dashes, as our sessions are called.
pub(crate) fn session_id(text: &str) -> Option<SessionId> {
    // The library reads braces and a prefix, too.
    let id =
        Some(text).filter(|text| matches!(text.len(), 32 | 36)).and_then(|text| uuid::Uuid::parse_str(text).ok())?;
    SessionId::new(&id.to_string()).ok()
}

fn not_a_uuid(text: &str) -> Fault {
    let loc = vec![json!("path"), json!("session_id")];
    Fault { kind: "uuid_parsing", loc, msg: "Input should be a valid UUID", input: json!(text) }
}

/// What a field holds. A number that is too large for us to calculate with is shown as nothing.
fn value(text: &RawValue) -> Value {
    serde_json::from_str(text.get()).unwrap_or_default()
}

/// A size of the right shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(Result<u8, SizeError>);

impl Size {
    pub(crate) fn check(self) -> Result<u8, Refusal> {
        self.0.map_err(|_| Refusal::bad("Size must be between 4 and 10"))
    }
}

/// A seed of the right shape; none: one is made.
#[derive(Debug, Clone)]
pub(crate) struct Seed(Option<String>);

impl Seed {
    pub(crate) fn check(self) -> Result<String, Refusal> {
        let Some(seed) = self.0 else { return Ok(uuid::Uuid::new_v4().simple().to_string()) };
        if seed.chars().count() > LONGEST_SEED {
            return Err(Refusal::bad("Seed must be at most 100 characters"));
        }
        if is_forbidden(&seed) { Err(Refusal::bad("Seed contains forbidden characters")) } else { Ok(seed) }
    }
}

/// A client's id of the right shape.
#[derive(Debug, Clone)]
pub(crate) struct Client(String);

impl Client {
    pub(crate) fn check(self) -> Result<String, Refusal> {
        if !(1..=LONGEST_CLIENT).contains(&self.0.chars().count()) {
            return Err(Refusal::bad("client_id must be 1 to 255 characters"));
        }
        if is_forbidden(&self.0) {
            return Err(Refusal::bad("client_id contains forbidden characters"));
        }
        Ok(self.0)
    }
}

/// Whether a text holds what the original page would write into its document unescaped, or what can't be seen.
fn is_forbidden(text: &str) -> bool {
    text.chars().any(|character| character.is_control() || matches!(character, '<' | '>'))
}

/// A type of fault, and what it says.
type Wrong = (&'static str, &'static str);

fn boolean(value: &Value) -> Result<bool, Wrong> {
    const PARSING: Wrong = ("bool_parsing", "Input should be a valid boolean, unable to interpret input");
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Number(number) => match number.as_f64() {
            Some(0.0) => Ok(false),
            Some(1.0) => Ok(true),
            _ => Err(PARSING),
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "t" | "y" => Ok(true),
            "false" | "0" | "no" | "off" | "f" | "n" => Ok(false),
            _ => Err(PARSING),
        },
        _ => Err(("bool_type", "Input should be a valid boolean")),
    }
}

#[cfg(test)]
mod tests;
