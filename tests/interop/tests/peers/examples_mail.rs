//! `examples/mail` with the mail clients that people use; and one test of it, again and again, while only the string
//! changes that says who checks logins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Context, ExampleMail, Finished, Outcome, Slapd, Stage, Terminal, Twisted, ensure, eventually,
    example, need, run,
};

pub(crate) const CASES: &[Case] = &[
    // First, with the time that a build takes.
    Case { deadline: Duration::from_secs(45 * 60), ..case("mail_example_is_built", is_built) },
    case("mail_example_with_memory", with_memory),
    case("mail_example_with_file", with_file),
    case("mail_example_with_unix", with_unix),
    case("mail_example_with_ldap", with_ldap),
    case("mail_example_with_sql", with_sql),
    case("mail_example_finds_mailboxes_in_a_table", places_in_a_table),
    case("mail_example_and_curl", curl_over_all),
    case("mail_example_and_fetchmail", fetchmail),
    case("mail_example_and_mutt", mutt),
    case("mail_example_and_mbsync", mbsync),
    case("mail_example_and_twisted", twisted),
];

const USER: &str = "ada";
const PASSWORD: &str = "correct horse battery";
const MEMORY: &str = "memory:ada:correct horse battery";
/// Of that password: `openssl passwd -6`.
const HASH: &str = "$6$saltsalt$G9wFFnnUFCPffgjGaIp8t6onbqx3zGbMIn93ecLfBFGJpBV3/0HPLZ17qYbjb.WJDtXbmuMlQ9NnvzVms5ZXj.";
const LIMIT: Duration = Duration::from_secs(40);

fn is_built(_: &Stage) -> Outcome {
    example(ExampleMail::PACKAGE).map(drop)
}

fn start(stage: &Stage, auth: &str, more: &[&str]) -> Outcome<ExampleMail> {
    let server = ExampleMail::start(stage, &[auth], more)?;
    fill(&server, USER)?;
    Ok(server)
}

fn fill(server: &ExampleMail, folder: &str) -> Outcome {
    let header =
        "From: bob@there.example\nTo: ada@mail.test\nDate: Mon, 7 Feb 1994 21:52:25 -0800\n";
    let one = format!("{header}Subject: one\nMessage-ID: <1@x>\n\nThe first\n.a line with a dot\n");
    let two = format!(
        "{header}Subject: two\nMessage-ID: <2@x>\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed; boundary=b\n\n--b\n\nThe second\n--b\n\
         Content-Type: application/octet-stream; name=x.bin\nContent-Transfer-Encoding: base64\n\n\
         AAEC\n--b--\n"
    );
    server.deliver(folder, "1.a.test", &one)?;
    server.deliver(folder, "2.b.test", &two)
}

/// The one test of a mail client: it knows ports, a name and a password.
fn a_mail_client_works(stage: &Stage, server: &ExampleMail) -> Outcome {
    let python = need("python3", "python3")?;
    let script = include_str!("examples_mail/client.py");
    let script = stage.file("client.py", script)?;
    let mut command = Command::new(python);
    command.arg("-B").arg(script).args([server.pop3, server.imap].map(|port| port.to_string()));
    let done = run(&mut command, &format!("{USER}\n{PASSWORD}\n"), LIMIT)?;
    ensure!(done.code == Some(0) && done.out == "done\n", "poplib and imaplib: {done:?}");
    // Curl does not know the password mechanisms by name either: it takes what is offered.
    let read = curl(&format!("pop3://127.0.0.1:{}/1", server.pop3), PASSWORD, &[])?;
    ensure!(read.out.contains("The first\r\n.a line with"), "curl, POP3: {read:?}");
    let uid = curl(&format!("imap://127.0.0.1:{}/INBOX;UID=1", server.imap), PASSWORD, &[])?;
    ensure!(uid.out.contains("The first\r\n.a line with"), "curl, IMAP: {uid:?}");
    all_logged_out(server)
}

/// Everybody who was logged in is logged out again, once.
fn all_logged_out(server: &ExampleMail) -> Outcome {
    let counts = || {
        let log = server.log();
        (log.matches("is logged in").count(), log.matches("is logged out").count())
    };
    eventually("as many logouts as logins", || {
        let (ins, outs) = counts();
        ins > 0 && ins == outs
    })
}

fn with_memory(stage: &Stage) -> Outcome {
    let server = start(stage, MEMORY, &[])?;
    a_mail_client_works(stage, &server)?;
    server.end()
}

fn with_file(stage: &Stage) -> Outcome {
    let file = stage.file("users", &format!("# users\nbob:x\n{USER}:{HASH}\n"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).during(file.display())?;
    let server = start(stage, &format!("file:{}", file.display()), &[])?;
    a_mail_client_works(stage, &server)
}

/// passwd and shadow, as a machine has them, in a folder of their own: the machine's are for root, and not ours.
fn with_unix(stage: &Stage) -> Outcome {
    let etc = stage.folder("etc")?;
    stage.file("etc/passwd", &format!("{USER}:x:1000:1000:Ada:/home/{USER}:/bin/sh\n"))?;
    stage.file("etc/group", &format!("{USER}:x:1000:\n"))?;
    stage.secret("etc/shadow", &format!("{USER}:{HASH}:20000:0:99999:7:::\n"))?;
    let server = start(stage, &format!("unix:{}", etc.display()), &[])?;
    a_mail_client_works(stage, &server)
}

fn with_ldap(stage: &Stage) -> Outcome {
    let ldif = format!(
        "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n\
         dn: ou=people,dc=example\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: uid={USER},ou=people,dc=example\nobjectClass: inetOrgPerson\nuid: {USER}\ncn: Ada\nsn: L\n\
         userPassword: {PASSWORD}\n"
    );
    let directory = Slapd::start(&ldif, None)?;
    let auth = format!("ldap:{}/ou=people,dc=example??sub?(uid={{login}})", directory.url());
    let server = start(stage, &auth, &[])?;
    a_mail_client_works(stage, &server)
}

fn sqlite(file: &Path, sql: &str) -> Outcome {
    let program = need("sqlite3", "sqlite3")?;
    let done = run(Command::new(program).arg(file), sql, LIMIT)?;
    ensure!(done.code == Some(0), "sqlite3: {done:?}");
    Ok(())
}

fn with_sql(stage: &Stage) -> Outcome {
    let file = stage.at("users.db");
    sqlite(
        &file,
        &format!(
            "CREATE TABLE users (name TEXT, hash TEXT); INSERT INTO users VALUES ('{USER}', '{HASH}');"
        ),
    )?;
    let query = "SELECT hash FROM users WHERE name = :login";
    let server = start(stage, &format!("sql:sqlite:{}?query={query}", file.display()), &[])?;
    a_mail_client_works(stage, &server)
}

/// Who somebody is comes from one place, and where their mail is from another.
fn places_in_a_table(stage: &Stage) -> Outcome {
    let file = stage.at("mailboxes.db");
    let table = "CREATE TABLE mailboxes (name TEXT PRIMARY KEY, maildir TEXT NOT NULL);";
    sqlite(
        &file,
        &format!("{table} INSERT INTO mailboxes VALUES ('{USER}', 'domains/a/{USER}');"),
    )?;
    let url = format!("sqlite:{}", file.display());
    let auth = format!("{MEMORY}:eve:{PASSWORD}");
    let server = ExampleMail::start(stage, &[&auth], &["--mailboxes", &url])?;
    fill(&server, &format!("domains/a/{USER}"))?;
    a_mail_client_works(stage, &server)?;
    let url = format!("imap://127.0.0.1:{}/INBOX", server.imap);
    let program = need("curl", "curl")?;
    let options = format!("user = \"eve:{PASSWORD}\"\n");
    let eve = run(
        Command::new(program).args(["--silent", "--max-time", "20", "--config", "-", &url]),
        &options,
        LIMIT,
    )?;
    ensure!(eve.code == Some(67), "who has no mailbox is not let in: {eve:?}");
    Ok(())
}

fn curl(url: &str, password: &str, words: &[&str]) -> Outcome<Finished> {
    let program = need("curl", "curl")?;
    let options = format!("user = \"{USER}:{password}\"\n");
    let mut command = Command::new(program);
    command.args(["--silent", "--max-time", "20", "--config", "-"]).args(words).arg(url);
    run(&mut command, &options, LIMIT)
}

/// Every mechanism that this curl and the server have in common, in clear text and in TLS.
fn curl_over_all(stage: &Stage) -> Outcome {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".into()]).during("a certificate")?;
    let chain = stage.file("chain.pem", &made.cert.pem())?;
    let key = stage.file("key.pem", &made.signing_key.serialize_pem())?;
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    let server = start(stage, MEMORY, &["--tls-cert", &chain, "--tls-key", &key])?;
    let (pop3, imap) = (
        format!("pop3://localhost:{}/2", server.pop3),
        format!("imap://localhost:{}/INBOX;MAILINDEX=2", server.imap),
    );
    let tls = ["--ssl-reqd", "--cacert", &chain];
    for url in [&pop3, &imap] {
        for way in [&[][..], &["--login-options", "AUTH=PLAIN"], &["--login-options", "AUTH=LOGIN"]]
        {
            for tls in [&[][..], &tls] {
                let words = [way, tls].concat();
                let read = curl(url, PASSWORD, &words)?;
                ensure!(
                    read.code == Some(0) && read.out.contains("The second"),
                    "{words:?}: {read:?}"
                );
                // 67: curl was denied the login.
                let wrong = curl(url, "wrong", &words)?;
                ensure!(wrong.code == Some(67), "{words:?}: {wrong:?}");
            }
        }
        let ir = curl(url, PASSWORD, &["--sasl-ir"])?;
        ensure!(ir.code == Some(0) && ir.out.contains("The second"), "--sasl-ir: {ir:?}");
    }
    let list = curl(&format!("pop3://localhost:{}/", server.pop3), PASSWORD, &[])?;
    ensure!(list.out.lines().count() == 2, "LIST: {list:?}");
    let dele = curl(&pop3, PASSWORD, &["--request", "DELE", "--list-only"])?;
    ensure!(dele.code == Some(0), "DELE: {dele:?}");
    eventually("one message left", || server.files(USER).is_ok_and(|files| files.len() == 1))?;
    let letter = stage.file("letter", "Subject: three\r\n\r\nThe third\r\n")?;
    let url = format!("imap://localhost:{}/INBOX", server.imap);
    let sent = curl(&url, PASSWORD, &["--upload-file", &letter.display().to_string()])?;
    ensure!(sent.code == Some(0), "APPEND: {sent:?}");
    let found = curl(&url, PASSWORD, &["--request", "SEARCH SUBJECT three"])?;
    ensure!(found.out.trim() == "* SEARCH 2", "SEARCH: {found:?}");
    all_logged_out(&server)
}

fn fetchmail(_: &Stage) -> Outcome {
    let program = need("fetchmail", "fetchmail")?;
    for protocol in ["pop3", "imap"] {
        let stage = &Stage::new()?;
        let server = start(stage, MEMORY, &[])?;
        let port = if protocol == "pop3" { server.pop3 } else { server.imap };
        let out = stage.at("fetched");
        let rc = |password: &str| {
            let text = format!(
                "poll 127.0.0.1 protocol {protocol} port {port} auth password\n\
                 user \"{USER}\" password \"{password}\" fetchall nokeep sslproto \"\"\n\
                 mda \"cat >> {}\"\n",
                out.display()
            );
            let file = stage.file("fetchmailrc", &text)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).during("fetchmailrc")?;
            let mut command = Command::new(&program);
            command.args(["--nosyslog", "--nodetach", "-v", "-f"]).arg(file);
            run(command.env("FETCHMAILHOME", stage.path()).env("HOME", stage.path()), "", LIMIT)
        };
        let wrong = rc("wrong")?;
        // 3: the server refused the login (fetchmail(1)).
        ensure!(wrong.code == Some(3), "{protocol}, a wrong password: {wrong:?}");
        let done = rc(PASSWORD)?;
        ensure!(done.code == Some(0), "{protocol}: {done:?}");
        let text = fs::read_to_string(&out).during(out.display())?;
        ensure!(text.contains("The first") && text.contains("\n.a line"), "{protocol}: {text}");
        ensure!(text.contains("The second"), "{protocol}: {text}");
        eventually("an empty mailbox", || server.files(USER).is_ok_and(|files| files.is_empty()))?;
        all_logged_out(&server)?;
    }
    Ok(())
}

/// A person's program, at a terminal: it shows the list, saves a message, and deletes it.
fn mutt(stage: &Stage) -> Outcome {
    let program = need("mutt", "mutt")?;
    let server = start(stage, MEMORY, &[])?;
    for (url, folder) in [
        (format!("pop://{USER}@127.0.0.1:{}/", server.pop3), "pop-saved"),
        (format!("imap://{USER}@127.0.0.1:{}/INBOX", server.imap), "imap-saved"),
    ] {
        let saved = stage.at(folder);
        let rc = format!(
            "set pop_pass=\"{PASSWORD}\" imap_pass=\"{PASSWORD}\" ssl_starttls=no ssl_force_tls=no\n\
             set folder=\"{0}\" header_cache=\"\" confirmappend=no confirmcreate=no delete=no quit=yes\n\
             set pop_delete=no save_empty=no wait_key=no mark_old=no tunnel=\"\" nouse_ipv6\n\
             set spoolfile=\"{0}/none\" record=\"\" mbox_type=mbox\n",
            stage.path().display()
        );
        let rc = stage.file("muttrc", &rc)?;
        let words = ["-n", "-F", &rc.display().to_string(), "-f", &url].map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let terminal = Terminal::open(stage, &program, &words)?;
        terminal.shows("one")?;
        terminal.shows("two")?;
        // `C`: copy the message under the cursor, the first, into a mailbox.
        terminal.enter(&format!("1\nC{}\n", saved.display()))?;
        eventually("the copy", || {
            fs::read_to_string(&saved).is_ok_and(|text| text.contains("The first"))
        })?;
        terminal.enter("x")?;
        drop(terminal);
    }
    all_logged_out(&server)
}

/// A second Maildir that is made equal, in both directions.
fn mbsync(stage: &Stage) -> Outcome {
    let program = need("mbsync", "isync")?;
    let server = start(stage, MEMORY, &[])?;
    let local = stage.folder("local")?;
    let rc = format!(
        "IMAPAccount a\nHost 127.0.0.1\nPort {}\nUser {USER}\nPassCmd \"echo '{PASSWORD}'\"\nSSLType None\n\
         AuthMechs LOGIN\n\nIMAPStore there\nAccount a\n\nMaildirStore here\nInbox {1}/INBOX\n\
         SubFolders Maildir++\n\nChannel mail\nFar :there:\nNear :here:\nPatterns *\nCreate Both\nExpunge Both\n\
         SyncState *\n",
        server.imap,
        local.display()
    );
    let rc = stage.file("mbsyncrc", &rc)?;
    let sync = || {
        let mut command = Command::new(&program);
        run(command.arg("-c").arg(&rc).arg("-a").env("HOME", stage.path()), "", LIMIT)
    };
    let first = sync()?;
    ensure!(first.code == Some(0), "the first time: {first:?}");
    let names = |part: &str| -> Vec<String> {
        let all = fs::read_dir(local.join("INBOX").join(part)).into_iter().flatten().flatten();
        all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    ensure!(
        names("new").len() + names("cur").len() == 2,
        "here: {:?}",
        (names("new"), names("cur"))
    );
    // One is written here, one is read and one removed: the server has it all after the next time.
    fs::write(local.join("INBOX/new/3.c.here"), "Subject: three\n\nThe third\n").during("new")?;
    let inbox = local.join("INBOX");
    for name in names("new") {
        let text = fs::read_to_string(inbox.join("new").join(&name)).during(&name)?;
        let flags = match () {
            () if text.contains("The first") => "S",
            () if text.contains("The second") => "ST",
            () => continue,
        };
        let base = name.split(":2,").next().unwrap_or_default();
        let marked = inbox.join("cur").join(format!("{base}:2,{flags}"));
        fs::rename(inbox.join("new").join(&name), marked).during(&name)?;
    }
    let second = sync()?;
    ensure!(second.code == Some(0), "the second time: {second:?}");
    let files = server.files(USER)?;
    ensure!(files.len() == 2, "there: {files:?}");
    ensure!(files.iter().any(|file| file == "1.a.test:2,S"), "the flag: {files:?}");
    ensure!(!files.iter().any(|file| file.starts_with("2.b")), "the removed one: {files:?}");
    let third = sync()?;
    ensure!(third.code == Some(0), "the third time: {third:?}");
    ensure!(server.files(USER)? == files, "nothing more changes");
    all_logged_out(&server)
}

fn twisted(stage: &Stage) -> Outcome {
    let twisted = Twisted::find()?;
    let server = start(stage, MEMORY, &[])?;
    let script = include_str!("examples_mail/twisted_client.py");
    let script = stage.file("twisted_client.py", script)?;
    let mut command = twisted.command(&script);
    command.args([server.pop3, server.imap].map(|port| port.to_string()));
    let done = run(&mut command, &format!("{USER}\n{PASSWORD}\n"), LIMIT)?;
    ensure!(done.code == Some(0) && done.out == "done\n", "Twisted: {done:?}");
    all_logged_out(&server)
}
