//! Application passwords: at the services that they are for, and there for every factor.

use std::sync::Arc;

use countersign::{KindSet, Peer, Public, Reason, Reply, World};
use countersign_checkers::factors::{Factors, NewAppPassword};
use countersign_store::AccountUpdate;

use crate::stage::{End, NOW, Place, RECIPE, Talk, hash, login};

async fn place(services: &[&str], expires: Option<i64>) -> (Place, String) {
    let place = Place::new().await;
    place.add("ada", &[&hash(RECIPE, "countess")], |_| {}).await;
    place.add("bob", &[&hash(RECIPE, "builder!")], |_| {}).await;
    let world: Arc<dyn World> = place.world.clone();
    let wanted = NewAppPassword {
        label: "telephone".into(),
        services: services.iter().map(|&service| service.to_owned()).collect(),
        expires,
    };
    let factors = Factors::new(place.store.clone(), world);
    let (password, _) = factors.add_app_password("ada", &wanted).await.unwrap();
    (place, password.to_str().unwrap().to_owned())
}

async fn at(place: &Place, service: &str, user: &str, password: &str) -> (Reply, u64) {
    let before = place.pool.computed();
    let peer = Peer::new(service, KindSet::all());
    let mut talk = Talk::with(&place.accounts, "password", peer, &place.world).await;
    let reply = talk.say(login(user, password)).await.unwrap().clone();
    (reply, place.pool.computed() - before)
}

#[tokio::test]
async fn it_is_complete_where_it_is_for() {
    let (place, password) = place(&["imap", "smtp"], None).await;
    for service in ["imap", "smtp"] {
        let (reply, hashes) = at(&place, service, "ada", &password).await;
        assert!(reply.granted().is_complete());
        // Finding it costs nothing.
        assert_eq!(hashes, 0);
    }
    for (service, user) in [("imaps", "ada"), ("imap", "bob"), ("imap", "eve")] {
        let (reply, hashes) = at(&place, service, user, &password).await;
        assert_eq!(reply.denied().public(), Public::Denied, "{service} {user}");
        // As slow as anything else that is wrong.
        assert_eq!(hashes, 1, "{service} {user}");
    }
    let (reply, _) = at(&place, "web", "ada", &password).await;
    assert!(reply.denied().detail.contains("`telephone` is not for here"));
    // The password is what it was, and no more than one factor.
    assert!(!at(&place, "imap", "ada", "countess").await.0.granted().is_complete());
}

#[tokio::test]
async fn it_may_be_for_everything_and_is_read_as_people_type_it() {
    let (place, password) = place(&["*"], None).await;
    for shape in [password.clone(), password.replace('-', ""), password.to_uppercase()] {
        at(&place, "anything", "ada", &shape).await.0.granted();
    }
    let cut = &password[..password.len() - 1];
    for wrong in [cut, &format!("{password}\n"), &format!("{password}a"), ""] {
        let (reply, _) = at(&place, "anything", "ada", wrong).await;
        assert_eq!(reply.denied().reason, Reason::WrongCredential, "{wrong:?}");
    }
}

#[tokio::test]
async fn it_expires_and_is_gone_when_it_is_removed() {
    let (place, password) = place(&["imap"], Some(NOW + 60)).await;
    place.world.advance_ms(59_000);
    at(&place, "imap", "ada", &password).await.0.granted();
    place.world.advance_ms(1_000);
    let (reply, _) = at(&place, "imap", "ada", &password).await;
    assert!(reply.denied().detail.contains("expired"));

    let (place, password) = self::place(&["imap"], None).await;
    let ada = place.store.account("ada").await.unwrap().unwrap();
    place.store.remove_credential("ada", ada.credentials[1].id).await.unwrap();
    assert!(matches!(at(&place, "imap", "ada", &password).await.0, Reply::Denied(_)));
}

#[tokio::test]
async fn the_account_has_the_last_word() {
    let yes = Some(true);
    for (update, reason) in [
        (AccountUpdate { enabled: Some(false), ..AccountUpdate::default() }, Reason::Disabled),
        (AccountUpdate { expires: Some(Some(NOW)), ..AccountUpdate::default() }, Reason::Expired),
        (AccountUpdate { must_change: yes, ..AccountUpdate::default() }, Reason::ChangeNeeded),
        // Whoever vouches for it was not asked whether it still does.
        (
            AccountUpdate { driver: Some(Some("ldap".into())), ..AccountUpdate::default() },
            Reason::UnknownUser,
        ),
    ] {
        let (place, password) = place(&["imap"], None).await;
        place.store.update_account("ada", &update).await.unwrap();
        let (reply, _) = at(&place, "imap", "ada", &password).await;
        assert_eq!(reply.denied().reason, reason);
    }
}

#[tokio::test]
async fn its_use_is_recorded_beside_the_login() {
    let (place, password) = place(&["imap"], None).await;
    at(&place, "imap", "ada", &password).await.0.granted();
    let used = async {
        loop {
            let ada = place.store.read_account("ada").await.unwrap().unwrap();
            if let Some(used) = ada.credentials[1].last_used {
                return used;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(tokio::time::timeout(crate::stage::DEADLINE, used).await.unwrap(), NOW);
}
