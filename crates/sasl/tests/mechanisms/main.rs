//! Whole exchanges of the mechanisms that need more than a password, through a portal.

mod bearer;
mod scram;
mod second;
mod simple;
mod stage;
