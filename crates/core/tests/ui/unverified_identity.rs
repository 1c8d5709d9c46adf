//! An identity that nobody has verified.

use countersign::{Denial, Identity, Interface, Realm, Session, Verified};

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
    let claimed = Identity::named("root");
    let _ = Host.admit(&claimed, ());
}
