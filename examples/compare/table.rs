//! The table of a comparison: mean and spread over the seeds, as markdown and SVG.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::evaluate::Metrics;
use crate::plot;
use crate::records;
use crate::scheme::SCHEMES;

/// One run; one line of the csv.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) scheme: String,
    pub(crate) seed: u64,
    pub(crate) recall_at_10: f64,
    pub(crate) recall_at_50: f64,
    pub(crate) ndcg_at_10: f64,
    pub(crate) tail_share: f64,
    /// Mean loss of the first epoch's batches and of the last one's; none for what needs no training.
    pub(crate) first_loss: Option<f64>,
    pub(crate) last_loss: Option<f64>,
    /// Milliseconds of the median training step, batches and optimizer included.
    pub(crate) step_ms: Option<f64>,
    /// Fingerprint of what it was made with.
    pub(crate) options: String,
}

impl Row {
    /// A run that took no training.
    pub(crate) fn new(scheme: &str, seed: u64, metrics: Metrics) -> Self {
        let Metrics { recall_10, recall_50, ndcg_10, tail_share } = metrics;
        Self {
            scheme: scheme.to_owned(),
            seed,
            recall_at_10: recall_10,
            recall_at_50: recall_50,
            ndcg_at_10: ndcg_10,
            tail_share,
            first_loss: None,
            last_loss: None,
            step_ms: None,
            options: String::new(),
        }
    }

    /// A line for the terminal as runs end.
    pub(crate) fn line(&self) -> String {
        let loss = match (self.first_loss, self.last_loss) {
            (Some(first), Some(last)) => format!(", loss {first:.3} to {last:.3}"),
            _ => String::new(),
        };
        format!(
            "seed {} {:<24} recall@10 {:.4}, recall@50 {:.4}, ndcg@10 {:.4}, tail share {:.3}{loss}",
            self.seed, self.scheme, self.recall_at_10, self.recall_at_50, self.ndcg_at_10, self.tail_share
        )
    }
}

/// A figure over the seeds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) values: Vec<f64>,
    pub(crate) mean: f64,
    /// The sample's; none for a single run.
    pub(crate) deviation: Option<f64>,
}

impl Spread {
    pub(crate) fn of(values: Vec<f64>) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some(Self { values, mean, deviation })
    }

    fn text(&self, digits: usize) -> String {
        match self.deviation {
            Some(deviation) => format!("{:.digits$} ± {deviation:.digits$}", self.mean),
            None => format!("{:.digits$}", self.mean),
        }
    }
}

/// The middle one; the mean of the two in the middle if they are even in number; none of none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted.get(middle).copied(),
        _ => Some((sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2.0),
    }
}

/// All runs, those of one scheme together.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { rows }
    }

    /// Names of the schemes, in their order.
    pub(crate) fn schemes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rows.iter().map(|row| row.scheme.as_str()).collect();
        names.dedup();
        names
    }

    fn values(&self, scheme: &str, figure: impl Fn(&Row) -> Option<f64>) -> Vec<f64> {
        self.rows.iter().filter(|row| row.scheme == scheme).filter_map(figure).collect()
    }

    /// A scheme's spread of one figure.
    pub(crate) fn spread(&self, scheme: &str, figure: impl Fn(&Row) -> f64) -> Option<Spread> {
        Spread::of(self.values(scheme, |row| Some(figure(row))))
    }

    /// Milliseconds of a scheme's median step; none for what needs no training.
    pub(crate) fn step_ms(&self, scheme: &str) -> Option<f64> {
        median(&self.values(scheme, |row| row.step_ms))
    }

    /// One line a scheme: mean and standard deviation over the seeds, the median step, and what it is.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| scheme | recall@10 | recall@50 | NDCG@10 | tail share | ms a step | what |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for scheme in self.schemes() {
            let cell = |figure: fn(&Row) -> f64, digits: usize| {
                self.spread(scheme, figure).map(|spread| spread.text(digits)).unwrap_or_default()
            };
            let cells = [
                format!("`{scheme}`"),
                cell(|row| row.recall_at_10, 3),
                cell(|row| row.recall_at_50, 3),
                cell(|row| row.ndcg_at_10, 3),
                cell(|row| row.tail_share, 2),
                self.step_ms(scheme).map(|ms| format!("{ms:.1}")).unwrap_or_default(),
                SCHEMES
                    .iter()
                    .find(|known| known.name == scheme)
                    .map_or("no training", |s| s.what)
                    .to_owned(),
            ];
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        text
    }

    /// Writes compare.md and compare.svg into the folder of compare.csv; returns the paths of all three.
    pub(crate) fn save(&self, folder: &Path) -> Result<[PathBuf; 3]> {
        let paths = [records::FILE, "compare.md", "compare.svg"].map(|name| folder.join(name));
        let [_, markdown, svg] = &paths;
        fs::write(markdown, self.markdown())
            .with_context(|| format!("cannot write {}", markdown.display()))?;
        plot::draw(self, svg)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("cannot draw {}", svg.display()))?;
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_and_median_by_hand() {
        let spread = Spread::of(vec![1.0, 2.0, 6.0]).unwrap();
        // Deviations -2, -1, 3: 14 over 2.
        assert_eq!((spread.mean, spread.deviation), (3.0, Some(7f64.sqrt())));
        assert_eq!(spread.text(2), "3.00 ± 2.65");
        assert_eq!(Spread::of(vec![0.5]).unwrap().text(1), "0.5");
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!((median(&[5.0, 1.0, 3.0]), median(&[4.0, 1.0, 2.0, 9.0])), (Some(3.0), Some(3.0)));
        assert_eq!((median(&[2.0]), median(&[])), (Some(2.0), None));
    }
}
