//! Dovecot's IMAP and LMTP servers without Dovecot's authentication: they ask ours.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Outcome, Peer, Stage, free_port, need, need_root};

const LIMIT: Duration = Duration::from_secs(20);

/// A running Dovecot with IMAP and LMTP.
#[derive(Debug)]
pub struct DovecotMail {
    /// Where IMAP listens on 127.0.0.1.
    pub imap: u16,
    /// Where LMTP listens on 127.0.0.1.
    pub lmtp: u16,
    /// A configuration file for `doveadm`.
    pub config: PathBuf,
    _master: Peer,
}

impl DovecotMail {
    /// Starts it, with IMAP on a port of 127.0.0.1 that is free. `auth` is the socket that logs people in, `master` the
    /// one that knows users.
    ///
    /// # Errors
    /// [`NotRun`](crate::Trouble::NotRun) without Dovecot's servers or without root, as each of its
    /// processes has a user of its own.
    pub fn start(stage: &Stage, imap: u16, auth: &Path, master: &Path) -> Outcome<Self> {
        Self::start_with(stage, imap, auth, master, "ssl = no\n")
    }

    /// The same, with these lines about TLS.
    ///
    /// # Errors
    /// As [`DovecotMail::start`].
    pub fn start_with(
        stage: &Stage,
        imap: u16,
        auth: &Path,
        master: &Path,
        tls: &str,
    ) -> Outcome<Self> {
        let program = need("dovecot", "dovecot-core")?;
        need("/usr/lib/dovecot/imap", "dovecot-imapd")?;
        need("/usr/lib/dovecot/lmtp", "dovecot-lmtpd")?;
        need_root("Dovecot")?;
        let folder = stage.folder("dovecot-mail")?;
        let lmtp = free_port()?;
        let config = format!(
            "base_dir = {folder}/run\n\
             state_dir = {folder}/state\n\
             log_path = {folder}/dovecot.log\n\
             protocols = imap lmtp\n\
             listen = 127.0.0.1\n\
             {tls}\
             disable_plaintext_auth = no\n\
             first_valid_uid = 0\n\
             first_valid_gid = 0\n\
             auth_socket_path = {master}\n\
             service imap-login {{\n  executable = imap-login {auth}\n  chroot =\n  \
             inet_listener imap {{\n    port = {imap}\n  }}\n  \
             inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
             service imap {{\n  executable = imap -a {master}\n}}\n\
             service lmtp {{\n  inet_listener lmtp {{\n    port = {lmtp}\n  }}\n}}\n\
             service stats {{\n  unix_listener stats-writer {{\n    mode = 0666\n  }}\n}}\n",
            folder = folder.display(),
            auth = auth.display(),
            master = master.display(),
        );
        stage.folder("dovecot-mail/run")?;
        stage.folder("dovecot-mail/state")?;
        let config = stage.file("dovecot-mail/dovecot.conf", &config)?;
        let mut peer = Peer::start(
            stage,
            "dovecot-mail",
            Command::new(program).arg("-F").arg("-c").arg(&config),
        )?;
        for port in [imap, lmtp] {
            peer.until("Dovecot listening", LIMIT, || {
                TcpStream::connect(("127.0.0.1", port)).ok()
            })?;
        }
        Ok(Self { imap, lmtp, config, _master: peer })
    }
}
