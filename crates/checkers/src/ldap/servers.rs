//! Which server is asked, and with which connection.
//!
//! Servers stand in groups. The first group with a server that answers is asked; within a group they take
//! turns. A server that fails is left alone, for a second at first and a minute at last, and then tried again
//! by one login, so that the others do not wait for it. Each server has two pools: one for connections that
//! search, one for those that try passwords. A login holds one connection at a time, so that logins cannot
//! wait for each other's second.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign::{Fault, FaultKind, Secret};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::address::Address;
use super::connection::{Broken, Connection, Protection};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To look things up, as the identity of the configuration or as nobody.
    Search,
    /// To try passwords. Whose it is changes with each.
    Bind,
}

pub(super) struct Servers {
    groups: Vec<Vec<Server>>,
    turn: AtomicUsize,
    pub(super) limits: Limits,
    protection: Protection,
    identity: Option<(String, Secret)>,
}

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For one operation, connecting included.
    pub(super) operation: Duration,
    /// Of each pool of each server.
    pub(super) connections: usize,
    /// How long one may be of no use before it is not used again.
    pub(super) idle: Duration,
}

struct Server {
    address: Address,
    search: Pool,
    bind: Pool,
    health: Mutex<Health>,
}

struct Pool {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct Health {
    failures: u32,
    /// When it may be asked again.
    until: Option<Instant>,
    /// Whether one login tries it now.
    tried: bool,
}

/// A connection on loan. It goes back only when what it was lent for has ended well: whoever is dropped on
/// the way leaves one behind of which nobody knows what comes next.
pub(super) struct Lease<'s> {
    pub(super) connection: Connection,
    pool: &'s Pool,
    reused: bool,
    _permit: OwnedSemaphorePermit,
}

/// What is done with a connection.
pub(super) trait Work: Send + Sync {
    type Output: Send;
    fn run(
        &self,
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Self::Output, Broken>> + Send;
}

impl Servers {
    pub(super) fn new(
        groups: Vec<Vec<Address>>,
        limits: Limits,
        protection: Protection,
        identity: Option<(String, Secret)>,
    ) -> Self {
        let server = |address| Server {
            address,
            search: Pool::of(limits.connections),
            bind: Pool::of(limits.connections),
            health: Mutex::default(),
        };
        let groups = groups.into_iter().map(|group| group.into_iter().map(server).collect());
        let groups = groups.collect();
        Self { groups, turn: AtomicUsize::new(0), limits, protection, identity }
    }

    /// Does the work at the first server that can.
    ///
    /// # Errors
    /// A fault when none could: the last one's reason, or that all are left alone after failures.
    pub(super) async fn perform<W: Work>(
        &self,
        purpose: Purpose,
        work: &W,
    ) -> Result<W::Output, Fault> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut last = None;
        for group in &self.groups {
            for index in 0..group.len() {
                let server = &group[(turn % group.len() + index) % group.len()];
                if !server.may_be_asked(self.limits.operation) {
                    continue;
                }
                match self.at(server, purpose, work).await {
                    Ok(output) => {
                        server.answered();
                        return Ok(output);
                    }
                    Err(Trouble::Overloaded) => {
                        let fault = Fault::new(
                            FaultKind::Overloaded,
                            format!("{}: all connections are in use", server.address),
                        );
                        return Err(fault);
                    }
                    Err(Trouble::Broken(error)) => {
                        let pause = server.failed();
                        tracing::warn!(server = %server.address, %error, ?pause, "a directory's server fails");
                        last = Some((server, error));
                    }
                }
            }
        }
        Err(match last {
            Some((server, error)) => {
                let kind = match &error {
                    Broken::Timeout(_) => FaultKind::Timeout,
                    Broken::Wire(_) | Broken::TooMany => FaultKind::Protocol,
                    Broken::Identity(..) | Broken::StartTls(..) | Broken::Library(_) => {
                        FaultKind::Internal
                    }
                    _ => FaultKind::Unavailable,
                };
                Fault::new(kind, format!("the directory's server {}", server.address))
                    .caused_by(error)
            }
            None => Fault::unavailable(
                "every server of the directory has failed lately and is left alone for a moment",
            ),
        })
    }

    async fn at<W: Work>(
        &self,
        server: &Server,
        purpose: Purpose,
        work: &W,
    ) -> Result<W::Output, Trouble> {
        let limit = self.limits.operation;
        let late = |_| Trouble::Broken(Broken::Timeout(limit));
        let mut fresh = false;
        loop {
            let lend = self.lend(server, purpose, fresh);
            let mut lease = timeout(limit, lend).await.map_err(late)??;
            match timeout(limit, work.run(&mut lease.connection)).await.map_err(late)? {
                Ok(output) => {
                    lease.put_back(self.limits.connections);
                    return Ok(output);
                }
                // Once more, with one that the server cannot have forgotten. The others that wait are as
                // old; they would fail one login after another.
                Err(error) if lease.reused && error.may_be_stale() => {
                    lease.pool.idle().clear();
                    fresh = true;
                }
                Err(error) => return Err(Trouble::Broken(error)),
            }
        }
    }

    async fn lend<'s>(
        &self,
        server: &'s Server,
        purpose: Purpose,
        fresh: bool,
    ) -> Result<Lease<'s>, Trouble> {
        let pool = match purpose {
            Purpose::Search => &server.search,
            Purpose::Bind => &server.bind,
        };
        let permit = timeout(self.limits.operation / 2, Arc::clone(&pool.permits).acquire_owned());
        let Ok(Ok(permit)) = permit.await else { return Err(Trouble::Overloaded) };
        if !fresh && let Some(connection) = pool.take(self.limits.idle) {
            return Ok(Lease { connection, pool, reused: true, _permit: permit });
        }
        let opened = Connection::open(&server.address, &self.protection).await;
        let mut connection = opened.map_err(Trouble::Broken)?;
        if purpose == Purpose::Search
            && let Some((dn, password)) = &self.identity
        {
            let outcome = connection.bind(dn, password).await.map_err(Trouble::Broken)?;
            if outcome.code != 0 {
                return Err(Trouble::Broken(Broken::Identity(outcome.code, outcome.text)));
            }
        }
        Ok(Lease { connection, pool, reused: false, _permit: permit })
    }
}

enum Trouble {
    Broken(Broken),
    Overloaded,
}

impl Lease<'_> {
    fn put_back(mut self, most: usize) {
        self.connection.used = Instant::now();
        let mut idle = self.pool.idle();
        if idle.len() < most {
            idle.push(self.connection);
        }
    }
}

impl Pool {
    fn of(connections: usize) -> Self {
        Self { idle: Mutex::default(), permits: Arc::new(Semaphore::new(connections)) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last. Those that nobody has used for long are closed.
    fn take(&self, longest: Duration) -> Option<Connection> {
        let (taken, old) = {
            let mut idle = self.idle();
            let fresh = |connection: &Connection| connection.used.elapsed() < longest;
            let old: Vec<_> = idle.extract_if(.., |connection| !fresh(connection)).collect();
            (idle.pop(), old)
        };
        for connection in old {
            tokio::spawn(connection.close());
        }
        taken
    }
}

impl Server {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is well, or its pause is over: then for one login, and the others pass it by meanwhile.
    fn may_be_asked(&self, meanwhile: Duration) -> bool {
        let mut health = self.health();
        match health.until {
            None => true,
            Some(until) if Instant::now() >= until => {
                health.until = Some(Instant::now() + meanwhile);
                health.tried = true;
                true
            }
            Some(_) => false,
        }
    }

    fn answered(&self) {
        let mut health = self.health();
        if health.failures > 0 {
            tracing::info!(server = %self.address, "a directory's server answers again");
        }
        *health = Health::default();
    }

    fn failed(&self) -> Duration {
        self.search.idle().clear();
        self.bind.idle().clear();
        let mut health = self.health();
        let now = Instant::now();
        // Logins that were under way together are one failure.
        let known = health.until.is_some_and(|until| now < until) && !health.tried;
        if !known {
            health.until = Some(now + pause(health.failures));
            health.failures = health.failures.saturating_add(1);
            health.tried = false;
        }
        health.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

/// How long a server is left alone after so many failures before this one.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(6)).min(LONGEST_PAUSE)
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.groups.iter().flatten().map(|server| server.address.to_string());
        f.debug_list().entries(addresses).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute() {
        let seconds: Vec<_> = (0..9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_server_that_failed_is_tried_by_one_login_after_its_pause() {
        let address = Address::Local("/nowhere".into());
        let (search, bind) = (Pool::of(1), Pool::of(1));
        let server = Server { address, search, bind, health: Mutex::default() };
        let meanwhile = Duration::from_secs(600);
        assert!(server.may_be_asked(meanwhile));
        assert_eq!(server.failed(), FIRST_PAUSE);
        assert!(server.failed() <= FIRST_PAUSE, "one of the same time is the same failure");
        assert!(!server.may_be_asked(meanwhile));
        server.health().until = Some(Instant::now());
        assert!(server.may_be_asked(meanwhile));
        assert!(!server.may_be_asked(meanwhile), "one is enough to try it");
        assert_eq!(server.failed(), FIRST_PAUSE * 2);
        assert!(!server.may_be_asked(meanwhile));
        server.answered();
        assert!(server.may_be_asked(meanwhile) && server.may_be_asked(meanwhile));
    }
}
