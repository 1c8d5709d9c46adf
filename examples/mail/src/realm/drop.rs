//! A Maildir as POP3 sees it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use countersign::Loan;

use super::Lent;
use crate::maildir::{Hold, Maildir};
use crate::pop3::{Letter, Maildrop, Work};

/// The Maildirs that sessions of this process have for themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken(Arc<Mutex<HashSet<Arc<Path>>>>);

/// One of them, until it is dropped.
struct Claim {
    taken: Taken,
    place: Arc<Path>,
}

/// It is claimed at login among the sessions of this process, without asking the system for anything. The files are
/// looked at, made where there are none, and locked against other processes, when somebody wants to know what is in
/// it.
pub(super) struct MaildirDrop {
    place: Arc<Path>,
    /// Where whose it is takes it for themselves, and may remove from it; none of visitors.
    taken: Option<Taken>,
    claim: Option<Claim>,
    opened: Option<Opened>,
    _loan: Loan<Lent>,
}

struct Opened {
    maildir: Arc<Maildir>,
    uids: Vec<u32>,
    _hold: Option<Hold>,
}

impl Taken {
    fn claim(&self, place: &Arc<Path>) -> Option<Claim> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.insert(Arc::clone(place));
        free.then(|| Claim { taken: self.clone(), place: Arc::clone(place) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.taken.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place);
    }
}

impl MaildirDrop {
    /// A Maildir for whose it is, who is the only one that has it.
    pub(super) fn owned(place: PathBuf, taken: Taken, loan: Loan<Lent>) -> Self {
        Self { taken: Some(taken), ..Self::visited(place, loan) }
    }

    /// A Maildir to be read.
    pub(super) fn visited(place: PathBuf, loan: Loan<Lent>) -> Self {
        Self { place: place.into(), taken: None, claim: None, opened: None, _loan: loan }
    }

    fn message(&self, index: usize) -> io::Result<(Arc<Maildir>, u32)> {
        let opened = self.opened.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let uid = opened.uids.get(index).ok_or(io::ErrorKind::NotFound)?;
        Ok((Arc::clone(&opened.maildir), *uid))
    }
}

impl Maildrop for MaildirDrop {
    fn take(&mut self) -> Work<'_, ()> {
        if let Some(taken) = &self.taken {
            self.claim = taken.claim(&self.place);
        }
        let free = self.taken.is_none() || self.claim.is_some();
        let done = if free { Ok(()) } else { Err(io::ErrorKind::ResourceBusy.into()) };
        Box::pin(std::future::ready(done))
    }

    fn list(&mut self) -> Work<'_, Vec<Letter>> {
        let (place, owned) = (Arc::clone(&self.place), self.taken.is_some());
        Box::pin(async move {
            let (opened, letters) = blocking(move || {
                let maildir = Maildir::open(&*place)?;
                let hold = match owned {
                    true => Some(maildir.hold()?.ok_or(io::ErrorKind::ResourceBusy)?),
                    false => None,
                };
                let listing = maildir.list(false)?;
                let letter = |message: &crate::maildir::Message| Letter {
                    size: message.size.into(),
                    uid: format!("{:08x}{:08x}", listing.validity, message.uid),
                };
                let letters = listing.messages.iter().map(letter).collect();
                let uids = listing.messages.iter().map(|message| message.uid).collect();
                Ok((Opened { maildir: Arc::new(maildir), uids, _hold: hold }, letters))
            })
            .await?;
            self.opened = Some(opened);
            Ok(letters)
        })
    }

    fn read(&self, index: usize) -> Work<'_, Vec<u8>> {
        let message = self.message(index);
        Box::pin(async move {
            let (maildir, uid) = message?;
            let text = blocking(move || maildir.read(uid)).await?;
            text.ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn remove(&mut self, indices: Vec<usize>) -> Work<'_, ()> {
        let owned = self.taken.is_some();
        let messages: io::Result<Vec<_>> = indices.into_iter().map(|i| self.message(i)).collect();
        Box::pin(async move {
            let messages = messages?;
            let Some((maildir, _)) = messages.first() else { return Ok(()) };
            if !owned {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            let maildir = Arc::clone(maildir);
            let uids = messages.into_iter().map(|(_, uid)| uid).collect::<Vec<_>>();
            // One that somebody else has removed is removed.
            blocking(move || maildir.remove(&uids).map(drop)).await
        })
    }
}

/// Where it does not hold up other connections.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use countersign::{MindLimits, Minds};

    use super::super::Watch;
    use super::*;
    use crate::notice::Teller;

    #[tokio::test]
    async fn who_has_it_is_decided_without_a_file_and_other_processes_are_asked_later() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("ada");
        let minds = Arc::new(Minds::new(MindLimits { each: 9, all: 9 }));
        let taken = Taken::default();
        let session = || {
            let lent = Lent { teller: Teller::new().0, watch: Watch::default() };
            let loan = minds.lend("ada", lent).unwrap();
            MaildirDrop::owned(place.clone(), taken.clone(), loan)
        };
        let mut first = session();
        first.take().await.unwrap();
        for _ in 0..2 {
            // Who did not get it gives nothing back.
            let refused = session().take().await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        }
        assert!(!place.exists(), "nothing was looked at");
        assert_eq!(first.list().await.unwrap(), []);
        assert!(place.join("cur").is_dir());
        drop(first);

        let mut second = session();
        second.take().await.unwrap();
        let elsewhere = Maildir::open(&place).unwrap();
        let hold = elsewhere.hold().unwrap();
        let refused = second.list().await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        drop(hold);
        assert_eq!(second.list().await.unwrap(), []);
    }
}
