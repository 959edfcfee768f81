//! Fingerprints of sources, to detect changes since a build.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use crate::Result;

/// Returns a hash, in hexadecimal, of the names and contents of the files, and of all files below the folders. Hidden
/// files, and folders with build output (`build`, `target`, `node_modules`), are ignored.
///
/// # Errors
/// Returns an error if a file or folder cannot be read.
pub fn fingerprint(paths: &[PathBuf]) -> Result<String> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        let content = std::fs::read(&file).map_err(|error| unreadable(&file, &error))?;
        file.hash(&mut hasher);
        content.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |error: std::io::Error| unreadable(path, &error);
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !["build", "target", "node_modules"].contains(&&*name) {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_changes_with_every_name_and_content_and_with_nothing_else() {
        let folder = std::env::temp_dir().join(format!("tidegate-fingerprint-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::create_dir_all(file.parent().expect("has a parent")).expect("is created");
            std::fs::write(file, text).expect("is written");
        };
        let print = || fingerprint(std::slice::from_ref(&folder)).expect("is read");
        write("src/a.rs", "one");
        let first = print();
        write("build/index.js", "built");
        write(".hidden", "kept by an editor");
        assert_eq!(print(), first);
        write("src/a.rs", "two");
        let second = print();
        write("src/b.rs", "");
        let third = print();
        std::fs::remove_dir_all(&folder).expect("is removed");
        assert!(first != second && second != third, "{first} {second} {third}");
    }
}
