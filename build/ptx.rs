//! Kernel sources and PTX texts: what a kernel is made of, its hash, the form of the PTX we ship.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// PTX 8.0 is what drivers from 525 (CUDA 12.0) on can load. nvcc writes the newest version that it
/// knows and has no option for an older one; the kernels use nothing that 8.0 lacks, which the
/// compiler gate checks with the assembler of CUDA 12.0.
pub(crate) const VERSION: &str = "8.0";

/// Flags for every kernel, part of the hash. The target comes from the kernel itself.
pub(crate) const FLAGS: [&str; 2] = ["--ptx", "-std=c++17"];

/// The mark before the hash on the first line of a PTX file.
const MARK: &str = "// inbatch ";

/// One `kernels/<stem>.cu` with the headers that it includes, directly or not.
#[derive(Debug)]
pub(crate) struct Kernel {
    source: PathBuf,
    headers: Vec<PathBuf>,
    stem: String,
    target: String,
    hash: String,
}

impl Kernel {
    /// Reads a kernel, finds its target, follows its `#include "..."` lines.
    pub(crate) fn read(source: &Path) -> Result<Self, String> {
        let stem = source
            .file_stem()
            .and_then(|stem| stem.to_str())
            .ok_or_else(|| format!("{}: not a UTF-8 file name", source.display()))?;
        let text = read(source)?;
        let target = target(&text).map_err(|why| format!("{}: {why}", source.display()))?;
        let mut headers = BTreeSet::new();
        follow_includes(source, &text, &mut headers)?;
        let headers: Vec<_> = headers.into_iter().collect();
        let hash = hash_of(source, &headers, &target)?;
        Ok(Self { source: source.to_owned(), headers, stem: stem.to_owned(), target, hash })
    }

    /// The `.cu` file.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// The source and its headers.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.source.as_path()).chain(self.headers.iter().map(PathBuf::as_path))
    }

    /// The file name without `.cu`.
    pub(crate) fn stem(&self) -> &str {
        &self.stem
    }

    /// The virtual architecture, such as `compute_75`.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The hash of everything that decides the PTX but the compiler.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// Where this kernel's PTX lies in a folder.
    pub(crate) fn ptx_in(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.ptx", self.stem))
    }
}

/// All kernels of a folder in the order of their names; none if there is no such folder.
pub(crate) fn kernels(folder: &Path) -> Result<Vec<Kernel>, String> {
    files_with_extension(folder, "cu")?.iter().map(|source| Kernel::read(source)).collect()
}

/// The target that the first lines of a source name: `// target: compute_75`.
pub(crate) fn target(source: &str) -> Result<String, String> {
    let head = source.lines().take_while(|line| line.trim().is_empty() || line.starts_with("//"));
    let target = head.filter_map(|line| line.strip_prefix("// target:")).map(str::trim).next();
    match target {
        Some(name) if is_target(name) => Ok(name.to_owned()),
        Some(name) => Err(format!("target {name:?} is not a virtual architecture such as compute_75")),
        None => Err("the comment at its top lacks a line `// target: compute_75`".to_owned()),
    }
}

fn is_target(name: &str) -> bool {
    let digits = name.strip_prefix("compute_").map(|rest| rest.strip_suffix(['a', 'f']).unwrap_or(rest));
    digits.is_some_and(|digits| digits.len() >= 2 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn follow_includes(file: &Path, text: &str, found: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    for name in quoted_includes(text) {
        let header = file.with_file_name(name);
        let header_text = fs::read_to_string(&header)
            .map_err(|e| format!("{}: includes {name:?}, which cannot be read: {e}", file.display()))?;
        if found.insert(header.clone()) {
            follow_includes(&header, &header_text, found)?;
        }
    }
    Ok(())
}

/// The names in `#include "..."` lines. Angle brackets are the toolkit's own headers.
pub(crate) fn quoted_includes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?;
        rest.trim_start().strip_prefix('"')?.split('"').next()
    })
}

fn hash_of(source: &Path, headers: &[PathBuf], target: &str) -> Result<String, String> {
    let mut hash = Fnv::new();
    FLAGS.iter().chain(&[VERSION, target]).for_each(|flag| hash.field(flag));
    for file in std::iter::once(source).chain(headers.iter().map(PathBuf::as_path)) {
        hash.field(&file.file_name().unwrap_or_default().to_string_lossy());
        // A checkout with CRLF line ends is the same source.
        hash.field(&read(file)?.replace("\r\n", "\n"));
    }
    Ok(hash.finish())
}

/// FNV-1a, 64 bits: it guards against forgetting to compile, not against an adversary, so a build
/// dependency would be too much.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a text and its end, so that fields cannot run into each other.
    fn field(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> String {
        format!("{:016x}", self.0)
    }
}

/// A hint of nvcc 13 about vector loads of which a part goes unused. It changes nothing, and PTX before
/// 8.3 does not know it.
const NEWER_HINT: &str = ".pragma \"used_bytes_mask ";

/// The PTX that we ship, from what nvcc wrote: hash on the first line, version lowered, newer hints out.
pub(crate) fn finish(raw: &str, hash: &str) -> Result<String, String> {
    let mut text = format!("{MARK}{hash}\n");
    let mut versions = 0;
    for line in raw.lines() {
        if line.starts_with(".version ") {
            versions += 1;
            text.push_str(&format!(".version {VERSION}\n"));
        } else if !line.trim_start().starts_with(NEWER_HINT) {
            text.push_str(line);
            text.push('\n');
        }
    }
    match versions {
        1 => Ok(text),
        n => Err(format!("nvcc wrote {n} .version lines where 1 was expected: not PTX?")),
    }
}

/// Whether a PTX file belongs to sources of this hash.
pub(crate) fn check_hash(text: &str, hash: &str) -> Result<(), String> {
    match text.lines().next().and_then(|line| line.strip_prefix(MARK)) {
        Some(found) if found.trim_end() == hash => Ok(()),
        Some(found) => Err(format!("was compiled from other sources (its hash is {found}, theirs {hash})")),
        None => Err(format!("does not begin with `{MARK}<hash>`")),
    }
}

/// Writes under a temporary name and renames: a build that is interrupted leaves no half file.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<(), String> {
    let temporary = path.with_extension("ptx.new");
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// The PTX files of kernels that are no more.
pub(crate) fn orphans(folder: &Path, kernels: &[Kernel]) -> Result<Vec<PathBuf>, String> {
    let known: BTreeSet<_> = kernels.iter().map(|kernel| kernel.ptx_in(folder)).collect();
    let files = files_with_extension(folder, "ptx")?;
    Ok(files.into_iter().filter(|path| !known.contains(path)).collect())
}

fn files_with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let error = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a text, with the path in the error.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
