//! Trains a two-tower retrieval model with the fused in-batch sampled-softmax loss.
//!
//! `cargo run --release --example train` does it on generated data; `-- --help` tells the rest.
//! `step.rs` holds every call of the library, `step_cuda.rs` the same for a GPU; the other files are
//! what any trainer has around it: data, two embedding tables with their optimizer, batches,
//! evaluation, a report.

mod class_table;
#[cfg(feature = "cuda")]
mod class_table_cuda;
mod data;
mod device;
mod evaluate;
mod options;
mod pools;
mod random;
mod report;
mod row_negatives;
mod sampling;
mod step;
#[cfg(feature = "cuda")]
mod step_cuda;
mod tower;
mod trainer;

#[cfg(test)]
mod tests;
#[cfg(all(test, feature = "cuda"))]
mod tests_cuda;

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::data::{Planted, Split};
use crate::device::Device;
use crate::evaluate::evaluate;
use crate::options::Options;
use crate::report::{Baseline, Epoch, HEADING, Report};
use crate::trainer::Trainer;

fn main() -> Result<()> {
    let outcome = run(&Options::parse())?;
    println!("{}", outcome.summary());
    Ok(())
}

/// What a run found.
struct Outcome {
    curve: Vec<Epoch>,
    baselines: Vec<Baseline>,
}

impl Outcome {
    /// The last epoch beside the baselines. The last, not the best: choosing an epoch by the
    /// held-out items would flatter the model.
    fn summary(&self) -> String {
        let mut rankings: Vec<String> =
            self.baselines.iter().map(|one| format!("{} {:.4}", one.name, one.metrics.recall_10)).collect();
        if let Some(last) = self.curve.last() {
            rankings.insert(0, format!("this model {:.4}", last.recall_at_10));
        }
        format!("recall@10: {}", rankings.join(", "))
    }
}

fn run(options: &Options) -> Result<Outcome> {
    options.check()?;
    let started = Instant::now();
    let (device, name) = Device::open(options.device)?;
    println!("device: {name}");
    let (interactions, planted) = options.load()?;
    let split = Split::new(&interactions)?;
    let tail = split.tail();
    println!(
        "data: {} users, {} items, {} interactions to train on, {} held out",
        split.users,
        split.items,
        split.train.len(),
        split.held_out.len()
    );
    let baselines = baselines(&split, &tail, planted.as_ref());
    for baseline in &baselines {
        println!("{}", baseline.line());
    }

    let mut report = Report::new(&options.out)?;
    let mut trainer = Trainer::new(options, options.loss_config()?, &split, &device)?;
    println!("{HEADING}");
    let mut curve = Vec::with_capacity(options.epochs);
    for epoch in 1..=options.epochs {
        let bar = progress_bar(epoch, options.epochs, trainer.batches());
        let passed = trainer.epoch(&bar)?;
        bar.finish_and_clear();
        let row = Epoch::new(epoch, passed.loss, trainer.evaluate(&tail), passed.seconds.iter().sum());
        println!("{}", row.line());
        report.epoch(&row)?;
        curve.push(row);
    }
    let [csv, svg] = report.finish(&curve, &baselines)?;
    println!(
        "wrote {} and {}; {:.1} s in all",
        csv.display(),
        svg.display(),
        started.elapsed().as_secs_f64()
    );
    Ok(Outcome { curve, baselines })
}

/// Rankings that need no training: by popularity and, for generated data, by the truth.
fn baselines(split: &Split, tail: &[bool], planted: Option<&Planted>) -> Vec<Baseline> {
    let popular = evaluate(split, tail, |_, scores| {
        for (score, &count) in scores.iter_mut().zip(&split.counts) {
            *score = count as f32;
        }
    });
    let mut baselines = vec![Baseline { name: "most popular", metrics: popular }];
    if let Some(planted) = planted {
        let best = evaluate(split, tail, |user, scores| planted.score(user, scores));
        baselines.push(Baseline { name: "best achievable", metrics: best });
    }
    baselines
}

/// A bar over an epoch's batches; hidden where the output is no terminal.
fn progress_bar(epoch: usize, epochs: usize, batches: usize) -> ProgressBar {
    let bar = ProgressBar::new(batches as u64);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_prefix(format!("epoch {epoch}/{epochs}"));
    bar
}
