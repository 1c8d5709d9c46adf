//! The core's own benchmark, which counts bytes and nanoseconds without any peer.

use countersign_interop::{Outcome, Trouble};

use super::Effort;
use crate::figures::{Figure, Figures, Promise};
use crate::steps::{LONG, cargo, watch};

pub(crate) fn measure(_: &Effort) -> Outcome<Vec<Figures>> {
    let mut lines = Vec::new();
    let mut command = cargo(&["bench", "--quiet", "--package", "countersign"]);
    let status = watch(&mut command, LONG, |line| lines.extend(figure(line)));
    // A missed limit is also its failure; the table says which one.
    let status = status.map_err(Trouble::failed)?;
    if lines.is_empty() {
        return Err(Trouble::failed(format!("`cargo bench` ended with {status} and no figures")));
    }
    Ok(vec![Figures { title: "The core alone".into(), peer: "–", lines, notes: Vec::new() }])
}

/// `BENCH <name> <number> <unit> [<= <limit>]`
fn figure(line: &str) -> Option<Figure> {
    let words = line.strip_prefix("BENCH ")?;
    let (words, limit) = match words.split_once("<=") {
        Some((words, limit)) => (words, limit.split_whitespace().next()?.parse().ok()),
        None => (words, None),
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    let [name @ .., number, unit] = words.as_slice() else { return None };
    Some(Figure {
        name: format!("{}, {unit}", name.join(" ")),
        peer: None,
        ours: Some(number.parse().ok()?),
        unit: "",
        promise: limit.map(Promise::AtMost),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Verdict;

    #[test]
    fn a_line_is_a_figure() {
        let found = figure("BENCH pending-password-bytes 120 bytes <= 150").unwrap();
        assert_eq!(found.name, "pending-password-bytes, bytes");
        assert_eq!(found.verdict(), Verdict::Kept);
        let open = figure("BENCH step 81.5 ns").unwrap();
        assert!(open.promise.is_none() && open.ours == Some(81.5));
        assert!(figure("Compiling x").is_none() && figure("BENCH x").is_none());
    }
}
