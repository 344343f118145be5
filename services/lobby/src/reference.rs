//! The reference data: four tables that are the same for every session, read at the start.
//!
//! Each is a CSV file (RFC 4180, UTF-8, with a header). Every value is a text, an empty field is null. A row that can't be what
//! it says is skipped and logged with its file and line; a file that is not there is an empty table. Nothing of it keeps the
//! service from starting.

mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use bytes::Bytes;
use serde::{Serialize, Serializer};

use self::table::Table;

/// The most a file may hold, in bytes: a table is answered as a whole.
const MOST_BYTES: u64 = 4 << 20;
/// Skipped rows of a file that are logged one by one.
const MOST_LOGGED: usize = 100;

/// What a table is called, and its columns. The first one is those that others' `entity_id` is of.
type Shape = (&'static str, &'static [&'static str]);
const SHAPES: [Shape; 4] = [
    ("entities", &["id", "name", "type", "age", "role", "backstory_path", "portrait_path"]),
    ("equipment", &["id", "entity_id", "name", "description"]),
    ("skills", &["id", "entity_id", "name", "description"]),
    ("specials", &["id", "entity_id", "description"]),
];

/// The tables, as they were read at the start: each one's name, and the answer about it.
#[derive(Debug, Clone)]
pub struct Reference {
    tables: [(&'static str, Bytes); 4],
}

impl Default for Reference {
    /// Empty tables.
    fn default() -> Self {
        Self { tables: SHAPES.map(|(name, columns)| (name, answer(name, &Table::empty(columns)))) }
    }
}

impl Reference {
    /// Reads them from a folder; what is wrong is logged and skipped, what is missing is empty. Reads files, so not in a task.
    #[must_use]
    pub fn load(folder: Option<&Path>) -> Self {
        let Some(folder) = folder else { return Self::default() };
        let mut entities = None;
        let tables = SHAPES.map(|(name, columns)| {
            let table = read(&folder.join(name).with_extension("csv"), columns, entities.as_ref());
            entities.get_or_insert_with(|| table.ids());
            (name, answer(name, &table))
        });
        Self { tables }
    }

    /// The answer about a table: `{"<name>":[rows]}` as JSON; `None` where there is no such table.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Bytes> {
        self.tables.iter().find(|(table, _)| *table == name).map(|(_, answer)| answer.clone())
    }
}

/// Reads a file, and logs what it skips of it.
fn read(path: &Path, columns: &'static [&'static str], entities: Option<&HashSet<String>>) -> Table {
    let file = path.display();
    let bytes = match contents(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::info!(%file, "no such file of reference data: its table is empty");
            return Table::empty(columns);
        }
        Err(error) => {
            tracing::error!(%file, %error, "a file of reference data can't be read: its table is empty");
            return Table::empty(columns);
        }
    };
    let (table, skipped) = Table::parse(columns, &bytes, entities);
    for (line, reason) in skipped.iter().take(MOST_LOGGED) {
        tracing::warn!(%file, line, %reason, "a row of the reference data is skipped");
    }
    if skipped.len() > MOST_LOGGED {
        tracing::warn!(%file, rows = skipped.len() - MOST_LOGGED, "more rows of the reference data are skipped");
    }
    table
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it holds more than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

/// `{"<name>":[rows]}`
fn answer(name: &str, table: &Table) -> Bytes {
    struct Named<'a>(&'a str, &'a Table);
    impl Serialize for Named<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map([(self.0, self.1)])
        }
    }
    // Texts under names that are texts: nothing of it can't be JSON.
    serde_json::to_vec(&Named(name, table)).unwrap_or_default().into()
}
