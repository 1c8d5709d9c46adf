//! An issuer's public keys, each with the algorithms that its type allows.

use std::str::FromStr;

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use serde_json::Value;

pub use jsonwebtoken::Algorithm;

/// More keys than any issuer has at a time.
const MOST_KEYS: usize = 100;
/// So many signatures are tried for one token.
const MOST_TRIES: usize = 8;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// The algorithms of public keys, all of which are safe.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The algorithm of that name, if it is one of public keys: `none` and those of shared secrets are not.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    Algorithm::from_str(name).ok().filter(|algorithm| ALGORITHMS.contains(algorithm))
}

/// Public keys of an issuer.
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JWK set, one JWK, or public keys in PEM. Keys of a set that nothing here can use, such as those
    /// for encryption, are left out.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to do.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is neither JSON nor PEM")?;
        let keys = match text.trim_start().starts_with('{') {
            true => jwks(text)?,
            false => pem(text)?,
        };
        match keys.len() {
            0 => Err("there is no public key in it for signatures by RSA, ECDSA or Ed25519".into()),
            n if n > MOST_KEYS => Err(format!("there are more than {MOST_KEYS} keys in it")),
            _ => Ok(Self { keys }),
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none, which [`KeySet::parse`] refuses.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a token that names this key, or none, could have been signed by a key of the set.
    pub fn knows(&self, kid: Option<&str>) -> bool {
        self.candidates(kid).next().is_some()
    }

    /// Whether one of the keys has signed. A key verifies only by algorithms of its type.
    pub fn verify(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let signature = signature.to_vec();
        let fit = self.candidates(kid).filter(|key| key.algorithms.contains(&algorithm));
        fit.take(MOST_TRIES).any(|key| {
            // The provider is named: there is none for the whole process that could be another.
            let verifier = (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key.key);
            verifier.is_ok_and(|verifier| verifier.verify(message, &signature).is_ok())
        })
    }

    /// A key without a name may be anybody's; a token without one may be of any key.
    fn candidates<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
        self.keys.iter().filter(move |key| match (kid, &key.kid) {
            (Some(wanted), Some(own)) => wanted == own,
            _ => true,
        })
    }
}

fn jwks(text: &str) -> Result<Vec<Key>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("JSON: {error}"))?;
    let listed = match value.get("keys") {
        Some(Value::Array(keys)) => keys.clone(),
        Some(_) => return Err("`keys` is no list".into()),
        None => vec![value],
    };
    Ok(listed.into_iter().filter_map(usable).collect())
}

/// A key that verifies signatures, if it is one. RFC 7517 §5 has all others ignored.
fn usable(value: Value) -> Option<Key> {
    let declared = value.get("alg").and_then(Value::as_str).map(str::to_owned);
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let of_type = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => P256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => P384,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => ED25519,
        // A shared secret among them, which whoever can read it could sign with.
        _ => return None,
    };
    let mut algorithms = of_type.to_vec();
    if let Some(declared) = declared {
        algorithms.retain(|one| algorithm(&declared) == Some(*one));
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { kid: jwk.common.key_id, algorithms, key })
}

fn pem(text: &str) -> Result<Vec<Key>, String> {
    const BEGIN: &str = "-----BEGIN ";
    let blocks: Vec<_> = text.split(BEGIN).skip(1).collect();
    let mut keys = Vec::new();
    for block in blocks {
        let label = block.split("-----").next().unwrap_or_default();
        if label.contains("PRIVATE KEY") {
            return Err("there is a private key in it; only public keys are needed here".into());
        }
        if !label.ends_with("PUBLIC KEY") {
            return Err(format!("`{label:.40}` is no public key"));
        }
        let block = format!("{BEGIN}{block}");
        let bytes = block.as_bytes();
        let read = [
            DecodingKey::from_rsa_pem as fn(&[u8]) -> _,
            DecodingKey::from_ec_pem,
            DecodingKey::from_ed_pem,
        ];
        let kinds = [RSA, &[], ED25519];
        let found = read.iter().zip(kinds).find_map(|(read, kind)| Some((read(bytes).ok()?, kind)));
        let (key, kind) = found.ok_or("a public key of a type that is not known")?;
        let algorithms = match (kind, key.kind()) {
            // The curve shows in the length of a point.
            ([], DecodingKeyKind::SecretOrDer(point)) if point.len() == 65 => P256,
            ([], DecodingKeyKind::SecretOrDer(point)) if point.len() == 97 => P384,
            ([], _) => return Err("a public key on a curve that is not known".into()),
            (kind, _) => kind,
        };
        keys.push(Key { kid: None, algorithms: algorithms.to_vec(), key });
    }
    Ok(keys)
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}
