//! Curves: bars of counts over time, drawn as SVG by the relay, so that they need no script.

use std::fmt::Write as _;

use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

use super::view::{self, Markup};

/// The height of the drawing area. The width is one unit per step.
const HEIGHT: f64 = 100.0;
/// The width of a step, and of its bar.
const STEP: f64 = 10.0;
const BAR: f64 = 7.0;
/// The lowest bar that is not zero, so that a single event is seen next to a thousand.
const LEAST: f64 = 2.0;

/// One step of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) at: OffsetDateTime,
    pub(super) good: i64,
    pub(super) bad: i64,
}

/// What the two parts of a bar are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) good: &'static str,
    pub(super) bad: &'static str,
}

/// A curve with its axis.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) drawing: Markup,
    pub(super) names: Names,
    /// The sums over all steps.
    pub(super) good: i64,
    pub(super) bad: i64,
    /// The count of the highest bar.
    pub(super) most: i64,
    pub(super) from: Option<OffsetDateTime>,
}

const TITLE: &[FormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");

impl Curve {
    /// Draws the bars of these steps, with a title on each.
    pub(super) fn new(points: &[Point], names: Names) -> Self {
        let most = points.iter().map(|point| point.good + point.bad).max().unwrap_or(0);
        let (good, bad) = points.iter().fold((0, 0), |(good, bad), point| (good + point.good, bad + point.bad));
        let width = STEP * view::float(points.len());
        let label = format!(
            "{} {}, {} {}, at most {} in one step",
            view::number(good),
            names.good,
            view::number(bad),
            names.bad,
            view::number(most)
        );
        let mut svg = format!(
            "<svg class=\"curve\" viewBox=\"0 0 {width:.0} {HEIGHT:.0}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{}\">",
            view::escape(&label)
        );
        for y in [0.0, HEIGHT / 2.0, HEIGHT] {
            let _ = write!(svg, "<line class=\"grid-line\" x1=\"0\" x2=\"{width:.0}\" y1=\"{y:.0}\" y2=\"{y:.0}\"/>");
        }
        for (index, point) in points.iter().enumerate() {
            let x = STEP * view::float(index);
            let title = format!(
                "{}: {} {}, {} {}",
                point.at.format(&TITLE).unwrap_or_default(),
                view::number(point.good),
                names.good,
                view::number(point.bad),
                names.bad
            );
            let _ = write!(
                svg,
                "<g><title>{}</title><rect class=\"slot\" x=\"{x:.0}\" y=\"0\" width=\"{STEP:.0}\" height=\"{HEIGHT:.0}\"/>",
                view::escape(&title)
            );
            bars(&mut svg, *point, most, x + (STEP - BAR) / 2.0, HEIGHT);
            svg.push_str("</g>");
        }
        svg.push_str("</svg>");
        Self { drawing: Markup::new(svg), names, good, bad, most, from: points.first().map(|point| point.at) }
    }
}

/// A small curve for a row of a table.
pub(super) fn spark(points: &[Point], names: Names) -> Markup {
    let most = points.iter().map(|point| point.good + point.bad).max().unwrap_or(0);
    let (good, bad) = points.iter().fold((0, 0), |(good, bad), point| (good + point.good, bad + point.bad));
    let label = format!("{} {}, {} {}", view::number(good), names.good, view::number(bad), names.bad);
    let (width, label) = (STEP * view::float(points.len().max(1)), view::escape(&label));
    let mut svg = format!(
        "<svg class=\"spark\" viewBox=\"0 0 {width:.0} {HEIGHT:.0}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{label}\"><title>{label}</title>"
    );
    for (index, point) in points.iter().enumerate() {
        bars(&mut svg, *point, most, STEP * view::float(index) + (STEP - BAR) / 2.0, HEIGHT);
    }
    svg.push_str("</svg>");
    Markup::new(svg)
}

fn bars(svg: &mut String, point: Point, most: i64, x: f64, height: f64) {
    let tall = |count: i64| match count {
        ..=0 => 0.0,
        count => (height * view::float(count) / view::float(most.max(1))).max(LEAST),
    };
    let (good, bad) = (tall(point.good), tall(point.bad));
    let good = good.min(height - bad);
    for (class, y, tall) in [("bar-good", height - good, good), ("bar-bad", height - good - bad, bad)] {
        if tall > 0.0 {
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{BAR:.0}\" height=\"{tall:.1}\"/>"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NAMES: Names = Names { good: "stored", bad: "rejected" };

    fn point(good: i64, bad: i64) -> Point {
        Point { at: datetime!(2026-01-31 08:00 UTC), good, bad }
    }

    #[test]
    fn the_highest_bar_fills_the_drawing_and_the_smallest_is_seen() {
        let curve = Curve::new(&[point(10_000, 0), point(1, 0), point(0, 0)], NAMES);
        let svg = curve.drawing.to_string();
        assert!(svg.contains("height=\"100.0\"") && svg.contains("height=\"2.0\""), "{svg}");
        assert_eq!(svg.matches("bar-good").count(), 2, "a step without events has no bar: {svg}");
        assert_eq!((curve.good, curve.bad, curve.most), (10_001, 0, 10_000));
        assert!(svg.contains("2026-01-31 08:00 UTC: 10,000 stored, 0 rejected"), "{svg}");
    }

    #[test]
    fn good_and_bad_together_are_not_higher_than_the_drawing() {
        let svg = Curve::new(&[point(10_000, 1)], NAMES).drawing.to_string();
        assert!(svg.contains("y=\"0.0\"") && !svg.contains("y=\"-"), "{svg}");
    }

    #[test]
    fn nothing_at_all_is_drawn_without_an_error() {
        assert!(Curve::new(&[], NAMES).drawing.to_string().contains("<svg"));
        assert!(spark(&[], NAMES).to_string().contains("0 stored, 0 rejected"));
        assert!(spark(&[point(1, 2)], NAMES).to_string().contains("bar-bad"));
    }
}
