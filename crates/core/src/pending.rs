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
/// one request. Nothing runs by itself: [`Pending::sweep`] takes out what has expired.
///
/// The table is in slices, each with its lock: whoever sweeps a hundred thousand conversations, or makes room
/// for twice as many, keeps a request waiting for one slice at most.
///
/// ```
/// # use countersign::{Fault, Password, PasswordStore, Secret, Verdict};
/// # struct Nobody;
/// # impl PasswordStore for Nobody {
/// #     async fn check(&self, _: &str, _: &Secret) -> Result<Verdict, Fault> {
/// #         Ok(Verdict::UNKNOWN)
/// #     }
/// # }
/// use countersign::{KindSet, NotPending, Peer, Pending, PendingLimits, Portal, Request, testing};
///
/// let (pending, world) = (Pending::new(1, PendingLimits::default()), testing::StillWorld::default());
/// # let portal = Portal::new(()).checked_by(Password::new("nobody", Nobody));
/// let request = Request::from_peer(Peer::new("http", KindSet::all()).into());
/// let begun = testing::now_or_never(portal.begin(request, &world)).expect("no I/O")?;
/// let id = pending.insert(begun.0, "whatever belongs to it", &world)?;
///
/// // The next request comes with the id. Whoever works on a conversation has it alone.
/// let (conversation, note) = pending.take(id, &world)?;
/// assert_eq!(pending.take(id, &world).unwrap_err(), NotPending::Unknown);
/// pending.park(id, conversation, note, &world);
/// assert_eq!(pending.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pending<T = ()> {
    node: u16,
    limits: PendingLimits,
    slices: Box<[Mutex<Slice<T>>]>,
    count: Mutex<Count>,
}

/// A power of two.
const SLICES: usize = 64;

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

type Slice<T> = HashMap<Key, Slot<T>>;

/// How many there are in all slices. Never locked together with one.
#[derive(Debug, Default)]
struct Count {
    all: usize,
    /// How many of them are whose. A source without any is not in the map.
    sources: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Slot<T> {
    /// Beside the key, where a sweep finds it without a look into each conversation.
    expires_ms: u64,
    waiting: Box<Waiting<T>>,
}

struct Waiting<T> {
    conversation: Conversation,
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
        let slices = (0..SLICES).map(|_| Mutex::default()).collect();
        Self { node, limits, slices, count: Mutex::default() }
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
        let slot = self.slot(conversation, note, world);
        let source = slot.waiting.source();
        if !self.count().admit(source, &self.limits) {
            return Err(NotPending::Full);
        }
        match self.slice(id.key).entry(id.key) {
            Entry::Vacant(free) => {
                free.insert(slot);
                return Ok(id);
            }
            // Only with broken entropy. Rather nobody than somebody else's login.
            Entry::Occupied(_) => {}
        }
        self.count().remove(source);
        Err(NotPending::Full)
    }

    /// Takes a conversation out to work on it.
    pub fn take(&self, id: Id, world: &dyn World) -> Result<(Conversation, T), NotPending> {
        if id.node != self.node {
            return Err(NotPending::Elsewhere { node: id.node });
        }
        let now = world.now().steady_ms;
        let taken = match self.slice(id.key).entry(id.key) {
            // An expired one is left to the sweep, which puts it in the record.
            Entry::Occupied(slot) if slot.get().expires_ms >= now => slot.remove(),
            _ => return Err(NotPending::Unknown),
        };
        self.count().remove(taken.waiting.source());
        let Waiting { conversation, note } = *taken.waiting;
        Ok((conversation, note))
    }

    /// Puts a conversation back that waits again, or that is over and may be asked to repeat itself.
    pub fn park(&self, id: Id, conversation: Conversation, note: T, world: &dyn World) {
        let slot = self.slot(conversation, note, world);
        self.count().add(slot.waiting.source());
        let replaced = self.slice(id.key).insert(id.key, slot);
        if let Some(replaced) = replaced {
            self.count().remove(replaced.waiting.source());
        }
    }

    /// Takes out everything that has expired, slice by slice, and gives back the conversations that still
    /// waited for their peer: each is an attempt that came to nothing, for the record.
    pub fn sweep(&self, world: &dyn World) -> Vec<(Conversation, T)> {
        let now = world.now().steady_ms;
        let mut unheard = Vec::new();
        for slice in &self.slices {
            let mut slice = locked(slice);
            let expired = slice.extract_if(|_, slot| slot.expires_ms < now);
            let expired: Vec<_> = expired.map(|(_, slot)| slot.waiting).collect();
            if slice.len() * 4 < slice.capacity() {
                slice.shrink_to_fit();
            }
            drop(slice);
            self.end(expired, &mut unheard);
        }
        unheard
    }

    /// Takes out everything, as for a stop, and gives back what still waited, for the record.
    pub fn drain(&self) -> Vec<(Conversation, T)> {
        let mut unheard = Vec::new();
        for slice in &self.slices {
            let all = std::mem::take(&mut *locked(slice));
            self.end(all.into_values().map(|slot| slot.waiting).collect(), &mut unheard);
        }
        unheard
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count().all
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was taken out for good: counts it no more, and gives those on whom their peers still worked.
    fn end(&self, gone: Vec<Box<Waiting<T>>>, unheard: &mut Vec<(Conversation, T)>) {
        if gone.is_empty() {
            return;
        }
        let mut count = self.count();
        gone.iter().for_each(|waiting| count.remove(waiting.source()));
        if count.sources.len() * 4 < count.sources.capacity() {
            count.sources.shrink_to_fit();
        }
        drop(count);
        let waited = gone.into_iter().filter(|waiting| !waiting.conversation.is_over());
        unheard.extend(waited.map(|waiting| {
            let Waiting { conversation, note } = *waiting;
            (conversation, note)
        }));
    }

    fn slot(&self, conversation: Conversation, note: T, world: &dyn World) -> Slot<T> {
        let mut expires_ms = conversation.deadline_ms();
        if conversation.is_over() {
            let kept = world.now().steady_ms.saturating_add(self.limits.keep_ended_ms);
            expires_ms = expires_ms.min(kept);
        }
        Slot { expires_ms, waiting: Box::new(Waiting { conversation, note }) }
    }

    /// The slice of a key. Keys are random, so that slices are alike.
    fn slice(&self, key: Key) -> MutexGuard<'_, Slice<T>> {
        locked(&self.slices[key as usize % SLICES])
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        locked(&self.count)
    }
}

impl Count {
    /// One more, unless there are as many as may be.
    fn admit(&mut self, source: Option<IpAddr>, limits: &PendingLimits) -> bool {
        let of_source = source.and_then(|source| self.sources.get(&source)).copied().unwrap_or(0);
        let free = self.all < limits.conversations && of_source < limits.per_source;
        if free {
            self.add(source);
        }
        free
    }

    fn add(&mut self, source: Option<IpAddr>) {
        self.all += 1;
        if let Some(source) = source {
            *self.sources.entry(source).or_default() += 1;
        }
    }

    fn remove(&mut self, source: Option<IpAddr>) {
        self.all -= 1;
        if let Some(Entry::Occupied(mut count)) = source.map(|source| self.sources.entry(source)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

impl<T> fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
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
