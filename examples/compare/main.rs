//! Trains the same two towers under each scheme of negatives and corrections, and compares what they learn.
//!
//! `cargo run --release --example compare` does it on generated data, `-- --data data/ml-100k.inter` on MovieLens.
//! The model, the batches, the optimizer and the evaluation are those of the example `train`, whose files this
//! one shares; `scheme.rs` holds what differs: a few lines a scheme.

#[path = "../train/class_table.rs"]
mod class_table;
#[cfg(feature = "cuda")]
#[path = "../train/class_table_cuda.rs"]
mod class_table_cuda;
#[path = "../train/data/mod.rs"]
mod data;
#[path = "../train/device.rs"]
mod device;
#[path = "../train/evaluate.rs"]
mod evaluate;
#[path = "../train/options.rs"]
mod options;
#[path = "../train/pools.rs"]
mod pools;
#[path = "../train/random.rs"]
mod random;
#[path = "../train/row_negatives.rs"]
mod row_negatives;
#[path = "../train/sampling.rs"]
mod sampling;
#[path = "../train/step.rs"]
mod step;
#[cfg(feature = "cuda")]
#[path = "../train/step_cuda.rs"]
mod step_cuda;
#[path = "../train/tower.rs"]
mod tower;
#[path = "../train/trainer.rs"]
mod trainer;

mod plot;
mod records;
mod scheme;
mod table;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use indicatif::ProgressBar;

use crate::data::Split;
use crate::device::Device;
use crate::evaluate::evaluate;
use crate::options::Options;
use crate::records::{Fingerprints, Records};
use crate::scheme::{SCHEMES, Scheme};
use crate::table::{Row, Table, median};
use crate::trainer::Trainer;

/// Compares training schemes: one model, one protocol, several seeds.
#[derive(Parser, Clone, Debug)]
#[command(name = "compare", version)]
struct CompareOptions {
    /// Runs of each scheme, with the seeds --seed, --seed + 1, ...
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,

    /// Schemes to run, by name; all of them by default.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    schemes: Vec<String>,

    /// Prints the names of the schemes and what they are, and stops.
    #[arg(long)]
    list: bool,

    /// Keeps the runs of compare.csv that were made with the same options on the same data, and makes the others.
    /// (A change of the code it cannot see.)
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    train: Options,
}

fn main() -> Result<()> {
    let options = CompareOptions::parse();
    if options.list {
        SCHEMES.iter().for_each(|scheme| println!("{:<24} {}", scheme.name, scheme.what));
        return Ok(());
    }
    let table = run(&options)?;
    println!("{}", table.markdown());
    let paths = table.save(&options.train.out)?;
    println!("wrote {}", paths.map(|path| path.display().to_string()).join(", "));
    Ok(())
}

fn run(options: &CompareOptions) -> Result<Table> {
    ensure!(options.seeds >= 1, "--seeds must be at least 1");
    options.train.check()?;
    let schemes = chosen(&options.schemes)?;
    // What does not go with a scheme is an error now, not hours later.
    for scheme in &schemes {
        scheme.applied(&options.train).with_context(|| format!("scheme {}", scheme.name))?;
    }
    let (device, name) = Device::open(options.train.device)?;
    println!("device: {name}");
    let fingerprints = Fingerprints::new(&options.train)?;
    let mut records = Records::open(&options.train.out, options.resume.then_some(&fingerprints))?;
    for seed in options.train.seed..=options.train.seed.saturating_add(options.seeds - 1) {
        let train = Options { seed, ..options.train.clone() };
        let (interactions, _) = train.load()?;
        let split = Split::new(&interactions)?;
        if !records.has(MOST_POPULAR, seed) {
            records.add(most_popular(&split, seed), &fingerprints)?;
        }
        for scheme in &schemes {
            if records.has(scheme.name, seed) {
                println!("seed {seed} {:<24} kept", scheme.name);
                continue;
            }
            let row = train_under(scheme, &train, &split, &device)
                .with_context(|| format!("scheme {}", scheme.name))?;
            println!("{}", row.line());
            records.add(row, &fingerprints)?;
        }
    }
    Ok(records.table())
}

/// The schemes with these names, all if none is given.
fn chosen(names: &[String]) -> Result<Vec<&'static Scheme>> {
    if names.is_empty() {
        return Ok(SCHEMES.iter().collect());
    }
    let find = |name: &String| match SCHEMES.iter().find(|scheme| scheme.name == name) {
        Some(scheme) => Ok(scheme),
        None => bail!("no scheme {name:?}; --list tells their names"),
    };
    names.iter().map(find).collect()
}

fn train_under(scheme: &Scheme, options: &Options, split: &Split, device: &Device) -> Result<Row> {
    let (options, config) = scheme.applied(options)?;
    let mut trainer = Trainer::new(&options, config, split, device)?;
    let (mut losses, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..options.epochs {
        let passed = trainer.epoch(&ProgressBar::hidden())?;
        losses.push(passed.loss);
        seconds.extend(passed.seconds);
    }
    let metrics = trainer.evaluate(&split.tail());
    Ok(Row {
        first_loss: losses.first().copied(),
        last_loss: losses.last().copied(),
        step_ms: median(&seconds).map(|seconds| 1e3 * seconds),
        ..Row::new(scheme.name, options.seed, metrics)
    })
}

/// The row of the list that needs no training.
const MOST_POPULAR: &str = "most-popular";

fn most_popular(split: &Split, seed: u64) -> Row {
    let metrics = evaluate(split, &split.tail(), |_, scores| {
        for (score, &count) in scores.iter_mut().zip(&split.counts) {
            *score = count as f32;
        }
    });
    Row::new(MOST_POPULAR, seed, metrics)
}
