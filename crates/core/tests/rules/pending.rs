//! Conversations by id: each state is used once, and nothing outlives its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::testing::StillWorld;
use countersign::{
    Answers, Bounds, Conversation, Id, KindSet, Moment, NotPending, Peer, Pending, PendingLimits,
    Portal, Question, Reason, Reply, Request, Step, World,
};
use proptest::prelude::*;

use crate::stage::{Stage, grant, ready};

fn begin(world: &dyn World) -> Conversation {
    begin_from(None, world)
}

fn begin_from(remote: Option<&str>, world: &dyn World) -> Conversation {
    let stage =
        Stage::asking("passwords", "password", [Question::password()], |answers, _| match answers
            .text("password")
        {
            Some("right") => Ok(grant("ada")),
            _ => Ok(Step::deny(Reason::WrongCredential)),
        });
    let portal = Portal::new(()).checked_by(stage).bounded_by(&Bounds::REQUESTS);
    let mut peer = Peer::new("test", KindSet::all());
    peer.remote = remote.map(|address| address.parse().unwrap());
    let peer = Arc::new(peer);
    ready(portal.begin(Request::from_peer(peer), world)).expect("no fault").0
}

fn table(conversations: usize) -> Pending<&'static str> {
    Pending::new(7, PendingLimits { conversations, per_source: 2, keep_ended_ms: 1000 })
}

fn password(text: &str) -> Answers {
    Answers::new().with("password", text)
}

#[test]
fn of_two_requests_one_wins() {
    let world = StillWorld::default();
    for _ in 0..200 {
        let pending = table(10);
        let id = pending.insert(begin(&world), "note", &world).unwrap();
        let won = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| match pending.take(id, &world) {
                    Ok((conversation, note)) => {
                        assert_eq!(note, "note");
                        assert!(!conversation.is_over());
                        won.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(why) => assert_eq!(why, NotPending::Unknown),
                });
            }
        });
        assert_eq!(won.load(Ordering::SeqCst), 1);
        assert!(pending.is_empty());
    }
}

#[test]
fn a_login_goes_through_the_table_and_its_end_is_repeated_for_a_while() {
    let world = StillWorld::default();
    let pending = table(10);
    let id = pending.insert(begin(&world), "note", &world).unwrap();
    for _ in 0..2 {
        let (mut conversation, note) = pending.take(id, &world).unwrap();
        let reply = ready(conversation.answer(1, password("right"), &world)).unwrap();
        assert!(matches!(reply, Reply::Granted(_)));
        pending.park(id, conversation, note, &world);
    }
    world.advance_ms(1000);
    assert_eq!(pending.sweep(&world).len(), 0);
    world.advance_ms(1);
    assert_eq!(pending.take(id, &world).err(), Some(NotPending::Unknown));
    assert!(pending.sweep(&world).is_empty(), "what has ended is in the record already");
    assert!(pending.is_empty());
}

#[test]
fn one_too_many_is_refused_and_the_others_stay() {
    let world = StillWorld::default();
    let pending = table(2);
    let ids: Vec<_> = (0..2).map(|_| pending.insert(begin(&world), "", &world).unwrap()).collect();
    assert_eq!(pending.insert(begin(&world), "", &world), Err(NotPending::Full));
    assert_eq!(pending.len(), 2);
    assert!(pending.take(ids[0], &world).is_ok());
    assert!(pending.insert(begin(&world), "", &world).is_ok());
    assert!(pending.take(ids[1], &world).is_ok());
}

#[test]
fn one_sweep_drops_exactly_what_has_expired() {
    let world = StillWorld::default();
    let pending = table(1000);
    let lifetime = Bounds::REQUESTS.lifetime_ms;
    let old: Vec<_> =
        (0..100).map(|_| pending.insert(begin(&world), "", &world).unwrap()).collect();
    world.advance_ms(1);
    let young = pending.insert(begin(&world), "", &world).unwrap();
    world.advance_ms(lifetime - 1);
    assert_eq!(pending.sweep(&world).len(), 0, "at its deadline a login may still be answered");
    world.set_unix(i64::MAX / 2);
    assert_eq!(pending.sweep(&world).len(), 0, "the wall clock ends no login");
    world.advance_ms(1);
    // Also before the sweep, what has expired is not found.
    assert_eq!(pending.take(old[0], &world).err(), Some(NotPending::Unknown));
    assert_eq!(pending.sweep(&world).len(), 100);
    assert_eq!(pending.len(), 1);
    assert!(pending.take(young, &world).is_ok());
}

#[test]
fn one_source_does_not_keep_the_others_out() {
    let world = StillWorld::default();
    let pending = table(10);
    let insert = |remote| pending.insert(begin_from(Some(remote), &world), "", &world);
    let first = insert("192.0.2.1").unwrap();
    insert("192.0.2.1").unwrap();
    assert_eq!(insert("192.0.2.1"), Err(NotPending::Full));
    insert("192.0.2.2").unwrap();
    // A site has as many IPv6 addresses as it likes.
    insert("2001:db8::1").unwrap();
    insert("2001:db8::ffff:0:0:2").unwrap();
    assert_eq!(insert("2001:db8::3"), Err(NotPending::Full));
    insert("2001:db8:0:1::3").unwrap();

    // Going on with a login is neither refused nor counted twice, and what has gone makes room.
    for _ in 0..3 {
        let (conversation, note) = pending.take(first, &world).unwrap();
        pending.park(first, conversation, note, &world);
    }
    drop(pending.take(first, &world).unwrap());
    insert("192.0.2.1").unwrap();
    assert_eq!(insert("192.0.2.1"), Err(NotPending::Full));
    world.advance_ms(Bounds::REQUESTS.lifetime_ms + 1);
    assert_eq!(pending.sweep(&world).len(), 6);
    insert("192.0.2.1").unwrap();
    insert("192.0.2.1").unwrap();
    assert_eq!((pending.drain().len(), pending.len()), (2, 0));
    insert("192.0.2.1").unwrap();
}

#[test]
fn another_nodes_ids_are_told_by_node() {
    let world = StillWorld::default();
    let (here, there) = (Pending::new(1, PendingLimits::default()), table(10));
    let id = there.insert(begin(&world), "", &world).unwrap();
    here.insert(begin(&world), (), &world).unwrap();
    assert_eq!(here.take(id, &world).err(), Some(NotPending::Elsewhere { node: 7 }));
    assert!(there.take(id, &world).is_ok());
}

/// A world whose entropy is broken.
struct Stuck;

impl World for Stuck {
    fn now(&self) -> Moment {
        Moment::default()
    }

    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0xab);
    }
}

#[test]
fn nobody_replaces_somebody_elses_login() {
    let pending = table(10);
    let id = pending.insert(begin(&Stuck), "first", &Stuck).unwrap();
    assert_eq!(pending.insert(begin(&Stuck), "second", &Stuck), Err(NotPending::Full));
    assert_eq!(pending.take(id, &Stuck).unwrap().1, "first");
    // The key is the world's bytes and nothing else; printing an id for a log shows none of them.
    assert_eq!(id.to_string(), format!("0007-{}", "ab".repeat(16)));
    assert_eq!(format!("{id:?}"), "0007-…");
    assert!(!format!("{pending:?}").contains("abab"));
}

#[test]
fn ids_are_never_the_same() {
    let world = StillWorld::default();
    let pending = table(2000);
    let ids: std::collections::BTreeSet<String> =
        (0..1000).map(|_| pending.insert(begin(&world), "", &world).unwrap().to_string()).collect();
    assert_eq!(ids.len(), 1000);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn ids_round_trip(node in any::<u16>(), key in any::<u128>()) {
        let text = format!("{node:04x}-{key:032x}");
        let id: Id = text.parse().unwrap();
        prop_assert_eq!(id.to_string(), text);
        prop_assert_eq!(id.to_string().parse::<Id>(), Ok(id));
    }

    /// One id has one spelling: whatever parses prints as it was.
    #[test]
    fn no_other_spelling_parses(text in "[0-9a-fA-F+_ -]{30,40}|\\PC{0,40}") {
        if let Ok(id) = text.parse::<Id>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}

#[test]
fn malformed_ids_are_no_ids() {
    let key = "0123456789abcdef".repeat(2);
    assert!(format!("0007-{key}").parse::<Id>().is_ok());
    for text in [
        "".into(),
        "-".into(),
        "7-1".into(),
        format!("7-{key}"),
        format!("00007-{key}"),
        format!("0007-{}", &key[1..]),
        format!("0007-0{key}"),
        format!("+007-{key}"),
        format!("0007-+{}", &key[1..]),
        format!("0007-{}", key.to_uppercase()),
        format!("0007_{key}"),
        format!("0007-{key}\n"),
        format!(" 0007-{key}"),
    ] {
        assert_eq!(text.parse::<Id>(), Err(NotPending::Unknown), "{text:?}");
    }
}
