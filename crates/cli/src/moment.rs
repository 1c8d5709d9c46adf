//! Points in time as people type them: absolute, or so long ago, or from now.

use std::str::FromStr;

use countersign_server::admin::When;
use countersign_server::world::unix_ms;

/// `--since`: a point in time, or a length of time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since(pub(crate) When);

/// `--expires`: a point in time, or a length of time from now, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ahead(pub(crate) Option<When>);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match seconds(text) {
            Some(seconds) => Ok(Self(When(now().saturating_sub(seconds)))),
            None => text.parse().map(Self).map_err(or_length),
        }
    }
}

impl FromStr for Ahead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, seconds(text)) {
            ("never", _) => Ok(Self(None)),
            (_, Some(seconds)) => Ok(Self(Some(When(now().saturating_add(seconds))))),
            (_, None) => text.parse().map(|at| Self(Some(at))).map_err(or_length),
        }
    }
}

fn or_length(error: String) -> String {
    format!("{error}, or a length of time such as 90s, 30m, 12h, 7d or 4w")
}

/// `90s`, `30m`, `12h`, `7d`, `4w`.
fn seconds(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    // A century is enough, and stays within what a date can say.
    let number: i64 = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
    number.checked_mul(unit).filter(|seconds| *seconds <= 100 * 366 * 86_400)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    unix_ms().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_points() {
        for (text, expected) in
            [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("4w", 2_419_200)]
        {
            assert_eq!(seconds(text), Some(expected));
        }
        for text in ["", "s", "-1h", "+1h", "1.5h", "1y", "99999999999999999999d", "9999999d", "1é"]
        {
            assert_eq!(seconds(text), None, "{text}");
        }
        let since: Since = "1h".parse().unwrap();
        assert!((now() - since.0.0 - 3600).abs() <= 1);
        let day: Since = "2026-11-22".parse().unwrap();
        assert_eq!(day.0.to_string(), "2026-11-22T00:00:00Z");
        assert_eq!("never".parse::<Ahead>().unwrap(), Ahead(None));
        assert!("30d".parse::<Ahead>().unwrap().0.unwrap().0 > now());
        assert!("soon".parse::<Ahead>().unwrap_err().contains("7d"));
    }
}
