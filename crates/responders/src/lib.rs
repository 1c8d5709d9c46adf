//! Responders: who answers the rounds of a login.
//!
//! [`terminal`] asks a person, [`answers`] reads what is known beforehand.
#![forbid(unsafe_code)]

pub mod answers;
pub mod terminal;
