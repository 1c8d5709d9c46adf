//! Whole exchanges over a portal with one password checker.

use std::sync::Arc;

use countersign::testing::{StillWorld, now_or_never};
use countersign::{
    Answers, Challenge, Conversation, CredentialKind, Directory, Fault, Identity, KindSet,
    Password, PasswordStore, Peer, Portal, Reason, Reply, Request, Secret, Verdict, Verified,
};
use countersign_sasl::{External, Login, Plain};

struct One;

impl PasswordStore for One {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(match (login, *password == Secret::from("countess")) {
            ("ada", true) => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            ("ada", false) => Verdict::WRONG,
            _ => Verdict::UNKNOWN,
        })
    }
}

impl Directory for One {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(match login {
            "ada" => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            _ => Verdict::UNKNOWN,
        })
    }
}

fn portal() -> Portal<()> {
    Portal::new(())
        .checked_by(Password::new("one", One))
        .checked_by(External::new("tls", Arc::new(One)))
        .carried_by(Plain)
        .carried_by(Login)
}

fn begin(mechanism: &'static str, external: Option<&str>) -> (Conversation, Reply) {
    let mut peer = Peer::new("smtp", KindSet::none().with(CredentialKind::Token));
    peer.more.external = external.map(Into::into);
    let request = Request::from_peer(Arc::new(peer)).by(mechanism);
    now_or_never(portal().begin(request, &StillWorld::default())).unwrap().unwrap()
}

/// Answers with each message in turn and returns the end, with the challenges that were sent.
fn talk(
    mechanism: &'static str,
    external: Option<&str>,
    messages: &[&[u8]],
) -> (Reply, Vec<Option<Vec<u8>>>) {
    let (mut conversation, mut reply) = begin(mechanism, external);
    let world = StillWorld::default();
    let mut challenges = Vec::new();
    for message in messages {
        let Reply::Ask(ask) = &reply else { break };
        challenges.push(ask.round.questions[0].challenge.clone().map(
            |challenge| match challenge {
                Challenge::Bytes(bytes) => bytes,
                other => panic!("a token's challenge is bytes: {other:?}"),
            },
        ));
        let answers = Answers::new().with("token", Secret::from(*message));
        let step = conversation.answer(ask.number, answers, &world);
        reply = now_or_never(step).unwrap().unwrap();
    }
    (reply, challenges)
}

fn subject(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Granted(who) => who.subject.name(),
        _ => None,
    }
}

fn reason(reply: &Reply) -> Option<Reason> {
    match reply {
        Reply::Denied(denial) => Some(denial.reason),
        _ => None,
    }
}

#[test]
fn plain() {
    let (reply, challenges) = talk("plain", None, &[b"\0ada\0countess"]);
    assert_eq!(subject(&reply), Some("ada"));
    assert_eq!(challenges, [None], "the client speaks first");
    assert_eq!(subject(&talk("PLAIN", None, &[b"ada\0ada\0countess"]).0), Some("ada"));
    let refused = |message: &[u8]| reason(&talk("PLAIN", None, &[message]).0);
    assert_eq!(refused(b"\0ada\0wrong"), Some(Reason::WrongCredential));
    assert_eq!(refused(b"\0bob\0countess"), Some(Reason::UnknownUser));
    assert_eq!(refused(b"bob\0ada\0countess"), Some(Reason::NotAllowed));
    assert_eq!(refused(b"\0ada\0countess\0"), Some(Reason::Malformed));
    assert_eq!(refused(b""), Some(Reason::Malformed));
}

#[test]
fn login() {
    let (reply, challenges) = talk("LOGIN", None, &[b"ada", b"countess"]);
    assert_eq!(subject(&reply), Some("ada"));
    assert_eq!(challenges, [Some(b"Username:".to_vec()), Some(b"Password:".to_vec())]);
    let refused = |messages: &[&[u8]]| reason(&talk("LOGIN", None, messages).0);
    assert_eq!(refused(&[b"ada", b""]), Some(Reason::WrongCredential));
    assert_eq!(refused(&[b"", b"countess"]), Some(Reason::Malformed));
    assert_eq!(refused(&[b"a\tb"]), Some(Reason::Malformed));
}

#[test]
fn external_takes_the_name_from_below_only() {
    let granted = |external, message: &[u8]| {
        subject(&talk("EXTERNAL", external, &[message]).0).map(str::to_owned)
    };
    assert_eq!(granted(Some("ada"), b""), Some("ada".into()));
    assert_eq!(granted(Some("ada"), b"ada"), Some("ada".into()));
    assert_eq!(granted(Some("ada"), b"root"), None);
    assert_eq!(granted(None, b"ada"), None, "a name that only the peer gives proves nothing");
    assert_eq!(granted(Some("bob"), b""), None);
    assert_eq!(granted(Some(""), b""), None);
}

#[test]
fn an_unknown_mechanism_is_unsupported() {
    let (_, reply) = begin("X-UNKNOWN", None);
    assert_eq!(reason(&reply), Some(Reason::Unsupported));
}
