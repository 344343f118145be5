//! The pictures of the tiles: fifteen small pictures of a bright way through the dark, drawn here.
//!
//! The engine serves no files: `cargo run -p lobby --example tiles` writes them to `page/site/tiles`, where the door has them from.
//! Drawn with additions, multiplications and roots alone, which are the same on every machine, so that the pictures are, too.

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::maze;

/// Pixels of a side.
pub const SIDE: u16 = 256;
/// Half the way's width, in pixels.
const HALF: f64 = 46.0;
/// The width of the kerb on either side of it.
const KERB: f64 = 10.0;
/// From the way's colour over the kerb's to the dark.
const COLOURS: [[f64; 3]; 3] = [[243.0, 234.0, 214.0], [150.0, 126.0, 92.0], [18.0, 20.0, 26.0]];
/// Colours of a picture: as many as four bits tell apart.
const SHADES: u8 = 16;
/// Samples of a pixel, to either side: edges are smooth.
const SAMPLES: u16 = 4;

/// The names of the pictures.
pub fn names() -> impl Iterator<Item = &'static str> {
    maze::NAMES.iter().map(|(_, image, _)| *image)
}

/// The picture of that name (`tile_crossroad.png`) as PNG; `None` where there is none of that name.
#[must_use]
pub fn png(name: &str) -> Option<Bytes> {
    let (_, _, open) = maze::NAMES.iter().find(|(_, image, _)| *image == name)?;
    let way = Way::through(open);
    let pixels: Vec<u8> =
        (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y))).map(|(x, y)| way.shade(x, y)).collect();
    let packed: Vec<u8> = pixels.chunks_exact(2).map(|two| (two[0] << 4) | two[1]).collect();
    let palette: Vec<u8> = (0..SHADES).flat_map(colour).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE.into(), SIDE.into());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Four);
    encoder.set_palette(palette);
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&packed)).ok()?;
    Some(file.into())
}

/// The colour of a shade: the first is the way's, the last the dark.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "colours are 0 to 255")]
fn colour(shade: u8) -> [u8; 3] {
    let part = f64::from(shade) / f64::from(SHADES - 1) * 2.0;
    let (from, to, part) =
        if part < 1.0 { (COLOURS[0], COLOURS[1], part) } else { (COLOURS[1], COLOURS[2], part - 1.0) };
    [0, 1, 2].map(|one| (from[one] + (to[one] - from[one]) * part).round() as u8)
}

/// The middle of a way, in pixels from the picture's middle.
enum Way {
    /// From the middle straight to each of these sides.
    Straight(Vec<(f64, f64)>),
    /// A quarter of a circle around this corner.
    Around(f64, f64),
}

impl Way {
    const MIDDLE: f64 = SIDE as f64 / 2.0;

    fn through(open: &[&str]) -> Self {
        let sides: Vec<(f64, f64)> = open
            .iter()
            .map(|side| match *side {
                "N" => (0.0, -1.0),
                "E" => (1.0, 0.0),
                "S" => (0.0, 1.0),
                _ => (-1.0, 0.0),
            })
            .collect();
        let sum = sides.iter().fold((0.0, 0.0), |sum, side| (sum.0 + side.0, sum.1 + side.1));
        // Of two sides that do not face each other, the sum is the corner between them.
        match sides.len() {
            2 if sum != (0.0, 0.0) => Self::Around(sum.0 * Self::MIDDLE, sum.1 * Self::MIDDLE),
            _ => Self::Straight(sides),
        }
    }

    /// How far a point is from the middle of the way.
    fn distance(&self, x: f64, y: f64) -> f64 {
        let length = |x: f64, y: f64| (x * x + y * y).sqrt();
        match self {
            Self::Around(corner_x, corner_y) => (length(x - corner_x, y - corner_y) - Self::MIDDLE).abs(),
            Self::Straight(sides) => sides
                .iter()
                .map(|(side_x, side_y)| {
                    let along = (x * side_x + y * side_y).max(0.0);
                    length(x - side_x * along, y - side_y * along)
                })
                .fold(f64::INFINITY, f64::min),
        }
    }

    /// The shade of a pixel: the mean of its samples.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 15")]
    fn shade(&self, x: u16, y: u16) -> u8 {
        let at = |pixel: u16, sample: f64| f64::from(pixel) + sample - Self::MIDDLE;
        let middle = self.distance(at(x, 0.5), at(y, 0.5));
        // Only a pixel on an edge has samples that differ.
        if [HALF, HALF + KERB].iter().all(|edge| (middle - edge).abs() > 1.0) {
            return (dark(middle) * f64::from(SHADES - 1)).round() as u8;
        }
        let places = || (0..SAMPLES).map(|sample| (f64::from(sample) + 0.5) / f64::from(SAMPLES));
        let sum: f64 = places()
            .flat_map(|down| places().map(move |right| (right, down)))
            .map(|(right, down)| dark(self.distance(at(x, right), at(y, down))))
            .sum();
        (sum / f64::from(SAMPLES * SAMPLES) * f64::from(SHADES - 1)).round() as u8
    }
}

/// How dark it is so far from the middle of a way.
fn dark(distance: f64) -> f64 {
    match distance {
        way if way < HALF => 0.0,
        kerb if kerb < HALF + KERB => 0.5,
        _ => 1.0,
    }
}
