//! Tokens as OpenSSL and Ruby make and read them, and ours.

use super::*;
use crate::one::tests::run;

const NOW: i64 = 1_800_000_000;
const EXPIRES: i64 = NOW + 1800;

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

fn secret() -> Secret {
    stored(&Secret::from("a password that somebody made at random"))
}

struct Asked<'a> {
    server: &'a str,
    target: Option<&'a str>,
    now: i64,
    legacy: bool,
}

const USUAL: Asked<'_> =
    Asked { server: "serveradmin", target: Some("alice"), now: NOW, legacy: false };
const LEGACY: Asked<'_> = Asked { legacy: true, ..USUAL };

impl Asked<'_> {
    fn check(&self, token: &str) -> Result<(), String> {
        let (server, stored, token) = (user(self.server), secret(), Secret::from(token));
        let target = self.target.map(user);
        let login = Login {
            target: target.as_ref(),
            ..Login::new(&server, Some(&stored), &token, self.now)
        };
        Cipher::new(CipherOptions { legacy: self.legacy, ..CipherOptions::default() })
            .verify(&login)
    }
}

fn ours() -> String {
    let token = token(&secret(), &user("serveradmin"), &user("alice"), EXPIRES).unwrap();
    token.to_str().unwrap().to_owned()
}

/// What is stored is what `printf opennebula | sha256sum` says.
#[test]
fn what_is_stored_is_a_digest() {
    let stored = stored(&Secret::from("opennebula"));
    assert_eq!(
        stored.to_str(),
        Some("b065663b91df7176a5d6567fddde2eb91b3ea73a5055c1f0915909f764d92cc6")
    );
}

/// C3 to C5
#[test]
fn a_token_of_ours_is_for_one_server_and_one_target() {
    let token = ours();
    assert_eq!(USUAL.check(&token), Ok(()));
    assert_eq!(LEGACY.check(&token), Ok(()));
    assert_ne!(token, ours(), "each has its own nonce");
    assert!(!token.contains(':') && token.len() == OURS.len() + 48, "{token}");
    for (asked, why) in [
        (Asked { target: Some("bob"), ..USUAL }, "another target"),
        (Asked { target: Some("oneadmin"), ..LEGACY }, "another target"),
        (Asked { target: None, ..USUAL }, "does not say for whom"),
        (Asked { target: None, ..LEGACY }, "does not say for whom"),
        (Asked { server: "other", ..USUAL }, "another server's"),
        // The names are bound with their lengths.
        (Asked { server: "serveradmi", target: Some("nalice"), ..USUAL }, "another"),
        (Asked { now: EXPIRES, ..USUAL }, "expired"),
        (Asked { now: EXPIRES + 10_000, ..USUAL }, "expired"),
        (Asked { now: EXPIRES - 3601, ..USUAL }, "more than 3600 s"),
    ] {
        let error = asked.check(&token).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let (server, alice, token) = (user("serveradmin"), user("alice"), Secret::from(token));
    let other = stored(&Secret::from("another password"));
    for (stored, why) in [
        (Some(&other), "another secret"),
        (Some(&Secret::from("-")), "no SHA-256"),
        (Some(&Secret::from("A".repeat(64))), "no SHA-256"),
        (None, "no secret is stored"),
    ] {
        let login = Login::new(&server, stored, &token, NOW).acting_for(&alice);
        let error = Cipher::new(CipherOptions::default()).verify(&login).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn no_bit_of_a_token_of_ours_can_be_changed() {
    let token = ours();
    let bytes = STANDARD.decode(token.strip_prefix(OURS).unwrap()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(USUAL.check(&format!("{OURS}{}", STANDARD.encode(flipped))).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        let cut = STANDARD.encode(&bytes[..length]);
        assert!(USUAL.check(&format!("{OURS}{cut}")).is_err(), "{length} bytes");
    }
    for wrong in [
        format!("{token}AAAA"),
        format!("{token}\n"),
        format!(" {token}"),
        OURS.into(),
        String::new(),
    ] {
        assert!(USUAL.check(&wrong).is_err(), "{wrong}");
    }
}

/// C6: `openssl enc -aes-256-cbc`, and the original's Ruby.
#[test]
fn the_original_s_tokens_are_openssl_s() {
    let folder = tempfile::tempdir().unwrap();
    let (server, alice) = (user("serveradmin"), user("alice"));
    let token = legacy_token(&secret(), &server, &alice, EXPIRES).unwrap();
    assert_eq!(LEGACY.check(token.to_str().unwrap()), Ok(()));
    let text = format!("serveradmin:alice:{EXPIRES}");
    std::fs::write(folder.path().join("text"), &text).unwrap();
    let stored = secret();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (key, nonce) = (hex(&stored.expose()[..32]), hex(&stored.expose()[..16]));
    let encrypt = ["enc", "-aes-256-cbc", "-K", &key, "-iv", &nonce, "-in", "text"];
    if let Some(theirs) = run(folder.path(), "openssl", &encrypt) {
        assert_eq!(token.to_str(), Some(STANDARD.encode(theirs).as_str()));
    }
    std::fs::write(folder.path().join("stored"), stored.expose()).unwrap();
    std::fs::write(folder.path().join("token"), token.expose()).unwrap();
    let ruby = "require 'openssl'; require 'base64'; stored = File.read('stored'); \
        cipher = OpenSSL::Cipher.new('aes-256-cbc').decrypt; \
        cipher.key = stored[0..31]; cipher.iv = stored[0..15]; \
        print cipher.update(Base64.decode64(File.read('token'))) << cipher.final";
    if let Some(theirs) = run(folder.path(), "ruby", &["-e", ruby]) {
        assert_eq!(theirs, text.as_bytes());
    }
}

/// C2, C7
#[test]
fn the_original_s_tokens_count_only_where_they_may() {
    let (server, alice) = (user("serveradmin"), user("alice"));
    let made = |server: &UserName, expires| {
        legacy_token(&secret(), server, &alice, expires).unwrap().to_str().unwrap().to_owned()
    };
    let token = made(&server, EXPIRES);
    assert!(USUAL.check(&token).unwrap_err().contains("do not count"));
    // oned does not say for whom.
    assert_eq!(Asked { target: None, ..LEGACY }.check(&token), Ok(()));
    for (asked, token, why) in [
        (Asked { target: Some("bob"), ..LEGACY }, &token, "another target"),
        (Asked { server: "other", ..LEGACY }, &token, "none of this server"),
        (Asked { now: EXPIRES, ..LEGACY }, &token, "expired"),
        (LEGACY, &made(&server, NOW + 3601), "more than 3600 s"),
        (LEGACY, &made(&server, -5), "none of this server"),
        (LEGACY, &made(&user("srv"), EXPIRES), "none of this server"),
        (LEGACY, &token[4..].to_owned(), "none of this server"),
        (LEGACY, &format!("{token}\n"), "no base64"),
        (LEGACY, &"AAAA".to_owned(), "none of this server"),
    ] {
        let error = asked.check(token).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

/// Texts that the original takes: it looks at the first field and the digits of the last.
#[test]
fn what_a_token_of_the_original_s_must_say() {
    let stored = secret();
    for (text, good) in [
        (format!("serveradmin:alice:{EXPIRES}"), true),
        (format!("serveradmin:{EXPIRES}"), false),
        (format!("serveradmin:alice:bob:{EXPIRES}"), false),
        (format!("serveradmin::{EXPIRES}"), false),
        (format!("serveradmin:a b:{EXPIRES}"), false),
        (format!("serveradmin:alice:{EXPIRES}abc"), false),
        ("serveradmin:alice:".into(), false),
        ("serveradmin".into(), false),
        (String::new(), false),
    ] {
        let key = UnboundCipherKey::new(&AES_256, &stored.expose()[..32]).unwrap();
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).unwrap();
        let nonce = <[u8; 16]>::try_from(&stored.expose()[..16]).unwrap();
        let mut bytes = text.clone().into_bytes();
        let context = EncryptionContext::Iv128(FixedLength::from(nonce));
        key.less_safe_encrypt(&mut bytes, context).unwrap();
        assert_eq!(LEGACY.check(&STANDARD.encode(bytes)).is_ok(), good, "{text}");
    }
}
