//! nginx's `auth_http` of mail: who logs in to a mail server behind nginx, and which one that is. Contract:
//! `docs/protocols/http.md`.
//!
//! nginx takes the whole decision from headers of one short reply, whatever the status says, and shows
//! `Auth-Status` to the person. Its request holds the password, so it is answered for those only who may
//! ask.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign::{
    Answers, CredentialKind, Denial, Identity, KindSet, Known, Limits, Mechanism, Peer, Public,
    Reason, Request, Secret, Transport,
};
use countersign_checkers::kinds::secret_file;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::App;
use super::client::{Client, TrustedProxies};
use super::problem::Problem;
use crate::audit::Ledger;

use crate::engine::{Engine, Turn, Unsettled, malformed};
use crate::realm::Decision;

/// The longest password that is read.
const PASSWORD_BYTES: usize = 4096;
/// The shortest key: shorter ones are guessed.
const KEY_BYTES: usize = 16;

/// `mail = { … }` of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailSection {
    /// Where the mail server of a protocol is: `imap`, `pop3`, `smtp`. Addresses, as nginx takes no names.
    pub servers: BTreeMap<String, SocketAddr>,
    /// An attribute of users that says where their own mail server is: an address, with a port or without.
    pub attribute: Option<String>,
    /// A file with the key that nginx sends as `X-Auth-Key`.
    pub key_file: Option<PathBuf>,
}

/// What a listener knows of mail servers.
#[derive(Clone, Debug)]
pub struct MailAuth {
    servers: BTreeMap<String, SocketAddr>,
    attribute: Option<String>,
    key: Option<Secret>,
}

impl MailSection {
    /// Reads the key. `base` is the folder that relative paths are below.
    ///
    /// # Errors
    /// What is missing or cannot be read, in a sentence with a remedy.
    pub fn load(&self, base: &Path, trusted: &TrustedProxies) -> Result<MailAuth, String> {
        if self.key_file.is_none() && *trusted == TrustedProxies::default() {
            return Err(
                "anybody could ask for anybody's password to be tried: give `mail.key_file`, or \
                        name nginx's address in `trusted_proxies`"
                    .to_owned(),
            );
        }
        let key = self.key_file.as_ref().map(|path| {
            let text = secret_file(base, path)
                .map_err(|why| format!("mail.key_file {} {why}", path.display()))?;
            let key = text.expose().trim_ascii();
            if key.len() < KEY_BYTES || key.len() > 256 {
                return Err(format!(
                    "mail.key_file {}: a key has {KEY_BYTES} to 256 characters; make one with \
                     `openssl rand -hex 32`",
                    path.display()
                ));
            }
            Ok(Secret::from(key))
        });
        let Self { servers, attribute, .. } = self.clone();
        Ok(MailAuth { servers, attribute, key: key.transpose()? })
    }
}

impl MailAuth {
    /// Whether this request may ask at all.
    fn may_ask(&self, headers: &HeaderMap, remote: IpAddr, trusted: &TrustedProxies) -> bool {
        match &self.key {
            None => trusted.trust(remote),
            Some(key) => one(headers, "x-auth-key")
                .is_some_and(|said| bool::from(said.as_bytes().ct_eq(key.expose()))),
        }
    }

    /// A few letters that change with the key, so that another one is noticed.
    pub(crate) fn mark(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = self.key.as_ref().map(|key| Sha256::digest(key.expose()));
        digest.iter().flat_map(|d| d.iter().take(8)).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Where somebody's mail server for a protocol is.
    fn server(&self, protocol: &str, who: &Identity) -> Option<SocketAddr> {
        let usual = self.servers.get(protocol).copied();
        let own = self.attribute.as_deref().and_then(|name| who.attribute(name));
        let Some(own) = own else { return usual };
        let port = usual.map(|server| server.port());
        // One that cannot be read must not send anybody to somebody else's.
        own.parse().ok().or_else(|| Some(SocketAddr::new(own.parse().ok()?, port?)))
    }
}

/// `GET /mail-auth`.
pub(super) async fn ask(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(mail) = app.options.mail.clone() else {
        let error = "this listener has no `mail = { servers = … }`";
        return Err(Problem::new(StatusCode::NOT_FOUND, error));
    };
    if client.proxied || !mail.may_ask(&headers, client.remote, &app.options.trusted_proxies) {
        tracing::warn!(remote = %client.remote, "somebody who may not asks for a mail login");
        // Without `Auth-Status`: nginx tells its client of an internal error.
        let error = "only nginx may ask here: `auth_http_header X-Auth-Key`, or `trusted_proxies`";
        return Err(Problem::new(StatusCode::FORBIDDEN, error));
    }
    let asked = match Asked::read(&headers, &client) {
        Ok(asked) => asked,
        Err((protocol, why)) => return Ok(why.tell(&protocol, None)),
    };
    let engine = Arc::clone(&app.engine);
    app.see_through(async move { asked.decide(&engine, &mail).await }).await
}

/// What nginx wants to know.
struct Asked {
    peer: Arc<Peer>,
    protocol: String,
    user: String,
    password: Secret,
}

/// Why there is no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The public word of a refusal.
    Word(Public),
    /// A method that has no password to check.
    Method,
    /// nginx lets clients in without a login.
    NoLogin,
    /// The request is not nginx's.
    Malformed,
}

impl Asked {
    fn read(headers: &HeaderMap, nginx: &Client) -> Result<Self, (String, Why)> {
        let protocol = one(headers, "auth-protocol").and_then(|value| value.to_str().ok());
        let protocol = protocol.unwrap_or_default().to_ascii_lowercase();
        let fail = |why| Err((protocol.clone(), why));
        if protocol.is_empty() || !protocol.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return fail(Why::Malformed);
        }
        match one(headers, "auth-method").map(HeaderValue::as_bytes) {
            Some(b"plain" | b"login") => {}
            Some(b"none") => return fail(Why::NoLogin),
            Some(_) => return fail(Why::Method),
            None => return fail(Why::Malformed),
        }
        let text = |name, limit| decoded(one(headers, name)?.as_bytes(), limit);
        let Some((user, password)) = text("auth-user", 255).zip(text("auth-pass", PASSWORD_BYTES))
        else {
            return fail(Why::Malformed);
        };
        let Some(user) = std::str::from_utf8(&user)
            .ok()
            .filter(|user| Limits::NAME.violated_by(user.as_bytes()).is_none())
        else {
            return fail(Why::Word(Public::Denied));
        };
        let supports =
            KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase);
        let mut peer = Peer::new(protocol.as_str(), supports);
        peer.front_end = "mail-auth";
        peer.listener = nginx.listener;
        // nginx may ask, so it is believed. `Client-Host` is not read at all: whoever has an address
        // writes its name.
        let remote = one(headers, "client-ip").and_then(|value| value.to_str().ok()?.parse().ok());
        peer.remote = remote.map(|address: IpAddr| address.to_canonical());
        peer.local = nginx.local;
        peer.transport = match (one(headers, "auth-ssl").map(HeaderValue::as_bytes), peer.remote) {
            (Some(b"on"), _) => Transport::Tls,
            (_, Some(address)) if address.is_loopback() => Transport::Local,
            _ => Transport::Plain,
        };
        let (user, password) = (user.to_owned(), Secret::from(password.as_slice()));
        Ok(Self { peer: Arc::new(peer), protocol, user, password })
    }

    async fn decide(self, engine: &Engine, mail: &MailAuth) -> Response {
        let Self { peer, protocol, user, password } = self;
        let mut ledger = Ledger::default();
        let reply = if mail.servers.contains_key(&protocol) || mail.attribute.is_some() {
            let wanted = Request::from_peer(peer).by(Mechanism::PASSWORD);
            let answers = Answers::new().with("username", user.as_str()).with("password", password);
            let mut unsettled = run(engine, wanted, answers).await;
            let mut server = None;
            unsettled.refuse_grant(|who| {
                server = mail.server(&protocol, who);
                unfit(who).or_else(|| server.is_none().then(nowhere))
            });
            match (engine.settle(unsettled, &mut ledger), server) {
                (Turn::Granted(who, _), Some(server)) => granted(&user, &who, server),
                // Refused above; nobody gets in without a place to go.
                (Turn::Granted(..), None) => Why::Word(Public::TryLater).tell(&protocol, None),
                (Turn::Denied(denial), _) => {
                    Why::Word(denial.public()).tell(&protocol, Some(&denial))
                }
                (Turn::Fault(_), _) => Why::Word(Public::TryLater).tell(&protocol, None),
                // Another round, which cannot be asked for here.
                (Turn::Ask(_, login), _) => {
                    engine.end(login, Reason::Unsupported, &mut ledger);
                    Why::Word(Public::Unsupported).tell(&protocol, None)
                }
                (Turn::Misuse(_, login), _) => {
                    engine.end(login, Reason::Malformed, &mut ledger);
                    Why::Word(Public::Denied).tell(&protocol, None)
                }
            }
        } else {
            let denial = malformed("a protocol that this listener has no mail server for");
            engine.refuse(&peer, &denial, &mut ledger);
            tracing::warn!(
                protocol,
                "nginx asks for a protocol without a server in `mail.servers`"
            );
            Why::Word(Public::TryLater).tell(&protocol, None)
        };
        match engine.commit(&mut ledger) {
            Ok(()) => reply,
            Err(_) => Why::Word(Public::TryLater).tell(&protocol, None),
        }
    }
}

async fn run(engine: &Engine, wanted: Request, answers: Answers) -> Unsettled<Decision> {
    let mut known = Known::new(answers);
    let mut turn = engine.begin::<Decision>(wanted, ()).await;
    loop {
        match turn.asked() {
            Err(ended) => return ended,
            Ok((ask, login)) => match known.pick(&ask.round) {
                Some(answers) => turn = engine.answer(login, ask.number, answers, ()).await,
                None => return Unsettled::still_asked(ask, login),
            },
        }
    }
}

/// Why a name cannot be told to nginx, which puts it into its own line to the mail server.
fn unfit(who: &Identity) -> Option<Denial> {
    let name = who.subject.name().unwrap_or_default();
    let unfit = name.is_empty() || name.len() > 255 || name.chars().any(char::is_control);
    unfit.then(|| Denial::new(Reason::NotAllowed).because("a name that mail servers misread"))
}

fn nowhere() -> Denial {
    Denial::new(Reason::Realm).because("there is no mail server for this user and protocol")
}

fn granted(asked: &str, who: &Identity, server: SocketAddr) -> Response {
    let mut headers = HeaderMap::new();
    // Case counts: nginx compares it as it is.
    headers.insert("auth-status", HeaderValue::from_static("OK"));
    let address = server.ip().to_canonical().to_string();
    let name = who.subject.name().unwrap_or_default();
    let values = [
        ("auth-server", Some(address)),
        ("auth-port", Some(server.port().to_string())),
        // Only if it is another: nginx then logs in behind with what the client typed.
        ("auth-user", Some(name.to_owned()).filter(|name| name != asked)),
    ];
    for (header, value) in values {
        let value = value.map(|value| HeaderValue::from_bytes(value.as_bytes()));
        match value.transpose() {
            Ok(value) => drop(value.map(|value| headers.insert(header, value))),
            // Control characters, which were looked for before.
            Err(_) => return Why::Malformed.tell("", None),
        }
    }
    headers.into_response()
}

impl Why {
    /// The one function from the public word to this protocol's texts and codes (RFC 5530, RFC 3206,
    /// RFC 4954).
    fn words(self, protocol: &str) -> (&'static str, &'static str) {
        use Public::{ChangeNeeded, Denied, TryLater, Unsupported};
        match (self, protocol) {
            (Self::Word(Denied), "imap") => {
                ("[AUTHENTICATIONFAILED] Invalid login or password", "535 5.7.8")
            }
            (Self::Word(Denied), "pop3") => ("[AUTH] Invalid login or password", "535 5.7.8"),
            (Self::Word(Denied), _) => ("Invalid login or password", "535 5.7.8"),
            (Self::Word(ChangeNeeded), "imap") => {
                ("[EXPIRED] The password must be changed", "535 5.7.8")
            }
            (Self::Word(ChangeNeeded), _) => ("The password must be changed", "535 5.7.8"),
            (Self::Word(Unsupported), _) => ("Not possible in this way", "504 5.5.4"),
            (Self::Method, _) => ("Log in with PLAIN or LOGIN", "504 5.5.4"),
            (Self::NoLogin, _) => ("Authentication required", "530 5.7.0"),
            (Self::Word(TryLater) | Self::Malformed, "imap") => {
                ("[UNAVAILABLE] Temporary failure, try again later", "454 4.7.0")
            }
            (Self::Word(TryLater) | Self::Malformed, "pop3") => {
                ("[SYS/TEMP] Temporary failure, try again later", "454 4.7.0")
            }
            (Self::Word(TryLater) | Self::Malformed, _) => {
                ("Temporary failure, try again later", "454 4.7.0")
            }
        }
    }

    fn tell(self, protocol: &str, denial: Option<&Denial>) -> Response {
        let (text, code) = self.words(protocol);
        let mut headers = HeaderMap::new();
        headers.insert("auth-status", HeaderValue::from_static(text));
        if protocol == "smtp" {
            headers.insert("auth-error-code", HeaderValue::from_static(code));
        }
        // With it nginx waits, and lets the client try once more on the same connection.
        if let Some(wait) = denial.and_then(|denial| denial.retry_after) {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert("auth-wait", HeaderValue::from(seconds.max(1)));
        }
        headers.into_response()
    }
}

/// A header that is there once.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() { None } else { first }
}

/// `%` and two hexadecimal digits are a byte; any other `%` was not written by nginx.
fn decoded(text: &[u8], limit: usize) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() > 3 * limit {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        bytes.push(match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                rest = behind;
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                u8::try_from(digit(high)? << 4 | digit(low)?).ok()?
            }
            (b'%', _) => return None,
            (byte, _) => *byte,
        });
    }
    (bytes.len() <= limit).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_and_what_is_none() {
        let text = |text: &[u8]| decoded(text, 8).map(|bytes| bytes.to_vec());
        assert_eq!(text(b"u%20x%25"), Some(b"u x%".to_vec()));
        assert_eq!(text(b"%00%fF"), Some(vec![0, 0xff]));
        for wrong in
            [&b"%"[..], b"%2", b"%zz", b"a%+1", b"123456789", b"%20%20%20%20%20%20%20%20%20"]
        {
            assert_eq!(text(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_user_s_own_server() {
        let section: MailSection =
            toml::from_str("servers = { imap = \"127.0.0.1:143\" }\nattribute = \"mail-server\"")
                .unwrap();
        let trusted = TrustedProxies::of(["127.0.0.1"]).unwrap();
        let mail = section.load(Path::new("/"), &trusted).unwrap();
        let at = |protocol: &str, own: Option<&str>| {
            let who = Identity::named("ann");
            let who = match own {
                Some(own) => who.with("mail-server", own),
                None => who,
            };
            mail.server(protocol, &who).map(|server| server.to_string())
        };
        assert_eq!(at("imap", None).as_deref(), Some("127.0.0.1:143"));
        assert_eq!(at("imap", Some("192.0.2.7")).as_deref(), Some("192.0.2.7:143"));
        assert_eq!(at("imap", Some("[2001:db8::1]:993")).as_deref(), Some("[2001:db8::1]:993"));
        assert_eq!(at("pop3", Some("192.0.2.7:995")).as_deref(), Some("192.0.2.7:995"));
        for (protocol, own) in [("pop3", None), ("pop3", Some("192.0.2.7")), ("imap", Some("mx.x"))]
        {
            assert_eq!(at(protocol, own), None, "{protocol} {own:?}");
        }
    }

    #[test]
    fn not_everybody_may_ask() {
        let folder = tempfile::tempdir().unwrap();
        let section = MailSection { key_file: Some("key".into()), ..MailSection::default() };
        let nobody = TrustedProxies::default();
        assert!(section.load(folder.path(), &nobody).unwrap_err().contains("key"));
        std::fs::write(folder.path().join("key"), "0123456789abcdef\n").unwrap();
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(folder.path().join("key"), mode(0o644)).unwrap();
        assert!(section.load(folder.path(), &nobody).unwrap_err().contains("chmod 600"));
        std::fs::set_permissions(folder.path().join("key"), mode(0o600)).unwrap();
        std::fs::write(folder.path().join("key"), "short\n").unwrap();
        assert!(section.load(folder.path(), &nobody).unwrap_err().contains("16 to 256"));
        std::fs::write(folder.path().join("key"), "0123456789abcdef\n").unwrap();
        let mail = section.load(folder.path(), &nobody).unwrap();
        let remote: IpAddr = [127, 0, 0, 1].into();
        let said = |keys: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append("x-auth-key", HeaderValue::from_static(key));
            }
            mail.may_ask(&headers, remote, &nobody)
        };
        assert!(said(&["0123456789abcdef"]));
        for keys in [&[][..], &["0123456789abcdeX"], &[""], &["0123456789abcdef"; 2]] {
            assert!(!said(keys), "{keys:?}");
        }
        let error = MailSection::default().load(folder.path(), &nobody).unwrap_err();
        assert!(error.contains("trusted_proxies"), "{error}");
        let nginx = TrustedProxies::of(["127.0.0.1"]).unwrap();
        let mail = MailSection::default().load(folder.path(), &nginx).unwrap();
        assert!(mail.may_ask(&HeaderMap::new(), remote, &nginx));
        assert!(!mail.may_ask(&HeaderMap::new(), [192, 0, 2, 1].into(), &nginx));
    }

    #[test]
    fn what_a_word_is_called_in_each_protocol() {
        let texts = |why: Why| ["imap", "pop3", "smtp", "x"].map(|protocol| why.words(protocol));
        for why in [Why::Malformed, Why::Word(Public::TryLater)] {
            assert!(
                texts(why)
                    .iter()
                    .all(|(text, code)| text.contains("Temporary") && code.starts_with('4'))
            );
        }
        assert!(texts(Why::Word(Public::Denied)).iter().all(|(_, code)| *code == "535 5.7.8"));
        for why in [Why::Method, Why::NoLogin, Why::Word(Public::ChangeNeeded)] {
            assert!(texts(why).iter().all(|(text, _)| *text != "OK" && text.len() < 100));
        }
    }
}
