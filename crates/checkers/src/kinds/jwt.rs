//! `[checker.jwt.NAME]` and `jwt:KEYS?issuer=…&audience=…`. Reference: `docs/guide/jwt.md`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::Fault;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Argument, Building, CheckerSettings, Form, Kind, Misplaced, OptionValue, Parts, SettingsError,
    Span, read, suggestion,
};
use crate::jwt::{ALGORITHMS, Algorithm, Jwt, JwtError, JwtOptions, KeysAt, algorithm};

/// How far an issuer's clock may be off, where nothing is said.
const SKEW: Duration = Duration::from_secs(60);
/// How long a request for keys may take, where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(4);

/// The kind, with how it is made.
pub(super) fn completed(kind: Kind) -> Kind {
    kind.explained(
        "KEYS is a file or an address with the issuer's public keys: a JWK set, or PEM in a file. An address\n\
         begins with https:// (or http:// on this machine).\n\
         \n\
         Options, after a `?` and with `&` between them; a `?` in an address is written %3F:\n\
         \x20 issuer=TEXT       what tokens have as `iss`; needed\n\
         \x20 audience=A,B      what tokens have as `aud`, one of these; needed\n\
         \x20 subject=CLAIM     the claim that is the user's name (sub)\n\
         \x20 domain=NAME       the claim is an address of this domain, and the name stands before the `@`\n\
         \x20 groups=CLAIM      the claim with the user's groups\n\
         \x20 labels=CLAIM      the claim with the user's labels\n\
         \x20 attributes=A:C,…  attributes, each with the claim that it is taken from\n\
         \x20 require=C:V,…     claims, each with a value that it must have\n\
         \x20 algorithms=A,B    by which tokens may be signed (all of RSA, ECDSA and Ed25519)\n\
         \x20 skew=TIME         how far the issuer's clock may be off (60s)\n\
         \x20 ca=PATH           certificates that vouch for the address (the system's)\n\
         \x20 timeout=TIME      how long a request for the keys may take (4s)",
    )
    .shown("jwt:https://id.example.org/keys?issuer=https://id.example.org&audience=mail")
    .from_table(|value, base| {
        let place = value.span();
        let table: Table = read(value)?;
        Ok(Box::new(table.settings(base, place)?))
    })
    .from_argument(Form::Required("KEYS?issuer=TEXT&audience=TEXT[&OPTION=VALUE…]"), |argument| {
        Ok(Box::new(of_argument(argument)?))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    keys: Spanned<String>,
    issuer: String,
    audience: OneOrMore,
    #[serde(default)]
    algorithms: Vec<Spanned<String>>,
    skew: Option<Span>,
    #[serde(default)]
    require: BTreeMap<String, Wanted>,
    subject: Option<String>,
    domain: Option<String>,
    groups: Option<String>,
    labels: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    ca: Option<PathBuf>,
    timeout: Option<Span>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wanted {
    Text(String),
    YesNo(bool),
    Number(i64),
}

impl Table {
    fn settings(self, base: &Path, place: Range<usize>) -> Result<Settings, SettingsError> {
        let algorithms = self.algorithms.iter().map(|name| named(name.get_ref(), name.span()));
        let require = self.require.into_iter().map(|(claim, wanted)| {
            let wanted = match wanted {
                Wanted::Text(text) => text,
                Wanted::YesNo(yes) => yes.to_string(),
                Wanted::Number(number) => number.to_string(),
            };
            (claim, wanted)
        });
        let options = JwtOptions {
            keys: keys_at(self.keys.get_ref(), base),
            issuer: self.issuer,
            audience: match self.audience {
                OneOrMore::One(one) => vec![one],
                OneOrMore::More(more) => more,
            },
            algorithms: or_all(algorithms.collect::<Result<_, _>>()?),
            skew: self.skew.map_or(SKEW, |span| span.0),
            require: require.collect(),
            subject: self.subject.unwrap_or_else(|| "sub".into()),
            domain: self.domain,
            groups: self.groups,
            labels: self.labels,
            attributes: self.attributes,
            ca: self.ca.map(|ca| base.join(ca)),
            timeout: self.timeout.map_or(TIMEOUT, |span| span.0),
        };
        Ok(Settings { options, keys_place: self.keys.span(), place })
    }
}

fn of_argument(argument: Argument<'_>) -> Result<Settings, SettingsError> {
    let place = argument.place();
    let (keys, mut options) = argument.split()?;
    let needed = |value: Option<OptionValue>, what: &str, help: &str| {
        value.ok_or_else(|| SettingsError::general(format!("no `{what}`")).with_help(help))
    };
    let issuer =
        needed(options.take("issuer")?, "issuer", "add `issuer=` and what tokens have as `iss`")?;
    let audience = needed(
        options.take("audience")?,
        "audience",
        "add `audience=` and what tokens have as `aud`",
    )?;
    let algorithms = match options.take("algorithms")? {
        None => Vec::new(),
        Some(value) => {
            let names = value.text.split(',').map(|name| named(name, value.place.clone()));
            names.collect::<Result<_, _>>()?
        }
    };
    let time = |value: Option<OptionValue>, usually| match value {
        None => Ok(usually),
        Some(value) => Span::parse(&value.text).map(|s| s.0).map_err(|why| value.refused(why)),
    };
    let read = JwtOptions {
        keys: keys_at(&keys.text, Path::new("")),
        issuer: issuer.text,
        audience: audience.text.split(',').map(str::to_owned).collect(),
        algorithms: or_all(algorithms),
        skew: time(options.take("skew")?, SKEW)?,
        require: pairs(options.take("require")?, "a claim, a colon and a value")?,
        subject: options.text("subject")?.unwrap_or_else(|| "sub".into()),
        domain: options.text("domain")?,
        groups: options.text("groups")?,
        labels: options.text("labels")?,
        attributes: pairs(options.take("attributes")?, "an attribute, a colon and a claim")?,
        ca: options.text("ca")?.map(PathBuf::from),
        timeout: time(options.take("timeout")?, TIMEOUT)?,
    };
    options.end()?;
    Ok(Settings { options: read, keys_place: keys.place, place })
}

/// `A:B,C:D`.
fn pairs(
    value: Option<OptionValue>,
    what: &str,
) -> Result<BTreeMap<String, String>, SettingsError> {
    let Some(value) = value else { return Ok(BTreeMap::new()) };
    let pair = |pair: &str| {
        let (name, of) =
            pair.split_once(':').filter(|(name, of)| !name.is_empty() && !of.is_empty())?;
        Some((name.to_owned(), of.to_owned()))
    };
    let read = value.text.split(',').map(pair).collect::<Option<_>>();
    read.ok_or_else(|| value.refused(format!("it is {what}, and a comma before each further one")))
}

fn or_all(algorithms: Vec<Algorithm>) -> Vec<Algorithm> {
    if algorithms.is_empty() { ALGORITHMS.to_vec() } else { algorithms }
}

fn named(name: &str, place: Range<usize>) -> Result<Algorithm, SettingsError> {
    const NAMES: [&str; 9] =
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    algorithm(name).ok_or_else(|| {
        let shared = name.starts_with("HS") || name == "none";
        let help = match shared {
            true => {
                "only algorithms of public keys are: RS256, PS256, ES256, EdDSA and the like".into()
            }
            false => suggestion(name, &NAMES),
        };
        SettingsError::at(place, "an algorithm that is not accepted").with_help(help)
    })
}

fn keys_at(text: &str, base: &Path) -> KeysAt {
    match text.contains("://") {
        true => KeysAt::Address(text.to_owned()),
        false => KeysAt::File(base.join(text)),
    }
}

#[derive(Debug)]
struct Settings {
    options: JwtOptions,
    keys_place: Range<usize>,
    place: Range<usize>,
}

impl CheckerSettings for Settings {
    fn build<'a>(&'a self, name: &'a str, _: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let jwt = Jwt::new(self.options.clone()).map_err(|error: JwtError| {
                let place = if error.key == "keys" { &self.keys_place } else { &self.place };
                Misplaced { place: Some(place.clone()), fault: Fault::internal(error.to_string()) }
            })?;
            Ok(Arc::new(jwt.checker(name)) as _)
        })
    }

    fn describe(&self) -> String {
        format!("tokens of {}", self.options.issuer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<JwtOptions, String> {
        let read = of_argument(Argument::new(text));
        read.map(|settings| settings.options).map_err(|error| error.in_argument(text))
    }

    #[test]
    fn an_argument_says_everything() {
        let options = told(
            "https://id.example.com/jwks%3Fv=1?issuer=https://id.example.com&audience=mail,imap&\
             algorithms=ES256,EdDSA&require=scope:mail,email_verified:true&attributes=mail:email&skew=5s",
        )
        .unwrap();
        assert_eq!(options.keys, KeysAt::Address("https://id.example.com/jwks?v=1".into()));
        assert_eq!(options.audience, ["mail", "imap"]);
        assert_eq!(options.algorithms, [Algorithm::ES256, Algorithm::EdDSA]);
        assert_eq!(options.require["email_verified"], "true");
        assert_eq!(options.attributes["mail"], "email");
        assert_eq!((options.skew, options.timeout), (Duration::from_secs(5), TIMEOUT));
        let options = told("/etc/keys.json?issuer=a&audience=b").unwrap();
        assert_eq!(options.keys, KeysAt::File("/etc/keys.json".into()));
        assert_eq!(options.algorithms, ALGORITHMS);
    }

    #[test]
    fn mistakes_are_told_with_a_remedy() {
        for (text, said) in [
            ("keys", "no `issuer`; add"),
            ("keys?issuer=a", "no `audience`; add"),
            (
                "keys?issuer=a&audience=b&algorithms=HS256",
                "not accepted; only algorithms of public",
            ),
            ("keys?issuer=a&audience=b&algorithms=none", "not accepted; only algorithms of public"),
            ("keys?issuer=a&audience=b&algorithms=RS265", "did you mean `RS256`?"),
            ("keys?issuer=a&audience=b&require=scope", "it is a claim, a colon and a value"),
            ("keys?issuer=a&audience=b&skew=x", "a length of time"),
            ("keys?issuer=a&audience=b&subjetc=x", "did you mean `subject`?"),
        ] {
            let error = told(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
