//! Where cargo put the emulator's shared library.

use crate::HarnessError;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The emulator's library: `PTX_EMULATOR_LIBRARY`, else the newest one in the folders of build outputs next to this program.
pub(crate) fn library() -> Result<PathBuf, HarnessError> {
    if let Some(path) = std::env::var_os("PTX_EMULATOR_LIBRARY") {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { Err(HarnessError::LibraryNotFound(vec![path])) };
    }
    let folders = folders();
    folders.iter().find_map(|folder| newest_in(folder)).ok_or(HarnessError::LibraryNotFound(folders))
}

/// Folders to look in, best first. A test lies in `deps` itself, a program beside it, an example in a sister folder; a
/// documentation test lies in a temporary folder, so the last word is where this crate was built.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(program) = std::env::current_exe()
        && let Some(beside) = program.parent()
    {
        folders.push(beside.to_path_buf());
        folders.push(beside.join("deps"));
        folders.extend(beside.parent().map(|above| above.join("deps")));
    }
    // OUT_DIR is <profile>/build/<package>-<hash>/out.
    folders.extend(Path::new(env!("OUT_DIR")).ancestors().nth(3).map(|profile| profile.join("deps")));
    folders
}

/// `libptx_emulator.so`, or `libptx_emulator-<hash>.so` as cargo names it for a dependency from a registry. Several can lie about after an
/// update: the newest belongs to the build that just ran.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let libraries = entries.flatten().map(|entry| entry.path()).filter(|path| is_library(path));
    libraries
        .max_by_key(|path| path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH))
}

fn is_library(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(rest) = name.strip_prefix("libptx_emulator").and_then(|rest| rest.strip_suffix(".so")) else {
        return false;
    };
    rest.is_empty() || rest.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_library_itself_is_taken() {
        for (name, taken) in [
            ("libptx_emulator.so", true),
            ("libptx_emulator-0123abcd.so", true),
            ("libptx_emulator_harness-01.so", false),
            ("libptx_emulator.rlib", false),
            ("libcuda.so", false),
        ] {
            assert_eq!(is_library(Path::new(name)), taken, "{name}");
        }
    }
}
