//! What a server of the master socket sends, written and read.

use std::borrow::Cow;

use super::super::reply::{Field, begin, field};
use super::super::{MAJOR, decimal, escape, split_field, split_parameter, unescape};
use super::MASTER_MINOR;

/// Appends `VERSION` and `SPID`, and nothing more: a socket without `MECH` lines is how clients know this
/// one from the other.
pub fn encode_greeting(out: &mut Vec<u8>, spid: u32) {
    begin(out, b"VERSION", MAJOR);
    out.push(b'\t');
    decimal::push(out, MASTER_MINOR);
    out.push(b'\n');
    begin(out, b"SPID", spid);
    out.push(b'\n');
}

/// Appends `USER id user field…`.
pub fn encode_user(out: &mut Vec<u8>, id: u32, user: &[u8], fields: &[Field<'_>]) {
    begin(out, b"USER", id);
    out.push(b'\t');
    escape(user, out);
    end(out, fields);
}

/// Appends `PASS id user=… field…`.
pub fn encode_pass(out: &mut Vec<u8>, id: u32, user: &[u8], fields: &[Field<'_>]) {
    begin(out, b"PASS", id);
    field(out, "user", Some(user));
    end(out, fields);
}

fn end(out: &mut Vec<u8>, fields: &[Field<'_>]) {
    for &(name, value) in fields {
        field(out, name, value);
    }
    out.push(b'\n');
}

/// Appends `NOTFOUND id`: there is no such user, or none that counts here.
pub fn encode_not_found(out: &mut Vec<u8>, id: u32) {
    begin(out, b"NOTFOUND", id);
    out.push(b'\n');
}

/// Appends `FAIL id [reason=…]`: it cannot be said now. Clients try again later.
pub fn encode_fail(out: &mut Vec<u8>, id: u32, reason: Option<&str>) {
    begin(out, b"FAIL", id);
    if let Some(reason) = reason {
        field(out, "reason", Some(reason.as_bytes()));
    }
    out.push(b'\n');
}

/// Appends `LIST id user`: one of the users.
pub fn encode_list_user(out: &mut Vec<u8>, id: u32, user: &[u8]) {
    begin(out, b"LIST", id);
    out.push(b'\t');
    escape(user, out);
    out.push(b'\n');
}

/// Appends `DONE id`, with `fail` if the list is not whole.
pub fn encode_list_done(out: &mut Vec<u8>, id: u32, whole: bool) {
    begin(out, b"DONE", id);
    out.push(b'\t');
    if !whole {
        out.extend_from_slice(b"fail");
    }
    out.push(b'\n');
}

/// Appends `OK id count`: so much was forgotten.
pub fn encode_flushed(out: &mut Vec<u8>, id: u32, count: u32) {
    begin(out, b"OK", id);
    out.push(b'\t');
    decimal::push(out, count);
    out.push(b'\n');
}

/// Appends `OK id name=number…`.
pub fn encode_cache_status(out: &mut Vec<u8>, id: u32, counts: &[(&str, u64)]) {
    begin(out, b"OK", id);
    for (name, count) in counts {
        field(out, name, Some(count.to_string().as_bytes()));
    }
    out.push(b'\n');
}

/// One line from a server, borrowed from it.
#[derive(Debug)]
#[non_exhaustive]
pub enum MasterReply<'l> {
    /// `VERSION major minor`.
    Version {
        /// Must be [`MAJOR`].
        major: u32,
        /// What the server understands.
        minor: u32,
    },
    /// `SPID pid`: the greeting is over.
    Spid(u32),
    /// `USER id user …`.
    User {
        /// Which request.
        id: u32,
        /// Who; the name may differ from the one that was asked for.
        user: Cow<'l, [u8]>,
        /// `uid`, `gid`, `home`, …
        fields: Fields<'l>,
    },
    /// `PASS id user=… …`.
    Pass {
        /// Which request.
        id: u32,
        /// `user` and others.
        fields: Fields<'l>,
    },
    /// `NOTFOUND id`.
    NotFound {
        /// Which request.
        id: u32,
    },
    /// `FAIL id [reason=…]`.
    Fail {
        /// Which request.
        id: u32,
        /// `reason`.
        fields: Fields<'l>,
    },
    /// `LIST id user`.
    List {
        /// Which request.
        id: u32,
        /// One of the users.
        user: Cow<'l, [u8]>,
    },
    /// `DONE id [fail]`.
    Done {
        /// Which request.
        id: u32,
        /// Whether all users were named.
        whole: bool,
    },
    /// `OK id …`: the end of a cache command.
    Ok {
        /// Which request.
        id: u32,
        /// A bare number, or `hits` and others.
        fields: Fields<'l>,
    },
    /// Anything else: ignore it. `MECH` here means that this is the other kind of socket.
    Unknown(&'l [u8]),
}

/// The fields of a reply.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'l>(&'l [u8]);

impl<'l> Fields<'l> {
    /// Names and values, as they come; a bare word has the empty value.
    pub fn iter(&self) -> impl Iterator<Item = (&'l [u8], Cow<'l, [u8]>)> + use<'l> {
        let fields = self.0.split(|byte| *byte == b'\t').filter(|field| !field.is_empty());
        fields.map(split_parameter).map(|(name, value)| (name, unescape(value)))
    }

    /// The value of a field: the last one of that name.
    pub fn value(&self, name: &str) -> Option<Cow<'l, [u8]>> {
        self.iter().filter(|(found, _)| *found == name.as_bytes()).last().map(|(_, value)| value)
    }
}

/// A line that no server should send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("server sent a broken {0} line: it needs a decimal number of 32 bits")]
pub struct MasterReplyError(&'static str);

impl<'l> MasterReply<'l> {
    /// Reads one line, given without its LF.
    ///
    /// # Errors
    /// A known command without the number that it must have.
    pub fn parse(line: &'l [u8]) -> Result<Self, MasterReplyError> {
        let (command, rest) = split_field(line);
        let rest = rest.unwrap_or_default();
        Ok(match command {
            b"USER" => {
                let (id, rest) = numbered("USER", rest)?;
                let (user, fields) = split_field(rest);
                let fields = Fields(fields.unwrap_or_default());
                Self::User { id, user: unescape(user), fields }
            }
            b"LIST" => {
                let (id, rest) = numbered("LIST", rest)?;
                Self::List { id, user: unescape(split_field(rest).0) }
            }
            b"DONE" => {
                let (id, rest) = numbered("DONE", rest)?;
                Self::Done { id, whole: split_field(rest).0 != b"fail" }
            }
            b"PASS" => {
                let (id, fields) = numbered("PASS", rest)?;
                Self::Pass { id, fields: Fields(fields) }
            }
            b"FAIL" => {
                let (id, fields) = numbered("FAIL", rest)?;
                Self::Fail { id, fields: Fields(fields) }
            }
            b"OK" => {
                let (id, fields) = numbered("OK", rest)?;
                Self::Ok { id, fields: Fields(fields) }
            }
            b"NOTFOUND" => Self::NotFound { id: numbered("NOTFOUND", rest)?.0 },
            b"SPID" => Self::Spid(numbered("SPID", rest)?.0),
            b"VERSION" => {
                let (major, rest) = numbered("VERSION", rest)?;
                Self::Version { major, minor: numbered("VERSION", rest)?.0 }
            }
            name => Self::Unknown(name),
        })
    }
}

fn numbered<'l>(
    command: &'static str,
    rest: &'l [u8],
) -> Result<(u32, &'l [u8]), MasterReplyError> {
    let (number, rest) = split_field(rest);
    let number = decimal::parse(number).ok_or(MasterReplyError(command))?;
    Ok((number, rest.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_dovecot_s_own_clients_read_it() {
        let greeting = written(|out| encode_greeting(out, 77));
        assert_eq!(greeting, "VERSION\t1\t1\nSPID\t77\n");
        let fields: &[Field<'_>] = &[("uid", Some(b"1000")), ("home", Some(b"/a\tb")), ("x", None)];
        let user = written(|out| encode_user(out, 1, b"ann", fields));
        assert_eq!(user, "USER\t1\tann\tuid=1000\thome=/a\u{1}tb\tx\n");
        assert_eq!(written(|out| encode_pass(out, 2, b"ann", &[])), "PASS\t2\tuser=ann\n");
        assert_eq!(written(|out| encode_not_found(out, 3)), "NOTFOUND\t3\n");
        assert_eq!(written(|out| encode_fail(out, 4, None)), "FAIL\t4\n");
        assert_eq!(written(|out| encode_list_done(out, 5, true)), "DONE\t5\t\n");
        assert_eq!(written(|out| encode_list_done(out, 5, false)), "DONE\t5\tfail\n");
        assert_eq!(written(|out| encode_flushed(out, 6, 12)), "OK\t6\t12\n");
        let status = written(|out| encode_cache_status(out, 7, &[("hits", 1), ("misses", 2)]));
        assert_eq!(status, "OK\t7\thits=1\tmisses=2\n");
    }

    #[test]
    fn what_a_server_writes_a_client_reads() {
        let line = written(|out| encode_user(out, 1, b"a\tb", &[("uid", Some(b"7")), ("x", None)]));
        let Ok(MasterReply::User { id: 1, user, fields }) =
            MasterReply::parse(line.trim_end_matches('\n').as_bytes())
        else {
            panic!()
        };
        assert_eq!(&*user, b"a\tb");
        assert_eq!(fields.value("uid").as_deref(), Some(&b"7"[..]));
        assert_eq!(fields.value("x").as_deref(), Some(&b""[..]));
        assert_eq!(fields.value("gid"), None);
        assert_eq!(fields.iter().count(), 2);
        assert!(matches!(
            MasterReply::parse(b"DONE\t1\tfail"),
            Ok(MasterReply::Done { whole: false, .. })
        ));
        assert!(matches!(
            MasterReply::parse(b"DONE\t1\t"),
            Ok(MasterReply::Done { whole: true, .. })
        ));
        assert!(matches!(MasterReply::parse(b"MECH\tPLAIN"), Ok(MasterReply::Unknown(b"MECH"))));
        assert!(MasterReply::parse(b"USER\tx\tann").is_err());
        assert!(MasterReply::parse(b"VERSION\t1").is_err());
    }
}
