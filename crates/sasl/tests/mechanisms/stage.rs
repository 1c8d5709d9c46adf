//! A store with two users, a portal over it, and a peer that is told what to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign::testing::{StillWorld, now_or_never};
use countersign::{
    Answers, Challenge, Conversation, CredentialKind, Denial, Directory, Fault, Identity, KindSet,
    Peer, Portal, Reason, Reply, Request, ScramKeys, ScramStore, Secret, TextStore, Verdict,
    Verified,
};
use countersign_sasl::{Decoys, ScramHash, Stored};

/// `ada` has `countess` as her password, `a,b=c` has `pencil`; `kim` has no secret, `old` is disabled.
#[derive(Clone, Copy)]
pub(crate) struct Users;

fn password(login: &str) -> Option<Secret> {
    match login {
        "ada" | "old" => Some(Secret::from("countess")),
        "a,b=c" => Some(Secret::from("pencil")),
        _ => None,
    }
}

impl Directory for Users {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(match login {
            "ada" | "a,b=c" | "kim" => Verdict::Is(Verified::vouch(Identity::named(login))),
            "old" => Verdict::Not(Denial::new(Reason::Disabled)),
            _ => Verdict::UNKNOWN,
        })
    }
}

impl TextStore for Users {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        Ok(password(login))
    }
}

impl ScramStore for Users {
    async fn keys(&self, login: &str, hash: &str) -> Result<Option<ScramKeys>, Fault> {
        let hash = ScramHash::from_name(hash).unwrap();
        Ok(password(login).map(|password| hash.keys(&password, b"a stored salt, 2", 64)))
    }
}

pub(crate) fn decoys() -> Decoys {
    Decoys::new(Secret::from("the deployment's key")).with_iterations(64)
}

pub(crate) fn checker(name: &str) -> Stored<Users> {
    Stored::new(name, Users, decoys()).by_scram(ScramHash::ALL).by_cram_md5().by_apop()
}

pub(crate) fn portal() -> Portal<()> {
    Portal::new(()).checked_by(checker("users"))
}

/// A mail client's peer, on a channel with these bindings.
pub(crate) fn peer(bindings: &[(&'static str, &[u8])]) -> Peer {
    let mut peer = Peer::new("imap", KindSet::none().with(CredentialKind::Token));
    let bindings = bindings.iter().map(|(name, bytes)| (*name, bytes.to_vec()));
    peer.more.channel_bindings = Arc::new(bindings.collect::<BTreeMap<_, _>>());
    peer
}

/// A login under way.
pub(crate) struct Talk {
    conversation: Conversation,
    pub(crate) reply: Reply,
    world: Arc<StillWorld>,
}

impl Talk {
    pub(crate) fn begin(portal: &Portal<()>, mechanism: &str, peer: Peer) -> Self {
        Self::begin_as(portal, mechanism, peer, None)
    }

    pub(crate) fn begin_as(
        portal: &Portal<()>,
        mechanism: &str,
        peer: Peer,
        claimed: Option<&str>,
    ) -> Self {
        let world = Arc::new(StillWorld::default());
        let mut request = Request::from_peer(Arc::new(peer)).by(mechanism.to_owned());
        request.claimed = claimed.map(Into::into);
        let begun = now_or_never(portal.begin(request, &*world)).unwrap().unwrap();
        Self { conversation: begun.0, reply: begun.1, world }
    }

    /// Sends a message.
    pub(crate) fn say(&mut self, message: &[u8]) -> &Reply {
        let Reply::Ask(ask) = &self.reply else { panic!("over: {:?}", self.reply) };
        let answers = Answers::new().with("token", Secret::from(message));
        let next = self.conversation.answer(ask.number, answers, &*self.world);
        self.reply = now_or_never(next).unwrap().unwrap();
        &self.reply
    }

    /// What the server said last, if it waits for an answer.
    pub(crate) fn challenge(&self) -> Option<Vec<u8>> {
        let Reply::Ask(ask) = &self.reply else { return None };
        match ask.round.questions[0].challenge.clone() {
            Some(Challenge::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn closing(&self) -> bool {
        matches!(&self.reply, Reply::Ask(ask) if ask.round.closing.is_some())
    }

    /// How it ended: who was let in, or why not.
    pub(crate) fn end(&self) -> Result<String, (Reason, String)> {
        match &self.reply {
            Reply::Granted(who) => Ok(who.subject.to_string()),
            Reply::Denied(denial) => Err((denial.reason, denial.detail.to_string())),
            Reply::Ask(ask) => panic!("not over: {ask:?}"),
        }
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.end().err().map(|(reason, _)| reason)
    }
}
