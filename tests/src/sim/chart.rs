//! Line charts as SVG.
//!
//! No more than the reports need: some lines over common axes that begin at zero or at the smallest value, and a legend.

use core::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Room for labels: left, right (legend), top, bottom.
const MARGIN: [f64; 4] = [64.0, 190.0, 36.0, 48.0];
/// Steps of the grid, at most.
const STEPS: f64 = 6.0;
/// Told apart by those who see no red or no green (Okabe and Ito).
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
];

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Last part of its file's name.
    pub name: String,
    /// Above it.
    pub title: String,
    /// Below it.
    pub across: String,
    /// Beside it.
    pub up: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Where it goes.
    pub points: Vec<(f64, f64)>,
    /// Whether it is drawn in dashes: what is computed and not measured.
    pub dashed: bool,
}

impl Line {
    /// A line of measurements.
    #[must_use]
    pub fn measured(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
            dashed: false,
        }
    }

    /// A line of computed points.
    #[must_use]
    pub fn computed(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            dashed: true,
            ..Self::measured(name, points)
        }
    }
}

/// One axis: its range, and the length that it is drawn over.
struct Axis {
    from: f64,
    to: f64,
    step: f64,
    start: f64,
    length: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, start: f64, length: f64) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        // From zero, unless all values lie close together far above it.
        let low = if low >= 0.0 && low < high * 0.8 { 0.0 } else { low };
        let span = if high > low {
            high - low
        } else {
            high.abs().max(1.0)
        };
        let rough = span / STEPS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|times| times * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let from = (low / step).floor() * step;
        let to = ((low + span) / step).ceil() * step;
        Self {
            from,
            to,
            step,
            start,
            length,
        }
    }

    fn place(&self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.to - self.from) * self.length
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let mut tick = self.from;
        core::iter::from_fn(move || {
            let shown = tick;
            tick += self.step;
            (shown <= self.to + self.step / 2.0).then_some(shown)
        })
    }
}

impl Chart {
    /// The chart as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let [left, right, top, bottom] = MARGIN;
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = Axis::new(points().map(|point| point.0), left, WIDTH - left - right);
        // Upwards is smaller in SVG.
        let up = Axis::new(
            points().map(|point| point.1),
            HEIGHT - bottom,
            top + bottom - HEIGHT,
        );
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let mut put = |text: String| {
            svg.push_str(&text);
            svg.push('\n');
        };
        let middle = (left + WIDTH - right) / 2.0;
        put(text(middle, 20.0, "middle", &self.title));
        put(text(middle, HEIGHT - 10.0, "middle", &self.across));
        put(text(8.0, top - 10.0, "start", &self.up));
        for tick in up.ticks() {
            let y = up.place(tick);
            let end = WIDTH - right;
            put(format!(
                "<path d=\"M{left:.1} {y:.1}H{end:.1}\" stroke=\"#ddd\"/>"
            ));
            put(text(left - 6.0, y + 4.0, "end", &tidy(tick, up.step)));
        }
        for tick in across.ticks() {
            let x = across.place(tick);
            put(text(
                x,
                HEIGHT - bottom + 18.0,
                "middle",
                &tidy(tick, across.step),
            ));
        }
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let dash = if line.dashed {
                " stroke-dasharray=\"5 4\""
            } else {
                ""
            };
            let mut path = String::new();
            for (place, (x, y)) in line.points.iter().enumerate() {
                let letter = if place == 0 { 'M' } else { 'L' };
                write!(path, "{letter}{:.1} {:.1}", across.place(*x), up.place(*y)).ok();
            }
            put(format!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>"
            ));
            let (x, y) = (WIDTH - right + 12.0, top + 18.0 * number as f64);
            put(format!(
                "<path d=\"M{x:.1} {y:.1}h18\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>"
            ));
            put(text(x + 24.0, y + 4.0, "start", &line.name));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// A tick's number with the decimals that the step needs.
fn tidy(tick: f64, step: f64) -> String {
    let decimals = (0..9).find(|decimals| {
        let scaled = step * 10_f64.powi(*decimals);
        (scaled - scaled.round()).abs() < 1e-6
    });
    let decimals = usize::try_from(decimals.unwrap_or(9)).unwrap_or(9);
    format!("{tick:.decimals$}")
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let axis = Axis::new([0.3, 8.7].into_iter(), 0.0, 100.0);
        assert_eq!((axis.from, axis.to, axis.step), (0.0, 10.0, 2.0));
        assert_eq!(axis.ticks().count(), 6);
        let close = Axis::new([0.97, 0.99].into_iter(), 0.0, 1.0);
        assert!(close.from > 0.9 && close.to <= 1.0);
        let none = Axis::new(core::iter::empty(), 0.0, 1.0);
        assert!(none.place(0.5).is_finite());
    }

    #[test]
    fn a_chart_shows_every_line() {
        let chart = Chart {
            name: "x".into(),
            title: "a < b & c".into(),
            across: "days".into(),
            up: "copies".into(),
            lines: vec![
                Line::measured("one", vec![(0.0, 1.0), (1.0, 2.0)]),
                Line::computed("two", vec![(0.0, 3.0)]),
            ],
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<path").count(), 2 + 2 + up_ticks(&svg));
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("dasharray") && !svg.contains("NaN"));
    }

    fn up_ticks(svg: &str) -> usize {
        svg.matches("#ddd").count()
    }
}
