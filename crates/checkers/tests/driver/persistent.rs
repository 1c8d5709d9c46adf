//! Drivers that stay: `docs/protocols/driver.md`, by its statements.

use std::sync::Arc;
use std::time::Duration;

use countersign::testing::{StillWorld, now_or_never};
use countersign::{
    Answers, CredentialKind, Identity, KindSet, Known, Peer, Portal, Reply, Request,
};
use countersign_checkers::driver::{
    Belief, DriverLimits, Persistent, PersistentChecker, PersistentSettings,
};
use countersign_checkers::one::{Failure, Outcome};
use countersign_testkit::{Fixture, Proof, conforms_async};

use crate::scripts::Scripts;
use crate::{ask, broken, failure, launcher, patient, refusal, reply};

/// Python's part of every driver here: `say`, `read`, and `logins` for each line.
const PYTHON: &str = r#"#!/usr/bin/env python3
import json, os, sys, time
def say(kind, **more):
    sys.stdout.write(json.dumps({"type": kind, **more}) + "\n")
    sys.stdout.flush()
def read():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)
hello = read()
"#;

fn driver(scripts: &Scripts, name: &str, body: &str, limits: DriverLimits) -> Persistent {
    let program = scripts.write(name, &format!("{PYTHON}{body}"));
    let settings = PersistentSettings { program, name: "d".parse().unwrap(), limits };
    Persistent::new(settings, launcher())
}

/// Says hello, and answers each login as the body has it.
fn answering(scripts: &Scripts, name: &str, body: &str) -> Persistent {
    driver(scripts, name, &loops(body), patient())
}

fn loops(body: &str) -> String {
    let body = body.replace('\n', "\n    ");
    format!("say('hello', version=1)\nwhile True:\n    m = read()\n    {body}\n")
}

/// `swordfish` is right; other words are what is to happen.
const WORDS: &str = r#"if m["type"] != "login": continue
if m["secret"] == "swordfish": say("accept", id=m["id"])
elif m["secret"] == "groups": say("accept", id=m["id"], groups=["*100", "7"], stored="x")
elif m["secret"] == "fail": say("fail", id=m["id"], reason="the directory\nis away")
elif m["secret"] == "crash": os._exit(3)
elif m["secret"] == "garbage": print("{", flush=True)
elif m["secret"] == "other": say("accept", id=m["id"] + 100)
elif m["secret"] == "twice": say("hello", version=1)
elif m["secret"] == "long": print("x" * 300000, flush=True)
elif m["secret"] == "pid": say("refuse", id=m["id"], reason=str(os.getpid()))
elif m["secret"] == "show": say("refuse", id=m["id"], reason=json.dumps(m, sort_keys=True))
else: say("refuse", id=m["id"], reason="wrong")"#;

#[tokio::test]
async fn one_process_answers_many() {
    let scripts = Scripts::new();
    let words = answering(&scripts, "words", WORDS);
    assert_eq!(reply(&words, "swordfish").await, "-");
    assert_eq!(reply(&words, "groups").await, "d alice x *100 7");
    assert_eq!(refusal(&words, "s").await, "wrong");
    assert_eq!(broken(&words, "fail").await, "the directory is away");
    let pid = refusal(&words, "pid").await;
    assert_eq!(refusal(&words, "pid").await, pid);
    let shown = refusal(&words, "show").await;
    assert!(
        shown.contains(r#""asks": []"#)
            && shown.contains(r#""user": "alice""#)
            && !shown.contains("stored"),
        "{shown}"
    );
    assert_eq!(refusal(&words, "").await, "the secret is empty");
    assert!(refusal(&words, &b"\xff"[..]).await.contains("not UTF-8"));
    // Any text crosses, also what XML cannot hold.
    assert_eq!(refusal(&words, &b"\0\x01"[..]).await, "wrong");
}

#[tokio::test]
async fn answers_come_in_any_order() {
    let scripts = Scripts::new();
    // The first login is answered when the second has come.
    let body = "if m['type'] == 'login':\n    if m['id'] == 1: first = m['id']\n    else:\n        \
                say('refuse', id=m['id'], reason='second')\n        say('refuse', id=first, reason='first')";
    let pairs = answering(&scripts, "pairs", body);
    let (first, second) = tokio::join!(refusal(&pairs, "a"), refusal(&pairs, "b"));
    assert_eq!((&*first, &*second), ("first", "second"));
}

#[tokio::test]
async fn a_crash_is_one_refused_login_and_a_restart() {
    let scripts = Scripts::new();
    for (word, why) in [
        ("crash", "it ended before it answered"),
        ("garbage", "it ended before it answered"),
        ("other", "it ended before it answered"),
        ("twice", "it ended before it answered"),
        ("long", "it ended before it answered"),
    ] {
        let words = answering(&scripts, word, WORDS);
        assert_eq!(reply(&words, "swordfish").await, "-");
        assert_eq!(broken(&words, word).await, why, "{word}");
        // Not at once; then it is there again.
        loop {
            match ask(&words, "swordfish").await.outcome {
                Outcome::Accepted(_) => break,
                Outcome::Failed(Failure::Broken(why)) => {
                    assert!(why.contains("again in"), "{why}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_says_no_hello() {
    let scripts = Scripts::new();
    let hasty = DriverLimits { time: Duration::from_millis(300), ..patient() };
    for (name, body, limits, why) in [
        ("silent", "time.sleep(1000)\n", hasty, "no hello within 300 ms"),
        ("future", "say('hello', version=2)\nread()\n", patient(), "hello in version 1"),
        ("early", "say('accept', id=1)\nread()\n", patient(), "hello in version 1"),
        ("gone", "sys.exit(7)\n", patient(), "status 7"),
    ] {
        let quiet = driver(&scripts, name, body, limits);
        let said = broken(&quiet, "x").await;
        assert!(said.contains(why), "{name}: {said}");
        scripts.until_gone(name).await;
    }
    let program = scripts.write("missing", "#!/no/such/interpreter\n");
    let settings = PersistentSettings { program, name: "d".parse().unwrap(), limits: patient() };
    let missing = Persistent::new(settings, launcher());
    assert!(broken(&missing, "x").await.contains("cannot be executed"));
}

#[tokio::test]
async fn a_login_that_takes_too_long_is_cancelled() {
    let scripts = Scripts::new();
    let limits = DriverLimits { time: Duration::from_millis(2000), processes: 1, ..patient() };
    // It understands: the login is over, its place is free, and the process is the same.
    let folder = scripts.folder().display();
    let body = format!(
        "if m['type'] == 'cancel':\n    open('{folder}/cancelled', 'w').write(str(m['id']))\n    \
         say('cancelled', id=m['id'])\nelif m['secret'] == 'pid':\n    say('refuse', id=m['id'], reason=str(os.getpid()))"
    );
    let polite = driver(&scripts, "polite", &loops(&body), limits);
    let pid = refusal(&polite, "pid").await;
    assert_eq!(failure(&polite, "x").await, Failure::Late(2000));
    assert_eq!(refusal(&polite, "pid").await, pid);
    assert_eq!(scripts.read("cancelled"), "2");
    // Whoever leaves cancels, too.
    {
        let mut login = Box::pin(ask(&polite, "x"));
        assert!(now_or_never(&mut login).is_none());
    }
    assert_eq!(refusal(&polite, "pid").await, pid);
    // It does not: it is ended.
    let stubborn = driver(&scripts, "stubborn", &loops("pass"), limits);
    assert_eq!(failure(&stubborn, "x").await, Failure::Late(2000));
    scripts.until_gone("stubborn").await;
}

#[tokio::test]
async fn one_that_does_not_read() {
    let scripts = Scripts::new();
    let limits = DriverLimits { time: Duration::from_millis(2000), ..patient() };
    let deaf = driver(&scripts, "deaf", "say('hello', version=1)\ntime.sleep(1000)\n", limits);
    assert_eq!(failure(&deaf, &*"x".repeat(1_000_000)).await, Failure::Late(2000));
    scripts.until_gone("deaf").await;
}

#[tokio::test]
async fn it_goes_when_it_is_let_go() {
    let scripts = Scripts::new();
    let words = answering(&scripts, "words", WORDS);
    assert_eq!(reply(&words, "swordfish").await, "-");
    drop(words);
    scripts.until_gone("words").await;
}

/// Asks for a code after the password.
const CODE: &str = r#"if m["type"] == "login":
    if m["user"] != "ada" or m["secret"] != "countess": say("refuse", id=m["id"], reason="no")
    elif "otp" not in m["asks"]: say("refuse", id=m["id"], reason="nobody to ask")
    else: say("ask", id=m["id"], round={"title": "Bank", "questions": [{"name": "otp", "kind": "otp", "prompt": "Code"}]})
elif m["type"] == "answers":
    if m["answers"]["otp"] == "123456": say("accept", id=m["id"])
    else: say("refuse", id=m["id"], reason="wrong code")
elif m["type"] == "cancel": say("cancelled", id=m["id"])"#;

fn checker(driver: Persistent) -> PersistentChecker {
    let belief = Belief::of("d".parse().unwrap());
    PersistentChecker::new("d", driver, belief, None, [CredentialKind::Otp])
}

#[tokio::test]
async fn it_may_ask_before_it_answers() {
    let scripts = Scripts::new();
    let checker = checker(answering(&scripts, "code", CODE));
    let portal = Portal::new(()).checked_by(checker);
    let world = StillWorld::default();
    let login = async |portal: &Portal<()>, peer: Peer, code: &str| {
        let answers = Answers::new()
            .with("username", "ada")
            .with("password", "countess")
            .with("otp", code.to_owned());
        let request = Request::from_peer(Arc::new(peer));
        let who = portal.authenticate(request, &mut Known::new(answers), &world).await;
        who.map(|who| (*who).clone()).map_err(|error| format!("{error:?}"))
    };
    let able = || Peer::new("x", KindSet::all());
    assert_eq!(login(&portal, able(), "123456").await, Ok(Identity::named("ada")));
    assert!(login(&portal, able(), "654321").await.unwrap_err().contains("wrong code"));
    // A driver sees whom it cannot ask, and asks nothing that it may not.
    let poor = KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase);
    let request = Request::from_peer(Arc::new(Peer::new("imap", poor))).by("password");
    let (mut conversation, reply) = portal.begin(request, &world).await.unwrap();
    let Reply::Ask(round) = reply else { panic!("{reply:?}") };
    let answers = Answers::new().with("username", "ada").with("password", "countess");
    match conversation.answer(round.number, answers, &world).await.unwrap() {
        Reply::Denied(denial) => assert!(format!("{denial:?}").contains("nobody to ask")),
        other => panic!("{other:?}"),
    }
    let silent = PersistentChecker::new(
        "d",
        answering(&scripts, "silent", CODE),
        Belief::of("d".parse().unwrap()),
        None,
        [],
    );
    let portal = Portal::new(()).checked_by(silent);
    let error = login(&portal, able(), "123456").await.unwrap_err();
    assert!(error.contains("nobody to ask"), "{error}");
    let insists = answering(&scripts, "insists", &CODE.replace("\"otp\" not in", "\"none\" in"));
    let belief = Belief::of("d".parse().unwrap());
    let insists = PersistentChecker::new("d", insists, belief, None, []);
    let portal = Portal::new(()).checked_by(insists);
    let error = login(&portal, able(), "123456").await.unwrap_err();
    assert!(error.contains("what it may not"), "{error}");
}

#[tokio::test]
async fn it_keeps_the_rules_of_checkers() {
    let scripts = Scripts::new();
    let body = r#"if m["type"] == "cancel": say("cancelled", id=m["id"])
elif m["user"] == "ada" and m["secret"] == "countess": say("accept", id=m["id"])
else: say("refuse", id=m["id"])"#;
    let checker = checker(answering(&scripts, "rules", body));
    let login = |user: &str, password: &str| {
        Answers::new().with("username", user.to_owned()).with("password", password.to_owned())
    };
    let proof = Proof::of("password", "ada", login("ada", "countess"))
        .wrong(login("ada", "babbage"))
        .unknown(login("nobody", "countess"));
    let report = conforms_async(&checker, &Fixture::new().with(proof)).await;
    assert!(report.is_clean(), "{report}");
}
