//! Tokens as OpenSSL, Ruby and OpenSSH make them, and ours as they read them.

use std::path::Path;

use super::*;
use crate::one::Outcome;
use crate::one::signing::KeyFileError;
use crate::one::signing::tests::RSA_2048;
use crate::one::tests::run;

const NOW: i64 = 1_800_000_000;
const EXPIRES: i64 = NOW + 3600;

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

/// What comes of a token of alice's.
fn check(stored: &str, token: &str) -> Result<(), String> {
    check_of("alice", stored, token, NOW)
}

fn check_of(name: &str, stored: &str, token: &str, now: i64) -> Result<(), String> {
    let (stored, token, name) = (Secret::from(stored), Secret::from(token), user(name));
    Ssh::new(SshOptions::default()).verify(&Login::new(&name, Some(&stored), &token, now))
}

fn rsa() -> SigningKey {
    SigningKey::read(RSA_2048.as_bytes(), None).unwrap()
}

/// A token of the original's form with any text.
fn saying(text: &str) -> String {
    STANDARD.encode(rsa().raise(text.as_bytes()).unwrap())
}

fn write(folder: &Path, name: &str, data: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), data).unwrap();
}

/// `printf 'alice:EXP' | openssl pkeyutl -sign -inkey key | base64 -w0`
#[test]
fn tokens_that_openssl_makes_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "key", RSA_2048);
    write(folder.path(), "text", format!("alice:{EXPIRES}"));
    let arguments = ["pkeyutl", "-sign", "-inkey", "key", "-in", "text"];
    let Some(signed) = run(folder.path(), "openssl", &arguments) else { return };
    let token = STANDARD.encode(signed);
    assert_eq!(token.len(), 344);
    let stored = rsa().stored().unwrap();
    assert_eq!(check(&stored, &token), Ok(()));
    // S4: nothing in it is random, so ours is the same.
    let ours = super::token(&rsa(), &user("alice"), EXPIRES).unwrap();
    assert_eq!(ours.to_str(), Some(token.as_str()));
    // The key may also be stored as OpenSSH writes it.
    std::fs::set_permissions(
        folder.path().join("key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    if let Some(line) = run(folder.path(), "ssh-keygen", &["-y", "-f", "key"]) {
        let line = String::from_utf8(line).unwrap();
        assert_eq!(check(line.trim(), &token), Ok(()));
        assert_eq!(check(line.split_whitespace().nth(1).unwrap(), &token), Ok(()));
    }
}

#[test]
fn tokens_of_ours_are_what_others_recover() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "key", RSA_2048);
    let token = super::token(&rsa(), &user("alice"), EXPIRES).unwrap();
    write(folder.path(), "signature", STANDARD.decode(token.expose()).unwrap());
    let said = format!("alice:{EXPIRES}").into_bytes();
    let recover = ["pkeyutl", "-verifyrecover", "-inkey", "key", "-in", "signature"];
    if let Some(recovered) = run(folder.path(), "openssl", &recover) {
        assert_eq!(recovered, said);
    }
    // What the original does.
    write(folder.path(), "token", token.expose());
    write(folder.path(), "stored", rsa().stored().unwrap());
    let ruby = "require 'openssl'; require 'base64'; \
        key = OpenSSL::PKey::RSA.new(Base64.decode64(File.read('stored'))); \
        print key.public_decrypt(Base64.decode64(File.read('token')))";
    if let Some(recovered) = run(folder.path(), "ruby", &["-e", ruby]) {
        assert_eq!(recovered, said);
    }
}

/// S2, S3
#[test]
fn what_a_token_must_say() {
    let stored = rsa().stored().unwrap();
    assert_eq!(check(&stored, &saying(&format!("alice:{EXPIRES}"))), Ok(()));
    for (text, why) in [
        (format!("bob:{EXPIRES}"), "another user's"),
        (format!("alic:{EXPIRES}"), "another user's"),
        (format!("Alice:{EXPIRES}"), "another user's"),
        (format!("alice\0:{EXPIRES}"), "another user's"),
        ("alice".into(), "user:expires"),
        (String::new(), "user:expires"),
        (format!("alice:{EXPIRES}:more"), "user:expires"),
        (format!("alice:{EXPIRES}:"), "user:expires"),
        ("alice:".into(), "no moment"),
        ("alice:9999999999abc".into(), "no moment"),
        (format!("alice:{EXPIRES}\n"), "no moment"),
        (format!("alice: {EXPIRES}"), "no moment"),
        (format!("alice:+{EXPIRES}"), "no moment"),
        (format!("alice:0{EXPIRES}"), "no moment"),
        (format!("alice:{NOW}"), "expired"),
        ("alice:1".into(), "expired"),
        (format!("alice:{}", NOW + 86_401), "more than 86400 s"),
        ("alice:999999999999999999".into(), "more than 86400 s"),
    ] {
        let error = check(&stored, &saying(&text)).unwrap_err();
        assert!(error.contains(why), "{text:?}: {error}");
    }
    let token = saying(&format!("alice:{EXPIRES}"));
    assert!(check_of("alice", &stored, &token, EXPIRES).unwrap_err().contains("expired"));
    assert!(check_of("bob", &stored, &token, NOW).unwrap_err().contains("another user's"));
}

#[test]
fn a_token_has_one_spelling() {
    let stored = rsa().stored().unwrap();
    let token = saying(&format!("alice:{EXPIRES}"));
    for wrong in [
        format!("{token}\n"),
        format!(" {token}"),
        format!("{token}="),
        token.trim_end_matches('=').to_owned(),
        format!("{}\n{}", &token[..60], &token[60..]),
        format!("{token}AAAA"),
        format!("AAAA{token}"),
        token[4..].to_owned(),
        token.replace(['+', '/'], "_"),
        "x".repeat(LONGEST_TOKEN + 1),
        String::new(),
    ] {
        assert!(check(&stored, &wrong).is_err(), "{wrong}");
    }
    let bytes = STANDARD.decode(&token).unwrap();
    for at in (0..bytes.len()).step_by(37) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        let error = check(&stored, &STANDARD.encode(flipped)).unwrap_err();
        assert!(error.contains("not signed with the stored key"), "{error}");
    }
}

/// S1
#[test]
fn what_is_stored_is_a_key_that_is_good_enough() {
    let token = saying(&format!("alice:{EXPIRES}"));
    let spki = rsa().stored().unwrap();
    let (start, end) = spki.split_at(100);
    for (stored, why) in [
        ("-", "no base64"),
        ("", "cut off"),
        ("MAA=", "no public key"),
        (start, "no public key"),
        (&format!("{spki}AAAA"), "no public key"),
        (&format!("{start}\n{end}"), "no base64"),
        ("ssh-ed25519 !", "no base64"),
        ("AAAAC3NzaC1lZDI1NTE5AAAA", ""),
        // A key of 1024 bits, by `openssl genrsa 1024`.
        (
            "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDd45gbb1XNXdsc366xHnw9kWkPGg6PlSIXSCsQ3ugXL2gcRATWJEfcNsH2LP0r6wVi\
             01WJnGZuSPZ4NIa9mwNep+vpPmu1vRUBOJkImWbsYIXajfQdFDfIrzqFRY2X5FMTbIaKJ9X4wl8CchmuG9s/9ZudLG3R4LMYLsZn3bdlNwID\
             AQAB",
            "less than 2048 bits",
        ),
    ] {
        let error = check(stored, &token).unwrap_err();
        assert!(error.contains(why) && error.contains("stored"), "{stored}: {error}");
    }
    let (name, secret) = (user("alice"), Secret::from(token.as_str()));
    let none = Ssh::new(SshOptions::default()).verify(&Login::new(&name, None, &secret, NOW));
    assert!(none.unwrap_err().contains("no key is stored"));
}

#[test]
fn the_original_s_tokens_count_only_where_they_may() {
    let (name, stored) = (user("alice"), Secret::from(rsa().stored().unwrap()));
    let token = Secret::from(saying(&format!("alice:{EXPIRES}")));
    let login = Login::new(&name, Some(&stored), &token, NOW);
    let ssh = Ssh::new(SshOptions { original: false, ..SshOptions::default() });
    assert!(ssh.verify(&login).unwrap_err().contains("do not count"));
    let attempt = countersign::testing::now_or_never(ssh.authenticate(login)).unwrap();
    assert!(matches!(attempt.outcome, Outcome::Refused(_)));
    let ssh = Ssh::new(SshOptions::default());
    let attempt = countersign::testing::now_or_never(ssh.authenticate(login)).unwrap();
    assert!(matches!(attempt.outcome, Outcome::Accepted(None)));
}

/// S5 to S8, with keys and signatures by OpenSSH.
#[test]
fn tokens_that_openssh_makes_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let sign = |key: &str, text: &str, namespace: &str| {
        write(folder, "text", text);
        let _ = std::fs::remove_file(folder.join("text.sig"));
        run(folder, "ssh-keygen", &["-q", "-Y", "sign", "-n", namespace, "-f", key, "text"])?;
        let pem = read("text.sig");
        Some(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>())
    };
    for (kind, bits) in
        [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")]
    {
        let name = format!("{kind}{bits}");
        let make = ["-q", "-t", kind, "-b", bits, "-N", "", "-C", "a b", "-f", &name];
        if run(folder, "ssh-keygen", &make).is_none() {
            return;
        }
        let line = read(&format!("{name}.pub"));
        let (line, blob) = (line.trim(), line.split(' ').nth(1).unwrap().to_owned());
        let text = format!("alice:{EXPIRES}");
        let signature = sign(&name, &text, NAMESPACE).unwrap();
        let token = format!("{OURS}{EXPIRES}.{signature}");
        assert_eq!(check(line, &token), Ok(()), "{name}");
        assert_eq!(check(&blob, &token), Ok(()), "{name}");
        // The text is the token's user and moment, for this purpose, by this key.
        let other = sign(&name, &format!("bob:{EXPIRES}"), NAMESPACE).unwrap();
        let purpose = sign(&name, &text, "file").unwrap();
        let bytes = STANDARD.decode(&signature).unwrap();
        let longer = STANDARD.encode([&bytes[..], &[0]].concat());
        for (wrong, why) in [
            (format!("{OURS}{EXPIRES}.{other}"), "another user's"),
            (format!("{OURS}{EXPIRES}.{purpose}"), "not for `countersign-one`"),
            (format!("{OURS}{}.{signature}", EXPIRES + 1), "another user's"),
            (format!("{OURS}0{EXPIRES}.{signature}"), "no moment"),
            (format!("{OURS}{EXPIRES}.{longer}"), "none of SSH"),
            (format!("{OURS}{EXPIRES}.{signature}."), "no base64"),
            (format!("{OURS}{EXPIRES}"), "no moment and signature"),
            (format!("{OURS}{EXPIRES}."), "none of SSH"),
            (signature.clone(), if kind == "rsa" { "stored key" } else { "no RSA key" }),
        ] {
            let error = check(line, &wrong).unwrap_err();
            assert!(error.contains(why), "{name} {wrong}: {error}");
        }
        assert!(check_of("bob", line, &token, NOW).is_err());
        assert!(check_of("alice", line, &token, EXPIRES).unwrap_err().contains("expired"));
        assert!(check_of("alice", line, &token, NOW - 86_400).unwrap_err().contains("more than"));
        for at in (0..bytes.len()).step_by(11) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x04;
            let token = format!("{OURS}{EXPIRES}.{}", STANDARD.encode(flipped));
            assert!(check(line, &token).is_err(), "{name}, byte {at}");
        }
        let relabelled = format!("ssh-dss {blob}");
        assert!(check(&relabelled, &token).unwrap_err().contains("another type"));
        // And ours, as OpenSSH reads it.
        let key = match SigningKey::read(read(&name).as_bytes(), None) {
            // Half of the keys on P-521 begin with zeros, which the library does not read.
            Err(KeyFileError::Unusable(_)) if kind == "ecdsa" => continue,
            key => key.unwrap(),
        };
        let ours = super::token(&key, &user("alice"), EXPIRES).unwrap();
        assert_eq!(check(line, ours.to_str().unwrap()), Ok(()), "{name}");
        let Some(rest) = ours.to_str().unwrap().strip_prefix(OURS) else { continue };
        let pem = format!(
            "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
            rest.split_once('.').unwrap().1
        );
        write(folder, "ours.sig", pem);
        write(folder, "allowed", format!("alice {line}\n"));
        let verify = format!(
            "printf 'alice:{EXPIRES}' | ssh-keygen -q -Y verify -f allowed -I alice -n {NAMESPACE} -s ours.sig"
        );
        run(folder, "sh", &["-c", &verify]);
    }
    // A key of another.
    let (mine, other) = (read("ed25519256.pub"), sign("ecdsa256", "alice:1", NAMESPACE).unwrap());
    let token = format!("{OURS}{EXPIRES}.{other}");
    assert!(check(mine.trim(), &token).unwrap_err().contains("stored key"));
    // A certificate is not a key.
    let certify = ["-q", "-s", "ecdsa256", "-I", "id", "-n", "alice", "ed25519256.pub"];
    run(folder, "ssh-keygen", &certify);
    let certificate = read("ed25519256-cert.pub");
    assert!(check(certificate.trim(), &token).unwrap_err().contains("a certificate"));
}
