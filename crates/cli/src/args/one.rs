//! What OpenNebula starts: its arguments.

use std::path::PathBuf;

use clap::{Args, ValueHint};

#[derive(Debug, Args)]
pub(crate) struct OneAuthMadArgs {
    /// Its settings; without it /etc/one/auth/one_auth_mad.toml, or etc/auth/one_auth_mad.toml below $ONE_LOCATION
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// What oned passes, in one argument or in several: --authn DRIVER,… --authz NAME --threads N --timeout SECONDS
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OneAuthenticateArgs {
    /// Its settings; without it /etc/one/auth/countersign.toml, or etc/auth/countersign.toml below $ONE_LOCATION
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
}
