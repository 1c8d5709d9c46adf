//! Servers that misbehave, played here. How real ones behave is in `tests/directory`.

use super::*;

mod played;

use played::{
    Played, Request, bind_response, element, search_done, search_entry, start_tls_response,
};

/// Nothing here takes a second; a machine that is busy may.
const PATIENCE: Duration = Duration::from_secs(60);

fn person(uid: &[&str]) -> Entry {
    let values = |values: &[&str]| values.iter().map(|v| v.as_bytes().to_vec()).collect();
    let dn = format!("uid={},dc=example", uid[0]);
    let member = values(&["cn=staff,ou=g,dc=example", "ou=elsewhere,dc=example"]);
    let attributes = [("uid".into(), values(uid)), ("memberOf".into(), member)];
    Entry { dn, attributes: attributes.into() }
}

/// A directory as it should be, with these entries for whatever is looked for, and the password `right`.
fn good(entries: Vec<Entry>) -> impl Fn(u8, &Request) -> Option<Vec<u8>> {
    move |id, request| match request {
        Request::Bind { password, .. } => {
            let right = *password == Secret::from("right");
            Some(bind_response(id, if right { 0 } else { 49 }))
        }
        Request::Search => {
            let entries = entries.iter().flat_map(|entry| search_entry(id, entry));
            Some(entries.chain(search_done(id, 0)).collect())
        }
        Request::StartTls => Some(start_tls_response(id, 2)),
        Request::Unbind => None,
    }
}

fn options(servers: &[&str]) -> LdapOptions {
    let place =
        Place { base: "dc=example".into(), scope: Scope::Subtree, filter: "(uid={login})".into() };
    LdapOptions {
        servers: servers.iter().map(|url| vec![(*url).to_owned()]).collect(),
        starttls: false,
        ca: None,
        insecure: false,
        method: Method::SearchAndBind { identity: None, place, decoy: None },
        name: "uid".into(),
        groups: Groups::Attribute { attribute: "memberOf".into(), name: "cn".into() },
        labels: Vec::new(),
        attributes: BTreeMap::from([("login".into(), "uid".into())]),
        timeout: PATIENCE,
        deadline: PATIENCE,
        connections: 4,
        idle: PATIENCE,
    }
}

async fn login(ldap: &Ldap, user: &str, password: &str) -> Result<Verdict, Fault> {
    let password = Secret::from(password);
    timeout(PATIENCE, ldap.check(user, &password)).await.expect("in time")
}

#[track_caller]
fn refused(verdict: Result<Verdict, Fault>, reason: Reason, part: &str) {
    let Ok(Verdict::Not(denial)) = verdict else { panic!("{verdict:?}") };
    assert!(denial.reason == reason && denial.detail.contains(part), "{denial}");
}

#[track_caller]
fn broken(verdict: Result<Verdict, Fault>, kind: FaultKind, part: &str) {
    let Err(fault) = verdict else { panic!("{verdict:?}") };
    assert!(fault.kind() == kind && fault.to_string().contains(part), "{fault}");
}

#[tokio::test]
async fn a_right_password_lets_in_by_the_directory_s_name() {
    let server = Played::start(good(vec![person(&["ada"])])).await;
    let ldap = Ldap::new(options(&[&server.url])).unwrap();
    let Ok(Verdict::Is(who)) = login(&ldap, "ADA", "right").await else { panic!() };
    assert_eq!(who.subject.name(), Some("ada"));
    assert_eq!(who.groups.keys().collect::<Vec<_>>(), ["staff"]);
    assert_eq!(who.attribute("login"), Some("ada"));
    refused(login(&ldap, "ada", "wrong").await, Reason::WrongCredential, "");
    assert_eq!(server.connections(), 2, "one to search and one to bind");
}

#[tokio::test]
async fn passwords_that_mean_something_else_to_a_directory_never_reach_it() {
    let server = Played::start(good(vec![person(&["ada"])])).await;
    let ldap = Ldap::new(options(&[&server.url])).unwrap();
    refused(login(&ldap, "ada", "").await, Reason::WrongCredential, "as nobody");
    refused(login(&ldap, "ada", "right\0").await, Reason::WrongCredential, "NUL");
    refused(login(&ldap, "ada", &"x".repeat(4097)).await, Reason::WrongCredential, "longer");
    let bytes = ldap.check("ada", &Secret::from(&b"right\xff"[..])).await;
    refused(bytes, Reason::WrongCredential, "UTF-8");
    ldap.spend("nobody", &Secret::default()).await.unwrap();
    let long = "a".repeat(4096);
    for name in ["", " ", "a\0", "a\nb", "a\u{7f}", &long] {
        refused(login(&ldap, name, "right").await, Reason::UnknownUser, "");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn nobody_is_two_people() {
    let both = vec![person(&["ada"]), person(&["ida"])];
    let server = Played::start(good(both)).await;
    let ldap = Ldap::new(options(&[&server.url])).unwrap();
    refused(login(&ldap, "ada", "right").await, Reason::NotAllowed, "several entries");
    assert_eq!(server.binds(), [""; 0]);
}

#[tokio::test]
async fn of_several_names_the_one_that_was_typed_counts() {
    let server = Played::start(good(vec![person(&["ada", "countess"])])).await;
    let ldap = Ldap::new(options(&[&server.url])).unwrap();
    let Ok(Verdict::Is(who)) = login(&ldap, "COUNTESS", "right").await else { panic!() };
    assert_eq!(who.subject.name(), Some("countess"));
    broken(login(&ldap, "ada@example", "right").await, FaultKind::Internal, "several values");
}

#[tokio::test]
async fn an_unknown_user_is_tried_too() {
    let server = Played::start(good(Vec::new())).await;
    let ldap = Ldap::new(options(&[&server.url])).unwrap();
    refused(login(&ldap, "nobody", "right").await, Reason::UnknownUser, "");
    ldap.spend("nobody", &Secret::from("right")).await.unwrap();
    assert_eq!(server.binds(), ["cn=nobody-countersign-asks-for,dc=example"]);
}

/// It accepts and never answers: one login waits for it, and is then answered by the other.
#[tokio::test]
async fn a_server_that_hangs_costs_one_login_a_wait() {
    let hangs = Played::start(|_, _| Some(Vec::new())).await;
    let well = Played::start(good(vec![person(&["ada"])])).await;
    let mut options = options(&[&hangs.url, &well.url]);
    options.timeout = Duration::from_millis(300);
    let ldap = Ldap::new(options).unwrap();
    assert!(matches!(login(&ldap, "ada", "right").await, Ok(Verdict::Is(_))));
    // The second is left alone for longer than this takes, or is tried by one again: at most two.
    for _ in 0..20 {
        assert!(matches!(login(&ldap, "ada", "right").await, Ok(Verdict::Is(_))));
    }
    assert!(hangs.connections() <= 2, "{}", hangs.connections());
}

#[tokio::test]
async fn when_all_hang_the_login_ends_in_a_fault() {
    let hangs = Played::start(|_, _| Some(Vec::new())).await;
    let mut options = options(&[&hangs.url]);
    options.timeout = Duration::from_millis(50);
    let ldap = Ldap::new(options).unwrap();
    broken(login(&ldap, "ada", "right").await, FaultKind::Timeout, "no answer within");
    broken(login(&ldap, "ada", "right").await, FaultKind::Unavailable, "left alone");
}

#[tokio::test]
async fn a_server_that_is_busy_is_passed_by() {
    let busy = Played::start(|id, _| Some(search_done(id, 51))).await;
    let well = Played::start(good(vec![person(&["ada"])])).await;
    let ldap = Ldap::new(options(&[&busy.url, &well.url])).unwrap();
    assert!(matches!(login(&ldap, "ada", "right").await, Ok(Verdict::Is(_))));
}

/// The server ends every connection after one operation, as one that was restarted between two logins.
#[tokio::test]
async fn a_connection_that_the_server_has_ended_is_replaced_without_a_word() {
    let answers = good(vec![person(&["ada"])]);
    let ends = Played::start(move |id, request| match request {
        // The bytes are sent, and with the next request it hangs up.
        _ if id > 1 => None,
        request => answers(id, request),
    });
    let ends = ends.await;
    let ldap = Ldap::new(options(&[&ends.url])).unwrap();
    for _ in 0..3 {
        assert!(matches!(login(&ldap, "ada", "right").await, Ok(Verdict::Is(_))));
    }
    assert_eq!(ends.connections(), 6);
}

#[tokio::test]
async fn what_is_no_answer_is_a_fault() {
    for (bytes, kind, part) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], FaultKind::Protocol, "LDAP server"),
        (b"\x30\x84\x7f\xff\xff\xff", FaultKind::Protocol, "longer than"),
        (b"\x30\x80", FaultKind::Protocol, "indefinite"),
        (b"\x30\x02\x02\x05", FaultKind::Protocol, "what it is in"),
        // No message, though well-formed.
        (b"\x30\x00", FaultKind::Protocol, "not one of LDAP"),
        (b"\x30\x02\x04\x00", FaultKind::Protocol, "not one of LDAP"),
        (b"\x30\x05\x02\x01\x01\x65\x00", FaultKind::Protocol, "not one of LDAP"),
        // An entry without a name.
        (b"\x30\x05\x02\x01\x01\x64\x00", FaultKind::Protocol, "not one of LDAP"),
        // A bind that nobody asked for succeeds.
        (
            b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
            FaultKind::Protocol,
            "not one of LDAP",
        ),
        // A referral.
        (
            b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x0a\x04\x00\x04\x00",
            FaultKind::Internal,
            "referral",
        ),
        (
            b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x20\x04\x00\x04\x00",
            FaultKind::Internal,
            "base does not",
        ),
        (b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x50\x04\x00\x04\x00", FaultKind::Unavailable, "80"),
    ] {
        let server = Played::start(move |_, _| Some(bytes.to_vec())).await;
        let ldap = Ldap::new(options(&[&server.url])).unwrap();
        broken(login(&ldap, "ada", "right").await, kind, part);
    }
}

/// The answer to a bind is read by the login itself, and not by the connection's task.
#[tokio::test]
async fn what_is_no_answer_to_a_bind_is_a_fault() {
    for content in [&b""[..], b"\x02\x01\x00", b"\x0a\x01\x00", b"\x0a\x01\x00\x04\x01\xff\x04\x00"]
    {
        let answers = good(vec![person(&["ada"])]);
        let server = Played::start(move |id, request| match request {
            Request::Bind { .. } => {
                Some(element(0x30, &[&[0x02, 1, id], &element(0x61, &[content])]))
            }
            request => answers(id, request),
        });
        let server = server.await;
        let ldap = Ldap::new(options(&[&server.url])).unwrap();
        broken(login(&ldap, "ada", "right").await, FaultKind::Protocol, "not one of LDAP");
    }
}

/// One server's nonsense, as deep as it likes, is one login's: the next is answered.
#[tokio::test]
async fn nonsense_never_ends_more_than_its_connection() {
    let deep = (0..8000).fold(Vec::new(), |inner: Vec<u8>, _| element(0x30, &[&inner]));
    let answers = good(vec![person(&["ada"])]);
    let first = std::sync::atomic::AtomicBool::new(true);
    let server = Played::start(move |id, request| {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return Some(deep.clone());
        }
        answers(id, request)
    });
    let server = server.await;
    let well = Played::start(good(vec![person(&["ada"])])).await;
    let ldap = Ldap::new(options(&[&server.url, &well.url])).unwrap();
    for _ in 0..2 {
        assert!(matches!(login(&ldap, "ada", "right").await, Ok(Verdict::Is(_))));
    }
}

/// An answer to something else, and a notice of disconnection (RFC 4511 §4.4.1) before the end.
#[tokio::test]
async fn what_answers_nothing_is_no_answer() {
    let other = Played::start(|_, _| Some(bind_response(99, 0))).await;
    let mut brief = options(&[&other.url]);
    brief.timeout = Duration::from_millis(300);
    let ldap = Ldap::new(brief).unwrap();
    broken(login(&ldap, "ada", "right").await, FaultKind::Timeout, "no answer within");

    let ends = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ldap://{}", ends.local_addr().unwrap());
    let task = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = ends.accept().await.unwrap();
        assert!(stream.read_u8().await.is_ok());
        stream.write_all(&start_tls_response(0, 52)).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    });
    let ldap = Ldap::new(options(&[&url])).unwrap();
    broken(login(&ldap, "ada", "right").await, FaultKind::Unavailable, "ended");
    task.await.unwrap();
}

/// More entries than were asked for.
#[tokio::test]
async fn a_server_that_knows_no_limit_is_cut_off() {
    let server = Played::start(good(vec![person(&["ada"]); 3])).await;
    let ldap = Ldap::new(options(&[&server.url])).unwrap();
    broken(login(&ldap, "ada", "right").await, FaultKind::Protocol, "more entries");

    // Or more bytes, none of which says anything.
    let server = Played::start(|id, _| {
        let nothing = element(0x04, &[&[0; 60_000]]);
        let entry = element(0x30, &[&[0x02, 1, id + 1], &element(0x73, &[&nothing])]);
        Some(entry.repeat(150))
    });
    let server = server.await;
    let ldap = Ldap::new(options(&[&server.url])).unwrap();
    broken(login(&ldap, "ada", "right").await, FaultKind::Protocol, "longer than");
}

/// Somebody on the way answers StartTLS and adds an answer of his own in clear text.
#[tokio::test]
async fn what_was_said_before_tls_began_counts_for_nothing() {
    for more in [bind_response(1, 0), vec![0x30]] {
        let server = Played::start(move |id, request| match request {
            Request::StartTls => Some([start_tls_response(id, 0), more.clone()].concat()),
            other => panic!("in clear text: {other:?}"),
        });
        let server = server.await;
        let options = LdapOptions { starttls: true, ca: certificate(), ..options(&[&server.url]) };
        let ldap = Ldap::new(options).unwrap();
        broken(login(&ldap, "ada", "right").await, FaultKind::Unavailable, "TLS");
    }
}

#[tokio::test]
async fn a_server_without_start_tls_gets_no_password() {
    let server = Played::start(good(vec![person(&["ada"])])).await;
    let options = LdapOptions { starttls: true, ca: certificate(), ..options(&[&server.url]) };
    let ldap = Ldap::new(options).unwrap();
    broken(login(&ldap, "ada", "right").await, FaultKind::Internal, "refuses StartTLS");
    assert_eq!(server.binds(), [""; 0]);
}

/// Any authority, so that the test does not depend on the machine's.
fn certificate() -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/directory/authority.pem"))
}

#[tokio::test]
async fn a_direct_bind_reads_the_entry_as_the_user() {
    let server = Played::start(good(vec![person(&["ada"])])).await;
    let bind_as = "uid={login},dc=example".to_owned();
    let method = Method::Bind { bind_as, place: None };
    let ldap = Ldap::new(LdapOptions { method, ..options(&[&server.url]) }).unwrap();
    let Ok(Verdict::Is(who)) = login(&ldap, "Ada", "right").await else { panic!() };
    assert_eq!(who.subject.name(), Some("ada"));
    refused(login(&ldap, "ada,ou=admins", "wrong").await, Reason::WrongCredential, "");
    let names = ["uid=Ada,dc=example", "uid=ada\\2cou\\3dadmins,dc=example"];
    assert_eq!(server.binds(), names);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_direct_bind_without_an_entry_lets_nobody_in() {
    let server = Played::start(good(Vec::new())).await;
    let method = Method::Bind { bind_as: "uid={login},dc=example".into(), place: None };
    let ldap = Ldap::new(LdapOptions { method, ..options(&[&server.url]) }).unwrap();
    broken(login(&ldap, "ada", "right").await, FaultKind::Internal, "of its own");
}

#[tokio::test]
async fn the_searching_identity_s_trouble_is_the_operator_s() {
    let server = Played::start(good(vec![person(&["ada"])])).await;
    let mut options = options(&[&server.url]);
    let Method::SearchAndBind { identity, .. } = &mut options.method else { panic!() };
    *identity = Some(("cn=search".into(), Secret::from("outdated")));
    let ldap = Ldap::new(options).unwrap();
    broken(login(&ldap, "ada", "right").await, FaultKind::Internal, "`bind_dn`");
    assert_eq!(server.binds(), ["cn=search"]);
}

#[test]
fn settings_that_cannot_be_are_told() {
    type Change = fn(&mut LdapOptions);
    let place =
        |filter: &str| Place { base: "dc=x".into(), scope: Scope::Subtree, filter: filter.into() };
    let _ = place;
    let changes: &[(&str, &str, Change)] = &[
        ("servers", "no server", |o| o.servers.clear()),
        ("servers", "clear text", |o| o.servers = vec![vec!["ldap://a.example".into()]]),
        ("servers", "no scheme", |o| o.servers = vec![vec!["a.example".into()]]),
        ("ca", "/nonexistent", |o| o.ca = Some("/nonexistent".into())),
        ("ca", "PEM", |o| o.ca = Some("/dev/null".into())),
        ("filter", "`{login}`", |o| {
            let Method::SearchAndBind { place, .. } = &mut o.method else { panic!() };
            place.filter = "(uid=ada)".into();
        }),
        ("filter", "begins with", |o| {
            let Method::SearchAndBind { place, .. } = &mut o.method else { panic!() };
            place.filter = "uid={login}".into();
        }),
        ("bind_password_file", "empty password", |o| {
            let Method::SearchAndBind { identity, .. } = &mut o.method else { panic!() };
            *identity = Some(("cn=search".into(), Secret::default()));
        }),
        ("bind_password_file", "UTF-8", |o| {
            let Method::SearchAndBind { identity, .. } = &mut o.method else { panic!() };
            *identity = Some(("cn=search".into(), Secret::from(&b"\xff"[..])));
        }),
        ("bind_as", "`{login}`", |o| {
            o.method = Method::Bind { bind_as: "uid=ada".into(), place: None };
        }),
        ("bind_as", "no DN", |o| {
            o.method = Method::Bind { bind_as: "{login}@corp.example".into(), place: None };
        }),
        ("groups", "`{dn}`", |o| {
            let (base, name) = ("dc=x".into(), "cn".into());
            o.groups = Groups::Search { base, filter: "(cn=*)".into(), name };
        }),
    ];
    for (key, part, change) in changes {
        let mut options = options(&["ldap://localhost"]);
        change(&mut options);
        let error = Ldap::new(options).unwrap_err();
        assert!(error.key == *key && error.what.contains(part), "{error}");
    }
    let insecure = LdapOptions { insecure: true, ..options(&["ldap://a.example"]) };
    assert!(Ldap::new(insecure).is_ok());
}

#[test]
fn a_group_is_called_as_in_its_own_name() {
    let attributes = [("cn".to_owned(), vec![b"alias".to_vec(), b"staff".to_vec()])].into();
    let group = Entry { dn: "cn=staff,dc=x".into(), attributes };
    assert_eq!(group_name(&group, "CN").as_deref(), Some("staff"));
    let attributes = [("cn".to_owned(), vec![b"bad\nname".to_vec(), b"staff".to_vec()])].into();
    let group = Entry { dn: "gidNumber=5,dc=x".into(), attributes };
    assert_eq!(group_name(&group, "cn").as_deref(), Some("staff"));
}
