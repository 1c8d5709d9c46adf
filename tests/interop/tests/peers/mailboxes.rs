//! Dovecot's own servers and `doveadm` over our two Dovecot sockets, and nginx as a proxy for mail over
//! `/mail-auth`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Attempt, Config, Context, Countersign, DovecotMail, Finished, Mechanism, NginxMail, Outcome,
    Profile, Stage, ensure, free_port, need, need_root, run, swaks, user,
};

pub(crate) const CASES: &[Case] = &[
    case("doveadm_looks_up_lists_and_tests", doveadm),
    case("doveadm_of_another_user_sees_itself_only", doveadm_as_nobody),
    case("dovecot_imap_and_lmtp_without_dovecot_auth", imap_and_lmtp),
    case("nginx_proxies_imap_and_smtp", nginx),
];

const PASSWORD: &str = "correct horse battery";
const KEY: &str = "0123456789abcdef0123456789abcdef";
const LIMIT: Duration = Duration::from_secs(25);
/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

/// A server with accounts `ann` and `ben`, and its sockets.
pub(crate) struct Site {
    _server: Countersign,
    http: String,
    pub(crate) auth: PathBuf,
    pub(crate) master: PathBuf,
}

pub(crate) fn site(stage: &Stage, smtp: u16, imap: u16) -> Outcome<Site> {
    let sockets = stage.folder("sockets")?;
    let mail = stage.folder("mail")?;
    if need_root("giving a folder away").is_ok() {
        std::os::unix::fs::chown(&mail, Some(NOBODY), Some(NOBODY)).during(mail.display())?;
    }
    for folder in [stage.path(), &sockets, &mail] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, mode).during(folder.display())?;
    }
    let key = stage.secret("key", KEY)?;
    let (auth, master) = (sockets.join("auth"), sockets.join("master"));
    let more = format!(
        "[listen.dovecot-master.mail]\npath = {master:?}\nmode = \"0666\"\nowners = [\"dovecot\"]\n\
         fields = {{ uid = {NOBODY}, gid = {NOBODY}, home = \"{mail}/{{user}}\", \
         mail = \"maildir:~/Maildir\" }}\n\n\
         # `doveadm auth test` does not say how safe its connection is.\n\
         [[policy.rules]]\nservice = \"doveadm\"\nplaintext = \"always\"\n",
        mail = mail.display(),
    );
    let http = format!(
        "mail = {{ key_file = {key:?}, servers = {{ imap = \"127.0.0.1:{imap}\", \
         smtp = \"127.0.0.1:{smtp}\" }} }}\n"
    );
    let config = Config {
        dovecot: Some(auth.clone()),
        trusts_certificates: true,
        more,
        http,
        ..Config::default()
    };
    let server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    for name in ["ann", "ben"] {
        user(Profile::Debug, &server.data, &["add", name, "--password-stdin"], PASSWORD)?;
    }
    let own = ["set", "ben", "--attribute", "uid=1001", "--attribute", "home=/elsewhere"];
    user(Profile::Debug, &server.data, &own, "")?;
    Ok(Site { http: server.http.clone(), _server: server, auth, master })
}

fn doveadm_with(stage: &Stage, words: &[&str]) -> Outcome<Finished> {
    let program = need("doveadm", "dovecot-core")?;
    let folder = stage.folder("doveadm")?;
    let config = format!("base_dir = {0}\nlog_path = {0}/log\nssl = no\n", folder.display());
    let config = stage.file("doveadm/dovecot.conf", &config)?;
    run(Command::new(program).arg("-c").arg(config).args(words), "", LIMIT)
}

fn doveadm(stage: &Stage) -> Outcome {
    let site = site(stage, 1, 1)?;
    let (auth, master) = (site.auth.display().to_string(), site.master.display().to_string());
    let path = format!("auth_socket_path={master}");
    let ann = doveadm_with(stage, &["-o", &path, "user", "ann"])?;
    ensure!(ann.code == Some(0) && ann.out.contains("/mail/ann"), "user ann: {ann:?}");
    ensure!(ann.out.contains("uid\t65534") && ann.out.contains("maildir:~/Maildir"), "{ann:?}");
    let ben = doveadm_with(stage, &["-o", &path, "user", "ben"])?;
    ensure!(ben.out.contains("home\t/elsewhere") && ben.out.contains("uid\t1001\n"), "{ben:?}");
    let nobody = doveadm_with(stage, &["-o", &path, "user", "nobody"])?;
    // EX_NOUSER of sysexits.h; 75 would be "try again later".
    ensure!(nobody.code == Some(67), "nobody: {nobody:?}");
    let all = doveadm_with(stage, &["user", "-a", &master, "*"])?;
    ensure!(all.out == "admin\nann\nben\n", "all: {all:?}");
    let some = doveadm_with(stage, &["user", "-a", &master, "b?n"])?;
    ensure!(some.out == "ben\n", "b?n: {some:?}");
    let looked = doveadm_with(stage, &["auth", "lookup", "-a", &master, "ann"])?;
    ensure!(looked.code == Some(0) && looked.out.contains("userdb_home"), "lookup: {looked:?}");
    let right = doveadm_with(stage, &["auth", "test", "-a", &auth, "ann", PASSWORD])?;
    ensure!(right.out.contains("auth succeeded"), "right: {right:?}");
    let wrong = doveadm_with(stage, &["auth", "test", "-a", &auth, "ann", "wrong"])?;
    ensure!(wrong.out.contains("auth failed"), "wrong: {wrong:?}");
    let flushed = doveadm_with(stage, &["auth", "cache", "flush", "-a", &master])?;
    ensure!(flushed.out.contains("cache entries flushed"), "flush: {flushed:?}");
    Ok(())
}

/// A process that is no owner: by its user id, as the kernel says it.
fn doveadm_as_nobody(stage: &Stage) -> Outcome {
    need_root("another user's process")?;
    let site = site(stage, 1, 1)?;
    let folder = stage.folder("doveadm")?;
    let config = format!("base_dir = {}\nlog_path = /dev/stderr\nssl = no\n", folder.display());
    let config = stage.file("doveadm/dovecot.conf", &config)?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).during(config.display())?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).during(folder.display())?;
    let (setpriv, doveadm) = (need("setpriv", "util-linux")?, need("doveadm", "dovecot-core")?);
    let ask = |words: &[&str]| {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&doveadm);
        run(command.arg("-c").arg(&config).args(words), "", LIMIT)
    };
    let master = site.master.display().to_string();
    let own = ask(&["user", "-a", &master, "ann"])?;
    ensure!(own.code == Some(0) && own.out.contains("/mail/ann"), "its own user id: {own:?}");
    let other = ask(&["user", "-a", &master, "ben"])?;
    ensure!(other.code != Some(0) && !other.out.contains("elsewhere"), "another's: {other:?}");
    let all = ask(&["user", "-a", &master, "*"])?;
    ensure!(all.code != Some(0) && !all.out.contains("ann"), "everybody: {all:?}");
    let looked = ask(&["auth", "lookup", "-a", &master, "ann"])?;
    ensure!(looked.code != Some(0), "a password lookup: {looked:?}");
    Ok(())
}

/// What `curl` says to a URL with a password, which it reads from standard input.
fn curl(url: &str, name: &str, password: &str) -> Outcome<Finished> {
    let program = need("curl", "curl")?;
    let options = format!("user = \"{name}:{password}\"\n");
    run(
        Command::new(program).args(["--silent", "--max-time", "20", "--config", "-", url]),
        &options,
        LIMIT,
    )
}

fn imap_and_lmtp(stage: &Stage) -> Outcome {
    let site = site(stage, 1, 1)?;
    let dovecot = DovecotMail::start(stage, free_port()?, &site.auth, &site.master)?;
    let lmtp = |to: &str| {
        let program = need("swaks", "swaks")?;
        let port = dovecot.lmtp.to_string();
        let mut command = Command::new(program);
        command.args(["--protocol", "LMTP", "--server", "127.0.0.1", "--port", &port]);
        command.args(["--to", to, "--from", "x@client.test", "--body", "a letter"]);
        run(command.args(["--timeout", "20"]), "", LIMIT)
    };
    let sent = lmtp("ann")?;
    ensure!(sent.code == Some(0) && sent.out.contains("Saved"), "LMTP: {sent:?}");
    let nobody = lmtp("nobody")?;
    ensure!(nobody.code != Some(0) && nobody.out.contains("550"), "LMTP to nobody: {nobody:?}");

    let inbox = format!("imap://127.0.0.1:{}/INBOX;UID=1", dovecot.imap);
    let read = curl(&inbox, "ann", PASSWORD)?;
    ensure!(read.code == Some(0) && read.out.contains("a letter"), "IMAP: {read:?}");
    // 67: curl was denied the login.
    let wrong = curl(&inbox, "ann", "wrong")?;
    ensure!(wrong.code == Some(67), "IMAP with a wrong password: {wrong:?}");
    let again = curl(&inbox, "ann", PASSWORD)?;
    ensure!(again.code == Some(0), "IMAP again: {again:?}");
    Ok(())
}

fn nginx(stage: &Stage) -> Outcome {
    let (smtp_backend, imap_backend) = (free_port()?, free_port()?);
    let site = site(stage, smtp_backend, imap_backend)?;
    backend(smtp_backend, |line| match line {
        None => "220 backend.test\r\n".to_owned(),
        Some(line) if line.starts_with("EHLO") => "250 backend.test\r\n".to_owned(),
        Some(_) => "250 ok\r\n".to_owned(),
    })?;
    let _dovecot = DovecotMail::start(stage, imap_backend, &site.auth, &site.master)?;
    let nginx = NginxMail::start(stage, &site.http, KEY)?;
    let attempt = |user, password| {
        swaks(&Attempt { port: nginx.smtp, mechanism: Mechanism::Plain, user, password })
    };
    let right = attempt("ann", PASSWORD)?;
    ensure!(right == 235, "SMTP: {right}");
    let login =
        Attempt { port: nginx.smtp, mechanism: Mechanism::Login, user: "ann", password: PASSWORD };
    ensure!(swaks(&login)? == 235, "SMTP with LOGIN");
    let wrong = attempt("ann", "wrong")?;
    ensure!(wrong == 535, "SMTP with a wrong password: {wrong}");
    let percent = attempt("a%20b", "100% wrong")?;
    ensure!(percent == 535, "SMTP with a percent sign: {percent}");
    let url = format!("imap://127.0.0.1:{}/", nginx.imap);
    let right = curl(&url, "ann", PASSWORD)?;
    ensure!(right.code == Some(0) && right.out.contains("INBOX"), "IMAP: {right:?}");
    let wrong = curl(&url, "ann", "wrong")?;
    ensure!(wrong.code == Some(67), "IMAP with a wrong password: {wrong:?}");

    // A key that is not ours: nobody gets in, and nobody is told a wrong password.
    drop(nginx);
    let stranger = NginxMail::start(stage, &site.http, "another-key-of-the-right-length")?;
    let refused = swaks(&Attempt {
        port: stranger.smtp,
        mechanism: Mechanism::Plain,
        user: "ann",
        password: PASSWORD,
    })?;
    ensure!(refused == 451 || refused == 454, "with another key: {refused}");
    Ok(())
}

/// A mail server of few words: what it says when somebody connects, and to each line. Its thread ends with
/// the process.
fn backend(port: u16, say: impl Fn(Option<&str>) -> String + Send + 'static) -> Outcome {
    let listener = TcpListener::bind(("127.0.0.1", port)).during("a backend's port")?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok(mut writer) = stream.try_clone() else { return };
            let mut heard = writer.write_all(say(None).as_bytes()).is_ok();
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                heard = heard && writer.write_all(say(Some(&line)).as_bytes()).is_ok();
                if !heard {
                    break;
                }
            }
        }
    });
    Ok(())
}
