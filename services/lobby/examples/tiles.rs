//! Writes the pictures of the tiles to where the door has them from, `page/site/tiles`: `cargo run -p lobby --example tiles [FOLDER]`.

use std::{env, fs, path::PathBuf};

use anyhow::Context as _;
use lobby::tiles;

fn main() -> anyhow::Result<()> {
    let folder = env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("page/site/tiles"), PathBuf::from);
    fs::create_dir_all(&folder).with_context(|| format!("{} can't be made", folder.display()))?;
    for name in tiles::names() {
        let file = folder.join(name);
        let picture = tiles::png(name).with_context(|| format!("{name} can't be drawn"))?;
        fs::write(&file, picture).with_context(|| format!("{} can't be written", file.display()))?;
    }
    Ok(())
}
