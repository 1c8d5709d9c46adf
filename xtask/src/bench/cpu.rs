//! What processes use, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// One clock tick of `/proc/PID/stat`: Linux shows user space 100 in a second, whatever its
/// own clock does.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time, user and system, of a process and all its descendants that are alive.
pub(crate) fn used(pid: u32) -> Duration {
    family(pid).iter().filter_map(|pid| Some(stat(*pid)?.ticks)).sum::<u32>() * TICK
}

/// The memory, in KiB, that the process has resident.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    memory(pid, "VmRSS:")
}

/// The most, in KiB, that it had resident so far.
pub(crate) fn peak(pid: u32) -> Option<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

struct Stat {
    parent: u32,
    ticks: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): the name in brackets may hold anything, so counting begins behind its end.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
    // Fields 4 (ppid), 14 (utime) and 15 (stime); the first one here is number 3.
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks: ticks(11)? + ticks(12)? })
}

fn family(head: u32) -> Vec<u32> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, stat(pid)?))) {
            parents.insert(pid, stat.parent);
        }
    }
    let mut family = vec![head];
    let mut next = 0;
    while let Some(member) = family.get(next).copied() {
        next += 1;
        family.extend(parents.iter().filter(|(_, p)| **p == member).map(|(child, _)| *child));
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let line = "17 (a) b (c) S 4 17 17 0 -1 4194560 1 2 3 4 50 7 0 0 20 0 1 0 99";
        let stat = parse(line).unwrap();
        assert_eq!((stat.parent, stat.ticks), (4, 57));
    }

    #[test]
    fn we_are_resident_and_in_our_own_family() {
        let me = std::process::id();
        assert!(family(me).contains(&me));
        assert!(resident(me).unwrap() > 100);
    }
}
