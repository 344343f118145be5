//! The schema of a frame: what a dialect makes of a payload, in the words of JSON Schema.

use herald_protocol::subject::{ARENA, GM};
use serde_json::{Value, json};

use super::{Known, schema};
use crate::dialect::{AS_THEY_ARE, DialectName};

/// The schema of the frames of an event. `pictures`: its agents have some; `schemas`: those of the document.
pub(super) fn of(dialect: DialectName, pictures: bool, event: &Known, schemas: &Value) -> Value {
    let payload = json!({ "$ref": schema(&event.key()) });
    let name = text(&event.name);
    let (root, topic) = (event.root(), event.topic());
    let head = match dialect {
        DialectName::Raw => return payload,
        DialectName::App if root == GM => json!({ "event": name, "data": lifted(event, payload, schemas) }),
        DialectName::App if root == ARENA => {
            let data = if pictures { pictured(payload, &event.text["payload"]) } else { payload };
            json!({ "event": name, "subject": text(topic), "data": data })
        }
        DialectName::Gm if topic.ends_with("}.output") => {
            let take =
                json!({ "type": "object", "required": ["take"], "properties": { "take": { "type": "string" } } });
            json!({ "subject": { "const": "agent.status" }, "data": { "allOf": [payload, take] } })
        }
        DialectName::Gm => json!({ "subject": text(topic), "data": payload }),
        _ => json!({ "event": name, "data": payload }),
    };
    numbered(head, dialect != DialectName::Gm)
}

/// A frame with its numbers. In the envelope of the Game Master they are for clients of `herald.v1` alone.
fn numbered(mut properties: Value, always: bool) -> Value {
    let mut required: Vec<_> = properties.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    for (name, of) in [("seq", "Seq"), ("ts", "Time"), ("prev", "Prev"), ("snapshot", "Snapshot")] {
        properties[name] = json!({ "$ref": schema(of) });
        if always && matches!(name, "seq" | "ts") {
            required.push(name.to_owned());
        }
    }
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// A text that is this one; words in braces stand for any.
fn text(name: &str) -> Value {
    if !name.contains('{') {
        return json!({ "const": name });
    }
    // The last one, of a root of which nothing more is known, for more than one.
    let any = |word: &str| if word == "{topic}" { ".+".to_owned() } else { "[^.]+".to_owned() };
    let words = name.split('.').map(|word| if word.starts_with('{') { any(word) } else { word.to_owned() });
    json!({ "type": "string", "pattern": format!("^{}$", words.collect::<Vec<_>>().join("\\.")) })
}

/// What is under `data` lies one level higher, with the event's type.
fn lifted(event: &Known, payload: Value, schemas: &Value) -> Value {
    let written = &event.text["payload"];
    let of_ours = |reference: &str| reference.strip_prefix("#/components/schemas/").map(|name| &schemas[name]);
    let written = written["$ref"].as_str().and_then(of_ours).unwrap_or(written);
    let Some(data) = written["properties"].get("data") else { return payload };
    if AS_THEY_ARE.contains(&event.topic()) {
        return payload;
    }
    let typed = json!({ "type": "object", "required": ["type"], "properties": { "type": { "type": "string" } } });
    match data["type"].as_str() {
        Some("object") => {
            json!({ "allOf": [{ "$ref": format!("{}/properties/data", schema(&event.key())) }, typed] })
        }
        Some(_) => payload,
        None => json!({ "$ref": schema("Any") }),
    }
}

/// With the addresses of pictures, wherever a name stands. Survivors are names alone: they become objects for it.
fn pictured(payload: Value, written: &Value) -> Value {
    let text = json!({ "type": "string" });
    let mut patched = written.clone();
    let Some(properties) = patched["properties"].as_object_mut() else { return payload };
    for (name, url) in
        [("agent_name", "avatar_url"), ("parent_name", "parent_avatar_url"), ("child_name", "child_avatar_url")]
    {
        if properties.contains_key(name) {
            properties.insert(url.to_owned(), text.clone());
        }
    }
    for list in ["agents", "graveyard"] {
        if let Some(items) = properties.get_mut(list).and_then(|list| list.get_mut("items")) {
            let beside = json!({ "type": "object", "properties": { "avatar_url": text } });
            *items = json!({ "allOf": [items.take(), beside] });
        }
    }
    if let Some(items) = properties.get_mut("survivors").and_then(|list| list.get_mut("items")) {
        let properties = json!({ "name": text, "avatar_url": text });
        *items = json!({ "type": "object", "required": ["name", "avatar_url"], "properties": properties });
    }
    if patched == *written { payload } else { patched }
}
