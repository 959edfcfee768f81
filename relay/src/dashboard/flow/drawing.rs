//! The drawing of the flow: nodes in two columns of HTML, and between them the routes as lines of SVG.
//!
//! The drawing stretches to the width of the page, so its lines keep their width (`non-scaling-stroke`) and have no
//! text. What a line means is also in the table below it.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::dashboard::view::{self, Markup, Tone};

/// The height of a node in units of the drawing, which are pixels at the usual size.
const ROW: f64 = 64.0;
const WIDTH: f64 = 100.0;
/// The width of a line of which nothing is known, and those of the least and the most traffic.
const UNKNOWN: f64 = 1.5;
const LEAST: f64 = 1.5;
const MOST: f64 = 12.0;

/// A source or a destination.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) href: String,
    pub(super) condition: Option<(Tone, &'static str)>,
    /// How much came or went.
    pub(super) more: Option<String>,
}

/// A route.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) href: String,
    pub(super) title: String,
    pub(super) tone: Tone,
    pub(super) traffic: Option<i64>,
}

/// The drawing.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) left: Vec<Node>,
    pub(super) right: Vec<Node>,
    pub(super) lines: Markup,
}

impl Drawing {
    /// Draws routes between nodes, of which each is drawn once. Nodes on the right are near those that lead to them.
    pub(super) fn new(left: impl Iterator<Item = Node>, right: impl Iterator<Item = Node>, lines: Vec<Line>) -> Self {
        let mut left = each_once(left);
        left.sort_by(|one, other| one.name.cmp(&other.name));
        let rows = rows(&left);
        let mut right = each_once(right);
        let middle = |id: &str| {
            let froms = lines.iter().filter(|line| line.to == id).filter_map(|line| rows.get(&line.from));
            let (sum, count) = froms.fold((0, 0), |(sum, count), row| (sum + row * 1_000, count + 1));
            usize::checked_div(sum, count).unwrap_or(0)
        };
        right.sort_by_cached_key(|node| (middle(&node.id), node.name.clone()));
        let height = ROW * view::float(left.len().max(right.len()).max(1));
        let svg = svg(&lines, &rows, &self::rows(&right), height);
        Self { left, right, lines: svg }
    }
}

fn each_once(nodes: impl Iterator<Item = Node>) -> Vec<Node> {
    let mut found: Vec<Node> = Vec::new();
    for node in nodes {
        if !found.iter().any(|known| known.id == node.id) {
            found.push(node);
        }
    }
    found
}

fn rows(nodes: &[Node]) -> HashMap<String, usize> {
    nodes.iter().enumerate().map(|(row, node)| (node.id.clone(), row)).collect()
}

fn svg(lines: &[Line], left: &HashMap<String, usize>, right: &HashMap<String, usize>, height: f64) -> Markup {
    let most = lines.iter().filter_map(|line| line.traffic).max().unwrap_or(0);
    let mut svg = format!(
        "<svg class=\"flow-lines\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" preserveAspectRatio=\"none\" height=\"{height:.0}\" \
         aria-hidden=\"true\">"
    );
    for line in lines {
        let (Some(from), Some(to)) = (left.get(&line.from), right.get(&line.to)) else { continue };
        let y = |row: &usize| ROW * (view::float(*row) + 0.5);
        let (from, to, half) = (y(from), y(to), WIDTH / 2.0);
        let _ = write!(
            svg,
            "<a href=\"{}\" tabindex=\"-1\"><title>{}</title><path class=\"flow-line tone-{}\" stroke-width=\"{:.1}\" \
             d=\"M0 {from:.0}C{half:.0} {from:.0} {half:.0} {to:.0} {WIDTH:.0} {to:.0}\"/></a>",
            view::escape(&line.href),
            view::escape(&line.title),
            line.tone.name(),
            width(line.traffic, most)
        );
    }
    svg.push_str("</svg>");
    Markup::new(svg)
}

/// The width of a line. It grows with the root of the traffic, so that little traffic is seen beside much.
fn width(traffic: Option<i64>, most: i64) -> f64 {
    match traffic {
        None => UNKNOWN,
        Some(count) if count <= 0 || most <= 0 => LEAST,
        Some(count) => LEAST + (MOST - LEAST) * (view::float(count) / view::float(most)).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, name: &str) -> Node {
        Node { id: id.to_owned(), name: name.to_owned(), href: String::new(), condition: None, more: None }
    }

    fn line(from: &str, to: &str, traffic: Option<i64>) -> Line {
        Line {
            from: from.to_owned(),
            to: to.to_owned(),
            href: "/a?b&c".to_owned(),
            title: "<b>".to_owned(),
            tone: Tone::Danger,
            traffic,
        }
    }

    #[test]
    fn each_node_is_drawn_once_and_destinations_are_near_their_sources() {
        let left = [node("s2", "b"), node("s1", "a"), node("s2", "b")];
        let right = [node("d1", "a"), node("d2", "z"), node("d1", "a")];
        let lines = vec![line("s2", "d1", Some(100)), line("s1", "d2", None), line("s2", "d1", Some(0))];
        let drawing = Drawing::new(left.into_iter(), right.into_iter(), lines);
        let names = |nodes: &[Node]| nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&drawing.left), names(&drawing.right)),
            (vec!["a".into(), "b".into()], vec!["z".into(), "a".into()])
        );
        let svg = drawing.lines.to_string();
        assert_eq!(svg.matches("<path").count(), 3, "{svg}");
        assert!(svg.contains("viewBox=\"0 0 100 128\"") && svg.contains("stroke-width=\"12.0\""), "{svg}");
        assert!(svg.contains("&lt;b&gt;") && svg.contains("/a?b&amp;c") && !svg.contains("<b>"), "{svg}");
    }

    #[test]
    fn a_line_is_as_wide_as_its_traffic() {
        assert!((width(Some(25), 100) - 6.75).abs() < 0.001);
        assert!((width(None, 100) - UNKNOWN).abs() < 0.001 && (width(Some(0), 0) - LEAST).abs() < 0.001);
        assert!((width(Some(100), 100) - MOST).abs() < 0.001);
    }

    #[test]
    fn nothing_at_all_is_drawn_without_an_error() {
        let drawing = Drawing::new(std::iter::empty(), std::iter::empty(), Vec::new());
        assert!(drawing.lines.to_string().starts_with("<svg"));
    }
}
