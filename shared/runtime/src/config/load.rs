//! From layers to a checked configuration, with every fault found.

use std::collections::{BTreeMap, BTreeSet};

use figment::Figment;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use super::{Common, Fault, Faults, ServiceConfig, Sources, sources::Layer};

/// The variables of all services beside `HERALD_<KEY>`.
const ALIASES: [(&str, &str); 3] =
    [("NATS_URL", "nats.url"), ("RUST_LOG", "log.filter"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "traces.endpoint")];
/// The name of the layer of defaults.
const DEFAULT: &str = "default";
/// Faults after which we stop looking for more: nobody reads on.
const ENOUGH: usize = 100;

/// A checked configuration, and where each value of it came from.
#[derive(Clone, Debug)]
pub struct Loaded<C> {
    /// What every service has.
    pub common: Common,
    /// What this service has.
    pub service: C,
    pub(super) origin: Origin,
}

/// Who said what.
#[derive(Clone, Debug)]
pub(super) struct Origin(Figment);

impl Origin {
    /// The name of the layer that a key's value came from; that of the table around it, if it has none of its own.
    pub(super) fn of(&self, key: &str) -> Option<&str> {
        let mut key = key;
        loop {
            if let Some(metadata) = self.0.find_metadata(key) {
                return Some(&metadata.name);
            }
            (key, _) = key.rsplit_once('.')?;
        }
    }

    /// The same, for a fault: that something is by default explains nothing.
    fn of_fault(&self, key: &str) -> Option<String> {
        self.of(key).filter(|name| *name != DEFAULT).map(str::to_owned)
    }
}

/// Reads the configuration of a service, in this order, the later the stronger:
///
/// 1. the defaults in code,
/// 2. the file: shared tables (`[nats]`, `[log]`, `[operations]`, `[shutdown]`, `[traces]`, `instance`, `ports_file`), then the service's own
///    section, which may hold any of them again for itself,
/// 3. the environment: aliases (`NATS_URL`, `RUST_LOG`, `OTEL_EXPORTER_OTLP_ENDPOINT`, the service's own), then `HERALD_<KEY>` with `__` between the parts of
///    the key (`HERALD_NATS__URL`), then `HERALD_<SERVICE>__<KEY>` for one service of several (`HERALD_WS_EDGE__NATS__URL`). A
///    variable set to nothing counts as not set.
/// 4. `--set KEY=VALUE` (`nats.url=...`).
///
/// A list or table in the environment or in a flag is written as in TOML: `["a","b"]`, `{ key = "value" }`.
///
/// # Errors
/// With all faults at once: unknown keys, wrong types, values out of range.
pub fn load<C: ServiceConfig>(sources: &Sources) -> Result<Loaded<C>, Faults> {
    let mut faults = Vec::new();
    let defaults = (tree(&Common::with_operations_port(C::OPERATIONS_PORT)), tree(&C::default()));
    let shared: Vec<String> = defaults.0.keys().cloned().collect();
    debug_assert!(defaults.1.keys().all(|key| !shared.contains(key)), "a key of Common is taken");
    let aliases: Vec<_> = ALIASES.iter().chain(C::ALIASES).copied().collect();
    let layers = sources.layers(C::SERVICE, &shared, &aliases, &mut faults);

    let of_code = Layer { name: DEFAULT.to_owned(), values: dict(&defaults.0, &defaults.1), otherwise: None };
    let figment = layers.iter().fold(Figment::from(of_code), |figment, layer| figment.merge(layer.clone()));
    let origin = Origin(figment);
    let mut merged = match origin.0.extract::<Map<String, Value>>() {
        Ok(merged) => merged,
        Err(error) => {
            faults.push(Fault::new("", error.to_string()));
            return Err(Faults(faults));
        }
    };
    let common = shared.iter().filter_map(|key| Some((key.clone(), merged.remove(key)?))).collect();
    let mut reader = Reader { origin: &origin, layers: &layers, faults: &mut faults };
    let common: Option<Common> = reader.read(common, &defaults.0);
    let service: Option<C> = reader.read(merged, &defaults.1);

    let mut checked = Vec::new();
    checked.extend(common.iter().flat_map(Common::validate));
    checked.extend(service.iter().flat_map(C::validate));
    faults.extend(checked.into_iter().map(|fault| Fault { source: origin.of_fault(&fault.key), ..fault }));
    match (common, service) {
        (Some(common), Some(service)) if faults.is_empty() => Ok(Loaded { common, service, origin }),
        _ => Err(Faults(faults.into_iter().map(Fault::masked).collect())),
    }
}

/// A configuration as a tree; secrets are masked in it.
pub(super) fn tree(config: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        // A unit struct has no keys; nothing else of a configuration fails to serialise.
        _ => Map::new(),
    }
}

fn dict(common: &Map<String, Value>, own: &Map<String, Value>) -> figment::value::Dict {
    let both: Map<String, Value> = own.iter().chain(common).map(|(key, value)| (key.clone(), value.clone())).collect();
    figment::value::Value::serialize(both).ok().and_then(figment::value::Value::into_dict).unwrap_or_default()
}

/// Deserialises a tree, and on a fault notes it, repairs the tree and goes on, until everything has been seen.
struct Reader<'a> {
    origin: &'a Origin,
    layers: &'a [Layer],
    faults: &'a mut Vec<Fault>,
}

impl Reader<'_> {
    fn read<T: DeserializeOwned>(&mut self, tree: Map<String, Value>, defaults: &Map<String, Value>) -> Option<T> {
        let mut tree = Value::Object(tree);
        let mut second_reading = BTreeSet::new();
        let mut removed = Removed::default();
        loop {
            let mut unknown = Vec::new();
            let mut track = serde_path_to_error::Track::new();
            let tracked = serde_path_to_error::Deserializer::new(tree.clone(), &mut track);
            let result =
                serde_ignored::deserialize(tracked, |path: serde_ignored::Path<'_>| unknown.push(path.to_string()));
            let error: serde_json::Error = match result {
                Ok(value) => {
                    self.report_unknown(unknown, &removed, defaults);
                    return Some(value);
                }
                Err(error) => error,
            };
            let (place, message) = place(&track.path(), &error.to_string());
            let key = removed.original(&place);
            // A value from a variable or a flag may be a text or not: the other reading comes before the complaint.
            if let Some(other) = self.otherwise(&key).filter(|_| second_reading.insert(key.clone()))
                && let Some(value) = find(&mut tree, &place)
            {
                *value = other;
                continue;
            }
            if !self.follows_from_another(&key, &message) {
                self.faults.push(Fault { source: self.origin.of_fault(&key), ..Fault::new(key.clone(), message) });
            }
            if self.faults.len() >= ENOUGH || !repair(&mut tree, &place, defaults, &mut removed) {
                return None;
            }
        }
    }

    fn otherwise(&self, key: &str) -> Option<Value> {
        let name = self.origin.of(key)?;
        // The last layer of a name is the one that is in force.
        let layer = self.layers.iter().rev().find(|layer| layer.name == name)?;
        // A layer of a whole table has no second reading for the keys inside it.
        let leaf = layer.otherwise.as_ref().filter(|_| reaches(&layer.values, key))?;
        serde_json::to_value(leaf).ok()
    }

    /// "missing field `x`" where `x` was taken out because it was faulty.
    fn follows_from_another(&self, key: &str, message: &str) -> bool {
        let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) else {
            return false;
        };
        let missing = if key.is_empty() { field.to_owned() } else { format!("{key}.{field}") };
        self.faults.iter().any(|fault| fault.key == missing)
    }

    fn report_unknown(&mut self, unknown: Vec<String>, removed: &Removed, defaults: &Map<String, Value>) {
        for path in unknown {
            // Options and newtypes appear as `?` in these paths.
            let place: Vec<_> = path.split('.').filter(|part| *part != "?").map(str::to_owned).collect();
            let key = removed.original(&place);
            let known = match place.split_last() {
                Some((_, parents)) => siblings(defaults, parents),
                None => Vec::new(),
            };
            let hint = if known.is_empty() { String::new() } else { format!("; known here: {}", known.join(", ")) };
            self.faults.push(Fault {
                source: self.origin.of_fault(&key),
                ..Fault::new(key.clone(), format!("unknown key{hint}"))
            });
        }
    }
}

/// Where an error happened, as keys and indexes, and its message. An unknown field is its own place.
fn place(path: &Path, message: &str) -> (Vec<String>, String) {
    let mut place: Vec<String> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    if let Some(field) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        if place.last().map(String::as_str) != Some(field) {
            place.push(field.to_owned());
        }
        let known =
            message.split_once(", expected ").map_or(String::new(), |(_, known)| format!("; known here: {known}"));
        return (place, format!("unknown key{known}"));
    }
    (place, message.to_owned())
}

/// Which items of lists were taken out, so that the others keep their numbers in messages.
#[derive(Default)]
struct Removed(BTreeMap<String, BTreeSet<usize>>);

impl Removed {
    /// The dotted key, in the numbers of the source.
    fn original(&self, place: &[String]) -> String {
        let mut key = String::new();
        for part in place {
            let part = match (self.0.get(&key), part.parse::<usize>()) {
                (Some(gone), Ok(index)) => {
                    (0..).filter(|number| !gone.contains(number)).nth(index).unwrap_or(index).to_string()
                }
                _ => part.clone(),
            };
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(&part);
        }
        key
    }

    fn note(&mut self, list: &[String], place: &[String]) {
        let original = self.original(place);
        if let Some(index) = original.rsplit('.').next().and_then(|index| index.parse().ok()) {
            self.0.entry(self.original(list)).or_default().insert(index);
        }
    }
}

/// Puts the default in the faulty value's place, or takes the value out; false if there is nothing left to repair.
fn repair(tree: &mut Value, place: &[String], defaults: &Map<String, Value>, removed: &mut Removed) -> bool {
    let Some((last, parents)) = place.split_last() else { return false };
    let default = lookup(defaults, place).cloned();
    let Some(parent) = find(tree, parents) else { return false };
    match parent {
        Value::Object(map) => match (map.get(last), default) {
            (Some(present), Some(default)) if *present != default => {
                map.insert(last.clone(), default);
                true
            }
            (Some(_), _) => map.remove(last).is_some(),
            (None, _) => false,
        },
        Value::Array(items) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                removed.note(parents, place);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

fn find<'a>(tree: &'a mut Value, place: &[String]) -> Option<&'a mut Value> {
    place.iter().try_fold(tree, |value, part| match value {
        Value::Object(map) => map.get_mut(part),
        Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn lookup<'a>(defaults: &'a Map<String, Value>, place: &[String]) -> Option<&'a Value> {
    let (first, rest) = place.split_first()?;
    rest.iter().try_fold(defaults.get(first)?, |value, part| value.as_object()?.get(part))
}

fn siblings(defaults: &Map<String, Value>, parents: &[String]) -> Vec<String> {
    let table = if parents.is_empty() { Some(defaults) } else { lookup(defaults, parents).and_then(Value::as_object) };
    table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

/// Whether the one value of such a layer is that of the key.
fn reaches(values: &figment::value::Dict, key: &str) -> bool {
    let mut parts = key.split('.');
    let Some(first) = parts.next().and_then(|part| values.get(part)) else { return false };
    let mut value = first;
    for part in parts {
        match value.as_dict().and_then(|dict| dict.get(part)) {
            Some(inner) => value = inner,
            None => return false,
        }
    }
    true
}
