//! Every registered kind: it has help, its argument is read, a wrong one is refused with words, and what it
//! offers is what it says that it may offer. A new kind joins by being registered; where nothing in
//! [`Folder::string`] makes one of it, these tests say so.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::{Checker, Subject};
use countersign_checkers::kinds::{AuthError, Form, Kind, Kinds, Parts, Takes};
use countersign_store::{OpenOptions, Store};
use countersign_testkit::{Fixture, Proof, conforms_async};

/// Something for every kind to read.
struct Folder(tempfile::TempDir);

/// Not a test: what drivers are started by here.
#[cfg(feature = "driver")]
#[test]
#[ignore = "the launcher of the other tests"]
fn launcher_process() {
    let _ = countersign_worker::launcher::main();
    std::process::exit(0);
}

/// The kinds, with drivers that this program starts.
fn all_kinds() -> Kinds {
    let kinds = Kinds::built_in();
    #[cfg(feature = "driver")]
    let kinds = kinds.launched_by(countersign_checkers::driver::Program::this([
        "launcher_process",
        "--exact",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]));
    kinds
}

const DRIVER: &str = "#!/bin/sh\nexec grep -qx '  <SECRET>countess</SECRET>'\n";
const PLAIN_FILE: &str = "ada:{PLAIN}countess\n";
/// `htpasswd -nbs ada countess`
const HTPASSWD: &str = "ada:{SHA}CNuFNtqnUctq2NEQEiz9eAdUNS4=\n";
/// The key of RFC 8037 appendix A.2.
const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// `countess`, as SHA-512 crypt with few rounds.
const SHADOW: &str = "ada:{HASH}:20000:0:99999:7:::\n";

impl Folder {
    async fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| std::fs::write(folder.path(name), text).unwrap();
        write("users", PLAIN_FILE);
        write("htpasswd", HTPASSWD);
        write("driver", DRIVER);
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path("driver"), executable).unwrap();
        write("issuer.jwks", JWKS);
        write("keys", "ada AAAA\n");
        write("secrets", "ada AAAA\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.path("secrets"), mode).unwrap();
        write("passwd", "ada:x:1000:1000:Ada:/home/ada:/bin/sh\n");
        let recipe = countersign_checkers::hash::Recipe::Sha512Crypt { rounds: 1000 };
        let hash = countersign_checkers::hash::Hash::create(&recipe, &"countess".into(), [7; 16]);
        let hash = hash.unwrap().expose_text();
        write("shadow", &SHADOW.replace("{HASH}", hash.split_once('}').unwrap().1));
        let store = Store::open(folder.path("accounts.db"), OpenOptions::create()).await.unwrap();
        store.close().await;
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A string of a kind, with which one can be made on any machine.
    fn string(&self, kind: &str) -> Option<String> {
        let path = |name: &str| self.path(name).display().to_string();
        Some(match kind {
            "accounts" => format!("accounts:{}", path("accounts.db")),
            "anonymous" => "anonymous".into(),
            "file" => format!("file:{}?allow_plain=yes", path("users")),
            "htpasswd" => format!("htpasswd:{}", path("htpasswd")),
            "jwt" => {
                format!("jwt:{}?issuer=https://id.example.org&audience=mail", path("issuer.jwks"))
            }
            "driver" => format!("driver:{}", path("driver")),
            // The server need not be there before somebody logs in.
            "ldap" => "ldap:ldap://localhost/dc=example,dc=org".into(),
            "memory" => "memory:ada:countess".into(),
            "one-cipher" => format!("one-cipher:{}", path("secrets")),
            "one-x509" => {
                format!("one-x509:{}?authorities={}", path("keys"), self.0.path().display())
            }
            "one-ssh" => format!("one-ssh:{}", path("keys")),
            "sql" => {
                format!(
                    "sql:sqlite:{}?query=SELECT '{{PLAIN}}x' AS hash WHERE :login = 'ada'",
                    path("new.db")
                )
            }
            "sshkey" => format!("sshkey:{}/%u", self.0.path().display()),
            "unix" => format!("unix:{}", self.0.path().display()),
            _ => return None,
        })
    }

    async fn checker(&self, kind: &str) -> Arc<dyn Checker> {
        let string = self.string(kind).unwrap();
        let parts = Parts::standalone().unwrap();
        let made = all_kinds().checker(&string, &parts).await;
        made.unwrap_or_else(|error| panic!("{string}: {error}"))
    }
}

/// The kinds that this build has.
fn built(kinds: &Kinds) -> impl Iterator<Item = &Kind> {
    kinds.kinds().filter(|kind| kind.usable(&Takes::everything()).is_ok())
}

#[test]
fn every_kind_has_help() {
    let kinds = Kinds::built_in();
    let table = kinds.help(&Takes::everything());
    for kind in kinds.kinds() {
        let name = kind.name();
        assert!(!kind.summary().is_empty() && !kind.proves().is_empty(), "{name}");
        let row = table.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        assert!(row.is_some(), "{name} is not in\n{table}");
        let help = kinds.help_on(name, &Takes::everything()).unwrap();
        assert!(help.starts_with(&format!("--auth {name}")), "{help}");
        let (usage, text) = help.split_once('\n').unwrap();
        let wide =
            text.lines().find(|line| line.chars().count() > 110 && !line.starts_with("Example"));
        assert!(!usage.is_empty() && wide.is_none_or(|line| line.starts_with("Proves")), "{help}");
        match kind.usable(&Takes::everything()) {
            Ok(()) => assert!(!kind.help().is_empty(), "{name} explains nothing"),
            Err(why) => assert!(help.contains(&why) && table.contains(&why), "{help}\n{table}"),
        }
        // A program that takes something else is told.
        let other = Takes::only(["smoke-signals"]);
        assert!(
            kinds.help_on(name, &other).unwrap().contains("It cannot be used here: "),
            "{name}"
        );
    }
}

#[test]
fn every_example_can_be_read() {
    let kinds = Kinds::built_in();
    for kind in built(&kinds) {
        let example = kind.example();
        let read = kinds.settings(example, &Takes::everything());
        let (of, settings) = read.unwrap_or_else(|error| panic!("{example}: {error}"));
        assert_eq!(of.name(), kind.name());
        assert!(!settings.describe().is_empty());
        // Whoever reads a log or a core of ours reads no secret.
        assert!(!format!("{settings:?} {}", settings.describe()).contains("countess"));
        let refused = kinds.settings(example, &Takes::only(["smoke-signals"])).unwrap_err();
        assert!(matches!(refused, AuthError::Unusable { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_wrong_argument_is_refused_with_words() {
    let kinds = Kinds::built_in();
    let parts = Parts::standalone().unwrap();
    for kind in built(&kinds) {
        let name = kind.name();
        let wrong = match kind.form() {
            Form::None => vec![format!("{name}:s3cret")],
            Form::Required(_) => {
                vec![name.to_owned(), format!("{name}:"), format!("{name}:/no/such/s3cret?s3cre=t")]
            }
            Form::Optional(_) => vec![format!("{name}:/no/such/place")],
        };
        for string in wrong {
            let error = kinds.checker(&string, &parts).await.err();
            let error = error.unwrap_or_else(|| panic!("{string} is taken")).to_string();
            assert!(error.starts_with(&format!("`{name}`: ")), "{string}: {error}");
            assert!(error.len() > name.len() + 20, "{string}: {error}");
            let shows = error.contains("s3cret");
            assert!(!shows, "{string}: {error}");
        }
    }
}

#[tokio::test]
async fn what_it_offers_is_what_it_says() {
    let kinds = Kinds::built_in();
    let folder = Folder::new().await;
    for kind in built(&kinds) {
        let name = kind.name();
        assert!(
            folder.string(name).is_some(),
            "no string makes a checker of the kind `{name}`: add one"
        );
        let checker = folder.checker(name).await;
        assert_eq!(checker.name(), name);
        let offered: Vec<_> = checker.mechanisms().iter().map(|m| m.name.to_string()).collect();
        assert!(!offered.is_empty(), "{name} offers nothing");
        for mechanism in &offered {
            let said = kind.proves().iter().any(|said| said.eq_ignore_ascii_case(mechanism));
            assert!(said, "{name} offers {mechanism}, and says {:?}", kind.proves());
        }
    }
}

/// Of every kind whose users this test knows: one conversation of each kind of outcome.
#[tokio::test]
async fn they_keep_the_rules_of_checkers() {
    let folder = Folder::new().await;
    let login = |user: &str, password: &str| {
        countersign::Answers::new()
            .with("username", user.to_owned())
            .with("password", password.to_owned())
    };
    for kind in ["file", "htpasswd", "memory", "unix"] {
        let checker = folder.checker(kind).await;
        let proof = Proof::of("password", "ada", login("ada", "countess"))
            .wrong(login("ada", "babbage"))
            .unknown(login("nobody", "countess"));
        let mut fixture = Fixture::new().with(proof);
        for other in checker.mechanisms().iter().filter(|m| !m.is("password")) {
            fixture = fixture.leaving_out(other.name.to_string());
        }
        let report = conforms_async(&*checker, &fixture).await;
        assert!(report.is_clean(), "{kind}: {report}");
    }
    // A trace is no secret, and is recorded: there is none here to be taken for one.
    let token = countersign::Answers::new().with("token", "");
    let fixture = Fixture::new().with(Proof::anonymous("ANONYMOUS", token));
    let report = conforms_async(&*folder.checker("anonymous").await, &fixture).await;
    assert!(report.is_clean(), "{report}");
}

/// The kind is the policy: without it, nobody is let in without a name.
#[tokio::test]
async fn nobody_is_anonymous_unless_that_is_said() {
    use countersign::{KindSet, Peer, Policy, Portal, Reply, Request, Terms};
    let folder = Folder::new().await;
    let kinds = Kinds::built_in();
    let parts = Parts::standalone().unwrap();
    let portal = async |strings: &[&str]| {
        let strings: Vec<_> = strings.iter().map(|s| (*s).to_owned()).collect();
        let checkers = kinds.checkers(&strings, &Takes::everything(), &parts).await.unwrap();
        checkers.into_iter().fold(Portal::new(()), Portal::checked_by_shared)
    };
    let asks = async |portal: &Portal<()>| {
        let peer = Peer::new("ftp", KindSet::all());
        let request = Request::from_peer(Arc::new(peer)).by("ANONYMOUS");
        let begun = portal.begin(request, &*parts.world).await.unwrap();
        let (mut conversation, reply) = begun;
        match reply {
            Reply::Denied(_) => None,
            Reply::Granted(who) => Some(who.subject.clone()),
            Reply::Ask(ask) => {
                let answers = countersign::Answers::new().with("token", "guest");
                match conversation.answer(ask.number, answers, &*parts.world).await.unwrap() {
                    Reply::Granted(who) => Some(who.subject.clone()),
                    _ => None,
                }
            }
        }
    };
    let without = portal(&["memory:ada:countess", &folder.string("unix").unwrap()]).await;
    assert_eq!(asks(&without).await, None);
    let with = portal(&["memory:ada:countess", "anonymous"]).await;
    assert_eq!(asks(&with).await, Some(Subject::Anonymous));
    let terms = Terms { mechanisms: Some(vec!["password".into()]), ..Terms::default() };
    let forbidden = with.under(Policy { terms, ..Policy::default() });
    assert_eq!(asks(&forbidden).await, None);
}

/// A crate of somebody else's adds a kind, and nothing replaces one.
#[tokio::test]
async fn a_kind_of_one_s_own() {
    use countersign_checkers::kinds::{Building, CheckerSettings};
    use countersign_checkers::memory::Memory;

    #[derive(Debug)]
    struct Guests(u32);

    impl CheckerSettings for Guests {
        fn build<'a>(&'a self, name: &'a str, _: &'a Parts) -> Building<'a> {
            Box::pin(async move {
                let mut users = Memory::dangerous();
                for guest in 0..self.0 {
                    users.add(format!("guest{guest}"), "welcome".into())?;
                }
                Ok(Arc::new(users.checker(name)) as _)
            })
        }

        fn describe(&self) -> String {
            format!("{} guests", self.0)
        }
    }

    let guests = Kind::new("guests", "guests, all with one password")
        .proving(&["password"])
        .explained("NUMBER is how many.")
        .from_argument(Form::Required("NUMBER"), |argument| {
            let number = argument.text().parse();
            let wrong = || {
                countersign_checkers::kinds::SettingsError::at(argument.place(), "no number")
                    .with_help("write `guests:3`")
            };
            Ok(Box::new(Guests(number.map_err(|_| wrong())?)))
        });
    let mut kinds = Kinds::built_in();
    kinds.register(guests.clone()).unwrap();
    let taken = kinds.register(guests).unwrap_err().to_string();
    assert!(taken.contains("`guests` already"), "{taken}");
    assert!(kinds.help(&Takes::passwords()).contains("guests, all with one password"));
    let parts = Parts::standalone().unwrap();
    assert_eq!(kinds.checker("guests:3", &parts).await.unwrap().name(), "guests");
    let error = kinds.checker("guests:many", &parts).await.err().unwrap().to_string();
    assert_eq!(error, "`guests`: at character 1 of the argument: no number; write `guests:3`");
}

/// Tables of the kinds that are new since there are strings.
#[test]
fn tables_say_what_strings_say() {
    use toml::Spanned;
    use toml::de::{DeTable, DeValue};
    let read = |kind: &str, text: &str| {
        let table = DeTable::parse(text).unwrap();
        let value = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        let read = Kinds::built_in().kind(kind).unwrap().table(value, Path::new("/etc"));
        read.map(|settings| settings.describe()).map_err(|error| error.to_string())
    };
    assert_eq!(
        read("htpasswd", "path = 'users'").unwrap(),
        "users in /etc/users, as htpasswd writes it"
    );
    assert_eq!(read("unix", "").unwrap(), "users of the machine, in /etc");
    assert_eq!(read("anonymous", "").unwrap(), "nobody in particular");
    let memory = "users = { ada = 'countess' }";
    let error = read("memory", memory).unwrap_err();
    assert!(error.contains("`dangerous = true`"), "{error}");
    assert!(read("memory", &format!("dangerous = true\n{memory}")).unwrap().contains("clear text"));
    let file = "path = 'x'\ndelimiter = '\t'\nuser = 2\npassword = 0\ncase = 'insensitive'\nhash = 'SSHA256'";
    assert_eq!(read("file", file).unwrap(), "users in /etc/x");
    for (kind, text, said) in [
        ("unix", "path = 'x'", "`folder`"),
        ("htpasswd", "pth = 'x'", "`path`"),
        ("file", "path = 'x'\ncase = 'maybe'", "unknown variant"),
        ("anonymous", "trace = true", "unknown field"),
    ] {
        let error = read(kind, text).unwrap_err();
        assert!(error.contains(said), "{kind}: {error}");
    }
}
