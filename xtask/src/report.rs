//! The table at the end, and its closing line.

use std::fmt;

/// What one step came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The step's name.
    pub(crate) name: String,
    /// How many checks held.
    pub(crate) passed: usize,
    /// Which did not, and why.
    pub(crate) failed: Vec<String>,
    /// Which could not be tried, and why. They are never among the passed.
    pub(crate) not_run: Vec<String>,
}

impl Row {
    /// A row without results yet.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A step that is one check.
    pub(crate) fn single(name: impl Into<String>, outcome: Result<(), String>) -> Self {
        let mut row = Self::new(name);
        match outcome {
            Ok(()) => row.passed = 1,
            Err(why) => row.failed.push(why),
        }
        row
    }

    /// A step that could not be tried.
    pub(crate) fn missing(name: impl Into<String>, why: impl Into<String>) -> Self {
        let mut row = Self::new(name);
        row.not_run.push(why.into());
        row
    }
}

/// All rows, in the order of the run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A row without any result, such as a package without tests, says nothing.
    pub(crate) fn add(&mut self, row: Row) {
        if row.passed + row.failed.len() + row.not_run.len() > 0 {
            self.rows.push(row);
        }
    }

    /// Whether nothing failed.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.failed.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(4);
        writeln!(f, "{:width$}  {:>6}  {:>6}  {:>7}", "step", "passed", "failed", "not run")?;
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for row in &self.rows {
            let (bad, missing) = (row.failed.len(), row.not_run.len());
            writeln!(f, "{:width$}  {:>6}  {bad:>6}  {missing:>7}", row.name, row.passed)?;
            passed += row.passed;
            failed += bad;
            skipped += missing;
        }
        for (title, pick) in [
            ("not run", (|row| &row.not_run) as fn(&Row) -> &Vec<String>),
            ("failed", |row| &row.failed),
        ] {
            if self.rows.iter().any(|row| !pick(row).is_empty()) {
                writeln!(f, "\n{title}:")?;
            }
            for row in &self.rows {
                for why in pick(row) {
                    writeln!(f, "  {}: {why}", row.name)?;
                }
            }
        }
        write!(f, "\n{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_counts_everything_once() {
        let mut report = Report::default();
        report.add(Row::single("format", Ok(())));
        report.add(Row::missing("miri", "no nightly toolchain"));
        assert!(report.holds());
        let mut row = Row::single("tests", Err("a::b".into()));
        row.passed = 40;
        report.add(row);
        assert!(!report.holds());
        let text = report.to_string();
        assert_eq!(text.lines().last(), Some("41 passed, 1 failed, 1 skipped"));
        assert!(text.contains("miri: no nightly toolchain") && text.contains("tests: a::b"));
    }
}
