//! Tokens signed by keys that are made here, and by those of attackers.

use std::sync::{Arc, Mutex};

use countersign::testing::{StillWorld, now_or_never};
use countersign::{Answers, KindSet, Peer};
use countersign_testkit::{Fixture, Proof, assert_conforms};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::key_set::ALGORITHMS;
use super::*;

const NOW: i64 = 1_800_000_000;

/// A key of an issuer.
struct Signer {
    kid: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Vec<u8>,
    public_pem: String,
}

impl Signer {
    fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        let of = match algorithm {
            Algorithm::RS256 => &rcgen::PKCS_RSA_SHA256,
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            _ => &rcgen::PKCS_ED25519,
        };
        let pair = rcgen::KeyPair::generate_for(of).unwrap();
        let pem = pair.serialize_pem();
        let private = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        let private = private.unwrap();
        Self {
            kid,
            algorithm,
            private,
            public: pair.public_key_raw().to_vec(),
            public_pem: pair.public_key_pem(),
        }
    }

    fn jwk(&self) -> Value {
        if self.algorithm == Algorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(&self.public);
            return json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid});
        }
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.into());
        serde_json::to_value(jwk).unwrap()
    }

    fn token(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.into());
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }
}

fn options(keys: KeysAt) -> JwtOptions {
    JwtOptions {
        keys,
        issuer: "https://id.example.com".into(),
        audience: vec!["mail".into(), "imap".into()],
        algorithms: ALGORITHMS.to_vec(),
        skew: Duration::from_secs(60),
        require: BTreeMap::new(),
        subject: "sub".into(),
        domain: None,
        groups: Some("groups".into()),
        labels: Some("labels".into()),
        attributes: BTreeMap::from([("mail".into(), "email".into())]),
        ca: None,
        timeout: Duration::from_secs(20),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com", "aud": "mail", "sub": "ada", "exp": NOW + 300, "nbf": NOW - 5,
        "groups": ["staff", "ops"], "labels": "secret", "email": "ada@example.com", "scope": "mail read",
    })
}

fn changed(changes: &Value) -> Value {
    let mut claims = claims();
    for (claim, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
            value => drop(claims.as_object_mut().unwrap().insert(claim.clone(), value.clone())),
        }
    }
    claims
}

async fn asked(jwt: &Jwt, token: &str, steady_ms: u64) -> Result<Identity, Denial> {
    let world = StillWorld::default();
    world.advance_ms(steady_ms);
    world.set_unix(NOW);
    let peer = Peer::new("imap", KindSet::none());
    let scene = Scene::of(&peer, &world);
    match jwt.check_token(&Secret::from(token), None, &scene).await.unwrap() {
        Verdict::Is(who) => Ok((*who).clone()),
        Verdict::Not(denial) => Err(denial),
    }
}

fn check(jwt: &Jwt, token: &str) -> Result<Identity, Denial> {
    now_or_never(asked(jwt, token, 0)).expect("a file is there at once")
}

/// A checker over a file with these keys.
fn with_file(text: &str, change: impl FnOnce(&mut JwtOptions)) -> (Jwt, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut options = options(KeysAt::File(file.path().to_owned()));
    change(&mut options);
    (Jwt::new(options).unwrap(), file)
}

fn set_of(keys: &[&Signer]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

#[test]
fn keys_of_every_type_sign() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        let key = Signer::new("k1", algorithm);
        for text in [set_of(&[&key]), key.jwk().to_string(), key.public_pem.clone()] {
            let (jwt, _file) = with_file(&text, |_| ());
            let who = check(&jwt, &key.token(&claims())).unwrap();
            assert_eq!(who.subject.name(), Some("ada"), "{algorithm:?}");
            assert_eq!(who.groups.len(), 2);
            assert!(who.labels.contains("secret") && !who.groups["ops"]);
            assert_eq!(who.attribute("mail"), Some("ada@example.com"));
            let other = Signer::new("k1", algorithm);
            let denial = check(&jwt, &other.token(&claims())).unwrap_err();
            assert_eq!(denial.reason, Reason::WrongCredential, "{algorithm:?}");
        }
    }
}

#[test]
fn every_claim_counts() {
    let key = Signer::new("k1", Algorithm::EdDSA);
    let (jwt, _file) = with_file(&set_of(&[&key]), |options| {
        options.require.insert("scope".into(), "mail".into());
    });
    for good in [
        json!({}),
        json!({"aud": ["other", "imap"]}),
        json!({"exp": NOW - 59}),
        json!({"nbf": NOW + 60}),
        json!({"exp": 1_800_000_300.5}),
        json!({"nbf": null}),
        json!({"scope": ["mail"]}),
        json!({"groups": null}),
    ] {
        check(&jwt, &key.token(&changed(&good)))
            .unwrap_or_else(|denial| panic!("{good}: {denial}"));
    }
    for (bad, reason, said) in [
        (json!({"exp": NOW - 60}), Reason::Expired, "has expired"),
        (json!({"exp": i64::MIN}), Reason::Expired, "has expired"),
        (json!({"exp": null}), Reason::WrongCredential, "no `exp`"),
        (json!({"exp": "tomorrow"}), Reason::WrongCredential, "`exp` is no time"),
        (json!({"exp": 1e300}), Reason::WrongCredential, "`exp` is no time"),
        (json!({"nbf": NOW + 61}), Reason::WrongCredential, "not valid yet (`nbf`)"),
        (json!({"iat": NOW + 61}), Reason::WrongCredential, "not valid yet (`iat`)"),
        (json!({"aud": "other"}), Reason::NotAllowed, "another audience"),
        (json!({"aud": null}), Reason::NotAllowed, "another audience"),
        (json!({"aud": []}), Reason::NotAllowed, "another audience"),
        (
            json!({"iss": "https://evil.example.com"}),
            Reason::UnknownUser,
            "no token of this issuer",
        ),
        (json!({"iss": null}), Reason::UnknownUser, "no token of this issuer"),
        (json!({"scope": "mails"}), Reason::NotAllowed, "`scope` is not `mail`"),
        (json!({"sub": null}), Reason::NotAllowed, "no claim `sub`"),
        (json!({"sub": 7}), Reason::NotAllowed, "no claim `sub`"),
        (json!({"sub": "a\u{0}b"}), Reason::NotAllowed, "can be no user's name"),
        (json!({"groups": ["a,b"]}), Reason::NotAllowed, "can be no group's name"),
        (json!({"groups": {"a": 1}}), Reason::NotAllowed, "no list of texts"),
        (json!({"labels": ["\n"]}), Reason::NotAllowed, "cannot be shown"),
    ] {
        let denial = check(&jwt, &key.token(&changed(&bad))).unwrap_err();
        assert_eq!(denial.reason, reason, "{bad}: {denial}");
        assert!(denial.detail.contains(said), "{bad}: {denial}");
    }
}

#[test]
fn an_address_is_of_the_domain_and_verified() {
    let key = Signer::new("k1", Algorithm::EdDSA);
    let (jwt, _file) = with_file(&set_of(&[&key]), |options| {
        options.subject = "email".into();
        options.domain = Some("example.com".into());
    });
    let of = |changes| check(&jwt, &key.token(&changed(&changes)));
    let who = of(json!({"email_verified": true})).unwrap();
    assert_eq!(who.subject.name(), Some("ada"));
    for (claimed, is) in
        [("ada", true), ("ada@EXAMPLE.com", true), ("ada@other.com", false), ("bob", false)]
    {
        assert_eq!(jwt.names(&who, claimed), is, "{claimed}");
    }
    assert!(of(json!({})).unwrap_err().detail.contains("has not verified"));
    let elsewhere = of(json!({"email_verified": true, "email": "root@evil.com"}));
    assert!(elsewhere.unwrap_err().detail.contains("is not of example.com"));
}

/// RFC 8725 §2.1: a public key, which everybody has, as the secret of an HMAC; no algorithm at all; another
/// algorithm than the key's.
#[test]
fn no_algorithm_is_confused_with_another() {
    let rsa = Signer::new("k1", Algorithm::RS256);
    for text in [set_of(&[&rsa]), rsa.public_pem.clone()] {
        let (jwt, _file) = with_file(&text, |_| ());
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("k1".into());
        for secret in [rsa.public_pem.as_bytes(), text.as_bytes()] {
            let key = EncodingKey::from_secret(secret);
            let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
            let denial = check(&jwt, &token).unwrap_err();
            assert!(denial.detail.contains("`HS256` is not allowed"), "{denial}");
        }
    }
    let (jwt, _file) = with_file(&set_of(&[&rsa]), |_| ());
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = rsa.token(&claims());
    let signature = signed.rsplit('.').next().unwrap();
    for alg in ["none", "None", "", "HS256", "ES256", "EdDSA", "RS255"] {
        for signature in ["", signature] {
            let header = encoded(&json!({"alg": alg, "kid": "k1"}));
            let token = format!("{header}.{}.{signature}", encoded(&claims()));
            assert!(check(&jwt, &token).is_err(), "{alg}");
        }
    }
    // A key that is declared for one algorithm does no other; nor does one that the operator has left out.
    let mut jwk = rsa.jwk();
    jwk["alg"] = json!("PS256");
    let (jwt, _file) = with_file(&jwk.to_string(), |_| ());
    assert!(check(&jwt, &rsa.token(&claims())).is_err());
    let (jwt, _file) = with_file(&set_of(&[&rsa]), |o| o.algorithms = vec![Algorithm::ES256]);
    assert!(
        check(&jwt, &rsa.token(&claims())).unwrap_err().detail.contains("`RS256` is not allowed")
    );
    let header = json!({"alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": false});
    let token = format!("{}.{}.{signature}", encoded(&header), encoded(&claims()));
    let (jwt, _file) = with_file(&set_of(&[&rsa]), |_| ());
    assert!(check(&jwt, &token).unwrap_err().detail.contains("must be understood"));
}

#[test]
fn what_is_no_token_is_somebody_else_s_and_what_is_cut_or_changed_is_nobody_s() {
    let key = Signer::new("k1", Algorithm::ES256);
    let (jwt, _file) = with_file(&set_of(&[&key]), |_| ());
    let good = key.token(&claims());
    check(&jwt, &good).unwrap();
    let huge = key.token(&changed(&json!({"x": "y".repeat(16 * 1024)})));
    for other in ["", "x", "..", "a.b.c", &huge, &good.replace('.', "-"), &format!("{good}.x")] {
        assert_eq!(check(&jwt, other).unwrap_err().reason, Reason::UnknownUser, "{other:.40}");
    }
    for length in 0..good.len() {
        assert!(check(&jwt, &good[..length]).is_err(), "{length}");
    }
    // Claims of one token under the signature of another.
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let root = key.token(&changed(&json!({"sub": "root", "exp": NOW - 3600})));
    let (good, root) = (parts(&good), parts(&root));
    assert!(check(&jwt, &format!("{}.{}.{}", good[0], root[1], good[2])).is_err());
}

#[test]
fn a_file_is_read_again_and_a_broken_one_changes_nothing() {
    let (old, new) = (Signer::new("k1", Algorithm::EdDSA), Signer::new("k2", Algorithm::EdDSA));
    let (jwt, file) = with_file(&set_of(&[&old]), |_| ());
    let at = |token: &str, ms| now_or_never(asked(&jwt, token, ms)).unwrap();
    assert!(at(&new.token(&claims()), 0).unwrap_err().detail.contains("`kid`"));
    // The length differs: nobody has to wait for the clock of the file system.
    std::fs::write(file.path(), set_of(&[&new, &new])).unwrap();
    assert!(at(&new.token(&claims()), 5000).is_ok());
    assert!(at(&old.token(&claims()), 5000).is_err());
    std::fs::write(file.path(), "{").unwrap();
    assert!(at(&new.token(&claims()), 10_000).is_ok());
}

#[test]
fn what_is_no_set_of_public_keys_is_refused() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}).to_string();
    for (text, said) in [
        ("", "no public key"),
        ("{", "JSON"),
        ("{\"keys\": 7}", "no list"),
        ("{\"keys\": []}", "no public key"),
        (secret.as_str(), "no public key"),
        (&pair.serialize_pem(), "a private key"),
        ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "is no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", "not known"),
    ] {
        let error = KeySet::parse(text.as_bytes()).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    for change in [
        (|o: &mut JwtOptions| o.issuer = String::new()) as fn(&mut JwtOptions),
        |o| o.audience = Vec::new(),
        |o| o.algorithms = Vec::new(),
        |o| o.keys = KeysAt::Address("http://id.example.com/jwks".into()),
        |o| o.keys = KeysAt::File("/no/such/file".into()),
    ] {
        let key = Signer::new("k1", Algorithm::EdDSA);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), set_of(&[&key])).unwrap();
        let mut options = options(KeysAt::File(file.path().to_owned()));
        change(&mut options);
        assert!(Jwt::new(options).is_err());
    }
}

/// Answers every request with what is said now, and counts.
async fn served(body: Arc<Mutex<(String, usize)>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let text = {
                let mut body = body.lock().unwrap();
                body.1 += 1;
                body.0.clone()
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                text.len()
            );
            let _ = stream.write_all((head + &text).as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn an_address_is_asked_once_and_for_a_key_that_is_new() {
    let (old, new) = (Signer::new("k1", Algorithm::EdDSA), Signer::new("k2", Algorithm::EdDSA));
    let said = Arc::new(Mutex::new((set_of(&[&old]), 0)));
    let jwt = Jwt::new(options(KeysAt::Address(served(Arc::clone(&said)).await))).unwrap();
    let count = || said.lock().unwrap().1;
    let (by_old, by_new) = (old.token(&claims()), new.token(&claims()));
    for _ in 0..3 {
        asked(&jwt, &by_old, 0).await.unwrap();
    }
    assert_eq!(count(), 1);
    // A key that it does not have: it is asked again, but not each time.
    for ms in [1000, 2000, 31_000, 32_000, 33_000] {
        assert!(asked(&jwt, &by_new, ms).await.is_err());
    }
    assert_eq!(count(), 2);
    said.lock().unwrap().0 = set_of(&[&old, &new]);
    asked(&jwt, &by_new, 70_000).await.unwrap();
    assert_eq!(count(), 3);
    // When it answers nothing sensible, the keys from before count for a day.
    said.lock().unwrap().0 = "x".repeat(2 * 1024 * 1024);
    asked(&jwt, &by_new, 20 * 60 * 1000).await.unwrap();
    assert_eq!(count(), 4);
    let world = StillWorld::default();
    world.advance_ms(25 * 60 * 60 * 1000);
    let peer = Peer::new("imap", KindSet::none());
    let late = jwt.check_token(&Secret::from(by_new), None, &Scene::of(&peer, &world)).await;
    assert!(late.is_err(), "a fault lets nobody in");
}

#[test]
fn it_conforms() {
    let key = Signer::new("k1", Algorithm::EdDSA);
    let stranger = Signer::new("k1", Algorithm::EdDSA);
    let (jwt, _file) = with_file(&set_of(&[&key]), |_| ());
    let world = StillWorld::default();
    world.set_unix(NOW);
    let shown = |token: String| Answers::new().with("bearer", token);
    let elsewhere = changed(&json!({"iss": "https://id.example.org"}));
    let proof = Proof::of("bearer", "ada", shown(key.token(&claims())))
        .wrong(shown(stranger.token(&claims())))
        .unknown(shown(key.token(&elsewhere)))
        .disabled(shown(key.token(&changed(&json!({"exp": NOW - 3600})))));
    let fixture = Fixture::new().in_world(Arc::new(world)).with(proof);
    assert_conforms(&jwt.checker("jwt"), &fixture);
}
