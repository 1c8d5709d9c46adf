//! Sessions that a cookie names, in memory: bounded, and with an end.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{Interface, World};
use sha2::{Digest, Sha256};

use crate::User;

/// Bytes of a token nobody can guess, 43 letters in a cookie.
const TOKEN: usize = 32;

/// How long sessions last, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// From the login to the end, whatever happens.
    pub lifetime: Duration,
    /// From the last request to the end.
    pub idle: Duration,
    /// Of one user. The one that was quiet longest makes room.
    pub each: usize,
    /// Of all. When they are taken, logins with a cookie are told to come later.
    pub all: usize,
}

impl Default for SessionLimits {
    /// Twelve hours, two of them quiet; 20 of one user, 10,000 in all.
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
        Self { lifetime: hours(12), idle: hours(2), each: 20, all: 10_000 }
    }
}

/// What a cookie's token is kept as: whoever reads memory by how long a search takes learns nothing.
type Key = [u8; 32];

/// Who is logged in with a cookie.
pub(crate) struct Sessions<I: Interface> {
    limits: SessionLimits,
    world: Arc<dyn World>,
    table: Mutex<Table<I>>,
}

struct Table<I: Interface> {
    kept: HashMap<Key, Kept<I>>,
    /// Whether a task waits for the next end.
    watched: bool,
}

struct Kept<I: Interface> {
    user: User<I>,
    ends_ms: u64,
    last_ms: u64,
}

/// No more sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl<I: Interface> Sessions<I>
where
    I::Avatar: Sync,
{
    pub(crate) fn new(limits: SessionLimits, world: Arc<dyn World>) -> Arc<Self> {
        let table = Table { kept: HashMap::new(), watched: false };
        Arc::new(Self { limits, world, table: Mutex::new(table) })
    }

    /// Keeps a session and gives the token for it. Within a runtime, for sessions end by themselves.
    pub(crate) fn keep(self: &Arc<Self>, user: User<I>) -> Result<String, Full> {
        let mut token = [0; TOKEN];
        self.world.fill(&mut token);
        let token = URL_SAFE_NO_PAD.encode(token);
        let now = self.world.now().steady_ms;
        let SessionLimits { lifetime, each, all, .. } = self.limits;
        let mut over = self.take_over(now);
        let mut table = self.table();
        let theirs = |kept: &Kept<I>| kept.user.who().subject == user.who().subject;
        let mut own: Vec<(u64, Key)> = table
            .kept
            .iter()
            .filter(|(_, kept)| theirs(kept))
            .map(|(key, kept)| (kept.last_ms, *key))
            .collect();
        own.sort_unstable();
        let too_many = (own.len() + 1).saturating_sub(each.max(1));
        for (_, key) in own.iter().take(too_many) {
            over.extend(table.kept.remove(key).map(|kept| kept.user));
        }
        let full = table.kept.len() >= all;
        if !full {
            let ends_ms = now.saturating_add(millis(lifetime));
            table.kept.insert(key(&token), Kept { user, ends_ms, last_ms: now });
            if !std::mem::replace(&mut table.watched, true) {
                tokio::spawn(watch(Arc::downgrade(self)));
            }
        }
        drop(table);
        over.iter().for_each(User::end);
        if full { Err(Full) } else { Ok(token) }
    }

    /// Whose session a token names. Asking keeps it from falling asleep.
    pub(crate) fn find(&self, token: &str) -> Option<User<I>> {
        let now = self.world.now().steady_ms;
        let mut table = self.table();
        let key = key(token);
        let kept = table.kept.get_mut(&key)?;
        if kept.end(&self.limits) > now && !kept.user.is_over() {
            kept.last_ms = now;
            return Some(kept.user.clone());
        }
        let over = table.kept.remove(&key);
        drop(table);
        over.inspect(|kept| kept.user.end());
        None
    }

    /// Takes a session out, to be logged out.
    pub(crate) fn take(&self, token: &str) -> Option<User<I>> {
        self.table().kept.remove(&key(token)).map(|kept| kept.user)
    }

    /// Takes all of them out.
    pub(crate) fn take_all(&self) -> Vec<User<I>> {
        self.table().kept.drain().map(|(_, kept)| kept.user).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.table().kept.len()
    }

    /// Ends those whose time is over, and says when the next one's is; none is left: nobody watches any more.
    pub(crate) fn sweep(&self) -> Option<Duration> {
        let now = self.world.now().steady_ms;
        self.take_over(now).iter().for_each(User::end);
        let mut table = self.table();
        let next = table.kept.values().map(|kept| kept.end(&self.limits)).min();
        table.watched = next.is_some();
        next.map(|next| Duration::from_millis(next.saturating_sub(now)))
    }

    fn take_over(&self, now: u64) -> Vec<User<I>> {
        let mut table = self.table();
        let over =
            table.kept.extract_if(|_, kept| kept.end(&self.limits) <= now || kept.user.is_over());
        over.map(|(_, kept)| kept.user).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table<I>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Interface> Kept<I> {
    fn end(&self, limits: &SessionLimits) -> u64 {
        self.ends_ms.min(self.last_ms.saturating_add(millis(limits.idle)))
    }
}

impl<I: Interface> fmt::Debug for Sessions<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Waits for one end after the other, as long as there are sessions. They are not held by it.
async fn watch<I: Interface>(sessions: Weak<Sessions<I>>)
where
    I::Avatar: Sync,
{
    /// Ends that lie close together are one.
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        let next = match sessions.upgrade() {
            Some(sessions) => sessions.sweep(),
            None => return,
        };
        let Some(next) = next else { return };
        tokio::time::sleep(next.max(PAUSE)).await;
    }
}

fn key(token: &str) -> Key {
    Sha256::digest(token).into()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use countersign::testing::StillWorld;
    use countersign::{Identity, Logout, Session, Verified};

    use super::*;

    struct Page;

    impl Interface for Page {
        const NAME: &'static str = "page";
        type Avatar = str;
        type Mind = ();
    }

    struct Place {
        world: Arc<StillWorld>,
        sessions: Arc<Sessions<Page>>,
        ended: Arc<AtomicUsize>,
    }

    impl Place {
        fn new(each: usize, all: usize) -> Self {
            let world = Arc::new(StillWorld::default());
            let limits = SessionLimits {
                lifetime: Duration::from_secs(100),
                idle: Duration::from_secs(10),
                each,
                all,
            };
            let sessions = Sessions::new(limits, Arc::clone(&world) as Arc<dyn World>);
            Self { world, sessions, ended: Arc::default() }
        }

        fn user(&self, name: &str) -> User<Page> {
            let ended = Arc::clone(&self.ended);
            let logout = Logout::new(move || {
                ended.fetch_add(1, Ordering::SeqCst);
            });
            let session = Session::new("a page".into()).at_logout(logout);
            User::new(Verified::vouch(Identity::named(name)), session)
        }

        fn keep(&self, name: &str) -> Result<String, Full> {
            self.world.advance_ms(1);
            self.sessions.keep(self.user(name))
        }

        fn ended(&self) -> usize {
            self.ended.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_token_names_a_session_until_it_is_taken_out() {
        let place = Place::new(9, 9);
        let token = place.keep("ada").unwrap();
        assert_eq!(token.len(), 43);
        assert_eq!(&*place.sessions.find(&token).unwrap(), "a page");
        assert!(place.sessions.find(&token[1..]).is_none() && place.sessions.find("").is_none());
        let user = place.sessions.take(&token).unwrap();
        assert!(place.sessions.find(&token).is_none() && place.sessions.take(&token).is_none());
        assert_eq!(place.ended(), 0);
        user.logout().await;
        user.logout().await;
        drop(user);
        assert_eq!(place.ended(), 1);
    }

    #[tokio::test]
    async fn a_session_ends_by_itself_also_for_those_who_hold_it() {
        let place = Place::new(9, 9);
        let (quiet, used) = (place.keep("ada").unwrap(), place.keep("bob").unwrap());
        let held = place.sessions.find(&quiet).unwrap();
        place.world.advance_ms(9_000);
        assert!(place.sessions.find(&used).is_some());
        place.world.advance_ms(1_500);
        assert!(place.sessions.sweep().is_some());
        assert!(place.ended() == 1 && held.is_over() && place.sessions.len() == 1);
        // Whatever is done, not for longer than its life.
        for _ in 0..9 {
            place.world.advance_ms(9_900);
            place.sessions.find(&used);
        }
        place.world.advance_ms(9_900);
        assert!(place.sessions.find(&used).is_none());
        assert_eq!(place.ended(), 2);
        assert_eq!(place.sessions.sweep(), None);
    }

    #[tokio::test]
    async fn nobody_takes_all_room() {
        let place = Place::new(2, 3);
        let first = place.keep("ada").unwrap();
        let second = place.keep("ada").unwrap();
        place.world.advance_ms(1);
        place.sessions.find(&first);
        place.keep("ada").unwrap();
        assert!(place.sessions.find(&second).is_none(), "it was quiet longest");
        assert_eq!(place.ended(), 1);
        place.keep("bob").unwrap();
        assert_eq!(place.keep("eve"), Err(Full));
        assert_eq!(place.ended(), 2, "who finds no room is logged out again");
        drop(place.sessions.take_all());
        assert_eq!(place.ended(), 5);
    }

    /// The task ends sessions that nobody asks for.
    #[tokio::test(start_paused = true)]
    async fn ends_are_waited_for() {
        let place = Place::new(9, 9);
        place.keep("ada").unwrap();
        tokio::task::yield_now().await;
        assert_eq!(place.ended(), 0);
        place.world.advance_ms(10_000);
        // The runtime's clock goes on by itself when nobody has anything to do.
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!((place.ended(), place.sessions.len()), (1, 0));
    }
}
