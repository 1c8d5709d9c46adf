//! Text from elsewhere, made safe to show: a backend's banner must not move the cursor, set a title or
//! paint over what was said before.

/// One line: every control character replaced, line ends included.
pub(super) fn line(text: &str) -> String {
    text.chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// Several lines: line ends stay.
pub(super) fn paragraph(text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']).replace("\r\n", "\n");
    text.chars().map(|c| if c != '\n' && harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and those that reverse the order in which text is shown.
fn harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_shown_and_not_obeyed() {
        assert_eq!(line("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(paragraph("a\r\nb\u{9b}1m\n\n"), "a\nb\u{fffd}1m");
        assert_eq!(line("x\u{202e}y"), "x\u{fffd}y");
        assert_eq!(line("Benutzername für Zoë"), "Benutzername für Zoë");
    }
}
