//! Bearer tokens (RFC 6750): the mechanism `bearer`. Whoever shows the token is whom it was made for.

use std::future::Future;
use std::sync::{Arc, LazyLock};

use crate::{
    Answer, Answers, BoxExchange, Charset, Checker, CredentialKind, Denial, Exchange, Fault,
    Identity, KindSet, Limits, Mechanism, Need, Question, Reason, Round, Scene, Secret, Step, Text,
    Verdict, not_offered,
};

/// Checks tokens.
pub trait BearerStore: Send + Sync + 'static {
    /// Checks one token: whose it is.
    ///
    /// `claimed` is who the peer says it is, where its protocol has it say so, or who an earlier factor has
    /// proven. A store need not look at it: what it answers is compared with [`BearerStore::names`]. It may,
    /// where the token tells nothing by itself.
    ///
    /// A token that this store has nothing to do with, such as one of another issuer, is
    /// [`Verdict::UNKNOWN`], and another checker may be asked.
    fn check_token(
        &self,
        token: &Secret,
        claimed: Option<&str>,
        scene: &Scene<'_>,
    ) -> impl Future<Output = Result<Verdict, Fault>> + Send;

    /// Whether a name that the peer says is a name of whom the token is for. Usually it is the proven one,
    /// letter by letter; to be written by stores that know people by several.
    fn names(&self, who: &Identity, claimed: &str) -> bool {
        who.subject.name() == Some(claimed)
    }
}

/// Offers the mechanism `bearer` on top of a [`BearerStore`].
///
/// ```
/// use countersign::{Bearer, BearerStore, Fault, Identity, Scene, Secret, Verdict, Verified};
///
/// /// One token for the machine that collects figures.
/// struct Figures(Secret);
///
/// impl BearerStore for Figures {
///     async fn check_token(
///         &self,
///         token: &Secret,
///         _: Option<&str>,
///         _: &Scene<'_>,
///     ) -> Result<Verdict, Fault> {
///         if *token != self.0 {
///             return Ok(Verdict::UNKNOWN);
///         }
///         Ok(Verdict::Is(Verified::vouch(Identity::named("figures"))))
///     }
/// }
///
/// let checker = Bearer::new("figures", Figures(Secret::from("s3cret")));
/// # let _ = checker;
/// ```
#[derive(Debug)]
pub struct Bearer<S> {
    name: String,
    store: Arc<S>,
}

impl<S: BearerStore> Bearer<S> {
    /// A checker of that name.
    pub fn new(name: impl Into<String>, store: S) -> Self {
        Self { name: name.into(), store: Arc::new(store) }
    }

    /// The exchange alone, for a checker that offers `bearer` beside other mechanisms.
    pub fn exchange(store: Arc<S>) -> BoxExchange {
        BoxExchange::new(BearerExchange { store, asked: false })
    }
}

/// The description of the mechanism `bearer`, for checkers that offer it themselves.
pub static BEARER: LazyLock<Mechanism> = LazyLock::new(|| Mechanism {
    name: Mechanism::BEARER.into(),
    asks: KindSet::none().with(CredentialKind::BEARER),
    needs: &[Need::BearerTokens],
    // Whoever hears the token can show it.
    plaintext: true,
});

impl Question {
    /// The longest token, in bytes. Larger ones pass through no usual header field.
    pub const LONGEST_BEARER: u32 = 16 * 1024;

    /// `bearer`: a token as it stands in a header field.
    pub fn bearer() -> Self {
        let prompt = Text::message("prompt.bearer", "Access token");
        let limits = Limits { min: 1, max: Self::LONGEST_BEARER, charset: Charset::Bytes };
        Self { limits, ..Self::new("bearer", CredentialKind::BEARER, prompt) }
    }
}

impl<S: BearerStore> Checker for Bearer<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&BEARER)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !BEARER.is(mechanism) {
            return Err(not_offered(&self.name, mechanism));
        }
        Ok(Self::exchange(Arc::clone(&self.store)))
    }
}

struct BearerExchange<S> {
    store: Arc<S>,
    asked: bool,
}

impl<S: BearerStore> Exchange for BearerExchange<S> {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        static ROUND: LazyLock<Arc<Round>> =
            LazyLock::new(|| Arc::new(Round::of([Question::bearer()])));
        if !std::mem::replace(&mut self.asked, true) {
            return Ok(Step::Ask(Arc::clone(&ROUND)));
        }
        let proven = scene.proven.last().and_then(|who| who.subject.name());
        let claimed = proven.or(scene.claimed);
        let Some(Answer::Value(token)) = answers.find("bearer") else {
            return Ok(Step::deny(Reason::Declined));
        };
        let step = match self.store.check_token(token, claimed, scene).await? {
            Verdict::Is(who) => match claimed {
                Some(claimed) if !self.store.names(&who, claimed) => {
                    let detail = format!("the token is for {}, not for {claimed}", who.subject);
                    Step::Deny(Denial::new(Reason::NotAllowed).because(detail))
                }
                _ => Step::Grant(who),
            },
            Verdict::Not(denial) => Step::Deny(denial),
        };
        Ok(match claimed {
            Some(claimed) => step.claiming(claimed),
            None => step,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{StillWorld, now_or_never};
    use crate::{Conversation, Peer, Portal, Reply, Request, Verified};

    struct One;

    impl BearerStore for One {
        async fn check_token(
            &self,
            token: &Secret,
            _: Option<&str>,
            _: &Scene<'_>,
        ) -> Result<Verdict, Fault> {
            Ok(match *token == Secret::from("s3cret") {
                true => Verdict::Is(Verified::vouch(Identity::named("ada"))),
                false => Verdict::UNKNOWN,
            })
        }
    }

    fn begun(claimed: Option<&str>) -> (Conversation, Reply) {
        let kinds = KindSet::none().with(CredentialKind::BEARER);
        let mut peer = Peer::new("http", kinds);
        peer.transport = crate::Transport::Tls;
        let mut request = Request::from_peer(Arc::new(peer)).by("bearer");
        request.claimed = claimed.map(Into::into);
        let portal = Portal::new(()).checked_by(Bearer::new("one", One));
        now_or_never(portal.begin(request, &StillWorld::default())).unwrap().unwrap()
    }

    fn end(claimed: Option<&str>, token: &str) -> Result<String, Reason> {
        let (mut conversation, _) = begun(claimed);
        let answers = Answers::new().with("bearer", Secret::from(token));
        let world = StillWorld::default();
        let reply = conversation.answer(1, answers, &world);
        match now_or_never(reply).unwrap().unwrap() {
            Reply::Granted(who) => Ok(who.subject.to_string()),
            Reply::Denied(denial) => Err(denial.reason),
            Reply::Ask(ask) => panic!("{ask:?}"),
        }
    }

    #[test]
    fn a_token_is_for_whom_it_is_for() {
        assert_eq!(end(None, "s3cret").as_deref(), Ok("ada"));
        assert_eq!(end(Some("ada"), "s3cret").as_deref(), Ok("ada"));
        assert_eq!(end(Some("root"), "s3cret"), Err(Reason::NotAllowed));
        assert_eq!(end(Some("ada"), "other"), Err(Reason::UnknownUser));
    }

    #[test]
    fn a_token_is_a_secret_and_has_an_end() {
        assert!(CredentialKind::BEARER.secret() && !CredentialKind::BEARER.echo());
        let (mut conversation, reply) = begun(None);
        let Reply::Ask(ask) = reply else { panic!("{reply:?}") };
        assert_eq!(ask.round.questions[0].name, "bearer");
        for token in ["", &"x".repeat(16 * 1024 + 1)] {
            let answers = Answers::new().with("bearer", Secret::from(token));
            let world = StillWorld::default();
            let answered = conversation.answer(1, answers, &world);
            assert!(now_or_never(answered).unwrap().is_err());
        }
    }
}
