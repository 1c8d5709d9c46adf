//! OAUTHBEARER and XOAUTH2, by hand and with rsasl as the client.

use countersign::{
    Bearer, BearerStore, Denial, Fault, Identity, Plaintext, Policy, Portal, Reason, Reply, Scene,
    Secret, Terms, Transport, Verdict, Verified,
};
use countersign_sasl::{OAuthBearer, XOAuth2};
use rsasl::callback::{Context, SessionCallback, SessionData};
use rsasl::mechanisms::{oauthbearer, xoauth2};
use rsasl::prelude::{Mechanism, Mechname, Registry, SASLClient, SASLConfig, SessionError, State};
use rsasl::property::{AuthId, AuthzId, OAuthBearerToken};

use crate::stage::{Talk, peer};

/// `good` is ada's, `late` is not to be asked for now.
struct Tokens;

impl BearerStore for Tokens {
    async fn check_token(
        &self,
        token: &Secret,
        _: Option<&str>,
        _: &Scene<'_>,
    ) -> Result<Verdict, Fault> {
        Ok(match token.expose() {
            b"good" => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            b"late" => Verdict::Not(Denial::new(Reason::Throttled)),
            b"old" => Verdict::Not(Denial::new(Reason::Expired)),
            _ => Verdict::UNKNOWN,
        })
    }
}

fn portal() -> Portal<()> {
    Portal::new(())
        .checked_by(Bearer::new("tokens", Tokens))
        .carried_by(OAuthBearer::new().scoped("mail"))
        .carried_by(XOAuth2::new())
}

fn begin(mechanism: &str) -> Talk {
    let mut peer = peer(&[]);
    peer.transport = Transport::Tls;
    Talk::begin(&portal(), mechanism, peer)
}

fn said(mechanism: &str, message: &str) -> Talk {
    let mut talk = begin(mechanism);
    assert_eq!(talk.challenge(), None, "the client speaks first");
    talk.say(message.replace('^', "\u{1}").as_bytes());
    talk
}

#[test]
fn a_good_token_is_enough() {
    for message in [
        "n,,^auth=Bearer good^^",
        "n,a=ada,^host=mail.example.com^port=993^auth=bearer good^^",
        "y,,^auth=Bearer good^x=y^^",
    ] {
        assert_eq!(said("OAUTHBEARER", message).end().as_deref(), Ok("ada"), "{message}");
    }
    let talk = said("XOAUTH2", "user=ada^auth=Bearer good^^");
    assert_eq!(talk.end().as_deref(), Ok("ada"));
}

#[test]
fn who_is_refused_hears_so_in_json_and_then_it_is_over() {
    for (mechanism, message, reason) in [
        ("OAUTHBEARER", "n,,^auth=Bearer bad^^", Reason::UnknownUser),
        ("OAUTHBEARER", "n,,^auth=Bearer old^^", Reason::Expired),
        ("OAUTHBEARER", "n,,^auth=^^", Reason::Declined),
        ("OAUTHBEARER", "n,a=root,^auth=Bearer good^^", Reason::NotAllowed),
        ("XOAUTH2", "user=ada^auth=Bearer bad^^", Reason::UnknownUser),
        ("XOAUTH2", "user=root^auth=Bearer good^^", Reason::NotAllowed),
    ] {
        for acknowledgement in [&b"\x01"[..], b"", b"n,,\x01auth=Bearer good\x01\x01"] {
            let mut talk = said(mechanism, message);
            let challenge = String::from_utf8(talk.challenge().unwrap()).unwrap();
            let expected = match mechanism {
                "XOAUTH2" => r#"{"status":"401","schemes":"bearer","scope":""}"#,
                _ => r#"{"status":"invalid_token","scope":"mail"}"#,
            };
            // The same words for every reason.
            assert_eq!(challenge, expected);
            talk.say(acknowledgement);
            assert_eq!(talk.reason(), Some(reason), "{message}");
        }
    }
}

#[test]
fn a_time_that_is_wrong_and_a_message_that_is_none_end_it_at_once() {
    assert_eq!(said("XOAUTH2", "user=ada^auth=Bearer late^^").reason(), Some(Reason::Throttled));
    assert_eq!(said("XOAUTH2", "user=ada").reason(), Some(Reason::Malformed));
    assert_eq!(said("OAUTHBEARER", "n,,^").reason(), Some(Reason::Malformed));
}

#[test]
fn nobody_shows_a_token_where_others_hear_it() {
    let terms = Terms { plaintext: Some(Plaintext::Secured), ..Terms::default() };
    let portal = portal().under(Policy { terms, ..Policy::default() });
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        let talk = Talk::begin(&portal, mechanism, peer(&[]));
        assert!(matches!(talk.reply, Reply::Denied(_)));
    }
}

static MECHANISMS: &[Mechanism] = &[oauthbearer::OAUTHBEARER, xoauth2::XOAUTH2];

struct Holder {
    token: &'static str,
    name: &'static str,
}

impl SessionCallback for Holder {
    fn callback(
        &self,
        _: &SessionData,
        _: &Context<'_>,
        request: &mut rsasl::callback::Request<'_>,
    ) -> Result<(), SessionError> {
        request
            .satisfy::<AuthId>(self.name)?
            .satisfy::<AuthzId>(self.name)?
            .satisfy::<OAuthBearerToken>(self.token)?;
        if let Some(error) = request.get_action::<oauthbearer::properties::OAuthBearerErrored>() {
            assert_eq!(error.status, "invalid_token");
        }
        if let Some(error) = request.get_action::<xoauth2::properties::XOAuth2Error>() {
            assert!(error.contains("\"status\":\"401\""), "{error}");
        }
        Ok(())
    }
}

/// Lets rsasl log in: who got in.
fn login(mechanism: &str, name: &'static str, token: &'static str) -> Result<String, Reason> {
    let config = SASLConfig::builder()
        .with_registry(Registry::with_mechanisms(MECHANISMS))
        .with_callback(Holder { token, name })
        .unwrap();
    let client = SASLClient::new(config);
    let chosen = Mechname::parse(mechanism.as_bytes()).unwrap();
    let mut session = client.start_suggested(&[chosen]).unwrap();
    let mut talk = begin(mechanism);
    let mut message = Vec::new();
    session.step(None, &mut message).unwrap();
    talk.say(&message);
    if let Some(challenge) = talk.challenge() {
        let mut message = Vec::new();
        let state = session.step(Some(&challenge), &mut message).unwrap();
        assert!(matches!(state, State::Finished(_)));
        talk.say(&message);
    }
    talk.end().map_err(|(reason, _)| reason)
}

#[test]
fn a_client_of_another_hand_logs_in_and_understands_a_refusal() {
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        assert_eq!(login(mechanism, "ada", "good").as_deref(), Ok("ada"), "{mechanism}");
        assert_eq!(login(mechanism, "ada", "bad"), Err(Reason::UnknownUser), "{mechanism}");
        assert_eq!(login(mechanism, "root", "good"), Err(Reason::NotAllowed), "{mechanism}");
    }
}
