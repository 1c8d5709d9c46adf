//! The application: everybody's desk, in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::{
    Denial, Identity, Loan, Logout, MindLimits, Minds, Realm, Reason, Session, Verified,
};
use tokio::time::timeout;

use crate::desk::{Desk, Objects, Trouble, Work};
use crate::mind::{About, Mind};

/// Notes on one desk.
const NOTES: usize = 1000;
/// Bytes of a name.
const NAME: usize = 255;
/// Bytes of a text.
const TEXT: usize = 64 * 1024;
/// For what a client says of itself. Who says nothing is let in all the same.
const ASKED: Duration = Duration::from_secs(2);

/// Everybody's desk. It is made at the first login, and what is on it stays until the program ends.
#[derive(Debug)]
pub struct Desks(Arc<Office>);

#[derive(Debug)]
struct Office {
    notes: Mutex<HashMap<Arc<str>, Notes>>,
    minds: Arc<Minds<Mind>>,
}

type Notes = BTreeMap<String, String>;

/// Somebody's desk, as long as they sit at it.
struct Place {
    office: Arc<Office>,
    name: Arc<str>,
    /// Given back with the place.
    _loan: Loan<Mind>,
}

/// A desk for nobody in particular: nothing on it stays, and nothing leaves it.
struct Visitor(Mutex<Notes>);

impl Desks {
    /// An office without desks.
    pub fn new() -> Self {
        let minds = Arc::new(Minds::new(MindLimits { each: 20, all: 10_000 }));
        Self(Arc::new(Office { notes: Mutex::default(), minds }))
    }

    /// Says something to everybody who is there, or to one of them. Gives how many heard.
    pub fn say(&self, name: Option<&str>, text: &str) -> usize {
        let text: Arc<str> = text.into();
        self.0.minds.tell(name, |mind| mind.tell(Arc::clone(&text)))
    }

    /// How many are logged in.
    pub fn sessions(&self) -> usize {
        self.0.minds.len()
    }
}

impl Default for Desks {
    fn default() -> Self {
        Self::new()
    }
}

impl Realm<Objects> for Desks {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        mind: Mind,
    ) -> Result<Session<Objects>, Denial> {
        let about = timeout(ASKED, mind.about()).await.ok().flatten().unwrap_or_default();
        mind.tell(greeting(who, &about));
        let client = about.client;
        let Some(name) = who.subject.name() else {
            let desk = Visitor(Mutex::default());
            return Ok(Session::<Objects>::new(Box::new(desk)).at_logout(farewell(who, &client)));
        };
        let full = || Denial::new(Reason::Realm).because("too many sessions at once");
        let loan = self.0.minds.lend(name, mind).ok_or_else(full)?;
        let name: Arc<str> = name.into();
        self.0.notes().entry(Arc::clone(&name)).or_default();
        let desk = Place { office: Arc::clone(&self.0), name, _loan: loan };
        Ok(Session::<Objects>::new(Box::new(desk)).at_logout(farewell(who, &client)))
    }
}

fn greeting(who: &Identity, about: &About) -> String {
    let word = match about.language.split('-').next().unwrap_or_default() {
        "de" => "Willkommen",
        "fr" => "Bienvenue",
        "sv" => "Välkommen",
        _ => "Welcome",
    };
    format!("{word}, {}", who.subject)
}

fn farewell(who: &Identity, client: &str) -> Logout {
    let name = who.subject.clone();
    tracing::info!(client, "{name} is logged in");
    Logout::new(move || tracing::info!("{name} is logged out"))
}

impl Office {
    fn notes(&self) -> MutexGuard<'_, HashMap<Arc<str>, Notes>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the notes on somebody's desk.
    fn at<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Notes) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        work(self.notes().get_mut(name).ok_or(Trouble::Nobody)?)
    }
}

impl Desk for Place {
    fn list(&self) -> Work<'_, Vec<String>> {
        let done = self.office.at(&self.name, |notes| Ok(list(notes)));
        ready(done)
    }

    fn read(&self, name: String) -> Work<'_, String> {
        let done = self.office.at(&self.name, |notes| read(notes, &name));
        ready(done)
    }

    fn put(&self, name: String, text: String) -> Work<'_> {
        let done = self.office.at(&self.name, |notes| put(notes, name, text));
        ready(done)
    }

    fn take(&self, name: String) -> Work<'_, String> {
        let done = self.office.at(&self.name, |notes| take(notes, &name));
        ready(done)
    }

    fn leave(&self, to: String, name: String, text: String) -> Work<'_> {
        let told = format!("{} left you `{name}`", self.name);
        let done = self.office.at(&to, |notes| match notes.contains_key(&name) {
            true => Err(Trouble::Taken),
            false => put(notes, name, text),
        });
        if done.is_ok() {
            let told: Arc<str> = told.into();
            self.office.minds.tell(Some(&to), |mind| mind.tell(Arc::clone(&told)));
        }
        ready(done)
    }
}

impl Desk for Visitor {
    fn list(&self) -> Work<'_, Vec<String>> {
        let done = Ok(list(&self.notes()));
        ready(done)
    }

    fn read(&self, name: String) -> Work<'_, String> {
        let done = read(&self.notes(), &name);
        ready(done)
    }

    fn put(&self, name: String, text: String) -> Work<'_> {
        let done = put(&mut self.notes(), name, text);
        ready(done)
    }

    fn take(&self, name: String) -> Work<'_, String> {
        let done = take(&mut self.notes(), &name);
        ready(done)
    }

    fn leave(&self, _: String, _: String, _: String) -> Work<'_> {
        ready(Err(Trouble::Nobody))
    }
}

impl Visitor {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What needed no time.
fn ready<'a, T: Send + 'a>(done: Result<T, Trouble>) -> Work<'a, T> {
    Box::pin(std::future::ready(done))
}

fn list(notes: &Notes) -> Vec<String> {
    notes.keys().cloned().collect()
}

fn read(notes: &Notes, name: &str) -> Result<String, Trouble> {
    notes.get(name).cloned().ok_or(Trouble::NoNote)
}

fn put(notes: &mut Notes, name: String, text: String) -> Result<(), Trouble> {
    let fits = (1..=NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    if !fits || text.len() > TEXT {
        return Err(Trouble::Unfit);
    }
    if notes.len() >= NOTES && !notes.contains_key(&name) {
        return Err(Trouble::Full);
    }
    notes.insert(name, text);
    Ok(())
}

fn take(notes: &mut Notes, name: &str) -> Result<String, Trouble> {
    notes.remove(name).ok_or(Trouble::NoNote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desk_has_room_for_so_much() {
        let mut notes = Notes::new();
        for name in ["", "a\nb", &"x".repeat(NAME + 1)] {
            assert_eq!(put(&mut notes, name.into(), "text".into()), Err(Trouble::Unfit));
        }
        assert_eq!(put(&mut notes, "a".into(), "x".repeat(TEXT + 1)), Err(Trouble::Unfit));
        for number in 0..NOTES {
            put(&mut notes, number.to_string(), String::new()).unwrap();
        }
        assert_eq!(put(&mut notes, "one more".into(), String::new()), Err(Trouble::Full));
        put(&mut notes, "7".into(), "in its place".into()).unwrap();
        assert_eq!(take(&mut notes, "7").as_deref(), Ok("in its place"));
        assert_eq!(take(&mut notes, "7"), Err(Trouble::NoNote));
    }

    #[test]
    fn a_greeting_is_in_the_language_of_who_reads_it() {
        let greet = |language: &str| {
            let about = About { language: language.into(), ..About::default() };
            greeting(&Identity::named("ada"), &about)
        };
        assert_eq!(greet("de-AT"), "Willkommen, ada");
        assert_eq!((greet(""), greet("xx")), ("Welcome, ada".into(), "Welcome, ada".into()));
    }
}
