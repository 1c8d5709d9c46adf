//! Postfix with its own configuration, queue and data folders.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{Context, Outcome, Peer, Stage, ensure, free_port, need, need_root, run};

const LIMIT: Duration = Duration::from_secs(20);
const PACKAGE: &str = "postfix";

/// A Postfix whose SMTP server authenticates over Dovecot's protocol.
#[derive(Debug)]
pub struct Postfix {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _master: Peer,
}

impl Postfix {
    /// Starts it; `socket` is the authentication service's, and needs to be there only when
    /// somebody logs in.
    ///
    /// # Errors
    /// [`NotRun`](crate::Trouble::NotRun) without Postfix or without root, as its master
    /// process gives its children to the user `postfix`.
    pub fn start(stage: &Stage, socket: &Path) -> Outcome<Self> {
        let postfix = need("postfix", PACKAGE)?;
        need_root("Postfix")?;
        let libexec = run(Command::new("postconf").args(["-dh", "daemon_directory"]), "", LIMIT)?;
        let libexec = Path::new(libexec.out.trim()).to_path_buf();
        let port = free_port()?;
        let (etc, spool, data) = (
            stage.folder("postfix/etc")?,
            stage.folder("postfix/spool")?,
            stage.folder("postfix/data")?,
        );
        let log = stage.at("postfix/mail.log");
        stage.file(
            "postfix/etc/main.cf",
            &format!(
                "compatibility_level = 3.6\n\
                 config_directory = {etc}\n\
                 queue_directory = {spool}\n\
                 data_directory = {data}\n\
                 daemon_directory = {libexec}\n\
                 maillog_file = {log}\n\
                 maillog_file_prefixes = {stage}\n\
                 inet_interfaces = 127.0.0.1\n\
                 inet_protocols = ipv4\n\
                 myhostname = mail.test\n\
                 mynetworks =\n\
                 mydestination =\n\
                 alias_maps =\n\
                 alias_database =\n\
                 local_recipient_maps =\n\
                 smtpd_peername_lookup = no\n\
                 smtpd_relay_restrictions = permit_sasl_authenticated, reject\n\
                 smtpd_sasl_auth_enable = yes\n\
                 smtpd_sasl_type = dovecot\n\
                 smtpd_sasl_path = unix:{socket}\n\
                 smtpd_sasl_security_options = noanonymous\n",
                etc = etc.display(),
                spool = spool.display(),
                data = data.display(),
                libexec = libexec.display(),
                log = log.display(),
                stage = stage.path().display(),
                socket = socket.display(),
            ),
        )?;
        stage.file(
            "postfix/etc/master.cf",
            &format!(
                "127.0.0.1:{port} inet n - n - - smtpd\n\
                 anvil unix - - n - 1 anvil\n\
                 rewrite unix - - n - - trivial-rewrite\n\
                 cleanup unix n - n - 0 cleanup\n\
                 qmgr unix n - n 300 1 qmgr\n\
                 tlsmgr unix - - n 1000? 1 tlsmgr\n\
                 postlog unix-dgram n - n - 1 postlogd\n",
            ),
        )?;
        let owner = run(Command::new("id").args(["-u", "postfix"]), "", LIMIT)?;
        let owner = owner.out.trim().parse().during("the user `postfix`")?;
        std::os::unix::fs::chown(&data, Some(owner), None).during(data.display())?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).during(data.display())?;

        // `check` makes the queue's folders; what `start` would add is a daemon that leaves
        // our process group.
        let check = run(Command::new(postfix).arg("-c").arg(&etc).arg("check"), "", LIMIT)?;
        ensure!(check.code == Some(0), "postfix check: {}{}", check.out, check.err);
        let mut master = Peer::start(
            stage,
            "postfix",
            // -d: stay in the foreground and in this process group.
            Command::new(libexec.join("master"))
                .arg("-c")
                .arg(&etc)
                .arg("-d")
                .env("MAIL_CONFIG", &etc),
        )?;
        master
            .until("Postfix listening", LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(Self { port, _master: master })
    }
}
