//! A server that systemd starts, played by the test: the sockets that it passes and what it is told.

mod common;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Folder, Server, run};

/// Becomes `countersign serve` with what is on standard input as the one passed socket.
const ACTIVATE: &str = "exec 3<&0 0</dev/null; LISTEN_PID=$$; LISTEN_FDS=1; \
                        export LISTEN_PID LISTEN_FDS; exec \"$0\" serve \"$@\"";

fn activated(folder: &Folder, socket: OwnedFd, name: &str, config: &str) -> Command {
    let config = folder.file("countersign.toml", config);
    let mut command = Command::new("sh");
    command.args(["-c", ACTIVATE, env!("CARGO_BIN_EXE_countersign"), "--data"]).arg(folder.path());
    command.arg("--config").arg(config);
    command.env("LISTEN_FDNAMES", name).env_remove("STATE_DIRECTORY");
    command.stdin(Stdio::from(socket));
    command
}

/// Waits until systemd has been told this.
fn told(systemd: &UnixDatagram, what: &str) {
    let mut buffer = [0; 1024];
    loop {
        let count = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("no {what}: {error}"));
        let said = std::str::from_utf8(&buffer[..count]).unwrap();
        if said.lines().any(|line| line == what) {
            return;
        }
    }
}

#[test]
fn it_serves_what_is_passed_and_says_how_it_does() {
    let folder = Folder::bare();
    let systemd = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Somebody listens there already: it must be this very socket.
    let config = format!("[listen.http.main]\naddress = \"{address}\"\n");
    let keep = listener.try_clone().unwrap();
    let mut command = activated(&folder, listener.into(), "http-main", &config);
    command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "100000");
    let server = Server::by(command, &folder);
    assert_eq!(server.url, format!("http://{address}"));
    told(&systemd, "READY=1");
    told(&systemd, "WATCHDOG=1");
    let nobody = r#"{"username":"nobody","password":"x"}"#;
    let ended = run(&["login", "--server", &server.url, "--answers", "-"], nobody);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    server.signal(rustix::process::Signal::HUP);
    told(&systemd, "RELOADING=1");
    told(&systemd, "READY=1");
    // The socket is the same after it, too.
    let ended = run(&["login", "--server", &server.url, "--answers", "-"], nobody);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    server.signal(rustix::process::Signal::TERM);
    told(&systemd, "STOPPING=1");
    drop(keep);
}

#[test]
fn the_file_of_a_passed_socket_is_systemd_s() {
    let folder = Folder::bare();
    let path = folder.path().join("mux");
    let listener = UnixListener::bind(&path).unwrap();
    let config = "[listen.http.main]\naddress = \"127.0.0.1:0\"\n[listen.saslauthd.main]\n";
    let server = Server::by(activated(&folder, listener.into(), "saslauthd-main", config), &folder);
    let status = folder.ok(&["status", "--json"], "");
    assert!(status.contains(path.to_str().unwrap()), "{status}");
    server.ends(rustix::process::Signal::TERM);
    assert!(path.exists() && !folder.path().join("run/saslauthd/mux").exists());
}

#[test]
fn a_socket_that_fits_nothing_is_an_error() {
    for (name, why) in
        [("web", "FileDescriptorName=http-main"), ("saslauthd-main", "a unix socket")]
    {
        let folder = Folder::bare();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = "[listen.saslauthd.main]\n";
        let ended = activated(&folder, listener.into(), name, config).output().unwrap();
        assert_eq!(ended.status.code(), Some(3), "{ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains(why), "no {why:?} in {said}");
    }
}
