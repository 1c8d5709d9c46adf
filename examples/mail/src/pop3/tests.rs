//! Conversations in memory: what a client says, and what it hears.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{
    Denial, Fault, Identity, Logout, Password, PasswordStore, Plaintext, Policy, Portal, Reason,
    Secret, Terms, Verdict, Verified,
};
use countersign_sasl::{Login, Plain};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Notify, watch};

use super::*;
use crate::server::Limits;

/// What happened, for the tests to see.
#[derive(Default)]
struct Log {
    logins: AtomicUsize,
    logouts: AtomicUsize,
    removed: std::sync::Mutex<Vec<usize>>,
    /// The checker waits for this, for `slow`.
    go: Notify,
}

struct Letters(Arc<Log>, Vec<&'static str>);

impl Maildrop for Letters {
    fn open(&mut self) -> Work<'_, Vec<Letter>> {
        let letters = self
            .1
            .iter()
            .enumerate()
            .map(|(at, text)| Letter { size: text.len() as u64, uid: format!("uid{at}") });
        let letters = letters.collect::<Vec<_>>();
        Box::pin(async move {
            match letters.is_empty() {
                true => Err(io::ErrorKind::ResourceBusy.into()),
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
            ("ada" | "slow" | "full" | "busy", true) => {
                Verdict::Is(Verified::vouch(Identity::named(login)))
            }
            ("ada", false) => Verdict::WRONG,
            _ => Verdict::UNKNOWN,
        })
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
        let log = Arc::new(Log::default());
        let terms = Terms { plaintext: Some(plaintext), ..Terms::default() };
        let portal = Portal::new(Post(Arc::clone(&log)))
            .checked_by(Password::new("known", Known(Arc::clone(&log))))
            .carried_by(Plain)
            .carried_by(Login)
            .under(Policy::of(terms));
        let (stop, stopped) = watch::channel(false);
        let server = Server {
            portal,
            world: Arc::new(StillWorld::default()),
            tls: None,
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
            "+OK Authentication succeeded, 2 messages",
            "+OK Message 1 deleted",
            "+OK soonover",
        ]
    );
    assert_eq!(*log.removed.lock().unwrap(), [0]);
    assert_eq!(counts(&log), (1, 1));
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
    let wanted = ", send PASS\r\n+OK Authentication succeeded, 2 messages\r\n+OK 2 30\r\n\
         +OK 2 messages (30 octets)\r\n1 19\r\n2 11\r\n.\r\n+OK 2 uid1\r\n\
         +OK 19 octets\r\nA: 1\r\n\r\n..one\r\n.\r\n\
         +OK 19 octets\r\nA: 1\r\n\r\n..one\r\ntwo\r\n.\r\n\
         +OK Message 2 deleted\r\n+OK 1 messages (19 octets)\r\n1 19\r\n.\r\n\
         -ERR That message is deleted\r\n-ERR There is no such message\r\n+OK 2 messages\r\n\
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
    stage.hears("2 messages\r\n").await;
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
