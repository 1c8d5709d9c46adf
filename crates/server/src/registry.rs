//! The kinds of checkers that this server knows: those of the library, and those that need the server.
//!
//! A program of your own adds kinds with [`Kinds::register`].

#[cfg(feature = "oidc")]
mod oidc;

pub use countersign_checkers::kinds::{
    Building, CheckerSettings, Kind, Kinds, Misplaced, Parts, Takes,
};

/// The kinds of this version.
pub fn built_in() -> Kinds {
    let mut kinds = Kinds::built_in();
    // Its name is claimed here and nowhere else.
    kinds.register(provider()).unwrap_or_else(|taken| unreachable!("{taken}"));
    kinds
}

fn provider() -> Kind {
    let kind = Kind::new("oidc", "users of an OpenID Connect provider")
        .proving(&["oidc"])
        .explained(
            "Users log in at the provider, in a browser that the login page sends there and back.\n\
             It is configured in a file: `[checker.oidc.NAME]`.",
        )
        .without_argument(
            "a provider needs a client id, an address to come back to and more; configure \
             `[checker.oidc.NAME]`",
        );
    #[cfg(feature = "oidc")]
    return oidc::completed(kind);
    #[cfg(not(feature = "oidc"))]
    kind.not_built("oidc")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::Spanned;
    use toml::de::{DeTable, DeValue};

    use super::*;
    use crate::config::ConfigError;

    /// What a kind makes of a table: nothing, or the error as a person reads it.
    fn settings(kind: &str, text: &str) -> Result<Box<dyn CheckerSettings>, String> {
        let table = DeTable::parse(text).unwrap();
        let value = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        let read = built_in().kind(kind).unwrap().table(value, Path::new("/etc"));
        read.map_err(|error| {
            ConfigError::from(error).in_file(Path::new("c.toml"), text).to_string()
        })
    }

    const LDAP: &str = "servers = ['ldap://localhost']\nbase = 'dc=x'\nfilter = '(uid={login})'\n";
    const SQL: &str =
        "url = 'sqlite:users.db'\nquery = 'SELECT hash FROM u WHERE login = :login'\n";

    #[test]
    fn a_kind_that_is_not_built_in_says_how_to_get_it() {
        for (kind, there, text) in
            [("ldap", cfg!(feature = "ldap"), LDAP), ("sql", cfg!(feature = "sql"), SQL)]
        {
            match settings(kind, text) {
                Ok(_) => assert!(there),
                Err(error) => {
                    let remedy = format!("build with `--features {kind}`");
                    assert!(!there && error.contains(&remedy), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_provider_is_no_string() {
        let kinds = built_in();
        let help = kinds.help(&Takes::everything());
        let others = help.split_once("Not usable here:").unwrap().1;
        assert!(others.contains("  oidc  "), "{help}");
        let error = kinds.settings("oidc:https://x", &Takes::everything()).unwrap_err().to_string();
        let remedy = ["[checker.oidc.NAME]", "--features oidc"];
        assert!(remedy.iter().any(|remedy| error.contains(remedy)), "{error}");
    }

    #[cfg(feature = "ldap")]
    #[test]
    fn a_setting_that_is_not_known_is_told_with_its_line() {
        let error = settings("ldap", &format!("{LDAP}strattls = true\n")).unwrap_err();
        assert!(error.contains("c.toml:4") && error.contains("`starttls`"), "{error}");
        let settings = settings("ldap", LDAP).unwrap();
        assert_eq!(settings.describe(), "users in the directory at ldap://localhost");
    }
}
