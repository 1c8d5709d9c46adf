//! The arguments of `countersign user token|driver`.

use clap::{Args, Subcommand};

use super::{NameArgs, PlaceArgs};
use crate::moment::Ahead;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token that stands for a user's password for a while, and print it
    Add(TokenAddArgs),
    /// List a user's login tokens
    List(NameArgs),
    /// Remove one, by its number, and end the user's sessions
    Remove(TokenRemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenAddArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The user's own name for it
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) label: String,
    /// The one group whose rights it has, of those that the user is in
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// From when on it proves nothing: a date, a time, 10h from now, or never. The driver's rule may say sooner
    #[arg(long, value_name = "WHEN|never", default_value = "10h")]
    pub(crate) expires: Ahead,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRemoveArgs {
    /// The user's name
    pub(crate) name: String,
    /// The token's number, from the list
    pub(crate) id: i64,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}
