//! Conversations in memory: what a client says, and what it hears.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use countersign::testing::StillWorld;
use countersign::{
    Denial, Directory, Fault, Identity, Logout, Password, PasswordStore, Plaintext, Policy, Portal,
    Reason, Secret, Terms, TextStore, Verdict, Verified,
};
use countersign_sasl::{Decoys, Login, Plain, ScramHash, Stored};
use countersign_tls::{Pair, TlsFiles};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Notify, watch};

use super::*;
use crate::notice::Notice;
use crate::server::Limits;

/// What happened, for the tests to see.
#[derive(Default)]
struct Log {
    logins: AtomicUsize,
    logouts: AtomicUsize,
    /// How often somebody looked into a maildrop.
    looks: AtomicUsize,
    removed: std::sync::Mutex<Vec<usize>>,
    /// The checker waits for this, for `slow`.
    go: Notify,
}

struct Letters(Arc<Log>, Vec<&'static str>);

impl Maildrop for Letters {
    fn take(&mut self) -> Work<'_, ()> {
        let busy = self.1.is_empty();
        Box::pin(async move {
            match busy {
                true => Err(io::ErrorKind::ResourceBusy.into()),
                false => Ok(()),
            }
        })
    }

    fn list(&mut self) -> Work<'_, Vec<Letter>> {
        // The first look comes to nothing, and the next does not.
        let broken = self.0.looks.fetch_add(1, Ordering::SeqCst) == 0 && self.1[0] == "broken";
        let letters = self
            .1
            .iter()
            .enumerate()
            .map(|(at, text)| Letter { size: text.len() as u64, uid: format!("uid{at}") });
        let letters = letters.collect::<Vec<_>>();
        Box::pin(async move {
            match broken {
                true => Err(io::Error::other("the disk")),
                false => Ok(letters),
            }
        })
    }

    fn read(&self, index: usize) -> Work<'_, Vec<u8>> {
        let text = self.1[index].as_bytes().to_vec();
        Box::pin(async move { Ok(text) })
    }

    fn remove(&mut self, indices: Vec<usize>) -> Work<'_, ()> {
        self.0.removed.lock().unwrap().extend(indices);
        Box::pin(async { Ok(()) })
    }
}

struct Post(Arc<Log>);

impl Realm<Pop3Mailbox> for Post {
    async fn admit(&self, who: &Verified<Identity>, mind: Teller) -> Result<Mail, Denial> {
        let name = who.subject.name().unwrap_or_default();
        if name == "full" {
            return Err(Denial::new(Reason::Realm).because("over quota"));
        }
        self.0.logins.fetch_add(1, Ordering::SeqCst);
        let _ = mind.tell(&Notice::Say("soon\r\nover".into()));
        let log = Arc::clone(&self.0);
        let letters = match name {
            "busy" => vec![],
            "unlucky" => vec!["broken"],
            _ => vec!["A: 1\r\n\r\n.one\r\ntwo\r\n", "B: 2\r\n\r\nb\r\n"],
        };
        let logout = Logout::new(move || {
            log.logouts.fetch_add(1, Ordering::SeqCst);
        });
        let letters = Letters(Arc::clone(&self.0), letters);
        Ok(Mail::new(Box::new(letters)).at_logout(logout))
    }
}

struct Known(Arc<Log>);

impl PasswordStore for Known {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        if login == "slow" {
            self.0.go.notified().await;
        }
        if login == "broken" {
            return Err(Fault::unavailable("the database is away"));
        }
        Ok(match (login, password == &Secret::from("countess of love")) {
            ("ada" | "slow" | "full" | "busy" | "unlucky", true) => {
                Verdict::Is(Verified::vouch(Identity::named(login)))
            }
            ("ada", false) => Verdict::WRONG,
            _ => Verdict::UNKNOWN,
        })
    }
}

/// A store that gives passwords out, for the mechanisms that need them.
struct Texts;

impl Directory for Texts {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(match login {
            "ada" => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            _ => Verdict::UNKNOWN,
        })
    }
}

impl TextStore for Texts {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        Ok((login == "ada").then(|| Secret::from("countess of love")))
    }
}

struct Stage {
    there: DuplexStream,
    log: Arc<Log>,
    served: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Stage {
    fn with(plaintext: Plaintext) -> Self {
        Self::checked(plaintext, Arc::default(), |portal| portal)
    }

    fn checked(
        plaintext: Plaintext,
        world: Arc<StillWorld>,
        more: impl FnOnce(Portal<Post>) -> Portal<Post>,
    ) -> Self {
        let log = Arc::new(Log::default());
        let terms = Terms { plaintext: Some(plaintext), ..Terms::default() };
        let portal = Portal::new(Post(Arc::clone(&log)))
            .checked_by(Password::new("known", Known(Arc::clone(&log))))
            .carried_by(Plain)
            .carried_by(Login)
            .under(Policy::of(terms));
        Self::over(more(portal), log, world, None)
    }

    fn over(
        portal: Portal<Post>,
        log: Arc<Log>,
        world: Arc<StillWorld>,
        tls: Option<Arc<Pair>>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let server = Server {
            portal,
            world,
            tls,
            host: "mail.test".into(),
            limits: Limits { refusals: 4, ..Limits::POP3 },
            stop: stopped,
        };
        let (there, here) = duplex(256 * 1024);
        let served = tokio::spawn(async move {
            let peer = Server::<Post>::peer("pop3", None, None);
            serve(&server, Wire::new(here), peer).await;
        });
        Self { there, log, served, stop }
    }

    fn new() -> Self {
        Self::with(Plaintext::Always)
    }

    /// Says something and leaves nothing more to say; what is heard until the end.
    async fn says(mut self, text: &str) -> (String, Arc<Log>) {
        self.there.write_all(text.as_bytes()).await.unwrap();
        let mut heard = String::new();
        self.there.read_to_string(&mut heard).await.unwrap();
        self.served.await.unwrap();
        (heard, self.log)
    }

    /// Hears until this has been said.
    async fn hears(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).ends_with(end) {
            let byte = self.there.read_u8().await.expect("the server is still there");
            heard.push(byte);
        }
        String::from_utf8(heard).unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn counts(log: &Log) -> (usize, usize) {
    (log.logins.load(Ordering::SeqCst), log.logouts.load(Ordering::SeqCst))
}

/// Cred's own example: USER is accepted whoever it is, PASS logs in, and DELE is for who is logged in.
#[tokio::test(start_paused = true)]
async fn the_example_of_cred() {
    let said = "DELE 1\r\nPASS x\r\nUSER ada\r\nPASS countess of love\r\nDELE 1\r\nQUIT\r\n";
    let (heard, log) = Stage::new().says(said).await;
    let lines: Vec<_> = heard.lines().collect();
    assert_eq!(
        lines,
        [
            "+OK mail.test POP3 ready",
            "-ERR Log in first",
            "-ERR USER required before PASS",
            "+OK USER accepted, send PASS",
            "+OK Authentication succeeded",
            "+OK Message 1 deleted",
            "+OK soonover",
        ]
    );
    assert_eq!(*log.removed.lock().unwrap(), [0]);
    assert_eq!(counts(&log), (1, 1));
}

/// Who comes to see whether they get in, or goes at once, is no reason to look.
#[tokio::test(start_paused = true)]
async fn a_maildrop_is_looked_at_when_somebody_wants_to_know_and_then_once() {
    let login = "USER ada\r\nPASS countess of love\r\n";
    let (heard, log) = Stage::new().says(&format!("{login}CAPA\r\nRSET\r\nNOOP\r\nQUIT\r\n")).await;
    assert!(
        heard.ends_with("+OK Nothing is to be removed\r\n+OK soonover\r\n+OK Bye\r\n"),
        "{heard}"
    );
    assert_eq!((counts(&log), log.looks.load(Ordering::SeqCst)), ((1, 1), 0));
    let (_, log) = Stage::new().says(&format!("{login}STAT\r\nLIST\r\nDELE 2\r\nQUIT\r\n")).await;
    assert_eq!(log.looks.load(Ordering::SeqCst), 1);
    assert_eq!(*log.removed.lock().unwrap(), [1]);

    let said = "USER unlucky\r\nPASS countess of love\r\nSTAT\r\nRETR 2\r\nSTAT\r\nQUIT\r\n";
    let (heard, log) = Stage::new().says(said).await;
    let wanted = "+OK Authentication succeeded\r\n-ERR [SYS/TEMP] The mailbox cannot be opened now\r\n\
                  -ERR There is no such message\r\n+OK 1 6\r\n+OK soonover\r\n";
    assert!(heard.ends_with(wanted), "{heard}");
    assert_eq!(log.looks.load(Ordering::SeqCst), 2, "until it was told once");
}

#[tokio::test(start_paused = true)]
async fn nobody_can_tell_an_unknown_user_from_a_wrong_password() {
    for (name, answer) in [
        ("ada", "-ERR [AUTH] Authentication failed"),
        ("nobody", "-ERR [AUTH] Authentication failed"),
        ("broken", "-ERR [SYS/TEMP] Not now, try again later"),
    ] {
        let (heard, log) =
            Stage::new().says(&format!("USER {name}\r\nPASS wrong\r\nQUIT\r\n")).await;
        let lines: Vec<_> = heard.lines().skip(1).collect();
        assert_eq!(lines, ["+OK USER accepted, send PASS", answer, "+OK Bye"], "{name}");
        assert_eq!(counts(&log), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_realm_may_refuse_and_a_mailbox_may_be_taken() {
    let (heard, log) = Stage::new().says("USER full\r\nPASS countess of love\r\nQUIT\r\n").await;
    assert!(heard.contains("-ERR [SYS/TEMP] Not now"), "{heard}");
    assert_eq!(counts(&log), (0, 0));
    let (heard, log) = Stage::new().says("USER busy\r\nPASS countess of love\r\nQUIT\r\n").await;
    assert!(heard.contains("-ERR [IN-USE]") && heard.ends_with("+OK Bye\r\n"), "{heard}");
    assert_eq!(counts(&log), (1, 1), "who was let in and found no mailbox is out again");
}

#[tokio::test(start_paused = true)]
async fn mechanisms_are_driven_a_line_at_a_time() {
    let message = "AGFkYQBjb3VudGVzcyBvZiBsb3Zl"; // NUL ada NUL countess of love
    for said in [
        format!("AUTH PLAIN {message}\r\nQUIT\r\n"),
        format!("AUTH plain\r\n{message}\r\nQUIT\r\n"),
        "AUTH LOGIN\r\nYWRh\r\nY291bnRlc3Mgb2YgbG92ZQ==\r\nQUIT\r\n".into(),
        "AUTH LOGIN YWRh\r\nY291bnRlc3Mgb2YgbG92ZQ==\r\nQUIT\r\n".into(),
    ] {
        let (heard, log) = Stage::new().says(&said).await;
        assert!(heard.contains("+OK Authentication succeeded"), "{said}{heard}");
        assert_eq!(counts(&log), (1, 1), "{said}");
    }
    let said = "AUTH\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN !\r\nAUTH LOGIN\r\n!\r\nAUTH NONE\r\n";
    let (heard, log) = Stage::new().says(said).await;
    let lines: Vec<_> = heard.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "+OK Mechanisms follow",
            "PLAIN",
            "LOGIN",
            ".",
            "+ ",
            "-ERR [AUTH] Cancelled",
            "-ERR [AUTH] That is no message of this mechanism",
            "+ VXNlcm5hbWU6",
            "-ERR [AUTH] That is no message of this mechanism",
            "-ERR [AUTH] Not by this mechanism",
        ],
        "and away after four refusals"
    );
    assert_eq!(counts(&log), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_whole_mailbox_in_one_breath() {
    let said = "CAPA\r\nUSER ada\r\nPASS countess of love\r\nSTAT\r\nLIST\r\nUIDL 2\r\nTOP 1 1\r\n\
                RETR 1\r\nDELE 2\r\nLIST\r\nRETR 2\r\nDELE 7\r\nRSET\r\nSTAT\r\nDELE 1\r\nNOOP\r\n\
                XYZZY\r\n+\r\nUSER x\r\n";
    let mut stage = Stage::new();
    stage.there.write_all(said.as_bytes()).await.unwrap();
    let heard = stage.hears("-ERR You are logged in\r\n").await;
    let (capabilities, rest) = heard.split_once("+OK USER accepted").unwrap();
    for wanted in ["\r\nSASL PLAIN LOGIN\r\n", "\r\nUSER\r\n", "\r\nUTF8 USER\r\n", "\r\n.\r\n"] {
        assert!(capabilities.contains(wanted), "{capabilities}");
    }
    assert!(!capabilities.contains("STLS"));
    let wanted = ", send PASS\r\n+OK Authentication succeeded\r\n+OK 2 30\r\n\
         +OK 2 messages (30 octets)\r\n1 19\r\n2 11\r\n.\r\n+OK 2 uid1\r\n\
         +OK 19 octets\r\nA: 1\r\n\r\n..one\r\n.\r\n\
         +OK 19 octets\r\nA: 1\r\n\r\n..one\r\ntwo\r\n.\r\n\
         +OK Message 2 deleted\r\n+OK 1 messages (19 octets)\r\n1 19\r\n.\r\n\
         -ERR That message is deleted\r\n-ERR There is no such message\r\n+OK Nothing is to be removed\r\n\
         +OK 2 30\r\n+OK Message 1 deleted\r\n+OK soonover\r\n-ERR There is no such command\r\n\
         -ERR That is no command\r\n-ERR You are logged in\r\n";
    assert_eq!(rest, wanted);
    // It leaves without QUIT: nothing is removed, and it is logged out.
    drop(stage.there);
    stage.served.await.unwrap();
    assert_eq!(counts(&stage.log), (1, 1));
    assert!(stage.log.removed.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_the_checker_works_is_not_in() {
    let mut stage = Stage::new();
    stage.there.write_all(b"USER slow\r\n").await.unwrap();
    stage.hears("send PASS\r\n").await;
    stage.there.write_all(b"PASS countess of love\r\n").await.unwrap();
    drop(stage.there);
    stage.served.await.unwrap();
    stage.log.go.notify_one();
    assert_eq!(counts(&stage.log), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_server_and_silence_log_out_once_and_remove_nothing() {
    let mut stage = Stage::new();
    stage.there.write_all(b"USER ada\r\nPASS countess of love\r\nDELE 1\r\n").await.unwrap();
    stage.hears("deleted\r\n").await;
    stage.stop.send_replace(true);
    stage.served.await.unwrap();
    assert_eq!(counts(&stage.log), (1, 1));

    let mut stage = Stage::new();
    stage.there.write_all(b"USER ada\r\nPASS countess of love\r\nDELE 1\r\n").await.unwrap();
    stage.hears("deleted\r\n").await;
    tokio::time::advance(Duration::from_secs(11 * 60)).await;
    stage.served.await.unwrap();
    assert_eq!(counts(&stage.log), (1, 1));
    assert!(stage.log.removed.lock().unwrap().is_empty());

    let mut stage = Stage::new();
    stage.there.write_all(b"USER ada\r\nPASS countess of love\r\n").await.unwrap();
    stage.hears("succeeded\r\n").await;
    stage.served.abort();
    assert!(stage.served.await.unwrap_err().is_cancelled());
    assert_eq!(counts(&stage.log), (1, 1), "a task that is cut off");
}

#[tokio::test(start_paused = true)]
async fn nobody_stays_without_logging_in() {
    let mut stage = Stage::new();
    for _ in 0..3 {
        stage.there.write_all(b"CAPA\r\n").await.unwrap();
        stage.hears("\r\n.\r\n").await;
        tokio::time::advance(Duration::from_secs(25)).await;
    }
    stage.served.await.unwrap();
    assert_eq!(counts(&stage.log), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_password_crosses_in_clear_text_where_the_policy_forbids_it() {
    let said = "CAPA\r\nUSER ada\r\nPASS countess of love\r\nAUTH PLAIN\r\nQUIT\r\n";
    let (heard, log) = Stage::with(Plaintext::Secured).says(said).await;
    assert!(!heard.contains("SASL") && !heard.contains("\r\nUSER\r\n"), "{heard}");
    assert!(heard.contains("-ERR [AUTH] Begin TLS first (STLS)"), "{heard}");
    assert_eq!(counts(&log), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn long_lines_and_garbage_are_answered() {
    let long = format!("USER {}\r\nQUIT\r\n", "x".repeat(100_000));
    let (heard, _) = Stage::new().says(&long).await;
    assert!(heard.contains("-ERR The line is too long") && heard.contains("+OK Bye"), "{heard}");
    let (heard, _) = Stage::new().says("\r\n\0\r\nUSER\r\nRETR\r\nAPOP a b\r\nQUIT\r\n").await;
    assert_eq!(heard.matches("-ERR That is no command").count(), 2, "{heard}");
    assert!(heard.contains("-ERR USER needs a name"), "{heard}");
    assert!(heard.contains("-ERR [AUTH] Not by this mechanism"), "{heard}");
}

/// No mechanism is known here by name but APOP, which is a command.
#[tokio::test(start_paused = true)]
async fn whatever_the_checkers_offer_is_offered() {
    let world = Arc::<StillWorld>::default();
    let stage = || {
        Stage::checked(Plaintext::Secured, Arc::clone(&world), |portal| {
            let decoys = Decoys::new(Secret::from("a key"));
            let stored = Stored::new("texts", Texts, decoys)
                .by_derived_scram([ScramHash::Sha256])
                .by_cram_md5()
                .by_apop();
            portal.checked_by(stored)
        })
    };
    let mut client = stage();
    let greeting = client.hears("\r\n").await;
    let timestamp = greeting.split(' ').next_back().unwrap().trim_end().to_owned();
    assert!(timestamp.starts_with('<') && timestamp.ends_with("@mail.test>"), "{greeting}");
    client.there.write_all(b"CAPA\r\n").await.unwrap();
    let all = client.hears("\r\n.\r\n").await;
    // No password in clear text; nothing that binds to a TLS that is not there.
    assert!(all.contains("\r\nSASL SCRAM-SHA-256 CRAM-MD5\r\n"), "{all}");
    let digest = Md5::digest(format!("{timestamp}countess of love"));
    let said = format!("APOP ada {}\r\nQUIT\r\n", hex(&digest));
    let (heard, log) = client.says(&said).await;
    assert!(heard.contains("+OK Authentication succeeded"), "{heard}");
    assert_eq!(counts(&log), (1, 1));

    let mut client = stage();
    let again = client.hears("\r\n").await;
    assert!(!again.contains(&timestamp), "never twice");
    client.there.write_all(format!("APOP ada {}\r\n", hex(&digest)).as_bytes()).await.unwrap();
    client.hears("-ERR [AUTH] Authentication failed\r\n").await;
    client.there.write_all(b"APOP nobody 00112233445566778899aabbccddeeff\r\n").await.unwrap();
    client.hears("-ERR [AUTH] Authentication failed\r\n").await;
    client.there.write_all(b"AUTH CRAM-MD5\r\n").await.unwrap();
    let asked = client.hears("\r\n").await;
    let challenge = BASE64_STANDARD.decode(asked.trim_end().strip_prefix("+ ").unwrap()).unwrap();
    let mut mac = Hmac::<Md5>::new_from_slice(b"countess of love").unwrap();
    mac.update(&challenge);
    let answer = format!("ada {}", hex(&mac.finalize().into_bytes()));
    let said = format!("{}\r\nQUIT\r\n", BASE64_STANDARD.encode(answer));
    let (heard, log) = client.says(&said).await;
    assert!(heard.contains("+OK Authentication succeeded"), "{heard}");
    assert_eq!(counts(&log), (1, 1));
}

/// A certificate of the server, and one that vouches for clients.
struct Site {
    folder: tempfile::TempDir,
    certificate: rustls::pki_types::CertificateDer<'static>,
    ca: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Site {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("chain.pem", made.cert.pem()),
            ("key.pem", made.signing_key.serialize_pem()),
            ("ca.pem", ca.pem()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder, certificate: made.cert.der().clone(), ca }
    }

    fn tls(&self, for_clients: bool) -> Arc<Pair> {
        let [certificate, key, ca] =
            ["chain.pem", "key.pem", "ca.pem"].map(|name| self.folder.path().join(name));
        let files = TlsFiles { certificate, key };
        let pair = match for_clients {
            true => Pair::read_for_clients(&files, &[], &ca),
            false => Pair::read(&files, &[]),
        };
        Arc::new(pair.unwrap())
    }

    /// Says something in TLS, with a certificate for this common name; what is heard until the end.
    async fn says_in_tls(
        &self,
        there: DuplexStream,
        shows: Option<(&str, &Self)>,
        text: &str,
    ) -> io::Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shows {
            None => config.with_no_client_auth(),
            Some((name, by)) => {
                let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(rcgen::DnType::CommonName, name);
                let key = rcgen::KeyPair::generate().unwrap();
                let made = params.signed_by(&key, &by.ca).unwrap();
                let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
                config.with_client_auth_cert(vec![made.der().clone()], key.into()).unwrap()
            }
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut secure = connector.connect("localhost".try_into().unwrap(), there).await?;
        secure.write_all(text.as_bytes()).await?;
        let mut heard = Vec::new();
        // However TLS is ended: what was said is what counts.
        let ended = secure.read_to_end(&mut heard).await;
        match heard.is_empty() {
            true => Err(ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
            false => Ok(String::from_utf8(heard).unwrap()),
        }
    }
}

/// Whom a certificate is for logs in without a word, and as nobody else.
#[tokio::test]
async fn a_clients_certificate_says_who_is_there() {
    let (site, elsewhere) = (Site::new(), Site::new());
    let tls = site.tls(true);
    let stage = || {
        let log = Arc::new(Log::default());
        let stored = Stored::new("texts", Texts, Decoys::new(Secret::from("a key")));
        let portal = Portal::new(Post(Arc::clone(&log))).checked_by(stored.by_external());
        Stage::over(portal, log, Arc::default(), Some(Arc::clone(&tls)))
    };
    let says = async |shows: Option<(&str, &Site)>, text: &str| {
        let mut client = stage();
        client.hears("\r\n").await;
        client.there.write_all(b"STLS\r\n").await.unwrap();
        client.hears("Begin TLS\r\n").await;
        let heard = site.says_in_tls(client.there, shows, text).await;
        client.served.await.unwrap();
        (heard, counts(&client.log))
    };
    let (heard, logins) = says(Some(("ada", &site)), "CAPA\r\nAUTH EXTERNAL =\r\nQUIT\r\n").await;
    let heard = heard.unwrap();
    assert!(heard.contains("\r\nSASL EXTERNAL\r\n"), "{heard}");
    assert!(heard.contains("+OK Authentication succeeded") && logins == (1, 1), "{heard}");
    let named = format!("AUTH EXTERNAL {}\r\nQUIT\r\n", BASE64_STANDARD.encode("ada"));
    assert_eq!(says(Some(("ada", &site)), &named).await.1, (1, 1));
    let other = format!("AUTH EXTERNAL {}\r\nQUIT\r\n", BASE64_STANDARD.encode("bob"));
    let (heard, logins) = says(Some(("ada", &site)), &other).await;
    assert!(heard.unwrap().contains("-ERR [AUTH]") && logins == (0, 0), "to act as another");
    let asks = "CAPA\r\nAUTH EXTERNAL =\r\nQUIT\r\n";
    let (heard, logins) = says(Some(("nobody", &site)), asks).await;
    assert!(heard.unwrap().contains("-ERR [AUTH]") && logins == (0, 0), "not in the directory");
    let (heard, logins) = says(None, asks).await;
    let heard = heard.unwrap();
    assert!(!heard.contains("SASL") && heard.contains("-ERR [AUTH]"), "without one: {heard}");
    assert_eq!(logins, (0, 0));
    let (heard, logins) = says(Some(("ada", &elsewhere)), asks).await;
    assert!(heard.is_err() && logins == (0, 0), "somebody else vouches: {heard:?}");
}

/// What was said before TLS counts for nothing in it, and what binds to it is offered in it.
#[tokio::test]
async fn tls_from_the_middle_on() {
    let site = Site::new();
    let tls = site.tls(false);
    let stage = || {
        let log = Arc::new(Log::default());
        let decoys = Decoys::new(Secret::from("a key"));
        let stored = Stored::new("texts", Texts, decoys).by_derived_scram([ScramHash::Sha256]);
        let portal = Portal::new(Post(Arc::clone(&log))).checked_by(stored);
        Stage::over(portal, log, Arc::default(), Some(Arc::clone(&tls)))
    };
    let mut client = stage();
    client.there.write_all(b"CAPA\r\n").await.unwrap();
    let before = client.hears("\r\n.\r\n").await;
    assert!(before.contains("\r\nSTLS\r\n") && !before.contains("PLUS"), "{before}");
    client.there.write_all(b"STLS\r\n").await.unwrap();
    client.hears("Begin TLS\r\n").await;
    let heard = site.says_in_tls(client.there, None, "CAPA\r\nQUIT\r\n").await.unwrap();
    assert!(heard.contains("\r\nSASL SCRAM-SHA-256-PLUS SCRAM-SHA-256\r\n"), "{heard}");
    assert!(!heard.contains("STLS") && heard.ends_with("+OK Bye\r\n"), "{heard}");
    client.served.await.unwrap();

    // Somebody in the middle puts a command there, for after the handshake: nothing comes of it.
    let (heard, log) = stage().says("STLS\r\nAUTH SCRAM-SHA-256\r\n").await;
    assert!(heard.ends_with("+OK Begin TLS\r\n"), "{heard}");
    assert_eq!(counts(&log), (0, 0));
}
