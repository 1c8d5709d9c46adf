//! Guessing: who guessed wrong of late waits before the next guess is looked at.
//!
//! Failures are held against three things: a user from an address, the address whoever is tried, and the
//! network around it. After some that are free, each further one doubles a delay, up to a limit below the
//! ten seconds after which Postfix gives up. A guess within the delay is refused at once, without asking
//! anybody: it holds no task, no connection and no hash.
//!
//! Nobody can lock somebody else out of their own network: what comes from elsewhere is held against
//! elsewhere. And a user who has logged in from a network of late is not refused for what others do
//! there. The same wrong password again is one failure, for that is a mail client and not a guess. A token that
//! comes without a name is held against the address and its network alone.
//!
//! Whoever knows a password and guesses at the second factor is held against the user too, wherever the guesses come
//! from: a code has six digits, and addresses are cheap. Only networks where the user is at home are free of it.
//!
//! Guesses under way count as if they were wrong: many at once are no way around.
//!
//! Every node counts in memory and shares its counts through the store, some moments later.

mod flights;
mod table;

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use countersign::{Denial, Guard, GuessEnd, Moment, Reason, Scene};
use countersign_store::{Changed, Store, StoreError, ThrottleRow};
use ipnet::IpNet;

use flights::Flights;
use table::{Entry, SHORTEST_MS, Table};

/// Users from networks where they have logged in.
const AT_HOME: usize = 100_000;
/// The source of what is held against a user wherever it comes from.
const ANYWHERE: &str = "anywhere";
/// How many failures one exchange with the store brings there.
const SAID_AT_ONCE: usize = 1_000;
/// Nodes write a little after they count, and their clocks differ.
const OVERLAP_MS: i64 = 5_000;

/// When delays begin, and how long they get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThrottleRules {
    /// Whether anything is throttled.
    pub enabled: bool,
    /// Wrong guesses of a user from an address before there is a delay.
    pub user_free: u32,
    /// Wrong guesses from an address, whoever is tried.
    pub address_free: u32,
    /// Wrong guesses from a network: /24, or /48 in IPv6.
    pub network_free: u32,
    /// Wrong guesses at a user's second factor, wherever they come from.
    pub code_free: u32,
    /// The longest delay of those.
    pub code_longest: Duration,
    /// The longest delay of all others.
    pub longest: Duration,
    /// The longest delay where the source is not known: an attacker anywhere is then the same as the user.
    pub longest_unknown: Duration,
    /// Without another wrong guess in this time, the earlier ones are forgotten.
    pub window: Duration,
    /// Where all users come from one address: a webmail server that does not tell where they are. Only
    /// users are throttled there, not the address. Loopback always is one.
    pub shared: Vec<IpNet>,
}

impl Default for ThrottleRules {
    fn default() -> Self {
        Self {
            enabled: true,
            user_free: 4,
            address_free: 20,
            network_free: 100,
            code_free: 10,
            code_longest: Duration::from_secs(5 * 60),
            longest: Duration::from_secs(8),
            longest_unknown: Duration::from_secs(2),
            window: Duration::from_secs(15 * 60),
            shared: Vec::new(),
        }
    }
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ThrottleStats {
    /// Guesses that were looked at.
    pub admitted: u64,
    /// Of these, how many were wrong.
    pub wrong: u64,
    /// Of the wrong ones, how many had been tried before.
    pub repeated: u64,
    /// Guesses that were refused unseen.
    pub refused: u64,
    /// What failures are held against now.
    pub entries: usize,
    /// Of these, how many are delayed.
    pub delayed: usize,
}

/// The throttle of a node.
pub struct Throttle {
    rules: RwLock<ThrottleRules>,
    /// As the rules say: looked at with every guess, without a lock.
    enabled: AtomicBool,
    keys: RandomState,
    users: Table,
    sources: Table,
    at_home: quick_cache::sync::Cache<u64, ()>,
    flights: Flights,
    admitted: AtomicU64,
    wrong: AtomicU64,
    repeated: AtomicU64,
    refused: AtomicU64,
}

/// Where a guess comes from.
struct Source {
    address: Option<IpNet>,
    network: Option<IpNet>,
}

impl Throttle {
    /// A throttle that has heard of nothing.
    pub fn new(rules: ThrottleRules) -> Self {
        Self {
            enabled: AtomicBool::new(rules.enabled),
            rules: RwLock::new(rules),
            keys: RandomState::new(),
            users: Table::default(),
            sources: Table::default(),
            at_home: quick_cache::sync::Cache::new(AT_HOME),
            flights: Flights::default(),
            admitted: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Other rules from now on; what was counted stays.
    pub fn follow(&self, rules: ThrottleRules) {
        let mut held = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        self.enabled.store(rules.enabled, Ordering::Relaxed);
        *held = rules;
    }

    /// For how many seconds failures are remembered.
    pub fn remembers_s(&self) -> i64 {
        i64::try_from(self.rules().window.as_secs()).unwrap_or(i64::MAX)
    }

    /// What was counted.
    pub fn stats(&self, now: Moment) -> ThrottleStats {
        let delayed = |table: &Table| {
            table.read().values().filter(|entry| entry.until > now.steady_ms).count()
        };
        ThrottleStats {
            admitted: self.admitted.load(Ordering::Relaxed),
            wrong: self.wrong.load(Ordering::Relaxed),
            repeated: self.repeated.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            entries: self.users.read().len() + self.sources.read().len(),
            delayed: delayed(&self.users) + delayed(&self.sources),
        }
    }

    /// Forgets failures, as [`Store::clear_throttles`] does. The source is as it is listed.
    pub fn forget(&self, user: Option<&str>, source: Option<&str>) {
        let user = user.map(folded);
        let gone = |entry: &Entry| {
            user.as_ref().is_none_or(|user| *entry.user == **user)
                && source.is_none_or(|source| *entry.source == *source)
        };
        for table in [&self.users, &self.sources] {
            let mut entries = table.write();
            entries.retain(|_, entry| !gone(entry));
            table.count.store(entries.len(), Ordering::Relaxed);
        }
    }

    /// Does what a change of the store asks for.
    pub fn hear(&self, change: &Changed) {
        if let Changed::Throttle { user, source } = change {
            self.forget(user.as_deref(), source.as_deref());
        }
    }

    /// Tells the store what was counted here, and hears what was counted elsewhere.
    ///
    /// # Errors
    ///
    /// What the store says. Nothing counted is lost then: it is told the next time.
    pub async fn share(&self, store: &Store, now: Moment) -> Result<(), StoreError> {
        let (window, enabled) = {
            let rules = self.rules();
            (i64::try_from(rules.window.as_millis()).unwrap_or(i64::MAX), rules.enabled)
        };
        if !enabled {
            return Ok(());
        }
        for (user, source) in self.resets() {
            store.clear_throttles(Some(&user), Some(&source)).await?;
        }
        let said: Vec<_> = self.unsaid(now);
        if !said.is_empty() {
            store.add_throttles(&said, window).await?;
            self.told(&said);
        }
        let rows = store.throttles_since(unix_ms(now, now.steady_ms) - window.min(OVERLAP_MS * 4));
        for row in rows.await? {
            self.learn(&row, now);
        }
        Ok(())
    }

    fn rules(&self) -> RwLockReadGuard<'_, ThrottleRules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, user: &str, source: Option<&IpNet>) -> u64 {
        self.keys.hash_one((&*folded(user), source))
    }

    /// Of a user, wherever guesses come from.
    fn key_anywhere(&self, user: &str) -> u64 {
        self.keys.hash_one((&*folded(user), ANYWHERE))
    }

    /// Until when what matches is delayed. `code`: a second factor is guessed at.
    fn delayed(
        &self,
        rules: &ThrottleRules,
        login: &str,
        source: &Source,
        code: bool,
        now: u64,
    ) -> Option<u64> {
        let wait = |until: u64, longest| (until > now).then(|| (until - now).min(millis(longest)));
        let codes = || {
            let entry = self.users.read().get(&self.key_anywhere(login)).map(|entry| entry.until);
            entry.filter(|_| !source.at_home(self, login)).and_then(|u| wait(u, rules.code_longest))
        };
        let codes = if code && self.users.any() { codes() } else { None };
        let mut until = 0;
        if self.users.any() {
            let key = self.key(login, source.address.as_ref());
            until = self.users.read().get(&key).map_or(0, |entry| entry.until);
        }
        if self.sources.any() && !source.at_home(self, login) {
            let sources = self.sources.read();
            for network in [&source.address, &source.network].into_iter().flatten() {
                let key = self.key("", Some(network));
                until = until.max(sources.get(&key).map_or(0, |entry| entry.until));
            }
        }
        // A row of a node whose clock is wrong holds nobody longer than the rules do.
        wait(until, rules.longest).max(codes)
    }

    /// How many more wrong guesses a user from an address has before there is a delay, or the address itself
    /// where nobody is named.
    fn free(&self, key: u64, login: &str, source: &Source, now: u64) -> usize {
        let rules = self.rules();
        let (table, free) = match login.is_empty() {
            true if source.is_shared(&rules.shared) => return usize::MAX,
            true => (&self.sources, rules.address_free),
            false => (&self.users, rules.user_free),
        };
        let window = millis(rules.window);
        let entries = table.any().then(|| table.read());
        let entry = entries.as_ref().and_then(|entries| entries.get(&key));
        let entry = entry.filter(|entry| entry.last.saturating_add(window) >= now);
        let failures = entry.map_or(0, |entry| entry.failures);
        usize::try_from(i64::from(free).saturating_sub(failures)).unwrap_or(0)
    }

    fn count(&self, scene: &Scene<'_>, login: &str, mark: u64) {
        let rules = self.rules();
        let source = Source::of(scene.peer.remote);
        let now = scene.now.steady_ms;
        let window = millis(rules.window);
        let longest = match source.address {
            Some(_) => rules.longest,
            None => rules.longest_unknown,
        };
        if !login.is_empty() {
            let mut users = self.users.write();
            self.users.make_room(&mut users, now, window);
            let entry = users.entry(self.key(login, source.address.as_ref()));
            let entry = entry.or_insert_with(|| Entry::of(login, source.address.as_ref()));
            entry.age(now, window);
            if !entry.remember(mark) {
                self.repeated.fetch_add(1, Ordering::Relaxed);
                return;
            }
            entry.fail(now, rules.user_free, longest);
            if !scene.proven.is_empty() {
                let entry = users.entry(self.key_anywhere(login));
                let entry = entry.or_insert_with(|| Entry {
                    user: folded(login).into(),
                    source: ANYWHERE.into(),
                    ..Entry::default()
                });
                entry.age(now, window);
                entry.fail(now, rules.code_free, rules.code_longest);
            }
            self.users.count.store(users.len(), Ordering::Relaxed);
        }
        if source.is_shared(&rules.shared) {
            return;
        }
        let free = [rules.address_free, rules.network_free];
        let mut sources = self.sources.write();
        self.sources.make_room(&mut sources, now, window);
        for (network, free) in [source.address, source.network].into_iter().zip(free) {
            let Some(network) = network else { continue };
            let entry = sources.entry(self.key("", Some(&network)));
            let entry = entry.or_insert_with(|| Entry::of("", Some(&network)));
            entry.age(now, window);
            // The address comes first.
            if login.is_empty() && Some(network) == source.address && !entry.remember(mark) {
                self.repeated.fetch_add(1, Ordering::Relaxed);
                return;
            }
            entry.fail(now, free, rules.longest);
        }
        self.sources.count.store(sources.len(), Ordering::Relaxed);
    }

    fn right(&self, scene: &Scene<'_>, login: &str) {
        if login.is_empty() {
            return;
        }
        let source = Source::of(scene.peer.remote);
        if self.users.any() {
            self.reset(self.key(login, source.address.as_ref()));
            if !scene.proven.is_empty() {
                self.reset(self.key_anywhere(login));
            }
        }
        if let Some(network) = &source.network {
            let key = self.key(login, Some(network));
            if self.at_home.get(&key).is_none() {
                self.at_home.insert(key, ());
            }
        }
    }

    /// Holds nothing against these any more.
    fn reset(&self, key: u64) {
        let known = self.users.read().get(&key).is_some_and(|entry| entry.failures > 0);
        if known && let Some(entry) = self.users.write().get_mut(&key) {
            *entry = Entry {
                reset: entry.said || entry.unsaid == 0,
                user: std::mem::take(&mut entry.user),
                source: std::mem::take(&mut entry.source),
                ..Entry::default()
            };
        }
    }

    fn resets(&self) -> Vec<(Box<str>, Box<str>)> {
        let mut users = self.users.write();
        let resets = users.values_mut().filter(|entry| entry.reset).take(SAID_AT_ONCE);
        let resets = resets.map(|entry| {
            entry.reset = false;
            (entry.user.clone(), entry.source.clone())
        });
        resets.collect()
    }

    fn unsaid(&self, now: Moment) -> Vec<ThrottleRow> {
        let mut rows = Vec::new();
        for table in [&self.users, &self.sources] {
            let entries = table.read();
            let unsaid = entries.values().filter(|entry| entry.unsaid > 0);
            rows.extend(unsaid.take(SAID_AT_ONCE).map(|entry| ThrottleRow {
                user: entry.user.to_string(),
                source: entry.source.to_string(),
                failures: entry.unsaid,
                until_ms: unix_ms(now, entry.until),
                last_ms: unix_ms(now, entry.last),
            }));
        }
        rows
    }

    fn told(&self, rows: &[ThrottleRow]) {
        for row in rows {
            let (table, key) = self.place(&row.user, &row.source);
            if let Some(entry) = table.write().get_mut(&key) {
                entry.unsaid = (entry.unsaid - row.failures).max(0);
                entry.said = true;
            }
        }
    }

    fn learn(&self, row: &ThrottleRow, now: Moment) {
        let (table, key) = self.place(&row.user, &row.source);
        let (window, longest) = {
            let rules = self.rules();
            let longest = match row.source == ANYWHERE {
                true => rules.code_longest,
                false => rules.longest,
            };
            (millis(rules.window), millis(longest))
        };
        let steady = |at: i64| {
            let ahead = at.saturating_sub(unix_ms(now, now.steady_ms));
            now.steady_ms.saturating_add_signed(ahead).min(now.steady_ms.saturating_add(longest))
        };
        let mut entries = table.write();
        table.make_room(&mut entries, now.steady_ms, window);
        let entry = entries.entry(key).or_insert_with(|| Entry {
            user: folded(&row.user).into(),
            source: row.source.as_str().into(),
            ..Entry::default()
        });
        // What is held here and the store does not know is beyond what it says.
        entry.failures = entry.failures.max(row.failures.saturating_add(entry.unsaid));
        entry.said = true;
        if std::mem::replace(&mut entry.heard, (row.until_ms, row.last_ms))
            != (row.until_ms, row.last_ms)
        {
            entry.until = entry.until.max(steady(row.until_ms));
            entry.last = entry.last.max(steady(row.last_ms).min(now.steady_ms));
        }
        table.count.store(entries.len(), Ordering::Relaxed);
    }

    fn place(&self, user: &str, source: &str) -> (&Table, u64) {
        if source == ANYWHERE {
            return (&self.users, self.key_anywhere(user));
        }
        let network = source.parse::<IpNet>().ok();
        let network = network.or_else(|| source.parse::<IpAddr>().ok().map(IpNet::from));
        let table = if user.is_empty() { &self.sources } else { &self.users };
        (table, self.key(user, network.as_ref()))
    }
}

impl Guard for Throttle {
    fn admit(&self, scene: &Scene<'_>, login: &str, proof: Option<&[u8]>) -> Result<u64, Denial> {
        // Zero: never twice the same.
        let mark = proof.map_or(0, |proof| self.keys.hash_one((&*folded(login), proof)) | 1);
        if !self.enabled.load(Ordering::Relaxed) {
            return Ok(mark);
        }
        let (source, now) = (Source::of(scene.peer.remote), scene.now.steady_ms);
        let refuse = |wait, why| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let denial = Denial::new(Reason::Throttled).retry_after(Duration::from_millis(wait));
            Err(denial.because(why))
        };
        if (self.users.any() || self.sources.any())
            && let Some(wait) =
                self.delayed(&self.rules(), login, &source, !scene.proven.is_empty(), now)
        {
            return refuse(wait, "too many wrong guesses of late");
        }
        if mark != 0 {
            let key = self.key(login, source.address.as_ref());
            if !self.flights.begin(key, mark, now, || self.free(key, login, &source, now)) {
                return refuse(SHORTEST_MS, "too many different guesses at the same time");
            }
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(mark)
    }

    fn ended(&self, scene: &Scene<'_>, login: &str, mark: u64, end: GuessEnd) {
        // Whoever is counted below is not free of it for a moment in between.
        let under_way = (mark != 0).then(|| {
            let source = Source::of(scene.peer.remote);
            (self.key(login, source.address.as_ref()), mark)
        });
        match end {
            GuessEnd::Granted => self.right(scene, login),
            GuessEnd::Wrong => {
                self.wrong.fetch_add(1, Ordering::Relaxed);
                if self.rules().enabled {
                    self.count(scene, login, mark);
                }
            }
            GuessEnd::Proven | GuessEnd::Undecided => {}
        }
        if let Some((key, mark)) = under_way {
            self.flights.end(key, mark);
        }
    }
}

impl Source {
    fn of(remote: Option<IpAddr>) -> Self {
        let Some(remote) = remote.map(|address| address.to_canonical()) else {
            return Self { address: None, network: None };
        };
        // Of IPv6 one host has a /64.
        let (address, network) = match remote {
            IpAddr::V4(_) => (32, 24),
            IpAddr::V6(_) => (64, 48),
        };
        let within = |bits| IpNet::new(remote, bits).ok().map(|network| network.trunc());
        Self { address: within(address), network: within(network) }
    }

    /// Whether so many come from here that it says nothing.
    fn is_shared(&self, shared: &[IpNet]) -> bool {
        let Some(address) = &self.address else { return true };
        address.addr().is_loopback() || shared.iter().any(|network| network.contains(address))
    }

    /// Whether this user has logged in from this network.
    fn at_home(&self, throttle: &Throttle, login: &str) -> bool {
        let Some(network) = &self.network else { return false };
        throttle.at_home.get(&throttle.key(login, Some(network))).is_some()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A name as throttles have it: without capitals and blanks. What a backend takes for one user is one here,
/// too; else each spelling of a name had its own free guesses.
pub fn folded(name: &str) -> Cow<'_, str> {
    let is_folded = |c: char| c.is_ascii() && !c.is_ascii_uppercase() && c != ' ';
    match name.chars().all(is_folded) {
        true => Cow::Borrowed(name),
        false => {
            let visible = name.chars().filter(|c| !c.is_whitespace());
            Cow::Owned(visible.flat_map(char::to_lowercase).collect())
        }
    }
}

/// A source as throttles name it: a network as it is, of an IPv4 address itself, of an IPv6 address its /64.
/// `anywhere` is what guesses at second factors are held against. Absent: the text is none of these.
pub fn source_of(text: &str) -> Option<String> {
    if text == ANYWHERE {
        return Some(text.to_owned());
    }
    let address = text.parse().ok().and_then(|address| Source::of(Some(address)).address);
    let network = || text.parse::<IpNet>().ok().map(|network| network.trunc());
    address.or_else(network).map(|network| shown(&network))
}

/// An address, or a network with its size.
fn shown(network: &IpNet) -> String {
    match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}

/// A point of the steady clock in unix milliseconds.
fn unix_ms(now: Moment, at: u64) -> i64 {
    let ahead = i64::try_from(at).unwrap_or(i64::MAX);
    let ahead = ahead.saturating_sub(i64::try_from(now.steady_ms).unwrap_or(i64::MAX));
    now.unix.saturating_mul(1000).saturating_add(ahead)
}

impl std::fmt::Debug for Throttle {
    /// Without the names of those who are throttled.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").field("rules", &*self.rules()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
