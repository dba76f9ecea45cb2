//! Real texts.

use std::{fs, path::Path};

/// The files of a folder, as bytes.
pub struct Corpus(Vec<Vec<u8>>);

impl Corpus {
    /// Those of a folder of the repository, by name; at least one.
    pub fn of(folder: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        Self(files.iter().map(|file| fs::read(file).unwrap()).collect())
    }

    /// And those of another folder.
    pub fn and(mut self, folder: &str) -> Self {
        self.0.extend(Self::of(folder).0);
        self
    }

    /// All of them.
    pub fn texts(&self) -> &[Vec<u8>] {
        &self.0
    }
}
