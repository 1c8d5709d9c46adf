//! A whole server: who is there before it starts, and what is said at its sockets.

use std::path::Path;
use std::sync::Arc;

use countersign_checkers::factors::{Factors, OtpSettings, PendingOtp};
use countersign_checkers::pool::HashPool;
use countersign_server::admin::{Admin, NewUser};
use countersign_server::config::Config;
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store};
use countersign_wire::saslauthd::Ask;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::PATIENCE;

/// Makes users of these names, all with this password; `eve` is disabled, and `grace` has what makes codes by counter.
pub(crate) async fn enrol(
    config: &Config,
    world: SystemWorld,
    names: &[&str],
    password: &str,
) -> PendingOtp {
    let store = Store::open(&config.store, OpenOptions::create()).await.unwrap();
    let pool = Arc::new(HashPool::start(&Default::default()).unwrap());
    let admin = Admin::new(store.clone(), pool, config.recipe(), world);
    for name in names {
        let mut new = NewUser::named(*name);
        (new.password, new.enabled) = (Some(password.into()), *name != "eve");
        admin.add_user(new).await.unwrap();
    }
    let factors = Factors::new(store.clone(), Arc::new(world));
    let pending = factors.begin_otp("grace", "Test", OtpSettings::counted()).unwrap();
    factors.enrol_unconfirmed(&pending, "key").await.unwrap();
    store.close().await;
    pending
}

/// One line at a socket for Dovecot's protocol: the line that answers it.
pub(crate) async fn dovecot(socket: &Path, line: &str) -> String {
    let talk = async {
        let mut stream = BufReader::new(UnixStream::connect(socket).await.unwrap());
        let request = format!("VERSION\t1\t2\nCPID\t7\n{line}\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        while !reply.starts_with("DONE") {
            reply.clear();
            stream.read_line(&mut reply).await.unwrap();
        }
        reply.clear();
        stream.read_line(&mut reply).await.unwrap();
        reply
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("an answer by Dovecot's protocol")
}

/// A password at saslauthd's socket: the reply as it comes; empty: closed without a word, which means "later".
pub(crate) async fn saslauthd(socket: &Path, service: &str, user: &str, password: &str) -> Vec<u8> {
    let talk = async {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let mut sent = Vec::new();
        let (login, password) = (user.as_bytes(), password.as_bytes());
        let ask = Ask { login, password, service: service.as_bytes(), realm: b"", client: None };
        ask.encode(&mut sent).unwrap();
        stream.write_all(&sent).await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        reply
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("an answer as saslauthd's")
}
