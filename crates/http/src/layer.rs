//! The layer: a portal before an application.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use countersign::{
    Answers, Cancelled, Denial, Given, Identity, Interface, KindSet, Known, LoginError, Peer,
    Portal, Realm, Request as Login, Responder, Round, Session, Transport, Verified, World,
};
use countersign_sasl::digest::{Asked, BodyHash, Digest, Info};
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_layer::Layer;
use tower_service::Service;

use crate::connection::{is_from_here, is_safe, shows_pages};
use crate::refusal::{Answer, Refusal};
use crate::sessions::Sessions;
use crate::{Connection, Cookie, Credentials, Scheme, Schemes, Unanswered, Unproven, User};

const AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("authentication-info");

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A portal before an HTTP application: whoever gets through has an avatar with the interface `I`, which handlers
/// find as a [`User`].
///
/// Nobody gets through otherwise, unless [`Authenticated::open`] says so. What a client proves itself with is one line
/// each; credentials that it chose to send count before a cookie, which browsers send by themselves.
///
/// | the login | the answer |
/// |---|---|
/// | nobody, or a wrong proof | 401 with the challenges; people with a browser are sent to the form, where there is one |
/// | the password must be changed, the realm refuses | 403 |
/// | too many guesses, a backend that is away, too slow, no room | 503 with `Retry-After` |
/// | a header that breaks its scheme's rules | 400 |
/// | a secret over a connection without TLS that leaves the machine | 403 |
pub struct Authenticated<I: Interface> {
    portal: Arc<dyn Door<I>>,
    world: Arc<dyn World>,
    schemes: Schemes,
    cookie: Option<(Arc<Cookie>, Arc<Sessions<I>>)>,
    service: Arc<str>,
    connection: Arc<dyn Fn(&Parts) -> Connection + Send + Sync>,
    readable: bool,
    open: bool,
    pub(crate) deadline: Duration,
    bodies: usize,
}

impl<I: Interface<Mind = ()>> Authenticated<I>
where
    I::Avatar: Sync,
{
    /// This portal, with no way to prove anything yet. Checks take half a minute at most.
    pub fn new<R: Realm<I> + 'static>(
        portal: impl Into<Arc<Portal<R>>>,
        world: Arc<dyn World>,
    ) -> Self {
        Self {
            portal: portal.into(),
            world,
            schemes: Schemes::NONE,
            cookie: None,
            service: "http".into(),
            connection: Arc::new(Connection::of),
            readable: false,
            open: false,
            deadline: Duration::from_secs(30),
            bodies: 64 * 1024,
        }
    }

    /// Names and passwords with every request (RFC 7617).
    #[must_use]
    pub fn basic(self, realm: &str) -> Self {
        Self { schemes: self.schemes.and_basic(realm), ..self }
    }

    /// Responses to challenges (RFC 7616), with SHA-256.
    #[must_use]
    pub fn digest(self, realm: &str) -> Self {
        let digest = Digest::new(realm, &*self.world);
        self.digest_by(digest)
    }

    /// The same by challenges of one's own: other algorithms, bodies that are protected too (`auth-int`), nonces
    /// that several processes share.
    #[must_use]
    pub fn digest_by(self, digest: impl Into<Arc<Digest>>) -> Self {
        Self { schemes: self.schemes.and_digest(digest), ..self }
    }

    /// Tokens (RFC 6750).
    #[must_use]
    pub fn bearer(self, realm: &str) -> Self {
        Self { schemes: self.schemes.and_bearer(realm), ..self }
    }

    /// A form, and then a cookie. The layers that are made of this one, and of its clones, have one set of sessions.
    #[must_use]
    pub fn cookie(self, cookie: Cookie) -> Self {
        let sessions = Sessions::new(cookie.limits, Arc::clone(&self.world));
        Self { cookie: Some((Arc::new(cookie), sessions)), ..self }
    }

    /// The name of the service in policies and records, `http` if nothing is said.
    #[must_use]
    pub fn service(self, name: &str) -> Self {
        Self { service: name.into(), ..self }
    }

    /// How the facts about a request's connection are found: behind a proxy that ends TLS, in what it says. Usually
    /// they are in the request's extensions, as a [`Connection`], or as axum's `ConnectInfo`.
    #[must_use]
    pub fn connection(self, find: impl Fn(&Parts) -> Connection + Send + Sync + 'static) -> Self {
        Self { connection: Arc::new(find), ..self }
    }

    /// **Passwords and tokens are taken readable over every connection**, also without TLS from elsewhere.
    #[must_use]
    pub fn readable_anywhere(self) -> Self {
        Self { readable: true, ..self }
    }

    /// Who proves nothing gets through, and is nobody: each handler says whether it wants a user, and answers with
    /// [`Unanswered`] if there is none, which the extractor of axum does. A wrong proof is refused all the same.
    #[must_use]
    pub fn open(self) -> Self {
        Self { open: true, ..self }
    }

    /// Another time that a login may take.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The longest body that a client may protect (`auth-int`), in bytes; 64 KiB if nothing is said. It is read
    /// before the application sees any of it.
    #[must_use]
    pub fn bodies_up_to(self, bytes: usize) -> Self {
        Self { bodies: bytes, ..self }
    }

    /// How many are logged in with a cookie.
    pub fn sessions(&self) -> usize {
        self.cookie.as_ref().map_or(0, |(_, sessions)| sessions.len())
    }

    /// Logs out whoever is logged in with a cookie, and waits until that is done: for the end of a server. When all
    /// layers are dropped they are logged out too, without anybody who waits.
    pub async fn end_sessions(&self) {
        let Some((_, sessions)) = &self.cookie else { return };
        for user in sessions.take_all() {
            user.logout().await;
        }
    }

    /// Lets a request through, or says what is answered in its place.
    async fn enter<B>(&self, request: Request<B>) -> Result<Entered<I, B>, Answer>
    where
        B: Body + From<Bytes> + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let visitor = self.visitor(&parts);
        if let Some((cookie, sessions)) = &self.cookie {
            let path = visitor.target.split('?').next().unwrap_or_default();
            if path == &*cookie.login {
                return Err(self.log_in_by_form(cookie, sessions, &visitor, &parts, body).await);
            }
            if path == &*cookie.logout {
                return Err(self.log_out(cookie, sessions, &visitor, &parts).await);
            }
        }
        let (mut parts, body, proven) = self.prove(&visitor, parts, body).await?;
        let (user, info, by_cookie) = match proven {
            Proven::Now(user, info) => (Some(user), info, false),
            Proven::Before(user) => (Some(user), None, true),
            Proven::Nobody if self.open => (None, None, false),
            Proven::Nobody => return Err(self.nobody(&visitor)),
        };
        match &user {
            Some(user) => drop(parts.extensions.insert(user.clone())),
            None => {
                // Another layer before this one may have let in somebody else.
                parts.extensions.remove::<User<I>>();
                let layer = self.clone();
                let unanswered = Unanswered(Arc::new(move || layer.nobody(&visitor)));
                parts.extensions.insert(unanswered);
            }
        }
        Ok(Entered { request: Request::from_parts(parts, body), user, info, by_cookie })
    }

    /// Whom a request proves, by its header or by its cookie.
    async fn prove<B>(
        &self,
        visitor: &Visitor,
        parts: Parts,
        body: B,
    ) -> Result<(Parts, B, Proven<I>), Answer>
    where
        B: Body + From<Bytes> + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let credentials = self.schemes.read(&parts.headers);
        let credentials = credentials.map_err(|malformed| Refusal::from(malformed).answer())?;
        if let Some(credentials) = credentials {
            let (body, digest) = match &credentials {
                Credentials::Digest(header)
                    if header.wants_body() && self.schemes.protects_bodies() =>
                {
                    let whole = self.whole(body, self.bodies).await.map_err(Refusal::answer)?;
                    let mut hash = BodyHash::new(header.variant.algorithm);
                    hash.update(&whole);
                    (B::from(whole), Some(hash.finish()))
                }
                _ => (body, None),
            };
            let method = parts.method.as_str();
            let asked = Asked { method, target: &visitor.target, body: digest.as_deref() };
            let proven = self.prove_by(credentials, visitor, &asked).await;
            let (user, info) = proven.map_err(|refusal| self.answer(refusal, visitor))?;
            return Ok((parts, body, Proven::Now(user, info)));
        }
        let found = self.cookie.as_ref().and_then(|(cookie, sessions)| {
            sessions.find(cookie.token(&parts.headers, visitor.transport())?)
        });
        match found {
            Some(_) if !is_safe(&parts.method) && !is_from_here(&parts.headers, &parts.uri) => {
                Err(Refusal::FromElsewhere.answer())
            }
            Some(user) => Ok((parts, body, Proven::Before(user))),
            None => Ok((parts, body, Proven::Nobody)),
        }
    }

    pub(crate) async fn prove_by(
        &self,
        credentials: Credentials,
        visitor: &Visitor,
        asked: &Asked<'_>,
    ) -> Result<(User<I>, Option<Info>), Refusal> {
        let scheme = credentials.own_scheme();
        if scheme.is_readable() && !self.takes_secrets(visitor) {
            return Err(Refusal::Readable);
        }
        let begun = self.schemes.begin(credentials, visitor.peer.clone(), asked, &*self.world);
        let attempt = begun.map_err(|refused| match refused {
            countersign_sasl::digest::Refused::OtherTarget => {
                Refusal::Malformed("`uri` is not the address of this request")
            }
            stale if stale.is_stale() => Refusal::Unproven(Unproven::Stale),
            _ => Refusal::Unproven(Unproven::Nobody),
        })?;
        let user = self.log_in(attempt.request, attempt.answers, scheme).await?;
        Ok((user, attempt.info))
    }

    /// Asks the portal and its realm, within the time that there is. Who does not wait for it is not in.
    async fn log_in(
        &self,
        login: Login,
        answers: Answers,
        scheme: Scheme,
    ) -> Result<User<I>, Refusal> {
        let remote = login.peer.remote;
        let asked = self.portal.log_in(login, answers, &*self.world);
        let Ok(decided) = tokio::time::timeout(self.deadline, asked).await else {
            tracing::warn!("a login was not decided within {:?}", self.deadline);
            return Err(Refusal::LATER);
        };
        let scheme_name = scheme.name();
        match decided {
            Ok((who, session)) => {
                tracing::debug!(scheme = scheme_name, ?remote, "{} is let in", who.subject);
                Ok(User::new(who, session))
            }
            Err(No::Portal(error)) => {
                tracing::info!(scheme = scheme_name, ?remote, "login refused: {error}");
                Err(Refusal::of(&error, scheme))
            }
            Err(No::Realm(denial)) => {
                tracing::info!(scheme = scheme_name, ?remote, "the application refuses: {denial}");
                Err(Refusal::of_realm(&denial))
            }
        }
    }

    /// A whole body, within the limit and in time.
    pub(crate) async fn whole<B>(&self, body: B, limit: usize) -> Result<Bytes, Refusal>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let collected = Box::pin(Limited::new(body, limit).collect());
        match tokio::time::timeout(self.deadline, collected).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
            Ok(Err(_)) => Err(Refusal::Malformed("the body broke off")),
            Err(_) => Err(Refusal::Malformed("the body did not come in time")),
        }
    }

    /// The facts about a request that its answer depends on.
    fn visitor(&self, parts: &Parts) -> Visitor {
        let target = parts.uri.path_and_query();
        // What a router has taken away of the address is a part of it.
        #[cfg(feature = "axum")]
        let target = match parts.extensions.get::<axum::extract::OriginalUri>() {
            Some(whole) => whole.0.path_and_query(),
            None => target,
        };
        let target = target.map_or("/", |target| target.as_str()).to_owned();
        let peer = (self.connection)(parts).peer(&self.service);
        Visitor { target, peer, page: shows_pages(&parts.method, &parts.headers) }
    }

    /// Whether secrets may cross a visitor's connection as they are.
    pub(crate) fn takes_secrets(&self, visitor: &Visitor) -> bool {
        self.readable || visitor.transport() != Transport::Plain
    }

    /// What somebody hears who has proven nothing.
    fn nobody(&self, visitor: &Visitor) -> Answer {
        match &self.cookie {
            Some((cookie, _)) if visitor.page => Answer::empty(StatusCode::SEE_OTHER)
                .with_text(header::LOCATION, &cookie.address(&visitor.target)),
            _ => self.answer(Refusal::Unproven(Unproven::Nobody), visitor),
        }
    }

    /// A refusal, with the challenges that belong to it.
    fn answer(&self, refusal: Refusal, visitor: &Visitor) -> Answer {
        let Refusal::Unproven(why) = refusal else { return refusal.answer() };
        let readable = self.takes_secrets(visitor);
        let mut challenges = self.schemes.challenges(why, readable, &*self.world).peekable();
        match (&self.cookie, challenges.peek()) {
            (_, Some(_)) => challenges.fold(refusal.answer(), |answer, value| {
                answer.with(header::WWW_AUTHENTICATE, value)
            }),
            (Some((cookie, _)), None) if readable => {
                refusal.answer().with_text(header::WWW_AUTHENTICATE, &cookie.challenge())
            }
            _ if readable => Refusal::Forbidden.answer(),
            _ => Refusal::Readable.answer(),
        }
    }
}

/// What is known of who makes a request, before anything is proven.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// The request target, with its query.
    pub(crate) target: String,
    pub(crate) peer: Peer,
    /// Whether it can be shown a page.
    pub(crate) page: bool,
}

impl Visitor {
    pub(crate) fn transport(&self) -> Transport {
        self.peer.transport
    }
}

/// Whom a request proves.
enum Proven<I: Interface> {
    /// Somebody, with this very request.
    Now(User<I>, Option<Info>),
    /// Somebody who logged in before.
    Before(User<I>),
    Nobody,
}

/// A request that goes on to the application.
struct Entered<I: Interface, B> {
    request: Request<B>,
    user: Option<User<I>>,
    info: Option<Info>,
    by_cookie: bool,
}

/// Why nobody gets in.
enum No {
    Portal(LoginError),
    Realm(Denial),
}

type LoggedIn<I> = Result<(Verified<Identity>, Session<I>), No>;

/// A portal of any realm.
trait Door<I: Interface>: Send + Sync {
    fn log_in<'a>(
        &'a self,
        login: Login,
        answers: Answers,
        world: &'a dyn World,
    ) -> BoxFuture<'a, LoggedIn<I>>;
}

impl<I: Interface<Mind = ()>, R: Realm<I>> Door<I> for Portal<R> {
    fn log_in<'a>(
        &'a self,
        login: Login,
        answers: Answers,
        world: &'a dyn World,
    ) -> BoxFuture<'a, LoggedIn<I>> {
        Box::pin(async move {
            let supports = login.peer.supports.clone();
            let mut told = Told { known: Known::new(answers), supports };
            let who = self.authenticate(login, &mut told, world).await.map_err(No::Portal)?;
            let session = self.realm().admit(&who, ()).await.map_err(No::Realm)?;
            Ok((who, session))
        })
    }
}

/// What a header said. Nobody can be asked for more.
struct Told {
    known: Known,
    supports: KindSet,
}

impl Responder for Told {
    fn supports(&self) -> KindSet {
        self.supports.clone()
    }

    async fn respond(&mut self, round: &Round) -> Result<Answers, Cancelled> {
        self.known.respond(round).await
    }

    fn respond_at_once<'r>(&mut self, round: &'r Round) -> Option<Result<Given<'r>, Cancelled>> {
        self.known.respond_at_once(round)
    }
}

impl<I: Interface> Clone for Authenticated<I> {
    fn clone(&self) -> Self {
        Self {
            portal: Arc::clone(&self.portal),
            world: Arc::clone(&self.world),
            schemes: self.schemes.clone(),
            cookie: self.cookie.clone(),
            service: Arc::clone(&self.service),
            connection: Arc::clone(&self.connection),
            ..*self
        }
    }
}

impl<I: Interface> fmt::Debug for Authenticated<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cookie = self.cookie.as_ref().map(|(cookie, _)| cookie);
        let mut shown = f.debug_struct("Authenticated");
        shown.field("interface", &I::NAME).field("schemes", &self.schemes).field("cookie", &cookie);
        shown.field("open", &self.open).finish_non_exhaustive()
    }
}

impl<I: Interface, S> Layer<S> for Authenticated<I> {
    type Service = Guarded<I, S>;

    fn layer(&self, inner: S) -> Guarded<I, S> {
        Guarded { layer: self.clone(), inner }
    }
}

/// An application behind a portal: the service that [`Authenticated`] makes of one.
pub struct Guarded<I: Interface, S> {
    layer: Authenticated<I>,
    inner: S,
}

impl<I: Interface, S: Clone> Clone for Guarded<I, S> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), inner: self.inner.clone() }
    }
}

impl<I: Interface, S> fmt::Debug for Guarded<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl<I, S, B, C> Service<Request<B>> for Guarded<I, S>
where
    I: Interface<Mind = ()>,
    I::Avatar: Sync,
    S: Service<Request<B>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + From<Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C: From<Bytes>,
{
    type Response = Response<C>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<C>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let layer = self.layer.clone();
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let Entered { request, user, info, by_cookie } = match layer.enter(request).await {
                Ok(entered) => entered,
                Err(answer) => return Ok(answer.response()),
            };
            let mut response = inner.call(request).await?;
            let headers = response.headers_mut();
            let info =
                info.and_then(|info| HeaderValue::from_bytes(info.header()?.as_bytes()).ok());
            if let Some(info) = info {
                headers.insert(AUTHENTICATION_INFO, info);
            }
            // What is shared by everybody does not know cookies by itself, as it does `Authorization`.
            if by_cookie {
                let private = HeaderValue::from_static("private");
                headers.entry(header::CACHE_CONTROL).or_insert(private);
            }
            // At least until the answer is there.
            drop(user);
            Ok(response)
        })
    }
}
