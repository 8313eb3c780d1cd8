//! The runs made so far, on disk after each: a long comparison can be cut and continued.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::MOST_POPULAR;
use crate::options::Options;
use crate::scheme::SCHEMES;
use crate::table::{Row, Table};

/// The file that holds every run.
pub(crate) const FILE: &str = "compare.csv";

/// Tells which options, and which data, a run of a scheme belongs to.
pub(crate) struct Fingerprints {
    options: Options,
    data: u64,
}

impl Fingerprints {
    /// For runs with these options, whatever their seed.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        if let Some(path) = &options.data {
            let content = fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
            content.hash(&mut hasher);
        }
        // Where results lie changes none of them.
        Ok(Self { options: Options { out: PathBuf::new(), ..options.clone() }, data: hasher.finish() })
    }

    /// The fingerprint of a scheme's run; none for a scheme that is not known.
    fn of(&self, scheme: &str, seed: u64) -> Option<String> {
        let options = Options { seed, ..self.options.clone() };
        let with = match SCHEMES.iter().find(|known| known.name == scheme) {
            Some(scheme) => format!("{:?}", scheme.applied(&options).ok()?),
            None if scheme == MOST_POPULAR => format!("{options:?}"),
            None => return None,
        };
        let mut hasher = DefaultHasher::new();
        (self.data, env!("CARGO_PKG_VERSION"), with).hash(&mut hasher);
        Some(format!("{:016x}", hasher.finish()))
    }
}

/// Rows, and the file that they are written to.
pub(crate) struct Records {
    path: PathBuf,
    rows: Vec<Row>,
}

impl Records {
    /// Makes the folder. Takes over the runs in its file whose fingerprints are these, or begins anew.
    pub(crate) fn open(folder: &Path, resume: Option<&Fingerprints>) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
        let mut records = Self { path: folder.join(FILE), rows: Vec::new() };
        if let Some(fingerprints) = resume
            && records.path.exists()
        {
            records.read(fingerprints)?;
        }
        Ok(records)
    }

    fn read(&mut self, fingerprints: &Fingerprints) -> Result<()> {
        let what = || format!("cannot resume from {}: try without --resume", self.path.display());
        let mut reader = csv::Reader::from_path(&self.path).with_context(what)?;
        for line in reader.deserialize() {
            let row: Row = line.with_context(what)?;
            let known = fingerprints.of(&row.scheme, row.seed).is_some_and(|known| known == row.options);
            if known && !self.has(&row.scheme, row.seed) {
                self.rows.push(row);
            }
        }
        Ok(())
    }

    /// Whether a scheme has a run with this seed.
    pub(crate) fn has(&self, scheme: &str, seed: u64) -> bool {
        self.rows.iter().any(|row| row.scheme == scheme && row.seed == seed)
    }

    /// Adds a run and writes the file, beside its place first: a cut leaves the old one.
    pub(crate) fn add(&mut self, mut row: Row, fingerprints: &Fingerprints) -> Result<()> {
        row.options = fingerprints.of(&row.scheme, row.seed).unwrap_or_default();
        self.rows.push(row);
        let part = self.path.with_extension("csv.part");
        let what = || format!("cannot write {}", part.display());
        let mut writer = csv::Writer::from_path(&part).with_context(what)?;
        self.rows.iter().try_for_each(|row| writer.serialize(row)).with_context(what)?;
        writer.flush().with_context(what)?;
        fs::rename(&part, &self.path).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// All rows: schemes in their order, each by seed.
    pub(crate) fn table(mut self) -> Table {
        let place = |name: &str| SCHEMES.iter().position(|scheme| scheme.name == name);
        self.rows.sort_by_key(|row| (place(&row.scheme).unwrap_or(SCHEMES.len()), row.seed));
        Table::new(self.rows)
    }
}
