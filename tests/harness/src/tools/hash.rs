//! Hashes of sources, to detect changes since a build.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{Doing as _, Result};

/// Returns the SHA-256 of the names and contents of files, and of all files below folders, in hexadecimal. Hidden
/// files, and folders with build output (`build`, `target`, `node_modules`), are ignored.
///
/// # Errors
/// Returns an error if a file or folder cannot be read.
pub fn hash_of(paths: &[&Path]) -> Result<String> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content = std::fs::read(&file).doing(|| format!("cannot read {}", file.display()))?;
        let name = file.as_os_str().as_encoded_bytes();
        for part in [name, content.as_slice()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hex::encode(hash.finalize()))
}

/// A short name for a path.
#[must_use]
pub fn short_hash(path: &Path) -> String {
    hex::encode(&Sha256::digest(path.as_os_str().as_encoded_bytes())[..6])
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = || format!("cannot read {}", path.display());
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).doing(failed)? {
        let entry = entry.doing(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !["build", "target", "node_modules"].contains(&&*name) {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_changes_with_every_name_and_content_and_with_nothing_else() {
        let folder = crate::place::temporary("hash").expect("is created");
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::create_dir_all(file.parent().expect("has a parent")).expect("is created");
            std::fs::write(file, text).expect("is written");
        };
        let hash = || hash_of(&[&folder]).expect("is read");
        write("src/a.rs", "one");
        let first = hash();
        write("build/index.js", "built");
        write(".hidden", "kept by an editor");
        assert_eq!(hash(), first);
        write("src/a.rs", "two");
        let second = hash();
        write("src/b.rs", "");
        assert!(first != second && second != hash());
        std::fs::remove_dir_all(&folder).expect("is removed");
    }
}
