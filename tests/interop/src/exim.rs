//! Exim, unpacked into a private folder because it cannot be installed beside Postfix.

use std::ffi::OsString;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Context, Outcome, Peer, Stage, Trouble, free_port, need_root, peers_folder};

const LIMIT: Duration = Duration::from_secs(20);
/// The build with the `dovecot` authenticator; the light one has none.
const PACKAGE: &str = "exim4-daemon-heavy";
/// The user that Debian's Exim insists on; it exists only for Exim itself, see below.
const USER: &str = "Debian-exim";
const USER_ID: u32 = 64_999;

/// An Exim whose SMTP server authenticates over Dovecot's protocol.
#[derive(Debug)]
pub struct Exim {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _daemon: Peer,
}

impl Exim {
    /// Starts it; `socket` is the authentication service's, and needs to be there only when
    /// somebody logs in.
    ///
    /// # Errors
    /// [`NotRun`](crate::Trouble::NotRun) without the unpacked package or without root.
    pub fn start(stage: &Stage, socket: &Path) -> Outcome<Self> {
        let root = peers_folder().join("exim");
        let program = root.join("usr/sbin/exim4");
        if !program.is_file() {
            return Err(Trouble::not_run(format!(
                "`{}` is not here; `cargo xtask test` unpacks the package {PACKAGE} there",
                program.display()
            )));
        }
        need_root("Exim")?;
        let port = free_port()?;
        let spool = stage.folder("exim/spool")?;
        let log = stage.folder("exim/log")?;
        for folder in [&spool, &log] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777))
                .during(folder.display())?;
        }
        // Exim advertises them all; whether one is served, our socket says when a client chooses it.
        const AUTHENTICATORS: [&str; 9] = [
            "PLAIN",
            "LOGIN",
            "CRAM-MD5",
            "SCRAM-SHA-1",
            "SCRAM-SHA-256",
            "SCRAM-SHA-512",
            "ANONYMOUS",
            "OAUTHBEARER",
            "XOAUTH2",
        ];
        let authenticator = |name: &str| {
            format!(
                "{}:\n  driver = dovecot\n  public_name = {name}\n  server_socket = {}\n  \
                 server_set_id = $auth1\n",
                name.to_lowercase().replace('-', "_"),
                socket.display()
            )
        };
        let config = stage.file(
            "exim/exim.conf",
            &format!(
                "exim_path = {program}\n\
                 spool_directory = {spool}\n\
                 log_file_path = {log}/%s.log\n\
                 pid_file_path = {spool}/exim.pid\n\
                 primary_hostname = mail.test\n\
                 local_interfaces = 127.0.0.1\n\
                 keep_environment =\n\
                 host_lookup =\n\
                 rfc1413_hosts =\n\
                 tls_advertise_hosts =\n\
                 auth_advertise_hosts = *\n\
                 acl_smtp_rcpt = rcpt\n\
                 begin acl\n\
                 rcpt:\n  accept authenticated = *\n  deny\n\
                 begin authenticators\n{authenticators}",
                program = program.display(),
                spool = spool.display(),
                log = log.display(),
                authenticators = AUTHENTICATORS.map(authenticator).concat(),
            ),
        )?;
        let mut command = Command::new(&program);
        command.arg("-C").arg(config).args(["-bdf", "-oX", &format!("127.0.0.1.{port}")]);
        pretend_user(stage, &root, &mut command)?;
        let mut daemon = Peer::start(stage, "exim", &mut command)?;
        daemon.until("Exim listening", LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(Self { port, _daemon: daemon })
    }
}

/// Shows Exim, and nobody else, a user database with its user in it (nss_wrapper), so that
/// the machine's own stays as it is.
fn pretend_user(stage: &Stage, root: &Path, command: &mut Command) -> Outcome {
    let folders = library_folders(root);
    let wrapper = folders
        .iter()
        .map(|folder| folder.join("libnss_wrapper.so"))
        .find(|file| file.is_file())
        .ok_or_else(|| Trouble::not_run("libnss_wrapper.so is not unpacked beside Exim"))?;
    let users = fs::read_to_string("/etc/passwd").during("/etc/passwd")?;
    let groups = fs::read_to_string("/etc/group").during("/etc/group")?;
    let passwd = stage.file(
        "exim/passwd",
        &format!("{users}{USER}:x:{USER_ID}:{USER_ID}::/nonexistent:/usr/sbin/nologin\n"),
    )?;
    let group = stage.file("exim/group", &format!("{groups}{USER}:x:{USER_ID}:\n"))?;
    let path: Vec<OsString> = folders.into_iter().map(PathBuf::into_os_string).collect();
    command
        .env("LD_LIBRARY_PATH", path.join(&OsString::from(":")))
        .env("LD_PRELOAD", wrapper)
        .env("NSS_WRAPPER_PASSWD", passwd)
        .env("NSS_WRAPPER_GROUP", group);
    Ok(())
}

/// `usr/lib` of the unpacked packages and the folder of this machine's architecture in it.
fn library_folders(root: &Path) -> Vec<PathBuf> {
    let lib = root.join("usr/lib");
    let mut folders: Vec<PathBuf> = fs::read_dir(&lib)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && path.to_string_lossy().ends_with("-linux-gnu"))
        .collect();
    folders.push(lib);
    folders
}
