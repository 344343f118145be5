//! The rule against its vectors, and what holds of every labyrinth.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::json;

use super::*;

/// `{"size","seed","start":[x,y],"map"}` a line, written by another program after the same rule.
const VECTORS: &str = include_str!("vectors.jsonl");

#[derive(Deserialize)]
struct Vector {
    size: u8,
    seed: String,
    start: (u8, u8),
    map: String,
}

#[test]
fn labyrinths_are_those_of_the_vectors_byte_for_byte() {
    let mut sizes = BTreeSet::new();
    for line in VECTORS.lines() {
        let Vector { size, seed, start: (start_x, start_y), map } = serde_json::from_str(line).unwrap();
        assert_eq!(dfs1(size, &seed), Maze { size, start_x, start_y, map }, "{line}");
        sizes.insert(size);
    }
    assert_eq!(sizes, (size::LEAST..=size::MOST).collect());
}

#[test]
fn labyrinths_are_those_of_the_contract() {
    let e = "é".repeat(100);
    for (size, seed, start, map, hash) in [
        (4, "abc", (2, 0), "682c7aa952ac3aa9", "13d3393a3f9e6dd3"),
        (4, "a", (3, 2), "6aac56a953c43839", "978e6529091b5d1c"),
        (5, "myseed", (0, 2), "2aae86ac7c14515693c53aab9", "aac6b89ed425e256"),
        (7, "epsilon", (6, 5), "6eaac6c53ac1557a83a9556aac6d552c55153c3b94383aaa9", "3746b8c5e14f63cd"),
        (10, "abc", (2, 5), "", "e60f0151b6e8f2f5"),
        (10, &e, (5, 8), "", "8ae1cc19a8d828b4"),
    ] {
        let maze = dfs1(size, seed);
        assert_eq!((maze.start_x, maze.start_y), start, "{size} {seed}");
        assert!(map.is_empty() || map == maze.map, "{size} {seed}: {}", maze.map);
        let digest = digest(&SHA256, maze.map.as_bytes());
        let first: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(first, hash, "{size} {seed}");
    }
}

#[test]
fn tiles_are_listed_row_by_row_as_clients_see_them() {
    let tiles = tiles(4, &dfs1(4, "abc").map).unwrap();
    let tile = |place: usize| serde_json::to_string(&tiles[place]).unwrap();
    assert_eq!(tile(0), r#"{"x":0,"y":0,"type":"turn","open_directions":["E","S"],"image":"tile_turn_SE.png"}"#);
    assert_eq!(tile(1), r#"{"x":1,"y":0,"type":"dead_end","open_directions":["W"],"image":"tile_dead_end_W.png"}"#);
    assert_eq!(
        tile(4),
        r#"{"x":0,"y":1,"type":"t_section","open_directions":["E","N","S"],"image":"tile_t_section_W.png"}"#
    );
    assert_eq!(tile(9)[..13], *r#"{"x":1,"y":2,"#);
    assert_eq!(json!(tiles).as_array().unwrap().len(), 16);
}

#[test]
fn what_is_no_map_has_no_tiles() {
    let map = dfs1(4, "abc").map;
    assert!(tiles(4, &map).is_some() && tiles(4, &map.to_uppercase()).is_some());
    for (size, map) in [
        (5, map.as_str()),
        (4, &map[1..]),
        (4, "682c7aa952ac3aa0"),
        (4, "682c7aa952ac3aag"),
        (4, "682c7aa952ac3aé"),
        (4, ""),
    ] {
        assert_eq!(tiles(size, map), None, "{size} {map}");
    }
}

#[test]
fn the_names_are_these_fifteen() {
    let names: BTreeMap<_, BTreeSet<_>> = NAMES.iter().fold(BTreeMap::new(), |mut names, (kind, image, _)| {
        let letters =
            image.strip_prefix("tile_").and_then(|name| name.strip_prefix(kind)?.strip_suffix(".png")).unwrap();
        assert!(names.entry(*kind).or_insert_with(BTreeSet::new).insert(letters), "{image} is there twice");
        names
    });
    let expected = [
        ("corridor", ["_EW", "_NS"].into()),
        ("crossroad", [""].into()),
        ("dead_end", ["_E", "_N", "_S", "_W"].into()),
        ("t_section", ["_E", "_N", "_S", "_W"].into()),
        ("turn", ["_NE", "_NW", "_SE", "_SW"].into()),
    ];
    assert_eq!(names, expected.into());
}

/// Its name, from the open sides alone: what the contract's table says, written once more.
fn named(open: &[&str]) -> (&'static str, String) {
    let closed = ["N", "E", "S", "W"].into_iter().find(|side| !open.contains(side));
    let letters: String = ["N", "S", "E", "W"].into_iter().filter(|side| open.contains(side)).collect();
    let kind = match (open.len(), letters.as_str()) {
        (1, _) => "dead_end",
        (2, "NS" | "EW") => "corridor",
        (2, _) => "turn",
        (3, _) => "t_section",
        _ => return ("crossroad", "tile_crossroad.png".to_owned()),
    };
    let letters = if kind == "t_section" { closed.unwrap().to_owned() } else { letters };
    (kind, format!("tile_{kind}_{letters}.png"))
}

/// The step over a side.
fn step(side: &str) -> (i16, i16) {
    BTreeMap::from([("N", (0, -1)), ("E", (1, 0)), ("S", (0, 1)), ("W", (-1, 0))])[side]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn every_labyrinth_is_perfect_and_its_tiles_are_called_what_they_are(size in size::LEAST..=size::MOST, seed in r"[^<>\x00-\x1f]{1,100}") {
        let maze = dfs1(size, &seed);
        prop_assert_eq!(&maze, &dfs1(size, &seed));
        prop_assert!(maze.start_x < size && maze.start_y < size);
        let cells: BTreeMap<(i16, i16), Tile> =
            tiles(size, &maze.map).unwrap().into_iter().map(|tile| ((tile.x.into(), tile.y.into()), tile)).collect();
        prop_assert_eq!(cells.len(), usize::from(size) * usize::from(size));
        let mut ends = 0;
        for ((x, y), tile) in &cells {
            prop_assert!(tile.open_directions.is_sorted() && !tile.open_directions.is_empty());
            let (kind, image) = named(tile.open_directions);
            prop_assert_eq!((tile.kind, tile.image), (kind, image.as_str()));
            for side in tile.open_directions {
                let (by_x, by_y) = step(side);
                let beyond = cells.get(&(x + by_x, y + by_y));
                prop_assert!(beyond.is_some_and(|other| other.open_directions.iter().any(|back| step(back) == (-by_x, -by_y))));
                ends += 1;
            }
        }
        // Connected, and with one passage fewer than cells: a tree, without loops.
        prop_assert_eq!(ends, 2 * (cells.len() - 1));
        let start = (i16::from(maze.start_x), i16::from(maze.start_y));
        let (mut reached, mut open) = (BTreeSet::from([start]), vec![start]);
        while let Some((x, y)) = open.pop() {
            for side in cells[&(x, y)].open_directions {
                let (by_x, by_y) = step(side);
                if reached.insert((x + by_x, y + by_y)) {
                    open.push((x + by_x, y + by_y));
                }
            }
        }
        prop_assert_eq!(reached.len(), cells.len());
    }
}

#[test]
fn each_cell_begins_as_often_as_the_others_and_sizes_have_labyrinths_of_their_own() {
    let mut starts = BTreeMap::new();
    for seed in 0..16_000 {
        let maze = dfs1(4, &seed.to_string());
        *starts.entry((maze.start_x, maze.start_y)).or_insert(0_u32) += 1;
    }
    // 1000 each; five standard deviations to either side.
    assert!(starts.len() == 16 && starts.values().all(|times| (845..1155).contains(times)), "{starts:?}");
    // The first row of one is not the first row of the other.
    assert_ne!(dfs1(5, "abc").map[..5], dfs1(6, "abc").map[..5]);
}
