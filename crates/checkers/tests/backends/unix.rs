//! The `unix` checker, over a folder of its own.

use std::fs;
use std::sync::Arc;

use countersign::{Directory, PasswordStore, Reason, Secret, Verdict};
use countersign_checkers::hash::Recipe;
use countersign_checkers::unix::Unix;
use countersign_testkit::{Fixture, OwnedWorld, Proof, conforms_async};

use crate::stage::{self, NOW, hash, login};

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
ada:x:1000:50:Ada L.:/home/ada:/bin/bash
locked:x:1001:50::/:/bin/sh
expired:x:1002:50::/:/bin/sh
old:x:1003:50::/:/bin/sh
late:x:1004:50::/:/bin/sh
lost:x:1005:50::/:/bin/sh
open:x:1006:50::/:/bin/sh
former:{HASH}:1007:50::/:/bin/sh
";

const SHADOW: &str = "\
root:*:20000:0:99999:7:::
ada:{HASH}:20000:0:99999:7:::
locked:!{HASH}:20000:0:99999:7:::
expired:{HASH}:20000:0:99999:7::20833:
old:{HASH}:20000:0:90:7:::
late:{HASH}:20000:0:90:7:30::
open::20000:0:99999:7:::
";

/// `countess`, as crypt(3) writes it.
fn crypt() -> String {
    let text = hash(Recipe::Sha512Crypt { rounds: 1000 }, "countess");
    text.split_once('}').unwrap().1.to_owned()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text.replace("{HASH}", &crypt())).unwrap();
    };
    write("passwd", PASSWD);
    write("shadow", SHADOW);
    write("group", "staff:x:50:\nops:x:60:ada,bob\n");
    folder
}

fn unix(folder: &tempfile::TempDir) -> Unix {
    Unix::open(folder.path(), stage::pool(), world()).unwrap()
}

/// On day 20833.
fn world() -> Arc<OwnedWorld> {
    let world = OwnedWorld::default();
    world.set_unix(NOW);
    Arc::new(world)
}

async fn check(unix: &Unix, user: &str, password: &str) -> Result<String, Reason> {
    match unix.check(user, &Secret::from(password)).await.unwrap() {
        Verdict::Is(who) => Ok(who.subject.to_string()),
        Verdict::Not(denial) => Err(denial.reason),
    }
}

#[tokio::test]
async fn conforms() {
    let proof = Proof::of("password", "ada", login("ada", "countess"))
        .wrong(login("ada", "babbage"))
        .unknown(login("nobody", "countess"))
        .disabled(login("locked", "countess"));
    let fixture = Fixture::new().with(proof).in_world(world());
    let report = conforms_async(&unix(&folder()).checker("unix"), &fixture).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn every_state_of_an_account() {
    let folder = folder();
    let unix = unix(&folder);
    for (user, expected) in [
        ("ada", Ok("ada".to_owned())),
        // As before there were shadow files.
        ("former", Ok("former".to_owned())),
        ("root", Err(Reason::Disabled)),
        ("locked", Err(Reason::Disabled)),
        ("open", Err(Reason::Disabled)),
        ("lost", Err(Reason::Disabled)),
        ("expired", Err(Reason::Expired)),
        ("old", Err(Reason::ChangeNeeded)),
        ("late", Err(Reason::Expired)),
        ("nobody", Err(Reason::UnknownUser)),
    ] {
        assert_eq!(check(&unix, user, "countess").await, expected, "{user}");
    }
    // Who does not have the password learns nothing about the account.
    for user in ["ada", "expired", "old", "late", "former"] {
        assert_eq!(check(&unix, user, "babbage").await, Err(Reason::WrongCredential), "{user}");
    }
    assert_eq!(check(&unix, "open", "").await, Err(Reason::Disabled));
}

#[tokio::test]
async fn what_the_files_say_of_a_user() {
    let folder = folder();
    let unix = unix(&folder);
    let Verdict::Is(ada) = unix.find("ada").await.unwrap() else { panic!("not found") };
    for (name, value) in [
        ("uid", "1000"),
        ("gid", "50"),
        ("gecos", "Ada L."),
        ("home", "/home/ada"),
        ("shell", "/bin/bash"),
    ] {
        assert_eq!(ada.attribute(name), Some(value));
    }
    assert_eq!(ada.groups.keys().collect::<Vec<_>>(), ["ops", "staff"]);
    // A locked password is no locked key, an expired account is.
    assert!(matches!(unix.find("locked").await.unwrap(), Verdict::Is(_)));
    let Verdict::Not(denial) = unix.find("expired").await.unwrap() else { panic!("found") };
    assert_eq!(denial.reason, Reason::Expired);
}

#[test]
fn a_folder_without_the_files_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Unix::open(folder.path(), stage::pool(), world()).unwrap_err().to_string();
    assert!(open().contains("passwd"), "{}", open());
    fs::write(folder.path().join("passwd"), PASSWD).unwrap();
    assert!(open().contains("shadow"), "{}", open());
}
