//! OpenNebula's driver `x509`, built in: tokens that users sign with the key of their certificate, with the chain to
//! an authority.
//!
//! Contract: `docs/protocols/opennebula-tokens.md`, X1 to X9.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::Secret;
use countersign_wire::one::UserName;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::recover::RsaKey;
use super::signing::SigningKey;
use super::validity::{judge, moment};
use super::{Attempt, Driver, Failure, Login, Outcome};
use crate::pki::{Authorities, AuthoritiesFolder, Revocation, escaped, oneline};

/// No token is longer, in bytes: oned keeps no longer password.
const LONGEST_TOKEN: usize = 64 * 1024;
/// No chain has more certificates.
const LONGEST_CHAIN: usize = 10;

/// Which tokens count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct X509Options {
    /// For how long a token may be good, from now on.
    pub longest: Duration,
    /// Whether each authority must have a list of revoked certificates.
    pub revocation: Revocation,
}

impl Default for X509Options {
    /// A day; lists count where they are.
    fn default() -> Self {
        Self { longest: Duration::from_secs(86_400), revocation: Revocation::IfPresent }
    }
}

/// Verifies tokens of certificates.
#[derive(Debug)]
pub struct X509 {
    options: X509Options,
    authorities: AuthoritiesFolder,
}

/// No token can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token can be made: {0}")]
pub struct CannotSign(String);

impl X509 {
    /// A driver that trusts the authorities in a folder.
    pub fn new(options: X509Options, authorities: AuthoritiesFolder) -> Self {
        Self { options, authorities }
    }
}

impl Driver for X509 {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(async move {
            let authorities = match self.authorities.current().await {
                Ok(authorities) => authorities,
                Err(fault) => {
                    return Attempt::of(Outcome::Failed(Failure::Broken(fault.to_string())));
                }
            };
            verify(&login, &authorities, &self.options).into()
        })
    }

    fn describe(&self) -> String {
        let path = self.authorities.path().display();
        format!("verifies tokens of certificates by the authorities in {path} (built in)")
    }
}

/// Whether the login's secret is a token of a certificate that is stored for the user.
///
/// # Errors
///
/// Why not, for the operator.
pub fn verify(
    login: &Login<'_>,
    authorities: &Authorities,
    options: &X509Options,
) -> Result<(), String> {
    let stored = login.stored.and_then(Secret::to_str).ok_or("no name is stored for the user")?;
    let token = login.secret.to_str().filter(|token| token.len() <= LONGEST_TOKEN);
    let (signature, chain) = parts(token.ok_or("the secret is no token")?)?;
    let own = chain.first().ok_or("the token has no certificate")?;
    let own = parsed(own)?;
    // Cheap things first: who is another needs no authority.
    let name = escaped(&oneline(own.subject())?);
    if !stored.split('|').any(|one| one == name) {
        return Err("the certificate is not one that is stored for the user".into());
    }
    let key = RsaKey::from_spki(own.public_key().raw)?;
    let text =
        key.recover(&signature).ok_or("the token is not signed with the certificate's key")?;
    let mut fields = text.split(|byte| *byte == b':');
    let (Some(user), Some(expires), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err("the token does not say user:expires".into());
    };
    if user != login.user.as_str().as_bytes() {
        return Err("the token is another user's".into());
    }
    let expires = moment(expires).ok_or("the token's end is no moment")?;
    judge(expires, login.now, options.longest)?;
    authorities.verify(&chain, login.now, options.revocation).map_err(|error| error.to_string())
}

/// A token of the user, good until then (seconds since 1970): by the key of the first certificate in PEM.
///
/// # Errors
///
/// When key and certificate are not of each other, or are no RSA key's.
pub fn token(
    key: &SigningKey,
    chain: &[u8],
    user: &UserName,
    expires: i64,
) -> Result<Secret, CannotSign> {
    let text = format!("{user}:{expires}");
    let cannot = |why: &str| CannotSign(why.to_owned());
    let signature = key.raise(text.as_bytes()).ok_or_else(|| cannot("the key is no RSA key"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let certificates = certificates.map_err(|error| cannot(&error.to_string()))?;
    let own = certificates.first().ok_or_else(|| cannot("there is no certificate in PEM"))?;
    let own = parsed(own).map_err(|why| cannot(&why))?;
    let public = RsaKey::from_spki(own.public_key().raw).map_err(cannot)?;
    if public.recover(&signature).as_deref() != Some(text.as_bytes()) {
        return Err(cannot("the key is not that of the first certificate"));
    }
    let mut token = STANDARD.encode(signature);
    for certificate in &certificates {
        token.push(':');
        token.push_str(&pem(certificate));
    }
    Ok(Secret::from(STANDARD.encode(token)))
}

/// What OpenNebula stores for a user of the first certificate in PEM: its name in one line, without blanks.
///
/// # Errors
///
/// Why there is none.
pub fn stored(chain: &[u8]) -> Result<String, CannotSign> {
    let own =
        CertificateDer::from_pem_slice(chain).map_err(|error| CannotSign(error.to_string()))?;
    let own = parsed(&own).map_err(CannotSign)?;
    let line = oneline(own.subject()).map_err(|why| CannotSign(why.to_owned()))?;
    Ok(escaped(&line))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The signature and the certificates of a token.
fn parts(token: &str) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), String> {
    let text = STANDARD.decode(token).map_err(|_| "the secret is no token: no base64")?;
    let text = std::str::from_utf8(&text).map_err(|_| "the token is no text")?;
    let mut parts = text.split(':');
    let signature = parts.next().unwrap_or_default().trim_ascii();
    let signature = STANDARD.decode(signature).map_err(|_| "the token's signature is no base64")?;
    let mut chain = Vec::new();
    for part in parts {
        if chain.len() == LONGEST_CHAIN {
            return Err("the token has more certificates than a chain".into());
        }
        let part = part.trim_ascii();
        // One, and nothing around it.
        let whole = part.starts_with("-----BEGIN CERTIFICATE-----")
            && part.ends_with("-----END CERTIFICATE-----")
            && part.matches("-----BEGIN").count() == 1;
        let certificate = CertificateDer::from_pem_slice(part.as_bytes()).ok().filter(|_| whole);
        chain.push(certificate.ok_or("a certificate of the token is none")?);
    }
    Ok((signature, chain))
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err("the certificate is none".into()),
    }
}

/// For fuzzing: a token, for a user of any name that it has, with nobody trusted. It is never accepted.
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(alice) = "alice".parse::<UserName>() else { return };
    let secret = Secret::from(data);
    let mut name = String::from("/CN=alice");
    if let Some((_, chain)) = secret.to_str().and_then(|token| parts(token).ok())
        && let Some(own) = chain.first()
        && let Ok(own) = parsed(own)
        && let Ok(line) = oneline(own.subject())
    {
        assert!(line.starts_with('/') && line.is_ascii() && !escaped(&line).contains(' '));
        name = escaped(&line);
    }
    let stored = Secret::from(name);
    let login = Login::new(&alice, Some(&stored), &secret, 1_800_000_000);
    let options = X509Options { longest: Duration::MAX, ..X509Options::default() };
    assert!(verify(&login, &Authorities::default(), &options).is_err());
}

#[cfg(test)]
mod tests;
