//! The `ldap` checker and a real OpenLDAP server.
#![cfg(feature = "ldap")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::{Answers, FaultKind, PasswordStore, Reason, Secret, Verdict};
use countersign_checkers::ldap::{GroupRules, Groups, Ldap, LdapOptions, Method, Place, Scope};
use countersign_interop::{Certificate, Outcome, Slapd, Trouble};
use countersign_testkit::{Fixture, Proof, conforms_async};

/// Nothing here takes a second; a machine that is busy may.
const PATIENCE: Duration = Duration::from_secs(60);

const LDIF: &str = "\
dn: dc=example
objectClass: domain
dc: example

dn: cn=policy,dc=example
objectClass: device
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdMustChange: TRUE
pwdLockout: TRUE
pwdMaxAge: 3600

dn: ou=people,dc=example
objectClass: organizationalUnit
ou: people

dn: uid=ada,ou=people,dc=example
objectClass: inetOrgPerson
uid: ada
cn: Ada Lovelace
sn: Lovelace
mail: ada@example
employeeType: secret
userPassword: right
memberOf: cn=staff,dc=example

dn: uid=locked,ou=people,dc=example
objectClass: inetOrgPerson
uid: locked
cn: locked
sn: x
userPassword: right
pwdAccountLockedTime: 000001010000Z

dn: uid=reset,ou=people,dc=example
objectClass: inetOrgPerson
uid: reset
cn: reset
sn: x
userPassword: right
pwdReset: TRUE

dn: uid=expired,ou=people,dc=example
objectClass: inetOrgPerson
uid: expired
cn: expired
sn: x
userPassword: right
pwdChangedTime: 20000101000000Z

dn: uid=void,ou=people,dc=example
objectClass: inetOrgPerson
uid: void
cn: void
sn: x

dn: uid=a\\,b\\+c\\=d (e)*,ou=people,dc=example
objectClass: inetOrgPerson
uid: a,b+c=d (e)*
cn: odd
sn: x
userPassword: right

dn: cn=staff,dc=example
objectClass: groupOfNames
cn: staff
member: uid=ada,ou=people,dc=example

dn: cn=ops,dc=example
objectClass: groupOfNames
cn: ops
member: uid=ada,ou=people,dc=example
member: uid=a\\,b\\+c\\=d (e)*,ou=people,dc=example
";

/// What somebody may type who wants to be more than a name.
const INJECTIONS: [&str; 16] = [
    "*",
    "*)(uid=*",
    "ada)(objectClass=*",
    "ada*",
    "a*a",
    "ada)(|(uid=*",
    "\\61da",
    "\\2a",
    "' or 1=1--",
    "%u%u",
    "ada,ou=people",
    "ada,ou=people,dc=example",
    "ada+cn=Ada Lovelace",
    "#616461",
    "ada\0",
    "ada\nuid: root",
];

/// The server of one test, or nothing where there is no slapd.
fn server(test: &str, made: Outcome<Slapd>) -> Option<Slapd> {
    match made {
        Ok(server) => Some(server),
        Err(Trouble::NotRun(why)) => {
            not_run(test, &why);
            None
        }
        Err(trouble) => panic!("{trouble}"),
    }
}

/// Says that a test could not run, to people and to `cargo xtask test`.
fn not_run(name: &str, why: &str) {
    use std::io::Write;
    eprintln!("not run: {name}: {why}");
    if let Some(file) = std::env::var_os("COUNTERSIGN_NOT_RUN") {
        let mut file = std::fs::File::options().append(true).open(file).unwrap();
        writeln!(file, "{name}\t{why}").unwrap();
    }
}

fn options(servers: &[String]) -> LdapOptions {
    let place = Place {
        base: "ou=people,dc=example".into(),
        scope: Scope::One,
        filter: "(&(objectClass=inetOrgPerson)(|(uid={login})(mail={login})))".into(),
    };
    LdapOptions {
        servers: servers.iter().map(|url| vec![url.clone()]).collect(),
        starttls: false,
        ca: None,
        insecure: false,
        method: Method::SearchAndBind { identity: None, place, decoy: None },
        name: "uid".into(),
        groups: Groups::Search {
            base: "dc=example".into(),
            filter: "(&(objectClass=groupOfNames)(member={dn}))".into(),
            name: "cn".into(),
        },
        labels: vec!["employeeType".into()],
        attributes: BTreeMap::from([("mail".into(), "mail".into())]),
        timeout: Duration::from_secs(20),
        deadline: PATIENCE,
        connections: 4,
        idle: PATIENCE,
    }
}

fn direct(servers: &[String]) -> LdapOptions {
    let bind_as = "uid={login},ou=people,dc=example".into();
    LdapOptions { method: Method::Bind { bind_as, place: None }, ..options(servers) }
}

async fn login(ldap: &Ldap, user: &str, password: &str) -> Result<Verdict, countersign::Fault> {
    let password = Secret::from(password);
    tokio::time::timeout(PATIENCE, ldap.check(user, &password)).await.expect("in time")
}

#[track_caller]
fn name(verdict: Result<Verdict, countersign::Fault>) -> String {
    let Ok(Verdict::Is(who)) = verdict else { panic!("{verdict:?}") };
    who.subject.to_string()
}

#[track_caller]
fn reason(verdict: Result<Verdict, countersign::Fault>) -> Reason {
    let Ok(Verdict::Not(denial)) = verdict else { panic!("{verdict:?}") };
    denial.reason
}

#[tokio::test]
async fn conforms() {
    let Some(slapd) = server("conforms", Slapd::start(LDIF, None)) else { return };
    let answers = |user: &str, password: &str| {
        Answers::new().with("username", user.to_owned()).with("password", password.to_owned())
    };
    for options in [options(&[slapd.url()]), direct(&[slapd.url()])] {
        let checker = Ldap::new(options).unwrap().checker("corp");
        let shown = format!("{checker:?}");
        let fixture = Fixture::new().within(PATIENCE).printing(move || shown.clone()).with(
            Proof::of("password", "ada", answers("ada", "right"))
                .wrong(answers("ada", "wrong"))
                .unknown(answers("nobody", "right"))
                .disabled(answers("locked", "right")),
        );
        let report = conforms_async(&checker, &fixture).await;
        assert!(report.is_clean(), "{report}");
    }
}

#[tokio::test]
async fn who_is_in_the_directory_gets_in_with_all_that_it_tells() {
    let Some(slapd) = server("who_is_in", Slapd::start(LDIF, None)) else { return };
    let by_attribute = Groups::Attribute { attribute: "memberOf".into(), name: "cn".into() };
    let identity = Some((Slapd::ADMIN.to_owned(), Secret::from(Slapd::PASSWORD)));
    let mut searching = options(&[slapd.url()]);
    let Method::SearchAndBind { identity: who, .. } = &mut searching.method else { panic!() };
    *who = identity;
    let member_of = LdapOptions { groups: by_attribute, ..options(&[slapd.url()]) };
    for (options, groups) in [
        (options(&[slapd.url()]), vec!["ops", "staff"]),
        (direct(&[slapd.url()]), vec!["ops", "staff"]),
        (searching, vec!["ops", "staff"]),
        (member_of, vec!["staff"]),
    ] {
        let ldap = Ldap::new(options).unwrap();
        for typed in ["ada", "ADA"] {
            let Ok(Verdict::Is(who)) = login(&ldap, typed, "right").await else {
                panic!("{typed}")
            };
            assert_eq!(who.subject.name(), Some("ada"));
            assert_eq!(who.groups.keys().collect::<Vec<_>>(), groups);
            assert_eq!(who.attribute("mail"), Some("ada@example"));
            assert_eq!(who.labels.iter().collect::<Vec<_>>(), ["secret"]);
        }
        assert_eq!(reason(login(&ldap, "ada", "wrong").await), Reason::WrongCredential);
        assert_eq!(reason(login(&ldap, "ada", "").await), Reason::WrongCredential);
        assert_eq!(reason(login(&ldap, "void", "right").await), Reason::WrongCredential);
        let odd = login(&ldap, "a,b+c=d (e)*", "right").await;
        assert!(matches!(&odd, Ok(Verdict::Is(_))), "{odd:?}");
    }
    let ldap = Ldap::new(options(&[slapd.url()])).unwrap();
    assert_eq!(name(login(&ldap, "ada@example", "right").await), "ada");
}

/// OpenNebula's mapping file, its default, and its administrators' group.
#[tokio::test]
async fn groups_are_mapped() {
    let Some(slapd) = server("groups_are_mapped", Slapd::start(LDIF, None)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("groups.yaml");
    let groups = async |mapping: &str, default: Option<&str>, admins: Option<&str>| {
        std::fs::write(&path, mapping).unwrap();
        let default = default.map(str::to_owned);
        let rules = GroupRules::new(Some(path.clone()), default, admins).unwrap();
        // The first server cannot be reached: the next one of the group decides.
        let servers = vec!["ldap://127.0.0.1:1".to_owned(), slapd.url()];
        let ldap = Ldap::new(options(&servers)).unwrap().with_group_rules(rules);
        match login(&ldap, "ada", "right").await {
            Ok(Verdict::Is(who)) => Ok(who.groups.clone().into_iter().collect::<Vec<_>>()),
            other => Err(reason(other)),
        }
    };
    let all = "CN=Staff, dc=example: 100\n'cn=ops,dc=example': '101'\n";
    let both = groups(all, None, None).await.unwrap();
    let names: Vec<_> = both.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["100", "101"]);
    let one = groups("cn=staff,dc=example: 100\n", None, Some("cn=ops,dc=example")).await.unwrap();
    assert_eq!(one.len(), 1);
    assert_ne!(one[0].1, both[0].1, "a member of the administrators' group administers");
    assert_eq!(groups("cn=other,dc=example: 5\n", None, None).await, Err(Reason::NotAllowed));
    let default = groups("cn=other,dc=example: 5\n", Some("1"), None).await.unwrap();
    assert_eq!(default[0].0, "1");
}

#[tokio::test]
async fn no_name_is_more_than_a_name() {
    let Some(slapd) = server("no_name_is_more", Slapd::start(LDIF, None)) else { return };
    let long = "a".repeat(4096);
    let search = Ldap::new(options(&[slapd.url()])).unwrap();
    let bind = Ldap::new(direct(&[slapd.url()])).unwrap();
    for typed in INJECTIONS.into_iter().chain([long.as_str()]) {
        assert_eq!(reason(login(&search, typed, "right").await), Reason::UnknownUser, "{typed:?}");
        search.spend(typed, &Secret::from("right")).await.unwrap();
        // With a direct bind, a directory does not tell who is unknown.
        let direct = reason(login(&bind, typed, "right").await);
        let known = [Reason::UnknownUser, Reason::WrongCredential];
        assert!(known.contains(&direct), "{typed:?}: {direct:?}");
    }
    // Passwords are bytes: what is no UTF-8 is wrong, and no error.
    let bytes = Secret::from(&b"right\xff"[..]);
    assert_eq!(reason(search.check("ada", &bytes).await), Reason::WrongCredential);
    assert_eq!(name(login(&search, "ada", "right").await), "ada");
}

#[tokio::test]
async fn the_directory_s_password_policy_is_heard() {
    let Some(slapd) = server("the_directory_s_password_policy", Slapd::start(LDIF, None)) else {
        return;
    };
    for options in [options(&[slapd.url()]), direct(&[slapd.url()])] {
        let ldap = Ldap::new(options).unwrap();
        for (user, expected) in [
            ("locked", Reason::Disabled),
            ("reset", Reason::ChangeNeeded),
            ("expired", Reason::Expired),
        ] {
            assert_eq!(reason(login(&ldap, user, "right").await), expected, "{user}");
        }
        assert_eq!(reason(login(&ldap, "reset", "wrong").await), Reason::WrongCredential);
    }
}

/// An authority of our own, and what it vouches for as `localhost`.
fn certificate() -> (String, Certificate) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let chain = leaf.signed_by(&key, &issuer).unwrap().pem();
    (pem, Certificate { chain, key: key.serialize_pem() })
}

#[tokio::test]
async fn tls_is_with_whom_the_authority_vouches_for() {
    let (authority, certificate) = certificate();
    let made = Slapd::start(LDIF, Some(&certificate));
    let Some(slapd) = server("tls_is_with", made) else { return };
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority).unwrap();
    let other = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/directory/authority.pem");
    let start_tls = format!("ldap://localhost:{}", slapd.port);
    for (url, starttls) in [(slapd.tls_url(), false), (start_tls.clone(), true)] {
        let with = |ca: &PathBuf| {
            let options = options(std::slice::from_ref(&url));
            Ldap::new(LdapOptions { ca: Some(ca.clone()), starttls, ..options }).unwrap()
        };
        assert_eq!(name(login(&with(&ca), "ada", "right").await), "ada", "{url}");
        let fault = login(&with(&other), "ada", "right").await.unwrap_err();
        assert!(fault.to_string().contains("TLS"), "{fault}");
    }
    // The right authority, and another name than the certificate's.
    let options = options(&[slapd.url()]);
    let ldap = Ldap::new(LdapOptions { ca: Some(ca), starttls: true, ..options }).unwrap();
    let fault = login(&ldap, "ada", "right").await.unwrap_err();
    assert!(fault.to_string().contains("TLS"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_lets_nobody_wrong_in_and_everybody_right_soon() {
    let Some(mut slapd) = server("a_restart_under_load", Slapd::start(LDIF, None)) else { return };
    let ldap = Arc::new(Ldap::new(options(&[slapd.url()])).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let (right, broken) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut tasks = Vec::new();
    for task in 0..6 {
        let (ldap, stop) = (Arc::clone(&ldap), Arc::clone(&stop));
        let (right, broken) = (Arc::clone(&right), Arc::clone(&broken));
        tasks.push(tokio::spawn(async move {
            let password = if task % 3 == 0 { "wrong" } else { "right" };
            while !stop.load(Ordering::Acquire) {
                match login(&ldap, "ada", password).await {
                    Ok(Verdict::Is(_)) if password == "right" => {
                        right.fetch_add(1, Ordering::AcqRel);
                    }
                    Ok(Verdict::Not(denial)) if password == "wrong" => {
                        assert_eq!(denial.reason, Reason::WrongCredential);
                    }
                    Ok(verdict) => panic!("{password}: {verdict:?}"),
                    Err(fault) => {
                        assert_ne!(fault.kind(), FaultKind::Internal, "{fault}");
                        broken.fetch_add(1, Ordering::AcqRel);
                    }
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    reaches(&right, 20).await;
    slapd.stop().unwrap();
    reaches(&broken, broken.load(Ordering::Acquire) + 4).await;
    slapd.resume().unwrap();
    reaches(&right, right.load(Ordering::Acquire) + 20).await;
    stop.store(true, Ordering::Release);
    for task in tasks {
        task.await.unwrap();
    }
}

async fn reaches(count: &AtomicUsize, goal: usize) {
    let waiting = async {
        while count.load(Ordering::Acquire) < goal {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
}

#[tokio::test]
async fn a_server_that_is_gone_is_replaced_by_the_next() {
    let both = (Slapd::start(LDIF, None), Slapd::start(LDIF, None));
    let (Some(mut first), Some(second)) =
        (server("a_server_that_is_gone", both.0), server("a_server_that_is_gone", both.1))
    else {
        return;
    };
    let ldap = Ldap::new(options(&[first.url(), second.url()])).unwrap();
    assert_eq!(name(login(&ldap, "ada", "right").await), "ada");
    first.stop().unwrap();
    for _ in 0..5 {
        assert_eq!(name(login(&ldap, "ada", "right").await), "ada");
    }
}
