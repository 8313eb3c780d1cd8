//! The plot of a comparison: two panels with a line for each scheme.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::table::{Row, Spread, Table};

type DrawResult = Result<(), Box<dyn std::error::Error>>;

/// Width of the labels, of the whole plot, and where the second panel begins.
const LABELS: u32 = 170;
const WIDTH: u32 = 1080;
const SECOND: u32 = 700;
/// Height of a scheme's line, and of what is above and below the lines.
const LINE: u32 = 22;
const FRAME: u32 = 80;

/// recall@10 on the left, the share of the tail on the right: a bar up to the mean, whiskers of one standard
/// deviation, a dot a run.
pub(crate) fn draw(table: &Table, path: &Path) -> DrawResult {
    let height = FRAME + LINE * table.schemes().len() as u32;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SECOND);
    panel(&left, table, "recall@10", |row| row.recall_at_10, LABELS, BLUE)?;
    panel(&right, table, "tail share of the lists of ten", |row| row.tail_share, 0, GREEN)?;
    area.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    table: &Table,
    title: &str,
    figure: fn(&Row) -> f64,
    labels: u32,
    color: RGBColor,
) -> DrawResult {
    let schemes = table.schemes();
    let spreads: Vec<Option<Spread>> = schemes.iter().map(|scheme| table.spread(scheme, figure)).collect();
    let most = table.rows.iter().map(figure).fold(1e-3, f64::max);
    let count = schemes.len() as i32;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(labels)
        .build_cartesian_2d(0.0..1.1 * most, (0..count - 1).into_segmented())?;
    let name = |place: &SegmentValue<i32>| match place {
        // The first scheme on top.
        SegmentValue::CenterOf(k) => {
            let scheme = usize::try_from(count - 1 - k).ok().and_then(|k| schemes.get(k));
            scheme.copied().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    };
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().x_labels(6).label_style(("sans-serif", 13));
    if labels > 0 {
        mesh.y_labels(schemes.len()).y_label_formatter(&name);
    }
    mesh.draw()?;
    for (k, spread) in (0..count).rev().zip(&spreads) {
        let Some(Spread { values, mean, deviation }) = spread else { continue };
        let corners = [(0.0, SegmentValue::Exact(k)), (*mean, SegmentValue::Exact(k + 1))];
        let mut bar = Rectangle::new(corners, color.mix(0.3).filled());
        bar.set_margin(3, 3, 0, 0);
        chart.draw_series([bar])?;
        let middle = SegmentValue::CenterOf(k);
        if let Some(deviation) = deviation {
            let whisker = [(mean - deviation, middle.clone()), (mean + deviation, middle.clone())];
            chart.draw_series([PathElement::new(whisker, color.stroke_width(2))])?;
        }
        chart.draw_series(
            values.iter().map(|value| Circle::new((*value, middle.clone()), 2, BLACK.filled())),
        )?;
    }
    Ok(())
}
