//! A second implementation as the client: rsasl.

use countersign::Peer;
use countersign_sasl::ScramHash;
use rsasl::callback::{Context, SessionCallback, SessionData};
use rsasl::mechanisms::scram;
use rsasl::prelude::{Mechanism, Mechname, Registry, SASLClient, SASLConfig, SessionError, State};
use rsasl::property::{AuthId, ChannelBindings, Password};

use crate::stage::{Talk, peer, portal};

/// Its own choice has none with channel binding.
static MECHANISMS: &[Mechanism] = &[
    scram::SCRAM_SHA1,
    scram::SCRAM_SHA1_PLUS,
    scram::SCRAM_SHA256,
    scram::SCRAM_SHA256_PLUS,
    scram::SCRAM_SHA512,
    scram::SCRAM_SHA512_PLUS,
    rsasl::mechanisms::anonymous::ANONYMOUS,
];

/// What a person has typed, and the channel at the client's end.
struct Person {
    user: String,
    password: String,
    channel: Vec<u8>,
}

impl SessionCallback for Person {
    fn enable_channel_binding(&self) -> bool {
        !self.channel.is_empty()
    }

    fn callback(
        &self,
        _: &SessionData,
        _: &Context<'_>,
        request: &mut rsasl::callback::Request<'_>,
    ) -> Result<(), SessionError> {
        request
            .satisfy::<AuthId>(&self.user)?
            .satisfy::<Password>(self.password.as_bytes())?
            .satisfy::<ChannelBindings>(&self.channel)?;
        Ok(())
    }
}

/// Lets rsasl log in: who got in, or `None`; and whether the client is content with the server.
fn login(
    mechanism: &str,
    user: &str,
    password: &str,
    peer: Peer,
    channel: &[u8],
) -> (Option<String>, bool) {
    let person = Person { user: user.into(), password: password.into(), channel: channel.to_vec() };
    let client = SASLClient::new(
        SASLConfig::builder()
            .with_registry(Registry::with_mechanisms(MECHANISMS))
            .with_callback(person)
            .unwrap(),
    );
    let mut session =
        client.start_suggested(&[Mechname::parse(mechanism.as_bytes()).unwrap()]).unwrap();
    let mut talk = Talk::begin(&portal(), mechanism, peer);
    let mut input = None;
    let content = loop {
        let mut message = Vec::new();
        match session.step(input.as_deref(), &mut message) {
            Ok(State::Running) => talk.say(&message),
            Ok(State::Finished(_)) => {
                assert!(talk.closing());
                talk.say(&message);
                break true;
            }
            Err(_) => break false,
        };
        match talk.challenge() {
            Some(challenge) => input = Some(challenge),
            None => break false,
        }
    };
    let who = matches!(talk.reply, countersign::Reply::Granted(_)).then(|| talk.end().unwrap());
    (who, content)
}

#[test]
fn a_client_of_another_hand_logs_in_and_is_content_with_us() {
    for hash in ScramHash::ALL {
        let into = |user, password| login(hash.mechanism(), user, password, peer(&[]), b"");
        assert_eq!(into("ada", "countess"), (Some("ada".into()), true), "{hash:?}");
        assert_eq!(into("a,b=c", "pencil"), (Some("a,b=c".into()), true), "{hash:?}");
        for (user, password) in [("ada", "pencil"), ("nobody", "countess"), ("kim", "countess")] {
            assert_eq!(into(user, password), (None, false), "{hash:?} {user}");
        }
        // Its password was right; that the account is disabled it learns at the end.
        assert_eq!(into("old", "countess"), (None, true));
    }
}

#[test]
fn it_binds_to_its_channel() {
    for hash in ScramHash::ALL {
        let ours = peer(&[("tls-exporter", b"the channel"), ("tls-server-end-point", b"cert")]);
        let into = |channel: &[u8]| login(hash.plus(), "ada", "countess", ours.clone(), channel);
        assert_eq!(into(b"the channel"), (Some("ada".into()), true), "{hash:?}");
        assert_eq!(into(b"another"), (None, false), "{hash:?}");
        let unbound = login(hash.plus(), "ada", "countess", peer(&[]), b"the channel");
        assert_eq!(unbound, (None, false));
    }
}

#[test]
fn it_is_anonymous() {
    use countersign_sasl::Anonymous;

    let portal = countersign::Portal::new(()).checked_by(Anonymous::new("guests"));
    let person = Person { user: "x".into(), password: "y".into(), channel: Vec::new() };
    let config = SASLConfig::builder()
        .with_registry(Registry::with_mechanisms(MECHANISMS))
        .with_callback(person)
        .unwrap();
    let client = SASLClient::new(config);
    let mut session = client.start_suggested(&[Mechname::parse(b"ANONYMOUS").unwrap()]).unwrap();
    let mut talk = Talk::begin(&portal, "ANONYMOUS", peer(&[]));
    let mut message = Vec::new();
    session.step(None, &mut message).unwrap();
    talk.say(&message);
    assert_eq!(talk.end().as_deref(), Ok("anonymous"));
}
