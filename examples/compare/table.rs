//! The table of a comparison: mean and spread over the seeds, as markdown, csv and SVG.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use serde::Serialize;

use crate::evaluate::Metrics;

/// One run; one line of the csv.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) scheme: &'static str,
    pub(crate) seed: u64,
    pub(crate) recall_at_10: f64,
    pub(crate) recall_at_50: f64,
    pub(crate) ndcg_at_10: f64,
    pub(crate) tail_share: f64,
    /// Milliseconds a training step, batches and optimizer included; none for what needs no training.
    pub(crate) step_ms: Option<f64>,
}

impl Row {
    pub(crate) fn new(scheme: &'static str, seed: u64, metrics: Metrics, step_ms: Option<f64>) -> Self {
        let Metrics { recall_10, recall_50, ndcg_10, tail_share } = metrics;
        Self {
            scheme,
            seed,
            recall_at_10: recall_10,
            recall_at_50: recall_50,
            ndcg_at_10: ndcg_10,
            tail_share,
            step_ms,
        }
    }

    /// A line for the terminal as runs end.
    pub(crate) fn line(&self) -> String {
        format!(
            "seed {} {:<24} recall@10 {:.4}, recall@50 {:.4}, ndcg@10 {:.4}, tail share {:.3}",
            self.seed, self.scheme, self.recall_at_10, self.recall_at_50, self.ndcg_at_10, self.tail_share
        )
    }
}

/// All runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

/// Mean, smallest and largest over the seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Schemes in the order in which they ran first.
    fn schemes(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.scheme) {
                names.push(row.scheme);
            }
        }
        names
    }

    /// A scheme's spread of one figure; nothing if it has none.
    pub(crate) fn spread(&self, scheme: &str, figure: impl Fn(&Row) -> Option<f64>) -> Option<Spread> {
        let values: Vec<f64> =
            self.rows.iter().filter(|row| row.scheme == scheme).filter_map(figure).collect();
        (!values.is_empty()).then(|| Spread::of(&values))
    }

    /// One line a scheme: means, and in brackets the smallest and the largest recall@10.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| scheme | recall@10 | recall@50 | ndcg@10 | tail share | ms a step |\n|---|---|---|---|---|---|\n",
        );
        for scheme in self.schemes() {
            let mean = |figure: fn(&Row) -> Option<f64>, digits: usize| match self.spread(scheme, figure) {
                Some(spread) => format!("{:.digits$}", spread.mean),
                None => "".to_owned(),
            };
            let recall = self.spread(scheme, |row| Some(row.recall_at_10));
            let recall = recall
                .map(|spread| format!("{:.3} ({:.3} to {:.3})", spread.mean, spread.least, spread.most))
                .unwrap_or_default();
            text.push_str(&format!(
                "| {scheme} | {recall} | {} | {} | {} | {} |\n",
                mean(|row| Some(row.recall_at_50), 3),
                mean(|row| Some(row.ndcg_at_10), 3),
                mean(|row| Some(row.tail_share), 2),
                mean(|row| row.step_ms, 1),
            ));
        }
        text
    }

    /// Writes compare.csv (every run), compare.md and compare.svg into a folder.
    pub(crate) fn save(&self, folder: &Path) -> Result<[PathBuf; 3]> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
        let paths = ["compare.csv", "compare.md", "compare.svg"].map(|name| folder.join(name));
        let [csv, markdown, svg] = &paths;
        let mut writer =
            csv::Writer::from_path(csv).with_context(|| format!("cannot write {}", csv.display()))?;
        self.rows.iter().try_for_each(|row| writer.serialize(row)).context("cannot write compare.csv")?;
        writer.flush().context("cannot write compare.csv")?;
        fs::write(markdown, self.markdown())
            .with_context(|| format!("cannot write {}", markdown.display()))?;
        self.draw(svg)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("cannot draw {}", svg.display()))?;
        Ok(paths)
    }

    /// recall@10: a bar a scheme up to the mean, a dot a run.
    fn draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let schemes = self.schemes();
        let most = self.rows.iter().map(|row| row.recall_at_10).fold(0.0, f64::max).max(1e-3);
        let height = 90 + 26 * schemes.len() as u32;
        let area = SVGBackend::new(path, (900, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let count = schemes.len() as i32;
        let mut chart = ChartBuilder::on(&area)
            .caption("recall@10: mean and runs", ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(190)
            .build_cartesian_2d(0.0..1.08 * most, (0..count - 1).into_segmented())?;
        let name = |place: &SegmentValue<i32>| match place {
            // The first scheme on top.
            SegmentValue::CenterOf(k) => {
                usize::try_from(count - 1 - k).ok().and_then(|k| schemes.get(k)).unwrap_or(&"").to_string()
            }
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(schemes.len())
            .y_label_formatter(&name)
            .label_style(("sans-serif", 13))
            .draw()?;
        for (k, scheme) in (0..count).rev().zip(&schemes) {
            let Some(spread) = self.spread(scheme, |row| Some(row.recall_at_10)) else { continue };
            let corners = [(0.0, SegmentValue::Exact(k)), (spread.mean, SegmentValue::Exact(k + 1))];
            let mut bar = Rectangle::new(corners, BLUE.mix(0.35).filled());
            bar.set_margin(4, 4, 0, 0);
            chart.draw_series([bar])?;
            let runs = self.rows.iter().filter(|row| row.scheme == *scheme);
            let dots =
                runs.map(|row| Circle::new((row.recall_at_10, SegmentValue::CenterOf(k)), 3, BLACK.filled()));
            chart.draw_series(dots)?;
        }
        area.present()?;
        Ok(())
    }
}
