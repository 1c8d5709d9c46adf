//! `[passkeys]`: which site passkeys are for.

use serde::Deserialize;

/// `[passkeys]`. Without it nobody is asked for one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasskeysSection {
    /// The domain that passkeys are bound to for ever: that of the login page, or one above it.
    pub rp_id: String,
    /// Where pages may use them, such as `https://login.example.com`.
    pub origins: Vec<String>,
    /// What browsers call the site; the issuer of one-time codes if left out.
    pub rp_name: Option<String>,
}

impl PasskeysSection {
    /// What is wrong with it, in one line.
    pub(super) fn check(&self) -> Result<(), String> {
        #[cfg(feature = "passkeys")]
        return self.site("").map(drop).map_err(|error| error.to_string());
        #[cfg(not(feature = "passkeys"))]
        Err("this build has no `passkeys`; build with `--features passkeys`".to_owned())
    }

    /// The site's passkeys; `issuer` is its name where it has no other.
    ///
    /// # Errors
    ///
    /// An id and origins that do not belong together.
    #[cfg(feature = "passkeys")]
    pub fn site(
        &self,
        issuer: &str,
    ) -> Result<countersign_checkers::factors::Passkeys, countersign_checkers::factors::FactorError>
    {
        use countersign_checkers::factors::{PasskeySettings, Passkeys};
        let Self { rp_id, origins, rp_name } = self.clone();
        let rp_name = rp_name.unwrap_or_else(|| issuer.to_owned());
        Passkeys::new(&PasskeySettings { rp_id, rp_name, origins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> PasskeysSection {
        PasskeysSection {
            rp_id: "example.com".into(),
            origins: vec!["https://login.example.com".into()],
            rp_name: None,
        }
    }

    #[cfg(feature = "passkeys")]
    #[test]
    fn an_origin_is_below_the_id() {
        assert_eq!(section().check(), Ok(()));
        let other = PasskeysSection { rp_id: "example.org".into(), ..section() };
        assert!(other.check().unwrap_err().contains("https://login.example.com"));
    }

    #[cfg(not(feature = "passkeys"))]
    #[test]
    fn a_build_without_them_says_so() {
        assert!(section().check().unwrap_err().contains("--features passkeys"));
    }
}
