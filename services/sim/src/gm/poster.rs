//! Posters: small pictures drawn from dice, one per news.

use bytes::Bytes;
use herald_protocol::record::NewsKind;

use super::words::place;
use crate::dice::Dice;

const WIDTH: u32 = 160;
const HEIGHT: u32 = 224;
/// Sky, three layers of hills, sun: one set per kind, so that a glance tells them apart.
const PALETTES: [[u8; 15]; 3] = [
    [214, 234, 248, 133, 193, 233, 52, 152, 219, 27, 79, 114, 255, 250, 205],
    [250, 219, 216, 236, 112, 99, 176, 58, 46, 74, 20, 20, 255, 214, 102],
    [252, 243, 207, 244, 208, 63, 88, 160, 90, 60, 52, 110, 255, 120, 150],
];

/// Draws a poster as PNG. Some kilobytes at most.
#[must_use]
pub fn draw(dice: &mut Dice, kind: NewsKind) -> Bytes {
    let picture = Picture::compose(dice);
    let pixels: Vec<u8> =
        (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y))).map(|(x, y)| picture.colour(x, y)).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(&PALETTES[place(kind)][..]);
    // Writing into a Vec, with as many pixels as announced: an error would be a poster without bytes, which a test shows.
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    if written.is_err() {
        file.clear();
    }
    file.into()
}

struct Picture {
    sun: (f64, f64, f64),
    /// Height, wave length and phase of each range of hills, the farthest first.
    hills: [(f64, f64, f64); 3],
}

impl Picture {
    fn compose(dice: &mut Dice) -> Self {
        let mut between = |low: f64, high: f64| low + dice.fraction() * (high - low);
        let sun = (between(30.0, 130.0), between(25.0, 80.0), between(10.0, 26.0));
        let hills = [100.0, 145.0, 185.0]
            .map(|base| (between(base - 15.0, base + 15.0), between(9.0, 40.0), between(0.0, 6.0)));
        Self { sun, hills }
    }

    /// The palette's place for a pixel.
    fn colour(&self, x: u32, y: u32) -> u8 {
        let (x, y) = (f64::from(x), f64::from(y));
        let mut colour = if (x - self.sun.0).hypot(y - self.sun.1) < self.sun.2 { 4 } else { 0 };
        for (layer, (height, wave, phase)) in (1..).zip(self.hills) {
            if y > height + (x / wave + phase).sin() * 12.0 {
                colour = layer;
            }
        }
        colour
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posters_are_small_pngs_and_differ() {
        let poster = |place, kind| draw(&mut Dice::new(1, place), kind);
        let real = poster("turn 1", NewsKind::Real);
        let mut reader = png::Decoder::new(std::io::Cursor::new(&real)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (WIDTH, HEIGHT));
        assert!((300..8000).contains(&real.len()), "{} bytes", real.len());
        assert_eq!(real, poster("turn 1", NewsKind::Real));
        assert_ne!(real, poster("turn 2", NewsKind::Real));
        assert_ne!(real, poster("turn 1", NewsKind::Fake));
    }
}
