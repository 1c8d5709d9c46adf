//! Public keys: the mechanism `publickey`. A key that is only offered proves nothing, and is another type than one
//! that was proven to be held: servers have let in whoever offered a listed key (CVE-2024-45337).

use std::future::Future;
use std::sync::{Arc, LazyLock};

use crate::{
    Answer, Answers, BoxExchange, Challenge, Checker, CredentialKind, Denial, Exchange, Fault,
    KindSet, Limits, Mechanism, Need, Question, Reason, Round, Scene, Step, Text, Verdict,
    login_name, not_offered,
};

/// A public key, or a certificate, that somebody says is theirs, in SSH wire format (RFC 4253 §6.6). It proves
/// nothing.
///
/// ```
/// use countersign::{OfferedKey, ProvenKey};
///
/// fn let_in(key: &ProvenKey) -> &str {
///     key.user()
/// }
///
/// let offered = OfferedKey::new(*b"a public key in wire format");
/// // `let_in(&offered)` does not compile. Whoever has verified a signature by it says so, in one word:
/// let proven = ProvenKey::vouch(offered, "ada");
/// assert_eq!(let_in(&proven), "ada");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedKey(Arc<[u8]>);

impl OfferedKey {
    /// A key as it was offered.
    pub fn new(blob: impl Into<Arc<[u8]>>) -> Self {
        Self(blob.into())
    }

    /// Its bytes.
    pub fn blob(&self) -> &[u8] {
        &self.0
    }
}

/// A public key, or a certificate, whose private key has signed a login of one user, just now.
///
/// There is one way to make one, [`ProvenKey::vouch`]: search for it to find everybody who says so.
///
/// ```
/// use countersign::{KindSet, OfferedKey, Peer, ProvenKey};
///
/// // An SSH server whose library has verified the signature of a user authentication request.
/// let mut peer = Peer::new("ssh", KindSet::none());
/// let key = OfferedKey::new(*b"a public key in wire format");
/// peer.more.key = Some(ProvenKey::vouch(key, "ada").by_user(true, false));
/// let key = peer.more.key.as_ref().expect("it was just put there");
/// assert!(key.user() == "ada" && key.touched() && !key.verified());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenKey {
    key: OfferedKey,
    user: Arc<str>,
    touched: bool,
    verified: bool,
}

impl ProvenKey {
    /// **Vouches that the holder of this key has signed, on this connection and for this user name.** For
    /// transports whose library has verified the signature (RFC 4252 §7), and for checkers that have done so.
    /// That a client has asked whether a key would do is no signature.
    pub fn vouch(key: OfferedKey, user: impl Into<Arc<str>>) -> Self {
        Self { key, user: user.into(), touched: false, verified: false }
    }

    /// The proof, with what the signature of a FIDO key says of its user: whether somebody touched the key, and
    /// whether it has verified who (flags 1 and 4). Where nobody says so, neither is believed.
    #[must_use]
    pub fn by_user(self, touched: bool, verified: bool) -> Self {
        Self { touched, verified, ..self }
    }

    /// The key.
    pub fn key(&self) -> &OfferedKey {
        &self.key
    }

    /// For whose login it has signed.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether somebody touched the key that has signed.
    pub fn touched(&self) -> bool {
        self.touched
    }

    /// Whether the key that has signed has verified its user.
    pub fn verified(&self) -> bool {
        self.verified
    }
}

/// Knows whose keys are whose, and verifies signatures.
///
/// ```
/// use countersign::{
///     Denial, Fault, Identity, KeyStore, OfferedKey, ProvenKey, PublicKey, Reason, Scene, Verdict,
///     Verified,
/// };
///
/// /// Believes what the transport has seen proven, of one user's one key.
/// struct One {
///     user: &'static str,
///     key: OfferedKey,
/// }
///
/// impl KeyStore for One {
///     async fn lists(
///         &self,
///         login: &str,
///         key: &OfferedKey,
///         _: &Scene<'_>,
///     ) -> Result<Result<(), Denial>, Fault> {
///         let listed = login == self.user && *key == self.key;
///         Ok(listed.then_some(()).ok_or(Denial::new(Reason::WrongCredential)))
///     }
///
///     async fn check_key(&self, key: &ProvenKey, _: &Scene<'_>) -> Result<Verdict, Fault> {
///         Ok(match key.user() == self.user && *key.key() == self.key {
///             true => Verdict::Is(Verified::vouch(Identity::named(self.user))),
///             false => Verdict::WRONG,
///         })
///     }
///
///     fn verify(&self, _: &str, _: &OfferedKey, _: &[u8], _: &[u8]) -> Option<ProvenKey> {
///         None
///     }
/// }
///
/// use countersign::{Answers, KindSet, Known, Peer, Portal, Request, testing};
/// let key = OfferedKey::new(*b"a public key in wire format");
/// let portal = Portal::new(()).checked_by(PublicKey::new("one", One { user: "ada", key: key.clone() }));
/// let mut peer = Peer::new("ssh", KindSet::all());
/// peer.more.key = Some(ProvenKey::vouch(key, "ada"));
/// let request = Request::from_peer(peer.into()).by("publickey");
/// let (mut nothing_to_say, world) = (Known::new(Answers::new()), testing::StillWorld::default());
/// let login = portal.authenticate(request, &mut nothing_to_say, &world);
/// assert!(testing::now_or_never(login).expect("no I/O").is_ok());
/// ```
pub trait KeyStore: Send + Sync + 'static {
    /// Whether the key would do for this user, if it were proven. It lets nobody in.
    ///
    /// [`Verdict`] has no place here: what is refused is refused in the same way for users that do not exist as
    /// for those who have other keys.
    fn lists(
        &self,
        login: &str,
        key: &OfferedKey,
        scene: &Scene<'_>,
    ) -> impl Future<Output = Result<Result<(), Denial>, Fault>> + Send;

    /// Who the holder of a proven key is.
    fn check_key(
        &self,
        key: &ProvenKey,
        scene: &Scene<'_>,
    ) -> impl Future<Output = Result<Verdict, Fault>> + Send;

    /// Verifies a signature over a message, and vouches for the key; `None` when the key has not signed it.
    fn verify(
        &self,
        login: &str,
        key: &OfferedKey,
        message: &[u8],
        signature: &[u8],
    ) -> Option<ProvenKey>;
}

/// Offers the mechanism `publickey` on top of a [`KeyStore`].
#[derive(Debug)]
pub struct PublicKey<S> {
    name: String,
    store: Arc<S>,
}

impl<S: KeyStore> PublicKey<S> {
    /// A checker of that name.
    pub fn new(name: impl Into<String>, store: S) -> Self {
        Self { name: name.into(), store: Arc::new(store) }
    }

    /// The exchange alone, for a checker that offers `publickey` beside other mechanisms.
    pub fn exchange(store: Arc<S>) -> BoxExchange {
        BoxExchange::new(KeyExchange { store, waits_for: WaitsFor::Beginning })
    }
}

/// The description of the mechanism `publickey`, for checkers that offer it themselves.
pub static PUBLIC_KEY: LazyLock<Mechanism> = LazyLock::new(|| Mechanism {
    name: Mechanism::PUBLIC_KEY.into(),
    // The name, where nothing has said it yet.
    asks: KindSet::none()
        .with(CredentialKind::AuthName)
        .with(CredentialKind::PUBLIC_KEY)
        .with(CredentialKind::Assertion),
    needs: &[Need::PublicKeys],
    plaintext: false,
});

impl Question {
    /// `key`: a public key in SSH wire format.
    pub fn key() -> Self {
        let prompt = Text::message("prompt.key", "Public key");
        let limits = Limits { min: 1, max: 16 * 1024, ..Limits::TOKEN };
        Self { limits, ..Self::new("key", CredentialKind::PUBLIC_KEY, prompt) }
    }

    /// `signature`: over these bytes, by the key that was offered.
    pub fn signature(message: Vec<u8>) -> Self {
        let prompt = Text::message("prompt.signature", "Signature");
        let challenge = Some(Challenge::Bytes(message));
        Self { challenge, ..Self::new("signature", CredentialKind::Assertion, prompt) }
    }
}

impl<S: KeyStore> Checker for PublicKey<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&PUBLIC_KEY)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !PUBLIC_KEY.is(mechanism) {
            return Err(not_offered(&self.name, mechanism));
        }
        Ok(Self::exchange(Arc::clone(&self.store)))
    }
}

/// The bytes that a key signs to log in (K3 of `docs/protocols/publickey.md`): no other use of the key signs them,
/// and no other login has them. Nothing when service or name hold a control character.
pub fn to_be_signed(service: &str, user: &str, nonce: &[u8; 32]) -> Option<Vec<u8>> {
    if service.chars().chain(user.chars()).any(char::is_control) {
        return None;
    }
    let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("countersign publickey 1\nservice {service}\nuser {user}\nnonce {nonce}\n");
    Some(text.into_bytes())
}

struct KeyExchange<S> {
    store: Arc<S>,
    waits_for: WaitsFor,
}

enum WaitsFor {
    Beginning,
    Key,
    Signature { login: Box<str>, key: OfferedKey, message: Vec<u8> },
    Nothing,
}

impl<S: KeyStore> KeyExchange<S> {
    /// A key that the transport has seen proven.
    async fn proven(&self, key: &ProvenKey, scene: &Scene<'_>) -> Result<Step, Fault> {
        let user = key.user();
        let known = scene.proven.last().and_then(|who| who.subject.name()).or(scene.claimed);
        if let Some(known) = known.filter(|known| *known != user) {
            let detail = format!("the key has signed for {user}, not for {known}");
            let denial = Denial::new(Reason::NotAllowed).because(detail);
            return Ok(Step::Deny(denial).claiming(known));
        }
        Ok(Step::from(self.store.check_key(key, scene).await?).claiming(user))
    }

    async fn offered(&mut self, answers: &Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let Some(login) = login_name(answers, scene) else {
            return Ok(Step::deny(Reason::Malformed));
        };
        let Some(Answer::Value(blob)) = answers.find("key") else {
            return Ok(Step::deny(Reason::Declined).claiming(login));
        };
        let key = OfferedKey::new(blob.expose());
        if let Err(denial) = self.store.lists(login, &key, scene).await? {
            return Ok(Step::Deny(denial).claiming(login));
        }
        let mut nonce = [0; 32];
        scene.world.fill(&mut nonce);
        let Some(message) = to_be_signed(&scene.peer.service, login, &nonce) else {
            return Ok(Step::deny(Reason::Malformed).claiming(login));
        };
        let round = Round::of([Question::signature(message.clone())]);
        self.waits_for = WaitsFor::Signature { login: login.into(), key, message };
        Ok(Step::ask(round))
    }
}

impl<S: KeyStore> Exchange for KeyExchange<S> {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        match std::mem::replace(&mut self.waits_for, WaitsFor::Nothing) {
            WaitsFor::Beginning => {
                if let Some(key) = &scene.peer.more.key {
                    return self.proven(key, scene).await;
                }
                self.waits_for = WaitsFor::Key;
                let known = !scene.proven.is_empty() || scene.claimed.is_some();
                let name = (!known).then(Question::username);
                Ok(Step::ask(Round::of(name.into_iter().chain([Question::key()]))))
            }
            WaitsFor::Key => match &scene.peer.more.key {
                // The transport has seen it proven meanwhile.
                Some(key) => self.proven(key, scene).await,
                None => self.offered(&answers, scene).await,
            },
            WaitsFor::Signature { login, key, message } => {
                let Some(Answer::Value(signature)) = answers.find("signature") else {
                    return Ok(Step::deny(Reason::Declined).claiming(&login));
                };
                match self.store.verify(&login, &key, &message, signature.expose()) {
                    Some(key) => {
                        Ok(Step::from(self.store.check_key(&key, scene).await?).claiming(&login))
                    }
                    None => {
                        let detail = "the key has not signed this login";
                        let denial = Denial::new(Reason::WrongCredential).because(detail);
                        Ok(Step::Deny(denial).claiming(&login))
                    }
                }
            }
            WaitsFor::Nothing => Err(Fault::internal("`publickey` was stepped after its end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{StillWorld, now_or_never};
    use crate::{Identity, Peer, Portal, Reply, Request, Secret, Verified};

    /// Ada has the key `ada`, and a signature is the message with the key before it.
    struct Keys;

    impl KeyStore for Keys {
        async fn lists(
            &self,
            login: &str,
            key: &OfferedKey,
            _: &Scene<'_>,
        ) -> Result<Result<(), Denial>, Fault> {
            let listed = login == "ada" && key.blob() == b"ada";
            Ok(if listed { Ok(()) } else { Err(Denial::new(Reason::UnknownUser)) })
        }

        async fn check_key(&self, key: &ProvenKey, scene: &Scene<'_>) -> Result<Verdict, Fault> {
            Ok(match self.lists(key.user(), key.key(), scene).await? {
                Ok(()) => Verdict::Is(Verified::vouch(Identity::named(key.user()))),
                Err(denial) => Verdict::Not(denial),
            })
        }

        fn verify(
            &self,
            login: &str,
            key: &OfferedKey,
            message: &[u8],
            signature: &[u8],
        ) -> Option<ProvenKey> {
            let right = [key.blob(), message].concat() == signature;
            right.then(|| ProvenKey::vouch(key.clone(), login))
        }
    }

    fn peer() -> Peer {
        let kinds =
            [CredentialKind::AuthName, CredentialKind::PUBLIC_KEY, CredentialKind::Assertion];
        Peer::new("ssh", kinds.into_iter().collect())
    }

    /// What comes of offering a key and signing as the function does.
    fn login(user: &str, key: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> Result<String, Reason> {
        let world = StillWorld::default();
        let portal = Portal::new(()).checked_by(PublicKey::new("keys", Keys));
        let request = Request::from_peer(Arc::new(peer())).by("publickey");
        let begun = now_or_never(portal.begin(request, &world)).unwrap().unwrap();
        let (mut conversation, _) = begun;
        let offered = Answers::new().with("username", user).with("key", Secret::from(key));
        let mut reply = now_or_never(conversation.answer(1, offered, &world)).unwrap().unwrap();
        if let Reply::Ask(ask) = &reply {
            let Some(Challenge::Bytes(message)) = &ask.round.questions[0].challenge else {
                panic!("{ask:?}");
            };
            let signed = Answers::new().with("signature", Secret::from(sign(message)));
            reply = now_or_never(conversation.answer(2, signed, &world)).unwrap().unwrap();
        }
        match reply {
            Reply::Granted(who) => Ok(who.subject.to_string()),
            Reply::Denied(denial) => Err(denial.reason),
            Reply::Ask(ask) => panic!("{ask:?}"),
        }
    }

    #[test]
    fn a_key_is_offered_and_then_proven() {
        let right = |message: &[u8]| [b"ada", message].concat();
        assert_eq!(login("ada", "ada", right).as_deref(), Ok("ada"));
        assert_eq!(login("ada", "ada", <[u8]>::to_vec), Err(Reason::WrongCredential));
        assert_eq!(login("ada", "ada", |_| b"ada".to_vec()), Err(Reason::WrongCredential));
        // Who does not exist and who has another key are refused alike, before any signature.
        let never = |_: &[u8]| panic!("nothing is asked");
        assert_eq!(login("ada", "bob", never), Err(Reason::UnknownUser));
        assert_eq!(login("nobody", "ada", never), Err(Reason::UnknownUser));
    }

    #[test]
    fn a_transport_s_proof_is_for_one_name() {
        let of = |claimed: Option<&str>, user: &str, key: &str| {
            let mut peer = peer();
            let key = OfferedKey::new(key.as_bytes());
            peer.more.key = Some(ProvenKey::vouch(key, user));
            let mut request = Request::from_peer(Arc::new(peer)).by("publickey");
            request.claimed = claimed.map(Into::into);
            let portal = Portal::new(()).checked_by(PublicKey::new("keys", Keys));
            let world = StillWorld::default();
            match now_or_never(portal.begin(request, &world)).unwrap().unwrap().1 {
                Reply::Granted(who) => Ok(who.subject.to_string()),
                Reply::Denied(denial) => Err(denial.reason),
                Reply::Ask(ask) => panic!("{ask:?}"),
            }
        };
        assert_eq!(of(Some("ada"), "ada", "ada").as_deref(), Ok("ada"));
        assert_eq!(of(None, "ada", "ada").as_deref(), Ok("ada"));
        assert_eq!(of(Some("root"), "ada", "ada"), Err(Reason::NotAllowed));
        assert_eq!(of(Some("ada"), "ada", "bob"), Err(Reason::UnknownUser));
    }

    /// As a second factor, over a connection on which the key is proven after the first.
    #[test]
    fn a_transport_s_proof_may_come_later() {
        struct Once;
        impl crate::PasswordStore for Once {
            async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, Fault> {
                Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
            }
        }
        let world = StillWorld::default();
        let portal = Portal::new(())
            .checked_by(crate::Password::new("once", Once))
            .checked_by(PublicKey::new("keys", Keys))
            .requiring(["password", "publickey"]);
        for (signed_for, key, expected) in [
            ("ada", "ada", Ok("ada")),
            ("ada", "bob", Err(Reason::UnknownUser)),
            ("bob", "ada", Err(Reason::NotAllowed)),
        ] {
            let kinds = [CredentialKind::Passphrase, CredentialKind::PUBLIC_KEY];
            let mut peer = peer();
            peer.supports = kinds.into_iter().collect();
            let mut request = Request::from_peer(Arc::new(peer)).by("password");
            request.claimed = Some("ada".into());
            let begun = now_or_never(portal.begin(request, &world)).unwrap().unwrap();
            let (mut conversation, _) = begun;
            let password = Answers::new().with("password", "x");
            let asked = now_or_never(conversation.answer(1, password, &world)).unwrap().unwrap();
            let Reply::Ask(asked) = asked else { panic!("{asked:?}") };
            assert_eq!(asked.round.questions[0].name, "key");
            let offered = OfferedKey::new(key.as_bytes());
            conversation.proves(ProvenKey::vouch(offered, signed_for));
            let answers = Answers::new().with("key", Secret::from(key));
            let end = conversation.answer(asked.number, answers, &world);
            let end = match now_or_never(end).unwrap().unwrap() {
                Reply::Granted(who) => Ok(who.subject.to_string()),
                Reply::Denied(denial) => Err(denial.reason),
                Reply::Ask(ask) => panic!("{ask:?}"),
            };
            assert_eq!(end.as_deref(), expected.as_ref().copied(), "{signed_for}, {key}");
        }
    }

    #[test]
    fn what_is_signed_says_what_for() {
        let message = to_be_signed("ssh", "ada", &[0xab; 32]).unwrap();
        let nonce = "ab".repeat(32);
        let expected = format!("countersign publickey 1\nservice ssh\nuser ada\nnonce {nonce}\n");
        assert_eq!(message, expected.as_bytes());
        assert_eq!(to_be_signed("ssh\nuser root", "ada", &[0; 32]), None);
        assert_eq!(to_be_signed("ssh", "a\nb", &[0; 32]), None);
    }
}
