//! A login without a server, at a portal of this process: to try out what `--auth` says.

use std::sync::Arc;

use countersign::{Halt, KindSet, Peer, Portal, Reply, Request, Transport};
use countersign_checkers::kinds::{AuthError, Kinds, Parts, Takes};
use countersign_sasl::{Login, Plain};
use countersign_server::identity::IdentityView;
use countersign_server::world::SystemWorld;

use super::{Answerer, show};
use crate::args::LoginArgs;
use crate::failure::Failure;
use crate::place::{block_on, hasher};

pub(super) fn run(args: &LoginArgs, kinds: &Kinds) -> Result<(), Failure> {
    for warning in args.auth.warnings(kinds) {
        eprintln!("warning: {warning}");
    }
    block_on(talk(args, kinds))
}

async fn talk(args: &LoginArgs, kinds: &Kinds) -> Result<(), Failure> {
    let world = Arc::new(SystemWorld::new());
    let parts = Parts::new(hasher()?, world.clone());
    let mut checkers = Vec::new();
    for chosen in kinds.named(&args.auth.auth, &Takes::everything())? {
        let built = chosen.settings.build(&chosen.name, &parts).await;
        let broken = |fault| AuthError::Broken { name: chosen.kind.name(), fault };
        checkers.push(built.map_err(|misplaced| broken(misplaced.fault))?);
    }
    let portal = Portal::new(()).carried_by(Plain).carried_by(Login);
    let portal = checkers.into_iter().fold(portal, Portal::checked_by_shared);

    let mut answerer = Answerer::of(args)?;
    let supports = answerer.kinds();
    let supports = supports.iter().map(|kind| countersign::CredentialKind::from_name(kind));
    let mut peer = Peer::new(args.service.as_str(), supports.collect::<KindSet>());
    // What is said here crosses no network.
    peer.transport = Transport::Local;
    let mut request = Request::from_peer(Arc::new(peer));
    if let Some(mechanism) = &args.mechanism {
        request = request.by(mechanism.clone());
    }
    let (mut conversation, mut reply) = portal.begin(request, &*world).await?;
    loop {
        let ask = match reply {
            Reply::Granted(who) => {
                let identity = IdentityView::of(&who);
                match args.json {
                    true => println!("{}", identity.to_json()),
                    false => show(&identity),
                }
                return Ok(());
            }
            // Whoever says who checks logins may know why one is refused.
            Reply::Denied(denial) => return Err(Failure::refused(format!("refused: {denial}"))),
            Reply::Ask(ask) => ask,
        };
        let answers = answerer.answer(&ask.round)?;
        reply = match conversation.answer(ask.number, answers, &*world).await {
            Ok(reply) => reply,
            Err(Halt::Fault(fault)) => return Err(fault.into()),
            Err(Halt::Misuse(misuse)) => {
                answerer.misunderstood(&misuse.to_string())?;
                Reply::Ask(ask)
            }
        };
    }
}
