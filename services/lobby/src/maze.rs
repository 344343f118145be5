//! Labyrinths: the rule `dfs1`, and what a tile is called.
//!
//! A labyrinth is a square of cells, x to the right, y down, in which every cell is reached from every other by exactly one way.
//! It is a function of size and seed and of nothing else: equal ones give equal bytes on every instance, platform and version.
//! So nothing of [`dfs1`] may ever change; another way of drawing labyrinths is another rule with another name.

mod dice;
pub mod size;
#[cfg(test)]
mod tests;

use serde::Serialize;

use self::dice::Dice;

/// The name of the rule, kept with each labyrinth that was made by it.
pub const GENERATOR: &str = "dfs1";

/// The open sides of a cell, one bit for each: N=1, E=2, S=4, W=8.
pub type Sides = u8;

const N: Sides = 1;
const E: Sides = 2;
const S: Sides = 4;
const W: Sides = 8;

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

/// The labyrinth of that size and seed, always the same. Sizes are [`size::LEAST`] to [`size::MOST`]; others are taken for the
/// nearest of these.
#[must_use]
pub fn dfs1(size: u8, seed: &str) -> Maze {
    let size = size.clamp(size::LEAST, size::MOST);
    let mut dice = Dice::new(size, seed);
    let (start_x, start_y) = (dice.below(size), dice.below(size));
    let mut cells: Vec<Sides> = vec![0; usize::from(size) * usize::from(size)];
    // The way from the start to where it is now: each cell with the order of its sides, and how many of them were looked at. A
    // cell was entered once one of its sides is open, or if it is the start.
    let mut way = vec![(start_x, start_y, order(&mut dice), 0)];
    while let Some((x, y, sides, looked)) = way.last_mut() {
        let (x, y) = (*x, *y);
        let Some(&side) = sides.get(*looked) else {
            way.pop();
            continue;
        };
        *looked += 1;
        let Some((next_x, next_y)) = neighbour(size, x, y, side) else { continue };
        let next = place(size, next_x, next_y);
        if cells[next] != 0 || (next_x, next_y) == (start_x, start_y) {
            continue;
        }
        cells[place(size, x, y)] |= side;
        cells[next] |= opposite(side);
        way.push((next_x, next_y, order(&mut dice), 0));
    }
    let map = cells.into_iter().filter_map(|sides| char::from_digit(sides.into(), 16)).collect();
    Maze { size, start_x, start_y, map }
}

/// The tiles of a map, row by row; `None` where it is none (not `size`² hex digits 1 to f).
#[must_use]
pub fn tiles(size: u8, map: &str) -> Option<Vec<Tile>> {
    if map.len() != usize::from(size) * usize::from(size) {
        return None;
    }
    let places = (0..size).flat_map(|y| (0..size).map(move |x| (x, y)));
    places
        .zip(map.bytes())
        .map(|((x, y), digit)| {
            let sides = char::from(digit).to_digit(16)?;
            let (kind, image, open_directions) = *NAMES.get(usize::try_from(sides).ok()?.checked_sub(1)?)?;
            Some(Tile { x, y, kind, open_directions, image })
        })
        .collect()
}

/// What a tile is called, by its sides, 1 to f: what it is, its picture, its open sides. A dead end's letter is the side that is
/// open, a T's the one that is closed.
type Named = (&'static str, &'static str, &'static [&'static str]);
pub(crate) const NAMES: [Named; 15] = [
    ("dead_end", "tile_dead_end_N.png", &["N"]),
    ("dead_end", "tile_dead_end_E.png", &["E"]),
    ("turn", "tile_turn_NE.png", &["E", "N"]),
    ("dead_end", "tile_dead_end_S.png", &["S"]),
    ("corridor", "tile_corridor_NS.png", &["N", "S"]),
    ("turn", "tile_turn_SE.png", &["E", "S"]),
    ("t_section", "tile_t_section_W.png", &["E", "N", "S"]),
    ("dead_end", "tile_dead_end_W.png", &["W"]),
    ("turn", "tile_turn_NW.png", &["N", "W"]),
    ("corridor", "tile_corridor_EW.png", &["E", "W"]),
    ("t_section", "tile_t_section_S.png", &["E", "N", "W"]),
    ("turn", "tile_turn_SW.png", &["S", "W"]),
    ("t_section", "tile_t_section_E.png", &["N", "S", "W"]),
    ("t_section", "tile_t_section_N.png", &["E", "S", "W"]),
    ("crossroad", "tile_crossroad.png", &["E", "N", "S", "W"]),
];

/// The sides of a cell in the order in which they are tried.
fn order(dice: &mut Dice) -> [Sides; 4] {
    let mut sides = [N, E, S, W];
    for last in [3, 2, 1] {
        sides.swap(last.into(), dice.below(last + 1).into());
    }
    sides
}

/// The cell beyond a side, where there is one.
fn neighbour(size: u8, x: u8, y: u8, side: Sides) -> Option<(u8, u8)> {
    let (x, y) = match side {
        N => (x, y.checked_sub(1)?),
        E => (x + 1, y),
        S => (x, y + 1),
        _ => (x.checked_sub(1)?, y),
    };
    (x < size && y < size).then_some((x, y))
}

/// The same passage, seen from its other end.
fn opposite(side: Sides) -> Sides {
    match side {
        N => S,
        E => W,
        S => N,
        _ => E,
    }
}

fn place(size: u8, x: u8, y: u8) -> usize {
    usize::from(y) * usize::from(size) + usize::from(x)
}
