//! Until when a token is good.

use std::time::Duration;

/// A moment in decimal digits, in seconds since 1970: digits alone, without leading zeros. The original takes
/// `9999999999abc` for a number, and so whatever stands behind one.
pub(crate) fn moment(text: &[u8]) -> Option<i64> {
    let plain = matches!(text, [b'1'..=b'9', ..]) && text.len() <= 18;
    if !plain || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether a token that ends then is good now, and not for longer than allowed.
///
/// # Errors
///
/// Why not, for the operator.
pub(crate) fn judge(expires: i64, now: i64, longest: Duration) -> Result<(), String> {
    let left = expires.saturating_sub(now);
    if left <= 0 {
        return Err("the token has expired".into());
    }
    let longest = longest.as_secs();
    if left.unsigned_abs() > longest {
        return Err(format!(
            "the token is good for {left} s, and none may be for more than {longest} s"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_moment_is_digits() {
        assert_eq!(moment(b"1800000000"), Some(1_800_000_000));
        assert_eq!(moment(b"999999999999999999"), Some(999_999_999_999_999_999));
        let none: [&[u8]; 11] = [
            b"",
            b"0",
            b"01",
            b"+1",
            b"-1",
            b"1 ",
            b" 1",
            b"1_0",
            b"9999999999abc",
            b"1e9",
            b"1000000000000000000",
        ];
        for text in none {
            assert_eq!(moment(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_token_ends_and_is_not_too_long() {
        let (now, longest) = (1_800_000_000, DAY);
        assert!(judge(now + 1, now, longest).is_ok() && judge(now + 86_400, now, longest).is_ok());
        assert!(judge(now, now, longest).unwrap_err().contains("expired"));
        assert!(judge(now - 1, now, longest).unwrap_err().contains("expired"));
        assert!(judge(now + 86_401, now, longest).unwrap_err().contains("more than 86400 s"));
        assert!(judge(i64::MAX, -1, longest).is_err() && judge(1, i64::MAX, longest).is_err());
    }
}
