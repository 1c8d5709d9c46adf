//! What HTTP Digest (RFC 7616) brings to a login: plain data between a front end, which knows the request, and
//! a checker, which knows the user's key. Nothing is computed here.

use std::sync::OnceLock;

/// The hash of a Digest exchange, without regard to `-sess`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DigestAlgorithm {
    /// MD5, which RFC 2069 and RFC 2617 clients know.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256 (FIPS 180-4 §5.3.6).
    Sha512_256,
}

impl DigestAlgorithm {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::Sha512_256, Self::Sha256, Self::Md5];

    /// The name in headers and configuration: `SHA-256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// The algorithm of that name, without regard to case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// How many hexadecimal digits a value has.
    pub fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 | Self::Sha512_256 => 64,
        }
    }
}

/// What a response to an HTTP Digest challenge was computed over, but for the user's key.
///
/// Whoever makes one vouches that the nonce is its own, not too old, and was never before seen with this
/// nonce count, and that method, URI and body are those of the request. The response is then
/// `H(key ":" rest)`, where `key` is `H(A1)`, or `H(H(A1) ":" session)` for the `-sess` variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestClaim {
    /// The hash.
    pub algorithm: DigestAlgorithm,
    /// The realm, which is ours.
    pub realm: String,
    /// For `-sess`: `nonce ":" cnonce`.
    pub session: Option<String>,
    /// `nonce ":" nc ":" cnonce ":" qop ":" H(A2)`, or `nonce ":" H(A2)` of RFC 2069.
    pub rest: String,
    /// Whether the name is `H(name ":" realm)` in place of the name itself.
    pub userhash: bool,
    /// What our own proof is computed over (RFC 7616 §3.5): as `rest`, with `H(":" URI)`. Empty where the client
    /// is of RFC 2069, which knows none.
    pub reply: String,
    /// Our own proof, `rspauth`: by it the client knows that we know its key. Said by the checker that has found
    /// the client's response right, and told to nobody who does not get in.
    pub rspauth: OnceLock<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_headers() {
        for algorithm in DigestAlgorithm::ALL {
            assert_eq!(DigestAlgorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(DigestAlgorithm::from_name("sha-512-256"), Some(DigestAlgorithm::Sha512_256));
        assert_eq!(DigestAlgorithm::from_name("SHA-512"), None);
    }
}
