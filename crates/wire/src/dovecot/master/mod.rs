//! Dovecot's master protocol, version 1.x: who a user is and where their mail lives, for LMTP, `doveadm`
//! and Dovecot's own imap and pop3 after a login. The contract is in `docs/protocols/dovecot-auth.md`.
//!
//! | | reads | writes |
//! |---|---|---|
//! | server | [`super::Lines`] with [`MASTER_LINE_LIMIT`], [`MasterLine`] | [`encode_greeting`], [`encode_user`], [`encode_pass`], [`encode_not_found`], [`encode_fail`], [`encode_list_user`], [`encode_list_done`], [`encode_flushed`], [`encode_cache_status`] |
//! | client | [`super::Lines`], [`MasterReply`] | [`encode_hello`], [`LookupWriter`], [`encode_request`], [`encode_list`], [`encode_cache_flush`] |
//!
//! ```
//! use countersign_wire::dovecot::{Lines, master::*};
//!
//! let mut sent = Vec::new();
//! LookupWriter::user(&mut sent, 1, b"ann", "lmtp").end();
//! let line = Lines::new(&sent, MASTER_LINE_LIMIT).next().unwrap().unwrap();
//! let MasterLine::User(lookup) = MasterLine::parse(line).unwrap() else { panic!() };
//! assert_eq!(&*lookup.user(), b"ann");
//!
//! let mut reply = Vec::new();
//! encode_user(&mut reply, lookup.id, b"ann", &[("uid", Some(b"1000"))]);
//! assert_eq!(reply, b"USER\t1\tann\tuid=1000\n");
//! ```

mod reply;
mod request;

pub use reply::{
    Fields, MasterReply, MasterReplyError, encode_cache_status, encode_fail, encode_flushed,
    encode_greeting, encode_list_done, encode_list_user, encode_not_found, encode_pass,
    encode_user,
};
pub use request::{
    Cookie, Handover, List, Lookup, LookupWriter, MasterError, MasterLine, MasterRejected,
    MasterRejection, encode_cache_flush, encode_hello, encode_list, encode_request,
};

/// The longest line that a server takes, in bytes without its LF: Dovecot's own limit.
pub const MASTER_LINE_LIMIT: usize = 1024;
/// The longest line that clients take (libdovecot's `auth-master`), in bytes without its LF.
pub const REPLY_LIMIT: usize = 8191;
/// The minor version that the server announces.
pub const MASTER_MINOR: u32 = 1;
