//! Whole requests through a portal, and the examples of the RFCs.

use countersign::testing::{StillWorld, now_or_never};
use countersign::{
    Conversation, DigestStore, Directory, Fault, Identity, KindSet, Portal, Reason, Reply, Verdict,
    Verified,
};

use super::*;
use crate::{Decoys, Stored};

const REALM: &str = "http-auth@example.org";

struct Users;

impl Directory for Users {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(match login {
            "Mufasa" | "J\u{e4}s\u{f8}n Doe" => {
                Verdict::Is(Verified::vouch(Identity::named(login)))
            }
            _ => Verdict::UNKNOWN,
        })
    }
}

impl DigestStore for Users {
    async fn digest_key(
        &self,
        login: &str,
        realm: &str,
        algorithm: DigestAlgorithm,
    ) -> Result<Option<Secret>, Fault> {
        let password = match login {
            "Mufasa" => "Circle of Life",
            "J\u{e4}s\u{f8}n Doe" => "Secret, or not?",
            _ => return Ok(None),
        };
        Ok(Some(key(algorithm, login, realm, &Secret::from(password))))
    }

    async fn unhashed(
        &self,
        hash: &str,
        realm: &str,
        algorithm: DigestAlgorithm,
    ) -> Result<Option<String>, Fault> {
        let known = ["Mufasa", "J\u{e4}s\u{f8}n Doe"].into_iter();
        Ok(known.map(str::to_owned).find(|name| userhash(algorithm, name, realm) == hash))
    }
}

fn portal() -> Portal<()> {
    let decoys = Decoys::new(Secret::from("key"));
    Portal::new(()).checked_by(Stored::new("users", Users, decoys).by_digest())
}

fn login(answered: Answered, world: &StillWorld) -> Result<String, Reason> {
    let (request, answers) = answered.login(Peer::new("web", KindSet::none()));
    let begun = now_or_never(portal().begin(request, world)).unwrap().unwrap();
    let (mut conversation, reply): (Conversation, Reply) = begun;
    let Reply::Ask(ask) = reply else { panic!("{reply:?}") };
    match now_or_never(conversation.answer(ask.number, answers, world)).unwrap().unwrap() {
        Reply::Granted(who) => Ok(who.subject.to_string()),
        Reply::Denied(denial) => Err(denial.reason),
        Reply::Ask(ask) => panic!("{ask:?}"),
    }
}

fn variant(name: &str) -> Variant {
    Variant::from_name(name).unwrap()
}

fn digest(world: &StillWorld) -> Digest {
    let all = ["SHA-512-256", "SHA-256", "MD5", "SHA-512-256-sess", "SHA-256-sess", "MD5-sess"];
    Digest::new(REALM, world).offering(all.map(variant)).with_integrity().with_userhash()
}

/// A client: what it answers a fresh challenge with.
fn answer(digest: &Digest, name: &str, qop: Option<Qop>, world: &StillWorld) -> Authorization {
    let challenge = digest.challenges(false, world).remove(0);
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mut header = Authorization {
        username: "Mufasa".into(),
        userhash: false,
        realm: REALM.into(),
        nonce,
        uri: "/dir/index.html".into(),
        response: String::new(),
        variant: variant(name),
        qop,
        nc: "00000001".into(),
        cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv".into(),
    };
    if qop.is_none() {
        (header.nc, header.cnonce) = Default::default();
    }
    respond(&mut header, "POST", "Circle of Life", "a body");
    header
}

/// The client's arithmetic, straight from RFC 7616 §3.4.
fn respond(header: &mut Authorization, method: &str, password: &str, body: &str) {
    let hash = |text: String| hash::of(header.variant.algorithm, text.as_bytes());
    let Authorization { username, realm, nonce, uri, nc, cnonce, .. } = &*header;
    let mut a1 = format!("{username}:{realm}:{password}");
    if header.variant.session {
        a1 = format!("{}:{nonce}:{cnonce}", hash(a1));
    }
    let a2 = match header.qop {
        Some(Qop::AuthInt) => format!("{method}:{uri}:{}", hash(body.into())),
        _ => format!("{method}:{uri}"),
    };
    header.response = match header.qop {
        Some(qop) => {
            hash(format!("{}:{nonce}:{nc}:{cnonce}:{}:{}", hash(a1), qop.name(), hash(a2)))
        }
        None => hash(format!("{}:{nonce}:{}", hash(a1), hash(a2))),
    };
}

fn read(digest: &Digest, header: &Authorization, world: &StillWorld) -> Result<Answered, Refused> {
    let mut body = BodyHash::new(header.variant.algorithm);
    body.update(b"a ");
    body.update(b"body");
    let body = body.finish();
    let body = header.wants_body().then_some(body.as_str());
    digest.read(header, &Asked { method: "POST", target: "/dir/index.html", body }, world)
}

/// RFC 7616 §3.9.1 and §3.9.2, whose nonces are another server's: the claim is made by hand.
#[test]
fn the_examples_of_the_rfc() {
    let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    let responses = [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ];
    for (name, response) in responses {
        let mut header =
            answer(&digest(&StillWorld::default()), name, Some(Qop::Auth), &StillWorld::default());
        (header.nonce, header.cnonce) = (nonce.into(), cnonce.into());
        respond(&mut header, "GET", "Circle of Life", "");
        assert_eq!(header.response, response, "{name}");
        let algorithm = header.variant.algorithm;
        let a2 = hash::of(algorithm, b"GET:/dir/index.html");
        let claim = DigestClaim {
            algorithm,
            realm: REALM.into(),
            session: None,
            rest: format!("{nonce}:00000001:{cnonce}:auth:{a2}"),
            userhash: false,
            reply: String::new(),
            rspauth: OnceLock::new(),
        };
        let (response, claim) = (Secret::from(response), Arc::new(claim));
        let info = Info { claim: Arc::clone(&claim), nc: String::new(), cnonce: String::new() };
        let answered = Answered { name: "Mufasa".into(), claim, response, info };
        assert_eq!(login(answered, &StillWorld::default()).as_deref(), Ok("Mufasa"));
    }
    // §3.9.2, with erratum 4897: the name is hashed.
    let hash = userhash(DigestAlgorithm::Sha512_256, "J\u{e4}s\u{f8}n Doe", "api@example.org");
    assert_eq!(hash, "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b");
}

#[test]
fn every_variant_lets_in_once() {
    let world = StillWorld::default();
    let digest = digest(&world);
    for offer in digest.offers.clone() {
        for qop in [Qop::Auth, Qop::AuthInt] {
            let header = answer(&digest, &offer.name(), Some(qop), &world);
            let header = Authorization::parse(header.to_string().as_bytes()).unwrap();
            let answered = read(&digest, &header, &world).unwrap();
            assert_eq!(login(answered, &world).as_deref(), Ok("Mufasa"), "{header}");
            assert_eq!(read(&digest, &header, &world).unwrap_err(), Refused::Stale, "a replay");
            let mut next = header.clone();
            next.nc = "00000002".into();
            let answered = read(&digest, &next, &world).unwrap();
            assert_eq!(
                login(answered, &world),
                Err(Reason::WrongCredential),
                "the count is hashed"
            );
            next.nc = "00000003".into();
            respond(&mut next, "POST", "Circle of Life", "a body");
            assert!(login(read(&digest, &next, &world).unwrap(), &world).is_ok());
        }
    }
}

/// RFC 7616 §3.5: `rspauth` is the client's own arithmetic without a method.
#[test]
fn who_gets_in_is_told_that_its_key_is_known() {
    let world = StillWorld::default();
    let digest = digest(&world);
    for offer in digest.offers().to_vec() {
        for qop in [Qop::Auth, Qop::AuthInt] {
            let header = answer(&digest, &offer.name(), Some(qop), &world);
            let answered = read(&digest, &header, &world).unwrap();
            let info = answered.info.clone();
            assert_eq!(info.header(), None, "nobody is in yet");
            login(answered, &world).unwrap();
            let mut ours = Authorization { qop: Some(Qop::Auth), ..header.clone() };
            respond(&mut ours, "", "Circle of Life", "");
            let Authorization { response, cnonce, .. } = &ours;
            let expected =
                format!("qop=auth, rspauth=\"{response}\", cnonce=\"{cnonce}\", nc=00000001");
            assert_eq!(info.header(), Some(expected));
        }
    }
    let mut wrong = answer(&digest, "SHA-256", Some(Qop::Auth), &world);
    respond(&mut wrong, "POST", "Circle of Lies", "");
    let answered = read(&digest, &wrong, &world).unwrap();
    let info = answered.info.clone();
    assert!(login(answered, &world).is_err() && info.header().is_none());
}

#[test]
fn whatever_is_changed_does_not_let_in() {
    let world = StillWorld::default();
    let digest = digest(&world);
    let changed = |change: &dyn Fn(&mut Authorization)| {
        let mut header = answer(&digest, "SHA-256", Some(Qop::AuthInt), &world);
        change(&mut header);
        match read(&digest, &header, &world) {
            Ok(answered) => login(answered, &world).map_err(Ok),
            Err(refused) => Err(Err(refused)),
        }
    };
    assert!(changed(&|_| {}).is_ok());
    let wrong = Err(Ok(Reason::WrongCredential));
    assert_eq!(changed(&|h| h.username = "J\u{e4}s\u{f8}n Doe".into()), wrong);
    assert_eq!(changed(&|h| h.username = "Scar".into()), Err(Ok(Reason::UnknownUser)));
    assert_eq!(changed(&|h| h.username = "a\tb".into()), Err(Ok(Reason::Malformed)));
    assert_eq!(changed(&|h| h.cnonce.push('x')), wrong);
    assert_eq!(changed(&|h| h.nc = "00000009".into()), wrong);
    assert_eq!(changed(&|h| h.qop = Some(Qop::Auth)), wrong);
    assert_eq!(changed(&|h| respond(h, "GET", "Circle of Life", "a body")), wrong);
    assert_eq!(changed(&|h| respond(h, "POST", "Circle of Life", "another")), wrong);
    assert_eq!(changed(&|h| respond(h, "POST", "Circle of Lies", "a body")), wrong);
    assert_eq!(changed(&|h| h.variant.session = true), wrong);
    assert_eq!(changed(&|h| h.realm.push('x')), Err(Err(Refused::OtherRealm)));
    assert_eq!(changed(&|h| h.uri = "/other".into()), Err(Err(Refused::OtherTarget)));
    assert_eq!(changed(&|h| h.nonce.push('x')), Err(Err(Refused::Stale)));
    assert_eq!(changed(&|h| h.qop = None), Err(Err(Refused::NotOffered)));
    assert_eq!(changed(&|h| h.variant = variant("MD5")), Err(Err(Refused::NotOffered)));
    let header = answer(&digest, "SHA-256", Some(Qop::AuthInt), &world);
    let asked = Asked { method: "POST", target: "/dir/index.html", body: None };
    assert_eq!(digest.read(&header, &asked, &world).unwrap_err(), Refused::BodyNeeded);
}

#[test]
fn what_was_not_offered_is_not_taken() {
    let world = StillWorld::default();
    let plain = Digest::new(REALM, &world);
    let refused = |name, qop| {
        let header = answer(&plain, name, qop, &world);
        read(&plain, &header, &world).err()
    };
    assert_eq!(refused("SHA-256", Some(Qop::Auth)), None);
    for (name, qop) in [
        ("SHA-256", Some(Qop::AuthInt)),
        ("SHA-256-sess", Some(Qop::Auth)),
        ("MD5", Some(Qop::Auth)),
        ("SHA-256", None),
    ] {
        assert_eq!(refused(name, qop), Some(Refused::NotOffered), "{name} {qop:?}");
    }
    let old = Digest::new(REALM, &world).offering([variant("MD5")]).with_legacy();
    let header = answer(&old, "MD5", None, &world);
    assert!(login(read(&old, &header, &world).unwrap(), &world).is_ok());
    assert_eq!(
        read(&old, &header, &world).unwrap_err(),
        Refused::Stale,
        "once, for it counts nothing"
    );
}

#[test]
fn an_old_nonce_is_stale_and_says_so() {
    let world = StillWorld::default();
    let digest = digest(&world);
    let header = answer(&digest, "SHA-256", Some(Qop::Auth), &world);
    world.advance_ms(5 * 60 * 1000 + 1);
    let refused = read(&digest, &header, &world).unwrap_err();
    assert!(refused.is_stale());
    let challenges = digest.challenges(refused.is_stale(), &world);
    assert!(challenges.iter().all(|challenge| challenge.contains("stale=true")), "{challenges:?}");
    assert!(!digest.challenges(false, &world)[0].contains("stale"));
}

#[test]
fn a_hidden_name_is_found() {
    let world = StillWorld::default();
    let digest = digest(&world);
    let hidden = |name: &str| {
        let mut header = answer(&digest, "SHA-512-256", Some(Qop::Auth), &world);
        header.username = userhash(DigestAlgorithm::Sha512_256, name, REALM);
        header.userhash = true;
        // A1 has the name itself in it.
        let mut shown = header.clone();
        shown.username = name.into();
        respond(&mut shown, "POST", "Circle of Life", "");
        header.response = shown.response;
        login(read(&digest, &header, &world).unwrap(), &world)
    };
    assert_eq!(hidden("Mufasa").as_deref(), Ok("Mufasa"));
    assert_eq!(hidden("Scar"), Err(Reason::UnknownUser));
}

#[test]
fn without_a_front_end_that_judges_headers_there_is_no_digest() {
    let world = StillWorld::default();
    let peer = Peer::new("smtp", KindSet::none().with(CredentialKind::Token));
    let request = Request::from_peer(Arc::new(peer)).by("DIGEST");
    let (_, reply) = now_or_never(portal().begin(request, &world)).unwrap().unwrap();
    let Reply::Denied(denial) = reply else { panic!("{reply:?}") };
    assert_eq!(denial.reason, Reason::Unsupported);
}

#[test]
fn targets_of_proxies_are_compared_by_their_path() {
    assert!(same_target("/a?b", "/a?b"));
    assert!(same_target("http://h/a?b", "/a?b") && same_target("/", "https://h"));
    for (one, other) in [("/a", "/b"), ("http://h/a", "http://g/a"), ("/a", "/a?b"), ("*", "/")] {
        assert!(!same_target(one, other), "{one} {other}");
    }
}
