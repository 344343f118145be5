//! One table, out of the text of its file.

use std::collections::HashSet;

use csv::{ByteRecord, ReaderBuilder};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// The rows of a table, in the order of its file.
#[derive(Debug)]
pub(super) struct Table {
    columns: &'static [&'static str],
    /// Of each row as many values as there are columns.
    rows: Vec<Vec<Option<String>>>,
}

/// Why a row is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Skipped {
    #[error("it has no column {0}")]
    Missing(&'static str),
    #[error("it has {0} fields, but the header {1}")]
    Fields(usize, usize),
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    #[error("its id is empty")]
    NoId,
    #[error("id {0:?} is there already")]
    Twice(String),
    #[error("no entity has id {0:?}")]
    NoEntity(String),
    #[error("the file can't be read on: {0}")]
    Broken(String),
}

impl Table {
    pub(super) fn empty(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// The table of a file, and what was skipped of it, each with its line. With `entities`, `entity_id` is one of these.
    pub(super) fn parse(
        columns: &'static [&'static str],
        file: &[u8],
        entities: Option<&HashSet<String>>,
    ) -> (Self, Vec<(u64, Skipped)>) {
        let (mut table, mut skipped, mut ids) = (Self::empty(columns), Vec::new(), HashSet::new());
        // Which number of fields is right we know better than the reader.
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(file);
        let header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return (table, vec![(1, Skipped::Broken(error.to_string()))]),
        };
        // Where in a row each of our columns is.
        let places: Vec<_> =
            columns.iter().map(|name| (*name, header.iter().position(|field| field == name.as_bytes()))).collect();
        let mut record = ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    skipped.push((reader.position().line(), Skipped::Broken(error.to_string())));
                    break;
                }
            }
            let row = values(&record, header.len(), &places).and_then(|row| {
                let value =
                    |name| columns.iter().position(|column| *column == name).and_then(|place| row[place].clone());
                let id = value("id").ok_or(Skipped::NoId)?;
                if let Some(entities) = entities {
                    let entity = value("entity_id").unwrap_or_default();
                    if !entities.contains(&entity) {
                        return Err(Skipped::NoEntity(entity));
                    }
                }
                if ids.insert(id.clone()) { Ok(row) } else { Err(Skipped::Twice(id)) }
            });
            match row {
                Ok(row) => table.rows.push(row),
                Err(reason) => skipped.push((record.position().map_or(0, csv::Position::line), reason)),
            }
        }
        (table, skipped)
    }

    /// The ids of its rows.
    pub(super) fn ids(&self) -> HashSet<String> {
        let place = self.columns.iter().position(|column| *column == "id");
        self.rows.iter().filter_map(|row| row.get(place?)?.clone()).collect()
    }
}

/// The values of our columns in a row of a file whose header has so many fields.
fn values(
    record: &ByteRecord,
    fields: usize,
    places: &[(&'static str, Option<usize>)],
) -> Result<Vec<Option<String>>, Skipped> {
    if record.len() > fields {
        return Err(Skipped::Fields(record.len(), fields));
    }
    let value = |(name, place): &(&'static str, Option<usize>)| {
        let field = place.and_then(|place| record.get(place)).ok_or(Skipped::Missing(name))?;
        let text = str::from_utf8(field).map_err(|_| Skipped::NotText(name))?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    };
    places.iter().map(value).collect()
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|row| Row(self.columns, row)))
    }
}

/// A row as an object, its columns in their order.
struct Row<'a>(&'a [&'static str], &'a [Option<String>]);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}
