//! The command line. Help texts are written here; the man pages are made of them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use countersign_checkers::kinds::AuthArgs;
use countersign_responders::answers::Source;
use countersign_server::admin::Existing;
use ipnet::IpNet;

pub(crate) mod driver;
pub(crate) mod factors;
pub(crate) mod one;
pub(crate) mod throttle;
#[cfg(any(feature = "one-cipher", feature = "one-ssh", feature = "one-x509"))]
pub(crate) mod token;
pub(crate) mod user_token;

use self::factors::{AppPasswordCommand, FactorsCommand, OtpArgs, RecoveryArgs};
use self::throttle::ThrottleCommand;
use self::user_token::TokenCommand as UserTokenCommand;
use crate::moment::{Ahead, Since};

/// Pluggable authentication for servers.
///
/// `countersign serve` starts a server on an account store of its own; the other commands administer the
/// accounts, log in, and say what happened.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Countersign {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server until it is told to stop (SIGTERM, Ctrl-C)
    Serve(ServeArgs),
    /// Log in at a running server
    ///
    /// Exit codes: 0 let in, 1 refused, 2 wrong usage, 3 the server is out of reach or broken.
    Login(LoginArgs),
    /// Administer users
    ///
    /// Works on the account store itself, whether a server runs or not. A running server is told.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Administer groups
    ///
    /// Works on the account store itself, whether a server runs or not. A running server is told.
    Group {
        #[command(subcommand)]
        command: GroupCommand,
    },
    /// Import users from another system's file, with their password hashes as they are
    Import(ImportArgs),
    /// Write a consistent copy of the account store to a new file, while it is in use
    Backup(BackupArgs),
    /// Put a backup in the place of the account store
    ///
    /// Refuses while a server runs on the data folder. What was there is kept beside it.
    Restore(RestoreArgs),
    /// Say what would happen at a user's login, and what did happen
    Explain(ExplainArgs),
    /// Check the configuration, and say what would listen and who would be asked for what
    CheckConfig(PlaceArgs),
    /// Say how the running server does
    ///
    /// Exit codes: 0 all is well, 1 something should be looked at, 2 no server runs on the data folder, 3 it
    /// does not answer.
    Status(StatusArgs),
    /// Have the running server read its configuration anew
    ///
    /// Says what changed, or what is wrong with the new configuration; the old one is then used on.
    Reload(PlaceArgs),
    /// See who is slowed down for guessing, and let them go
    Throttle {
        #[command(subcommand)]
        command: ThrottleCommand,
    },
    /// Make a token for OpenNebula's users and servers
    #[cfg(any(feature = "one-cipher", feature = "one-ssh", feature = "one-x509"))]
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Show recent logins and administrators' acts, newest first
    Audit(AuditArgs),
    /// Try out, test and begin drivers: executables that check logins
    Driver {
        #[command(subcommand)]
        command: driver::DriverCommand,
    },
    /// Be OpenNebula's driver manager, in the place of its one_auth_mad
    ///
    /// oned starts it by AUTH_MAD and talks to its standard input and output. A link to this program that is called
    /// one_auth_mad does the same.
    OneAuthMad(one::OneAuthMadArgs),
    /// Be a driver of OpenNebula's that asks a running server
    ///
    /// Reads the document of a login from standard input and writes the driver's line. A link to this program that is
    /// called `authenticate` does the same, in OpenNebula's folder remotes/auth/countersign.
    OneAuthenticate(one::OneAuthenticateArgs),
    /// Write man pages or shell completions
    #[command(hide = true)]
    Generate {
        #[command(subcommand)]
        command: GenerateCommand,
    },
}

/// Where the accounts are.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArgs {
    /// The data folder
    ///
    /// Without it: systemd's STATE_DIRECTORY, else /var/lib/countersign for root, else
    /// $XDG_DATA_HOME/countersign or ~/.local/share/countersign.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// The configuration file of the server; none is needed
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Listen for HTTP here, in the place of every configured HTTP listener
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Instead of the checkers of a configuration file.
    #[command(flatten)]
    pub(crate) auth: AuthArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The server's address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_hint = ValueHint::Url)]
    pub(crate) server: String,
    /// What the login is for; the server's policy may depend on it
    #[arg(long, default_value = "http")]
    pub(crate) service: String,
    /// One mechanism, instead of whatever the server offers
    #[arg(long)]
    pub(crate) mechanism: Option<String>,
    /// Your user name; asked for if left out
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Read answers as JSON, by question name, from a file that nobody else may read, or from standard
    /// input (-): {"username": "alice", "password": "…"}
    #[arg(long, value_name = "FILE|-", value_hint = ValueHint::FilePath)]
    pub(crate) answers: Option<Source>,
    /// Print the server's reply as JSON, with the session's token, and keep the session
    #[arg(long)]
    pub(crate) json: bool,
    /// Send passwords unencrypted to a server that is not on this machine
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Instead of a server: to try a string out.
    #[command(flatten)]
    pub(crate) auth: AuthArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user; asks for the password
    Add(AddArgs),
    /// Change a user
    Set(SetArgs),
    /// List users
    List(ListArgs),
    /// Show a user, without secrets
    Show(NameArgs),
    /// Remove a user, with everything that belongs to them, and end their sessions
    Remove(RemoveArgs),
    /// Set a user's password, and end their sessions
    Passwd(PasswdArgs),
    /// Enrol one-time codes for a user: shows a QR code, and asks for a first code
    Otp(OtpArgs),
    /// Make new recovery codes for a user; the old ones work no more
    Recovery(RecoveryArgs),
    /// Administer application passwords
    AppPassword {
        #[command(subcommand)]
        command: AppPasswordCommand,
    },
    /// Administer login tokens, which stand for a user's password for a while
    ///
    /// They count at the checkers that `[pool]` of the configuration names.
    Token {
        #[command(subcommand)]
        command: UserTokenCommand,
    },
    /// Store what a user's driver compares with, from standard input: a public key, a certificate's subject
    DriverData(NameArgs),
    /// List, remove and reset a user's second factors
    Factors {
        #[command(subcommand)]
        command: FactorsCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Read the password from the first line of standard input
    #[arg(long, conflicts_with = "no_password")]
    pub(crate) password_stdin: bool,
    /// Add the user without a password
    #[arg(long)]
    pub(crate) no_password: bool,
    /// A group to be in; created if there is none. Repeatable
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// A group to be in and to administer. Repeatable
    #[arg(long, value_name = "GROUP")]
    pub(crate) admin_of: Vec<String>,
    /// A security label to have. Repeatable
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// An attribute. Repeatable, also with the same name for several values
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub(crate) attributes: Vec<(String, String)>,
    /// The password must be changed at the first login
    #[arg(long)]
    pub(crate) must_change: bool,
    /// From when on the account lets nobody in: 2026-12-31, 2026-12-31T18:00:00Z, or 30d from now
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<Ahead>,
    /// Add the account disabled
    #[arg(long)]
    pub(crate) disabled: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Let the user in again
    #[arg(long, conflicts_with = "disable")]
    pub(crate) enable: bool,
    /// Let the user in no more, and end their sessions
    #[arg(long)]
    pub(crate) disable: bool,
    /// The password must be changed at the next login
    #[arg(long, conflicts_with = "no_must_change")]
    pub(crate) must_change: bool,
    /// The password need not be changed
    #[arg(long)]
    pub(crate) no_must_change: bool,
    /// The checker that vouches for the account in place of a password here, such as oidc.example
    #[arg(long, value_name = "CHECKER", conflicts_with = "no_driver")]
    pub(crate) driver: Option<String>,
    /// The account's own password counts again
    #[arg(long)]
    pub(crate) no_driver: bool,
    /// From when on the account lets nobody in: a date, a time, 30d from now, or never
    #[arg(long, value_name = "WHEN|never")]
    pub(crate) expires: Option<Ahead>,
    /// A group to be in as a plain member; created if there is none. Repeatable
    #[arg(long = "group", visible_alias = "add-group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// A group to be in and to administer. Repeatable
    #[arg(long, value_name = "GROUP")]
    pub(crate) admin_of: Vec<String>,
    /// A group to be taken out of. Repeatable
    #[arg(long, visible_alias = "remove-group", value_name = "GROUP")]
    pub(crate) leave: Vec<String>,
    /// A security label to have. Repeatable
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// A security label to lose. Repeatable
    #[arg(long, visible_alias = "no-label", value_name = "LABEL")]
    pub(crate) unlabel: Vec<String>,
    /// An attribute, in place of all values that it has. Repeat with the same name for several values
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub(crate) attributes: Vec<(String, String)>,
    /// An attribute to lose. Repeatable
    #[arg(long, visible_alias = "no-attribute", value_name = "NAME")]
    pub(crate) unset: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Only names that begin so
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PasswdArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The password must be changed at the next login
    #[arg(long)]
    pub(crate) must_change: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Add a group
    Add(GroupAddArgs),
    /// Set a group's number or description
    Set(GroupSetArgs),
    /// List groups
    List(ListArgs),
    /// Show a group and its members
    Show(GroupNameArgs),
    /// Remove a group and the memberships in it
    Remove(GroupNameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GroupAddArgs {
    /// The group's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// A number, for protocols and drivers that want one
    #[arg(long, value_name = "NUMBER")]
    pub(crate) gid: Option<u32>,
    /// For people
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub(crate) description: String,
}

#[derive(Debug, Args)]
pub(crate) struct GroupSetArgs {
    /// The group's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Its number
    #[arg(long, value_name = "NUMBER", conflicts_with = "no_gid")]
    pub(crate) gid: Option<u32>,
    /// It has no number
    #[arg(long)]
    pub(crate) no_gid: bool,
    /// For people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GroupNameArgs {
    /// The group's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What the file is: Apache's htpasswd, passwd(5), shadow(5), or a Dovecot passwd-file
    #[arg(value_enum)]
    pub(crate) kind: ImportKind,
    /// The file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The file with the passwords of a passwd(5) file
    #[arg(long = "shadow", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) shadow: Option<PathBuf>,
    /// A group(5) file: names of groups by number, and their members
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) group_file: Option<PathBuf>,
    /// Leave out users with a smaller number: accounts of the system
    #[arg(long, value_name = "UID")]
    pub(crate) from_uid: Option<u32>,
    /// Give users that are there already the password, attributes and groups of the file
    #[arg(long, conflicts_with = "skip")]
    pub(crate) update: bool,
    /// Leave users that are there already as they are
    #[arg(long)]
    pub(crate) skip: bool,
    /// Take passwords in clear text; they stay in clear text until the next login
    #[arg(long)]
    pub(crate) allow_plain: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A new file for all remarks; without it the first fifty are shown
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) report: Option<PathBuf>,
}

impl ImportArgs {
    pub(crate) fn existing(&self) -> Existing {
        match (self.update, self.skip) {
            (true, _) => Existing::Update,
            (_, true) => Existing::Keep,
            _ => Existing::Refuse,
        }
    }
}

/// What a file to import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportKind {
    /// `name:hash`
    Htpasswd,
    /// passwd(5), with --shadow for its passwords
    Passwd,
    /// shadow(5) alone
    Shadow,
    /// Dovecot's passwd-file
    Dovecot,
}

impl ImportKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Htpasswd => "htpasswd",
            Self::Passwd => "passwd",
            Self::Shadow => "shadow",
            Self::Dovecot => "dovecot",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to make
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// What the login is for
    #[arg(long)]
    pub(crate) service: String,
    /// One mechanism only
    #[arg(long)]
    pub(crate) mechanism: Option<String>,
    /// How many past decisions to show
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Only this user, by claimed or proven name
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Only logins to this service
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only these
    #[arg(long, value_parser = ["granted", "denied", "fault", "changed"])]
    pub(crate) outcome: Option<String>,
    /// Only this true reason, such as wrong-credential, or this act, such as user-add
    #[arg(long, value_name = "WORD")]
    pub(crate) reason: Option<String>,
    /// Only from this address or network, such as 192.0.2.0/24
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    pub(crate) remote: Option<IpNet>,
    /// Only through this front end (http, dovecot, saslauthd). Needs --file or --follow
    #[arg(long, value_name = "NAME")]
    pub(crate) front_end: Option<String>,
    /// Not before: 1h ago, 2026-11-22, 2026-11-22T18:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Since>,
    /// Not after
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<Since>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) limit: usize,
    /// Read the audit file and what was rotated, which have everything, and not the store
    #[arg(long)]
    pub(crate) file: bool,
    /// Go on with what comes, oldest first, over rotations. Reads the audit file
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// As JSON, one event a line; with --file or --follow as it stands in the file
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Man pages, one for each command
    Man {
        /// The folder to write into
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    /// Completions for bash, zsh and fish
    Completions {
        /// The folder to write into
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}

/// An address alone is a network of one.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse::<IpNet>())
        .map_err(|_| "write an address or a network, such as 192.0.2.7 or 2001:db8::/32".to_owned())
}

fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE, such as mail=alice@example.org".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Countersign::command().debug_assert();
    }

    /// Every user of a machine can read the arguments of every process.
    #[test]
    fn no_argument_takes_a_secret() {
        fn look(command: &clap::Command) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let secret =
                    ["password", "token", "otp", "pin"].iter().any(|word| id.contains(word));
                assert!(!secret || !argument.get_action().takes_values(), "{id}");
            }
            command.get_subcommands().for_each(look);
        }
        let mut command = Countersign::command();
        command.build();
        look(&command);
    }

    #[test]
    fn attributes_have_a_name() {
        assert_eq!(attribute("mail=a=b").unwrap(), ("mail".into(), "a=b".into()));
        assert!(attribute("=x").is_err() && attribute("mail").is_err());
    }
}
