//! What `lint` found.

use sluice_core::lint::{Finding, Severity};

use super::{
    Screen,
    detail::indented,
    text::{Paint, plain},
};

/// Each finding with its field, the name of its sort and what to do, mistakes first.
pub fn findings(name: &str, findings: &[Finding], screen: &Screen) -> String {
    let mut lines = Vec::new();
    if findings.is_empty() {
        lines.push(format!("{}: nothing was found", plain(name)));
    } else if findings.iter().all(|finding| finding.severity == Severity::Note) {
        lines.push(format!("{}: no mistakes and no risks, as far as can be told", plain(name)));
    }
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in sorted {
        let paint = match finding.severity {
            Severity::Mistake => Paint::Red,
            Severity::Risk => Paint::Yellow,
            Severity::Note => Paint::Cyan,
        };
        let word = paint.on(screen.colour, &finding.severity.to_string());
        let code = Paint::Dim.on(screen.colour, finding.code.name());
        lines.push(format!("{word}  {}  {code}", plain(&finding.path)));
        lines.extend(indented(&plain(&finding.problem), 2, screen));
        let advice = indented(&plain(&finding.advice), 2, screen);
        lines.extend(advice.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
    }
    lines.join("\n") + "\n"
}
