//! What a server and its launcher say to each other. Numbers are little-endian; a text is its length in four bytes and
//! itself.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::confinement::{Access, Confinement, Limits, User};

/// To the launcher.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The first: what it and everything that it starts may do. The environment and the folder it has already.
    Confine(Confinement),
    /// Start a program. Its standard input, output and error output come with the message.
    Start { id: u64, command: Vec<OsString> },
    /// End it, and its process group.
    Kill { id: u64 },
}

/// From the launcher.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// It has confined itself. The text is what the kernel could not do of it, or empty.
    Ready(String),
    /// It could not, and ends.
    Unfit(String),
    /// It runs.
    Started { id: u64, pid: i32 },
    /// It could not be started.
    NotStarted { id: u64, why: String },
    /// It has ended, with an exit status.
    Exited { id: u64, status: i32 },
    /// It was ended by a signal.
    Signalled { id: u64, signal: i32 },
}

impl Order {
    /// A start, in bytes that are wiped: up to OpenNebula 5.4 a password is an argument.
    pub(crate) fn start(id: u64, command: &[OsString]) -> Zeroizing<Vec<u8>> {
        let room = 13 + command.iter().map(|word| 4 + word.len()).sum::<usize>();
        let mut out = Vec::with_capacity(room);
        out.push(1);
        put_u64(&mut out, id);
        put_list(&mut out, command.iter().map(|word| word.as_bytes()));
        Zeroizing::new(out)
    }

    pub(crate) fn kill(id: u64) -> Vec<u8> {
        let mut out = vec![2];
        put_u64(&mut out, id);
        out
    }

    pub(crate) fn confine(confinement: &Confinement) -> Vec<u8> {
        let Confinement { user, limits, nice, may_gain_privileges, access, .. } = confinement;
        let mut out = vec![0];
        match user {
            None => out.push(0),
            Some(User { uid, gid, groups }) => {
                out.push(1);
                out.extend(uid.to_le_bytes());
                out.extend(gid.to_le_bytes());
                put_list(&mut out, groups.iter().map(|group| group.to_le_bytes()));
            }
        }
        put_u64(&mut out, limits.files);
        for limit in [limits.file_size, limits.memory, limits.processes] {
            put_u64(&mut out, limit.unwrap_or(u64::MAX));
        }
        out.push(*nice);
        out.push((*may_gain_privileges).into());
        match access {
            None => out.push(0),
            Some(Access { read, write, network }) => {
                out.push(1);
                put_list(&mut out, read.iter().map(|path| path.as_os_str().as_bytes()));
                put_list(&mut out, write.iter().map(|path| path.as_os_str().as_bytes()));
                out.push((*network).into());
            }
        }
        out
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let order = match fields.byte()? {
            0 => Self::Confine(confinement(&mut fields)?),
            1 => Self::Start {
                id: fields.u64()?,
                command: fields.list(|word| Some(OsString::from_vec(word.to_vec())))?,
            },
            2 => Self::Kill { id: fields.u64()? },
            _ => return None,
        };
        fields.0.is_empty().then_some(order)
    }
}

fn confinement(fields: &mut Fields<'_>) -> Option<Confinement> {
    let user = match fields.byte()? {
        0 => None,
        _ => Some(User {
            uid: fields.u32()?,
            gid: fields.u32()?,
            groups: fields.list(|group| Some(u32::from_le_bytes(group.try_into().ok()?)))?,
        }),
    };
    let files = fields.u64()?;
    let mut limit = || Some(Some(fields.u64()?).filter(|&limit| limit != u64::MAX));
    let limits = Limits { files, file_size: limit()?, memory: limit()?, processes: limit()? };
    let path = |path: &[u8]| Some(PathBuf::from(OsString::from_vec(path.to_vec())));
    Some(Confinement {
        environment: Vec::new(),
        directory: PathBuf::new(),
        user,
        limits,
        nice: fields.byte()?,
        may_gain_privileges: fields.byte()? != 0,
        access: match fields.byte()? {
            0 => None,
            _ => Some(Access {
                read: fields.list(path)?,
                write: fields.list(path)?,
                network: fields.byte()? != 0,
            }),
        },
    })
}

impl Report {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        match self {
            Self::Ready(text) | Self::Unfit(text) => {
                out.push(matches!(self, Self::Unfit(_)).into());
                put(&mut out, text.as_bytes());
            }
            Self::Started { id, pid: number }
            | Self::Exited { id, status: number }
            | Self::Signalled { id, signal: number } => {
                out.push(match self {
                    Self::Started { .. } => 2,
                    Self::Exited { .. } => 3,
                    _ => 4,
                });
                put_u64(&mut out, *id);
                out.extend(number.to_le_bytes());
            }
            Self::NotStarted { id, why } => {
                out.push(5);
                put_u64(&mut out, *id);
                put(&mut out, why.as_bytes());
            }
        }
        out
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let report = match fields.byte()? {
            0 => Self::Ready(fields.text()?),
            1 => Self::Unfit(fields.text()?),
            2 => Self::Started { id: fields.u64()?, pid: fields.i32()? },
            3 => Self::Exited { id: fields.u64()?, status: fields.i32()? },
            4 => Self::Signalled { id: fields.u64()?, signal: fields.i32()? },
            5 => Self::NotStarted { id: fields.u64()?, why: fields.text()? },
            _ => return None,
        };
        fields.0.is_empty().then_some(report)
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a message is shorter than 4 GiB");
    out.extend(length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_le_bytes());
}

fn put_list(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = impl AsRef<[u8]>>) {
    let count = u32::try_from(items.len()).expect("a message has fewer items than 2³²");
    out.extend(count.to_le_bytes());
    items.for_each(|item| put(out, item.as_ref()));
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length.try_into().ok()?)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn list<T>(&mut self, read: impl Fn(&'a [u8]) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| read(self.bytes()?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        let confinement = Confinement {
            environment: Vec::new(),
            directory: PathBuf::new(),
            user: Some(User { uid: 7, gid: 8, groups: vec![9, 10] }),
            limits: Limits { files: 64, file_size: Some(0), memory: None, processes: Some(5) },
            nice: 19,
            may_gain_privileges: true,
            access: Some(Access {
                read: vec!["/usr".into(), "/etc".into()],
                write: vec![],
                network: true,
            }),
        };
        let bytes = Order::confine(&confinement);
        assert_eq!(Order::read(&bytes), Some(Order::Confine(confinement.clone())));
        let plain = Confinement { user: None, access: None, ..confinement };
        assert_eq!(Order::read(&Order::confine(&plain)), Some(Order::Confine(plain)));
        let command = vec!["/bin/sh".into(), OsString::from_vec(vec![0xff, b' '])];
        assert_eq!(Order::read(&Order::start(3, &command)), Some(Order::Start { id: 3, command }));
        assert_eq!(Order::read(&Order::kill(u64::MAX)), Some(Order::Kill { id: u64::MAX }));
        for cut in 0..bytes.len() {
            assert_eq!(Order::read(&bytes[..cut]), None);
        }
        assert_eq!(Order::read(&[&bytes[..], b"x"].concat()), None);
    }

    #[test]
    fn reports() {
        for report in [
            Report::Ready(String::new()),
            Report::Unfit("no such user".into()),
            Report::Started { id: 1, pid: 4711 },
            Report::NotStarted { id: 2, why: "No such file".into() },
            Report::Exited { id: 3, status: 255 },
            Report::Signalled { id: 4, signal: 9 },
        ] {
            let bytes = report.encode();
            assert_eq!(Report::read(&bytes), Some(report));
            assert_eq!(Report::read(&bytes[..bytes.len() - 1]), None);
        }
    }
}
