//! `--print-config`: the result, as TOML, with where each value came from, and no secret.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Common, Fault, Loaded, ServiceConfig, load, units::MASK};

impl<C: ServiceConfig> Loaded<C> {
    /// The configuration as TOML that would give it again (secrets aside), each value with its origin as a comment.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        self.lines(&mut text, &mut Vec::new(), &load::tree(&self.common));
        let own = load::tree(&self.service);
        if !own.is_empty() {
            let _infallible = writeln!(text, "\n[{}]", C::SERVICE);
            self.lines(&mut text, &mut Vec::new(), &own);
        }
        text
    }

    fn lines(&self, text: &mut String, path: &mut Vec<String>, table: &Map<String, Value>) {
        for (key, value) in table {
            path.push(key.clone());
            match value {
                Value::Object(inner) if !inner.is_empty() => self.lines(text, path, inner),
                _ => {
                    let key = path.join(".");
                    let origin = self.origin.of(&key).unwrap_or("default");
                    let name = path.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".");
                    let _infallible = match value {
                        Value::Null => writeln!(text, "# {name} is not set"),
                        value => writeln!(text, "{name} = {}  # {origin}", inline(value)),
                    };
                }
            }
            path.pop();
        }
    }
}

/// Every key of a service with its default as TOML (empty if it is not set), the shared keys first: what a README has to name.
#[must_use]
pub fn defaults<C: ServiceConfig>() -> Vec<(String, String)> {
    fn collect(keys: &mut Vec<(String, String)>, prefix: &str, table: &Map<String, Value>) {
        for (key, value) in table {
            let key = format!("{prefix}{}", quoted(key));
            match value {
                Value::Object(inner) if !inner.is_empty() => collect(keys, &format!("{key}."), inner),
                Value::Null => keys.push((key, String::new())),
                value => keys.push((key, inline(value))),
            }
        }
    }

    let mut keys = Vec::new();
    collect(&mut keys, "", &load::tree(&Common::with_operations_port(C::OPERATIONS_PORT)));
    collect(&mut keys, "", &load::tree(&C::default()));
    keys
}

/// A key as TOML wants it.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if bare { key.to_owned() } else { text(key) }
}

fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn inline(value: &Value) -> String {
    match value {
        Value::Null => text(""),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(string) => text(&without_credentials(string)),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(table) => {
            let set = table.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<_> = set.map(|(key, value)| format!("{} = {}", quoted(key), inline(value))).collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
    }
}

/// The text with `user:password@` and `token@` in its URLs masked.
pub(super) fn without_credentials(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        result.push_str(before);
        // The authority ends at the path, the query, the next URL of a list, or the text around it.
        let end = after.find(|c: char| matches!(c, '/' | '?' | '#' | ',' | '"' | '`') || c.is_whitespace());
        let (authority, tail) = after.split_at(end.unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                result.push_str(MASK);
                result.push('@');
                result.push_str(host);
            }
            None => result.push_str(authority),
        }
        rest = tail;
    }
    result + rest
}

impl Fault {
    /// Without credentials: messages of parsers quote what they could not read.
    pub(super) fn masked(self) -> Self {
        Self { message: without_credentials(&self.message), ..self }
    }
}
