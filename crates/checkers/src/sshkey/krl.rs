//! OpenSSH's binary key revocation lists, as `ssh-keygen -k` makes them (OpenSSH's PROTOCOL.krl).
//!
//! A section that is not known may revoke something: then the whole list is refused, and with it everybody who
//! would log in by a key.

use std::array::TryFromSliceError;

use super::certificate::{string, take};
use super::revoked::{Certificates, Revoked};

/// How such a file begins.
pub(super) const MAGIC: &[u8] = b"SSHKRL\n\0";

const CUT: &str = "the list is cut off";

/// Serial numbers: ranges, and sets of bits for those that lie close together.
#[derive(Debug, Default)]
pub(super) struct Serials {
    /// In order and apart, once [`Serials::finish`] has been called.
    ranges: Vec<(u64, u64)>,
    bitmaps: Vec<Bitmap>,
}

/// A bit for each number from the first on, the lowest last.
#[derive(Debug)]
struct Bitmap {
    first: u64,
    bits: Vec<u8>,
}

impl Serials {
    /// Adds the numbers of a range, both ends included.
    pub(super) fn add(&mut self, first: u64, last: u64) -> Option<()> {
        (first <= last).then(|| self.ranges.push((first, last)))
    }

    /// Puts the ranges in order, to be searched.
    pub(super) fn finish(&mut self) {
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|next, before| {
            let joined = next.0 <= before.1.saturating_add(1);
            if joined {
                before.1 = before.1.max(next.1);
            }
            joined
        });
    }

    /// Whether a number is one of these.
    pub(super) fn contains(&self, serial: u64) -> bool {
        let behind = self.ranges.partition_point(|(first, _)| *first <= serial);
        let listed = behind.checked_sub(1).and_then(|at| self.ranges.get(at));
        listed.is_some_and(|(_, last)| serial <= *last)
            || self.bitmaps.iter().any(|bitmap| bitmap.contains(serial))
    }
}

impl Bitmap {
    fn contains(&self, serial: u64) -> bool {
        let bit = serial.checked_sub(self.first);
        let byte = bit.and_then(|bit| usize::try_from(bit / 8).ok());
        let byte = byte.and_then(|byte| self.bits.iter().rev().nth(byte));
        bit.zip(byte).is_some_and(|(bit, byte)| byte & (1 << (bit % 8)) != 0)
    }
}

/// Reads a list.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Revoked, String> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(CUT)?;
    let version = u32::from_be_bytes(take(&mut rest).ok_or(CUT)?);
    if version != 1 {
        return Err(format!("its format has the number {version}, and 1 is read here"));
    }
    let [_number, _date, flags] = [(); 3].map(|()| take(&mut rest).map(u64::from_be_bytes));
    if flags.ok_or(CUT)? != 0 {
        return Err("it has flags that are not known".into());
    }
    string(&mut rest).ok_or(CUT)?; // reserved
    string(&mut rest).ok_or(CUT)?; // a comment
    let mut revoked = Revoked::default();
    while !rest.is_empty() {
        let [kind] = take(&mut rest).ok_or(CUT)?;
        let data = string(&mut rest).ok_or(CUT)?;
        match kind {
            1 => revoked.add_certificates(certificates(data)?),
            2 => each(data, |key| {
                revoked.add_key(key.to_vec());
                Ok(())
            })?,
            3 => each(data, |hash| hash.try_into().map(|hash| revoked.add_sha1(hash)))?,
            5 => each(data, |hash| hash.try_into().map(|hash| revoked.add_sha256(hash)))?,
            4 => return Err("it is signed, and such signatures are not verified here".into()),
            255 => extension(data)?,
            other => {
                return Err(format!("it has a section of the type {other}, which is not known"));
            }
        }
    }
    Ok(revoked)
}

/// Certificates of one authority, or of any.
fn certificates(mut data: &[u8]) -> Result<Certificates, String> {
    let authority = string(&mut data).ok_or(CUT)?;
    string(&mut data).ok_or(CUT)?; // reserved
    let mut revoked = Certificates::of((!authority.is_empty()).then(|| authority.to_vec()));
    while !data.is_empty() {
        let [kind] = take(&mut data).ok_or(CUT)?;
        let mut section = string(&mut data).ok_or(CUT)?;
        let mut number = || take(&mut section).map(u64::from_be_bytes).ok_or(CUT);
        match kind {
            0x20 => {
                while !section.is_empty() {
                    let serial = u64::from_be_bytes(take(&mut section).ok_or(CUT)?);
                    revoked.serials.add(serial, serial);
                }
            }
            0x21 => {
                let (first, last) = (number()?, number()?);
                revoked.serials.add(first, last).ok_or("a range ends before it begins")?;
                end(section)?;
            }
            0x22 => {
                let first = number()?;
                let bits = string(&mut section).ok_or(CUT)?;
                end(section)?;
                // Written as a number is, whose sign is its first bit.
                if bits.first().is_some_and(|byte| byte & 0x80 != 0) {
                    return Err("a set of bits is negative".into());
                }
                let count = u64::try_from(bits.len()).ok().and_then(|bytes| bytes.checked_mul(8));
                count.and_then(|count| first.checked_add(count)).ok_or("a number is too large")?;
                revoked.serials.bitmaps.push(Bitmap { first, bits: bits.to_vec() });
            }
            0x23 => each(section, |id| {
                revoked.ids.insert(id.to_vec());
                Ok(())
            })?,
            0x39 => extension(section)?,
            other => {
                let what = "a section of certificates of the type";
                return Err(format!("it has {what} {other:#x}, which is not known"));
            }
        }
    }
    revoked.serials.finish();
    Ok(revoked)
}

/// Strings to the end.
fn each(
    mut data: &[u8],
    mut add: impl FnMut(&[u8]) -> Result<(), TryFromSliceError>,
) -> Result<(), String> {
    while !data.is_empty() {
        let one = string(&mut data).ok_or(CUT)?;
        add(one).map_err(|_| "a fingerprint has another length")?;
    }
    Ok(())
}

/// What may be left unread says so.
fn extension(mut data: &[u8]) -> Result<(), String> {
    let name = String::from_utf8_lossy(string(&mut data).ok_or(CUT)?).into_owned();
    let [critical] = take(&mut data).ok_or(CUT)?;
    string(&mut data).ok_or(CUT)?;
    end(data)?;
    match critical {
        0 => Ok(()),
        _ => Err(format!("it has the critical extension {name:?}, which is not known")),
    }
}

fn end(rest: &[u8]) -> Result<(), String> {
    if rest.is_empty() { Ok(()) } else { Err("there is something behind a section's end".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn section(kind: u8, data: &[u8]) -> Vec<u8> {
        [&[kind], &*text(data)].concat()
    }

    fn list(sections: &[Vec<u8>]) -> Vec<u8> {
        let head = [MAGIC, &1u32.to_be_bytes(), &[0; 24], &text(b""), &text(b"comment")].concat();
        [head, sections.concat()].concat()
    }

    fn of_any(sections: &[Vec<u8>]) -> Vec<u8> {
        list(&[section(1, &[text(b""), text(b""), sections.concat()].concat())])
    }

    fn range(first: u64, last: u64) -> Vec<u8> {
        section(0x21, &[first.to_be_bytes(), last.to_be_bytes()].concat())
    }

    fn bits(first: u64, bits: &[u8]) -> Vec<u8> {
        section(0x22, &[&first.to_be_bytes()[..], &text(bits)].concat())
    }

    #[test]
    fn numbers_are_found_wherever_they_are() {
        let serials = section(0x20, &[9u64, 3, u64::MAX].map(u64::to_be_bytes).concat());
        let all = [serials, range(10, 12), range(11, 20), range(30, 30), bits(100, &[1, 0, 5])];
        let mut data = of_any(&all);
        let mut rest = &data[MAGIC.len() + 4 + 24 + 4 + 4 + 7 + 1..];
        let serials = certificates(string(&mut rest).unwrap()).unwrap().serials;
        assert_eq!(serials.ranges, [(3, 3), (9, 20), (30, 30), (u64::MAX, u64::MAX)]);
        for (serial, revoked) in [
            (0, false),
            (3, true),
            (8, false),
            (9, true),
            (20, true),
            (21, false),
            (30, true),
            (100, true),
            (101, false),
            (102, true),
            (116, true),
            (117, false),
            (u64::MAX - 1, false),
            (u64::MAX, true),
        ] {
            assert_eq!(serials.contains(serial), revoked, "{serial}");
        }
        // Cut off anywhere but between sections, it is no list.
        let whole = data.len();
        let begins = list(&[]).len();
        while data.pop().is_some() {
            assert_eq!(read(&data).is_ok(), data.len() == begins, "{} of {whole}", data.len());
        }
    }

    #[test]
    fn what_is_not_known_refuses_all() {
        let extension = |critical: u8| [&text(b"x"), &[critical][..], &text(b"y")].concat();
        for (list, said) in [
            (list(&[section(4, b"")]), "signed"),
            (list(&[section(6, b"")]), "type 6"),
            (list(&[section(255, &extension(1))]), "critical extension \"x\""),
            (list(&[section(3, &text(&[0; 19]))]), "another length"),
            (list(&[section(5, &text(&[0; 33]))]), "another length"),
            (of_any(&[section(0x24, b"")]), "type 0x24"),
            (of_any(&[section(0x39, &extension(1))]), "critical"),
            (of_any(&[range(2, 1)]), "before it begins"),
            (of_any(&[section(0x21, &[0; 17])]), "behind a section's end"),
            (of_any(&[bits(0, &[0x80])]), "negative"),
            (of_any(&[bits(u64::MAX, &[1])]), "too large"),
            (of_any(&[section(0x20, &[0; 7])]), "cut off"),
            ([MAGIC, &2u32.to_be_bytes()].concat(), "the number 2"),
            ([MAGIC, &1u32.to_be_bytes(), &[1; 24]].concat(), "flags"),
        ] {
            let why = read(&list).unwrap_err();
            assert!(why.contains(said), "{said}: {why}");
        }
        assert!(read(&list(&[section(255, &extension(0)), section(2, b"")])).is_ok());
        assert!(read(&of_any(&[section(0x39, &extension(0)), bits(1, b"")])).is_ok());
    }
}
