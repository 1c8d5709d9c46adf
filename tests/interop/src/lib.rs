//! Starts the software that Countersign has to work with, and stops it again.
//!
//! Each peer is a value: making it starts the daemon in a private folder on loopback,
//! dropping it kills the daemon's whole process group. Nothing of the machine's own
//! configuration is read or written, and no system service is touched.
//!
//! - [`Stage`] is the private folder of one case, and [`runner`] plays the cases.
//! - [`Countersign`] is the server under test.
//! - [`Postfix`], [`Exim`], [`DovecotAuth`], [`Saslauthd`], [`Postgres`] are the peers, [`sasl`] and
//!   [`swaks()`], [`gsasl()`] the clients that people really use, [`Terminal`] a person.
//!
//! Whatever cannot be tried on this machine (no such program, not root) is
//! [`Trouble::NotRun`] with a reason. It never counts as passed.
#![forbid(unsafe_code)]

mod countersign;
mod dovecot;
mod dovecot_mail;
mod example;
mod example_ssh;
mod exim;
mod gsasl;
pub mod guard;
mod mariadb;
mod nginx_mail;
mod postfix;
mod postgres;
mod process;
mod program;
mod proxy;
mod python;
pub mod runner;
pub mod sasl;
mod saslauthd;
mod slapd;
mod stage;
mod swaks;
mod terminal;
mod trouble;
mod wire;

pub use countersign::{Config, Countersign, Profile, binary, command, command_within, user};
pub use dovecot::{DovecotAuth, Habits, passwd_file};
pub use dovecot_mail::DovecotMail;
pub use example::{Example, ExampleMail, example};
pub use example_ssh::{ExampleSsh, Ssh, keygen};
pub use exim::Exim;
pub use gsasl::{GSASL_SMTP, Gsasl, gsasl};
pub use mariadb::Mariadb;
pub use nginx_mail::NginxMail;
pub use postfix::Postfix;
pub use postgres::Postgres;
pub use process::{Finished, Peer, run, wait_for};
pub use program::{need, need_root, peers_folder};
pub use proxy::{Proxy, eventually, fenced, many_files};
pub use python::{Environment, Twisted};
pub use saslauthd::Saslauthd;
pub use slapd::{Certificate, Slapd};
pub use stage::{Stage, free_port};
pub use swaks::{Attempt, Mechanism, swaks};
pub use terminal::Terminal;
pub use trouble::{Context, Outcome, Trouble};
pub use wire::Wire;
