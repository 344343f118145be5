//! Values and the schemas that documents give for them: as much of JSON Schema as our documents use. A word it does not know is a
//! fault of the document, so that nothing is passed over in silence.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

/// Words that say nothing about values.
const REMARKS: [&str; 3] = ["description", "title", "examples"];

/// The schemas of a document.
#[derive(Clone, Copy, Debug)]
pub struct Schemas<'a> {
    document: &'a Value,
    closed: bool,
}

impl<'a> Schemas<'a> {
    /// Those that stand in `document`, where their references lead.
    #[must_use]
    pub const fn of(document: &'a Value) -> Self {
        Self { document, closed: false }
    }

    /// The same, by which an object has no members but those that its schema names, unless it says something about others.
    #[must_use]
    pub const fn closed(self) -> Self {
        Self { closed: true, ..self }
    }

    /// A value of the document, or what it refers to.
    ///
    /// # Panics
    /// If that leads nowhere.
    #[must_use]
    pub fn resolved(self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let target = reference.strip_prefix('#').and_then(|pointer| self.document.pointer(pointer));
        self.resolved(target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
    }

    /// What is wrong with a value, each with its place in it; nothing, if it is what the schema says.
    ///
    /// # Panics
    /// If the schema can't be understood.
    #[must_use]
    pub fn faults(self, schema: &'a Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(schema, value, "", self.closed, &mut faults);
        faults
    }

    fn check(self, schema: &'a Value, value: &Value, at: &str, closed: bool, faults: &mut Vec<String>) {
        let schema = self.resolved(schema);
        let words = schema.as_object().unwrap_or_else(|| panic!("not a schema: {schema}"));
        let mut fault = |text: String| faults.push(format!("{}: {text}", if at.is_empty() { "/" } else { at }));
        for (word, rule) in words {
            let number = || rule.as_f64().unwrap_or_else(|| panic!("{word}: {rule}"));
            match word.as_str() {
                "type" if !types(rule).any(|name| is_of(name, value)) => {
                    fault(format!("{value} is not of type {rule}"))
                }
                "const" if rule != value => fault(format!("{value} is not {rule}")),
                "enum" if !rule.as_array().expect("a list").contains(value) => {
                    fault(format!("{value} is none of {rule}"))
                }
                "pattern" => {
                    let pattern = Regex::new(rule.as_str().expect("a text")).expect("a pattern");
                    if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                        fault(format!("{value} is not like {rule}"));
                    }
                }
                "minimum" if value.as_f64().is_some_and(|it| it < number()) => {
                    fault(format!("{value} is below {rule}"))
                }
                "maximum" if value.as_f64().is_some_and(|it| it > number()) => {
                    fault(format!("{value} is above {rule}"))
                }
                "minLength" if value.as_str().is_some_and(|text| (text.chars().count() as f64) < number()) => {
                    fault(format!("{value} is shorter than {rule}"));
                }
                "required" => {
                    let names = rule.as_array().expect("a list").iter().filter_map(Value::as_str);
                    let missing = names.filter(|name| value.is_object() && value.get(name).is_none());
                    missing.for_each(|name| fault(format!("{name} is missing")));
                }
                "type" | "const" | "enum" | "minimum" | "maximum" | "minLength" => {}
                "items" | "properties" | "additionalProperties" | "allOf" => {}
                remark if REMARKS.contains(&remark) => {}
                unknown => panic!("a word of schemas that is not known here: {unknown}"),
            }
        }
        self.check_inside(schema, value, at, closed, faults);
    }

    fn check_inside(self, schema: &'a Value, value: &Value, at: &str, closed: bool, faults: &mut Vec<String>) {
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.check(part, value, at, false, faults);
        }
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            for (index, value) in values.iter().enumerate() {
                self.check(items, value, &format!("{at}/{index}"), self.closed, faults);
            }
        }
        let Some(members) = value.as_object() else { return };
        let known = if closed { self.names(schema) } else { None };
        for (name, value) in members {
            let at = format!("{at}/{name}");
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(schema), _) => self.check(schema, value, &at, self.closed, faults),
                (None, Some(Value::Bool(true))) => {}
                (None, Some(Value::Bool(false))) => faults.push(format!("{at}: not to be there")),
                (None, Some(schema)) => self.check(schema, value, &at, self.closed, faults),
                (None, None) if known.as_ref().is_some_and(|known| !known.contains(name.as_str())) => {
                    faults.push(format!("{at}: not described"));
                }
                (None, None) => {}
            }
        }
    }

    /// The members that a schema names; `None` where it leaves them open.
    fn names(self, schema: &'a Value) -> Option<BTreeSet<&'a str>> {
        let schema = self.resolved(schema);
        let parts = schema["allOf"].as_array().into_iter().flatten().filter_map(|part| self.names(part));
        let mut names: BTreeSet<_> = parts.flatten().collect();
        match schema["properties"].as_object() {
            Some(properties) => names.extend(properties.keys().map(String::as_str)),
            None if names.is_empty() => return None,
            None => {}
        }
        Some(names)
    }
}

/// The names of a `type`: one, or a list of them.
fn types(rule: &Value) -> impl Iterator<Item = &str> {
    rule.as_str().into_iter().chain(rule.as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("not a type: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(schema: Value, value: &Value) -> usize {
        let document = json!({ "name": { "type": "string", "pattern": "^[a-z]+$", "minLength": 2 }, "it": schema });
        Schemas::of(&document).faults(&document["it"], value).len()
    }

    #[test]
    fn each_word_finds_what_is_wrong_and_nothing_else() {
        let table = [
            (json!({ "type": "integer" }), json!(5), json!(5.5)),
            (json!({ "type": ["string", "null"] }), json!(null), json!(5)),
            (json!({ "const": "a" }), json!("a"), json!("b")),
            (json!({ "enum": ["a", 1] }), json!(1), json!("b")),
            (json!({ "$ref": "#/name" }), json!("ab"), json!("Ab")),
            (json!({ "$ref": "#/name" }), json!("ab"), json!("a")),
            (json!({ "minimum": 1, "maximum": 3 }), json!(3), json!(4)),
            (json!({ "items": { "type": "number" } }), json!([1, 2.5]), json!([1, "2"])),
            (json!({ "required": ["a"] }), json!({ "a": 1 }), json!({ "b": 1 })),
            (json!({ "properties": { "a": { "type": "number" } } }), json!({ "b": "x" }), json!({ "a": "x" })),
            (json!({ "additionalProperties": { "type": "number" } }), json!({ "b": 1 }), json!({ "b": "x" })),
            (json!({ "properties": { "a": {} }, "additionalProperties": false }), json!({ "a": 1 }), json!({ "b": 1 })),
            (
                json!({ "allOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
                json!({ "a": 1, "b": 2 }),
                json!({ "a": 1 }),
            ),
        ];
        for (schema, good, bad) in table {
            assert_eq!((faults(schema.clone(), &good), faults(schema.clone(), &bad)), (0, 1), "{schema}");
        }
    }

    #[test]
    fn a_closed_schema_misses_what_it_does_not_name() {
        let document = json!({
            "plain": { "properties": { "a": { "properties": { "b": {} } } } },
            "open": { "type": "object" },
            "all": { "allOf": [{ "$ref": "#/plain" }, { "properties": { "c": {} } }] },
        });
        let closed = Schemas::of(&document).closed();
        for (name, value, expected) in [
            ("plain", json!({ "a": { "b": 1 } }), 0),
            ("plain", json!({ "a": { "x": 1 }, "y": 1 }), 2),
            ("open", json!({ "x": 1 }), 0),
            ("all", json!({ "a": {}, "c": 1 }), 0),
            ("all", json!({ "a": {}, "d": 1 }), 1),
        ] {
            assert_eq!(closed.faults(&document[name], &value).len(), expected, "{name} {value}");
        }
    }
}
