//! Application passwords: for programs that can send a password and nothing else.

use countersign::Secret;
use countersign_store::{Account, Credential, CredentialType, NewCredential};

use super::{Factor, FactorError, Factors, limits, random};

/// An application password to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewAppPassword {
    /// The holder's own name for it, such as `telephone`.
    pub label: String,
    /// The services that it is for, such as `imap` and `smtp`; `*` alone: all but `web`, which is where people
    /// change what proves them.
    pub services: Vec<String>,
    /// From this second on it proves nothing.
    pub expires: Option<i64>,
}

impl NewAppPassword {
    fn scope(&self) -> Result<String, FactorError> {
        let refused = |why: String| Err(FactorError::invalid("the list of services", why));
        if self.services.is_empty() {
            return refused(
                "is empty: name the services it is for, such as imap, or * for all but web".into(),
            );
        }
        for service in &self.services {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '"' | '\'');
            if service.is_empty() || service.len() > 64 || !service.chars().all(plain) {
                return refused(format!("has {service:?}, which is no service's name"));
            }
        }
        if self.services.len() > 1 && self.services.iter().any(|service| service == "*") {
            return refused("has * beside others: * is all but web".into());
        }
        Ok(self.services.join(" "))
    }
}

impl Factors {
    /// Makes an application password: 125 random bits, given here and nowhere again. It stands for every
    /// factor, at the services that it is for.
    ///
    /// # Errors
    ///
    /// [`FactorError::Invalid`] (also when the user has too many), [`FactorError::Store`].
    pub async fn add_app_password(
        &self,
        user: &str,
        wanted: &NewAppPassword,
    ) -> Result<(Secret, Factor), FactorError> {
        let scope = wanted.scope()?;
        if wanted.expires.is_some_and(|expires| expires <= self.world.now().unix) {
            return Err(FactorError::invalid("the expiry", "has passed already"));
        }
        let secret = random::text(&*self.world, 5, 5);
        let plain = random::typed(&secret).ok_or_else(|| unmade("the application password"))?;
        let mut new = NewCredential::new(CredentialType::AppPassword, random::fingerprint(&plain));
        new.label.clone_from(&wanted.label);
        new.scope = Some(scope);
        new.expires = wanted.expires;
        let kinds = [CredentialType::AppPassword];
        let factor = self.add(user, &new, &kinds, limits::APP_PASSWORDS).await?;
        Ok((secret, factor))
    }
}

fn unmade(what: &'static str) -> FactorError {
    FactorError::invalid(what, "could not be made")
}

/// The application password of the account that this is, wherever and however long it is good for. Every
/// one is compared, each in constant time.
pub(crate) fn matching<'a>(account: &'a Account, password: &Secret) -> Option<&'a Credential> {
    let mut all = account.credentials_of(&CredentialType::AppPassword).peekable();
    all.peek()?;
    let shown = random::fingerprint(&random::typed(password)?);
    all.fold(None, |found, one| if one.data == shown { Some(one) } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_services_or_all() {
        let scope = |services: &[&str]| {
            let services = services.iter().map(|&service| service.to_owned()).collect();
            NewAppPassword { services, ..NewAppPassword::default() }.scope()
        };
        assert_eq!(scope(&["imap", "smtp"]).unwrap(), "imap smtp");
        assert_eq!(scope(&["*"]).unwrap(), "*");
        for wrong in [&[][..], &["*", "imap"], &["im ap"], &[""], &["imap,smtp"], &["\u{0}"]] {
            assert!(scope(wrong).is_err(), "{wrong:?}");
        }
    }
}
