//! The manager against oned's ends of its pipes, with time that the tests own.

use super::*;
use countersign_checkers::driver::Account;
use countersign_wire::one::Reply;
use countersign_wire::one::conf::DriverRules;
use tokio::io::{AsyncBufReadExt as _, BufReader, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};

/// Says what the secret tells it to; `hang` tells that it began, waits for ever, and tells its end.
#[derive(Debug)]
struct Obedient {
    dropped: mpsc::UnboundedSender<()>,
}

struct Told(mpsc::UnboundedSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Driver for Obedient {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(async move {
            let line =
                |severity, text: &str| ErrorLine { severity, about: None, text: text.into() };
            let lines = vec![line(Some(Severity::Warning), "mind"), line(None, "plain")];
            let outcome = match login.secret.expose() {
                b"yes" => Outcome::Accepted(Some(Reply::parse(b"d ada x *100 101").unwrap())),
                b"other" => Outcome::Accepted(Some(Reply::parse(b"d eve x 100").unwrap())),
                b"root" => Outcome::Accepted(Some(Reply::parse(b"d ada x 0").unwrap())),
                b"no" => Outcome::Refused("Bad user/password".into()),
                b"broken" => Outcome::Failed(Failure::Full(3)),
                b"panic" => panic!("as asked"),
                b"hang" => {
                    self.dropped.send(()).unwrap();
                    let _told = Told(self.dropped.clone());
                    std::future::pending().await
                }
                _ => Outcome::Accepted(None),
            };
            Attempt { outcome, lines }
        })
    }

    fn describe(&self) -> String {
        "obeys".into()
    }
}

#[derive(Debug)]
struct OnlyOdd;

impl Authorizer for OnlyOdd {
    fn authorize<'a>(
        &'a self,
        call: &'a Authorize,
    ) -> Pin<Box<dyn Future<Output = Ruling> + Send + 'a>> {
        Box::pin(async move {
            let verdict = if call.user_id % 2 == 1 { Ok(()) } else { Err("even".into()) };
            Ruling { verdict, lines: Vec::new() }
        })
    }
}

/// A manager at work, and oned's ends of its pipes.
struct Oned {
    to: DuplexStream,
    from: BufReader<DuplexStream>,
    ended: oneshot::Receiver<io::Result<Ended>>,
    dropped: mpsc::UnboundedReceiver<()>,
}

impl Oned {
    fn start(change: impl FnOnce(Manager) -> Manager) -> Self {
        let (dropped, told) = mpsc::unbounded_channel();
        let driver: Arc<dyn Driver> = Arc::new(Obedient { dropped });
        let rules = DriverRules { managed_groups: true, ..DriverRules::default() };
        let belief = Belief { rules, account: Account::Folded, ..Belief::of("d".parse().unwrap()) };
        let asked = Asked { driver, belief: Arc::new(belief) };
        let drivers = HashMap::from([("d".parse().unwrap(), asked)]);
        let manager = change(Manager::new(drivers, SecretEncoding::ByFraming));
        let (to, input) = duplex(4096);
        let (output, from) = duplex(4096);
        let (done, ended) = oneshot::channel();
        tokio::spawn(async move {
            let _ = done.send(manager.serve(input, output).await);
        });
        Self { to, from: BufReader::new(from), ended, dropped: told }
    }

    async fn send(&mut self, text: &str) {
        self.to.write_all(text.as_bytes()).await.unwrap();
    }

    /// A login that hangs, once it does.
    async fn hung(&mut self, id: u64) {
        self.login(id, "hang").await;
        self.dropped.recv().await.unwrap();
    }

    /// Old framing: the secret is raw.
    async fn login(&mut self, id: u64, secret: &str) {
        self.send(&format!("AUTHENTICATE {id} 2 d ada - {secret}\n")).await;
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).await.unwrap();
        assert_eq!(line.pop(), Some('\n'), "{line}");
        line
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_before_init_and_then_its_answer() {
    // M10
    let mut oned = Oned::start(|manager| manager);
    let mut byte = [0];
    let early = oned.from.read(&mut byte);
    assert!(tokio::time::timeout(Duration::from_secs(5), early).await.is_err());
    oned.send("INIT\n").await;
    assert_eq!(oned.line().await, "INIT SUCCESS - -");
}

#[tokio::test(start_paused = true)]
async fn each_outcome_and_its_lines() {
    let mut oned = Oned::start(|manager| manager);
    oned.login(1, "yes").await;
    assert_eq!(oned.line().await, "LOG W -1 mind");
    assert_eq!(oned.line().await, "AUTHENTICATE SUCCESS 1 d ada x *100 101");
    oned.login(2, "fine").await;
    assert_eq!(oned.line().await, "LOG W -1 mind");
    assert_eq!(oned.line().await, "AUTHENTICATE SUCCESS 2 -");
    oned.login(3, "no").await;
    assert_eq!(oned.line().await, "LOG W -1 mind");
    assert_eq!(oned.line().await, "LOG I 3 plain");
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 3 Bad user/password");
    oned.login(4, "broken").await;
    oned.line().await;
    oned.line().await;
    assert_eq!(oned.line().await, "LOG E 4 3 logins wait already");
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 4 3 logins wait already");
    oned.login(5, "panic").await;
    assert_eq!(oned.line().await, "LOG E 5 the login broke off");
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 5 the login broke off");
    oned.send("AUTHENTICATE 6 2 ../d ada - x\nAUTHENTICATE 7 2 e ada - x\nNONSENSE 1\n").await;
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 6 driver: '.' is not allowed in a name");
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 7 Authentication driver 'e' not available");
    assert_eq!(oned.line().await, "LOG W -1 message ignored: unknown message");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_may_not_be_is_none() {
    // R8
    let mut oned = Oned::start(|manager| manager);
    for (id, secret, why) in [
        (1, "other", "the answer is about another user, `eve`"),
        (2, "root", "the answer has the administrators' group, 0"),
    ] {
        oned.login(id, secret).await;
        assert_eq!(oned.line().await, "LOG W -1 mind");
        assert_eq!(oned.line().await, format!("LOG I {id} plain"));
        assert_eq!(oned.line().await, format!("LOG E {id} {why}"));
        assert_eq!(oned.line().await, format!("AUTHENTICATE FAILURE {id} {why}"));
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_is_answered_in_time() {
    // M15
    let mut oned = Oned::start(|manager| manager);
    let begun = Instant::now();
    oned.hung(1).await;
    oned.login(2, "fine").await;
    oned.line().await;
    assert_eq!(oned.line().await, "AUTHENTICATE SUCCESS 2 -");
    assert_eq!(oned.line().await, "LOG E 1 no answer within 60000 ms");
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 1 no answer within 60000 ms");
    assert_eq!(begun.elapsed().as_secs(), 60);
    oned.dropped.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_ends_and_is_not_answered() {
    // M14
    let mut oned = Oned::start(|manager| manager);
    oned.hung(1).await;
    oned.send("DRIVER_CANCEL 1\nDRIVER_CANCEL 9\n").await;
    oned.dropped.recv().await.unwrap();
    oned.login(2, "fine").await;
    oned.line().await;
    assert_eq!(oned.line().await, "AUTHENTICATE SUCCESS 2 -");
    // And its id is free again.
    oned.login(1, "fine").await;
    oned.line().await;
    assert_eq!(oned.line().await, "AUTHENTICATE SUCCESS 1 -");
}

#[tokio::test(start_paused = true)]
async fn too_many_and_twice() {
    // M16
    let limits = ManagerLimits { requests: 2, ..ManagerLimits::default() };
    let mut oned = Oned::start(|manager| manager.with_limits(limits));
    oned.hung(1).await;
    oned.hung(2).await;
    oned.login(3, "fine").await;
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 3 2 requests are worked on already");
    // Its answer would be the other one's.
    oned.login(1, "fine").await;
    assert_eq!(oned.line().await, "LOG W 1 message ignored: a request with its id runs");
    oned.send("AUTHENTICATE 1 2 d ada -\n").await;
    assert!(oned.line().await.starts_with("LOG W -1 message ignored: request 1: "));
}

#[tokio::test(start_paused = true)]
async fn calls() {
    // M7
    let mut oned = Oned::start(|manager| manager);
    oned.send("AUTHORIZE  1 2 VM:10:MANAGE:3:0 0\n\nAUTHORIZE  2 2 VM:10:USE:2:1 1\n\n").await;
    assert_eq!(oned.line().await, "AUTHORIZE FAILURE 1 -");
    assert_eq!(oned.line().await, "AUTHORIZE SUCCESS 2 -");
    let mut oned = Oned::start(|manager| manager.with_authorizer(Arc::new(OnlyOdd)));
    oned.send("AUTHORIZE  1 2 VM:10:USE:2:1 1\n\n").await;
    assert_eq!(oned.line().await, "AUTHORIZE FAILURE 1 even");
    oned.send("AUTHORIZE  2 3 VM:10:USE:2:0 0\n\n").await;
    assert_eq!(oned.line().await, "AUTHORIZE SUCCESS 2 -");
    oned.send("AUTHORIZE  3 x VM:10:USE:2:0 0\n\n").await;
    assert_eq!(oned.line().await, "AUTHORIZE FAILURE 3 the user's id is not a number");
}

#[tokio::test(start_paused = true)]
async fn finalize_waits_for_what_runs_and_not_for_ever() {
    // M14
    let mut oned = Oned::start(|manager| manager);
    oned.login(1, "fine").await;
    oned.hung(2).await;
    oned.send("FINALIZE\n").await;
    oned.login(3, "fine").await;
    let begun = Instant::now();
    oned.line().await;
    assert_eq!(oned.line().await, "AUTHENTICATE SUCCESS 1 -");
    assert_eq!(oned.line().await, "LOG E 2 ended with its manager");
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 2 ended with its manager");
    assert_eq!(begun.elapsed().as_secs(), 8);
    assert_eq!(oned.ended.await.unwrap().unwrap(), Ended::Finalized);
    let mut rest = Vec::new();
    oned.from.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_either_pipe_ends_what_runs() {
    // M14
    let mut oned = Oned::start(|manager| manager);
    oned.hung(1).await;
    drop(oned.to);
    assert_eq!(oned.ended.await.unwrap().unwrap(), Ended::Gone);
    oned.dropped.recv().await.unwrap();
    let mut oned = Oned::start(|manager| manager);
    oned.hung(1).await;
    drop(oned.from);
    oned.to.write_all(b"INIT\n").await.unwrap();
    assert_eq!(oned.ended.await.unwrap().unwrap(), Ended::Gone);
    oned.dropped.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_cannot_work_says_why() {
    // M17
    let mut oned = Oned::start(|_| Manager::broken("x.toml:1: no\nfix it".into()));
    oned.send("INIT\n").await;
    assert_eq!(oned.line().await, "INIT SUCCESS - -");
    assert_eq!(oned.line().await, "LOG E -1 x.toml:1: no");
    assert_eq!(oned.line().await, "LOG E -1 fix it");
    oned.login(1, "fine").await;
    assert_eq!(oned.line().await, "AUTHENTICATE FAILURE 1 x.toml:1: no fix it");
    oned.send("AUTHORIZE 2 2 VM:1:USE:2:1 1\n").await;
    assert_eq!(oned.line().await, "AUTHORIZE FAILURE 2 x.toml:1: no fix it");
}

#[tokio::test(start_paused = true)]
async fn what_oned_does_not_read_stops_the_reading() {
    // M18
    let mut oned = Oned::start(|manager| manager);
    let writing = async {
        for id in 0..200_000 {
            oned.to.write_all(format!("AUTHENTICATE {id} 2 e ada - x\n").as_bytes()).await.unwrap();
        }
    };
    // The room for answers is full long before.
    assert!(tokio::time::timeout(Duration::from_secs(5), writing).await.is_err());
    for id in 0..10_000 {
        let expected = format!("AUTHENTICATE FAILURE {id} Authentication driver 'e' not available");
        assert_eq!(oned.line().await, expected);
    }
}
