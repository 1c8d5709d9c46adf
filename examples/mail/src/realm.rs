//! The application: everybody's Maildir, as a maildrop for POP3 and as folders for IMAP.

mod drop;
mod folders;
mod visitors;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::{
    Denial, Identity, Loan, Logout, MindLimits, Minds, Realm, Reason, Session, Subject, Told,
    Verified,
};
use tokio::sync::watch;

use crate::imap::{ImapMailbox, Mailbox};
use crate::maildir::{self, Stamp};
use crate::notice::{Notice, Teller};
use crate::place::Places;
use crate::pop3::Pop3Mailbox;
use drop::{MaildirDrop, Taken};
use folders::Folders;
use visitors::Visited;

/// How often is looked whether something came.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Everybody's Maildirs.
#[derive(Debug)]
pub struct Maildirs {
    places: Places,
    visitors: Option<PathBuf>,
    /// Those that POP3 sessions have.
    taken: Taken,
    minds: Arc<Minds<Lent>>,
}

/// A mind, and what it wants to hear of.
#[derive(Debug)]
struct Lent {
    teller: Teller,
    watch: Watch,
}

/// The folder that a client looks at, and what it was like when it last did.
#[derive(Clone, Debug, Default)]
struct Watch(Arc<Mutex<Option<Watched>>>);

#[derive(Debug)]
struct Watched {
    folder: PathBuf,
    stamp: Stamp,
}

impl Maildirs {
    /// Maildirs in these places.
    pub fn new(places: Places) -> Self {
        let limits = MindLimits { each: 20, all: 10_000 };
        Self {
            places,
            visitors: None,
            taken: Taken::default(),
            minds: Arc::new(Minds::new(limits)),
        }
    }

    /// With a Maildir for visitors without a name, who read it and change nothing. Without one they have none.
    #[must_use]
    pub fn visited(self, place: impl Into<PathBuf>) -> Self {
        Self { visitors: Some(place.into()), ..self }
    }

    /// Says something to everybody who is there, or to one subject. Gives how many heard.
    pub fn say(&self, subject: Option<&str>, text: &str) -> usize {
        let notice = Notice::Say(text.into());
        self.minds.tell(subject, |lent| lent.teller.tell(&notice))
    }

    /// How many clients are logged in.
    pub fn sessions(&self) -> usize {
        self.minds.len()
    }

    /// Looks every second whether something came where somebody looks, and tells them, until the server ends.
    pub async fn watch(&self, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            self.look().await;
        }
    }

    /// Tells those whose folder has changed.
    pub async fn look(&self) {
        let mut watches = Vec::new();
        self.minds.tell(None, |lent| {
            watches.push(lent.watch.clone());
            Told::Passed
        });
        if watches.is_empty() {
            return;
        }
        // Folders may be on something slow, and the minds are locked while they are told.
        let look = move || {
            let changed = watches.into_iter().filter(Watch::has_changed);
            changed.map(|watch| watch.id()).collect::<HashSet<_>>()
        };
        let Ok(changed) = tokio::task::spawn_blocking(look).await else { return };
        self.minds.tell(None, |lent| match changed.contains(&lent.watch.id()) {
            true => lent.teller.tell(&Notice::Changed),
            false => Told::Passed,
        });
    }

    /// Where their mail is, and whether it is theirs: of visitors it is not.
    async fn open(&self, who: &Identity) -> Result<(PathBuf, bool), Denial> {
        match (&who.subject, &self.visitors) {
            (Subject::Anonymous, Some(place)) => Ok((place.clone(), false)),
            _ => Ok((self.places.of(who).await?, true)),
        }
    }

    fn lend(&self, who: &Identity, lent: Lent) -> Result<Loan<Lent>, Denial> {
        let subject = who.subject.to_string();
        let full = || Denial::new(Reason::Realm).because("too many sessions at once");
        self.minds.lend(&subject, lent).ok_or_else(full)
    }
}

impl Realm<Pop3Mailbox> for Maildirs {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        mind: Teller,
    ) -> Result<Session<Pop3Mailbox>, Denial> {
        let (place, owned) = self.open(who).await?;
        let loan = self.lend(who, Lent { teller: mind, watch: Watch::default() })?;
        let maildrop = match owned {
            true => MaildirDrop::owned(place, self.taken.clone(), loan),
            false => MaildirDrop::visited(place, loan),
        };
        Ok(Session::<Pop3Mailbox>::new(Box::new(maildrop)).at_logout(farewell(who, "pop3")))
    }
}

impl Realm<ImapMailbox> for Maildirs {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        mind: Teller,
    ) -> Result<Session<ImapMailbox>, Denial> {
        let (place, owned) = self.open(who).await?;
        let watch = Watch::default();
        let loan = self.lend(who, Lent { teller: mind, watch: watch.clone() })?;
        let folders = Folders::new(place, watch, loan);
        let mailbox: Box<dyn Mailbox> = match owned {
            true => Box::new(folders),
            false => Box::new(Visited(folders)),
        };
        Ok(Session::<ImapMailbox>::new(mailbox).at_logout(farewell(who, "imap")))
    }
}

fn farewell(who: &Identity, service: &'static str) -> Logout {
    let name = who.subject.clone();
    tracing::info!(service, "{name} is logged in");
    Logout::new(move || tracing::info!(service, "{name} is logged out"))
}

impl Watch {
    /// From now on, changes of this folder since `stamp` count.
    fn set(&self, folder: &Path, stamp: Stamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Watched { folder: folder.to_owned(), stamp });
    }

    fn has_changed(&self) -> bool {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Watched { folder, stamp }) = &mut *watched else { return false };
        let now = maildir::stamp(folder);
        std::mem::replace(stamp, now) != now
    }

    fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}
