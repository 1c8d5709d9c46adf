//! What a server does beside serving: it sweeps, it syncs, it looks for changes.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::{Fault, Reason, World};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::{Admin, FirstAdministrator};
use crate::audit::entry;
use crate::engine::Engine;
use crate::front::Stop;
use crate::run::StartError;

/// How often the store is asked whether another process changed it. The command line does not wait for
/// this: it says so through the control socket.
const WATCH_EVERY: Duration = Duration::from_millis(200);
/// How long accounts in memory are believed after the last look that succeeded. A server that cannot see
/// what others change answers "try later" from then on.
pub(crate) const COPY_IS_TRUE_FOR: Duration = Duration::from_secs(1);
/// The most recent records that one flush takes: with the interval, the bound of what it costs.
const FLUSH_LIMIT: usize = 500;
/// How many looks there are between two sweeps of the sessions: a minute's.
const SWEEP_EVERY: u32 = 300;
/// How many looks there are between two times that wrong guesses are shared with other nodes.
const SHARE_EVERY: u32 = 2;
/// How many looks there are between two times that uses of sessions are written: a second's.
const USES_EVERY: u32 = 5;
/// Sessions that one sweep removes.
const SWEEP_LIMIT: usize = 1000;

/// Looks for changes that other processes make to the store, and removes what has expired, until a stop.
pub async fn watch(engine: Arc<Engine>, mut stop: Stop) {
    let mut watch = interval(WATCH_EVERY);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks: u32 = 0;
    let mut store_is_away = false;
    let mut changes = engine.store.changes();
    loop {
        tokio::select! {
            biased;
            () = stop.requested() => return,
            _ = watch.tick() => {}
        }
        ticks = ticks.wrapping_add(1);
        // Of before the question: what changes while it is answered counts as not yet heard of.
        let (asked, began) = (engine.world.now(), engine.world.steady_ns());
        let watched = engine.store.watch().await;
        let now = engine.world.steady_ns();
        engine.metrics.store.answered(now / 1_000_000, (now - began) / 1000, watched.is_ok());
        if watched.is_ok() {
            engine.sessions.confirm(asked);
        }
        match watched {
            Ok(_) if store_is_away => {
                tracing::warn!("the account store can be read again");
                store_is_away = false;
            }
            Ok(_) => {}
            Err(error) if store_is_away => tracing::debug!(%error, "the account store is away"),
            Err(error) => {
                tracing::error!(%error, "the account store cannot be read");
                store_is_away = true;
            }
        }
        // One that lags behind has missed what was forgotten: that comes to its end by itself.
        while let Ok(batch) = changes.try_recv() {
            batch.iter().for_each(|change| engine.throttle.hear(change));
        }
        if ticks.is_multiple_of(SHARE_EVERY) && !store_is_away {
            let shared = engine.throttle.share(&engine.store, engine.world.now()).await;
            if let Err(error) = shared {
                tracing::debug!(%error, "wrong guesses are not shared");
            }
        }
        if ticks.is_multiple_of(USES_EVERY)
            && let Err(error) = engine.sessions.write_uses().await
        {
            tracing::debug!(%error, "cannot write when sessions were used");
        }
        if ticks.is_multiple_of(SWEEP_EVERY) {
            let now = engine.world.now().unix;
            let before = now.saturating_sub(engine.throttle.remembers_s()).saturating_mul(1000);
            if let Err(error) = engine.store.trim_throttles(before).await {
                tracing::warn!(%error, "cannot remove old throttles");
            }
            if let Err(error) = engine.store.sweep_sessions(now, SWEEP_LIMIT).await {
                tracing::warn!(%error, "cannot remove expired sessions");
            }
            if let Some(days) = engine.audit.keeping().and_then(|keeping| keeping.keep_days) {
                let before = now.saturating_sub(i64::from(days) * 86_400);
                if let Err(error) = engine.store.sweep_audit(before).await {
                    tracing::warn!(%error, "cannot remove old audit records from the store");
                }
            }
        }
    }
}

/// Brings the audit record to disk and its newest part into the store, and ends conversations that nobody
/// went on with, once a second until a stop. Apart from [`watch`]: a store that hangs must not keep the
/// record from the disk.
pub async fn keep_records(engine: Arc<Engine>, keep: Arc<AtomicUsize>, mut stop: Stop) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flushing = None;
    loop {
        tokio::select! {
            biased;
            () = stop.requested() => break,
            _ = second.tick() => {}
        }
        engine.give_up(engine.pending.sweep(&engine.world), Reason::TimedOut);
        engine.metrics.tick();
        sync(&engine).await;
        tend(&engine).await;
        if flushing.as_ref().is_none_or(JoinHandle::is_finished) {
            let (engine, keep) = (Arc::clone(&engine), keep.load(Ordering::Relaxed));
            flushing = Some(tokio::spawn(async move {
                flush(&engine, keep).await;
                if let Err(error) = engine.store.tidy().await {
                    tracing::debug!(%error, "the store's log is not brought home now");
                }
            }));
        }
    }
    if let Some(flushing) = flushing {
        let _ = flushing.await;
    }
}

/// Brings the audit record to disk.
pub async fn sync(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    if tokio::task::spawn_blocking(move || engine.audit.sync()).await.is_err() {
        tracing::error!("syncing the audit file failed");
    }
}

/// Sees to the audit file: whether it is in its place, and whether it is time for another.
async fn tend(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    let tending = move || engine.audit.tend(engine.world.now().unix);
    if tokio::task::spawn_blocking(tending).await.is_err() {
        tracing::error!("looking after the audit file failed");
    }
}

/// Opens the audit file by its name again.
pub async fn reopen(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    let reopened = tokio::task::spawn_blocking(move || engine.audit.reopen()).await;
    if let Ok(Err(fault)) = reopened {
        tracing::error!(%fault, "the audit file that is open is written on");
    }
}

/// Brings the newest audit records into the store, for queries. The file is the record; here a part is
/// enough.
pub async fn flush(engine: &Engine, keep: usize) {
    if keep == 0 {
        return;
    }
    let lines = engine.audit.take_recent(FLUSH_LIMIT.min(keep));
    let lines = lines.split(|byte| *byte == b'\n');
    let events: Vec<_> = lines.filter_map(|line| Some(entry(line)?.event)).collect();
    if !events.is_empty()
        && let Err(error) = engine.store.record_audit(&events, keep).await
    {
        tracing::warn!(%error, "recent audit records are not in the store; the file has them");
    }
}

/// On an empty store, makes the first administrator. The one-time password goes to the terminal if there
/// is one, else to a file that only its owner can read; never to a log.
pub async fn first_administrator(admin: &Admin, data: &Path) -> Result<Option<String>, StartError> {
    let made = admin.ensure_first_administrator().await;
    let made = made.map_err(|error| {
        Fault::unavailable("cannot make the first administrator").caused_by(error)
    })?;
    let Some(FirstAdministrator { name, password }) = made else { return Ok(None) };
    let password = password.to_str().unwrap_or_default();
    let mut terminal = std::io::stdout();
    if terminal.is_terminal() {
        let _ = writeln!(
            terminal,
            "\nThe first administrator is `{name}`, with the one-time password\n\n    {password}\n\n\
             It must be changed at the first login: countersign login --user {name}\n"
        );
        return Ok(None);
    }
    let path = data.join("admin-password");
    if let Err(error) = keep_secret(&path, password) {
        // Nobody knows the password. Without the account, the next start tells another.
        let _ = admin.remove_user(&name).await;
        return Err(StartError::System { what: format!("cannot write {}", path.display()), error });
    }
    let path = path.display();
    Ok(Some(format!("the first administrator is `{name}`; the one-time password is in {path}")))
}

/// Writes a new file that only its owner can read. One that is there is replaced, not written to: it may
/// be readable by others, be open already, or lead elsewhere.
fn keep_secret(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_never_written_into_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("secret"), folder.path().join("elsewhere"));
        std::fs::write(&elsewhere, "old").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        keep_secret(&path, "one").unwrap();
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "old");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        keep_secret(&path, "two").unwrap();
        let mode = std::fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(
            (mode & 0o777, std::fs::read_to_string(&path).unwrap()),
            (0o600, "two\n".into())
        );
        assert!(keep_secret(&folder.path().join("none/secret"), "three").is_err());
    }
}
