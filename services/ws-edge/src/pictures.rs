//! Pictures of the agents, from a folder: what the app dialect links to, and what serves the links.

use std::{
    io,
    path::{Path, PathBuf},
};

use herald_protocol::Segment;

/// Types of pictures and their media types. No SVG: opened by itself, it is a page with scripts.
const TYPES: [(&str, &str); 5] =
    [("png", "image/png"), ("jpg", "image/jpeg"), ("jpeg", "image/jpeg"), ("webp", "image/webp"), ("gif", "image/gif")];
/// Pictures in a folder; what is beyond is somebody's photo album.
const MOST: usize = 1000;

/// A folder that is no folder of pictures.
#[derive(Debug, thiserror::Error)]
pub enum PicturesError {
    /// It can't be read.
    #[error("{} is not readable: {source}", folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// None of its files is one.
    #[error("there is no picture (png, jpg, webp, gif) in {}", .0.display())]
    Empty(PathBuf),
    /// There are too many.
    #[error("there are more than {MOST} pictures in {}", .0.display())]
    TooMany(PathBuf),
}

/// The names of the pictures in `folder`, sorted. Files with odd names are left out, and links that lead elsewhere.
///
/// # Errors
/// [`PicturesError`]
pub fn read(folder: &Path) -> Result<Vec<String>, PicturesError> {
    let unreadable = |source| PicturesError::Unreadable { folder: folder.to_owned(), source };
    let home = folder.canonicalize().map_err(unreadable)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if media_type(&name).is_some() && Segment::new(&name).is_ok() && is_at_home(&home, &entry.path()) {
            names.push(name);
        }
        if names.len() > MOST {
            return Err(PicturesError::TooMany(folder.to_owned()));
        }
    }
    names.sort_unstable();
    if names.is_empty() { Err(PicturesError::Empty(folder.to_owned())) } else { Ok(names) }
}

/// Whether it is a file in that folder, also by a link.
fn is_at_home(home: &Path, path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path.starts_with(home) && path.is_file())
}

/// The media type of a picture, by the end of its name.
#[must_use]
pub fn media_type(name: &str) -> Option<&'static str> {
    let (_, end) = name.rsplit_once('.')?;
    TYPES.iter().find(|(known, _)| end.eq_ignore_ascii_case(known)).map(|(_, media_type)| *media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_pictures_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(PicturesError::Empty(_))));
        for name in ["pavel.png", "zoya.JPG", "notes.txt", ".hidden.png", "odd name.png", "x.svg"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        std::fs::create_dir(folder.path().join("folder.png")).unwrap();
        #[cfg(unix)]
        {
            let elsewhere = tempfile::NamedTempFile::new().unwrap();
            std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("away.png")).unwrap();
            std::os::unix::fs::symlink("pavel.png", folder.path().join("pol.png")).unwrap();
            std::os::unix::fs::symlink("nowhere", folder.path().join("gone.png")).unwrap();
            assert_eq!(read(folder.path()).unwrap(), ["pavel.png", "pol.png", "zoya.JPG"]);
            std::fs::remove_file(folder.path().join("pol.png")).unwrap();
        }
        assert_eq!(read(folder.path()).unwrap(), ["pavel.png", "zoya.JPG"]);
        assert!(matches!(read(&folder.path().join("none")), Err(PicturesError::Unreadable { .. })));
    }
}
