//! Keys and OpenSSH certificates in wire format (RFC 4253 §6.6; OpenSSH's PROTOCOL.certkeys).

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, PublicKey, Signature};

/// A shorter RSA key is no key.
const LEAST_RSA_BITS: usize = 2048;
const SUFFIX: &str = "-cert-v01@openssh.com";

/// A key, or a certificate about one.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The key that signs, in wire format.
    pub(super) blob: Vec<u8>,
    pub(crate) key: PublicKey,
    pub(crate) certificate: Option<Certificate>,
}

/// What a certificate says. Its authority's signature has been verified; that the authority is one is not said.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(super) serial: u64,
    pub(super) id: String,
    pub(super) is_user: bool,
    pub(super) principals: Vec<String>,
    /// Seconds since 1970; the largest number: always.
    pub(super) valid_after: u64,
    pub(super) valid_before: u64,
    pub(super) critical: Vec<(String, String)>,
    pub(super) extensions: Vec<String>,
    /// The authority's key, in wire format.
    pub(super) authority: Vec<u8>,
}

impl Shown {
    /// Reads a key or a certificate, and verifies the signature of a certificate's authority.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn read(blob: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "the key is cut off";
        let mut rest = blob;
        let kind = text(string(&mut rest).ok_or(CUT)?).ok_or(CUT)?;
        let Some(plain) = kind.strip_suffix(SUFFIX) else {
            let key = key(blob)?;
            return Ok(Self { blob: blob.to_vec(), key, certificate: None });
        };
        // Names of FIDO certificates have the suffix in the place of `@openssh.com`.
        let (plain, fields) = match plain {
            "ssh-ed25519" => (plain.to_owned(), 1),
            "ssh-rsa" => (plain.to_owned(), 2),
            "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => {
                (plain.to_owned(), 2)
            }
            "sk-ssh-ed25519" => (format!("{plain}@openssh.com"), 2),
            "sk-ecdsa-sha2-nistp256" => (format!("{plain}@openssh.com"), 3),
            _ => return Err("a certificate of a kind that is not known"),
        };
        string(&mut rest).ok_or(CUT)?; // a nonce, for the signature's sake
        let mut own = Vec::new();
        put(&mut own, plain.as_bytes());
        for _ in 0..fields {
            put(&mut own, string(&mut rest).ok_or(CUT)?);
        }
        let serial = u64::from_be_bytes(take(&mut rest).ok_or(CUT)?);
        let kind = u32::from_be_bytes(take(&mut rest).ok_or(CUT)?);
        let id = text(string(&mut rest).ok_or(CUT)?).ok_or("its id is not UTF-8")?;
        let mut listed = string(&mut rest).ok_or(CUT)?;
        let mut principals = Vec::new();
        while !listed.is_empty() {
            let principal = text(string(&mut listed).ok_or(CUT)?);
            principals.push(principal.ok_or("a principal is not UTF-8")?.to_owned());
        }
        let valid_after = u64::from_be_bytes(take(&mut rest).ok_or(CUT)?);
        let valid_before = u64::from_be_bytes(take(&mut rest).ok_or(CUT)?);
        let critical = options(string(&mut rest).ok_or(CUT)?)?;
        let extensions = options(string(&mut rest).ok_or(CUT)?)?;
        string(&mut rest).ok_or(CUT)?; // reserved
        let authority = string(&mut rest).ok_or(CUT)?;
        let signed = &blob[..blob.len() - rest.len()];
        let signature = string(&mut rest).ok_or(CUT)?;
        if !rest.is_empty() {
            return Err("there is something behind the certificate");
        }
        let issuer = key(authority)?;
        let signature = Signature::try_from(signature)
            .map_err(|_| "a signature of an algorithm that is not accepted")?;
        verify(&issuer, signed, &signature)
            .then_some(())
            .ok_or("the certificate's authority has not signed it")?;
        let certificate = Certificate {
            serial,
            id: id.to_owned(),
            is_user: kind == 1,
            principals,
            valid_after,
            valid_before,
            critical,
            extensions: extensions.into_iter().map(|(name, _)| name).collect(),
            authority: authority.to_vec(),
        };
        Ok(Self { key: key(&own)?, blob: own, certificate: Some(certificate) })
    }

    /// Whether signatures are made by a FIDO key.
    pub(super) fn is_sk(&self) -> bool {
        matches!(self.key.key_data(), KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_))
    }
}

/// Whether a signature is by this key, and by an algorithm that is as good as the key.
pub(crate) fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    // SHA-1 (`ssh-rsa` as a signature) is not among those that the library knows.
    signature::Verifier::verify(key, message, signature).is_ok()
}

/// A key that may sign.
fn key(blob: &[u8]) -> Result<PublicKey, &'static str> {
    let key = PublicKey::from_bytes(blob).map_err(|_| "no key, or of a type that is not known")?;
    match key.key_data() {
        KeyData::Rsa(rsa) => {
            let bits = rsa.n.as_positive_bytes().map_or(0, |n| n.len() * 8);
            // The first byte may have leading zeros: a key of 2048 bits has 256 bytes.
            if bits < LEAST_RSA_BITS { Err("an RSA key of less than 2048 bits") } else { Ok(key) }
        }
        KeyData::Ecdsa(_)
        | KeyData::Ed25519(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(key),
        _ => Err("a key of a type that is not accepted"),
    }
}

/// The flags in a FIDO key's signature (OpenSSH's PROTOCOL.u2f).
pub(crate) fn flags(signature: &Signature) -> u8 {
    match signature.algorithm() {
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
            signature.as_bytes().iter().rev().nth(4).copied().unwrap_or_default()
        }
        _ => 0,
    }
}

/// Names with values, in order and each once.
fn options(mut bytes: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let mut options: Vec<(String, String)> = Vec::new();
    while !bytes.is_empty() {
        let bad = "an option of the certificate is none";
        let name = text(string(&mut bytes).ok_or(bad)?).ok_or(bad)?;
        let mut data = string(&mut bytes).ok_or(bad)?;
        let value = match data {
            [] => "",
            _ => text(string(&mut data).ok_or(bad)?).ok_or(bad)?,
        };
        if !data.is_empty() || options.last().is_some_and(|(last, _)| last.as_str() >= name) {
            return Err(bad);
        }
        options.push((name.to_owned(), value.to_owned()));
    }
    Ok(options)
}

/// So many bytes.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

/// A string as SSH writes it: four bytes of length, and so many.
pub(super) fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_be_bytes(take(bytes)?)).ok()?;
    let (string, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(string)
}

fn put(bytes: &mut Vec<u8>, string: &[u8]) {
    // What is put was taken from a string with such a length.
    bytes.extend(u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(string);
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
