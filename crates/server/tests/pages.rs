//! The login page over a real listener, as a browser without scripts sees it. The statements are those of
//! `docs/protocols/http.md`, section "Pages".

mod support;

use std::sync::Arc;

use countersign::{
    BoxExchange, Challenge, Checker, CredentialKind as Kind, Decision, Denial, Fault, Feedback,
    Group, Identity, KindSet, Level, Mechanism, Password, Portal, Question, Reason, Round, Scene,
    Text, Verified, script,
};
use countersign_server::front::http::{HttpOptions, ReturnTo};
use countersign_server::realm::ServerRealm;
use support::browser::{Browser, Page};
use support::http::Running;
use support::{Gate, Place, Users, Wishes};

const RETURN: &str = "https://wiki.example.com/page?x=1";

async fn running() -> Running {
    let return_to = ReturnTo::of(["https://*.example.com"]).unwrap();
    Running::over(Place::new().await, HttpOptions { return_to, ..HttpOptions::default() }).await
}

/// A server whose only checker asks this round, and then says what it got.
async fn asking(portal: fn(Portal<ServerRealm>) -> Portal<ServerRealm>) -> Running {
    let wishes = Wishes { portal: Some(portal), ..Wishes::default() };
    Running::over(Place::with(wishes).await, HttpOptions::default()).await
}

fn ada() -> [(&'static str, &'static str); 2] {
    [("-.v.username", "ada"), ("-.v.password", "countess")]
}

#[tokio::test]
async fn a_login_without_scripts() {
    let server = running().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login").await;
    assert_eq!(page.status(), 200);
    assert_eq!(page.of_input("-.v.username", "autocomplete").as_deref(), Some("username"));
    assert_eq!(page.of_input("-.v.password", "type").as_deref(), Some("password"));
    let label = page.of_input("-.v.password", "id").unwrap();
    page.must_say(&format!("<label for=\"{label}\">Password"));
    assert!(server.place.engine.pending.is_empty(), "looking is no login");

    let done = browser.submit(&server, &page, "/login", &ada()).await;
    assert_eq!((done.status(), done.location()), (303, "/account"), "{done:?}");
    let token = browser.cookies["countersign"].clone();
    let session =
        server.call_as(&token, "GET", "/v1/session", serde_json::Value::Null).await.json();
    assert_eq!(
        (&session["identity"]["subject"], &session["service"]),
        (&"ada".into(), &"web".into())
    );
    let cookie =
        done.reply.head.lines().find(|l| l.starts_with("set-cookie: countersign=")).unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }

    let place = server.stop().await;
    let audit = place.audit();
    assert_eq!((audit.len(), &audit[0]["outcome"]), (1, &"granted".into()), "{audit:?}");
    assert_eq!((&audit[0]["service"], &audit[0]["front_end"]), (&"web".into(), &"http".into()));
}

#[tokio::test]
async fn every_page_has_its_headers() {
    let server = running().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login").await;
    let after = browser.submit(&server, &page, "/login", &ada()).await;
    for page in [&page, &after] {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(page.reply.header(name), Some(value), "{page:?}");
        }
        assert_eq!(page.reply.header("strict-transport-security"), None, "without TLS");
    }
    let policy = page.reply.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!page.says("<script>") && !page.says("style=") && !page.says("onclick"));
}

#[tokio::test]
async fn refusals_say_the_same_and_keep_the_name_only() {
    let server = running().await;
    let mut seen = Vec::new();
    for (user, password) in [("ada", "wrong-password"), ("nobody", "countess")] {
        let mut browser = Browser::default();
        let page = browser.get(&server, "/login").await;
        let fields = [("-.v.username", user), ("-.v.password", password)];
        let refused = browser.submit(&server, &page, "/login", &fields).await;
        assert_eq!(refused.status(), 403);
        assert_eq!(refused.of_input("-.v.username", "value").as_deref(), Some(user));
        assert_eq!(refused.of_input("-.v.password", "value").as_deref(), Some(""));
        assert!(!refused.says(password) && !browser.cookies.contains_key("countersign"));
        let check = refused.hidden("/login").remove(0).1;
        seen.push(refused.reply.body.replace(user, "NAME").replace(&check, "CHECK"));
        // The form is good for another try.
        let done = browser.submit(&server, &refused, "/login", &ada()).await;
        assert_eq!(done.status(), 303);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn waiting_times_and_faults_are_told() {
    let server = running().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login?lang=en").await;
    let say = async |browser: &mut Browser, user: &str| {
        let fields = [("-.v.username", user), ("-.v.password", "countess")];
        browser.submit(&server, &page, "/login", &fields).await
    };
    let hasty = say(&mut browser, "hasty").await;
    assert_eq!((hasty.status(), hasty.reply.header("retry-after")), (429, Some("2")));
    hasty.must_say("Please wait 2 seconds.");
    assert_eq!(say(&mut browser, "broken").await.status(), 503);
    let changer = say(&mut browser, "changer").await;
    assert_eq!(changer.status(), 403);
    changer.must_say("must be changed");
}

#[tokio::test]
async fn the_return_address_is_checked_at_both_ends() {
    let server = running().await;
    let mut browser = Browser::default();
    let query = "/login?return_to=https%3A%2F%2Fwiki.example.com%2Fpage%3Fx%3D1&service=wiki";
    let page = browser.get(&server, query).await;
    page.must_say("wiki.example.com");
    let policy = page.reply.header("content-security-policy").unwrap();
    assert!(policy.ends_with("form-action 'self' https://wiki.example.com"), "{policy}");
    let done = browser.submit(&server, &page, "/login", &ada()).await;
    assert_eq!((done.status(), done.location()), (303, RETURN));

    for bad in ["https%3A%2F%2Fevil.example%2F", "%2F%2Fevil.example", "javascript%3Aalert(1)"] {
        let mut browser = Browser::default();
        let page = browser.get(&server, &format!("/login?return_to={bad}")).await;
        assert!(!page.says("evil") && !page.says("javascript:"), "{bad}");
        page.must_say("not known here");
        let mut fields = ada().to_vec();
        fields.push(("return_to", "https://evil.example/"));
        let done = browser.submit(&server, &page, "/login", &fields).await;
        assert_eq!((done.status(), done.location()), (303, "/account"));
    }
}

#[tokio::test]
async fn forms_of_others_do_nothing() {
    let server = running().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login").await;
    let mut other = Browser::default();
    let stranger = other.get(&server, "/login").await;

    // Another browser's token, none, and no cookie at all.
    let foreign = browser.submit(&server, &stranger, "/login", &ada()).await;
    let none = browser.post(&server, "/login", &ada()).await;
    let bare = Browser::default().submit(&server, &page, "/login", &ada()).await;
    for refused in [foreign, none, bare] {
        assert_eq!(refused.status(), 403);
        refused.must_say("out of date");
    }
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        browser.headers = vec![(name, value.to_owned())];
        assert_eq!(browser.submit(&server, &page, "/login", &ada()).await.status(), 403, "{name}");
    }
    for (name, value) in
        [("sec-fetch-site", "same-origin"), ("origin", "null"), ("origin", "http://test")]
    {
        browser.headers = vec![(name, value.to_owned())];
        let page = browser.get(&server, "/login").await;
        assert_eq!(browser.submit(&server, &page, "/login", &ada()).await.status(), 303, "{name}");
    }
    let place = server.stop().await;
    assert_eq!(place.audit().len(), 3, "what was refused was no attempt");
}

#[tokio::test]
async fn a_login_replaces_the_session_and_what_forms_are_bound_to() {
    let server = running().await;
    let mut browser = Browser::default();
    // A cookie that somebody else has planted is no session, and is not taken over.
    browser.cookies.insert("countersign".into(), "planted".into());
    let page = browser.get(&server, "/login").await;
    let before = browser.cookies["countersign-before"].clone();
    browser.submit(&server, &page, "/login", &ada()).await;
    let first = browser.cookies["countersign"].clone();
    assert_ne!(first, "planted");
    assert_ne!(browser.cookies["countersign-before"], before);
    assert_eq!(browser.submit(&server, &page, "/login", &ada()).await.status(), 403, "an old form");

    let page = browser.get(&server, "/login").await;
    page.must_say("You are logged in as ada");
    browser.submit(&server, &page, "/login", &ada()).await;
    let second = browser.cookies["countersign"].clone();
    let session = async |token: &str| {
        server.call_as(token, "GET", "/v1/session", serde_json::Value::Null).await.status
    };
    assert_eq!((session(&first).await, session(&second).await), (401, 200));
}

#[tokio::test]
async fn languages() {
    let server = running().await;
    let headers = vec![("accept-language", "fr-CH, de;q=0.5".to_owned())];
    let mut browser = Browser { headers, ..Browser::default() };
    let french = browser.get(&server, "/login").await;
    french.must_say("<html lang=\"fr\" dir=\"ltr\">");
    french.must_say("Mot de passe");
    assert_eq!(french.reply.header("content-language"), Some("fr"));
    // What was asked for is kept.
    browser.get(&server, "/login?lang=de").await.must_say("Anmelden");
    let german = browser.get(&server, "/login").await;
    german.must_say("Passwort");
    let fields = [("-.v.username", "ada"), ("-.v.password", "x")];
    browser.submit(&server, &german, "/login", &fields).await.must_say("Das hat nicht geklappt.");
    browser.get(&server, "/login?lang=%3Cx%3E").await.must_say("lang=\"de\"");
}

#[tokio::test]
async fn bad_requests() {
    let server = running().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login").await;
    let twice = browser.post(&server, "/login", &[("a", "1"), ("a", "2")]).await;
    assert_eq!(twice.status(), 400);
    twice.must_say("<html");
    let long = "x".repeat(70_000);
    assert_eq!(browser.post(&server, "/login", &[("a", &long)]).await.status(), 413);
    let json = server.raw(
        b"POST /login HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n\
          content-length: 2\r\n\r\n{}",
    );
    assert_eq!(json.await.status, 415);
    let name = "n".repeat(300);
    let fields = [("-.v.username", name.as_str()), ("-.v.password", "x")];
    let wrong = browser.submit(&server, &page, "/login", &fields).await;
    assert_eq!(wrong.status(), 422);
    wrong.must_say("This is too long.");
    let missing = browser.submit(&server, &page, "/login", &[("-.v.username", "")]).await;
    assert_eq!(missing.status(), 422);
    let field =
        missing.reply.body.split("aria-invalid=\"true\" aria-describedby=\"").nth(1).unwrap();
    let id = field.split('"').next().unwrap();
    missing.must_say(&format!("id=\"{id}\">Please fill this in."));
    // Nothing of a form is written into a page unescaped.
    let fields = [("-.v.username", "<script>\"'&"), ("-.v.password", "x")];
    let escaped = browser.submit(&server, &page, "/login", &fields).await;
    assert!(!escaped.says("<script>\""), "{}", escaped.reply.body);
    assert_eq!(escaped.of_input("-.v.username", "value").as_deref(), Some("<script>\"'&"));
}

/// Asks a script's rounds under a mechanism that people can answer.
struct Asks<F>(F, [Mechanism; 1]);

impl<F> Asks<F> {
    fn new(name: &'static str, kinds: &[Kind], code: F) -> Self {
        let asks = kinds.iter().cloned().collect::<KindSet>();
        Self(code, [Mechanism { name: name.into(), asks, needs: &[], plaintext: true }])
    }
}

impl<F, Fut> Checker for Asks<F>
where
    F: Fn(countersign::Asker) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Decision, Fault>> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.1[0].name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.1
    }

    fn begin(&self, _: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        Ok(BoxExchange::new(script(self.0.clone())))
    }
}

fn password_then_code(portal: Portal<ServerRealm>) -> Portal<ServerRealm> {
    let code = async |peer: countersign::Asker| {
        let mut round = Round::of([Question::otp()]);
        round.title = Some(Text::verbatim("Second step"));
        round.instruction = Some(Text::verbatim("Look at your device"));
        loop {
            let code = peer.ask(round.clone()).await;
            if code.text("otp") == Some("471147") {
                return Ok(Decision::Grant(Verified::vouch(Identity::named("ada"))));
            }
            let text = Text::verbatim("That code is wrong");
            let question = Some("otp".into());
            round.feedback = Some(Feedback { question, text, tries_left: Some(1) });
        }
    };
    portal
        .checked_by(Password::new("mem", Users(Arc::new(Gate::default()))))
        .checked_by(Asks::new("otp", &[Kind::Otp], move |peer| Box::pin(code(peer))))
        .requiring(["password", "otp"])
}

async fn second_step(server: &Running, browser: &mut Browser) -> Page {
    let page = browser.get(server, "/login").await;
    browser.submit(server, &page, "/login", &ada()).await
}

#[tokio::test]
async fn a_second_step_with_feedback() {
    let server = asking(password_then_code).await;
    let mut browser = Browser::default();
    let code = second_step(&server, &mut browser).await;
    assert_eq!(code.status(), 200);
    code.must_say("Second step");
    code.must_say("Look at your device");
    code.must_say("as ada");
    assert!(!code.says("countess"));
    assert_eq!(code.of_input("-.t.otp", "inputmode").as_deref(), Some("numeric"));
    assert_eq!(code.of_input("-.t.otp", "autocomplete").as_deref(), Some("one-time-code"));
    assert_eq!(server.place.engine.pending.len(), 1);

    let wrong = browser.submit(&server, &code, "/login", &[("-.t.otp", "000000")]).await;
    wrong.must_say("That code is wrong");
    wrong.must_say("One try is left.");
    assert!(!wrong.says("000000"));
    let done = browser.submit(&server, &wrong, "/login", &[("-.t.otp", "471 147")]).await;
    assert_eq!((done.status(), done.location()), (303, "/account"));

    // Sent again by a browser that lost the reply: the same session, not another.
    let token = browser.cookies["countersign"].clone();
    assert_eq!(server.place.engine.store.sessions_of("ada", 0).await.unwrap().len(), 1);
    assert_eq!(token.len(), 43);
}

#[tokio::test]
async fn a_login_that_waits_no_more_begins_anew() {
    let server = asking(password_then_code).await;
    let mut browser = Browser::default();
    let code = second_step(&server, &mut browser).await;
    server.place.engine.pending.drain();
    let gone = browser.submit(&server, &code, "/login", &[("-.t.otp", "471147")]).await;
    assert_eq!(gone.status(), 410);
    gone.must_say("Please begin again.");
    assert!(gone.of_input("-.v.password", "type").is_some());
    let fields = [("login", "0001-0"), ("-.t.otp", "471147")];
    let check = gone.hidden("/login").remove(0).1;
    let fields = [("check", check.as_str()), fields[0], fields[1]];
    assert_eq!(browser.post(&server, "/login", &fields).await.status(), 410);
}

fn every_kind(portal: Portal<ServerRealm>) -> Portal<ServerRealm> {
    const KINDS: [Kind; 7] = [
        Kind::NewPassphrase,
        Kind::Confirm,
        Kind::Trust,
        Kind::Choice,
        Kind::Language,
        Kind::EchoPrompt,
        Kind::External,
    ];
    let code = async |peer: countersign::Asker| {
        let question =
            |name: &'static str, kind: Kind| Question::new(name, kind, Text::verbatim(name));
        let mut choice = question("device", Kind::Choice);
        choice.options = vec![Text::verbatim("Telephone"), Text::verbatim("Watch")];
        let mut outside = question("outside", Kind::External);
        outside.challenge = Some(Challenge::Text("Press the button on the wall".into()));
        let round = Round::of([
            question("new", Kind::NewPassphrase),
            question("sure", Kind::Confirm),
            question("trust", Kind::Trust),
            choice,
            question("language", Kind::Language),
            question("note", Kind::EchoPrompt).with_default("a default"),
            question("more", Kind::EchoPrompt).optional(),
            outside,
            question("odd", Kind::Token).optional(),
        ]);
        let round = round.notice(Level::Warning, Text::verbatim("Mind the gap"));
        let answers = peer.ask(round).await;
        let got = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            answers.text("new"),
            answers.find("sure"),
            answers.find("trust"),
            answers.find("device"),
            answers.text("language"),
            answers.text("note"),
            answers.find("more"),
        );
        let again = Round::of([question(got.leak(), Kind::EchoPrompt)]);
        peer.ask(again).await;
        Ok(Decision::Deny(Denial::new(Reason::Declined)))
    };
    portal.checked_by(Asks::new("all", &KINDS, move |peer| Box::pin(code(peer))))
}

#[tokio::test]
async fn every_kind_of_question() {
    let server = asking(every_kind).await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login?lang=en").await;
    page.must_say("Mind the gap");
    page.must_say("Press the button on the wall");
    page.must_say("“odd” cannot be answered on a page.");
    assert_eq!(page.of_input("-.n.new", "autocomplete").as_deref(), Some("new-password"));
    assert_eq!(page.of_input("-.r.new", "autocomplete").as_deref(), Some("new-password"));
    assert_eq!(page.of_input("-.y.trust", "value").as_deref(), Some("no"), "no comes first");
    assert_eq!(page.of_input("-.o.note", "value").as_deref(), Some("a default"));
    page.must_say("<option value=\"fr\"");
    let fields = [
        ("-.n.new", "pässword"),
        ("-.r.new", "pässword"),
        ("-.y.sure", "yes"),
        ("-.y.trust", "no"),
        ("-.c.device", "1"),
        ("-.l.language", "fr"),
        ("-.o.note", ""),
        ("-.o.more", ""),
    ];
    let told = browser.submit(&server, &page, "/login", &fields).await;
    let label = "Some(&quot;pässword&quot;) Some(Confirmed(true)) Some(Confirmed(false)) \
                 Some(Choice(1)) Some(&quot;fr&quot;) Some(&quot;a default&quot;) None";
    told.must_say(label);
    told.must_say("<html lang=\"fr\"");
}

#[tokio::test]
async fn two_new_passwords_must_be_one() {
    let server = asking(|portal| {
        let code = async |peer: countersign::Asker| {
            peer.ask(Round::of([Question::username()])).await;
            peer.ask(Round::of([Question::new_password()])).await;
            Ok(Decision::Grant(Verified::vouch(Identity::named("ada"))))
        };
        let kinds = [Kind::AuthName, Kind::NewPassphrase];
        portal.checked_by(Asks::new("new", &kinds, move |peer| Box::pin(code(peer))))
    })
    .await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login").await;
    let page = browser.submit(&server, &page, "/login", &[("-.v.username", "ada")]).await;
    let name = |shape| format!("-.{shape}.new-password");
    let (new, again) = (name("n"), name("r"));
    let fields = [(new.as_str(), "one two three"), (again.as_str(), "one two four")];
    let differ = browser.submit(&server, &page, "/login", &fields).await;
    assert_eq!(differ.status(), 422);
    differ.must_say("The two passwords are different.");
    assert!(!differ.says("one two"));
    let fields = [(new.as_str(), "one two three"), (again.as_str(), "one two three")];
    assert_eq!(browser.submit(&server, &differ, "/login", &fields).await.status(), 303);
}

fn alternatives(portal: Portal<ServerRealm>) -> Portal<ServerRealm> {
    let code = async |peer: countersign::Asker| {
        let mut round = Round::of([
            Question::username(),
            Question::otp().in_group("code"),
            Question::new("key", Kind::Assertion, Text::verbatim("Key")).in_group("key"),
            Question::password().in_group("word"),
        ]);
        round.questions[2].challenge = Some(Challenge::Json(r#"{"challenge":"AAAA"}"#.into()));
        for (id, title) in [("code", "Code"), ("key", "Passkey"), ("word", "Password")] {
            let title = Text::verbatim(title);
            round.groups.push(Group { id: id.into(), title, mechanism: id.into() });
        }
        let answers = peer.ask(round).await;
        let good = answers.text("otp") == Some("471147") || answers.text("key") == Some("signed");
        Ok(match good {
            true => Decision::Grant(Verified::vouch(Identity::named("ada"))),
            false => Decision::Deny(Denial::new(Reason::WrongCredential)),
        })
    };
    let kinds = [Kind::AuthName, Kind::Otp, Kind::Assertion];
    portal.checked_by(Asks::new("some", &kinds, move |peer| Box::pin(code(peer))))
}

#[tokio::test]
async fn one_of_several_ways() {
    let server = asking(alternatives).await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login?lang=en").await;
    page.must_say("Continue with Passkey");
    page.must_say("Use this instead: Password");
    assert!(!page.says("AAAA"), "a challenge is for who wants it");
    let fields =
        [("-.v.username", "ada"), ("0.t.otp", "471147"), ("2.v.password", ""), ("group", "0")];
    assert_eq!(browser.submit(&server, &page, "/login", &fields).await.status(), 303);

    let page = browser.get(&server, "/login?lang=en").await;
    let fields = [("-.v.username", "ada"), ("0.t.otp", ""), ("2.v.password", ""), ("open", "1")];
    let key = browser.submit(&server, &page, "/login", &fields).await;
    key.must_say("data-options=\"{&quot;challenge&quot;:&quot;AAAA&quot;}\"");
    key.must_say("<noscript>");
    assert_eq!(key.of_input("-.v.username", "value").as_deref(), Some("ada"));
    assert!(key.of_input("0.t.otp", "name").is_none());
    let mut fields = key.hidden("/login");
    fields.retain(|(name, _)| name != "1.v.key");
    fields.push(("1.v.key".into(), "signed".into()));
    fields.push(("-.v.username".into(), "ada".into()));
    let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(browser.post(&server, "/login", &fields).await.status(), 303);
}

#[tokio::test]
async fn a_session_ends_by_its_own_form_only() {
    let server = running().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login").await;
    browser.submit(&server, &page, "/login", &ada()).await;
    let token = browser.cookies["countersign"].clone();
    let foreign = browser.post(&server, "/logout", &[("check", "x")]).await;
    assert_eq!(foreign.status(), 403);
    let session = server.call_as(&token, "GET", "/v1/session", serde_json::Value::Null).await;
    assert_eq!(session.status, 200);
    assert_eq!(browser.get(&server, "/logout").await.status(), 405);
}

#[tokio::test]
async fn the_site_s_own_style_comes_last() {
    let options =
        HttpOptions { theme: Some(":root { --accent: red }".into()), ..HttpOptions::default() };
    let server = Running::over(Place::new().await, options).await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login").await;
    let (ours, theirs) =
        (page.reply.body.find("/assets/style.css?"), page.reply.body.find("/assets/theme.css?"));
    assert!(ours.unwrap() < theirs.unwrap());
    let theme = browser.get(&server, "/assets/theme.css").await;
    assert_eq!(theme.reply.header("content-type"), Some("text/css; charset=utf-8"));
    theme.must_say("--accent: red");
    let plain = running().await;
    assert!(!browser.get(&plain, "/login").await.says("theme.css"));
    assert_eq!(browser.get(&plain, "/assets/theme.css").await.status(), 404);
}
