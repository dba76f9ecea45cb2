//! `docs/judgement.md` has the figures that the simulations give.

use std::fs;

fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/judgement.md")).unwrap()
}

/// Fails where the page does not have `text`, however its lines are broken.
pub fn says(text: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&page()).contains(&words(text)), "docs/judgement.md should say\n{text}");
}

/// Fails where the column `heading` of the table that is marked as `table` has not these figures, from top to bottom.
pub fn has_column(table: &str, heading: &str, figures: &[u32]) {
    let page = page();
    let lines = page.lines().skip_while(|line| *line != format!("<!-- {table} -->")).skip(1);
    let rows: Vec<Vec<&str>> = lines
        .skip_while(|line| line.is_empty())
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let column = rows.first().and_then(|row| row.iter().position(|cell| *cell == heading));
    let column = column.unwrap_or_else(|| panic!("docs/judgement.md: {table}: no column {heading:?}"));
    let there: Vec<String> = rows.iter().skip(2).map(|row| row[column].to_owned()).collect();
    let figures: Vec<String> = figures.iter().map(u32::to_string).collect();
    assert_eq!(there, figures, "docs/judgement.md, the table of {table}: {heading}");
}
