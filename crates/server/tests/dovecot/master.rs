//! The master socket, and logins that are handed over from the authentication socket.

use std::sync::Arc;
use std::time::Duration;

use countersign_server::front::dovecot::handover::Handovers;
use countersign_server::front::dovecot::master::{self, MasterOptions};
use countersign_server::front::dovecot::{self, DovecotOptions};
use countersign_server::front::socket::{Socket, SocketOptions};
use countersign_store::{Group, NewAccount};
use tokio::io::BufReader;
use tokio::net::UnixStream;

use crate::peer::{Client, b64, plain};
use crate::sockets::{PATIENCE, Place};

const FIELDS: &str = r#"
    uid = 5000
    home = "/srv/mail/{domain}/{local}"
    quota_rule = "*:storage={quota}M"
"#;
const NONE: &str = "FAIL\t1\treason=No such login waits to be asked for";

/// Both sockets, with accounts `ann@example.org`, `ben` (who has attributes of his own) and `gone`.
async fn both(patience: Duration) -> Place {
    let mut place = Place::new().await;
    let store = &place.engine.store;
    let group = Group { name: "staff".into(), gid: Some(500), description: String::new() };
    store.add_group(&group).await.unwrap();
    store.add_account(&NewAccount::new("ann@example.org"), 0).await.unwrap();
    let mut ben = NewAccount::new("ben");
    for (name, value) in
        [("uid", "1000"), ("gid", "staff"), ("home", "/home/ben"), ("quota", "7"), ("phone", "1")]
    {
        ben.attributes.insert(name.to_owned(), vec![value.to_owned()]);
    }
    store.add_account(&ben, 0).await.unwrap();
    let mut gone = NewAccount::new("gone@example.org");
    gone.enabled = false;
    store.add_account(&gone, 0).await.unwrap();

    let handovers = Handovers::default();
    let stop = place.take_stop();
    let options = DovecotOptions { handovers: Some(handovers.clone()), ..Default::default() };
    tokio::spawn(dovecot::serve(place.socket(), Arc::clone(&place.engine), options, stop.clone()));
    let path = place.folder.path().join("master");
    let socket = Socket::bind(&SocketOptions { path, mode: 0o600, owner: None, group: None });
    let options = MasterOptions {
        userdb: toml::from_str(FIELDS).unwrap(),
        owners: vec![],
        handovers,
        connections: 16,
        patience,
        open: Default::default(),
    };
    let engine = Arc::clone(&place.engine);
    tokio::spawn(master::serve(socket.unwrap(), engine, Arc::new(options), stop));
    place
}

async fn stranger(place: &Place) -> Client {
    let stream = UnixStream::connect(place.folder.path().join("master")).await.unwrap();
    Client(BufReader::new(stream))
}

async fn master(place: &Place) -> Client {
    let mut client = stranger(place).await;
    // M2: it speaks first, and offers no mechanism.
    assert_eq!(client.line().await, "VERSION\t1\t1");
    assert_eq!(client.line().await, format!("SPID\t{}", std::process::id()));
    client.send("VERSION\t1\t1\n").await;
    client
}

#[tokio::test]
async fn a_user_is_told_by_attributes_and_templates() {
    let place = both(PATIENCE).await;
    let mut client = master(&place).await;
    let told = client.ask("USER\t1\tann@example.org\tservice=lmtp").await;
    assert_eq!(told, "USER\t1\tann@example.org\thome=/srv/mail/example.org/ann\tuid=5000");
    let told = client.ask("USER\t2\tben\tservice=lmtp\tdebug").await;
    let ben = "gid=500\thome=/home/ben\tquota_rule=*:storage=7M\tuid=1000";
    assert_eq!(told, format!("USER\t2\tben\t{ben}"));
    // M12: mail is delivered to who may not log in.
    assert!(client.ask("USER\t3\tgone@example.org\t").await.starts_with("USER\t3\tgone@"));
    assert_eq!(client.ask("USER\t4\tnobody\tservice=x").await, "NOTFOUND\t4");
    assert_eq!(client.ask("USER\t5\tann\x01t@x\tservice=x").await, "NOTFOUND\t5");

    let told = client.ask("PASS\t6\tben\tservice=imap").await;
    let begins = "PASS\t6\tuser=ben\tuserdb_gid=500\tuserdb_home=/home/ben\t";
    assert!(told.starts_with(begins), "{told}");
    let told = client.ask("PASS\t7\tgone@example.org\tservice=imap").await;
    assert!(told.starts_with("FAIL\t7\treason="), "{told}");
    assert_eq!(client.ask("PASS\t8\tnobody\tservice=imap").await, "NOTFOUND\t8");
    // M16: a name that leads elsewhere.
    place.engine.store.add_account(&NewAccount::new("a@.."), 0).await.unwrap();
    let told = client.ask("USER\t9\ta@..\tservice=x").await;
    assert_eq!(told, "FAIL\t9\treason=Cannot be told for this user");
}

#[tokio::test]
async fn all_users_page_by_page() {
    let place = both(PATIENCE).await;
    let accounts: Vec<_> = (0..2500).map(|n| NewAccount::new(format!("u{n:04}"))).collect();
    place.engine.store.add_accounts(&accounts, 0).await.unwrap();
    let mut client = master(&place).await;
    // M4: sent together, answered one after the other.
    client.send("LIST\t1\tservice=doveadm\nLIST\t2\tuser=*@example.org\nUSER\t3\tben\t\n").await;
    let mut listed = Vec::new();
    loop {
        let line = client.line().await;
        match line.strip_prefix("LIST\t1\t") {
            Some(name) => listed.push(name.to_owned()),
            None => {
                assert_eq!(line, "DONE\t1\t");
                break;
            }
        }
    }
    assert_eq!(listed.len(), 2503);
    assert!(listed.is_sorted());
    for expected in ["LIST\t2\tann@example.org", "LIST\t2\tgone@example.org", "DONE\t2\t"] {
        assert_eq!(client.line().await, expected);
    }
    assert!(client.line().await.starts_with("USER\t3\tben"));
}

#[tokio::test]
async fn a_login_is_handed_over_once() {
    let place = both(PATIENCE).await;
    let mut login = place.silent_client().await;
    login.send("VERSION\t1\t2\nCPID\t4711\n").await;
    let greeting = login.greeting().await;
    let cookie = greeting.iter().find_map(|line| line.strip_prefix("COOKIE\t")).unwrap();
    let mut client = master(&place).await;

    let told = login.ask(&plain(1, "ada@example.org", "countess")).await;
    assert_eq!(told, "OK\t1\tuser=ada@example.org");
    let wrong = "0".repeat(32);
    assert_eq!(client.ask(&format!("REQUEST\t1\t4711\t1\t{wrong}")).await, NONE);
    assert_eq!(client.ask(&format!("REQUEST\t1\t4711\t2\t{cookie}")).await, NONE);
    let us = std::process::id();
    let other = format!("REQUEST\t1\t4711\t1\t{cookie}\tsession_pid={}", us + 1);
    assert_eq!(client.ask(&other).await, "FAIL\t1\treason=Wrong session process");
    let request = format!("REQUEST\t1\t4711\t1\t{cookie}\tsession_pid={us}");
    assert_eq!(
        client.ask(&request).await,
        "USER\t1\tada@example.org\tauth_mech=PLAIN\thome=/srv/mail/example.org/ada\tuid=5000"
    );
    assert_eq!(client.ask(&request).await, NONE);

    // Refused, meant for nobody, or given up: nothing waits.
    assert!(login.ask(&plain(2, "ada@example.org", "wrong")).await.starts_with("FAIL\t2"));
    let message = b64("\0ada@example.org\0countess");
    let nologin = format!("AUTH\t3\tPLAIN\tservice=smtp\tnologin\tresp={message}");
    assert!(login.ask(&nologin).await.starts_with("OK\t3"));
    assert!(login.ask(&plain(4, "ada@example.org", "countess")).await.starts_with("OK\t4"));
    login.send("CANCEL\t4\n").await;
    assert_eq!(login.ask("AUTH\t5\tPLAIN\tservice=imap").await, "CONT\t5\t");
    assert!(login.ask(&format!("CONT\t5\t{message}")).await.starts_with("OK\t5"));
    for id in 2..=4 {
        let told = client.ask(&format!("REQUEST\t1\t4711\t{id}\t{cookie}")).await;
        assert_eq!(told, NONE, "{id}");
    }
    let told = client.ask(&format!("REQUEST\t1\t4711\t5\t{cookie}")).await;
    assert!(told.starts_with("USER\t1\tada@example.org\t"), "{told}");
}

#[tokio::test]
async fn what_is_remembered_can_be_forgotten() {
    let place = both(PATIENCE).await;
    let mut client = master(&place).await;
    client.ask("USER\t1\tben\t").await;
    client.ask("USER\t2\tnobody\t").await;
    assert_eq!(client.ask("CACHE-STATUS\t3").await, "OK\t3\tentries=2");
    assert_eq!(client.ask("CACHE-FLUSH\t4\tben\tsomeone").await, "OK\t4\t1");
    assert_eq!(client.ask("CACHE-FLUSH\t5\tn*").await, "OK\t5\t1");
    client.ask("USER\t6\tben\t").await;
    assert_eq!(client.ask("CACHE-FLUSH\t7").await, "OK\t7\t1");
}

#[tokio::test]
async fn what_is_wrong_with_one_request_stays_with_it() {
    let place = both(PATIENCE).await;
    let mut client = master(&place).await;
    let told = client.ask("USER\t0\tben").await;
    assert_eq!(told, "FAIL\t0\treason=Request id must not be 0");
    assert_eq!(client.ask("USER\t1").await, "FAIL\t1\treason=User name missing");
    assert!(client.ask("REQUEST\t2\t1\t1\tzz").await.starts_with("FAIL\t2"));
    client.send("NONSENSE\t3\n").await;
    assert!(client.ask("USER\t4\tben").await.starts_with("USER\t4\tben"));
    client.send("USER\tx\tben\n").await;
    assert_eq!(client.rest().await, "");
    for bad in ["USER\t1\tben\n", "VERSION\t2\t0\n", &"x".repeat(1025)] {
        let mut client = stranger(&place).await;
        client.send(bad).await;
        assert_eq!(client.rest().await.lines().count(), 2, "{bad}");
    }
}

#[tokio::test]
async fn who_owes_the_rest_of_a_line_is_not_waited_for() {
    let place = both(Duration::from_millis(1)).await;
    let mut client = stranger(&place).await;
    client.send("USER\t1\tb").await;
    assert_eq!(client.rest().await.lines().count(), 2);
}

#[tokio::test]
async fn a_stop_ends_connections() {
    let place = both(PATIENCE).await;
    let mut client = master(&place).await;
    client.ask("USER\t1\tben\t").await;
    place.stop().await;
    assert_eq!(client.rest().await, "");
}
