//! What `lint` found.

use sluice_core::lint::{Finding, Severity};

use super::{
    Screen,
    detail::indented,
    text::{Paint, plain},
};

/// Each finding with its field and what to do, mistakes first.
pub fn findings(name: &str, findings: &[Finding], screen: &Screen) -> String {
    if findings.is_empty() {
        return format!("{name}: nothing was found\n");
    }
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut lines = Vec::new();
    for finding in sorted {
        let (word, paint) = match finding.severity {
            Severity::Mistake => ("mistake", Paint::Red),
            Severity::Risk => ("risk", Paint::Yellow),
        };
        lines.push(format!("{}  {}", paint.on(screen.colour, word), plain(&finding.path)));
        lines.extend(indented(&plain(&finding.problem), 2, screen));
        let advice = indented(&plain(&finding.advice), 2, screen);
        lines.extend(advice.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
    }
    lines.join("\n") + "\n"
}
