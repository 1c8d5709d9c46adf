//! Dovecot's master protocol: who a user is, for LMTP, `doveadm`, and Dovecot's own imap and pop3 after a
//! login. Contract: `docs/protocols/dovecot-auth.md`.
//!
//! Requests of a connection are answered one after the other. A list is read page by page and sent as it
//! is read, so that a million users take no memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign::World;
use countersign_store::{Account, Page};
use countersign_wire::dovecot::master::{
    Handover, List, Lookup, MASTER_LINE_LIMIT, MasterError, MasterLine, REPLY_LIMIT,
    encode_cache_status, encode_fail, encode_flushed, encode_greeting, encode_list_done,
    encode_list_user, encode_not_found, encode_pass, encode_user,
};
use countersign_wire::dovecot::{Field, Lines, MAJOR};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::handover::{Handed, Handovers, Origin};
use super::userdb::{Userdb, matches};
use crate::engine::Engine;
use crate::front::socket::Socket;
use crate::front::{Gauge, Stop, next_connection};

/// How a listener behaves.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// What is told of a user.
    pub userdb: Userdb,
    /// User ids of processes that may ask everything. Root and the server's own user always may; everybody
    /// else may look up those users only that have their own user id.
    pub owners: Vec<u32>,
    /// Where logins wait that are handed over.
    pub handovers: Handovers,
    /// Connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// How long a client may take for its greeting, for the rest of a line, and to read its replies.
    pub patience: Duration,
    /// How many connections are open.
    pub open: Gauge,
}

/// Serves a socket until it is told to stop.
pub async fn serve(
    socket: Socket,
    engine: Arc<Engine>,
    options: Arc<MasterOptions>,
    mut stop: Stop,
) {
    let slots = Arc::new(Semaphore::new(options.connections));
    loop {
        let accept = socket.listener.accept();
        let next = next_connection(&slots, socket.path(), &mut stop, accept).await;
        let Some(next) = next else { return };
        let Some((slot, (stream, _))) = next else { continue };
        let (engine, options, mut stop) = (Arc::clone(&engine), Arc::clone(&options), stop.clone());
        let open = options.open.enter();
        tokio::spawn(async move {
            let peer = stream.peer_cred().ok();
            let uid = peer.map(|peer| peer.uid());
            let rights = Rights::of(uid, nix::unistd::geteuid().as_raw(), &options.owners);
            let pid = peer.and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
            let (engine, options, output) = (&*engine, &*options, Vec::new());
            let mut connection = Connection { stream, engine, options, rights, pid, output };
            // An error means that the client is gone or does not read; there is nobody to tell.
            let _ = connection.run(&mut stop).await;
            drop((slot, open));
        });
    }
}

struct Connection<'e> {
    stream: UnixStream,
    engine: &'e Engine,
    options: &'e MasterOptions,
    rights: Rights,
    /// The client's process id, as the kernel says it.
    pid: Option<u32>,
    output: Vec<u8>,
}

/// The client is gone, or breaks the rules.
struct Over;

/// What is known of a user whom somebody asks about.
type Attributes = BTreeMap<String, Vec<String>>;

impl Connection<'_> {
    async fn run(&mut self, stop: &mut Stop) -> Result<(), Over> {
        encode_greeting(&mut self.output, std::process::id());
        self.flush().await?;
        let mut input = Vec::with_capacity(MASTER_LINE_LIMIT + 1);
        let mut greeted = false;
        loop {
            let owes = !greeted || !input.is_empty();
            let read = async {
                let read = self.stream.read_buf(&mut input);
                match owes {
                    true => timeout(self.options.patience, read).await.map_err(|_| Over)?,
                    false => read.await,
                }
                .map_err(|_| Over)
            };
            tokio::select! {
                biased;
                () = stop.requested() => return Ok(()),
                read = read => if read? == 0 { return Ok(()) },
            }
            let mut lines = Lines::new(&input, MASTER_LINE_LIMIT);
            for line in lines.by_ref() {
                let line = line.map_err(|error| strange(&error))?;
                if !greeted {
                    match MasterLine::parse(line) {
                        Ok(MasterLine::Version { major: MAJOR, .. }) => greeted = true,
                        _ => return Err(strange(&"it does not begin with VERSION 1")),
                    }
                    continue;
                }
                self.handle(line, stop).await?;
                self.flush().await?;
            }
            let consumed = lines.consumed();
            input.drain(..consumed);
        }
    }

    async fn handle(&mut self, line: &[u8], stop: &Stop) -> Result<(), Over> {
        match MasterLine::parse(line) {
            Ok(MasterLine::User(lookup)) => self.user(lookup).await,
            Ok(MasterLine::Pass(lookup)) => self.pass(lookup).await,
            Ok(MasterLine::List(list)) => self.list(list, stop).await?,
            Ok(MasterLine::Request(handover)) => self.request(handover).await,
            Ok(MasterLine::CacheFlush { id, masks }) => self.flush_copies(id, masks),
            Ok(MasterLine::CacheStatus { id, .. }) => match self.is_owner() {
                true => {
                    let counts = [("entries", self.engine.store.copies() as u64)];
                    encode_cache_status(&mut self.output, id, &counts);
                }
                false => self.refuse(id),
            },
            Ok(MasterLine::Version { .. }) => return Err(strange(&"a second VERSION")),
            Ok(_) => {}
            Err(MasterError::Rejected(rejected)) => {
                encode_fail(&mut self.output, rejected.id, Some(&rejected.why.to_string()));
            }
            Err(MasterError::Framing(error)) => return Err(strange(&error)),
        }
        Ok(())
    }

    fn is_owner(&self) -> bool {
        self.rights == Rights::Everything
    }

    fn refuse(&mut self, id: u32) {
        let who = self.rights;
        tracing::warn!(?who, "a client of a master socket asks for more than its user may know");
        encode_fail(&mut self.output, id, Some("Not allowed for this user"));
    }

    async fn user(&mut self, lookup: Lookup<'_>) {
        let id = lookup.id;
        let Some(account) = self.account(&lookup).await else { return };
        let Some(fields) = self.fields(id, &account.name, &account.attributes).await else {
            return;
        };
        if !self.rights.cover(fields.get("uid").map(String::as_str)) {
            // As if there were no such user: what there is, is not for this one to know.
            return encode_not_found(&mut self.output, id);
        }
        let fields = borrowed(&fields);
        self.reply(id, |out| encode_user(out, id, account.name.as_bytes(), &fields));
    }

    async fn pass(&mut self, lookup: Lookup<'_>) {
        let id = lookup.id;
        if !self.is_owner() {
            return self.refuse(id);
        }
        let Some(account) = self.account(&lookup).await else { return };
        let now = self.engine.world.now().unix;
        if !account.enabled || account.expires.is_some_and(|end| end <= now) {
            let reason = Some("The account is disabled or has expired");
            return encode_fail(&mut self.output, id, reason);
        }
        let Some(fields) = self.fields(id, &account.name, &account.attributes).await else {
            return;
        };
        // As Dovecot names what a password lookup knows of the mailbox.
        let fields = fields.into_iter().map(|(name, value)| (format!("userdb_{name}"), value));
        let fields: BTreeMap<_, _> = fields.collect();
        let fields = borrowed(&fields);
        self.reply(id, |out| encode_pass(out, id, account.name.as_bytes(), &fields));
    }

    async fn request(&mut self, handover: Handover<'_>) {
        let Handover { id, client_pid, client_id, cookie, .. } = handover;
        if !self.is_owner() {
            return self.refuse(id);
        }
        // A process of another container has no number here.
        if let (Some(said), Some(is @ 1..)) = (handover.session_pid(), self.pid)
            && said != is
        {
            tracing::warn!(said, is, "a client of a master socket says that it is another process");
            return encode_fail(&mut self.output, id, Some("Wrong session process"));
        }
        let origin = Origin { pid: client_pid, id: client_id, cookie };
        let handed = self.options.handovers.take(origin, self.engine.world.steady_ns());
        let Some(Handed { who, mechanism }) = handed else {
            return encode_fail(&mut self.output, id, Some("No such login waits to be asked for"));
        };
        let Some(name) = who.subject.name() else {
            return encode_fail(&mut self.output, id, Some("An anonymous login has no mailbox"));
        };
        let Some(mut fields) = self.fields(id, name, &who.attributes).await else { return };
        fields.insert("auth_mech".to_owned(), mechanism);
        let fields = borrowed(&fields);
        self.reply(id, |out| encode_user(out, id, name.as_bytes(), &fields));
    }

    async fn list(&mut self, list: List<'_>, stop: &Stop) -> Result<(), Over> {
        let id = list.id;
        if !self.is_owner() {
            tracing::warn!("a client of a master socket asks for all users and may not");
            encode_list_done(&mut self.output, id, false);
            return Ok(());
        }
        let mask = list.mask();
        let mask = mask.as_deref().map_or(Ok("*"), std::str::from_utf8);
        let Ok(mask) = mask else {
            // No name has these bytes.
            encode_list_done(&mut self.output, id, true);
            return Ok(());
        };
        let prefix = mask.split(['*', '?']).next().unwrap_or_default().to_owned();
        let mut page = Page { prefix, ..Page::default() };
        loop {
            let accounts = match self.engine.store.accounts(&page).await {
                Ok(accounts) if !stop.is_requested() => accounts,
                found => {
                    if let Err(error) = found {
                        tracing::warn!(%error, "a list of users is broken off");
                    }
                    encode_list_done(&mut self.output, id, false);
                    return Ok(());
                }
            };
            let Some(last) = accounts.last() else {
                encode_list_done(&mut self.output, id, true);
                return Ok(());
            };
            page.after = Some(last.name.clone());
            for account in accounts.iter().filter(|account| matches(mask, &account.name)) {
                encode_list_user(&mut self.output, id, account.name.as_bytes());
            }
            self.flush().await?;
        }
    }

    fn flush_copies(&mut self, id: u32, masks: &[u8]) {
        if !self.is_owner() {
            return self.refuse(id);
        }
        let names = masks.split(|byte| *byte == b'\t').filter(|mask| !mask.is_empty());
        let names: Vec<_> = names.map(countersign_wire::dovecot::unescape).collect();
        let names: Vec<_> =
            names.iter().filter_map(|name| std::str::from_utf8(name).ok()).collect();
        // What a mask may mean is forgotten with everything else; that costs a look at the store.
        let some = !masks.is_empty() && !names.iter().any(|name| name.contains(['*', '?']));
        let count = self.engine.store.forget(some.then_some(&names[..]));
        encode_flushed(&mut self.output, id, u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The account that is asked about; else the reply says that there is none.
    async fn account(&mut self, lookup: &Lookup<'_>) -> Option<Arc<Account>> {
        let name = lookup.user();
        let found = match std::str::from_utf8(&name) {
            Ok(name) => self.engine.store.account(name).await,
            Err(_) => Ok(None),
        };
        match found {
            Ok(Some(account)) => return Some(account),
            Ok(None) => encode_not_found(&mut self.output, lookup.id),
            Err(error) => {
                tracing::warn!(%error, "a user cannot be looked up");
                encode_fail(&mut self.output, lookup.id, Some("Try again later"));
            }
        }
        None
    }

    /// What is told of a user; else the reply says that it cannot be.
    async fn fields(
        &mut self,
        id: u32,
        user: &str,
        attributes: &Attributes,
    ) -> Option<BTreeMap<String, String>> {
        let mut fields = match self.options.userdb.fields(user, attributes) {
            Ok(fields) => fields,
            Err(unfit) => {
                tracing::warn!(user, %unfit, "a mail server cannot be told of a user");
                encode_fail(&mut self.output, id, Some("Cannot be told for this user"));
                return None;
            }
        };
        // A group by its name is the same group for everybody.
        if let Some(gid) = fields.get("gid").filter(|gid| gid.parse::<u32>().is_err()) {
            match self.engine.groups.gid_of(gid).await {
                Ok(Some(number)) => drop(fields.insert("gid".to_owned(), number.to_string())),
                // Dovecot asks its own system, then.
                Ok(None) => {}
                Err(fault) => {
                    tracing::warn!(user, %fault, "a user's group cannot be looked up");
                    encode_fail(&mut self.output, id, Some("Try again later"));
                    return None;
                }
            }
        }
        Some(fields)
    }

    /// Writes a reply, unless its line is longer than clients take.
    fn reply(&mut self, id: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.output.len();
        write(&mut self.output);
        if self.output.len() - before > REPLY_LIMIT {
            self.output.truncate(before);
            encode_fail(&mut self.output, id, Some("The reply would be too long"));
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let written = timeout(self.options.patience, self.stream.write_all(&self.output)).await;
        self.output.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over),
        }
    }
}

fn borrowed(fields: &BTreeMap<String, String>) -> Vec<Field<'_>> {
    fields.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes()))).collect()
}

fn strange(why: &dyn std::fmt::Display) -> Over {
    tracing::warn!(%why, "a client of a master socket is disconnected");
    Over
}

/// What a client may know, by the user id that the kernel vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    Everything,
    /// Where the mail of users with this user id is.
    Own(u32),
    Nothing,
}

impl Rights {
    fn of(uid: Option<u32>, ours: u32, owners: &[u32]) -> Self {
        match uid {
            Some(uid) if uid == 0 || uid == ours || owners.contains(&uid) => Self::Everything,
            Some(uid) => Self::Own(uid),
            None => Self::Nothing,
        }
    }

    /// Whether they cover a user with this `uid` field.
    fn cover(self, uid: Option<&str>) -> bool {
        match self {
            Self::Everything => true,
            Self::Own(own) => uid.and_then(|uid| uid.parse().ok()) == Some(own),
            Self::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_no_owner_may_know_of_themselves() {
        let owners = [106];
        for uid in [0, 33, 106] {
            assert_eq!(Rights::of(Some(uid), 33, &owners), Rights::Everything);
        }
        let ann = Rights::of(Some(1000), 33, &owners);
        assert!(ann.cover(Some("1000")));
        for uid in [None, Some(""), Some("1001"), Some("ann"), Some("01000 "), Some("0")] {
            assert!(!ann.cover(uid), "{uid:?}");
        }
        assert!(!Rights::of(None, 33, &owners).cover(Some("0")));
    }
}
