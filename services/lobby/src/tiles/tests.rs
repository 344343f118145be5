//! The pictures, looked at pixel by pixel.

use std::{collections::BTreeSet, path::Path};

use super::*;

/// Colours of a picture, row by row.
fn pixels(file: &[u8]) -> Vec<[u8; 3]> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!((info.width, info.height, info.color_type), (SIDE.into(), SIDE.into(), png::ColorType::Rgb));
    bytes.chunks_exact(3).map(|colour| [colour[0], colour[1], colour[2]]).collect()
}

/// Whether it is bright there.
fn is_way(pixels: &[[u8; 3]], x: usize, y: usize) -> bool {
    pixels[y * usize::from(SIDE) + x] == colour(0)
}

#[test]
fn a_way_leads_out_exactly_where_the_name_says() {
    let last = usize::from(SIDE) - 1;
    let middle = usize::from(SIDE) / 2;
    let mut all = BTreeSet::new();
    for (_, image, open) in &maze::NAMES {
        let file = png(image).unwrap();
        assert!((200..4000).contains(&file.len()), "{image}: {} bytes", file.len());
        assert_eq!(file, png(image).unwrap());
        let pixels = pixels(&file);
        for (side, x, y) in [("N", middle, 0), ("E", last, middle), ("S", middle, last), ("W", 0, middle)] {
            assert_eq!(is_way(&pixels, x, y), open.contains(&side), "{image}: {side}");
        }
        for corner in [(0, 0), (last, 0), (0, last), (last, last)] {
            assert_eq!(
                pixels[corner.1 * usize::from(SIDE) + corner.0],
                colour(SHADES - 1),
                "{image}: no way leads out at a corner"
            );
        }
        assert!(all.insert(pixels), "{image} looks like another one");
    }
    assert_eq!(all.len(), 15);
    assert_eq!(png("tile_turn_EN.png"), None);
}

#[test]
fn ways_fit_together_where_tiles_touch() {
    let (side, last) = (usize::from(SIDE), usize::from(SIDE) - 1);
    let edge = |image: &str, side_of: &str| -> Vec<[u8; 3]> {
        let pixels = pixels(&png(image).unwrap());
        (0..side)
            .map(|along| match side_of {
                "N" => pixels[along],
                "S" => pixels[last * side + along],
                "W" => pixels[along * side],
                _ => pixels[along * side + last],
            })
            .collect()
    };
    for (_, image, open) in &maze::NAMES {
        for (side_of, straight) in [
            ("N", "tile_corridor_NS.png"),
            ("E", "tile_corridor_EW.png"),
            ("S", "tile_corridor_NS.png"),
            ("W", "tile_corridor_EW.png"),
        ] {
            if open.contains(&side_of) {
                // A round way meets the side at a right angle: within one shade, it is as wide there as a straight one.
                let differing = edge(image, side_of)
                    .iter()
                    .zip(edge(straight, side_of))
                    .filter(|(one, other)| **one != *other)
                    .count();
                assert!(differing <= 4, "{image}: {side_of}: {differing} pixels");
            }
        }
    }
}

#[test]
fn the_files_that_are_served_are_what_is_drawn_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page/site/tiles");
    let there: BTreeSet<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, names().map(str::to_owned).collect());
    for name in names() {
        let served = std::fs::read(folder.join(name)).unwrap();
        // Not the bytes: another version of the encoder may write fewer.
        assert!(pixels(&served) == pixels(&png(name).unwrap()), "{name}: run `cargo run -p lobby --example tiles`");
    }
}
