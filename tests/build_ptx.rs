//! The build script's rules: targets, includes, hashes and the form of the PTX that ships.

#[path = "../build/ptx.rs"]
#[expect(dead_code, reason = "the build script uses the rest")]
mod ptx;

use std::fs;
use std::path::{Path, PathBuf};

use ptx::{Kernel, check_hash, finish, quoted_includes, target};

/// A folder of its own for one test, emptied first.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

const SOURCE: &str = "// A kernel.\n// target: compute_75\n\n#include \"a.cuh\"\n";

fn sample(name: &str) -> PathBuf {
    let folder = folder(name);
    fs::write(folder.join("k.cu"), SOURCE).unwrap();
    fs::write(folder.join("a.cuh"), "#pragma once\n# include \"b.cuh\"\n").unwrap();
    fs::write(folder.join("b.cuh"), "#include \"a.cuh\"\n#include <stdint.h>\nint b;\n").unwrap();
    folder
}

#[test]
fn target_is_read_from_the_comment_at_the_top() {
    assert_eq!(target(SOURCE).unwrap(), "compute_75");
    assert_eq!(target("// target: compute_90a\n").unwrap(), "compute_90a");
    assert!(target("int x;\n// target: compute_75\n").unwrap_err().contains("// target: compute_75"));
    for bad in ["sm_75", "compute_", "compute_7", "compute_7x", "compute_75, compute_80", ""] {
        assert!(target(&format!("// target: {bad}\n")).is_err(), "{bad:?}");
    }
}

#[test]
fn includes_are_followed_through_headers_and_cycles() {
    let kernel = Kernel::read(&sample("includes").join("k.cu")).unwrap();
    let names: Vec<_> = kernel.files().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["k.cu", "a.cuh", "b.cuh"]);
    assert_eq!((kernel.stem(), kernel.target()), ("k", "compute_75"));
    assert_eq!(
        quoted_includes("#include <x>\n//#include \"y\"\n  # include \"z\" // why\n").collect::<Vec<_>>(),
        ["z"]
    );
}

#[test]
fn a_missing_header_is_named() {
    let folder = sample("missing");
    fs::remove_file(folder.join("b.cuh")).unwrap();
    let error = Kernel::read(&folder.join("k.cu")).unwrap_err();
    assert!(error.contains("a.cuh") && error.contains("b.cuh"), "{error}");
}

#[test]
fn hash_depends_on_all_that_decides_the_ptx_and_on_nothing_else() {
    let hash = |folder: &Path| Kernel::read(&folder.join("k.cu")).unwrap().hash().to_owned();
    let folder = sample("hash");
    let first = hash(&folder);
    assert_eq!(first, hash(&sample("hash_elsewhere")), "the folder's path must not count");

    fs::write(folder.join("k.cu"), SOURCE.replace('\n', "\r\n")).unwrap();
    assert_eq!(first, hash(&folder), "line ends must not count");

    fs::write(folder.join("k.cu"), SOURCE.replace("75", "80")).unwrap();
    assert_ne!(first, hash(&folder), "the target counts");

    fs::write(folder.join("k.cu"), SOURCE).unwrap();
    fs::write(folder.join("b.cuh"), "int c;\n").unwrap();
    assert_ne!(first, hash(&folder), "a header of a header counts");
}

#[test]
fn finished_ptx_carries_hash_and_version() {
    let raw = "//\n.version 9.0\n.target sm_75\n// .version 9.0 in a comment stays\n";
    let text = finish(raw, "0123456789abcdef").unwrap();
    assert_eq!(
        text,
        "// inbatch 0123456789abcdef\n//\n.version 8.0\n.target sm_75\n// .version 9.0 in a comment stays\n"
    );
    check_hash(&text, "0123456789abcdef").unwrap();
    assert!(check_hash(&text, "0123456789abcdee").unwrap_err().contains("other sources"));
    assert!(check_hash(raw, "0123456789abcdef").unwrap_err().contains("does not begin"));
    assert!(finish("ELF", "0").is_err());
    assert!(finish(&raw.repeat(2), "0").is_err());
}
