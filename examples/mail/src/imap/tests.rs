//! Conversations in memory, over a real Maildir.

use std::path::Path;
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{
    Fault, Identity, Password, PasswordStore, Plaintext, Policy, Portal, Secret, Terms, Verdict,
    Verified,
};
use countersign_sasl::{Login, Plain};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

use super::*;
use crate::place::{Pattern, Places};
use crate::realm::Maildirs;
use crate::server::Limits;

struct Known;

impl PasswordStore for Known {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(match (login, password == &Secret::from("countess")) {
            ("ada", true) => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            ("ada", false) => Verdict::WRONG,
            ("broken", _) => return Err(Fault::unavailable("the database is away")),
            _ => Verdict::UNKNOWN,
        })
    }
}

struct Stage {
    folder: tempfile::TempDir,
    mail: Arc<Maildirs>,
    server: Arc<Server<Arc<Maildirs>>>,
    stop: watch::Sender<bool>,
}

struct Client {
    there: DuplexStream,
    served: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn with(plaintext: Plaintext) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pattern = Pattern::parse(folder.path().to_str().unwrap()).unwrap();
        let mail = Arc::new(Maildirs::new(Places::Pattern(pattern)));
        let terms = Terms { plaintext: Some(plaintext), ..Terms::default() };
        let portal = Portal::new(Arc::clone(&mail))
            .checked_by(Password::new("known", Known))
            .carried_by(Plain)
            .carried_by(Login)
            .under(Policy::of(terms));
        let (stop, stopped) = watch::channel(false);
        let server = Arc::new(Server {
            portal,
            world: Arc::new(StillWorld::default()),
            tls: None,
            host: "mail.test".into(),
            limits: Limits::IMAP,
            stop: stopped,
        });
        let stage = Self { folder, mail, server, stop };
        for (name, text) in [
            ("1.a.host", "From: bob@there.example\nSubject: one\n\nThe first\n"),
            ("2.b.host", "From: eve@there.example\nSubject: two\n\nThe second\n"),
        ] {
            stage.deliver(name, text);
        }
        stage
    }

    fn new() -> Self {
        Self::with(Plaintext::Always)
    }

    fn deliver(&self, name: &str, text: &str) {
        let new = self.maildir().join("new");
        std::fs::create_dir_all(&new).unwrap();
        std::fs::write(new.join(name), text).unwrap();
    }

    fn maildir(&self) -> std::path::PathBuf {
        self.folder.path().join("ada")
    }

    fn client(&self) -> Client {
        let (there, here) = duplex(1024 * 1024);
        let server = Arc::clone(&self.server);
        let served = tokio::spawn(async move {
            let peer = Server::<Arc<Maildirs>>::peer("imap", None, None);
            serve(&server, Wire::new(here), peer).await;
        });
        Client { there, served }
    }

    async fn logged_in(&self) -> Client {
        let mut client = self.client();
        client.asks("l LOGIN ada countess").await;
        client
    }
}

/// Nobody in particular reads what visitors may read, and changes nothing of it.
#[tokio::test]
async fn visitors_read_and_change_nothing() {
    let mut stage = Stage::new();
    let place = stage.folder.path().join("ada");
    let pattern = Pattern::parse(stage.folder.path().to_str().unwrap()).unwrap();
    let mail = Arc::new(Maildirs::new(Places::Pattern(pattern)).visited(place));
    let server = Arc::get_mut(&mut stage.server).unwrap();
    let portal = Portal::new(mail).checked_by(countersign_sasl::Anonymous::new("guests"));
    server.portal = portal;
    let mut client = stage.client();
    let greeting = client.asks("a CAPABILITY").await;
    assert!(
        greeting.contains("AUTH=ANONYMOUS") && greeting.contains("LOGINDISABLED"),
        "{greeting}"
    );
    assert!(client.asks("b AUTHENTICATE ANONYMOUS c2lyaGM=").await.contains("b OK"));
    assert!(client.asks("c SELECT INBOX").await.contains("c OK [READ-ONLY]"));
    assert!(client.asks("d FETCH 1 BODY[]").await.contains("The first"));
    for refused in [
        "e STORE 1 FLAGS (\\Deleted)",
        "e CREATE Mine",
        "e DELETE Mine",
        "e RENAME INBOX Mine",
        "e COPY 1 INBOX",
        "e MOVE 1 INBOX",
    ] {
        let heard = client.asks(refused).await;
        assert!(heard.contains("e NO"), "{refused}: {heard}");
    }
    client.says("f APPEND INBOX {3+}\r\nabc\r\n").await;
    let heard = client.hears("f ").await;
    assert!(heard.contains("NO [NOPERM]"), "{heard}");
    let left = std::fs::read_dir(stage.maildir().join("new")).unwrap().count();
    assert_eq!(left, 2, "and what is new is new for whose it is");
}

impl Client {
    async fn says(&mut self, text: &str) {
        self.there.write_all(text.as_bytes()).await.unwrap();
    }

    /// Hears lines until one begins so, that one included.
    async fn hears(&mut self, start: &str) -> String {
        let (mut heard, mut line) = (Vec::new(), 0);
        loop {
            let Ok(byte) = self.there.read_u8().await else {
                panic!("gone after {:?}", String::from_utf8_lossy(&heard));
            };
            heard.push(byte);
            if byte == b'\n' {
                if heard[line..].starts_with(start.as_bytes()) {
                    return String::from_utf8(heard).unwrap();
                }
                line = heard.len();
            }
        }
    }

    /// Says a command and hears the answer.
    async fn asks(&mut self, command: &str) -> String {
        self.says(&format!("{command}\r\n")).await;
        let tag = command.split(' ').next().unwrap();
        self.hears(&format!("{tag} ")).await
    }
}

fn files(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_session_from_the_greeting_to_the_end() {
    let stage = Stage::new();
    let mut client = stage.client();
    let greeting = client.hears("* OK").await;
    assert!(greeting.contains("[CAPABILITY IMAP4rev1 LITERAL- SASL-IR AUTH=PLAIN AUTH=LOGIN]"));
    assert_eq!(client.asks("a SELECT INBOX").await, "a BAD Log in first\r\n");
    let wrong = client.asks("b LOGIN ada wrong").await;
    let unknown = client.asks("b LOGIN nobody wrong").await;
    assert_eq!(wrong, "b NO [AUTHENTICATIONFAILED] Authentication failed\r\n");
    assert_eq!(wrong, unknown, "they cannot be told apart");
    assert_eq!(stage.mail.sessions(), 0);
    let right = client.asks("c LOGIN ada {8}\r\ncountess").await;
    assert!(right.contains("+ Go on\r\nc OK [CAPABILITY IMAP4rev1"), "{right}");
    assert_eq!(stage.mail.sessions(), 1);
    assert!(client.asks("d LOGIN ada countess").await.starts_with("d BAD"));
    let selected = client.asks("e SELECT inbox").await;
    for wanted in ["* 2 EXISTS", "* 2 RECENT", "[UNSEEN 1]", "[UIDNEXT 3]", "e OK [READ-WRITE]"] {
        assert!(selected.contains(wanted), "{wanted}: {selected}");
    }
    let fetched = client.asks("f FETCH 1 (UID BODY[HEADER.FIELDS (Subject)] BODY[TEXT])").await;
    assert_eq!(
        fetched,
        "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (Subject)] {16}\r\nSubject: one\r\n\r\n \
         BODY[TEXT] {11}\r\nThe first\r\n FLAGS (\\Seen \\Recent))\r\nf OK Done\r\n"
    );
    assert_eq!(
        client.asks("g FETCH 3 FLAGS").await,
        "g BAD There is no message of such a number\r\n"
    );
    assert_eq!(client.asks("h UID SEARCH FROM eve").await, "* SEARCH 2\r\nh OK Done\r\n");
    assert_eq!(
        client.asks("h SEARCH CHARSET KOI8-R ALL").await.split(']').next().unwrap(),
        "h NO [BADCHARSET (US-ASCII UTF-8)"
    );
    let stored = client.asks("i STORE 1 +FLAGS (\\Deleted)").await;
    assert_eq!(stored, "* 1 FETCH (FLAGS (\\Deleted \\Seen \\Recent))\r\ni OK Done\r\n");
    assert_eq!(files(&stage.maildir().join("cur")), ["1.a.host:2,ST", "2.b.host:2,"]);
    let expunged = client.asks("j EXPUNGE").await;
    assert!(expunged.ends_with("* 1 EXPUNGE\r\nj OK Done\r\n"), "{expunged}");
    assert_eq!(files(&stage.maildir().join("cur")), ["2.b.host:2,"]);
    let out = client.asks("k LOGOUT").await;
    assert_eq!(out, "* BYE\r\nk OK Bye\r\n");
    client.served.await.unwrap();
    assert_eq!(stage.mail.sessions(), 0);
}

#[tokio::test]
async fn mechanisms_with_and_without_a_first_message() {
    let stage = Stage::new();
    for said in [
        "a AUTHENTICATE PLAIN AGFkYQBjb3VudGVzcw==\r\n",
        "a AUTHENTICATE plain\r\nAGFkYQBjb3VudGVzcw==\r\n",
        "a AUTHENTICATE LOGIN\r\nYWRh\r\nY291bnRlc3M=\r\n",
    ] {
        let mut client = stage.client();
        client.says(said).await;
        assert!(client.hears("a ").await.contains("a OK [CAPABILITY"), "{said}");
    }
    let mut client = stage.client();
    client
        .says("a AUTHENTICATE PLAIN\r\n*\r\nb AUTHENTICATE PLAIN\r\n!\r\nc AUTHENTICATE NONE\r\n")
        .await;
    let heard = client.hears("* BYE").await;
    let lines: Vec<_> = heard.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "+ ",
            "a BAD Cancelled",
            "+ ",
            "b BAD That is no message of this mechanism",
            "c NO [CANNOT] Not by this mechanism",
            "* BYE These were too many tries",
        ]
    );
}

#[tokio::test]
async fn no_password_crosses_in_clear_text_where_the_policy_forbids_it() {
    let stage = Stage::with(Plaintext::Secured);
    let mut client = stage.client();
    let greeting = client.hears("* OK").await;
    assert!(greeting.contains(" LOGINDISABLED]") && !greeting.contains("AUTH="), "{greeting}");
    let refused = client.asks("a LOGIN ada countess").await;
    assert!(refused.starts_with("a NO [PRIVACYREQUIRED]"), "{refused}");
    assert_eq!(stage.mail.sessions(), 0);
    let broken = Stage::new().client().asks("a LOGIN broken x").await;
    assert!(broken.contains("a NO [UNAVAILABLE]"), "{broken}");
}

#[tokio::test]
async fn folders_and_copies() {
    let stage = Stage::new();
    let mut client = stage.logged_in().await;
    assert_eq!(client.asks("a CREATE Sent.2024").await, "a OK Done\r\n");
    assert!(client.asks("a CREATE Sent.2024").await.starts_with("a NO [ALREADYEXISTS]"));
    assert!(client.asks("a CREATE ../x").await.starts_with("a NO [CANNOT]"));
    let listed = client.asks("b LIST \"\" *").await;
    assert_eq!(
        listed,
        "* LIST () \".\" INBOX\r\n* LIST (\\Noselect) \".\" Sent\r\n\
         * LIST () \".\" Sent.2024\r\nb OK Done\r\n"
    );
    assert_eq!(
        client.asks("b LIST \"\" \"\"").await,
        "* LIST (\\Noselect) \".\" \"\"\r\nb OK Done\r\n"
    );
    client.asks("c SELECT INBOX").await;
    assert!(client.asks("d COPY 1 Nowhere").await.starts_with("d NO [TRYCREATE]"));
    let copied = client.asks("d COPY 1:2 Sent.2024").await;
    assert!(copied.contains("d OK [COPYUID ") && copied.contains(" 1,2 1,2]"), "{copied}");
    let moved = client.asks("e UID MOVE 2 Sent.2024").await;
    assert!(moved.contains("* OK [COPYUID ") && moved.contains("* 2 EXPUNGE\r\n"), "{moved}");
    let appended = client
        .asks("f APPEND Sent.2024 (\\Seen) \"07-Feb-1994 21:52:25 -0800\" {6+}\r\nA: 1\r\n")
        .await;
    assert!(
        appended.starts_with("f OK [APPENDUID ") && appended.contains(" 4] Done"),
        "{appended}"
    );
    let status = client.asks("g STATUS Sent.2024 (MESSAGES UIDNEXT UNSEEN)").await;
    assert!(status.contains("* STATUS Sent.2024 (MESSAGES 4 UIDNEXT 5 UNSEEN 3)"), "{status}");
    let examined = client.asks("h EXAMINE Sent.2024").await;
    assert!(examined.contains("h OK [READ-ONLY]"), "{examined}");
    let date = client.asks("i FETCH 4 (INTERNALDATE FLAGS)").await;
    assert!(date.contains("INTERNALDATE \"08-Feb-1994 05:52:25 +0000\" FLAGS (\\Seen)"), "{date}");
    assert!(client.asks("j STORE 1 FLAGS (\\Seen)").await.starts_with("j NO [READ-ONLY]"));
    assert_eq!(client.asks("k RENAME Sent Old").await, "k OK Done\r\n");
    assert!(client.asks("k LIST \"\" Old.%").await.contains("* LIST () \".\" Old.2024\r\n"));
    assert_eq!(client.asks("m DELETE Old.2024").await, "m OK Done\r\n");
    assert!(client.asks("n SELECT Old.2024").await.starts_with("n NO [NONEXISTENT]"));
    assert!(client.asks("o DELETE INBOX").await.starts_with("o NO [CANNOT]"));
}

#[tokio::test]
async fn idle_hears_of_mail_and_of_what_the_realm_says() {
    let stage = Stage::new();
    let mut client = stage.logged_in().await;
    client.asks("a SELECT INBOX").await;
    client.says("b IDLE\r\n").await;
    client.hears("+ ").await;
    stage.deliver("3.c.host", "Subject: three\n\nx\n");
    stage.mail.look().await;
    assert_eq!(client.hears("* 3 RECENT").await, "* 3 EXISTS\r\n* 3 RECENT\r\n");
    // Another session marks and removes something.
    let mut other = stage.logged_in().await;
    other.asks("a SELECT INBOX").await;
    other.asks("b UID STORE 1 +FLAGS (\\Deleted)").await;
    other.asks("c EXPUNGE").await;
    stage.mail.look().await;
    assert_eq!(client.hears("* 1 EXPUNGE").await, "* 1 EXPUNGE\r\n");
    assert_eq!(stage.mail.say(Some("ada"), "back \r\nsoon"), 2);
    assert_eq!(client.hears("* OK").await, "* OK [ALERT] back soon\r\n");
    client.says("DONE\r\n").await;
    client.hears("b OK").await;
    stage.stop.send_replace(true);
    let end = client.hears("* BYE").await;
    assert!(end.contains("[UNAVAILABLE]"), "{end}");
    client.served.await.unwrap();
    other.served.await.unwrap();
    assert_eq!(stage.mail.sessions(), 0);
}

#[tokio::test]
async fn garbage_and_too_much_are_answered() {
    let stage = Stage::new();
    let mut client = stage.client();
    assert_eq!(client.asks("a FOO").await.lines().last().unwrap(), "a BAD That is no command");
    client.says("\r\n").await;
    assert_eq!(client.hears("* BAD").await, "* BAD That is no command\r\n");
    client.says(&format!("{}\r\n", "x".repeat(100_000))).await;
    assert_eq!(client.hears("* BAD").await, "* BAD The line is too long\r\n");
    let refused = client.asks("b LOGIN ada {999999}").await;
    assert_eq!(refused, "b NO [TOOBIG] That is too long\r\n");
    client.says("c APPEND INBOX {99999999+}\r\n").await;
    assert!(client.hears("* BYE").await.contains("[TOOBIG]"));
    client.served.await.unwrap();
    let deep = format!("d SEARCH {}ALL", "NOT ".repeat(60));
    let mut client = stage.logged_in().await;
    client.asks("a SELECT INBOX").await;
    let refused = client.asks(&deep).await;
    assert!(refused.starts_with("d BAD") || refused.starts_with("d NO"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn nobody_stays_silent_for_ever_and_everybody_is_logged_out_once() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.hears("* OK").await;
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(client.hears("* BYE").await.contains("nothing"));
    let mut client = stage.logged_in().await;
    assert_eq!(stage.mail.sessions(), 1);
    tokio::time::advance(Duration::from_secs(31 * 60)).await;
    assert!(client.hears("* BYE").await.contains("nothing"));
    client.served.await.unwrap();
    assert_eq!(stage.mail.sessions(), 0);
    let client = stage.logged_in().await;
    drop(client.there);
    client.served.await.unwrap();
    assert_eq!(stage.mail.sessions(), 0);
    let client = stage.logged_in().await;
    client.served.abort();
    assert!(client.served.await.unwrap_err().is_cancelled());
    assert_eq!(stage.mail.sessions(), 0);
}

/// One realm, two protocols, one mind's shape: both hear, each in its own way.
#[tokio::test]
async fn the_realm_tells_pop3_and_imap() {
    let stage = Stage::new();
    let mut imap = stage.logged_in().await;
    let (there, here) = duplex(64 * 1024);
    let server = Arc::clone(&stage.server);
    let served = tokio::spawn(async move {
        let peer = Server::<Arc<Maildirs>>::peer("pop3", None, None);
        crate::pop3::serve(&server, Wire::new(here), peer).await;
    });
    let mut pop3 = Client { there, served };
    pop3.says("USER ada\r\nPASS countess\r\n").await;
    pop3.hears("+OK Authentication succeeded").await;
    assert_eq!(stage.mail.sessions(), 2);
    assert_eq!(stage.mail.say(Some("eve"), "nobody is there"), 0);
    assert_eq!(stage.mail.say(Some("ada"), "the disk is full"), 2);
    pop3.says("NOOP\r\n").await;
    assert_eq!(pop3.hears("+OK").await, "+OK the disk is full\r\n");
    let heard = imap.asks("n NOOP").await;
    assert_eq!(heard, "* OK [ALERT] the disk is full\r\nn OK Done\r\n");
    // What one protocol removes is gone for the other.
    imap.asks("s SELECT INBOX").await;
    pop3.says("DELE 1\r\nQUIT\r\n").await;
    pop3.hears("+OK Bye").await;
    pop3.served.await.unwrap();
    assert_eq!(imap.asks("n NOOP").await, "* 1 EXPUNGE\r\nn OK Done\r\n");
    assert_eq!(stage.mail.sessions(), 1);
}
