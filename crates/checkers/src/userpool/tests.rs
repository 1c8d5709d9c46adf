//! The rules, one by one, with a store of their own and drivers that say what a login's secret tells them to.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{
    Answers, Known, LoginError, Password, PasswordStore, Portal, Reason, Request, Secret, Verdict,
    Verified,
};
use countersign::{Denial, Identity};
use countersign_store::{AccountUpdate, Group, NewAccount, NewCredential, OpenOptions, StoreError};
use countersign_wire::one::Reply;
use countersign_wire::one::conf::{DriverRules, TokenTime};

use super::*;
use crate::accounts::Accounts;
use crate::hash::Recipe;
use crate::one::{Attempt, Failure, Login, Outcome};
use crate::pool::tests::pool;

/// What drivers and checkers were asked.
type Heard = Arc<Mutex<Vec<String>>>;

/// A driver that does what the secret says: `yes`; `say:a_b_c` answers `a b c`; `broken`; `off` disables the
/// account meanwhile; `x-for-ada` only for her; everything else is wrong.
#[derive(Debug)]
struct Obedient {
    name: &'static str,
    heard: Heard,
    store: Store,
}

impl Driver for Obedient {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        let text = |secret: &Secret| secret.to_str().unwrap().to_owned();
        let secret = text(login.secret);
        let stored = login.stored.map_or("-".to_owned(), text);
        let target = login.target.map_or(String::new(), |target| format!(" for {target}"));
        let heard = format!("{} {} {stored} {secret}{target}", self.name, login.user);
        self.heard.lock().unwrap().push(heard);
        Box::pin(async move {
            Attempt::of(match secret.split_once(':') {
                _ if secret == "yes" => Outcome::Accepted(None),
                _ if secret == "for-ada" && login.target.is_some_and(|who| who == "ada") => {
                    Outcome::Accepted(None)
                }
                _ if secret == "broken" => Outcome::Failed(Failure::Broken("it is broken".into())),
                _ if secret == "off" => {
                    let off = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
                    self.store.update_account(login.user.as_str(), &off).await.unwrap();
                    Outcome::Accepted(None)
                }
                Some(("say", line)) => {
                    let line = line.replace('_', " ");
                    Outcome::Accepted(Some(Reply::parse(line.as_bytes()).unwrap()))
                }
                _ => Outcome::Refused("no".into()),
            })
        })
    }

    fn describe(&self) -> String {
        "obeys".into()
    }
}

/// A directory: `groups:NAME,*NAME` is right; the name in small letters is who it is.
struct Corp(Heard);

impl PasswordStore for Corp {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        let password = password.to_str().unwrap();
        self.0.lock().unwrap().push(format!("corp {login} {password}"));
        if login == "nobody" {
            return Ok(Verdict::UNKNOWN);
        }
        let Some(groups) = password.strip_prefix("groups:") else { return Ok(Verdict::WRONG) };
        let mut who = Identity::named(login.to_lowercase()).with("mail", "a@example.org");
        for group in groups.split(',').filter(|group| !group.is_empty()) {
            who = who.in_group(group.trim_start_matches('*'), group.starts_with('*'));
        }
        Ok(Verdict::Is(Verified::vouch(who)))
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    store: Store,
    world: Arc<StillWorld>,
    heard: Heard,
    rules: PoolRules,
    portal: Portal<()>,
}

fn managed() -> DriverRules {
    DriverRules { managed_groups: true, managed_group_admin: true, ..DriverRules::default() }
}

impl Stage {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// Groups `users` (1), `staff` (100), `ops` (101), `oneadmin` (0) and `administrators`; the accounts `ada` with
    /// the password `countess`, `bob` of the driver `length`, `eve` of `ldap`, `srv` of `server-test`, `pub`.
    async fn with(change: impl FnOnce(&mut PoolRules)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("a.db"), OpenOptions::create()).await.unwrap();
        let groups =
            [("users", 1), ("staff", 100), ("ops", 101), ("oneadmin", 0), ("administrators", 50)];
        for (name, gid) in groups {
            let group = Group { name: name.into(), gid: Some(gid), description: String::new() };
            store.add_group(&group).await.unwrap();
        }
        for (name, driver) in [
            ("ada", None),
            ("bob", Some("length")),
            ("eve", Some("ldap")),
            ("srv", Some("server-test")),
            ("pub", Some("public")),
        ] {
            let mut new = NewAccount::new(name);
            new.driver = driver.map(str::to_owned);
            new.groups = vec![("users".into(), false), ("staff".into(), true)];
            if driver.is_some() {
                let kept = NewCredential::new(driver_credential(), Secret::from("kept"));
                new.credentials.push(kept);
            }
            store.add_account(&new, 0).await.unwrap();
        }
        let hash = crate::hash::Hash::create(&RECIPE, &Secret::from("countess"), [1; 16]).unwrap();
        store.set_password("ada", &Secret::from(hash.expose_text()), false, 0).await.unwrap();
        let member = |(checker, driver): (&str, &str)| Member {
            checker: checker.into(),
            driver: driver.parse().unwrap(),
        };
        let members = [
            ("accounts.main", "core"),
            ("driver.length", "length"),
            ("ldap.corp", "ldap"),
            ("driver.server", "server-test"),
        ];
        let mut rules = PoolRules {
            members: members.into_iter().map(member).collect(),
            default: Some("driver.length".into()),
            drivers: [(
                "ldap".parse().unwrap(),
                DriverRules { managed_group_admin: true, ..DriverRules::default() },
            )]
            .into(),
            ..PoolRules::default()
        };
        change(&mut rules);
        let world = Arc::new(StillWorld::default());
        world.set_unix(1_000_000);
        let heard = Heard::default();
        let portal = portal(&store, &world, &heard, &rules);
        Self { _folder: folder, store, world, heard, rules, portal }
    }

    async fn at(
        &self,
        service: &str,
        name: &str,
        secret: &str,
    ) -> Result<Verified<Identity>, Denial> {
        let answers =
            Answers::new().with("username", name.to_owned()).with("password", secret.to_owned());
        let mut peer = Known::new(answers);
        let login = self.portal.authenticate(Request::to(service), &mut peer, &*self.world).await;
        login.map_err(|error| match error {
            LoginError::Denied(denial) => denial,
            LoginError::Fault(fault) => {
                Denial::new(Reason::Realm).because(format!("fault: {fault}"))
            }
        })
    }

    async fn login(&self, name: &str, secret: &str) -> Result<Verified<Identity>, Denial> {
        self.at("api", name, secret).await
    }

    async fn refused(&self, name: &str, secret: &str, reason: Reason, part: &str) {
        let denial = self.login(name, secret).await.unwrap_err();
        let said = format!("{denial}");
        assert!(denial.reason == reason && said.contains(part), "{name} {secret}: {denial:?}");
    }

    /// What was asked since the last look.
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    fn tokens(&self) -> LoginTokens {
        LoginTokens::new(self.store.clone(), self.world.clone())
    }

    async fn token(&self, user: &str, wanted: &NewLoginToken) -> Result<String, TokenError> {
        let account = self.store.read_account(user).await?.unwrap();
        let rules = self.rules.of(account.driver.as_deref());
        let (secret, _) = self.tokens().add(user, wanted, &rules).await?;
        Ok(secret.to_str().unwrap().to_owned())
    }

    async fn update(&self, user: &str, update: AccountUpdate) {
        self.store.update_account(user, &update).await.unwrap();
    }

    async fn groups(&self, user: &str) -> String {
        let account = self.store.read_account(user).await.unwrap().unwrap();
        let star = |admin| if admin { "*" } else { "" };
        let groups = account.groups.iter().map(|m| format!("{}{}", star(m.admin), m.group));
        let first = account.attributes.get(PRIMARY_GROUP).map_or("-", |values| &values[0]);
        format!("{first}: {}", groups.collect::<Vec<_>>().join(" "))
    }
}

const RECIPE: Recipe = Recipe::SaltedSha256;

fn disabled() -> AccountUpdate {
    AccountUpdate { enabled: Some(false), ..AccountUpdate::default() }
}

fn expired() -> AccountUpdate {
    AccountUpdate { expires: Some(Some(5)), ..AccountUpdate::default() }
}

fn portal(store: &Store, world: &Arc<StillWorld>, heard: &Heard, rules: &PoolRules) -> Portal<()> {
    let users = UserPool::new(store.clone(), world.clone(), rules.clone()).unwrap();
    let hashes = Arc::new(pool(10, 10, Duration::from_secs(60)));
    let core = Accounts::new("accounts.main", store.clone(), hashes, world.clone(), RECIPE);
    let corp = Password::new("ldap.corp", Corp(heard.clone()));
    let mut portal = Portal::new(());
    let checkers: [Arc<dyn Checker>; 2] = [Arc::new(core.unwrap()), Arc::new(corp)];
    for checker in checkers {
        portal = portal.checked_by_shared(users.over(checker).unwrap());
    }
    for (checker, name) in [("driver.length", "length"), ("driver.server", "server")] {
        let driver = Obedient { name, heard: heard.clone(), store: store.clone() };
        let pooled = users.driven(checker, Arc::new(driver)).unwrap().unwrap();
        portal = portal.checked_by_shared(users.over(pooled).unwrap());
    }
    // Not under the rules: whoever nobody knows there is asked about here.
    portal.checked_by(Password::new("outside", Outside(heard.clone())))
}

struct Outside(Heard);

impl PasswordStore for Outside {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        let heard = format!("outside {login} {}", password.to_str().unwrap());
        self.0.lock().unwrap().push(heard);
        Ok(Verdict::UNKNOWN)
    }
}

#[tokio::test]
async fn an_account_is_checked_by_its_own_driver_and_nobody_else() {
    let stage = Stage::new().await;
    assert_eq!(stage.login("ada", "countess").await.unwrap().checker(), Some("accounts.main"));
    assert!(stage.heard().is_empty());
    assert_eq!(stage.login("bob", "yes").await.unwrap().checker(), Some("driver.length"));
    assert_eq!(stage.heard(), ["length bob kept yes"]);
    assert_eq!(stage.login("eve", "groups:").await.unwrap().checker(), Some("ldap.corp"));
    assert_eq!(stage.heard(), ["corp eve groups:"]);
    // Nor when it is wrong, broken, or does not know the user.
    stage.refused("ada", "yes", Reason::WrongCredential, "").await;
    stage.refused("bob", "no", Reason::WrongCredential, "").await;
    stage.refused("bob", "broken", Reason::Realm, "it is broken").await;
    stage.refused("bob", "", Reason::WrongCredential, "empty").await;
    let heard = stage.heard();
    assert!(heard.iter().all(|heard| heard.starts_with("length bob")), "{heard:?}");
    let mut nobody = NewAccount::new("nobody");
    // By the checker's name, too.
    nobody.driver = Some("ldap.corp".into());
    stage.store.add_account(&nobody, 0).await.unwrap();
    stage.refused("nobody", "x", Reason::WrongCredential, "does not know").await;
    assert_eq!(stage.heard(), ["corp nobody x"]);
    // The identity is the account's, with what the checker knows beside it.
    let eve = stage.login("eve", "groups:ops").await.unwrap();
    assert_eq!(eve.groups, [("staff".into(), true), ("users".into(), false)].into());
    assert_eq!(eve.attribute("mail"), Some("a@example.org"));
}

#[tokio::test]
async fn disabled_expired_and_public_accounts_are_refused_and_no_driver_is_asked() {
    let stage = Stage::new().await;
    stage.refused("pub", "kept", Reason::NotAllowed, "public").await;
    stage.update("bob", disabled()).await;
    stage.refused("bob", "yes", Reason::Disabled, "").await;
    stage.update("eve", expired()).await;
    stage.refused("eve", "groups:", Reason::Expired, "").await;
    stage.update("ada", disabled()).await;
    stage.refused("ada", "countess", Reason::Disabled, "").await;
    assert!(stage.heard().is_empty());
    // Nor when it happens meanwhile.
    stage.update("bob", AccountUpdate { enabled: Some(true), ..AccountUpdate::default() }).await;
    stage.refused("bob", "off", Reason::Disabled, "").await;
}

#[tokio::test]
async fn an_unknown_user_is_the_default_drivers_and_gets_an_account_of_its_answer() {
    let stage = Stage::new().await;
    // The name need not be the one that was typed, nor the driver the one that was asked.
    let who = stage.login("Zoe", "say:ldap_zoe_dn=zoe_100_*101").await.unwrap();
    assert_eq!(who.subject.name(), Some("zoe"));
    assert_eq!(stage.heard(), ["length Zoe - say:ldap_zoe_dn=zoe_100_*101"]);
    let zoe = stage.store.read_account("zoe").await.unwrap().unwrap();
    assert_eq!(zoe.driver.as_deref(), Some("ldap"));
    assert_eq!(zoe.credentials[0].data, Secret::from("dn=zoe"));
    // A star counts where the driver's rules say so.
    assert_eq!(stage.groups("zoe").await, "staff: *ops staff");
    assert!(stage.store.read_account("Zoe").await.unwrap().is_none());
    // From now on it is the directory's.
    stage.login("zoe", "groups:staff").await.unwrap();
    assert_eq!(stage.heard(), ["corp zoe groups:staff"]);

    for (secret, reason, part) in [
        ("yes", Reason::NotAllowed, "says nothing of the account"),
        ("no", Reason::WrongCredential, "no"),
        ("say:core_x_y", Reason::NotAllowed, "`core`, which makes no accounts"),
        ("say:public_x_y", Reason::NotAllowed, "makes no accounts"),
        ("say:server-test_x_y", Reason::NotAllowed, "makes no accounts"),
        ("say:other_x_y", Reason::NotAllowed, "makes no accounts"),
        ("say:length_x_y_9999", Reason::NotAllowed, "the group 9999, which is none"),
        ("say:length_x_y_0", Reason::NotAllowed, "administrator"),
        ("say:length_x_y_50", Reason::NotAllowed, "administrator"),
        ("say:length_bob_y", Reason::NotAllowed, "of `bob`, who is somebody else"),
        ("", Reason::WrongCredential, "empty"),
    ] {
        stage.refused("newcomer", secret, reason, part).await;
        assert_eq!(stage.store.count_accounts().await.unwrap(), 6, "{secret}");
    }
    stage.refused("ADA", "say:length_ada_y", Reason::NotAllowed, "not the driver `length`'s").await;
    // An account of the answer's driver that has the name already is who it is, unless it is disabled.
    stage.login("BOB", "say:length_bob_other").await.unwrap();
    stage.update("bob", disabled()).await;
    stage.refused("BOB", "say:length_bob_other", Reason::Disabled, "").await;
    assert_eq!(stage.store.count_accounts().await.unwrap(), 6);
}

#[tokio::test]
async fn without_a_default_or_accounts_to_be_made() {
    let stage = Stage::with(|rules| rules.default = None).await;
    stage.refused("zoe", "say:length_zoe_x", Reason::UnknownUser, "").await;
    // Nobody in the pool is asked; others are nobody's affair here.
    assert_eq!(stage.heard(), ["outside zoe say:length_zoe_x"]);
    let stage = Stage::with(|rules| rules.create = false).await;
    let who = stage.login("zoe", "say:length_zoe_x_100").await.unwrap();
    assert_eq!(who.groups, [("staff".into(), false)].into());
    assert!(stage.store.read_account("zoe").await.unwrap().is_none());
    // A checker of passwords as the default; groups that are none here are left out.
    let stage = Stage::with(|rules| {
        rules.default = Some("ldap.corp".into());
        rules.default_group = Some("users".into());
    })
    .await;
    stage.login("Zoe", "groups:ops,others,*administrators").await.unwrap();
    assert_eq!(stage.groups("zoe").await, "ops: ops");
    stage.login("Yan", "groups:others").await.unwrap();
    assert_eq!(stage.groups("yan").await, "users: users");
    stage.refused("nobody", "groups:", Reason::UnknownUser, "").await;
}

#[tokio::test]
async fn two_first_logins_at_once_make_one_account() {
    let stage = Stage::new().await;
    let login = || stage.login("zoe", "say:length_zoe_x_100");
    let (one, two, three) = tokio::join!(login(), login(), login());
    for who in [one, two, three] {
        assert_eq!(who.unwrap().subject.name(), Some("zoe"));
    }
    assert_eq!(stage.store.count_accounts().await.unwrap(), 6);
}

#[tokio::test]
async fn groups_that_a_driver_manages_are_those_that_it_says() {
    let stage = Stage::with(|rules| {
        rules.drivers.insert("length".parse().unwrap(), managed());
    })
    .await;
    let said = async |groups: &str| {
        stage.login("bob", &format!("say:WRONGDRIVER_otheruser_otherpw{groups}")).await.unwrap();
        stage.groups("bob").await
    };
    // Nothing is said of groups: they stay.
    stage.login("bob", "yes").await.unwrap();
    assert_eq!(said("").await, "-: *staff users");
    assert_eq!(said("_101_*100").await, "ops: ops *staff");
    // The first group stays while it is there at all.
    assert_eq!(said("_100_101").await, "ops: ops staff");
    assert_eq!(said("_1_100").await, "users: staff users");
    // Nothing else of an answer counts for an account that is there.
    let bob = stage.store.read_account("bob").await.unwrap().unwrap();
    assert_eq!((bob.driver.as_deref(), bob.credentials.len()), (Some("length"), 1));
    assert_eq!(bob.credentials[0].data, Secret::from("kept"));
    // The same again changes nothing.
    assert_eq!(said("_1_100").await, "users: staff users");
    let now = stage.store.read_account("bob").await.unwrap().unwrap();
    assert_eq!(now.revision, bob.revision);
    for (groups, part) in [("_9999", "9999"), ("_100_0", "administrator"), ("_50", "administrator")]
    {
        stage.refused("bob", &format!("say:a_b_c{groups}"), Reason::NotAllowed, part).await;
        assert_eq!(stage.groups("bob").await, "users: staff users");
    }
    // Who administers is not the driver's to say, nor to unsay.
    stage.store.add_member("administrators", "bob", false).await.unwrap();
    assert_eq!(said("_1").await, "users: administrators users");
    // Rules that leave stars alone.
    let stage = Stage::with(|rules| {
        let stars = DriverRules { managed_group_admin: false, ..managed() };
        rules.drivers.insert("length".parse().unwrap(), stars);
    })
    .await;
    stage.login("bob", "say:a_b_c_100_*101").await.unwrap();
    assert_eq!(stage.groups("bob").await, "staff: ops *staff");
    // And a pool whose drivers may make administrators.
    let stage = Stage::with(|rules| {
        rules.drivers.insert("length".parse().unwrap(), managed());
        rules.administrators = true;
    })
    .await;
    stage.login("bob", "say:a_b_c_0").await.unwrap();
    assert_eq!(stage.groups("bob").await, "oneadmin: oneadmin");
}

#[tokio::test]
async fn groups_that_a_directory_manages_are_those_that_it_says() {
    let stage = Stage::with(|rules| {
        rules.drivers.insert("ldap".parse().unwrap(), managed());
    })
    .await;
    let who = stage.login("eve", "groups:*ops,others").await.unwrap();
    assert_eq!(who.groups, [("ops".into(), true)].into());
    assert_eq!(stage.groups("eve").await, "ops: *ops");
    stage.login("eve", "groups:").await.unwrap();
    assert_eq!(stage.groups("eve").await, "-: ");
    // The name that it proves is the account's, or it proves nothing.
    let mut upper = NewAccount::new("EVE");
    upper.driver = Some("ldap".into());
    stage.store.add_account(&upper, 0).await.unwrap();
    stage.refused("EVE", "groups:ops", Reason::NotAllowed, "proved eve").await;
}

#[tokio::test]
async fn a_server_acts_for_those_who_are_there() {
    let stage = Stage::new().await;
    let ada = stage.login("srv", "ada:for-ada").await.unwrap();
    assert_eq!(ada.subject.name(), Some("ada"));
    assert_eq!((ada.claimed(), ada.attribute(ACTING)), (Some("srv"), Some("srv")));
    assert!(ada.is_of_program());
    // The driver is asked with the token alone, and told for whom.
    assert_eq!(stage.heard(), ["server srv kept for-ada for ada"]);
    // In one group of the target's.
    let ada = stage.login("srv", "ada:100:yes").await.unwrap();
    assert_eq!(ada.groups, [("staff".into(), true)].into());
    assert_eq!(ada.attribute(PRIMARY_GROUP), Some("staff"));
    stage.heard();
    for (secret, reason, part) in [
        ("bob:for-ada", Reason::WrongCredential, "no"),
        ("ada:101:yes", Reason::NotAllowed, "not in the group 101"),
        ("ada:0:yes", Reason::NotAllowed, "not in the group 0"),
        ("nobody:yes", Reason::NotAllowed, "no account `nobody`"),
    ] {
        stage.refused("srv", secret, reason, part).await;
    }
    stage.heard();
    for secret in ["yes", "ada", "ada:", "ada:abc:yes", "ada:100:yes:more", ":yes", "a b:yes"] {
        stage.refused("srv", secret, Reason::WrongCredential, "").await;
    }
    assert!(stage.heard().is_empty());
    stage.update("ada", disabled()).await;
    stage.refused("srv", "ada:yes", Reason::NotAllowed, "disabled").await;
    stage.update("eve", expired()).await;
    stage.refused("srv", "eve:yes", Reason::NotAllowed, "expired").await;
    stage.update("srv", disabled()).await;
    stage.refused("srv", "bob:yes", Reason::Disabled, "").await;
}

#[tokio::test]
async fn a_login_token_stands_for_the_password() {
    let stage = Stage::new().await;
    for (user, checker) in
        [("ada", "accounts.main"), ("bob", "driver.length"), ("eve", "ldap.corp")]
    {
        let token = stage.token(user, &NewLoginToken::default()).await.unwrap();
        // 256 bits, and stored in no readable form.
        assert!(token.starts_with("cst_") && token.len() == 4 + 43, "{token}");
        let listed = format!("{:?}", stage.tokens().list(user).await.unwrap());
        assert!(!listed.contains(&token[4..]), "{listed}");
        let who = stage.login(user, &token).await.unwrap();
        assert_eq!((who.subject.name(), who.checker()), (Some(user), Some(checker)));
        assert!(who.is_of_program() && who.groups.len() == 2);
        // Nobody else's, and not where people change what proves them.
        stage.refused("eve", &format!("{token}x"), Reason::WrongCredential, "").await;
        let denial = stage.at("web", user, &token).await.unwrap_err();
        assert_eq!(denial.reason, Reason::NotAllowed);
        stage.update(user, disabled()).await;
        stage.refused(user, &token, Reason::Disabled, "").await;
    }
    stage.refused("nobody-there", "cst_x", Reason::WrongCredential, "").await;
    stage.refused("srv", "ada:cst_x", Reason::WrongCredential, "").await;
    stage.refused("srv", "cst_x", Reason::WrongCredential, "").await;
    assert!(stage.heard().is_empty(), "no driver ever sees one");
    let error = stage.token("srv", &NewLoginToken::default()).await.unwrap_err();
    assert!(matches!(error, TokenError::Server), "{error}");
}

#[tokio::test]
async fn a_login_token_ends() {
    let stage = Stage::new().await;
    let now = 1_000_000;
    let until = |expires| NewLoginToken { expires: Some(expires), ..NewLoginToken::default() };
    let token = stage.token("bob", &until(now + 60)).await.unwrap();
    stage.world.set_unix(now + 59);
    stage.login("bob", &token).await.unwrap();
    stage.world.set_unix(now + 60);
    stage.refused("bob", &token, Reason::Expired, "login token has expired").await;
    assert!(matches!(stage.token("bob", &until(now)).await, Err(TokenError::Past)));
    // Removed, it is gone.
    let token = stage.token("bob", &NewLoginToken::default()).await.unwrap();
    stage.login("bob", &token).await.unwrap();
    let id = stage.tokens().list("bob").await.unwrap().last().unwrap().id;
    stage.tokens().remove("bob", id).await.unwrap();
    stage.refused("bob", &token, Reason::WrongCredential, "no login token").await;
    assert!(stage.heard().is_empty());
}

#[tokio::test]
async fn rules_limit_login_tokens_also_those_that_are_there() {
    let stage = Stage::with(|rules| {
        let day = DriverRules { max_token_time: TokenTime::AtMost(60), ..DriverRules::default() };
        rules.drivers.insert("length".parse().unwrap(), day);
        let none = DriverRules { max_token_time: TokenTime::Disabled, ..DriverRules::default() };
        rules.drivers.insert("ldap".parse().unwrap(), none);
    })
    .await;
    stage.token("bob", &NewLoginToken::default()).await.unwrap();
    let listed = stage.tokens().list("bob").await.unwrap();
    assert_eq!(listed[0].expires, Some(1_000_060));
    let error = stage.token("eve", &NewLoginToken::default()).await.unwrap_err();
    assert!(matches!(error, TokenError::Disabled), "{error}");
    // Made before the rules were so.
    let make = async |user: &str| {
        let wanted = NewLoginToken::default();
        let (secret, _) = stage.tokens().add(user, &wanted, &DriverRules::default()).await.unwrap();
        secret.to_str().unwrap().to_owned()
    };
    let (bob, eve) = (make("bob").await, make("eve").await);
    stage.refused("eve", &eve, Reason::NotAllowed, "have no login tokens").await;
    stage.login("bob", &bob).await.unwrap();
    stage.world.set_unix(1_000_060);
    stage.refused("bob", &bob, Reason::Expired, "").await;
}

#[tokio::test]
async fn ten_login_tokens_and_no_more() {
    let stage = Stage::new().await;
    for _ in 0..TOKENS {
        stage.token("ada", &NewLoginToken::default()).await.unwrap();
    }
    let error = stage.token("ada", &NewLoginToken::default()).await.unwrap_err();
    let full = matches!(&error, TokenError::Store(StoreError::TooMany { limit: 10, .. }));
    assert!(full, "{error}");
    let label = NewLoginToken { label: "a\u{1b}".into(), ..NewLoginToken::default() };
    assert!(matches!(stage.token("bob", &label).await, Err(TokenError::Label)));
}

#[tokio::test]
async fn a_login_token_may_be_for_one_group() {
    let stage = Stage::with(|rules| {
        rules.drivers.insert("length".parse().unwrap(), managed());
    })
    .await;
    let of = |group: &str| NewLoginToken { group: Some(group.into()), ..NewLoginToken::default() };
    let error = stage.token("bob", &of("ops")).await.unwrap_err();
    assert!(matches!(error, TokenError::Store(StoreError::NotFound { .. })), "{error}");
    let token = stage.token("bob", &of("staff")).await.unwrap();
    let who = stage.login("bob", &token).await.unwrap();
    assert_eq!(who.groups, [("staff".into(), true)].into());
    // The driver takes the user out of the group: the token has died, also when they are back.
    stage.login("bob", "say:a_b_c_1").await.unwrap();
    stage.refused("bob", &token, Reason::WrongCredential, "no login token").await;
    stage.login("bob", "say:a_b_c_1_100").await.unwrap();
    stage.refused("bob", &token, Reason::WrongCredential, "no login token").await;
}

#[tokio::test]
async fn a_driver_is_not_asked_again_for_a_while() {
    let stage = Stage::with(|rules| rules.session_expiration = Duration::from_secs(900)).await;
    let asked = async |user: &str, secret: &str| {
        stage.login(user, secret).await.unwrap();
        stage.heard().len()
    };
    assert_eq!((asked("bob", "yes").await, asked("bob", "yes").await), (1, 0));
    assert_eq!((asked("eve", "groups:").await, asked("eve", "groups:").await), (1, 0));
    let eve = stage.login("eve", "groups:").await.unwrap();
    assert_eq!(eve.attribute("mail"), Some("a@example.org"));
    // Another secret drives it out; a wrong one does not get in.
    stage.refused("bob", "no", Reason::WrongCredential, "").await;
    assert_eq!(asked("bob", "say:a_b_c").await, 2);
    assert_eq!(asked("bob", "yes").await, 1);
    // Whatever is said about the account ends it: another password, another group, being disabled.
    let stored = [NewCredential::new(driver_credential(), Secret::from("anew"))];
    stage.store.set_credentials("bob", &driver_credential(), &stored, 0).await.unwrap();
    assert_eq!((asked("bob", "yes").await, asked("bob", "yes").await), (1, 0));
    stage.store.add_member("ops", "bob", false).await.unwrap();
    assert_eq!((asked("bob", "yes").await, asked("bob", "yes").await), (1, 0));
    stage.update("bob", disabled()).await;
    stage.refused("bob", "yes", Reason::Disabled, "").await;
    stage.update("bob", AccountUpdate { enabled: Some(true), ..AccountUpdate::default() }).await;
    assert_eq!((asked("bob", "yes").await, asked("bob", "yes").await), (1, 0));
    // Then it ends by itself.
    stage.world.advance_ms(900_000);
    assert_eq!(asked("bob", "yes").await, 1);
    // Servers are verified each time.
    assert_eq!((asked("srv", "ada:yes").await, asked("srv", "ada:yes").await), (1, 1));
}

#[tokio::test]
async fn a_driver_that_needs_something_stored_is_not_asked_without() {
    let stage = Stage::new().await;
    stage.store.set_credentials("bob", &driver_credential(), &[], 0).await.unwrap();
    stage.refused("bob", "yes", Reason::WrongCredential, "password_required").await;
    assert!(stage.heard().is_empty());
    let stage = Stage::with(|rules| {
        let free = DriverRules { password_required: false, ..DriverRules::default() };
        rules.drivers.insert("length".parse().unwrap(), free);
    })
    .await;
    stage.store.set_credentials("bob", &driver_credential(), &[], 0).await.unwrap();
    stage.login("bob", "yes").await.unwrap();
    assert_eq!(stage.heard(), ["length bob - yes"]);
}

#[tokio::test]
async fn who_may_not_change_a_password_is_not_asked_for_a_new_one() {
    let must = AccountUpdate { must_change: Some(true), ..AccountUpdate::default() };
    let login = async |may: bool| {
        let stage = Stage::with(|rules| {
            let core = DriverRules { password_change: may, ..DriverRules::default() };
            rules.drivers.insert("core".parse().unwrap(), core);
        })
        .await;
        stage.update("ada", must.clone()).await;
        let answers = Answers::new()
            .with("username", "ada")
            .with("password", "countess")
            .with("new-password", "of Lovelace");
        let mut peer = Known::new(answers);
        let login = stage.portal.authenticate(Request::to("api"), &mut peer, &*stage.world).await;
        let token = stage.token("ada", &NewLoginToken::default()).await.unwrap();
        (login, stage.login("ada", &token).await.map_err(|denial| denial.reason).map(drop))
    };
    let (changed, token) = login(true).await;
    assert!(changed.is_ok() && token.is_ok(), "{changed:?} {token:?}");
    let (denied, token) = login(false).await;
    let Err(LoginError::Denied(denial)) = denied else { panic!("{denied:?}") };
    assert_eq!(denial.reason, Reason::ChangeNeeded, "{denial}");
    assert_eq!(token, Err(Reason::ChangeNeeded));
}

#[tokio::test]
async fn what_no_pool_can_be_made_of_is_refused() {
    let stage = Stage::new().await;
    let users =
        UserPool::new(stage.store.clone(), stage.world.clone(), stage.rules.clone()).unwrap();
    let stranger = Password::new("driver.server", Outside(Heard::default()));
    assert!(users.over(Arc::new(stranger)).is_err(), "no driver, and acts for others");
    let other = users.over(Arc::new(Password::new("other", Outside(Heard::default())))).unwrap();
    assert_eq!(other.name(), "other");
    let driver = Obedient { name: "x", heard: Heard::default(), store: stage.store.clone() };
    assert!(users.driven("accounts.main", Arc::new(driver)).is_err());
    let driver = Obedient { name: "x", heard: Heard::default(), store: stage.store.clone() };
    assert!(users.driven("other", Arc::new(driver)).unwrap().is_none());
}
