//! The little that has to be known of a certificate (RFC 5280): how long ours is valid and which hash its signature has,
//! and whom a client's is for.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// What was read of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
    signed_with: Option<SignatureHash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignatureHash {
    Sha256,
    Sha384,
    Sha512,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;

/// Content of the object identifier of a common name (RFC 5280, appendix A.1).
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// Content of the object identifiers of signatures with a hash (RFC 8017, RFC 5758). MD5 and SHA-1 count as
/// SHA-256 (RFC 5929, section 4.1). Others (Ed25519, RSASSA-PSS) have none, or not in their name.
const HASHES: [(&[u8], SignatureHash); 8] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], SignatureHash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], SignatureHash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], SignatureHash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12], SignatureHash::Sha384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13], SignatureHash::Sha512),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], SignatureHash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], SignatureHash::Sha384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], SignatureHash::Sha512),
];

impl Certificate {
    /// Reads a certificate; `None` if it is none.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (algorithm, validity, _) = parts(der)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        let (oid, _) = element(algorithm, OID)?;
        let signed_with = HASHES.iter().find(|(known, _)| *known == oid).map(|(_, hash)| *hash);
        Some(Self { not_before, not_after, signed_with })
    }

    /// The channel binding `tls-server-end-point` of the certificate.
    pub(crate) fn hash(&self, der: &CertificateDer<'_>) -> Option<Vec<u8>> {
        Some(match self.signed_with? {
            SignatureHash::Sha256 => Sha256::digest(der).to_vec(),
            SignatureHash::Sha384 => Sha384::digest(der).to_vec(),
            SignatureHash::Sha512 => Sha512::digest(der).to_vec(),
        })
    }
}

/// The common name of whom a certificate is for, if there is one and no more.
pub(crate) fn common_name<'a>(der: &'a CertificateDer<'_>) -> Option<&'a str> {
    let (_, _, mut subject) = parts(der)?;
    let mut found = None;
    while !subject.is_empty() {
        let (mut set, rest) = element(subject, SET)?;
        subject = rest;
        while !set.is_empty() {
            let (part, rest) = element(set, SEQUENCE)?;
            set = rest;
            let (oid, value) = element(part, OID)?;
            if oid != COMMON_NAME {
                continue;
            }
            let (text, _) = element(value, UTF8).or_else(|| element(value, PRINTABLE))?;
            if found.replace(std::str::from_utf8(text).ok()?).is_some() {
                return None;
            }
        }
    }
    found
}

/// The algorithm of its signature, its validity, and its subject (RFC 5280, section 4.1).
fn parts(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut signed, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(signed, VERSION) {
        signed = rest;
    }
    let (_serial, rest) = element(signed, INTEGER)?;
    let (algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, rest) = element(rest, SEQUENCE)?;
    let (subject, _) = element(rest, SEQUENCE)?;
    Some((algorithm, validity, subject))
}

/// The content of the first element, if it has this tag, and what follows it (X.690, definite lengths).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*found == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// A time in the forms that a certificate may have (RFC 5280, section 4.1.2.5), and what follows it.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (text, century, rest) = match element(der, UTC_TIME) {
        // Two digits of a year: 1950 to 2049.
        Some((text, rest)) => (text, if text.first()? >= &b'5' { "19" } else { "20" }, rest),
        None => {
            let (text, rest) = element(der, GENERALIZED_TIME)?;
            (text, "", rest)
        }
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?.strip_suffix('Z')?);
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some((time.timestamp().as_second(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(params: impl FnOnce(&mut rcgen::CertificateParams)) -> CertificateDer<'static> {
        let mut wanted = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params(&mut wanted);
        let key = rcgen::KeyPair::generate().unwrap();
        wanted.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn validity_in_both_forms_of_time() {
        let der = made(|params| {
            params.not_before = rcgen::date_time_ymd(1999, 12, 31);
            params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        });
        let certificate = Certificate::read(&der).unwrap();
        assert_eq!(certificate.not_before, 946_598_400);
        assert_eq!(certificate.not_after, 2_556_144_000);
        assert_eq!(certificate.hash(&der), Some(Sha256::digest(&der).to_vec()));
    }

    #[test]
    fn the_name_is_the_common_name_of_whom_it_is_for() {
        use rcgen::{DistinguishedName, DnType};

        let named = |names: &[(DnType, &str)]| {
            let der = made(|params| {
                params.distinguished_name = DistinguishedName::new();
                for (kind, name) in names {
                    params.distinguished_name.push(kind.clone(), *name);
                }
            });
            common_name(&der).map(str::to_owned)
        };
        let organization = (DnType::OrganizationName, "Engines");
        let ada = (DnType::CommonName, "ada l\u{f6}ve");
        assert_eq!(named(&[organization.clone(), ada.clone()]).as_deref(), Some("ada l\u{f6}ve"));
        assert_eq!(named(&[organization]), None);
        // The same identifier once more, by its number.
        let again = (DnType::CustomDnType(vec![2, 5, 4, 3]), "root");
        assert_eq!(named(&[ada, again]), None, "which of them?");
    }

    #[test]
    fn no_part_of_a_certificate_is_one() {
        let der = made(|_| {});
        for length in 0..120 {
            assert_eq!(Certificate::read(&CertificateDer::from(&der[..length])), None);
        }
        assert_eq!(Certificate::read(&CertificateDer::from(vec![0x30; 200])), None);
    }
}
