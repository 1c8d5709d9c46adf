//! The `file` checker.

use std::fs::{self, FileTimes};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign::{FaultKind, PasswordStore, Public, Reason, Secret, Verdict};
use countersign_checkers::file::File;
use countersign_checkers::hash::{Accept, Recipe};
use countersign_checkers::passwd_file::Format;
use countersign_checkers::pool::HashPool;
use countersign_testkit::{Fixture, OwnedWorld, Proof, assert_conforms, conforms_async};

use crate::stage::{self, End, RECIPE, Talk, hash, login};

struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
    pool: Arc<HashPool>,
}

impl Place {
    fn holding(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, text).unwrap();
        Self { folder, path, pool: stage::pool() }
    }

    /// Looking at every login.
    fn file(&self) -> File {
        self.file_accepting(Accept { allow_plain: true, ..Accept::default() })
    }

    fn file_accepting(&self, accept: Accept) -> File {
        let pool = Arc::clone(&self.pool);
        let file = File::open(&self.path, Format::default(), accept, pool).unwrap();
        file.looking_every(Duration::ZERO)
    }

    /// Puts another file in the place of this one, as editors do.
    fn replace(&self, text: &str) {
        let new = self.folder.path().join("users.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.path).unwrap();
    }
}

/// `Ok(true)`: let in. `Ok(false)`: wrong or unknown.
async fn check(file: &File, user: &str, password: &str) -> Result<bool, FaultKind> {
    let password = Secret::from(password);
    let checked = tokio::time::timeout(stage::DEADLINE, file.check(user, &password));
    match checked.await.expect("in time") {
        Ok(Verdict::Is(who)) => {
            assert_eq!(who.subject.name(), Some(user));
            Ok(true)
        }
        Ok(Verdict::Not(_)) => Ok(false),
        Err(fault) => Err(fault.kind()),
    }
}

fn fixture() -> Fixture {
    let proof = Proof::of("password", "ada", login("ada", "countess"))
        .wrong(login("ada", "babbage"))
        .unknown(login("nobody", "countess"))
        .disabled(login("locked", "countess"));
    Fixture::new().with(proof)
}

#[test]
fn conforms_without_a_runtime() {
    let place = Place::holding("ada:{PLAIN}countess\nlocked:*\n");
    assert_conforms(&place.file().checker("file"), &fixture());
}

#[tokio::test]
async fn conforms_with_slow_hashes() {
    let text = format!("ada:{}\nlocked:!{0}\n", hash(RECIPE, "countess"));
    let file = Place::holding(&text);
    let report = conforms_async(&file.file().checker("file"), &fixture()).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn says_what_the_line_says() {
    let place =
        Place::holding("ada:{PLAIN}x:1000:users:Ada L.:/home/ada:/bin/sh:mail=a@x mail=b@x\n");
    let file = place.file();
    assert_eq!((file.len(), file.is_empty()), (1, false));
    let Ok(Verdict::Is(who)) = file.check("ada", &Secret::from("x")).await else { panic!() };
    let expected = [
        ("uid", "1000"),
        ("gid", "users"),
        ("gecos", "Ada L."),
        ("home", "/home/ada"),
        ("shell", "/bin/sh"),
        ("mail", "a@x"),
    ];
    for (name, value) in expected {
        assert_eq!(who.attribute(name), Some(value));
    }
    assert_eq!(who.attributes["mail"], ["a@x", "b@x"]);
}

#[tokio::test]
async fn every_way_to_change_a_file_is_noticed() {
    let place = Place::holding("ada:{PLAIN}one\n");
    let file = place.file();
    let times = |seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::options()
            .write(true)
            .open(&place.path)
            .unwrap()
            .set_times(FileTimes::new().set_modified(time))
    };
    let mut before = "one";
    let mut changed_to = async |now: &'static str, how: &str| {
        assert_eq!(check(&file, "ada", now).await, Ok(true), "{how}");
        let old = std::mem::replace(&mut before, now);
        assert_eq!(check(&file, "ada", old).await, Ok(false), "{how}");
    };
    fs::write(&place.path, "ada:{PLAIN}three\n").unwrap();
    changed_to("three", "in place").await;
    // The same size within the same second, and most likely within one tick of the clock.
    place.replace("ada:{PLAIN}seven\n");
    changed_to("seven", "replaced").await;
    fs::write(&place.path, "ada:{PLAIN}eight\n").unwrap();
    changed_to("eight", "in place, the same size").await;
    times(1_000_000_000).unwrap();
    assert_eq!(check(&file, "ada", "eight").await, Ok(true));
    place.replace("ada:{PLAIN}fifty\n");
    times(5).unwrap();
    changed_to("fifty", "by an older file").await;
    // A time that is put back hides nothing.
    fs::write(&place.path, "ada:{PLAIN}sixty\n").unwrap();
    times(5).unwrap();
    changed_to("sixty", "in place, its time put back").await;
    let other = place.folder.path().join("other");
    fs::write(&other, "ada:{PLAIN}ninety\n").unwrap();
    fs::remove_file(&place.path).unwrap();
    std::os::unix::fs::symlink(&other, &place.path).unwrap();
    changed_to("ninety", "by a link").await;
    fs::write(&other, "ada:{PLAIN}eighty\n").unwrap();
    changed_to("eighty", "behind a link").await;
}

#[tokio::test]
async fn changes_show_at_the_next_look() {
    let place = Place::holding("ada:{PLAIN}one\n");
    let file = place.file().looking_every(Duration::from_secs(3600));
    place.replace("ada:{PLAIN}two\n");
    assert_eq!(check(&file, "ada", "one").await, Ok(true));
    let file = file.looking_every(Duration::ZERO);
    assert_eq!(check(&file, "ada", "one").await, Ok(false));
    assert_eq!(check(&file, "ada", "two").await, Ok(true));
}

#[tokio::test]
async fn nobody_gets_in_by_a_file_that_cannot_be_read() {
    let text = "ada:{PLAIN}one\n";
    let place = Place::holding(text);
    let file = place.file();
    let refused = async |what: &str| {
        for user in ["ada", "nobody"] {
            let found = check(&file, user, "one").await;
            assert_eq!(found, Err(FaultKind::Unavailable), "{user}, {what}");
        }
    };
    fs::remove_file(&place.path).unwrap();
    refused("missing").await;
    fs::create_dir(&place.path).unwrap();
    refused("a folder").await;
    fs::remove_dir(&place.path).unwrap();
    let socket = UnixListener::bind(&place.path).unwrap();
    refused("a socket").await;
    drop(socket);
    place.replace(text);
    assert_eq!(check(&file, "ada", "one").await, Ok(true));
    fs::File::create(&place.path).unwrap();
    refused("truncated").await;
    fs::File::create(&place.path).unwrap().set_len((1 << 30) + 1).unwrap();
    refused("more than a gigabyte").await;
    place.replace(text);
    assert_eq!(check(&file, "ada", "one").await, Ok(true));
    assert_eq!(check(&file, "nobody", "one").await, Ok(false));
    // Nobody at all is something that a file can say.
    place.replace("# nobody\n");
    assert_eq!(check(&file, "ada", "one").await, Ok(false));
}

#[test]
fn a_file_that_cannot_be_read_is_not_opened() {
    let place = Place::holding("");
    let open = |path: &PathBuf| {
        File::open(path, Format::default(), Accept::default(), Arc::clone(&place.pool))
    };
    let empty = open(&place.path).unwrap_err().to_string();
    assert!(empty.contains("users: it is empty"), "{empty}");
    let missing = open(&place.path.with_file_name("none")).unwrap_err();
    assert_eq!(missing.kind(), FaultKind::Unavailable);
    assert!(missing.to_string().contains("cannot read the password file"), "{missing}");
}

/// Unknown, locked and wrong: the same rounds, the same word, and as many hashes.
#[tokio::test]
async fn unknown_users_cost_what_wrong_passwords_cost() {
    let slow = hash(RECIPE, "one");
    let place = Place::holding(&format!("ada:{slow}\nbob:{slow}\nlocked:*\nodd:{{PLAIN}}x\n"));
    let checker = place.file().checker("file");
    let world = OwnedWorld::default();
    let mut seen = Vec::new();
    for (user, reason) in [
        ("ada", Reason::WrongCredential),
        ("locked", Reason::WrongCredential),
        ("nobody", Reason::UnknownUser),
        ("Ada", Reason::UnknownUser),
    ] {
        let before = place.pool.computed();
        let mut talk = Talk::with(&checker, "password", stage::anybody(), &world).await;
        let round = format!("{:?}", talk.reply.asked().round);
        // Also the password of the user whose hash is the decoy.
        let password = if user == "ada" { "two" } else { "one" };
        let said = talk.say(login(user, password)).await.unwrap();
        assert_eq!(said.denied().reason, reason, "{user}");
        assert_eq!(said.denied().public(), Public::Denied);
        seen.push((round, place.pool.computed() - before));
    }
    assert!(seen.iter().all(|one| one.1 == 1 && *one == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn in_a_file_of_cheap_hashes_nobody_waits_for_a_slow_one() {
    let place = Place::holding("ada:{PLAIN}one\nbob:{PLAIN}two\nlocked:*\nother:!\nthird:*\n");
    let file = place.file();
    for user in ["ada", "locked", "nobody"] {
        assert_eq!(check(&file, user, "no").await, Ok(false));
    }
    assert_eq!(place.pool.computed(), 0);
}

#[tokio::test]
async fn clear_text_only_where_it_is_allowed() {
    let place = Place::holding(
        "ada:{PLAIN}one\nbob:{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=\n",
    );
    let strict = place.file_accepting(Accept::default());
    assert_eq!(check(&strict, "ada", "one").await, Ok(false));
    assert_eq!(check(&strict, "ada", "{PLAIN}one").await, Ok(false));
    assert_eq!(check(&strict, "bob", "secret").await, Ok(true));
    assert_eq!(check(&place.file(), "ada", "one").await, Ok(true));
}

#[tokio::test]
async fn a_bad_line_refuses_its_own_user() {
    let text = "ada:{PLAIN}one\nbob:{SHA257}x\neve\n\u{7f}x:{PLAIN}x\ncarol:{PLAIN}\ndave:{PLAIN}two\nada:{PLAIN}other\n";
    let place = Place::holding(text);
    let file = place.file();
    for (user, password, found) in [
        ("ada", "one", true),
        ("ada", "other", false),
        ("bob", "x", false),
        ("eve", "", false),
        ("carol", "", false),
        ("dave", "two", true),
    ] {
        assert_eq!(check(&file, user, password).await, Ok(found), "{user} {password}");
    }
}

/// What refuses a login in Dovecot must not allow one here.
#[tokio::test]
async fn restrictions_that_nobody_enforces_refuse() {
    let place = Place::holding(
        "ada:{PLAIN}one::::::allow_nets=127.0.0.1\nbob:{PLAIN}one::::::mail=x nologin\ncarol:{PLAIN}one::::::mail=nologin\n",
    );
    let file = place.file();
    for (user, field) in [("ada", "`allow_nets`"), ("bob", "`nologin`")] {
        let Ok(Verdict::Not(denial)) = file.check(user, &Secret::from("one")).await else {
            panic!()
        };
        assert_eq!(denial.reason, Reason::NotAllowed);
        assert!(denial.detail.contains(field), "{denial}");
        // Not to whoever does not know the password.
        let Ok(Verdict::Not(denial)) = file.check(user, &Secret::from("no")).await else {
            panic!()
        };
        assert_eq!(denial.reason, Reason::WrongCredential);
    }
    assert_eq!(check(&file, "carol", "one").await, Ok(true));
}

#[tokio::test]
async fn a_full_pool_is_no_pass_and_no_refusal() {
    let mut place = Place::holding(&format!("ada:{}\nbob:{{PLAIN}}two\n", hash(RECIPE, "one")));
    place.pool = stage::pool_with_room_for(0);
    let file = place.file();
    for (user, password) in [("ada", "one"), ("ada", "two")] {
        assert_eq!(check(&file, user, password).await, Err(FaultKind::Overloaded));
    }
    // Cheap logins do not notice.
    assert_eq!(check(&file, "bob", "two").await, Ok(true));
    place.pool.close();
    assert_eq!(check(&file, "ada", "one").await, Err(FaultKind::Unavailable));
}

/// Every family that the file may hold, in one file.
#[tokio::test]
async fn all_schemes_side_by_side() {
    let recipes = [
        RECIPE,
        Recipe::Bcrypt { cost: 4 },
        Recipe::Sha256Crypt { rounds: 1000 },
        Recipe::Sha512Crypt { rounds: 1000 },
        Recipe::SaltedSha256,
        Recipe::SaltedSha512,
    ];
    let line =
        |(n, recipe): (usize, &Recipe)| format!("u{n}:{}\n", hash(*recipe, &format!("p{n}")));
    let place = Place::holding(&recipes.iter().enumerate().map(line).collect::<String>());
    let file = place.file();
    for n in 0..recipes.len() {
        assert_eq!(check(&file, &format!("u{n}"), &format!("p{n}")).await, Ok(true), "{n}");
        assert_eq!(check(&file, &format!("u{n}"), "p").await, Ok(false), "{n}");
    }
}

/// Reading it takes a while: logins go on meanwhile, and whoever looks waits for what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_lines() {
    let lines = |password: &str| -> String {
        (0..100_000)
            .map(|n| format!("user{n}:{{PLAIN}}{password}{n}:{n}:100::/home/{n}\n"))
            .collect()
    };
    let place = Place::holding(&lines("a"));
    let file = Arc::new(place.file());
    assert_eq!(file.len(), 100_000);
    assert_eq!(check(&file, "user99999", "a99999").await, Ok(true));
    place.replace(&lines("b"));
    let beside: Vec<_> = (0..8)
        .map(|n| {
            let file = Arc::clone(&file);
            tokio::spawn(async move {
                let (user, old, new) = (format!("user{n}"), format!("a{n}"), format!("b{n}"));
                // Either file, and never both or a mixture.
                let (old, new) = (check(&file, &user, &old).await, check(&file, &user, &new).await);
                (old, new)
            })
        })
        .collect();
    for one in beside {
        let (old, new) = one.await.unwrap();
        assert!(old.is_ok() && new.is_ok());
    }
    // All looks are over, so this one is new.
    assert_eq!(check(&file, "user7", "a7").await, Ok(false));
    assert_eq!(check(&file, "user7", "b7").await, Ok(true));
}
