//! Who came to us.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::process::Pid;

/// The children in the kernel's list (`/proc/PID/task/TID/children`): decimal numbers, a blank after each. Of a list
/// that is too long the rest is for the next time.
pub(super) fn children(list: &File) -> Vec<Pid> {
    let mut buffer = [0; 16 * 1024];
    let length = list.read_at(&mut buffer, 0).unwrap_or_default();
    numbers(&buffer[..length])
}

fn numbers(list: &[u8]) -> Vec<Pid> {
    // What a blank follows is whole.
    let whole = list.iter().rposition(|&byte| byte == b' ').unwrap_or_default();
    list[..whole]
        .split(|&byte| byte == b' ')
        .filter_map(|word| Pid::from_raw(std::str::from_utf8(word).ok()?.parse().ok()?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_only() {
        let read = |list: &[u8]| {
            numbers(list).iter().map(|pid| pid.as_raw_nonzero().get()).collect::<Vec<_>>()
        };
        assert_eq!(read(b""), []);
        assert_eq!(read(b"12 "), [12]);
        assert_eq!(read(b"12 345 "), [12, 345]);
        assert_eq!(read(b"12 345 67"), [12, 345]);
        assert_eq!(read(b"0 x 7 "), [7]);
    }
}
