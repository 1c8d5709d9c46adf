//! OpenNebula's driver `plain`, built in: the secret is what is stored. Dangerous, for passwords are kept in clear
//! text.

use std::future::Future;
use std::pin::Pin;

use super::{Attempt, Driver, Login, Outcome};

/// Compares the secret with what is stored.
#[derive(Debug)]
pub struct Plain(());

impl Plain {
    /// A driver that is only for trying things out: whoever reads what is stored reads every password.
    pub fn dangerous() -> Self {
        Self(())
    }
}

impl Driver for Plain {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        // In the original nothing equals nothing, and lets in.
        let attempt = match login.stored {
            Some(stored) if stored.is_empty() || login.secret.is_empty() => {
                Attempt::refused("an empty secret")
            }
            Some(stored) if stored == login.secret => Attempt::of(Outcome::Accepted(None)),
            Some(_) => Attempt::refused("the secret is not what is stored"),
            None => Attempt::refused("nothing is stored for the user"),
        };
        Box::pin(std::future::ready(attempt))
    }

    fn describe(&self) -> String {
        "compares passwords that are stored in clear text (built in, dangerous)".into()
    }
}

#[cfg(test)]
mod tests {
    use countersign::Secret;

    use super::*;

    #[test]
    fn nothing_equals_nothing_in_no_way() {
        let user = "ada".parse().unwrap();
        let check = |stored: Option<&str>, secret: &str| {
            let (stored, secret) = (stored.map(Secret::from), Secret::from(secret));
            let plain = Plain::dangerous();
            let attempt = plain.authenticate(Login::new(&user, stored.as_ref(), &secret, 0));
            let outcome = countersign::testing::now_or_never(attempt).unwrap().outcome;
            matches!(outcome, Outcome::Accepted(None))
        };
        assert!(check(Some("countess"), "countess"));
        for (stored, secret) in [
            (Some("countess"), "Countess"),
            (Some("countess"), "countes"),
            (Some("countess"), "countess "),
            (Some("countess"), ""),
            (Some(""), ""),
            (None, ""),
            (None, "-"),
            (None, "countess"),
        ] {
            assert!(!check(stored, secret), "{stored:?} {secret:?}");
        }
    }
}
