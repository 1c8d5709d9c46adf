//! A protocol of three commands, a line each, and whoever the command line names to check logins.
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use countersign::{Answers, Denial, Identity, Interface, Known, Portal, Realm};
use countersign::{Request, Session, Verified, World};
use countersign_checkers::kinds::{AuthArgs, Kinds, Parts, Takes};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(clap::Parser)]
struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[command(flatten)]
    auth: AuthArgs,
}
struct Desk; // what the protocol asks for: the avatar is what WHOAMI says
impl Interface for Desk {
    const NAME: &'static str = "desk";
    type Avatar = str;
    type Mind = ();
}
struct Office; // the application: who is let in, and to what
impl Realm<Desk> for Office {
    async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Desk>, Denial> {
        Ok(Session::new(format!("{}, at your desk", who.subject).into()))
    }
}
async fn serve<R: Realm<Desk>>(at: TcpStream, portal: &Portal<R>, w: &dyn World) -> io::Result<()> {
    let (from, mut to) = at.into_split();
    let (mut lines, mut user) = (BufReader::new(from.take(64 * 1024)).lines(), None); // a session
    while let Some(line) = lines.next_line().await? {
        let reply = match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["LOGIN", name, password] => {
                let known = Answers::new().with("username", name).with("password", password);
                user = portal.login(Request::to("desk"), &mut Known::new(known), (), w).await.ok();
                user.as_ref().map_or("NO", |_| "OK")
            }
            ["WHOAMI"] => user.as_ref().map_or("nobody", Session::avatar),
            _ => return to.write_all(b"BYE\n").await,
        };
        to.write_all(format!("{reply}\n").as_bytes()).await?;
    }
    Ok(())
}
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (args, parts) = (<Args as clap::Parser>::parse(), Parts::standalone()?);
    let named = args.auth.portal_checkers(&Kinds::built_in(), &Takes::passwords(), &parts).await;
    let checkers = named.unwrap_or_else(|exit| exit.now()).into_iter();
    let portal = checkers.fold(Portal::new(Office), Portal::checked_by_shared);
    let (portal, listener) = (Arc::new(portal), TcpListener::bind(args.listen).await?);
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (portal, world) = (Arc::clone(&portal), Arc::clone(&parts.world));
        let connection = async move { serve(stream, &portal, &*world).await };
        tokio::spawn(tokio::time::timeout(Duration::from_secs(600), connection));
    }
}
