//! The plot: the window over the size, both on logarithmic scales, one line per method. SVG, written by hand.

use std::fmt::Write as _;

use crate::bench::sample::Samples;
use crate::bench::stats::{Spread, time};
use crate::bench::tables::{SIZES, alone, methods, spread};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 400.0;

/// Where the vertical axis begins and ends: 10 µs and 10 s.
const DECADES: (u32, u32) = (4, 10);

/// A line of the plot.
struct Line {
    method: String,
    points: Vec<(u64, Spread)>,
}

/// The plot as an SVG document.
pub fn svg(samples: &Samples, subtitle: &str) -> String {
    let lines = methods(samples).into_iter().map(|method| Line {
        points: SIZES
            .iter()
            .filter_map(|mib| Some((*mib, spread(samples, &method, alone(*mib, false))?)))
            .collect(),
        method,
    });
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"16\" font-weight=\"bold\">How long a process stands still (4 KiB pages)</text>\n\
         <text x=\"{LEFT}\" y=\"39\" fill=\"#555\">{subtitle}</text>\n"
    );
    axes(&mut svg);
    let lines: Vec<_> = lines.filter(|line| !line.points.is_empty()).collect();
    let labels = spaced(lines.iter().map(Line::last_y).collect());
    for (line, label) in lines.iter().zip(labels) {
        line.draw(&mut svg, label);
    }
    svg + "</svg>\n"
}

fn axes(svg: &mut String) {
    for decade in DECADES.0..=DECADES.1 {
        let (ns, y) = (10_u64.pow(decade), y(10_u64.pow(decade)));
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            short(ns)
        );
    }
    for mib in SIZES {
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{BOTTOM}\" stroke=\"#eee\"/><text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{mib}</text>",
            BOTTOM + 18.0,
            x = x(mib)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#555\">MiB of memory</text>",
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 40.0
    );
}

/// A power of ten without its decimals.
fn short(ns: u64) -> String {
    time(ns).replace(".00", "").replace(".0", "")
}

impl Line {
    fn last_y(&self) -> f64 {
        self.points.last().map_or(BOTTOM, |(_, spread)| y(spread.median))
    }

    fn colour(&self) -> &'static str {
        match self.method.as_str() {
            "fork" => "#444444",
            "redis" => "#c0392b",
            "criu" => "#8e44ad",
            "eager" => "#2e86c1",
            "lazy" => "#17a589",
            _ => "#e67e22",
        }
    }

    fn label(&self) -> String {
        match self.method.as_str() {
            "fork" => "fork()".to_owned(),
            "redis" => "Redis' BGSAVE fork".to_owned(),
            "criu" => "criu's frozen time".to_owned(),
            arm => format!("freezeframe, {arm}"),
        }
    }

    fn draw(&self, svg: &mut String, label: f64) {
        let colour = self.colour();
        let path: Vec<_> = self
            .points
            .iter()
            .map(|(mib, spread)| format!("{:.1} {:.1}", x(*mib), y(spread.median)))
            .collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join("L")
        );
        for (mib, spread) in &self.points {
            let (x, low, high) = (x(*mib), y(spread.min), y(spread.max));
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.4\" stroke-width=\"3\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>",
                y(spread.median)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            RIGHT + 10.0,
            label + 4.0,
            self.label()
        );
    }
}

/// Moves labels down until none covers another.
fn spaced(mut places: Vec<f64>) -> Vec<f64> {
    const APART: f64 = 16.0;
    let mut order: Vec<_> = (0..places.len()).collect();
    order.sort_by(|&a, &b| places[a].total_cmp(&places[b]));
    for pair in 1..order.len() {
        let above = places[order[pair - 1]];
        let place = &mut places[order[pair]];
        *place = place.max(above + APART);
    }
    places
}

#[expect(clippy::cast_precision_loss, reason = "half a pixel is enough")]
fn x(mib: u64) -> f64 {
    let (first, last) = (SIZES[0] as f64, SIZES[SIZES.len() - 1] as f64);
    let part = (mib as f64 / first).log2() / (last / first).log2();
    LEFT + 20.0 + part * (RIGHT - LEFT - 40.0)
}

#[expect(clippy::cast_precision_loss, reason = "half a pixel is enough")]
fn y(ns: u64) -> f64 {
    let (low, high) = (f64::from(DECADES.0), f64::from(DECADES.1));
    let part = ((ns.max(1) as f64).log10() - low) / (high - low);
    BOTTOM - part.clamp(0.0, 1.0) * (BOTTOM - TOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_logarithmic() {
        assert!((y(10_000) - BOTTOM).abs() < 1e-9);
        assert!((y(10_000_000_000) - TOP).abs() < 1e-9);
        let (step, next) = (y(100_000) - y(1_000_000), y(1_000_000) - y(10_000_000));
        assert!((step - next).abs() < 1e-9);
        assert!((x(256) - x(64) - (x(1024) - x(256))).abs() < 1e-9);
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        assert_eq!(spaced(vec![100.0, 50.0, 101.0]), [100.0, 50.0, 116.0]);
    }

    #[test]
    fn a_method_is_a_line_with_its_name() {
        let line = |mib| {
            format!(
                "{{\"what\":\"window\",\"method\":\"fork\",\"ns\":1000000,\"mib\":{mib},\"huge\":false,\"threads\":1,\"processes\":1}}\n"
            )
        };
        let samples = Samples::parse(&(line(64) + &line(1024))).unwrap();
        let svg = svg(&samples, "here");
        assert!(
            svg.contains(">fork()</text>") && svg.contains(">10 µs</text>"),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 2);
    }
}
