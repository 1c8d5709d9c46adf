//! HTTP: the JSON conversation, sessions, and the administrator's API. The contract is
//! `docs/protocols/http.md`, described for machines in `docs/protocols/openapi.json`.
//!
//! [`serve`] accepts connections and bounds them; [`ROUTES`] is the one table of what is served.

mod administration;
mod answers;
mod client;
mod connection;
mod cookie;
mod credentials;
mod events;
mod forward_auth;
mod health;
mod identity_headers;
mod json;
mod login;
mod login_page;
mod mail_auth;
mod pages;
mod parts;
mod problem;
mod return_to;
mod routes;
mod session;
mod view;

#[doc(hidden)]
pub mod fuzzing;

use std::sync::Arc;
use std::time::Duration;

pub use administration::{
    Events, FactorFilter, GroupSettings, Groups, Members, Membership, Throttles, UserFactors, Users,
};
pub use answers::{AnswerMap, LoginRequest, RoundAnswers};
pub use client::TrustedProxies;
pub use connection::serve;
pub use cookie::CookieDomain;
pub use events::{NewNotice, NoticeLevel, Reached};
pub use health::Readiness;
pub use identity_headers::IdentityHeaders;
pub use login::status_of;
pub use login_page::LoginPage;
pub use mail_auth::{MailAuth, MailSection};
pub use parts::{Part, Parts};
pub use problem::ProblemView;
pub use return_to::{Allowed, ReturnTo};
pub use routes::{ANY, OPENAPI, ROUTES, Route};
pub use session::SessionView;
pub use view::{
    ChallengeView, FeedbackView, GroupChoice, LimitsView, LoginReply, NoticeView, QuestionView,
    RoundView, SessionToken, TextView,
};

use countersign_sasl::digest::Variant;

use crate::admin::Admin;
use crate::engine::Engine;
use crate::front::tls::Tls;
use crate::front::{Gauge, Stop};
use client::Client;

/// Limits of the listener, and what it serves besides logins.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// What the listener is called, as `http.main`.
    pub listener: Option<&'static String>,
    /// Connections at a time. One more is told 503 and closed.
    pub connections: usize,
    /// From being ready for a request to having its whole head: slow heads and idle connections alike.
    pub head_timeout: Duration,
    /// From the head of a request to the end of its body.
    pub body_timeout: Duration,
    /// From the head of a request to its reply.
    pub request_timeout: Duration,
    /// How long a client may take nothing of a reply.
    pub write_timeout: Duration,
    /// How long requests may take to finish after a stop was asked for.
    pub drain_timeout: Duration,
    /// What administrators can do; none: this listener does not serve their API.
    pub admin: Option<Admin>,
    /// Where a login may return to, besides paths of its own host.
    pub return_to: ReturnTo,
    /// Whose hosts get the session's cookie; none: the own host alone.
    pub cookie_domain: Option<CookieDomain>,
    /// The site's own style, after ours.
    pub theme: Option<Arc<str>>,
    /// TLS of its connections; none: clear text.
    pub tls: Option<Arc<Tls>>,
    /// Proxies that are believed about their clients.
    pub trusted_proxies: TrustedProxies,
    /// What is served.
    pub parts: Parts,
    /// Whether forward-auth takes HTTP Basic.
    pub basic: bool,
    /// The algorithms by which forward-auth takes HTTP Digest, the most wanted first; none: it does not.
    pub digest: Vec<Variant>,
    /// Whether forward-auth takes bearer tokens that are no session's.
    pub bearer: bool,
    /// Where forward-auth sends a browser to log in.
    pub login_page: Option<LoginPage>,
    /// What nginx is told of mail servers; none: nobody asks.
    pub mail: Option<Arc<MailAuth>>,
    /// What apps for one-time codes show beside a user's name.
    pub issuer: String,
    /// The site's passkeys, to be enrolled on the account page.
    #[cfg(feature = "passkeys")]
    pub passkeys: Option<countersign_checkers::factors::Passkeys>,
    /// How many connections are open.
    pub open: Gauge,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            listener: None,
            connections: 4096,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            admin: None,
            return_to: ReturnTo::default(),
            cookie_domain: None,
            theme: None,
            tls: None,
            trusted_proxies: TrustedProxies::default(),
            parts: Parts::all(),
            basic: false,
            digest: Vec::new(),
            bearer: false,
            login_page: None,
            mail: None,
            issuer: "Countersign".to_owned(),
            #[cfg(feature = "passkeys")]
            passkeys: None,
            open: Gauge::default(),
        }
    }
}

/// What every handler holds.
#[derive(Clone, Debug)]
struct App {
    engine: Arc<Engine>,
    options: Arc<HttpOptions>,
    pages: Arc<pages::Pages>,
    schemes: Arc<credentials::Taken>,
    stop: Stop,
}
