//! `memory`: users with their passwords, in clear text, in the process. For trying things out and for tests.

use std::collections::HashMap;
use std::sync::Arc;

use countersign::{
    Directory, Fault, Identity, Password, PasswordStore, Secret, TextStore, Verdict, Verified,
    World,
};
use countersign_sasl::Stored;

use crate::readable;

/// Users with their passwords in clear text. **Not for anything that matters:** whoever reads the process's
/// memory, or the command line that it was started with, has every password.
#[derive(Clone, Default)]
pub struct Memory {
    /// The identity of each is made once: most of a login's allocations.
    users: HashMap<Box<str>, (Secret, Arc<Identity>)>,
}

impl Memory {
    /// Nobody.
    pub fn dangerous() -> Self {
        Self::default()
    }

    /// One more user. The first of two with one name counts.
    ///
    /// # Errors
    ///
    /// When there is a user of that name: nothing replaces anything silently.
    pub fn add(&mut self, name: impl Into<Box<str>>, password: Secret) -> Result<(), Fault> {
        let name = name.into();
        if self.users.contains_key(&name) {
            return Err(Fault::internal(format!("the user {name} is there twice")));
        }
        let who = Arc::new(Identity::named(&*name));
        self.users.insert(name, (password, who));
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    #[inline]
    fn verdict(&self, login: &str, password: &Secret) -> Verdict {
        match self.users.get(login) {
            None => Verdict::UNKNOWN,
            // In constant time.
            Some((right, who)) if right == password => vouch(who),
            Some(_) => Verdict::WRONG,
        }
    }

    /// The checker of that name over these users.
    pub fn checker(self, name: impl Into<String>) -> Password<Self> {
        Password::new(name, self)
    }

    /// The same, which offers as well what needs the password itself: CRAM-MD5, APOP, SCRAM and HTTP Digest.
    pub fn readable(self, name: impl Into<String>, world: &dyn World) -> Stored<Self> {
        readable::checker(name, self, world)
    }
}

impl PasswordStore for Memory {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(self.verdict(login, password))
    }

    fn check_at_once(
        &self,
        login: &str,
        password: &Secret,
        _: bool,
    ) -> Option<Result<Verdict, Fault>> {
        Some(Ok(self.verdict(login, password)))
    }
}

impl Directory for Memory {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(self.users.get(login).map_or(Verdict::UNKNOWN, |(_, who)| vouch(who)))
    }
}

impl TextStore for Memory {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        Ok(self.users.get(login).map(|(password, _)| password.clone()))
    }
}

fn vouch(who: &Arc<Identity>) -> Verdict {
    Verdict::Is(Verified::vouch(Arc::clone(who)))
}

/// Without names: a list of accounts is nobody's business either.
impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("users", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign::testing::now_or_never;

    #[test]
    fn right_wrong_and_unknown() {
        let mut users = Memory::dangerous();
        users.add("ada", Secret::from("countess")).unwrap();
        assert!(users.add("ada", Secret::from("other")).is_err());
        let check = |name, password: &str| {
            let password = Secret::from(password);
            now_or_never(users.check(name, &password)).unwrap().unwrap()
        };
        let Verdict::Is(who) = check("ada", "countess") else { panic!("refused") };
        assert_eq!(who.subject.name(), Some("ada"));
        for (name, password, unknown) in
            [("ada", "other", false), ("ada", "", false), ("Ada", "countess", true), ("", "", true)]
        {
            let Verdict::Not(denial) = check(name, password) else { panic!("let in") };
            assert_eq!(denial.reason.is_unknown(), unknown, "{name}");
        }
        let text = now_or_never(users.password_text("ada")).unwrap().unwrap();
        assert_eq!(text, Some(Secret::from("countess")));
        assert!(!format!("{users:?}").contains("ada"));
    }
}
