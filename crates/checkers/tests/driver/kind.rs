//! The kind `driver`: made of strings and tables, as a checker among others.

use std::path::Path;
use std::sync::Arc;

use countersign::testing::StillWorld;
use countersign::{Answers, Checker, Identity, Known, Portal, Request};
use countersign_checkers::driver::Program;
use countersign_checkers::kinds::{Kinds, Parts};
use countersign_testkit::{Fixture, Proof, conforms_async};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::LAUNCHER;
use crate::scripts::Scripts;

fn kinds() -> Kinds {
    Kinds::built_in().launched_by(Program::this(LAUNCHER))
}

fn login(user: &str, password: &str) -> Answers {
    Answers::new().with("username", user.to_owned()).with("password", password.to_owned())
}

/// A checker of a table, or what a person reads instead.
async fn table(scripts: &Scripts, name: &str, text: &str) -> Result<Arc<dyn Checker>, String> {
    let parsed = DeTable::parse(text).unwrap();
    let value = Spanned::new(parsed.span(), DeValue::Table(parsed.into_inner()));
    let kinds = kinds();
    let settings = kinds.kind("driver").unwrap().table(value, scripts.folder());
    let settings = settings.map_err(|error| error.to_string())?;
    let parts = Parts::standalone().unwrap();
    let built = settings.build(name, &parts).await;
    built.map_err(|wrong| {
        let place = wrong.place.map(|place| text[place].to_owned());
        format!("{}: {}", place.unwrap_or_default(), wrong.fault)
    })
}

async fn who(checker: Arc<dyn Checker>, user: &str, password: &str) -> Result<Identity, String> {
    let portal = Portal::new(()).checked_by_shared(checker);
    let mut peer = Known::new(login(user, password));
    let world = StillWorld::default();
    let session = portal.authenticate(Request::to("x"), &mut peer, &world).await;
    session.map(|who| (*who).clone()).map_err(|error| format!("{error:?}"))
}

/// Accepts ada by her password, and says what it is told to.
fn script(says: &str) -> String {
    format!(
        "#!/bin/sh\nlogin=$(cat)\ncase $login in *'<USERNAME>ada</USERNAME>'*'<SECRET>countess</SECRET>'*) ;;\n\
         *) exit 1;; esac\n{says}\n"
    )
}

#[tokio::test]
async fn it_keeps_the_rules_of_checkers() {
    let scripts = Scripts::new();
    let path = scripts.write("rules", &script(""));
    let parts = Parts::standalone().unwrap();
    let string = format!("driver:{}", path.display());
    let checker = kinds().checker(&string, &parts).await.unwrap();
    let proof = Proof::of("password", "ada", login("ada", "countess"))
        .wrong(login("ada", "babbage"))
        .unknown(login("nobody", "countess"));
    let report = conforms_async(&*checker, &Fixture::new().with(proof)).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn groups_are_the_drivers_where_that_is_configured() {
    let scripts = Scripts::new();
    scripts.write("site", &script("echo site ada x '*100' 101"));
    let of = async |text: &str| {
        let text = format!("directory = '.'\n{text}");
        let checker = table(&scripts, "site", &text).await.unwrap();
        who(checker, "ada", "countess").await
    };
    assert_eq!(of("").await, Ok(Identity::named("ada")));
    let groups = "driver_managed_groups = true\ngroups = { 100 = 'staff' }";
    let members = Identity::named("ada").in_group("staff", false).in_group("101", false);
    assert_eq!(of(groups).await, Ok(members.clone()));
    let admin = members.in_group("staff", true);
    let both = format!("{groups}\ndriver_managed_group_admin = true");
    assert_eq!(of(&both).await, Ok(admin));
    // As oned has it.
    let conf = "AUTH_MAD_CONF = [ NAME = \"site\", DRIVER_MANAGED_GROUPS = \"YES\" ]\n";
    std::fs::write(scripts.folder().join("oned.conf"), conf).unwrap();
    let members = Identity::named("ada").in_group("100", false).in_group("101", false);
    assert_eq!(of("oned_conf = 'oned.conf'").await, Ok(members));
    assert_eq!(
        of("oned_conf = 'oned.conf'\ndriver_managed_groups = false").await,
        Ok(Identity::named("ada"))
    );
}

#[tokio::test]
async fn nobody_gets_in_by_an_answer_that_is_not_believed() {
    let scripts = Scripts::new();
    for (name, says, settings) in [
        ("another", "echo another root x", ""),
        ("impostor", "echo other ada x", ""),
        ("raises", "echo raises ada x 0", "driver_managed_groups = true"),
        ("case", "echo case ADA x", ""),
    ] {
        scripts.write(name, &script(says));
        let text = format!("directory = '.'\n{settings}");
        let checker = table(&scripts, name, &text).await.unwrap();
        let error = who(checker, "ada", "countess").await.unwrap_err();
        assert!(error.contains("NotAllowed"), "{name}: {error}");
    }
    let checker = table(&scripts, "case", "directory = '.'\naccount = 'folded'").await.unwrap();
    assert_eq!(who(checker, "ada", "countess").await, Ok(Identity::named("ADA")));
    let open = "directory = '.'\naccount = 'any'";
    let checker = table(&scripts, "another", open).await.unwrap();
    assert_eq!(who(checker, "ada", "countess").await, Ok(Identity::named("root")));
    // Broken is not refused.
    scripts.write("broken", "#!/bin/sh\nkill -9 $$\n");
    let checker = table(&scripts, "broken", "directory = '.'").await.unwrap();
    let error = who(checker, "ada", "countess").await.unwrap_err();
    assert!(error.contains("Fault") && error.contains("ended by signal 9"), "{error}");
}

#[tokio::test]
async fn what_is_stored_goes_to_the_driver() {
    let scripts = Scripts::new();
    std::fs::write(scripts.folder().join("stored"), "ada 5\n").unwrap();
    let says = "case $login in *'<PASSWORD>5</PASSWORD>'*) ;; *) exit 1;; esac";
    scripts.write("length", &script(says));
    let stored = "directory = '.'\nstored = 'stored'";
    let checker = table(&scripts, "length", stored).await.unwrap();
    assert!(who(checker, "ada", "countess").await.is_ok());
    let checker = table(&scripts, "length", "directory = '.'").await.unwrap();
    assert!(who(checker, "ada", "countess").await.unwrap_err().contains("WrongCredential"));
}

#[tokio::test]
async fn what_cannot_be_is_said_at_its_place() {
    let scripts = Scripts::new();
    let path = scripts.write("plain", &script(""));
    for (text, said) in [
        ("directory = '/no/such'", "'/no/such': "),
        ("directory = '.'\nstored = 'none'", "'none': "),
        ("directory = '.'\noned_conf = 'none'", "'none': "),
        ("directory = '.'\nrun_as = 'nobody-of-that-name'", "write UID:GID"),
        ("directory = '.'\nworking_directory = 'none'", "'none': "),
        ("directory = '.'\nreadable = ['/no/such']", "Landlock: /no/such"),
        ("directory = '.'\nenvironment = { 'A=B' = 'x' }", "no `=`"),
    ] {
        let error = table(&scripts, "plain", text).await.err().unwrap();
        assert!(error.contains(said), "{text}: {error}");
    }
    let string = format!("driver:{}", path.display());
    let parts = Parts::standalone().unwrap();
    let error = Kinds::built_in().checker(&string, &parts).await.err().unwrap().to_string();
    assert!(error.contains("launched_by"), "{error}");
    assert!(Path::new(&path).exists());
}

#[tokio::test]
async fn one_that_stays() {
    let scripts = Scripts::new();
    let body = "#!/usr/bin/env python3\nimport json, sys\n\
                def say(**m): print(json.dumps(m), flush=True)\n\
                for line in sys.stdin:\n    m = json.loads(line)\n    \
                if m['type'] == 'hello': say(type='hello', version=1)\n    \
                elif m.get('secret') == 'countess': say(type='accept', id=m['id'], groups=['100'])\n    \
                else: say(type='refuse', id=m['id'])\n";
    scripts.write("stays", body);
    let text = "directory = '.'\npersistent = true\ndriver_managed_groups = true\nlogins = 5";
    let checker = table(&scripts, "stays", text).await.unwrap();
    let ada = Identity::named("ada").in_group("100", false);
    assert_eq!(who(Arc::clone(&checker), "ada", "countess").await, Ok(ada));
    assert!(who(checker, "ada", "babbage").await.unwrap_err().contains("WrongCredential"));
    // Seen before anybody logs in.
    scripts.write("ends", "#!/bin/sh\nexit 3\n");
    let text = "directory = '.'\npersistent = true";
    let error = table(&scripts, "ends", text).await.err().unwrap();
    assert!(error.contains("the driver: ") && error.contains("status 3"), "{error}");
}
