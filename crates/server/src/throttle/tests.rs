//! Guesses from addresses, with a clock that the test owns.

use super::table::ENTRIES;
use countersign::testing::StillWorld;
use countersign::{Identity, KindSet, Peer, Verified};

use super::*;

/// A world, a throttle, and guesses from addresses.
struct Stage {
    throttle: Throttle,
    now: Moment,
}

impl Stage {
    fn new() -> Self {
        let now = Moment { steady_ms: 1_000_000, unix: 1_700_000_000 };
        Self { throttle: Throttle::new(ThrottleRules::default()), now }
    }

    fn wait(&mut self, ms: u64) {
        self.now.steady_ms += ms;
        self.now.unix += i64::try_from(ms / 1000).unwrap();
    }

    fn with<T>(&self, from: &str, look: impl FnOnce(&Scene<'_>) -> T) -> T {
        let mut peer = Peer::new("imap", KindSet::none());
        peer.remote = from.parse().ok();
        let world = StillWorld::default();
        look(&Scene { now: self.now, ..Scene::of(&peer, &world) })
    }

    /// A guess; how long it has to wait, if it does.
    fn guess(&self, user: &str, password: &str, from: &str, end: GuessEnd) -> Option<u64> {
        self.with(from, |scene| match self.throttle.admit(scene, user, Some(password.as_bytes())) {
            Ok(mark) => {
                self.throttle.ended(scene, user, mark, end);
                None
            }
            Err(denial) => {
                assert_eq!(denial.reason, Reason::Throttled);
                Some(u64::try_from(denial.retry_after.unwrap().as_millis()).unwrap())
            }
        })
    }

    fn wrong(&self, user: &str, password: &str, from: &str) -> Option<u64> {
        self.guess(user, password, from, GuessEnd::Wrong)
    }

    /// A guess at the second factor of somebody whose password is known.
    fn code(&self, user: &str, code: &str, from: &str, end: GuessEnd) -> Option<u64> {
        let proven = [Verified::vouch(Identity::named(user))];
        self.with(from, |scene| {
            let scene = &Scene { proven: &proven, ..*scene };
            match self.throttle.admit(scene, user, Some(code.as_bytes())) {
                Ok(mark) => {
                    self.throttle.ended(scene, user, mark, end);
                    None
                }
                Err(denial) => {
                    Some(u64::try_from(denial.retry_after.unwrap().as_millis()).unwrap())
                }
            }
        })
    }

    fn right(&self, user: &str, from: &str) -> Option<u64> {
        self.guess(user, "right", from, GuessEnd::Granted)
    }
}

#[test]
fn delays_double_up_to_below_postfix_s_patience() {
    let mut stage = Stage::new();
    for i in 0..4 {
        assert_eq!(stage.wrong("ada", &i.to_string(), "192.0.2.1"), None);
    }
    let mut delays = Vec::new();
    for i in 4..10 {
        assert_eq!(stage.wrong("ada", &i.to_string(), "192.0.2.1"), None, "guess {i}");
        let wait = stage.wrong("ada", "refused unseen", "192.0.2.1").unwrap();
        delays.push(wait);
        stage.wait(wait - 1);
        assert_eq!(stage.right("ada", "192.0.2.1"), Some(1), "also a right one");
        stage.wait(1);
    }
    assert_eq!(delays, [1000, 2000, 4000, 8000, 8000, 8000]);
    assert_eq!(stage.throttle.stats(stage.now).refused, 12);
    assert_eq!(stage.right("ada", "192.0.2.1"), None);
    assert_eq!(stage.wrong("ada", "x", "192.0.2.1"), None);
    assert_eq!(stage.right("ada", "192.0.2.1"), None, "whoever proved it begins anew");
}

#[tokio::test]
async fn a_wall_clock_that_steps_holds_nobody_longer_and_lets_nobody_go() {
    let folder = tempfile::tempdir().unwrap();
    let open = countersign_store::OpenOptions::create();
    let store = Store::open(folder.path().join("a.db"), open).await.unwrap();
    let steps =
        [(-86_400, "192.0.2.1"), (-600, "192.0.3.1"), (600, "192.0.4.1"), (86_400, "192.0.5.1")];
    for (step, from) in steps {
        let mut stage = Stage::new();
        let user = format!("ada{step}");
        for i in 0..9 {
            stage.wrong(&user, &i.to_string(), from);
        }
        stage.wait(7_900);
        stage.wrong(&user, "x", from);
        stage.throttle.share(&store, stage.now).await.unwrap();
        let wait = stage.right(&user, from).expect("delayed");
        stage.now.unix += step;
        stage.throttle.share(&store, stage.now).await.unwrap();
        assert!(stage.right(&user, from).is_some_and(|left| left >= wait), "{step}");
        // However often it looks, what was said before the step is heard once.
        for _ in 0..20 {
            stage.wait(500);
            stage.throttle.share(&store, stage.now).await.unwrap();
        }
        assert_eq!(stage.right(&user, from), None, "{step}");
        // What is counted from then on counts from one.
        for i in 0..5 {
            assert_eq!(stage.wrong(&user, &i.to_string(), from), None, "{step}, guess {i}");
            stage.throttle.share(&store, stage.now).await.unwrap();
        }
        assert!(stage.right(&user, from).is_some_and(|left| left <= 1000), "{step}");
    }
}

/// A token that comes without a name counts against where it comes from, and so does nobody's name.
#[test]
fn tokens_without_a_name_are_bounded_by_their_source() {
    let mut stage = Stage::new();
    for i in 0..20 {
        assert_eq!(stage.wrong("", &i.to_string(), "192.0.2.1"), None, "token {i}");
        assert_eq!(stage.wrong("", &i.to_string(), "192.0.2.1"), None, "it again");
    }
    assert_eq!(stage.wrong("", "one more", "192.0.2.1"), None);
    assert_eq!(stage.wrong("", "and one", "192.0.2.1"), Some(1000));
    assert_eq!(stage.right("", "192.0.2.1"), Some(1000), "a right one as well");
    assert_eq!(stage.right("ada", "192.0.2.1"), Some(1000), "it is the address that waits");
    assert_eq!(stage.right("", "198.51.100.7"), None, "elsewhere nobody does");
    stage.wait(1000);
    assert_eq!(stage.right("", "192.0.2.1"), None);
    assert_eq!(stage.wrong("", "x", "192.0.2.1"), None);
    assert_eq!(stage.right("", "192.0.2.1"), Some(2000), "a right one forgives nothing");
    // At the same time, no more than are free, each counted as if it were wrong.
    let begin = |n: usize| {
        let proof = n.to_string();
        stage.with("203.0.113.9", |scene| stage.throttle.admit(scene, "", Some(proof.as_bytes())))
    };
    assert_eq!((0..100).filter(|n| begin(*n).is_ok()).count(), 21);
    // Where all come from one address it says nothing, and the users behind it are not in each other's way.
    for i in 0..100 {
        assert_eq!(stage.wrong("", &i.to_string(), "127.0.0.1"), None);
    }
}

/// A slow hash takes its time: whoever sends a thousand guesses at once has no more of them looked at than
/// whoever sends them one after the other.
#[test]
fn guesses_at_the_same_time_are_no_way_around_the_delay() {
    let mut stage = Stage::new();
    let begin = |stage: &Stage, user: &str, password: &str, from: &str| {
        stage.with(from, |scene| stage.throttle.admit(scene, user, Some(password.as_bytes())).ok())
    };
    let end = |stage: &Stage, mark: u64, end: GuessEnd| {
        stage.with("192.0.2.1", |scene| stage.throttle.ended(scene, "ada", mark, end));
    };
    let at_once = |stage: &Stage| -> Vec<u64> {
        let all = (0..1000).filter_map(|n| begin(stage, "ada", &n.to_string(), "192.0.2.1"));
        all.collect()
    };
    let marks = at_once(&stage);
    assert_eq!(marks.len(), 5, "four are free, and the next one brings the delay");
    // Neither others nor elsewhere are meant, nor a program that opens many connections with one password.
    assert!(begin(&stage, "bob", "x", "192.0.2.1").is_some());
    assert!(begin(&stage, "ada", "x", "198.51.100.7").is_some());
    assert!((0..20).all(|_| begin(&stage, "eve", "same", "192.0.2.1").is_some()));
    marks.into_iter().for_each(|mark| end(&stage, mark, GuessEnd::Wrong));
    assert!(begin(&stage, "ada", "right", "192.0.2.1").is_none(), "within the delay");
    for wait in [1000, 2000, 4000] {
        stage.wait(wait);
        let marks = at_once(&stage);
        assert_eq!(marks.len(), 1, "one after each delay");
        end(&stage, marks[0], GuessEnd::Wrong);
    }
    stage.wait(8000);
    let right = begin(&stage, "ada", "right", "192.0.2.1").unwrap();
    end(&stage, right, GuessEnd::Granted);
    assert_eq!(at_once(&stage).len(), 5, "whoever proved it begins anew");
}

#[test]
fn nobody_is_locked_out_of_their_own_network() {
    let stage = Stage::new();
    for i in 0..200 {
        stage.wrong("ada", &i.to_string(), "198.51.100.7");
    }
    assert!(stage.right("ada", "198.51.100.7").is_some());
    assert_eq!(stage.right("ada", "192.0.2.1"), None);
}

#[test]
fn the_same_wrong_password_is_one_failure() {
    let stage = Stage::new();
    for _ in 0..100 {
        assert_eq!(stage.wrong("ada", "an old one", "192.0.2.1"), None);
    }
    let stats = stage.throttle.stats(stage.now);
    assert_eq!((stats.wrong, stats.repeated), (100, 99));
    // Of another user it is another.
    assert_eq!(stage.wrong("bob", "an old one", "192.0.2.1"), None);
    assert_eq!(stage.throttle.stats(stage.now).repeated, 99);
}

/// Many backends take `Ada` and ` ADA` for `ada`: another spelling is no other user to guess at.
#[test]
fn every_spelling_of_a_name_is_one_user() {
    let stage = Stage::new();
    for (i, name) in ["ada", "Ada", "ADA", " ada ", "aDa"].into_iter().enumerate() {
        assert_eq!(stage.wrong(name, &i.to_string(), "127.0.0.1"), None, "{name}");
    }
    for name in ["ada", "adA", "a\u{a0}da"] {
        assert!(stage.right(name, "127.0.0.1").is_some(), "{name}");
    }
    assert_eq!(stage.right("adä", "127.0.0.1"), None);
    assert_eq!(folded("Jürgen Ä"), "jürgenä");
    stage.throttle.forget(Some("Ada"), None);
    assert_eq!(stage.right("ADA", "127.0.0.1"), None);
}

#[test]
fn an_address_that_tries_many_users_is_delayed_and_so_is_a_network() {
    let stage = Stage::new();
    for i in 0..21 {
        assert_eq!(stage.wrong(&format!("user{i}"), "spring", "192.0.2.1"), None, "{i}");
    }
    assert!(stage.wrong("user99", "spring", "192.0.2.1").is_some());
    assert_eq!(stage.wrong("user99", "spring", "192.0.2.2"), None, "a neighbour");
    let stage = Stage::new();
    for i in 0..101 {
        let from = format!("192.0.2.{}", i % 50);
        assert_eq!(stage.wrong(&format!("user{i}"), "spring", &from), None, "{i}");
    }
    assert!(stage.wrong("user999", "spring", "192.0.2.250").is_some());
    assert_eq!(stage.wrong("user999", "spring", "192.0.3.1"), None);
    // One host has a whole /64.
    let stage = Stage::new();
    for i in 0..21 {
        stage.wrong(&format!("user{i}"), "x", &format!("2001:db8:1:2::{i:x}"));
    }
    assert!(stage.wrong("user99", "x", "2001:db8:1:2:ffff::1").is_some());
}

#[test]
fn who_is_at_home_in_a_network_does_not_pay_for_the_neighbours() {
    let stage = Stage::new();
    assert_eq!(stage.right("ada", "192.0.2.9"), None);
    for i in 0..30 {
        stage.wrong(&format!("user{i}"), "spring", "192.0.2.1");
    }
    assert!(stage.right("bob", "192.0.2.1").is_some());
    assert_eq!(stage.right("ada", "192.0.2.1"), None);
}

#[test]
fn behind_a_server_that_does_not_tell_only_users_are_delayed() {
    let stage = Stage::new();
    for i in 0..300 {
        assert_eq!(stage.wrong(&format!("user{i}"), "x", "127.0.0.1"), None);
    }
    let stage = Stage::new();
    for i in 0..50 {
        stage.wrong("ada", &i.to_string(), "");
    }
    // Whoever it was, from wherever: the shortest delay that slows a guesser.
    let wait = stage.right("ada", "").unwrap();
    assert!(wait <= 2000, "{wait}");
    assert_eq!(stage.right("bob", ""), None);
}

#[test]
fn it_forgets_after_a_while_and_when_told() {
    let mut stage = Stage::new();
    for i in 0..6 {
        stage.wrong("ada", &i.to_string(), "192.0.2.1");
    }
    assert!(stage.right("ada", "192.0.2.1").is_some());
    stage.throttle.forget(Some("ada"), None);
    assert_eq!(stage.wrong("ada", "x", "192.0.2.1"), None);
    for i in 0..4 {
        stage.wrong("ada", &i.to_string(), "192.0.2.1");
    }
    stage.wait(16 * 60 * 1000);
    for i in 10..14 {
        assert_eq!(stage.wrong("ada", &i.to_string(), "192.0.2.1"), None);
    }
}

#[test]
fn there_is_a_bound_to_what_is_held() {
    let mut stage = Stage::new();
    for i in 0..ENTRIES + 1000 {
        if i % 1000 == 0 {
            stage.wait(1);
        }
        stage.wrong(&format!("user{i}"), "x", "127.0.0.1");
    }
    assert!(stage.throttle.users.read().len() <= ENTRIES);
}

#[tokio::test]
async fn what_one_node_counts_the_other_knows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let open = countersign_store::OpenOptions::create;
    let (one, two) =
        (Store::open(&path, open()).await.unwrap(), Store::open(&path, open()).await.unwrap());
    let (here, there) = (Stage::new(), Stage::new());
    for i in 0..3 {
        here.wrong("ada", &i.to_string(), "192.0.2.1");
        there.wrong("ada", &format!("{i} there"), "192.0.2.1");
    }
    assert_eq!(here.right("eve", "192.0.2.1"), None);
    here.throttle.share(&one, here.now).await.unwrap();
    there.throttle.share(&two, there.now).await.unwrap();
    here.throttle.share(&one, here.now).await.unwrap();
    // Three and three, of which four are free.
    assert_eq!(here.wrong("ada", "one more", "192.0.2.1"), None);
    assert!(here.wrong("ada", "another", "192.0.2.1").is_some());
    here.throttle.share(&one, here.now).await.unwrap();
    there.throttle.share(&two, there.now).await.unwrap();
    assert!(there.right("ada", "192.0.2.1").is_some());
    let held = one.list_throttles(None, 10).await.unwrap();
    let user = held.iter().find(|row| row.user == "ada").unwrap();
    assert_eq!((user.failures, &*user.source), (7, "192.0.2.1"));
    // Cleared on one, forgotten on the other.
    let mut changes = two.changes();
    assert!(one.clear_throttles(Some("ada"), None).await.unwrap() > 0);
    two.refresh().await.unwrap();
    changes.recv().await.unwrap().iter().for_each(|change| there.throttle.hear(change));
    assert_eq!(there.right("ada", "192.0.2.1"), None);
}

/// Who knows the password has a million codes to try, and as many addresses as money buys.
#[tokio::test]
async fn codes_are_held_against_the_user_wherever_they_come_from() {
    let mut stage = Stage::new();
    assert_eq!(stage.right("ada", "192.0.2.1"), None);
    let (mut tried, mut refused) = (0_u32, 0_u32);
    // A day, a guess a minute, each from another network.
    for minute in 0..24 * 60_u32 {
        let from = format!("198.{}.{}.7", 18 + (minute >> 8), minute & 255);
        match stage.code("ada", &format!("{minute:06}"), &from, GuessEnd::Wrong) {
            None => tried += 1,
            Some(wait) => {
                assert!(wait <= 5 * 60 * 1000, "{wait}");
                refused += 1;
            }
        }
        stage.wait(60_000);
    }
    assert!((200..350).contains(&tried), "{tried} of {}", tried + refused);
    // Passwords are not held up by that, another user is not, and neither is this one at home.
    assert!(stage.code("ada", "1", "203.0.113.1", GuessEnd::Wrong).is_some());
    assert_eq!(stage.wrong("ada", "x", "203.0.113.1"), None);
    assert_eq!(stage.code("bob", "1", "203.0.113.1", GuessEnd::Wrong), None);
    assert_eq!(stage.code("ada", "2", "192.0.2.9", GuessEnd::Wrong), None);

    // Another node knows, and so does an administrator, who can clear it.
    let folder = tempfile::tempdir().unwrap();
    let open = countersign_store::OpenOptions::create;
    let store = Store::open(folder.path().join("a.db"), open()).await.unwrap();
    stage.throttle.share(&store, stage.now).await.unwrap();
    let mut other = Stage::new();
    other.now = stage.now;
    other.throttle.share(&store, other.now).await.unwrap();
    assert!(other.code("ada", "3", "203.0.113.2", GuessEnd::Wrong).is_some());
    let held = store.list_throttles(None, 10_000).await.unwrap();
    assert!(held.iter().any(|row| row.user == "ada" && row.source == "anywhere"));
    let source = source_of("anywhere");
    assert_eq!(store.clear_throttles(Some("ada"), source.as_deref()).await.unwrap(), 1);
    other.throttle.forget(Some("ada"), source.as_deref());
    assert_eq!(other.code("ada", "3", "203.0.113.2", GuessEnd::Wrong), None);

    // The right code, from home, ends it.
    assert_eq!(stage.code("ada", "right", "192.0.2.1", GuessEnd::Granted), None);
    assert_eq!(stage.code("ada", "4", "203.0.113.3", GuessEnd::Wrong), None);
}
