//! A QR code on a terminal: half blocks, two modules a character.

use qrcode::{Color, EcLevel, QrCode};

use crate::failure::Failure;

/// The white edge that readers need (ISO/IEC 18004 §6.3.8).
const QUIET: usize = 4;

/// The text as a QR code, black on white whatever the terminal's colours are. Where colours are not wanted
/// (`NO_COLOR`), the white is drawn, which is right on dark terminals and inverted on light ones; most
/// readers take both.
pub(crate) fn drawn(text: &str) -> Result<String, Failure> {
    let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    draw(text, coloured)
}

fn draw(text: &str, coloured: bool) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|error| Failure::broken(format!("no QR code can hold this: {error}")))?;
    let width = code.width();
    let size = width + 2 * QUIET;
    let dark = |x: usize, y: usize| {
        let (Some(x), Some(y)) = (x.checked_sub(QUIET), y.checked_sub(QUIET)) else { return false };
        x < width && y < width && code[(x, y)] == Color::Dark
    };
    let mut lines = String::new();
    for y in (0..size).step_by(2) {
        if coloured {
            // Black and white by number: 16 to 255 are the same on every terminal.
            lines.push_str("\x1b[38;5;16;48;5;231m");
        }
        for x in 0..size {
            // What is drawn is the foreground: the dark in black, or, without colours, the light.
            let drawn = [y, y + 1].map(|y| dark(x, y) == coloured && (coloured || y < size));
            lines.push(match drawn {
                [true, true] => '█',
                [true, false] => '▀',
                [false, true] => '▄',
                [false, false] => ' ',
            });
        }
        lines.push_str(if coloured { "\x1b[0m\n" } else { "\n" });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modules of a drawn code, dark as true.
    fn modules(drawn: &str, coloured: bool) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in drawn.lines() {
            let line =
                line.trim_start_matches("\x1b[38;5;16;48;5;231m").trim_end_matches("\x1b[0m");
            let half = |upper: bool| {
                let dark = |c: char| {
                    let drawn = match c {
                        '█' => true,
                        '▀' => upper,
                        '▄' => !upper,
                        _ => false,
                    };
                    drawn == coloured
                };
                line.chars().map(dark).collect::<Vec<_>>()
            };
            rows.push(half(true));
            rows.push(half(false));
        }
        rows
    }

    #[test]
    fn every_module_is_where_it_belongs() {
        let text = "otpauth://totp/Example:ada?secret=GEZDGNBVGY3TQOJQ";
        let code = QrCode::with_error_correction_level(text, EcLevel::L).unwrap();
        let size = code.width() + 2 * QUIET;
        for coloured in [true, false] {
            let rows = modules(&draw(text, coloured).unwrap(), coloured);
            for (y, row) in rows.iter().enumerate().take(size) {
                assert_eq!(row.len(), size);
                for (x, dark) in row.iter().enumerate() {
                    let inside = |at: usize| (QUIET..QUIET + code.width()).contains(&at);
                    let expected =
                        inside(x) && inside(y) && code[(x - QUIET, y - QUIET)] == Color::Dark;
                    assert_eq!(*dark, expected, "{x} {y} {coloured}");
                }
            }
        }
        assert!(draw(&"x".repeat(5000), true).is_err());
    }
}
