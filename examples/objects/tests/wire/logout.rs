//! Every way in which a session ends, or does not begin: the realm's logout runs once, is waited for, and what the
//! client held is dead.

use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign::Told;
use countersign_example_objects::Limits;
use countersign_example_objects::objects_capnp::step;
use tokio::task::{LocalSet, spawn_local};

use crate::stage::{Got, LIMITS, Stage, give, list};

const DEAD: &str = "logged out";

#[tokio::test(start_paused = true)]
async fn a_logout_is_done_when_it_is_answered_and_all_that_came_from_the_session_is_dead() {
    Stage::play(async |stage| {
        let client = stage.client();
        let session = client.enter("ada").await;
        let desk = session.desk_request().send().pipeline.get_desk();
        let mut find = desk.find_request();
        find.get().set_name("one");
        let note = find.send().pipeline.get_note();
        note.read_request().send().promise.await.unwrap();
        session.logout_request().send().promise.await.unwrap();
        assert_eq!(stage.ended(), (1, 1));
        assert_eq!(client.hears("revoked").await, "revoked: logged out");
        for error in [
            list(&session).await.unwrap_err(),
            desk.list_request().send().promise.await.err().unwrap().extra,
            note.read_request().send().promise.await.err().unwrap().extra,
            session.whoami_request().send().promise.await.err().unwrap().extra,
            session.logout_request().send().promise.await.err().unwrap().extra,
        ] {
            assert!(error.contains(DEAD), "{error}");
        }
        let mind = stage.log.minds.lock().unwrap().pop().unwrap();
        assert_eq!(mind.tell("anything"), Told::Gone);
        // The connection is as good as a new one, and what is dead stays so.
        let second = client.enter("bob").await;
        assert_eq!(list(&second).await.unwrap().len(), 2);
        assert!(list(&session).await.unwrap_err().contains(DEAD));
        client.vanish().await;
        assert_eq!(stage.ended(), (2, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_logged_out() {
    Stage::play(async |stage| {
        let client = stage.client();
        let _session = client.enter("ada").await;
        assert_eq!(stage.ended(), (1, 0));
        client.vanish().await;
        assert_eq!(stage.ended(), (1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_lets_go_of_everything_is_logged_out() {
    Stage::play(async |stage| {
        let client = stage.client();
        let session = client.enter("ada").await;
        let desk = session.desk_request().send().promise.await.unwrap();
        let desk = desk.get().unwrap().get_desk().unwrap();
        drop(session);
        desk.list_request().send().promise.await.unwrap();
        assert_eq!(stage.ended(), (1, 0), "it holds the desk");
        drop(desk);
        client.hears("revoked").await;
        client.enter("bob").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_who_leaves_while_the_checker_works() {
    Stage::play(async |stage| {
        let client = stage.client();
        let Ok(Got::Asked(number, _, conversation)) = client.begin("password").await else {
            panic!("nothing was asked")
        };
        let answers = [("username", "slow"), ("password", "countess")];
        let answered = spawn_local(async move {
            let _ = give(&conversation, number, &answers).await;
        });
        stage.log.waits.notified().await;
        client.vanish().await;
        answered.await.unwrap();
        // The checker would say yes now.
        stage.log.go.notify_one();
        assert_eq!((stage.log.checks.load(Ordering::SeqCst), stage.ended()), (1, (0, 0)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_the_realm_works_is_not_in_and_who_does_not_wait_for_the_answer_is_out() {
    Stage::play(async |stage| {
        let client = stage.client();
        for _ in 0..2 {
            let Ok(Got::Asked(number, _, conversation)) = client.begin("password").await else {
                panic!("nothing was asked")
            };
            let answers = [("username", "late"), ("password", "countess")];
            let answered = spawn_local(async move {
                let _ = give(&conversation, number, &answers).await;
            });
            stage.log.waits.notified().await;
            // The call is cancelled, and the connection stays.
            answered.abort();
            let _ = answered.await;
            client.login.offers_request().send().promise.await.unwrap();
            stage.log.go.notify_one();
            client.login.offers_request().send().promise.await.unwrap();
            // Whichever came first: who was not let in needs no end, who was has had one.
            let (logins, _) = stage.ended();
            assert_eq!(logins, 0);
            // It is not waited for any more.
            stage.log.go.notified().await;
        }
        let session = client.enter("ada").await;
        list(&session).await.unwrap();
        client.vanish().await;
        assert_eq!(stage.ended(), (1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_at_a_logout_is_cut() {
    Stage::play(async |stage| {
        let client = stage.client();
        let session = client.enter("ada").await;
        let mut find = session.desk_request().send().pipeline.get_desk().find_request();
        find.get().set_name("slow");
        let found = spawn_local(find.send().promise);
        stage.log.waits.notified().await;
        session.logout_request().send().promise.await.unwrap();
        assert_eq!(stage.ended(), (1, 1));
        let error = found.await.unwrap().err().unwrap();
        assert!(error.extra.contains(DEAD), "{error}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_own_connection_and_logs_out_once() {
    Stage::play(async |stage| {
        let other = stage.client();
        let theirs = other.enter("bob").await;
        let client = stage.client();
        assert!(client.password("panic", "countess").await.is_err(), "in the realm");
        client.served.await.unwrap();
        assert_eq!(stage.ended(), (1, 0));
        let client = stage.client();
        let session = client.enter("ada").await;
        let mut find = session.desk_request().send().pipeline.get_desk().find_request();
        find.get().set_name("panic");
        assert!(find.send().promise.await.is_err(), "in the avatar");
        client.served.await.unwrap();
        assert_eq!(stage.ended(), (2, 1));
        assert_eq!(list(&theirs).await.unwrap().len(), 2, "bob has noticed nothing");
        other.vanish().await;
        assert_eq!(stage.ended(), (2, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn everybody_is_told_and_logged_out_before_the_server_has_ended() {
    Stage::play(async |stage| {
        let clients = [stage.client(), stage.client()];
        let mut sessions = Vec::new();
        for client in &clients {
            sessions.push(client.enter("ada").await);
        }
        let slow = stage.client();
        let Ok(Got::Asked(number, _, conversation)) = slow.begin("password").await else {
            panic!("nothing was asked")
        };
        let answers = [("username", "slow"), ("password", "countess")];
        let answered = spawn_local(async move { give(&conversation, number, &answers).await });
        stage.log.waits.notified().await;
        stage.stop.send_replace(true);
        for client in clients {
            assert_eq!(client.hears("revoked").await, "revoked: the server ends");
            client.served.await.unwrap();
        }
        assert_eq!(stage.ended(), (2, 2));
        slow.served.await.unwrap();
        assert!(answered.await.unwrap().is_err(), "a login under way comes to nothing");
        assert_eq!(stage.ended(), (2, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_expires_and_says_so_before() {
    let limits = Limits { session: Duration::from_secs(600), ..LIMITS };
    let stage = Stage::with(limits, |portal| portal);
    LocalSet::new()
        .run_until(async {
            let client = stage.client();
            let session = client.enter("ada").await;
            let started = tokio::time::Instant::now();
            assert_eq!(client.hears("expiring").await, "expiring: 60");
            assert_eq!(started.elapsed().as_secs(), 540);
            assert_eq!(client.hears("revoked").await, "revoked: the session has expired");
            assert_eq!(started.elapsed().as_secs(), 600);
            assert!(list(&session).await.unwrap_err().contains(DEAD));
            client.vanish().await;
            assert_eq!(stage.ended(), (1, 1));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_mind_that_went_away_says_so_and_a_client_without_one_is_let_in() {
    Stage::play(async |stage| {
        let client = stage.client();
        let _session = client.enter("ada").await;
        let mind = stage.log.minds.lock().unwrap().pop().unwrap();
        assert_eq!(mind.tell("hello"), Told::Heard);
        assert_eq!(client.hears("notice").await, "notice: hello");
        assert_eq!(mind.about().await.unwrap().client, "a test");
        client.vanish().await;
        assert_eq!(mind.tell("hello"), Told::Gone);
        // Without an object.
        let client = stage.client();
        let mut call = client.login.begin_request();
        call.get().set_mechanism("password");
        let reply = call.send().promise.await.unwrap();
        let Ok(step::Ask(ask)) = reply.get().unwrap().get_step().unwrap().which() else {
            panic!("nothing was asked")
        };
        let answers = [("username", "ada"), ("password", "countess")];
        let answered = give(&ask.get_conversation().unwrap(), 1, &answers).await;
        assert!(matches!(answered, Ok(Got::In(..))));
        let mind = stage.log.minds.lock().unwrap().pop().unwrap();
        assert_eq!(mind.tell("hello"), Told::Gone);
    })
    .await;
}
