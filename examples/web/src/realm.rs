//! The application: everybody has a notebook.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign::{Denial, Identity, Interface, Logout, Realm, Reason, Session, Subject, Verified};

/// What is written into one notebook at most: notes, and bytes of each.
const NOTES: usize = 100;
const BYTES: usize = 1000;
/// Nobody opens more notebooks than this.
const NOTEBOOKS: usize = 10_000;

/// What the pages ask an application for. Several requests of a user use one avatar at a time.
#[derive(Debug)]
pub(crate) struct Pages;

impl Interface for Pages {
    const NAME: &'static str = "pages";
    type Avatar = dyn Notebook;
    type Mind = ();
}

/// What a logged-in user can do.
pub(crate) trait Notebook: Send + Sync {
    /// Whose it is.
    fn owner(&self) -> &str;
    /// What is in it.
    fn notes(&self) -> Vec<String>;
    /// Writes one more note; `false`: it is full, or the note is too long, or there is nothing in it.
    fn write(&self, note: &str) -> bool;
}

/// Everybody's notebooks, in memory.
#[derive(Debug, Default)]
pub(crate) struct Notebooks(Mutex<HashMap<Subject, Notes>>);

type Notes = Arc<Mutex<Vec<String>>>;

impl Realm<Pages> for Notebooks {
    async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Pages>, Denial> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= NOTEBOOKS && !all.contains_key(&who.subject) {
            return Err(Denial::new(Reason::Realm).because("no paper is left"));
        }
        let notes = Arc::clone(all.entry(who.subject.clone()).or_default());
        let owner = who.subject.to_string();
        tracing::info!("{owner} is logged in");
        let farewell = {
            let owner = owner.clone();
            Logout::new(move || tracing::info!("{owner} is logged out"))
        };
        Ok(Session::<Pages>::new(Box::new(Open { owner, notes })).at_logout(farewell))
    }
}

/// A notebook that somebody has open.
struct Open {
    owner: String,
    notes: Notes,
}

impl Notebook for Open {
    fn owner(&self) -> &str {
        &self.owner
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, note: &str) -> bool {
        let note = note.trim();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = (1..=BYTES).contains(&note.len()) && notes.len() < NOTES;
        if fits {
            notes.push(note.to_owned());
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use countersign::testing::now_or_never;

    use super::*;

    fn open(notebooks: &Notebooks, who: &str) -> Session<Pages> {
        let who = Verified::vouch(Identity::named(who));
        now_or_never(notebooks.admit(&who, ())).unwrap().unwrap()
    }

    #[test]
    fn everybody_has_one_and_finds_it_again() {
        let notebooks = Notebooks::default();
        let ada = open(&notebooks, "ada");
        assert!(ada.avatar().write(" an engine ") && !ada.avatar().write("  "));
        assert_eq!(open(&notebooks, "ada").avatar().notes(), ["an engine"]);
        assert!(open(&notebooks, "bob").avatar().notes().is_empty());
        assert!(!ada.avatar().write(&"x".repeat(BYTES + 1)));
        assert!((1..NOTES).all(|_| ada.avatar().write("more")) && !ada.avatar().write("too much"));
    }
}
