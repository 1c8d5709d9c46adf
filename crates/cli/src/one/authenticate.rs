//! A driver of OpenNebula's that asks a running server: a link to this program, called
//! `remotes/auth/countersign/authenticate`. Reference: `docs/guide/opennebula.md`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use countersign::{Answers, CredentialKind};
use countersign_server::front::http::LoginReply;
use countersign_server::front::one_mad::Location;
use countersign_server::identity::IdentityView;
use countersign_wire::one::{
    AuthnDocument, DOCUMENT_LIMIT, DriverName, Gid, GroupEntry, Reply, UserName,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::args::one::OneAuthenticateArgs;
use crate::failure::Failure;
use crate::login::client::Client;
use crate::login::denied;
use crate::table::shown;

/// Among the settings of OpenNebula's drivers.
const SETTINGS: &str = "countersign.toml";
/// What OpenNebula calls this driver.
const DRIVER: &str = "countersign";
/// What OpenNebula takes for any failure; its own drivers end so.
const REFUSED: u8 = 255;

/// What a site says: which server, and what its groups are in OpenNebula.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whom to ask.
    server: String,
    /// Passwords may go to another machine in the clear.
    insecure: bool,
    /// What the login is for, for the server's policy.
    service: String,
    /// The name of this driver in OpenNebula; without it, `countersign`.
    driver: Option<DriverName>,
    /// Numbers of groups in OpenNebula, by their names here. Groups that are not among them are left out.
    groups: BTreeMap<String, Gid>,
    /// Groups of everybody who is in none of those.
    default_groups: Vec<Gid>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:8080".to_owned(),
            insecure: false,
            service: "opennebula".to_owned(),
            driver: None,
            groups: BTreeMap::new(),
            default_groups: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads a file; the usual one may be missing.
    fn read(named: Option<&Path>) -> Result<Self, Failure> {
        let wrong = |path: &Path, why: String| Failure::usage(format!("{}: {why}", path.display()));
        let read = Location::of_environment().read(named, SETTINGS);
        match read.map_err(|(path, error)| wrong(&path, format!("cannot be read: {error}")))? {
            None => Ok(Self::default()),
            Some((path, text)) => {
                toml::from_str(&text).map_err(|error| wrong(&path, error.to_string()))
            }
        }
    }
}

/// As a driver: nothing in the arguments, everything on standard input.
pub(super) fn run_as_driver() -> ExitCode {
    match authenticate(None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(REFUSED)
        }
    }
}

/// `countersign one-authenticate`
pub(crate) fn run(args: &OneAuthenticateArgs) -> Result<(), Failure> {
    authenticate(args.config.as_deref())
}

fn authenticate(config: Option<&Path>) -> Result<(), Failure> {
    let settings = Settings::read(config)?;
    let login = read_login()?;
    // Before anything is asked, for a directory behind the server might take it for an anonymous login.
    if login.secret.is_empty() {
        return Err(Failure::refused("the secret is empty"));
    }
    let who = log_in(&settings, &login)?;
    let reply = reply(&settings, &login.user, &who)?;
    let mut line = Vec::new();
    reply.encode(&mut line);
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::broken(format!("cannot write to standard output: {error}")))
}

fn read_login() -> Result<AuthnDocument, Failure> {
    let mut document = Zeroizing::new(Vec::with_capacity(64 * 1024));
    let most = DOCUMENT_LIMIT as u64 + 1;
    std::io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut document)
        .map_err(|error| Failure::broken(format!("cannot read standard input: {error}")))?;
    AuthnDocument::parse(&document).map_err(|error| {
        Failure::usage(format!(
            "standard input holds no login: {error}; expected <AUTHN><USERNAME>…</USERNAME><PASSWORD>…</PASSWORD>\
             <SECRET>…</SECRET></AUTHN>, as OpenNebula sends it from 5.6 on"
        ))
    })
}

/// Asks the server, with what there is: the name and the secret.
fn log_in(settings: &Settings, login: &AuthnDocument) -> Result<IdentityView, Failure> {
    let client = Client::of(&settings.server, settings.insecure)?;
    let answers =
        Answers::new().with("username", login.user.as_str()).with("password", login.secret.clone());
    let kinds = [CredentialKind::AuthName, CredentialKind::Passphrase];
    let kinds = kinds.map(|kind| kind.name().to_owned());
    let told = client.begin_with(&settings.service, &kinds, &answers)?;
    match told.reply {
        LoginReply::Granted { session, identity } => {
            // The session was nobody's wish.
            client.end_session(&session.token);
            Ok(identity)
        }
        LoginReply::Denied { reason } => Err(denied(&reason, told.broken)),
        LoginReply::Ask { id, round } => {
            client.cancel(&id);
            let more: Vec<_> = round.questions.iter().map(|asked| shown(&asked.name)).collect();
            Err(Failure::refused(format!(
                "the server asks for more than a name and a password ({}), which OpenNebula cannot ask for; let \
                 its policy be content with a password for the service `{}`",
                more.join(", "),
                settings.service
            )))
        }
        LoginReply::Misuse { error, id, .. } => {
            id.iter().for_each(|id| client.cancel(id));
            Err(Failure::broken(format!("the server does not take the login: {}", shown(&error))))
        }
    }
}

/// What OpenNebula is told. The account is the one that was proven; nothing is to be stored for it.
fn reply(settings: &Settings, asked: &UserName, who: &IdentityView) -> Result<Reply, Failure> {
    let proven = who.subject.as_deref().unwrap_or_default();
    let user = proven.parse().map_err(|error| {
        Failure::refused(format!(
            "`{asked}` was proven to be `{}`, which is no name in OpenNebula: {error}",
            shown(proven)
        ))
    })?;
    let numbered = who.groups.iter().filter_map(|group| {
        let number = settings.groups.get(&group.name)?;
        Some(GroupEntry { group: *number, admin: group.admin })
    });
    let mut groups: Vec<_> = numbered.collect();
    if groups.is_empty() {
        let everybody = settings.default_groups.iter();
        groups.extend(everybody.map(|&group| GroupEntry { group, admin: false }));
    }
    let driver = match &settings.driver {
        Some(driver) => driver.clone(),
        None => DRIVER.parse().unwrap_or_else(|_| unreachable!("`{DRIVER}` is a driver's name")),
    };
    Reply::new(driver, user, "-".into(), &groups)
        .map_err(|error| Failure::broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign::Identity;

    fn line(settings: &str, who: Identity) -> Result<String, Failure> {
        let settings: Settings = toml::from_str(settings).unwrap();
        let asked = "Ada".parse().unwrap();
        let reply = reply(&settings, &asked, &IdentityView::of(&who))?;
        let mut line = Vec::new();
        reply.encode(&mut line);
        Ok(String::from_utf8(line).unwrap())
    }

    #[test]
    fn what_opennebula_is_told() {
        let ada = || Identity::named("ada").in_group("ops", true).in_group("staff", false);
        assert_eq!(line("", ada()).unwrap(), "countersign ada -");
        let mapped = "driver = \"cs\"\n[groups]\nstaff = 100\nops = 101\nothers = 7";
        assert_eq!(line(mapped, ada()).unwrap(), "cs ada - *101 100");
        let everybody = "default_groups = [1]\n[groups]\nothers = 7";
        assert_eq!(line(everybody, ada()).unwrap(), "countersign ada - 1");
        let nameless = line("", Identity::named("ada lovelace")).unwrap_err();
        assert!(
            format!("{nameless:?}")
                .contains("`Ada` was proven to be `ada lovelace`, which is no name")
        );
        assert!(line("", Identity::anonymous()).is_err());
    }

    #[test]
    fn settings_that_are_wrong() {
        for (text, why) in [
            ("driver = \"a b\"", "not allowed in a name"),
            ("group = 1", "unknown field `group`"),
            ("[groups]\nstaff = -1", "invalid value"),
            ("default_groups = [4000000000]", "a group is a decimal number from 0 to 2147483647"),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
