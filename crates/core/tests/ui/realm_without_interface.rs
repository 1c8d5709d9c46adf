//! A realm that has no avatar with the interface that the protocol asks for.

use countersign::testing::StillWorld;
use countersign::{Answers, Denial, Identity, Interface, Known, Portal, Realm, Request, Session, Verified};

struct Mailbox;
impl Interface for Mailbox {
    const NAME: &'static str = "mailbox";
    type Avatar = ();
    type Mind = ();
}

struct Shell;
impl Interface for Shell {
    const NAME: &'static str = "shell";
    type Avatar = ();
    type Mind = ();
}

struct Host;
impl Realm<Shell> for Host {
    async fn admit(&self, _: &Verified<Identity>, _: ()) -> Result<Session<Shell>, Denial> {
        Ok(Session::new(Box::new(())))
    }
}

fn main() {
    let portal = Portal::new(Host);
    let world = StillWorld::default();
    let mut peer = Known::new(Answers::new());
    let _ = portal.login::<Mailbox>(Request::to("imap"), &mut peer, (), &world);
}
