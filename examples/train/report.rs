//! What a run leaves behind: a table on the terminal, the curve as csv, a plot as SVG.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use serde::Serialize;

use crate::evaluate::Metrics;

/// One epoch of a run; one line of the csv.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Epoch {
    pub(crate) epoch: usize,
    /// Mean loss of the epoch's batches.
    pub(crate) loss: f64,
    pub(crate) recall_at_10: f64,
    pub(crate) recall_at_50: f64,
    pub(crate) ndcg_at_10: f64,
    pub(crate) tail_share: f64,
    /// Training time, evaluation not included.
    pub(crate) seconds: f64,
}

impl Epoch {
    pub(crate) fn new(epoch: usize, loss: f64, metrics: Metrics, seconds: f64) -> Self {
        Self {
            epoch,
            loss,
            recall_at_10: metrics.recall_10,
            recall_at_50: metrics.recall_50,
            ndcg_at_10: metrics.ndcg_10,
            tail_share: metrics.tail_share,
            seconds,
        }
    }

    /// A line below [`HEADING`].
    pub(crate) fn line(&self) -> String {
        format!(
            "{:>5}  {:>8.4}  {:>9.4}  {:>9.4}  {:>7.4}  {:>10.4}  {:>6.2}s",
            self.epoch,
            self.loss,
            self.recall_at_10,
            self.recall_at_50,
            self.ndcg_at_10,
            self.tail_share,
            self.seconds
        )
    }
}

/// Heads the table of epochs.
pub(crate) const HEADING: &str = "epoch      loss  recall@10  recall@50  ndcg@10  tail share    time";

/// A ranking to compare with: a name and its metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) metrics: Metrics,
}

impl Baseline {
    /// A line for the terminal.
    pub(crate) fn line(&self) -> String {
        let Metrics { recall_10, recall_50, ndcg_10, tail_share } = self.metrics;
        format!(
            "{}: recall@10 {recall_10:.4}, recall@50 {recall_50:.4}, ndcg@10 {ndcg_10:.4}, tail share {tail_share:.4}",
            self.name
        )
    }
}

/// The folder that a run writes to.
pub(crate) struct Report {
    folder: PathBuf,
    csv: csv::Writer<File>,
}

impl Report {
    /// Makes the folder and an empty curve, before any work that could be lost.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
        let path = folder.join("curve.csv");
        let csv =
            csv::Writer::from_path(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { folder: folder.to_owned(), csv })
    }

    /// Appends an epoch to the csv.
    pub(crate) fn epoch(&mut self, epoch: &Epoch) -> Result<()> {
        self.csv.serialize(epoch).context("cannot write curve.csv")?;
        self.csv.flush().context("cannot write curve.csv")
    }

    /// Draws the plot. Returns the paths of both files.
    pub(crate) fn finish(self, curve: &[Epoch], baselines: &[Baseline]) -> Result<[PathBuf; 2]> {
        let path = self.folder.join("curve.svg");
        draw(SVGBackend::new(&path, (960, 400)), curve, baselines)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("cannot draw {}", path.display()))?;
        Ok([self.folder.join("curve.csv"), path])
    }
}

type Points = Vec<(f64, f64)>;
type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw(canvas: SVGBackend<'_>, curve: &[Epoch], baselines: &[Baseline]) -> DrawResult {
    let area = canvas.into_drawing_area();
    area.fill(&WHITE)?;
    let points = |value: fn(&Epoch) -> f64| -> Points {
        curve.iter().map(|one| (one.epoch as f64, value(one))).collect()
    };
    let last = curve.last().map_or(1.0, |one| one.epoch as f64);
    let mut quality = vec![
        ("recall@10", points(|one| one.recall_at_10), BLUE.to_rgba()),
        ("recall@50", points(|one| one.recall_at_50), GREEN.to_rgba()),
        ("ndcg@10", points(|one| one.ndcg_at_10), MAGENTA.to_rgba()),
    ];
    let names: Vec<String> = baselines.iter().map(|one| format!("{}, recall@10", one.name)).collect();
    for (shade, (name, baseline)) in names.iter().zip(baselines).enumerate() {
        let level = baseline.metrics.recall_10;
        quality.push((name, vec![(0.0, level), (last, level)], BLACK.mix(0.7 / (shade + 1) as f64)));
    }
    let (left, right) = area.split_horizontally(400);
    panel(&left, "Loss", last, &[("loss", points(|one| one.loss), RED.to_rgba())])?;
    panel(&right, "Leave-one-out", last, &quality)?;
    area.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    last_epoch: f64,
    series: &[(&str, Points, RGBAColor)],
) -> DrawResult {
    let values = || series.iter().flat_map(|(_, points, _)| points.iter().map(|point| point.1));
    let highest = values().fold(f64::NEG_INFINITY, f64::max);
    let lowest = values().fold(f64::INFINITY, f64::min);
    let margin = 0.05 * (highest - lowest).max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..last_epoch, lowest - margin..highest + margin)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("epoch")
        .label_style(("sans-serif", 13))
        .draw()?;
    for (name, points, color) in series {
        let color = *color;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .label_font(("sans-serif", 12))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
