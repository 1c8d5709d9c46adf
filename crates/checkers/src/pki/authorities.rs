//! Authorities that are trusted, and whether a chain leads to one.

use std::cell::Cell;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage,
    OwnedCertRevocationList, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
    VerifiedPath,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// No chain has more certificates, and none is longer, in bytes.
const LONGEST_CHAIN: usize = 10;
const LONGEST_CERTIFICATE: usize = 16 * 1024;

/// Whether lists of revoked certificates must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "kinds", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Revocation {
    /// An authority's list counts if there is one.
    #[default]
    IfPresent,
    /// Without a list of each authority in the chain nobody is let in.
    Required,
}

/// Why a chain is not accepted, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChainError(pub String);

/// Certificates that are trusted, others that may stand between, and lists of revoked ones.
#[derive(Default)]
pub struct Authorities {
    roots: Vec<Root>,
    anchors: Vec<TrustAnchor<'static>>,
    between: Vec<CertificateDer<'static>>,
    /// The newest of an authority first: the first that could be about a certificate counts.
    lists: Vec<(i64, CertRevocationList<'static>)>,
}

/// What the certificate of an authority says about itself.
struct Root {
    not_before: i64,
    not_after: i64,
    /// How many authorities may stand below it.
    path_length: Option<u32>,
}

impl Authorities {
    /// Adds a certificate: one that names itself as its issuer is trusted, others may stand between.
    ///
    /// # Errors
    ///
    /// Why it cannot be an authority's.
    pub fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), ChainError> {
        let wrong = |why: &str| ChainError(why.to_owned());
        let parsed = parsed(&certificate)?;
        signs(&parsed).map_err(wrong)?;
        if parsed.tbs_certificate.issuer.as_raw() != parsed.tbs_certificate.subject.as_raw() {
            if !self.between.contains(&certificate) {
                self.between.push(certificate);
            }
            return Ok(());
        }
        let limits = parsed.basic_constraints().ok().flatten();
        let root = Root {
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            path_length: limits.and_then(|limits| limits.value.path_len_constraint),
        };
        let anchor = webpki::anchor_from_trusted_cert(&certificate);
        let anchor = anchor.map_err(|error| ChainError(error.to_string()))?.to_owned();
        self.roots.push(root);
        self.anchors.push(anchor);
        Ok(())
    }

    /// Adds a list of revoked certificates.
    ///
    /// # Errors
    ///
    /// Why it cannot be read. Without it, what it revokes would be accepted.
    pub fn add_list(&mut self, list: &CertificateRevocationListDer<'_>) -> Result<(), ChainError> {
        let wrong = |error: &dyn std::fmt::Display| ChainError(error.to_string());
        let (rest, parsed) =
            x509_parser::revocation_list::CertificateRevocationList::from_der(list)
                .map_err(|_| ChainError("no list of revoked certificates".into()))?;
        if !rest.is_empty() {
            return Err(ChainError("there is something behind the list".into()));
        }
        let since = parsed.last_update().timestamp();
        let list = match OwnedCertRevocationList::from_der(list) {
            Ok(list) => CertRevocationList::from(list),
            Err(Error::UnsupportedCrlVersion) => {
                let what = "a list of version 1: have the authority number its lists (`crlnumber` in openssl.cnf)";
                return Err(ChainError(what.into()));
            }
            Err(error) => return Err(wrong(&error)),
        };
        self.lists.push((since, list));
        self.lists.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
        Ok(())
    }

    /// How many authorities are trusted.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Verifies a chain, the user's own certificate first, at a time (seconds since 1970).
    ///
    /// # Errors
    ///
    /// Why it is not accepted.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: i64,
        revocation: Revocation,
    ) -> Result<(), ChainError> {
        let wrong = |why: &str| ChainError(why.to_owned());
        let (own, sent) = chain.split_first().ok_or_else(|| wrong("no certificate"))?;
        if chain.len() > LONGEST_CHAIN {
            return Err(wrong("more certificates than a chain has"));
        }
        if chain.iter().any(|certificate| certificate.len() > LONGEST_CERTIFICATE) {
            return Err(wrong("a certificate that is too long"));
        }
        let seconds = u64::try_from(now).map_err(|_| wrong("a time before 1970"))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let parsed_own = parsed(own)?;
        if let Some(usage) =
            parsed_own.key_usage().map_err(|_| wrong("a key usage that is none"))?
            && !usage.value.digital_signature()
        {
            return Err(wrong("the certificate's key is not for signatures"));
        }
        let between: Vec<_> = sent.iter().chain(&self.between).cloned().collect();
        let lists: Vec<_> = self.lists.iter().map(|(_, list)| list).collect();
        let policy = match revocation {
            Revocation::IfPresent => UnknownStatusPolicy::Allow,
            Revocation::Required => UnknownStatusPolicy::Deny,
        };
        let options = match RevocationOptionsBuilder::new(&lists) {
            Ok(options) => Some(
                options
                    .with_depth(RevocationCheckDepth::Chain)
                    .with_status_policy(policy)
                    .with_expiration_policy(ExpirationPolicy::Enforce)
                    .build(),
            ),
            Err(_) if revocation == Revocation::Required => {
                return Err(wrong("there is no list of revoked certificates, and one is required"));
            }
            Err(_) => None,
        };
        // Why the last path was refused that webpki found good.
        let why = Cell::new(None);
        let judge = |path: &VerifiedPath<'_>| {
            self.judge(path, now).map_err(|reason| {
                why.set(Some(reason));
                Error::UnknownIssuer
            })
        };
        let leaf = EndEntityCert::try_from(own).map_err(|error| ChainError(error.to_string()))?;
        let verified = leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &self.anchors,
            &between,
            time,
            KeyUsage::client_auth(),
            options,
            Some(&judge),
        );
        match verified {
            Ok(_) => Ok(()),
            Err(error) => Err(match why.get() {
                Some(reason) => wrong(reason),
                None => ChainError(format!("the chain is not accepted: {error}")),
            }),
        }
    }

    /// What webpki does not look at.
    fn judge(&self, path: &VerifiedPath<'_>, now: i64) -> Result<(), &'static str> {
        let mut below = 0;
        for certificate in path.intermediate_certificates() {
            let der = certificate.der();
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| "no certificate")?;
            signs(&parsed)?;
            below += 1;
        }
        let anchor = path.anchor();
        let mut why = "the authority is not trusted";
        for (root, known) in self.roots.iter().zip(&self.anchors) {
            if known != anchor {
                continue;
            }
            if now < root.not_before || now > root.not_after {
                why = "the authority's own certificate is not valid now";
            } else if root.path_length.is_some_and(|most| below > most) {
                why = "more authorities stand in the chain than its first one allows";
            } else {
                return Ok(());
            }
        }
        Err(why)
    }
}

/// Whether a certificate may sign others.
fn signs(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    let limits = certificate.basic_constraints().map_err(|_| "basic constraints that are none")?;
    if !limits.is_some_and(|limits| limits.value.ca) {
        return Err("a certificate that is no authority's signs another");
    }
    let usage = certificate.key_usage().map_err(|_| "a key usage that is none")?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("a certificate signs another that may not sign certificates");
    }
    Ok(())
}

/// A certificate and nothing behind it.
fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, ChainError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(ChainError("no certificate".into())),
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities")
            .field("trusted", &self.anchors.len())
            .field("between", &self.between.len())
            .field("lists", &self.lists.len())
            .finish_non_exhaustive()
    }
}
