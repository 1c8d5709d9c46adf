//! Certificates, lists and tokens as OpenSSL and Ruby make them, and what the original takes and we do not.

use std::path::Path;

use super::*;
use crate::one::server_x509::{self, ServerX509, ServerX509Options};
use crate::one::signing::tests::RSA_2048;
use crate::one::tests::run;

const DAY: i64 = 86_400;

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() as i64
}

const CONF: &str = "
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
[user]
basicConstraints = CA:false
keyUsage = digitalSignature
[ca]
default_ca = it
[it]
database = index
crlnumber = crlnumber
default_md = sha256
default_crl_days = 30
";

/// Certificates that OpenSSL made: `ca.pem`, `between.pem`, `alice.pem` and `bob.pem` of one key.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    /// `None`, and a word about it, where there is no OpenSSL.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let stage = Self { folder };
        stage.write("conf", CONF);
        stage.write("key", RSA_2048);
        stage.write("index", "");
        stage.write("crlnumber", "01\n");
        stage.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -config conf -extensions root -subj /C=ES/O=Test~Org/CN=Root")?;
        stage.sign("between", "root", "ca", "/C=ES/CN=Between", None);
        stage.sign("alice", "user", "between", "/C=ES/O=Test~Org/CN=Alice~In~Chains", Some("key"));
        stage.sign("bob", "user", "between", "/C=ES/O=Test~Org/CN=Bob", Some("key"));
        std::fs::create_dir(stage.path("authorities")).unwrap();
        stage.write("authorities/ca.pem", stage.read("ca.pem"));
        Some(stage)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// `~` is a blank within a word.
    fn openssl(&self, words: &str) -> Option<Vec<u8>> {
        let words: Vec<_> = words.split(' ').map(|word| word.replace('~', " ")).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        run(self.folder.path(), "openssl", &words)
    }

    fn sign(&self, name: &str, kind: &str, by: &str, subject: &str, key: Option<&str>) {
        let subject = subject.replace(' ', "~");
        let key = match key {
            Some(key) => format!("-key {key}"),
            None => format!("-newkey rsa:2048 -nodes -keyout {name}.key"),
        };
        self.openssl(&format!("req -new {key} -out {name}.csr -config conf -subj {subject}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 20 -extfile conf -extensions {kind} -out {name}.pem"
        ));
    }

    /// The original's token, by OpenSSL: of any text, with these certificates.
    fn token(&self, text: &str, chain: &[&str]) -> String {
        self.write("text", text);
        let signed = self.openssl("pkeyutl -sign -inkey key -in text").unwrap();
        let mut token = STANDARD.encode(signed);
        for name in chain {
            token.push(':');
            token.push_str(&self.read(name));
        }
        STANDARD.encode(token)
    }

    fn check(&self, name: &str, stored: &str, token: &str) -> Result<(), String> {
        let driver = X509::new(
            X509Options::default(),
            AuthoritiesFolder::open(self.path("authorities")).unwrap(),
        );
        let (name, stored, token) = (user(name), Secret::from(stored), Secret::from(token));
        let login = Login::new(&name, Some(&stored), &token, now());
        match countersign::testing::now_or_never(driver.authenticate(login)).unwrap().outcome {
            Outcome::Accepted(None) => Ok(()),
            Outcome::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }
}

const ALICE: &str = "/C=ES/O=Test\\20Org/CN=Alice\\20In\\20Chains";
const CHAIN: [&str; 2] = ["alice.pem", "between.pem"];

#[test]
fn tokens_that_openssl_makes_are_accepted() {
    let Some(stage) = Stage::new() else { return };
    let soon = now() + 3600;
    let token = stage.token(&format!("alice:{soon}"), &CHAIN);
    assert_eq!(stage.check("alice", ALICE, &token), Ok(()));
    assert_eq!(stage.check("alice", &format!("/CN=x|{ALICE}|/CN=y"), &token), Ok(()));
    assert_eq!(stored(stage.read("alice.pem").as_bytes()).unwrap(), ALICE);
    // Ours is the same, byte for byte.
    let key = SigningKey::read(RSA_2048.as_bytes(), None).unwrap();
    let chain = stage.read("alice.pem") + &stage.read("between.pem");
    let ours = super::token(&key, chain.as_bytes(), &user("alice"), soon).unwrap();
    assert_eq!(ours.to_str(), Some(token.as_str()));
    // And Ruby reads the name and the text as we do.
    stage.write("token", &token);
    let ruby = "require 'openssl'; require 'base64'; \
        signed, *pems = Base64.decode64(File.read('token')).split(':'); \
        own = OpenSSL::X509::Certificate.new(pems[0]); \
        print own.public_key.public_decrypt(Base64.decode64(signed)), ' ', \
          own.subject.to_s.gsub(/\\s/) { |s| '\\\\' + s[0].ord.to_s(16) }, ' ', pems.size";
    if let Some(said) = run(stage.folder.path(), "ruby", &["-e", ruby]) {
        assert_eq!(String::from_utf8(said).unwrap(), format!("alice:{soon} {ALICE} 2"));
    }
    let wrong = super::token(&key, stage.read("ca.pem").as_bytes(), &user("alice"), soon);
    assert!(wrong.unwrap_err().to_string().contains("not that of the first certificate"));
}

#[test]
fn what_a_token_must_be() {
    let Some(stage) = Stage::new() else { return };
    let soon = now() + 3600;
    let good = format!("alice:{soon}");
    for (text, chain, why) in [
        (format!("bob:{soon}"), &CHAIN[..], "another user's"),
        (format!("alice:{soon}abc"), &CHAIN, "no moment"),
        (format!("alice:{soon}:x"), &CHAIN, "user:expires"),
        (format!("alice:{}", now() - 1), &CHAIN, "expired"),
        (format!("alice:{}", now() + 2 * DAY), &CHAIN, "more than"),
        (good.clone(), &["bob.pem", "between.pem"], "not one that is stored"),
        (good.clone(), &["between.pem"], "not one that is stored"),
        (good.clone(), &["alice.pem"], "UnknownIssuer"),
        (good.clone(), &[], "no certificate"),
        (good.clone(), &["alice.pem", "key"], "a certificate of the token is none"),
    ] {
        let error = stage.check("alice", ALICE, &stage.token(&text, chain)).unwrap_err();
        assert!(error.contains(why), "{text} {chain:?}: {error}");
    }
    let token = stage.token(&good, &CHAIN);
    assert!(stage.check("bob", ALICE, &token).unwrap_err().contains("another user's"));
    for stored in ["/C=ES/O=Test Org/CN=Alice In Chains", &ALICE.to_lowercase(), "-", "|"] {
        let error = stage.check("alice", stored, &token).unwrap_err();
        assert!(error.contains("not one that is stored"), "{stored}: {error}");
    }
    // Whose name is the authority's lets nobody else in: the original looks through the whole chain.
    let error = stage.check("alice", "/C=ES/CN=Between", &token).unwrap_err();
    assert!(error.contains("not one that is stored"), "{error}");
    // A signature of another key, with this one's certificate.
    stage.write("alice.pem", stage.read("between.pem"));
    let other = stage.token(&good, &CHAIN);
    assert!(stage.check("alice", "/C=ES/CN=Between", &other).unwrap_err().contains("not signed"));
    for wrong in ["", "x", "AAAA", &format!("{token}\n"), &token[4..], &"A".repeat(70_000)] {
        assert!(stage.check("alice", ALICE, wrong).is_err());
    }
}

/// Grid proxies, too: a user's certificate is no authority.
#[test]
fn a_user_s_certificate_signs_no_other() {
    let Some(stage) = Stage::new() else { return };
    stage.write("alice.key", RSA_2048);
    stage.sign("proxy", "user", "alice", "/C=ES/O=Test~Org/CN=Alice~In~Chains/CN=1", Some("key"));
    let text = format!("alice:{}", now() + 3600);
    let token = stage.token(&text, &["proxy.pem", "alice.pem", "between.pem"]);
    let error = stage.check("alice", &format!("{ALICE}/CN=1"), &token).unwrap_err();
    assert!(error.contains("EndEntityUsedAsCa"), "{error}");
    let error = stage.check("alice", ALICE, &token).unwrap_err();
    assert!(error.contains("not one that is stored"), "{error}");
}

/// `openssl ca -gencrl`, for the user's and for the authority's own certificate.
#[test]
fn lists_that_openssl_makes_count() {
    let Some(stage) = Stage::new() else { return };
    let token = stage.token(&format!("alice:{}", now() + 3600), &CHAIN);
    let list = |by: &str, name: &str| {
        stage.openssl(&format!(
            "ca -gencrl -config conf -cert {by}.pem -keyfile {by}.key -out {name}"
        ));
    };
    list("between", "authorities/a.r0");
    list("ca", "authorities/b.r0");
    assert_eq!(stage.check("alice", ALICE, &token), Ok(()));
    stage.openssl("ca -revoke alice.pem -config conf -cert between.pem -keyfile between.key");
    list("between", "authorities/a.r0");
    assert!(stage.check("alice", ALICE, &token).unwrap_err().contains("CertRevoked"));
    stage.write("index", "");
    list("between", "authorities/a.r0");
    assert_eq!(stage.check("alice", ALICE, &token), Ok(()));
    stage.openssl("ca -revoke between.pem -config conf -cert ca.pem -keyfile ca.key");
    list("ca", "authorities/b.r0");
    assert!(stage.check("alice", ALICE, &token).unwrap_err().contains("CertRevoked"));
}

#[test]
fn servers_have_one_certificate() {
    let Some(stage) = Stage::new() else { return };
    let driver = |any_target| {
        let options = ServerX509Options { any_target, ..ServerX509Options::default() };
        ServerX509::new(options, stage.read("alice.pem").as_bytes()).unwrap()
    };
    let soon = now() + 1800;
    let made = |text: &str| {
        stage.write("text", text);
        let signed = stage.openssl("pkeyutl -sign -inkey key -in text").unwrap();
        Secret::from(STANDARD.encode(STANDARD.encode(signed)))
    };
    let check = |target: Option<&str>, any, stored: &str, token: &Secret| {
        let (server, stored, target) = (user("srv"), Secret::from(stored), target.map(user));
        let login = Login::new(&server, Some(&stored), token, now());
        driver(any).verify(&Login { target: target.as_ref(), ..login })
    };
    let token = made(&format!("srv:alice:{soon}"));
    assert_eq!(check(Some("alice"), false, ALICE, &token), Ok(()));
    assert_eq!(check(None, true, ALICE, &token), Ok(()));
    let key = SigningKey::read(RSA_2048.as_bytes(), None).unwrap();
    let ours = server_x509::token(&key, &user("srv"), &user("alice"), soon);
    assert_eq!(ours.as_ref(), Some(&token));
    for (target, any, stored, token, why) in [
        (None, false, ALICE, &token, "does not say for whom"),
        (Some("bob"), false, ALICE, &token, "another target"),
        (Some("bob"), true, ALICE, &token, "another target"),
        (Some("alice"), false, "/CN=x", &token, "not the certificate's name"),
        (Some("alice"), false, ALICE, &made(&format!("x:alice:{soon}")), "another server's"),
        (Some("alice"), false, ALICE, &made(&format!("srv:alice:{}", now())), "expired"),
        (Some("alice"), false, ALICE, &made(&format!("srv:alice:{}", soon + 3600)), "more than"),
        (Some("alice"), false, ALICE, &made(&format!("srv:{soon}")), "server:target:expires"),
        (
            Some("alice"),
            false,
            ALICE,
            &made(&format!("srv:alice:x:{soon}")),
            "server:target:expires",
        ),
        (Some("alice"), false, ALICE, &Secret::from("AAAA"), "no base64 of base64"),
    ] {
        let error = check(target, any, stored, token).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert!(ServerX509::new(ServerX509Options::default(), b"none").is_err());
    assert!(Path::new(&stage.path("alice.pem")).exists());
}
