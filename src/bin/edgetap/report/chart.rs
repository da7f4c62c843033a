//! *Chart*: a timeline as SVG. It has our own words and numbers only.
//!
//! Colors are names: page.css replaces each by one for light or dark.

use charts_rs::{BarChart, Box as Margin, Color, Series};

use super::timeline::{Bin, Timeline};

const SENT: u8 = 1;
const STATIC: u8 = 2;
const EXCLUDED: u8 = 3;
const TEXT: u8 = 4;
const AXIS: u8 = 5;
const GRID: u8 = 6;

/// Intervals of the vertical axis.
const INTERVALS: u64 = 4;
const HEIGHT: f32 = 240.0;
const FONT_SIZE: f32 = 12.0;

/// Draws the rows of each period, `width` pixels wide.
pub(super) fn stacked_bars(timeline: &Timeline, width: f32) -> anyhow::Result<String> {
    let series = |name: &str, rows: fn(&Bin) -> u64| {
        let data: Vec<f32> = timeline.bins.iter().map(|bin| drawn(rows(bin))).collect();
        let mut series: Series = (name, data).into();
        series.stack = Some("rows".to_owned());
        series
    };
    let labels = timeline.bins.iter().map(|bin| timeline.label(bin));
    let most = timeline.bins.iter().map(Bin::rows).max().unwrap_or(0);
    let mut chart = BarChart::new(
        vec![
            series("sent", |bin| bin.sent),
            series("static", |bin| bin.static_assets),
            series("excluded", |bin| bin.excluded),
        ],
        labels.collect(),
    );
    chart.width = width;
    chart.height = HEIGHT;
    chart.margin = Margin {
        left: 10.0,
        top: 8.0,
        right: 10.0,
        bottom: 4.0,
    };
    chart.background_color = Color::transparent();
    chart.legend.show = Some(false);
    chart.series.colors = [SENT, STATIC, EXCLUDED].map(color).to_vec();
    chart.grid.stroke_color = color(GRID);
    chart.x_axis.stroke_color = color(AXIS);
    chart.x_axis.font.color = color(TEXT);
    chart.x_axis.font.size = FONT_SIZE;
    for axis in &mut chart.y_axis_configs {
        axis.font.color = color(TEXT);
        axis.font.size = FONT_SIZE;
        axis.formatter = Some("{t}".to_owned());
        axis.min = Some(0.0);
        axis.max = Some(drawn(INTERVALS * interval(most)));
        axis.split_number = usize::try_from(INTERVALS).unwrap_or(1);
    }
    Ok(chart.svg()?)
}

fn color(name: u8) -> Color {
    (name, name, name).into()
}

#[expect(clippy::cast_precision_loss, reason = "a bar has no more pixels")]
fn drawn(number: u64) -> f32 {
    number as f32
}

/// Returns a round number: the smallest of which enough reach `most`.
fn interval(most: u64) -> u64 {
    const TENTHS: [u64; 11] = [10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100];
    let least = most.div_ceil(INTERVALS).max(1);
    let power = 10_u64.pow(least.ilog10());
    if power == 1 {
        return least;
    }
    let mut rounds = TENTHS.into_iter().map(|tenths| power / 10 * tenths);
    rounds.find(|round| *round >= least).unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_round() {
        for (most, expected) in [(0, 1), (5, 2), (17, 5), (41, 12), (220, 60), (3999, 1000)] {
            assert_eq!(interval(most), expected, "{most}");
        }
    }
}
