//! Keys, signatures and certificates that OpenSSH's own `ssh-keygen` makes.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use countersign::testing::StillWorld;
use countersign::{Peer, to_be_signed};

use super::*;

/// A folder that is a user's home, with a passwd file that says so.
struct Stage {
    home: tempfile::TempDir,
    options: SshKeyOptions,
}

const NOW: i64 = 1_800_000_000;

impl Stage {
    /// `None`, and a word about it, where there is no `ssh-keygen`.
    fn new() -> Option<Self> {
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            eprintln!("not run: there is no ssh-keygen (Debian's openssh-client)");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let passwd = format!("ada:x:{uid}:1:Ada:{}:/bin/sh\n", home.path().display());
        std::fs::write(home.path().join("passwd"), passwd).unwrap();
        let options = SshKeyOptions {
            files: vec![".ssh/authorized_keys".into()],
            passwd: home.path().join("passwd"),
            timeout: Duration::from_secs(60),
            ..SshKeyOptions::default()
        };
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        let stage = Self { home, options };
        stage.list("");
        Some(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn keygen(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("ssh-keygen").current_dir(self.home.path()).args(arguments).output();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A new key: its public line.
    fn key(&self, name: &str, kind: &[&str]) -> String {
        self.keygen(&[&["-q", "-N", "", "-C", name, "-f", name, "-t"], kind].concat());
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap()
    }

    fn list(&self, text: &str) {
        let path = self.path(".ssh/authorized_keys");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn sign(&self, key: &str, message: &[u8], namespace: &str) -> Vec<u8> {
        std::fs::write(self.path("message"), message).unwrap();
        let _ = std::fs::remove_file(self.path("message.sig"));
        self.keygen(&["-q", "-Y", "sign", "-n", namespace, "-f", key, "message"]);
        std::fs::read(self.path("message.sig")).unwrap()
    }

    /// Offers, signs and logs in as `ada`, from an address.
    async fn login(&self, key: &str, from: &str) -> Result<Identity, (Reason, String)> {
        let keys = SshKeys::new(self.options.clone()).unwrap();
        let blob = self.blob(key);
        self.as_user(&keys, "ada", key, blob, from).await
    }

    fn blob(&self, key: &str) -> Vec<u8> {
        blob(&std::fs::read_to_string(self.path(&format!("{key}.pub"))).unwrap())
    }

    async fn as_user(
        &self,
        keys: &SshKeys,
        user: &str,
        key: &str,
        blob: Vec<u8>,
        from: &str,
    ) -> Result<Identity, (Reason, String)> {
        let world = StillWorld::default();
        world.set_unix(NOW);
        let mut peer = Peer::new("ssh", countersign::KindSet::none());
        peer.remote = from.parse::<IpAddr>().ok();
        let scene = Scene::of(&peer, &world);
        let told = |denial: Denial| (denial.reason, denial.detail.to_string());
        let offered = OfferedKey::new(blob);
        keys.lists(user, &offered, &scene).await.unwrap().map_err(told)?;
        let message = to_be_signed("ssh", user, &[7; 32]).unwrap();
        // A certificate's private key has the name before `-cert`.
        let signature = self.sign(key.trim_end_matches("-cert"), &message, NAMESPACE);
        for (message, signature) in [
            (&message[1..], signature.as_slice()),
            (&message, &signature[..signature.len() / 2]),
            (&message, &self.sign(key.trim_end_matches("-cert"), &message, "file")),
            (&message, b""),
        ] {
            assert!(keys.verify(user, &offered, message, signature).is_none());
        }
        let proven = keys.verify(user, &offered, &message, &signature).expect("a good signature");
        match keys.check_key(&proven, &scene).await.unwrap() {
            Verdict::Is(who) => Ok((*who).clone()),
            Verdict::Not(denial) => Err(told(denial)),
        }
    }
}

fn blob(line: &str) -> Vec<u8> {
    STANDARD.decode(line.split(' ').nth(1).unwrap().trim()).unwrap()
}

#[tokio::test]
async fn keys_of_every_type_log_in() {
    let Some(stage) = Stage::new() else { return };
    for (name, kind) in [
        ("ed25519", &["ed25519"][..]),
        ("p256", &["ecdsa", "-b", "256"]),
        ("p384", &["ecdsa", "-b", "384"]),
        ("p521", &["ecdsa", "-b", "521"]),
        ("rsa", &["rsa", "-b", "2048"]),
    ] {
        let line = stage.key(name, kind);
        stage.list("");
        let (reason, _) = stage.login(name, "10.0.0.1").await.unwrap_err();
        assert_eq!(reason, Reason::UnknownUser, "{name}");
        stage.list(&format!("# mine\nbroken line\n{line}"));
        let who = stage.login(name, "10.0.0.1").await.unwrap();
        assert_eq!(who.subject.name(), Some("ada"), "{name}");
        assert!(who.attribute("ssh-key").unwrap().starts_with("SHA256:"), "{name}");
    }
    stage.key("small", &["rsa", "-b", "1024"]);
    let (_, why) = stage.login("small", "10.0.0.1").await.unwrap_err();
    assert!(why.contains("2048 bits"), "{why}");
}

#[tokio::test]
async fn the_options_of_a_line_count() {
    let Some(stage) = Stage::new() else { return };
    let line = stage.key("k", &["ed25519"]);
    stage.list(&format!("restrict,command=\"echo hi\",from=\"10.0.0.0/8\" {line}"));
    let who = stage.login("k", "10.0.0.1").await.unwrap();
    assert_eq!(who.attribute("ssh-command"), Some("echo hi"));
    assert_eq!(who.attributes["ssh-option"][0], "restrict");
    assert_eq!(stage.login("k", "192.0.2.1").await.unwrap_err().0, Reason::NotAllowed);
    assert_eq!(stage.login("k", "").await.unwrap_err().0, Reason::NotAllowed);
    for (options, works) in [
        ("expiry-time=\"20270101Z\"", false),
        ("expiry-time=\"20380101Z\"", true),
        ("expiry-time=\"soon\"", false),
        ("unheard-of", false),
        ("cert-authority", false),
    ] {
        stage.list(&format!("{options} {line}"));
        assert_eq!(stage.login("k", "10.0.0.1").await.is_ok(), works, "{options}");
    }
    // Any line that lets in is enough.
    stage.list(&format!("from=\"192.0.2.0/24\" {line}from=\"10.*\" {line}"));
    assert!(stage.login("k", "10.0.0.1").await.is_ok());
}

#[tokio::test]
async fn files_that_others_can_write_and_other_users_count_for_nothing() {
    let Some(mut stage) = Stage::new() else { return };
    let line = stage.key("k", &["ed25519"]);
    stage.list(&line);
    assert!(stage.login("k", "10.0.0.1").await.is_ok());
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in [".ssh/authorized_keys", ".ssh"] {
        let path = stage.path(name);
        mode(&path, 0o720);
        assert_eq!(
            stage.login("k", "10.0.0.1").await.unwrap_err().0,
            Reason::UnknownUser,
            "{name}"
        );
        mode(&path, 0o700);
    }
    let keys = SshKeys::new(stage.options.clone()).unwrap();
    for user in ["bob", "../ada", "-x", ".", ""] {
        let end = stage.as_user(&keys, user, "k", stage.blob("k"), "10.0.0.1").await;
        assert_eq!(end.unwrap_err().0, Reason::UnknownUser, "{user}");
    }
    // `/bin/cat` is root's, and prints what its argument names.
    let listed = stage.path(".ssh/authorized_keys").display().to_string();
    stage.options.files.clear();
    stage.options.command = Some(vec!["/bin/cat".into(), listed]);
    assert!(stage.login("k", "10.0.0.1").await.is_ok());
    stage.options.command = Some(vec!["/bin/false".into()]);
    let keys = SshKeys::new(stage.options.clone()).unwrap();
    let world = StillWorld::default();
    let peer = Peer::default();
    let offered = OfferedKey::new(stage.blob("k"));
    assert!(keys.lists("ada", &offered, &Scene::of(&peer, &world)).await.is_err(), "a fault");
    stage.options.command = Some(vec!["/bin/sleep".into(), "1000".into()]);
    stage.options.timeout = Duration::from_millis(20);
    let keys = SshKeys::new(stage.options.clone()).unwrap();
    let fault = keys.lists("ada", &offered, &Scene::of(&peer, &world)).await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Timeout);
    for command in [vec!["cat".to_owned()], vec![], vec!["/bin/cat".into(), "%x".into()]] {
        stage.options.command = Some(command);
        assert!(SshKeys::new(stage.options.clone()).is_err());
    }
}

#[tokio::test]
async fn certificates_say_for_whom_and_until_when() {
    let Some(mut stage) = Stage::new() else { return };
    let authority = stage.key("ca", &["ed25519"]);
    let other = stage.key("other-ca", &["rsa", "-b", "2048"]);
    stage.key("k", &["ecdsa"]);
    let certify = |arguments: &[&str]| {
        stage.keygen(&[&["-q", "-I", "ada's", "-z", "7"], arguments, &["k.pub"]].concat());
    };
    stage.list(&format!("cert-authority {authority}"));
    let always: &[&str] = &["-V", "always:forever"];
    for (arguments, said) in [
        (&["-s", "ca", "-n", "ada,root"][..], None),
        (&["-s", "ca", "-n", "bob"], Some("another user's")),
        (&["-s", "ca"], Some("another user's")),
        (&["-s", "ca", "-h", "-n", "ada"], Some("not a user's")),
        (&["-s", "other-ca", "-n", "ada"], Some("no such key is listed")),
        (&["-s", "ca", "-n", "ada", "-O", "source-address=10.0.0.0/8"], None),
        (
            &["-s", "ca", "-n", "ada", "-O", "source-address=192.0.2.0/24"],
            Some("not good from there"),
        ),
        (&["-s", "ca", "-n", "ada", "-O", "critical:x@y=z"], Some("critical option")),
        (&["-s", "ca", "-n", "ada", "-O", "force-command=true"], None),
    ] {
        certify(&[always, arguments].concat());
        match (stage.login("k-cert", "10.0.0.1").await, said) {
            (Ok(who), None) => {
                assert_eq!(who.attribute("ssh-certificate"), Some("ada's (serial 7)"));
                assert!(who.attributes["ssh-extension"].contains(&"permit-pty".into()));
            }
            (Err((_, why)), Some(said)) => assert!(why.contains(said), "{arguments:?}: {why}"),
            (end, _) => panic!("{arguments:?}: {end:?}"),
        }
    }
    certify(&["-s", "ca", "-n", "ada", "-V", "20200101:20210101"]);
    assert!(stage.login("k-cert", "10.0.0.1").await.unwrap_err().1.contains("not valid now"));
    // An authority of its own, by RSA, and what a line and a file can revoke.
    std::fs::write(stage.path("authorities"), &other).unwrap();
    stage.list("");
    stage.keygen(&[
        "-q",
        "-I",
        "ada's",
        "-z",
        "7",
        "-V",
        "always:forever",
        "-s",
        "other-ca",
        "-n",
        "ada",
        "k.pub",
    ]);
    stage.options.authorities = Some(stage.path("authorities"));
    assert!(stage.login("k-cert", "10.0.0.1").await.is_ok());
    assert!(stage.login("other-ca", "10.0.0.1").await.is_err(), "the authority itself is no user");
    stage.options.revoked = Some(stage.path("revoked"));
    let fingerprint = stage.keygen(&["-l", "-f", "k.pub"]);
    let fingerprint = fingerprint.split(' ').nth(1).unwrap();
    for (text, works) in [
        ("# none\nserial: 8-9\n", true),
        ("serial: 7", false),
        ("id: ada's", false),
        (fingerprint, false),
        (other.as_str(), false),
    ] {
        std::fs::write(stage.path("revoked"), text).unwrap();
        assert_eq!(stage.login("k-cert", "10.0.0.1").await.is_ok(), works, "{text}");
    }
    // Changed by one bit, it is signed by nobody.
    let mut changed = stage.blob("k-cert");
    let at = changed.windows(5).position(|part| part == b"ada's").unwrap();
    changed[at] ^= 1;
    assert!(Shown::read(&changed).unwrap_err().contains("has not signed"));
    for length in 0..changed.len() {
        assert!(Shown::read(&changed[..length]).is_err());
    }
}

/// What a FIDO key signs, made by hand: no such key is in this machine.
#[test]
fn a_security_key_says_whether_it_was_touched() {
    use ssh_key::{Algorithm, Signature};

    for (flag, touched, verified) in [(0, false, false), (1, true, false), (5, true, true)] {
        let mut bytes = vec![0; 64];
        bytes.extend([flag, 0, 0, 0, 9]);
        let signature = Signature::new(Algorithm::SkEd25519, bytes).unwrap();
        let flags = flags(&signature);
        assert_eq!((flags & 1 != 0, flags & 4 != 0), (touched, verified));
    }
}

#[tokio::test]
async fn a_security_key_must_be_touched_unless_the_line_says_otherwise() {
    let Some(stage) = Stage::new() else { return };
    let mut blob = Vec::new();
    for part in [&b"sk-ssh-ed25519@openssh.com"[..], &[3; 32], b"ssh:"] {
        blob.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        blob.extend(part);
    }
    let line = format!("sk-ssh-ed25519@openssh.com {}", STANDARD.encode(&blob));
    let world = StillWorld::default();
    let peer = Peer::default();
    let scene = Scene::of(&peer, &world);
    for (options, touched, verified, works) in [
        ("", true, false, true),
        ("", false, false, false),
        ("no-touch-required ", false, false, true),
        ("verify-required ", true, false, false),
        ("verify-required ", true, true, true),
    ] {
        stage.list(&format!("{options}{line}"));
        let keys = SshKeys::new(stage.options.clone()).unwrap();
        let proven = ProvenKey::vouch(OfferedKey::new(blob.as_slice()), "ada");
        let verdict = keys.check_key(&proven.by_user(touched, verified), &scene).await.unwrap();
        assert_eq!(matches!(verdict, Verdict::Is(_)), works, "{options}{touched}{verified}");
    }
}

/// What portals rely on, with a key that signs whatever it is asked to.
#[tokio::test]
async fn the_checker_conforms() {
    use countersign::{Answers, Challenge, Question, Round, Secret};
    use countersign_testkit::{Attempt, Fixture, Proof, conforms_async};
    use ssh_key::{LineEnding, PrivateKey};

    let Some(stage) = Stage::new() else { return };
    let line = stage.key("k", &["ed25519"]);
    stage.list(&line);
    let offered = Secret::from(stage.blob("k"));
    let private = std::fs::read(stage.path("k")).unwrap();
    let private = Arc::new(PrivateKey::from_openssh(private).unwrap());
    let attempt = |signs: fn(&[u8]) -> Vec<u8>| {
        let (offered, private) = (offered.clone(), Arc::clone(&private));
        Attempt::computed(move || {
            let (offered, private) = (offered.clone(), Arc::clone(&private));
            move |round: &Round| {
                let answer = |answers: Answers, question: &Question| match &*question.name {
                    "username" => answers.with("username", "ada"),
                    "key" => answers.with("key", offered.clone()),
                    "signature" => {
                        let Some(Challenge::Bytes(message)) = &question.challenge else {
                            panic!("{question:?}");
                        };
                        let signed = private.sign(NAMESPACE, HashAlg::Sha512, &signs(message));
                        let text = signed.unwrap().to_pem(LineEnding::LF).unwrap();
                        // The last line needs no end.
                        answers.with("signature", text.trim_end())
                    }
                    other => panic!("{other}"),
                };
                round.questions.iter().fold(Answers::new(), answer)
            }
        })
    };
    let changed = |message: &[u8]| [message, b"x"].concat();
    let proof = Proof::of("publickey", "ada", attempt(<[u8]>::to_vec)).wrong(attempt(changed));
    let fixture = Fixture::new().with(proof);
    let checker = SshKeys::new(stage.options.clone()).unwrap().checker("keys");
    let report = conforms_async(&checker, &fixture).await;
    // An armoured signature with one more line feed behind it is the same signature.
    let mut failures = report.failures.iter();
    let same = failures.next().is_some_and(|one| one.what.contains("the right one and a newline"));
    assert!(same && failures.next().is_none(), "{report}");
}

/// Lists that `ssh-keygen -k` makes.
#[tokio::test]
async fn binary_lists_revoke_what_they_were_made_of() {
    let Some(mut stage) = Stage::new() else { return };
    let authority = stage.key("ca", &["ed25519"]);
    stage.key("other-ca", &["ed25519"]);
    let plain = stage.key("plain", &["ecdsa"]);
    stage.key("k", &["rsa", "-b", "2048"]);
    stage.list(&format!("cert-authority {authority}{plain}"));
    stage.options.revoked = Some(stage.path("krl"));
    let make = |authority: &str, words: &str| {
        std::fs::write(stage.path("words"), words).unwrap();
        stage.keygen(&["-q", "-k", "-f", "krl", "-s", authority, "words"]);
    };
    let certify = |serial: &str| {
        let always = ["-q", "-s", "ca", "-I", "laptop", "-n", "ada", "-V", "always:forever"];
        stage.keygen(&[&always[..], &["-z", serial, "k.pub"]].concat());
    };
    make("ca.pub", "serial: 1\n");
    let fingerprint = stage.keygen(&["-l", "-f", "k.pub"]);
    let hash = format!("hash: {}\n", fingerprint.split(' ').nth(1).unwrap());
    let key = std::fs::read_to_string(stage.path("k.pub")).unwrap();
    // Close together, they are a set of bits; far apart, a list; in a row, a range.
    let bits: String = (0..200).step_by(3).map(|n| format!("serial: {}\n", 1000 + n)).collect();
    for (authority, words, serial, works) in [
        ("ca.pub", &*bits, "1003", false),
        ("ca.pub", &bits, "1004", true),
        ("ca.pub", &bits, "1201", true),
        ("ca.pub", "serial: 5-9000000000\n", "8999999999", false),
        ("ca.pub", "serial: 5-9000000000\n", "9000000001", true),
        ("ca.pub", "serial: 3\nserial: 70000\nserial: 18446744073709551615\n", "70000", false),
        ("ca.pub", "serial: 3\nserial: 70000\nserial: 18446744073709551615\n", "70001", true),
        ("other-ca.pub", "serial: 7\nid: laptop\n", "7", true),
        ("none", "serial: 7\n", "7", false),
        ("ca.pub", "id: laptop\n", "7", false),
        ("ca.pub", "id: lap\nid: laptops\n", "7", true),
        ("ca.pub", &hash, "7", false),
        ("ca.pub", &format!("sha1: {key}"), "7", false),
        ("ca.pub", &format!("sha256: {key}"), "7", false),
        ("ca.pub", &key, "7", false),
        ("ca.pub", &authority, "7", false),
    ] {
        certify(serial);
        make(authority, words);
        let end = stage.login("k-cert", "10.0.0.1").await;
        assert_eq!(end.is_ok(), works, "{authority} {words} {serial}: {end:?}");
        // What is revoked is the certificate, or the key in it; another stays.
        assert!(stage.login("plain", "10.0.0.1").await.is_ok(), "{words}");
    }
    make("ca.pub", &plain);
    assert_eq!(stage.login("plain", "10.0.0.1").await.unwrap_err().0, Reason::Disabled);
    // Whole or not at all: then nobody gets in by a key, and no start succeeds.
    let whole = std::fs::read(stage.path("krl")).unwrap();
    let keys = SshKeys::new(stage.options.clone()).unwrap();
    let (world, peer, offered) =
        (StillWorld::default(), Peer::default(), OfferedKey::new(stage.blob("k")));
    std::fs::write(stage.path("krl"), &whole[..whole.len() - 1]).unwrap();
    assert!(keys.lists("ada", &offered, &Scene::of(&peer, &world)).await.is_err(), "a fault");
    assert!(SshKeys::new(stage.options.clone()).unwrap_err().what.contains("cut off"));
}

/// A signature of OpenSSH's own FIDO key in software, where its regression tests are unpacked.
#[tokio::test]
async fn a_security_key_in_software_logs_in() {
    let library = countersign_interop::peers_folder()
        .join("openssh-tests/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so");
    let Some(stage) = Stage::new().filter(|_| library.is_file()) else {
        eprintln!("not run: there is no sk-dummy.so (Debian's openssh-tests)");
        return;
    };
    let library = library.display().to_string();
    for kind in ["ed25519-sk", "ecdsa-sk"] {
        let line = stage.key(kind, &[kind, "-w", &library]);
        stage.list(&line);
        let keys = SshKeys::new(stage.options.clone()).unwrap();
        let message = to_be_signed("ssh", "ada", &[7; 32]).unwrap();
        std::fs::write(stage.path("message"), &message).unwrap();
        let _ = std::fs::remove_file(stage.path("message.sig"));
        stage.keygen(&["-q", "-Y", "sign", "-n", NAMESPACE, "-w", &library, "-f", kind, "message"]);
        let signature = std::fs::read(stage.path("message.sig")).unwrap();
        let offered = OfferedKey::new(stage.blob(kind));
        let proven = keys.verify("ada", &offered, &message, &signature).expect("a good signature");
        assert!(proven.touched() && !proven.verified());
        let (world, peer) = (StillWorld::default(), Peer::default());
        let verdict = keys.check_key(&proven, &Scene::of(&peer, &world)).await.unwrap();
        assert!(matches!(verdict, Verdict::Is(_)), "{kind}");
    }
}
