//! A driver as a checker: it offers `password`, and a login's password is what goes to the driver.

use std::sync::Arc;

use countersign::{
    Answer, Answers, BoxExchange, Checker, Denial, Exchange, Fault, FaultKind, Identity, Mechanism,
    PASSWORD, Reason, Scene, Secret, Step, Verified, login_name, not_offered, password_round,
};
use countersign_wire::one::{ServerSession, Session, UserName};

use super::stored::StoredSecrets;
use super::{Driver, Failure, Login, Outcome};

/// Lets in whom a driver accepts, by what is stored for them.
#[derive(Debug)]
pub struct DriverChecker {
    name: String,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    driver: Box<dyn Driver>,
    stored: Box<dyn StoredSecrets>,
    acts: bool,
}

impl DriverChecker {
    /// A checker of that name.
    pub fn new(name: impl Into<String>, driver: impl Driver, stored: impl StoredSecrets) -> Self {
        let (driver, stored) = (Box::new(driver), Box::new(stored));
        Self { name: name.into(), inner: Arc::new(Inner { driver, stored, acts: false }) }
    }

    /// A checker of servers that act for somebody: a login's password is `target:token` or `target:group:token`,
    /// as in a session of OpenNebula's. Who is let in is the server; for whom is in the attributes `one-target`
    /// and `one-group`, and what it may do for them is for whoever reads them to decide.
    pub fn of_servers(
        name: impl Into<String>,
        driver: impl Driver,
        stored: impl StoredSecrets,
    ) -> Self {
        let (driver, stored) = (Box::new(driver), Box::new(stored));
        Self { name: name.into(), inner: Arc::new(Inner { driver, stored, acts: true }) }
    }
}

impl Checker for DriverChecker {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&PASSWORD)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !PASSWORD.is(mechanism) {
            return Err(not_offered(&self.name, mechanism));
        }
        Ok(BoxExchange::new(Attempted { inner: Arc::clone(&self.inner), asked: false }))
    }
}

/// One login.
struct Attempted {
    inner: Arc<Inner>,
    asked: bool,
}

impl Exchange for Attempted {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        if !std::mem::replace(&mut self.asked, true) {
            return Ok(Step::Ask(password_round(scene)));
        }
        let Some(login) = login_name(&answers, scene) else {
            return Ok(Step::deny(Reason::Malformed));
        };
        let denied = |reason, why: &'static str| {
            Ok(Step::Deny(Denial::new(reason).because(why)).claiming(login))
        };
        let Some(Answer::Value(password)) = answers.find("password") else {
            return Ok(Step::deny(Reason::Declined).claiming(login));
        };
        let Ok(user) = login.parse::<UserName>() else {
            return denied(Reason::UnknownUser, "OpenNebula has no such names");
        };
        // A driver may take an empty secret for an empty password, or for none.
        if password.is_empty() {
            return denied(Reason::WrongCredential, "an empty password");
        }
        let step = self.inner.judged(&user, password, scene.now.unix).await?;
        Ok(step.claiming(login))
    }
}

impl Inner {
    async fn judged(&self, user: &UserName, password: &Secret, now: i64) -> Result<Step, Fault> {
        let Some(stored) = self.stored.stored(user).await? else {
            let denial = Denial::new(Reason::UnknownUser);
            return Ok(Step::Deny(denial.because("nothing is stored for the user")));
        };
        let acting = if self.acts {
            let session = Session { user: user.clone(), secret: password.clone() };
            match session.for_target() {
                Ok(acting) => Some(acting),
                Err(error) => {
                    let denial = Denial::new(Reason::WrongCredential);
                    return Ok(Step::Deny(denial.because(error.to_string())));
                }
            }
        } else {
            None
        };
        let login = match &acting {
            None => Login::new(user, Some(&stored), password, now),
            Some(ServerSession { target, token, .. }) => {
                Login::new(user, Some(&stored), token, now).acting_for(target)
            }
        };
        match self.driver.authenticate(login).await.outcome {
            // What a driver says of an account is for the user pool; here nobody gets anything by it.
            Outcome::Accepted(_) => {
                let mut who = Identity::named(user.as_str());
                if let Some(acting) = &acting {
                    who = who.with("one-target", acting.target.as_str());
                    if let Some(group) = acting.group {
                        who = who.with("one-group", group.to_string());
                    }
                }
                Ok(Step::Grant(Verified::vouch(who)))
            }
            Outcome::Refused(why) => {
                Ok(Step::Deny(Denial::new(Reason::WrongCredential).because(why)))
            }
            Outcome::Failed(failure) => {
                let kind = match failure {
                    Failure::Late(_) | Failure::Waited(_) => FaultKind::Timeout,
                    _ => FaultKind::Unavailable,
                };
                Err(Fault::new(kind, failure.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use countersign::testing::{StillWorld, now_or_never};
    use countersign::{Known, Portal, Request};
    use countersign_testkit::{Fixture, Proof, assert_conforms};

    use super::*;
    use crate::one::{Attempt, StoredFile};

    /// Accepts the secret `right`, for a target or none; breaks for `broken`.
    #[derive(Debug)]
    struct Word;

    impl Driver for Word {
        fn authenticate<'a>(
            &'a self,
            login: Login<'a>,
        ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
            let outcome = match login.secret.expose() {
                b"right" => Outcome::Accepted(None),
                b"for-ada" if login.target.is_some_and(|target| target == "ada") => {
                    Outcome::Accepted(None)
                }
                b"broken" => Outcome::Failed(Failure::Broken("it is broken".into())),
                b"late" => Outcome::Failed(Failure::Late(5)),
                _ => Outcome::Refused("no".into()),
            };
            Box::pin(std::future::ready(Attempt::of(outcome)))
        }

        fn describe(&self) -> String {
            "accepts a word".into()
        }
    }

    fn stored() -> (tempfile::TempDir, StoredFile) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys"), "ada x\nsrv y\n").unwrap();
        let file = StoredFile::open(folder.path().join("keys")).unwrap();
        (folder, file)
    }

    fn login(checker: DriverChecker, name: &str, password: &str) -> Result<Identity, String> {
        let portal = Portal::new(()).checked_by(checker);
        let answers = Answers::new().with("username", name).with("password", password);
        let mut peer = Known::new(answers);
        let world = StillWorld::default();
        let session = now_or_never(portal.authenticate(Request::to("x"), &mut peer, &world));
        session.unwrap().map(|who| (*who).clone()).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_driver_decides_about_those_who_have_something() {
        let check = |name: &str, password: &str| {
            let (_folder, file) = stored();
            login(DriverChecker::new("word", Word, file), name, password)
        };
        assert_eq!(check("ada", "right").unwrap().subject.name(), Some("ada"));
        for (name, password, why) in [
            ("ada", "wrong", "WrongCredential"),
            ("ada", "", "WrongCredential"),
            ("bob", "right", "UnknownUser"),
            ("a:b", "right", "UnknownUser"),
            ("ada", "broken", "Unavailable"),
            ("ada", "late", "Timeout"),
        ] {
            let error = check(name, password).unwrap_err();
            assert!(error.contains(why), "{name} {password}: {error}");
        }
    }

    #[test]
    fn a_server_is_let_in_as_itself() {
        let check = |password: &str| {
            let (_folder, file) = stored();
            login(DriverChecker::of_servers("word", Word, file), "srv", password)
        };
        let who = check("ada:100:for-ada").unwrap();
        assert_eq!(who.subject.name(), Some("srv"));
        assert_eq!(
            (who.attribute("one-target"), who.attribute("one-group")),
            (Some("ada"), Some("100"))
        );
        assert_eq!(check("ada:for-ada").unwrap().attribute("one-group"), None);
        for password in ["bob:for-ada", "for-ada", "right", "ada:", "ada:x:for-ada", "a b:for-ada"]
        {
            assert!(check(password).is_err(), "{password}");
        }
    }

    #[test]
    fn it_conforms() {
        let (_folder, file) = stored();
        let checker = DriverChecker::new("word", Word, file);
        let login = |user: &str, password: &str| {
            Answers::new().with("username", user.to_owned()).with("password", password.to_owned())
        };
        let proof = Proof::of("password", "ada", login("ada", "right"))
            .wrong(login("ada", "wrong"))
            .unknown(login("nobody", "right"));
        assert_conforms(&checker, &Fixture::new().with(proof));
    }
}
