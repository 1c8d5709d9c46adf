//! Standard output, which may be a pipe whose reader has seen enough.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

/// As a shell shows a program that SIGPIPE has ended, which Rust's programs ignore.
const ENDED_BY_PIPE: i32 = 128 + 13;

/// Writes to standard output. When nobody reads on, the program ends; when it cannot be written, it says so.
pub(crate) fn write(text: Arguments<'_>) {
    let Err(error) = std::io::stdout().lock().write_fmt(text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(ENDED_BY_PIPE);
    }
    eprintln!("error: cannot write to standard output: {error}");
    std::process::exit(1);
}

/// [`std::print`], by [`write`].
macro_rules! print {
    ($($text:tt)*) => { $crate::out::write(format_args!($($text)*)) };
}

/// [`std::println`], by [`write`].
macro_rules! println {
    () => { $crate::out::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($text)*))) };
}
