//! A Maildir as POP3 sees it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use countersign::Loan;

use super::Lent;
use crate::maildir::{Hold, Maildir};
use crate::pop3::{Letter, Maildrop, Work};

pub(super) struct MaildirDrop {
    place: PathBuf,
    /// Whose it is takes it for themselves, and may remove from it.
    owned: bool,
    opened: Option<Opened>,
    _loan: Loan<Lent>,
}

struct Opened {
    maildir: Arc<Maildir>,
    uids: Vec<u32>,
    _hold: Option<Hold>,
}

impl MaildirDrop {
    pub(super) fn new(place: PathBuf, owned: bool, loan: Loan<Lent>) -> Self {
        Self { place, owned, opened: None, _loan: loan }
    }

    fn message(&self, index: usize) -> io::Result<(Arc<Maildir>, u32)> {
        let opened = self.opened.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let uid = opened.uids.get(index).ok_or(io::ErrorKind::NotFound)?;
        Ok((Arc::clone(&opened.maildir), *uid))
    }
}

impl Maildrop for MaildirDrop {
    fn open(&mut self) -> Work<'_, Vec<Letter>> {
        let (place, owned) = (self.place.clone(), self.owned);
        Box::pin(async move {
            let (opened, letters) = blocking(move || {
                let maildir = Maildir::open(place)?;
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
        let owned = self.owned;
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
