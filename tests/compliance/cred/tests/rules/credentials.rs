//! Credentials that are conversations: CRAM-MD5, APOP, HTTP Digest; and anonymous ones.

use std::fmt::Write;
use std::sync::Arc;

use countersign::testing::StillWorld;
use countersign::{
    Answers, DigestAlgorithm, Directory, Fault, Halt, Identity, KindSet, Moment, Peer, Portal,
    Reply, Request, Round, Secret, Subject, TextStore, Verdict, Verified, World,
};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage, Trouble, ensure};
use countersign_sasl::digest::{Asked, Authorization, Digest, Variant};
use countersign_sasl::{Anonymous, Decoys, Stored};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest as _, Md5};
use serde_json::json;

use crate::beside::{differs, same};
use crate::stage::{Users, asked, ready, said, users};

pub(crate) const CASES: &[Case] = &[
    case("credentials_of_cram_md5", cram_md5),
    case("credentials_of_cram_md5_challenges", cram_md5_challenges),
    case("credentials_of_apop", apop),
    case("credentials_of_http_digest", http_digest),
    case("credentials_of_http_digest_replayed", http_digest_replayed),
    case("credentials_of_http_digest_algorithms", http_digest_algorithms),
    case("credentials_of_nobody", anonymous),
];

impl Directory for Users {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(match self.0.iter().any(|(name, _)| *name == login) {
            true => Verdict::Is(Verified::vouch(Identity::named(login))),
            false => Verdict::UNKNOWN,
        })
    }
}

impl TextStore for Users {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        Ok(self.0.iter().find(|(name, _)| *name == login).map(|(_, word)| Secret::from(*word)))
    }
}

fn portal() -> Portal<()> {
    let decoys = Decoys::new(Secret::from("a key of this deployment's own"));
    let stored = Stored::new("a", Users(&[("ada", "countess")]), decoys);
    Portal::new(()).checked_by(stored.by_cram_md5().by_apop().by_derived_digest())
}

const TRIES: [(&str, &str); 3] = [("ada", "countess"), ("ada", "babbage"), ("eve", "countess")];

/// The outcome of a mechanism of one round: `answer` makes the token of its challenge.
fn outcome(
    portal: &Portal<()>,
    request: Request,
    world: &dyn World,
    answer: impl FnOnce(&Round) -> String,
) -> Outcome<String> {
    let (mut conversation, reply) = ready(portal.begin(request, world)).during("the beginning")?;
    let reply = match reply {
        Reply::Ask(ask) => {
            let answers = Answers::new().with("token", answer(&ask.round));
            ready(conversation.answer(ask.number, answers, world))
        }
        over => Ok(over),
    };
    Ok(match reply {
        Ok(Reply::Granted(who)) => format!("granted {}", who.subject),
        Ok(Reply::Denied(denial)) => said(&denial).to_owned(),
        Ok(Reply::Ask(_)) => "more is asked".to_owned(),
        Err(Halt::Misuse(misuse)) => return Err(Trouble::failed(misuse)),
        Err(Halt::Fault(_)) => "broke".to_owned(),
    })
}

fn challenge_of(round: &Round) -> Vec<u8> {
    match round.questions.first().and_then(|question| question.challenge.as_ref()) {
        Some(countersign::Challenge::Bytes(bytes)) => bytes.to_vec(),
        _ => Vec::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn cram_md5(_: &Stage) -> Outcome {
    let (portal, world) = (portal(), StillWorld::default());
    let mut ours = Vec::new();
    for (name, word) in TRIES {
        let outcome = outcome(&portal, asked("imap").by("CRAM-MD5"), &world, |round| {
            let mut mac =
                Hmac::<Md5>::new_from_slice(word.as_bytes()).expect("a key of any length");
            mac.update(&challenge_of(round));
            format!("{name} {}", hex(&mac.finalize().into_bytes()))
        });
        ours.push(outcome?);
    }
    same("cram_md5", &json!(ours))
}

/// A world in which nothing is unexpected.
struct Known;

impl World for Known {
    fn now(&self) -> Moment {
        Moment::default()
    }

    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0xC5);
    }
}

fn cram_md5_challenges(_: &Stage) -> Outcome {
    let mut challenge = Vec::new();
    outcome(&portal(), asked("imap").by("CRAM-MD5"), &Known, |round| {
        challenge = challenge_of(round);
        String::new()
    })?;
    // All of its 128 bits are the operating system's, which is what fills in the world of a server.
    let text = String::from_utf8_lossy(&challenge);
    let ours = if text.contains(&"c5".repeat(16)) { "not foreseen" } else { "foreseen" };
    differs("cram_md5_challenges", &json!("foreseen"), &json!("not foreseen"), &json!(ours))
}

fn apop(_: &Stage) -> Outcome {
    const GREETING: &str = "<1896.697170952@mail.example>";
    let (portal, world) = (portal(), StillWorld::default());
    let mut ours = Vec::new();
    for word in ["countess", "babbage"] {
        let mut peer = Peer::new("pop3", KindSet::all());
        peer.more.greeting = Some(GREETING.into());
        let mut request = Request::from_peer(Arc::new(peer)).by("APOP");
        request.claimed = Some("ada".into());
        let proof = hex(&Md5::digest(format!("{GREETING}{word}")));
        ours.push(outcome(&portal, request, &world, |_| proof)?);
    }
    let no = "-ERR Authentication failed";
    let here = json!(["granted ada", "refused"]);
    differs("apop_over_pop3", &json!([no, no]), &here, &json!(ours))
}

/// What a client sends for a challenge, as the driver of Twisted does.
fn header(challenge: &str, name: &str, word: &str) -> String {
    let nonce = challenge.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
    let nonce = nonce.unwrap_or_default();
    let md5 = |text: String| hex(&Md5::digest(text));
    let (ha1, ha2) = (md5(format!("{name}:there:{word}")), md5("GET:/".to_owned()));
    let response = md5(format!("{ha1}:{nonce}:00000001:c:auth:{ha2}"));
    format!(
        "Digest username=\"{name}\", realm=\"there\", nonce=\"{nonce}\", uri=\"/\", algorithm=MD5, \
         qop=auth, nc=00000001, cnonce=\"c\", response=\"{response}\""
    )
}

fn with_md5(world: &dyn World) -> Digest {
    let md5 = Variant { algorithm: DigestAlgorithm::Md5, session: false };
    Digest::new("there", world).offering([md5])
}

/// What comes of a header: as a web server does it.
fn sent(digest: &Digest, header: &str, world: &dyn World) -> Outcome<String> {
    let header = Authorization::parse(header.as_bytes()).during("the header")?;
    let request = Asked { method: "GET", target: "/", body: None };
    let Ok(answered) = digest.read(&header, &request, world) else {
        return Ok("refused".to_owned());
    };
    let (request, answers) = answered.login(Peer::new("http", KindSet::none()));
    let token = answers.text("token").unwrap_or_default().to_owned();
    outcome(&portal(), request, world, |_| token)
}

fn http_digest(_: &Stage) -> Outcome {
    let world = StillWorld::default();
    let digest = with_md5(&world);
    let mut ours = Vec::new();
    for (name, word) in TRIES {
        let challenge = digest.challenges(false, &world).remove(0);
        ours.push(sent(&digest, &header(&challenge, name, word), &world)?);
    }
    same("http_digest", &json!(ours))
}

fn http_digest_replayed(_: &Stage) -> Outcome {
    let world = StillWorld::default();
    let digest = with_md5(&world);
    let challenge = digest.challenges(false, &world).remove(0);
    let header = header(&challenge, "ada", "countess");
    let mut ours = Vec::new();
    for _ in 0..3 {
        ours.push(sent(&digest, &header, &world)?);
    }
    let theirs = json!(["granted ada", "granted ada", "granted ada"]);
    let here = json!(["granted ada", "refused", "refused"]);
    differs("http_digest_replayed", &theirs, &here, &json!(ours))
}

fn http_digest_algorithms(_: &Stage) -> Outcome {
    let ours = DigestAlgorithm::ALL.into_iter().flat_map(|algorithm| {
        [false, true].map(|session| Variant { algorithm, session }.name().to_ascii_lowercase())
    });
    let mut ours: Vec<_> = ours.collect();
    ours.sort();
    let here =
        json!(["md5", "md5-sess", "sha-256", "sha-256-sess", "sha-512-256", "sha-512-256-sess"]);
    differs("http_digest_algorithms", &json!(["md5", "md5-sess", "sha"]), &here, &json!(ours))
}

fn anonymous(_: &Stage) -> Outcome {
    let world = StillWorld::default();
    let open = Portal::new(()).checked_by(Anonymous::new("anonymous"));
    let request = || asked("ftp").by("ANONYMOUS");
    let (mut conversation, reply) = ready(open.begin(request(), &world)).during("ANONYMOUS")?;
    let Reply::Ask(ask) = reply else { return Err(Trouble::failed("it asks for a trace")) };
    let answers = Answers::new().with("token", "");
    let reply = ready(conversation.answer(ask.number, answers, &world)).during("the trace")?;
    let Reply::Granted(who) = reply else { return Err(Trouble::failed("it lets everybody in")) };
    ensure!(who.subject == Subject::Anonymous, "{:?}", who.subject);
    let closed = Portal::new(()).checked_by(users("a", &[("ada", "countess")]));
    let ours = json!({
        "allowed": "granted",
        "not allowed": outcome(&closed, request(), &world, |_| String::new())?,
        "an empty name": who.subject.name() == Some(""),
        "nothing at all": *who == Identity::named(""),
    });
    same("anonymous", &ours)
}
