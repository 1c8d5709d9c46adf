//! OpenNebula's driver `dummy`, built in: everybody is let in. Dangerous, and for tests of what stands around it.

use std::future::Future;
use std::pin::Pin;

use countersign::Secret;
use countersign_wire::one::Reply;

use super::{Attempt, Driver, Failure, Login, Outcome};

/// What is stored for whom it lets in: the original stores the secret in clear text.
const STORED: &str = "dummy";

/// Lets everybody in.
#[derive(Debug)]
pub struct Dummy(());

impl Dummy {
    /// A driver that is only for trying things out: whoever types any name and anything else is that user.
    pub fn dangerous() -> Self {
        Self(())
    }
}

impl Driver for Dummy {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        let outcome = if login.secret.is_empty() {
            Outcome::Refused("an empty secret".into())
        } else {
            let driver = STORED.parse().map_err(|error| format!("{error}"));
            let reply = driver.and_then(|driver| {
                Reply::new(driver, login.user.clone(), Secret::from(STORED), &[])
                    .map_err(|error| error.to_string())
            });
            match reply {
                Ok(reply) => Outcome::Accepted(Some(reply)),
                Err(why) => Outcome::Failed(Failure::Broken(why)),
            }
        };
        Box::pin(std::future::ready(Attempt::of(outcome)))
    }

    fn describe(&self) -> String {
        "lets everybody in (built in, dangerous)".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_let_in_and_nobody_s_secret_is_kept() {
        let user = "ada".parse().unwrap();
        let of = |secret: &str| {
            let (dummy, secret) = (Dummy::dangerous(), Secret::from(secret));
            let attempt = dummy.authenticate(Login::new(&user, None, &secret, 0));
            countersign::testing::now_or_never(attempt).unwrap().outcome
        };
        let Outcome::Accepted(Some(reply)) = of("x 0 *0\ny") else { panic!("refused") };
        assert_eq!(reply.user().as_str(), "ada");
        assert!(reply.groups().is_empty(), "nobody types a group");
        assert!(matches!(of(""), Outcome::Refused(_)));
    }
}
