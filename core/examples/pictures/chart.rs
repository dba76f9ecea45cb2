//! A chart as SVG text: readable on light and on dark, without a script and without a font of its own.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Where the lines are.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 704.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 318.0;

/// Colours that tell apart on white and on near black, also to whom red and green are one.
const STYLE: &str = "\
svg{background:#fff;font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}\
text{fill:#3d444d}.title{font-size:16px;font-weight:600;fill:#1f2328}.grid{stroke:#d1d9e0;stroke-width:1}\
.mark{stroke:#59636e;stroke-width:1.5;stroke-dasharray:6 4}\
path{fill:none;stroke-width:2.2;stroke-linejoin:round}.thin path.line{stroke-width:1.2;opacity:.85}\
.a{stroke:#bc4c00}.b{stroke:#8250df}.c{stroke:#57606a;stroke-dasharray:2 3}.d{stroke:#0969da}\
@media(prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#b1bac4}.title{fill:#f0f6fc}.grid{stroke:#30363d}\
.mark{stroke:#9198a1}.a{stroke:#f0883e}.b{stroke:#d2a8ff}.c{stroke:#9ea7b3}.d{stroke:#58a6ff}}";

/// A line: what it is, its colour, and its points.
pub struct Line {
    /// Empty where another line of its colour has the name.
    pub name: String,
    pub class: &'static str,
    pub points: Vec<(f64, f64)>,
}

impl Line {
    pub fn new(name: impl Into<String>, class: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), class, points }
    }
}

/// A chart.
pub struct Chart {
    pub title: &'static str,
    pub under: &'static str,
    /// What is counted, and where the axis has numbers, from its beginning to its end.
    pub x: (&'static str, Vec<f64>),
    pub y: (&'static str, Vec<f64>),
    pub logarithmic: bool,
    /// A height that matters, and why.
    pub mark: Option<(f64, &'static str)>,
    pub lines: Vec<Line>,
}

impl Chart {
    /// The whole of it.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n\
             <style>{STYLE}</style>\n<text class=\"title\" x=\"16\" y=\"26\">{}</text>\n<text x=\"16\" y=\"45\">{}</text>\n",
            self.title, self.title, self.under
        );
        self.grid(&mut svg);
        let thin = if self.lines.len() > 8 { " class=\"thin\"" } else { "" };
        writeln!(svg, "<g{thin}>").unwrap();
        for line in &self.lines {
            let mut path = String::new();
            for (number, (x, y)) in line.points.iter().enumerate() {
                let command = if number == 0 { 'M' } else { 'L' };
                write!(path, "{command}{:.1} {:.1}", self.at_x(*x), self.at_y(*y)).unwrap();
            }
            writeln!(svg, "<path class=\"line {}\" d=\"{path}\"/>", line.class).unwrap();
        }
        svg.push_str("</g>\n");
        self.mark(&mut svg);
        self.legend(&mut svg);
        svg + "</svg>\n"
    }

    fn grid(&self, svg: &mut String) {
        for y in &self.y.1 {
            let at = self.at_y(*y);
            writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>").unwrap();
            let number = number(*y);
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{number}</text>",
                LEFT - 8.0,
                at + 4.5
            )
            .unwrap();
        }
        for x in &self.x.1 {
            let (at, number) = (self.at_x(*x), number(*x));
            writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{number}</text>",
                BOTTOM + 20.0
            )
            .unwrap();
        }
        writeln!(
            svg,
            "<text x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            BOTTOM + 40.0,
            self.x.0
        )
        .unwrap();
        writeln!(svg, "<text x=\"16\" y=\"{:.1}\">{}</text>", BOTTOM + 40.0, self.y.0).unwrap();
    }

    fn mark(&self, svg: &mut String) {
        let Some((y, why)) = self.mark else { return };
        let at = self.at_y(y);
        writeln!(svg, "<path class=\"mark\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>").unwrap();
        writeln!(svg, "<text x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\">{why}</text>", at - 6.0).unwrap();
    }

    /// The names, each with a piece of its line, beside one another.
    fn legend(&self, svg: &mut String) {
        let (mut x, y) = (16.0, HEIGHT - 16.0);
        for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
            writeln!(svg, "<path class=\"{}\" d=\"M{x:.1} {:.1}h16\"/>", line.class, y - 4.5).unwrap();
            writeln!(svg, "<text x=\"{:.1}\" y=\"{y}\">{}</text>", x + 21.0, line.name).unwrap();
            // As wide as the widest of the usual fonts.
            x += 37.0 + 7.1 * line.name.len() as f64;
        }
    }

    fn at_x(&self, x: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * part(x, &self.x.1)
    }

    fn at_y(&self, y: f64) -> f64 {
        let part = if self.logarithmic {
            let ends: Vec<f64> = self.y.1.iter().map(|y| y.log10()).collect();
            part(y.log10(), &ends)
        } else {
            part(y, &self.y.1)
        };
        BOTTOM - (BOTTOM - TOP) * part
    }
}

/// How far a number lies between the first and the last of the `ends`.
fn part(number: f64, ends: &[f64]) -> f64 {
    let (first, last) = (ends[0], ends[ends.len() - 1]);
    (number - first) / (last - first)
}

fn number(number: f64) -> String {
    if number >= 1e6 {
        format!("{:.0},000,000", number / 1e6)
    } else if number >= 1000.0 {
        format!("{:.0},000", number / 1000.0)
    } else {
        number.to_string()
    }
}
