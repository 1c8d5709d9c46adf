//! The core's own checkers, over the plainest stores that there can be.

use countersign::{
    Answers, Bearer, BearerStore, Challenge, Denial, Fault, Identity, KeyStore, OfferedKey,
    ProvenKey, PublicKey, Reason, Round, Scene, Secret, Verdict, Verified,
};
use countersign_testkit::{Attempt, Fixture, Proof, assert_conforms};

struct Tokens;

impl BearerStore for Tokens {
    async fn check_token(
        &self,
        token: &Secret,
        _: Option<&str>,
        _: &Scene<'_>,
    ) -> Result<Verdict, Fault> {
        Ok(match token {
            right if *right == Secret::from("mine-ada-0123456789") => {
                Verdict::Is(Verified::vouch(Identity::named("ada")))
            }
            expired if *expired == Secret::from("mine-bob-0123456789") => {
                Verdict::Not(Denial::new(Reason::Expired))
            }
            mine if mine.expose().starts_with(b"mine-") => Verdict::WRONG,
            _ => Verdict::UNKNOWN,
        })
    }
}

#[test]
fn bearer_conforms() {
    let shown = |token: &str| Answers::new().with("bearer", token);
    let proof = Proof::of("bearer", "ada", shown("mine-ada-0123456789"))
        .wrong(shown("mine-ada-9876543210"))
        .unknown(shown("theirs-0123456789"))
        .disabled(shown("mine-bob-0123456789"));
    assert_conforms(&Bearer::new("tokens", Tokens), &Fixture::new().with(proof));
}

/// Keys whose signature of a message is the key and the message: enough to tell who has signed what.
struct Keys;

fn signed(key: &[u8], message: &[u8]) -> Vec<u8> {
    [key, b" signs ", message].concat()
}

impl KeyStore for Keys {
    async fn lists(
        &self,
        login: &str,
        key: &OfferedKey,
        _: &Scene<'_>,
    ) -> Result<Result<(), Denial>, Fault> {
        // Another key of hers is one that has been taken from her.
        Ok(match (login, key.blob()) {
            ("ada", b"the key of ada" | b"an old key of ada") => Ok(()),
            _ => Err(Denial::new(Reason::WrongCredential)),
        })
    }

    async fn check_key(&self, key: &ProvenKey, _: &Scene<'_>) -> Result<Verdict, Fault> {
        Ok(match (key.user(), key.key().blob()) {
            ("ada", b"the key of ada") => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            ("ada", b"an old key of ada") => Verdict::Not(Denial::new(Reason::Disabled)),
            _ => Verdict::WRONG,
        })
    }

    fn verify(
        &self,
        login: &str,
        key: &OfferedKey,
        message: &[u8],
        signature: &[u8],
    ) -> Option<ProvenKey> {
        (signature == signed(key.blob(), message)).then(|| ProvenKey::vouch(key.clone(), login))
    }
}

/// Offers a key, and signs with one.
fn by(user: &'static str, offered: &'static [u8], signing: &'static [u8]) -> Attempt {
    Attempt::computed(move || {
        move |round: &Round| {
            let mut answers = Answers::new();
            for question in &round.questions {
                let value = match (&*question.name, &question.challenge) {
                    ("username", _) => Secret::from(user),
                    ("key", _) => Secret::from(offered),
                    ("signature", Some(Challenge::Bytes(message))) => {
                        Secret::from(signed(signing, message))
                    }
                    (other, _) => panic!("`publickey` asks for {other}"),
                };
                answers.push(question.name.clone(), value);
            }
            answers
        }
    })
}

#[test]
fn public_key_conforms() {
    let (new, old, others) =
        (&b"the key of ada"[..], &b"an old key of ada"[..], &b"the key of eve"[..]);
    let proof = Proof::of("publickey", "ada", by("ada", new, new))
        .wrong(by("ada", others, others))
        .unknown(by("nobody", new, new))
        .disabled(by("ada", old, old));
    assert_conforms(&PublicKey::new("keys", Keys), &Fixture::new().with(proof));
    // One that is only offered: what it is signed with is another.
    let proof = Proof::of("publickey", "ada", by("ada", new, new)).wrong(by("ada", new, others));
    assert_conforms(&PublicKey::new("keys", Keys), &Fixture::new().with(proof));
}
