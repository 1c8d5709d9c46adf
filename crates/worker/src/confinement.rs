//! What the processes of a launcher may do, and whom a launcher is.

use std::ffi::OsString;
use std::path::PathBuf;

/// What to execute as a launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The executable. It calls [`launcher::main`](crate::launcher::main) when it is given the arguments.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// The program that runs, as it was when it was started, with arguments that make a launcher of it.
    pub fn this(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            path: "/proc/self/exe".into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }
}

/// What the processes of a launcher may do. The launcher takes it upon itself; they inherit it and cannot get rid of
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// All of the environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The folder that they start in.
    pub directory: PathBuf,
    /// Whom they run as, if not as the server. Only root can change that.
    pub user: Option<User>,
    /// Limits of the kernel.
    pub limits: Limits,
    /// How much they leave to others, from 0 to 19.
    pub nice: u8,
    /// Whether setuid programs that they start have their powers. Few drivers need that.
    pub may_gain_privileges: bool,
    /// What of the file system and the network they reach (Landlock), as far as the kernel has it. `None`: whatever
    /// their user may.
    pub access: Option<Access>,
}

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The primary group's.
    pub gid: u32,
    /// Further groups, and no others.
    pub groups: Vec<u32>,
}

/// Limits of the kernel, for each process. None leaves a core file, which would have passwords in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open files. The launcher itself needs one for each process that runs, and some more.
    pub files: u64,
    /// Bytes of a file that is written.
    pub file_size: Option<u64>,
    /// Bytes of memory that a process writes to (`RLIMIT_DATA`). Address space is not limited: some runtimes reserve
    /// much and use little.
    pub memory: Option<u64>,
    /// Processes of the user, whoever started them: for users of their own only.
    pub processes: Option<u64>,
}

/// What is reached of the file system and the network; everything else is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Files and folders that may be read and executed, with everything below.
    pub read: Vec<PathBuf>,
    /// Those that may be written and changed, too.
    pub write: Vec<PathBuf>,
    /// Whether TCP connections may be made and taken.
    pub network: bool,
}

impl Default for Confinement {
    /// Nothing but a search path in the environment, in `/`, without new privileges and core files.
    fn default() -> Self {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            environment: vec![("PATH".into(), path.into())],
            directory: "/".into(),
            user: None,
            limits: Limits::default(),
            nice: 0,
            may_gain_privileges: false,
            access: None,
        }
    }
}

impl Default for Limits {
    /// 1,024 files.
    fn default() -> Self {
        Self { files: 1024, file_size: None, memory: None, processes: None }
    }
}
