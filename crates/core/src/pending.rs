//! Conversations that wait for their peer, by id.

use std::collections::{HashMap, hash_map::Entry};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Conversation, World};

/// Conversations that wait between requests.
///
/// A conversation is taken out while a request works on it ([`Pending::take`]) and put back when it
/// waits again ([`Pending::park`]); what is dropped in between is gone. So every state is used once, by
/// one request. Nothing runs by itself: [`Pending::sweep`] takes out what has expired, in one pass.
#[derive(Debug)]
pub struct Pending<T = ()> {
    node: u16,
    limits: PendingLimits,
    table: Mutex<Table<T>>,
}

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLimits {
    /// Conversations at a time. One more is refused, not swapped for an older one: otherwise who
    /// floods the server would end the logins of others.
    pub conversations: usize,
    /// Of these, how many from one source: an IPv4 address, or 64 bits of an IPv6 address, which is what
    /// one site has. So one client that begins logins and leaves them does not keep all others out.
    pub per_source: usize,
    /// Milliseconds that an ended conversation is kept to repeat its last reply.
    pub keep_ended_ms: u64,
}

impl Default for PendingLimits {
    fn default() -> Self {
        Self { conversations: 200_000, per_source: 50_000, keep_ended_ms: 30_000 }
    }
}

/// The id of a waiting conversation: which node holds it, and 128 bits that nobody can guess.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    node: u16,
    key: Key,
}

type Key = u128;

#[derive(Debug)]
struct Table<T> {
    waiting: HashMap<Key, Box<Waiting<T>>>,
    /// How many of them are whose. A source without any is not in the map.
    sources: HashMap<IpAddr, usize>,
}

struct Waiting<T> {
    conversation: Conversation,
    expires_ms: u64,
    note: T,
}

/// Why there is no conversation to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPending {
    /// There is none of that id: it never was, it has expired, it is over, or a request works on it.
    Unknown,
    /// Another node holds it.
    Elsewhere {
        /// Which.
        node: u16,
    },
    /// As many wait as may, in all or from this source.
    Full,
}

impl<T> Pending<T> {
    /// An empty table of a node.
    pub fn new(node: u16, limits: PendingLimits) -> Self {
        Self {
            node,
            limits,
            table: Mutex::new(Table { waiting: HashMap::new(), sources: HashMap::new() }),
        }
    }

    /// Puts a new conversation in, with whatever the front end wants to find again.
    pub fn insert(
        &self,
        conversation: Conversation,
        note: T,
        world: &dyn World,
    ) -> Result<Id, NotPending> {
        let mut bytes = [0; 16];
        world.fill(&mut bytes);
        let id = Id { node: self.node, key: Key::from_be_bytes(bytes) };
        let waiting = self.waiting(conversation, note, world);
        let mut table = self.table();
        let Table { waiting: all, sources } = &mut *table;
        let source = waiting.source();
        let of_source = source.and_then(|source| sources.get(&source)).copied().unwrap_or(0);
        if all.len() >= self.limits.conversations || of_source >= self.limits.per_source {
            return Err(NotPending::Full);
        }
        match all.entry(id.key) {
            // Only with broken entropy. Rather nobody than somebody else's login.
            Entry::Occupied(_) => Err(NotPending::Full),
            Entry::Vacant(free) => {
                free.insert(waiting);
                one_more(sources, source);
                Ok(id)
            }
        }
    }

    /// Takes a conversation out to work on it.
    pub fn take(&self, id: Id, world: &dyn World) -> Result<(Conversation, T), NotPending> {
        if id.node != self.node {
            return Err(NotPending::Elsewhere { node: id.node });
        }
        let now = world.now().steady_ms;
        let mut table = self.table();
        // An expired one is left to the sweep, which puts it in the record.
        if table.waiting.get(&id.key).is_none_or(|waiting| waiting.expires_ms < now) {
            return Err(NotPending::Unknown);
        }
        let waiting = table.waiting.remove(&id.key).ok_or(NotPending::Unknown)?;
        one_less(&mut table.sources, waiting.source());
        drop(table);
        let Waiting { conversation, note, .. } = *waiting;
        Ok((conversation, note))
    }

    /// Puts a conversation back that waits again, or that is over and may be asked to repeat itself.
    pub fn park(&self, id: Id, conversation: Conversation, note: T, world: &dyn World) {
        let waiting = self.waiting(conversation, note, world);
        let source = waiting.source();
        let mut table = self.table();
        one_more(&mut table.sources, source);
        if let Some(replaced) = table.waiting.insert(id.key, waiting) {
            one_less(&mut table.sources, replaced.source());
        }
    }

    /// Takes out everything that has expired, in one pass, and gives back the conversations that still
    /// waited for their peer: each is an attempt that came to nothing, for the record.
    pub fn sweep(&self, world: &dyn World) -> Vec<(Conversation, T)> {
        let now = world.now().steady_ms;
        let mut table = self.table();
        let Table { waiting: all, sources } = &mut *table;
        let expired = all.extract_if(|_, waiting| waiting.expires_ms < now);
        let expired = expired.inspect(|(_, waiting)| one_less(sources, waiting.source()));
        let unheard = expired.filter(|(_, waiting)| !waiting.conversation.is_over());
        let unheard: Vec<_> = unheard
            .map(|(_, waiting)| {
                let Waiting { conversation, note, .. } = *waiting;
                (conversation, note)
            })
            .collect();
        if all.len() * 4 < all.capacity() {
            all.shrink_to_fit();
            sources.shrink_to_fit();
        }
        unheard
    }

    /// Takes out everything, as for a stop, and gives back what still waited, for the record.
    pub fn drain(&self) -> Vec<(Conversation, T)> {
        let mut table = self.table();
        table.sources.clear();
        let all = std::mem::take(&mut table.waiting);
        drop(table);
        let unheard = all.into_values().filter(|waiting| !waiting.conversation.is_over());
        unheard
            .map(|waiting| {
                let Waiting { conversation, note, .. } = *waiting;
                (conversation, note)
            })
            .collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.table().waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn waiting(&self, conversation: Conversation, note: T, world: &dyn World) -> Box<Waiting<T>> {
        let mut expires_ms = conversation.deadline_ms();
        if conversation.is_over() {
            let kept = world.now().steady_ms.saturating_add(self.limits.keep_ended_ms);
            expires_ms = expires_ms.min(kept);
        }
        Box::new(Waiting { conversation, expires_ms, note })
    }

    fn table(&self) -> MutexGuard<'_, Table<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Waiting<T> {
    fn source(&self) -> Option<IpAddr> {
        Some(match self.conversation.peer().remote? {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

fn one_more(sources: &mut HashMap<IpAddr, usize>, source: Option<IpAddr>) {
    if let Some(source) = source {
        *sources.entry(source).or_default() += 1;
    }
}

fn one_less(sources: &mut HashMap<IpAddr, usize>, source: Option<IpAddr>) {
    if let Some(Entry::Occupied(mut count)) = source.map(|source| sources.entry(source)) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl<T> fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// `NODE-KEY` in hexadecimal, 37 characters.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}-{:032x}", self.node, self.key)
    }
}

/// The key is as good as a password while the conversation lasts.
impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}-…", self.node)
    }
}

impl FromStr for Id {
    type Err = NotPending;

    fn from_str(text: &str) -> Result<Self, NotPending> {
        let (node, key) = text.split_once('-').ok_or(NotPending::Unknown)?;
        let exact = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !exact(node, 4) || !exact(key, 32) {
            return Err(NotPending::Unknown);
        }
        let node = u16::from_str_radix(node, 16).map_err(|_| NotPending::Unknown)?;
        let key = Key::from_str_radix(key, 16).map_err(|_| NotPending::Unknown)?;
        Ok(Self { node, key })
    }
}

impl fmt::Display for NotPending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("no such login is waiting; it may have expired: begin again")
            }
            Self::Elsewhere { node } => write!(f, "this login waits on node {node}"),
            Self::Full => f.write_str("too many logins are waiting; try later"),
        }
    }
}

impl std::error::Error for NotPending {}
