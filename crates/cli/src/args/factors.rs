//! The arguments of `countersign user otp|recovery|app-password|factors`.

use clap::{Args, Subcommand};
use countersign_checkers::factors::Algorithm;

use super::{NameArgs, PlaceArgs};
use crate::moment::Ahead;

#[derive(Debug, Args)]
pub(crate) struct OtpArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The user's own name for the app or device
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) label: String,
    /// Codes by counter, for devices without a clock, instead of by time
    #[arg(long, conflicts_with = "period")]
    pub(crate) hotp: bool,
    /// Digits of a code, 6 to 8
    #[arg(long, default_value_t = 6, value_name = "N")]
    pub(crate) digits: u8,
    /// Seconds until the next code
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) period: u32,
    /// SHA1, SHA256 or SHA512. Many apps read SHA1 whatever they are told
    #[arg(long, default_value = "SHA1")]
    pub(crate) algorithm: Algorithm,
    /// Do not ask for a first code: whoever has not read the secret in is locked out
    #[arg(long)]
    pub(crate) unconfirmed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecoveryArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppPasswordCommand {
    /// Make a password for a program that can show nothing else
    Add(AppPasswordArgs),
    /// List a user's application passwords
    List(NameArgs),
    /// Remove one, by its number, and end the user's sessions
    Remove(FactorArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AppPasswordArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// A service that it is for, such as imap, or * for all but web. Repeatable
    #[arg(long = "service", value_name = "SERVICE", required = true)]
    pub(crate) services: Vec<String>,
    /// The user's own name for the program
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) label: String,
    /// From when on it proves nothing: a date, a time, 90d from now, or never
    #[arg(long, value_name = "WHEN|never")]
    pub(crate) expires: Option<Ahead>,
}

#[derive(Debug, Args)]
pub(crate) struct FactorArgs {
    /// The user's name
    pub(crate) name: String,
    /// The factor's number, from the list
    pub(crate) id: i64,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FactorsCommand {
    /// List a user's factors
    List(NameArgs),
    /// Remove one, by its number, and end the user's sessions
    Remove(FactorArgs),
    /// Remove all that a user has lost, and end their sessions; the password stays
    Reset(ResetArgs),
    /// Find a counter again that has run away, by two codes in a row
    Resync(FactorArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The user's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Only factors of this kind
    #[arg(long, value_parser = ["totp", "hotp", "recovery", "passkey", "app-password"])]
    pub(crate) kind: Option<String>,
}
