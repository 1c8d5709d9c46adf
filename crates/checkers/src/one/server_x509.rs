//! OpenNebula's driver `server_x509`, built in: tokens of servers that have the same certificate and key as we have.
//!
//! A token names its target, and is for no other; but the original's driver does not look, nor does oned tell whoever
//! asks. Contract: `docs/protocols/opennebula-tokens.md`, Z1 to Z4.

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
use super::{Attempt, Driver, Login};
use crate::pki::{escaped, oneline};

/// No token is longer: two rounds of base64 around 1,024 bytes.
const LONGEST_TOKEN: usize = 2048;

/// Which tokens count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerX509Options {
    /// For how long a token may be good, from now on.
    pub longest: Duration,
    /// Dangerous: whether tokens count where the caller does not say for whom the server acts, and so for any
    /// target. oned never says.
    pub any_target: bool,
}

impl Default for ServerX509Options {
    /// An hour, and only for the target that the token names.
    fn default() -> Self {
        Self { longest: Duration::from_secs(3600), any_target: false }
    }
}

/// Verifies tokens of servers by a certificate that both have.
#[derive(Debug)]
pub struct ServerX509 {
    options: ServerX509Options,
    key: RsaKey,
    name: String,
    not_before: i64,
    not_after: i64,
}

impl ServerX509 {
    /// A driver with these options, and the servers' certificate in PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with the certificate.
    pub fn new(options: ServerX509Options, certificate: &[u8]) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(certificate).map_err(|error| error.to_string())?;
        let Ok(([], certificate)) = X509Certificate::from_der(&der) else {
            return Err("the certificate is none".into());
        };
        Ok(Self {
            options,
            key: RsaKey::from_spki(certificate.public_key().raw)?,
            name: escaped(&oneline(certificate.subject())?),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Whether the login's secret is a token of the server, for the target.
    ///
    /// # Errors
    ///
    /// Why not, for the operator.
    pub fn verify(&self, login: &Login<'_>) -> Result<(), String> {
        let stored = login.stored.and_then(Secret::to_str);
        if stored != Some(self.name.as_str()) {
            return Err("what is stored for the server is not the certificate's name".into());
        }
        if login.now < self.not_before || login.now > self.not_after {
            return Err("the servers' certificate is not valid now".into());
        }
        let token = login.secret.to_str().filter(|token| token.len() <= LONGEST_TOKEN);
        let token = token.ok_or("the secret is no token")?;
        let twice = "the token is no base64 of base64";
        let inner = STANDARD.decode(token).map_err(|_| twice)?;
        let signature = STANDARD.decode(inner).map_err(|_| twice)?;
        let text = self.key.recover(&signature);
        let text = text.ok_or("the token is not signed with the servers' key")?;
        let mut fields = text.split(|byte| *byte == b':');
        let (Some(server), Some(target), Some(expires), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err("the token does not say server:target:expires".into());
        };
        if server != login.user.as_str().as_bytes() {
            return Err("the token is another server's".into());
        }
        let named = UserName::from_bytes(target).map_err(|_| "the token's target is no name")?;
        match login.target {
            Some(target) if *target != named => {
                return Err("the token is for another target".into());
            }
            None if !self.options.any_target => {
                return Err("whoever asks does not say for whom the server acts".into());
            }
            _ => {}
        }
        let expires = moment(expires).ok_or("the token's end is no moment")?;
        judge(expires, login.now, self.options.longest)
    }
}

impl Driver for ServerX509 {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(std::future::ready(self.verify(&login).into()))
    }

    fn describe(&self) -> String {
        format!("verifies tokens of servers by the certificate {} (built in)", self.name)
    }
}

/// A token of the server for the target, good until then (seconds since 1970); nothing where the key is no RSA key.
pub fn token(
    key: &SigningKey,
    server: &UserName,
    target: &UserName,
    expires: i64,
) -> Option<Secret> {
    let signature = key.raise(format!("{server}:{target}:{expires}").as_bytes())?;
    Some(Secret::from(STANDARD.encode(STANDARD.encode(signature))))
}
