//! `countersign token`: its arguments.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::moment::Ahead;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// A token of an SSH key, as OpenNebula's users log in with by the driver `ssh`
    ///
    /// RSA keys make OpenNebula's own tokens; Ed25519 and ECDSA keys make ours.
    #[cfg(feature = "one-ssh")]
    Ssh(SshTokenArgs),
    /// A token of a certificate's key, as OpenNebula's users log in with by the driver `x509`
    #[cfg(feature = "one-x509")]
    X509(X509TokenArgs),
    /// A token of a server that acts for a user, by the secret of the driver `server_cipher`
    #[cfg(feature = "one-cipher")]
    Cipher(CipherTokenArgs),
}

#[cfg(feature = "one-ssh")]
#[derive(Debug, Args)]
pub(crate) struct SshTokenArgs {
    /// The user's name
    pub(crate) user: String,
    /// The private key: as OpenSSH writes it, or an RSA key in PEM. Asks for its passphrase, if it has one
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) until: UntilArgs,
    /// Print what OpenNebula stores for the user (the public key), and no token
    #[arg(long)]
    pub(crate) stored: bool,
}

#[cfg(feature = "one-x509")]
#[derive(Debug, Args)]
pub(crate) struct X509TokenArgs {
    /// The user's name
    pub(crate) user: String,
    /// The certificates in PEM: the user's own first, then those between it and the authority
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// The private key of the first, RSA, in PEM. Asks for its passphrase, if it has one
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) until: UntilArgs,
    /// Print what OpenNebula stores for the user (the certificate's name), and no token
    #[arg(long)]
    pub(crate) stored: bool,
}

#[cfg(feature = "one-cipher")]
#[derive(Debug, Args)]
pub(crate) struct CipherTokenArgs {
    /// The user for whom the server acts
    pub(crate) target: String,
    /// A file with `server:password` in its first line, which only its owner and group can read
    #[arg(long, value_name = "FILE")]
    pub(crate) auth: PathBuf,
    #[command(flatten)]
    pub(crate) until: UntilArgs,
    /// Dangerous: make OpenNebula's own token, which whoever sees it can change
    #[arg(long)]
    pub(crate) legacy: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct UntilArgs {
    /// Until when it is good: 2026-12-31T18:00:00Z, or 30m, 12h, 7d from now
    #[arg(long, value_name = "WHEN", default_value = "1h")]
    pub(crate) expires: Ahead,
}
