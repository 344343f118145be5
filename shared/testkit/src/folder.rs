//! Where a process has its files.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder of the caller's, or a temporary one that is removed with this.
#[derive(Debug)]
pub(crate) enum Folder {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Folder {
    /// That folder, made if it is not there, or a temporary one named after `name`.
    pub(crate) fn new(name: &str, kept: Option<PathBuf>) -> Self {
        let Some(folder) = kept else {
            let folder = tempfile::Builder::new().prefix(&format!("herald-{name}-")).tempdir();
            return Self::Temporary(folder.expect("a folder"));
        };
        std::fs::create_dir_all(&folder).expect("a folder");
        Self::Kept(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(folder) => folder,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
