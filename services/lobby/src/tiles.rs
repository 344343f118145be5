//! The pictures of the tiles.

use bytes::Bytes;

/// The picture of that name (`tile_crossroad.png`) as PNG; `None` where there is none of that name.
#[must_use]
pub fn png(_name: &str) -> Option<Bytes> {
    None
}
