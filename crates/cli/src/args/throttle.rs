//! The arguments of `countersign throttle`.

use clap::{Args, Subcommand};

use super::PlaceArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ThrottleCommand {
    /// List what failures are held against
    List(ThrottleListArgs),
    /// Forget failures, here and on every other node
    Clear(ThrottleClearArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ThrottleListArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Only of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = true, args = ["user", "source", "all"])]
pub(crate) struct ThrottleClearArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Those of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Those of this address or network, such as 192.0.2.7 or 192.0.2.0/24; with --user, of that user there
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Option<String>,
    /// All
    #[arg(long, conflicts_with_all = ["user", "source"])]
    pub(crate) all: bool,
}
