//! JSON texts of an operator's own, with places for what is only known when they are sent.

use std::fmt;

/// A JSON object as text, in which `{name}` stands for something that is put there when it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    /// Which of the places it is.
    Place(usize),
}

/// What may stand in a template, and what does so while it is looked at whether it is JSON.
pub type Places = [(&'static str, &'static str)];

/// A text that is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidTemplate {
    /// It names a place that there is not.
    Unknown {
        /// What it names.
        name: String,
        /// What there is.
        places: Vec<&'static str>,
    },
    /// With something in its places it is no JSON object.
    NotJson,
}

impl fmt::Display for InvalidTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("must be a JSON object, as text"),
            Self::Unknown { name, places } => {
                let places: Vec<_> = places.iter().map(|place| format!("{{{place}}}")).collect();
                write!(f, "`{{{name}}}` is not known here: there is {}", places.join(", "))
            }
        }
    }
}

impl std::error::Error for InvalidTemplate {}

impl Template {
    /// Reads a template with these places.
    ///
    /// # Errors
    /// [`InvalidTemplate`]
    pub fn new(text: &str, places: &Places) -> Result<Self, InvalidTemplate> {
        let (mut pieces, mut rest, mut begun) = (Vec::new(), text, 0);
        while let Some(brace) = rest[begun..].find('{').map(|at| at + begun) {
            let Some(name) = name_at(&rest[brace..]) else {
                begun = brace + 1;
                continue;
            };
            let Some(place) = places.iter().position(|(known, _)| *known == name) else {
                let places = places.iter().map(|(name, _)| *name).collect();
                return Err(InvalidTemplate::Unknown { name: name.to_owned(), places });
            };
            pieces.extend([Piece::Text(rest[..brace].into()), Piece::Place(place)]);
            (rest, begun) = (&rest[brace + name.len() + 2..], 0);
        }
        pieces.push(Piece::Text(rest.into()));
        let template = Self { pieces };
        let sample: Vec<_> = places.iter().map(|(_, sample)| *sample).collect();
        let sample = serde_json::from_str::<serde_json::Value>(&template.filled(&sample));
        if sample.is_ok_and(|sample| sample.is_object()) { Ok(template) } else { Err(InvalidTemplate::NotJson) }
    }

    /// The text with these in its places, in their order: they must leave it JSON.
    #[must_use]
    pub fn filled(&self, values: &[&str]) -> String {
        self.pieces.iter().fold(String::new(), |text, piece| {
            text + match piece {
                Piece::Text(text) => &**text,
                Piece::Place(place) => values.get(*place).copied().unwrap_or_default(),
            }
        })
    }
}

/// The name in braces that a text begins with. No JSON begins an object like this.
fn name_at(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACES: &Places = &[("ts", "2025"), ("well", "true")];

    #[test]
    fn places_are_filled_and_everything_else_stays() {
        for (text, expected) in [
            (r#"{"ts":"{ts}","ok":{well}}"#, r#"{"ts":"T","ok":W}"#),
            (r#"{"a":{"b":{}},"{ts}":[{"c":1}], "x":"{ts}{ts}"}"#, r#"{"a":{"b":{}},"T":[{"c":1}], "x":"TT"}"#),
            ("{}", "{}"),
            (r#" { "é" : "{ }" } "#, r#" { "é" : "{ }" } "#),
        ] {
            assert_eq!(Template::new(text, PLACES).unwrap().filled(&["T", "W"]), expected);
        }
    }

    #[test]
    fn what_is_no_json_object_or_names_what_is_not_there_is_refused() {
        for bad in ["", "5", "[]", "{\"a\":{ts}x}", "{\"ts\":\"{ts}\"", "{ts}", "{\"a\":{}"] {
            assert_eq!(Template::new(bad, PLACES), Err(InvalidTemplate::NotJson), "{bad}");
        }
        let unknown = Template::new(r#"{"sid":"{sid}"}"#, PLACES).unwrap_err();
        assert_eq!(unknown.to_string(), "`{sid}` is not known here: there is {ts}, {well}");
    }

    proptest! {
        #[test]
        fn a_template_without_places_is_its_text(text in "[{}\"a:, \\[\\]é]{0,30}") {
            if let Ok(template) = Template::new(&text, &[]) {
                prop_assert_eq!(template.filled(&[]), text);
            }
        }
    }
}
