//! Labyrinths: the rule `dfs1`, and what a tile is called.

use serde::Serialize;

/// The side letters of a cell's bits: N=1, E=2, S=4, W=8.
pub type Sides = u8;

/// A labyrinth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maze {
    /// Cells of a side.
    pub size: u8,
    /// Column of the start cell.
    pub start_x: u8,
    /// Row of the start cell.
    pub start_y: u8,
    /// One hex digit for each cell, row by row: its open sides.
    pub map: String,
}

/// A cell, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tile {
    /// Column.
    pub x: u8,
    /// Row.
    pub y: u8,
    /// What it is: `turn`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its open sides, alphabetical.
    pub open_directions: &'static [&'static str],
    /// The name of its picture.
    pub image: &'static str,
}

/// The labyrinth of that size and seed, always the same.
#[must_use]
pub fn dfs1(size: u8, _seed: &str) -> Maze {
    Maze { size, start_x: 0, start_y: 0, map: String::new() }
}

/// The tiles of a map, row by row; `None` where it is none (not `size`² hex digits 1 to f).
#[must_use]
pub fn tiles(_size: u8, _map: &str) -> Option<Vec<Tile>> {
    None
}
