//! A directory as an LDAP URL names it (RFC 4516): `ldap://HOST[:PORT]/BASE?ATTRIBUTE?SCOPE?FILTER?EXTENSIONS`.
//!
//! As in Apache's `AuthLDAPURL`, the scope is `sub` where none is given (RFC 4516 says `base`, below which
//! nobody is), and the attribute is the one that users log in by.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::Fault;

use super::super::argument::decoded;
use super::super::{
    Argument, Building, CheckerSettings, Misplaced, OptionValue, Parts, SettingsError, secret_file,
    suggestion,
};
use crate::ldap::{Groups, Ldap, LdapOptions, Method, Place, Scope};

const EXTENSIONS: [&str; 5] = ["bindname", "x-password-file", "x-starttls", "x-ca", "x-insecure"];

/// A directory as an argument names it.
#[derive(Debug)]
pub(super) struct Named {
    options: LdapOptions,
}

#[derive(Default)]
struct Extensions {
    bindname: Option<OptionValue>,
    password_file: Option<OptionValue>,
    ca: Option<PathBuf>,
    starttls: bool,
    insecure: bool,
}

impl Named {
    pub(super) fn of(argument: Argument<'_>) -> Result<Self, SettingsError> {
        let text = argument.text();
        // `ldap://host` is the kind, a colon and the rest of such a URL.
        let (scheme, after) = match text.split_once("://") {
            Some((scheme @ ("ldap" | "ldaps" | "ldapi"), _)) => (scheme, scheme.len() + 3),
            None if text.starts_with("//") => ("ldap", 2),
            _ => {
                return Err(SettingsError::at(argument.place(), "it is no LDAP URL").with_help(
                    "write `ldap:ldaps://ldap.example.org/ou=people,dc=example,dc=org?uid`",
                ));
            }
        };
        let mut parts = text[after..].splitn(5, '?');
        let mut at = after;
        let mut next = || {
            let part = parts.next().unwrap_or_default();
            let place = at;
            at += part.len() + 1;
            (part, place)
        };
        let (server, start) = next();
        let (host, base) = server.split_once('/').unwrap_or((server, ""));
        let base = decoded(base, start + host.len() + 1)?;
        let (attribute, start) = next();
        let attribute = decoded(attribute, start)?;
        let (scope, start) = next();
        let scope = match scope {
            "" | "sub" => Scope::Subtree,
            "one" => Scope::One,
            "base" => Scope::Base,
            other => {
                let place = start..start + other.len();
                return Err(SettingsError::at(place, "the scope is `sub`, `one` or `base`"));
            }
        };
        let (filter, start) = next();
        let filter = decoded(filter, start)?;
        let (extensions, start) = next();
        let extensions = Extensions::read(extensions, start)?;

        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ';');
        let name = match attribute.text.as_str() {
            "" => "uid".to_owned(),
            name if name.chars().all(fit) => name.to_owned(),
            _ => {
                return Err(
                    attribute.refused("one attribute, by which users log in, such as `uid`")
                );
            }
        };
        let filter = match filter.text.as_str() {
            "" => format!("({name}={{login}})"),
            given if given.contains("{login}") => given.to_owned(),
            given => format!("(&{given}({name}={{login}}))"),
        };
        let place = Place { base: base.text, scope, filter };
        let identity = match (extensions.bindname, extensions.password_file) {
            (None, None) => None,
            (Some(dn), Some(file)) => {
                let read = secret_file(Path::new(""), Path::new(&file.text));
                let told = |why| file.refused(format!("`x-password-file` {} {why}", file.text));
                Some((dn.text, read.map_err(told)?))
            }
            (Some(dn), None) => return Err(dn.refused("`bindname` needs `x-password-file`")),
            (None, Some(file)) => return Err(file.refused("`x-password-file` needs `bindname`")),
        };
        let options = LdapOptions {
            servers: vec![vec![format!("{scheme}://{host}")]],
            starttls: extensions.starttls,
            ca: extensions.ca,
            insecure: extensions.insecure,
            method: Method::SearchAndBind { identity, place, decoy: None },
            name,
            groups: Groups::None,
            labels: Vec::new(),
            attributes: Default::default(),
            timeout: Duration::from_secs(3),
            deadline: Duration::from_secs(8),
            connections: 8,
            idle: Duration::from_secs(60),
        };
        Ok(Self { options })
    }
}

impl Extensions {
    fn read(text: &str, start: usize) -> Result<Self, SettingsError> {
        let mut read = Self::default();
        let mut at = start;
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let place = at..at + name.len();
            let value = decoded(value, place.end + 1)?;
            at += part.len() + 1;
            // One that must be understood has an exclamation mark; all must be, for a mistake in
            // `x-starttls` would send passwords in clear text.
            let name = name.strip_prefix('!').unwrap_or(name).to_ascii_lowercase();
            match name.as_str() {
                "bindname" => read.bindname = Some(value),
                "x-password-file" => read.password_file = Some(value),
                "x-ca" => read.ca = Some(value.text.into()),
                "x-starttls" => read.starttls = true,
                "x-insecure" => read.insecure = true,
                other => {
                    let message = format!("there is no extension `{other}`");
                    let help = suggestion(other, &EXTENSIONS);
                    return Err(SettingsError::at(place, message).with_help(help));
                }
            }
        }
        Ok(read)
    }
}

impl CheckerSettings for Named {
    fn build<'a>(&'a self, name: &'a str, _: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let ldap = Ldap::new(self.options.clone());
            let fault = |error| Fault::internal(format!("{error}"));
            let ldap = ldap.map_err(|error| Misplaced::from(fault(error)))?;
            Ok(Arc::new(ldap.checker(name)) as _)
        })
    }

    fn describe(&self) -> String {
        format!("users in the directory at {}", self.options.servers.concat().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LdapOptions, String> {
        let named = Named::of(Argument::new(text));
        named.map(|named| named.options).map_err(|error| error.in_argument(text))
    }

    fn place(options: &LdapOptions) -> (&str, Scope, &str) {
        match &options.method {
            Method::SearchAndBind { place, .. } => (&place.base, place.scope, &place.filter),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_part_of_a_url() {
        let options = read("ldaps://h:637/ou=a%20b,dc=x?mail?one?(objectClass=person)").unwrap();
        assert_eq!(options.servers, [["ldaps://h:637"]]);
        assert_eq!(options.name, "mail");
        let filter = "(&(objectClass=person)(mail={login}))";
        assert_eq!(place(&options), ("ou=a b,dc=x", Scope::One, filter));
        // `--auth ldap://h/dc=x`
        let options = read("//h/dc=x").unwrap();
        assert_eq!(options.servers, [["ldap://h"]]);
        assert_eq!(place(&options), ("dc=x", Scope::Subtree, "(uid={login})"));
        let options = read("ldap://h/dc=x????x-starttls,x-ca=/ca%2Cpem").unwrap();
        assert!(options.starttls && !options.insecure);
        assert_eq!(options.ca, Some(PathBuf::from("/ca,pem")));
        let options = read("ldapi://%2Frun%2Fldapi/dc=x???(|(uid={login})(mail={login}))").unwrap();
        assert_eq!(options.servers, [["ldapi://%2Frun%2Fldapi"]]);
        assert_eq!(place(&options).2, "(|(uid={login})(mail={login}))");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, said) in [
            ("h/dc=x", "at character 1 of the argument: it is no LDAP URL; write `ldap:ldaps:"),
            ("http://h/dc=x", "no LDAP URL"),
            ("ldap://h/dc=x?uid?all", "at character 19 of the argument: the scope is"),
            ("ldap://h/dc=x?uid,mail", "at character 15 of the argument: one attribute"),
            ("ldap://h/dc=x????x-startls", "no extension `x-startls`; did you mean `x-starttls`?"),
            ("ldap://h/dc=x????!x-other", "no extension `x-other`"),
            ("ldap://h/dc=x????bindname=cn%3Da", "`bindname` needs `x-password-file`"),
            ("ldap://h/dc=x????bindname=a,x-password-file=/no/file", "/no/file cannot be read"),
            ("ldap://h/dc=%zz", "write `%25` for a percent sign"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
