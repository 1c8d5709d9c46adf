//! The backends as a portal meets them: whole conversations, over real files and a real store.

mod accounts;
mod app_password;
mod change;
mod file;
mod otp;
#[cfg(feature = "passkeys")]
mod passkey;
mod scram;
mod stage;
mod unix;
