//! Unix sockets: made whole before anybody can connect, and never taken from a living server.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{Group, User};
use tokio::net::{UnixListener, UnixSocket};

/// The longest path that a socket can have: `sockaddr_un` has 108 bytes with the NUL (unix(7)).
const PATH_LIMIT: usize = 107;

/// Connections that wait to be accepted; the kernel has a limit of its own (`net.core.somaxconn`).
pub(crate) const BACKLOG: u32 = 4096;

/// Where a socket is, and who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Its path.
    pub path: PathBuf,
    /// Its mode, such as `0o660`.
    pub mode: u32,
    /// Its owner, by name or number.
    pub owner: Option<String>,
    /// Its group, by name or number.
    pub group: Option<String>,
}

/// A socket. Its file goes with the last that shares it.
#[derive(Debug)]
pub struct Socket {
    /// The listener.
    pub listener: UnixListener,
    file: Arc<SocketFile>,
}

/// The file of a socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Whether we made it. One that systemd passed is systemd's.
    ours: bool,
}

/// Why there is no socket.
#[derive(Debug)]
pub struct SocketError {
    path: PathBuf,
    what: String,
}

impl Socket {
    /// Binds a socket. Must be called within a runtime.
    ///
    /// It is bound under another name, given its owner and mode, and then moved into place, so that
    /// nobody connects to a half-made one. What is left of a server that is gone is replaced; a socket on
    /// which somebody listens is not.
    ///
    /// # Errors
    ///
    /// A sentence that names the path and the remedy.
    pub fn bind(options: &SocketOptions) -> Result<Self, SocketError> {
        let path = &options.path;
        let fail = |what: String| SocketError { path: path.clone(), what };
        let io = |what: &'static str| move |error: io::Error| fail(format!("{what}: {error}"));

        let being_made = being_made(path);
        let length = being_made.as_os_str().len();
        if length > PATH_LIMIT {
            return Err(fail(format!(
                "the path has {} bytes and may have {}; use a shorter folder (`--data`) or set `path`",
                path.as_os_str().len(),
                PATH_LIMIT - (length - path.as_os_str().len()),
            )));
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io("cannot make its folder"))?;
        }
        refuse_a_living_one(path).map_err(&fail)?;
        let _ = std::fs::remove_file(&being_made);
        let listener = bind_closed(&being_made).map_err(io("cannot bind"))?;
        let unfinished = SocketFile { path: being_made, ours: true };
        give_to(&unfinished.path, options).map_err(&fail)?;
        std::fs::rename(&unfinished.path, path).map_err(io("cannot move it into place"))?;
        Ok(Self { listener, file: Arc::new(SocketFile { path: path.clone(), ours: true }) })
    }

    /// A socket that systemd made, with the mode and owner that its unit says. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When it is no listening unix socket.
    pub fn passed(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { listener, file: Arc::new(SocketFile { path, ours: false }) })
    }

    /// The same socket, once more: what connects goes to whoever accepts first.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor left.
    pub fn share(&self) -> io::Result<Self> {
        let listener = self.listener.as_fd().try_clone_to_owned()?;
        let listener = UnixListener::from_std(listener.into())?;
        Ok(Self { listener, file: Arc::clone(&self.file) })
    }

    /// The same socket, once more, from now on with this mode and owner. One that systemd made keeps what it
    /// has.
    ///
    /// # Errors
    ///
    /// A sentence that names the path and the remedy.
    pub fn again(&self, options: &SocketOptions) -> Result<Self, SocketError> {
        let fail = |what: String| SocketError { path: options.path.clone(), what };
        let shared = self.share().map_err(|error| fail(format!("cannot share it: {error}")))?;
        if self.file.ours {
            give_to(&options.path, options).map_err(fail)?;
        }
        Ok(shared)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for SocketError {}

/// The name under which a socket is made: short, because paths of sockets are.
fn being_made(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    name.into()
}

/// Binds a socket to which nobody may connect yet: on Linux the file of a socket gets the mode that the
/// socket has when it is bound, and connecting takes the right to write. Without this, who is quicker than
/// the change of the mode would be let in to a socket that is not for them.
fn bind_closed(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    let file = std::fs::File::from(socket.as_fd().try_clone_to_owned()?);
    file.set_permissions(std::fs::Permissions::from_mode(0o000))?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}

fn refuse_a_living_one(path: &Path) -> Result<(), String> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err("something that is no socket is in its place; move it away".into());
    }
    match connect(path) {
        Ok(()) => Err("a server is listening on it already; stop that one first".into()),
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
        {
            Ok(())
        }
        // Another user's, perhaps: whether anybody listens cannot be told.
        Err(error) => {
            Err(format!("a socket is in its place, and may be in use ({error}); remove it"))
        }
    }
}

/// Connects, for a second at most: a server that does not accept has a full queue, in which a connection
/// waits for ever.
fn connect(path: &Path) -> io::Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || sender.send(BlockingStream::connect(path).map(drop)));
    receiver.recv_timeout(Duration::from_secs(1)).unwrap_or(Ok(()))
}

/// Gives the socket its owner, group and mode: by a handle to what was bound, not by its name. In a folder
/// that another user can write, the name may by now be a link to anything.
fn give_to(path: &Path, options: &SocketOptions) -> Result<(), String> {
    let owner = options.owner.as_deref().map(user_id).transpose()?;
    let group = options.group.as_deref().map(group_id).transpose()?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let handle = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty());
    let handle = handle.map_err(|error| format!("it is gone after it was bound ({error})"))?;
    let handle = std::fs::File::from(handle);
    let found = handle.metadata().map_err(|error| format!("cannot be looked at ({error})"))?;
    if !found.file_type().is_socket() || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(
            "something else took its place after it was bound; look who writes there".into()
        );
    }
    let itself = format!("/proc/self/fd/{}", handle.as_raw_fd());
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::chown(&itself, owner, group).map_err(|error| {
            format!(
                "cannot give it to its owner and group ({error}); only root can give files away"
            )
        })?;
    }
    let mode = std::fs::Permissions::from_mode(options.mode);
    std::fs::set_permissions(&itself, mode)
        .map_err(|error| format!("cannot set its mode through /proc ({error})"))
}

/// A user's number, by name or number.
pub(crate) fn user_id(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = User::from_name(name).map_err(|error| format!("user `{name}`: {error}"))?;
    found.map(|user| user.uid.as_raw()).ok_or_else(|| format!("there is no user `{name}`"))
}

fn group_id(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = Group::from_name(name).map_err(|error| format!("group `{name}`: {error}"))?;
    found.map(|group| group.gid.as_raw()).ok_or_else(|| format!("there is no group `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(path: PathBuf) -> SocketOptions {
        SocketOptions { path, mode: 0o600, owner: None, group: None }
    }

    #[tokio::test]
    async fn a_living_socket_is_not_taken_and_a_dead_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path().join("run/s"));
        let first = Socket::bind(&options).unwrap();
        assert_eq!(std::fs::metadata(first.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let error = Socket::bind(&options).unwrap_err().to_string();
        assert!(error.contains("listening on it already"), "{error}");
        // A server that was killed leaves its file behind.
        std::mem::forget(first);
        drop(BlockingStream::connect(&options.path));
        std::fs::remove_file(&options.path).unwrap();
        let left_over = std::os::unix::net::UnixListener::bind(&options.path).unwrap();
        drop(left_over);
        let again = Socket::bind(&options).unwrap();
        drop(again);
        assert!(!options.path.exists());
    }

    #[tokio::test]
    async fn nobody_connects_before_it_has_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _bound = bind_closed(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0);
    }

    #[tokio::test]
    async fn names_the_place_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let long = options(folder.path().join("x".repeat(120)));
        let error = Socket::bind(&long).unwrap_err().to_string();
        assert!(error.contains("shorter folder"), "{error}");
        let file = options(folder.path().join("file"));
        std::fs::write(&file.path, "").unwrap();
        let error = Socket::bind(&file).unwrap_err().to_string();
        assert!(error.contains("move it away"), "{error}");
        let mut stranger = options(folder.path().join("s"));
        stranger.owner = Some("no-such-user".into());
        let error = Socket::bind(&stranger).unwrap_err().to_string();
        assert!(error.contains("there is no user `no-such-user`"), "{error}");
    }
}
