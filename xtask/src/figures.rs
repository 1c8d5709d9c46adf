//! Figures with their thresholds: printed, and written into `docs/benchmarks.md`.

use std::fmt;
use std::fs;
use std::process::Command;

use crate::packages::version;
use crate::steps::{ask, root};

/// Whether a promise is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Kept,
    Missed,
    /// Nothing was promised, or ours was not measured.
    Open,
}

/// A promise about one number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Promise {
    AtLeast(f64),
    AtMost(f64),
}

/// One line: a quantity of both sides.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: String,
    /// The other side's; `None` where there is none.
    pub(crate) peer: Option<f64>,
    /// Ours; `None` where it was not measured.
    pub(crate) ours: Option<f64>,
    pub(crate) unit: &'static str,
    /// About the ratio ours / peer, or about our own number where there is no peer.
    pub(crate) promise: Option<Promise>,
}

impl Figure {
    fn judged(&self) -> Option<f64> {
        match (self.peer, self.ours) {
            (Some(peer), Some(ours)) => Some(ours / peer),
            (None, ours) => ours,
            (Some(_), None) => None,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let (Some(value), Some(promise)) = (self.judged(), self.promise) else {
            return Verdict::Open;
        };
        let kept = match promise {
            Promise::AtLeast(limit) => value >= limit,
            Promise::AtMost(limit) => value <= limit,
        };
        // A missing number compares as false, and is no kept promise.
        if kept { Verdict::Kept } else { Verdict::Missed }
    }

    fn cells(&self) -> [String; 5] {
        let number = |value: Option<f64>| value.map_or_else(|| "–".into(), short);
        let ratio = match self.peer.and(self.judged()) {
            Some(ratio) => format!("{ratio:.2}"),
            None => "–".into(),
        };
        let promise = match self.promise {
            Some(Promise::AtLeast(limit)) => format!("≥ {limit}"),
            Some(Promise::AtMost(limit)) => format!("≤ {limit}"),
            None => String::new(),
        };
        let promise = match self.verdict() {
            Verdict::Kept => format!("{promise} ✓"),
            Verdict::Missed => format!("{promise} **missed**"),
            Verdict::Open => promise,
        };
        let name = if self.unit.is_empty() {
            self.name.clone()
        } else {
            format!("{}, {}", self.name, self.unit)
        };
        [name, number(self.peer), number(self.ours), ratio, promise]
    }
}

/// Three significant digits, without an exponent.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 10_000.0 => format!("{:.1} k", value / 1000.0),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) title: String,
    pub(crate) peer: &'static str,
    pub(crate) lines: Vec<Figure>,
    /// What a reader has to know.
    pub(crate) notes: Vec<String>,
}

impl Figures {
    pub(crate) fn verdict(&self) -> Verdict {
        let all = || self.lines.iter().map(Figure::verdict);
        if all().any(|v| v == Verdict::Missed) {
            Verdict::Missed
        } else if all().any(|v| v == Verdict::Kept) {
            Verdict::Kept
        } else {
            Verdict::Open
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["", self.peer, "countersign", "ratio", "promise"].map(str::to_owned);
        let rows: Vec<_> =
            std::iter::once(head).chain(self.lines.iter().map(Figure::cells)).collect();
        let width = |column: usize| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..5).map(width).collect();
        writeln!(f, "\n### {}\n", self.title)?;
        for (at, row) in rows.iter().enumerate() {
            let [name, rest @ ..] = row;
            write!(f, "| {name:w$} |", w = widths[0])?;
            for (cell, w) in rest.iter().zip(&widths[1..]) {
                write!(f, " {cell:>w$} |")?;
            }
            writeln!(f)?;
            if at == 0 {
                let rule = |w: &usize| "-".repeat(*w);
                let [first, rest @ ..] = widths.as_slice() else { return Ok(()) };
                write!(f, "| {} |", rule(first))?;
                for w in rest {
                    write!(f, " {}: |", rule(&(w - 1)))?;
                }
                writeln!(f)?;
            }
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// Puts the tables between their markers in `docs/benchmarks.md`, which may have words of its
/// own around them; a part without markers is added at the end.
pub(crate) fn write(part: &str, all: &[Figures]) -> Result<(), String> {
    let path = root().join("docs/benchmarks.md");
    let before = fs::read_to_string(&path).unwrap_or_else(|_| {
        "# Benchmarks\n\nMade by `cargo xtask bench`. The ratios are the result; the absolute \
         figures belong to the machine.\n"
            .into()
    });
    let mut body = format!("\n{}\n", machine());
    for figures in all {
        body += &figures.to_string();
    }
    fs::write(&path, replace(&before, part, &body)).map_err(|e| format!("{}: {e}", path.display()))
}

fn replace(text: &str, part: &str, body: &str) -> String {
    let (begin, end) = (format!("<!-- bench:{part} -->"), format!("<!-- /bench:{part} -->"));
    let found = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    match found {
        Some((before, after)) => format!("{before}{begin}\n{body}\n{end}{after}"),
        None => format!("{text}\n## {part}\n\n{begin}\n{body}\n{end}\n"),
    }
}

/// Processor, cores, kernel, and the versions of the peers.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let day = ask(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default();
    let kernel = kernel.split('.').take(2).collect::<Vec<_>>().join(".");
    let mut text = format!("{}: {model}, {cores} cores, Linux {kernel}", day.trim());
    for (package, name) in [("dovecot-core", "Dovecot"), ("sasl2-bin", "Cyrus SASL")] {
        if let Some(version) = version(package) {
            text += &format!(", {name} {version}");
        }
    }
    text + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(peer: Option<f64>, ours: Option<f64>, promise: Promise) -> Figure {
        Figure { name: "x".into(), peer, ours, unit: "ms", promise: Some(promise) }
    }

    #[test]
    fn promises_are_about_ratios_or_about_our_own_number() {
        let kept = figure(Some(100.0), Some(110.0), Promise::AtLeast(1.1));
        assert_eq!(kept.verdict(), Verdict::Kept);
        let missed = figure(Some(100.0), Some(95.0), Promise::AtMost(0.9));
        assert_eq!(missed.verdict(), Verdict::Missed);
        assert_eq!(figure(None, Some(20.0), Promise::AtMost(25.0)).verdict(), Verdict::Kept);
        assert_eq!(figure(Some(1.0), None, Promise::AtMost(25.0)).verdict(), Verdict::Open);
        let nothing = figure(None, Some(f64::NAN), Promise::AtMost(25.0));
        assert_eq!(nothing.verdict(), Verdict::Missed);
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "# B\nmine\n<!-- bench:a -->old<!-- /bench:a -->\nyours\n";
        let new = replace(text, "a", "new");
        assert_eq!(new, "# B\nmine\n<!-- bench:a -->\nnew\n<!-- /bench:a -->\nyours\n");
        assert_eq!(replace(&new, "a", "new"), new);
        assert!(replace(&new, "b", "more").starts_with(&new));
    }
}
