//! Cyrus `saslauthd` over a private sasldb: what our socket is compared with.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Outcome, Peer, Stage, Trouble, ensure, need, need_root, run};

const LIMIT: Duration = Duration::from_secs(20);
const PACKAGE: &str = "sasl2-bin";
/// Compiled into saslauthd: it reads no other file.
const SASLDB: &str = "/etc/sasldb2";

/// A running saslauthd.
#[derive(Debug)]
pub struct Saslauthd {
    /// Its socket, called `mux`.
    pub socket: PathBuf,
    daemon: Peer,
}

impl Saslauthd {
    /// The realm of all its users.
    pub const REALM: &'static str = "bench";

    /// Starts it with users `u1`/`secret1` …, and with its default of five processes. It
    /// sees our sasldb in place of the machine's, in a mount namespace of its own.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) without the package, or where we may not mount.
    pub fn start(stage: &Stage, users: usize) -> Outcome<Self> {
        let program = need("saslauthd", PACKAGE)?;
        let passwd = need("saslpasswd2", PACKAGE)?;
        let unshare = need("unshare", "util-linux")?;
        need_root("saslauthd with a private sasldb")?;
        if !std::path::Path::new(SASLDB).exists() {
            return Err(Trouble::not_run(format!(
                "{SASLDB} is not here to be covered by a private one"
            )));
        }
        let folder = stage.folder("saslauthd")?;
        let database = folder.join("sasldb2");
        for user in 1..=users {
            let made = run(
                Command::new(&passwd)
                    .args(["-p", "-c", "-u", Self::REALM, "-f"])
                    .arg(&database)
                    .arg(format!("u{user}")),
                &format!("secret{user}"),
                LIMIT,
            )?;
            ensure!(made.code == Some(0), "saslpasswd2: {}{}", made.out, made.err);
        }
        // Its foreground mode writes log lines for each login, which would not be a fair
        // comparison. So it detaches, into a process namespace that ends with its shell.
        let script = "mount --bind \"$1\" \"$2\" || exit 1; trap 'exit 0' TERM
            \"$3\" -m \"$4\" -a sasldb -n 5 || exit 1; sleep infinity & wait";
        let mut daemon = Peer::start(
            stage,
            "saslauthd",
            Command::new(unshare)
                .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"])
                .arg(&database)
                .arg(SASLDB)
                .arg(&program)
                .arg(&folder),
        )?;
        let socket = folder.join("mux");
        daemon.until("saslauthd listening", LIMIT, || UnixStream::connect(&socket).ok())?;
        Ok(Self { socket, daemon })
    }

    /// The process above its five.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}
