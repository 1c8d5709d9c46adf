//! How much, and how long.

use std::time::Duration;

use capnp::message::ReaderOptions;

/// How much, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address.
    pub from_one: usize,
    /// From the connection, or the end of a session, to the end of a login.
    pub login: Duration,
    /// Logins under way at a time on one connection.
    pub logins: usize,
    /// Logins that may be refused on one connection.
    pub refusals: usize,
    /// Bytes that a connection may send before somebody is logged in.
    pub before_login: u64,
    /// Bytes of one message.
    pub message: usize,
    /// Calls at a time of one connection.
    pub calls: usize,
    /// How long a client may take to hear what it is told: to answer a call of its mind, to read what is sent.
    pub hearing: Duration,
    /// How long a session lasts.
    pub session: Duration,
    /// How long before its end a session's mind is told so.
    pub warning: Duration,
    /// For the ends of sessions: logging out, and telling.
    pub leaving: Duration,
}

impl Limits {
    /// What the program has.
    pub const USUAL: Self = Self {
        connections: 1000,
        from_one: 100,
        login: Duration::from_secs(60),
        logins: 4,
        refusals: 3,
        before_login: 1024 * 1024,
        message: 1024 * 1024,
        calls: 64,
        hearing: Duration::from_secs(30),
        session: Duration::from_secs(12 * 3600),
        warning: Duration::from_secs(60),
        leaving: Duration::from_secs(5),
    };

    /// The limits of one message, for the codec. What is reached through a message twice counts twice, so that a
    /// small one cannot be a large one.
    pub(crate) fn reading(&self) -> ReaderOptions {
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(Some(self.message / 8)).nesting_limit(16);
        options
    }
}
