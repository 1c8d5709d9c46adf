//! Private keys that make tokens: the client's side, for `countersign token` and for tests.
//!
//! | file | keys |
//! |---|---|
//! | PKCS#8 (`BEGIN PRIVATE KEY`, `BEGIN ENCRYPTED PRIVATE KEY`) | RSA |
//! | PKCS#1 (`BEGIN RSA PRIVATE KEY`) | RSA, without passphrase |
//! | OpenSSH (`BEGIN OPENSSH PRIVATE KEY`) | RSA, Ed25519, ECDSA (feature `one-ssh`) |

use countersign::Secret;
#[cfg(feature = "one-ssh")]
use rsa::BigUint;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncryptedPrivateKeyInfo, SecretDocument};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};

use super::recover::RsaKey;

/// A private key.
#[derive(Clone)]
pub struct SigningKey(Kind);

#[derive(Clone)]
enum Kind {
    Rsa(Box<RsaPrivateKey>),
    #[cfg(feature = "one-ssh")]
    Ssh(Box<ssh_key::PrivateKey>),
}

/// Why a file is no key that could be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It is encrypted, and no passphrase was given.
    #[error("the key has a passphrase")]
    NeedsPassphrase,
    /// The passphrase does not open it.
    #[error("the passphrase does not open the key")]
    WrongPassphrase,
    /// What it is instead, and what to do.
    #[error("{0}")]
    Unusable(&'static str),
}

impl SigningKey {
    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// Why it is none that could be used.
    pub fn read(pem: &[u8], passphrase: Option<&Secret>) -> Result<Self, KeyFileError> {
        let unusable = KeyFileError::Unusable;
        let text =
            std::str::from_utf8(pem).map_err(|_| unusable("the file is no private key in PEM"))?;
        let has = |label: &str| text.contains(&format!("-----BEGIN {label}-----"));
        let rsa = if has("OPENSSH PRIVATE KEY") {
            return openssh(text, passphrase);
        } else if has("RSA PRIVATE KEY") {
            if text.contains("ENCRYPTED") {
                return Err(unusable(
                    "the key is encrypted in a way that keeps little; write it anew: `openssl pkcs8 -topk8 -in OLD -out NEW`",
                ));
            }
            RsaPrivateKey::from_pkcs1_pem(text).ok()
        } else if has("ENCRYPTED PRIVATE KEY") {
            let passphrase = passphrase.ok_or(KeyFileError::NeedsPassphrase)?;
            let (_, sealed) =
                SecretDocument::from_pem(text).map_err(|_| unusable("the key is damaged"))?;
            let sealed = EncryptedPrivateKeyInfo::try_from(sealed.as_bytes())
                .map_err(|_| unusable("the key is encrypted in a way that is not known"))?;
            let open = sealed.decrypt(passphrase.expose());
            let open = open.map_err(|_| KeyFileError::WrongPassphrase)?;
            RsaPrivateKey::from_pkcs8_der(open.as_bytes()).ok()
        } else if has("PRIVATE KEY") {
            RsaPrivateKey::from_pkcs8_pem(text).ok()
        } else {
            return Err(unusable("the file is no private key in PEM"));
        };
        let rsa = rsa
            .ok_or(unusable("the key is no RSA key; other keys are read as OpenSSH writes them"))?;
        Self::of_rsa(rsa)
    }

    fn of_rsa(key: RsaPrivateKey) -> Result<Self, KeyFileError> {
        RsaKey::from_parts(&key.n().to_bytes_be(), &key.e().to_bytes_be())
            .map_err(KeyFileError::Unusable)?;
        Ok(Self(Kind::Rsa(Box::new(key))))
    }

    /// Signs a text by itself, as OpenNebula does (type 1 of PKCS#1 v1.5 without a hash); nothing for keys that
    /// are not RSA.
    ///
    /// It is made where the key lies and for its owner, with blinding: nobody measures the time it takes.
    pub(crate) fn raise(&self, text: &[u8]) -> Option<Vec<u8>> {
        match &self.0 {
            Kind::Rsa(key) => {
                key.sign_with_rng(&mut OsRng, Pkcs1v15Sign::new_unprefixed(), text).ok()
            }
            #[cfg(feature = "one-ssh")]
            Kind::Ssh(_) => None,
        }
    }

    /// Signs as `ssh-keygen -Y sign` does; nothing for RSA keys, which have the other way.
    #[cfg(feature = "one-ssh")]
    pub(crate) fn sshsig(&self, namespace: &str, message: &[u8]) -> Option<ssh_key::SshSig> {
        match &self.0 {
            Kind::Rsa(_) => None,
            Kind::Ssh(key) => key.sign(namespace, ssh_key::HashAlg::Sha512, message).ok(),
        }
    }

    /// The public key as OpenNebula stores it for its driver `ssh`: base64 of the SubjectPublicKeyInfo of an RSA
    /// key, and of the key in SSH's wire format for others.
    #[cfg(feature = "one-ssh")]
    pub fn stored(&self) -> Option<String> {
        use base64::Engine as _;
        use rsa::pkcs8::EncodePublicKey as _;
        let bytes = match &self.0 {
            Kind::Rsa(key) => key.to_public_key().to_public_key_der().ok()?.into_vec(),
            Kind::Ssh(key) => key.public_key().to_bytes().ok()?,
        };
        Some(base64::engine::general_purpose::STANDARD.encode(bytes))
    }
}

#[cfg(feature = "one-ssh")]
fn openssh(text: &str, passphrase: Option<&Secret>) -> Result<SigningKey, KeyFileError> {
    use ssh_key::private::KeypairData;
    let damaged = KeyFileError::Unusable(
        // The library refuses ECDSA keys whose number begins with zeros: half of those on P-521.
        "the key cannot be read; make its token with `ssh-keygen -Y sign`, as the guide says",
    );
    let mut key = ssh_key::PrivateKey::from_openssh(text).map_err(|_| damaged)?;
    if key.is_encrypted() {
        let passphrase = passphrase.ok_or(KeyFileError::NeedsPassphrase)?;
        key = key.decrypt(passphrase.expose()).map_err(|_| KeyFileError::WrongPassphrase)?;
    }
    match key.key_data() {
        KeypairData::Rsa(pair) => {
            let number = |mpint: &ssh_key::Mpint| {
                mpint.as_positive_bytes().map(BigUint::from_bytes_be).ok_or(damaged)
            };
            let primes = vec![number(&pair.private.p)?, number(&pair.private.q)?];
            let (n, e) = (number(&pair.public.n)?, number(&pair.public.e)?);
            let rsa = RsaPrivateKey::from_components(n, e, number(&pair.private.d)?, primes);
            SigningKey::of_rsa(rsa.map_err(|_| damaged)?)
        }
        KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) => Ok(SigningKey(Kind::Ssh(Box::new(key)))),
        KeypairData::SkEd25519(_) | KeypairData::SkEcdsaSha2NistP256(_) => {
            Err(KeyFileError::Unusable(
                "the key is in a device: make its token with `ssh-keygen -Y sign`, as the guide says",
            ))
        }
        _ => Err(KeyFileError::Unusable("a key of a type that is not accepted")),
    }
}

#[cfg(not(feature = "one-ssh"))]
fn openssh(_: &str, _: Option<&Secret>) -> Result<SigningKey, KeyFileError> {
    Err(KeyFileError::Unusable("this build has no `one-ssh`; build with `--features one-ssh`"))
}

/// The key is not printed.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    #[cfg(feature = "one-ssh")]
    use crate::one::tests::run;

    /// A key that is good for nothing but tests: everybody has it.
    pub(crate) const RSA_2048: &str = include_str!("testing/rsa2048.pem");

    pub(crate) fn rsa_key(pem: &str) -> RsaPrivateKey {
        RsaPrivateKey::from_pkcs8_pem(pem).unwrap()
    }

    #[cfg(feature = "one-ssh")]
    #[test]
    fn keys_as_other_programs_write_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("key"), RSA_2048).unwrap();
        let read = |name: &str, passphrase: Option<&str>| {
            let passphrase = passphrase.map(Secret::from);
            SigningKey::read(&std::fs::read(path(name)).unwrap(), passphrase.as_ref())
        };
        let ours = read("key", None).unwrap();
        let sealed = ["pkcs8", "-topk8", "-in", "key", "-out", "sealed", "-passout", "pass:tea"];
        if run(folder.path(), "openssl", &sealed).is_some() {
            assert_eq!(read("sealed", None).unwrap_err(), KeyFileError::NeedsPassphrase);
            assert_eq!(read("sealed", Some("milk")).unwrap_err(), KeyFileError::WrongPassphrase);
            assert_eq!(read("sealed", Some("tea")).unwrap().stored(), ours.stored());
            run(folder.path(), "openssl", &["rsa", "-in", "key", "-traditional", "-out", "old"]);
            assert_eq!(read("old", None).unwrap().stored(), ours.stored());
            let public = run(folder.path(), "openssl", &["rsa", "-in", "key", "-pubout"]).unwrap();
            let public = String::from_utf8(public).unwrap();
            let stored: String = public.lines().filter(|line| !line.starts_with('-')).collect();
            assert_eq!(ours.stored().unwrap(), stored);
            run(folder.path(), "openssl", &["genrsa", "-out", "small", "1024"]);
            let small = read("small", None).unwrap_err().to_string();
            assert!(small.contains("less than 2048 bits"), "{small}");
        }
        for (name, kind) in [("ed", "ed25519"), ("ec", "ecdsa"), ("rsa", "rsa")] {
            let make = ["-q", "-t", kind, "-N", "tea time", "-f", name];
            if run(folder.path(), "ssh-keygen", &make).is_none() {
                break;
            }
            assert_eq!(read(name, None).unwrap_err(), KeyFileError::NeedsPassphrase);
            assert_eq!(read(name, Some("milk")).unwrap_err(), KeyFileError::WrongPassphrase);
            let key = match read(name, Some("tea time")) {
                // One of 256 begins with a zero, which the library does not read.
                Err(KeyFileError::Unusable(_)) if kind == "ecdsa" => continue,
                key => key.unwrap(),
            };
            assert_eq!(key.raise(b"x").is_some(), kind == "rsa");
            if kind != "rsa" {
                let line = std::fs::read_to_string(path(&format!("{name}.pub"))).unwrap();
                assert_eq!(key.stored().as_deref(), line.split(' ').nth(1));
            }
        }
        for text in ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
        {
            assert!(matches!(
                SigningKey::read(text.as_bytes(), None),
                Err(KeyFileError::Unusable(_))
            ));
        }
        assert_eq!(format!("{ours:?}"), "SigningKey");
    }
}
