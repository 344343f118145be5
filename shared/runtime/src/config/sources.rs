//! Where configuration comes from, as layers of keys and values: who wins is their order.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{Fault, SERVICES};

/// The file that is read if it is there and no other is named.
const FILE: &str = "herald.toml";
/// The beginning of our variables' names.
const PREFIX: &str = "HERALD_";
/// Variables with our prefix that are no configuration of a service: the file's name, and what tests and scripts use.
const RESERVED: [&str; 2] = ["HERALD_CONFIG", "HERALD_NATS_SERVER"];

/// What configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; it must exist. Without one, `herald.toml` in the working directory is read if it is there.
    pub file: Option<PathBuf>,
    /// The environment, all of it.
    pub environment: Vec<(OsString, OsString)>,
    /// `KEY=VALUE` from the command line.
    pub set: Vec<String>,
}

/// The values of one source.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// `file herald.toml`, `env NATS_URL`, `flag --set nats.url`.
    pub(super) name: String,
    pub(super) values: Dict,
    /// For a layer of one key: the text as it was given, and how it reads as a TOML value, whichever comes second.
    pub(super) otherwise: Option<Value>,
}

impl Sources {
    /// The environment of this process, with what its command line said.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, set: Vec<String>) -> Self {
        Self { file, environment: std::env::vars_os().collect(), set }
    }

    /// All layers, the weakest first. `shared` are the keys of every service.
    pub(super) fn layers(
        &self,
        service: &str,
        shared: &[String],
        aliases: &[(&str, &str)],
        faults: &mut Vec<Fault>,
    ) -> Vec<Layer> {
        let mut layers = self.file_layers(service, shared, faults);
        layers.extend(self.variables(service, aliases, faults));
        for assignment in &self.set {
            match assignment.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => {
                    let path: Vec<_> = key.trim().split('.').collect();
                    layers.push(Layer::of_one(format!("flag --set {}", key.trim()), &path, value));
                }
                _ => faults.push(Fault {
                    key: String::new(),
                    source: Some("flag --set".to_owned()),
                    message: "expected KEY=VALUE".to_owned(),
                }),
            }
        }
        layers
    }

    /// The shared tables, then the service's own section.
    fn file_layers(&self, service: &str, shared: &[String], faults: &mut Vec<Fault>) -> Vec<Layer> {
        let path = match &self.file {
            Some(path) => path.as_path(),
            None if Path::new(FILE).exists() => Path::new(FILE),
            None => return Vec::new(),
        };
        let name = format!("file {}", path.display());
        let mut fault = |key: &str, message: String| {
            faults.push(Fault { key: key.to_owned(), source: Some(name.clone()), message });
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                fault("", format!("not readable: {error}"));
                return Vec::new();
            }
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                // The error's own form quotes the line, and that may hold a secret.
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                fault("", format!("no valid TOML in line {line}: {}", error.message()));
                return Vec::new();
            }
        };
        let (mut common, mut own) = (Dict::new(), Dict::new());
        for (key, value) in table {
            if shared.contains(&key) {
                common.insert(key, plain(value));
            } else if key == service {
                match plain(value) {
                    Value::Dict(_, section) => own = section,
                    _ => fault(&key, "expected a table".to_owned()),
                }
            } else if !SERVICES.contains(&key.as_str()) {
                let known = shared.join(", ");
                fault(&key, format!("unknown; at the top level stand {known}, and a table per service: [{service}]"));
            }
        }
        let layer = |values| Layer { name: name.clone(), values, otherwise: None };
        vec![layer(common), layer(own)]
    }

    /// Aliases first, then `HERALD_<KEY>`, then `HERALD_<SERVICE>__<KEY>`; in each, tables before the keys inside them.
    fn variables(&self, service: &str, aliases: &[(&str, &str)], faults: &mut Vec<Fault>) -> Vec<Layer> {
        let mut found: Vec<(u8, Vec<String>, String, &str)> = Vec::new();
        for (name, value) in &self.environment {
            let Some(name) = name.to_str() else { continue };
            let alias = aliases.iter().find(|(variable, _)| *variable == name);
            let key = name.strip_prefix(PREFIX).filter(|_| !RESERVED.contains(&name));
            if alias.is_none() && key.is_none() {
                continue;
            }
            let Some(value) = value.to_str() else {
                let source = Some(format!("env {name}"));
                faults.push(Fault { key: String::new(), source, message: "not valid UTF-8".to_owned() });
                continue;
            };
            // A variable set to nothing is how compose files and shells leave one out.
            if value.is_empty() {
                continue;
            }
            if let Some((_, key)) = alias {
                found.push((0, key.split('.').map(str::to_owned).collect(), name.to_owned(), value));
            }
            let Some(key) = key else { continue };
            let mut path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
            let section = path[0].replace('_', "-");
            if path.len() > 1 && SERVICES.contains(&section.as_str()) {
                if section == service {
                    path.remove(0);
                    found.push((2, path, name.to_owned(), value));
                }
            } else {
                found.push((1, path, name.to_owned(), value));
            }
        }
        found.sort_by(|a, b| (a.0, a.1.len(), &a.2).cmp(&(b.0, b.1.len(), &b.2)));
        let layer = |(_, path, name, value): (u8, Vec<String>, String, &str)| {
            Layer::of_one(format!("env {name}"), &path.iter().map(String::as_str).collect::<Vec<_>>(), value)
        };
        found.into_iter().map(layer).collect()
    }
}

impl Layer {
    /// One key from a text: what looks like a list or a table is one, everything else is a text first, so that a password
    /// `0x10` stays one, and a number only where a text does not fit.
    fn of_one(name: String, path: &[&str], text: &str) -> Self {
        let raw = Value::from(text.to_owned());
        let parsed = parsed(text);
        let (first, otherwise) = match parsed {
            Some(parsed) if text.trim_start().starts_with(['[', '{']) => (parsed, Some(raw)),
            parsed => (raw, parsed),
        };
        let nested = path.iter().rev().fold(first, |value, key| Value::from(Dict::from([((*key).to_owned(), value)])));
        let values = nested.into_dict().unwrap_or_default();
        Self { name, values, otherwise }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The text as a TOML value, if it is exactly one.
fn parsed(text: &str) -> Option<Value> {
    let table = format!("value = {text}").parse::<toml::Table>().ok()?;
    let value = table.get("value")?.clone();
    // "1\nother = 2" is two.
    (table.len() == 1).then(|| plain(value))
}

/// TOML to figment; dates are texts.
fn plain(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(boolean) => Value::from(boolean),
        toml::Value::Datetime(date) => Value::from(date.to_string()),
        toml::Value::Array(items) => Value::from(items.into_iter().map(plain).collect::<Vec<_>>()),
        toml::Value::Table(table) => {
            Value::from(table.into_iter().map(|(key, value)| (key, plain(value))).collect::<Dict>())
        }
    }
}
