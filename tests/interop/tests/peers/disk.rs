//! A file system that is really full, and a folder that is taken away, under a server that runs.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use countersign_interop::runner::Case;
use countersign_interop::{
    Context, Countersign, Outcome, Profile, Stage, Trouble, ensure, eventually, need, run,
};
use serde_json::{Value, json};

use crate::nodes::client::{Mail, call, forward_auth, login, mail_login};

pub(crate) const CASES: &[Case] = &[
    long("disk_of_the_store_full_and_free", store_full),
    long("disk_of_the_record_full_and_free", record_full),
    long("disk_folder_of_the_store_taken_away_and_back", taken_away),
];

const fn long(name: &'static str, play: fn(&Stage) -> Outcome) -> Case {
    Case { name, deadline: Duration::from_secs(120), play }
}

const PASSWORD: &str = "correct horse battery";
/// Large enough for a new store, and full after some writes more.
const MOUNT: &str = "mount -t tmpfs -o size=2m none \"$0\" && exec \"$@\"";

/// A server with the users `ada` and `eve`, who is disabled.
struct Site {
    server: Countersign,
    socket: PathBuf,
    /// Of the administrator.
    boss: String,
}

impl Site {
    /// `before`: see [`Countersign::start_by`].
    fn new(stage: &Stage, before: &[&str], store: &Path, audit: &Path) -> Outcome<Self> {
        let socket = stage.at("auth");
        let config = format!(
            "[accounts]\nargon2_memory_kib = 64\nargon2_passes = 1\n\n[store]\npath = {store:?}\n\n\
             [audit]\npath = {audit:?}\n\n[throttle]\nenabled = false\n\n\
             [listen.http.main]\naddress = \"127.0.0.1:0\"\n\n\
             [listen.dovecot.main]\npath = {socket:?}\n"
        );
        let server = Countersign::start_by(stage, before, Profile::Debug, &config)?;
        let answers = json!({
            "username": "admin", "password": server.admin_password()?, "new-password": PASSWORD,
        });
        let body = json!({ "answers": answers });
        let boss = call(&server, "POST", "/v1/login", None, Some(&body))?.token()?;
        let site = Self { server, socket, boss };
        for user in ["ada", "eve"] {
            let body = json!({"name": user, "password": PASSWORD});
            ensure!(site.administer("POST", "/v1/users", &body)? == 201, "adding {user}");
        }
        let disabled = site.administer("PATCH", "/v1/users/eve", &json!({"enabled": false}))?;
        ensure!(disabled == 200, "disabling: {disabled}");
        Ok(site)
    }

    fn administer(&self, method: &str, path: &str, body: &Value) -> Outcome<u16> {
        Ok(call(&self.server, method, path, Some(&self.boss), Some(body))?.status)
    }

    fn mail(&self, user: &str, password: &str) -> Outcome<Mail> {
        mail_login(&self.socket, user, password)
    }

    /// A session, unless the server says "later".
    fn session(&self) -> Outcome<Option<String>> {
        let reply = login(&self.server, "ada", PASSWORD)?;
        ensure!(reply.granted() || reply.status == 503, "neither in nor later: {reply:?}");
        if reply.granted() { reply.token().map(Some) } else { Ok(None) }
    }

    /// Nobody who should not, whatever is broken.
    fn keeps_out(&self) -> Outcome {
        for (user, password) in [("eve", PASSWORD), ("ada", "wrong"), ("nobody", PASSWORD)] {
            let reply = login(&self.server, user, password)?;
            ensure!(reply.denied() || reply.status == 503, "{user}: {reply:?}");
            // Closed without a word, where nothing can be recorded.
            let mail = self.mail(user, password);
            ensure!(!matches!(mail, Ok(Mail::Ok)), "{user}: by mail");
        }
        Ok(())
    }

    fn logs(&self, words: &[&str]) -> Outcome {
        let log = self.server.log();
        for word in words {
            ensure!(log.contains(word), "no {word:?} in the log:\n{log}");
        }
        Ok(())
    }

    /// A path as the server sees it, which has file systems of its own.
    fn seen(&self, path: &Path) -> Outcome<PathBuf> {
        let root = PathBuf::from(format!("/proc/{}/root", self.server.pid()));
        Ok(root.join(path.strip_prefix("/").during("a whole path")?))
    }
}

/// The words that start a server with a small file system on this folder.
fn small(folder: &str) -> Outcome<[&str; 6]> {
    let unshare = need("unshare", "util-linux")?;
    let words = ["unshare", "-Urm", "sh", "-c", MOUNT, folder];
    let tried =
        run(Command::new(unshare).args(&words[1..]).arg("true"), "", Duration::from_secs(9))?;
    if tried.code != Some(0) {
        let why = tried.err.trim();
        return Err(Trouble::not_run(format!("no file system can be mounted here: {why}")));
    }
    Ok(words)
}

/// Takes all the space there is.
fn fill(path: &Path) -> Outcome {
    let mut file = File::create(path).during(path.display())?;
    loop {
        match file.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(Trouble::failed(format!("filling: {error}"))),
        }
    }
}

/// The records; lines that are none are counted.
fn records(path: &Path) -> Outcome<(Vec<Value>, usize)> {
    let text = fs::read_to_string(path).during(path.display())?;
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let (records, torn): (Vec<_>, Vec<_>) = lines.partition(Result::is_ok);
    Ok((records.into_iter().flatten().collect(), torn.len()))
}

fn granted(records: &[Value]) -> usize {
    let of = |record: &&Value| record["outcome"] == "granted" && record["subject"] == "ada";
    records.iter().filter(of).count()
}

fn store_full(stage: &Stage) -> Outcome {
    let folder = stage.folder("small")?;
    let before = small(folder.to_str().during("a path")?)?;
    let audit = stage.at("audit.jsonl");
    let site = Site::new(stage, &before, &folder.join("accounts.db"), &audit)?;
    let mut tokens = vec![site.session()?.during("a session before")?];
    let filler = site.seen(&folder)?.join("filler");
    fill(&filler)?;
    // What is left in the store's own files is used up first.
    let mut failed = None;
    eventually("a full store", || match site.session() {
        Ok(Some(token)) => {
            tokens.push(token);
            false
        }
        Ok(None) => true,
        Err(trouble) => {
            failed = Some(trouble);
            true
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    // Whose login needs no write gets in, and nobody else.
    ensure!(site.mail("ada", PASSWORD)? == Mail::Ok, "by mail");
    site.keeps_out()?;
    for user in ["eve", "nobody"] {
        ensure!(site.mail(user, PASSWORD)? == Mail::No, "{user} by mail");
    }
    let change = site.administer("PATCH", "/v1/users/ada", &json!({"enabled": false}))?;
    ensure!(change == 503, "a change that cannot be kept: {change}");
    for token in &tokens {
        ensure!(forward_auth(&site.server, token)? == 200, "a session while it is full");
    }
    site.logs(&["accounts.db", "the disk or its quota is full: free some space"])?;

    fs::remove_file(&filler).during("making room")?;
    eventually("let in again", || site.session().is_ok_and(|session| session.is_some()))?;
    ensure!(site.mail("ada", PASSWORD)? == Mail::Ok, "the refused change was not made");
    site.keeps_out()?;
    for token in &tokens {
        ensure!(forward_auth(&site.server, token)? == 200, "a session is lost");
    }
    let change = site.administer("PATCH", "/v1/users/ada", &json!({"enabled": false}))?;
    ensure!(change == 200 && site.mail("ada", PASSWORD)? == Mail::No, "a change afterwards");
    let (records, torn) = records(&audit)?;
    // Those of the sessions, the one that was let in again, and two by mail.
    ensure!(granted(&records) == tokens.len() + 3 && torn == 0, "{torn} torn: {records:#?}");
    Ok(())
}

fn record_full(stage: &Stage) -> Outcome {
    let folder = stage.folder("small")?;
    let before = small(folder.to_str().during("a path")?)?;
    let audit = folder.join("audit.jsonl");
    let site = Site::new(stage, &before, &stage.at("accounts.db"), &audit)?;
    let token = site.session()?.during("a session before")?;
    let filler = site.seen(&folder)?.join("filler");
    fill(&filler)?;
    let mut told = 1;
    // What is left of the file's last page is used up first.
    eventually("a full record", || match site.session() {
        Ok(Some(_)) => {
            told += 1;
            false
        }
        _ => true,
    })?;
    ensure!(site.session()?.is_none(), "let in without a record");
    ensure!(!matches!(site.mail("ada", PASSWORD), Ok(Mail::Ok)), "let in by mail");
    site.keeps_out()?;
    ensure!(forward_auth(&site.server, &token)? == 200, "who is in stays in");
    ensure!(call(&site.server, "GET", "/readyz", None, None)?.status == 503, "it says it is ready");
    site.logs(&["cannot write the audit file: free some space", "audit.jsonl"])?;

    fs::remove_file(&filler).during("making room")?;
    eventually("let in again", || site.session().is_ok_and(|session| session.is_some()))?;
    site.keeps_out()?;
    let (records, torn) = records(&site.seen(&audit)?)?;
    // Half a line, where the space ended.
    ensure!(granted(&records) == told + 1 && torn <= 1, "{told}, {torn} torn: {records:#?}");
    Ok(())
}

fn taken_away(stage: &Stage) -> Outcome {
    let folder = stage.folder("kept")?;
    // Root may read everything; without this it is as others are.
    let own = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
    let own = [&own[..], &["--inh-caps", "-dac_override,-dac_read_search"]].concat();
    let root = rustix::process::geteuid().is_root();
    let before = if root { own } else { Vec::new() };
    if root {
        need("setpriv", "util-linux")?;
    }
    let audit = stage.at("audit.jsonl");
    let site = Site::new(stage, &before, &folder.join("accounts.db"), &audit)?;
    let token = site.session()?.during("a session before")?;
    let allow = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode));
    allow(0o000).during("taking the folder away")?;
    let gone = eventually("missed", || site.mail("ada", PASSWORD).is_ok_and(|m| m == Mail::Later));
    let refused = gone.and_then(|()| {
        ensure!(site.session()?.is_none(), "a session that is nowhere");
        ensure!(forward_auth(&site.server, &token)? >= 500, "a session that nobody can look up");
        site.keeps_out()?;
        site.logs(&["accounts.db", "put it back"])
    });
    allow(0o755).during("giving the folder back")?;
    refused?;
    eventually("let in again", || site.session().is_ok_and(|session| session.is_some()))?;
    ensure!(forward_auth(&site.server, &token)? == 200, "the session from before");
    ensure!(site.mail("ada", PASSWORD)? == Mail::Ok, "by mail");
    site.keeps_out()?;
    let (_, torn) = records(&audit)?;
    ensure!(torn == 0, "{torn} torn lines");
    Ok(())
}
